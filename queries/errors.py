"""The Polars twin of errors.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import q_value
from attnstore.ask.terms import compared, is_listed, leading, least_documents, occurrences
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the column `cluster`, `tokens` has `attention`; `p` holds the parameters."""
    prediction, label = pl.col("prediction").cast(pl.String), pl.col("label")
    judged = tables.documents.filter(
        pl.lit(p["labels_are_models"]), prediction.is_not_null(), label.is_not_null()
    ).select("document", "cluster", wrong=prediction != label, **{"class": pl.col("prediction")})
    considered = tables.tokens.filter(pl.lit(p["labels_are_models"]), pl.col("attention").is_not_null())
    rows = occurrences(considered, p).filter(pl.col("word").is_not_null())
    n, y, o_n, o_y = pl.col("n"), pl.col("y"), pl.col("o_n"), pl.col("o_y")
    wrong = pl.col("wrong")

    def side(of_side: pl.Expr, prefix: str) -> dict[str, pl.Expr]:
        return {
            f"{prefix}documents": (pl.col("new") & of_side).sum().cast(pl.Int64),
            f"{prefix}n": (pl.col("starts") & of_side).sum().cast(pl.Int64),
            f"{prefix}y": pl.when(of_side).then("lift").otherwise(0).sum(),
        }

    sizes = judged.group_by("class").agg(
        size=wrong.sum().cast(pl.Int64), o_size=(~wrong).sum().cast(pl.Int64)
    )
    # Each cluster's wrong documents beside its right ones (o).
    gathered = (
        rows.join(judged, on="document")
        .group_by("class", "cluster", "word")
        .agg(**side(wrong, ""), **side(~wrong, "o_"))
    )
    counts = gathered.group_by("class").agg(words=n.sum(), o_words=o_n.sum())
    if p["renormalise"]:  # which leaves words out that count; but no document where nothing is left
        counted = occurrences(considered, {**p, "renormalise": False}).join(rows, on="document", how="semi")
        counted = counted.filter(pl.col("word").is_not_null()).join(judged, on="document")
        starts = pl.col("starts").cast(pl.Int64)
        counts = counted.group_by("class").agg(
            words=starts.filter(wrong).sum(), o_words=starts.filter(~wrong).sum()
        )
    return (
        gathered.group_by("class", "word")
        .agg(
            pl.col("documents", "n", "y", "o_documents", "o_n", "o_y").sum(),
            yy=(y * y).sum(),
            yn=(y * n).sum(),
            nn=(n * n).sum(),
            o_yy=(o_y * o_y).sum(),
            o_yn=(o_y * o_n).sum(),
            o_nn=(o_n * o_n).sum(),
            y_o_y=(y * o_y).sum(),
            y_o_n=(y * o_n).sum(),
            n_o_y=(n * o_y).sum(),
            n_o_n=(n * o_n).sum(),
        )
        .join(sizes, on="class")
        .join(counts, on="class")
        .with_columns(pl.col("class", "word").cast(pl.String))
        .filter(
            pl.col("documents") >= least_documents(pl.col("size"), p),
            pl.col("o_documents") >= least_documents(pl.col("o_size"), p),
            n > 0,
            o_n > 0,
            is_listed(pl.col("word"), p),
        )
        .pipe(compared, p["prior"])
        # A family in one order in both engines, as adjusting takes minima from the end.
        .sort("class", "word")
        .with_columns(q=q_value(pl.col("p")).over("class"))
        .with_columns(rank=pl.col(p["rank_by"]))
        .pipe(leading, p["limit"], "word")
        .select(
            "class",
            "word",
            wrong_documents="documents",
            right_documents="o_documents",
            wrong_occurrences="n",
            right_occurrences="o_n",
            wrong_lift="r",
            right_lift="o_r",
            factor="factor",
            difference="difference",
            error="error",
            t="t",
            p="p",
            q="q",
            log_ratio="log_ratio",
            log_odds="log_odds",
            z="z",
        )
    )
