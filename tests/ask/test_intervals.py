"""The 95 % intervals of the questions have their promised coverage if documents are clustered by film."""

import numpy as np
import pytest
from asked_store import token, write_store

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions
from attnstore.store.manifest import StoredReduction

VALUE = (StoredReduction("value", per_layer=False, per_head=False, meaning="made up", total=None),)
WORDS, FILMS, OF_A_WORD, TRUTH = 500, 70, 40, 1.0

pytestmark = pytest.mark.slow  # every test here uses a store of 500 simulations


@pytest.fixture(scope="module")
def simulations():
    """Each of 500 words is a separate simulation: a film's effect shifts all occurrences of the word in its reviews.

    Returns (value, film) pairs of each word, whose mean lift is 1.0. Films have one to six reviews, and a review has
    the word up to three times. Each word occurs in 40 of the 70 films, drawn for it alone.
    """
    chance = np.random.default_rng(11)
    reviews = chance.integers(1, 7, FILMS)
    moods = chance.gamma(4, TRUTH / 4, (WORDS, FILMS))
    has = chance.permuted(np.tile(np.arange(FILMS) < OF_A_WORD, (WORDS, 1)), axis=1)  # (words, films)
    documents = []
    for film, count in enumerate(reviews):
        for _ in range(count):
            times = chance.integers(0, 4, WORDS) * has[:, film]
            values = [moods[word, film] * chance.gamma(2, 0.5, times[word]) for word in range(WORDS)]
            documents.append((film, values))
    return documents


@pytest.fixture(scope="module")
def store(tmp_path_factory, simulations):
    rows = []
    for number, (film, values) in enumerate(simulations):
        size = sum(map(len, values))
        tokens = [
            {**token(f"w{word}", f"w{word}", 0, 1), "value": float(value) / size}
            for word, of_word in enumerate(values)
            for value in of_word
        ]
        rows.append(
            {"id": str(number), "group": f"film {film}", "label": "pos", "prediction": "pos", "split": "test",
             "probability": 0.75, "truncated": False, "text": "", "tokens": tokens}
        )  # fmt: skip
    return write_store(tmp_path_factory.mktemp("simulated") / "store", rows, reductions=VALUE, part_size=100)


def intervals(store, cluster):
    parameters = {"reduction": "value", "limit": WORDS, "cluster": cluster}
    rows = ask(store, find_questions()["top_words_by_class"], parameters).to_pylist()
    assert len(rows) == WORDS
    return {row["word"]: (row["low"], row["lift"], row["high"]) for row in rows}


def test_intervals_cover_the_truth_in_93_to_97_percent_of_500_simulations(store):
    """Intervals that treat a film's reviews as independent do not: they are too short."""
    covered = np.mean([low <= TRUTH <= high for low, _, high in intervals(store, "group").values()])
    assert 0.93 <= covered <= 0.97
    naive = np.mean([low <= TRUTH <= high for low, _, high in intervals(store, "document").values()])
    assert naive < 0.90


def test_intervals_are_as_wide_as_those_of_a_bootstrap_of_films(store, simulations):
    """2,000 resamples of whole films: the standard errors agree to 15 % for every word, and to 3 % on average."""
    chance = np.random.default_rng(5)
    drawn = chance.multinomial(
        FILMS, np.full(FILMS, 1 / FILMS), 2000
    )  # (resamples, films): how often each film is drawn
    found = intervals(store, "group")
    from scipy.stats import t

    ratios = []
    for word in range(0, WORDS, 10):
        sums, counts = np.zeros(FILMS), np.zeros(FILMS)
        for film, values in simulations:
            sums[film] += values[word].sum()
            counts[film] += len(values[word])
        low, lift, high = found[f"w{word}"]
        clusters = counts.sum() ** 2 / (counts**2).sum()  # films of the same size are counted together
        # The interval is of the logarithm, where the error is relative to the lift.
        error = lift * np.log(high / low) / 2 / t.ppf(0.975, clusters - 1)
        ratios.append(error / np.std((drawn @ sums) / (drawn @ counts)))
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)
    assert max(abs(np.log(ratios))) < 0.15
