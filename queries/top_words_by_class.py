"""The Polars twin of top_words_by_class.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl


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
    return (
        rows.group_by("class", "word")
        .agg(
            documents=pl.col("new").sum().cast(pl.Int64),
            occurrences=pl.col("starts").sum().cast(pl.Int64),
            total=pl.col("attention").sum(),
            mass=merged.sum(),
            lift=pl.col("lift").sum(),
        )
        .with_columns(
            pl.col("class").cast(pl.String),
            text,
            mean_attention=pl.col("mass") / pl.col("occurrences"),
            lift=pl.col("lift") / pl.col("occurrences"),
            share=pl.col("mass") / pl.col("total").sum().over("class"),
        )
        .join(support.with_columns(pl.col("class").cast(pl.String)), on="class")
        .filter(listed, pl.col("documents") >= pl.col("least"), pl.col("occurrences") > 0)
        .with_columns(rank=pl.col(p["rank_by"]).cast(pl.Float32))
        .sort("class", "rank", "documents", "word", descending=[False, True, True, False])
        .filter(pl.int_range(pl.len()).over("class") < p["limit"])
        .select("class", "word", "documents", "occurrences", "mean_attention", "lift", "share")
    )
