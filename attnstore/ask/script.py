"""A question as one SQL script that any DuckDB runs over the store, without attnstore.

Parameter values are variables, tables are views over the store's files, and attnstore's functions are macros: the
script is self-contained. Its last statement is the question as in its file, except that `$name` becomes
`getvariable('name')`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from attnstore.ask.answer import asked_documents, based_on
from attnstore.ask.binding import bound
from attnstore.ask.lookup import document_number
from attnstore.ask.macros import macros_in, needed
from attnstore.ask.questions import Question, asked_statement, shared_macros
from attnstore.ask.sql import identifier, literal, needs_measured, views_of
from attnstore.store.store import Store

#: The parts of a statement in which `$` has no meaning (literals, quoted names, comments); then a parameter.
_PIECES = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$(\w+)", re.DOTALL)


def script(store: Store, question: Question, parameters: Mapping[str, object] | None = None) -> str:
    """The SQL script that gives the question's answer; parameters as for `ask`.

    Raises:
        UsageError: a parameter is unknown, missing or invalid, or the store does not have what it names.
        StoreError: the store can't be read.
    """
    values, added = bound(store, question, parameters or {})
    needs_measured(store, question.sql)
    for parameter in question.parameters:
        if parameter.type == "document":
            values[parameter.name] = document_number(store, values[parameter.name])
    named = set(asked_statement(question.sql).named_parameters)
    views = views_of(store, added)
    asked = len(asked_documents(store, added)) if added.where is not None else None
    head = f"-- {question.name}: {question.summary}\n-- Based on {based_on(store, values, asked)}.\n"
    variables = [
        f"SET VARIABLE {identifier(name)} = {_value(value)};"
        for name, value in values.items()
        if name in named
    ]
    empty = [_empty(name, schema) for name, schema in views.empty.items()]
    made = [
        f"{statement.replace('CREATE TEMP VIEW', 'CREATE OR REPLACE TEMP VIEW', 1)};"
        for statement in views.statements
    ] + [f"{statement};" for statement in views.asked]
    select = _PIECES.sub(_variable, question.sql).strip().rstrip(";")
    return (
        "\n\n".join([head + "\n".join(variables), *empty, *made, *_macros(question.sql), f"{select};"]) + "\n"
    )


def _variable(piece: re.Match[str]) -> str:
    name = piece[1]
    return piece[0] if name is None else f"getvariable({literal(name)})"


def _value(value: Any) -> str:
    """A bound value as a literal of its type."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]::VARCHAR[]"
    if isinstance(value, float):
        return f"{value!r}::DOUBLE"
    return str(value) if isinstance(value, int) else literal(value)


def _empty(name: str, schema: pa.Schema) -> str:
    """The table of a store without parts."""
    with duckdb.connect() as connection:
        connection.register("rows", pa.schema([_plain(field) for field in schema]).empty_table())
        columns = connection.sql("DESCRIBE rows").fetchall()
    of_type = ", ".join(f"{identifier(column)} {kind}" for column, kind, *_ in columns)
    return f"CREATE OR REPLACE TEMP TABLE {name} ({of_type});"


def _plain(field: pa.Field) -> pa.Field:
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def _macros(sql: str) -> list[str]:
    """The macros that a statement uses, directly or not: attnstore's statistics first, then those of the questions."""
    shared = needed(sql, shared_macros())
    own = macros_in(Path(__file__).with_name("statistics.sql"))
    return [*needed("\n".join([sql, *shared]), own), *shared]
