"""`attnstore query`, `queries` and `sql`: their output."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import polars as pl
import pyarrow.parquet as pq
import pytest
from command_line import attnstore
from polars.testing import assert_frame_equal

from attnstore.ask.questions import find_questions

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_query_answers_in_every_format_and_to_a_file(small_store, tmp_path):
    """CSV, JSON and Parquet have the same rows; markdown and table show them rounded.

    To 1e-9, because each format is a separate query, and DuckDB's threads add up in a varying order.
    """
    ask = ("query", small_store, "top_tokens_by_class", "-p", "limit=3", "-p", "min_documents=2")
    answers = {form: attnstore(*ask, "--format", form) for form in ("csv", "json", "markdown", "table")}
    assert [code for code, _, _ in answers.values()] == [0, 0, 0, 0]
    rows = json.loads(answers["json"][1])
    assert len(rows) == 6
    attnstore(*ask, "--format", "parquet", "-o", tmp_path / "answer.parquet")
    assert pq.read_table(tmp_path / "answer.parquet").num_rows == 6
    csv = pl.read_csv(io.StringIO(answers["csv"][1]), null_values=[""])
    for read in (csv, pl.read_parquet(tmp_path / "answer.parquet")):
        assert_frame_equal(read, pl.DataFrame(rows), check_dtypes=False, rel_tol=1e-9)
    assert answers["markdown"][1].startswith("| class ")
    assert rows[0]["token"] in answers["table"][1]


#: Values for questions with a required parameter.
ASKED = {
    "contexts": ["-p", "word=great"],
    "document_tokens": ["-p", "document=@3"],
    "similar_documents": ["-p", "document=@3"],
}


@pytest.mark.slow
def test_every_answer_fits_the_terminal(small_store):
    """No line is wider, the declared columns are there, and a line counts what is left out."""
    for name, question in find_questions().items():
        if name in ("faithfulness", "edits"):  # questions about data that this store does not have
            continue
        # Polars is faster here, with the same table.
        ask = ("query", small_store, name, "--engine", "polars", "--rows", "3", *ASKED.get(name, []))
        code, out, _ = attnstore(*ask, terminal=80)
        lines = out.splitlines()
        assert code == 0
        assert max(map(len, lines)) <= 80, name
        if question.columns:
            shown = [cell.strip() for cell in lines[1].strip("│").split("┆")]
            assert shown[: len(question.columns)] == [c.removeprefix("…") for c in question.columns]
            assert f"{len(shown)} of " in out
            assert "; --wide shows all" in out
        assert "based on 60 documents" in out


@pytest.mark.slow
def test_a_terminal_gets_limited_rows_and_pipes_get_everything(small_store):
    """60 rows by default, and a line that says so. A pipe gets every row, every column and complete texts."""
    select = "select *, repeat('x', 500) as long from tokens"
    everything = pl.read_parquet(small_store / "tokens", hive_partitioning=True).height
    for more, rows in (([], 60), (["--rows", "7"], 7), (["--rows", "0"], everything)):
        _, out, _ = attnstore("sql", small_store, select, *more, terminal=80)
        lines = out.splitlines()
        assert sum(line.startswith("│") for line in lines) == rows + 1
        assert max(map(len, lines)) <= 80
        assert (f"{rows} of {everything:,} rows; --rows 0 shows all" in out) == (rows != everything)
    _, wide, _ = attnstore("sql", small_store, select, "--wide", "--rows", "1", terminal=80)
    _, piped, _ = attnstore("sql", small_store, select)
    assert "x" * 500 in wide
    assert piped.count("x" * 500) == everything
    assert wide.splitlines()[1].split() == piped.splitlines()[1].split()


@pytest.mark.slow
def test_both_engines_print_the_same_answer(small_store):
    """Polars and DuckDB agree to the last printed digit."""
    ask = ("query", small_store, "top_words_by_class", "-p", "min_documents=2", "--format", "table")
    assert attnstore(*ask, "--engine", "duckdb")[1] == attnstore(*ask, "--engine", "polars")[1] != ""


@pytest.mark.slow
def test_a_word_that_no_document_has_is_noted(small_store):
    """The answer is empty; stderr says why, and which spelling exists."""
    for word, note in (
        ("GREAT", "note: no document has the word 'GREAT': 'great' is there\n"),
        ("nosuchword", "note: no document has the word 'nosuchword'\n"),
        ("great", ""),
    ):
        code, out, err = attnstore("query", small_store, "contexts", "-p", f"word={word}", "--format", "csv")
        assert (code, err) == (0, note)
        assert (out.count("\n") == 1) == bool(note)


def test_an_answer_without_rows_says_where_to_read_why(small_store):
    """On stderr: stdout stays a table of no rows."""
    asked = ("query", small_store, "top_words_by_class", "-p", "min_documents=1000", "--format", "csv")
    code, out, err = attnstore(*asked)
    assert (code, out.count("\n")) == (0, 1)
    assert err == "note: no row fits; attnstore queries top_words_by_class says what is left out\n"


def test_sql_reads_the_views(small_store):
    """`documents` and `tokens`, joined, with partition keys as columns."""
    code, out, _ = attnstore(
        "sql", small_store, "--format", "csv",
        "select split, count(distinct document) as d, count(*) as n "
        "from tokens join documents using (document, split) group by all",
    )  # fmt: skip
    tokens = pl.read_parquet(small_store / "tokens", hive_partitioning=True)
    assert (code, out) == (0, f"split,d,n\nall,60,{len(tokens)}\n")


def test_queries_lists_and_documents_every_question():
    """Each shipped question by name with its parameters; a single one in full."""
    code, out, _ = attnstore("queries")
    stems = sorted(p.stem for p in (ROOT / "queries").glob("*.sql") if p.name != "shared.sql")
    assert code == 0
    assert len(out.splitlines()) == len(stems)
    for stem in stems:
        assert re.search(rf"^{stem}: ", out, re.MULTILINE)
        code, documented, _ = attnstore("queries", stem)
        assert code == 0
        assert stem in documented


def test_a_terminal_lists_one_question_per_line():
    """No line is wider than the terminal, 24 lines hold them all, and the last line says where to find more."""
    code, out, _ = attnstore("queries", terminal=80)
    lines = click.unstyle(out).splitlines()
    names = list(find_questions())
    assert code == 0
    assert [line.split()[0] for line in lines[: len(names)]] == names
    assert max(map(len, lines)) <= 80
    assert lines[len(names) :] == ["", "attnstore queries NAME: how to read the answer, and the parameters"]


def test_a_folder_of_custom_questions_can_be_asked(small_store, tmp_path):
    """`--queries DIR` finds, documents and binds a user's own SQL."""
    (tmp_path / "longest.sql").write_text(
        "-- Which documents are longest?\n--\n-- @param limit: count = 2 -- how many\n"
        "SELECT id, length FROM documents ORDER BY length DESC, document LIMIT $limit\n"
    )
    code, out, _ = attnstore(
        "query", small_store, "longest", "--queries", tmp_path, "--format", "csv", "-p", "limit=1"
    )
    assert (code, out) == (0, "id,length\nr7,40\n")
    assert "longest: Which documents are longest?" in attnstore("queries", "--queries", tmp_path)[1]
    code, out, _ = attnstore("queries", "--queries", tmp_path, "longest")
    assert (code, out) == (
        0,
        "longest\n\nWhich documents are longest?\n\nParameters:\n  limit: count, default 2\n      how many\n\n"
        "And where: a condition over documents in SQL, such as length > 100; the others are left out.\n\n"
        "Engines: duckdb\n",
    )


