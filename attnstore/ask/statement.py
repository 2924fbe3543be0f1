"""The guard for SQL input: one statement that only reads, in all its parts."""

import json
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

import duckdb

from attnstore.errors import UsageError

_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?(\s*\([^)]*\))?\s", re.IGNORECASE)
_READING_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "CTE_NODE", "RECURSIVE_CTE_NODE"})
#: Others run SQL from a string, change settings, or take raw pointers.
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


@lru_cache(maxsize=64)  # a question is checked when it is found, and run later
def reading_statement(sql: str, macros: frozenset[str] = frozenset()) -> duckdb.Statement:
    """The one statement in `sql`. `macros` are attnstore's table functions that it may call.

    It is a SELECT (or an EXPLAIN of one) in all its parts: in DuckDB, a WITH clause may contain a COPY, which could
    overwrite the very files that the connection is allowed to read.

    Raises:
        UsageError: it has no statement or several, is not SQL, or does something other than reading.
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
            if "max_expression_depth" in str(error):  # it advises to raise a limit that is locked here
                raise UsageError("the statement is nested too deeply") from None
            raise UsageError(one_line(error)) from error
    try:
        parsed = json.loads(tree)
        parts = list(_parts(parsed))
    except RecursionError:
        raise UsageError("the statement is nested too deeply") from None
    if parsed["error"]:
        raise UsageError(f"a store is only read: give a plain SELECT ({parsed['error_message']})")
    for kind, function in parts:
        if kind.endswith("_NODE") and kind not in _READING_NODES:
            raise UsageError(f"a store is only read: no {kind.removesuffix('_QUERY_NODE')} in a WITH clause")
        if kind == "TABLE_FUNCTION" and function not in _TABLE_FUNCTIONS | macros:
            raise UsageError(
                f"the table function {function} is not allowed: read the views documents, tokens and totals"
            )
    return statement


@lru_cache(maxsize=64)  # a question is checked before it is run, afterwards, and when it is run again
def tables_of(sql: str) -> frozenset[str]:
    """The lower-case names of the tables that a SELECT reads; none if it can't be parsed."""
    with _parser().cursor() as connection:
        ((tree,),) = connection.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchall()
    found: set[str] = set()
    parts: list[Any] = [json.loads(tree)]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if part.get("type") == "BASE_TABLE":
                found.add(str(part.get("table_name")).lower())
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    return frozenset(found)


def reading_condition(condition: str) -> str:
    """A condition over `documents`, a single read-only expression, as the statement that gives their numbers.

    Raises UsageError if it is not a condition, or closes the parentheses around it.
    """
    statement = f"SELECT document FROM documents WHERE (\n{condition}\n)"  # noqa: S608 - held to be one expression below
    try:
        reading_statement(statement)
        parsed = _parsed_without_where(statement)
        if any(each.get("named_param_map") for each in parsed["statements"]):
            raise UsageError("it has a parameter, $… or ?, to which nothing gives a value")
        if parsed != _parsed_without_where("SELECT document FROM documents WHERE (true)"):
            raise UsageError("it is more than one condition")
    except UsageError as error:
        raise UsageError(
            f"where={condition} is not a condition over documents, such as length > 100 AND label = 'pos': {error}"
        ) from error
    return statement


def _parsed_without_where(sql: str) -> Any:
    """A SELECT's parsed form without its condition, and without the positions of its parts in the text."""
    with _parser().cursor() as connection:
        ((tree,),) = connection.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchall()
    parsed = json.loads(
        tree, object_hook=lambda part: {k: v for k, v in part.items() if k != "query_location"}
    )
    for statement in parsed["statements"]:
        statement["node"].pop("where_clause", None)
    return parsed


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """An empty database for parsing; making one takes longer than most statements."""
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


def one_line(error: BaseException | str) -> str:
    """An engine's message on one line, without an excerpt of the query at its end."""
    return " ".join(str(error).split("\n\nLINE ")[0].split()) or type(error).__name__
