"""A store's tables as DuckDB views and as Polars lazy frames, to be read and nothing else.

They are made of the files of the finished parts alone, have the columns of the contract, `split` and `label` as
text (in `documents` and `tokens` the last), and may get columns on top that parameters of a question choose
(`Added`). While the store is not sealed its `totals` are added up when they are asked for.
"""

import json
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import duckdb
import polars as pl
import pyarrow as pa

from attnstore.ask import statistics
from attnstore.errors import AttnstoreError, StoreError, UsageError
from attnstore.store.schema import entropy
from attnstore.store.store import PART_FILE, Store
from attnstore.store.totals import COUNTS, KEYS, add_up, lift, of_tokens, value_columns


@dataclass(frozen=True, slots=True)
class Added:
    """Columns beside the stored ones. One that has a stored column's name hides it.

    `means`: for each column that `tokens` and `totals` get, the stored columns whose mean it is, in double
    precision; `totals` gets their lifts beside them, named the same way.
    `heads`: these columns hold so many values a token, of which the mean is taken first; None: one value.
    `elements`: for each column that `tokens` and `totals` get, a stored column of several values a token and the
    place (from 0) of the one that it is, in double precision; `totals` gets their lifts, too, and `documents` their
    entropies, named the same way.
    `class_column`: the column that all tables have under the name `class`, None for no such column.
    `cluster`: what makes documents dependent, a group or nothing. `documents` then gets an int32 column
    `cluster`: the number of the group's first document, the document's own where it has no group. None: no
    such column.
    """

    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    heads: int | None = None
    elements: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    class_column: str | None = None
    cluster: Literal["group", "document"] | None = None


_NOTHING = Added()


@dataclass(frozen=True)
class Tables:
    """A store's tables as lazy frames with the added columns: what the Polars twin of a question is given.

    Each is of the parts that are there when it is first asked for, however often it is.
    """

    store: Store
    added: Added

    @cached_property
    def documents(self) -> pl.LazyFrame:
        return documents(self.store, self.added)

    @cached_property
    def tokens(self) -> pl.LazyFrame:
        return tokens(self.store, self.added)

    @cached_property
    def totals(self) -> pl.LazyFrame:
        return totals(self.store, self.added)


# ---------------------------------------------------------------------------------------------------------
# Polars
# ---------------------------------------------------------------------------------------------------------


def documents(store: Store, added: Added = _NOTHING) -> pl.LazyFrame:
    """The documents of the finished parts, with `split` and `label` (String) after the contract's columns."""
    frame = _frame(store, store.documents_files(), store.documents_schema)
    return frame.with_columns(*_elements(store, _entropies(added)), *_class(added), *_cluster(added))


def tokens(store: Store, added: Added = _NOTHING) -> pl.LazyFrame:
    """The tokens of the finished parts, with `split` and `label` (String) after the contract's columns."""
    means = [
        _mean([_value(column, added) for column in columns]).alias(name)
        for name, columns in added.means.items()
    ]
    frame = _frame(store, store.tokens_files(), store.tokens_schema)
    return frame.with_columns(*means, *_elements(store, added.elements), *_class(added))


def totals(store: Store, added: Added = _NOTHING) -> pl.LazyFrame:
    """The tokens of the finished parts added up: `schema.totals_schema`, dictionaries as in `tokens`."""
    path = store.totals_file()
    if path is None:
        frame = of_tokens(tokens(store), store.tokens_schema, store.columns_with_nulls())
    elif path.is_file():
        frame = pl.scan_parquet(path, hive_partitioning=False, glob=False)
    else:
        raise unreadable(store, f"{path.name} is missing")
    frame = frame.select(store.totals_schema.names).with_columns(pl.col("split", "label").cast(pl.String))

    means = [
        _mean([_value(column, added) for column in columns]).alias(name)
        for name, columns in _summed_means(added).items()
    ]
    return frame.with_columns(*means, *_elements(store, _summed_elements(added)), *_class(added))


def added_up(store: Store) -> pa.Table:
    """The totals of the finished parts as `Store.seal` takes them, made of the tokens.

    Raises StoreError where a file of the store can't be read.
    """
    try:
        parts = _tokens_by_part(store)
        return add_up(parts, store.tokens_schema, store.totals_schema, store.columns_with_nulls())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable(store, one_line(error)) from error


