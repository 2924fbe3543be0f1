"""Words for and against a prediction: SQL, its Polars twin and a loop over tokens give the same table."""

from collections import defaultdict

import numpy as np
import pytest
import scipy.stats

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions
from attnstore.errors import UsageError

QUESTION = find_questions()["for_and_against"]


def brute_force(
    documents,
    by="prediction",
    least=5,
    cluster="group",
    rank_by="sure",
    limit=20,
    ignore=(),
    marks=False,
    intervals=True,
):
    """The question's definition, one occurrence at a time."""
    found = defaultdict(lambda: defaultdict(list))
    holders = defaultdict(set)
    for number, document in enumerate(documents):
        tokens, class_ = document["tokens"], document[by]
        unit = document["group"] if cluster == "group" and document["group"] is not None else number
        for place, token in enumerate(tokens):
            word = token["word"]
            if class_ is None or token["special"] or token["piece"] != 0 or token["evidence"] is None:
                continue
            if word in ignore or not (marks or any(c.isalnum() for c in word)):
                continue
            found[class_, word][unit].append(
                sum(t["evidence"] for t in tokens[place : place + token["pieces"]])
            )
            holders[class_, word].add(number)
    rows = []
    for (class_, word), units in found.items():
        if len(holders[class_, word]) < least:
            continue
        y, n = np.array([sum(v) for v in units.values()]), np.array([len(v) for v in units.values()])
        mean = y.sum() / n.sum()
        g = n.sum() ** 2 / (n**2).sum()
        low = high = None
        if g >= 2:
            variance = max(0, ((y - mean * n) ** 2).sum()) / n.sum() ** 2 * g / (g - 1)
            half = scipy.stats.t.ppf(0.975, g - 1) * variance**0.5
            low, high = mean - half, mean + half
        sure = 0 if low is None else max(0, low) if mean > 0 else min(0, high)
        every = [value for values in units.values() for value in values]
        rows.append(
            {
                "class": class_,
                "side": "for" if mean > 0 else "against",
                "word": word,
                "documents": len(holders[class_, word]),
                "occurrences": len(every),
                "clusters": len(units),
                "evidence": mean,
                "low": low,
                "high": high,
                "sure": sure,
                "share_for": sum(value > 0 for value in every) / len(every),
            }
        )
    if not intervals:
        rank_by = "evidence"
        rows = [row | dict.fromkeys(("clusters", "low", "high", "sure", "share_for")) for row in rows]
    rows.sort(
        key=lambda r: (
            r["class"],
            r["side"] != "for",
            -np.float32(abs(r[rank_by])),
            -r["documents"],
            r["word"],
        )
    )
    counts = defaultdict(int)
    listed = []
    for row in rows:
        counts[row["class"], row["side"]] += 1
        if counts[row["class"], row["side"]] <= limit:
            listed.append(row)
    return listed


@pytest.mark.sampled(at=(1, 2, 3, 4, 5, 7, 9))
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"by": "label", "min_documents": 1},
        {"cluster": "document", "rank_by": "evidence", "limit": 2},
        {"ignore": ["film", "the"], "punctuation": "in", "min_documents": 2},
        {"intervals": False, "min_documents": 2},
    ],
)
def test_words_are_those_of_brute_force(signed_store, signed_documents, given, engine):
    """Means, intervals by cluster, order and sides, in both engines."""
    meant = {
        "by": given.get("by", "prediction"),
        "least": given.get("min_documents", 5),
        "cluster": given.get("cluster", "group"),
        "rank_by": given.get("rank_by", "sure"),
        "limit": given.get("limit", 20),
        "ignore": given.get("ignore", ()),
        "marks": given.get("punctuation") == "in",
        "intervals": given.get("intervals", True),
    }
    expected = brute_force(signed_documents, **meant)
    assert {row["side"] for row in expected} == {"for", "against"}
    rows = ask(signed_store, QUESTION, given, engine).to_pylist()
    assert [(r["class"], r["side"], r["word"]) for r in rows] == [
        (r["class"], r["side"], r["word"]) for r in expected
    ]
    for row, true in zip(rows, expected, strict=True):
        for name, value in true.items():
            assert row[name] == (
                pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value
            ), name


@pytest.mark.slow
def test_an_unsigned_reduction_is_refused(signed_store):
    """Attention is never negative, so everything would be "for"."""
    rows = ask(signed_store, QUESTION, {"min_documents": 1}).to_pylist()
    assert any(row["evidence"] < 0 for row in rows)
    with pytest.raises(UsageError, match="no reduction 'nothing'"):
        ask(signed_store, QUESTION, {"reduction": "nothing"})
