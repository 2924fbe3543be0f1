"""Words attended to more in one group than in another: DuckDB, Polars and brute force give the same complete tables."""

import math
import statistics
from collections import defaultdict
from decimal import Decimal, localcontext
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
from asked import ask
from asked_store import (
    REDUCTIONS,
    cluster_of,
    has_letter_or_digit,
    made_up_documents,
    occurrences,
    set_values,
    token,
    value_of,
    words,
    write_store,
)

from attnstore.ask.questions import find_questions
from attnstore.errors import UsageError

QUESTIONS = find_questions()
ENGINES = ("duckdb", "polars")
COUNTS = ("documents", "occurrences")
TEXTS = ("class", "word", "test", "label", "above", "below")


def rows_of(store, name, engine, parameters):
    """The answer as rows, after checking the types of its columns."""
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


# -- by brute force: one occurrence at a time -------------------------------------------------------------


def is_listed(word, special, specials, punctuation, ignore):
    return (
        (specials == "in" or not special)
        and (punctuation == "in" or has_letter_or_digit(word))
        and word not in ignore
    )


def lifts(documents, side_of, reduction, layer, specials, punctuation, ignore, renormalise):
    """(side, word, number of the document, lift) of every occurrence that counts, listed or not."""
    found = []
    for number, document in enumerate(documents):
        side = side_of(document)
        values = [value_of(row, reduction, layer) for row in document["tokens"]]
        if side is None or None in values:
            continue
        units = [u for u in occurrences(document, "word") if specials == "in" or not u[1]]
        size = len(values)
        if renormalise:
            listed = [u for u in units if is_listed(u[0], u[1], specials, punctuation, ignore)]
            places = [place for *_, some in listed for place in some]
            mass, size = sum(values[place] for place in places), len(places)
            if not mass:
                continue
            values = [value / mass for value in values]
        for word, _, places in units:
            found.append((side, word, number, sum(values[p] for p in places) * size / len(places)))
    return found


def ratio(pairs):
    """Mean lift, each cluster's residual over all occurrences, and effective clusters of [(cluster, lift)]."""
    mean = sum(lift for _, lift in pairs) / len(pairs)
    residual, size = defaultdict(float), defaultdict(int)
    for cluster, lift in pairs:
        residual[cluster] += (lift - mean) / len(pairs)
        size[cluster] += 1
    enough = len(pairs) ** 2 >= 2 * sum(n * n for n in size.values())
    part = {cluster: n / len(pairs) for cluster, n in size.items()}
    return mean, residual, part, 1 / sum(n * n for n in part.values()) if enough else None


def mean_of(pairs):
    return ratio(pairs)[0]


def log_odds_of(count, size, o_count, o_size, prior):
    """Monroe, Colaresi and Quinn's log-odds ratio and its z, for counts among `size` and `o_size` words."""
    prior = (size + o_size) / 100 if prior is None else prior
    alpha = prior * (count + o_count) / (size + o_size)
    if count == size or o_count == o_size:
        return None, None

    def log_odds(y, n):
        return math.log((y + alpha) / (n + prior - y - alpha))

    delta = log_odds(count, size) - log_odds(o_count, o_size)
    return delta, delta / math.sqrt(1 / (count + alpha) + 1 / (o_count + alpha))


def ordered(rows, rank_by, limit, count="documents"):
    def place(row):
        value = row[rank_by]
        return value is None, -np.float32(value or 0), -row[count], row["word"]

    return sorted(rows, key=place)[:limit]


def line_through(points):
    """Slope and height of the line through (middle, apart, word): medians of the outer thirds, from sixty words on."""
    points = sorted(points, key=lambda point: (point[0], point[2]))
    third = len(points) // 3
    slope = 0.0
    if len(points) >= 60:
        low, high = points[:third], points[-third:]
        run = statistics.median(m for m, *_ in high) - statistics.median(m for m, *_ in low)
        rise = statistics.median(d for _, d, _ in high) - statistics.median(d for _, d, _ in low)
        slope = max(-1.0, min(1.0, rise / run)) if run >= 0.5 else 0.0
    return slope, statistics.median(d - slope * m for m, d, _ in points) if points else 0.0


def interval_of(one, other, slope):
    """Standard errors of the surplus and of the log ratio, and the degrees of freedom of the former."""
    (mean, residual, part, g), (o_mean, o_residual, o_part, o_g) = ratio(one), ratio(other)
    if g is None or o_g is None:
        return None, None, None
    own = {c: math.sqrt(g / (g - 1)) * r / mean for c, r in residual.items()}
    others = {c: math.sqrt(o_g / (o_g - 1)) * r / o_mean for c, r in o_residual.items()}

    def error(tilt, o_tilt):
        return math.sqrt(sum((tilt * own.get(c, 0) - o_tilt * others.get(c, 0)) ** 2 for c in own | others))

    tilt, o_tilt = 1 - slope / 2, 1 + slope / 2
    v, e_v = tilt**2 * sum(r * r for r in own.values()), o_tilt**2 * sum(r * r for r in others.values())
    shared = sum(part[c] * o_part[c] for c in part.keys() & o_part.keys())
    if error(tilt, o_tilt) < 1e-7:
        return None, error(1, 1), None
    df = (v + e_v) ** 2 / (v**2 / (g - 1) + e_v**2 / (o_g - 1) + 2 * v * e_v * shared)
    return error(tilt, o_tilt), error(1, 1), df


