"""Words attended more here than there: DuckDB, Polars and brute force give the same whole tables."""

import math
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
from asked_store import (
    REDUCTIONS,
    cluster_of,
    has_letter_or_digit,
    made_up_documents,
    occurrences,
    set_values,
    value_of,
    words,
    write_store,
)

from attnstore.errors import UsageError
from attnstore.questions import ask, find_questions

QUESTIONS = find_questions()
ENGINES = ("duckdb", "polars")
COUNTS = ("documents", "occurrences")
TEXTS = ("class", "word", "label", "above", "below")


def rows_of(store, name, engine, parameters):
    """The answer as rows, once its columns have been held to their types."""
    table = ask(store, QUESTIONS[name], parameters, engine)
    for field in table.schema:
        text, count = field.name in TEXTS, field.name.endswith(COUNTS)
        assert field.type == (pa.string() if text else pa.int64() if count else pa.float64()), field
    return table.to_pylist()


def about(value):
    return pytest.approx(value, rel=1e-7, abs=1e-11) if isinstance(value, float) else value


def assert_answer(store, name, parameters, expected):
    """Both engines give these rows."""
    for engine in ENGINES:
        rows = rows_of(store, name, engine, parameters)
        assert [row["word"] for row in rows] == [row["word"] for row in expected], engine
        for row, wanted in zip(rows, expected, strict=True):
            assert row == {name: about(value) for name, value in wanted.items()}, engine


# -- by brute force: every occurrence by itself -----------------------------------------------------------


def is_listed(word, special, specials, punctuation, ignore):
    return (
        (specials == "in" or not special)
        and (punctuation == "in" or has_letter_or_digit(word))
        and word not in ignore
    )


def lifts(documents, side_of, reduction, layer, specials, punctuation, ignore, renormalise):
    """(side, word, number of the document, lift) of every occurrence that counts."""
    found = []
    for number, document in enumerate(documents):
        side = side_of(document)
        values = [value_of(row, reduction, layer) for row in document["tokens"]]
        if side is None or None in values:
            continue
        units = [u for u in occurrences(document, "word") if specials == "in" or not u[1]]
        size = len(values)
        if renormalise:
            units = [u for u in units if is_listed(u[0], u[1], specials, punctuation, ignore)]
            places = [place for *_, some in units for place in some]
            mass, size = sum(values[place] for place in places), len(places)
            if not mass:
                continue
            values = [value / mass for value in values]
        for word, _, places in units:
            found.append((side, word, number, sum(values[p] for p in places) * size / len(places)))
    return found


def ratio(pairs):
    """Mean lift, residual of each cluster over the occurrences, effective clusters of [(cluster, lift)]."""
    mean = sum(lift for _, lift in pairs) / len(pairs)
    residual, size = defaultdict(float), defaultdict(int)
    for cluster, lift in pairs:
        residual[cluster] += (lift - mean) / len(pairs)
        size[cluster] += 1
    effective = 1 / sum((n / len(pairs)) ** 2 for n in size.values()) if len(size) > 1 else None
    return mean, residual, effective


def difference_of(one, other):
    """(lift, other lift, error, p) of two lists of (cluster, lift)."""
    (mean, residual, g), (o_mean, o_residual, o_g) = ratio(one), ratio(other)
    if g is None or o_g is None:
        return mean, o_mean, None, None
    own = {c: math.sqrt(g / (g - 1)) * r for c, r in residual.items()}
    others = {c: math.sqrt(o_g / (o_g - 1)) * r for c, r in o_residual.items()}
    error = math.sqrt(sum((own.get(c, 0) - others.get(c, 0)) ** 2 for c in own | others))
    v, o_v = (sum(r * r for r in side.values()) for side in (own, others))
    if error < 1e-7 * math.hypot(mean, o_mean):
        return mean, o_mean, None, None
    df = (v + o_v) ** 2 / (v**2 / (g - 1) + o_v**2 / (o_g - 1))
    p = 2 * float(scipy.stats.t.sf(abs(mean - o_mean) / error, df))
    return mean, o_mean, error, p


def log_odds_of(count, size, o_count, o_size, prior):
    """Monroe, Colaresi and Quinn's equations 16 to 22: the log-odds ratio and its z."""
    alpha = prior * (count + o_count) / (size + o_size)
    if count == size or o_count == o_size:
        return None, None

    def log_odds(y, n):
        return math.log((y + alpha) / (n + prior - y - alpha))

    delta = log_odds(count, size) - log_odds(o_count, o_size)
    return delta, delta / math.sqrt(1 / (count + alpha) + 1 / (o_count + alpha))


