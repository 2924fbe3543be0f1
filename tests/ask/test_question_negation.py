"""Words with and without a negation before them: SQL, its Polars twin and a loop over words give the same table."""

from collections import defaultdict

import asked_store
import numpy as np
import pytest
import scipy.stats
from by_brute_force import Ratio, assert_rows, bounds, the_words, with_q

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions

QUESTION = find_questions()["negation"]


def is_mark(word):
    return not any(c.isalnum() for c in word)


def brute_force(
    documents, negations, distance=3, least=5, cluster="group", by="prediction", ignore=(), limit=20
):
    """The question's definition, one occurrence at a time, looking backwards from it."""
    found, holders = defaultdict(lambda: ([], [])), defaultdict(set)
    for number, document in enumerate(documents):
        words = the_words(document)
        for at, (word, value, _) in enumerate(words):
            if document[by] is None or is_mark(word) or word in negations or word in ignore:
                continue
            negated = False
            for before, *_ in reversed(words[max(0, at - distance) : at]):
                if is_mark(before) and before not in negations:
                    break
                negated = negated or before in negations
            owner = asked_store.cluster_of(documents, number, cluster)
            found[document[by], word][not negated].append((value, owner))
            if negated:
                holders[document[by], word].add(number)
    rows = []
    for (class_, word), (negated, plain) in found.items():
        if len(holders[class_, word]) < least or not negated or not plain:
            continue
        one, other = (Ratio(*zip(*side, strict=True)) for side in (negated, plain))
        enough = min(one.clusters or 0, other.clusters or 0) >= 5
        error, g = (one.error(other), min(one.clusters, other.clusters)) if enough else (None, None)
        difference = one.mean - other.mean
        low, high, sure = bounds(difference, error, g)
        rows.append(
            {"class": class_, "word": word, "negated": len(negated), "plain": len(plain),
             "negated_clusters": one.owners, "plain_clusters": other.owners, "negated_evidence": one.mean,
             "plain_evidence": other.mean, "difference": difference, "low": low, "high": high, "sure": sure,
             "p": None if error is None else float(2 * scipy.stats.t.sf(abs(difference) / error, g - 1))}
        )  # fmt: skip
    with_q(rows, "class")
    rows.sort(key=lambda r: (r["class"], -np.float32(abs(r["sure"])), -r["negated"], r["word"]))
    return [row for at, row in enumerate(rows) if sum(r["class"] == row["class"] for r in rows[:at]) < limit]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize(
    "given",
    [
        {"negations": ["the", "10", "bear"], "distance": 5, "min_documents": 2},
        {
            "negations": ["film", "the", "it's"],
            "distance": 2,
            "min_documents": 1,
            "by": "label",
            "cluster": "document",
        },
        {"negations": ["10", "bear", "film", "½", "!"], "distance": 9, "ignore": ["the"], "limit": 3},
    ],
)
def test_words_are_those_of_brute_force(signed_store, signed_documents, given, engine):
    """Any negation, even a mark, at any distance. Other marks and the ends of documents stop its reach."""
    meant = {("least" if name == "min_documents" else name): value for name, value in given.items()}
    expected = brute_force(signed_documents, **meant)
    assert len(expected) > 8 and any(row["p"] is not None for row in expected)
    assert_rows(ask(signed_store, QUESTION, given, engine).to_pylist(), expected)
