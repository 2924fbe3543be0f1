"""The Polars twin of heads.sql, which says what is asked and how to read the answer."""

import re
from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.terms import has_letter_or_digit, support
from attnstore.views import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`tokens` has the columns `class` and `attention_01_01` ...; `p` holds the parameters."""
    columns = [
        name
        for name in tables.tokens.collect_schema().names()
        if re.fullmatch(r"attention_[0-9]+_[0-9]+", name)
    ]
    rows = tables.tokens.filter(
        pl.col("class").is_not_null(), *(pl.col(name).is_not_null() for name in columns)
    ).with_columns(pl.col("class", "word").cast(pl.String))

    def terms(name: str) -> pl.Expr:
        positive = pl.col(name) > 0
        return pl.when(positive).then(pl.col(name) * pl.when(positive).then(pl.col(name)).log()).otherwise(0)

    def by_place(frame: pl.LazyFrame, *kept: str, **prefixes: str) -> pl.LazyFrame:
        """One row a head for each row, the layers' heads one after the other."""
        return pl.concat(
            frame.select(
                *kept,
                place=pl.lit(place),
                **{name: pl.col(f"{prefix}_{column}") for name, prefix in prefixes.items()},
            )
            for place, column in enumerate(columns)
        )

    mass = pl.col("mass")
    entropy = (mass.log() - pl.col("total") / mass).clip(lower_bound=0)
    entropies = (
        by_place(
            rows.group_by("document").agg(
                pl.col("class").first(),
                *(pl.col(name).sum().alias(f"mass_{name}") for name in columns),
                *(terms(name).sum().alias(f"sum_{name}") for name in columns),
            ),
            "class",
            mass="mass",
            total="sum",
        )
        .filter(mass > 0)
        .group_by("class", "place")
        .agg(documents=pl.len().cast(pl.Int64), entropy=entropy.mean(), effective_tokens=entropy.exp().mean())
    )
    by_word = by_place(
        rows.group_by("class", "special", "word").agg(
            documents=pl.col("new_word").sum().cast(pl.Int64),
            occurrences=(pl.col("piece") == 0).sum().cast(pl.Int64),
            **{f"mass_{name}": pl.col(name).sum() for name in columns},
            **{
                f"lift_{name}": (pl.col(name) * pl.col("length") / pl.col("pieces")).sum() for name in columns
            },
        ),
        "class",
        "special",
        "word",
        "documents",
        "occurrences",
        mass="mass",
        lift="lift",
    ).with_columns(punctuation=has_letter_or_digit(pl.col("word")).not_().fill_null(False))

    def share(of: str) -> pl.Expr:
        return pl.when(mass.sum() != 0).then(mass.filter(pl.col(of)).sum() / mass.sum())

    shares = by_word.group_by("class", "place").agg(
        specials=share("special"), punctuation=share("punctuation")
    )
    listed = (
        by_word.join(support(tables.documents, p), on="class")
        .filter(
            pl.col("word").is_not_null(),
            pl.col("punctuation").not_(),
            pl.col("occurrences") > 0,
            pl.col("documents") >= pl.col("least"),
        )
        .with_columns(lift=(pl.col("lift") / pl.col("occurrences")).cast(pl.Float32))
        .sort("class", "place", "lift", "documents", "word", descending=[False, False, True, True, False])
        .filter(pl.int_range(pl.len()).over("class", "place") < p["limit"])
        .group_by("class", "place", maintain_order=True)
        .agg(words=pl.col("word").str.join(", "))
    )
    heads = p["heads"]
    return (
        entropies.join(shares, on=["class", "place"])
        .join(listed, on=["class", "place"], how="left")
        .sort("class", "place")
        .select(
            "class",
            (pl.col("place") // heads + 1).cast(pl.Int32).alias("layer"),
            (pl.col("place") % heads + 1).cast(pl.Int32).alias("head"),
            "documents",
            "entropy",
            "effective_tokens",
            "specials",
            "punctuation",
            pl.col("words").fill_null(""),
        )
    )
