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
    """The same texts in another order with other attention. Some are missing, and some have another text."""
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
    """The documents in both stores, in A's order, with A's values and with B's."""
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
def test_rows_are_those_of_both_answers_over_common_documents(stores, common):
    """A's rows in A's order, then B's, class by class. A value that is not in one side's list is still there."""
    rows = ask_paired(*stores, QUESTIONS["top_words_by_class"], {**BARE, "limit": 3}, groups=0).to_pylist()
    ones, others = (list(lifts(side, limit=3)) for side in common)
    expected = [key for kind in ("neg", "pos") for key in dict.fromkeys([*ones, *others]) if key[0] == kind]
    assert len(expected) > 6
    assert [(row["class"], row["word"]) for row in rows] == expected
    every_a, every_b = (lifts(side) for side in common)
    for row, key in zip(rows, expected, strict=True):
        one, other = every_a[key], every_b[key]
        assert (row["lift_a"], row["lift_b"]) == (about(one), about(other))
        # Two sums in single precision that nearly cancel have seven correct decimal places.
        assert row["lift_difference"] == about(one - other, 1e-7)
        assert (row["lift_low"], row["lift_high"]) == (None, None)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_intervals_are_those_of_a_jackknife_over_films(stores, common, a_documents, engine):
    """The delete-a-group jackknife of the difference by its definition, with Johnson and Rust's degrees of freedom."""
    groups = 4
    found = ask_paired(*stores, QUESTIONS["top_words_by_class"], BARE, engine, groups=groups).to_pylist()
    # A film has the number of its first document in A; a document without a film has its own number.
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


def test_a_key_may_have_any_name(stores):
    """One is `place`: the rows are those of both answers, in A's order, with both values."""
    question = QUESTIONS["position_profile"]
    rows = ask_paired(*stores, question, groups=0).to_pylist()
    ones, others = (
        {(row["class"], row["part"], row["place"]): row["lift"] for row in ask(store, question).to_pylist()}
        for store in stores
    )
    assert [(row["class"], row["part"], row["place"]) for row in rows] == list(ones)
    assert ones.keys() == others.keys()
    assert {row["lift_a"] is None for row in rows} == {False}


@pytest.mark.slow
def test_a_store_beside_itself_has_no_difference_and_no_interval(stores):
    """Rounding alone is not taken for an error."""
    a, _ = stores
    rows = ask_paired(a, a, QUESTIONS["top_words_by_class"], BARE, groups=3).to_pylist()
    assert max(abs(row["lift_difference"]) for row in rows) < 1e-12
    assert {(row["lift_low"], row["lift_high"]) for row in rows} == {(None, None)}


@pytest.mark.slow
def test_with_four_films_there_is_no_interval(tmp_path, a_documents):
    """Fewer than five clusters are too few, and the answer gives their number."""
    documents = [{**d, "group": f"film {n % 4}"} for n, d in enumerate(a_documents)]
    store = write_store(tmp_path / "s.attn", documents)
    answer = ask_paired(store, store, QUESTIONS["predictions"])
    assert {row["accuracy_low"] for row in answer.to_pylist()} == {None}
    assert ", no intervals: 4 clusters" in answer.schema.metadata[BASIS_KEY].decode()


@pytest.mark.slow
def test_the_answer_has_its_basis_and_the_columns_for_a_terminal(stores):
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
def test_questions_and_stores_that_can_not_be_paired_are_refused_in_one_line(stores, tmp_path, a_documents):
    """A question about single documents, other classes, other documents, and parts that a store lacks, by name."""
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
def test_the_keys_of_a_question_identify_its_rows(signed_store):
    """For every question that can be paired. The compared columns are numbers in its answer."""
    few = {
        "negation": {"min_documents": 1, "negations": "the", "distance": 5},
        "within_group": {"min_groups": 1},
        "phrases": {"min_documents": 2},
        "flips": {"max_q": 1.0},
    }
    for question in QUESTIONS.values():
        if not question.keys or question.name in ("faithfulness", "edits"):  # they need another store
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
def test_intervals_cover_the_true_difference_with_film_effects_in_both_stores(tmp_path, words, least):
    """Each word is a simulation: a film's effect in both stores, and another in B. 95 % of 400 intervals hold the
    truth.

    Common effects cancel: the interval of the difference is narrower than either store's own.
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