def permutation_of(here, there, clusters, slope, height, rho):
    """The p value of {document: [lifts]} of both sides, if the word is on the line; None if there is none."""
    n, y = sum(map(len, here.values())), sum(map(sum, here.values()))
    o_n, o_y = sum(map(len, there.values())), sum(map(sum, there.values()))
    tilt, o_tilt = 1 - slope / 2, 1 + slope / 2
    # The likeliest lifts on the line tilt · ln(own) = height + o_tilt · ln(other), by weighted logarithms.
    log_other = (n * (math.log(y / n) - height / tilt) + o_n * math.log(o_y / o_n)) / (
        n * o_tilt / tilt + o_n
    )
    own, other = math.exp((height + o_tilt * log_other) / tilt), math.exp(log_other)
    usual = (y / own + o_y / other) / (n + o_n)
    off = {d: sum(v) / own - usual * len(v) for d, v in here.items()}
    off |= {d: sum(v) / other - usual * len(v) for d, v in there.items()}
    size, k = len(off), len(here)
    spread = k * (size - k) / (size * (size - 1))
    lean = spread * (size - 2 * k) / (size - 2) if size > 2 else 0.0
    whole = defaultdict(float)
    for d, value in off.items():
        whole[clusters[d]] += value
    variance, third = (
        factor
        * ((1 - rho) * sum(e**power for e in off.values()) + rho * sum(e**power for e in whole.values()))
        for factor, power in ((spread, 2), (lean, 3))
    )
    if variance < 1e-13 * (y * y / own**2 + o_y * o_y / other**2) / size:
        return None
    g, o_g = (ratio([(clusters[d], 1.0) for d, v in side.items() for _ in v])[3] for side in (here, there))
    if g is None or o_g is None:
        return None
    t = (y / own - usual * n) / math.sqrt(variance)
    one_way = math.exp(math.lgamma(g + 1) + math.lgamma(o_g + 1) - math.lgamma(g + o_g + 1))
    return min(1.0, max(gamma_tails(t, third / variance**1.5), 2 * one_way))


