"""Which documents: filters, an order and a page of them, as SQL whose values are bound."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import duckdb

from attnstore.ask.sql import select
from attnstore.errors import UsageError
from attnstore.messages import listed, quoted
from attnstore.store.store import Store

Verdict = Literal["", "right", "wrong"]

#: What documents can be ordered by: the SQL of the key, smallest first. Equal keys are in the data set's order.
ORDERS = {
    "number": "document",
    "surest": "-probability",
    "least certain": "probability",
    "longest": "-length",
    "shortest": "length",
    "id": "id",
}
#: How much of a text a list shows, in characters.
_BEGINNING = 280


@dataclass(frozen=True, slots=True)
class Filter:
    """What a document has to fulfil; an empty text or None asks for nothing.

    `label`: the gold class, `unlabelled` for those without. `verdict` compares prediction and label. `text` is found
    in a text whatever its case; `word` is a whole word as the store spells it. `order` is a key of `ORDERS`.

    Raises:
        UsageError: the order or the verdict is none.
    """

    prediction: str = ""
    label: str = ""
    unlabelled: bool = False
    verdict: Verdict = ""
    split: str = ""
    group: str = ""
    text: str = ""
    word: str = ""
    truncated: bool | None = None
    least_probability: float | None = None
    most_probability: float | None = None
    least_length: int | None = None
    most_length: int | None = None
    order: str = "number"

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise UsageError(
                f"documents can't be ordered by {quoted(self.order)}, but by {listed(list(ORDERS))}"
            )
        if self.verdict not in ("", "right", "wrong"):
            raise UsageError(f"verdict is right or wrong, not {quoted(self.verdict)}")

    def condition(self) -> tuple[str, dict[str, Any]]:
        """The filter as a SQL condition over `documents`, and the values of its `$names`."""
        parts = [
            (condition, name)
            for name, condition in _CONDITIONS.items()
            if getattr(self, name) not in ("", None, False)
        ]
        if self.truncated is False:
            parts.append(("NOT truncated", ""))
        values = {name: getattr(self, name) for condition, name in parts if f"${name}" in condition}
        if self.verdict:
            parts.append((f"prediction {'=' if self.verdict == 'right' else '<>'} label", ""))
        return " AND ".join(f"({condition})" for condition, _ in parts) or "true", values

    def given(self) -> dict[str, str]:
        """What differs from a filter that asks for nothing, as texts: the inverse of `from_texts`."""
        nothing = Filter()
        return {
            each.name: str(value).lower() if isinstance(value, bool) else str(value)
            for each in fields(self)
            if (value := getattr(self, each.name)) != getattr(nothing, each.name)
        }


_CONDITIONS = {
    "prediction": "prediction = $prediction",
    "label": "label = $label",
    "unlabelled": "label IS NULL",
    "split": "split = $split",
    "group": '"group" = $group',
    "text": "contains(lower(text), lower($text))",
    "word": "document IN (SELECT document FROM tokens WHERE word = $word)",
    "truncated": "truncated",
    "least_probability": "probability >= $least_probability",
    "most_probability": "probability <= $most_probability",
    "least_length": "length >= $least_length",
    "most_length": "length <= $most_length",
}


def from_texts(given: Mapping[str, str]) -> Filter:
    """A filter out of texts by name, such as a URL's. Names that are no field are passed over, blank values are none.

    Raises UsageError for a value that does not fit.
    """
    values: dict[str, Any] = {}
    for each in fields(Filter):
        text = given.get(each.name, "").strip()
        if not text:
            continue
        kind = str(each.type)
        try:
            if "bool" in kind:
                values[each.name] = {"true": True, "false": False}[text.lower()]
            elif "float" in kind:
                values[each.name] = float(text)
            elif "int" in kind:
                values[each.name] = int(text)
            else:
                values[each.name] = text
        except (ValueError, KeyError):
            raise UsageError(f"{each.name}={quoted(text)} does not fit") from None
    return Filter(**values)


@dataclass(frozen=True, slots=True)
class Found:
    """`hits`: how many documents there are; `rows`: those of one page, each a mapping of its columns."""

    hits: int
    rows: list[dict[str, Any]]


def find(
    store: Store, connection: duckdb.DuckDBPyConnection, wanted: Filter, *, skip: int = 0, limit: int = 50
) -> Found:
    """The documents that a filter lets through, from number `skip` (from 0) in its order, `limit` of them."""
    condition, values = wanted.condition()
    sql = f"""
        WITH found AS MATERIALIZED (
            SELECT document, {ORDERS[wanted.order]} AS key FROM documents WHERE {condition}
        ),
        page AS (
            SELECT document, row_number() OVER (ORDER BY key, document) AS place FROM found
            ORDER BY place LIMIT $limit OFFSET $skip
        )
        SELECT (SELECT count(*) FROM found) AS hits, document, id, "group", split, label, prediction, probability,
            length, truncated, substring(text, 1, {_BEGINNING}) AS beginning, length(text) AS characters
        FROM page JOIN documents USING (document) ORDER BY place
    """  # noqa: S608 - conditions and keys are this module's own; what a user gives is bound
    rows = select(store, connection, sql, {**values, "limit": limit, "skip": skip}).to_pylist()
    if rows or not skip:
        hits = rows[0]["hits"] if rows else 0
    else:
        (hits,) = select(store, connection, _count(condition), values).column(0).to_pylist()
    return Found(hits, rows)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Where a document stands among those of a filter: `place` of `hits`, from 1, and the numbers beside it."""

    place: int
    hits: int
    before: int | None
    after: int | None


def neighbours(
    store: Store, connection: duckdb.DuckDBPyConnection, wanted: Filter, document: int
) -> Neighbours | None:
    """The documents before and after one in a filter's order; None if the filter does not let it through."""
    condition, values = wanted.condition()
    sql = f"""
        WITH found AS (SELECT document, {ORDERS[wanted.order]} AS key FROM documents WHERE {condition}),
        placed AS (
            SELECT document, row_number() OVER listed AS place, count(*) OVER () AS hits,
                lag(document) OVER listed AS before, lead(document) OVER listed AS after
            FROM found WINDOW listed AS (ORDER BY key, document)
        )
        SELECT place, hits, before, after FROM placed WHERE document = $document
    """  # noqa: S608 - as above
    rows = select(store, connection, sql, {**values, "document": document}).to_pylist()
    return Neighbours(**rows[0]) if rows else None


def _count(condition: str) -> str:
    return f"SELECT count(*) FROM documents WHERE {condition}"  # noqa: S608 - as above
