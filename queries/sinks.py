"""The Polars twin of sinks.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.terms import has_letter_or_digit, layer_columns
from attnstore.store.frames import Tables

STOP_WORDS = (  # noqa: SIM905 - a list of words reads better as words
    "a about above after again all also although am an and another any are as at be because been before "
    "being below between both but by can could did do does doing down during each either else few for "
    "from further had has have having he her here hers herself him himself his how i if in into is it its "
    "itself just me more most much must my myself of off on once only or other our ours ourselves out "
    "over own same she should since so some still such than that the their theirs them themselves then "
    "there these they this those though through to too under until up upon us very was we were what when "
    "where which while who whom whose why will with within would you your yours yourself yourselves "
).split()
MARKUP = ["<", "br", "/", ">"]


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`tokens` has the columns `class` and `attention_01` ...; `p` holds the parameters."""
    columns = layer_columns(tables.tokens)
    text, place = pl.col("word").cast(pl.String), pl.col("position")
    of_markup = pl.col("word").is_in(MARKUP).fill_null(False)
    counted = pl.col("class").is_not_null()
    # The parts of markup, in numbered runs that begin at `<` and end at `>`.
    begins = (
        (text == "<")
        | (text.shift() == ">").fill_null(True)
        | (place.shift() != place - 1)
        | (pl.col("document").shift() != pl.col("document"))
    )
    candidates = (
        tables.tokens.filter(counted, of_markup)
        .sort("document", "position")
        .with_columns(run=begins.cum_sum())
    )
    markup = text.str.join("").is_in(["<br/>", "<br>"])
    runs = candidates.group_by("run", maintain_order=True).agg(markup=markup)
    stop_words = STOP_WORDS if p["stop_words"] is None else p["stop_words"]
    kind = (
        pl.when(pl.col("name").is_not_null())
        .then(pl.col("name"))
        .when("markup")
        .then(pl.lit("<br />"))
        .when(has_letter_or_digit(pl.col("word")).not_())
        .then(pl.lit("punctuation"))
        .when(pl.col("word").is_in(stop_words))
        .then(pl.lit("stop words"))
        .otherwise(pl.lit("words"))
    )
    sums = [
        *(pl.col(name).count().cast(pl.Int64).alias(f"tokens_{name}") for name in columns),
        *(pl.col(name).sum().alias(f"mass_{name}") for name in columns),
        *((pl.col(name) * pl.col("length")).sum().alias(f"lift_{name}") for name in columns),
    ]
    summed = [  # everything but the markup is already summed
        *(pl.col("occurrences").filter(pl.col(c).is_not_null()).sum().alias(f"tokens_{c}") for c in columns),
        *(pl.col(name).sum().alias(f"mass_{name}") for name in columns),
        *(pl.col(f"{name}_lift").sum().alias(f"lift_{name}") for name in columns),
    ]
    name = pl.when("special").then("token")
    gathered = pl.concat(
        [
            tables.totals.filter(counted, of_markup.not_()).group_by("class", "word", name=name).agg(summed),
            candidates.join(runs, on="run").group_by("class", "word", "markup").agg(sums),
        ],
        how="diagonal",
    ).with_columns(pl.col("class", "word", "name").cast(pl.String))
    per_layer = len(columns) == p["layers"]
    layers = pl.concat(
        gathered.select(
            "class",
            layer=pl.lit(number if per_layer else None, dtype=pl.Int32),
            kind=kind,
            tokens=f"tokens_{name}",
            mass=f"mass_{name}",
            lift=f"lift_{name}",
        )
        for number, name in enumerate(columns, start=1)
    )
    total = pl.col("mass").sum().over("class", "layer")
    n = pl.col("tokens")
    return (
        layers.filter(n > 0)
        .group_by("class", "layer", "kind")
        .agg(pl.col("tokens", "mass", "lift").sum())
        .select(
            "class",
            "layer",
            "kind",
            "tokens",
            share_of_tokens=n / n.sum().over("class", "layer"),
            share=pl.when(total != 0).then(pl.col("mass") / total),
            lift=pl.col("lift") / n,
        )
        .sort(
            "class",
            "layer",
            pl.col("share").cast(pl.Float32),
            "kind",
            descending=[False, False, True, False],
            nulls_last=True,
        )
    )