@pytest.mark.slow
def test_a_custom_question_can_be_asked_of_two_stores(small_store, tmp_path):
    """`--with` shows both answers and their difference side by side, matched by columns that the question declares."""
    (tmp_path / "lengths.sql").write_text(
        "-- How long are documents?\n-- @pair prediction: length\n"
        "SELECT prediction, avg(length) AS length FROM documents GROUP BY prediction ORDER BY prediction\n"
    )
    mine = ("lengths", "--queries", tmp_path, "--format", "json")
    code, out, _ = attnstore("query", small_store, *mine)
    expected = {row["prediction"]: row["length"] for row in json.loads(out)}
    assert code == 0
    code, out, _ = attnstore("query", small_store, *mine, "--with", small_store)
    rows = json.loads(out)
    assert code == 0
    assert list(rows[0]) == [
        "prediction",
        "length_a",
        "length_b",
        "length_difference",
        "length_low",
        "length_high",
    ]
    assert [(r["prediction"], r["length_a"], r["length_b"], r["length_difference"]) for r in rows] == [
        (name, length, length, 0) for name, length in expected.items()
    ]
    code, _, err = attnstore("query", small_store.parent / "*", *mine, "--with", small_store)
    assert (code, err.count("\n")) == (2, 1)
    assert "--with compares one store with another" in err


def test_a_custom_question_needs_its_own_name_and_a_comment(small_store, tmp_path):
    """One line that names the file, whichever question is asked or listed."""
    for name, text, wrong in (
        ("heads", "-- Mine?\nSELECT 1\n", r"there is a question heads already, .*heads\.sql: rename one"),
        ("mine", "SELECT 1\n", "has to begin with a comment, its first line the question"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.sql").write_text(text)
        for command in (("queries",), ("queries", "predictions"), ("query", small_store, "predictions")):
            code, out, err = attnstore(*command, "--queries", folder)
            assert (code, out) == (2, "")
            assert re.fullmatch(rf"attnstore: {re.escape(str(folder / name))}\.sql:? {wrong}\n", err)


@pytest.mark.slow
def test_a_closed_pipe_ends_quietly(small_store):
    """`attnstore query … | head -1` prints one line and no traceback."""
    asked = "document_tokens -p document=r7 --format csv"
    command = f"{sys.executable} -m attnstore query {small_store} {asked} | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.startswith("position,token,")
    assert "Traceback" not in done.stderr
