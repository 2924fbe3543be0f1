"""A question over two stores: both values, their difference, and its interval by definition."""

import copy
import random

import numpy as np
import pytest
import scipy.stats
from asked_store import made_up_documents, set_values, token, top_terms, write_store

from attnstore.ask.answer import BASIS_KEY, COLUMNS_KEY, ask
from attnstore.ask.paired import ask_paired
from attnstore.ask.questions import find_questions
from attnstore.errors import UsageError
from attnstore.store.manifest import StoredReduction
from attnstore.store.store import open_store

QUESTIONS = find_questions()
BARE = {"min_documents": 1, "punctuation": "in"}


@pytest.fixture(scope="module")
def a_documents():
    return made_up_documents(60)


@pytest.fixture(scope="module")
def b_documents(a_documents):
    """The same texts in another order with another attention; some are gone, and some of another text."""
    chance = random.Random(3)
    others = copy.deepcopy(a_documents)
    for document in others:
        values = [chance.random() ** 2 for _ in document["tokens"]]
        set_values(document, "cls_03", [float(np.float32(v / sum(values))) for v in values])
    others[4]["text"] += " and more"
    others = others[3:]
    chance.shuffle(others)
    return others


@pytest.fixture(scope="module")
def stores(tmp_path_factory, a_documents, b_documents):
    folder = tmp_path_factory.mktemp("paired")
    for name, documents in (("a.attn", a_documents), ("b.attn", b_documents)):
        write_store(folder / name, documents)
    return open_store(folder / "a.attn"), open_store(folder / "b.attn")


@pytest.fixture(scope="module")
def common(a_documents, b_documents):
    """The documents that both have, in A's order: as A has them, and as B does."""
    there = {(d["id"], d["text"]): d for d in b_documents}
    both = [(d, there[d["id"], d["text"]]) for d in a_documents if (d["id"], d["text"]) in there]
    assert len(both) == 56
    return [list(side) for side in zip(*both, strict=True)]


def lifts(documents, limit=10**9):
    rows = top_terms(documents, "word", min_documents=1, punctuation="in", intervals=False, limit=limit)
    return {(row["class"], row["word"]): row["lift"] for row in rows}


def about(value, least=1e-9):
    return None if value is None else pytest.approx(value, rel=1e-6, abs=least)


@pytest.mark.slow
def test_rows_are_of_either_answer_over_the_documents_that_both_have(stores, common):
    """A's rows in A's order, then B's, class by class; a value that is not on one side's list is there in full."""
    rows = ask_paired(*stores, QUESTIONS["top_words_by_class"], {**BARE, "limit": 3}, groups=0).to_pylist()
    ones, others = (list(lifts(side, limit=3)) for side in common)
    expected = [key for kind in ("neg", "pos") for key in dict.fromkeys([*ones, *others]) if key[0] == kind]
    assert len(expected) > 6
    assert [(row["class"], row["word"]) for row in rows] == expected
    every_a, every_b = (lifts(side) for side in common)
    for row, key in zip(rows, expected, strict=True):
        one, other = every_a[key], every_b[key]
        assert (row["lift_a"], row["lift_b"]) == (about(one), about(other))
        # Of two sums in single precision that nearly cancel, seven digits behind the point are right.
        assert row["lift_difference"] == about(one - other, 1e-7)
        assert (row["lift_low"], row["lift_high"]) == (None, None)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_intervals_are_those_of_films_left_out_in_turn(stores, common, a_documents, engine):
    """The delete-a-group jackknife of the difference by its definition, with Johnson and Rust's degrees of freedom."""
    groups = 4
    found = ask_paired(*stores, QUESTIONS["top_words_by_class"], BARE, engine, groups=groups).to_pylist()
    # The number of a film is that of its first document in A; a document without one is called by its number.
    first = dict.fromkeys(d["group"] or d["id"] for d in a_documents)
    films = [d["group"] or d["id"] for d in common[0]]
    names = [name for name in first if name in films]
    dealt = np.random.default_rng(len(names)).permutation(len(names)) % groups
    without = []
    for group in range(groups):
        kept = [n for n, film in enumerate(films) if dealt[names.index(film)] != group]
        without.append([lifts([side[n] for n in kept]) for side in common])
    checked = 0
    for row in found:
        key = row["class"], row["word"]
        differences = np.array([one.get(key, np.nan) - other.get(key, np.nan) for one, other in without])
        off = differences - differences.mean()
        weight = (off**2).sum() ** 2 / (off**4).sum()
        if np.isnan(weight) or weight < 2 - 1e-6:
            assert (row["lift_low"], row["lift_high"]) == (None, None)
            continue
        error = np.sqrt((groups - 1) / groups * (off**2).sum())
        freedom = min(groups - 1, (3.16 - 2.77 / np.sqrt(groups)) * weight)
        half = scipy.stats.t.ppf(0.975, freedom) * error
        assert row["lift_low"] == about(row["lift_difference"] - half)
        assert row["lift_high"] == about(row["lift_difference"] + half)
        checked += 1
    assert checked > 10


@pytest.mark.slow
def test_a_store_beside_itself_differs_in_nothing_and_has_no_interval(stores):
    """What rounding alone leaves is no error."""
    a, _ = stores
    rows = ask_paired(a, a, QUESTIONS["top_words_by_class"], BARE, groups=3).to_pylist()
    assert max(abs(row["lift_difference"]) for row in rows) < 1e-12
    assert {(row["lift_low"], row["lift_high"]) for row in rows} == {(None, None)}