def _tokens_by_part(store: Store) -> list[pl.LazyFrame]:
    """The tokens of each finished part, in the order of the plan; see `tokens`."""
    files: dict[int, list[Path]] = {part: [] for part in store.finished_parts()}
    for path in store.tokens_files():
        if name := PART_FILE.fullmatch(path.relative_to(store.path).as_posix()):
            files.setdefault(int(name[2]), []).append(path)
    return [_frame(store, paths, store.tokens_schema) for paths in files.values()]


def collect(store: Store, answer: pl.LazyFrame) -> pl.DataFrame:
    """Run a query over these frames. Raises StoreError where a file of the store can't be read."""
    try:
        return answer.collect(engine="streaming")  # a store may be larger than the memory
    except (OSError, pl.exceptions.ComputeError) as error:
        raise unreadable(store, one_line(error)) from error


def _value(column: str, added: Added) -> pl.Expr:
    if added.heads is None:
        return pl.col(column).cast(pl.Float64)
    return pl.col(column).cast(pl.Array(pl.Float64, added.heads)).arr.mean()


def _elements(store: Store, elements: Mapping[str, tuple[str, int]]) -> list[pl.Expr]:
    # As an array: to take an element out of a list takes three times as long.
    whole = pl.Array(pl.Float32, store.manifest.heads)
    return [
        pl.col(column).cast(whole).arr.get(place).cast(pl.Float64).alias(name)
        for name, (column, place) in elements.items()
    ]


def _mean(values: Sequence[pl.Expr]) -> pl.Expr:
    total = sum(values[1:], values[0])
    return total / len(values) if len(values) > 1 else total


def _summed_means(added: Added) -> dict[str, tuple[str, ...]]:
    """`means` as `totals` gets them: each with its lift."""
    lifts = {lift(name): tuple(map(lift, columns)) for name, columns in added.means.items()}
    return {**added.means, **lifts}


def _summed_elements(added: Added) -> dict[str, tuple[str, int]]:
    """`elements` as `totals` gets them: each with its lift."""
    lifts = {lift(name): (lift(column), place) for name, (column, place) in added.elements.items()}
    return {**added.elements, **lifts}


def _entropies(added: Added) -> dict[str, tuple[str, int]]:
    """What `documents` gets of `elements`: the entropy of each."""
    return {entropy(name): (entropy(column), place) for name, (column, place) in added.elements.items()}


def _class(added: Added) -> list[pl.Expr]:
    return [] if added.class_column is None else [pl.col(added.class_column).alias("class")]


def _cluster(added: Added) -> list[pl.Expr]:
    own = pl.col("document")
    if added.cluster == "group":
        own = pl.when(pl.col("group").is_null()).then(own).otherwise(own.min().over("group"))
    return [] if added.cluster is None else [own.alias("cluster")]


def _frame(store: Store, files: Iterable[Path], schema: pa.Schema) -> pl.LazyFrame:
    names = _contract_columns(schema)
    frames = []
    for split, label, paths in store.partitions(files):
        of_file = pl.col("label").cast(pl.String)
        of_path = pl.lit(label, dtype=pl.String).alias("label")
        frames.append(
            pl.scan_parquet(paths, hive_partitioning=False, glob=False).select(
                *names, pl.lit(split).alias("split"), of_file if "label" in schema.names else of_path
            )
        )
    if frames:
        return pl.concat(frames)
    empty = pl.DataFrame(schema.empty_table())
    text = pl.lit(None, dtype=pl.String)
    return empty.lazy().select(*names, text.alias("split"), text.alias("label"))


# ---------------------------------------------------------------------------------------------------------
# DuckDB
# ---------------------------------------------------------------------------------------------------------


