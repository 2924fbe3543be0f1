"""Decides whether a row or a text of a source is a document, or why not.

Strings are as in the source. A blank is neither a label nor a group, and half of a pair is not a pair.
"""

import math
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import replace

from attnstore.config import MAX_DOCUMENT_BYTES, SourceConfig
from attnstore.data.documents import Document, Noticed, Rejected
from attnstore.data.kept import Value, kept_value
from attnstore.data.streams import too_large
from attnstore.errors import DataError
from attnstore.messages import one_line

_FOREIGN = "not UTF-8"  # why a text is rejected
_FOREIGN_TEXTS = 3  # this many mean that the encoding is not UTF-8, unless some non-ASCII text is UTF-8


def in_encoding(content: bytes, config: SourceConfig) -> str | bytes:
    """A text in the user's encoding; its bytes if none is given."""
    return content if config.encoding is None else content.decode(config.encoding, "surrogateescape")


def mostly_utf8(
    items: Iterator[Document | Rejected | Noticed], config: SourceConfig
) -> Iterator[Document | Rejected | Noticed]:
    """The documents, as long as nearly all are UTF-8. Raises DataError at the end if they are not.

    Of a source in another encoding, only the texts without accents would remain, which are not a fair sample.
    """
    texts = foreign = 0
    first = ""
    fitting = False
    for item in items:
        texts += not isinstance(item, Noticed)
        if isinstance(item, Document):
            fitting = fitting or not item.text.isascii()
        elif isinstance(item, Rejected) and item.reason == _FOREIGN:
            foreign += 1
            first = first or item.where
        yield item
    if config.encoding is None and not fitting and foreign >= _FOREIGN_TEXTS and foreign > texts / 100:
        raise DataError(
            f"{foreign:,} of {texts:,} texts are not UTF-8, the first {first}: give --encoding cp1252, or the one that"
            " they have (--encoding utf-8 drops them)"
        )


def joined(texts: Sequence[object]) -> object:
    """The text of a row: its columns joined with a space, or a single column as it is."""
    if len(texts) == 1:
        return texts[0]
    parts = [text for text in texts if text is not None]
    if not all(isinstance(part, str | bytes) for part in parts):
        return next(part for part in parts if not isinstance(part, str | bytes))
    try:
        whole = [part.decode("utf-8-sig") if isinstance(part, bytes) else str(part) for part in parts]
    except UnicodeError:
        return b"\xff"  # checked with the row's other values
    return " ".join(part for part in whole if part.strip()) if parts else None


def as_document(
    where: str,
    split: str,
    text: object,
    id_: str | bytes,
    label: str | bytes | None,
    group: str | bytes | None,
    extra: Sequence[object] = (),
    most: int = MAX_DOCUMENT_BYTES,
) -> Document | Rejected:
    """One row as a document, or the reason why not: strings are as in the source, blank labels and groups are None.

    `most`: bytes of a text; a larger one is not a document.
    """
    if text is None:
        return Rejected(one_line(where), "text missing")
    if not isinstance(text, str | bytes):
        return Rejected(one_line(where), "text is not a string")
    if _is_larger(text, most):
        return Rejected(one_line(where), too_large(most))
    try:
        text, id_, split = _utf8(text), _utf8(id_), _utf8(split)
        label = _utf8(label) if label is not None else None
        group = _utf8(group) if group is not None else None
        kept: tuple[Value | None, ...] = tuple(map(kept_value, extra))
    except UnicodeError:
        return Rejected(one_line(where), _FOREIGN)
    return Document(
        text,
        id_,
        group if group and group.strip() else None,
        split,
        label if label and label.strip() else None,
        kept,
    )


def _is_larger(text: str | bytes, most: int) -> bool:
    """Whether a text has more than `most` bytes of UTF-8."""
    if isinstance(text, bytes) or len(text) > most:
        return len(text) > most
    return 4 * len(text) > most and len(text.encode(errors="replace")) > most


def paired(
    where: str, first: Document | Rejected, rest: Sequence[object], most: int = MAX_DOCUMENT_BYTES
) -> Document | Rejected:
    """The document with the second text of its pair, if any. Without words on both sides, there is no pair."""
    if isinstance(first, Rejected) or not rest:
        return first
    (second,) = rest
    if second is not None and not isinstance(second, str | bytes):
        return Rejected(one_line(where), "second text of the pair is not a string")
    if second is not None and _is_larger(second, most):
        return Rejected(one_line(where), too_large(most))
    try:
        second = _utf8(second or "")
    except UnicodeError:
        return Rejected(one_line(where), _FOREIGN)
    for place, text in (("first", first.text), ("second", second)):
        if not text.strip():
            return Rejected(one_line(where), f"{place} text of the pair is empty or missing")
    return replace(first, text_pair=second)


def _utf8(value: str | bytes) -> str:
    """Raises UnicodeError for what UTF-8 can't encode: foreign bytes, and halves of surrogate pairs."""
    if isinstance(value, bytes):
        return value.removeprefix(BOM_UTF8).decode()  # as "utf-8-sig", whose decoder is Python's own and slow
    if not value.isascii():
        value.encode()
    return value


class SeveralError(TypeError):
    """A list of several labels, ids or groups: the row has many classes, or many documents."""


def as_scalar(value: object) -> str | bytes | None:
    """A label, id or group as text; a list of one is its element. Raises TypeError for an object, or a longer list."""
    if value is None or isinstance(value, str | bytes):
        return value or None
    if isinstance(value, list):
        if len(value) > 1:
            raise SeveralError
        if value and isinstance(value[0], list):
            raise TypeError
        return as_scalar(value[0]) if value else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isnan(value):
        return None  # pandas' null in a column of numbers
    if isinstance(value, dict | list):
        raise TypeError
    return str(value)


def as_label(value: object) -> str | None:
    """A label as in the source; None for a blank one. Raises TypeError for a list or object, and UnicodeError."""
    scalar = as_scalar(value)
    label = "" if scalar is None else _utf8(scalar)
    return label if label.strip() else None


def as_split(value: object) -> str:
    """A row's own split; `all` if it has none. Raises TypeError for a list or an object."""
    split = as_scalar(value) or "all"
    return split.decode(errors="replace") if isinstance(split, bytes) else split
