"""The Polars twin of for_and_against.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import cluster_sums, margin, ratio_error
from attnstore.ask.terms import is_listed, support
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the columns `class` and `cluster`, `tokens` has `class` and `attention`; `p` the parameters."""
    word = pl.col("word").cast(pl.String)
    y, n, evidence, half = pl.col("y"), pl.col("n"), pl.col("evidence"), pl.col("half")
    rank = pl.when(p["rank_by"] == "sure").then(pl.col("sure")).otherwise(evidence).abs().cast(pl.Float32)
    return (
        tables.tokens.filter(
            ~pl.col("special"),
            pl.col("class").is_not_null(),
            pl.col("attention").is_not_null(),
            is_listed(word, p),
        )
        .group_by(
            pl.col("class").cast(pl.String), "document", word, start=pl.col("position") - pl.col("piece")
        )
        .agg(evidence=pl.col("attention").sum(), is_new=pl.col("new_word").any())
        .join(tables.documents.select("document", "cluster"), on="document")
        .group_by("class", "word", "cluster")
        .agg(
            y=evidence.sum(),
            n=pl.len().cast(pl.Int64),
            positive=(evidence > 0).sum().cast(pl.Int64),
            documents=pl.col("is_new").sum().cast(pl.Int64),
        )
        .group_by("class", "word")
        .agg(
            **cluster_sums(y, n),
            units=pl.len().cast(pl.Int64),
            evidence=y.sum() / n.sum(),
            share_for=pl.col("positive").sum() / n.sum(),
            n=n.sum(),
            documents=pl.col("documents").sum(),
        )
        .join(support(tables.documents, p), on="class")
        .filter(evidence != 0, pl.col("documents") >= pl.col("least"))
        .with_columns(error=ratio_error(evidence, n))
        .with_columns(half=margin(pl.col("error")))
        .with_columns(
            low=evidence - half,
            high=evidence + half,
            sure=pl.when(half.is_null())
            .then(0.0)
            .when(evidence > 0)
            .then((evidence - half).clip(lower_bound=0))
            .otherwise((evidence + half).clip(upper_bound=0)),
            side=pl.when(evidence > 0).then(pl.lit("for")).otherwise(pl.lit("against")),
        )
        .with_columns(rank=rank)
        .sort(
            "class",
            "side",
            "rank",
            "documents",
            "word",
            descending=[False, True, True, True, False],
            nulls_last=True,
        )
        .filter(pl.int_range(pl.len()).over("class", "side") < p["limit"])
        .select(
            "class",
            "side",
            "word",
            "documents",
            occurrences="n",
            clusters="units",
            evidence="evidence",
            low="low",
            high="high",
            sure="sure",
            share_for="share_for",
        )
    )
