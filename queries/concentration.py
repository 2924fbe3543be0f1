"""The Polars twin of concentration.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.terms import layer_columns
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`tokens` has the columns `class` and `attention_01` ...; `p` holds the parameters."""
    columns = layer_columns(tables.tokens)
    counted = pl.lit(p["specials"] == "in") | pl.col("special").not_()

    def total(name: str) -> pl.Expr:
        positive = pl.col(name) > 0
        return pl.when(positive).then(pl.col(name) * pl.when(positive).then(pl.col(name)).log()).sum()

    gathered = (
        tables.tokens.filter(pl.col("class").is_not_null(), counted)
        .group_by("document")
        .agg(
            pl.col("class").first(),
            *(pl.col(name).count().alias(f"tokens_{name}") for name in columns),
            *(pl.col(name).min().alias(f"least_{name}") for name in columns),
            *(pl.col(name).sum().alias(f"mass_{name}") for name in columns),
            *(total(name).alias(f"sum_{name}") for name in columns),
        )
    )
    per_layer = len(columns) == p["layers"]
    # −Σ (a/M) ln(a/M); for a single token it is exactly 0, despite rounding.
    entropy = (pl.col("mass").log() - pl.col("total") / pl.col("mass")).clip(lower_bound=0)
    layered = pl.concat(
        gathered.select(
            "class",
            layer=pl.lit(number if per_layer else None, dtype=pl.Int32),
            tokens=f"tokens_{name}",
            least=f"least_{name}",
            mass=f"mass_{name}",
            total=f"sum_{name}",
        )
        for number, name in enumerate(columns, start=1)
    ).filter(pl.col("least") >= 0, pl.col("mass") > 0)
    entropy_, effective = pl.col("entropy"), pl.col("entropy").exp()
    percentiles = {
        f"effective_{percent:02d}": effective.quantile(percent / 100, interpolation="linear")
        for percent in (5, 25, 50, 75, 95)
    }
    return (
        layered.select("class", "layer", "tokens", entropy=entropy)
        .group_by("class", "layer")
        .agg(
            documents=pl.len().cast(pl.Int64),
            entropy=entropy_.mean(),
            deviation=entropy_.std(),
            effective_tokens=effective.mean(),
            evenness=pl.when(pl.col("tokens") > 1).then(entropy_ / pl.col("tokens").log()).mean(),
            **percentiles,
        )
        .sort("class", "layer", nulls_last=True)
    )
