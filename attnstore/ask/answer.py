"""Questions answered, in either engine."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, SupportsIndex

import duckdb
import polars as pl
import pyarrow as pa

from attnstore.ask.binding import bound
from attnstore.ask.faithful import best_layer
from attnstore.ask.lookup import document_number, number_of, plain_number
from attnstore.ask.macros import needed
from attnstore.ask.questions import (
    FACTS,
    Engine,
    Question,
    asked_statement,
    find_questions,
    get_question,
    shared_macros,
)
from attnstore.ask.sql import ASKED, connect, needs_measured, plain, select
from attnstore.ask.statement import one_line, tables_of
from attnstore.ask.values import (
    as_text,
)
from attnstore.errors import AttnstoreError, NotFoundError, UsageError
from attnstore.messages import counted, suggestion
from attnstore.store.faithfulness import FOLDER, faithfulness_files, measured_before
from attnstore.store.frames import NOTHING, QuestionColumns, Tables, collect, faithfulness
from attnstore.store.frames import documents as frame_of_documents
from attnstore.store.store import Store

#: Opens a connection with the columns and macros that a question needs: `sql.connect`, or a pool's.
Connect = Callable[[Store, QuestionColumns, Sequence[str]], AbstractContextManager[duckdb.DuckDBPyConnection]]

#: With more parts, an id is looked up over a separate connection, and only the document's part is read.
_FEW_PARTS = 100

#: The metadata key of an answer for the line that says what it is based on.
BASIS_KEY = b"attnstore.basis"
#: The metadata key for the columns that a terminal shows, as JSON: names as in `Question.columns`.
COLUMNS_KEY = b"attnstore.columns"


def ask(
    store: Store,
    question: Question,
    parameters: Mapping[str, object] | None = None,
    engine: Engine = "duckdb",
    connect: Connect = connect,
    timeout: float | None = None,
    documents: Sequence[int] | None = None,
) -> pa.Table:
    """The answer to a question, as a table. Its metadata says in one line (`BASIS_KEY`) what it is based on.

    It also names the columns that a terminal shows (`COLUMNS_KEY`): the question's, and the one to rank by.
    `parameters` by name, as values or as text; the others have their defaults. An unfinished store answers from its
    finished parts. `timeout`: seconds that SQL may take; None for no limit. `documents`: the numbers of the documents
    to ask about, among those that a condition selects; None for all.

    Raises:
        UsageError: a parameter is unknown, missing or invalid, the store does not have what it names, or the question
            has no answer in that engine.
        StoreError: the store can't be read.
    """
    if engine not in ("duckdb", "polars"):
        raise UsageError(f"there is no engine {engine!r}: choose duckdb or polars")
    if engine == "polars" and question.polars is None:
        raise UsageError(f"{question.name} works only in DuckDB: it has no {question.name}.py beside it")
    values, added = bound(store, question, parameters or {})
    if documents is not None and engine == "polars" and added.where is None:
        added = replace(added, only=tuple(documents))
    elif documents is not None:
        added = replace(added, where=_those(documents, added.where))
    document = next((p.name for p in question.parameters if p.type == "document"), None)
    needs_measured(store, question.sql)
    if engine == "duckdb":
        some = added.where is not None
        if document is not None and some:  # an id may be that of a document that is not asked about
            with connect(store, NOTHING, ()) as connection:
                number = number_of(store, connection, values[document])
        with connect(store, added, needed(question.sql, shared_macros())) as connection:
            if document is not None and some:
                values[document] = _among(number, _asked(store, connection), values[document])
            elif document is not None:
                values[document] = number_of(store, connection, values[document])
            return _duckdb_answer(store, connection, question, values, timeout, some=some)
    if added.where is not None:
        added = replace(added, only=asked_documents(store, added))
    if document is not None:
        number = document_number(store, values[document])
        values[document] = number if added.only is None else _among(number, added.only, values[document])
    answer = _polars_answer(store, question, values, added)
    asked = None if added.only is None else len(added.only)
    independent = ""
    if _measures(question, values, answer):
        documents_ = frame_of_documents(store, QuestionColumns(only=added.only))
        if FOLDER in tables_of(question.sql):
            documents_ = documents_.join(faithfulness(store), on="document", how="semi")
        group = pl.col("group")
        counts = documents_.select(group.drop_nulls().n_unique(), singles=group.null_count())
        independent = _independent(question, values, *collect(store, counts).row(0))
    return _based(store, question, values, answer, asked, independent)


def _among(number: int, asked: Collection[int], wanted: object) -> int:
    """The document's number, if it is asked about. Raises NotFoundError otherwise."""
    if number not in asked:
        raise NotFoundError(
            f"document {wanted!r} is not among the {counted(len(asked), 'document')} that the condition selects"
        )
    return number


