"""The Polars twin of faithfulness.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import cluster_sums, margin, p_value, q_value, ratio_error
from attnstore.store.frames import Tables

MEASURES = {
    "comprehensiveness": "",
    "sufficiency": "sufficiency_",
    "flips": "flips_",
    "difference": "difference_",
}


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the columns `class` and `cluster`; `p` holds the parameters."""
    right = pl.when(p["labels_are_models"]).then(pl.col("prediction").cast(pl.String) == pl.col("label"))
    part = {
        "all": pl.lit("all"),
        "class": pl.col("class").cast(pl.String),
        "outcome": pl.when(right).then(pl.lit("right")).when(~right).then(pl.lit("wrong")),
    }[p["rows"]]
    parts = tables.documents.select("document", "cluster", part=part).filter(pl.col("part").is_not_null())
    of_documents = (
        tables.faithfulness.filter(pl.col("by") == p["removal"], pl.col("unit") == p["unit"])
        .group_by("document", "score")
        .agg(
            pl.col("comprehensiveness", "sufficiency").cast(pl.Float64).mean(),
            flips=pl.col("flipped").filter(pl.col("fraction") == 0.2).mean(),
        )
    )
    against = of_documents.filter(pl.col("score") == p["against"])
    y, n, mean = pl.col("y"), pl.col("n"), pl.col("mean")
    # A remainder from rounding alone is not an error.
    error = pl.when(pl.col("error") ** 2 > 1e-14).then(pl.col("error"))
    estimated = (
        of_documents.join(parts, on="document")
        .join(against.select("document", other="comprehensiveness"), on="document", how="left")
        .with_columns(difference=pl.col("comprehensiveness") - pl.col("other"))
        .unpivot(list(MEASURES), index=["part", "score", "cluster"], variable_name="measure")
        .filter(pl.col("value").is_not_null())
        .group_by("part", "score", "measure", "cluster")
        .agg(y=pl.col("value").sum(), n=pl.len().cast(pl.Int64))
        .group_by("part", "score", "measure")
        .agg(**cluster_sums(y, n), units=pl.len().cast(pl.Int64), mean=y.sum() / n.sum(), n=n.sum())
        .with_columns(error=ratio_error(mean, n))
        .with_columns(half=margin(pl.col("error")), p=p_value(mean / error, pl.col("clusters") - 1))
    )

    def of(measure: str, column: str) -> pl.Expr:
        return pl.col(column).filter(pl.col("measure") == measure).max()

    bounds: dict[str, pl.Expr] = {}
    for measure, prefix in MEASURES.items():
        low, high = of(measure, "mean") - of(measure, "half"), of(measure, "mean") + of(measure, "half")
        bounds |= {
            measure: of(measure, "mean"),
            f"{prefix}low": low.clip(lower_bound=0) if measure == "flips" else low,
            f"{prefix}high": high.clip(upper_bound=1) if measure == "flips" else high,
        }
    return (
        estimated.group_by("part", "score")
        .agg(
            documents=of("comprehensiveness", "n"),
            clusters=of("comprehensiveness", "units"),
            **bounds,
            p=of("difference", "p"),
        )
        # The same order in both engines, because adjusting takes minima from the end.
        .sort("part", "score")
        .with_columns(q=q_value(pl.col("p")).over("part"))
        .sort("part", pl.col("comprehensiveness").cast(pl.Float32), "score", descending=[False, True, False])
    )
