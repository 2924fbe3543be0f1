"""A file layer that fails once: at each disk operation, in each way a disk can fail, or with the process killed there.

Stores are written through `os` and `pathlib`, whose few functions are replaced here: open, write, sync, rename, link,
unlink, mkdir. Only the n-th operation fails; afterwards the disk works again.
"""

import atexit
import contextlib
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from unittest import mock

import small_store
from small_store import contents, manifest, run

from attnstore.errors import StoreError
from attnstore.store.lock import LOCK
from attnstore.store.manifest import Addition
from attnstore.store.resume import create_or_resume
from attnstore.store.stage import APPEND, begin_or_resume, finish_append
from attnstore.store.store import Store

PLAN = manifest(documents=6, part_size=3)
#: Two consecutive small files are merged, so that the trials include merging.
merging = mock.patch("attnstore.store.merged.MANY", 2)
#: The ways in which each operation can fail.
WAYS = ("ENOSPC", "EIO", "EACCES", "EINTR", "short", "kill")
_WRAPPED = ("open", "fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir")


@dataclass
class Disk:
    """Counts the operations on files below `root`. The one numbered `at` (from 0) fails in the way `way`."""

    root: Path
    at: int | None = None
    way: str = "EIO"
    done: list[str] = field(default_factory=list)
    failed: str | None = None

    def operation(self, name: str) -> str | None:
        """Count one operation. Returns the way in which it is to fail, if it is."""
        self.done.append(name)
        if len(self.done) - 1 != self.at:
            return None
        self.failed = name
        if self.way == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return self.way

    def fail_if_due(self, name: str, path: object) -> None:
        if (way := self.operation(name)) is not None:
            number = errno.EIO if way == "short" else getattr(errno, way)
            raise OSError(number, os.strerror(number), str(path))

    def has(self, path: object) -> bool:
        return isinstance(path, str | os.PathLike) and str(path).startswith(str(self.root))


