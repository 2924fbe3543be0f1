"""The Polars twin of calibration.sql, which says what is asked and how to read the answer."""

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import kish, ratio_variance, share_interval, t_quantile
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the column `cluster`; `p` has the parameters and the store's own facts."""
    most, by_width = max(1, p["bins"]), p["binning"] == "width"
    probability, n, hits, said = (pl.col(name) for name in ("probability", "n", "hits", "said"))
    judged = tables.documents.filter(
        pl.lit(p["labels_are_models"]), pl.col("label").is_not_null(), pl.col("prediction").is_not_null()
    ).select(
        "cluster",
        pl.col("probability").cast(pl.Float64),
        **{"class": pl.col("prediction").cast(pl.String)},
        correct=(pl.col("label").cast(pl.String) == pl.col("prediction").cast(pl.String)).cast(pl.Int64),
    )
    if by_width:
        bin_ = (probability * most).ceil().clip(1, most)
    else:
        place = (probability.rank("min") - 1).cast(pl.Int64)
        bin_ = 1 + place.over("class") * most // pl.len().cast(pl.Int64).over("class")
    gathered = (
        pl.concat([judged.with_columns(pl.lit(None, dtype=pl.String).alias("class")), judged])
        .with_columns(bin=bin_.cast(pl.Int64))
        .group_by("class", "bin", "cluster")
        .agg(
            n=pl.len().cast(pl.Int64),
            hits=pl.col("correct").sum(),
            said=probability.sum(),
            variation=(probability * (1 - probability)).sum(),
            least=probability.min(),
            highest=probability.max(),
        )
        .with_columns(off=hits - said)
    )
    side = pl.col("off").sum().over("class", "bin").sign()
    every = (
        gathered.with_columns(off=side * pl.col("off"))
        .group_by("class", "cluster")
        .agg(
            pl.col("n", "hits", "said", "variation", "off").sum(),
            pl.col("least").min(),
            pl.col("highest").max(),
        )
    )
    gap_of = hits - said
    accuracy, off, g, t = (pl.col(name) for name in ("accuracy", "error", "g", "t"))
    nn = pl.col("nn")
    summed = (
        pl.concat([gathered, every], how="diagonal")
        .group_by("class", "bin")
        .agg(
            clusters=pl.len().cast(pl.Int64),
            nn=(n * n).sum(),
            accuracy=hits.sum() / n.sum(),
            hh=(hits * hits).sum(),
            hn=(hits * n).sum(),
            gap=gap_of.sum() / n.sum(),
            error=pl.col("off").sum() / n.sum(),
            oo=(pl.col("off") ** 2).sum(),
            on=(pl.col("off") * n).sum(),
            mean_probability=said.sum() / n.sum(),
            variation=pl.col("variation").sum(),
            least=pl.col("least").min(),
            highest=pl.col("highest").max(),
            n=n.sum(),
        )
        .with_columns(g=kish(n, nn))
        .with_columns(
            t=t_quantile(0.975, g - 1),
            variance=ratio_variance(accuracy, n, pl.col("hh"), pl.col("hn"), nn, g),
            off_error=pl.when(accuracy > 0, accuracy < 1).then(
                ratio_variance(off, n, pl.col("oo"), pl.col("on"), nn, g).sqrt()
            ),
            by_chance=pl.when(pl.col("bin").is_not_null())
            .then((2 / math.pi * pl.col("variation")).sqrt())
            .sum()
            .over("class")
            / n,
        )
    )
    low, high = share_interval(accuracy, n, pl.col("variance"), g)
    whole, bin_number = pl.col("bin").is_null(), pl.col("bin")
    edged = whole | pl.lit(not by_width)
    return summed.sort("class", "bin").select(  # nulls first
        "class",
        "bin",
        pl.when(edged).then("least").otherwise((bin_number - 1) / most).alias("probability_from"),
        pl.when(edged).then("highest").otherwise(bin_number / most).alias("probability_to"),
        n.alias("documents"),
        "clusters",
        "mean_probability",
        "accuracy",
        low.alias("low"),
        high.alias("high"),
        "gap",
        (low - pl.col("mean_probability")).alias("gap_low"),
        (high - pl.col("mean_probability")).alias("gap_high"),
        pl.when(whole).then(off).alias("expected_error"),
        pl.when(whole).then((off - t * pl.col("off_error")).clip(lower_bound=0)).alias("error_low"),
        pl.when(whole).then(off + t * pl.col("off_error")).alias("error_high"),
        pl.when(whole).then("by_chance").alias("by_chance"),
    )
