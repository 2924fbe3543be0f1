"""Evidence against log-odds: SQL, its Polars twin and a loop over words give the same table."""

from collections import Counter, defaultdict

import asked_store
import numpy as np
import pytest
from by_brute_force import Ratio, assert_rows, bounds, the_words

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions

QUESTION = find_questions()["lexicon"]


def brute_force(documents, least=5, cluster="group", ignore=(), marks=False, limit=20):
    """The question's definition, with numpy's regression line."""
    found, holders, counts = defaultdict(list), defaultdict(set), defaultdict(Counter)
    for number, document in enumerate(documents):
        owner = asked_store.cluster_of(documents, number, cluster)
        kept = [w for w in (t["word"] for t in document["tokens"] if t["piece"] == 0) if w not in ignore]
        if document["label"] is not None:
            counts[document["label"]].update(w for w in kept if marks or any(c.isalnum() for c in w))
        for word, value, _ in the_words(document):
            if word not in ignore and (marks or any(c.isalnum() for c in word)):
                found[document["prediction"], word].append((value, owner))
                holders[document["prediction"], word].add(number)
    total = sum(counts.values(), Counter())
    rows = []
    for class_ in sorted({key[0] for key in found}):
        of_class = []
        for (other, word), values in found.items():
            if other != class_ or len(holders[class_, word]) < least or not total[word]:
                continue
            n, o_n = counts[class_][word], total[word] - counts[class_][word]
            words = counts[class_].total()
            o_words, alpha = total.total() - words, 0.01 * total[word]
            rest = 0.01 * (total.total() - total[word])
            odds = np.log((n + alpha) / (words - n + rest)) - np.log((o_n + alpha) / (o_words - o_n + rest))
            mean = Ratio(*zip(*values, strict=True))
            of_class.append(
                (word, mean, float(odds), (1 / (n + alpha) + 1 / (o_n + alpha)) ** 0.5, len(values))
            )
        weights = np.array([item[4] for item in of_class])
        x, y = (np.array(values) for values in ([i[2] for i in of_class], [i[1].mean for i in of_class]))
        slope, intercept = np.polyfit(x, y, 1, w=np.sqrt(weights))
        cov = np.cov(x, y, aweights=weights)
        for word, mean, odds, deviation, count in of_class:
            low, high, _ = bounds(mean.mean, mean.error() if mean.clusters else None, mean.clusters)
            expected = float(intercept + slope * odds)
            residual, sure = mean.mean - expected, 0.0
            if low is not None:
                half = ((mean.mean - low) ** 2 + (1.959963984540054 * slope * deviation) ** 2) ** 0.5
                sure = max(0.0, residual - half) if residual > 0 else min(0.0, residual + half)
            rows.append(
                {"class": class_, "side": "more" if residual > 0 else "less", "word": word,
                 "documents": len(holders[class_, word]), "occurrences": count, "clusters": mean.owners,
                 "log_odds": odds, "z": odds / deviation, "evidence": mean.mean, "low": low, "high": high,
                 "expected": expected, "residual": residual, "sure": float(sure), "slope": float(slope),
                 "correlation": float(cov[0, 1] / (cov[0, 0] * cov[1, 1]) ** 0.5)}
            )  # fmt: skip
    rows.sort(
        key=lambda r: (
            r["class"],
            r["side"] != "more",
            -np.float32(abs(r["sure"])),
            -r["documents"],
            r["word"],
        )
    )
    places = Counter()
    listed = []
    for row in rows:
        places[row["class"], row["side"]] += 1
        listed += [row] if places[row["class"], row["side"]] <= limit else []
    return listed


@pytest.mark.sampled(at=(1, 2, 3, 5))
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize(
    "given",
    [
        {"min_documents": 1},
        {"cluster": "document", "ignore": ["film"], "limit": 2},
        {"punctuation": "in", "min_documents": 3},
    ],
)
def test_words_are_those_of_brute_force(signed_store, signed_documents, given, engine):
    """Counts of labels, evidence for predictions, the line through them, and the certain part of each residual."""
    expected = brute_force(
        signed_documents,
        least=given.get("min_documents", 5),
        cluster=given.get("cluster", "group"),
        ignore=given.get("ignore", ()),
        marks=given.get("punctuation") == "in",
        limit=given.get("limit", 20),
    )
    assert {row["side"] for row in expected} == {"more", "less"} and any(row["sure"] for row in expected)
    assert_rows(ask(signed_store, QUESTION, given, engine).to_pylist(), expected)


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_there_is_no_line_if_all_documents_have_one_label(signed_store, engine):
    """All log-odds are 0 then except for rounding, so a line could have any slope."""
    given = {"where": "label = 'neg'", "min_documents": 1, "limit": 1000}
    rows = ask(signed_store, QUESTION, given, engine).to_pylist()
    assert len(rows) > 5 and {row["class"] for row in rows} == {"neg"}
    assert {(row["slope"], row["correlation"]) for row in rows} == {(None, None)}
    mean = np.average([row["evidence"] for row in rows], weights=[row["occurrences"] for row in rows])
    assert [row["expected"] for row in rows] == pytest.approx([mean] * len(rows))
