"""Predictions by label: they show the user which label is which class if no rule can decide it."""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from attnstore.messages import counted, one_line
from attnstore.store.frames import collect, documents
from attnstore.store.store import Store

_LABELS = 12  # labels shown
_CLASSES = 8  # with more classes, only each label's most frequent predictions are shown
_MOST = 3


def predictions_by_label(store: Store) -> dict[tuple[str, str], int]:
    """The documents with a label, by (label, prediction), sorted; pairs without documents are left out.

    Raises:
        StoreError: a file of the store can't be read.
    """
    columns = [pl.col("label", "prediction").cast(pl.String)]
    cells = documents(store).select(columns).drop_nulls().group_by("label", "prediction").len()
    rows = collect(store, cells).sort("label", "prediction").iter_rows()
    return {(label, prediction): count for label, prediction, count in rows}


def cross_table(counts: Mapping[tuple[str, str], int], classes: Sequence[str]) -> Iterator[str]:
    """The lines of a table of labels (rows) and predictions; of many classes, each label's most frequent ones."""
    labels = list(dict.fromkeys(label for label, _ in counts))
    shown = labels[:_LABELS]
    width = max(len("label"), *(len(_cell(label)) for label in shown))
    if len(classes) <= _CLASSES:
        heads = [_cell(name) for name in classes]
        yield "  ".join(["label".ljust(width), *heads])
        for label in shown:
            cells = (
                f"{counts.get((label, name), 0):,}".rjust(len(head))
                for name, head in zip(classes, heads, strict=True)
            )
            yield "  ".join([_cell(label).ljust(width), *cells])
    else:
        for label in shown:
            most = sorted(classes, key=lambda name, label=label: -counts.get((label, name), 0))[:_MOST]  # type: ignore[misc] # mypy can't type a lambda's default
            said = (f"{_cell(name)} {count:,}" for name in most if (count := counts.get((label, name), 0)))
            yield f"{_cell(label).ljust(width)}  {', '.join(said)}"
    if len(labels) > _LABELS:
        yield f"and {counted(len(labels) - _LABELS, 'more label')}"


def _cell(name: str) -> str:
    return one_line(name)[:24]
