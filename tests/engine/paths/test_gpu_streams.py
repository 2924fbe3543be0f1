"""Results copied back from a GPU, with a simulated GPU that does work only when something waits for it."""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from attnstore.engine.paths import cuda


class Stream:
    """A queue of work. Nothing in it is done before something waits for it."""

    def __init__(self, machine):
        self.machine, self.queue = machine, []

    def wait_stream(self, other):
        until = Event(other)
        self.queue.append(until.synchronize)

    def record_event(self):
        return Event(self)


class Event:
    def __init__(self, stream):
        self.stream, self.before = stream, list(stream.queue)

    def synchronize(self):
        """Do the work that was queued on the stream before this event, and the work that it depends on."""
        for work in self.before:
            if work in self.stream.queue:
                self.stream.queue.remove(work)
                work()


class Machine(TorchDispatchMode):
    """The streams of one GPU. Sums and copies are queued on the current stream."""

    def __init__(self):
        super().__init__()
        self.main = self.current = Stream(self)
        self.side = Stream(self)
        self.used = []  # memory that a stream reads and another has written
        self.recorded = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.cat.default:
            pieces = [piece.clone() for piece in args[0]]
            into = torch.full([sum(len(piece) for piece in pieces)], torch.nan)
            self.current.queue.append(lambda: into.copy_(torch.cat(pieces)))
            return into
        if function is torch.ops.aten.copy_.default:
            to, source = args[:2]
            self.current.queue.append(lambda: to.copy_(source))
            self.used.append((self.current, source))
            return to
        return function(*args, **(kwargs or {}))

    @contextlib.contextmanager
    def on(self, stream):
        before, self.current = self.current, stream
        yield
        self.current = before

    def give_memory_to_others(self):
        """Overwrite memory that no variable refers to, unless torch knows that a stream still reads it."""
        for stream, source in self.used:
            if not any(held is source and reader is stream for held, reader in self.recorded):
                source.fill_(torch.nan)


@pytest.fixture
def machine(monkeypatch):
    found = Machine()
    monkeypatch.setattr(cuda, "_side_stream", lambda _: found.side)
    monkeypatch.setattr(cuda, "_pinned", lambda numbers: torch.full([numbers], torch.nan))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: found.current)
    monkeypatch.setattr(torch.cuda, "stream", found.on)
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda tensor, stream: found.recorded.append((tensor, stream))
    )
    return found


def batch(number):
    return {"": torch.full((2, 3), number), "cls_01": torch.arange(4.0) + number, "none": torch.zeros(0, 2)}


def test_each_batch_gets_its_own_results_once_it_waits_for_them(machine):
    """Two batches are under way and the later one is read first. Work that nothing waits for is not done."""
    with machine:
        first, wait_for_first = cuda.fetch(batch(1.0))
        second, wait_for_second = cuda.fetch(batch(2.0))
    machine.give_memory_to_others()
    assert all(x.isnan().all() for found in (first, second) for x in found.values())
    wait_for_second()
    for name, made in batch(2.0).items():
        torch.testing.assert_close(second[name], made, rtol=0, atol=0)
    wait_for_first()
    for name, made in batch(1.0).items():
        torch.testing.assert_close(first[name], made, rtol=0, atol=0)


def test_the_gpu_does_not_wait_for_copies(machine):
    """The next batch's work may begin while the last one is being copied, because its stream contains no wait."""
    with machine:
        _, wait = cuda.fetch(batch(1.0))
        cuda.fetch(batch(2.0))
    made_before = len(machine.main.queue)
    wait()
    assert (made_before, len(machine.main.queue), len(machine.side.queue)) == (2, 1, 2)


@pytest.mark.parametrize("missing", ["wait", "record", "late"])
def test_the_simulation_notices_each_fault(missing, machine, monkeypatch):
    """No wait for the batch, memory given away too early, and an event before the copy each give NaN."""
    if missing == "wait":
        monkeypatch.setattr(Stream, "wait_stream", lambda *_: None)
    elif missing == "record":
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    else:
        early = machine.side.record_event()
        monkeypatch.setattr(Stream, "record_event", lambda _: early)
    with machine:
        found, wait = cuda.fetch(batch(1.0))
    if missing == "record":
        machine.main.record_event()
        Event(machine.main).synchronize()
    machine.give_memory_to_others()
    wait()
    assert found[""].isnan().all()


def test_without_pinned_memory_the_copy_goes_to_ordinary_memory(monkeypatch):
    """If the system refuses to pin memory, this is not taken for a full GPU."""
    asked = []
    real = torch.empty

    def full(*size, pin_memory=False, **options):
        asked.append(pin_memory)
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory")
        return real(*size, **options)

    monkeypatch.setattr(torch, "empty", full)
    assert cuda._pinned(5).shape == (5,)
    assert asked == [True, False]
