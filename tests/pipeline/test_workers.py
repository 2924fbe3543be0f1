"""Promises of attnstore.pipeline.workers: several processes write the bytes of one, whichever of them dies.

A trained model over real reviews, and random kills: benchmarks/worker_kills.py.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nursery
import pytest

from attnstore.config import RunConfig, SourceConfig
from attnstore.data.documents import Document
from attnstore.errors import ModelError, UsageError, WorkerError
from attnstore.events import Computed, Event, Noted
from attnstore.pipeline.describe import LoadedModel
from attnstore.pipeline.parts import Part
from attnstore.pipeline.processes import Processes
from attnstore.pipeline.run import run
from attnstore.pipeline.worker import _must_be_alike
from attnstore.pipeline.workers import Workers, _Worker
from attnstore.store.store import open_store

#: Seconds within which a process must end. A test that waits longer fails.
PATIENCE = 300


def content(store: Path) -> dict[str, bytes]:
    """The bytes of a store's tables, by path."""
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in sorted(store.rglob("*.parquet"))}


@pytest.fixture(scope="module")
def config(tiny_model: Path, reviews: Path) -> RunConfig:
    return RunConfig(
        SourceConfig(str(reviews)), str(tiny_model), device="cpu", dtype="float32", max_length=40, part_size=5,
        reductions=("cls", "rollout", "evidence"), threads=1, workers=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A store written by one process."""
    path = tmp_path_factory.mktemp("one") / "store.attn"
    run(replace(config, workers=1), path)
    return content(path)


@pytest.fixture
def hired(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Every worker that a run of this process starts. None of them may remain at the end."""
    started = []
    hire = Workers._hire

    def hiring(self: Workers, place: int) -> None:
        hire(self, place)
        started.append(self._crew[-1].link.process)

    monkeypatch.setattr(Workers, "_hire", hiring)
    yield started
    assert [process.pid for process in started if process.poll() is None] == []


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forks of a process that has imported what they need."""
    monkeypatch.setattr(sys, "executable", nursery.interpreter())


def at(documents: int, do: Callable[[], object]) -> Callable[[Event], None]:
    """An event handler that does something once, when that many documents are computed."""
    done = []

    def on_event(event: Event) -> None:
        if isinstance(event, Computed) and event.documents >= documents and not done:
            done.append(do())

    return on_event


@pytest.mark.slow
def test_killed_workers_are_replaced_and_the_bytes_are_those_of_one_process(
    config, undisturbed, hired, forked, tmp_path
):
    """The parts of both killed workers are computed again. Progress ends at the number of documents."""
    seen: list[Event] = []
    first = at(1, lambda: [process.kill() for process in hired[:1]])
    second = at(20, lambda: [process.kill() for process in hired if process.poll() is None][:1])

    def on_event(event: Event) -> None:
        seen.append(event)
        first(event)
        second(event)

    result = run(config, tmp_path / "store.attn", on_event=on_event)
    assert content(tmp_path / "store.attn") == undisturbed
    assert (result.documents, result.interrupted) == (60, False)
    assert [event.documents for event in seen if isinstance(event, Computed)][-1] == 60
    assert [event for event in seen if isinstance(event, Noted)] == []
    assert len(hired) >= 3
    (record,) = open_store(tmp_path / "store.attn").manifest.runs
    assert (record["workers"], record["threads"], record["parts"]) == (2, 1, 12)


@pytest.mark.slow
def test_ctrl_c_lets_parts_be_finished_and_leaves_no_worker(config, undisturbed, hired, forked, tmp_path):
    """Including a part that a worker has finished but not yet reported. One process resumes to the same bytes."""
    path = tmp_path / "store.attn"

    def stop_when_both_have_written() -> None:
        wait(lambda: len(list(path.glob("_parts/*.json"))) >= 2)
        os.kill(os.getpid(), signal.SIGINT)

    result = run(config, path, on_event=at(1, stop_when_both_have_written))
    assert (result.interrupted, result.signal) == (True, signal.SIGINT)
    finished = open_store(path).finished_parts()
    assert 0 < len(finished) < 12
    assert result.documents == 5 * len(finished)
    assert [process.poll() is None for process in hired] == [False, False]
    run(replace(config, workers=1), path)
    assert content(path) == undisturbed


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_workers_end_with_a_killed_run_and_the_next_run_resumes(config, undisturbed, tmp_path):
    """After kill -9, which lets the run tell its workers nothing."""
    path = tmp_path / "store.attn"
    command = ["run", path, "--model", config.model, "--data", config.source.data]
    command += ["--device", "cpu", "--dtype", "float32", "--max-length", "40", "--part-size", "5"]
    command += ["--reduce", "cls,rollout,evidence", "--threads", "1", "--workers", "2", "--quiet"]
    code = (
        f"import sys; sys.executable = {nursery.interpreter()!r}; from attnstore.commands import main; main()"
    )
    with nursery.Child(code, *command) as child:
        wait(lambda: any(path.glob("_parts/*.json")) or child.poll() is not None)
        workers = children(child.pid)
    assert len(workers) == 2
    wait(lambda: not any(map(alive, workers)))
    run(replace(config, workers=1), path)
    assert content(path) == undisturbed


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    threads = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_part_that_ends_three_workers_ends_the_run_and_its_documents_are_named(
    config, hired, forked, tmp_path, monkeypatch
):
    """A part that no worker survives is tried three times, the last time alone. The other parts are kept."""
    (tmp_path / "deadly.py").write_text(
        "import numpy, os\n\n\ndef weights(document):\n"
        "    if document.document.id == 'r7':\n        os.kill(os.getpid(), 9)\n"
        "    return numpy.eye(1, document.length, dtype='float32')[0]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WorkerError) as raised:
        run(replace(config, reductions=("deadly:weights",)), tmp_path / "store.attn")
    assert str(raised.value) == (
        "part 1 can't be computed: 3 workers ended over it, the last by SIGKILL, as systems do where memory runs out:"
        " its documents are 'r5' to 'r9' (numbers 5 to 9); the parts finished so far are kept"
    )
    assert 1 not in open_store(tmp_path / "store.attn").finished_parts()


@pytest.mark.slow
def test_an_error_from_a_worker_is_the_same_line(config, hired, forked, tmp_path):
    """It is found when a worker loads the model, and raised by the run."""
    wrong = replace(config, reductions=("from_50",))
    for workers in (1, 2):
        with pytest.raises(UsageError) as raised:
            run(replace(wrong, workers=workers), tmp_path / "store.attn")
        assert str(raised.value) == "from_50: documents are cut at 40 tokens here, the last at position 39"
    assert not (tmp_path / "store.attn").exists()


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import os; os.kill(os.getpid(), 9)", "by SIGKILL, as systems do where memory runs out"),
        ("raise SystemExit(3)", "with exit code 3"),
    ],
)
def test_workers_that_end_before_they_have_a_part_end_the_run(
    config, hired, tmp_path, monkeypatch, code, how
):
    """After three of them the run reports how the last one ended, instead of starting others for ever."""
    monkeypatch.setattr("attnstore.pipeline.processes._SERVE", code)
    with pytest.raises(WorkerError) as raised:
        run(config, tmp_path / "store.attn")
    assert str(raised.value) == f"3 workers ended before they had a part, the last {how}"
    assert len(hired) == 4
    assert not (tmp_path / "store.attn").exists()


def part(number: int) -> Part:
    return Part(
        number, [(n, Document("", f"r{n}", None, "all", None)) for n in range(5 * number, 5 * number + 5)]
    )


def test_a_part_lost_together_with_others_is_retried_alone(config, monkeypatch):
    """Parts that a worker had beside the deadly one are innocent.

    The third time ends the run, naming only the deadly part's documents.
    """
    workers = Workers(config, 1, Processes())
    given: list[list[int]] = []

    def hire(self: Workers, place: int) -> None:
        self._crew.append(_Worker(place, Ended(), loaded=True, begun=True))

    monkeypatch.setattr(Workers, "_hire", hire)
    workers._hire(0)
    workers._fresh = 4
    ready = iter([part(n) for n in range(4)])
    with pytest.raises(WorkerError) as raised:
        while True:
            (worker,) = workers._crew
            workers._hand_out(ready)
            worker.taken |= worker.parts.keys()  # it begins, and gets the next one
            workers._hand_out(ready)
            given.append(sorted(worker.parts))
            if 1 in worker.parts:
                workers._lost(worker)
            else:
                worker.parts.clear()
                worker.taken.clear()
    assert given == [[0, 1], [0], [1], [1]]
    assert str(raised.value) == (
        "part 1 can't be computed: 3 workers ended over it, the last by SIGKILL, as systems do where memory runs out:"
        " its documents are 'r5' to 'r9' (numbers 5 to 9); the parts finished so far are kept"
    )


class Ended:
    """A worker that was killed."""

    started = True

    def send(self, _message: object) -> None: ...

    def receive(self) -> None: ...

    def end(self) -> None: ...

    def how_it_ended(self) -> str:
        return "by SIGKILL, as systems do where memory runs out"


def test_a_function_that_workers_can_not_import_is_refused_in_one_line(config, tmp_path):
    """Before any worker is started."""

    def nearest(document):
        return document.special

    with pytest.raises(UsageError) as raised:
        run(replace(config, reductions=(nearest,)), tmp_path / "store.attn")
    assert str(raised.value) == (
        "workers=: 'nearest' is a function of the program itself, which other processes can't import: put it into a"
        " module, or leave workers out"
    )


MODEL = LoadedModel(
    labels=("neg", "pos"), layers=1, heads=1, max_length=40, stride=None, model_sha256="a", tokenizer_sha256="b",
    words="UAX #29", reductions=(), identities=(), dtype="bfloat16", device="cuda", hardware="H100", threads=1,
    way="packed", kernel="triton", batch_tokens=100, notes=(),
)  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [{"dtype": "float32"}, {"kernel": "torch"}, {"hardware": "T4"}, {"threads": 2}, {"model_sha256": "c"}],
)
def test_a_worker_that_would_compute_other_bytes_is_refused(other):
    """One with another dtype, kernel, GPU or number of threads than the first worker's, or other weights."""
    ((name, value),) = other.items()
    with pytest.raises(ModelError) as raised:
        _must_be_alike(replace(MODEL, **other), MODEL)
    assert str(raised.value) == (
        f"the workers would not compute the same: {name} is {value} in one, {getattr(MODEL, name)} in another: set"
        " --dtype and --device, or use one worker"
    )
    _must_be_alike(replace(MODEL, batch_tokens=50, notes=("a note",)), MODEL)
