"""The Polars twin of flips.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import p_value, q_value
from attnstore.ask.terms import least_documents, listed_words, occurrences
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the column `cluster`, `tokens` has `attention`; `p` holds the parameters."""
    # A cell is a label with a prediction, by its number: grouping by fewer and shorter keys is faster.
    of_cell, of_word = "cell", ["cell", "word"]
    cells = (
        tables.documents.select("document", "cluster", "label", pl.col("prediction").cast(pl.String))
        .filter(pl.col("label").is_not_null(), pl.col("prediction").is_not_null())
        .with_columns(cell=pl.struct("label", "prediction").rank("dense"))
    )
    names = cells.select("cell", "label", "prediction").unique()
    rows = occurrences(tables.tokens.filter(pl.col("attention").is_not_null()), p).join(
        listed_words(tables.totals, p), on="word", how="semi"
    )
    sizes = cells.group_by(of_cell).agg(least=least_documents(pl.len(), p))
    n, y, lift, g, v, whole = (pl.col(name) for name in ("n", "y", "lift", "g", "v", "whole"))
    usual, of_cluster = pl.col("usual"), ["cell", "cluster"]
    # Σ ((y − r · n) / n − whole)² over the clusters, expanded; rounding must not make it negative.
    square = (
        (pl.col("yy") - 2 * lift * pl.col("yn") + lift**2 * pl.col("nn")) / n**2
        - 2 * (pl.col("yw") - lift * pl.col("nw")) / n
        + pl.col("squares")
    ).clip(lower_bound=0)
    tested = (
        rows.join(cells.select("document", "cell", "cluster"), on="document")
        .group_by("cell", "cluster", "word")
        .agg(
            documents=pl.col("new").sum().cast(pl.Int64),
            n=pl.col("starts").sum().cast(pl.Int64),
            y=pl.col("lift").sum(),
        )
        # The listed words per cluster, and what each cluster adds to the cell's average.
        .join(sizes, on=of_cell)
        .filter(
            pl.col("documents").sum().over(of_word) >= pl.col("least"),
            n.sum().over(of_word) > 0,
        )
        .with_columns(usual=y.sum().over(of_cell) / n.sum().over(of_cell))
        .with_columns(whole=(y - usual * n).sum().over(of_cluster) / n.sum().over(of_cell))
        .with_columns(squares=(whole**2 / pl.len().over(of_cluster)).sum().over(of_cell))
        .group_by(of_word)
        .agg(
            pl.col("documents", "n", "y").sum(),
            pl.col("usual", "squares").first(),
            yy=(y * y).sum(),
            yn=(y * n).sum(),
            nn=(n * n).sum(),
            yw=(y * whole).sum(),
            nw=(n * whole).sum(),
        )
        .join(names, on="cell")
        .with_columns(
            pl.col("word").cast(pl.String),
            lift=y / n,
            # The effective number of clusters (Kish); fewer than two give no error estimate.
            g=pl.when(n * n >= 2 * pl.col("nn")).then(n**2 / pl.col("nn")),
        )
        .with_columns(excess=lift - usual, v=square * g / (g - 1))
        .with_columns(error=pl.when(v > 1e-14 * lift**2).then(v.sqrt()))  # rounding alone is not an error
        .with_columns(p=p_value(pl.col("excess") / pl.col("error"), g - 1) / 2)
        .select("label", "prediction", "word", "documents", "n", "lift", "excess", "error", "p")
    )
    excess, b_excess, documents_of_both = pl.col("excess"), pl.col("excess_b"), pl.col("both")
    # Each pair of predictions once; the second is the one with the smaller excess.
    ordered = (excess > b_excess) | ((excess == b_excess) & (pl.col("prediction") < pl.col("prediction_b")))
    flips = (excess > 0) & (b_excess < 0)
    tie = ["word", "above", "below"]
    by_p = p["rank_by"] == "p"
    return (
        tested.join(tested, on=["label", "word"], suffix="_b")
        .filter(ordered)
        .with_columns(
            above="prediction",
            below="prediction_b",
            flips=flips,
            swing=excess - b_excess,
            both=pl.col("documents") + pl.col("documents_b"),
            p=pl.when(pl.col("p").is_not_null(), pl.col("p_b").is_not_null()).then(
                pl.when(flips).then(pl.max_horizontal("p", "p_b")).otherwise(1.0)
            ),
        )
        # The same order in both engines, because adjusting takes minima from the end.
        .sort("label", *tie)
        .with_columns(q=q_value(pl.col("p")).over("label"))
        .filter(pl.col("flips"), pl.lit(p["max_q"] >= 1) | (pl.col("q") <= p["max_q"]))
        .with_columns(
            rank=(pl.col("p").clip(lower_bound=1e-300).log() if by_p else -pl.col("swing")).cast(pl.Float32)
        )
        .sort("label", "rank", -documents_of_both, *tie, nulls_last=True)
        .filter(pl.int_range(pl.len()).over("label") < p["limit"])
        .select(
            "label",
            "word",
            "above",
            "below",
            above_documents="documents",
            below_documents="documents_b",
            above_occurrences="n",
            below_occurrences="n_b",
            above_lift="lift",
            below_lift="lift_b",
            above_excess="excess",
            below_excess="excess_b",
            above_error="error",
            below_error="error_b",
            swing="swing",
            p="p",
            q="q",
        )
    )
