"""Documents by id or number, and words that are not there."""

from typing import Any, SupportsIndex

import duckdb

from attnstore.ask.sql import connect, select
from attnstore.ask.values import BY_NUMBER, NUMBER, whole
from attnstore.errors import NotFoundError, UsageError
from attnstore.store.store import Store


def unknown_word(store: Store, word: str) -> str:
    """The message about a word that no document of the store has; empty if one has it."""
    sql = "SELECT DISTINCT word FROM tokens WHERE word IN ($word, $lower)"
    with connect(store) as connection:
        found = select(store, connection, sql, {"word": word, "lower": word.lower()}).column(0).to_pylist()
    if word in found:
        return ""
    return f"no document has the word {word!r}" + (f": {word.lower()!r} is there" if found else "")


def document_number(store: Store, wanted: str | SupportsIndex) -> int:
    """The number of the document with that id or, if no document has that id, with that number.

    An integer, or a text such as `@3`, is never taken for an id.

    Raises:
        NotFoundError: there is no such document.
        UsageError: the id belongs to several.
        StoreError: the store can't be read.
    """
    with connect(store) as connection:
        return number_of(store, connection, wanted)


def plain_number(wanted: str | SupportsIndex) -> int | None:
    """The number, if it is given in a form that no id has; None for a possible id, or anything but a whole number."""
    if isinstance(wanted, str):
        written = BY_NUMBER.fullmatch(wanted)
        return None if written is None else int(written[1])
    return whole(wanted)


def number_of(store: Store, connection: duckdb.DuckDBPyConnection, wanted: str | SupportsIndex) -> int:
    """`document_number`, over an open connection."""

    def column(sql: str, **values: object) -> list[Any]:
        return list(select(store, connection, sql, values).column(0).to_pylist())

    if (plain := plain_number(wanted)) is not None:
        wanted = plain
    if isinstance(wanted, str):
        found = column("SELECT document FROM documents WHERE id = $id ORDER BY document", id=wanted)
        if len(found) > 1:
            numbers = ", ".join(f"@{number}" for number in found[:3]) + (" ..." if found[3:] else "")
            raise UsageError(
                f"{len(found)} documents have the id {wanted!r}: give the number of one ({numbers})"
            )
        if found:
            return int(found[0])
    number = whole(wanted) if not isinstance(wanted, str) or NUMBER.fullmatch(wanted) else None
    if number is not None and column("SELECT 1 FROM documents WHERE document = $number", number=number):
        return number
    (there,) = column("SELECT count(*) FROM documents")
    planned = store.manifest.documents
    holds = f"{planned:,} documents" if there == planned else f"{there:,} of {planned:,} documents so far"
    close = column(
        "SELECT id FROM documents ORDER BY jaro_winkler_similarity(id, $id) DESC, document LIMIT 3",
        id=str(wanted),
    )
    hint = f": did you mean {', '.join(close)}?" if close and number is None else ": they count from 0"
    raise NotFoundError(f"there is no document {wanted!r} in this store of {holds}{hint}")
