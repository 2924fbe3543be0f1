"""Which documents: filters, an order and a page of them, as SQL with bound values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from attnstore.ask.sql import select
from attnstore.errors import UsageError
from attnstore.messages import listed, quoted
from attnstore.store.store import Store

Verdict = Literal["", "right", "wrong"]

#: What documents can be ordered by: the SQL of the key, smallest first. Equal keys are in data set order.
ORDERS = {
    "number": "document",
    "surest": "-probability",
    "least certain": "probability",
    "longest": "-length",
    "shortest": "length",
    "id": "id",
}
#: How many characters of a text a list shows.
_BEGINNING = 280


@dataclass(frozen=True, slots=True)
class Filter:
    """The conditions for a document; an empty text or None means no condition.

    `label`: the gold class, `unlabelled` for documents without one. `verdict` compares prediction and label. `text`
    is part of a text, in any case; `word` is a whole word as the store spells it. `order` is a key of `ORDERS`.

    Raises:
        UsageError: the order or the verdict does not exist.
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
        if self.text:
            values["text"] = re.sub(r"([!-/:-@\[-^`{-~])", r"\\\1", self.text)
        if self.verdict:
            parts.append((f"prediction {'=' if self.verdict == 'right' else '<>'} label", ""))
        return " AND ".join(f"({condition})" for condition, _ in parts) or "true", values

    def statement(self) -> tuple[str, dict[str, Any]]:
        """The SELECT of the matching documents' numbers, in order, and the values of its `$names`."""
        condition, values = self.condition()
        # Conditions and keys are this module's own; what a user gives is bound.
        sql = f"SELECT document FROM documents WHERE {condition} ORDER BY {ORDERS[self.order]}, document"  # noqa: S608
        return sql, values

    def given(self) -> dict[str, str]:
        """What differs from an empty filter, as texts: the inverse of `from_texts`."""
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
    # This takes half the time of lower-casing the texts.
    "text": "regexp_matches(text, $text, 'i')",
    "word": "document IN (SELECT document FROM tokens WHERE word = $word)",
    "truncated": "truncated",
    "least_probability": "probability >= $least_probability",
    "most_probability": "probability <= $most_probability",
    "least_length": "length >= $least_length",
    "most_length": "length <= $most_length",
}


def from_texts(given: Mapping[str, str]) -> Filter:
    """A filter from texts by name, such as a URL's. Names that are not fields are ignored, and so are blank values.

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


def described(
    store: Store, connection: duckdb.DuckDBPyConnection, numbers: Sequence[int]
) -> list[dict[str, Any]]:
    """What a list says about these documents, in their order: a mapping of columns for each."""
    sql = f"""
        SELECT document, id, "group", split, label, prediction, probability, length, truncated,
            substring(text, 1, {_BEGINNING}) AS beginning, length(text) AS characters
        FROM documents WHERE document IN ({", ".join(str(int(number)) for number in numbers) or "NULL"})
    """  # noqa: S608 - numbers alone; as a list that is no parameter they say which files need not be read
    rows = {row["document"]: row for row in select(store, connection, sql).to_pylist()}
    return [rows[number] for number in numbers]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A document's position among those of a filter: `place` of `hits`, from 1, and its neighbours' numbers."""

    place: int
    hits: int
    before: int | None
    after: int | None


def neighbours(found: pa.Table, document: int) -> Neighbours | None:
    """The documents before and after one among those of a filter; None if the filter excludes the document."""
    numbers = found.column("document")
    place = pc.index(numbers, document).as_py()
    if place < 0:
        return None
    before, after = (numbers[at].as_py() if 0 <= at < len(numbers) else None for at in (place - 1, place + 1))
    return Neighbours(place + 1, len(numbers), before, after)
