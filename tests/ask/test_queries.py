"""The shipped questions: DuckDB, Polars and brute force give the same complete tables."""

import math
from itertools import product
from pathlib import Path

import pyarrow as pa
import pytest
from asked import ask
from asked_store import (
    REDUCTIONS,
    confusion,
    document_tokens,
    made_up_documents,
    predictions,
    set_values,
    top_terms,
    words,
    write_store,
)

from attnstore.ask.questions import find_questions
from attnstore.errors import UsageError
from attnstore.store.manifest import StoredReduction
from attnstore.store.store import open_store

QUESTIONS = find_questions()
ENGINES = ("duckdb", "polars")
TYPES = {
    "class": pa.string(), "token": pa.string(), "word": pa.string(), "split": pa.string(),
    "label": pa.string(), "prediction": pa.string(), "special": pa.bool_(), "position": pa.int32(),
    "piece": pa.int16(), "pieces": pa.int16(), "start": pa.int32(), "end": pa.int32(),
    **dict.fromkeys(("documents", "occurrences", "predicted", "labelled", "correct"), pa.int64()),
    **dict.fromkeys(("false_positives", "false_negatives", "truncated"), pa.int64()),
    **dict.fromkeys(("mean_attention", "lift", "share", "accuracy", "precision", "recall"), pa.float64()),
    **dict.fromkeys(("f1", "attention", "mean_probability", "low", "high", "shrunk"), pa.float64()),
    "percentile": pa.float64(), "segment": pa.int8(),
}  # fmt: skip


def rows_of(store, name, engine, parameters):
    """The answer as rows, after checking the types of its columns."""
    table = ask(store, QUESTIONS[name], parameters, engine)
    assert {field.name: field.type for field in table.schema} == {n: TYPES[n] for n in table.column_names}
    return table.to_pylist()


def about(value, rel=1e-9):
    """Equal to that many digits."""
    return pytest.approx(value, rel=rel, abs=1e-12) if isinstance(value, float) else value


def assert_answer(store, name, parameters, expected):
    """Both engines give these rows, to 9 digits; to 5 where single-precision sums come from the totals."""
    from_tokens = parameters.get("renormalise") or parameters.get("rank_by") == "percentile"
    rel = 1e-5 if name.startswith("top_") and not from_tokens else 1e-9
    for engine in ENGINES:
        rows = rows_of(store, name, engine, parameters)
        assert len(rows) == len(expected), engine
        for row, wanted in zip(rows, expected, strict=True):
            assert row == {name: about(value, rel) for name, value in wanted.items()}, engine


#: Columns that the rows by hand leave out.
BARE = {"min_documents": 1, "intervals": False, "shrinkage": 0}


def bare(lift):
    return {"low": None, "high": None, "shrunk": lift, "percentile": None}


@pytest.fixture(scope="module")
def documents():
    return made_up_documents(60, splits=("train", "test"))


@pytest.fixture(scope="module")
def store(tmp_path_factory, documents):
    return write_store(tmp_path_factory.mktemp("asked") / "store", documents)


@pytest.fixture(scope="module")
def one_review(tmp_path_factory):
    """Two documents whose sums are exact in binary, so that answers can be worked out by hand."""
    first = {
        "id": "a", "label": "pos", "prediction": "pos", "split": "test", "probability": 0.75,
        "truncated": False, "text": "the filming, the", "tokens": words("the", "filming", ",", "the"),
    }  # fmt: skip
    second = {**first, "id": "b", "label": "neg", "text": "film", "tokens": words("film")}
    set_values(first, "cls_01", [0.25, 0.125, 0.0625, 0.1875, 0.25, 0.0625, 0.0625])
    set_values(second, "cls_01", [0.25, 0.5, 0.25])
    path = tmp_path_factory.mktemp("by-hand") / "store"
    return write_store(path, [first, second], reductions=REDUCTIONS[:1], layers=1)