def _those(documents: Sequence[int], where: str | None) -> str:
    """The SELECT of these documents, among those that another SELECT gives."""
    # As text: the parser is slow on a list of so many numbers.
    numbers = f"SELECT unnest(string_split('{','.join(map(str, documents))}', ','))::INTEGER AS document"
    if not documents:
        numbers = "SELECT document FROM documents WHERE false"
    return numbers if where is None else f"SELECT document FROM ({where}) JOIN ({numbers}) USING (document)"  # noqa: S608


def asked_documents(store: Store, added: QuestionColumns) -> tuple[int, ...]:
    """The numbers of the documents that a condition selects."""
    with connect(store, QuestionColumns(where=added.where)) as connection:
        return _asked(store, connection)


def _asked(store: Store, connection: duckdb.DuckDBPyConnection) -> tuple[int, ...]:
    """The same, over a connection that has the condition."""
    sql = f"SELECT document FROM {ASKED} ORDER BY document"  # noqa: S608 - a name of ours
    return tuple(select(store, connection, sql).column(0).to_pylist())


def document_with_tokens(
    store: Store,
    wanted: str | SupportsIndex,
    reduction: str,
    layer: int | str,
    connect: Connect = connect,
    *,
    head: int | str = "mean",
) -> tuple[dict[str, Any], pa.Table]:
    """The row of the document that `document_number` finds, by column, and its tokens, as in `document_tokens`.

    Raises:
        UsageError: there is no such document, reduction, layer or head, or the id belongs to several documents.
        StoreError: the store can't be read.
    """
    question = get_question("document_tokens", find_questions())
    given = {"document": wanted, "reduction": reduction, "layer": layer, "head": head}
    values, added = bound(store, question, given)
    # Opening files takes time, and the number says which file has the document.
    number = plain_number(values["document"])
    is_there = number is not None and store.manifest.part_of(number) in store.finished_parts()
    if not is_there and store.manifest.parts > _FEW_PARTS:
        with connect(store, NOTHING, ()) as connection:
            number = number_of(store, connection, values["document"])
        is_there = True
        values["document"] = f"@{number}"
    if is_there and number is not None:
        added = replace(added, parts=(store.manifest.part_of(number),))
    with connect(store, added, ()) as connection:
        rows = [] if number is None else _row(store, connection, number)
        if not rows:  # an id, or a missing document
            number = number_of(store, connection, values["document"])
            rows = _row(store, connection, number)
        values["document"] = number
        (row,) = rows
        return row, _duckdb_answer(store, connection, question, values)


def _row(store: Store, connection: duckdb.DuckDBPyConnection, number: int) -> list[dict[str, Any]]:
    """The row of the document with that number, or None."""
    sql = "SELECT * FROM documents WHERE document = $number"
    rows: list[dict[str, Any]] = select(store, connection, sql, {"number": number}).to_pylist()
    return rows


def _duckdb_answer(
    store: Store,
    connection: duckdb.DuckDBPyConnection,
    question: Question,
    values: Mapping[str, Any],
    timeout: float | None = None,
    *,
    some: bool = False,
) -> pa.Table:
    named = asked_statement(question.sql).named_parameters
    table = select(store, connection, question.sql, {name: values[name] for name in named}, timeout)
    asked = None
    if some:
        sql = f"SELECT count(*) FROM {ASKED}"  # noqa: S608 - a name of ours
        asked = select(store, connection, sql).column(0).to_pylist()[0]
    independent = ""
    if _measures(question, values, table):
        sql = 'SELECT count(DISTINCT "group"), count(*) FILTER ("group" IS NULL) FROM documents'
        if FOLDER in tables_of(question.sql):
            sql += f" WHERE document IN (SELECT document FROM {FOLDER})"  # noqa: S608 - a name of ours
        row = select(store, connection, sql)
        independent = _independent(question, values, *(column[0].as_py() for column in row.columns))
    return _based(store, question, values, table, asked, independent)


def _measures(question: Question, values: Mapping[str, Any], answer: pa.Table) -> bool:
    """Whether an answer has p values or intervals, which depend on what counts as independent."""
    return bool(_clusters_by(question, values)) and any(
        name in ("p", "low", "high") or name.endswith(("_low", "_high")) for name in answer.column_names
    )


