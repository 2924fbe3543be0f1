"""Two stores compared: documents, predictions, words and attention agree with plain loops."""

import copy
import math
import random
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
import scipy.stats
from asked_store import (
    cluster_of,
    has_letter_or_digit,
    made_up_documents,
    occurrences,
    set_values,
    write_store,
)

from attnstore.ask.compare import compare
from attnstore.errors import UsageError
from attnstore.store.store import open_store


def another_model(documents, seed=9):
    """The same texts with other predictions and attention, in another order.

    Some are missing, new, or of another text.
    """
    chance = random.Random(seed)
    others = copy.deepcopy(documents)
    for document in others:
        if chance.random() < 0.3:
            document["prediction"] = chance.choice(["neg", "pos"])
        values = [chance.random() ** 2 for _ in document["tokens"]]
        set_values(document, "cls_03", [float(np.float32(v / sum(values))) for v in values])
    others[4]["text"] += " and more"
    others = others[3:]
    others.append({**copy.deepcopy(others[0]), "id": "new"})
    chance.shuffle(others)
    return others


@pytest.fixture(scope="module")
def a_documents():
    documents = made_up_documents(60)
    documents[20] = {
        **copy.deepcopy(documents[21]),
        "id": documents[21]["id"],
    }  # the same id and text occur twice
    return documents


@pytest.fixture(scope="module")
def b_documents(a_documents):
    return another_model(a_documents)


@pytest.fixture(scope="module")
def stores(tmp_path_factory, a_documents, b_documents):
    folder = tmp_path_factory.mktemp("compared")
    for name, documents in (("a", a_documents), ("b", b_documents)):
        write_store(folder / name, documents)
    return open_store(folder / "a"), open_store(folder / "b")


def matched(one, other):
    """Pairs of document numbers in the order of the first store. Equal ids and texts are paired in order."""
    left = defaultdict(list)
    for number, document in enumerate(other):
        left[document["id"], document["text"]].append(number)
    return [
        (number, left[document["id"], document["text"]].pop(0))
        for number, document in enumerate(one)
        if left[document["id"], document["text"]]
    ]


def estimate(values, owners):
    """The mean, half the width of its interval, and p."""
    mean = sum(values) / len(values)
    residual, size = defaultdict(float), defaultdict(int)
    for value, owner in zip(values, owners, strict=True):
        residual[owner] += value - mean
        size[owner] += 1
    effective = 1 / sum((n / len(values)) ** 2 for n in size.values())
    if effective < 2 - 1e-9:
        return mean, None, None
    error = math.sqrt(effective / (effective - 1) * sum(r * r for r in residual.values())) / len(values)
    p = 2 * scipy.stats.t.sf(abs(mean) / error, effective - 1) if error > 1e-7 else None
    return mean, scipy.stats.t.ppf(0.975, effective - 1) * error, p


def near(value):
    return pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value


def shares(document, column="cls_03"):
    """(word, share of the attention to words) of each word."""
    found = [
        (word, sum(document["tokens"][place][column] for place in places))
        for word, special, places in occurrences(document, "word")
        if not special
    ]
    whole = sum(value for _, value in found)
    return [(word, value / whole) for word, value in found]


@pytest.mark.slow
def test_predictions_and_accuracy_are_those_of_a_count(stores, a_documents, b_documents):
    """Agreement over common documents, accuracy over labelled ones, and McNemar's test of those that only one store has
    right.
    """
    found = compare(*stores)
    pairs = matched(a_documents, b_documents)
    assert len(pairs) == 56
    assert (found.documents, found.only_a, found.only_b) == (56, 4, 2)
    both = [(a_documents[i], b_documents[j], i) for i, j in pairs]
    assert found.agreeing == sum(a["prediction"] == b["prediction"] for a, b, _ in both)
    judged = [
        (a["prediction"] == a["label"], b["prediction"] == a["label"], cluster_of(a_documents, i))
        for a, b, i in both
        if a["label"] is not None
    ]
    mean, half, _ = estimate([float(a) - float(b) for a, b, _ in judged], [owner for *_, owner in judged])
    alone = [sum(a and not b for a, b, _ in judged), sum(b and not a for a, b, _ in judged)]
    assert min(alone) > 0
    assert (found.labelled, found.right_a, found.right_b) == (
        len(judged),
        sum(a for a, *_ in judged),
        sum(b for _, b, _ in judged),
    )
    assert [found.right_in_a_alone, found.right_in_b_alone] == alone
    assert (found.difference, found.low, found.high) == tuple(map(near, (mean, mean - half, mean + half)))
    tail = sum(math.comb(sum(alone), k) for k in range(min(alone) + 1)) / 2 ** sum(alone)
    assert found.p == near(min(1.0, 2 * tail))


