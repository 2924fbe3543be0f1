"""Every question can be copied as SQL and run by a DuckDB without attnstore."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from command_line import attnstore
from hypothesis import given
from hypothesis import strategies as st
from measured_store import measured_rows, written
from scipy.special import stdtr, stdtrit
from scipy.stats import false_discovery_control

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions
from attnstore.ask.script import script
from attnstore.store.store import open_store

#: Runs each script's statements in a process that can't import attnstore, and prints the rows of the last.
BARE = """
import json, sys
sys.modules["attnstore"] = None
import duckdb
for text in json.load(sys.stdin):
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")  # which would stand among the answers
    *statements, asked = connection.extract_statements(text)
    for statement in statements:
        connection.execute(statement)
    found = connection.execute(asked)
    columns = [name for name, *_ in found.description]
    print(json.dumps({"columns": columns, "rows": found.fetchall()}, default=str))
"""
Found = tuple[list[str], list[list[object]]]


def run_bare(folder: Path, *texts: str) -> list[Found]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", BARE],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(texts)
    return [(answer["columns"], answer["rows"]) for answer in found]


def assert_same(found: Found, expected: pa.Table, rel: float = 1e-8) -> None:
    columns, rows = found
    assert columns == expected.column_names
    wanted = json.loads(json.dumps([list(row.values()) for row in expected.to_pylist()], default=str))
    assert len(rows) == len(wanted)
    for row, other in zip(rows, wanted, strict=True):
        for value, true in zip(row, other, strict=True):
            if isinstance(true, float) and isinstance(value, float | int):
                assert value == pytest.approx(true, rel=rel, abs=1e-9, nan_ok=True)
            else:
                assert value == true


GIVEN = {
    "contexts": {"word": "film"},
    "document_tokens": {"document": "r7"},
    "similar_documents": {"document": "r7"},
}
#: In small stores, few words are in enough documents. Without these values, most answers would be empty.
SOME = {"min_documents": 1, "limit": 1000}
#: A p value of the macros takes 0.3 ms, so these questions are asked about fewer words.
FEWER = {"distinctive_words": {"min_documents": 4}, "errors": {"min_documents": 4}}
#: Their SQL reads the totals, which have single precision; the twin sums the tokens.
FROM_TOTALS = ("top_words_by_class", "top_tokens_by_class", "attention_vs_frequency")


@pytest.fixture(scope="module")
def measured(small_store, tmp_path_factory):
    """The small store with a table of faithfulness."""
    path = tmp_path_factory.mktemp("measured") / "s.attn"
    shutil.copytree(small_store, path)
    written(open_store(path), measured_rows(range(60), ["cls_01", "rollout", "random"]))
    return path


@pytest.mark.slow
def test_every_question_gives_the_same_answer_in_a_bare_duckdb(measured, tmp_path):
    """Copied with --sql: the same columns and rows as from Polars, including p values and intervals."""
    store = open_store(measured)
    asked = {}
    for name, question in find_questions().items():
        some = {k: v for k, v in (SOME | FEWER.get(name, {})).items() if question.parameter(k) is not None}
        asked[name] = question, GIVEN.get(name, {}) | some
    found = run_bare(tmp_path, *(script(store, *each) for each in asked.values()))
    for (name, each), bare in zip(asked.items(), found, strict=True):
        assert_same(bare, ask(store, *each, "polars"), rel=1e-6 if name in FROM_TOTALS else 1e-8)


@pytest.mark.slow
def test_the_script_sums_an_unfinished_store(small_store, tmp_path):
    """The finished parts of an active run answer. Without any, the answer is empty, without an error."""

    import small_store as made

    shutil.rmtree(tmp_path / "u.attn", ignore_errors=True)
    plan = made.manifest()
    from attnstore.store.resume import create_or_resume

    question = find_questions()["top_tokens_by_class"]
    with create_or_resume(tmp_path / "u.attn", plan) as store:
        assert_same(run_bare(tmp_path, script(store, question, SOME))[0], ask(store, question, SOME))
        for part in store.missing_parts()[:2]:
            store.write_part(part, *made.tables(plan, store.part_range(part)))
        asked = SOME | {"intervals": False}
        assert_same(run_bare(tmp_path, script(store, question, asked))[0], ask(store, question, asked))


def test_the_command_prints_the_script(small_store, tmp_path):
    """`attnstore queries NAME --sql STORE -p …` prints exactly the script."""
    question = find_questions()["predictions"]
    code, out, err = attnstore("queries", "predictions", "--sql", small_store)
    assert (code, out, err) == (0, script(open_store(small_store), question), "")
    assert attnstore("queries", "--sql", small_store)[0] == 2
    assert attnstore("queries", "predictions", "-p", "by=label")[0] == 2


HOSTILE = ["it's", '"', "$limit", "--", "/*", "\\", "'; DROP TABLE x; --", "naïve", "film"]


@pytest.mark.slow
def test_values_are_literals(small_store, tmp_path):
    """A quote or a comment in a parameter changes only the value."""
    question, store = find_questions()["contexts"], open_store(small_store)
    found = run_bare(tmp_path, *(script(store, question, {"word": word}) for word in HOSTILE))
    for word, bare in zip(HOSTILE, found, strict=True):
        assert_same(bare, ask(store, question, {"word": word}, "polars"))


@pytest.fixture(scope="module")
def macros():
    connection = duckdb.connect()
    text = (Path(script.__code__.co_filename).with_name("statistics.sql")).read_text()
    connection.execute(text)
    return connection


@pytest.mark.slow
def test_p_values_are_scipys(macros):
    """To 1e-10, and to 1e-5 relative down to 1e-30, for all degrees of freedom."""
    draw = np.random.default_rng(0)
    t = 10 ** draw.uniform(-4, 1.5, 800) * draw.choice([-1, 1], 800)
    df = 10 ** draw.uniform(0, 6.5, 800)
    df[:50] = np.inf
    tests = pa.table({"t": t, "df": df})  # noqa: F841 - DuckDB reads it by name
    found = macros.sql("SELECT p_value(t, df) AS p FROM tests").to_arrow_table()["p"].to_numpy()
    expected = 2 * stdtr(df, -np.abs(t))
    assert np.abs(found - expected).max() < 1e-10
    some = expected > 1e-30
    assert np.abs(found[some] / expected[some] - 1).max() < 1e-5
    pairs = ("0, 3", "'inf'::DOUBLE, 3", "NULL, 3", "1, NULL", "'nan'::DOUBLE, 3")
    edges = f"SELECT [{', '.join(f'p_value({pair})' for pair in pairs)}]"
    assert macros.sql(edges).fetchall()[0][0] == [1.0, 0.0, None, None, None]


def test_quantiles_are_scipys(macros):
    """t for 95 % intervals, to 1e-10 relative, from 1 to infinitely many degrees of freedom."""
    df = np.concatenate([10 ** np.linspace(0, 9, 4000), [np.inf]])
    tests = pa.table({"df": df})  # noqa: F841 - DuckDB reads it by name
    found = macros.sql("SELECT t_quantile(0.975, df) AS t FROM tests").to_arrow_table()["t"].to_numpy()
    assert np.abs(found / stdtrit(df, 0.975) - 1).max() < 1e-10  # scipy 1.15 itself has an error of 4e-11
    assert macros.sql("SELECT [t_quantile(0.9, 5), t_quantile(0.975, NULL)]").fetchall()[0][0] == [None, None]


@pytest.mark.slow
@given(st.lists(st.none() | st.floats(0, 1) | st.sampled_from([0.01, 0.5]), max_size=12))
def test_q_values_are_scipys(macros, family):
    """Benjamini and Hochberg's, including ties and missing tests, in the original order."""
    found = macros.execute("SELECT q_values($p::DOUBLE[])", {"p": family}).fetchone()[0] or []
    tested = [p for p in family if p is not None]
    adjusted = iter(false_discovery_control(tested, method="bh")) if tested else iter(())
    expected = [None if p is None else next(adjusted) for p in family]
    assert found == [pytest.approx(q, abs=1e-12) if q is not None else None for q in expected]