@pytest.mark.slow
def test_with_four_films_there_is_no_interval(tmp_path, a_documents):
    """Fewer than five clusters tell nothing, and the answer says how many there are."""
    documents = [{**d, "group": f"film {n % 4}"} for n, d in enumerate(a_documents)]
    store = write_store(tmp_path / "s.attn", documents)
    answer = ask_paired(store, store, QUESTIONS["predictions"])
    assert {row["accuracy_low"] for row in answer.to_pylist()} == {None}
    assert ", no intervals: 4 clusters" in answer.schema.metadata[BASIS_KEY].decode()


@pytest.mark.slow
def test_the_answer_says_what_it_rests_on_and_what_a_terminal_shows(stores):
    """The documents, the stores, the direction, the unit, and the parameters."""
    a, b = stores
    where = {"where": "length > 10"}
    answer = ask_paired(a, b, QUESTIONS["confusion"], where, groups=0)
    shared = ask_paired(a, b, QUESTIONS["confusion"], groups=0)
    told = answer.schema.metadata[BASIS_KEY].decode()
    assert f" documents in both A = {a.path} and B = {b.path}, differences are A less B, " in told
    assert told.endswith("where=length > 10")
    assert (
        int(told.partition(" ")[0]) < int(shared.schema.metadata[BASIS_KEY].decode().partition(" ")[0]) == 56
    )
    shown = '["split", "label", "prediction", "share_a", "share_b", "share_difference", "share_low", "share_high"]'
    assert answer.schema.metadata[COLUMNS_KEY].decode() == shown


@pytest.mark.slow
def test_what_can_not_be_paired_is_refused_in_one_line(stores, tmp_path, a_documents):
    """A question of single documents, other classes, other documents, and what a store lacks, by its name."""
    a, b = stores
    classes = write_store(tmp_path / "classes", a_documents, labels=("neg", "pos", "neutral"))
    others = write_store(tmp_path / "others", [{**d, "id": f"other {n}"} for n, d in enumerate(a_documents)])
    for other, question, given, message in (
        (b, "find_documents", {}, "the answers to find_documents can't be paired, as no row of one belongs to a row of "
         f"the other: ask each store, or `attnstore compare {a.path} {b.path}`"),
        (classes, "predictions", {}, f"the classes differ: neg, pos in {a.path}, neg, pos, neutral in {classes.path}"),
        (others, "predictions", {}, f"{a.path} and {others.path} have no document in common, by id and text"),
        (b, "top_words_by_class", {"where": "length > 999"},
         f"{a.path} and {b.path} have no document in common that is asked about"),
        (b, "top_words_by_class", {"layer": "9"},
         f"{a.path}: the store has no layer 9: layer is 1 to 3, first, last or mean, or best"),
    ):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            ask_paired(a, other, QUESTIONS[question], given)
        assert str(caught.value) == message


@pytest.mark.slow
def test_the_keys_of_a_question_name_each_of_its_rows_once(signed_store):
    """Of every question that can be paired; what it compares are numbers of its answer."""
    few = {
        "negation": {"min_documents": 1, "negations": "the", "distance": 5},
        "within_group": {"min_groups": 1},
        "phrases": {"min_documents": 2},
        "flips": {"max_q": 1.0},
    }
    for question in QUESTIONS.values():
        if not question.keys or question.name in ("faithfulness", "edits"):  # they need a store of their own
            continue
        answer = ask(signed_store, question, few.get(question.name, {}), "polars")
        kinds = [str(answer.schema.field(name).type) for name in question.compared]
        assert set(kinds) <= {"double", "float"}, question.name
        keys = [
            tuple(row[name] for name in question.keys) for row in answer.select(question.keys).to_pylist()
        ]
        assert len(set(keys)) == len(keys) > 0, question.name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "least"), [(80, 0.88), pytest.param(400, 0.92, marks=pytest.mark.exhaustive)]
)
def test_intervals_cover_the_true_difference_where_films_move_both_stores(tmp_path, words, least):
    """Each word is a simulation: a film's mood in both, another reading of it in B. 95 % of 400 hold the truth.

    What both stores share drops out: the interval of the difference is narrower than either store's own.
    """
    chance = np.random.default_rng(4)
    films = 60
    value = (StoredReduction("value", per_layer=False, per_head=False, meaning="made up", total=None),)
    moods = chance.gamma(4, 0.25, (words, films))  # mean 1
    readings = chance.normal(0.3, 0.15, (words, films))  # B is 0.3 lower on average
    sides = {"a": [], "b": []}
    for number in range(films * 3):
        film = number % films
        times = chance.integers(1, 3, words)
        base = [moods[w, film] * chance.gamma(4, 0.25, times[w]) for w in range(words)]
        size = int(times.sum())
        for name, made in sides.items():
            tokens = [
                {
                    **token(f"w{w}", f"w{w}", 0, 1),
                    "value": (float(v) - (name == "b") * readings[w, film]) / size,
                }
                for w in range(words)
                for v in base[w]
            ]
            made.append(
                {"id": str(number), "group": f"film {film}", "label": "pos", "prediction": "pos", "split": "test",
                 "probability": 0.75, "truncated": False, "text": str(number), "tokens": tokens}
            )  # fmt: skip
    a, b = (write_store(tmp_path / name, d, reductions=value, part_size=100) for name, d in sides.items())
    given = {"reduction": "value", "limit": words}
    rows = ask_paired(a, b, QUESTIONS["top_words_by_class"], given).to_pylist()
    assert len(rows) == words
    assert least <= np.mean([row["lift_low"] <= 0.3 <= row["lift_high"] for row in rows]) < 1
    own = ask(a, QUESTIONS["top_words_by_class"], given).to_pylist()
    paired = np.median([row["lift_high"] - row["lift_low"] for row in rows])
    assert paired < 0.5 * np.median([row["high"] - row["low"] for row in own])
