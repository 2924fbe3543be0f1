"""A store through DuckDB and Polars: what can be read, and that nothing can be written."""

import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
import scipy.stats
from asked_store import made_up_documents, write_store

import attnstore.ask.sql as asking
from attnstore.ask.sql import connect, run_sql
from attnstore.ask.statement import reading_statement
from attnstore.errors import StoreError, UsageError
from attnstore.store.frames import QuestionColumns, collect, documents, tokens
from attnstore.store.store import open_store


@pytest.fixture(scope="module")
def made_up():
    return made_up_documents(12, splits=("train", "2024"))


@pytest.fixture(scope="module")
def store(tmp_path_factory, made_up):
    return write_store(tmp_path_factory.mktemp("views") / "s", made_up)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# -- reading ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_both_engines_show_the_contracts_columns_then_split_and_label_as_text(store):
    """The same names in the same order, whatever is in the path and whatever it looks like."""
    for kind, frame, schema in (
        ("documents", documents(store), store.documents_schema),
        ("tokens", tokens(store), store.tokens_schema),
    ):
        names = [*schema.names, "split", "label"]
        described = run_sql(store, f"DESCRIBE {kind}").to_pylist()
        assert [row["column_name"] for row in described] == names
        assert [row["column_type"] for row in described[-2:]] == ["VARCHAR", "VARCHAR"]
        assert frame.collect_schema().names() == names
        assert frame.collect_schema().dtypes()[-2:] == [pl.String, pl.String]


@pytest.mark.slow
@pytest.mark.parametrize("label_in_path", [True, False])
def test_both_engines_return_every_row_as_written(tmp_path, label_in_path):
    """Ids, labels with nulls, splits, predictions, tokens, words and values, in document order."""
    made_up = made_up_documents(12, labels=("a b", None, "é/1"), splits=("train", "2024"))
    store = write_store(tmp_path / "s", made_up, label_in_path=label_in_path)
    names = ["id", "label", "split", "prediction", "truncated", "text"]
    wanted = [tuple(document[name] for name in names) for document in made_up]
    found = run_sql(store, f"SELECT {', '.join(names)} FROM documents ORDER BY document").to_pylist()  # noqa: S608
    assert [tuple(row.values()) for row in found] == wanted
    assert documents(store).sort("document").select(names).collect().rows() == wanted

    names = ["token", "word", "piece", "special", "cls_02", "cls_heads_01", "odd"]
    wanted = [
        (number, *(row[name] for name in names), document["label"])
        for number, document in enumerate(made_up)
        for row in document["tokens"]
    ]
    columns = ", ".join(["document", *names, "label"])
    sql = f"SELECT {columns} FROM tokens ORDER BY document, position"  # noqa: S608
    assert [tuple(row.values()) for row in run_sql(store, sql).to_pylist()] == wanted
    assert (
        tokens(store).sort("document", "position").select("document", *names, "label").collect().rows()
        == wanted
    )


def test_documents_get_the_entropies_of_the_chosen_head(store, made_up):
    """In double precision, beside the stored ones and the class; the same in both engines."""
    added = QuestionColumns(elements={"attention_02_02": ("cls_heads_02", 1)}, class_column="label")
    names = ["attention_02_02_entropy", "cls_heads_02_entropy", "class"]
    frame = documents(store, added).sort("document").select(names).collect()
    with connect(store, added) as connection:
        view = connection.sql(f"SELECT {', '.join(names)} FROM documents ORDER BY document").pl()  # noqa: S608
    for found in (frame, view):
        assert found.schema["attention_02_02_entropy"] == pl.Float64
        for (own, heads, class_), document in zip(found.rows(), made_up, strict=True):
            wanted = scipy.stats.entropy([row["cls_heads_02"] for row in document["tokens"]])
            assert (own, class_) == (heads[1], document["label"])
            assert heads == pytest.approx(wanted.tolist(), rel=1e-6)


@pytest.mark.slow
def test_statements_that_only_read_are_allowed(store):
    """SELECT in all its forms, DESCRIBE, SUMMARIZE, EXPLAIN, UNPIVOT, unions, recursion, and table macros."""
    for sql, first in (
        ("select count(*) from documents", 12),
        ("from documents select count(*);", 12),
        ("-- how many\nwith a as (select * from documents) select count(*) from a", 12),
        ("values (7)", 7),
        ("select 1 union all select 2 order by 1", 1),
        (
            "with recursive n as (select 1 as i union all select i + 1 from n where i < 5) select max(i) from n",
            5,
        ),
        ("select sum(length) from documents", sum(len(d["tokens"]) for d in made_up_documents(12))),
        ("pivot documents on split in ('train', '2024') using count(*) group by truncated order by 1", False),
        ("select unnest([3, 4])", 3),
        ("select max(i) from range(5) t(i)", 4),
    ):
        assert run_sql(store, sql).column(0)[0].as_py() == first, sql
    assert run_sql(store, "summarize documents").num_rows == len(store.documents_schema) + 2
    for sql in (
        "explain select 1",
        "EXPLAIN ANALYZE select count(*) from tokens",
        "explain (format json) select 1",
    ):
        assert run_sql(store, sql).num_rows >= 1, sql


