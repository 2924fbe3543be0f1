"""Tables and queries of SQLite and DuckDB files, which are opened read-only."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from attnstore.data.arrow import Batches
from attnstore.data.objects import Object, Objects
from attnstore.errors import DataError, UsageError
from attnstore.messages import first_line, listed, one_line, quoted, similar

_BATCH = 1024  # rows
#: What a statement may do in SQLite; it can't attach another database, for example.
_ALLOWED = frozenset(
    (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
)


def database_kind(path: Path) -> Literal["sqlite", "duckdb"] | None:
    """The kind of database, by the file's first bytes."""
    with path.open("rb") as file:
        return kind_of_database(file.read(16))


def kind_of_database(head: bytes) -> Literal["sqlite", "duckdb"] | None:
    """The kind of database that begins with these 16 bytes."""
    if head == b"SQLite format 3\0":
        return "sqlite"
    return "duckdb" if head[8:12] == b"DUCK" else None


def of_database(path: Path, table: str | None, query: str | None) -> Batches | Objects:
    """The rows of a table or of a query; of the only table if neither is given.

    Raises UsageError if the table does not exist, if none of several is chosen, or if the query is refused; DataError
    if the database can't be read.
    """
    if table is not None and query is not None:
        raise UsageError(f"{one_line(path.name)}: give a table (::{one_line(table)}) or --query, not both")
    if database_kind(path) == "sqlite":
        return _of_sqlite(path, table, query)
    return _of_duckdb(path, table, query)


def _chosen(path: Path, table: str | None, tables: Sequence[str]) -> str:
    name = one_line(path.name)
    if table is None:
        if len(tables) != 1:
            has = f"has the tables {listed(tables)}: name one with FILE::TABLE" if tables else "has no tables"
            raise UsageError(f"{name} {has}")
        return tables[0]
    if table not in tables:
        raise UsageError(
            f"{name} has no table {quoted(table)}, it has {listed(tables)}{similar(table, tables)}"
        )
    return table


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _of_sqlite(path: Path, table: str | None, query: str | None) -> Objects:
    if query is None:
        with _sqlite(path) as connection:
            listing = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
            names = [name.decode() for (name,) in connection.execute(listing)]
        tables = [name for name in names if not name.startswith("sqlite_")]
        # The name comes from the database itself.
        query = f"SELECT * FROM {_identifier(_chosen(path, table, tables))}"  # noqa: S608

    @contextmanager
    def result() -> Iterator[sqlite3.Cursor]:
        with _sqlite(path) as connection:
            connection.set_authorizer(
                lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY
            )
            try:
                cursor = connection.execute(query)
            except (sqlite3.Error, sqlite3.Warning) as error:
                raise UsageError(f"{one_line(path.name)} refuses the query: {first_line(error)}") from None
            if cursor.description is None:
                raise UsageError(f"{one_line(path.name)}: the query returns no rows: write a SELECT")
            yield cursor

    def read() -> Iterator[tuple[int, Object]]:
        with result() as cursor:
            names = [column[0] for column in cursor.description]
            for number, row in enumerate(cursor, start=1):
                yield number, dict(zip(names, row, strict=True))

    with result():
        return Objects(read)


@contextmanager
def _sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection. UTF-8 is checked row by row."""
    try:
        # Reading may begin in one thread and end in another, but never happens in two at a time.
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        connection.text_factory = bytes
        with closing(connection):
            yield connection
    except sqlite3.Error as error:
        raise DataError(f"{one_line(path.name)} can't be read: {first_line(error)}") from None


def _of_duckdb(path: Path, table: str | None, query: str | None) -> Batches:
    import duckdb

    with _duckdb(path) as connection:
        if query is None:
            listing = "SELECT table_schema, table_name FROM information_schema.tables ORDER BY ALL"
            found = connection.execute(listing).fetchall()
            tables = {
                name if schema == "main" else f"{schema}.{name}": (schema, name) for schema, name in found
            }
            parts = tables[_chosen(path, table, list(tables))]
            # The names come from the database itself.
            query = f"SELECT * FROM {'.'.join(map(_identifier, parts))}"  # noqa: S608
        try:
            statements = connection.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise UsageError(f"{one_line(path.name)}: --query is one SELECT")
            schema = connection.sql(query).limit(0).to_arrow_table().schema
        except duckdb.Error as error:
            raise UsageError(f"{one_line(path.name)} refuses the query: {first_line(error)}") from None

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with _duckdb(path) as connection:
            yield from connection.sql(query).to_arrow_reader(_BATCH)

    return Batches(schema, read)


@contextmanager
def _duckdb(path: Path) -> Iterator[Any]:
    """A read-only connection to this file only; with one thread, for a fixed order of rows."""
    import duckdb

    settings: dict[str, str | bool | int | float | list[str]] = {
        "enable_external_access": "false",
        "lock_configuration": "true",
        "threads": "1",
    }
    try:
        with duckdb.connect(str(path), read_only=True, config=settings) as connection:
            yield connection
    except duckdb.Error as error:
        raise DataError(f"{one_line(path.name)} can't be read: {first_line(error)}") from None
