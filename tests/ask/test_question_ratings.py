"""Numbers in the data: SQL, its Polars twin and a loop over documents give the same table."""

import re
from collections import defaultdict

import asked_store
import duckdb
import polars as pl
import pytest
import scipy.stats
from by_brute_force import Ratio, assert_rows
from test_question_calibration import wilson

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions
from attnstore.errors import UsageError

QUESTION = find_questions()["ratings"]


def brute_force(documents, number_of, bins=10, cluster="group"):
    """The question's definition, one bin after the other."""
    numbers = {n: number_of(document) for n, document in enumerate(documents)}
    numbers = {n: number for n, number in numbers.items() if number is not None}
    several, members = sorted(set(numbers.values())), defaultdict(list)
    for n, number in numbers.items():
        below = sum(other < number for other in numbers.values())
        members[several.index(number) if len(several) <= bins else below * bins // len(numbers)].append(n)
    rows = []
    for _, inside in sorted(members.items()):
        owners = {n: asked_store.cluster_of(documents, n, cluster) for n in inside}
        judged = [n for n in inside if documents[n]["label"] is not None]
        accuracy = low = high = None
        if judged:
            right = Ratio([documents[n]["label"] == documents[n]["prediction"] for n in judged],
                          [owners[n] for n in judged])  # fmt: skip
            accuracy = right.mean
            if right.clusters:
                low, high = wilson(accuracy, len(judged), right.error() ** 2, right.clusters)
        values = {
            n: [t["evidence"] for t in documents[n]["tokens"] if not t["special"]]
            for n in inside
            if documents[n]["tokens"][0]["evidence"] is not None and len(documents[n]["tokens"]) > 2
        }
        pro, contra = ([sum(max(sign * v, 0) for v in values[n]) * sign for n in values] for sign in (1, -1))
        net = Ratio([a + b for a, b in zip(pro, contra, strict=True)], [owners[n] for n in values])
        half = scipy.stats.t.ppf(0.975, net.clusters - 1) * net.error() if net.clusters else None
        rows.append(
            {"number_from": min(numbers[n] for n in inside), "number_to": max(numbers[n] for n in inside),
             "documents": len(inside), "clusters": len(set(owners.values())), "accuracy": accuracy,
             "low": low, "high": high,
             "mean_probability": sum(documents[n]["probability"] for n in inside) / len(inside),
             "evidence_for": sum(pro) / len(pro), "evidence_against": sum(contra) / len(contra), "net": net.mean,
             "net_low": None if half is None else net.mean - half,
             "net_high": None if half is None else net.mean + half}
        )  # fmt: skip
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize(
    ("given", "number_of", "meant"),
    [
        ({"bins": 12}, lambda d: float(d["id"].split("_")[1].removesuffix(".txt")), {"bins": 12}),
        ({"column": "length", "bins": 3}, lambda d: float(len(d["tokens"])), {"bins": 3}),
        ({"column": "group", "pattern": "^film ([0-9])$", "cluster": "document"},
         lambda d: float(d["group"][5:]) if re.fullmatch("film [0-9]", d["group"] or "") else None,
         {"cluster": "document"}),
    ],
)  # fmt: skip
def test_numbers_are_those_of_brute_force(signed_store, signed_documents, given, number_of, meant, engine):
    """From the end of the id, from a stored number, and from a pattern that few texts match."""
    rows = ask(signed_store, QUESTION, given, engine).to_pylist()
    expected = brute_force(signed_documents, number_of, **meant)
    assert len(expected) > 2
    assert_rows(rows, expected)


def test_a_hyphen_after_a_letter_is_no_minus():
    """The default pattern finds a text's last number, with its sign, in both engines."""
    numbers = {
        "test/pos/123_10.txt": "10", "review-012": "012", "é-5": "5", "reviews.csv:4": "4", "2024-05-07": "07",
        "-2.5": "-2.5", "at -3 °C": "-3", "x_-4": "-4", "score=-7!": "-7", "v1.25": "1.25", "1.2.3": None, "none": None,
    }  # fmt: skip
    pattern = QUESTION.parameter("pattern").default
    frame = pl.DataFrame({"text": list(numbers)})
    assert dict(zip(numbers, frame["text"].str.extract(pattern, 1), strict=True)) == numbers
    found = duckdb.sql(
        "SELECT text, nullif(regexp_extract(text, $pattern, 1), '') FROM frame", params={"pattern": pattern}
    )
    assert dict(found.fetchall()) == numbers


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_a_missing_column_is_reported_in_one_line(signed_store, engine):
    """The line says how to store it."""
    with pytest.raises(UsageError) as refusal:
        ask(signed_store, QUESTION, {"column": "stars"}, engine)
    assert re.fullmatch(
        r"column=stars: documents has no such column.*; to keep one of the data, use "
        r"`attnstore run --keep-column stars`",
        str(refusal.value),
    )
