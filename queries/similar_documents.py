"""The Polars twin of similar_documents.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.terms import beginning, has_letter_or_digit
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`tokens` has the column `attention`; `p` holds the parameters, `document` as a number."""
    word, mass, text = pl.col("word"), pl.col("attention"), pl.col("word").cast(pl.String)
    vocabulary = (
        tables.totals.select("word")
        .unique()
        .filter(has_letter_or_digit(text), text.is_in(p["ignore"]).not_())
    )
    found = (
        tables.tokens.filter(mass.is_not_null())
        .select("document", "word", "attention")
        .join(vocabulary, on="word", how="semi")
    )
    usable = (
        found.group_by("document")
        .agg(total=mass.sum(), least=mass.min())
        .filter(pl.col("total") > 0, pl.col("least") >= 0)
        .drop("least")
    )
    own = (
        found.filter(pl.col("document") == p["document"])
        .join(usable, on="document")
        .group_by("word")
        .agg(own=mass.sum() / pl.col("total").first())
    )

    def products(theirs: pl.LazyFrame) -> pl.LazyFrame:
        return (
            theirs.filter(pl.col("document") != p["document"], mass > 0)
            .join(own, on="word", how="semi")
            .group_by("document", "word")
            .agg(mass.sum())
            .join(own, on="word")
            .join(usable, on="document")
            .select("document", "word", product=(mass / pl.col("total") * pl.col("own")).sqrt())
        )

    similarity = pl.col("product").sum()
    best = (
        products(found)
        .group_by("document")
        .agg(similarity=similarity)
        .sort(pl.col("similarity").cast(pl.Float32), "document", descending=[True, False])
        .head(min(p["limit"], 2**31))  # Polars counts rows with 32 bits
    )
    # Summing a few documents' words again is fast; keeping those of all would take memory.
    return (
        products(found.join(best, on="document", how="semi"))
        .with_columns(text)
        .sort("document", pl.col("product").cast(pl.Float32), "word", descending=[False, True, False])
        .group_by("document", maintain_order=True)
        .agg(similarity=similarity, words=word.head(5).str.join(", "))
        .join(tables.documents, on="document")
        .sort(pl.col("similarity").cast(pl.Float32), "document", descending=[True, False])
        .select(
            "document",
            "id",
            "split",
            "label",
            pl.col("prediction").cast(pl.String),
            "probability",
            "similarity",
            "words",
            beginning(),
        )
    )
