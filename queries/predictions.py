"""The Polars twin of predictions.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """The question has no parameters; `p` has the store's own facts."""
    gold = pl.col("label") if p["labels_are_models"] else pl.lit(None, dtype=pl.String)
    of_splits = (
        tables.documents.select("split", pl.col("prediction").cast(pl.String), "truncated", gold=gold)
        .group_by("split", "prediction", "gold")
        .agg(documents=pl.len().cast(pl.Int64), truncated=pl.col("truncated").sum().cast(pl.Int64))
    )
    cells = pl.concat([of_splits.with_columns(split=pl.lit(None, dtype=pl.String)), of_splits])
    names = [cells.select(name="prediction"), cells.select(name="gold").drop_nulls()]
    classes = pl.concat(names).unique().rename({"name": "class"})

    def count(condition: pl.Expr, of: str = "documents") -> pl.Expr:
        return pl.col(of).filter(condition).sum()

    predicted, labelled = pl.col("prediction") == pl.col("class"), pl.col("gold") == pl.col("class")
    per_class = (
        cells.join(classes, how="cross")
        .group_by("split", "class")
        .agg(
            predicted=count(predicted),
            labelled=count(labelled),
            correct=count(predicted & labelled),
            false_positives=count(predicted & ~labelled),  # a null label makes this null, which is no match
            false_negatives=count(~predicted & labelled),
            truncated=count(predicted, of="truncated"),
        )
    )
    all_classes = cells.group_by("split").agg(
        predicted=pl.col("documents").sum(),
        labelled=count(pl.col("gold").is_not_null()),
        correct=count(pl.col("prediction") == pl.col("gold")),
        truncated=pl.col("truncated").sum(),
    )

    def ratio(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
        return pl.when(whole > 0).then(part / whole)

    correct, falsely, missed = pl.col("correct"), pl.col("false_positives"), pl.col("false_negatives")
    return (
        pl.concat([all_classes, per_class], how="diagonal")
        .sort("split", "class")  # nulls first
        .select(
            "split",
            "class",
            "predicted",
            "labelled",
            "correct",
            pl.when(pl.col("class").is_null()).then(ratio(correct, pl.col("labelled"))).alias("accuracy"),
            "false_positives",
            "false_negatives",
            ratio(correct, correct + falsely).alias("precision"),
            ratio(correct, correct + missed).alias("recall"),
            ratio(2 * correct, 2 * correct + falsely + missed).alias("f1"),
            "truncated",
        )
    )
