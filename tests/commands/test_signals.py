"""Signals: one line on stderr, exit code 128 plus the signal's number, and nothing lost.

Libraries that handle signals themselves are tested in separate processes, everything else in this one.
"""

import re
import signal
import sys
import threading
import time
import weakref

import pytest
from command_line import attnstore
from nursery import Child

from attnstore import interrupts
from attnstore.engine.classifier import Classifier

#: Seconds within which a command must begin and end. A test that waits longer fails.
PATIENCE = 60

EXHAUSTIVE = pytest.mark.exhaustive

ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"

#: Prints `begun` when a statement is passed to DuckDB, or a query to Polars.
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


def signalled(number, changed, *arguments):
    """(exit code, stderr) of a command in a separate process that gets the signal once it has printed `begun`."""
    with Child(f"{changed}\nfrom attnstore.commands import main\nmain()", *arguments) as child:
        watch = threading.Timer(PATIENCE, child.kill)  # closes the stream that is being read
        watch.start()
        try:
            begun = "begun\n" in child.stdout  # reads up to there
            if begun:
                time.sleep(0.2)  # it may be anywhere, also deep in C++
                child.send_signal(number)
            _, err = child.communicate()
        finally:
            watch.cancel()
    assert begun, f"the command ended, or {PATIENCE} seconds were over, before it had begun: {err}"
    assert child.returncode != -signal.SIGKILL, f"the command did not end in {PATIENCE} seconds: {err}"
    return child.returncode, err


def signalled_here(number, begun, *arguments):
    """(exit code, stderr) of a command in this process, which gets the signal once the event `begun` is set.

    This process must survive, so the timer that would end it is disabled.
    """
    ended = threading.Event()

    def send():
        if begun.wait(PATIENCE) and not ended.wait(0.05):
            signal.pthread_kill(threading.main_thread().ident, number)  # as `kill` does it

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(interrupts, "_GRACE", 1e6)
            code, _, err = attnstore(*arguments)
    finally:
        ended.set()
        begun.set()
        sender.join()
    return code, err


def end_of(err):
    """The lines of stderr that are not notes."""
    return [line for line in err.splitlines() if not line.startswith("note: ")]


