"""The Polars twin of layer_profile.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.statistics import t_quantile


def answer(documents: pl.LazyFrame, tokens: pl.LazyFrame, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has `class` and `cluster`, `tokens` `class` and `attention_01` ...; `p` holds the parameters."""
    columns = [name for name in tokens.collect_schema().names() if name.startswith("attention_")]
    columns = [name for name in columns if name.removeprefix("attention_").isdigit()]
    n, word = pl.col("occurrences"), pl.col("word")
    given = pl.lit(bool(p["words"]))
    rows = tokens.filter(
        pl.col("class").is_not_null(), word.is_not_null(), *(pl.col(c).is_not_null() for c in columns)
    ).with_columns(pl.col("class", "word").cast(pl.String))
    if p["words"]:
        rows = rows.filter(word.is_in(p["words"]))
    sums = [
        pl.col("new_word").sum().cast(pl.Int64).alias("documents"),
        (pl.col("piece") == 0).sum().cast(pl.Int64).alias("occurrences"),
        *((pl.col(name) * pl.col("length") / pl.col("pieces")).sum() for name in columns),
    ]
    support = documents.group_by(pl.col("class").cast(pl.String)).agg(
        least=pl.max_horizontal(5, (pl.len().cast(pl.Int64) + 199) // 200)
        if p["min_documents"] is None
        else pl.lit(p["min_documents"])
    )
    listed = (
        (pl.col("documents") >= pl.col("least"))
        & (pl.lit(p["punctuation"] == "in") | word.str.contains(r"[\p{L}\p{N}]"))
        & ~word.is_in(p["ignore"])
    )
    lift = pl.mean_horizontal(columns) / n
    spread = (pl.max_horizontal(columns) - pl.min_horizontal(columns)) / n
    chosen = (
        rows.group_by("class", "word")
        .agg(sums)
        .join(support, on="class")
        .filter(n > 0, given | listed)
        .with_columns(rank=(lift if p["rank_by"] == "lift" else spread).cast(pl.Float32))
        .sort("class", "rank", "documents", "word", descending=[False, True, True, False], nulls_last=True)
        .select("class", "word", place=pl.int_range(pl.len()).over("class"))
        .filter(given | (pl.col("place") < p["limit"]))
    )
    gathered = (
        rows.join(chosen, on=["class", "word"])
        .join(documents.select("document", "cluster"), on="document")
        .group_by("class", "cluster", "word", "place")
        .agg(sums)
    )
    per_layer = len(columns) == p["layers"]
    layered = pl.concat(
        gathered.select(
            "class",
            "word",
            "place",
            "documents",
            "occurrences",
            layer=pl.lit(number if per_layer else None, dtype=pl.Int32),
            lift=pl.col(name),
        )
        for number, name in enumerate(columns, start=1)
    )
    mean, clusters = pl.col("lift"), pl.col("clusters")
    # Σ (y − r · n)² over the clusters, multiplied out; rounding must not push it below 0.
    spread = (pl.col("squares") - 2 * mean * pl.col("products") + mean**2 * pl.col("counts")).clip(
        lower_bound=0
    )
    margin = t_quantile(0.975, clusters - 1) * pl.col("error")
    return (
        layered.group_by("class", "word", "place", "layer")
        .agg(
            pl.col("documents", "occurrences").sum(),
            lift=mean.sum() / n.sum(),
            # As many clusters of equal size as weigh as much (Kish).
            clusters=pl.when(pl.len() > 1).then(n.sum() ** 2 / (n * n).sum()),
            squares=(mean * mean).sum(),
            products=(mean * n).sum(),
            counts=(n * n).sum(),
        )
        .with_columns(error=(spread * clusters / (clusters - 1)).sqrt() / n)
        .with_columns(low=mean - margin, high=mean + margin)
        .sort("class", "place", "layer")
        .select("class", "word", "layer", "documents", "occurrences", "lift", "low", "high")
    )
