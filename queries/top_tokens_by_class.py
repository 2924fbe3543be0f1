"""The Polars twin of top_tokens_by_class.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl


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
    support = documents.group_by("class").agg(
        least=pl.max_horizontal(5, (pl.len().cast(pl.Int64) + 199) // 200)
        if p["min_documents"] is None
        else pl.lit(p["min_documents"])
    )
    return (
        rows.group_by("class", "token")
        .agg(
            special=pl.col("special").any(),
            documents=pl.col("new_token").sum().cast(pl.Int64),
            occurrences=pl.len().cast(pl.Int64),
            mass=pl.col("attention").sum(),
            lift=(pl.col("attention") * pl.col("length")).sum(),
        )
        .with_columns(
            pl.col("class").cast(pl.String),
            text,
            mean_attention=pl.col("mass") / pl.col("occurrences"),
            lift=pl.col("lift") / pl.col("occurrences"),
            share=pl.col("mass") / pl.col("mass").sum().over("class"),
        )
        .join(support.with_columns(pl.col("class").cast(pl.String)), on="class")
        .filter(listed, pl.col("documents") >= pl.col("least"))
        .with_columns(rank=pl.col(p["rank_by"]).cast(pl.Float32))
        .sort("class", "rank", "documents", "token", descending=[False, True, True, False])
        .filter(pl.int_range(pl.len()).over("class") < p["limit"])
        .select("class", "token", "documents", "occurrences", "mean_attention", "lift", "share")
    )
