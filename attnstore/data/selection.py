"""Decides which documents are taken, and reports what is left out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from attnstore.data.documents import Document, Noticed, Rejected, Source
from attnstore.data.labels import LabelMap
from attnstore.data.survey import MAX_LISTED, Survey
from attnstore.errors import DataError
from attnstore.messages import one_line, quoted

MAX_LABELS_NAMED = 50  # how many left-out labels are counted one by one


def count_documents(found: Survey, labels: LabelMap, limit: int | None = None) -> int:
    """How many documents `read_documents` yields."""
    usable = found.documents - sum(_left_out(found, labels).values())
    return usable if limit is None else min(limit, usable)


def read_documents(
    source: Source, found: Survey, labels: LabelMap, limit: int | None = None
) -> Iterator[Document]:
    """The documents with the model's labels. A document's number is its position in this stream.

    Rows whose label has no class are left out. Of N documents, `limit` takes number i·N // limit for i = 0, 1, ...,
    limit - 1: IMDb is sorted by label, so its first documents all have one class. Raises DataError if the source no
    longer has what `found` counted.
    """
    usable = count_documents(found, labels)
    wanted = count_documents(found, labels, limit)
    position = taken = 0
    for item in source if found.held is None else found.held:
        if isinstance(item, Rejected | Noticed) or (
            item.label is not None and item.label not in labels.mapping
        ):
            continue
        if position == taken * usable // wanted:
            taken += 1
            yield item if item.label is None else replace(item, label=labels.mapping[item.label])
            if taken == wanted:
                return
        position += 1
    if taken < wanted:
        raise DataError(
            f"{one_line(source.name)} changed while it was read: {usable:,} documents before, {position:,} now"
        )


@dataclass(frozen=True, slots=True)
class Rejections:
    """Rows that did not become documents: counts by reason, and the positions of the first 1,000."""

    counts: dict[str, int]
    rows: tuple[str, ...]


def rejections(found: Survey, labels: LabelMap, strict: bool = False) -> Rejections:
    """The rows left out, by reason. Each label without a class is a separate reason.

    With `strict`, any such row raises a DataError that names the first, except rows with labels that the user excluded.
    """
    counts = dict(found.rejected)
    rows = list(found.rejected_rows)
    left_out = _left_out(found, labels)
    unknown = {raw: count for raw, count in left_out.items() if raw not in labels.dismissed}
    for number, (raw, count) in enumerate(left_out.items()):
        what = "unknown label" if raw in unknown else "by --labels, label"
        reason = f"{what} {quoted(raw)}" if number < MAX_LABELS_NAMED else "other labels"
        counts[reason] = counts.get(reason, 0) + count
    rows += [
        f"{id_}: unknown label {quoted(raw)}" for raw in unknown for id_ in found.ids_by_label.get(raw, ())
    ]
    total = sum(found.rejected.values()) + sum(unknown.values())
    if strict and total:
        first = rows[0] if rows else f"label {quoted(next(iter(unknown)))} is unknown"
        others = f", and {total - 1:,} more rows were rejected" if total > 1 else ""
        raise DataError(f"{one_line(first)}{others}: fix the data, or leave --strict out to skip such rows")
    return Rejections(counts, tuple(rows[:MAX_LISTED]))


def _left_out(found: Survey, labels: LabelMap) -> dict[str, int]:
    return {raw: count for raw, count in found.labels.items() if raw not in labels.mapping}
