"""A source read through once: its contents, counted, and its hash."""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from attnstore.data.class_names import ClassNames
from attnstore.data.documents import Document, Noticed, Rejected, Source
from attnstore.data.kept import TypeFinder
from attnstore.data.streams import reading
from attnstore.data.table_sets import MAX_LABELS
from attnstore.errors import DataError
from attnstore.events import OnEvent, Surveyed, ignore
from attnstore.messages import counted, one_line, quoted

MAX_LISTED = 1000  # rejected rows reported one by one
_TOLD_EVERY = 100  # documents
#: The most bytes of texts that a survey keeps in memory: such a source is read only once.
_HELD = 1 << 26
MAX_REMEMBERED = 100_000  # ids checked for repetitions; ids kept to name the rows of unknown labels


@dataclass(frozen=True, slots=True)
class Survey:
    """A source read through once.

    `labels` counts the source's own labels, `unlabelled` the documents without one; `labels_elsewhere` are labels that
    only other splits have. `rejected` counts by reason, and `rejected_rows` gives positions (the first 1,000).
    `ids_by_label` has the ids of some documents of each label, to name rows if the label proves unknown. `kept` has
    the type of each column that the documents keep, `characters` counts the characters of all texts. `held` is
    everything that the source yielded, if that is little, so that it need not be read again; else None. `sha256`
    covers split, id, group, label, text, kept columns and the second text of a pair, of all documents in order, each
    preceded by its length: a folder and an archive with the same data have the same hash.
    """

    documents: int
    labels: Mapping[str, int]
    unlabelled: int
    rejected: Mapping[str, int]
    rejected_rows: tuple[str, ...]
    sha256: str
    notes: tuple[str, ...] = ()
    class_names: ClassNames | None = None
    labels_elsewhere: tuple[str, ...] = ()
    ids_by_label: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    kept: Mapping[str, str] = field(default_factory=dict)
    characters: int = 0
    held: tuple[Document | Rejected | Noticed, ...] | None = field(default=None, repr=False, compare=False)


def survey(source: Source, on_event: OnEvent = ignore) -> Survey:
    """Read the whole source once and count. Raises DataError if it has no document, or no classes.

    `on_event` gets `Surveyed` meanwhile.
    """
    labels, rejected, noticed = Counter[str](), Counter[str](), Counter[str]()
    first_noticed: dict[str, str] = {}
    rows: list[str] = []
    ids_by_label: dict[str, list[str]] = {}
    remembered = unlabelled = documents = empty = characters = 0
    seen: set[str] = set()
    repeated: str | None = None
    digest = hashlib.sha256()
    types = TypeFinder(len(source.kept))
    held: list[Document | Rejected | Noticed] = []
    for item in _holding(held, source):
        if isinstance(item, Rejected):
            rejected[item.reason] += 1
            if len(rows) < MAX_LISTED:
                rows.append(f"{item.where}: {item.reason}")
            continue
        if isinstance(item, Noticed):
            noticed[item.what] += 1
            first_noticed.setdefault(item.what, item.where)
            continue
        documents += 1
        if documents % _TOLD_EVERY == 1:
            on_event(Surveyed(documents, None))
        empty += not item.text.strip()
        characters += len(item.text) + len(item.text_pair or "")
        digest.update(_digestible(item))
        types.add(item.kept)
        if repeated is None and documents <= MAX_REMEMBERED:
            repeated = item.id if item.id in seen else None
            seen.add(item.id)
        if item.label is None:
            unlabelled += 1
            continue
        labels[item.label] += 1
        if labels[item.label] == 1 and len(labels) > MAX_LABELS:
            raise _no_classes(source, item.label)
        ids = ids_by_label.setdefault(item.label, [])
        if len(ids) < MAX_LISTED and remembered < MAX_REMEMBERED:
            ids.append(item.id)
            remembered += 1
    if not documents:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected.most_common())
        raise DataError(
            f"{one_line(source.name)} holds no document"
            + (f": all rows rejected ({reasons})" if reasons else "")
        )
    on_event(Surveyed(documents, documents))
    notes = [
        f"{counted(count, 'row')} {'was' if count == 1 else 'were'} {what} (the first {first_noticed[what]})"
        for what, count in noticed.items()
    ]
    if repeated is not None:
        notes.append(f"ids repeat: {quoted(repeated)} is the id of more than one document")
    if empty:
        notes.append(f"{empty:,} of {documents:,} texts are empty: they are documents without a word")
    return Survey(
        documents=documents,
        labels=dict(labels),
        unlabelled=unlabelled,
        rejected=dict(rejected),
        rejected_rows=tuple(rows),
        sha256=digest.hexdigest(),
        notes=tuple(notes),
        class_names=source.class_names,
        labels_elsewhere=_elsewhere(source, labels),
        ids_by_label={label: tuple(ids) for label, ids in ids_by_label.items()},
        kept=dict(zip(source.kept, types.types(), strict=True)),
        characters=characters,
        held=tuple(held) or None,
    )


def _holding(
    held: list[Document | Rejected | Noticed], source: Source
) -> Iterator[Document | Rejected | Noticed]:
    """What the source yields; at the end `held` has all of it, or nothing if it is too much."""
    room = _HELD
    for item in source:
        room -= _size(item) if room >= 0 else 0
        if room >= 0:
            held.append(item)
        else:
            held.clear()
        yield item


def _size(item: Document | Rejected | Noticed) -> int:
    """About how many bytes it takes in memory."""
    if not isinstance(item, Document):
        return 1 << 8
    texts = (item.text, item.text_pair, *item.kept)
    return (1 << 9) + sum(sys.getsizeof(text) for text in texts if text is not None)


def _elsewhere(source: Source, labels: Mapping[str, int]) -> tuple[str, ...]:
    """The labels that only other splits have. Raises DataError if they are not classes."""
    found: dict[str, None] = {}
    with reading(source.name):
        for label in source.labels_elsewhere():
            if label not in labels:
                found[label] = None
                if len(labels) + len(found) > MAX_LABELS:
                    raise _no_classes(source, label)
    return tuple(found)


def _no_classes(source: Source, last: str) -> DataError:
    return DataError(
        f"{one_line(source.name)} has more than {MAX_LABELS:,} labels, the last {quoted(last)}: "
        "these are not classes; name another column with --label-column"
    )


def _digestible(document: Document) -> bytes:
    parts = []
    kept = (None if value is None else str(value) for value in document.kept)
    second = () if document.text_pair is None else (document.text_pair,)
    for value in (document.split, document.id, document.group, document.label, document.text, *kept, *second):
        if value is None:
            parts.append(b"\xff" * 8)  # impossible as a length
        else:
            encoded = value.encode()
            parts += (len(encoded).to_bytes(8, "little"), encoded)
    return b"".join(parts)
