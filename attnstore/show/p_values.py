"""A p value as people read it: never 0.

Where chance is so unlikely that double precision holds no such number, the value in an answer is 0 or has lost its
digits. Whoever draws it says what is known: that it is smaller than `LEAST`. CSV, JSON and Parquet keep the number.
"""

import json

import pyarrow as pa

from attnstore.ask.answer import BASIS_KEY

#: The columns of answers that hold them: p values, and the false discovery rates made of p values.
NAMES = ("p", "q")
#: Below it, a number of double precision loses digits.
LEAST = 1e-300
#: What is drawn in place of such a value.
TOO_SMALL = f"< {LEAST:g}"


def p_value(value: float, digits: int = 4) -> str:
    """The value with that many significant digits, or `TOO_SMALL`."""
    return TOO_SMALL if value < LEAST else f"{value:.{digits}g}"


def p_columns(table: pa.Table) -> list[str]:
    """The columns of a table that hold p values: an answer's, because a column of somebody's SQL may mean anything."""
    if BASIS_KEY not in (table.schema.metadata or {}):
        return []
    return [
        column.name for column in table.schema if column.name in NAMES and pa.types.is_floating(column.type)
    ]


def expression(field: str, number: str) -> str:
    """In Vega's language: `number`, which draws the value `field`, or `TOO_SMALL`."""
    return f"({field} < {LEAST:g} ? {json.dumps(TOO_SMALL)} : {number})"
