"""The Polars twin of contexts.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`tokens` has the columns `class` and `attention`; `p` holds the parameters."""
    lift, start = pl.col("lift"), pl.col("start")
    best = (
        tables.tokens.filter(
            pl.col("word") == p["word"], pl.col("class").is_not_null(), pl.col("attention").is_not_null()
        )
        .group_by("class", "document", place=pl.col("position") - pl.col("piece"))
        .agg(
            start.min(),
            segment=pl.col("segment").first(),
            finish=pl.col("end").max(),
            attention=pl.col("attention").sum(),
            lift=(pl.col("attention") * pl.col("length") / pl.col("pieces")).sum(),
        )
        .with_columns(
            pl.col("class").cast(pl.String),
            rank=(lift if p["order"] == "most" else -lift).cast(pl.Float32),
        )
        .sort("class", "rank", "document", "place", descending=[False, True, False, False])
        .filter(pl.int_range(pl.len()).over("class") < p["limit"])
    )
    theirs = tables.tokens.join(best.select("document").unique(), on="document")
    numbered = (
        theirs.filter(pl.col("piece") == 0)
        .sort("document", "position")
        .select(
            *("document", "segment", "position"),
            start,
            number=pl.int_range(1, pl.len() + 1).over("document", "segment"),
        )
    )
    seen = theirs.group_by("document", "segment").agg(seen=pl.col("end").max())
    # A word that begins before the document's first whole word has no number.
    placed = best.join(
        numbered.drop("start", "segment"),
        left_on=["document", "place"],
        right_on=["document", "position"],
        how="left",
    ).with_columns(
        before=pl.col("number").fill_null(0) - p["width"],
        after=pl.col("number").fill_null(0) + p["width"] + 1,
    )

    def bound(name: str) -> pl.LazyFrame:
        number = pl.col("number").alias(name)
        return numbered.select("document", "segment", start.alias(f"{name}_start"), number)

    begins = pl.col("before_start").fill_null(0)
    ends = pl.coalesce("after_start", "seen")
    finish = pl.col("finish")

    def text(begin: pl.Expr, end: pl.Expr) -> pl.Expr:
        mine = pl.when(pl.col("segment") == 1).then("text_pair").otherwise("text")
        return mine.str.slice(begin, (end - begin).clip(lower_bound=0))

    def collapsed(part: pl.Expr) -> pl.Expr:
        return part.str.replace_all(r"[ \t\r\n]+", " ").str.strip_chars(" ")

    return (
        placed.join(seen, on=["document", "segment"])
        .join(bound("before"), on=["document", "segment", "before"], how="left")
        .join(bound("after"), on=["document", "segment", "after"], how="left")
        .join(
            tables.documents.select("document", "id", "label", "prediction", "text", "text_pair"),
            on="document",
        )
        .sort("class", "rank", "document", "place", descending=[False, True, False, False])
        .select(
            "class",
            "document",
            "id",
            "label",
            pl.col("prediction").cast(pl.String),
            collapsed(text(begins, start)).alias("left"),
            text(start, finish).alias("keyword"),
            collapsed(text(finish, ends)).alias("right"),
            "attention",
            "lift",
        )
    )
