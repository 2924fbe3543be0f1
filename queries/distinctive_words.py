"""The Polars twin of distinctive_words.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import q_value
from attnstore.ask.terms import compared, is_listed, leading, least_documents, occurrences
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has `class` and `cluster`, `tokens` has `class` and `attention`; `p` holds the parameters."""
    text = pl.col("word").cast(pl.String)
    considered = tables.tokens.filter(pl.col("class").is_not_null(), pl.col("attention").is_not_null())
    rows = occurrences(considered, p, "class").filter(pl.col("word").is_not_null())
    # A cluster's part in a class by its number: grouping by fewer and shorter keys is faster.
    parts = tables.documents.filter(pl.col("class").is_not_null()).select(
        "document",
        "class",
        "cluster",
        part=pl.struct(pl.col("class").cast(pl.String), "cluster").rank("dense"),
    )
    gathered = (
        rows.join(parts.select("document", "part"), on="document")
        .group_by("part", "word")
        .agg(
            documents=pl.col("new").sum().cast(pl.Int64),
            n=pl.col("starts").sum().cast(pl.Int64),
            y=pl.col("lift").sum(),
        )
        .join(parts.select("part", "class", "cluster").unique(), on="part")
    )
    everywhere = gathered.group_by("cluster", "word").agg(all_n=pl.col("n").sum(), all_y=pl.col("y").sum())
    n, y, o_n = pl.col("n"), pl.col("y"), pl.col("o_n")
    all_n, all_y = pl.col("all_n"), pl.col("all_y")
    sizes = (
        tables.documents.filter(pl.col("class").is_not_null())
        .group_by(pl.col("class").cast(pl.String))
        .agg(size=pl.len().cast(pl.Int64))
        .with_columns(o_size=pl.col("size").sum() - pl.col("size"))
    )
    counted = gathered
    if p["renormalise"]:  # which leaves words out that count; but no document where nothing is left
        counted = occurrences(considered, {**p, "renormalise": False}, "class").join(
            rows, on="document", how="semi"
        )
        counted = counted.filter(pl.col("word").is_not_null()).select(
            "class", n=pl.col("starts").cast(pl.Int64)
        )
    counts = (
        counted.group_by(pl.col("class").cast(pl.String))
        .agg(words=n.sum())
        .with_columns(o_words=pl.col("words").sum() - pl.col("words"))
    )

    def others(column: str) -> pl.Expr:
        return pl.col(column).sum().over("word") - pl.col(column)

    # A weighted line through the words that have an error, from its centre.
    log_ratio, log_odds, log_v, weight = (pl.col(x) for x in ("log_ratio", "log_odds", "log_v", "weight"))
    on_line = pl.col("error").is_not_null() & log_odds.is_not_null() & (log_v > 1e-14)
    along, up = pl.col("along"), pl.col("up")

    def summed(term: pl.Expr) -> pl.Expr:
        return (weight * term).sum().over("class")

    all_weight, spread = weight.sum().over("class"), summed(along**2)
    slope = pl.when(spread > 1e-12 * all_weight).then(summed(along * up) / spread).otherwise(0)
    residual = pl.when(weight.count().over("class") >= 3).then(up - slope * along)
    return (
        gathered.join(everywhere, on=["cluster", "word"])
        .group_by("class", "word")
        .agg(
            pl.col("documents", "n", "y").sum(),
            yy=(y * y).sum(),
            yn=(y * n).sum(),
            nn=(n * n).sum(),
            y_all_y=(y * all_y).sum(),
            y_all_n=(y * all_n).sum(),
            n_all_y=(n * all_y).sum(),
            n_all_n=(n * all_n).sum(),
        )
        .with_columns(
            # What the others have (o): all less the class.
            pl.col("class").cast(pl.String),
            text,
            o_documents=others("documents"),
            o_n=others("n"),
            o_y=others("y"),
            o_yy=others("y_all_y") - pl.col("y_all_y") + pl.col("yy"),
            o_yn=others("y_all_n") - pl.col("n_all_y") + pl.col("yn"),
            o_nn=others("n_all_n") - pl.col("n_all_n") + pl.col("nn"),
            y_o_y=pl.col("y_all_y") - pl.col("yy"),
            y_o_n=pl.col("y_all_n") - pl.col("yn"),
            n_o_y=pl.col("n_all_y") - pl.col("yn"),
            n_o_n=pl.col("n_all_n") - pl.col("nn"),
        )
        .join(sizes, on="class")
        .join(counts, on="class")
        .filter(
            pl.col("documents") >= least_documents(pl.col("size"), p),
            pl.col("o_documents") >= least_documents(pl.col("o_size"), p),
            n > 0,
            o_n > 0,
            is_listed(pl.col("word"), p),
        )
        .pipe(compared, p["prior"])
        # A family in one order in both engines, as adjusting takes minima from the end.
        .sort("class", "word")
        .with_columns(q=q_value(pl.col("p")).over("class"), weight=pl.when(on_line).then(1 / log_v))
        .with_columns(
            along=log_odds - summed(log_odds) / all_weight, up=log_ratio - summed(log_ratio) / all_weight
        )
        .with_columns(residual=residual)
        .with_columns(rank=pl.col(p["rank_by"]))
        .pipe(leading, p["limit"], "word")
        .select(
            "class",
            "word",
            "documents",
            other_documents="o_documents",
            occurrences="n",
            other_occurrences="o_n",
            lift="r",
            other_lift="o_r",
            factor="factor",
            difference="difference",
            error="error",
            t="t",
            p="p",
            q="q",
            log_ratio="log_ratio",
            log_odds="log_odds",
            z="z",
            residual="residual",
        )
    )
