"""A condition over documents: a question answers as if the store had no other documents."""

from pathlib import Path

import asked_store
import pytest
from test_script import assert_same, run_bare

from attnstore.ask.answer import BASIS_KEY, ask
from attnstore.ask.questions import find_questions
from attnstore.ask.script import script
from attnstore.errors import NotFoundError, UsageError
from attnstore.store.store import open_store

CONDITIONS = {
    "length > 5 AND label = 'pos'": lambda d: len(d["tokens"]) > 5 and d["label"] == "pos",
    "document IN (SELECT document FROM tokens WHERE word = 'film')": lambda d: any(
        t["word"] == "film" for t in d["tokens"]
    ),
    "split = 'train' OR probability < 0.6 -- and nothing more": lambda d: (
        d["split"] == "train" or d["probability"] < 0.6
    ),
    "cls_01_entropy > 1": lambda d: asked_store.entropies(d["tokens"], ["cls_01"])["cls_01_entropy"] > 1,
    "false": lambda d: False,
}
#: Questions whose answers name no documents, whose numbers would differ between the stores.
QUESTIONS = {
    "predictions": {}, "confusion": {}, "top_words_by_class": {"min_documents": 1},
    "top_tokens_by_class": {"min_documents": 1, "intervals": False}, "sinks": {}, "layer_profile": {},
    "position_profile": {}, "concentration": {}, "attention_vs_frequency": {"min_documents": 1}, "truncation": {},
    "heads": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def documents():
    return asked_store.made_up_documents(80, splits=("test", "train"))


@pytest.fixture(scope="module")
def store(documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("where") / "all.attn"
    asked_store.write_store(path, documents)
    return open_store(path)


#: Each question with two of the conditions, and each condition with four or five of the questions.
PAIRS = [
    (condition, name)
    for i, name in enumerate(QUESTIONS)
    for j, condition in enumerate(CONDITIONS)
    if (i + j) % len(CONDITIONS) < 2
]


@pytest.fixture(scope="module")
def chosen(request, documents, tmp_path_factory):
    """A condition, and a store with only the documents that meet it."""
    these = [document for document in documents if CONDITIONS[request.param](document)]
    path: Path = tmp_path_factory.mktemp("where") / "some.attn"
    asked_store.write_store(path, these)
    return request.param, open_store(path), len(these)


@pytest.mark.sampled(3)
@pytest.mark.slow
@pytest.mark.parametrize(("chosen", "name"), PAIRS, indirect=["chosen"])
def test_the_answer_is_that_of_a_store_without_the_others(store, chosen, name):
    """In SQL and in Polars, whatever tables a question reads."""
    condition, alone, count = chosen
    question = find_questions()[name]
    expected = ask(alone, question, QUESTIONS[name]).to_pylist()
    for engine in ("duckdb", "polars"):
        answer = ask(store, question, {**QUESTIONS[name], "where": condition}, engine)
        said = answer.schema.metadata[BASIS_KEY].decode()
        assert said.startswith(f"{count} of 80 documents")
        assert f"where={condition}" in said
        rows = answer.to_pylist()
        assert [row.keys() for row in rows] == [row.keys() for row in expected]
        for row, other in zip(rows, expected, strict=True):
            for key, value in row.items():
                assert value == (
                    pytest.approx(other[key], rel=1e-5, nan_ok=True)
                    if isinstance(value, float)
                    else other[key]
                ), key


@pytest.mark.slow
@pytest.mark.parametrize("name", ["top_words_by_class", "find_documents"])
def test_the_script_has_the_condition(store, name, tmp_path):
    """A bare DuckDB gives the same table."""
    given = {"where": next(iter(CONDITIONS)), "limit": 5}
    question = find_questions()[name]
    assert_same(run_bare(tmp_path, script(store, question, given))[0], ask(store, question, given))


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("label = $p", "it has a parameter, $… or ?, to which nothing gives a value"),
        ("label = ?", "it has a parameter, $… or ?, to which nothing gives a value"),
        ("true) UNION (SELECT 1", "it is more than one condition"),
        ("true) GROUP BY (document", "it is more than one condition"),
        ("true) ORDER BY (document", "it is more than one condition"),
        ("true) LIMIT (1", "it is more than one condition"),
        ("true); SELECT (1", "give one SELECT: here are 2 statements"),
        ("length >", "syntax error"),
        ("exists (SELECT * FROM read_csv('/etc/passwd'))", "the table function read_csv is not allowed"),
        ("nothing > 1", 'Referenced column "nothing" not found'),
        ("length > 'x'", "Could not convert string 'x' to INT32"),
        (7, "it must be a string, a condition over documents"),
    ],
)
def test_an_invalid_condition_is_refused(store, condition, said):
    """One line that starts with the given text. Statements that could do more than choose documents are not run."""
    for engine in ("duckdb", "polars"):
        with pytest.raises(UsageError) as refusal:
            ask(store, find_questions()["predictions"], {"where": condition}, engine)
        assert said in str(refusal.value)
        assert str(refusal.value).startswith("where")


@pytest.mark.slow
def test_a_blank_condition_is_none(store):
    """As a form sends it."""
    question = find_questions()["predictions"]
    assert ask(store, question, {"where": "  "}).equals(ask(store, question), check_metadata=True)


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_a_document_that_the_condition_leaves_out_is_refused(documents, tmp_path, engine):
    """Its id is never taken for the number of another document that the condition keeps."""
    renamed = [{**document, "id": f"{number * 7 % 80}"} for number, document in enumerate(documents)]
    asked_store.write_store(tmp_path / "s.attn", renamed)
    store, question = open_store(tmp_path / "s.attn"), find_questions()["document_tokens"]
    given = {"document": "21", "where": "document >= 20"}  # the id of document 3; document 21 has the id 67
    with pytest.raises(
        NotFoundError, match=r"^document '21' is not among the 60 documents that the condition"
    ):
        ask(store, question, given, engine)
    rows = ask(store, question, {"document": "67", "where": "document >= 20"}, engine).to_pylist()
    assert [row["token"] for row in rows] == [token["token"] for token in documents[21]["tokens"]]
