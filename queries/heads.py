"""The Polars twin of heads.sql, which says what is asked and how to read the answer."""

import re
from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.terms import has_letter_or_digit, support
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`totals` has the columns `class` and `attention_01_01` ..., `documents` `attention_01_01_entropy` ..."""
    columns = [
        name
        for name in tables.totals.collect_schema().names()
        if re.fullmatch(r"attention_[0-9]+_[0-9]+", name)
    ]
    considered = [pl.col("class").is_not_null(), *(pl.col(name).is_not_null() for name in columns)]
    documents = tables.documents.filter(pl.col("class").is_not_null())
    terms_of_class = tables.totals.filter(considered).with_columns(pl.col("class", "word").cast(pl.String))

    def by_place(frame: pl.LazyFrame, *kept: str, **values: str) -> pl.LazyFrame:
        """One row per head for each row, layer by layer; `{}` in a name stands for the head's column."""
        return pl.concat(
            frame.select(
                *kept,
                place=pl.lit(place),
                **{name: pl.col(value.format(column)) for name, value in values.items()},
            )
            for place, column in enumerate(columns)
        )

    mass, entropy = pl.col("mass"), pl.col("entropy")
    entropies = (
        by_place(documents.with_columns(pl.col("class").cast(pl.String)), "class", entropy="{}_entropy")
        .filter(entropy.is_not_null())
        .group_by("class", "place")
        .agg(documents=pl.len().cast(pl.Int64), entropy=entropy.mean(), effective_tokens=entropy.exp().mean())
    )
    words = (
        terms_of_class.group_by("class", "special", "word")
        .agg(
            documents=pl.col("new_word").sum(),
            occurrences=pl.col("occurrences").filter(pl.col("piece") == 0).sum(),
            **{f"mass_{name}": pl.col(name).sum() for name in columns},
            **{f"lift_{name}": (pl.col(f"{name}_lift") / pl.col("pieces")).sum() for name in columns},
        )
        .with_columns(punctuation=has_letter_or_digit(pl.col("word")).not_().fill_null(False))
    )
    kinds = words.group_by("class", "special", "punctuation").agg(pl.col(f"mass_{c}").sum() for c in columns)

    def share(of: str) -> pl.Expr:
        return pl.when(mass.sum() != 0).then(mass.filter(pl.col(of)).sum() / mass.sum())

    shares = (
        by_place(kinds, "class", "special", "punctuation", mass="mass_{}")
        .group_by("class", "place")
        .agg(specials=share("special"), punctuation=share("punctuation"))
    )
    supported = words.join(support(tables.documents, p), on="class").filter(
        pl.col("word").is_not_null(),
        pl.col("punctuation").not_(),
        pl.col("occurrences") > 0,
        pl.col("documents") >= pl.col("least"),
    )
    listed = (
        by_place(supported, "class", "word", "documents", "occurrences", lift="lift_{}")
        .with_columns(lift=(pl.col("lift") / pl.col("occurrences")).cast(pl.Float32))
        .sort("class", "place", "lift", "documents", "word", descending=[False, False, True, True, False])
        .filter(pl.int_range(pl.len()).over("class", "place") < p["limit"])
        .group_by("class", "place", maintain_order=True)
        .agg(words=pl.col("word").str.join(", "))
    )
    heads, first = p["heads"], 1 if p["layer"] in (None, "all") else int(p["layer"])
    return (
        entropies.join(shares, on=["class", "place"])
        .join(listed, on=["class", "place"], how="left")
        .sort("class", "place")
        .select(
            "class",
            (pl.col("place") // heads + first).cast(pl.Int32).alias("layer"),
            (pl.col("place") % heads + 1).cast(pl.Int32).alias("head"),
            "documents",
            "entropy",
            "effective_tokens",
            "specials",
            "punctuation",
            pl.col("words").fill_null(""),
        )
    )
