"""The Polars twin of lexicon.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import cluster_sums, margin, ratio_error
from attnstore.ask.terms import is_listed, least_documents, log_odds
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the column `cluster`, `tokens` has `attention`; `p` the parameters."""
    class_, word = pl.col("prediction").cast(pl.String).alias("class"), pl.col("word").cast(pl.String)
    y, n, evidence, half, expected = (pl.col(name) for name in ("y", "n", "evidence", "half", "expected"))
    counted = (
        tables.totals.filter(pl.col("piece") == 0, pl.col("label").is_not_null(), is_listed(word, p))
        .group_by(pl.col("label").cast(pl.String).alias("class"), word)
        .agg(n=pl.col("occurrences").sum())
    )
    whole = counted.group_by("word").agg(every=n.sum())
    sizes = (
        counted.group_by("class")
        .agg(words=n.sum())
        .with_columns(o_words=pl.col("words").sum() - pl.col("words"))
    )
    support = tables.documents.group_by(class_).agg(least=least_documents(pl.len(), p))
    occurrences, odds = pl.col("occurrences"), pl.col("log_odds")

    def of_class(values: pl.Expr) -> pl.Expr:
        return values.sum().over("class")

    every = pl.col("every")
    deviation = (1 / (n + 0.01 * every) + 1 / (every - n + 0.01 * every)).sqrt()
    both = (half**2 + (1.959963984540054 * pl.col("slope").fill_null(0) * deviation) ** 2).sqrt()
    x, e = odds - pl.col("middle"), evidence - pl.col("mean_evidence")
    kept = (
        tables.tokens.filter(pl.col("attention").is_not_null(), is_listed(word, p))
        .join(tables.documents.select("document", "cluster"), on="document")
        .group_by(class_, word, "cluster")
        .agg(
            y=pl.col("attention").sum(),
            n=(pl.col("piece") == 0).sum().cast(pl.Int64),
            documents=pl.col("new_word").sum().cast(pl.Int64),
        )
        .group_by("class", "word")
        .agg(
            **cluster_sums(y, n),
            units=pl.len().cast(pl.Int64),
            evidence=y.sum() / n.sum(),
            occurrences=n.sum(),
            documents=pl.col("documents").sum(),
        )
        .join(support, on="class")
        .filter(pl.col("documents") >= pl.col("least"), occurrences > 0)
        .with_columns(half=margin(ratio_error(evidence, occurrences)))
        .join(sizes, on="class")
        .join(whole, on="word")
        .join(counted, on=["class", "word"], how="left")
        .with_columns(n.fill_null(0))
        .with_columns(o_n=pl.col("every") - n)
    )
    return (
        log_odds(kept, None)
        .filter(odds.is_not_null())
        .with_columns(
            middle=of_class(occurrences * odds) / of_class(occurrences),
            mean_evidence=of_class(occurrences * evidence) / of_class(occurrences),
        )
        .with_columns(
            xx=of_class(occurrences * x**2), xy=of_class(occurrences * x * e), ee=of_class(occurrences * e**2)
        )
        # Where all documents have one label, the log-odds are 0 but for rounding, and there is no line.
        .with_columns(xx=pl.when(pl.col("xx") > 1e-20 * of_class(occurrences)).then(pl.col("xx")))
        .with_columns(
            slope=pl.col("xy") / pl.col("xx"),
            correlation=pl.when(pl.col("xx") * pl.col("ee") != 0).then(
                pl.col("xy") / (pl.col("xx") * pl.col("ee")).sqrt()
            ),
        )
        .with_columns(expected=pl.col("mean_evidence") + pl.col("slope").fill_null(0) * x)
        .with_columns(
            residual=evidence - expected,
            side=pl.when(evidence > expected).then(pl.lit("more")).otherwise(pl.lit("less")),
        )
        .with_columns(
            sure=pl.when(half.is_null())
            .then(0.0)
            .when(evidence > expected)
            .then((pl.col("residual") - both).clip(lower_bound=0))
            .otherwise((pl.col("residual") + both).clip(upper_bound=0))
        )
        .with_columns(rank=pl.col("sure").abs().cast(pl.Float32))
        .sort("class", "side", "rank", "documents", "word", descending=[False, True, True, True, False])
        .filter(pl.int_range(pl.len()).over("class", "side") < p["limit"])
        .select(
            "class",
            "side",
            "word",
            "documents",
            "occurrences",
            "log_odds",
            "z",
            "evidence",
            (evidence - half).alias("low"),
            (evidence + half).alias("high"),
            "expected",
            "residual",
            "sure",
            "slope",
            "correlation",
            clusters="units",
        )
        .select(
            *("class", "side", "word", "documents", "occurrences", "clusters", "log_odds", "z", "evidence"),
            *("low", "high", "expected", "residual", "sure", "slope", "correlation"),
        )
    )
