"""The Polars twin of distinctive_words.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.statistics import q_value
from attnstore.terms import compared, is_listed, leading, least_documents, occurrences


def answer(documents: pl.LazyFrame, tokens: pl.LazyFrame, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has `class` and `cluster`, `tokens` has `class` and `attention`; `p` holds the parameters."""
    text = pl.col("word").cast(pl.String)
    rows = occurrences(
        tokens.filter(pl.col("class").is_not_null(), pl.col("attention").is_not_null()), p, "class"
    ).filter(pl.col("word").is_not_null())
    gathered = (
        rows.join(documents.select("document", "cluster"), on="document")
        .group_by("class", "cluster", "word")
        .agg(
            documents=pl.col("new").sum().cast(pl.Int64),
            n=pl.col("starts").sum().cast(pl.Int64),
            y=pl.col("lift").sum(),
        )
    )
    everywhere = gathered.group_by("cluster", "word").agg(all_n=pl.col("n").sum(), all_y=pl.col("y").sum())
    n, y, o_n = pl.col("n"), pl.col("y"), pl.col("o_n")
    all_n, all_y = pl.col("all_n"), pl.col("all_y")
    sizes = (
        documents.filter(pl.col("class").is_not_null())
        .group_by(pl.col("class").cast(pl.String))
        .agg(size=pl.len().cast(pl.Int64))
        .with_columns(o_size=pl.col("size").sum() - pl.col("size"))
    )

    def others(column: str) -> pl.Expr:
        return pl.col(column).sum().over("word") - pl.col(column)

    t, z = pl.col("t"), pl.col("z")
    # The line of t on z through the words that have both.
    paired = pl.when(t.is_not_null() & z.is_not_null())
    t_off = t - paired.then(t).mean().over("class")
    z_off = z - paired.then(z).mean().over("class")
    spread = paired.then(z_off**2).sum().over("class")
    slope = pl.when(spread > 1e-12).then(paired.then(z_off * t_off).sum().over("class") / spread).otherwise(0)
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
            words=n.sum().over("class"),
            o_words=n.sum() - n.sum().over("class"),
            alpha=p["prior"] * n.sum().over("word") / n.sum(),
        )
        .join(sizes, on="class")
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
        .with_columns(q=q_value(pl.col("p")).over("class"), residual=t_off - slope * z_off)
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
            difference="difference",
            error="error",
            t="t",
            p="p",
            q="q",
            log_odds="log_odds",
            z="z",
            residual="residual",
        )
    )
