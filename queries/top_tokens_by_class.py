"""The Polars twin of top_tokens_by_class.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import cluster_sums, interval, ratio_error
from attnstore.ask.terms import leading, percentile, support
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the column `class`, `tokens` has `class` and `attention`; `p` holds the parameters."""
    text = pl.col("token").cast(pl.String)
    listed = (
        (pl.lit(p["specials"] == "in") | ~pl.col("special"))
        & (pl.lit(p["punctuation"] == "in") | text.str.contains(r"[^\P{L}ĠĊ]|\p{N}"))
        & ~text.is_in(p["ignore"])
    )
    considered = (pl.col("class").is_not_null(), pl.col("attention").is_not_null())
    ranks = p["rank_by"] == "percentile"
    if p["intervals"] or p["renormalise"] or ranks:
        rows = tables.tokens.filter(*considered).with_columns(occurrences=pl.lit(1, dtype=pl.Int64))
        if p["renormalise"]:
            # As if the unlisted tokens had never been in the document.
            rows = rows.filter(listed)
            remaining = rows.group_by("document").agg(mass=pl.col("attention").sum(), length=pl.len())
            rows = (
                rows.drop("length")
                .join(remaining.filter(pl.col("mass") != 0), on="document")
                .with_columns(attention=pl.col("attention") / pl.col("mass"))
            )
        rows = rows.with_columns(
            lift=pl.col("attention") * pl.col("length"),
            percentile=percentile() if ranks else pl.lit(None, dtype=pl.Float64),
        )
    else:
        rows = tables.totals.filter(*considered).with_columns(
            lift=pl.col("attention_lift"), percentile=pl.lit(None, dtype=pl.Float64)
        )
    if p["intervals"]:
        rows = rows.join(tables.documents.select("document", "cluster"), on="document")
    else:
        rows = rows.with_columns(cluster=pl.lit(None, dtype=pl.Int32))
    n, lift, shrinkage = pl.col("occurrences"), pl.col("lift"), p["shrinkage"]
    mean = lift / n
    whole = pl.col("total").sum().over("class")
    class_lift = (lift * n).sum().over("class") / n.sum().over("class")
    return (
        rows.group_by("class", "cluster", "token")
        .agg(
            special=pl.col("special").any(),
            documents=pl.col("new_token").sum().cast(pl.Int64),
            occurrences=pl.col("occurrences").sum(),
            total=pl.col("attention").sum(),
            mass=pl.col("attention").sum(),
            lift=pl.col("lift").sum(),
            percentile=pl.col("percentile").sum(),
        )
        .group_by("class", "token")
        .agg(
            pl.col("documents", "occurrences", "total", "mass", "lift", "percentile").sum(),
            special=pl.col("special").any(),
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
        .filter(listed, pl.col("documents") >= pl.col("least"))
        .with_columns(
            **interval(lift, pl.col("error")), shrunk=(lift * n + class_lift * shrinkage) / (n + shrinkage)
        )
        .with_columns(rank=pl.col(p["rank_by"]))
        .pipe(leading, p["limit"], "token")
        .select(
            "class",
            "token",
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
