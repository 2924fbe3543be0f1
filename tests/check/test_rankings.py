"""Promises of attnstore.check.rankings: units, their values, their order, and the sample."""

from collections import Counter

import numpy as np
import pytest
from asked_store import made_up_documents, write_store

from attnstore.check.rankings import DRAWS, draw_sample, log_odds, of_units, orders, score_columns, units_of
from attnstore.errors import UsageError


@pytest.fixture(scope="module")
def documents():
    return made_up_documents(60, predictions=("neg", "neg", "pos"), splits=("train", "test"))


@pytest.fixture(scope="module")
def store(tmp_path_factory, documents):
    return write_store(tmp_path_factory.mktemp("rankings") / "store", documents)


def test_a_word_is_its_pieces_even_if_it_is_cut():
    """[CLS] ##b un ##able ! ##c x [SEP]: the rest of a word at the beginning, and one that follows another word."""
    special = np.array([True, False, False, False, False, False, False, True])
    piece = np.array([-1, 1, 0, 1, -1, 1, 0, -1])
    assert units_of(special, piece, "token").tolist() == [-1, 0, 1, 2, 3, 4, 5, -1]
    assert units_of(special, piece, "word").tolist() == [-1, 0, 1, 1, 2, 3, 4, -1]


def test_a_words_attention_is_a_sum_and_its_log_odds_are_its_own():
    """Two pieces with 1 and 2: attention 3 together; log-odds are those of the first piece."""
    units, values = np.array([-1, 0, 1, 1, -1]), np.array([9.0, 4.0, 1.0, 2.0, 9.0])
    assert of_units(values, units, summed=True).tolist() == [4, 3]
    assert of_units(values, units, summed=False).tolist() == [4, 1]


def test_units_are_ordered_by_signed_score_and_then_by_position():
    """Units against the class come last. A score with a missing value has no order; random has ten."""
    units = np.array([-1, 0, 1, 2, 3, -1])
    scores = {
        "signed": np.array([9, -5.0, 2, 0, 2, 9]),
        "gap": np.array([9, 1.0, np.nan, 0, 2, 9]),
        "random": np.empty(0),
        "gap outside": np.array([np.nan, 1.0, 3, 0, 2, np.nan]),
    }
    found = [(name, draw, order.tolist()) for name, draw, order in orders(scores, units, 7, 0)]
    drawn = [order for name, _, order in found if name == "random"]
    assert found[0] == ("signed", 0, [1, 3, 2, 0])
    assert found[-1] == ("gap outside", 0, [1, 3, 0, 2])
    assert [(name, draw) for name, draw, _ in found[1:-1]] == [("random", n) for n in range(1, DRAWS + 1)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in drawn)
    assert len({tuple(order) for order in drawn}) > 3
    again, other = ([o.tolist() for *_, o in orders({"random": units}, units, 7, seed)] for seed in (0, 1))
    assert (again == drawn, other == drawn) == (True, False)


@pytest.mark.slow
def test_log_odds_are_of_the_stores_other_documents(store, documents):
    """Counted by hand: documents of other films, by predicted class.

    A word that occurs only in this document has none.
    """
    found = {(d, w): value for d, w, value in log_odds(store, range(0, 60, 7)).iter_rows()}
    held = [{row["word"] for row in document["tokens"] if row["word"]} for document in documents]
    expected = {}
    for number in range(0, 60, 7):
        own = documents[number]
        others = [
            n
            for n, document in enumerate(documents)
            if n != number and (own["group"] is None or document["group"] != own["group"])
        ]
        same = [n for n in others if documents[n]["prediction"] == own["prediction"]]
        rest = [n for n in others if documents[n]["prediction"] != own["prediction"]]
        for word in held[number]:
            a, b = (sum(word in held[n] for n in side) for side in (same, rest))
            odds = (a + 5) / (len(same) - a + 5) / ((b + 5) / (len(rest) - b + 5))
            expected[number, word] = pytest.approx(np.log(odds))
    assert found == expected


def test_the_sample_has_the_classes_in_proportion_and_depends_on_the_seed(store, documents):
    """Without repetition, the same for the same seed, another for another seed, and of a single split if asked for."""
    whole = {n for n, d in enumerate(documents) if len(d["tokens"]) > 2}
    classes = Counter(documents[n]["prediction"] for n in whole)
    one, again, other = (draw_sample(store, 20, "all", seed) for seed in (3, 3, 4))
    assert one == again
    assert one.documents != other.documents
    assert set(one.documents) <= whole
    assert len(set(one.documents)) == 20
    assert one.by_class == Counter(documents[n]["prediction"] for n in one.documents)
    assert all(abs(one.by_class[name] - 20 * count / len(whole)) < 1 for name, count in classes.items())
    assert set(draw_sample(store, 1000, "all", 3).documents) == whole
    train = draw_sample(store, 1000, "train", 3)
    assert set(train.documents) == {n for n in whole if documents[n]["split"] == "train"}
    assert train.empty == 30 - len(train.documents)


def test_scores_are_columns_or_reductions(store):
    """A reduction stands for its layers; without names, every column with one value per token.

    Random is always included.
    """
    manifest = store.manifest
    every = ["cls_01", "cls_02", "cls_03", "rollout", "odd"]
    assert score_columns(manifest, ()) == every
    assert score_columns(manifest, ["odd", "cls", "cls_02", "random", "log_odds"]) == ["odd", *every[:3]]
    for name, message in (
        ("cls_heads", "cls_heads has a value per head: scores have one value per token"),
        ("cls_04", "the store has no score 'cls_04': did you mean cls_03 or cls_02 or cls_01?"),
    ):
        with pytest.raises(UsageError) as caught:
            score_columns(manifest, [name])
        assert str(caught.value) == message
