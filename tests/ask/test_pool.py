"""Kept connections: the same answers, whoever used one before, and an end to work that nobody waits for."""

import threading
import time

import asked_store
import pytest

from attnstore.ask.answer import ask
from attnstore.ask.pool import Pool, Work
from attnstore.ask.questions import find_questions
from attnstore.ask.sql import select
from attnstore.errors import UsageError
from attnstore.store.store import open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("pool") / "s.attn"
    asked_store.write_store(path, asked_store.made_up_documents(40))
    return open_store(path)


@pytest.mark.slow
def test_answers_are_those_of_a_new_connection(store):
    """Layers and reductions in turn, each twice: never another one's columns."""
    work, question = Work(Pool(store)), find_questions()["top_words_by_class"]
    every = [{**given, "min_documents": 1} for given in ({"layer": "1"}, {"layer": "2", "by": "label"})]
    own = [ask(store, question, asked) for asked in every]
    for _ in range(2):
        for asked, expected in zip(every, own, strict=True):
            pooled = ask(store, question, asked, connect=work.connect)
            assert pooled.schema.equals(expected.schema, check_metadata=True)
            for row, other in zip(pooled.to_pylist(), expected.to_pylist(), strict=True):
                # Threads add up in any order.
                assert row == {
                    name: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
                    for name, value in other.items()
                }


def test_a_connection_is_reused_unless_it_failed(store):
    """Earlier questions leave nothing behind, not even an aborted transaction."""
    pool = Pool(store)
    work = Work(pool)
    with work.connect(store) as first:
        select(store, first, "SELECT 1")
    with work.connect(store) as again:
        assert again is first
    with pytest.raises(UsageError), work.connect(store) as failed:
        select(store, failed, "SELECT nothing")
    with work.connect(store) as other:
        assert other is not failed
        assert select(store, other, "SELECT count(*) AS n FROM documents").to_pylist() == [{"n": 40}]


@pytest.mark.slow
def test_an_answer_is_computed_once(store, monkeypatch):
    """For the same question with the same parameters; not for others, and not for large answers."""
    work, question = Work(Pool(store)), find_questions()["predictions"]
    first = work.ask(question, {})
    assert first.equals(ask(store, question), check_metadata=True)
    assert Work(work.pool).ask(question, {}) is first
    other = work.ask(question, {"where": "length > 3"})
    assert other.equals(ask(store, question, {"where": "length > 3"}), check_metadata=True)
    monkeypatch.setattr("attnstore.ask.pool._KEPT_ANSWERS", 1)
    work.ask(find_questions()["confusion"], {})
    assert work.ask(question, {}) is not first
    monkeypatch.setattr("attnstore.ask.pool._LARGE", 0)
    again = Work(Pool(store))
    assert again.ask(question, {}) is not again.ask(question, {})


@pytest.mark.slow
def test_at_most_eight_connections_are_kept(store):
    """However many layers are viewed, and however many at once."""
    pool = Pool(store)
    question = find_questions()["document_tokens"]
    for layer in (1, 2, 3):
        for of in ({}, {"reduction": "cls_heads"}, {"reduction": "cls_heads", "head": 1}):
            ask(store, question, {**of, "layer": layer, "document": 0}, connect=Work(pool).connect)
    assert sum(map(len, pool._idle.values())) == 8
    pool.close()
    assert not pool._idle


def test_cancelled_work_stops_and_does_nothing_more(store):
    """An endless statement returns at once, and no other starts."""
    work = Work(Pool(store))
    endless = (
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i > 0) SELECT sum(i) FROM n"
    )
    said: list[BaseException] = []

    def asked() -> None:
        try:
            with work.connect(store) as connection:
                select(store, connection, endless)
        except BaseException as error:
            said.append(error)

    thread = threading.Thread(target=asked, daemon=True)
    thread.start()
    latest = time.monotonic() + 60
    while thread.is_alive() and time.monotonic() < latest:
        time.sleep(0.05)
        work.end()
    assert [(type(error), str(error)) for error in said] == [(UsageError, "stopped")]
    with pytest.raises(UsageError, match="stopped"), work.connect(store):
        pass
