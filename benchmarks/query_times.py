"""How long each question takes over a store, in each engine, and whether the engines agree.

    python benchmarks/query_times.py imdb.attn
    python benchmarks/query_times.py imdb.attn -p renormalise=true      # where a question has that parameter

Times are of `ask`, the store being open: the query itself, with connecting and binding, without starting Python.
"""

import argparse
import math
import statistics
import time
from pathlib import Path
from typing import Any

from attnstore.questions import ask, find_questions, run_sql
from attnstore.store import open_store


def same(one: Any, other: Any) -> bool:
    """Equal, floats to 1e-6 of their size: the engines add in different orders."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12)
    return bool(one == other)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    given = dict(item.split("=", 1) for item in options.parameter)
    store = open_store(options.store)
    first = run_sql(store, "select id from documents order by document limit 1").to_pylist()[0]["id"]
    print(f"{'question':<24} {'engine':<8} {'median s':>9} {'worst s':>9}  rows  engines agree")
    for question in find_questions().values():
        parameters = {name: value for name, value in given.items() if question.parameter(name)}
        if question.parameter("document"):
            parameters.setdefault("document", first)
        answers = {}
        lines = []
        for engine in ("duckdb", "polars"):
            seconds = []
            for _ in range(options.runs):
                began = time.perf_counter()
                answers[engine] = ask(store, question, parameters, engine)
                seconds.append(time.perf_counter() - began)
            lines.append((engine, statistics.median(seconds), max(seconds)))
        one, other = (answer.to_pylist() for answer in answers.values())
        agree = len(one) == len(other) and all(
            a.keys() == b.keys() and all(same(a[k], b[k]) for k in a) for a, b in zip(one, other, strict=True)
        )
        for engine, median, worst in lines:
            print(f"{question.name:<24} {engine:<8} {median:>9.3f} {worst:>9.3f} {len(one):>5}  {agree}")


if __name__ == "__main__":
    main()