def compared(found, sizes, documents, names, *, cluster, least, keep, prior):
    """The rows of one class: `found` and `sizes` by side, True for the class's own; `names` of the columns."""
    rows = []
    for word in sorted({word for _, word, *_ in found}):
        pairs, numbers = {True: [], False: []}, {True: set(), False: set()}
        for side, of_word, number, lift in found:
            if of_word == word:
                pairs[side].append((cluster_of(documents, number, cluster), lift))
                numbers[side].add(number)
        if not keep(word) or not all(pairs.values()):
            continue
        if any(len(numbers[s]) < (max(5, -(-sizes[s] // 200)) if least is None else least) for s in numbers):
            continue
        lift, other, error, p = difference_of(pairs[True], pairs[False])
        totals = {side: sum(1 for s, *_ in found if s is side) for side in (True, False)}
        log_odds, z = log_odds_of(len(pairs[True]), totals[True], len(pairs[False]), totals[False], prior)
        values = (
            word, len(numbers[True]), len(numbers[False]), len(pairs[True]), len(pairs[False]), lift, other,
            lift - other, error, None if error is None else (lift - other) / error, p, None, log_odds, z,
        )  # fmt: skip
        rows.append(dict(zip(names, values, strict=True)))
    tested = [row for row in rows if row["p"] is not None]
    if tested:
        family = scipy.stats.false_discovery_control([row["p"] for row in tested])
        for row, q in zip(tested, family, strict=True):
            row["q"] = float(q)
    return rows


def ordered(rows, rank_by, limit, count="documents"):
    def place(row):
        value = row[rank_by]
        return value is None, -np.float32(value or 0), -row[count], row["word"]

    return sorted(rows, key=place)[:limit]


def columns(own, other):
    return (
        "word", f"{own}documents", f"{other}documents", f"{own}occurrences", f"{other}occurrences",
        f"{own}lift", f"{other}lift", "difference", "error", "t", "p", "q", "log_odds", "z",
    )  # fmt: skip


def distinctive_words(
    documents, *, reduction="cls", layer="last", by="prediction", min_documents=None, specials="out",
    punctuation="out", ignore=(), renormalise=False, cluster="group", prior=500, rank_by="difference",
    limit=20,
):  # fmt: skip
    answer = []
    for kind in sorted({d[by] for d in documents} - {None}):

        def side_of(document, kind=kind):
            return None if document[by] is None else document[by] == kind

        found = lifts(documents, side_of, reduction, layer, specials, punctuation, ignore, renormalise)
        sizes = {side: sum(side_of(d) is side for d in documents) for side in (True, False)}

        def keep(word):
            return is_listed(word, False, specials, punctuation, ignore)

        rows = compared(
            found, sizes, documents, columns("", "other_"), cluster=cluster, least=min_documents,
            keep=keep, prior=prior,
        )  # fmt: skip
        both = [row for row in rows if row["t"] is not None and row["z"] is not None]
        z, t = (np.array([row[name] for row in both]) for name in ("z", "t"))
        line = (0, 0)
        if both:
            varied = np.ptp(z) > 1e-6
            line = np.polyfit(z, t, 1) if varied else (0, t.mean())
        for row in rows:
            known = row["t"] is not None and row["z"] is not None
            row["residual"] = float(row["t"] - np.polyval(line, row["z"])) if known else None
        answer += [{"class": kind, **row} for row in ordered(rows, rank_by, limit)]
    return answer


# -- distinctive_words ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def documents():
    return made_up_documents(60)


@pytest.fixture(scope="module")
def store(tmp_path_factory, documents):
    return write_store(tmp_path_factory.mktemp("distinctive") / "store", documents)


SETTINGS = [
    {},
    {"min_documents": 1, "limit": 1000},
    {"min_documents": 0, "specials": "in", "punctuation": "in", "limit": 1000, "prior": 0},
    {"min_documents": 1, "by": "label", "layer": "mean", "rank_by": "t"},
    {"min_documents": 1, "reduction": "odd", "rank_by": "residual", "cluster": "document"},
    {"min_documents": 1, "reduction": "cls_heads", "layer": 1, "rank_by": "z", "prior": 20},
    {"min_documents": 1, "renormalise": True, "rank_by": "log_odds", "ignore": ["film", "the"]},
    {"min_documents": 8, "reduction": "rollout", "renormalise": True, "specials": "in", "punctuation": "in"},
    {"limit": 0},
]  # fmt: skip


@pytest.mark.parametrize("parameters", SETTINGS, ids=str)
def test_distinctive_words_are_those_of_brute_force(store, documents, parameters):
    """Every parameter, in both engines: whole tables, in order."""
    expected = distinctive_words(documents, **parameters)
    assert bool(expected) == (parameters.get("limit") != 0)
    assert_answer(store, "distinctive_words", parameters, expected)


def test_three_classes_are_each_held_against_the_other_two(tmp_path):
    """Pooled: the counts of the others are those of both together."""
    kinds = ("bad", "good", "mixed")
    documents = made_up_documents(60, labels=kinds, predictions=kinds, seed=3)
    store = write_store(tmp_path / "s", documents, labels=kinds)
    for parameters in ({"min_documents": 1}, {"min_documents": 2, "by": "label", "cluster": "document"}):
        expected = distinctive_words(documents, **parameters)
        assert {row["class"] for row in expected} == set(kinds)
        assert_answer(store, "distinctive_words", parameters, expected)


def test_two_classes_mirror_each_other(store):
    """What is said of the one is said of the other with the sign turned."""
    rows = rows_of(store, "distinctive_words", "duckdb", {"min_documents": 1, "limit": 1000})
    neg, pos = ({r["word"]: r for r in rows if r["class"] == kind} for kind in ("neg", "pos"))
    assert neg.keys() == pos.keys() and len(neg) > 5
    for word, row in neg.items():
        for name in ("difference", "t", "log_odds", "z", "residual"):
            assert row[name] == pytest.approx(-pos[word][name], rel=1e-9), (word, name)
        for name in ("error", "p", "q"):
            assert row[name] == pytest.approx(pos[word][name], rel=1e-9), (word, name)


def four_reviews():
    """`film` has lift 1 and 3 in pos, 1 and 2 in neg, four tokens each; `bear` the rest, `the` in pos alone.

    The first of each class is of one film, the second of another.
    """
    rows = []
    for kind, film, names, values in (
        ("pos", "a", ("film", "bear"), [0.25, 0.25, 0.25, 0.25]),
        ("pos", "b", ("film", "bear"), [0.125, 0.75, 0.0625, 0.0625]),
        ("neg", "a", ("film", "bear"), [0.25, 0.25, 0.25, 0.25]),
        ("neg", "b", ("film", "bear"), [0.25, 0.5, 0.25, 0.0]),
    ):
        document = {
            "id": f"{kind} {film}", "label": kind, "prediction": kind, "split": "test", "probability": 0.75,
            "truncated": False, "text": "", "group": film, "tokens": words(*names),
        }  # fmt: skip
        set_values(document, "cls_01", values)
        rows.append(document)
    return rows


@pytest.mark.parametrize("engine", ENGINES)
def test_a_difference_worked_out_by_hand(tmp_path, engine):
    """Lift (1 + 3) / 2 less (1 + 2) / 2 is 0.5. The residuals over n are ∓0.5 and ∓0.25; G / (G - 1) is 2. By
    review, error² is 2 · 2 · (0.5² + 0.25²) = 1.25; a film is on both sides, where they partly cancel: by film
    it is 2 · 2 · (0.5 - 0.25)² = 0.25. The word is as frequent here as there: log-odds 0.
    """
    store = write_store(tmp_path / "s", four_reviews(), reductions=REDUCTIONS[:1], layers=1)
    of_class = {}
    for cluster, error in (("group", 0.5), ("document", math.sqrt(1.25))):
        rows = rows_of(store, "distinctive_words", engine, {"min_documents": 1, "cluster": cluster})
        of_class[cluster] = next(r for r in rows if (r["class"], r["word"]) == ("pos", "film"))
        found = of_class[cluster]
        assert (found["lift"], found["other_lift"], found["difference"]) == (2.0, 1.5, 0.5)
        assert found["error"] == pytest.approx(error, rel=1e-12)
        assert found["t"] == pytest.approx(0.5 / error, rel=1e-12)
        assert (found["log_odds"], found["z"]) == (0.0, 0.0)
        assert [found[n] for n in ("documents", "other_documents", "occurrences", "other_occurrences")] == [
            2
        ] * 4


@pytest.mark.parametrize("engine", ENGINES)
def test_what_can_not_be_compared_is_not_listed_or_null(tmp_path, engine):
    """A word of one class only; one class only; a word in one cluster; no part at all; only special tokens."""
    documents = made_up_documents(12, labels=("pos",), predictions=("pos",))
    store = write_store(tmp_path / "one class", documents)
    assert rows_of(store, "distinctive_words", engine, {"min_documents": 0}) == []
    store = write_store(tmp_path / "empty", documents, parts=[])
    assert rows_of(store, "distinctive_words", engine, {}) == []
    reviews = four_reviews()
    for review in reviews:
        review["tokens"] = words()
        set_values(review, "cls_01", [0.5, 0.5])
    store = write_store(tmp_path / "special", reviews, reductions=REDUCTIONS[:1], layers=1)
    assert rows_of(store, "distinctive_words", engine, {"min_documents": 0}) == []
    rows = rows_of(
        store, "distinctive_words", engine, {"min_documents": 0, "specials": "in", "punctuation": "in"}
    )
    assert [(r["word"], r["difference"], r["error"], r["t"], r["p"], r["q"]) for r in rows] == [
        (word, 0.0, None, None, None, None) for _ in range(2) for word in ("[CLS]", "[SEP]")
    ]
    store = write_store(tmp_path / "by hand", four_reviews()[1:], reductions=REDUCTIONS[:1], layers=1)
    rows = rows_of(store, "distinctive_words", engine, {"min_documents": 1})
    assert {(r["error"], r["t"], r["p"], r["q"], r["residual"]) for r in rows} == {(None,) * 5}
    unlabelled = made_up_documents(9, labels=(None,))
    store = write_store(tmp_path / "no label", unlabelled, label_in_path=False)
    with pytest.raises(UsageError, match="ask with by=prediction"):
        ask(store, QUESTIONS["distinctive_words"], {"by": "label"}, engine)
