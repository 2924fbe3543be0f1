"""A run as the manifest describes it: before it begins, and each time that it starts."""

import platform
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Self, get_args

import attnstore
from attnstore.config import Long, RunConfig
from attnstore.data.documents import Source
from attnstore.data.labels import LabelMap
from attnstore.data.selection import count_documents, rejections
from attnstore.data.survey import Survey
from attnstore.engine.classifier import Classifier
from attnstore.engine.devices import hardware
from attnstore.engine.segmenter import Segmenter
from attnstore.errors import DataError, UsageError
from attnstore.messages import listed, quoted
from attnstore.pipeline.options import options_of
from attnstore.store.manifest import Manifest, StoredReduction
from attnstore.store.partitions import label_fits_in_path
from attnstore.store.schema import documents_schema

#: A part has at least this many documents (IMDb reviews, for example, take less than a minute) or, if they are short,
#: as many as have this much text.
_LEAST_OF_A_PART, _MOST_OF_A_PART = 1_000, 100_000
_CHARACTERS_OF_A_PART = 1_000_000
#: The default limit of parts, because opening a store reads the names of all their files.
_MOST_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What a run must know of its model, as plain values, because only a worker may have the model.

    `reductions`, each with its `identities`, are those that the model supports; `threads` and `hardware` are what it
    computes on; `batch_tokens` is known to fit into memory.
    """

    labels: tuple[str, ...]
    layers: int
    heads: int
    max_length: int
    stride: int | None
    model_sha256: str
    tokenizer_sha256: str
    words: str
    reductions: tuple[StoredReduction, ...]
    identities: tuple[str, ...]
    dtype: str
    device: str
    hardware: str
    threads: int
    way: str
    kernel: str
    batch_tokens: int
    notes: tuple[str, ...]

    @classmethod
    def of(cls, classifier: Classifier, config: RunConfig, segmenter: Segmenter, threads: int) -> Self:
        """Raises UsageError for windows between which tokens would be left unread."""
        return cls(
            labels=classifier.labels,
            layers=classifier.layers,
            heads=classifier.heads,
            max_length=classifier.max_length,
            stride=stride_of(config, classifier),
            model_sha256=classifier.model_sha256,
            tokenizer_sha256=classifier.tokenizer_sha256,
            words=segmenter.name,
            reductions=tuple(r.stored for r in classifier.reductions),
            identities=tuple(r.identity or r.name for r in classifier.reductions),
            dtype=str(classifier.dtype).removeprefix("torch."),
            device=str(classifier.device),
            hardware=hardware(classifier.device),
            threads=threads,
            way=classifier.way,
            kernel=classifier.kernel,
            batch_tokens=classifier.room,
            notes=classifier.notes,
        )


def check(config: RunConfig) -> None:
    """Raise UsageError for invalid numbers, which `attnstore.run` may be given."""
    for name, value in (
        ("--part-size", config.part_size),
        ("--batch-tokens", config.batch_tokens),
        ("--limit", config.source.limit),
        ("--max-length", config.max_length),
        ("--stride", config.stride),
        ("--threads", config.threads),
        ("--workers", config.workers),
        ("--worker-timeout", config.worker_timeout),
    ):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UsageError(f"{name} {value}: it must be a whole number, at least 1")
    if config.long not in get_args(Long):
        raise UsageError(f"--long {config.long}: it is one of {', '.join(get_args(Long))}")
    if config.stride is not None and config.long != "windows":
        raise UsageError(f"--stride belongs to --long windows, not to --long {config.long}")
    if config.source.pair and config.long != "cut":
        raise UsageError(f"--pair: the two texts are cut, longest first: leave --long {config.long} out")
    positions = [r for r in config.reductions if isinstance(r, str) and r.startswith("from_")]
    if config.long != "cut" and positions:
        raise UsageError(
            f"{positions[0]} looks from a place in the document, which --long {config.long} moves: leave one out"
        )


def stride_of(config: RunConfig, classifier: Classifier) -> int | None:
    """The distance between the beginnings of two windows, in tokens; None without windows.

    Raises UsageError for windows between which tokens would be left unread.
    """
    if config.long != "windows":
        return None
    room = classifier.max_length - len(classifier.tokenizer("").encodings[0].ids)
    if config.stride is not None and config.stride > room:
        raise UsageError(
            f"--stride {config.stride}: a window reads {room} tokens of a text here, and with a larger step some would"
            " be left unread"
        )
    return config.stride or max(1, room // 2)


def describe(
    config: RunConfig,
    source: Source,
    found: Survey,
    labels: LabelMap,
    model: LoadedModel,
) -> Manifest:
    """The manifest of a run that is about to begin. Raises DataError if it has no documents at all."""
    rejected = rejections(found, labels, config.source.strict)
    documents = count_documents(found, labels, config.source.limit)
    if not documents:
        reasons = (
            ", ".join(f"{count} {reason}" for reason, count in rejected.counts.items()) or "it has no rows"
        )
        raise DataError(f"{source.name} has no document to read: {reasons}")
    used = sorted({labels.mapping[raw] for raw in found.labels if raw in labels.mapping})
    label_note = [labels.note] if labels.note else []
    of_one = [r.name for r in model.reductions if r.of_one_prediction]
    of_windows = (
        [
            f"documents read in several windows have no {listed(of_one)} (null): each window has its own prediction"
        ]
        if config.long == "windows" and of_one
        else []
    )
    manifest = Manifest(
        fingerprint={
            "model_sha256": model.model_sha256,
            "tokenizer_sha256": model.tokenizer_sha256,
            "data_sha256": found.sha256,
            "split": config.source.split,
            "limit": config.source.limit,
            "labels": list(labels.model_labels),
            "labels_are_models": labels.are_models,
            "label_map": label_map(found, labels),
            "max_length": model.max_length,
            "kept": [f"{name}: {type_}" for name, type_ in found.kept.items()],
            "pair": config.source.pair,
            "long": config.long,
            "stride": model.stride,
            "words": model.words,
            "reductions": list(model.identities),
            "dtype": model.dtype,
            "values": "float32" if config.full_precision else "bfloat16",
        },
        documents=documents,
        part_size=config.part_size or part_size_of(found),
        labels=labels.model_labels,
        label_in_path=label_fits_in_path([*used, *([None] if found.unlabelled else [])]),
        labels_are_models=labels.are_models,
        layers=model.layers,
        heads=model.heads,
        reductions=model.reductions,
        max_length=model.max_length,
        model=config.model if config.revision is None else f"{config.model}@{config.revision}",
        data=source.name,
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        rejected=rejected.counts,
        rejected_rows=rejected.rows,
        kept=dict(found.kept),
        options=options_of(
            config, {"dtype": model.dtype, "max_length": model.max_length, "stride": model.stride}
        ),
        notes=(*source.notes, *found.notes, *label_note, *of_windows, *model.notes),
        threads=model.threads if model.device == "cpu" else None,
    )
    _must_be_free(manifest)
    return manifest


def part_size_of(found: Survey) -> int:
    """How many documents a part has: enough that no store has thousands of tiny files."""
    of_text = _CHARACTERS_OF_A_PART * found.documents // max(found.characters, 1)
    of_many = -(-found.documents // (_MOST_PARTS * _LEAST_OF_A_PART)) * _LEAST_OF_A_PART
    return max(
        _LEAST_OF_A_PART, min(of_text, _MOST_OF_A_PART) // _LEAST_OF_A_PART * _LEAST_OF_A_PART, of_many
    )


def _must_be_free(manifest: Manifest) -> None:
    """Raise UsageError for a kept column that would hide one of the store's, or that SQL can't name."""
    own = documents_schema(replace(manifest, kept={})).names
    taken = {
        name.casefold() for name in (*own, "text_pair", "split", "label", "class", "cluster", "attention")
    }
    for name in manifest.kept:
        if not name.strip() or not name.isprintable():
            raise UsageError(f"--keep-column {quoted(name)}: give the column a plain name in the data")
        if name.casefold() in taken:
            raise UsageError(
                f"--keep-column {quoted(name)}: documents has a column of that name; give the data's another one"
            )
        taken.add(name.casefold())


def label_map(found: Survey, labels: LabelMap) -> list[str]:
    """The labels that are stored under another name, or not at all: `1=neg`, `3=`."""
    stored = {raw: labels.mapping.get(raw, "") for raw in found.labels}
    return sorted(f"{raw}={name}" for raw, name in stored.items() if name != raw)


def versions() -> dict[str, str]:
    """The versions of the software that computes and writes."""
    packages = ("torch", "transformers", "tokenizers", "regex", "pyarrow", "duckdb", "polars")
    return {
        "attnstore": attnstore.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def this_run(model: LoadedModel, workers: int, parts: int, tokens: int, seconds: float) -> dict[str, Any]:
    """The manifest's entry for each start of a run."""
    return {
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": parts,
        "tokens": tokens,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / seconds),
        "workers": workers,
        "threads": model.threads,
        "device": model.device,
        "dtype": model.dtype,
        "way": model.way,
        "kernel": model.kernel,
        "batch_tokens": model.batch_tokens,
        "machine": f"{platform.machine()} {platform.system()}",
    }