def distinctive_words(
    documents, *, reduction="cls", layer="last", by="prediction", min_documents=None, specials="out",
    punctuation="out", ignore=(), renormalise=False, cluster="group", prior=None, rank_by="sure",
    limit=20,
):  # fmt: skip
    answer = []
    kinds = sorted({d[by] for d in documents} - {None})
    for kind in kinds if len(kinds) > 1 else []:

        def side_of(document, kind=kind):
            return None if document[by] is None else document[by] == kind

        found = lifts(documents, side_of, reduction, layer, specials, punctuation, ignore, renormalise)
        totals = {side: sum(1 for s, *_ in found if s is side) for side in (True, False)}
        judged = [n for n, d in enumerate(documents) if d[by] is not None]
        clusters = {n: cluster_of(documents, n, cluster) for n in judged}
        sides = {n: side_of(documents[n]) for n in judged}
        rho = correlation_within([*clusters.values()], [0] * len(judged), [*sides.values()])
        all_spots = {side: len({clusters[n] for n in judged if sides[n] is side}) for side in (True, False)}

        def least(side, sides=sides):
            size = sum(of is side for of in sides.values())
            return max(5, -(-size // 200)) if min_documents is None else min_documents

        rows, points, pairs_of = [], [], {}
        for word in sorted({word for _, word, *_ in found}):
            uses = {True: defaultdict(list), False: defaultdict(list)}
            for side, of_word, number, lift in found:
                if of_word == word:
                    uses[side][number].append(lift)
            here, there = uses[True], uses[False]
            if (
                not is_listed(word, False, specials, punctuation, ignore)
                or not here
                or len(here) < least(True)
            ):
                continue
            comparable = len(there) >= min(5, least(False)) and bool(there)
            pairs = {s: [(clusters[d], v) for d, some in uses[s].items() for v in some] for s in uses}
            spots = {s: len({c for c, _ in pairs[s]}) for s in pairs}
            lift, other = mean_of(pairs[True]), mean_of(pairs[False]) if there else None
            log_odds, z = log_odds_of(len(pairs[True]), totals[True], len(pairs[False]), totals[False], prior)
            row = dict.fromkeys(DISTINCTIVE_COLUMNS) | {
                "class": kind, "word": word, "test": "attention" if comparable else "counts",
                "documents": len(here), "other_documents": len(there), "occurrences": len(pairs[True]),
                "other_occurrences": len(pairs[False]), "lift": lift, "other_lift": other,
                "log_odds": log_odds, "z": z,
            }  # fmt: skip
            if comparable:
                row |= {"clusters": ratio(pairs[True])[3], "other_clusters": ratio(pairs[False])[3]}
                pairs_of[word] = pairs, here, there
            else:
                row |= {"clusters": float(spots[True]), "other_clusters": float(spots[False])}
                counts = [
                    spots[True],
                    all_spots[True] - spots[True],
                    spots[False],
                    all_spots[False] - spots[False],
                ]
                table = [counts[:2], counts[2:]]
                row["p"] = min(1.0, 2 * float(scipy.stats.fisher_exact(table, alternative="greater").pvalue))
                one, rest, two, o_rest = (count + 0.5 for count in counts)
                error = math.sqrt(1 / one + 1 / rest + 1 / two + 1 / o_rest)
                row["sure"] = math.log(one / rest) - math.log(two / o_rest) - 1.959963984540054 * error
            rows.append(row)
        lifted = [row for row in rows if row["test"] == "attention"]
        best = sorted(lifted, key=lambda row: (-min(row["documents"], row["other_documents"]), row["word"]))
        for place, row in enumerate(best):
            known = place < 30 or min(row["documents"], row["other_documents"]) >= 50
            if known and row["lift"] > 0 and row["other_lift"] > 0:
                one, two = math.log(row["lift"]), math.log(row["other_lift"])
                points.append(((one + two) / 2, one - two, row["word"]))
        slope, height = line_through(points)
        factor = math.exp(statistics.median(d for _, d, _ in points)) if points else 1.0
        log_errors = {}
        for row in rows:
            row["factor"] = factor
            if row["test"] == "counts":
                continue
            pairs, here, there = pairs_of[row["word"]]
            row["difference"] = row["lift"] - factor * row["other_lift"]
            if row["lift"] <= 0 or row["other_lift"] <= 0:
                continue
            one, two = math.log(row["lift"]), math.log(row["other_lift"])
            row["log_ratio"] = one - two - math.log(factor)
            row["surplus"] = one - two - height - slope * (one + two) / 2
            row["error"], log_errors[row["word"]], df = interval_of(pairs[True], pairs[False], slope)
            if row["error"] is not None:
                half = float(scipy.stats.t.ppf(0.975, df)) * row["error"]
                row |= {
                    "low": row["surplus"] - half,
                    "high": row["surplus"] + half,
                    "sure": row["surplus"] - half,
                }
            row["p"] = permutation_of(here, there, clusters, slope, height, rho)
        for test in ("attention", "counts"):
            tested = [row for row in rows if row["test"] == test and row["p"] is not None]
            if tested:
                family = scipy.stats.false_discovery_control([row["p"] for row in tested])
                for row, q in zip(tested, family, strict=True):
                    row["q"] = float(q)
        drawn = [row for row in rows if row["log_ratio"] is not None and row["log_odds"] is not None]
        on_line = [row for row in drawn if row["error"] is not None and log_errors[row["word"]] > 1e-7]
        if len(on_line) >= 3:
            x, y = (np.array([row[name] for row in on_line]) for name in ("log_odds", "log_ratio"))
            se = np.array([log_errors[row["word"]] for row in on_line])
            varied = np.ptp(x) > 1e-5
            line = np.polyfit(x, y, 1, w=1 / se) if varied else (0, np.average(y, weights=1 / se**2))
            for row in drawn:
                row["residual"] = float(row["log_ratio"] - np.polyval(line, row["log_odds"]))
        answer += ordered(rows, rank_by, limit)
    return answer


DISTINCTIVE_COLUMNS = (
    "class", "word", "test", "documents", "other_documents", "occurrences", "other_occurrences", "clusters",
    "other_clusters", "lift", "other_lift", "sure", "surplus", "error", "low", "high", "p", "q", "factor",
    "difference", "log_ratio", "log_odds", "z", "residual",
)  # fmt: skip


# -- distinctive_words ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def documents():
    return made_up_documents(60)


@pytest.fixture(scope="module")
def store(tmp_path_factory, documents):
    return write_store(tmp_path_factory.mktemp("distinctive") / "store", documents, label_in_path=False)


SETTINGS = [
    {},
    {"min_documents": 1, "limit": 1000},
    {"min_documents": 0, "specials": "in", "punctuation": "in", "limit": 1000, "prior": 0},
    {"min_documents": 1, "by": "label", "layer": "mean", "rank_by": "surplus"},
    {"min_documents": 1, "reduction": "odd", "rank_by": "residual", "cluster": "document"},
    {"min_documents": 1, "reduction": "rollout", "rank_by": "residual", "prior": 2.5},
    {"min_documents": 1, "rank_by": "log_ratio", "punctuation": "in", "cluster": "document", "prior": 500},
    {"min_documents": 1, "reduction": "cls_heads", "layer": 1, "rank_by": "z", "prior": 20},
    {"min_documents": 1, "renormalise": True, "rank_by": "log_odds", "ignore": ["film", "the"]},
    {"min_documents": 8, "reduction": "rollout", "renormalise": True, "specials": "in", "punctuation": "in"},
    {"limit": 0},
]  # fmt: skip


@pytest.mark.sampled(at=(2, 3, 4, 7, 8))
@pytest.mark.slow
@pytest.mark.parametrize("parameters", SETTINGS, ids=str)
def test_distinctive_words_are_those_of_brute_force(store, documents, parameters):
    """Every parameter, in both engines: complete tables, in order."""
    expected = distinctive_words(documents, **parameters)
    assert bool(expected) == (parameters.get("limit") != 0)
    assert_answer(store, "distinctive_words", parameters, expected)


@pytest.mark.sampled(at=(1,))
@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [{"min_documents": 1}, {"min_documents": 2, "by": "label", "cluster": "document"}],
    ids=str,
)
def test_each_of_three_classes_is_compared_with_the_other_two(tmp_path, parameters):
    """Pooled: the counts of the others are those of both together."""
    kinds = ("bad", "good", "mixed")
    documents = made_up_documents(60, labels=kinds, predictions=kinds, seed=3)
    store = write_store(tmp_path / "s", documents, labels=kinds)
    expected = distinctive_words(documents, **parameters)
    assert {row["class"] for row in expected} == set(kinds)
    assert_answer(store, "distinctive_words", parameters, expected)


@pytest.mark.slow
def test_two_classes_mirror_each_other(store):
    """Each has the other's results with the opposite sign."""
    rows = rows_of(store, "distinctive_words", "duckdb", {"min_documents": 1, "limit": 1000})
    rows = [row for row in rows if row["test"] == "attention"]
    neg, pos = ({r["word"]: r for r in rows if r["class"] == kind} for kind in ("neg", "pos"))
    assert neg.keys() == pos.keys() and len(neg) > 5
    for word, row in neg.items():
        for name in ("surplus", "log_ratio", "log_odds", "z", "residual"):
            assert row[name] == pytest.approx(-pos[word][name], rel=1e-9, abs=1e-12), (word, name)
        for name in ("p", "q"):
            assert row[name] == pytest.approx(pos[word][name], rel=1e-9), (word, name)
        assert row["factor"] == pytest.approx(1 / pos[word]["factor"], rel=1e-12)
        assert row["error"] == pytest.approx(pos[word]["error"], rel=1e-9)
        assert row["low"] == pytest.approx(-pos[word]["high"], rel=1e-9)


def four_reviews():
    """`film` has lifts 1 and 3 in pos, 1 and 2 in neg, four tokens each; `bear` has the rest, `the` occurs only in pos.

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


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_surplus_worked_out_by_hand(tmp_path, engine):
    """`film` has lift (1 + 3) / 2 here and (1 + 2) / 2 there, `bear` (1 + 1/4) / 2 and (1 + 1) / 2: ratios of 4/3 and
    5/8, whose middle f is √(5/6). Beyond it `film` has ln(4/3 / f).

    The residuals over the lift are ∓1/4 and ∓1/6, and G / (G - 1) is 2. By review, error² is 2 · 2 · (1/16 + 1/36) / 1.
    A film is on both sides, where they partly cancel: by film it is 2 · 2 · (1/4 - 1/6)², and the degrees of freedom
    have the product of the variances, 1/4 and 1/9, times 2 · (1 + 1) / (2 · 2). On the line `film` would have √(3 f)
    here and √(3 / f) there. Deviations from that are dealt to two of four reviews. The word is equally frequent on both
    sides: log-odds 0.
    """
    store = write_store(tmp_path / "s", four_reviews(), reductions=REDUCTIONS[:1], layers=1)
    f = math.sqrt(5 / 6)
    own, other = math.sqrt(3 * f), math.sqrt(3 / f)
    usual = (4 / own + 3 / other) / 4
    off = [1 / own - usual, 3 / own - usual, 1 / other - usual, 2 / other - usual]
    t = (off[0] + off[1]) / math.sqrt(sum(e * e for e in off) / 3)
    for cluster, error, df in (
        ("group", 1 / 6, (1 / 4 + 1 / 9) ** 2 / (1 / 16 + 1 / 81 + 1 / 36)),
        ("document", math.sqrt(1 / 4 + 1 / 9), (1 / 4 + 1 / 9) ** 2 / (1 / 16 + 1 / 81)),
    ):
        rows = rows_of(store, "distinctive_words", engine, {"min_documents": 1, "cluster": cluster})
        found = next(r for r in rows if (r["class"], r["word"]) == ("pos", "film"))
        assert (found["lift"], found["other_lift"], found["test"]) == (2.0, 1.5, "attention")
        surplus = math.log(4 / 3 / f)
        half = float(scipy.stats.t.ppf(0.975, df)) * error
        expected = {
            "factor": f,
            "difference": 2 - 1.5 * f,
            "log_ratio": surplus,
            "surplus": surplus,
            "error": error,
            "low": surplus - half,
            "high": surplus + half,
            "sure": surplus - half,
            "p": math.erfc(abs(t) / math.sqrt(2)),
        }
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
        assert (found["log_odds"], found["z"], found["residual"]) == (
            0.0,
            0.0,
            None,
        )  # two words do not make a line
        assert [found[n] for n in ("documents", "other_documents", "occurrences", "other_occurrences")] == [
            2
        ] * 4
        assert (found["clusters"], found["other_clusters"]) == (2.0, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_word_in_only_one_class_is_tested_by_counts(tmp_path, engine):
    """`film` is in 30 of 60 documents of pos and in none of 60 of neg: it is first, and the answer says by which test.

    The chance that two sides of 60 are dealt so is C(60, 30) / C(120, 30) on the one side.
    """
    documents = made_up_documents(120, labels=("pos",), predictions=("pos",), seed=2)
    for number, document in enumerate(documents):
        kind, film = ("neg", "pos")[number % 2], number % 4 == 1
        document |= {
            "prediction": kind,
            "group": None,
            "tokens": words(*(["film"] if film else []), "bear", "the"),
        }
        size = len(document["tokens"])
        set_values(document, "cls_01", [1 / size] * size)
    store = write_store(tmp_path / "s", documents, reductions=REDUCTIONS[:1], layers=1)
    rows = rows_of(store, "distinctive_words", engine, {})
    first = next(row for row in rows if row["class"] == "pos")
    assert {row["word"] for row in rows if row["class"] == "neg"} == {"bear", "the"}
    assert (first["word"], first["test"], first["documents"], first["other_documents"]) == (
        "film",
        "counts",
        30,
        0,
    )
    assert (first["clusters"], first["other_clusters"], first["other_lift"]) == (30.0, 0.0, None)
    chance = math.comb(60, 30) / math.comb(120, 30)
    assert (first["p"], first["q"]) == (
        pytest.approx(2 * chance, rel=1e-6),
        pytest.approx(2 * chance, rel=1e-6),
    )
    error = math.sqrt(2 / 30.5 + 1 / 0.5 + 1 / 60.5)
    assert first["sure"] == pytest.approx(math.log(60.5 / 0.5) - 1.959963984540054 * error, rel=1e-9)
    assert [first[name] for name in ("surplus", "low", "high", "error", "log_ratio", "residual")] == [
        None
    ] * 6


@pytest.mark.slow
def test_words_are_compared_with_the_line_of_a_sharper_class(tmp_path):
    """Ninety words whose lift in pos is the 1.5th power of that in neg; one has twice as much, and is first.

    With a single factor, all words of high lift would seem distinctive of pos, and those of low lift of neg.
    """
    chance = np.random.default_rng(0)
    names = [f"w{n:02d}" for n in range(90)]
    levels = dict(zip(names, np.exp(chance.normal(0, 0.8, 90)), strict=True))
    levels["w00"] = 1.0
    rows = []
    for number in range(240):
        kind, drawn = ("neg", "pos")[number % 2], chance.choice(names, 80)
        size = len(drawn) + 2
        lifts_of = [
            levels[w] ** (1.5 if kind == "pos" else 1) * (2 if (kind, w) == ("pos", "w00") else 1)
            for w in drawn
        ]
        values = [0.0, *(np.array(lifts_of) * chance.gamma(30, 1 / 30, len(drawn)) / size), 0.0]
        document = {
            "id": str(number), "label": kind, "prediction": kind, "split": "test", "probability": 0.75,
            "truncated": False, "text": "", "group": None,
            "tokens": [token("[CLS]", special=True), *(token(w, w, 0, 1) for w in drawn), token("[SEP]", special=True)],
        }  # fmt: skip
        set_values(document, "cls_01", [float(v) for v in values])
        rows.append(document)
    store = write_store(tmp_path / "s", rows, reductions=REDUCTIONS[:1], layers=1, part_size=240)
    for engine in ENGINES:
        found = rows_of(store, "distinctive_words", engine, {"limit": 1000})
        of_pos = {row["word"]: row for row in found if row["class"] == "pos"}
        assert len(of_pos) == 90
        assert max(of_pos, key=lambda word: of_pos[word]["sure"]) == "w00"
        # A slope of 1.5 is one of 0.4 of the difference on the middle. The word's own ln 2 moves the middle by half.
        assert of_pos["w00"]["surplus"] == pytest.approx(0.8 * math.log(2), abs=0.1)
        assert sum(row["q"] < 0.05 for row in of_pos.values()) <= 5
        assert sum(abs(row["log_ratio"]) > math.log(1.2) for row in of_pos.values()) > 30


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_fewer_than_two_effective_clusters_have_no_error(tmp_path, engine):
    """Four occurrences in one film and one in another weigh as much as 25 / 17 films; two and two as two films."""
    reviews = four_reviews()
    reviews[0]["tokens"] = words("film", "film", "film", "film", "bear")
    set_values(reviews[0], "cls_01", [0.1, 0.1, 0.2, 0.1, 0.3, 0.1, 0.1])
    store = write_store(tmp_path / "s", reviews, reductions=REDUCTIONS[:1], layers=1)
    rows = rows_of(store, "distinctive_words", engine, {"min_documents": 1})
    for row in rows:
        known = row["word"] == "bear"
        assert [(row[name] is not None) for name in ("error", "low", "p", "q")] == [known] * 4
        assert row["difference"] and row["log_ratio"]


@pytest.mark.slow
def test_words_left_out_are_counted(tmp_path):
    """Log-odds are over all words, also when the rest is renormalised: `film` is 1 of 2 words in neg and 1 of 3 in pos,
    of which one or two are left out.

    Without a prior: ln((1/1) / (1/2)).
    """
    reviews = four_reviews()
    for review in reviews[:2]:
        review["tokens"] = words("film", "!", "bear")
        set_values(review, "cls_01", [0.2, 0.4, 0.1, 0.1, 0.2])
    store = write_store(tmp_path / "s", reviews, reductions=REDUCTIONS[:1], layers=1)
    predicted = [review | {"prediction": "pos"} for review in reviews]  # neg are the wrong ones
    wrong = write_store(tmp_path / "errors", predicted, reductions=REDUCTIONS[:1], layers=1)
    for asked, name, kind in ((store, "distinctive_words", "neg"), (wrong, "errors", "pos")):
        for engine, renormalise in zip(ENGINES, (True, False), strict=True):
            parameters = {"min_documents": 1, "ignore": ["bear"], "prior": 0, "renormalise": renormalise}
            (found,) = (r for r in rows_of(asked, name, engine, parameters) if r["class"] == kind)
            assert found["log_odds"] == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.slow
def test_incomparable_words_are_not_listed_or_null(tmp_path):
    """A word in only one class; only one class; a word in one cluster; no parts; only special tokens."""
    documents = made_up_documents(12, labels=("pos",), predictions=("pos",))
    one_class = write_store(tmp_path / "one class", documents)
    empty = write_store(tmp_path / "empty", documents, parts=[])
    reviews = four_reviews()
    for review in reviews:
        review["tokens"] = words()
        set_values(review, "cls_01", [0.5, 0.5])
    special = write_store(tmp_path / "special", reviews, reductions=REDUCTIONS[:1], layers=1)
    by_hand = write_store(tmp_path / "by hand", four_reviews()[1:], reductions=REDUCTIONS[:1], layers=1)
    unlabelled = made_up_documents(9, labels=(None,))
    no_label = write_store(tmp_path / "no label", unlabelled, label_in_path=False)
    both = {"min_documents": 0, "specials": "in", "punctuation": "in"}
    for engine in ENGINES:
        assert rows_of(one_class, "distinctive_words", engine, {"min_documents": 0}) == []
        assert rows_of(empty, "distinctive_words", engine, {}) == []
        assert rows_of(special, "distinctive_words", engine, {"min_documents": 0}) == []
        rows = rows_of(special, "distinctive_words", engine, both)
        assert [(r["word"], r["difference"], r["error"], r["low"], r["p"], r["q"]) for r in rows] == [
            (word, 0.0, None, None, None, None) for _ in range(2) for word in ("[CLS]", "[SEP]")
        ]
        rows = rows_of(by_hand, "distinctive_words", engine, {"min_documents": 1})
        assert {(r["error"], r["low"], r["p"], r["q"], r["residual"]) for r in rows} == {(None,) * 5}
        with pytest.raises(UsageError, match="ask with by=prediction"):
            ask(no_label, QUESTIONS["distinctive_words"], {"by": "label"}, engine)


# -- errors -----------------------------------------------------------------------------------------------


def strata_of(probabilities, wrong):
    """The stratum of each document: equally many wrong ones in each, one stratum per 20 of them, and at most 20."""
    count = sum(wrong)
    strata = max(1, min(20, count // 20))
    answer = []
    for probability in probabilities:
        lower = sum(w and other < probability for other, w in zip(probabilities, wrong, strict=True))
        answer.append(min(strata - 1, lower * strata // max(1, count)))
    return answer


def correlation_within(clusters, strata, wrong):
    """The correlation of two documents of a cluster in being wrong, given the numbers in each stratum."""
    part = {s: np.mean([w for w, of in zip(wrong, strata, strict=True) if of == s]) for s in set(strata)}
    products = most = 0.0
    for i in range(len(wrong)):
        for j in range(len(wrong)):
            if i != j and clusters[i] == clusters[j]:
                one, other = part[strata[i]], part[strata[j]]
                products += (wrong[i] - one) * (wrong[j] - other)
                most += math.sqrt(one * (1 - one) * other * (1 - other))
    return max(0.0, min(1.0, products / most)) if most > 1e-9 else 0.0


def gamma_tails(t, skew):
    """Both tails beyond t of a gamma distribution with mean 0 and variance 1, by r* with many digits."""
    if t * skew < 0:
        skew = math.copysign(min(abs(skew), 1 / abs(t)), skew)
    with localcontext(prec=120):
        t, skew = Decimal(t), Decimal(skew)
        x = skew * t / 2
        r = t if x == 0 else Decimal(1).copy_sign(t) * (8 / skew**2 * (x - (1 + x).ln())).sqrt()
        return math.erfc(abs(float(r + ((t / r).ln() / r if t else skew / 6))) / math.sqrt(2))


def dealt(those, factor, rho):
    """The remaining difference between the sides of [(stratum, cluster, wrong, n, y)], its error, skewness, and
    clusters.
    """
    strata = {}
    for document in those:
        strata.setdefault(document[0], []).append(document)
    kept = [some for some in strata.values() if len({wrong for _, _, wrong, *_ in some}) == 2]
    total, weights, scored, sizes = 0.0, 0.0, [], {True: defaultdict(int), False: defaultdict(int)}
    for some in kept:
        n, y = ({side: sum(d[k] for d in some if d[2] is side) for side in (True, False)} for k in (3, 4))
        usual = (y[True] / factor + y[False]) / (n[True] + n[False])
        size, chosen = len(some), sum(d[2] for d in some)
        spread = chosen * (size - chosen) / (size * (size - 1))
        lean = spread * (size - 2 * chosen) / (size - 2) if size > 2 else 0.0
        total += y[True] / factor - usual * n[True]
        weights += n[True] * n[False] / (n[True] + n[False])
        for _, cluster, wrong, count, value in some:
            off = value / (factor if wrong else 1) - usual * count
            scored.append((cluster, math.sqrt(spread) * off, float(np.cbrt(lean)) * off))
            sizes[wrong][cluster] += count
    variance = (1 - rho) * sum(one**2 for _, one, _ in scored)
    third = (1 - rho) * sum(one**3 for *_, one in scored)
    for cluster in {cluster for cluster, *_ in scored}:
        variance += rho * sum(one for of, one, _ in scored if of == cluster) ** 2
        third += rho * sum(one for of, _, one in scored if of == cluster) ** 3
    clusters = []
    for side in (True, False):
        counts = np.array(list(sizes[side].values()))
        g = counts.sum() ** 2 / (counts**2).sum()
        clusters.append(g if g >= 2 - 1e-12 else None)
    scale = sum((value / (factor if wrong else 1)) ** 2 for _, _, wrong, _, value in those)
    if variance < 1e-14 * scale:
        return None, None, None, clusters
    if None in clusters:
        return None, None, None, clusters
    t, skew = total / math.sqrt(variance), third / variance**1.5
    g, o_g = clusters
    one_way = math.exp(math.lgamma(g + 1) + math.lgamma(o_g + 1) - math.lgamma(g + o_g + 1))
    p = min(1.0, max(gamma_tails(t, skew), 2 * one_way))
    return factor * math.sqrt(variance) / weights, t, p, clusters


def errors(
    documents, *, reduction="cls", layer="last", min_documents=None, specials="out", punctuation="out",
    ignore=(), renormalise=False, cluster="group", prior=None, rank_by="p", limit=20, match="probability",
):  # fmt: skip
    answer = []
    for kind in sorted({d["prediction"] for d in documents}):

        def side_of(document, kind=kind):
            here = document["prediction"] == kind and document["label"] is not None
            return document["label"] != kind if here else None

        judged = [n for n, d in enumerate(documents) if side_of(d) is not None]
        wrong = [side_of(documents[n]) for n in judged]
        strata = strata_of([documents[n]["probability"] for n in judged], wrong)
        strata = strata if match == "probability" else [0] * len(judged)
        clusters = [cluster_of(documents, n, cluster) for n in judged]
        rho = correlation_within(clusters, strata, wrong)
        found = lifts(documents, side_of, reduction, layer, specials, punctuation, ignore, renormalise)
        uses = defaultdict(lambda: defaultdict(list))
        for _, word, number, lift in found:
            uses[word][number].append(lift)
        listed = {}
        for word, of_word in uses.items():
            those = [
                (strata[i], clusters[i], wrong[i], len(of_word[n]), sum(of_word[n]))
                for i, n in enumerate(judged) if n in of_word
            ]  # fmt: skip
            sides = [sum(w is side for _, _, w, *_ in those) for side in (True, False)]
            least = [
                max(5, -(-wrong.count(side) // 200)) if min_documents is None else min_documents
                for side in (True, False)
            ]
            both = {s for s, _, w, *_ in those if w} & {s for s, _, w, *_ in those if not w}
            if not is_listed(word, False, specials, punctuation, ignore) or not both:
                continue
            if sides[0] < least[0] or sides[1] < least[1]:
                continue
            mean, total = {True: 0.0, False: 0.0}, 0.0
            for stratum in both:
                n, y = (
                    {side: sum(d[k] for d in those if (d[0], d[2]) == (stratum, side)) for side in mean}
                    for k in (3, 4)
                )
                weight = n[True] * n[False] / (n[True] + n[False])
                total += weight
                for side in mean:
                    mean[side] += weight * y[side] / n[side]
            listed[word] = those, sides, mean[True] / total, mean[False] / total
        best = sorted(listed, key=lambda word: (-min(listed[word][1]), word))
        known = [w for i, w in enumerate(best) if i < 30 or min(listed[w][1]) >= 50]
        ratios = [listed[word][2:] for word in known]
        logs = [math.log(r / o_r) for r, o_r in ratios if r > 0 and o_r > 0]
        factor = math.exp(statistics.median(logs)) if logs else 1.0
        totals = [sum(s is side for s, *_ in found) for side in (True, False)]
        rows = []
        for word, (those, sides, r, o_r) in listed.items():
            error, t, p, (g, o_g) = dealt(those, factor, rho)
            n = [sum(d[3] for d in those if d[2] is side) for side in (True, False)]
            log_odds, z = log_odds_of(n[0], totals[0], n[1], totals[1], prior)
            rows.append(
                {"class": kind, "word": word, "wrong_documents": sides[0], "right_documents": sides[1],
                 "wrong_occurrences": n[0], "right_occurrences": n[1], "wrong_clusters": g,
                 "right_clusters": o_g, "wrong_lift": r, "right_lift": o_r, "factor": factor,
                 "difference": r - factor * o_r, "error": error, "t": t, "p": p, "q": None,
                 "log_ratio": math.log(r / (factor * o_r)) if r > 0 and o_r > 0 else None,
                 "log_odds": log_odds, "z": z}
            )  # fmt: skip
        tested = [row for row in rows if row["p"] is not None]
        if tested:
            family = scipy.stats.false_discovery_control([row["p"] for row in tested])
            for row, q in zip(tested, family, strict=True):
                row["q"] = float(q)
        for row in rows:
            known_p = rank_by == "p" and row["p"] is not None
            row["rank"] = -np.sign(row["t"]) * math.log(row["p"]) if known_p else row[rank_by]
        answer += ordered(rows, "rank", limit, "wrong_documents")
    return [{name: value for name, value in row.items() if name != "rank"} for row in answer]


@pytest.fixture(scope="module")
def more_documents():
    return made_up_documents(300, seed=1)


@pytest.fixture(scope="module")
def more(tmp_path_factory, more_documents):
    return write_store(tmp_path_factory.mktemp("errors") / "store", more_documents, label_in_path=False)


ERROR_SETTINGS = [
    {},
    {"match": "none", "min_documents": 1, "limit": 1000},
    {"min_documents": 1, "limit": 1000},
    {"min_documents": 0, "specials": "in", "punctuation": "in", "limit": 1000, "prior": 0},
    {"min_documents": 1, "layer": "mean", "rank_by": "difference", "cluster": "document"},
    {"min_documents": 1, "reduction": "odd", "rank_by": "log_odds", "limit": 2},
    {"min_documents": 2, "reduction": "cls_heads", "renormalise": True, "rank_by": "z", "ignore": ["the"]},
]


@pytest.mark.sampled(at=(1, 3, 4, 6))
@pytest.mark.slow
@pytest.mark.parametrize("parameters", ERROR_SETTINGS, ids=str)
def test_words_of_errors_are_those_of_brute_force(more, more_documents, parameters):
    """Every parameter, in both engines, including documents without a label."""
    expected = errors(more_documents, **parameters)
    assert {row["class"] for row in expected} == {"neg", "pos"}
    assert_answer(more, "errors", parameters, expected)


@pytest.mark.slow
def test_the_errors_of_three_classes_are_those_of_brute_force(tmp_path):
    """A prediction is wrong if the label is any other class."""
    kinds = ("bad", "good", "mixed")
    documents = made_up_documents(60, labels=kinds, predictions=kinds, seed=5)
    store = write_store(tmp_path / "s", documents, labels=kinds)
    assert_answer(store, "errors", {"min_documents": 1}, errors(documents, min_documents=1))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_an_error_worked_out_by_hand(tmp_path, engine):
    """The difference by hand above, of reviews all predicted pos: those labelled neg are wrong. The factor f is √(6/5),
    the difference 1.5 - 2 f.

    Without f, `film` has 1/f and 2/f in the wrong reviews, 1 and 3 in the right ones, and u on average. The sum over
    two of four reviews has the variance Σ (y - u)² / 3, no skewness, and the weight 2 · 2 / 4. Each film has a wrong
    and a right review, so their errors are not correlated.
    """
    reviews = [review | {"prediction": "pos"} for review in four_reviews()]
    store = write_store(tmp_path / "s", reviews, reductions=REDUCTIONS[:1], layers=1)
    rows = rows_of(store, "errors", engine, {"min_documents": 1})
    assert {row["class"] for row in rows} == {"pos"}
    film = next(row for row in rows if row["word"] == "film")
    names = ("wrong_documents", "right_occurrences", "wrong_clusters", "wrong_lift", "right_lift", "log_odds")
    assert [film[name] for name in names] == [2, 2, 2.0, 1.5, 2.0, 0.0]
    f = math.sqrt(6 / 5)
    u = (3 / f + 4) / 4
    error = f * math.sqrt(((1 / f - u) ** 2 + (2 / f - u) ** 2 + (1 - u) ** 2 + (3 - u) ** 2) / 3)
    t = (1.5 - 2 * f) / error
    expected = [f, 1.5 - 2 * f, error, t, math.erfc(abs(t) / math.sqrt(2))]
    found = [film[name] for name in ("factor", "difference", "error", "t", "p")]
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_wrong_documents_are_compared_with_right_ones_of_similar_probability(tmp_path):
    """Certain documents, right or wrong, attend to `film` twice as much. Most right ones are certain, few wrong ones
    are.

    Without matching, `film` is attended to less in wrong documents; with matching there is no difference.
    """
    chance = np.random.default_rng(0)
    documents = made_up_documents(400, labels=("pos",), predictions=("pos",))
    for number, document in enumerate(documents):
        wrong = number % 2 == 0
        sure = (number // 2) % 10 < (2 if wrong else 8)
        document |= {"label": "neg" if wrong else "pos", "probability": 0.9 if sure else 0.6}
        document["tokens"] = words("film", "bear", "the")
        share = (0.5 if sure else 0.25) * chance.uniform(0.9, 1.1)
        set_values(document, "cls_01", [0.1, share, (0.8 - share) / 2, (0.8 - share) / 2, 0.1])
    store = write_store(tmp_path / "s", documents, reductions=REDUCTIONS[:1], layers=1)
    for engine in ENGINES:
        film = {}
        for match in ("probability", "none"):
            rows = rows_of(store, "errors", engine, {"match": match, "ignore": ["bear", "the"]})
            (film[match],) = rows
        # The factor is that of the word itself, which is the only one.
        assert film["none"]["wrong_lift"] < 0.75 * film["none"]["right_lift"]
        assert film["probability"]["wrong_lift"] == pytest.approx(film["probability"]["right_lift"], rel=0.02)


@pytest.mark.slow
def test_without_comparable_labels_there_are_no_errors(tmp_path):
    """No label; labels that are not the model's classes, even with equal names; no wrong document; no parts."""
    documents = made_up_documents(20, labels=(None,))
    stores = [
        write_store(tmp_path / "unlabelled", documents, label_in_path=False),
        write_store(tmp_path / "others", made_up_documents(20), labels_are_models=False),
        write_store(tmp_path / "right", made_up_documents(20, labels=("pos",), predictions=("pos",))),
        write_store(tmp_path / "empty", documents, parts=[], label_in_path=False),
    ]
    for store, engine in product(stores, ENGINES):
        assert rows_of(store, "errors", engine, {"min_documents": 0}) == []


# -- flips ------------------------------------------------------------------------------------------------


def flips(
    documents, *, reduction="cls", layer="last", min_documents=None, specials="out", punctuation="out",
    ignore=(), renormalise=False, cluster="group", rank_by="p", max_q=0.05, limit=20,
):  # fmt: skip
    def side_of(document):
        return None if document["label"] is None else (document["label"], document["prediction"])

    found = lifts(documents, side_of, reduction, layer, specials, punctuation, ignore, renormalise)
    cells = defaultdict(dict)
    for side in {side for side, *_ in found}:
        size = sum(side_of(d) == side for d in documents)
        least = max(5, -(-size // 200)) if min_documents is None else min_documents
        for word in {word for of, word, *_ in found if of == side}:
            those = [(number, lift) for of, w, number, lift in found if (of, w) == (side, word)]
            if len({n for n, _ in those}) >= least and is_listed(word, False, specials, punctuation, ignore):
                cells[side][word] = those
    measured = {}
    for side, its_words in cells.items():
        everything = [
            (cluster_of(documents, n, cluster), lift) for those in its_words.values() for n, lift in those
        ]
        usual, whole, *_ = ratio(everything)
        for word, those in its_words.items():
            mean, residual, _, g = ratio([(cluster_of(documents, n, cluster), lift) for n, lift in those])
            error = p = None
            if g is not None:
                parts = [residual.get(c, 0) - whole[c] for c in whole]
                error = math.sqrt(g / (g - 1) * sum(part * part for part in parts))
                error = error if error > 1e-7 * abs(mean) else None
            if error is not None:
                p = float(scipy.stats.t.sf(abs(mean - usual) / error, g - 1))
            measured[(*side, word)] = (len({n for n, _ in those}), len(those), mean, mean - usual, error, p)
    rows = []
    for (label, a, word), of_a in measured.items():
        for (other_label, b, other_word), of_b in measured.items():
            if (label, word) != (other_label, other_word) or a >= b:
                continue
            above, below, up, down = (a, b, of_a, of_b) if of_a[3] >= of_b[3] else (b, a, of_b, of_a)
            sign = up[3] > 0 > down[3]
            p = None if None in (up[5], down[5]) else max(up[5], down[5]) if sign else 1.0
            rows.append(
                {"label": label, "word": word, "above": above, "below": below, "above_documents": up[0],
                 "below_documents": down[0], "above_occurrences": up[1], "below_occurrences": down[1],
                 "above_lift": up[2], "below_lift": down[2], "above_excess": up[3], "below_excess": down[3],
                 "above_error": up[4], "below_error": down[4], "swing": up[3] - down[3], "p": p, "q": None,
                 "sign": sign}
            )  # fmt: skip
    answer = []
    for label in sorted({row["label"] for row in rows}):
        tested = [row for row in rows if row["label"] == label and row["p"] is not None]
        if tested:
            family = scipy.stats.false_discovery_control([row["p"] for row in tested])
            for row, q in zip(tested, family, strict=True):
                row["q"] = float(q)

        def place(row):
            value = row["p"] if rank_by == "p" else -row["swing"]
            both = row["above_documents"] + row["below_documents"]
            return value is None, np.float32(value or 0), -both, row["word"], row["above"], row["below"]

        of_label = [r for r in rows if r["label"] == label and r["sign"]]
        sure = [r for r in of_label if max_q >= 1 or (r["q"] is not None and r["q"] <= max_q)]
        answer += sorted(sure, key=place)[:limit]
    return [{name: value for name, value in row.items() if name != "sign"} for row in answer]


FLIP_SETTINGS = [
    {"min_documents": 1, "max_q": 1, "limit": 1000},
    {
        "min_documents": 0,
        "specials": "in",
        "punctuation": "in",
        "rank_by": "swing",
        "max_q": 0.9,
        "limit": 1000,
    },
    {"layer": "mean", "cluster": "document", "max_q": 1},
    {"min_documents": 1, "reduction": "odd", "rank_by": "swing", "max_q": 1, "limit": 2},
    {"min_documents": 2, "reduction": "cls_heads", "renormalise": True, "ignore": ["the"], "max_q": 1},
]


@pytest.mark.sampled(at=(1, 2, 4))
@pytest.mark.slow
@pytest.mark.parametrize("parameters", FLIP_SETTINGS, ids=str)
def test_flips_are_those_of_brute_force(more, more_documents, parameters):
    """Every parameter, in both engines, including documents without a label."""
    expected = flips(more_documents, **parameters)
    assert {row["label"] for row in expected} == {"neg", "pos"}
    assert_answer(more, "flips", parameters, expected)


@pytest.mark.slow
def test_flips_among_three_predictions_use_every_pair(tmp_path):
    """Labels need not be the model's classes."""
    kinds = ("bad", "good", "mixed")
    documents = made_up_documents(90, labels=("sports", "news"), predictions=kinds, seed=5)
    store = write_store(tmp_path / "s", documents, labels=kinds, labels_are_models=False)
    expected = flips(documents, min_documents=1, max_q=1, limit=1000)
    assert len({(row["above"], row["below"]) for row in expected}) == 6
    assert_answer(store, "flips", {"min_documents": 1, "max_q": 1, "limit": 1000}, expected)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_flip_worked_out_by_hand(tmp_path, engine):
    """Of the label pos, predicted pos: `film` has the lifts 1 and 3, `bear` 1 and 0.25, their mean is 1.3125; predicted
    neg: 1 and 2, 1 and 1, mean 1.25.

    `film` is above both times. With lifts of 0.5 and 0 in neg it is 0.25, `bear` 1, their mean 0.625: both words flip.
    The residuals over n of `film` in pos are ∓0.5, those of all words ∓(2.625 - 2) / 4: the excess of 0.6875 has the
    error 2 · (0.5 - 0.15625) = 0.6875, t is 1. In neg it is 2 · (0.125 - 0.0625), and t -3.
    """
    reviews = [review | {"label": "pos"} for review in four_reviews()]
    store = write_store(tmp_path / "none", reviews, reductions=REDUCTIONS[:1], layers=1)
    assert [r["word"] for r in rows_of(store, "flips", engine, {"min_documents": 1, "max_q": 1})] == []
    set_values(reviews[2], "cls_01", [0.5, 0.125, 0.25, 0.125])
    set_values(reviews[3], "cls_01", [0.5, 0.0, 0.25, 0.25])
    store = write_store(tmp_path / "both", reviews, reductions=REDUCTIONS[:1], layers=1)
    rows = rows_of(store, "flips", engine, {"min_documents": 1, "max_q": 1})
    found = {
        r["word"]: (
            r["above"],
            r["below"],
            r["above_lift"],
            r["below_lift"],
            r["above_excess"],
            r["below_excess"],
        )
        for r in rows
    }
    assert found == {
        "film": ("pos", "neg", 2.0, 0.25, 0.6875, -0.375),
        "bear": ("neg", "pos", 1.0, 0.625, 0.375, -0.6875),
    }
    film = next(r for r in rows if r["word"] == "film")
    assert (film["above_error"], film["below_error"]) == (0.6875, 0.125)
    assert (film["p"], film["swing"]) == (pytest.approx(0.25, rel=1e-9), 1.0625)  # of t = 1, the weaker one


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_without_two_predictions_at_a_label_nothing_flips(tmp_path, engine):
    """No label; one prediction; no parts."""
    documents = made_up_documents(20, labels=(None,))
    stores = [
        write_store(tmp_path / "unlabelled", documents, label_in_path=False),
        write_store(tmp_path / "one", made_up_documents(20, predictions=("pos",))),
        write_store(tmp_path / "empty", documents, parts=[], label_in_path=False),
    ]
    for store in stores:
        assert rows_of(store, "flips", engine, {"min_documents": 0}) == []
