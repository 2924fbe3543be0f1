"""The program's sentence: a dataset through a classifier into a sealed store.

    documents → tokens → batches → reduced attention → rows → parts → sealed

One bounded queue on each side of the forward pass: the next part is tokenised ahead of it, the last one is
written behind it. Parts are whole: a run that ends early, however it ends, leaves every part it finished, and
the same run started again goes on with the parts that are missing.
"""

import gc
import itertools
import platform
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import attnstore
from attnstore.config import RunConfig
from attnstore.data.labels import LabelMap, match_labels
from attnstore.data.selection import count_documents, read_documents, rejections
from attnstore.data.sources import Source, open_source
from attnstore.data.survey import Survey, survey
from attnstore.engine.batches import Batch, plan_batches, tokenise
from attnstore.engine.classifier import Classifier, Reduced, load_classifier, read_model_files
from attnstore.engine.paths import memory
from attnstore.engine.reductions import resolve_reductions
from attnstore.engine.rows import part_tables, word_normaliser
from attnstore.errors import DataError, UsageError
from attnstore.interrupts import stop_on_interrupt
from attnstore.store.manifest import Manifest
from attnstore.store.partitions import label_fits_in_path
from attnstore.store.resume import create_or_resume
from attnstore.store.store import Store

T = TypeVar("T")

#: Batches after which freed memory goes back. After each one it would cost a tenth of the run; after a whole part,
#: threads and batches of many sizes have left half a gigabyte of pieces.
_BATCHES_KEPT = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come. `tokens` counts those of this run, not of parts that were there before."""

    documents: int
    total: int
    tokens: int


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did. `documents`, `tokens` and `seconds` are of this run alone; `seconds` of its parts."""

    store: Store
    documents: int
    tokens: int
    seconds: float
    parts_before: int
    interrupted: bool


