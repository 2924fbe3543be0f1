"""Columns of the data that are stored with the documents: their values, and each column's type.

A column's type depends on all of its values, whatever kind of file they come from: `boolean` if each is true or false,
`integer` if each is a 64-bit whole number, `number` if each is a number, else `text`. Numbers count only in their
usual form: `007` is a text, and makes its whole column a text.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from attnstore.errors import DataError

Value = str | int | float | bool
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
#: Beyond it, a double can't represent every whole number.
_EXACT = 2**53


def kept_value(value: object) -> Value | None:
    """A cell as stored: None for blanks, NaN and None; JSON for lists and objects; otherwise a text.

    Raises UnicodeError for what UTF-8 can't encode.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, bytes):
        text = value.decode()
    elif isinstance(value, list | dict):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    text.encode()  # a half of a surrogate pair
    return text if text.strip() else None


def _types_of(value: Value) -> frozenset[str]:
    """Every type that a value can have; a text is tried as each of them."""
    word = value.strip() if isinstance(value, str) else value
    if isinstance(word, bool) or word in _BOOLEANS:
        return frozenset(("boolean", "text"))
    types = {"text"}
    if isinstance(word, int) or (isinstance(word, str) and _WHOLE.fullmatch(word)):
        number = int(word)
        types |= {"integer"} if -(2**63) <= number < 2**63 else set()
        types |= {"number"} if abs(number) <= _EXACT else set()
    elif isinstance(word, float) or (_NUMBER.fullmatch(word) and math.isfinite(float(word))):
        types.add("number")
    return frozenset(types)


@dataclass(slots=True)
class TypeFinder:
    """The types that columns may still have after the values seen; call `add` with each row's values."""

    columns: int
    _open: list[frozenset[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._open = [frozenset(("boolean", "integer", "number", "text"))] * self.columns

    def add(self, values: Sequence[Value | None]) -> None:
        """One row's values, in the columns' order."""
        for place, value in enumerate(values):
            if value is not None and len(self._open[place]) > 1:
                self._open[place] &= _types_of(value)

    def types(self) -> tuple[str, ...]:
        """The narrowest type of each column; `text` for a column without values."""
        everything = frozenset(("boolean", "integer", "number", "text"))
        return tuple(
            "text"
            if fitting == everything
            else next(type_ for type_ in ("boolean", "integer", "number", "text") if type_ in fitting)
            for fitting in self._open
        )


def as_type(value: Value | None, type_: str) -> Value | None:
    """A kept value as its column's type. Raises DataError if it does not fit, as after a change of the data."""
    if value is None:
        return None
    if type_ not in _types_of(value):
        raise DataError(f"the data changed while it was read: {value!r} stands in a column of type {type_}")
    if type_ == "text":
        return (
            value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
        )
    word = value.strip() if isinstance(value, str) else value
    if type_ == "boolean":
        return _BOOLEANS[word] if isinstance(word, str) else bool(word)
    return int(word) if type_ == "integer" else float(word)
