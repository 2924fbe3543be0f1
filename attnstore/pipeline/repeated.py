"""Documents that a store already has: found by their ids among new ones, and left out if they are identical.

An id is a key, if the data has keys. If it is the row of a file, another file with the same name has the same id for
another text. So a document counts as identical only if all its data are equal: split, label, group, text, and the kept
columns.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnstore.config import OnDuplicate
from attnstore.data.documents import Document, Noticed, Rejected, Source
from attnstore.data.kept import as_type
from attnstore.data.labels import LabelMap
from attnstore.data.selection import read_documents
from attnstore.data.survey import Survey
from attnstore.errors import DataError, UsageError
from attnstore.messages import counted, listed, one_line, quoted
from attnstore.store.known import documents_of
from attnstore.store.store import Store


@dataclass(frozen=True, slots=True)
class _New:
    """A new document: its position among those that can be taken, and its digests."""

    place: int
    text: bytes
    rest: bytes


def without_repeated(
    store: Store, source: Source, found: Survey, labels: LabelMap, limit: int | None, policy: OnDuplicate
) -> tuple[Source, int]:
    """The source without the documents that the store has, and their number. Reads the source once.

    `refuse`: no document may have an id that is in the store. `skip`: identical documents are left out, also the
    second of two in the source; a different document with the same id is refused. `keep`: all are taken.

    Raises:
        UsageError: an id is already in the store and refused, or a kept column has values that do not have its type in
            the store.
        StoreError: the store can't be read.
    """
    # --limit leaves documents out; but skipping chooses from all documents.
    taken = None if policy == "skip" else limit
    new: dict[str, list[_New]] = {}
    for place, document in enumerate(read_documents(source, found, labels, taken)):
        new.setdefault(document.id, []).append(_known_by(store, document, place))
    if policy == "keep":
        return source, 0
    there: dict[str, list[tuple[bytes, bytes]]] = {}
    for row in documents_of(store, new):
        there.setdefault(row["id"], []).append(_digests(row["text"], row["text_pair"], _rest(store, row)))
    others = {
        id_: "another text" if each.text not in {text for text, _ in there[id_]} else "another label or group"
        for id_ in there
        for each in new[id_]
        if (each.text, each.rest) not in there[id_]
    }
    name = one_line(source.name)
    if there and policy == "refuse":
        count = sum(len(new[id_]) for id_ in there)
        same = f"{len(others):,} with another text, label or group" if others else "the same documents"
        raise UsageError(
            f"{name}: the store has the ids of {count:,} of {counted(sum(map(len, new.values())), 'document')}"
            f" ({listed(list(there))}; {same}): --on-duplicate skip leaves out what is the same there, keep appends"
            " all; --id-column names other keys"
        )
    if policy == "refuse":
        return source, 0
    if others:
        first = ", ".join(f"{quoted(id_)} with {what}" for id_, what in list(others.items())[:3])
        raise UsageError(
            f"{name}: {counted(len(others), 'id')} would be that of another document, too ({first}): --id-column names"
            " other keys, --on-duplicate keep appends all"
        )
    places: set[int] = set()
    for id_, several in new.items():
        seen = set(there.get(id_, ()))
        for each in several:
            if (each.text, each.rest) in seen:
                places.add(each.place)
            seen.add((each.text, each.rest))
    return (_without(source, labels, places) if places else source), len(places)


def _without(source: Source, labels: LabelMap, places: set[int]) -> Source:
    """The source without the documents at these positions among those that can be taken; each is noted."""

    def read() -> Iterator[Document | Rejected | Noticed]:
        place = 0
        for item in source.read():
            if not isinstance(item, Document) or (
                item.label is not None and item.label not in labels.mapping
            ):
                yield item
                continue
            if place in places:
                yield Noticed(item.id, "left out, as the store has them")
            else:
                yield item
            place += 1

    return replace(source, read=read)


def _known_by(store: Store, document: Document, place: int) -> _New:
    row: dict[str, Any] = {"split": document.split, "label": document.label, "group": document.group}
    for (name, type_), value in zip(store.manifest.kept.items(), document.kept, strict=True):
        try:
            row[name] = as_type(value, type_)
        except DataError:
            raise UsageError(
                f"--keep-column {one_line(name)}: {quoted(document.id)} has {quoted(str(value))} there, which is no"
                f" {type_}, as the column is in the store"
            ) from None
    return _New(place, *_digests(document.text, document.text_pair, _rest(store, row)))


def _rest(store: Store, row: dict[str, Any]) -> Sequence[object]:
    return [row[name] for name in ("split", "label", "group", *store.manifest.kept)]


def _digests(text: str, pair: str | None, rest: Sequence[object]) -> tuple[bytes, bytes]:
    """16 bytes for what the model reads, and 16 for all other data."""
    texts, others = (hashlib.blake2b(repr(each).encode(), digest_size=16) for each in ((text, pair), rest))
    return texts.digest(), others.digest()
