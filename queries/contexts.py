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
        .select("document", "position", start, number=pl.int_range(1, pl.len() + 1).over("document"))
    )
    seen = theirs.group_by("document").agg(seen=pl.col("end").max())
    # A word that begins before the document's first whole word has no number.
    placed = best.join(
        numbered.drop("start"),
        left_on=["document", "place"],
        right_on=["document", "position"],
        how="left",
    ).with_columns(
        before=pl.col("number").fill_null(0) - p["width"],
        after=pl.col("number").fill_null(0) + p["width"] + 1,
    )

    def bound(name: str) -> pl.LazyFrame:
        return numbered.select("document", start.alias(f"{name}_start"), pl.col("number").alias(name))

    begins = pl.col("before_start").fill_null(0)
    ends = pl.coalesce("after_start", "seen")
    finish = pl.col("finish")

    def text(begin: pl.Expr, end: pl.Expr) -> pl.Expr:
        return pl.col("text").str.slice(begin, (end - begin).clip(lower_bound=0))

    def collapsed(part: pl.Expr) -> pl.Expr:
        return part.str.replace_all(r"[ \t\r\n]+", " ").str.strip_chars(" ")

    return (
        placed.join(seen, on="document")
        .join(bound("before"), on=["document", "before"], how="left")
        .join(bound("after"), on=["document", "after"], how="left")
        .join(tables.documents.drop("class"), on="document")
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
