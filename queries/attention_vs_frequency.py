"""The Polars twin of attention_vs_frequency.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import margin
from attnstore.ask.terms import is_listed, leading, support
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has `class` and `cluster`, `tokens` has `class` and `attention`; `p` holds the parameters."""
    n, a = pl.col("tokens"), pl.col("attention")
    # A cluster's part in a class by its number: grouping by fewer and shorter keys is faster.
    parts = tables.documents.filter(pl.col("class").is_not_null()).select(
        "document", "class", part=pl.struct(pl.col("class").cast(pl.String), "cluster").rank("dense")
    )
    gathered = (
        tables.tokens.filter(a.is_not_null())
        .join(parts.select("document", "part"), on="document")
        .group_by("part", "word")
        .agg(
            documents=pl.col("new_word").sum().cast(pl.Int64),
            occurrences=(pl.col("piece") == 0).sum().cast(pl.Int64),
            tokens=pl.len().cast(pl.Int64),
            attention=a.sum(),
        )
    )
    all_tokens, all_attention = n.sum().over("class"), a.sum().over("class")
    # What each cluster adds to the log ratio through the totals.
    whole = n / all_tokens - pl.when(all_attention != 0).then(a / all_attention)
    drawn = (
        gathered.group_by("part")
        .agg(n.sum(), a.sum())
        .join(parts.select("part", "class").unique(), on="part")
        .select("class", "part", all_tokens=all_tokens, all_attention=all_attention, whole=whole)
        .with_columns(squares=(pl.col("whole") ** 2).sum().over("class"))
    )
    # Σ (a/A − n/N + whole)² over the clusters, expanded; rounding must not make it negative.
    spread = (
        pl.col("aa") / a**2
        - 2 * pl.col("an") / a / n
        + pl.col("nn") / n**2
        + 2 * (pl.col("aw") / a - pl.col("nw") / n)
        + pl.col("squares")
    ).clip(lower_bound=0)
    clusters, ratio = pl.col("clusters"), pl.col("ratio")
    error = pl.when((a > 0) & (pl.col("all_attention") > 0)).then((spread * clusters / (clusters - 1)).sqrt())
    half = margin(pl.col("error"))
    share = pl.when(pl.col("all_attention") != 0).then(a / pl.col("all_attention"))

    def rank(column: str) -> pl.Expr:
        # Nulls have no rank and come last.
        ranked = pl.col(column).cast(pl.Float32).rank("min", descending=True)
        return ranked.fill_null(pl.col(column).count() + 1).over("class").cast(pl.Int64)

    return (
        gathered.filter(pl.col("word").is_not_null())
        .join(drawn, on="part")
        .group_by("class", "word")
        .agg(
            pl.col("documents", "occurrences", "tokens", "attention").sum(),
            pl.col("all_tokens", "all_attention", "squares").first(),
            # As many clusters of equal size as weigh as much (Kish); fewer than two give no error.
            clusters=pl.when(n.sum() ** 2 >= 2 * (n * n).sum()).then(n.sum() ** 2 / (n * n).sum()),
            aa=(a * a).sum(),
            an=(a * n).sum(),
            nn=(n * n).sum(),
            aw=(a * pl.col("whole")).sum(),
            nw=(n * pl.col("whole")).sum(),
        )
        .with_columns(pl.col("class", "word").cast(pl.String))
        .join(support(tables.documents, p), on="class")
        .filter(
            is_listed(pl.col("word"), p), pl.col("documents") >= pl.col("least"), pl.col("occurrences") > 0
        )
        .with_columns(share_of_attention=share, share_of_tokens=n / pl.col("all_tokens"), error=error)
        .with_columns(ratio=pl.col("share_of_attention") / pl.col("share_of_tokens"))
        .with_columns(
            low=ratio * (-half).exp(),
            high=ratio * half.exp(),
            frequency_rank=rank("share_of_tokens"),
            attention_rank=rank("share_of_attention"),
            rank=ratio if p["order"] == "most" else -ratio,
        )
        .pipe(leading, p["limit"], "word")
        .select(
            "class",
            "word",
            "documents",
            "occurrences",
            "share_of_attention",
            "share_of_tokens",
            "ratio",
            "low",
            "high",
            "frequency_rank",
            "attention_rank",
        )
    )
