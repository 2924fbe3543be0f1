"""A worker that hangs is noticed, and its parts are given to another."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from attnstore.config import RunConfig, SourceConfig
from attnstore.data.documents import Document
from attnstore.errors import WorkerError
from attnstore.events import Computed, Noted
from attnstore.pipeline import workers as module
from attnstore.pipeline.parts import Part, Step
from attnstore.pipeline.processes import Process, Processes
from attnstore.pipeline.run import run
from attnstore.pipeline.wire import Begin, Stepped
from attnstore.pipeline.workers import Workers, _Worker


class Clock:
    """A clock that advances with every look at it."""

    def __init__(self) -> None:
        self.now, self.step = 0.0, 1.0

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


class Hanging:
    """The link to a worker that sends nothing."""

    def __init__(self) -> None:
        self.started, self.ended = True, False

    def send(self, _message: object) -> None: ...

    def receive(self) -> None: ...

    def end(self) -> None:
        self.ended = True

    def how_it_ended(self) -> str:
        raise AssertionError("it hangs")


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Workers, Clock]]:
    """Two workers that have the parts 0 and 1 and never send anything, and the clock that they are judged by."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "_LOOKED_EVERY", 0)

    def hire(self: Workers, place: int) -> None:
        self._crew.append(_Worker(place, Hanging(), loaded=True, begun=True))

    monkeypatch.setattr(Workers, "_hire", hire)
    workers = Workers(RunConfig(SourceConfig("data"), "model", workers=2), 1, Processes())
    workers._begin = Begin("store", None, None)  # type: ignore[arg-type]
    for number in range(2):
        workers._hire(number)
        workers._crew[number].parts[number] = part(number)
    yield workers, clock


def part(number: int) -> Part:
    return Part(
        number, [(n, Document("", f"r{n}", None, "all", None)) for n in range(5 * number, 5 * number + 5)]
    )


def heard(workers: Workers) -> tuple[int, Step]:
    """How often one has to listen until something is reported, and the report."""
    for times in range(100_000):
        if step := workers._hear():
            return times, step
    raise AssertionError("nothing was heard")


def test_after_ten_minutes_of_silence_the_part_is_given_to_another(crew):
    """Its progress is subtracted, and one line reports it. A worker without a part may be silent for ever."""
    workers, _ = crew
    hung, idle = workers._crew
    idle.parts.clear()
    hung.steps[0] = [Step(2, 30)]
    times, step = heard(workers)
    line = "a worker did not respond for 601 seconds and was stopped: part 0 given to another"
    assert (times, step) == (600, Step(-2, -30, notes=(line,)))
    assert [each.number for each in workers._again] == [0]
    assert (hung.link.ended, idle.link.ended) == (True, False)
    assert [worker.place for worker in workers._crew] == [1, 0]


def test_batches_that_take_long_make_the_run_patient(crew):
    """The limit is ten times the longest silence so far: after 400 seconds before a batch, 4,000 are allowed."""
    workers, _ = crew
    slow, hung = workers._crew
    for _ in range(400):
        assert workers._hear() is None
    for worker in (slow, hung):
        workers._inbox.put((worker, Stepped(worker.place, Step(1, 10))))
        assert workers._hear() == Step(1, 10)
    assert workers._longest == 402  # of the second worker, which was checked twice more
    _, step = heard(workers)
    assert step.notes[0].startswith("a worker did not respond for 4,021 seconds")


def test_a_worker_waiting_for_room_in_the_cluster_does_not_count_as_hung(crew):
    """The run waits for it as long as necessary. Its time begins when it has started."""
    workers, _ = crew
    pending, idle = workers._crew
    idle.parts.clear()
    pending.link.started = pending.loaded = False
    for _ in range(5000):
        assert workers._hear() is None
    pending.link.started = True
    assert heard(workers)[0] == 1800


def test_a_run_that_was_stopped_itself_blames_no_worker(crew):
    """A scheduler may stop a job and continue it an hour later. During that hour nobody listened."""
    workers, clock = crew
    clock.step = 3600.0
    for _ in range(500):
        assert workers._hear() is None
    assert [worker.silent for worker in workers._crew] == [500.0, 500.0]


def test_a_part_that_hangs_three_workers_ends_the_run_and_says_what_to_set(crew):
    """As for a part that kills three workers."""
    workers, _ = crew
    workers._failures[0] = 2
    workers._crew[1].parts.clear()
    with pytest.raises(WorkerError) as raised:
        heard(workers)
    assert str(raised.value) == (
        "part 0 can't be computed: 3 workers ended over it, the last after 601 seconds without a response"
        " (--worker-timeout sets the limit): its documents are 'r0' to 'r4' (numbers 0 to 4); the parts"
        " finished so far are kept"
    )


def test_the_user_sets_how_long_a_worker_may_be_silent(crew):
    """Also while it loads."""
    workers, _ = crew
    workers._hired = replace(workers._hired, config=replace(workers._hired.config, worker_timeout=5))
    assert {workers._patience(worker) for worker in workers._crew} == {5}
    assert heard(workers)[0] == 5
    workers._crew[-1].loaded = False
    assert workers._patience(workers._crew[-1]) == 5
    workers._hired = replace(workers._hired, config=replace(workers._hired.config, worker_timeout=None))
    assert workers._patience(workers._crew[-1]) == 1800


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_sending_to_a_stopped_process_does_not_wait():
    """Even more than a pipe holds."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", "import time; time.sleep(600)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    os.kill(process.pid, signal.SIGSTOP)
    worker = _Worker(0, Process(process))
    module.threading.Thread(target=worker.deliver, daemon=True).start()
    worker.send(b"." * (1 << 20))
    worker.end()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_a_stopped_worker_is_replaced_and_the_bytes_are_those_of_one_process(
    tiny_model: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """SIGSTOP in the middle of its part: it neither ends nor sends anything."""
    config = RunConfig(
        SourceConfig(str(reviews)), str(tiny_model), device="cpu", dtype="float32", max_length=40, part_size=5,
        reductions=("cls",), threads=1, workers=2,
    )  # fmt: skip
    monkeypatch.setattr(module, "_HEARD_WITHIN", 3.0)
    monkeypatch.setattr(module, "_TIMES_THE_LONGEST", 1)
    hire, started, notes = Workers._hire, [], []

    def hiring(self: Workers, place: int) -> None:
        hire(self, place)
        started.append(self._crew[-1].link.process)

    monkeypatch.setattr(Workers, "_hire", hiring)

    def on_event(event: object) -> None:
        if isinstance(event, Computed) and event.documents >= 1 and not notes:
            notes.append("stopped")
            os.kill(started[0].pid, signal.SIGSTOP)
        if isinstance(event, Noted):
            notes.append(event.line)

    result = run(config, tmp_path / "two.attn", on_event=on_event)
    run(replace(config, workers=1), tmp_path / "one.attn")
    assert (result.documents, len(started)) == (60, 3)
    assert len(notes) == 2
    assert notes[1].startswith("a worker did not respond for ")
    two, one = (
        {p.relative_to(store): p.read_bytes() for p in store.rglob("*.parquet")}
        for store in (tmp_path / "two.attn", tmp_path / "one.attn")
    )
    assert two == one