def _clusters_by(question: Question, values: Mapping[str, Any]) -> str:
    """What counts as independent: `group`, `document`, or nothing."""
    chosen = next((str(values[p.name]) for p in question.parameters if p.type == "cluster"), "")
    if values.get("intervals") is False:
        return ""
    return chosen or ("group" if "groups" in question.needs else "")


def _independent(question: Question, values: Mapping[str, Any], groups: int, singles: int) -> str:
    """The number of clusters, in words: `groups` groups of documents, and `singles` documents without a group."""
    if _clusters_by(question, values) == "document":
        return "independent: each document"
    if "groups" in question.needs and not any(p.type == "cluster" for p in question.parameters):
        singles = 0
    parts = [counted(groups, "group")] if groups or not singles else []
    parts += [counted(singles, "single document")] if singles else []
    return f"independent: {' and '.join(parts)}"


def based_on(store: Store, values: Mapping[str, Any], asked: int | None = None) -> str:
    """What an answer is based on, in one line: the number of documents, and the parameters.

    `asked`: how many documents a condition selected; None for all.
    """
    finished = store.finished_parts()
    there = f"{sum(len(store.part_range(part)) for part in finished):,} documents"
    if asked is not None:
        there = f"{asked:,} of {there}"
    if len(finished) < store.manifest.parts:
        there += f" ({len(finished)} of {store.manifest.parts} parts)"
    return ", ".join(
        [there, *(f"{name}={as_text(value)}" for name, value in values.items() if name not in FACTS)]
    )


def _based(
    store: Store,
    question: Question,
    values: Mapping[str, Any],
    table: pa.Table,
    asked: int | None,
    independent: str,
) -> pa.Table:
    """The answer with the line that says what it is based on, and the columns to show."""
    names = [name.removeprefix("…") for name in question.columns]
    if unknown := [name for name in names if name not in table.column_names]:
        raise UsageError(
            f"{question.path}: @columns names {unknown[0]}, which is not a column of the answer"
            f"{suggestion(unknown[0], table.column_names)}"
        )
    # Show what the rows are ranked by: the value of a parameter that chooses one of the columns.
    chosen = [values[p.name] for p in question.parameters if p.type == "text" and p.choices]
    ranked = [name for name in chosen if names and name in table.column_names and name not in names]
    basis = based_on(store, values, asked)
    if FOLDER in tables_of(question.sql):
        measured = collect(store, faithfulness(store).select(pl.col("document").n_unique())).item()
        documents, _, parameters = basis.partition(", ")
        before = measured_before(store)
        then = f" (drawn when there were {before:,})" if before is not None else ""
        basis = f"{documents}, faithfulness measured in {measured:,}{then}, {parameters}"
    if independent:
        basis += f"; {independent}"
    if question.family and "q" in table.column_names:
        basis += f"; q over {question.family}"
    basis += _more_faithful(store, question, values)
    return table.replace_schema_metadata(
        {
            BASIS_KEY: basis.encode(),
            COLUMNS_KEY: json.dumps([*question.columns, *ranked]).encode(),
        }
    )


def _more_faithful(store: Store, question: Question, values: Mapping[str, Any]) -> str:
    """The layer that `layer=best` would choose, if measured, and if the answer is for another layer.

    The default stays the last layer: a measurement must not change what a command answers.
    """
    of_type = {parameter.type: values[parameter.name] for parameter in question.parameters}
    layer, name = of_type.get("layer"), of_type.get("reduction", of_type.get("signed_reduction"))
    reduction = store.manifest.reduction(name) if isinstance(name, str) else None
    if (
        layer in (None, "all")
        or reduction is None
        or not reduction.per_layer
        or not faithfulness_files(store)
    ):
        return ""
    try:
        best = best_layer(store, reduction)
    except UsageError:  # not of all layers of this reduction
        return ""
    return "" if layer == str(best) else f"; layer=best would be {best}"


def _polars_answer(
    store: Store, question: Question, values: Mapping[str, Any], added: QuestionColumns
) -> pa.Table:
    assert question.polars is not None  # noqa: S101 - `ask` has looked
    try:
        answer = question.polars(Tables(store, added), values)
        frame = collect(store, answer)
    except AttnstoreError:
        raise
    except Exception as error:  # a user's own file may raise anything
        # A twin that asks for the columns opens the files.
        if isinstance(error, pl.exceptions.ComputeError) and str(error).startswith("parquet"):
            raise store.unreadable(one_line(error)) from error
        raise UsageError(f"{question.path.with_suffix('.py')} failed: {one_line(error)}") from error
    return plain(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
