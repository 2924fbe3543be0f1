"""The Polars twin of document_tokens.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`tokens` has the column `attention`; `p` holds the parameters, `document` as a number."""
    lift = pl.when(not p["signed"]).then(pl.col("attention") * pl.col("length")).alias("lift")
    place = ["position", "token", "word", "piece", "pieces", "segment", "start", "end"]
    mine = tables.tokens.filter(pl.col("document") == p["document"]).sort("position")
    return mine.select(*place, "special", "attention", lift)
