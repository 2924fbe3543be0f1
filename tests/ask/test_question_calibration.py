"""Calibration: SQL, its Polars twin and a loop over documents give the same table, and planted errors are found."""

import math
from collections import defaultdict
from types import SimpleNamespace

import asked_store
import numpy as np
import polars as pl
import pytest
import scipy.optimize
import scipy.stats

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions
from attnstore.errors import UsageError
from attnstore.store.store import open_store

QUESTION = find_questions()["calibration"]


@pytest.fixture(scope="module")
def documents():
    return asked_store.made_up_documents(
        150, labels=("neg", "pos", "meh", None), predictions=("neg", "pos", "meh")
    )


@pytest.fixture(scope="module")
def store(documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("calibration") / "s.attn"
    return open_store(asked_store.write_store(path, documents, labels=("neg", "pos", "meh")).path)


def bins_of(probabilities, bins, binning):
    if binning == "width":
        return [min(bins, max(1, math.ceil(value * bins))) for value in probabilities]
    return [
        1 + sum(other < value for other in probabilities) * bins // len(probabilities)
        for value in probabilities
    ]


def cluster_variance(values, owners, about):
    """The variance of a mean over documents, and the effective number of equal clusters; None below two."""
    sums, sizes = defaultdict(float), defaultdict(int)
    for value, owner in zip(values, owners, strict=True):
        sums[owner] += value - about
        sizes[owner] += 1
    n = len(values)
    g = n**2 / sum(size**2 for size in sizes.values())
    return (None, None) if g < 2 else (sum(s**2 for s in sums.values()) / n**2 * g / (g - 1), g)


def wilson(share, n, variance, g):
    """The shares whose distance from the observed one is Student's t times their error, found by search."""
    m, t = min(n, share * (1 - share) / variance) if 0 < share < 1 else g, scipy.stats.t.ppf(0.975, g - 1)

    def beyond(p):
        return (share - p) ** 2 - t**2 * p * (1 - p) / m

    low = scipy.optimize.brentq(beyond, 0, share - 1e-9, xtol=1e-12) if share else 0.0
    high = scipy.optimize.brentq(beyond, share + 1e-9, 1, xtol=1e-12) if share < 1 else 1.0
    return low, high


def brute_force(documents, bins=10, binning="width", cluster="group"):
    """One class after the other, one bin after the other."""
    judged = [(n, d) for n, d in enumerate(documents) if d["label"] is not None]
    rows = []
    for class_ in [None, *sorted({d["prediction"] for _, d in judged})]:
        chosen = [(n, d) for n, d in judged if class_ in (None, d["prediction"])]
        probabilities = [d["probability"] for _, d in chosen]
        places = bins_of(probabilities, bins, binning)
        right = [int(d["label"] == d["prediction"]) for _, d in chosen]
        owners = [asked_store.cluster_of(documents, n, cluster) for n, _ in chosen]
        off, chance, of_class = [0.0] * len(chosen), 0.0, []
        for place in [None, *sorted(set(places))]:
            inside = [i for i, p in enumerate(places) if place in (None, p)]
            p, hit, own = ([values[i] for i in inside] for values in (probabilities, right, owners))
            accuracy, said = sum(hit) / len(hit), sum(p) / len(p)
            variance, g = cluster_variance(hit, own, accuracy)
            low, high = (None, None) if g is None else wilson(accuracy, len(hit), variance, g)
            of_class.append(
                {"class": class_, "bin": place, "documents": len(hit), "clusters": len(set(own)),
                 "probability_from": min(p) if place is None or binning == "count" else (place - 1) / bins,
                 "probability_to": max(p) if place is None or binning == "count" else place / bins,
                 "mean_probability": said, "accuracy": accuracy, "low": low, "high": high, "gap": accuracy - said,
                 "gap_low": None if low is None else low - said, "gap_high": None if low is None else high - said,
                 "expected_error": None, "error_low": None, "error_high": None, "by_chance": None}
            )  # fmt: skip
            if place is not None:
                for i in inside:
                    off[i] = math.copysign(1, accuracy - said) * (right[i] - probabilities[i])
                chance += math.sqrt(2 / math.pi * sum(v * (1 - v) for v in p))
        error = sum(off) / len(off)
        variance, g = cluster_variance(off, owners, error)
        half = scipy.stats.t.ppf(0.975, g - 1) * math.sqrt(variance)
        of_class[0] |= {"expected_error": error, "error_low": max(0, error - half), "error_high": error + half,
                        "by_chance": chance / len(off)}  # fmt: skip
        rows += of_class
    return rows


@pytest.mark.sampled(at=(0, 2, 3, 5, 7))
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize(
    "given", [{}, {"bins": 4, "binning": "count"}, {"bins": 25, "cluster": "document"}, {"bins": 1}]
)
def test_bins_are_those_of_brute_force(store, documents, given, engine):
    """Each value of each row, with its interval, in both engines."""
    rows = ask(store, QUESTION, given, engine).to_pylist()
    expected = brute_force(documents, **given)
    assert len(rows) == len(expected)
    for row, true in zip(rows, expected, strict=True):
        assert row == {
            name: pytest.approx(value, rel=1e-6, abs=1e-7) if isinstance(value, float) else value
            for name, value in true.items()
        }


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_calibration_needs_labels(documents, engine, tmp_path):
    """One line says what is missing: labels, or the classes that they stand for."""
    bare = [{**document, "label": None} for document in documents[:20]]
    store = open_store(asked_store.write_store(tmp_path / "bare", bare).path)
    with pytest.raises(UsageError, match=r"^no document of this store has a label, which calibration needs$"):
        ask(store, QUESTION, {}, engine)
    foreign = asked_store.write_store(tmp_path / "foreign", documents[:20], labels_are_models=False)
    with pytest.raises(
        UsageError, match=r"^the data's labels are not the model's classes, which calibration"
    ):
        ask(open_store(foreign.path), QUESTION, {}, engine)


def drawn(right_of, draws=60, count=1000):
    """The rows of all bins of that many random samples, in which a document is right with the chance
    `right_of(probability)`.

    Each sample is a separate class, so that a single question answers all.
    """
    chance = np.random.default_rng(2)
    names = np.repeat([f"draw {n:02d}" for n in range(draws)], count)
    probability = chance.uniform(0.5, 1, len(names))
    right = chance.random(len(names)) < right_of(probability)
    documents = pl.DataFrame(
        {"prediction": names, "label": np.where(right, names, "another"), "probability": probability,
         "cluster": np.arange(len(names), dtype=np.int32)}
    ).lazy()  # fmt: skip
    given = {p.name: p.default for p in QUESTION.parameters} | {"labels_are_models": True}
    rows = QUESTION.polars(SimpleNamespace(documents=documents), given).collect()
    return rows.filter(pl.col("class").is_not_null(), pl.col("bin").is_null())


@pytest.mark.slow
def test_planted_errors_are_covered_and_calibrated_models_have_only_chance_errors():
    """In 60 samples, the true error 0.1 is in 95 % of the intervals, and chance alone gives `by_chance`."""
    rows = drawn(lambda p: p - 0.1)
    assert len(rows) == 60
    assert rows.select(pl.lit(0.1).is_between("error_low", "error_high").mean()).item() >= 0.88
    assert rows["expected_error"].mean() == pytest.approx(0.1, abs=0.005)
    rows = drawn(lambda p: p)
    assert rows["expected_error"].mean() / rows["by_chance"].mean() == pytest.approx(1, abs=0.12)
    assert rows.select(pl.lit(0).is_between("gap_low", "gap_high").mean()).item() >= 0.88
