"""The Polars twin of similar_documents.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.terms import beginning, has_letter_or_digit


def answer(documents: pl.LazyFrame, tokens: pl.LazyFrame, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`tokens` has the column `attention`; `p` holds the parameters, `document` as a number."""
    word, mass = pl.col("word"), pl.col("attention")
    by_word = (
        tokens.filter(word.is_not_null(), mass.is_not_null())
        .group_by("document", "word")
        .agg(mass.sum(), least=mass.min(), positive=mass.filter(mass > 0).sum())
        .with_columns(word.cast(pl.String))
        .filter(has_letter_or_digit(word), word.is_in(p["ignore"]).not_())
    )
    usable = (
        by_word.group_by("document")
        .agg(total=mass.sum(), least=pl.col("least").min())
        .filter(pl.col("total") > 0, pl.col("least") >= 0)
        .drop("least")
    )
    shares = by_word.join(usable, on="document").select(
        "document", "word", share=mass / pl.col("total"), positive="positive"
    )
    own = shares.filter(pl.col("document") == p["document"]).select("word", own="share")
    products = (
        shares.filter(pl.col("document") != p["document"], pl.col("positive") > 0)
        .join(own, on="word")
        .select("document", "word", product=(pl.col("share") * pl.col("own")).sqrt())
    )
    best = (
        products.group_by("document")
        .agg(similarity=pl.col("product").sum())
        .with_columns(rank=pl.col("similarity").cast(pl.Float32))
        .sort("rank", "document", descending=[True, False])
        .head(p["limit"])
    )
    listed = (
        products.join(best.select("document"), on="document")
        .with_columns(pl.col("product").cast(pl.Float32))
        .sort("document", "product", "word", descending=[False, True, False])
        .group_by("document", maintain_order=True)
        .agg(words=word.head(5).str.join(", "))
    )
    return (
        best.join(documents, on="document")
        .join(listed, on="document")
        .sort("rank", "document", descending=[True, False])
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
