"""The missing parts of a store: tokenised ahead of the forward pass, computed, written behind it."""

import itertools
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from attnstore.config import RunConfig
from attnstore.data.documents import Source
from attnstore.data.labels import LabelMap
from attnstore.data.selection import read_documents
from attnstore.data.survey import Survey
from attnstore.engine.batches import Batch, plan_batches, tokenise
from attnstore.engine.classifier import Classifier, Reduced
from attnstore.engine.long import passes
from attnstore.engine.paths import memory
from attnstore.engine.rows import part_tables
from attnstore.engine.segmenter import Segmenter
from attnstore.errors import DataError
from attnstore.events import Computed, Noted, OnEvent
from attnstore.messages import counted, listed
from attnstore.pipeline.ahead import ahead
from attnstore.pipeline.describe import stride_of, this_run
from attnstore.store.store import Store

#: Batches after which freed memory goes back. After each one it would cost a tenth of the run; after a whole part,
#: threads and batches of many sizes have left half a gigabyte of pieces.
_BATCHES_KEPT = 4


@dataclass(frozen=True, slots=True)
class Filled:
    """What was computed for a store: `seconds` are of its parts."""

    documents: int
    tokens: int
    seconds: float


def fill(
    store: Store,
    config: RunConfig,
    source: Source,
    found: Survey,
    labels: LabelMap,
    classifier: Classifier,
    segmenter: Segmenter,
    stop: threading.Event,
    on_event: OnEvent,
    first: int = 0,
) -> Filled:
    """Compute and write every missing part of a store, until `stop` is set; what happens goes to `on_event`.

    `first`: the number of the source's first document.
    """
    before = store.finished_parts()
    total = store.manifest.documents - first
    documents_before = documents = sum(len(store.part_range(part)) for part in before)
    for line in store.damaged:
        on_event(Noted(line))
    began, tokens = time.perf_counter(), 0
    parts = batches(store, config, source, found, labels, classifier, first)
    written: dict[int, set[str]] = {}
    try:
        for batch in write_parts(store, config, classifier, parts, segmenter, stop):
            documents += sum(document.window == 0 for document in batch.documents)
            tokens += batch.tokens
            for document in batch.documents:
                if special := document.written_special:
                    written.setdefault(document.number, set()).update(special)
            for note in classifier.new_notes():
                on_event(Noted(note))
            on_event(Computed(documents, total, tokens))
        for name in sorted(classifier.all_null if tokens else ()):
            on_event(Noted(f"{name} has no value for any token (NaN): its columns are null throughout"))
        if written:
            names = listed(sorted(set.union(*written.values())))
            on_event(
                Noted(
                    f"{counted(len(written), 'document')} with {names} written in the text: the model reads that as"
                    " its own special token, as transformers does; it is marked special and is no word"
                )
            )
        for note in segmenter.notes:
            on_event(Noted(note))
    finally:
        seconds = time.perf_counter() - began
        if tokens:
            finished = len(store.finished_parts()) - len(before)
            store.record_run(this_run(classifier, finished, tokens, seconds))
    return Filled(documents - documents_before, tokens, seconds)


def batches(
    store: Store,
    config: RunConfig,
    source: Source,
    found: Survey,
    labels: LabelMap,
    classifier: Classifier,
    first: int = 0,
) -> Generator[tuple[int, list[Batch]]]:
    """Each missing part with its batches, in order. Documents of finished parts are read over."""
    documents = enumerate(read_documents(source, found, labels, config.source.limit), start=first)
    read = None
    if config.long != "cut":
        stride = stride_of(config, classifier) or 1
        read = partial(passes, long=config.long, stride=stride)
    for part in store.missing_parts():
        numbers = store.part_range(part)
        rest = itertools.dropwhile(lambda item, least=numbers[0]: item[0] < least, documents)  # type: ignore[misc] # mypy can't type a lambda's default
        wanted = itertools.islice(rest, len(numbers))
        tokenised = list(tokenise(wanted, classifier.tokenizer, classifier.max_length, passes=read))
        if [d.number for d in tokenised if d.window == 0] != list(numbers):
            raise DataError(f"{source.name} has changed while it was read: part {part} lacks documents")
        yield part, list(plan_batches(tokenised, classifier.batch_tokens, padded=classifier.padded))


def write_parts(
    store: Store,
    config: RunConfig,
    classifier: Classifier,
    parts: Generator[tuple[int, list[Batch]]],
    segmenter: Segmenter,
    stop: threading.Event,
) -> Iterator[Batch]:
    """Run every part through the classifier and write it; yields each batch as it comes out.

    A part is written while the next one is computed. What has been computed is written even if `stop` is set
    or the caller ends the generator between parts.
    """

    def write(part: int, results: list[tuple[Batch, Reduced]]) -> None:
        tables = part_tables(store.manifest, results, segmenter, full_precision=config.full_precision)
        store.write_part(part, tables.documents, tables.tokens)

    with memory.kept(), ThreadPoolExecutor(1) as writer, ahead(parts) as ready:
        written: Future[None] | None = None
        for part, batches in ready:
            if stop.is_set():
                break
            results = []
            for number, batch in enumerate(batches, start=1):
                for result in classifier.pieces(batch):
                    results.append(result)
                    yield result[0]
                if number % _BATCHES_KEPT == 0:
                    memory.give_back()
            if written is not None:
                written.result()  # at most one part waits to be written, and its error ends the run
            written = writer.submit(write, part, results)
        if written is not None:
            written.result()