# -- by hand ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_the_tokens_of_two_documents_worked_out_by_hand(one_review, engine):
    """`film` has 0.0625 of 7 tokens and 0.5 of 3: lift (0.4375 + 1.5) / 2. The class has a total attention of 2."""
    names = ("class", "token", "documents", "occurrences", "mean_attention", "lift", "share")
    expected = [
        ("pos", "##ing", 1, 1, 0.1875, 1.3125, 0.09375),
        ("pos", "film", 2, 2, 0.28125, 0.96875, 0.28125),
        ("pos", "the", 1, 2, 0.09375, 0.65625, 0.09375),
    ]
    rows = rows_of(one_review, "top_tokens_by_class", engine, BARE)
    assert rows == [dict(zip(names, row, strict=True)) | bare(row[5]) for row in expected]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_an_interval_and_a_shrunk_lift_worked_out_by_hand(one_review, engine):
    """`film` in two documents: lifts 0.4375 and 1.5, mean 0.96875, residuals ∓0.53125, so a standard error of 0.53125,
    times Student's 12.7062 for one degree of freedom, of the logarithm.

    The class's mean over all five is 4.5625 / 5. Counted as three more occurrences, it gives `film` (2 · 0.96875 + 3 ·
    0.9125) / 5. A word in one document has no interval.
    """
    rows = rows_of(one_review, "top_tokens_by_class", engine, {"min_documents": 1, "shrinkage": 3})
    found = {row["token"]: (row["low"], row["high"], row["shrunk"]) for row in rows}
    factor = math.exp(0.53125 * 12.706205 / 0.96875)
    assert found["film"] == pytest.approx((0.96875 / factor, 0.96875 * factor, 0.935), rel=1e-5)
    assert [found[token][:2] for token in ("##ing", "the")] == [(None, None)] * 2


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("pieces", "filming"),
    [
        # 0.0625 + 0.1875 = 0.25 over two pieces of 7 tokens: 0.25 * 7 / 2 = 0.875 of uniform attention.
        ("sum", ("pos", "filming", 1, 1, 0.25, 0.875, 0.125)),
        ("mean", ("pos", "filming", 1, 1, 0.125, 0.875, 0.0625)),
    ],
)
def test_a_word_of_two_pieces_worked_out_by_hand(one_review, engine, pieces, filming):
    """The sum keeps a word's attention, the mean halves it. Uniform attention has lift 1.0 in both."""
    names = ("class", "word", "documents", "occurrences", "mean_attention", "lift", "share")
    expected = [
        ("pos", "film", 1, 1, 0.5, 1.5, 0.25),
        filming,
        ("pos", "the", 1, 2, 0.09375, 0.65625, 0.09375),
    ]
    rows = rows_of(one_review, "top_words_by_class", engine, BARE | {"pieces": pieces})
    assert rows == [dict(zip(names, row, strict=True)) | bare(row[5]) for row in expected]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_renormalised_words_worked_out_by_hand(one_review, engine):
    """Without special tokens and the comma, four tokens with 0.4375 remain in the first document, one in the second."""
    rows = rows_of(one_review, "top_words_by_class", engine, {"min_documents": 1, "renormalise": True})
    expected = {
        "film": (1.0, 1.0, 0.5),
        "filming": (0.25 / 0.4375, 0.25 / 0.4375 * 4 / 2, 0.25 / 0.4375 / 2),
        "the": (0.1875 / 0.4375 / 2, 0.1875 / 0.4375 / 2 * 4, 0.1875 / 0.4375 / 2),
    }
    found = {row["word"]: (row["mean_attention"], row["lift"], row["share"]) for row in rows}
    assert found == {word: pytest.approx(values, rel=1e-12) for word, values in expected.items()}


@pytest.mark.parametrize("engine", ENGINES)
def test_predictions_of_two_documents_worked_out_by_hand(one_review, engine):
    """Both are predicted pos, one is pos: accuracy 1/2. neg is never predicted, so it has no precision."""
    names = [
        "split", "class", "predicted", "labelled", "correct", "accuracy", "false_positives",
        "false_negatives", "precision", "recall", "f1", "truncated",
    ]  # fmt: skip
    of_classes = [
        (None, 2, 2, 1, 0.5, None, None, None, None, None, 0),
        ("neg", 0, 1, 0, None, 0, 1, None, 0.0, 0.0, 0),
        ("pos", 2, 1, 1, None, 1, 0, 0.5, 1.0, 2 / 3, 0),
    ]
    expected = [(split, *row) for split in (None, "test") for row in of_classes]
    rows = rows_of(one_review, "predictions", engine, {})
    assert rows == [dict(zip(names, row, strict=True)) for row in expected]


