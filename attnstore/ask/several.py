"""Several stores queried as one: a series of checkpoints becomes a table with a column `store`.

A question is answered once for each store, because its numbers describe one model. SQL reads all rows at once, with
the columns that all of the stores have.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import polars as pl
import pyarrow as pa

from attnstore.ask.answer import BASIS_KEY, COLUMNS_KEY, ask
from attnstore.ask.questions import Engine, Question
from attnstore.ask.sql import Views, identifier, literal, opened, select, views_of
from attnstore.ask.statement import reading_statement
from attnstore.buckets import Bucket
from attnstore.errors import AttnstoreError, StoreError, UsageError
from attnstore.messages import listed, one_line
from attnstore.store import frames
from attnstore.store.store import Store, open_store

#: The column with the name of a row's store.
STORE = "store"

_TABLES: Mapping[str, Callable[[Store], pl.LazyFrame]] = {
    "documents": frames.documents,
    "tokens": frames.tokens,
    "totals": frames.totals,
}


def open_stores(paths: Sequence["str | Path | Bucket"]) -> dict[str, Store]:
    """Stores by name: the folder's name without `.attn`, or the whole path if two folders have the same name.

    Raises:
        UsageError: there is no path, or one is given twice.
        StoreError: one can't be read, or has no finished part.
    """
    if not paths:
        raise UsageError("there is no store to open")
    stores = [open_store(path) for path in paths]
    short = [store.path.name.removesuffix(".attn") for store in stores]
    names = [str(s.path) if short.count(n) > 1 else n for s, n in zip(stores, short, strict=True)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{one_line(twice[0])} is given twice")
    for store in stores:
        if not store.finished_parts():
            raise StoreError(f"{store.path} has no finished part yet: leave it out, or let its run go on")
    return dict(zip(names, stores, strict=True))


def ask_each(
    stores: Mapping[str, Store],
    question: Question,
    parameters: Mapping[str, object] | None = None,
    engine: Engine = "duckdb",
    timeout: float | None = None,
) -> pa.Table:
    """The answers to a question, one store after the other, with a column `store` before the answer's own.

    Layers, classes and reductions may differ between stores, as long as each has what the question needs.

    Raises:
        UsageError, StoreError: as `answer.ask`, with the store's name; also if the answers' columns differ.
    """
    answers: list[pa.Table] = []
    bases: list[str] = []
    columns = b""
    for name, store in stores.items():
        try:
            answer = ask(store, question, parameters, engine, timeout=timeout)
        except AttnstoreError as error:
            raise type(error)(f"{one_line(name)}: {error}") from error
        told = answer.schema.metadata or {}
        bases.append(f"{name}: {told.get(BASIS_KEY, b'').decode()}")
        columns = told.get(COLUMNS_KEY, b"[]")
        answer = answer.replace_schema_metadata(None)
        if answers and answer.column_names != answers[0].column_names[1:]:
            raise UsageError(
                f"{question.name} has other columns in {one_line(name)} than in {one_line(next(iter(stores)))}: ask"
                " them apart"
            )
        answers.append(answer.add_column(0, STORE, pa.array([name] * answer.num_rows, pa.string())))
    whole = pa.concat_tables(answers, promote_options="permissive")
    shown = columns.replace(b"[", f'["{STORE}", '.encode(), 1) if columns != b"[]" else columns
    return whole.replace_schema_metadata({BASIS_KEY: "; ".join(bases).encode(), COLUMNS_KEY: shown})


def table_of_all(stores: Mapping[str, Store], table: str) -> pl.LazyFrame:
    """`documents`, `tokens` or `totals` of all stores: `store`, then the columns that all of them have."""
    found = {name: _TABLES[table](store) for name, store in stores.items()}
    schemas = [frame.collect_schema() for frame in found.values()]
    alike = [name for name, kind in schemas[0].items() if all(s.get(name) == kind for s in schemas)]
    return pl.concat([frame.select(pl.lit(name).alias(STORE), *alike) for name, frame in found.items()])


def sql_over(stores: Mapping[str, Store], sql: str, timeout: float | None = None) -> pa.Table:
    """The result of one SELECT over the views `documents`, `tokens` and `totals` of all stores.

    They have `store` first, then the columns that all of the stores have with the same type.

    Raises:
        UsageError: as `run_sql`, and for a column that not all of the stores have.
        StoreError: a store can't be read.
    """
    reading_statement(sql)
    first = next(iter(stores.values()))
    each = [views_of(store) for store in stores.values()]
    statements: list[str] = []
    missing: dict[str, str] = {}
    for table in _TABLES:
        schemas = [_TABLES[table](store).collect_schema() for store in stores.values()]
        alike = [name for name, kind in schemas[0].items() if all(s.get(name) == kind for s in schemas)]
        for name, schema in zip(stores, schemas, strict=True):
            missing |= {column: name for column in schema if column not in alike}
        selects = []
        for number, (name, views) in enumerate(zip(stores, each, strict=True)):
            view = identifier(f"{table} {number}")
            (made,) = [s for s in views.statements if s.startswith(f"CREATE TEMP VIEW {table} ")]
            statements.append(made.replace(f"CREATE TEMP VIEW {table} ", f"CREATE TEMP VIEW {view} ", 1))
            columns = ", ".join(map(identifier, alike))
            selects.append(f"SELECT {literal(name)} AS {STORE}, {columns} FROM {view}")  # noqa: S608 - all quoted
        statements.append(f"CREATE TEMP VIEW {table} AS {' UNION ALL '.join(selects)}")
    read = [address for views in each for address in views.read]
    try:
        with closing(opened(first, Views(statements, {}, read, []), others=stores.values())) as connection:
            return select(first, connection, sql, timeout=timeout)
    except UsageError as error:
        named = [column for column in missing if f'"{column}"' in str(error)]
        if not named:
            raise
        raise UsageError(
            f"not all of the stores have the column {named[0]}, or have it of one type ({one_line(missing[named[0]])}"
            f" has): ask those that have it ({listed(list(stores))})"
        ) from error
