"""The Polars twin of top_words_by_class.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import cluster_sums, interval, ratio_error
from attnstore.ask.terms import is_listed, leading, occurrences, percentile, summed_occurrences, support
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the column `class`, `tokens` has `class` and `attention`; `p` holds the parameters."""
    text = pl.col("word").cast(pl.String)
    considered = (pl.col("class").is_not_null(), pl.col("attention").is_not_null())
    ranks = p["rank_by"] == "percentile"
    if p["intervals"] or p["renormalise"] or ranks:
        rows = occurrences(tables.tokens.filter(*considered), p, "class")
    else:
        rows = summed_occurrences(tables.totals.filter(*considered), p, "class")
    rows = rows.with_columns(percentile=percentile() if ranks else pl.lit(None, dtype=pl.Float64))
    merged = pl.col("attention") if p["pieces"] == "sum" else pl.col("attention") / pl.col("pieces")
    if p["intervals"]:
        rows = rows.join(tables.documents.select("document", "cluster"), on="document")
    else:
        rows = rows.with_columns(cluster=pl.lit(None, dtype=pl.Int32))
    n, lift, shrinkage = pl.col("occurrences"), pl.col("lift"), p["shrinkage"]
    mean = lift / n
    whole = pl.col("total").sum().over("class")
    class_lift = (lift * n).sum().over("class") / n.sum().over("class")
    return (
        rows.group_by("class", "cluster", "word")
        .agg(
            documents=pl.col("new").sum().cast(pl.Int64),
            occurrences=pl.col("starts").sum().cast(pl.Int64),
            total=pl.col("attention").sum(),
            mass=merged.sum(),
            lift=pl.col("lift").sum(),
            percentile=(pl.col("percentile") / pl.col("pieces")).sum(),
        )
        .group_by("class", "word")
        .agg(
            pl.col("documents", "occurrences", "total", "mass", "lift", "percentile").sum(),
            lowest=lift.min(),
            **cluster_sums(lift, n),
        )
        .with_columns(
            pl.col("class").cast(pl.String),
            text,
            mean_attention=pl.col("mass") / n,
            lift=mean,
            percentile=pl.when(ranks).then(pl.col("percentile") / n),
            error=ratio_error(mean, n),
            share=pl.when(whole != 0).then(pl.col("mass") / whole),
        )
        .join(support(tables.documents, p), on="class")
        .filter(
            is_listed(pl.col("word"), p), pl.col("documents") >= pl.col("least"), pl.col("occurrences") > 0
        )
        .with_columns(
            **interval(lift, pl.col("error")), shrunk=(lift * n + class_lift * shrinkage) / (n + shrinkage)
        )
        .with_columns(rank=pl.col(p["rank_by"]))
        .pipe(leading, p["limit"], "word")
        .select(
            "class",
            "word",
            "documents",
            "occurrences",
            "mean_attention",
            "lift",
            "low",
            "high",
            "shrunk",
            "share",
            "percentile",
        )
    )