# -- against brute force ----------------------------------------------------------------------------------

SETTINGS = [
    {},
    {"min_documents": 1, "limit": 1000},
    {"min_documents": 0, "limit": 1000, "specials": "in", "punctuation": "in"},
    {"min_documents": 1, "specials": "in", "layer": "first"},
    {"min_documents": 1, "punctuation": "in", "layer": 2},
    {"min_documents": 1, "by": "label", "layer": "mean"},
    {"min_documents": 8, "rank_by": "share"},
    {"min_documents": 1, "rank_by": "mean_attention", "limit": 3, "reduction": "rollout"},
    {"min_documents": 1, "reduction": "odd"},
    {"min_documents": 1, "reduction": "cls_heads", "layer": "mean"},
    {"min_documents": 1, "ignore": ["film", "the", "##ing"]},
    {"min_documents": 1, "renormalise": True},
    {"min_documents": 1, "renormalise": True, "specials": "in", "ignore": ["film", "it"], "by": "label"},
    {"min_documents": 1, "renormalise": True, "punctuation": "in", "reduction": "odd"},
    {"min_documents": 1, "cluster": "document"},
    {"min_documents": 1, "intervals": False, "shrinkage": 0},
    {"min_documents": 1, "intervals": False, "specials": "in", "punctuation": "in", "layer": "mean", "limit": 1000},
    {"min_documents": 1, "intervals": False, "reduction": "odd", "by": "label", "rank_by": "share"},
    {"min_documents": 1, "intervals": False, "reduction": "cls_heads", "ignore": ["film"]},
    {"min_documents": 1, "intervals": False, "renormalise": True},
    {"min_documents": 1, "intervals": False, "rank_by": "percentile", "limit": 1000},
    {"min_documents": 1, "rank_by": "percentile", "specials": "in", "layer": "mean", "by": "label"},
    {"min_documents": 1, "rank_by": "percentile", "renormalise": True, "reduction": "rollout"},
    {"min_documents": 1, "rank_by": "low", "limit": 1000, "shrinkage": 2.5},
    {"min_documents": 1, "rank_by": "shrunk", "shrinkage": 50, "by": "label", "punctuation": "in"},
    {"limit": 0},
]  # fmt: skip


OF_PIECES = [
    {"min_documents": 1, "pieces": "mean", "intervals": False},
    {"min_documents": 1, "pieces": "mean"},
    {"min_documents": 1, "pieces": "mean", "renormalise": True, "rank_by": "share"},
]


@pytest.mark.sampled(at=(0, 7, 9, 12, 17, 21, 23))
@pytest.mark.slow
@pytest.mark.parametrize("parameters", SETTINGS, ids=str)
def test_top_tokens_are_those_of_brute_force(store, documents, parameters):
    """Every parameter, in both engines: complete tables, in order. This test and the next share the samples."""
    assert_answer(store, "top_tokens_by_class", parameters, top_terms(documents, "token", **parameters))


@pytest.mark.sampled(at=(2, 5, 13, 14, 16, 22, 24, 27, 28))
@pytest.mark.slow
@pytest.mark.parametrize("parameters", [*SETTINGS, *OF_PIECES], ids=str)
def test_top_words_are_those_of_brute_force(store, documents, parameters):
    """Every parameter, in both engines: complete tables, in order."""
    assert_answer(store, "top_words_by_class", parameters, top_terms(documents, "word", **parameters))


@pytest.mark.slow
def test_every_setting_changes_the_answer(documents):
    """The comparisons above would not notice a parameter without effect; every parameter has one."""
    plain = {unit: top_terms(documents, unit, min_documents=1) for unit in ("token", "word")}
    for place, parameters in enumerate(SETTINGS[2:]):
        unit = ("token", "word")[place % 2]
        assert top_terms(documents, unit, **parameters) != plain[unit], parameters


