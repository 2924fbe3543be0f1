"""Signals in real processes: one line on stderr, 128 plus the signal's number, and nothing lost."""

import re
import signal
import subprocess
import sys
import time

import pytest
from command_line import attnstore

ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"

#: Says `begun` when a statement is handed to DuckDB, or a query to Polars.
QUERYING = """
import attnstore.interrupts
interruptible = attnstore.interrupts.interruptible
def said(work, *more):
    def begun():
        print('begun', flush=True)
        return work()
    return interruptible(begun, *more)
attnstore.interrupts.interruptible = said
"""
#: The survey of the data goes on for a minute.
SURVEYING = """
import time
import attnstore.data.survey
def slow(source):
    print('begun', flush=True)
    time.sleep(60)
attnstore.data.survey.survey = slow
"""
#: The loading of the model goes on for a minute.
LOADING = """
import time
import attnstore.engine.loading
def slow(*arguments):
    print('begun', flush=True)
    time.sleep(60)
attnstore.engine.loading.load_classifier = slow
"""
#: Each batch takes longer.
COMPUTING = """
import time
from attnstore.engine.classifier import Classifier
call = Classifier.__call__
def slow(self, batch):
    print('begun', flush=True)
    time.sleep(0.3)
    return call(self, batch)
Classifier.__call__ = slow
"""


def signalled(number, changed, *arguments):
    """(exit code, stderr) of a command that gets the signal once it has printed `begun`."""
    start = f"import sys\n{changed}\nfrom attnstore.commands import main\nmain(sys.argv[1:])"
    child = subprocess.Popen(
        [sys.executable, "-c", start, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "begun\n" in child.stdout  # reads up to there
        time.sleep(0.2)  # it may be anywhere: some of it deep in C++
        child.send_signal(number)
        _, err = child.communicate(timeout=60)
    finally:
        child.kill()
    return child.returncode, err


def end_of(err):
    """The lines of stderr that are no notes."""
    return [line for line in err.splitlines() if not line.startswith("note: ")]


def run_of(store, data, model):
    options = ("--part-size", "10", "--max-length", "40", "--device", "cpu", "--dtype", "float32", "--quiet")
    return "run", store, "--data", data, "--model", model, *options


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_an_endless_statement(small_store, number):
    """`attnstore sql` of a recursion without an end: DuckDB is stopped, and not waited for."""
    ended = signalled(number, QUERYING, "sql", small_store, ENDLESS)
    assert ended == (128 + number, "attnstore: interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) AS n FROM tokens a, tokens b, tokens c, tokens d WHERE a.word < b.word",
        "SELECT list_sum(list_transform(range(300000000), lambda x: x * 2)) AS n",  # DuckDB ends it too late
    ],
)
def test_ctrl_c_ends_a_question(small_store, tmp_path, text):
    """`attnstore query`: a long scan, and one step of a statement, which DuckDB does not interrupt."""
    tmp_path.joinpath("long.sql").write_text(f"-- How long is this?\n{text}\n")
    ended = signalled(signal.SIGINT, QUERYING, "query", small_store, "long", "--queries", tmp_path)
    assert ended == (130, "attnstore: interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_question_to_polars(small_store, tmp_path, number):
    """Polars can't be stopped: its thread is left behind."""
    tmp_path.joinpath("long.sql").write_text("-- How long is this?\nSELECT 1 AS n\n")
    tmp_path.joinpath("long.py").write_text(
        "import time\n\nimport polars as pl\n\n\ndef answer(tables, parameters):\n"
        "    pairs = pl.LazyFrame({'n': range(60_000)}).join(pl.LazyFrame({'m': range(60_000)}), how='cross')\n"
        "    return pairs.select((pl.col('n') * pl.col('m')).sin().cos().tan().sum())\n"
    )
    asked = ("query", small_store, "long", "--queries", tmp_path, "--engine", "polars")
    assert signalled(number, QUERYING, *asked) == (128 + number, "attnstore: interrupted\n")


@pytest.mark.slow
def test_ctrl_c_ends_the_questions_of_a_summary(tiny_model, reviews, tmp_path):
    """The store is sealed by then: nothing is missing."""
    endless = (
        QUERYING
        + f"""
import attnstore.ask.sql
def select(store, connection, *_):
    return attnstore.interrupts.interruptible(
        lambda: connection.sql({ENDLESS!r}).to_arrow_table(), connection.interrupt
    )
attnstore.ask.sql.select = select
"""
    )
    code, err = signalled(signal.SIGINT, endless, *run_of(tmp_path / "s.attn", reviews, tiny_model))
    assert (code, end_of(err)) == (130, ["attnstore: interrupted"])
    assert re.search(r"^state: +sealed", attnstore("info", tmp_path / "s.attn")[1], re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "number"),
    [
        (SURVEYING, signal.SIGINT),
        (SURVEYING, signal.SIGTERM),
        (LOADING, signal.SIGINT),
        (LOADING, signal.SIGHUP),
    ],
    ids=["surveyed-INT", "surveyed-TERM", "loading-INT", "loading-HUP"],
)
def test_a_signal_before_the_first_part_ends_a_run(tiny_model, reviews, tmp_path, changed, number):
    """While the data is surveyed or the model loads there is nothing to finish, and no store yet."""
    code, err = signalled(number, changed, *run_of(tmp_path / "s.attn", reviews, tiny_model))
    assert (code, end_of(err)) == (128 + number, ["attnstore: interrupted"])
    assert not (tmp_path / "s.attn").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_the_part_in_hand_be_finished(tiny_model, reviews, tmp_path, number):
    """stderr says what is missing, and the same command goes on to the bytes of a run that nothing disturbed."""
    code, err = signalled(number, COMPUTING, *run_of(tmp_path / "s.attn", reviews, tiny_model))
    assert code == 128 + number
    (line,) = end_of(err)
    assert re.fullmatch("attnstore: stopped; [1-5] of 6 parts are missing: the same command goes on", line)
    for store in ("s.attn", "t.attn"):
        assert attnstore(*run_of(tmp_path / store, reviews, tiny_model))[0] == 0
    assert content(tmp_path / "s.attn") == content(tmp_path / "t.attn")


def content(store):
    """The bytes of a store's tables by path."""
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*.parquet")}
