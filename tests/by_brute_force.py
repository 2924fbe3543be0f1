"""Answers by brute force, in addition to tests/asked_store.py: words, means with errors, intervals, q values."""

from collections import defaultdict

import pytest
import scipy.stats


def the_words(document, column="evidence"):
    """Each word of a document in order, with the sum of its pieces' values, and their number."""
    tokens = document["tokens"]
    return [
        (t["word"], sum(piece[column] for piece in tokens[at : at + t["pieces"]]), t["pieces"])
        for at, t in enumerate(tokens)
        if t["piece"] == 0 and t[column] is not None
    ]


class Ratio:
    """A mean of values clustered by owner, with its error from each owner's sum, and effective clusters."""

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
        """The error of the mean, or of its difference from another mean over the same owners."""
        g = self.clusters if other is None else min(self.clusters, other.clusters)
        off = dict(self.off)
        for owner, value in ({} if other is None else other.off).items():
            off[owner] = off.get(owner, 0) - value
        return (sum(value**2 for value in off.values()) * g / (g - 1)) ** 0.5


def bounds(mean, error, clusters):
    """Low, high, and the certain part: the end nearer to 0, or 0 if the interval contains 0 or does not exist."""
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
    """The same rows in the same order, with numbers to seven digits."""
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, true in zip(rows, expected, strict=True):
        assert row == {
            name: pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value
            for name, value in true.items()
        }