class _File(io.FileIO):
    """A file whose writes may fail, or write half of the data and then fail."""

    disk: Disk

    def write(self, data) -> int:  # type: ignore[override]
        view = memoryview(data).cast("B")
        way = self.disk.operation("write")
        if way is None:
            return super().write(view)
        if way != "EINTR":  # an interrupted call has written nothing
            super().write(view[: len(view) // 2])
        if way == "short":  # half is written: the caller must write the rest
            return len(view) // 2
        number = getattr(errno, way)
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def failing(disk: Disk) -> Iterator[None]:
    """Put `disk` between this process and its files."""
    real = {name: getattr(os, name) for name in (*_WRAPPED, "fdopen")}
    descriptors: set[int] = set()

    def wrapped(name: str) -> Callable[..., object]:
        def call(path, *arguments, **options):
            if name == "fsync":
                if path in descriptors:
                    disk.fail_if_due(name, path)
            elif disk.has(path):
                disk.fail_if_due(name, path)
            result = real[name](path, *arguments, **options)
            if name == "open" and disk.has(path):
                descriptors.add(result)
            return result

        return call

    def fdopen(descriptor, mode="r", *arguments, **options):
        if descriptor in descriptors and mode == "wb":
            file = _File(descriptor, "wb")
            file.disk = disk
            return io.BufferedWriter(file)
        return real["fdopen"](descriptor, mode, *arguments, **options)

    try:
        for name in _WRAPPED:
            setattr(os, name, wrapped(name))
        os.fdopen = fdopen
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)


@merging
def _run(path: Path) -> Store:
    """The run at `path`, from any state."""
    return run(path, PLAN)


@merging
def _append(path: Path) -> Store:
    """The append to the store at `path`, from any state: two more parts."""
    store = finish_append(path)
    if store.manifest.additions:
        return store
    addition = Addition(5, "new.csv", {"data_sha256": "new"}, {}, "2026-01-03T03:04:05+00:00")
    with begin_or_resume(store, addition, True) as stage:
        for part in stage.missing_parts():
            stage.write_part(part, *small_store.tables(stage.manifest, stage.part_range(part)))
        with mock.patch("attnstore.store.stage.now", lambda: "2026-01-03T03:04:06+00:00"):
            stage.seal()
        return stage


def _begun(folder: Path) -> Path:
    """A store with one part of two, as left by a killed run."""
    path = folder / "store"
    with create_or_resume(path, PLAN) as store:
        store.write_part(0, *small_store.tables(PLAN, store.part_range(0)))
    return path


def _whole(folder: Path) -> Path:
    """A store with every part that is not sealed."""
    return run(folder / "store", PLAN, seal=False).path


def _sealed(folder: Path) -> Path:
    """A sealed store."""
    return _run(folder / "store").path


@dataclass(frozen=True)
class Work:
    """A piece of work: `begin` creates the initial state, and `do` is the command that is repeated."""

    begin: Callable[[Path], Path]
    do: Callable[[Path], Store] = _run


WORKS = {
    "a run": Work(lambda folder: folder / "store"),
    "a resume": Work(_begun),
    "a seal": Work(_whole),
    "an append": Work(_sealed, _append),
}


def operations(work: str, folder: Path) -> list[str]:
    """The operations of the undisturbed work, in order."""
    folder.mkdir()
    disk = Disk(folder)
    path = WORKS[work].begin(folder)
    with failing(disk):
        WORKS[work].do(path)
    return disk.done


def trials(operations: Sequence[str]) -> list[tuple[int, str]]:
    """Every operation with every way in which it can fail. Only a write can be short."""
    return [
        (at, way) for at, name in enumerate(operations) for way in WAYS if way != "short" or name == "write"
    ]


def undisturbed(work: str, folder: Path) -> dict[str, bytes]:
    """The result of the work if nothing disturbs it."""
    folder.mkdir()
    path = WORKS[work].begin(folder)
    WORKS[work].do(path)
    return contents(path)


def assert_same(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """Assert that files and bytes are the same; the error names those that differ."""
    differ = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
    assert not differ, differ


def trial(work: str, at: int, way: str, folder: Path, expected: dict[str, bytes]) -> str:
    """The work with one failure, and once more. Returns the outcome of the first attempt.

    Raises AssertionError if the second attempt does not leave what is `expected`, or if an error of the first is not
    one line.
    """
    folder.mkdir()
    path = WORKS[work].begin(folder)
    if way == "kill":
        outcome = _killed(work, path, at)
    else:
        outcome = "finished in spite of it"
        try:
            with failing(disk := Disk(folder, at, way)):
                WORKS[work].do(path)
        except StoreError as error:
            assert "\n" not in str(error)
            outcome = "one line"
        assert disk.failed is not None
        if (
            outcome == "finished in spite of it"
        ):  # except for files that could not be removed, and that nobody reads
            left = contents(path)
            unread = ("_parts/", f"{APPEND}/", LOCK)
            assert_same({name: left[name] for name in left if not name.startswith(unread)}, expected)
    WORKS[work].do(path)
    assert_same(contents(path), expected)
    shutil.rmtree(folder)
    return outcome


def killed_twice(work: str, at: int, again: int, folder: Path, expected: dict[str, bytes]) -> str:
    """The work is killed, resumed, killed again, and resumed. The second time it may end before the kill."""
    folder.mkdir()
    path = WORKS[work].begin(folder)
    _killed(work, path, at)
    kills = 1 + (_ended(work, path, again) == signal.SIGKILL)
    WORKS[work].do(path)
    assert_same(contents(path), expected)
    shutil.rmtree(folder)
    return "killed twice" if kills == 2 else "killed once, ended before the second"


#: For each line that it reads (a work, a path and a number) it forks a child, and prints the signal that ended it. It
#: computes nothing itself, because a process whose libraries run threads can't be forked. A child has a minute.
_NURSERY = """
import os, signal, sys
from pathlib import Path
import pyarrow, polars
import attnstore.store.scan, attnstore.store.totals
from faults import WORKS, Disk, failing
for line in sys.stdin:
    work, path, at = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            with failing(Disk(Path(path).parent, int(at), "kill")):
                WORKS[work].do(Path(path))
        finally:
            os._exit(0)
    print(-os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@cache
def _nursery() -> subprocess.Popen[str]:
    paths = [str(Path(__file__).parent), str(Path(small_store.__file__).parent), *sys.path]
    process = subprocess.Popen(
        [sys.executable, "-c", _NURSERY],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.kill)
    return process


def _killed(work: str, path: Path, at: int) -> str:
    """The work in a separate process, which is killed in the middle of it."""
    assert _ended(work, path, at) == signal.SIGKILL, "the process was not killed"
    return "killed"


def _ended(work: str, path: Path, at: int) -> int:
    """The signal that ended a work in its own process; 0 if it finished before the operation `at`."""
    nursery = _nursery()
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(f"{work}\t{path}\t{at}\n")
    nursery.stdin.flush()
    ended = int(nursery.stdout.readline())
    assert ended != signal.SIGALRM, f"{work} hangs before it comes to operation {at}"
    return ended
