"""A store with a score that has a sign, and the errors of what is asked of it by brute force."""

import random
from collections import defaultdict

import asked_store
import numpy as np
import pytest
import scipy.stats

from attnstore.store.manifest import StoredReduction
from attnstore.store.store import open_store

EVIDENCE = StoredReduction(
    "evidence", per_layer=False, per_head=False, meaning="signed", total=None, signed=True
)


@pytest.fixture(scope="session")
def signed_documents():
    """Words with leanings of their own; every ninth document has no evidence."""
    chance = random.Random(5)
    leaning = {word: chance.gauss(0, 1) for word in asked_store.LEXICON}
    made = asked_store.made_up_documents(
        150, predictions=("neg", "pos", "meh"), labels=("neg", "pos", "meh", None)
    )
    for number, document in enumerate(made):
        document["id"] = f"test/{number}_{number * 7 % 11}.txt"
        sign = {"neg": -1, "pos": 1, "meh": 0.2}[document["prediction"]]
        asked_store.set_values(
            document,
            "evidence",
            [
                None
                if number % 9 == 8
                else float(np.float32(sign * leaning.get(t["word"], 0) + chance.gauss(0, 1)))
                for t in document["tokens"]
            ],
        )
    return made


@pytest.fixture(scope="session")
def signed_store(signed_documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("signed") / "s.attn"
    reductions = (*asked_store.REDUCTIONS, EVIDENCE)
    asked_store.write_store(path, signed_documents, labels=("neg", "pos", "meh"), reductions=reductions)
    return open_store(path)


def the_words(document, column="evidence"):
    """Each word of a document in its order, with the sum of its pieces' values, and how many they are."""
    tokens = document["tokens"]
    return [
        (t["word"], sum(piece[column] for piece in tokens[at : at + t["pieces"]]), t["pieces"])
        for at, t in enumerate(tokens)
        if t["piece"] == 0 and t[column] is not None
    ]


class Ratio:
    """A mean of values that hang together by owner: its error from what each owner adds, and how many they weigh."""

    def __init__(self, values, owners, weights=None):
        weights = [1] * len(values) if weights is None else weights
        self.total = sum(weights)
        self.mean = sum(v * w for v, w in zip(values, weights, strict=True)) / self.total
        self.off, sizes = defaultdict(float), defaultdict(float)
        for value, owner, weight in zip(values, owners, weights, strict=True):
            self.off[owner] += (value - self.mean) * weight / self.total
            sizes[owner] += weight
        self.owners = len(sizes)
        weight = self.total**2 / sum(size**2 for size in sizes.values())
        self.clusters = weight if weight >= 2 - 1e-12 else None

    def error(self, other=None):
        """Of the mean, or of its difference from another's over the same owners."""
        g = self.clusters if other is None else min(self.clusters, other.clusters)
        off = dict(self.off)
        for owner, value in ({} if other is None else other.off).items():
            off[owner] = off.get(owner, 0) - value
        return (sum(value**2 for value in off.values()) * g / (g - 1)) ** 0.5


def bounds(mean, error, clusters):
    """Low, high and what is sure: the end nearer to 0, and 0 where the interval holds 0 or there is none."""
    if error is None:
        return None, None, 0.0
    half = scipy.stats.t.ppf(0.975, clusters - 1) * error
    return mean - half, mean + half, max(0.0, mean - half) if mean > 0 else min(0.0, mean + half)


def with_q(rows, family, name="p"):
    """Rows with their q: Benjamini and Hochberg over the rows of one family that have a p."""
    families = defaultdict(list)
    for row in rows:
        families[row[family]].append(row)
    for members in families.values():
        tested = [row for row in members if row[name] is not None]
        q = scipy.stats.false_discovery_control([row[name] for row in tested]) if tested else []
        for row in members:
            row["q"] = None
        for row, value in zip(tested, q, strict=True):
            row["q"] = float(value)


def assert_rows(rows, expected):
    """The same rows in the same order; numbers to seven digits."""
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, true in zip(rows, expected, strict=True):
        assert row == {
            name: pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value
            for name, value in true.items()
        }
