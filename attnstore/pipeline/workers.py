"""A run computed by several workers: it starts them, hands out parts, and replaces lost workers.

Where they run is up to a `Host`: processes of this machine (`processes`), or the actors of a cluster (`on_ray`).

The run itself loads no model. It reads the documents, hands them out a part at a time, counts what is written, and
replaces workers that end. Each worker has the part that it computes and, while many are left, the next one, so that
neither side waits for the other; this also bounds what is read ahead.

A worker may hang without ending: in a driver, or on a file system that does not answer. Each batch is a sign of life;
a worker without one for much longer than any batch has taken is ended and replaced.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Protocol, Self

from attnstore.config import RunConfig
from attnstore.errors import UsageError, WorkerError
from attnstore.messages import counted, quoted
from attnstore.pipeline.ahead import ahead
from attnstore.pipeline.describe import LoadedModel
from attnstore.pipeline.parts import Part, Step
from attnstore.pipeline.wire import Begin, Hired, Loaded, Refused, Stepped, Stop, Took, Wrote
from attnstore.store.place import address
from attnstore.store.store import Store

#: How often a part is tried, and how many workers in a row may end without a part.
_TRIES = 3
#: Seconds between two checks whether the run is asked to stop.
_LOOKED_EVERY = 0.2
#: The default seconds of silence after which a worker counts as hung, while it loads and while it computes. If a
#: worker was silent for longer and then continued, the limit is this many times as long.
_LOADED_WITHIN, _HEARD_WITHIN, _TIMES_THE_LONGEST = 1800.0, 600.0, 10
#: The most seconds that one check adds to the silence, because a run that was stopped itself has not listened.
_LISTENED = 1.0


class Link(Protocol):
    """The run's side of a worker."""

    @property
    def started(self) -> bool:
        """Whether it runs, so that it can be heard: a cluster may have no room yet."""

    def send(self, message: object) -> None:
        """Raises OSError if it is gone."""

    def receive(self) -> Any:
        """Wait for the next record. Raises EOFError if there will be none."""

    def end(self) -> None:
        """End the worker at once, whatever it is doing."""

    def how_it_ended(self) -> str:
        """Such as `by SIGKILL` or `with exit code 3`: available after the last record."""


class Host(Protocol):
    """Where workers run."""

    def prepare(self, config: RunConfig) -> None:
        """Prepare once, before the first worker starts."""

    def start(self, place: int, threads: int) -> Link:
        """Start a worker at this place, counted from 0. Raises WorkerError if that fails."""

    def close(self) -> None:
        """Called when all workers have been ended."""


@dataclass(slots=True, eq=False)
class _Worker:
    """`parts` are its parts, `taken` the numbers of those that it has begun, `steps` its steps for each.

    `silent`: seconds that the run has waited for it in vain; `hung`: it was ended for that.
    """

    place: int
    link: Link
    loaded: bool = False
    begun: bool = False
    parts: dict[int, Part] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    steps: dict[int, list[Step]] = field(default_factory=dict)
    silent: float = 0.0
    hung: bool = False
    outbox: SimpleQueue[object] = field(default_factory=SimpleQueue)

    def send(self, message: object) -> None:
        """What can't be sent is lost with the worker, whose end will be noticed. Nobody waits for a hung worker."""
        self.outbox.put(message)

    def deliver(self) -> None:
        """Send the outbox's records, until the worker is gone or there is a None."""
        with suppress(OSError):
            while (message := self.outbox.get()) is not None:
                self.link.send(message)

    def end(self) -> None:
        """End it at once. What it is writing then does not count as a part."""
        self.outbox.put(None)
        self.link.end()


