"""How often `errors` and `distinctive_words` find absent effects, between random parts of similar documents.

    python benchmarks/null_simulations.py imdb.attn --draws 100

The documents are those of one predicted class that the model gets right. In each draw, a random part of them is called
wrong (or another class), which no word can be related to. Of all words and draws, 5 in 100 should have p below 0.05 and
1 in 1,000 below 0.001. About 5 in 100 draws may have any word with q below 0.05. The answers come from the questions'
Polars twins, starting where the words of a document are counted; tests compare DuckDB's answers with them.
"""

import argparse
import importlib.util
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl

from attnstore.ask.binding import bound
from attnstore.ask.questions import Question, find_questions
from attnstore.ask.terms import occurrences
from attnstore.store.frames import Tables
from attnstore.store.store import open_store


def module(question: Question) -> ModuleType:
    """The file of a question's twin."""
    spec = importlib.util.spec_from_file_location(question.name, question.path.with_suffix(".py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"{question.name} has no Polars twin")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def once(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.collect(engine="streaming").lazy()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument(
        "--class", dest="kind", default="pos", help="the predicted class whose right documents are dealt"
    )
    parser.add_argument("--shares", default="0.5,0.25,0.07", help="the parts that are called wrong")
    parser.add_argument(
        "--asked",
        default="errors match=probability,errors match=none,distinctive_words",
        help="questions, each with a parameter or none",
    )
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    store = open_store(asked.store)
    questions = find_questions()
    p, added = bound(store, questions["errors"], {})
    tables = Tables(store, added)
    prediction, label = (pl.col(name).cast(pl.String) for name in ("prediction", "label"))
    documents = (
        tables.documents.filter(prediction == asked.kind, label == asked.kind)
        .select("document", "cluster", "probability")
        .collect()
    )
    uses = once(
        occurrences(tables.tokens.filter(pl.col("attention").is_not_null()), p)
        .filter(pl.col("word").is_not_null())
        .join(documents.lazy(), on="document", how="semi")
        .group_by("document", "word")
        .agg(n=pl.col("starts").sum().cast(pl.Float64), y=pl.col("lift").sum(), documents=pl.col("new").sum())
    )
    count = len(documents)
    print(f"{count:,} documents of {asked.store} that are {asked.kind} and predicted so, seed {asked.seed}\n")
    names = (
        "question", "dealt", "draws", "words", "p < .05", "p < .001", "p < .0001", "draws with any q < .05",
        "words with q < .05", "factor", "s a draw",
    )  # fmt: skip
    print(f"| {' | '.join(names)} |")
    print("|---" * len(names) + "|")
    for item in asked.asked.split(","):
        name, *given = item.split()
        question = questions[name]
        twin = module(question)
        p, _ = bound(store, question, {"limit": 10**9} | dict(one.split("=") for one in given))
        for share in map(float, asked.shares.split(",")):
            chance = np.random.default_rng(asked.seed)
            found, families, factors, began = [], [], [], time.perf_counter()
            for _ in range(asked.draws):
                wrong = np.zeros(count, bool)
                wrong[chance.permutation(count)[: round(share * count)]] = True
                kinds = pl.lit("one") if name == "errors" else pl.Series(np.where(wrong, "one", "other"))
                judged = documents.lazy().with_columns(kinds.alias("class"), wrong=pl.Series(wrong))
                answer = twin.compared(judged, uses, None, p, once).filter(pl.col("class") == "one").collect()
                found.append(answer["p"].drop_nulls().to_numpy())
                families.append(int((answer["q"] < 0.05).sum()))
                factors.append(float(answer["factor"][0]))
            every = np.concatenate(found)
            cells = (
                item, f"{share:.0%} : {1 - share:.0%}", asked.draws, f"{len(found[0]):,}",
                f"{(every < 0.05).mean():.4f}", f"{(every < 0.001).mean():.5f}", f"{(every < 0.0001).mean():.6f}",
                np.count_nonzero(families), sum(families), f"{np.mean(factors):.4f} ± {np.std(factors):.4f}",
                f"{(time.perf_counter() - began) / asked.draws:.1f}",
            )  # fmt: skip
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
