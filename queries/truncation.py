"""The Polars twin of truncation.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the column `class`; `p` holds the store's facts."""
    text = pl.col("text").str.len_chars().cast(pl.Int64)
    second = pl.col("text_pair").str.len_chars().cast(pl.Int64).fill_null(0)
    gold = pl.col("label") if p["labels_are_models"] else pl.lit(None, dtype=pl.String)

    def behind(text: str, seen: str) -> pl.Expr:
        """The number of characters after the last token of a text; 0 if they are only white space."""
        last = pl.col(seen).fill_null(0)
        is_blank = pl.col(text).str.slice(last).str.contains(r"\A[ \t\r\n]*\z")
        return pl.when(is_blank).then(0).otherwise(pl.col(text).str.len_chars().cast(pl.Int64) - last)

    beyond = {
        "tail": pl.col("first").fill_null(text),
        "head+tail": pl.col("skipped").fill_null(0),
    }.get(p["long"], behind("text", "seen") + behind("text_pair", "seen_of_second").fill_null(0))
    hidden = pl.when("truncated").then(beyond.cast(pl.Int64)).otherwise(0)
    of_text = tables.tokens.filter(~pl.col("special")).sort("document", "position")
    gaps = of_text.select("document", skipped=pl.col("start") - pl.col("end").shift().over("document"))
    skipped = gaps.group_by("document").agg(pl.col("skipped").max())
    if p["long"] != "head+tail":
        skipped = skipped.clear()
    first = pl.col("start").filter(~pl.col("special")).min()
    is_second = pl.col("segment").eq_missing(1)
    seen = tables.tokens.group_by("document").agg(
        seen=pl.col("end").filter(~is_second).max(),
        seen_of_second=pl.col("end").filter(is_second).max(),
        first=first,
    )
    measured = (
        tables.documents.join(seen, on="document", how="left")
        .join(skipped, on="document", how="left")
        .select(
            pl.col("class").cast(pl.String),
            "truncated",
            "length",
            characters=text + second,
            hidden=hidden,
            labelled=gold.is_not_null(),
            correct=(gold == pl.col("prediction")).fill_null(False),
        )
    )

    def counted(every: bool, whole: bool) -> pl.LazyFrame:
        no_class, no_cut = pl.lit(None, dtype=pl.String), pl.lit(None, dtype=pl.Boolean)
        return (
            measured.filter(pl.lit(every) | pl.col("class").is_not_null())
            .with_columns(
                **({"class": no_class} if every else {}), **({"truncated": no_cut} if whole else {})
            )
            .group_by("class", "truncated")
            .agg(
                every=pl.lit(every),
                whole=pl.lit(whole),
                documents=pl.len().cast(pl.Int64),
                tokens=pl.col("length").sum().cast(pl.Int64),
                characters=pl.col("characters").sum(),
                hidden=pl.col("hidden").sum(),
                labelled=pl.col("labelled").sum().cast(pl.Int64),
                correct=pl.col("correct").sum().cast(pl.Int64),
            )
        )

    def part(of: str, all_: str) -> pl.Expr:
        return pl.when(pl.col(all_) > 0).then(pl.col(of) / pl.col(all_))

    return (
        pl.concat(counted(every, whole) for every in (False, True) for whole in (False, True))
        .sort("every", "class", "whole", "truncated", descending=[False, False, False, True], nulls_last=True)
        .select(
            "class",
            "truncated",
            "documents",
            "tokens",
            "characters",
            "hidden",
            part("hidden", "characters").alias("hidden_share"),
            "labelled",
            "correct",
            part("correct", "labelled").alias("accuracy"),
        )
    )
