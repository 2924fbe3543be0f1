"""Faithfulness: tokens are removed from documents in the order of a score, and the model reads the rest.

With c the predicted class and p its probability, for the k highest units of a document (DeYoung et al. 2020, "ERASER",
section 4): comprehensiveness is p(c | document) − p(c | without them), sufficiency is p(c | document) − p(c | only
them); the question computes the mean over k, the area over the perturbation curve (AOPC). A faithful score has a high
comprehensiveness and a low sufficiency. The rest is read as it is, from token ids: the model was not trained on texts
with words removed, so a random order is measured, too.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch

from attnstore.check.lexicon import Lexicon, read_lexicon
from attnstore.check.rankings import (
    DRAWS,
    Sample,
    draw_sample,
    lexicon_odds,
    log_odds,
    orders,
    score_columns,
    units_of,
)
from attnstore.config import FaithfulnessConfig, RunConfig, SourceConfig
from attnstore.data.documents import Document
from attnstore.engine.batches import TokenisedDocument, plan_batches, tokenise
from attnstore.engine.classifier import Classifier
from attnstore.engine.loading import load_classifier
from attnstore.engine.models import with_revision
from attnstore.engine.paths import memory
from attnstore.errors import ModelError, StoreError, UsageError
from attnstore.events import Computed, Noted, OnEvent, Started, ignore
from attnstore.interrupts import stop_on_interrupt
from attnstore.messages import counted, one_line
from attnstore.store import frames
from attnstore.store.faithfulness import (
    BASELINES,
    FOLDER,
    LEXICON,
    LOG_ODDS,
    RANDOM,
    SCHEMA,
    drop_damaged,
    measured_before,
    measurements,
    write_measurement,
)
from attnstore.store.lock import write_lock
from attnstore.store.store import Store

#: The percentages of units that are removed.
PERCENTS = (1, 5, 10, 20, 50)

#: Documents per file. A killed process loses less than one file.
_A_FILE = 100

#: How far a document's probability may be from the stored one, because the dtype may differ from the run's.
_NEAR = 0.2

#: How many batches are planned at once, so that few are not full.
_PLANNED = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured. `new`, `tokens` (read by the model) and `seconds` describe only this call.

    `interrupted`: documents of the sample are missing; `signal` is the number of the interrupting signal.
    """

    sample: Sample
    scores: list[str]
    new: int
    tokens: int
    seconds: float
    interrupted: bool
    signal: int = 0


@dataclass(frozen=True, slots=True)
class _Task:
    """A document to measure. `scores`: by name (n,) float64. `predicted`: its class's number, of that `probability`."""

    document: TokenisedDocument
    units: np.ndarray  # (n,) int64, −1 for special tokens
    scores: dict[str, np.ndarray]
    predicted: int
    probability: float


def measure(store: Store, config: FaithfulnessConfig, *, on_event: OnEvent = ignore) -> Measured:
    """Measure a sample of a sealed store's documents, and add what is new to its table `faithfulness`.

    Documents and scores that are in the table are not measured again: an interrupted run continues, and a larger
    sample or other scores add to it.

    Raises:
        UsageError: there is no such score or split, no document, or no mask token.
        ModelError: the model is missing, or not the run's.
        StoreError: the store is not sealed, is being written, or can't be read or written.
    """
    if not store.sealed:
        raise StoreError(
            f"{store.path} is not sealed: `attnstore run` with the same options finishes it first"
        )
    columns = score_columns(store.manifest, config.scores)
    scores = [*columns, RANDOM, LOG_ODDS]
    sample = draw_sample(store, config.documents, config.split, config.seed)

    lexicon = None
    if config.lexicon is not None:
        lexicon = _lexicon(store, config.lexicon, on_event)
        scores.append(LEXICON)

    def stopping(why: str) -> None:
        on_event(Noted(f"{why}: what is measured is written first; a second signal ends it at once"))

    with write_lock(store.path), stop_on_interrupt(stopping) as stop:
        damaged = drop_damaged(store)
        missing = _missing(store, config, sample, scores)
        if (earlier := measured_before(store)) is not None:
            damaged = [
                *damaged,
                f"what was measured when the store had {earlier:,} documents stays in the table, beside this sample",
            ]
        on_event(Started(len(sample.documents), (*_notes(sample, config, lexicon), *damaged)))
        if not missing:
            return Measured(sample, scores, 0, 0, 0.0, interrupted=False)
        classifier = classifier_of(store, config)
        for note in classifier.notes:
            on_event(Noted(note))
        began, tokens, new = time.perf_counter(), 0, 0
        before = len(sample.documents) - len(missing)
        odds = log_odds(store, [n for n, names in missing.items() if LOG_ODDS in names])
        of_lexicon = None if lexicon is None else lexicon_odds(lexicon)
        settings = _settings(store, config, classifier, scores, lexicon)
        with memory.kept():
            numbers = list(missing)
            for start in range(0, len(numbers), _A_FILE):
                wanted = {n: missing[n] for n in numbers[start : start + _A_FILE]}
                tasks = _tasks(store, config, classifier, wanted, odds, of_lexicon)
                tables: list[pa.Table] = []
                for group in _groups(tasks, classifier.batch_tokens):
                    if stop.is_set():
                        break
                    table, read = _measured(group, classifier, config)
                    tables.append(table)
                    tokens, new = tokens + read, new + len(group)
                    for note in classifier.new_notes():
                        on_event(Noted(note))
                    on_event(Computed(before + new, len(sample.documents), tokens))
                    memory.give_back()
                if tables:
                    write_measurement(store, pa.concat_tables(tables).unify_dictionaries(), settings)
                if stop.is_set():
                    break
        seconds = time.perf_counter() - began
        return Measured(sample, scores, new, tokens, seconds, new < len(missing), stop.number)


