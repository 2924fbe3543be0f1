"""The missing parts of a store: tokenised ahead, computed, and written in the background."""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import partial
from operator import attrgetter
from typing import Any, Self

from attnstore.config import RunConfig
from attnstore.data.documents import Document, Source
from attnstore.data.labels import LabelMap
from attnstore.data.selection import read_documents
from attnstore.data.survey import Survey
from attnstore.engine.batches import Batch, plan_batches, tokenise
from attnstore.engine.chunks import Chunks
from attnstore.engine.classifier import Classifier, Reduced
from attnstore.engine.long import ends, passes
from attnstore.engine.paths import memory
from attnstore.engine.rows import part_tables
from attnstore.engine.segmenter import Segmenter
from attnstore.errors import DataError
from attnstore.store.manifest import StoredFile
from attnstore.store.store import Store

#: The number of batches after which freed memory is returned. After each batch it would cost a tenth of the run; after
#: a whole part, threads and batches of many sizes have left half a gigabyte of fragments.
_BATCHES_KEPT = 4
_FIELDS = tuple(each.name for each in fields(Document))


@dataclass(frozen=True, slots=True)
class Part:
    """A part to compute: its documents, each with its number, in order."""

    number: int
    documents: list[tuple[int, Document]] = field(repr=False)

    def __reduce__(self) -> tuple[object, ...]:
        # By columns: pickling a run's documents one by one would take longer than reading them.
        return _of_columns, (self.number, *_columns(self.documents))


def _columns(documents: Sequence[tuple[int, Document]]) -> tuple[list[int], list[list[object]]]:
    """The documents' numbers, then their fields, column by column."""
    each = [document for _, document in documents]
    return [number for number, _ in documents], [list(map(attrgetter(name), each)) for name in _FIELDS]


def _of_columns(part: int, numbers: list[int], columns: list[list[Any]]) -> Part:
    """The part from the columns of `_columns`."""
    return Part(part, list(zip(numbers, map(Document, *columns), strict=True)))


@dataclass(frozen=True, slots=True)
class Step:
    """What one batch added. `written`: the special tokens that documents have in their text, by document number.

    Numbers below 0 take back what was computed and lost.
    """

    documents: int
    tokens: int
    written: dict[int, set[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, batch: Batch, notes: Iterable[str] = ()) -> Self:
        written: dict[int, set[str]] = {}
        for document in batch.documents:
            if special := document.written_special:
                written.setdefault(document.number, set()).update(special)
        documents = sum(document.window == 0 for document in batch.documents)
        return cls(documents, batch.tokens, written, tuple(notes))


def missing_parts(
    store: Store, config: RunConfig, source: Source, found: Survey, labels: LabelMap, first: int = 0
) -> Generator[Part]:
    """Each missing part, in order. Documents of finished parts are skipped.

    `first`: the number of the source's first document. Raises DataError if the source has changed.
    """
    documents = enumerate(read_documents(source, found, labels, config.source.limit), start=first)
    for part in store.missing_parts():
        numbers = store.part_range(part)
        rest = itertools.dropwhile(lambda item, least=numbers[0]: item[0] < least, documents)  # type: ignore[misc] # mypy can't type a lambda's default
        wanted = list(itertools.islice(rest, len(numbers)))
        if [number for number, _ in wanted] != list(numbers):
            raise DataError(f"{source.name} has changed while it was read: part {part} lacks documents")
        yield Part(part, wanted)


def batches(
    parts: Iterable[Part], config: RunConfig, classifier: Classifier, stride: int | None
) -> Generator[tuple[int, list[Batch]]]:
    """Each part's number with its batches."""
    read = partial(passes, long=config.long, stride=stride or 1) if config.long != "cut" else None
    by_ends = partial(ends, long=config.long) if config.long in ("tail", "head+tail") else None
    chunks = Chunks.of(classifier.tokenizer)
    for part in parts:
        tokenised = list(
            tokenise(
                part.documents,
                classifier.tokenizer,
                classifier.max_length,
                passes=read,
                ends=by_ends,
                chunks=chunks,
            )
        )
        yield part.number, list(plan_batches(tokenised, classifier.batch_tokens, padded=classifier.padded))


def write_parts(
    store: Store,
    config: RunConfig,
    classifier: Classifier,
    ready: Iterable[tuple[int, list[Batch]]],
    segmenter: Segmenter,
    stop: threading.Event,
    *,
    writers: int = 1,
    finished: Callable[[int, tuple[StoredFile, ...]], None] = lambda _, __: None,
) -> Iterator[tuple[int, Step]]:
    """Run every part through the classifier and write it; yields its number and a step for each finished batch.

    Each of `writers` threads writes a part while the next one is computed. What has been computed is written even if
    `stop` is set or the caller ends the generator between parts. `finished` is called in another thread, with a part's
    files when it is written.
    """

    def write(part: int, results: list[tuple[Batch, Reduced]]) -> None:
        for _, reduced in results:
            classifier.note_values(reduced)
        tables = part_tables(store.manifest, results, segmenter, full_precision=config.full_precision)
        finished(part, store.write_part(part, tables.documents, tables.tokens))

    with memory.kept(), ThreadPoolExecutor(writers) as pool:
        written: deque[Future[None]] = deque()
        for part, batches in ready:
            if stop.is_set():
                break
            results = []
            for number, batch in enumerate(batches, start=1):
                for result in classifier.pieces(batch):
                    results.append(result)
                    yield part, Step.of(result[0], classifier.new_notes())
                if number % _BATCHES_KEPT == 0:
                    memory.give_back()
            if len(written) == writers:
                written.popleft().result()  # no part waits for writing, and an error ends the run
            written.append(pool.submit(write, part, results))
        for each in written:
            each.result()