@pytest.mark.slow
def test_documents_are_ranked_by_the_divergence_of_their_attention(stores, a_documents, b_documents):
    """The Jensen-Shannon divergence in bits of the words' shares, from its definition with entropies."""
    expected = []
    for i, j in matched(a_documents, b_documents):
        one, other = (np.array([s for _, s in shares(d)]) for d in (a_documents[i], b_documents[j]))
        if len(one):
            middle = scipy.stats.entropy((one + other) / 2, base=2)
            distance = middle - (scipy.stats.entropy(one, base=2) + scipy.stats.entropy(other, base=2)) / 2
            expected.append(
                (
                    a_documents[i]["id"],
                    distance,
                    a_documents[i]["prediction"],
                    b_documents[j]["prediction"],
                    len(one),
                )
            )
    found = compare(*stores).moved
    distances = found["distance"].to_list()
    assert distances == sorted(distances, reverse=True)
    assert [tuple(map(near, row)) for row in sorted(expected)] == sorted(found.rows())


def test_words_are_compared_occurrence_by_occurrence(stores, a_documents, b_documents):
    """Lifts in both, their difference with interval and p by film, and q over the words in enough documents."""
    values, owners, in_documents = defaultdict(list), defaultdict(list), defaultdict(set)
    for i, j in matched(a_documents, b_documents):
        one, other = shares(a_documents[i]), shares(b_documents[j])
        for (word, p), (_, q) in zip(one, other, strict=True):
            if has_letter_or_digit(word):
                values[word].append((p * len(one), q * len(one)))
                owners[word].append(cluster_of(a_documents, i))
                in_documents[word].add(i)
    rows = {}
    for word, lifts in values.items():
        if len(in_documents[word]) >= 8:
            mean, half, p = estimate([a - b for a, b in lifts], owners[word])
            rows[word] = [len(in_documents[word]), len(lifts), *np.mean(lifts, axis=0).tolist(), mean, mean - half,
                          mean + half, p]  # fmt: skip
    adjusted = scipy.stats.false_discovery_control([row[-1] for row in rows.values()])
    expected = [(word, *row, q) for (word, row), q in zip(rows.items(), adjusted.tolist(), strict=True)]
    found = compare(*stores, min_documents=8).words
    assert len(found) > 5
    assert found["p"].to_list() == sorted(found["p"].to_list())
    assert [tuple(map(near, row)) for row in sorted(expected)] == sorted(found.rows())


def test_layers_are_matched_by_the_overlap_of_their_attention(stores, a_documents, b_documents):
    """Σ √(p q) over the words, averaged over documents: each layer of A with each of B, and each with even shares."""
    columns = [f"cls_{layer:02d}" for layer in (1, 2, 3)]
    sums, even, count = np.zeros((3, 3)), np.zeros((2, 3)), 0
    for i, j in matched(a_documents, b_documents):
        one, other = (
            [np.array([share for _, share in shares(d, column)]) for column in columns]
            for d in (a_documents[i], b_documents[j])
        )
        if not len(one[0]):
            continue
        count += 1
        for row, p in enumerate(one):
            sums[row] += [np.sqrt(p * q).sum() for q in other]
        for side, of_layers in enumerate((one, other)):
            even[side] += [np.sqrt(p / len(p)).sum() for p in of_layers]
    rows = compare(*stores).layers.rows()
    assert [row[:2] for row in rows] == [(a, b) for a in (1, 2, 3) for b in (1, 2, 3)]
    expected = [
        (sums[a, b] / count, even[0, a] / count, even[1, b] / count) for a in range(3) for b in range(3)
    ]
    assert [row[2:] for row in rows] == [tuple(map(near, map(float, row))) for row in expected]


def test_a_store_compared_with_itself_has_no_differences(stores):
    """Everything agrees, with no distance, no difference, and no p value."""
    a, _ = stores
    found = compare(a, a)
    assert (found.documents, found.only_a, found.only_b, found.agreeing) == (60, 0, 0, 60)
    assert (found.right_in_a_alone, found.right_in_b_alone, found.difference, found.p) == (0, 0, 0, None)
    assert set(found.moved["distance"]) == {0.0}
    assert set(found.words["difference"]) == {0.0}
    assert set(found.words["q"]) == {None}
    same = found.layers.filter(pl.col("layer_a") == pl.col("layer_b"))["similarity"]
    assert same.to_list() == [pytest.approx(1)] * 3


def test_a_reduction_without_layers_matches_none(stores):
    """Rollout is compared, without layers."""
    assert compare(*stores, reduction="rollout").layers.is_empty()


@pytest.mark.slow
def test_incomparable_stores_are_refused_in_one_line(stores, tmp_path, a_documents):
    """Other classes, other documents, and reductions that are not shares."""
    a, b = stores
    write_store(tmp_path / "classes", a_documents, labels=("neg", "pos", "neutral"))
    write_store(tmp_path / "others", [{**d, "id": f"other {n}"} for n, d in enumerate(a_documents)])
    classes, others = open_store(tmp_path / "classes"), open_store(tmp_path / "others")
    for other, given, message in (
        (classes, {}, f"the classes differ: neg, pos in {a.path}, neg, pos, neutral in {classes.path}"),
        (others, {}, f"{a.path} and {others.path} have no document in common, by id and text"),
        (
            b,
            {"reduction": "odd"},
            "odd does not add up to a share of a whole: compare takes attention, such as cls",
        ),
        (b, {"layer": "9"}, "the store has no layer 9: layer is 1 to 3, first, last or mean, or best"),
    ):
        with pytest.raises(UsageError) as caught:
            compare(a, other, **given)
        assert str(caught.value) == message
