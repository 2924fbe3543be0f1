"""The Polars twin of top_words_by_class.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.statistics import t_quantile


def answer(documents: pl.LazyFrame, tokens: pl.LazyFrame, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the column `class`, `tokens` has `class` and `attention`; `p` holds the parameters."""
    word, piece, new = pl.col("word"), pl.col("piece"), pl.col("new_word")
    if p["specials"] == "in":
        # A token of no word (a special one) stands for itself.
        new = new | (word.is_null() & pl.col("new_token"))
        word, piece = pl.coalesce(word, "token"), piece.fill_null(0)
    text = pl.col("word").cast(pl.String)
    listed = (
        text.is_not_null()
        & (pl.lit(p["punctuation"] == "in") | text.str.contains(r"[\p{L}\p{N}]"))
        & ~text.is_in(p["ignore"])
    )
    pieces = pl.col("pieces").fill_null(1)
    rows = tokens.filter(pl.col("class").is_not_null(), pl.col("attention").is_not_null()).select(
        "document",
        "class",
        "attention",
        word=word,
        starts=piece == 0,
        new=new,
        pieces=pieces,
        lift=pl.col("attention") * pl.col("length") / pieces,
    )
    if p["renormalise"]:
        # As if the unlisted words had never been in their document.
        rows = rows.filter(listed)
        remaining = rows.group_by("document").agg(mass=pl.col("attention").sum(), kept=pl.len())
        scaled = pl.col("attention") / pl.col("mass")
        rows = rows.join(remaining.filter(pl.col("mass") != 0), on="document").with_columns(
            attention=scaled, lift=scaled * pl.col("kept") / pl.col("pieces")
        )
    merged = pl.col("attention") if p["pieces"] == "sum" else pl.col("attention") / pl.col("pieces")
    support = documents.group_by("class").agg(
        least=pl.max_horizontal(5, (pl.len().cast(pl.Int64) + 199) // 200)
        if p["min_documents"] is None
        else pl.lit(p["min_documents"])
    )
    if p["intervals"]:
        rows = rows.join(documents.select("document", "cluster"), on="document")
    else:
        rows = rows.with_columns(cluster=pl.lit(None, dtype=pl.Int32))
    n, lift, shrinkage = pl.col("occurrences"), pl.col("lift"), p["shrinkage"]
    mean = lift / n
    # Σ (y − r · n)² over the clusters, multiplied out; rounding must not push it below 0.
    spread = (pl.col("squares") - 2 * mean * pl.col("products") + mean**2 * pl.col("counts")).clip(
        lower_bound=0
    )
    # As many clusters of equal size as weigh as much (Kish).
    several = pl.when(pl.col("cluster").count() > 1)
    margin = t_quantile(0.975, pl.col("clusters") - 1) * pl.col("error")
    class_lift = (lift * n).sum().over("class") / n.sum().over("class")
    return (
        rows.group_by("class", "cluster", "word")
        .agg(
            documents=pl.col("new").sum().cast(pl.Int64),
            occurrences=pl.col("starts").sum().cast(pl.Int64),
            total=pl.col("attention").sum(),
            mass=merged.sum(),
            lift=pl.col("lift").sum(),
        )
        .group_by("class", "word")
        .agg(
            pl.col("documents", "occurrences", "total", "mass", "lift").sum(),
            clusters=several.then(n.sum() ** 2 / (n * n).sum()),
            squares=(lift * lift).sum(),
            products=(lift * n).sum(),
            counts=(n * n).sum(),
        )
        .with_columns(
            pl.col("class").cast(pl.String),
            text,
            mean_attention=pl.col("mass") / n,
            lift=mean,
            error=(spread * pl.col("clusters") / (pl.col("clusters") - 1)).sqrt() / n,
            share=pl.col("mass") / pl.col("total").sum().over("class"),
        )
        .join(support.with_columns(pl.col("class").cast(pl.String)), on="class")
        .filter(listed, pl.col("documents") >= pl.col("least"), pl.col("occurrences") > 0)
        .with_columns(
            low=lift - margin,
            high=lift + margin,
            shrunk=(lift * n + class_lift * shrinkage) / (n + shrinkage),
        )
        .with_columns(rank=pl.col(p["rank_by"]).cast(pl.Float32))
        .sort("class", "rank", "documents", "word", descending=[False, True, True, False], nulls_last=True)
        .filter(pl.int_range(pl.len()).over("class") < p["limit"])
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
        )
    )
