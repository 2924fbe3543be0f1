"""A store's tables as read-only DuckDB views: what `attnstore.store.frames` is for Polars."""

import os
import re
import tempfile
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from attnstore.ask import statistics
from attnstore.ask.bucket_files import BucketFiles
from attnstore.ask.statement import one_line, reading_statement, tables_of
from attnstore.errors import AttnstoreError, UsageError
from attnstore.interrupts import interruptible
from attnstore.store.faithfulness import FOLDER, SCHEMA, faithfulness_files, not_measured
from attnstore.store.frames import NOTHING, QuestionColumns
from attnstore.store.place import Place, address
from attnstore.store.schema import lift, without_keys
from attnstore.store.store import Kind, Store
from attnstore.store.totals import COUNTS, KEYS, value_columns

#: How much a statement may spill to the disk, so that a question can't fill it.
_MOST_SPILLED = "32GiB"
_ROWS_AT_ONCE = 100_000


#: What DuckDB raises. If it names a damaged file's column whose name is not UTF-8, its message is not text.
_REFUSED = (duckdb.Error, UnicodeDecodeError)


@dataclass(frozen=True, slots=True)
class Views:
    """The statements that make a store's views. They use tables without rows, which must exist first: `empty`.

    `asked` replaces them by views of selected documents, after making the table `asked` of their numbers. `read` are
    the addresses of the files that they read.
    """

    statements: list[str]
    empty: dict[str, pa.Schema]
    read: list[str]
    asked: list[str]


