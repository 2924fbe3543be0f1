"""Contrasts within groups:

SQL, its Polars twin and a loop give the same table, and effects of films are no effects of classes.
"""

from collections import defaultdict

import asked_store
import numpy as np
import pytest
import scipy.stats
from by_brute_force import Ratio, assert_rows, bounds, the_words, with_q

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions
from attnstore.errors import UsageError
from attnstore.store.store import open_store

QUESTION = find_questions()["within_group"]


def brute_force(documents, column="cls_03", signed=False, by="label", least=10, ignore=(), limit=20):
    """The question's definition, one film after the other."""
    found = defaultdict(lambda: defaultdict(list))  # (film or None, word): class: values
    for document in documents:
        for word, value, pieces in the_words(document, column):
            if document[by] is not None and word not in ignore and any(c.isalnum() for c in word):
                lift = value if signed else value * len(document["tokens"]) / pieces
                found[document["group"], word][document[by]].append(lift)
    rows = []
    for class_ in sorted({name for sides in found.values() for name in sides}):
        for word in sorted({word for _, word in found}):
            of_films, every = [], ([], [])
            for (film, other), sides in found.items():
                if other != word:
                    continue
                here = sides.get(class_, [])
                there = [v for name, values in sides.items() if name != class_ for v in values]
                every[0].extend(here)
                every[1].extend(there)
                if film is not None and here and there:
                    of_films.append((np.mean(here) - np.mean(there), film, 1 / (1 / len(here) + 1 / len(there)),
                                     len(here), len(there)))  # fmt: skip
            if len(of_films) < least:
                continue
            mean = Ratio(*list(zip(*of_films, strict=True))[:3])
            error = mean.error() if (mean.clusters or 0) >= 5 else None
            low, high, sure = bounds(mean.mean, error, mean.clusters)
            rows.append(
                {"class": class_, "word": word, "groups": len(of_films), "occurrences": sum(f[3] for f in of_films),
                 "other_occurrences": sum(f[4] for f in of_films), "difference": float(mean.mean),
                 "low": low, "high": high, "sure": sure,
                 "p": None if error is None
                 else float(2 * scipy.stats.t.sf(abs(mean.mean) / error, mean.clusters - 1)),
                 "q": None, "overall": float(np.mean(every[0]) - np.mean(every[1]))}
            )  # fmt: skip
    with_q(rows, "class")
    rows = [row for row in rows if row["difference"] > 0]
    rows.sort(key=lambda r: (r["class"], -np.float32(r["sure"]), -r["groups"], r["word"]))
    return [row for at, row in enumerate(rows) if sum(r["class"] == row["class"] for r in rows[:at]) < limit]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"min_groups": 1}, {"least": 1}),
        ({"reduction": "evidence", "by": "prediction", "min_groups": 3, "limit": 2},
         {"column": "evidence", "signed": True, "by": "prediction", "least": 3, "limit": 2}),
        ({"layer": 1, "ignore": ["film"], "min_groups": 2}, {"column": "cls_01", "ignore": ["film"], "least": 2}),
    ],
)  # fmt: skip
def test_words_are_those_of_brute_force(signed_store, signed_documents, given, meant, engine):
    """Three classes, films with one, two or all of them, attention and a signed score."""
    expected = brute_force(signed_documents, **meant)
    assert len(expected) > 5
    assert_rows(ask(signed_store, QUESTION, given, engine).to_pylist(), expected)


@pytest.mark.slow
def test_a_word_of_the_films_of_a_class_is_not_one_of_the_class(tmp_path):
    """`often` has four times the attention in films that most reviews like, `stared` twice as much in pos reviews."""
    chance = np.random.default_rng(3)
    documents = []
    for number in range(400):
        liked = number // 10 % 2
        kind = "pos" if chance.random() < (0.75 if liked else 0.25) else "neg"
        names = ["film"] * 6 + ["bear", "the"]
        draws = chance.gamma(9, 1 / 9, len(names)) * np.where(
            np.array(names) == "bear",
            4 if liked else 1,
            np.where(np.array(names) == "the", 1 + (kind == "pos"), 1),
        )
        document = {
            "id": str(number), "label": kind, "prediction": kind, "group": f"film {number // 10}", "split": "test",
            "probability": 0.75, "truncated": False, "text": "",
            "tokens": [asked_store.token(name, name, 0, 1) for name in names],
        }  # fmt: skip
        asked_store.set_values(document, "rollout", [float(value) / len(names) for value in draws])
        documents.append(document)
    reductions = [r for r in asked_store.REDUCTIONS if r.name == "rollout"]
    store = open_store(
        asked_store.write_store(tmp_path / "s", documents, reductions=reductions, part_size=400).path
    )
    rows = ask(store, QUESTION, {"reduction": "rollout"}).to_pylist()
    of_pos = {row["word"]: row for row in rows if row["class"] == "pos"}
    assert of_pos["the"]["low"] < 1 < of_pos["the"]["high"] and of_pos["the"]["q"] < 0.001
    (bear,) = [row for row in rows if row["word"] == "bear"]
    assert abs(bear["overall"]) > 1 and abs(bear["difference"]) < 0.5 and bear["sure"] == 0


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_without_groups_one_line_says_so(signed_documents, engine, tmp_path):
    """Without groups there are no contrasts within them."""
    bare = [{**document, "group": None} for document in signed_documents[:10]]
    store = open_store(asked_store.write_store(tmp_path / "bare", bare, labels=("neg", "pos", "meh")).path)
    with pytest.raises(
        UsageError, match=r"^no document of this store has a group, such as a film, which within_gr"
    ):
        ask(store, QUESTION, {}, engine)