@pytest.mark.slow
def test_the_default_support_grows_with_the_class(tmp_path):
    """One in 200 documents of the class, at least 5: a word in 5 documents is kept among 1,000, but not among 1,001."""
    documents = []
    for kind, count in (("neg", 1000), ("pos", 1001)):
        for number in range(count):
            name = "film" if number < 4 else "bear" if number < 9 else "the"
            document = {
                "id": f"{kind}{number}", "label": kind, "prediction": kind, "split": "test", "text": name,
                "probability": 0.75, "truncated": False, "tokens": words(name),
            }  # fmt: skip
            set_values(document, "cls_01", [0.25, 0.5, 0.25])
            documents.append(document)
    store = write_store(tmp_path / "s", documents, reductions=REDUCTIONS[:1], layers=1, part_size=2001)
    for engine, unit in product(ENGINES, ("token", "word")):
        rows = rows_of(store, f"top_{unit}s_by_class", engine, {})
        found = [(row["class"], row[unit], row["documents"]) for row in rows]
        assert found == [("neg", "the", 991), ("neg", "bear", 5), ("pos", "the", 992)]


@pytest.mark.slow
def test_equal_ranks_are_ordered_by_documents_then_by_name(tmp_path):
    """The order is complete, so that both engines agree."""
    documents = made_up_documents(6, labels=("pos",), predictions=("pos",), seed=1)
    for document, names in zip(documents, ["the", "10", "bear", "film", "the", "naïve"], strict=True):
        document["tokens"] = words(names)
        set_values(document, "cls_01", [0.25, 0.5, 0.25])
    store = write_store(tmp_path / "s", documents, reductions=REDUCTIONS[:1], layers=1)
    for engine in ENGINES:
        for unit, limit in (("token", 9), ("word", 3)):
            parameters = {"min_documents": 1, "limit": limit}
            rows = rows_of(store, f"top_{unit}s_by_class", engine, parameters)
            assert [row[unit] for row in rows] == ["the", "10", "bear", "film", "naïve"][:limit]


def test_predictions_are_those_of_brute_force(store, documents):
    """By split and class, including documents without a label."""
    assert {document["label"] for document in documents} == {"neg", "pos", None}
    assert_answer(store, "predictions", {}, predictions(documents))


def test_confusion_is_that_of_brute_force(store, documents):
    """Every pair of label and prediction, by split, unlabelled documents last."""
    assert_answer(store, "confusion", {}, confusion(documents))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "by", "parameters"),
    [
        (0, "id", {}), (33, "number", {"layer": "mean"}), (0, "number", {"reduction": "odd"}),
        (59, "id", {"reduction": "odd"}), (59, "number", {"reduction": "cls_heads", "layer": 1}),
        (0, "id", {"reduction": "cls_heads", "head": 2}),
        (33, "number", {"reduction": "cls_heads", "layer": 1, "head": 1}),
    ],
    ids=str,
)  # fmt: skip
def test_document_tokens_are_the_rows_as_written(store, documents, number, by, parameters):
    """In order, by id or by number. A reduction without a value is null."""
    wanted = number if by == "number" else documents[number]["id"]
    expected = document_tokens(documents[number], **parameters)
    assert_answer(store, "document_tokens", {**parameters, "document": wanted}, expected)


# -- every kind of store ----------------------------------------------------------------------------------


def assert_all_views(store, documents, labels_are_models=True, by="label"):
    """Questions that read documents, tokens, both together, and the totals."""
    parameters = {"by": by, "min_documents": 1, "intervals": by == "prediction"}
    assert_answer(store, "top_words_by_class", parameters, top_terms(documents, "word", **parameters))
    assert_answer(store, "predictions", {}, predictions(documents, labels_are_models))
    assert_answer(store, "confusion", {}, confusion(documents))
    assert_answer(store, "document_tokens", {"document": 3}, document_tokens(documents[3]))


@pytest.mark.slow
def test_labels_in_a_column_give_the_same_answers(tmp_path):
    """Labels that look like numbers are an ordinary column. No question depends on that."""
    documents = made_up_documents(30, labels=("0", "1", "01"), predictions=("0", "1", "01"))
    store = write_store(tmp_path / "s", documents, labels=("0", "1", "01"), label_in_path=False)
    assert_all_views(store, documents)


