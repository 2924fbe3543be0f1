"""Phrases by attention and by evidence: SQL, its Polars twin and a loop over words give the same table."""

from collections import Counter, defaultdict

import asked_store
import numpy as np
import pytest
import scipy.stats
from asked_store import set_values, token, write_store
from by_brute_force import Ratio, assert_rows, bounds

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions
from attnstore.store.manifest import StoredReduction
from attnstore.store.store import open_store

QUESTION = find_questions()["phrases"]
ENGINES = ["duckdb", "polars"]


def runs(document, column, marks, ignore):
    """The words of a document, as (word, value, tokens), in runs without marks, special tokens or ignored words."""
    run, found = [], []
    for at, t in enumerate(document["tokens"]):
        plain = t["word"] is not None and (marks or any(c.isalnum() for c in t["word"]))
        if not plain or t["word"] in ignore:
            found.append(run)
            run = []
        elif t["piece"] == 0:
            values = [piece[column] for piece in document["tokens"][at : at + t["pieces"]]]
            run.append((t["word"], sum(values), t["pieces"]))
    return [*found, run]


def interval(score, error, clusters, signed, sums):
    """Of the value for a signed score, of its logarithm for attention, unless an owner's `sums` are below 0."""
    low, high, sure = bounds(score, error, clusters)
    if low is None or signed or score <= 0 or min(sums) < 0:
        return low, high, None if low is None else sure if signed else low
    half = scipy.stats.t.ppf(0.975, clusters - 1) * error
    low, high = score / np.exp(half / score), score * np.exp(half / score)
    return float(low), float(high), float(low)


def brute_force(
    documents, column="cls_03", by="prediction", words="all", min_documents=5, apart=0.1, punctuation="out",
    ignore=(), cluster="group", rank_by="sure", limit=20,
):  # fmt: skip
    """The question's definition: every stretch of words of every document, counted."""
    signed = column == "evidence"
    found, holders = defaultdict(list), defaultdict(set)
    alone, total = defaultdict(list), Counter()
    for number, document in enumerate(documents):
        class_, size = document[by], len(document["tokens"])
        if class_ is None or document["tokens"][0][column] is None:
            continue
        total[class_] += sum(t[column] for t in document["tokens"])
        owner = asked_store.cluster_of(documents, number, cluster)
        for run in runs(document, column, punctuation == "in", ignore):
            for word, value, pieces in run:
                alone[class_, word].append((value * (1 if signed else size), pieces))
            for n in range(2, 6) if words == "all" else [int(words)]:
                for at in range(len(run) - n + 1):
                    names, values, pieces = zip(*run[at : at + n], strict=True)
                    score = sum(values) * (1 if signed else size / sum(pieces))
                    found[class_, names].append((score, owner, sum(values)))
                    holders[class_, names].add(number)
    found = {key: values for key, values in found.items() if len(holders[key]) >= min_documents}
    longer = (
        Counter()
    )  # by phrase: occurrences of the most frequent phrase with one more word, on either side
    for (class_, names), occurrences in found.items():
        for part in (names[1:], names[:-1]):
            longer[class_, part] = max(longer[class_, part], len(occurrences))
    rows = []
    for (class_, names), occurrences in found.items():
        if longer[class_, names] >= (1 - apart) * len(occurrences):
            continue
        scores, owners, sums = zip(*occurrences, strict=True)
        mean = Ratio(scores, owners)
        whole = Counter()
        for score, owner in zip(scores, owners, strict=True):
            whole[owner] += score
        error = mean.error() if mean.clusters else None
        low, high, sure = interval(mean.mean, error, mean.clusters, signed, whole.values())
        expected = [np.mean(alone[class_, word], axis=0) for word in names]
        scale = 1 if signed else sum(pieces for _, pieces in expected)
        rows.append(
            {"class": class_, "phrase": " ".join(names), "words": len(names),
             "documents": len(holders[class_, names]), "clusters": mean.owners, "occurrences": len(occurrences),
             "score": mean.mean, "low": low, "high": high, "sure": sure,
             "expected": float(sum(value for value, _ in expected) / scale),
             "total": sum(sums), "share": None if signed else sum(sums) / total[class_]}
        )  # fmt: skip

    def place(row):
        value = row[rank_by]
        if value is not None:
            value = np.float32(-value if signed and row["score"] < 0 else value)
        return row["class"], value is None, -(value or 0), -row["documents"], row["phrase"]

    rows.sort(key=place)
    return [row for at, row in enumerate(rows) if sum(r["class"] == row["class"] for r in rows[:at]) < limit]


