"""The Polars twin of find_documents.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.terms import beginning
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`tokens` has the column `attention`; `p` holds the parameters."""
    a = pl.col("attention")
    terms = pl.when(a > 0).then(a * pl.when(a > 0).then(a).log()).otherwise(0)
    known = (a.count() > 0) & (a.min() >= 0) & (a.sum() > 0)
    measured = (
        tables.tokens.filter(pl.lit(p["specials"] == "in") | pl.col("special").not_())
        .group_by("document")
        # For a single token it is exactly 0, despite rounding.
        .agg(entropy=pl.when(known).then((a.sum().log() - terms.sum() / a.sum()).clip(lower_bound=0)))
    )
    prediction = pl.col("prediction").cast(pl.String)
    right = pl.col("label") == prediction
    conditions = [pl.col("length") >= p["min_length"]]
    if p["outcome"] != "any":
        conditions.append(pl.lit(p["labels_are_models"]) & (right == (p["outcome"] == "right")))
    if p["prediction"] is not None:
        conditions.append(prediction == p["prediction"])
    if p["label"] is not None:
        conditions.append(pl.col("label") == p["label"])
    if p["max_length"] is not None:
        conditions.append(pl.col("length") <= p["max_length"])
    probabilities = pl.col("probabilities").list.eval(pl.element().sort(descending=True))
    next_one = probabilities.list.get(1, null_on_oob=True).cast(pl.Float64).fill_null(0)
    rank = {
        "certain": pl.col("margin"),
        "uncertain": -pl.col("margin"),
        "concentrated": -pl.col("entropy"),
        "spread": pl.col("entropy"),
        "longest": pl.col("length"),
        "shortest": -pl.col("length"),
    }[p["sort"]]
    return (
        tables.documents.filter(*conditions)
        .join(measured, on="document", how="left")
        .select(
            "document",
            "id",
            "split",
            "label",
            prediction,
            "probability",
            (probabilities.list.get(0).cast(pl.Float64) - next_one).alias("margin"),
            "length",
            "truncated",
            "entropy",
            pl.col("entropy").exp().alias("effective_tokens"),
            beginning(),
        )
        .with_columns(rank=rank.cast(pl.Float32))
        .sort("rank", "document", descending=[True, False], nulls_last=True)
        .head(min(p["limit"], 2**31))  # Polars counts rows with 32 bits
        .drop("rank")
    )