def test_results_have_plain_types(store):
    """Sums of integers are int64 although DuckDB uses 128 bits, and strings are strings.

    Larger numbers stay as they are.
    """
    table = run_sql(store, "select sum(length), any_value(prediction), 2::hugeint ** 100 from documents")
    assert table.schema.types == [pa.int64(), pa.string(), pa.float64()]
    huge = run_sql(store, "select sum(x) from (values (9223372036854775807), (9223372036854775807)) t(x)")
    assert int(huge.column(0)[0].as_py()) == 2 * (2**63 - 1)


# -- refusals ---------------------------------------------------------------------------------------------

WRITING = [
    "insert into documents values (1)",
    "update documents set id = 'x'",
    "delete from documents",
    "create table t as select 1",
    "create or replace view documents as select 1",
    "drop view documents",
    "copy (select 1) to '{file}'",
    "copy documents to '{folder}/out.csv'",
    "explain analyze copy (select 1) to '{file}'",
    "explain copy (select 1) to '{file}'",
    # DuckDB 2.0: also a SELECT, and the file is one that may be read.
    "with a as (copy (select 1 as x) to '{file}' (format parquet, use_tmp_file false)) select 1",
    "explain analyze with a as (copy (select 1 as x) to '{file}' (use_tmp_file false)) select 1",
    "from query('with a as (copy (select 1 as x) to ''{file}'' (use_tmp_file false)) select 1')",
    "select * from json_execute_serialized_sql('{{}}')",
    "with a as (insert into documents values (1) returning *) select * from a",
    "attach '{folder}/x.db'",
    "attach ':memory:' as m",
    "install httpfs",
    "load httpfs",
    "set enable_external_access = true",
    "reset enable_external_access",
    "set variable a = 1",
    "pragma enable_profiling",
    "call pragma_version()",
    "select * from enable_logging(storage = 'file', storage_path = '{folder}/log')",
    "export database '{folder}/x'",
    "import database '{folder}'",
    "begin",
    "checkpoint",
    "vacuum",
    "use memory",
    "prepare p as select 1",
    "select 1; drop view documents",
    "select 1; select 2",
    "",
    "-- nothing but a comment",
]
READING_ELSEWHERE = [
    "from read_csv('/etc/passwd')",
    "from read_text('/etc/passwd')",
    "from read_blob('/etc/passwd')",
    "from '/etc/passwd'",
    "from '{outside}'",
    "from read_parquet('{outside}')",
    "from parquet_schema('{outside}')",
    "from glob('/etc/*')",
    "from sniff_csv('/etc/passwd')",
    "from 'https://example.com/x.parquet'",
    "from read_parquet('s3://bucket/x.parquet')",
    "from a_python_variable",
    "from arrow_scan(1, 2, 3)",
]
WRONG = [
    ("select wrd from tokens", 'Candidate bindings: "word"'),
    ("select * from token", 'Did you mean "tokens"?'),
    ("selec 1", 'syntax error at or near "selec"'),
    ("select $name", "name"),
    ("select error('stop\nit')", "stop it"),
    ("pivot documents on split using count(*)", "a PIVOT has to name its values here"),
]


@pytest.mark.slow
@pytest.mark.parametrize("sql", WRITING + READING_ELSEWHERE)
def test_sql_writes_nothing_and_reads_nothing_else(store, tmp_path, sql):
    """Each is refused in one line, and neither the store nor the folder beside it changes by a byte."""
    outside = tmp_path / "secret.parquet"
    pl.DataFrame({"x": [1]}).write_parquet(outside)
    a_python_variable = pa.table({"x": [1]})
    before = snapshot(store.path), snapshot(tmp_path)
    filled = sql.format(file=store.documents_files()[0], folder=tmp_path, outside=outside)
    with pytest.raises(UsageError) as caught:
        run_sql(store, filled)
    assert "\n" not in str(caught.value)
    assert (snapshot(store.path), snapshot(tmp_path)) == before
    assert a_python_variable.num_rows == 1


