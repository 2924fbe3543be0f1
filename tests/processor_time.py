"""`pytest --processor-time 30`: the rooms, files, tests and fixtures that take the most processor time.

Wall time shows how busy the machine is; processor time, including a test's child processes, shows the cost of the test.
A session's or module's fixture is counted separately, not for the test that happened to request it first. The rest is
what no test takes, such as imports and collection.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import nursery
import pytest

_BUILT = pytest.StashKey[list[tuple[str, float]]]()


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--processor-time",
        type=int,
        metavar="N",
        help="print the N rooms, files, tests and fixtures that take the most processor time (0: all)",
    )


def spent() -> float:
    """Processor seconds of this process and of all its children that have ended."""
    return sum(os.times()[:4]) + nursery.Child.spent


class Watch:
    """In a process that runs tests: adds their times to their reports."""

    def __init__(self) -> None:
        self._building = 0.0  # the time of fixtures that are counted separately
        self._taken: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        item.stash[_BUILT] = []
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        return (yield from self._take("setup"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        return (yield from self._take("call"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        return (yield from self._take("teardown"))

    def _take(self, when: str) -> Iterator[None]:
        begun, built = spent(), self._building
        try:
            return (yield)
        finally:
            self._taken[when] = spent() - begun - (self._building - built)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[object]:
        if fixturedef.scope == "function":
            return (yield)
        begun, built = spent(), self._building
        try:
            return (yield)
        finally:
            taken = spent() - begun - (self._building - built)
            self._building += taken
            request._pyfuncitem.stash[_BUILT].append(
                (f"{fixturedef.baseid or 'tests'}::{fixturedef.argname}", taken)
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Iterator[pytest.TestReport]:
        report = yield
        report.processor_time = self._taken.pop(call.when, 0.0)
        built = item.stash.get(_BUILT, [])  # none if the run was interrupted
        report.built = built[:]
        built.clear()
        return report

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["processor_time"] = spent()


class Account:
    """In the process that reports: sums and prints."""

    def __init__(self, shown: int) -> None:
        self._shown = shown or None
        self._tests: dict[str, float] = defaultdict(float)
        self._fixtures: dict[str, list[float]] = defaultdict(list)
        self._workers = 0.0

    def pytest_runtest_logreport(self, report: Any) -> None:
        # The report on a process that ended in the middle of a test is xdist's own, without these values.
        self._tests[report.nodeid] += getattr(report, "processor_time", 0.0)
        for name, taken in getattr(report, "built", []):
            self._fixtures[name].append(taken)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._workers += getattr(node, "workeroutput", {}).get("processor_time", 0.0)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        total = self._workers or spent()
        named = sum(self._tests.values()) + sum(map(sum, self._fixtures.values()))
        files: dict[str, float] = defaultdict(float)
        rooms: dict[str, float] = defaultdict(float)
        everything = self._tests | {name: sum(taken) for name, taken in self._fixtures.items()}
        for name, taken in everything.items():
            file = name.split("::")[0]
            files[file] += taken
            rooms[str(PurePosixPath(file).parent) if file.endswith(".py") else file] += taken
        built = {f"{name} ({len(taken)} times)": sum(taken) for name, taken in self._fixtures.items()}
        terminalreporter.section("processor time")
        for title, table in (("room", rooms), ("file", files), ("fixture", built), ("test", self._tests)):
            terminalreporter.line(f"\nseconds  {title}")
            for name in sorted(table, key=table.__getitem__, reverse=True)[: self._shown]:
                terminalreporter.line(f"{table[name]:7.2f}  {name}")
        terminalreporter.line(f"\n{total:7.2f}  in all, {total - named:.2f} of it imports and collection")


def watch(config: pytest.Config) -> None:
    """Implements `--processor-time` in this process."""
    shown = config.getoption("--processor-time")
    if shown is None:
        return
    config.pluginmanager.register(Watch())
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Account(shown))