def connect(
    store: Store, added: QuestionColumns = NOTHING, macros: Sequence[str] = ()
) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB connection with the store's views, to be closed by the caller.

    They are `documents`, `tokens`, `totals` and, if measured, `faithfulness`.

    It reads only the files of the store's finished parts, loads no extension, and its configuration is locked.
    `macros` are statements that make the macros that the SQL calls.

    Raises:
        StoreError: the store can't be read.
    """
    return opened(store, views_of(store, added), macros)


def opened(
    store: Store, made: Views, macros: Sequence[str] = (), others: Iterable[Store] = ()
) -> duckdb.DuckDBPyConnection:
    """A connection with these views, as from `connect`; `others`: stores that they read beside `store`.

    Raises StoreError for files that can't be read.
    """
    return _with_views(store, database(store, made.read, others), made, macros)


def database(
    store: Store, addresses: Iterable[str], others: Iterable[Store] = ()
) -> duckdb.DuckDBPyConnection:
    """A connection to a separate database that may read only these files; this can't be changed.

    It has no views yet. `beside` opens more connections to it; together they may use half of the machine's memory.

    Raises StoreError for files that can't be read.
    """
    connection = duckdb.connect()
    try:
        statistics.register(connection)
        for files in BucketFiles.of([store, *others]):
            connection.register_filesystem(files)
        # DuckDB opens what it is asked for, a pattern, and what the pattern matches.
        allowed = dict.fromkeys(text for each in addresses for text in (literal(each), pattern(each)))
        connection.execute(f"SET allowed_paths = [{', '.join(allowed)}]")
        connection.execute(f"SET temp_directory = {literal(_spill())}")
        connection.execute(f"SET max_temp_directory_size = '{_MOST_SPILLED}'")
        connection.execute(f"SET memory_limit = '{_half_of_memory() >> 20}MiB'")
        # Every statement would check all files again, but their bytes never change.
        connection.execute("SET parquet_metadata_cache = true")
        # It would mix with printed output. In a notebook without ipywidgets it is off, and can't be set at all.
        if connection.execute("SELECT current_setting('enable_progress_bar')").fetchall() == [(True,)]:
            connection.execute("SET enable_progress_bar = false")
        for setting in (
            "autoload_known_extensions",
            "autoinstall_known_extensions",
            "python_enable_replacements",
            "enable_external_access",
        ):
            connection.execute(f"SET {setting} = false")
        connection.execute("SET lock_configuration = true")
    except _REFUSED as error:
        connection.close()
        raise store.unreadable(_message(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def beside(
    store: Store,
    other: duckdb.DuckDBPyConnection,
    added: QuestionColumns = NOTHING,
    macros: Sequence[str] = (),
) -> duckdb.DuckDBPyConnection:
    """Another connection to the same database, with the views that `connect` would make. It is closed separately.

    `other` must come from `database(store, views_of(store).read)`. This takes a third of the time of `connect`.

    Raises StoreError for files that can't be read.
    """
    return _with_views(store, other.cursor(), views_of(store, added), macros)


def _with_views(
    store: Store, connection: duckdb.DuckDBPyConnection, made: Views, macros: Sequence[str]
) -> duckdb.DuckDBPyConnection:
    """The connection with views and macros; closed if they can't be made.

    Raises StoreError for files that can't be read, UsageError for a selection that fails.
    """
    try:
        for name, schema in made.empty.items():
            connection.register(name, _empty(schema))
        for statement in made.statements:
            connection.execute(statement)
        if made.asked:
            _choose(store, connection, made.asked)
        for statement in macros:
            connection.execute(statement)
    except _REFUSED as error:
        connection.close()
        raise store.unreadable(_message(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _spill() -> str:
    """Where DuckDB may spill what does not fit into memory: it makes the folder, and removes it. Empty for nowhere."""
    try:
        return str(Path(tempfile.gettempdir(), f"attnstore-{uuid.uuid4().hex}"))
    except FileNotFoundError:  # there is no folder for temporary files
        return ""


def views_of(store: Store, added: QuestionColumns = NOTHING) -> Views:
    """`documents`, `tokens` and `totals` over the files of the finished parts, with the columns that a question adds.

    Also `faithfulness` over its own file, if measured.

    Raises StoreError if a file is gone.
    """

    def value(column: str) -> str:
        return f"list_avg({identifier(column)}::DOUBLE[])" if added.heads else f"{identifier(column)}::DOUBLE"

    def elements(of_lists: Mapping[str, tuple[str, int]]) -> dict[str, str]:
        return {
            name: f"{identifier(column)}[{place + 1}]::DOUBLE" for name, (column, place) in of_lists.items()
        }

    def mean(values: Sequence[str]) -> str:
        return f"({' + '.join(values)}) / {len(values)}"

    means = {name: mean([value(column) for column in columns]) for name, columns in added.means.items()}
    summed = {
        name: mean([value(column) for column in columns]) for name, columns in added.summed_means.items()
    }
    of_tokens = means | elements(added.elements)
    of_totals = summed | elements(added.summed_elements)
    classes = {} if added.class_column is None else {"class": identifier(added.class_column)}
    clusters = {
        None: {},
        "document": {"cluster": "document"},
        "group": {
            "cluster": 'CASE WHEN "group" IS NULL THEN document ELSE min(document) OVER (PARTITION BY "group") END'
        },
    }[added.cluster]
    of_documents = elements(added.entropies) | clusters
    if added.value_column is not None:
        of_documents["value"] = f"{identifier(added.value_column)}::VARCHAR"
    if added.segments and not store.manifest.pairs:
        of_tokens |= {"segment": "CASE WHEN NOT special THEN 0::TINYINT END"}
        of_documents |= {"text_pair": "NULL::VARCHAR"}
    empty: dict[str, pa.Schema] = {}
    rows, read = {}, []
    kinds: tuple[tuple[Kind, pa.Schema], ...] = (
        ("documents", store.documents_schema),
        ("tokens", store.tokens_schema),
    )
    for view, schema in kinds:
        partitions = store.partitions(store.files_to_read(view, added.parts))
        if not partitions:
            empty[f"no_{view}"] = schema
        rows[view] = _rows(view, partitions, schema)
        read += [each for _, _, addresses in partitions for each in addresses]
    totals_file = store.totals_file()
    measured = [address(file) for file in faithfulness_files(store)]
    read += measured if totals_file is None else [*measured, address(totals_file)]

    def views(documents: str, tokens: str, totals: str, only: str) -> list[str]:
        made = [
            _view("documents", documents, store.documents_schema, of_documents | classes),
            _view("tokens", tokens, store.tokens_schema, of_tokens | classes),
            _view("totals", totals, store.totals_schema, of_totals | classes),
        ]
        if measured:
            paths = ", ".join(map(pattern, measured))
            source = f"read_parquet([{paths}], hive_partitioning = false){only}"
            names = ", ".join(map(identifier, SCHEMA.names))
            made.append(f"CREATE TEMP VIEW {FOLDER} AS SELECT {names} FROM {source}")  # noqa: S608 - all quoted
        return made

    statements = views(rows["documents"], rows["tokens"], _totals(store, rows["tokens"], totals_file), "")
    asked: list[str] = []
    if added.where is not None:
        only = f" WHERE document IN (SELECT document FROM {ASKED})"  # noqa: S608 - names and literals, as above
        those = {view: f"SELECT * FROM ({source}){only}" for view, source in rows.items()}  # noqa: S608
        again = views(those["documents"], those["tokens"], _totals(store, those["tokens"], None), only)
        asked = [
            f"CREATE OR REPLACE TEMP TABLE {ASKED} AS {added.where}",
            *(each.replace("CREATE TEMP VIEW", "CREATE OR REPLACE TEMP VIEW", 1) for each in again),
        ]
    return Views(statements, empty, read, asked)


#: The table with the numbers of the selected documents, if not all are.
ASKED = "asked"


def _choose(store: Store, connection: duckdb.DuckDBPyConnection, statements: Sequence[str]) -> None:
    """Replace all documents by the selected ones. Raises UsageError if the condition fails."""
    choice, *views = statements
    try:
        interruptible(lambda: connection.execute(choice), connection.interrupt)
    except _REFUSED as error:
        told = _user_error(store, error)
        raise UsageError(f"where: {told}") if isinstance(told, UsageError) else told from error
    for statement in views:
        connection.execute(statement)


def needs_measured(store: Store, sql: str) -> None:
    """Raise UsageError if a statement reads `faithfulness` before it is measured, and say how to measure it."""
    if FOLDER in tables_of(sql) and not faithfulness_files(store):
        raise not_measured(store)


def run_sql(store: Store, sql: str, timeout: float | None = None) -> pa.Table:
    """The result of one SELECT over the views `documents`, `tokens`, `totals` and `faithfulness`.

    The statement can read only these views, and write nothing. DESCRIBE, SUMMARIZE, VALUES, FROM and EXPLAIN are
    allowed. `timeout` is in seconds; None for no limit.

    Raises:
        UsageError: it is not one read-only statement, DuckDB refuses it, it takes longer than `timeout`, or its answer
            needs more than half of the machine's memory.
        StoreError: the store can't be read.
    """
    reading_statement(sql)
    needs_measured(store, sql)
    with connect(store) as connection:
        return select(store, connection, sql, timeout=timeout)


def select(
    store: Store,
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    values: Mapping[str, Any] | None = None,
    timeout: float | None = None,
) -> pa.Table:
    """Run `reading_statement(sql)` with its `$names` bound to `values`, in plain Arrow types.

    Dictionaries and large strings become strings, sums of integers (128 bits in DuckDB) become int64 if they fit. A
    signal that ends the process, such as Ctrl-C, ends the statement at once.

    Raises:
        UsageError: DuckDB refuses it, it takes more than `timeout` seconds, or its answer needs more than half of the
            memory.
        StoreError: the store can't be read.
    """
    late = threading.Event()

    def stop() -> None:
        late.set()
        connection.interrupt()

    timer = threading.Timer(timeout or 0, stop)
    try:
        # Read only: even a SELECT may have an INSERT in a WITH clause.
        connection.execute("BEGIN TRANSACTION READ ONLY")
        if timeout:
            timer.start()
        table = interruptible(lambda: _answer(connection, sql, dict(values or {})), connection.interrupt)
        connection.execute("COMMIT")
    except duckdb.InterruptException as error:
        if not late.is_set():
            raise
        raise UsageError(f"stopped after {timeout:g} s: --timeout gives it more, 0 no limit") from error
    except _REFUSED as error:
        raise _user_error(store, error) from error
    finally:
        timer.cancel()
    return plain(table)


def _answer(connection: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any]) -> pa.Table:
    """The rows, as long as they need no more memory than DuckDB itself may use."""
    most, size = _half_of_memory(), 0
    batches = []
    try:
        reader = connection.sql(sql, params=dict(values)).to_arrow_reader(_ROWS_AT_ONCE)
        for batch in reader:
            size += batch.nbytes
            if size > most:
                raise UsageError(
                    f"the answer takes more than {most / 1e9:,.1f} GB, half of the memory: add up, or LIMIT it"
                )
            batches.append(batch)
        return pa.Table.from_batches(batches, reader.schema)
    except (OSError, UnicodeDecodeError):  # the error's type is lost: raise it again, typed
        connection.execute("ROLLBACK")
        connection.execute("BEGIN TRANSACTION READ ONLY")
        return connection.sql(sql, params=dict(values)).to_arrow_table()


@cache
def _half_of_memory() -> int:
    """Bytes. If the system does not say how much it has, that of a small machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return 2 << 30


