"""The Polars twin of distinctive_words.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.statistics import p_value, q_value


def answer(documents: pl.LazyFrame, tokens: pl.LazyFrame, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has `class` and `cluster`, `tokens` has `class` and `attention`; `p` holds the parameters."""
    word, piece, new = pl.col("word"), pl.col("piece"), pl.col("new_word")
    if p["specials"] == "in":
        # A token of no word (a special one) stands for itself.
        new = new | (word.is_null() & pl.col("new_token"))
        word, piece = pl.coalesce(word, "token"), piece.fill_null(0)
    text = pl.col("word").cast(pl.String)
    listed = (pl.lit(p["punctuation"] == "in") | text.str.contains(r"[\p{L}\p{N}]")) & ~text.is_in(
        p["ignore"]
    )
    pieces = pl.col("pieces").fill_null(1)
    rows = (
        tokens.filter(pl.col("class").is_not_null(), pl.col("attention").is_not_null())
        .select(
            "document",
            "class",
            "attention",
            word=word,
            starts=piece == 0,
            new=new,
            pieces=pieces,
            y=pl.col("attention") * pl.col("length") / pieces,
        )
        .filter(pl.col("word").is_not_null())
    )
    if p["renormalise"]:
        # As if the unlisted words had never been in their document.
        rows = rows.filter(listed)
        remaining = rows.group_by("document").agg(mass=pl.col("attention").sum(), kept=pl.len())
        scaled = pl.col("attention") / pl.col("mass") * pl.col("kept") / pl.col("pieces")
        rows = rows.join(remaining.filter(pl.col("mass") != 0), on="document").with_columns(y=scaled)
    gathered = (
        rows.join(documents.select("document", "cluster"), on="document")
        .group_by("class", "cluster", "word")
        .agg(
            documents=pl.col("new").sum().cast(pl.Int64),
            n=pl.col("starts").sum().cast(pl.Int64),
            y=pl.col("y").sum(),
        )
    )
    everywhere = gathered.group_by("cluster", "word").agg(all_n=pl.col("n").sum(), all_y=pl.col("y").sum())
    n, y, all_n, all_y = pl.col("n"), pl.col("y"), pl.col("all_n"), pl.col("all_y")
    sizes = (
        documents.filter(pl.col("class").is_not_null())
        .group_by(pl.col("class").cast(pl.String))
        .agg(size=pl.len().cast(pl.Int64))
        .with_columns(o_size=pl.col("size").sum() - pl.col("size"))
    )

    def least(size: str) -> pl.Expr:
        if p["min_documents"] is not None:
            return pl.lit(p["min_documents"])
        return pl.max_horizontal(5, (pl.col(size) + 199) // 200)

    def others(column: str) -> pl.Expr:
        return pl.col(column).sum().over("word") - pl.col(column)

    r, o_r, o_n, alpha, prior = pl.col("r"), pl.col("o_r"), pl.col("o_n"), pl.col("alpha"), p["prior"]
    g, o_g, v, o_v = pl.col("g"), pl.col("o_g"), pl.col("v"), pl.col("o_v")
    # Σ (y − r · n)² over the clusters, multiplied out; rounding must not push it below 0.
    square = (pl.col("yy") - 2 * r * pl.col("yn") + r**2 * pl.col("nn")).clip(lower_bound=0)
    o_square = (pl.col("o_yy") - 2 * o_r * pl.col("o_yn") + o_r**2 * pl.col("o_nn")).clip(lower_bound=0)
    product = pl.col("y_o_y") - o_r * pl.col("y_o_n") - r * pl.col("n_o_y") + r * o_r * pl.col("n_o_n")
    left, o_left = pl.col("words") - n + (prior - alpha), pl.col("o_words") - o_n + (prior - alpha)
    log_odds = ((n + alpha) / left).log() - ((o_n + alpha) / o_left).log()
    variance = v + o_v - 2 * pl.col("covariance")
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
            alpha=prior * n.sum().over("word") / n.sum(),
        )
        .join(sizes, on="class")
        .filter(
            pl.col("documents") >= least("size"),
            pl.col("o_documents") >= least("o_size"),
            n > 0,
            o_n > 0,
            listed,
        )
        .with_columns(
            r=y / n,
            o_r=pl.col("o_y") / o_n,
            # As many clusters of equal size as weigh as much (Kish).
            g=pl.when(n * n > pl.col("nn")).then(n**2 / pl.col("nn")),
            o_g=pl.when(o_n * o_n > pl.col("o_nn")).then(o_n**2 / pl.col("o_nn")),
        )
        .with_columns(
            v=square / n**2 * g / (g - 1),
            o_v=o_square / o_n**2 * o_g / (o_g - 1),
            covariance=product / (n * o_n) * (g / (g - 1) * o_g / (o_g - 1)).sqrt(),
            log_odds=pl.when(left != 0, o_left != 0).then(log_odds),
        )
        .with_columns(
            difference=r - o_r,
            # What is left by rounding alone is no error.
            error=pl.when(variance > 1e-14 * (r**2 + o_r**2)).then(variance.sqrt()),
            df=(v + o_v) ** 2 / (v**2 / (g - 1) + o_v**2 / (o_g - 1)),
            z=pl.col("log_odds") / (1 / (n + alpha) + 1 / (o_n + alpha)).sqrt(),
        )
        .with_columns(t=pl.col("difference") / pl.col("error"))
        .with_columns(p=p_value(t, pl.col("df")))
        # A family in one order in both engines, as adjusting takes minima from the end.
        .sort("class", "word")
        .with_columns(q=q_value(pl.col("p")).over("class"), residual=t_off - slope * z_off)
        .with_columns(rank=pl.col(p["rank_by"]).cast(pl.Float32))
        .sort("class", "rank", "documents", "word", descending=[False, True, True, False], nulls_last=True)
        .filter(pl.int_range(pl.len()).over("class") < p["limit"])
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