def connect(store: Store, added: Added = _NOTHING) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB connection with the views `documents`, `tokens` and `totals`, to be closed by the caller.

    It reads the files of the store's finished parts and no other, loads no extension, and its configuration
    is locked.

    Raises:
        StoreError: the store can't be read.
    """

    def value(column: str) -> str:
        return (
            f"list_avg({_identifier(column)}::DOUBLE[])" if added.heads else f"{_identifier(column)}::DOUBLE"
        )

    def elements(of_lists: Mapping[str, tuple[str, int]]) -> dict[str, str]:
        return {
            name: f"{_identifier(column)}[{place + 1}]::DOUBLE" for name, (column, place) in of_lists.items()
        }

    def mean(values: Sequence[str]) -> str:
        return f"({' + '.join(values)}) / {len(values)}"

    means = {name: mean([value(column) for column in columns]) for name, columns in added.means.items()}
    summed = {
        name: mean([value(column) for column in columns]) for name, columns in _summed_means(added).items()
    }
    of_tokens = means | elements(added.elements)
    of_totals = summed | elements(_summed_elements(added))
    classes = {} if added.class_column is None else {"class": _identifier(added.class_column)}
    clusters = {
        None: {},
        "document": {"cluster": "document"},
        "group": {
            "cluster": 'CASE WHEN "group" IS NULL THEN document ELSE min(document) OVER (PARTITION BY "group") END'
        },
    }[added.cluster]
    of_documents = elements(_entropies(added)) | clusters
    connection = duckdb.connect()
    try:
        statistics.register(connection)
        paths = [*store.documents_files(), *store.tokens_files(), *filter(None, [store.totals_file()])]
        files = [path.absolute() for path in paths]
        # DuckDB looks at what it is asked for, a pattern, and at what that matches.
        allowed = dict.fromkeys([*map(_literal, files), *map(_pattern, files)])
        connection.execute(f"SET allowed_paths = [{', '.join(allowed)}]")
        spill = Path(tempfile.gettempdir(), f"attnstore-{uuid.uuid4().hex}")  # DuckDB makes and removes it
        connection.execute(f"SET temp_directory = {_literal(spill)}")
        for setting in (
            "autoload_known_extensions",
            "autoinstall_known_extensions",
            "python_enable_replacements",
            "enable_external_access",
        ):
            connection.execute(f"SET {setting} = false")
        rows = {}
        for view, of_files, schema in (
            ("documents", store.documents_files(), store.documents_schema),
            ("tokens", store.tokens_files(), store.tokens_schema),
        ):
            if not of_files:
                connection.register(f"no_{view}", _empty(schema))
            rows[view] = _rows(store, view, of_files, schema)
        for view, source, schema, extra in (
            ("documents", rows["documents"], store.documents_schema, of_documents | classes),
            ("tokens", rows["tokens"], store.tokens_schema, of_tokens | classes),
            ("totals", _totals(store, rows["tokens"]), store.totals_schema, of_totals | classes),
        ):
            connection.execute(_view(view, source, schema, extra))
        connection.execute("SET lock_configuration = true")
    except duckdb.Error as error:
        connection.close()
        raise unreadable(store, one_line(error)) from error
    return connection


def run_sql(store: Store, sql: str) -> pa.Table:
    """The result of one SELECT over the views `documents`, `tokens` and `totals`.

    The statement can read these views and nothing else, and write nothing. DESCRIBE, SUMMARIZE, VALUES,
    FROM and EXPLAIN are welcome.

    Raises:
        UsageError: it is not one statement that only reads, or DuckDB refuses it.
        StoreError: the store can't be read.
    """
    reading_statement(sql)
    with connect(store) as connection:
        return select(store, connection, sql)


def select(
    store: Store, connection: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any] | None = None
) -> pa.Table:
    """Run `reading_statement(sql)` with its `$names` bound to `values`, in plain Arrow types.

    Dictionaries and large strings come as strings, sums of integers (128 bits in DuckDB) as int64 where they
    fit.

    Raises:
        UsageError: DuckDB refuses it.
        StoreError: the store can't be read.
    """
    try:
        # Read only: even a SELECT may hold an INSERT in a WITH clause.
        connection.execute("BEGIN TRANSACTION READ ONLY")
        table = connection.sql(sql, params=dict(values or {})).to_arrow_table()
        connection.execute("COMMIT")
    except duckdb.Error as error:
        raise _told(store, error) from error
    return plain(table)


_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?(\s*\([^)]*\))?\s", re.IGNORECASE)
_READING_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "CTE_NODE", "RECURSIVE_CTE_NODE"})
#: Others run SQL from a text, change settings, or take raw pointers.
_TABLE_FUNCTIONS = frozenset(
    {
        "range",
        "generate_series",
        "repeat",
        "unnest",
        "histogram",
        "histogram_values",
        "json_each",
        "json_tree",
    }
    | {
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_settings",
        "duckdb_views",
        "read_parquet",
        "parquet_scan",
    }
    | {"parquet_metadata", "parquet_schema", "parquet_file_metadata", "parquet_kv_metadata"}
)


@lru_cache(maxsize=64)  # a question is checked when it is found, and asked later
def reading_statement(sql: str) -> duckdb.Statement:
    """The one statement that `sql` holds.

    It is a SELECT (or an EXPLAIN of one) through and through: in DuckDB a WITH clause may hold a COPY, which
    could write over the very files that the connection is allowed to read.

    Raises:
        UsageError: it holds none, several, no SQL, or something else than a statement that only reads.
    """
    with _parser().cursor() as connection:
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1:
                raise UsageError(f"give one SELECT: here are {len(statements) or 'no'} statements")
            statement = explained = statements[0]
            if statement.type == duckdb.StatementType.EXPLAIN and (start := _EXPLAIN.match(statement.query)):
                # EXPLAIN ANALYZE runs what it explains.
                (explained,) = connection.extract_statements(statement.query[start.end() :])
            if explained.type == duckdb.StatementType.MULTI:
                raise UsageError("a PIVOT has to name its values here: PIVOT ... ON column IN (a, b) ...")
            if explained.type != duckdb.StatementType.SELECT:
                raise UsageError(f"a store is only read: give a SELECT, not {explained.type.name}")
            ((tree,),) = connection.execute(
                "SELECT json_serialize_sql($sql)", {"sql": explained.query}
            ).fetchall()
        except duckdb.Error as error:
            raise UsageError(one_line(error)) from error
    parsed = json.loads(tree)
    if parsed["error"]:
        raise UsageError(f"a store is only read: give a plain SELECT ({parsed['error_message']})")
    for kind, function in _parts(parsed):
        if kind.endswith("_NODE") and kind not in _READING_NODES:
            raise UsageError(f"a store is only read: no {kind.removesuffix('_QUERY_NODE')} in a WITH clause")
        if kind == "TABLE_FUNCTION" and function not in _TABLE_FUNCTIONS:
            raise UsageError(
                f"the table function {function} is not for a store: the views documents, tokens and totals are"
            )
    return statement


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """An empty database that parses; to make one takes longer than most statements."""
    return duckdb.connect()


def _parts(tree: Any) -> Iterator[tuple[str, str]]:
    """(type, name of the table function or "") of every part of a serialised statement."""
    if isinstance(tree, list):
        for part in tree:
            yield from _parts(part)
    elif isinstance(tree, dict):
        if isinstance(tree.get("type"), str):
            function = tree.get("function")
            yield tree["type"], function.get("function_name", "") if isinstance(function, dict) else ""
        for part in tree.values():
            yield from _parts(part)


def _view(view: str, rows: str, schema: pa.Schema, extra: Mapping[str, str]) -> str:
    """The statement that makes a view of the rows. Names are quoted: nothing of a user's is pasted."""
    hidden = [_identifier(name) for name in extra]
    # `label` stands at the end wherever it is stored, but among the keys of the totals.
    of_table = schema.names if view == "totals" else _contract_columns(schema)
    names = dict.fromkeys([*of_table, "split", "label"])
    kept = [name for name in map(_identifier, names) if name not in hidden]
    added = [f"{expression} AS {_identifier(name)}" for name, expression in extra.items()]
    return f"CREATE VIEW {view} AS SELECT {', '.join([*kept, *added])} FROM ({rows})"  # noqa: S608


