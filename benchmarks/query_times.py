"""How long each question takes over a store, in each engine, and whether the engines agree.

    python benchmarks/query_times.py imdb.attn
    python benchmarks/query_times.py imdb.attn -p intervals=false       # for questions with that parameter
    python benchmarks/query_times.py imdb.attn --only top_words_by_class,sinks --engines duckdb

Times are those of `ask` for an open store: the query itself, with connecting and binding, without starting Python. The
ratio is DuckDB's time to that of a bare scan, which reads the same columns over the same connection and only sums
numbers and counts texts. A question that the store can't answer is left out.
"""

import argparse
import math
import re
import resource
import statistics
import time
from pathlib import Path
from typing import Any

from attnstore.ask import sql
from attnstore.ask.answer import ask
from attnstore.ask.binding import bound  # the columns that a question's parameters add
from attnstore.ask.questions import Question, find_questions
from attnstore.ask.sql import run_sql
from attnstore.errors import UsageError
from attnstore.store.store import Store, open_store


def same(one: Any, other: Any) -> bool:
    """Equal, floats to 1e-6 relative: the engines add in different orders."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12)
    return bool(one == other)


def bare_scan(store: Store, question: Question, parameters: dict[str, Any]) -> float:
    """Seconds to read the columns of both tables that the question names or its parameters add."""
    _, added = bound(store, question, parameters)
    began = time.perf_counter()
    with sql.connect(store, added) as connection:
        for table in ("documents", "tokens"):
            schema = connection.sql(f"SELECT * FROM {table} LIMIT 0")  # noqa: S608 - one of two names
            reads = []
            for name, kind in zip(schema.columns, schema.types, strict=True):
                if name in {**added.means, **added.elements} or re.search(rf"\b{name}\b", question.sql):
                    total = "sum" if str(kind) in ("DOUBLE", "FLOAT", "INTEGER", "SMALLINT") else "count"
                    reads.append(f'{total}("{name}")')
            if reads:
                sql.select(store, connection, f"SELECT {', '.join(reads)} FROM {table}")  # noqa: S608 - as above
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--engines", default="duckdb,polars")
    parser.add_argument("--only", help="these questions, with commas between")
    parser.add_argument("--word", default="film", help="for questions about a word")
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    given = dict(item.split("=", 1) for item in options.parameter)
    engines = options.engines.split(",")
    store = open_store(options.store)
    first = run_sql(store, "select id from documents order by document limit 1").to_pylist()[0]["id"]
    print(
        f"{'question':<24} {'engine':<8} {'median s':>9} {'worst s':>9} {'/ bare scan':>12}  rows  engines agree"
    )
    for question in find_questions().values():
        if options.only and question.name not in options.only.split(","):
            continue
        parameters: dict[str, Any] = {n: value for n, value in given.items() if question.parameter(n)}
        for parameter in question.parameters:
            if parameter.required:
                parameters.setdefault(parameter.name, first if parameter.type == "document" else options.word)
        answers = {}
        lines = []
        try:
            scan = statistics.median(bare_scan(store, question, parameters) for _ in range(options.runs))
        except UsageError as error:
            print(f"{question.name:<24} left out: {error}")
            continue
        for engine in engines:
            ask(store, question, parameters, engine)
            seconds = []
            for _ in range(options.runs):
                began = time.perf_counter()
                answers[engine] = ask(store, question, parameters, engine)
                seconds.append(time.perf_counter() - began)
            lines.append((engine, statistics.median(seconds), max(seconds)))
        one, *others = (answer.to_pylist() for answer in answers.values())
        agree = all(
            len(one) == len(other)
            and all(
                a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
                for a, b in zip(one, other, strict=True)
            )
            for other in others
        )
        for engine, median, worst in lines:
            ratio = f"{median / scan:>12.1f}" if engine == "duckdb" else " " * 12
            print(
                f"{question.name:<24} {engine:<8} {median:>9.3f} {worst:>9.3f} {ratio} {len(one):>5}  {agree}"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process: {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
