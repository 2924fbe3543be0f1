"""The basis of p values and intervals: every answer with one names it, and has none if there are too few clusters."""

import copy

import pytest
from asked import ask
from asked_store import REDUCTIONS, write_store
from measured_store import measured_rows, written

from attnstore.ask.answer import BASIS_KEY
from attnstore.ask.questions import find_questions
from attnstore.store.manifest import StoredReduction
from attnstore.store.store import open_store

QUESTIONS = find_questions()
#: Parameters with which a small store of made-up documents has answers.
GIVEN = {
    "negation": {"min_documents": 1, "negations": "the", "distance": 5},
    "within_group": {"min_groups": 1},
    "phrases": {"min_documents": 2},
    "contexts": {"word": "film"},
    "document_tokens": {"document": "@1"},
    "similar_documents": {"document": "@1"},
    "flips": {"max_q": 1, "min_documents": 1},
    "edits": {"common": 0.1, "right": False},
}


def measured(name):
    """Whether a column is a p value, a false discovery rate, or an end of an interval."""
    return name in ("p", "q", "low", "high") or name.endswith(("_low", "_high"))


ASKED = [
    name
    for name, question in QUESTIONS.items()
    if any(p.type == "cluster" for p in question.parameters) or "groups" in question.needs
]

#: DuckDB takes five times as long for the same answers, which each question's own test compares.
POLARS_AND_EVERY_EIGHTH = pytest.mark.sampled(
    at=[place for place in range(2 * len(ASKED)) if place % 2 == 1 or place % 16 == 0]
)


def stored(path, documents):
    evidence = StoredReduction(
        "evidence", per_layer=False, per_head=False, meaning="signed", total=None, signed=True
    )
    write_store(path, documents, labels=("neg", "pos", "meh"), reductions=(*REDUCTIONS, evidence))
    store = open_store(path)
    written(store, measured_rows(range(0, 100, 2), ["cls_01", "rollout", "random", "log_odds"]))
    return store


@pytest.fixture(scope="module")
def films(tmp_path_factory, signed_documents):
    """Forty films, and documents without one."""
    return stored(tmp_path_factory.mktemp("units") / "films.attn", signed_documents)


@pytest.fixture(scope="module")
def one_film(tmp_path_factory, signed_documents):
    """The same documents, all of one film."""
    documents = [{**copy.copy(d), "group": "the film"} for d in signed_documents]
    return stored(tmp_path_factory.mktemp("units") / "one.attn", documents)


@pytest.mark.slow
def test_questions_without_clusters_have_no_p_and_no_interval(films):
    """So the other tests of this file cover all questions that have one."""
    for name in QUESTIONS.keys() - {*ASKED}:
        columns = ask(films, QUESTIONS[name], GIVEN.get(name, {}), "polars").column_names
        assert not any(map(measured, columns)), name


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize("name", ASKED)
@POLARS_AND_EVERY_EIGHTH
def test_an_answer_with_an_interval_names_its_unit_and_their_number(films, signed_documents, name, engine):
    """Groups and documents without one, counted; documents if these are treated as independent; the family of q."""
    those = signed_documents[:100:2] if name == "faithfulness" else signed_documents
    groups = {d["group"] for d in those} - {None}
    singles = sum(d["group"] is None for d in those)
    counted = [
        f"{len(groups)} groups",
        *([f"{singles} single documents"] if singles and name != "within_group" else []),
    ]
    expected = f"; independent: {' and '.join(counted)}"
    answer = ask(films, QUESTIONS[name], GIVEN.get(name, {}), engine)
    told = answer.schema.metadata[BASIS_KEY].decode()
    assert any(map(measured, answer.column_names))
    assert expected in told
    assert ("q" in answer.column_names) == ("; q over " in told)
    if name != "within_group":
        told = ask(films, QUESTIONS[name], GIVEN.get(name, {}) | {"cluster": "document"}, engine)
        assert b"; independent: each document" in told.schema.metadata[BASIS_KEY]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize("name", ASKED)
@POLARS_AND_EVERY_EIGHTH
def test_a_single_cluster_has_no_p_and_no_interval(one_film, name, engine):
    """Null in both engines, in existing rows. The answer says that there is one group."""
    answer = ask(one_film, QUESTIONS[name], GIVEN.get(name, {}), engine)
    columns = [column for column in answer.column_names if measured(column)]
    assert answer.num_rows > 0
    assert {column: answer[column].null_count for column in columns} == dict.fromkeys(
        columns, answer.num_rows
    )
    assert b"; independent: 1 group" in answer.schema.metadata[BASIS_KEY]
