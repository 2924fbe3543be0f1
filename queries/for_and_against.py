"""The Polars twin of for_and_against.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import cluster_sums, margin, ratio_error
from attnstore.ask.terms import is_listed, support
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the columns `class` and `cluster`, `tokens` has `class` and `attention`; `p` the parameters."""
    evidence, half = pl.col("evidence"), pl.col("half")
    sure = (
        pl.when(not p["intervals"])
        .then(None)
        .when(half.is_null())
        .then(0.0)
        .when(evidence > 0)
        .then((evidence - half).clip(lower_bound=0))
        .otherwise((evidence + half).clip(upper_bound=0))
    )
    rank = pl.col("sure") if p["rank_by"] == "sure" and p["intervals"] else evidence
    return (
        _by_word(tables, p)
        .join(support(tables.documents, p), on="class")
        .filter(evidence != 0, pl.col("documents") >= pl.col("least"))
        .with_columns(
            low=evidence - half,
            high=evidence + half,
            sure=sure,
            side=pl.when(evidence > 0).then(pl.lit("for")).otherwise(pl.lit("against")),
        )
        .with_columns(rank=rank.abs().cast(pl.Float32))
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


def _by_word(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """One row per class and word, with counts and mean. Without intervals, from the totals, and null for clusters."""
    word, y, n = pl.col("word").cast(pl.String), pl.col("y"), pl.col("n")
    rows = tables.tokens if p["intervals"] else tables.totals
    listed = rows.filter(
        ~pl.col("special"),
        pl.col("class").is_not_null(),
        pl.col("attention").is_not_null(),
        is_listed(word, p),
    ).with_columns(pl.col("class").cast(pl.String), word=word)
    if not p["intervals"]:
        starts = pl.when(pl.col("piece") == 0).then(pl.col("occurrences")).otherwise(0)
        nothing = pl.lit(None, dtype=pl.Float64)
        return (
            listed.group_by("class", "word")
            .agg(y=pl.col("attention").sum(), n=starts.sum(), documents=pl.col("new_word").sum())
            .select(
                "class",
                "word",
                "documents",
                "n",
                units=pl.lit(None, dtype=pl.Int64),
                evidence=y / n,
                half=nothing,
                share_for=nothing,
            )
        )
    return (
        listed.group_by("class", "document", "word", start=pl.col("position") - pl.col("piece"))
        .agg(evidence=pl.col("attention").sum(), is_new=pl.col("new_word").any())
        .join(tables.documents.select("document", "cluster"), on="document")
        .group_by("class", "word", "cluster")
        .agg(
            y=pl.col("evidence").sum(),
            n=pl.len().cast(pl.Int64),
            positive=(pl.col("evidence") > 0).sum().cast(pl.Int64),
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
        .with_columns(half=margin(ratio_error(pl.col("evidence"), n)))
    )
