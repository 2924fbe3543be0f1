"""The Polars twin of position_profile.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`tokens` has the columns `class` and `attention`; `p` holds the parameters."""
    position, length = pl.col("position").cast(pl.Int64), pl.col("length").cast(pl.Int64)
    counted = tables.tokens.filter(
        pl.col("class").is_not_null(),
        pl.col("attention").is_not_null(),
        pl.lit(p["specials"] == "in") | pl.col("special").not_(),
    )

    def placed(order: int, part: str, place: pl.Expr, among: pl.LazyFrame) -> pl.LazyFrame:
        return among.group_by("class", place=place.cast(pl.Int32)).agg(
            order=pl.lit(order),
            part=pl.lit(part),
            documents=pl.col("document").n_unique().cast(pl.Int64),
            tokens=pl.len().cast(pl.Int64),
            mass=pl.col("attention").sum(),
            lift=(pl.col("attention") * pl.col("length")).sum(),
        )

    tenths = placed(1, "tenth", position * 10 // length + 1, counted)
    starts = placed(2, "start", position + 1, counted.filter(position < p["places"]))
    ends = placed(3, "end", length - position, counted.filter(length - position <= p["places"]))
    total = pl.col("mass").filter(pl.col("order") == 1).sum().over("class")
    return (
        pl.concat([tenths, starts, ends])
        .select(
            "class",
            "part",
            "place",
            "documents",
            "tokens",
            pl.when(total != 0).then(pl.col("mass") / total).alias("share"),
            pl.col("lift") / pl.col("tokens"),
            "order",
        )
        .sort("class", "order", "place")
        .drop("order")
    )
