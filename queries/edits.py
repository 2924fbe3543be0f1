"""The Polars twin of edits.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import cluster_sums, margin, ratio_error
from attnstore.ask.terms import has_letter_or_digit
from attnstore.store.frames import Tables

MEASURES = ("auroc", "precision", "edited", "first")


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has `class` and `cluster`, `tokens` has `attention:cls_01` ...; `p` holds the parameters."""
    columns = [name for name in tables.tokens.collect_schema().names() if name.startswith("attention:")]
    right = pl.col("prediction").cast(pl.String) == pl.col("label")
    candidates = tables.documents.filter(pl.col("group").is_not_null(), pl.col("label").is_not_null()).select(
        "document",
        "cluster",
        group=pl.col("group").cast(pl.String),
        label=pl.col("label").cast(pl.String),
        kept=right if p["right"] and p["labels_are_models"] else pl.lit(True),
        part=pl.lit("all") if p["rows"] == "all" else pl.col("class").cast(pl.String),
    )
    word = pl.col("word").cast(pl.String)
    vocabulary = tables.tokens.filter("new_word").select("document", word)
    vocabulary = vocabulary.join(candidates.select("document"), on="document")
    pairs = _pairs(candidates, vocabulary, p["common"])
    theirs = vocabulary.rename({"document": "other"}).with_columns(both=pl.lit(True))
    place = (pl.col("piece") == 0).cum_sum().over("document", order_by="position")
    words = (
        tables.tokens.filter(word.is_not_null())
        .join(pairs, on="document")
        .with_columns(word, place=place)
        .group_by("document", "other", "place")
        .agg(pl.col("word").first(), pl.col(columns).sum(), *_missing(columns))
        .filter(pl.lit(p["punctuation"] == "in") | has_letter_or_digit(pl.col("word")))
        .join(theirs, on=["other", "word"], how="left")
        .with_columns(
            # Single precision, so that the order of summation does not decide ties.
            *(pl.when(~pl.col(f"{c}:missing")).then(pl.col(c)).cast(pl.Float32).alias(c) for c in columns),
            edited=pl.col("both").is_null(),
        )
        .unpivot(columns, index=["document", "place", "edited"], variable_name="name")
        .filter(pl.col("value").is_not_null())
    )
    of_document, edited = ["document", "name"], pl.col("edited")
    r, n = pl.col("r"), pl.col("n")
    ranked = words.sort("document", "name", -pl.col("value"), "place").with_columns(
        rank=pl.col("value").rank("average").over(of_document),
        place=pl.int_range(pl.len()).over(of_document),
        r=edited.sum().over(of_document).cast(pl.Int64),
        n=pl.len().over(of_document).cast(pl.Int64),
    )
    measured = (
        ranked.filter(r > 0, r < n)
        .group_by(of_document)
        .agg(
            auroc=(pl.col("rank").filter(edited).sum() - r.first() * (r.first() + 1) / 2)
            / (r.first() * (n.first() - r.first())),
            precision=(edited & (pl.col("place") < r)).sum() / r.first(),
            edited=r.first() / n.first(),
            first=(edited & (pl.col("place") == 0)).sum().cast(pl.Float64),
        )
        .join(candidates.select("document", "cluster", "part"), on="document")
        .filter(pl.col("part").is_not_null())
        .unpivot(list(MEASURES), index=["part", "name", "cluster"], variable_name="measure")
    )
    return _estimated(measured)


def _missing(columns: list[str]) -> list[pl.Expr]:
    """For each column, whether all pieces of a word are null."""
    return [pl.col(name).is_null().all().alias(f"{name}:missing") for name in columns]


def _pairs(candidates: pl.LazyFrame, vocabulary: pl.LazyFrame, common: float) -> pl.LazyFrame:
    """`document` and `other`: the one with another label in its group that shares most words with it."""
    sizes = vocabulary.group_by("document").agg(size=pl.len().cast(pl.Int64))
    sized = candidates.select("document", "group", "label", "kept").join(sizes, on="document")
    # Two documents can't share more words than the smaller one has.
    smaller, larger = pl.min_horizontal("size", "other_size"), pl.max_horizontal("size", "other_size")
    possible = (
        sized.filter("kept")
        .join(sized.select("group", other="document", other_label="label", other_size="size"), on="group")
        .filter(pl.col("label") != pl.col("other_label"), smaller >= common * larger)
        .select("document", "other", "size", "other_size")
    )
    both = pl.col("both")
    return (
        possible.join(vocabulary, on="document")
        .join(vocabulary.rename({"document": "other"}), on=["other", "word"])
        .group_by("document", "other", "size", "other_size")
        .agg(both=pl.len().cast(pl.Int64))
        .with_columns(jaccard=both / (pl.col("size") + pl.col("other_size") - both))
        .filter(pl.col("jaccard") >= common)
        .sort("document", "jaccard", "other", descending=[False, True, False])
        .unique("document", keep="first", maintain_order=True)
        .select("document", "other")
    )


def _estimated(measured: pl.LazyFrame) -> pl.LazyFrame:
    """The means of `MEASURES` over documents with their intervals, one row per part and score."""
    y, n, mean = pl.col("y"), pl.col("n"), pl.col("mean")
    estimated = (
        measured.group_by("part", "name", "measure", "cluster")
        .agg(y=pl.col("value").sum(), n=pl.len().cast(pl.Int64))
        .group_by("part", "name", "measure")
        .agg(**cluster_sums(y, n), units=pl.len().cast(pl.Int64), mean=y.sum() / n.sum(), n=n.sum())
        .with_columns(half=margin(ratio_error(mean, n)))
    )

    def of(measure: str, column: str) -> pl.Expr:
        return pl.col(column).filter(pl.col("measure") == measure).max()

    columns: dict[str, pl.Expr] = {}
    for measure in MEASURES:
        columns[measure] = of(measure, "mean")
        if measure != "edited":
            half = of(measure, "half")
            columns[f"{measure}_low"] = (of(measure, "mean") - half).clip(lower_bound=0)
            columns[f"{measure}_high"] = (of(measure, "mean") + half).clip(upper_bound=1)
    return (
        estimated.group_by("part", "name")
        .agg(documents=n.max(), clusters=pl.col("units").max(), **columns)
        .with_columns(score=pl.col("name").str.strip_prefix("attention:"))
        .sort("part", pl.col("precision").cast(pl.Float32), "score", descending=[False, True, False])
        .select("part", "score", "documents", "clusters", *columns)
    )
