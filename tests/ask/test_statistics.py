"""The statistics of the questions: the same in DuckDB, in Polars, and by hand."""

import math
from itertools import combinations

import duckdb
import numpy as np
import polars as pl
import pytest
import scipy.stats

from attnstore.ask.statistics import p_value, permutation_p, q_value, register, t_quantile


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as connection:
        register(connection)
        yield connection


def t_tail(t, df, steps=200_000, end=4000.0):
    """P(|T| > |t|): the density integrated by Simpson's rule on a logarithmic grid."""
    constant = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    low, high = math.log(abs(t)), math.log(end)
    width = (high - low) / steps
    total = 0.0
    for step in range(steps + 1):
        x = math.exp(low + step * width)
        weight = 1 if step in (0, steps) else 4 if step % 2 else 2
        total += weight * x * constant * (1 + x * x / df) ** (-(df + 1) / 2)
    return 2 * total * width / 3


@pytest.mark.parametrize(("t", "df"), [(2.0, 10), (-1.3, 4), (0.5, 30), (6.0, 7)])
def test_p_values_are_the_two_tails_of_students_t(connection, t, df):
    expected = t_tail(t, df)
    assert connection.execute("select p_value($t, $df)", {"t": t, "df": df}).fetchone()[0] == pytest.approx(
        expected, rel=1e-6
    )
    frame = pl.DataFrame({"t": [t, None, t], "df": [df, df, None]})
    found = frame.select(p_value(pl.col("t"), pl.col("df"))).to_series().to_list()
    assert found == [pytest.approx(expected, rel=1e-6), None, None]


def test_quantiles_undo_p_values_and_nulls_stay_null(connection):
    rows = connection.execute(
        "select df, t_quantile(0.975, df), p_value(t_quantile(0.975, df), df) "
        "from (values (1.0), (5.0), (1000.0), ('infinity'::double), (null)) as of(df)"
    ).fetchall()
    assert [row[2] for row in rows] == [*[pytest.approx(0.05)] * 4, None]
    frame = pl.DataFrame({"df": [row[0] for row in rows]})
    found = frame.select(t_quantile(0.975, pl.col("df"))).to_series().to_list()
    assert found == [row[1] for row in rows]
    assert found[3] == pytest.approx(1.959964, abs=1e-6)


def by_hand(p):
    """Benjamini and Hochberg's step-up procedure by its definition: the smallest level that rejects each test."""
    tested = [value for value in p if value is not None]
    answer = []
    for value in p:
        if value is None:
            answer.append(None)
            continue
        candidates = [
            len(tested) * other / sum(x <= other for x in tested) for other in tested if other >= value
        ]
        answer.append(min(1.0, *candidates))
    return answer


@pytest.mark.parametrize(
    "p", [[0.01, 0.02, None, 0.5], [0.04, 0.04, 0.04], [0.9], [], [None], [0.001, 0.8, 0.03, 0.021, 0.02]]
)
def test_q_values_are_the_smallest_rates_at_which_a_test_is_rejected(connection, p):
    expected = [None if q is None else pytest.approx(q) for q in by_hand(p)]
    assert connection.execute("select q_values($p::double[])", {"p": p}).fetchone()[0] == expected
    frame = pl.DataFrame({"p": p}, schema={"p": pl.Float64})
    assert frame.select(q_value(pl.col("p"))).to_series().to_list() == expected


def test_each_class_is_a_separate_family_of_tests():
    frame = pl.DataFrame({"class": ["a", "b", "a", "b"], "p": [0.01, 0.03, 0.04, 0.04]})
    found = frame.select(q_value(pl.col("p")).over("class")).to_series().to_list()
    assert found == pytest.approx([0.02, 0.04, 0.04, 0.04])


def all_deals(values, k):
    """The sum of each way to choose k of the values."""
    return np.array([sum(some) for some in combinations(values, k)])


def p_of(t, skew, g=1e6, o_g=1e6):
    frame = pl.DataFrame({"t": t, "skew": skew, "g": g, "o_g": o_g}, strict=False)
    frame = frame.with_columns(pl.all().cast(pl.Float64))
    return (
        frame.select(permutation_p(*(pl.col(name) for name in ("t", "skew", "g", "o_g"))))
        .to_series()
        .to_list()
    )


@pytest.mark.sampled(3)
@pytest.mark.slow
@pytest.mark.parametrize("skew", [0.0, 1e-6, 0.3, 1.0, -0.8])
@pytest.mark.parametrize("t", [0.0, 1e-9, 0.7, 2.0, 5.0, -3.0])
def test_permutation_p_values_are_those_of_a_gamma_distribution(t, skew):
    """Twice the smaller tail, to 2 % relative, on the long side."""
    if t * skew < 0:
        skew = -skew
    tail = scipy.stats.pearson3(skew).sf(t) if t > 0 else scipy.stats.pearson3(skew).cdf(t)
    # In the middle, where neither tail is small, any p near 1 is right.
    assert p_of([t], [skew]) == [pytest.approx(min(1.0, 2 * tail), rel=0.02 if abs(t) > 1 else 0.15)]


@pytest.mark.slow
def test_permutation_p_values_are_those_of_all_permutations():
    """Skewed values, five of 24: of all 42,504 ways to choose them, about the share p is at least as extreme.

    In the far tail, where the few values end, and on the short side of the distribution, p may be larger, but never
    much smaller.
    """
    values = np.random.default_rng(1).gamma(1.5, 1, 24)
    values -= values.mean()
    size, k = len(values), 5
    sums = all_deals(values, k)
    t = sums / sums.std()
    skew = (t**3).mean()
    lean = k * (size - k) * (size - 2 * k) / (size * (size - 1) * (size - 2)) * (values**3).sum()
    assert skew * sums.std() ** 3 == pytest.approx(lean, rel=1e-9)  # the moment that the questions use
    assert sums.var() == pytest.approx(k * (size - k) / (size * (size - 1)) * (values**2).sum(), rel=1e-9)
    for level in (0.001, 0.01, 0.05, 0.2):
        high, low = np.quantile(t, 1 - level), np.quantile(t, level)
        of_high, of_low = p_of([high, low], [skew, skew])
        assert 0.8 * level < of_high / 2 < (1.3 if level > 0.005 else 3) * level
        assert of_low / 2 > level / 2


@pytest.mark.slow
def test_no_permutation_p_value_is_below_what_the_clusters_allow():
    """Two clusters against three can be dealt in ten ways.

    The smallest p is two of these ten, one for each direction.
    """
    assert p_of([9.0, 9.0], [0.0, 0.0], [2.0, 1.0], [3.0, 1.0]) == [pytest.approx(0.2), 1.0]
    assert p_of([9.0, None, 1.0, 1.0], [0.0, 0.0, None, 0.0], [2.0, 2.0, 2.0, None], 3.0) == [
        pytest.approx(0.2), None, None, None,
    ]  # fmt: skip