def classifier_of(store: Store, config: FaithfulnessConfig) -> Classifier:
    """The run's model, loaded for classifying without reductions. Raises ModelError if it is missing or different."""
    name, revision = with_revision(config.model or store.manifest.model)
    run = RunConfig(
        SourceConfig("", pair=store.manifest.pairs),
        name,
        revision=revision,
        trust_remote_code=config.trust_remote_code,
        device=config.device,
        dtype=config.dtype,
        max_length=store.manifest.max_length,
        batch_tokens=config.batch_tokens,
    )
    try:
        classifier = load_classifier(run, ())
    except ModelError as error:
        advice = "" if config.model else ": give its new place with --model"
        raise ModelError(f"{error}{advice}") from error
    if classifier.model_sha256 != store.manifest.fingerprint["model_sha256"]:
        raise ModelError(f"{name} is not the run's model, its weights differ: give that model with --model")
    if config.by == "mask" and classifier.tokenizer.mask_token_id is None:
        raise UsageError(f"the tokenizer of {name} has no mask token: use --by deletion")
    return classifier


def _lexicon(store: Store, config: SourceConfig, on_event: OnEvent) -> Lexicon:
    """Other labelled data, without the store's documents. UsageError if the table has the score of other data."""
    texts = frames.collect(store, frames.documents(store).select("text"))["text"]
    lexicon = read_lexicon(config, store.manifest.labels, frozenset(texts), on_event)
    found, _ = measurements(store)
    if any(each.settings.get("lexicon") not in (None, lexicon.digest) for each in found):
        raise UsageError(
            f"{LEXICON} was measured with other data: give that, or remove {store.path / FOLDER} to measure again"
        )
    return lexicon


def _notes(sample: Sample, config: FaithfulnessConfig, lexicon: Lexicon | None) -> Iterator[str]:
    """Notes on how the sample was drawn, and what it could not include."""
    classes = ", ".join(f"{one_line(name)} {count:,}" for name, count in sample.by_class.items())
    whence = "all splits" if config.split == "all" else f"the split {one_line(config.split)}"
    yield (
        f"{counted(len(sample.documents), 'document')} drawn from {whence} by predicted class ({classes}), "
        f"seed {config.seed}"
    )
    if lexicon is not None:
        counted_ = ", ".join(f"{one_line(name)} {count:,}" for name, count in lexicon.sizes.items())
        out = (
            f"; {counted(lexicon.left_out, 'document')} that the store has left out"
            if lexicon.left_out
            else ""
        )
        yield f"{LEXICON}: log-odds of {len(lexicon.words):,} words in other data ({counted_}){out}"
    if sample.in_windows:
        yield f"{counted(sample.in_windows, 'document')} read in windows left out: no one pass gives their prediction"
    if sample.empty:
        yield f"{counted(sample.empty, 'document')} without any token but special ones left out"


def _missing(
    store: Store, config: FaithfulnessConfig, sample: Sample, scores: Sequence[str]
) -> dict[int, list[str]]:
    """For each document of the sample, the scores that the table does not have; none of those that it has all of."""
    done: set[tuple[int, str]] = set()
    if measurements(store)[0]:
        rows = frames.faithfulness(store).filter(pl.col("by") == config.by, pl.col("unit") == config.unit)
        done = set(frames.collect(store, rows.select("document", "score").unique()).iter_rows())
    wanted = {number: [name for name in scores if (number, name) not in done] for number in sample.documents}
    return {number: names for number, names in wanted.items() if names}