def _view(view: str, rows: str, schema: pa.Schema, extra: Mapping[str, str]) -> str:
    """The statement that makes a view of the rows. Names are quoted: no user input is pasted."""
    hidden = [identifier(name) for name in extra]
    # `label` is last wherever it is stored, except among the keys of the totals.
    of_table = schema.names if view == "totals" else without_keys(schema)
    names = dict.fromkeys([*of_table, "split", "label"])
    kept = [name for name in map(identifier, names) if name not in hidden]
    added = [f"{expression} AS {identifier(name)}" for name, expression in extra.items()]
    return f"CREATE TEMP VIEW {view} AS SELECT {', '.join([*kept, *added])} FROM ({rows})"  # noqa: S608


def _rows(view: str, partitions: Sequence[tuple[str, str | None, list[str]]], schema: pa.Schema) -> str:
    """The SELECT of a table's stored columns, `split` and `label`. Names are quoted, and texts literals."""
    names = [identifier(name) for name in without_keys(schema)]
    selects = []
    for split, label, paths in partitions:
        of_path = f"{'NULL' if label is None else literal(label)}::VARCHAR AS label"
        columns = [*names, f"{literal(split)} AS split", "label" if "label" in schema.names else of_path]
        source = f"read_parquet([{', '.join(map(pattern, paths))}], hive_partitioning = false)"
        selects.append(f"SELECT {', '.join(columns)} FROM {source}")  # noqa: S608 - see above
    if not selects:
        columns = [*names, "NULL::VARCHAR AS split", "NULL::VARCHAR AS label"]
        selects.append(f"SELECT {', '.join(columns)} FROM no_{view}")  # noqa: S608
    return " UNION ALL ".join(selects)


