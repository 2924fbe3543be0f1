"""The question `edits`: DuckDB, Polars and brute force give the same ranks of the edited words."""

import math
import random
from collections import defaultdict

import numpy as np
import pytest
import scipy.stats
from asked_store import (
    LEXICON,
    cluster_of,
    has_letter_or_digit,
    made_up_documents,
    occurrences,
    set_values,
    words,
    write_store,
)

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions
from attnstore.store.store import open_store

QUESTION = find_questions()["edits"]
COLUMNS = ["cls_01", "cls_02", "cls_03", "rollout", "odd"]


def with_versions(documents, seed=3):
    """Every second document is a version of the one before: some words changed, the other label, the same film."""
    chance = random.Random(seed)
    for number in range(1, len(documents), 2):
        first, second = documents[number - 1], documents[number]
        said = [row["word"] for row in first["tokens"] if row["piece"] == 0]
        changed = [chance.choice(list(LEXICON)) if chance.random() < 0.3 else word for word in said]
        second["tokens"] = words(*changed)
        for column in [*COLUMNS, "cls_heads_01", "cls_heads_02", "cls_heads_03"]:
            shape = 2 if "heads" in column else None
            values = [chance.choice([0.1, 0.2, chance.random()]) for _ in second["tokens"]]
            set_values(second, column, [[v] * shape for v in values] if shape else map(np.float32, values))
            for row in second["tokens"]:
                row[column] = [float(v) for v in row[column]] if shape else float(row[column])
        first["label"], second["label"] = chance.sample(["neg", "pos"], 2)
        first["group"] = second["group"] = chance.choice([f"film {number}", f"film {number // 6}", None])
    return documents


@pytest.fixture(scope="module")
def documents():
    return with_versions(made_up_documents(80))


@pytest.fixture(scope="module")
def store(tmp_path_factory, documents):
    path = tmp_path_factory.mktemp("edits") / "store"
    write_store(path, documents)
    return open_store(path)


def partner(documents, number, common):
    own = documents[number]
    mine = {row["word"] for row in own["tokens"] if row["word"] is not None}
    best = None
    for document in documents:
        if own["group"] is None or document["group"] != own["group"]:
            continue
        if None in (own["label"], document["label"]) or document["label"] == own["label"]:
            continue
        theirs = {row["word"] for row in document["tokens"] if row["word"] is not None}
        overlap = len(mine & theirs) / len(mine | theirs) if mine and theirs else 0
        if overlap >= common and mine & theirs and (best is None or overlap > best[0]):
            best = overlap, theirs
    return None if best is None else best[1]


def estimate(values, owners):
    mean = sum(values) / len(values)
    residual, size = defaultdict(float), defaultdict(int)
    for value, owner in zip(values, owners, strict=True):
        residual[owner] += value - mean
        size[owner] += 1
    effective = 1 / sum((n / len(values)) ** 2 for n in size.values())
    if effective < 2 - 1e-9:
        return mean, None, None, len(size)
    error = math.sqrt(effective / (effective - 1) * sum(r * r for r in residual.values())) / len(values)
    half = scipy.stats.t.ppf(0.975, effective - 1) * error
    return mean, max(0, mean - half), min(1, mean + half), len(size)


def edits(documents, *, columns=COLUMNS, rows="all", by="prediction", right=True, common=0.5, punctuation="out",
          cluster="group"):  # fmt: skip
    found = defaultdict(list)
    for number, document in enumerate(documents):
        theirs = partner(documents, number, common)
        part = "all" if rows == "all" else document[by]
        if theirs is None or part is None or (right and document["prediction"] != document["label"]):
            continue
        for column in columns:
            ranked = []
            for word, special, places in occurrences(document, "word"):
                values = [document["tokens"][place][column] for place in places]
                if special or not (punctuation == "in" or has_letter_or_digit(word)) or None in values:
                    continue
                ranked.append((np.float32(math.fsum(values)), word not in theirs))
            edited = [value for value, was in ranked if was]
            others = [value for value, was in ranked if not was]
            if not edited or not others:
                continue
            wins = [(e > o) + (e == o) / 2 for e in edited for o in others]
            order = sorted(range(len(ranked)), key=lambda n, ranked=ranked: (-ranked[n][0], n))
            top = [ranked[n][1] for n in order[: len(edited)]]
            figures = (sum(wins) / len(wins), sum(top) / len(top), len(edited) / len(ranked), float(top[0]))
            found[part, column].append((cluster_of(documents, number, cluster), figures))
    answer = []
    for (part, column), those in found.items():
        owners = [owner for owner, _ in those]
        row = {"part": part, "score": column, "documents": len(those), "clusters": len(set(owners))}
        for place, name in enumerate(("auroc", "precision", "edited", "first")):
            row[name], low, high, _ = estimate([figures[place] for _, figures in those], owners)
            if name != "edited":
                row |= {f"{name}_low": low, f"{name}_high": high}
        answer.append(row)
    return sorted(answer, key=lambda row: (row["part"], -np.float32(row["precision"]), row["score"]))


@pytest.mark.sampled(at=(0, 2, 3))
@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"right": False, "rows": "class"},
        {"right": False, "rows": "class", "by": "label", "common": 0.8, "punctuation": "in"},
        {"right": False, "common": 0.2, "cluster": "document", "reductions": ["odd", "rollout"]},
        {"common": 1},
    ],
)
def test_the_answer_is_the_one_by_brute_force(store, documents, given):
    """Pairs, edited words, their ranks among all words, and means over documents with intervals by film."""
    asked = dict(given)
    columns = asked.pop("reductions", COLUMNS)
    expected = edits(documents, columns=columns, **asked)
    assert bool(expected) == (given.get("common") != 1)
    one, other = (ask(store, QUESTION, given, engine) for engine in ("duckdb", "polars"))
    assert one.schema.equals(other.schema)
    for answer in (one, other):
        assert [row["score"] for row in answer.to_pylist()] == [row["score"] for row in expected]
        for row, wanted in zip(answer.to_pylist(), expected, strict=True):
            assert row == {
                name: pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
                for name, value in wanted.items()
            }


@pytest.mark.slow
def test_a_score_that_finds_the_edited_words_ranks_above_one_that_avoids_them(tmp_path, documents):
    """Planted: cls_01 is high only at edited words, cls_02 at all others."""
    planted = [dict(document, tokens=[dict(row) for row in document["tokens"]]) for document in documents]
    for number, document in enumerate(planted):
        theirs = partner(documents, number, 0.5) or set()
        for row in document["tokens"]:
            edited = row["word"] is not None and row["word"] not in theirs
            row["cls_01"], row["cls_02"] = (1.0, 0.0) if edited else (0.0, 1.0)
            if row["piece"]:
                row["cls_01"] = row["cls_02"] = 0.0
    write_store(tmp_path / "store", planted)
    rows = ask(open_store(tmp_path / "store"), QUESTION, {"right": False}).to_pylist()
    found = {row["score"]: (row["auroc"], row["precision"], row["first"]) for row in rows}
    assert found["cls_01"] == (1, 1, 1)
    assert found["cls_02"][0] == 0
    assert found["cls_02"][2] == 0
