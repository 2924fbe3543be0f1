"""The Polars twin of layer_agreement.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.terms import has_letter_or_digit, least_documents
from attnstore.store.frames import Tables

LENGTHS = ("all", "short", "middle", "long")


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has `class`, `tokens` has `class` and `attention:cls_01` ...; `p` holds the parameters."""
    columns = [name for name in tables.tokens.collect_schema().names() if name.startswith("attention:")]
    length = pl.col("length")
    # Equal lengths are in the same third: that of the middle of them.
    third = (3 * (length.rank("average").over("class") - 1) / pl.len().over("class")).floor()
    thirds = (
        tables.documents.filter(pl.col("class").is_not_null())
        .with_columns(pl.col("class").cast(pl.String))
        .select("document", "class", bucket=third.cast(pl.Int32) + 1)
    )
    names = {name: name.removeprefix("attention:") for name in columns}
    rows = tables.tokens.filter(
        pl.col("class").is_not_null(),
        pl.col("word").is_not_null(),
        *(pl.col(name).is_not_null() for name in columns),
    )
    of_bucket = ["class", "word"]
    if p["lengths"]:
        rows = rows.join(thirds.select("document", "bucket"), on="document")
        of_bucket.append("bucket")
    summed = (
        rows.group_by(of_bucket)
        .agg(
            documents=pl.col("new_word").sum().cast(pl.Int64),
            occurrences=(pl.col("piece") == 0).sum().cast(pl.Int64),
            **{
                short: (pl.col(name) * pl.col("length") / pl.col("pieces")).sum()
                for name, short in names.items()
            },
        )
        .with_columns(pl.col("class", "word").cast(pl.String))
    )
    sums = ["documents", "occurrences", *names.values()]
    everything = summed.group_by("class", "word").agg(pl.col(sums).sum())
    everything = everything.with_columns(bucket=pl.lit(0, dtype=pl.Int32))
    all_of_them = thirds.with_columns(bucket=pl.lit(0, dtype=pl.Int32))
    if p["lengths"]:
        everything = pl.concat([everything, summed], how="diagonal")
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
