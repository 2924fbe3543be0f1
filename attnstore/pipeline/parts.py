"""The missing parts of a store: tokenised ahead of the forward pass, computed, written behind it."""

import itertools
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
from attnstore.pipeline.ahead import ahead
from attnstore.pipeline.describe import stride_of
from attnstore.store.store import Store

#: Batches after which freed memory goes back. After each one it would cost a tenth of the run; after a whole part,
#: threads and batches of many sizes have left half a gigabyte of pieces.
_BATCHES_KEPT = 4


def batches(
    store: Store, config: RunConfig, source: Source, found: Survey, labels: LabelMap, classifier: Classifier
) -> Generator[tuple[int, list[Batch]]]:
    """Each missing part with its batches, in order. Documents of finished parts are read over."""
    documents = enumerate(read_documents(source, found, labels, config.source.limit))
    read = None
    if config.long != "cut":
        stride = stride_of(config, classifier) or 1
        read = partial(passes, long=config.long, stride=stride)
    for part in store.missing_parts():
        numbers = store.part_range(part)
        rest = itertools.dropwhile(lambda item, first=numbers[0]: item[0] < first, documents)  # type: ignore[misc] # mypy can't type a lambda's default
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