@pytest.mark.slow
def test_labels_and_splits_of_any_script_read_back_unchanged(tmp_path):
    """Percent-encoded names in the path are shown as in the data."""
    labels = ("it's a/b", "50% – 映画", 'c"=d')
    documents = made_up_documents(30, labels=labels, predictions=labels, splits=("a b", "2024"))
    assert_all_views(write_store(tmp_path / "s", documents, labels=labels), documents)


@pytest.mark.slow
def test_a_store_below_directories_that_look_like_partitions(tmp_path):
    """`lr=3e-5`, `label=x`, quotes and pattern characters above the store do not matter."""
    documents = made_up_documents(20)
    path = tmp_path / "lr=3e-5" / "label=x" / "it's [a] b*?" / "s.attn"
    assert_all_views(write_store(path, documents), documents)


@pytest.mark.slow
def test_a_relative_path_works(tmp_path, monkeypatch):
    """A store is opened from the working directory."""
    documents = made_up_documents(10)
    write_store(tmp_path / "s", documents)
    monkeypatch.chdir(tmp_path)
    assert_all_views(open_store(Path("s")), documents)


@pytest.mark.slow
def test_an_unlabelled_store_claims_no_accuracy(tmp_path):
    """No document is labelled, accuracy is null, and a question by label gives a one-line error."""
    documents = made_up_documents(20, labels=(None,))
    store = write_store(tmp_path / "s", documents, label_in_path=False, labels_are_models=False)
    assert_all_views(store, documents, labels_are_models=False, by="prediction")
    for engine in ENGINES:
        assert {row["accuracy"] for row in rows_of(store, "predictions", engine, {})} == {None}
        with pytest.raises(
            UsageError, match=r"^no document of this store has a label: ask with by=prediction$"
        ):
            ask(store, QUESTIONS["top_words_by_class"], {"by": "label"}, engine)


@pytest.mark.slow
def test_labels_that_are_not_the_models_are_not_compared(tmp_path):
    """They group documents, but nothing can be right, even if a name is the same."""
    documents = made_up_documents(20, labels=("pos", "sports"))
    store = write_store(tmp_path / "s", documents, labels_are_models=False)
    assert_all_views(store, documents, labels_are_models=False)
    first = rows_of(store, "predictions", "duckdb", {})[0]
    assert (first["predicted"], first["labelled"], first["correct"], first["accuracy"]) == (20, 0, 0, None)


@pytest.mark.slow
def test_an_unfinished_store_answers_from_its_finished_parts(tmp_path):
    """With two of four parts, the answers are those of their documents."""
    documents = made_up_documents(28)
    store = write_store(tmp_path / "s", documents, part_size=7, parts=[0, 2])
    there = documents[0:7] + documents[14:21]
    assert_all_views(store, there)


@pytest.mark.sampled(at=(0, 3))
@pytest.mark.slow
@pytest.mark.parametrize(("engine", "label_in_path"), list(product(ENGINES, [True, False])))
def test_a_store_without_any_part_answers_with_no_rows(tmp_path, engine, label_in_path):
    """It has the columns. No question fails, not even one by label."""
    store = write_store(tmp_path / "s", made_up_documents(9), parts=[], label_in_path=label_in_path)
    for name in ("top_tokens_by_class", "top_words_by_class"):
        table = ask(store, QUESTIONS[name], {"by": "label"}, engine)
        assert table.num_rows == 0
        of_numbers = ["documents", "occurrences", "mean_attention", "lift", "low", "high", "shrunk", "share"]
        assert table.column_names[2:] == [*of_numbers, "percentile"]
    assert rows_of(store, "confusion", engine, {}) == []


@pytest.mark.slow
def test_a_reduction_named_like_a_questions_column(tmp_path):
    """A custom reduction may be called `attention` or `class`: the question's column takes precedence."""
    mine = tuple(StoredReduction(n, False, False, "mine", None) for n in ("attention", "class"))
    documents = made_up_documents(12)
    for document in documents:
        for row in document["tokens"]:
            row["attention"], row["class"] = -1.0, -2.0
    store = write_store(tmp_path / "s", documents, reductions=(*REDUCTIONS, *mine))
    assert_all_views(store, documents)