def _rows(store: Store, view: str, files: Iterable[Path], schema: pa.Schema) -> str:
    """The SELECT of a table's stored columns, `split` and `label`. Names are quoted, and texts literals."""
    names = [_identifier(name) for name in _contract_columns(schema)]
    selects = []
    for split, label, paths in store.partitions(files):
        of_path = f"{'NULL' if label is None else _literal(label)}::VARCHAR AS label"
        columns = [*names, f"{_literal(split)} AS split", "label" if "label" in schema.names else of_path]
        source = f"read_parquet([{', '.join(map(_pattern, paths))}], hive_partitioning = false)"
        selects.append(f"SELECT {', '.join(columns)} FROM {source}")  # noqa: S608 - see above
    if not selects:
        columns = [*names, "NULL::VARCHAR AS split", "NULL::VARCHAR AS label"]
        selects.append(f"SELECT {', '.join(columns)} FROM no_{view}")  # noqa: S608
    return " UNION ALL ".join(selects)


def _totals(store: Store, tokens: str) -> str:
    """The SELECT of the totals: of their file or, while the store is not sealed, of the rows of its `tokens`."""
    path = store.totals_file()
    if path is not None:
        if not path.is_file():
            raise unreadable(store, f"{path.name} is missing")
        names = ", ".join(map(_identifier, store.totals_schema.names))
        return f"SELECT {names} FROM read_parquet({_pattern(path.absolute())}, hive_partitioning = false)"  # noqa: S608
    sums = ["count(*) AS occurrences", *(f"count_if({name})::BIGINT AS {name}" for name in COUNTS[1:])]
    for column in value_columns(store.tokens_schema):
        type_, name = store.tokens_schema.field(column).type, _identifier(column)
        for alias, factor in ((name, ""), (_identifier(lift(column)), " * length")):
            if pa.types.is_fixed_size_list(type_):
                heads = [f"sum({name}[{head}]::DOUBLE{factor})" for head in range(1, type_.list_size + 1)]
                of_heads = f"[{', '.join(heads)}]::FLOAT[{type_.list_size}]"
                sums.append(f"CASE WHEN {heads[0]} IS NOT NULL THEN {of_heads} END AS {alias}")
            else:
                sums.append(f"sum({name}::DOUBLE{factor})::FLOAT AS {alias}")
    absent = [f"({_identifier(column)} IS NULL)" for column in store.columns_with_nulls()]
    return f"SELECT {', '.join([*KEYS, *sums])} FROM ({tokens}) GROUP BY {', '.join([*KEYS, *absent])}"  # noqa: S608


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def _pattern(path: Path) -> str:
    """A path as `read_parquet` wants it: a pattern that this path alone matches."""
    return _literal(re.sub(r"([*?\[])", r"[\1]", str(path)))


