"""The Polars twin of confusion.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.store.frames import Tables


def answer(tables: Tables, _p: Mapping[str, Any]) -> pl.LazyFrame:
    """The question has no parameters."""
    keys = ["split", "label", "prediction"]
    return (
        tables.documents.with_columns(pl.col("label", "prediction").cast(pl.String))
        .group_by(keys)
        .agg(
            documents=pl.len().cast(pl.Int64),
            mean_probability=pl.col("probability").cast(pl.Float64).mean(),
            truncated=pl.col("truncated").sum().cast(pl.Int64),
        )
        .with_columns(share=pl.col("documents") / pl.col("documents").sum().over("split", "label"))
        .sort(keys, nulls_last=True)
        .select(*keys, "documents", "share", "mean_probability", "truncated")
    )