def _totals(store: Store, tokens: str, path: Place | None) -> str:
    """The SELECT of the totals: from their file or, if there is none, from these rows of `tokens`."""
    if path is not None:
        names = ", ".join(map(identifier, store.totals_schema.names))
        return f"SELECT {names} FROM read_parquet({pattern(address(path))}, hive_partitioning = false)"  # noqa: S608
    sums = ["count(*) AS occurrences", *(f"count_if({name})::BIGINT AS {name}" for name in COUNTS[1:])]
    for column in value_columns(store.tokens_schema):
        type_, name = store.tokens_schema.field(column).type, identifier(column)
        for alias, factor in ((name, ""), (identifier(lift(column)), " * length")):
            if pa.types.is_fixed_size_list(type_):
                heads = [f"sum({name}[{head}]::DOUBLE{factor})" for head in range(1, type_.list_size + 1)]
                of_heads = f"[{', '.join(heads)}]::FLOAT[{type_.list_size}]"
                sums.append(f"CASE WHEN {heads[0]} IS NOT NULL THEN {of_heads} END AS {alias}")
            else:
                sums.append(f"sum({name}::DOUBLE{factor})::FLOAT AS {alias}")
    absent = [f"({identifier(column)} IS NULL)" for column in store.columns_with_nulls()]
    return f"SELECT {', '.join([*KEYS, *sums])} FROM ({tokens}) GROUP BY {', '.join([*KEYS, *absent])}"  # noqa: S608


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def pattern(address: str) -> str:
    """An address for `read_parquet`: a pattern that matches only this address."""
    return literal(re.sub(r"([*?\[])", r"[\1]", address))


def _empty(schema: pa.Schema) -> pa.Table:
    """A table without rows, with dictionaries as plain strings."""
    fields = [
        pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in schema
    ]
    return pa.schema(fields).empty_table()


def plain(table: pa.Table) -> pa.Table:
    """The table without metadata, in types that every reader supports; see `select`."""
    for index, column in enumerate(table.schema):
        kind = column.type
        if pa.types.is_dictionary(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            wanted = pa.string()
        elif pa.types.is_decimal(kind) and kind.scale == 0:
            wanted = pa.int64()
        else:
            continue
        try:
            table = table.set_column(index, column.name, table.column(index).cast(wanted))
        except pa.ArrowInvalid:  # does not fit into 64 bits: left as it is
            continue
    return table.replace_schema_metadata(None)


def _message(error: duckdb.Error | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return one_line(error.object.decode(errors="replace"))
    return one_line(error)


def _user_error(store: Store, error: duckdb.Error | UnicodeDecodeError) -> AttnstoreError:
    """DuckDB's error as the user's mistake, or as the store's damage."""
    message = _message(error)
    if isinstance(error, duckdb.PermissionException):
        return UsageError(f"{message}: only the views documents, tokens and totals can be read")
    # Errors of DuckDB's Parquet reader over damaged bytes have no type of their own, and name no file.
    damage = type(error) in (duckdb.Error, UnicodeDecodeError) or "Invalid unicode" in message
    if damage or isinstance(error, duckdb.IOException) or str(store.path.absolute()) in message:
        return store.unreadable(message)
    return UsageError(message)
