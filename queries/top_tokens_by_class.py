"""The Polars twin of top_tokens_by_class.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.statistics import cluster_sums, interval, ratio_error
from attnstore.terms import leading, support


def answer(documents: pl.LazyFrame, tokens: pl.LazyFrame, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the column `class`, `tokens` has `class` and `attention`; `p` holds the parameters."""
    text = pl.col("token").cast(pl.String)
    listed = (
        (pl.lit(p["specials"] == "in") | ~pl.col("special"))
        & (pl.lit(p["punctuation"] == "in") | text.str.contains(r"[^\P{L}ĠĊ]|\p{N}"))
        & ~text.is_in(p["ignore"])
    )
    rows = tokens.filter(pl.col("class").is_not_null(), pl.col("attention").is_not_null())
    if p["renormalise"]:
        # As if the unlisted tokens had never been in their document.
        rows = rows.filter(listed)
        remaining = rows.group_by("document").agg(mass=pl.col("attention").sum(), length=pl.len())
        rows = (
            rows.drop("length")
            .join(remaining.filter(pl.col("mass") != 0), on="document")
            .with_columns(attention=pl.col("attention") / pl.col("mass"))
        )
    if p["intervals"]:
        rows = rows.join(documents.select("document", "cluster"), on="document")
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
            occurrences=pl.len().cast(pl.Int64),
            total=pl.col("attention").sum(),
            mass=pl.col("attention").sum(),
            lift=(pl.col("attention") * pl.col("length")).sum(),
        )
        .group_by("class", "token")
        .agg(
            pl.col("documents", "occurrences", "total", "mass", "lift").sum(),
            special=pl.col("special").any(),
            **cluster_sums(lift, n),
        )
        .with_columns(
            pl.col("class").cast(pl.String),
            text,
            mean_attention=pl.col("mass") / n,
            lift=mean,
            error=ratio_error(mean, n),
            share=pl.when(whole != 0).then(pl.col("mass") / whole),
        )
        .join(support(documents, p), on="class")
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
        )
    )
