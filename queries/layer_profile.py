"""The Polars twin of layer_profile.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import cluster_sums, interval, ratio_error
from attnstore.ask.terms import is_listed, layer_columns, leading, support
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has `class` and `cluster`, `tokens` `class` and `attention_01` ...; `p` holds the parameters."""
    columns = layer_columns(tables.tokens)
    n, word = pl.col("occurrences"), pl.col("word")
    given = pl.lit(bool(p["words"]))
    considered = [
        pl.col("class").is_not_null(),
        word.is_not_null(),
        *(pl.col(c).is_not_null() for c in columns),
    ]
    if p["words"]:
        considered.append(word.is_in(p["words"]))
    rows = tables.tokens.filter(considered)
    sums = [
        pl.col("new_word").sum().cast(pl.Int64).alias("documents"),
        (pl.col("piece") == 0).sum().cast(pl.Int64).alias("occurrences"),
        *((pl.col(name) * pl.col("length") / pl.col("pieces")).sum() for name in columns),
    ]
    listed = (pl.col("documents") >= pl.col("least")) & is_listed(word, p)
    lift = pl.mean_horizontal(columns) / n
    spread = (pl.max_horizontal(columns) - pl.min_horizontal(columns)) / n
    chosen = (
        tables.totals.filter(considered)
        .group_by("class", "word")
        .agg(
            pl.col("new_word").sum().alias("documents"),
            pl.col("occurrences").filter(pl.col("piece") == 0).sum(),
            *((pl.col(f"{name}_lift") / pl.col("pieces")).sum().alias(name) for name in columns),
        )
        .with_columns(pl.col("class", "word").cast(pl.String), of="class", term="word")
        .join(support(tables.documents, p), on="class")
        .filter(n > 0, given | listed)
        .with_columns(rank=lift if p["rank_by"] == "lift" else spread)
        .pipe(leading, None if p["words"] else p["limit"], "word")
        .select("of", "term", place=pl.int_range(pl.len()).over("class"))
    )
    gathered = (
        rows.join(chosen, left_on=["class", "word"], right_on=["of", "term"])
        .join(tables.documents.select("document", "cluster"), on="document")
        .group_by("class", "cluster", "word", "place")
        .agg(sums)
        .with_columns(pl.col("class", "word").cast(pl.String))
    )
    per_layer = len(columns) == p["layers"]
    layered = pl.concat(
        gathered.select(
            "class",
            "word",
            "place",
            "documents",
            "occurrences",
            "cluster",
            layer=pl.lit(number if per_layer else None, dtype=pl.Int32),
            lift=pl.col(name),
        )
        for number, name in enumerate(columns, start=1)
    )
    mean = pl.col("lift")
    return (
        layered.group_by("class", "word", "place", "layer")
        .agg(
            pl.col("documents", "occurrences").sum(),
            lift=mean.sum() / n.sum(),
            lowest=mean.min(),
            **cluster_sums(mean, n),
        )
        .with_columns(error=ratio_error(mean, n))
        .with_columns(**interval(mean, pl.col("error")))
        .sort("class", "place", "layer")
        .select("class", "word", "layer", "documents", "occurrences", "lift", "low", "high")
    )