def _settings(
    store: Store,
    config: FaithfulnessConfig,
    classifier: Classifier,
    scores: Sequence[str],
    lexicon: Lexicon | None,
) -> dict[str, Any]:
    of_lexicon = {} if lexicon is None else {"lexicon": lexicon.digest}
    return of_lexicon | {
        "by": config.by,
        "unit": config.unit,
        "scores": list(scores),
        "documents": config.documents,
        "split": config.split,
        "seed": config.seed,
        "draws": DRAWS,
        "model": config.model or store.manifest.model,
        "model_sha256": classifier.model_sha256,
        "dtype": str(classifier.dtype).removeprefix("torch."),
        "device": str(classifier.device),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }


def _tasks(
    store: Store,
    config: FaithfulnessConfig,
    classifier: Classifier,
    missing: dict[int, list[str]],
    odds: pl.DataFrame,
    lexicon: pl.DataFrame | None,
) -> Iterator[_Task]:
    """The documents with their tokens as the store has them, in the order of their numbers."""
    manifest = store.manifest
    columns = dict.fromkeys(n for names in missing.values() for n in names if n not in BASELINES)
    chosen = pl.col("document").is_in(list(missing))
    tokens = (
        frames.tokens(store)
        .filter(chosen)
        .select(
            "document",
            "position",
            "token_id",
            "special",
            pl.col("token", "word", "prediction").cast(pl.String),
            pl.col("piece").fill_null(-1),
            "start",
            "end",
            *columns,
        )
        .join(odds.lazy(), on=["document", "word"], how="left")
        .sort("document", "position")
    )
    if lexicon is not None:
        tokens = tokens.join(lexicon.lazy(), on=["prediction", "word"], how="left", maintain_order="left")
    documents = (
        frames.documents(store)
        .filter(chosen)
        .select(
            *("document", "id", "text", "group", "split", "label", "probability"),
            *(["text_pair"] if manifest.pairs else []),
            pl.col("prediction").cast(pl.String),
        )
    )
    of_document = {row["document"]: row for row in frames.collect(store, documents).iter_rows(named=True)}
    for (number, *_), rows in frames.collect(store, tokens).group_by(["document"], maintain_order=True):
        row = of_document[int(str(number))]
        special, piece = rows["special"].to_numpy(), rows["piece"].to_numpy()
        scores = {}
        for name in missing[row["document"]]:
            # A token outside words is not evidence for a class.
            column = LEXICON if name == LEXICON else LOG_ODDS
            values = rows[name] if name not in BASELINES else rows[column].fill_null(0)
            scores[name] = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        second = row.get("text_pair")
        document = TokenisedDocument(
            number=row["document"],
            document=Document(
                row["text"], row["id"], row["group"], row["split"], row["label"], text_pair=second
            ),
            ids=rows["token_id"].to_numpy(),
            vocabulary=classifier.tokenizer.convert_ids_to_tokens,
            start=rows["start"].to_numpy(),
            end=rows["end"].to_numpy(),
            special=special,
            truncated=False,
            places=np.arange(len(rows)),
        )
        if second is not None:
            document = _with_types(document, classifier)
        units = units_of(special, piece, config.unit)
        yield _Task(document, units, scores, manifest.labels.index(row["prediction"]), row["probability"])


def _with_types(document: TokenisedDocument, classifier: Classifier) -> TokenisedDocument:
    """A pair with its token types, which are not stored: as the tokenizer makes it. ModelError for other tokens."""
    (made,) = tokenise([(document.number, document.document)], classifier.tokenizer, classifier.max_length)
    if not np.array_equal(made.ids, document.ids):
        raise ModelError(
            f"the tokenizer of {classifier.name} makes other tokens of document {document.document.id} than are stored"
        )
    return replace(document, segment=made.segment, types=made.types)


def _groups(tasks: Iterator[_Task], batch_tokens: int) -> Iterator[list[_Task]]:
    """Groups of documents whose shortened versions fill some batches."""
    group: list[_Task] = []
    expected = 0
    for task in tasks:
        group.append(task)
        # Two versions for each fraction, which together have as many tokens as the document and its special ones.
        expected += len(PERCENTS) * task.document.length * (len(task.scores) + DRAWS)
        if expected >= _PLANNED * batch_tokens:
            yield group
            group, expected = [], 0
    if group:
        yield group


