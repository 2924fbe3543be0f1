"""A store's facts, one per line, for `attnstore info` and for an open store."""

import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from attnstore.messages import counted
from attnstore.show.fitted import shortened
from attnstore.show.markup import render
from attnstore.store.faithfulness import measured_before
from attnstore.store.manifest import Manifest
from attnstore.store.stage import unfinished_append
from attnstore.store.store import Store
from attnstore.visible import visible_line

#: The facts on the card; `attnstore info` shows all.
_CARD = frozenset(
    {"store", "state", "appending", "documents", "tokens", "model", "classes", "data", "appended", "labels"}
    | {"reduction"}
)

_HINT = ".queries() lists the questions, .query.NAME() asks one, .show(0) draws text"


def facts(store: Store) -> Iterator[tuple[str, str]]:
    """All facts, as (name, value); a name may occur several times."""
    manifest = store.manifest
    finished = store.finished_parts()
    files, size = store.count_and_bytes()  # first: if it can't be read, there are no facts
    yield "store", str(store.path)
    if manifest.sealed:
        yield "state", f"sealed {manifest.sealed}"
    else:
        yield (
            "state",
            f"unsealed: {len(finished)} of {manifest.parts} parts; `attnstore run` with the same options resumes",
        )
    yield from _coming(store)
    yield "documents", f"{store.rows('documents'):,} of {manifest.documents:,}"
    longer = "cut" if manifest.long == "cut" else f"read by --long {manifest.long}"
    yield "tokens", f"{store.rows('tokens'):,}, documents of more than {manifest.max_length} are {longer}"
    if manifest.pairs:
        yield "texts", "two per document, text and text_pair: a pair for the model"
    yield "size", f"{size / 1e6:,.1f} MB in {counted(files, 'file')}"
    yield "model", f"{manifest.model} ({manifest.layers} layers, {manifest.heads} heads)"
    yield "classes", ", ".join(manifest.labels)
    split = manifest.fingerprint.get("split")
    yield "data", manifest.data + ("" if split is None else f", split {split}")
    for addition in manifest.additions:
        split = addition.fingerprint.get("split")
        where = addition.data + ("" if split in (None, "all") else f", split {split}")
        yield "appended", f"{counted(addition.documents, 'document')} of {where}, {addition.sealed}"
    if not manifest.labels_are_models:
        yield "labels", "none, or not the model's classes: no accuracy is reported"
    dtype, values = (manifest.fingerprint.get(name, "unknown") for name in ("dtype", "values"))
    yield "words", f"by {manifest.fingerprint.get('words', 'rules unknown')}, lower-cased"
    yield "values", f"computed in {dtype}, stored as {values}"
    for reduction in manifest.reductions:
        columns = reduction.columns(manifest.layers)
        span = columns[0] if len(columns) == 1 else f"{columns[0]} … {columns[-1]}"
        yield "reduction", f"{span}: {reduction.meaning}"
    if (before := measured_before(store)) is not None:
        yield "faithfulness", f"drawn from the first {before:,} documents, before others were appended"
    for past in manifest.runs:
        yield "run", _past_run(past)
    for reason, count in manifest.rejected.items():
        yield "left out", f"{reason}: {counted(count, 'row')}"
    for note in manifest.notes:
        yield "note", note
    yield from _of_additions(manifest)
    yield "versions", ", ".join(f"{name} {number}" for name, number in manifest.versions.items())


def _coming(store: Store) -> Iterator[tuple[str, str]]:
    """What is being appended, or was begun and is not finished."""
    if store.sealed and (coming := unfinished_append(store)) is not None:
        addition = coming.additions[-1]
        yield (
            "appending",
            f"{counted(addition.documents, 'document')} of {addition.data}, begun {addition.created}; until all are"
            " there the store is as it was; where that was interrupted, the same `attnstore append` goes on",
        )


def _of_additions(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """What an append left out, and its notes."""
    for addition in manifest.additions:
        for reason, count in addition.rejected.items():
            yield "left out", f"{reason}: {counted(count, 'row')} of {addition.data}"
        for note in addition.notes:
            yield "note", f"{addition.data}: {note}"


def _past_run(past: Mapping[str, Any]) -> str:
    """An entry of `Manifest.runs` in words; if another program wrote it, whatever it has."""
    try:
        speed = f"{past['tokens']:,} tokens at {past['tokens_per_second']:,} tokens/s"
        workers = f"{past['workers']} workers, " if past.get("workers", 1) > 1 else ""
        way = f"{workers}{past['device']}, {past['way']}, {past['kernel']}"
        return f"{past['ended']}: {counted(past['parts'], 'part')}, {speed} on {way}"
    except (KeyError, TypeError, ValueError):
        return ", ".join(f"{name} {value}" for name, value in past.items())


def card(store: Store) -> str:
    """The store in a few lines that fit the terminal: its model and data, and what to ask."""
    width = shutil.get_terminal_size().columns
    lines = [f"{name + ':':<11} {visible_line(value)}" for name, value in _first(store)]
    return "\n".join(str(shortened(line, width)) for line in [*lines, _HINT])


def card_html(store: Store) -> str:
    """The same for a notebook."""
    return render("card.html", facts=list(_first(store)), hint=_HINT)


def _first(store: Store) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in facts(store) if name in _CARD)