def run_of(store, data, model):
    options = ("--part-size", "10", "--max-length", "40", "--device", "cpu", "--dtype", "float32", "--quiet")
    return "run", store, "--data", data, "--model", model, *options


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGINT, *(pytest.param(n, marks=EXHAUSTIVE) for n in (signal.SIGTERM, signal.SIGHUP))]
)
def test_a_signal_ends_an_endless_statement(small_store, number):
    """`attnstore sql` of an infinite recursion: DuckDB is stopped, and not waited for."""
    ended = signalled(number, QUERYING, "sql", small_store, ENDLESS)
    assert ended == (128 + number, "attnstore: interrupted\n")


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) AS n FROM tokens a, tokens b, tokens c, tokens d WHERE a.word < b.word",
        "SELECT list_sum(list_transform(range(300000000), lambda x: x * 2)) AS n",  # DuckDB ends it too late
    ],
)
def test_ctrl_c_ends_a_question(small_store, tmp_path, text):
    """`attnstore query`: a long scan, and a single step that DuckDB does not interrupt."""
    tmp_path.joinpath("long.sql").write_text(f"-- How long is this?\n{text}\n")
    ended = signalled(signal.SIGINT, QUERYING, "query", small_store, "long", "--queries", tmp_path)
    assert ended == (130, "attnstore: interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=EXHAUSTIVE)])
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
def test_ctrl_c_ends_the_questions_of_a_summary(tiny_model, reviews, tmp_path, monkeypatch):
    """The store is sealed by then, so nothing is missing."""
    begun = threading.Event()

    def endless(_store, connection, *_):
        begun.set()
        return interrupts.interruptible(
            lambda: connection.sql(ENDLESS).to_arrow_table(), connection.interrupt
        )

    monkeypatch.setattr("attnstore.ask.answer.select", endless)
    code, err = signalled_here(signal.SIGINT, begun, *run_of(tmp_path / "s.attn", reviews, tiny_model))
    assert (code, end_of(err)) == (130, ["attnstore: interrupted"])
    assert re.search(r"^state: +sealed", attnstore("info", tmp_path / "s.attn")[1], re.MULTILINE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("step", ["run.survey", "alone.load_classifier"])
def test_a_signal_before_the_first_part_ends_a_run(tiny_model, reviews, tmp_path, monkeypatch, step, number):
    """While the data is surveyed or the model loads, there is nothing to finish, and no store yet."""
    begun = threading.Event()

    def slow(*_):
        begun.set()
        time.sleep(0.4)

    # Both are replaced: a library that is interrupted while it loads may leave this process in a bad state.
    for each in ("run.survey", "alone.load_classifier"):
        monkeypatch.setattr(
            f"attnstore.pipeline.{each}", slow if each == step else lambda *_: time.sleep(0.4)
        )
    code, err = signalled_here(number, begun, *run_of(tmp_path / "s.attn", reviews, tiny_model))
    assert (code, end_of(err)) == (128 + number, ["attnstore: interrupted"])
    assert not (tmp_path / "s.attn").exists()


def test_an_exception_lost_in_a_callback_is_raised_again(monkeypatch):
    """Python ignores exceptions in the callback of a weak reference. The block ends nevertheless, and only once."""

    class Key:
        pass

    monkeypatch.setattr(interrupts, "_GRACE", 1e6)  # this process goes on
    reported = sys.unraisablehook
    key, ended = Key(), []
    watched = weakref.ref(key, lambda _: signal.raise_signal(signal.SIGTERM))
    try:
        with interrupts.end_on_signals(lambda: None):
            del key
            assert watched() is None
            time.sleep(PATIENCE)
    except interrupts.Ended as error:
        ended.append(error.number)
    assert ended == [signal.SIGTERM]
    assert sys.unraisablehook is reported


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_survey_that_goes_on_is_not_waited_for(tiny_model, reviews, tmp_path):
    """Two seconds after the signal the process ends, whatever its threads are doing."""
    surveying = (
        "import time, attnstore.pipeline.run\n"
        "attnstore.pipeline.run.survey = lambda *_: (print('begun', flush=True), time.sleep(600))"
    )
    code, err = signalled(signal.SIGTERM, surveying, *run_of(tmp_path / "s.attn", reviews, tiny_model))
    assert (code, end_of(err)) == (143, ["attnstore: interrupted"])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=EXHAUSTIVE)])
def test_a_signal_lets_the_current_part_finish(tiny_model, reviews, tmp_path, monkeypatch, number):
    """stderr acknowledges the signal at once, and says at the end what is missing.

    The same command resumes to the bytes of an undisturbed run.
    """
    begun = threading.Event()
    computed = Classifier.__call__

    def slow(self, batch):
        begun.set()
        time.sleep(0.1)
        return computed(self, batch)

    with monkeypatch.context() as slowed:
        slowed.setattr(Classifier, "__call__", slow)
        code, err = signalled_here(number, begun, *run_of(tmp_path / "s.attn", reviews, tiny_model))
    assert code == 128 + number
    name = signal.Signals(number).name
    heard = (
        f"note: stopping ({name}): the part in hand is finished first; a second signal ends the run at once"
    )
    assert err.splitlines().count(heard) == 1
    (line,) = end_of(err)
    assert re.fullmatch("attnstore: stopped; [1-5] of 6 parts are missing: the same command resumes", line)
    for store in ("s.attn", "t.attn"):
        assert attnstore(*run_of(tmp_path / store, reviews, tiny_model))[0] == 0
    assert content(tmp_path / "s.attn") == content(tmp_path / "t.attn")


def content(store):
    """The bytes of a store's tables by path."""
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*.parquet")}