@pytest.mark.parametrize(("sql", "hint"), WRONG)
def test_a_mistake_in_sql_is_one_line_with_the_hint(store, sql, hint):
    """DuckDB's own message, without its drawing of the query."""
    with pytest.raises(UsageError) as caught:
        run_sql(store, sql)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "LINE 1" not in str(caught.value)


@pytest.mark.parametrize("sql", ["from read_csv('/etc/passwd')", "copy (select 1) to '/tmp/attnstore-no.csv'",
    "load httpfs", "set enable_external_access = true", "set allowed_paths = ['/etc/passwd']"])  # fmt: skip
def test_the_connection_itself_is_locked(store, sql):
    """`connect` returns a real connection: DuckDB itself refuses these statements, not only our check."""
    with connect(store) as connection, pytest.raises(duckdb.Error):
        connection.execute(sql)
    assert not Path("/tmp/attnstore-no.csv").exists()  # noqa: S108 - that is what must not appear


@pytest.mark.slow
def test_reading_leaves_nothing_behind(store, tmp_path):
    """No spill directory and no database, in the working directory or in the store."""
    before = snapshot(store.path)
    script = (
        "import sys; from attnstore.store.store import open_store; from attnstore.ask.sql import run_sql; "
        "run_sql(open_store(sys.argv[1]), 'select token, count(*) from tokens group by all order by all')"
    )
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", script, str(store.path)],
        check=True, cwd=tmp_path, env={"PYTHONPATH": str(root), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    assert snapshot(store.path) == before


@pytest.mark.parametrize("damage", ["gone", "cut", "noise"])
def test_a_damaged_part_is_the_stores_error(tmp_path, damage):
    """One line that names the store and suggests `verify`, in both engines."""
    store = write_store(tmp_path / "s", made_up_documents(6))
    victim = store.tokens_files()[-1]
    if damage == "gone":
        victim.unlink()
    else:
        content = victim.read_bytes()
        victim.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\0" * len(content))
    opened = open_store(store.path)
    with pytest.raises(StoreError, match="attnstore verify") as caught:
        run_sql(opened, "select sum(cls_01) from tokens")
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="attnstore verify") as caught:
        collect(opened, tokens(opened).select(pl.col("cls_01").sum()))
    assert "\n" not in str(caught.value)


def test_nothing_is_drawn_on_the_output_beside_the_answer(small_store):
    """DuckDB's own progress bar, which appears on stdout after two seconds, is off."""
    with connect(open_store(small_store)) as connection:
        assert connection.execute("SELECT current_setting('enable_progress_bar')").fetchone() == (False,)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "1+" * 900 + "1",
        "SELECT " + "[" * 900 + "]" * 900,
        "SELECT " + "(" * 1200 + "1" + ")" * 1200,
    ],
)
def test_a_deeply_nested_statement_is_one_line(sql: str) -> None:
    """It is too deep for Python's own reader, or for DuckDB's parser."""
    with pytest.raises(UsageError, match=r"^the statement is nested too deeply$"):
        reading_statement(sql)


ENDLESS = "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT 1 FROM t) SELECT count(*) FROM t"


@pytest.mark.slow
def test_an_endless_statement_is_stopped(tmp_path: Path) -> None:
    """After the time limit, with the option for more time. The store can be asked again."""
    store = write_store(tmp_path / "store", made_up_documents(3))
    with pytest.raises(UsageError, match=r"^stopped after 0\.3 s: --timeout gives it more, 0 no limit$"):
        run_sql(store, ENDLESS, timeout=0.3)
    assert run_sql(store, "SELECT count(*) AS n FROM documents", timeout=60).to_pylist() == [{"n": 3}]


@pytest.mark.slow
def test_an_answer_larger_than_the_memory_is_refused(tmp_path: Path, monkeypatch) -> None:
    """Its size is counted as it arrives, not when it is complete."""
    monkeypatch.setattr(asking, "_half_of_memory", lambda: 64 << 20)
    store = write_store(tmp_path / "store", made_up_documents(3))
    with pytest.raises(UsageError, match=r"the answer takes more than 0\.1 GB, half of the memory"):
        run_sql(store, "FROM range(10_000_000_000)")
    assert run_sql(store, "SELECT count(*) AS n FROM range(1000000)").to_pylist() == [{"n": 1000000}]


def test_an_error_in_the_middle_of_an_answer_keeps_its_kind(tmp_path: Path) -> None:
    """The user's mistake is reported as such, however many rows came before it."""
    store = write_store(tmp_path / "store", made_up_documents(3))
    sql = "SELECT CASE WHEN range = 900000 THEN 'x' ELSE '1' END::INT AS i FROM range(1000000)"
    with pytest.raises(UsageError, match="Could not convert string 'x' to INT32"):
        run_sql(store, sql)