def run(
    config: RunConfig,
    path: str | Path,
    *,
    on_start: Callable[[Manifest], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_download: Callable[[int, int | None], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> RunResult:
    """Run a dataset through a classifier into the store at `path`, or go on with the run it holds.

    Ctrl-C ends it after the part in hand, with `interrupted` set; a second one at once. `on_note` is told, in a
    line, what happens on the way that a user should know; what is known before is in the manifest's notes.

    Raises:
        AttnstoreError: of the kind that fits: the data, the model, the options or the store.
    """
    reductions = resolve_reductions(config.reductions)
    _check(config)
    source = open_source(config.source, progress=on_download)
    files = read_model_files(config)  # a wrong model is told before the data is read, which may take long
    with ThreadPoolExecutor(1) as aside:  # reading the data takes as long as loading the model: do both
        surveyed = aside.submit(survey, source)
        classifier = load_classifier(config, reductions, files)
        found = surveyed.result()
    labels = match_labels(found, classifier.labels, config.source.labels)
    manifest = describe(config, source, found, labels, classifier)
    with create_or_resume(path, manifest) as store, stop_on_interrupt() as stop:
        before = store.finished_parts()
        if on_start is not None:
            on_start(store.manifest)
        if on_note is not None:
            for line in store.damaged:
                on_note(line)
        began, documents, tokens = time.perf_counter(), sum(len(store.part_range(p)) for p in before), 0
        documents_before = documents
        budget: int | None = classifier.batch_tokens  # None once its fall is told
        try:
            for batch, _ in _write_parts(
                store, config, classifier, _batches(store, config, source, found, labels, classifier), stop
            ):
                documents += len(batch.documents)
                tokens += batch.tokens
                if on_note is not None and budget is not None and classifier.batch_tokens < budget:
                    on_note(
                        f"{classifier.device} ran out of memory with batches of up to {budget:,} tokens: going on with "
                        f"{classifier.batch_tokens:,} or fewer (--batch-tokens {classifier.batch_tokens} begins so)"
                    )
                    budget = None  # once
                if on_progress is not None:
                    on_progress(Progress(documents, manifest.documents, tokens))
            if on_note is not None and tokens:
                for name in sorted(classifier.silent):
                    on_note(f"{name} has no value for any token (NaN): its columns are null throughout")
        finally:
            seconds = time.perf_counter() - began
            if tokens:
                store.record_run(
                    _this_run(classifier, len(store.finished_parts()) - len(before), tokens, seconds)
                )
        if not store.missing_parts() and not store.sealed:
            del classifier  # adding up takes a third of its memory
            gc.collect()
            memory.give_back()
            store.seal()
        return RunResult(
            store, documents - documents_before, tokens, seconds, len(before), bool(store.missing_parts())
        )


def _check(config: RunConfig) -> None:
    for name, value in (
        ("--part-size", config.part_size),
        ("--batch-tokens", config.batch_tokens),
        ("--limit", config.source.limit),
        ("--max-length", config.max_length),
    ):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UsageError(f"{name} {value}: it must be a whole number, at least 1")


def describe(
    config: RunConfig, source: Source, found: Survey, labels: LabelMap, classifier: Classifier
) -> Manifest:
    """The manifest of a run that is about to begin. Raises DataError if it has no documents at all."""
    rejected = rejections(found, labels, config.source.strict)
    documents = count_documents(found, labels, config.source.limit)
    if not documents:
        reasons = (
            ", ".join(f"{count} {reason}" for reason, count in rejected.counts.items()) or "it has no rows"
        )
        raise DataError(f"{source.name} has no document to read: {reasons}")
    used = sorted(set(labels.mapping.values()))
    label_note = [labels.note] if labels.note else []
    return Manifest(
        fingerprint={
            "model_sha256": classifier.model_sha256,
            "tokenizer_sha256": classifier.tokenizer_sha256,
            "data_sha256": found.sha256,
            "split": config.source.split,
            "limit": config.source.limit,
            "labels": list(labels.model_labels),
            "max_length": classifier.max_length,
            "reductions": [r.identity or r.name for r in classifier.reductions],
            "dtype": str(classifier.dtype).removeprefix("torch."),
            "values": "float32" if config.full_precision else "bfloat16",
        },
        documents=documents,
        part_size=config.part_size,
        labels=labels.model_labels,
        label_in_path=label_fits_in_path([*used, *([None] if found.unlabelled else [])]),
        labels_are_models=labels.are_models,
        layers=classifier.layers,
        heads=classifier.heads,
        reductions=tuple(r.stored for r in classifier.reductions),
        max_length=classifier.max_length,
        model=config.model if config.revision is None else f"{config.model}@{config.revision}",
        data=source.name,
        versions=_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        rejected=rejected.counts,
        rejected_rows=rejected.rows,
        notes=(*source.notes, *found.notes, *label_note, *classifier.notes),
    )


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "tokenizers", "pyarrow", "duckdb", "polars")
    return {
        "attnstore": attnstore.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _this_run(classifier: Classifier, parts: int, tokens: int, seconds: float) -> dict[str, Any]:
    return {
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": parts,
        "tokens": tokens,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / seconds),
        "device": str(classifier.device),
        "dtype": str(classifier.dtype).removeprefix("torch."),
        "way": classifier.way,
        "kernel": classifier.kernel,
        "batch_tokens": classifier.batch_tokens,
        "machine": f"{platform.machine()} {platform.system()}",
    }


def _batches(
    store: Store, config: RunConfig, source: Source, found: Survey, labels: LabelMap, classifier: Classifier
) -> Iterator[tuple[int, list[Batch]]]:
    """Each missing part with its batches, in order. Documents of finished parts are read over."""
    documents = enumerate(read_documents(source, found, labels, config.source.limit))
    for part in store.missing_parts():
        numbers = store.part_range(part)
        rest = itertools.dropwhile(lambda item, first=numbers[0]: item[0] < first, documents)  # type: ignore[misc] # mypy can't type a lambda's default
        tokenised = list(
            tokenise(itertools.islice(rest, len(numbers)), classifier.tokenizer, classifier.max_length)
        )
        if [d.number for d in tokenised] != list(numbers):
            raise DataError(f"{source.name} has changed while it was read: part {part} lacks documents")
        yield part, list(plan_batches(tokenised, classifier.batch_tokens, padded=classifier.padded))


def _write_parts(
    store: Store,
    config: RunConfig,
    classifier: Classifier,
    parts: Iterator[tuple[int, list[Batch]]],
    stop: threading.Event,
) -> Iterator[tuple[Batch, Reduced]]:
    """Run every part through the classifier and write it; yields each batch as it comes out.

    A part is written while the next one is computed. What has been computed is written even if `stop` is set
    or the caller ends the generator between parts.
    """
    normalise = word_normaliser(classifier.tokenizer)

    def write(part: int, results: list[tuple[Batch, Reduced]]) -> None:
        tables = part_tables(store.manifest, results, normalise, full_precision=config.full_precision)
        store.write_part(part, tables.documents, tables.tokens)

    with memory.kept(), ThreadPoolExecutor(1) as writer, _ahead(parts) as ready:
        written: Future[None] | None = None
        for part, batches in ready:
            if stop.is_set():
                break
            results = []
            for number, batch in enumerate(batches, start=1):
                for result in classifier.pieces(batch):
                    results.append(result)
                    yield result
                if number % _BATCHES_KEPT == 0:
                    memory.give_back()
            if written is not None:
                written.result()  # at most one part waits to be written, and its error ends the run
            written = writer.submit(write, part, results)
        if written is not None:
            written.result()


@contextmanager
def _ahead(items: Iterator[T], depth: int = 1) -> Iterator[Iterator[T]]:
    """Run an iterator in a thread of its own, `depth` items ahead of its reader; its errors reach the reader."""
    line: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    gone = threading.Event()

    def put(item: tuple[T | None, BaseException | None]) -> bool:
        while not gone.is_set():
            try:
                line.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def fill() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
        except BaseException as error:  # whatever it is belongs to the reader
            put((None, error))
        else:
            put((None, StopIteration()))

    def read() -> Iterator[T]:
        while True:
            item, error = line.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc] # an item without an error is a T

    thread = threading.Thread(target=fill, name="attnstore-ahead", daemon=True)
    thread.start()
    try:
        yield read()
    finally:
        gone.set()
        thread.join()