@pytest.mark.sampled(3)
@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"min_documents": 2, "reduction": "odd"}, {"column": "odd"}),
        ({"min_documents": 2}, {}),
        ({"min_documents": 1, "words": "3", "by": "label", "rank_by": "total", "limit": 40}, {}),
        ({"min_documents": 3, "words": "2", "cluster": "document", "layer": "1"}, {"column": "cls_01"}),
        (
            {
                "min_documents": 1,
                "reduction": "evidence",
                "punctuation": "in",
                "ignore": ["film"],
                "apart": 0,
            },
            {"column": "evidence"},
        ),
        (
            {"min_documents": 2, "reduction": "evidence", "rank_by": "score", "apart": 0.6, "limit": 9},
            {"column": "evidence"},
        ),
    ],
)
def test_phrases_are_those_of_brute_force(signed_store, signed_documents, given, meant, engine):
    """Of any length, by label and by prediction, for attention and for a signed score."""
    of_loop = {name: value for name, value in given.items() if name not in ("reduction", "layer")}
    expected = brute_force(signed_documents, **of_loop, **meant)
    assert len(expected) > 20 and any(row["low"] is not None for row in expected)
    assert_rows(ask(signed_store, QUESTION, given, engine).to_pylist(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["cls", "evidence"])
@pytest.mark.parametrize("rank_by", ["sure", "score", "total"])
def test_a_short_list_is_the_beginning_of_the_complete_one(signed_store, reduction, rank_by):
    """For a short list, few phrases are summed over their clusters; beyond a limit of 1,000, all are."""
    asked = {"min_documents": 2, "reduction": reduction, "rank_by": rank_by}
    whole = ask(signed_store, QUESTION, asked | {"limit": 5000}).to_pylist()
    assert len(whole) > 50
    for limit in (1, 3):
        head = [
            row
            for at, row in enumerate(whole)
            if [r["class"] for r in whole[:at]].count(row["class"]) < limit
        ]
        assert_rows(ask(signed_store, QUESTION, asked | {"limit": limit}).to_pylist(), head)


# -- where a phrase ends, and which of two phrases is shown -------------------------------------------------

VALUE = (StoredReduction("value", per_layer=False, per_head=False, meaning="made up"),)


def store_of(path, texts, long="cut", truncated=(), weights=None):
    """A store of documents with these tokens: a name is a word, `[…]` is special, `_` is a single white-space
    character.

    Each token has an even share of attention, or one by the weights of names.
    """
    documents = []
    for number, text in enumerate(texts):
        tokens, at = [], 0
        for name in text.split():
            if name == ">>>":  # tokens that are not stored
                at += 100
                continue
            special, blank = name.startswith("["), name == "_"
            row = token(name, special=special) if special or blank else token(name, name, 0, 1)
            tokens.append({**row, "start": at, "end": at + len(name)})
            at += len(name) + 1
        document = {
            "id": str(number), "label": "neg", "prediction": "neg", "split": "test", "probability": 0.75,
            "truncated": number in truncated, "text": text, "tokens": tokens,
        }  # fmt: skip
        each = [(weights or {}).get(t["token"], 1) for t in tokens]
        set_values(document, "value", [weight / sum(each) for weight in each])
        documents.append(document)
    write_store(path, documents, reductions=VALUE, long=long)
    return open_store(path)


def phrases_of(store, engine, **given):
    asked = {"reduction": "value", "min_documents": 1, "limit": 100, **given}
    return {row["phrase"]: row for row in ask(store, QUESTION, asked, engine).to_pylist()}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_phrase_ends_at_a_mark_but_not_at_white_space(tmp_path, engine):
    """A white-space token belongs to the word after it, as one of its tokens and with its attention."""
    text = "[CLS] a _ b ! c _ _ d [SEP] e"
    found = phrases_of(store_of(tmp_path / "s", [text, text]), engine)
    assert sorted(found) == ["a b", "c d"]
    # Even attention is even for a phrase, too: three of eleven tokens have three elevenths.
    assert [found[phrase]["score"] for phrase in found] == pytest.approx([1, 1])
    assert found["a b"]["total"] == pytest.approx(2 * 3 / 11)
    assert found["c d"]["share"] == pytest.approx(4 / 11)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_words_on_both_sides_of_a_cut_are_no_phrase(tmp_path, engine):
    """In documents of which only head and tail were read."""
    texts = ["[CLS] a b >>> c d [SEP]", "[CLS] a b c [SEP]"]
    found = phrases_of(store_of(tmp_path / "s", texts, long="head+tail", truncated=(0,)), engine, apart=1)
    assert {phrase: row["documents"] for phrase, row in found.items()} == {"a b c": 1, "c d": 1}
    every = phrases_of(open_store(tmp_path / "s"), engine, words="2")
    assert {phrase: row["documents"] for phrase, row in every.items()} == {"a b": 2, "b c": 1, "c d": 1}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_phrase_that_a_longer_one_repeats_is_left_out(tmp_path, engine):
    """If fewer than one in ten of its occurrences are outside the longer one, or fewer than the given share.

    Repeated phrases count each time.
    """
    texts = ["a b c"] * 9 + ["a b", "very very very"]
    store = store_of(tmp_path / "s", texts)
    assert sorted(phrases_of(store, engine)) == ["a b c", "very very", "very very very"]
    assert sorted(phrases_of(store, engine, apart=0)) == ["a b", "a b c", "very very", "very very very"]
    two = phrases_of(store, engine, words="2")
    assert {phrase: row["occurrences"] for phrase, row in two.items()} == {
        "a b": 10,
        "b c": 9,
        "very very": 2,
    }
    assert phrases_of(store, engine, min_documents=2).keys() == {"a b c"}


@pytest.mark.slow
@pytest.mark.parametrize("longer", ["a b c", "b c a"])
def test_a_longer_phrase_counts_even_if_it_ranks_too_low_to_be_shown(tmp_path, longer):
    """ "b c" has the most attention, but all its occurrences are in a phrase that ranks below "x y"."""
    store = store_of(tmp_path / "s", [f"{longer} ! x y"] * 6, weights={"b": 9, "c": 9, "x": 8, "y": 8})
    every = phrases_of(store, "duckdb", rank_by="score", apart=0)
    assert sorted(every, key=lambda phrase: -every[phrase]["score"])[:2] == ["x y", longer]
    assert list(phrases_of(store, "duckdb", rank_by="score", limit=1)) == ["x y"]
