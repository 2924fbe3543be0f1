"""The Polars twin of layer_agreement.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.terms import has_letter_or_digit, least_documents
from attnstore.store.frames import Tables
from attnstore.store.schema import lift

LENGTHS = ("all", "short", "middle", "long")


def _summed(
    rows: pl.LazyFrame, keys: list[str], new: pl.Expr, starts: pl.Expr, lifts: Mapping[str, pl.Expr]
) -> pl.LazyFrame:
    """Each word's documents, occurrences and lifts, averaged over its pieces."""
    return (
        rows.group_by(keys)
        .agg(
            documents=new.sum().cast(pl.Int64),
            occurrences=starts.sum().cast(pl.Int64),
            **{name: (each / pl.col("pieces")).sum() for name, each in lifts.items()},
        )
        .with_columns(pl.col("class", "word").cast(pl.String))
    )


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has `class`, `tokens` has `class` and `attention:cls_01` ...; `p` holds the parameters."""
    columns = [name for name in tables.tokens.collect_schema().names() if name.startswith("attention:")]
    length = pl.col("length")
    # Equal lengths share a third: the one that their middle falls into.
    third = (3 * (length.rank("average").over("class") - 1) / pl.len().over("class")).floor()
    thirds = (
        tables.documents.filter(pl.col("class").is_not_null())
        .with_columns(pl.col("class").cast(pl.String))
        .select("document", "class", bucket=third.cast(pl.Int32) + 1)
    )
    names = {name: name.removeprefix("attention:") for name in columns}
    known = pl.col("class").is_not_null() & pl.col("word").is_not_null()
    lifts = {short: pl.col(lift(name)) for name, short in names.items()}
    everything = _summed(
        tables.totals.filter(known, *(pl.col(name).is_not_null() for name in columns)),
        ["class", "word"],
        pl.col("new_word"),
        pl.when(pl.col("piece") == 0).then(pl.col("occurrences")),
        lifts,
    ).with_columns(bucket=pl.lit(0, dtype=pl.Int32))
    all_of_them = thirds.with_columns(bucket=pl.lit(0, dtype=pl.Int32))
    if p["lengths"]:
        rows = tables.tokens.filter(known, *(pl.col(name).is_not_null() for name in columns))
        lifts = {short: pl.col(name) * length for name, short in names.items()}
        of_thirds = _summed(
            rows.join(thirds.select("document", "bucket"), on="document"),
            ["class", "word", "bucket"],
            pl.col("new_word"),
            pl.col("piece") == 0,
            lifts,
        )
        everything = pl.concat([everything, of_thirds], how="diagonal")
        all_of_them = pl.concat([all_of_them, thirds])
    support = all_of_them.group_by("class", "bucket").agg(least=least_documents(pl.len(), p))
    listed = pl.lit(p["punctuation"] == "in") | has_letter_or_digit(pl.col("word"))
    places = (
        everything.join(support, on=["class", "bucket"])
        .filter(pl.col("documents") >= pl.col("least"), pl.col("occurrences") > 0, listed)
        .unpivot(list(names.values()), index=["class", "bucket", "word", "occurrences"], variable_name="name")
        .select(
            "class",
            "bucket",
            "word",
            "name",
            place=(pl.col("value") / pl.col("occurrences"))
            .cast(pl.Float32)
            .rank("average")
            .over("class", "bucket", "name"),
        )
    )
    one, other = pl.col("place"), pl.col("place_other")
    varied = (one.min() < one.max()) & (other.min() < other.max())
    return (
        places.join(places, on=["class", "bucket", "word"], suffix="_other")
        .filter(pl.col("name") < pl.col("name_other"))
        .group_by("class", "bucket", "name", "name_other")
        .agg(words=pl.len().cast(pl.Int64), correlation=pl.when(varied).then(pl.corr(one, other)))
        .sort("class", "bucket", "name", "name_other")
        .select(
            "class",
            pl.col("bucket").replace_strict(range(4), LENGTHS, return_dtype=pl.String).alias("length"),
            pl.col("name").alias("one"),
            pl.col("name_other").alias("other"),
            "words",
            "correlation",
        )
    )