class Workers:
    """`config.workers` workers, each with the model, on `threads` threads. None remains when it is closed.

    It has the same interface as `Alone`.
    """

    def __init__(self, config: RunConfig, threads: int, host: Host) -> None:
        self._hired = Hired(replace(config, source=replace(config.source, held=None)), threads)
        self._host = host
        self._inbox: SimpleQueue[tuple[_Worker, Any]] = SimpleQueue()
        self._crew: list[_Worker] = []
        self._gpus: list[str] = []
        self._model: LoadedModel | None = None
        self._begin: Begin | None = None
        self._store: Store | None = None
        self._stopping = False
        self._to_hand_out = True
        self._again: deque[Part] = deque()
        self._fresh = 0
        self._failures: Counter[int] = Counter()
        self._in_vain = 0
        self._noted: set[str] = set()
        self._looked = time.monotonic()
        self._longest = 0.0
        self.all_null: set[str] = set()
        self.notes: list[str] = []

    @property
    def count(self) -> int:
        """How many workers compute."""
        return self._hired.config.workers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all of them; harmless when done twice."""
        while self._crew:
            self._crew.pop().end()
        self._host.close()

    @property
    def model(self) -> LoadedModel:
        """The first worker's model, with the smallest room that any worker has found since."""
        assert self._model is not None  # noqa: S101 - `load` comes first
        return self._model

    def load(self) -> LoadedModel:
        """Start the workers; return when the first of them has loaded the model.

        Raises:
            ModelError, UsageError: as `load_classifier` in this process would.
            WorkerError: the workers end while they load.
        """
        self._host.prepare(self._hired.config)
        for number in range(self.count):
            self._hire(number)
        while self._model is None:
            self._hear()
        return self._model

    def compute(self, store: Store, parts: Generator[Part], stop: threading.Event) -> Iterator[Step]:
        """Have the parts computed and written, yielding a step for each batch. After `stop`, parts that are begun are
        finished.

        Raises:
            AttnstoreError: as in one process, or a WorkerError that names the documents of a part that keeps failing.
        """
        self._store, self._fresh = store, len(store.missing_parts())
        self._begin = Begin(address(store.path), store.manifest, self.model)
        self.all_null = {reduction.name for reduction in self.model.reductions}
        for worker in self._crew:
            self._introduce(worker)
        with ahead(parts) as ready:
            while self._fresh or self._again or any(worker.parts for worker in self._crew):
                if stop.is_set():
                    break
                if self._to_hand_out:
                    # Most messages change nothing, and checking hundreds of workers is slow.
                    self._to_hand_out = False
                    self._hand_out(ready)
                if step := self._hear():
                    yield step
        self._stopping = True
        for worker in list(self._crew):
            # A worker that has not begun a part then ends by itself, and one that has may not have been heard yet.
            if worker.parts:
                worker.send(Stop())
            else:
                self._crew.remove(worker)
                worker.end()
        while self._crew:
            if step := self._hear():
                yield step

    def _hire(self, place: int) -> None:
        """Start the worker of a place. Raises WorkerError if that fails."""
        worker = _Worker(place, self._host.start(place, self._hired.threads))
        self._crew.append(worker)
        worker.send(self._hired)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        threading.Thread(target=worker.deliver, daemon=True).start()

    def _listen(self, worker: _Worker) -> None:
        with suppress(EOFError):
            while True:
                self._inbox.put((worker, worker.link.receive()))
        self._inbox.put((worker, None))

    def _introduce(self, worker: _Worker) -> None:
        """Send the store to a worker that has loaded, once it is known."""
        if self._begin is not None and worker.loaded and not worker.begun:
            worker.begun = True
            worker.send(self._begin)

    def _hand_out(self, ready: Iterator[Part]) -> None:
        """Give a part to each worker that has none, then to those that have begun their last one.

        The last parts go to free workers: none waits while another has two. A lost part goes to a worker without any
        other, so that the part is known to be the cause if that worker ends, too.
        """
        for worker in sorted(self._crew, key=lambda worker: len(worker.parts)):
            if not worker.begun or worker.parts.keys() - worker.taken:
                continue
            if not worker.parts and self._again:
                part = self._again.popleft()
            elif self._fresh and (
                not worker.parts
                or (
                    self._fresh >= len(self._crew)
                    and not self._again
                    and not any(self._failures[number] for number in worker.parts)
                )
            ):
                part = next(ready)
                self._fresh -= 1
            else:
                continue
            worker.parts[part.number] = part
            worker.send(part)

    def _hear(self) -> Step | None:
        """Wait for the next message, a moment at most, and handle it."""
        if hung := self._hung():
            return self._lost(hung)
        try:
            worker, message = self._inbox.get(timeout=_LOOKED_EVERY)
        except Empty:
            return None
        if worker not in self._crew:
            return None
        if worker.begun:
            self._longest = max(self._longest, worker.silent)
        worker.silent = 0.0
        match message:
            case None:
                return self._lost(worker)
            case Refused(error):
                raise error
            case Loaded(model):
                self._model = self._model or model
                worker.loaded = True
                self._in_vain = 0
                self._introduce(worker)
                self._to_hand_out = True
            case Took(part):
                worker.taken.add(part)
                self._to_hand_out = True
            case Stepped(part, step):
                worker.steps.setdefault(part, []).append(step)
                fresh = tuple(note for note in step.notes if note not in self._noted)
                self._noted.update(fresh)
                return replace(step, notes=fresh)
            case Wrote():
                self._count(worker, message)
        return None

    def _hung(self) -> _Worker | None:
        """A worker that has been silent for too long while it had work."""
        now = time.monotonic()
        if now - self._looked < _LOOKED_EVERY:
            return None
        listened, self._looked = min(now - self._looked, _LISTENED), now
        for worker in self._crew:
            if (worker.loaded and not worker.parts) or not worker.link.started:
                continue  # it waits for the run, or for room
            worker.silent += listened
            if worker.silent > self._patience(worker):
                worker.hung = True
                return worker
        return None

    def _patience(self, worker: _Worker) -> float:
        """How many seconds a worker may be silent."""
        if (told := self._hired.config.worker_timeout) is not None:
            return told
        if not worker.loaded:
            return _LOADED_WITHIN
        return max(_HEARD_WITHIN, _TIMES_THE_LONGEST * self._longest)

    def _count(self, worker: _Worker, wrote: Wrote) -> None:
        """Register a written part."""
        assert self._store is not None  # noqa: S101 - it was handed out for one
        self._store.take_part(wrote.part, wrote.files)
        self._to_hand_out = True
        worker.parts.pop(wrote.part, None)
        worker.taken.discard(wrote.part)
        worker.steps.pop(wrote.part, None)
        self._in_vain = 0
        self.all_null &= wrote.all_null
        self.notes += [note for note in wrote.notes if note not in self.notes]
        room = min(self.model.batch_tokens, wrote.model.batch_tokens)
        self._model = replace(self.model, batch_tokens=room, kernel=wrote.model.kernel)

    def _lost(self, worker: _Worker) -> Step | None:
        """Handle the end of a worker. Another worker in its place recomputes its parts; the step takes back its
        progress.

        Raises WorkerError after too many attempts.
        """
        self._to_hand_out = True
        self._crew.remove(worker)
        worker.end()
        steps = [step for of_part in worker.steps.values() for step in of_part]
        back = Step(-sum(step.documents for step in steps), -sum(step.tokens for step in steps))
        if worker.hung:
            silent = counted(round(worker.silent), "second")
            line = f"a worker did not respond for {silent} and was stopped: {self._rest(worker)}"
            if self._begin is None:
                self.notes.append(line)
            back = replace(back, notes=(line,))
        told = back if steps or back.notes else None
        if self._stopping:
            return told
        why = _why(worker)
        for part in worker.parts.values():
            self._failures[part.number] += 1
            if self._failures[part.number] == _TRIES:
                raise WorkerError(
                    f"part {part.number} can't be computed: {counted(_TRIES, 'worker')} ended over it, the last {why}:"
                    f" its documents are {_named(part)}; the parts finished so far are kept"
                )
            self._again.append(part)
        if not worker.parts:
            self._in_vain += 1
            if self._in_vain == _TRIES:
                raise WorkerError(f"{counted(_TRIES, 'worker')} ended before they had a part, the last {why}")
        self._hire(worker.place)
        return told

    def _rest(self, worker: _Worker) -> str:
        """What happens to the parts of a worker that was ended, in words."""
        if not worker.parts:
            return "another takes its place"
        parts = f"part{'s' if len(worker.parts) > 1 else ''} {' and '.join(map(str, sorted(worker.parts)))}"
        return f"{parts} left to the next run" if self._stopping else f"{parts} given to another"


def must_be_importable(reductions: Iterable[str | Callable[..., Any]]) -> None:
    """Raise UsageError for a function that no other process can import."""
    for reduction in reductions:
        if callable(reduction) and (
            reduction.__module__ == "__main__" or "<" in getattr(reduction, "__qualname__", "<")
        ):
            name = quoted(getattr(reduction, "__name__", "reduction"))
            raise UsageError(
                f"workers=: {name} is a function of the program itself, which other processes can't import: put it into"
                " a module, or leave workers out"
            )


def _named(part: Part) -> str:
    """`test/pos/7_10` to `test/pos/9_8` (numbers 100 to 199): the documents of a part."""
    (first, one), (last, other) = part.documents[0], part.documents[-1]
    if first == last:
        return f"{quoted(one.id)} (number {first})"
    return f"{quoted(one.id)} to {quoted(other.id)} (numbers {first} to {last})"


def _why(worker: _Worker) -> str:
    """How a worker ended."""
    if worker.hung:
        silent = counted(round(worker.silent), "second")
        return f"after {silent} without a response (--worker-timeout sets the limit)"
    return worker.link.how_it_ended()