def _empty(schema: pa.Schema) -> pa.Table:
    """A table without rows, its dictionaries as plain strings."""
    fields = [
        pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in schema
    ]
    return pa.schema(fields).empty_table()


# ---------------------------------------------------------------------------------------------------------
# Both
# ---------------------------------------------------------------------------------------------------------


def plain(table: pa.Table) -> pa.Table:
    """The table without metadata, in types that every reader knows; see `select`."""
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
        except pa.ArrowInvalid:  # does not fit into 64 bits: it stays as it is
            continue
    return table.replace_schema_metadata(None)


def one_line(error: BaseException) -> str:
    """An engine's message on one line, without the excerpt of the query that it may end with."""
    return " ".join(str(error).split("\n\nLINE ")[0].split()) or type(error).__name__


def _contract_columns(schema: pa.Schema) -> list[str]:
    """The columns of a table but for `label`, which stands at the end wherever it is stored."""
    return [name for name in schema.names if name != "label"]


def _told(store: Store, error: duckdb.Error) -> AttnstoreError:
    """DuckDB's error as the user's mistake, or as the store's damage."""
    message = one_line(error)
    if isinstance(error, duckdb.PermissionException):
        return UsageError(f"{message}: only the views documents, tokens and totals can be read")
    # What DuckDB's reader of Parquet meets in damaged bytes is of no kind of its own, and names no file.
    damage = type(error) is duckdb.Error or "Invalid unicode" in message
    if damage or isinstance(error, duckdb.IOException) or str(store.path.absolute()) in message:
        return unreadable(store, message)
    return UsageError(message)


def unreadable(store: Store, message: str) -> StoreError:
    """The error that a store can't be read, with an engine's message on one line."""
    return StoreError(f"can't read {store.path}: {message}: `attnstore verify` tells what is damaged")
