"""The statistics of the questions: the same in DuckDB, in Polars, and by hand."""

import math

import duckdb
import polars as pl
import pytest

from attnstore.ask.statistics import p_value, q_value, register, t_quantile


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as connection:
        register(connection)
        yield connection


def t_tail(t, df, steps=200_000, end=4000.0):
    """P(|T| > |t|), the density integrated by Simpson's rule over a logarithmic grid."""
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
    """Benjamini and Hochberg's step-up procedure, one definition at a time: the smallest level that rejects each."""
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


def test_each_class_is_a_family_of_tests_of_its_own():
    frame = pl.DataFrame({"class": ["a", "b", "a", "b"], "p": [0.01, 0.03, 0.04, 0.04]})
    found = frame.select(q_value(pl.col("p")).over("class")).to_series().to_list()
    assert found == pytest.approx([0.02, 0.04, 0.04, 0.04])
