"""Formats p values for people: never as 0.

If a p value is too small for double precision, the value in an answer is 0 or has lost its digits. It is drawn as
smaller than `LEAST`, which is all that is known. CSV, JSON and Parquet keep the number.
"""

import json

import pyarrow as pa

from attnstore.ask.answer import BASIS_KEY

#: The columns of answers with p values, and with the false discovery rates computed from them.
NAMES = ("p", "q")
#: Near and below this, numbers in double precision lose digits.
LEAST = 1e-300
#: The text for such a value.
TOO_SMALL = f"< {LEAST:g}"


def p_value(value: float, digits: int = 4) -> str:
    """The value with that many significant digits, or `TOO_SMALL`."""
    return TOO_SMALL if value < LEAST else f"{value:.{digits}g}"


def p_columns(table: pa.Table) -> list[str]:
    """The columns of a table with p values. Only those of answers: in somebody's SQL, a name may mean anything."""
    if BASIS_KEY not in (table.schema.metadata or {}):
        return []
    return [
        column.name for column in table.schema if column.name in NAMES and pa.types.is_floating(column.type)
    ]


def expression(field: str, number: str) -> str:
    """In Vega's language: `number`, which draws the value `field`, or `TOO_SMALL`."""
    return f"({field} < {LEAST:g} ? {json.dumps(TOO_SMALL)} : {number})"
