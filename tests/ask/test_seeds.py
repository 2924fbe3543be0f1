"""Several stores: the variance of a word's figure is divided into that of the seed and of the sample, as simulated."""

import copy
import random
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
from asked_store import (
    cluster_of,
    has_letter_or_digit,
    made_up_documents,
    occurrences,
    set_values,
    write_store,
)

from attnstore.ask import seeds
from attnstore.ask.seeds import compare_seeds
from attnstore.errors import UsageError
from attnstore.store.store import open_store

#: The standard deviation of the words' true figures.
SPREAD = 0.3


def simulated(*, seed_deviation, words=300, stores=4, clusters=50):
    """Each word is a simulation: an effect of its cluster in all stores, one in each store, and one of each store."""
    chance = np.random.default_rng(8)
    moods = chance.normal(0, 0.5, (words, 1, clusters))
    readings = chance.normal(0, 0.4, (words, stores, clusters))
    own = chance.normal(0, seed_deviation, (words, stores, 1))
    n = np.broadcast_to(chance.integers(1, 4, (words, 1, clusters)), readings.shape)
    truths = chance.normal(1, SPREAD, (words, 1, 1))
    y = n * (truths + moods + readings + own)
    word, store, cluster = (index.ravel() for index in np.indices(y.shape))
    columns = {"store": store, "cluster": cluster, "documents": n.ravel(), "n": n.ravel(), "y": y.ravel()}
    frame = pl.DataFrame({"class": "pos", "word": word, **columns}).with_columns(
        pl.col("word", "store").cast(pl.String)
    )
    return frame, {str(number): truth for number, truth in enumerate(truths.ravel())}


@pytest.mark.parametrize("deviation", [0.0, 0.2])
def test_the_seeds_variance_is_separated_from_the_samples(deviation):
    """Over 300 words it averages to the truth, and 95 % of the intervals of the mean hold the simulated value."""
    found, truths = simulated(seed_deviation=deviation)
    words, _, parts = seeds._measured(found, 50, 4, 1, 20)
    assert words.height == 300
    # One store's sampling variance is that of both cluster effects over about 46 effective clusters.
    sampling = (words["sampling"] ** 2).mean()
    assert sampling == pytest.approx((0.5**2 + 0.4**2) / 43, rel=0.1)
    (row,) = parts.to_dicts()
    whole = SPREAD**2 + deviation**2 + sampling
    expected = {"model": SPREAD**2 / whole, "seed": deviation**2 / whole, "sampling": sampling / whole}
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=0.06)
    held = [low <= truths[word] <= high for word, low, high in words.select("word", "low", "high").rows()]
    assert 0.92 <= np.mean(held) <= 0.99


def with_seed(documents, seed):
    """The same texts and predictions with other attention."""
    chance = random.Random(seed)
    others = copy.deepcopy(documents)
    for document in others:
        values = [chance.random() ** 2 for _ in document["tokens"]]
        set_values(document, "cls_03", [float(np.float32(v / sum(values))) for v in values])
    return others


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three stores, the second of which lacks some documents, and the documents in all of them."""
    folder = tmp_path_factory.mktemp("seeds")
    documents = made_up_documents(60)
    sides = [with_seed(documents, seed) for seed in range(3)]
    stores = {}
    for name, side in zip("abc", (sides[0], sides[1][5:], sides[2]), strict=True):
        write_store(folder / name, side)
        stores[name] = open_store(folder / name)
    return stores, [side[5:] for side in sides]


def test_a_words_figures_are_those_of_a_loop(made):
    """Mean, extremes and deviation of the lifts in all stores, and the sampling error of one, by their definitions."""
    stores, sides = made
    found = compare_seeds(stores, min_documents=5)
    assert found.documents == 55
    checked = 0
    for row in found.words.to_dicts():
        means, variances = [], []
        for side in sides:
            values = defaultdict(list)
            for number, document in enumerate(side):
                size = len(document["tokens"])
                for word, special, places in occurrences(document, "word"):
                    if (document["prediction"], word) == (row["class"], row["word"]) and not special:
                        mine = sum(document["tokens"][place]["cls_03"] for place in places)
                        values[cluster_of(side, number)].append(mine * size / len(places))
            every = [v for of in values.values() for v in of]
            means.append(np.mean(every))
            off = [sum(of) - means[-1] * len(of) for of in values.values()]
            g = len(values)
            variances.append(g / (g - 1) * sum(o * o for o in off) / len(every) ** 2)
        assert row["mean"] == pytest.approx(np.mean(means), rel=1e-6)
        assert (row["lowest"], row["highest"]) == pytest.approx((min(means), max(means)), rel=1e-6)
        assert row["between"] == pytest.approx(np.std(means, ddof=1), rel=1e-5)
        assert row["clusters"] == g
        if row["sampling"] is not None:
            assert row["sampling"] == pytest.approx(np.mean(variances) ** 0.5, rel=1e-5)
            checked += 1
        assert has_letter_or_digit(row["word"])
    assert checked > 8


def test_equal_stores_have_no_variance_of_the_seed(made):
    """Two equal stores share all leading words, no variance is the seed's, and the extremes equal the mean."""
    store = made[0]["a"]
    found = compare_seeds({"a": store, "b": store, "c": store}, min_documents=5, size=3)
    assert found.lists.rows() == [("neg", 3, 3.0, 3, 3), ("pos", 3, 3.0, 3, 3)]
    assert set(found.parts["seed"]) == {0.0}
    assert found.words["between"].max() == pytest.approx(0, abs=1e-12)


@pytest.mark.slow
def test_one_store_and_stores_without_a_common_document_are_refused(made, tmp_path):
    stores, sides = made
    write_store(tmp_path / "others", [{**d, "id": f"other {n}"} for n, d in enumerate(sides[0])])
    others = open_store(tmp_path / "others")
    for given, message in (
        ({"a": stores["a"]}, "one store has nothing to be compared with"),
        (
            stores | {"d": others},
            f"{stores['a'].path} and {others.path} have no document in common, by id and text",
        ),
    ):
        with pytest.raises(UsageError) as caught:
            compare_seeds(given)
        assert str(caught.value) == message