def _measured(
    group: Sequence[_Task], classifier: Classifier, config: FaithfulnessConfig
) -> tuple[pa.Table, int]:
    """The rows of some documents, and how many tokens the model read for them."""
    mask = classifier.tokenizer.mask_token_id if config.by == "mask" else None
    versions: list[TokenisedDocument] = []
    places: dict[tuple[int, bytes], int] = {}

    def place(task: _Task, kept: np.ndarray) -> int:
        """The row of a document's version with these tokens (n,) bool; each version is read once."""
        key = task.document.number, kept.tobytes()
        if key not in places:
            places[key] = len(versions)
            versions.append(_version(task.document, kept, mask, len(versions)))
        return places[key]

    rows: list[tuple[Any, ...]] = []
    for task in group:
        whole = place(task, np.ones(task.document.length, dtype=np.bool_))
        count = int(task.units.max()) + 1
        special = task.units < 0
        for name, draw, order in orders(task.scores, task.units, task.document.number, config.seed):
            for percent in PERCENTS:
                removed = -(-percent * count // 100)
                chosen = np.zeros(count, dtype=np.bool_)
                chosen[order[:removed]] = True
                taken = chosen[task.units] & ~special
                rest, alone = place(task, ~taken), place(task, special | taken)
                rows.append((task, name, draw, percent / 100, removed, count, whole, rest, alone))
    probabilities = _probabilities(classifier, versions)
    predicted = probabilities.argmax(axis=1)
    if not rows:
        return SCHEMA.empty_table(), sum(version.length for version in versions)
    tasks, names, draws, fractions, removed_, counts, wholes, rests, alones = zip(*rows, strict=True)
    classes = np.array([task.predicted for task in tasks])
    p = probabilities[list(wholes), classes]
    for task, found in zip(tasks, p.tolist(), strict=True):
        if abs(found - task.probability) > _NEAR:
            raise ModelError(
                f"the model gives document {task.document.document.id} the probability {found:.3f}, the store has "
                f"{task.probability:.3f}: `attnstore verify` finds the fault"
            )
    of_rest, of_alone = probabilities[list(rests), classes], probabilities[list(alones), classes]
    n = len(rows)
    columns = {
        "document": pa.array([task.document.number for task in tasks], pa.int32()),
        "score": pa.array(names, pa.string()).dictionary_encode(),
        "draw": pa.array(draws, pa.int16()),
        "by": pa.array([config.by] * n, pa.string()).dictionary_encode(),
        "unit": pa.array([config.unit] * n, pa.string()).dictionary_encode(),
        "fraction": pa.array(fractions, pa.float64()),
        "removed": pa.array(removed_, pa.int32()),
        "units": pa.array(counts, pa.int32()),
        "probability": pa.array(p.astype(np.float32)),
        "comprehensiveness": pa.array((p - of_rest).astype(np.float32)),
        "sufficiency": pa.array((p - of_alone).astype(np.float32)),
        "flipped": pa.array(predicted[list(rests)] != classes),
    }
    table = pa.Table.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)
    return table, sum(version.length for version in versions)


def _version(
    document: TokenisedDocument, kept: np.ndarray, mask: int | None, number: int
) -> TokenisedDocument:
    """The document with only these tokens (n,) bool, or with the token `mask` in place of the others."""
    if mask is not None:
        return replace(document, number=number, ids=np.where(kept, document.ids, mask).astype(np.int32))
    places = np.flatnonzero(kept)
    return replace(
        document,
        number=number,
        ids=document.ids[places],
        start=document.start[places],
        end=document.end[places],
        special=document.special[places],
        places=places,
        segment=None if document.segment is None else document.segment[places],
        types=None if document.types is None else document.types[places],
    )


def _probabilities(classifier: Classifier, versions: Sequence[TokenisedDocument]) -> np.ndarray:
    """(versions, classes) float64: the softmax of the logits; `number` is a version's row. ModelError for NaN."""
    found = np.empty((len(versions), len(classifier.labels)))
    for batch in plan_batches(versions, classifier.batch_tokens, padded=classifier.padded):
        for piece, reduced in classifier.pieces(batch):
            rows = [version.number for version in piece.documents]
            found[rows] = torch.softmax(reduced.logits.double(), dim=-1).numpy()
    if not np.isfinite(found).all():
        first = versions[int(np.argmin(np.isfinite(found).all(axis=1)))]
        raise ModelError(
            f"the model gives no finite logits for document {first.document.id} without some of its tokens: take "
            "--dtype float32"
        )
    return found
