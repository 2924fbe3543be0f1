"""The Polars twin of errors.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.statistics import p_value, q_value


def answer(documents: pl.LazyFrame, tokens: pl.LazyFrame, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the column `cluster`, `tokens` has `attention`; `p` holds the parameters."""
    prediction, label = pl.col("prediction").cast(pl.String), pl.col("label")
    judged = documents.filter(
        pl.lit(p["labels_are_models"]), prediction.is_not_null(), label.is_not_null()
    ).select("document", "cluster", wrong=prediction != label, **{"class": prediction})
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
        tokens.filter(pl.lit(p["labels_are_models"]), pl.col("attention").is_not_null())
        .select(
            "document",
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
    n, y, o_n, o_y = pl.col("n"), pl.col("y"), pl.col("o_n"), pl.col("o_y")
    wrong = pl.col("wrong")
    sides = {name: pl.col(name).filter(wrong).sum() for name in ("documents", "n", "y")} | {
        f"o_{name}": pl.col(name).filter(~wrong).sum() for name in ("documents", "n", "y")
    }
    sizes = judged.group_by("class").agg(
        size=wrong.sum().cast(pl.Int64), o_size=(~wrong).sum().cast(pl.Int64)
    )

    def least(size: str) -> pl.Expr:
        if p["min_documents"] is not None:
            return pl.lit(p["min_documents"])
        return pl.max_horizontal(5, (pl.col(size) + 199) // 200)

    r, o_r, alpha, prior = pl.col("r"), pl.col("o_r"), pl.col("alpha"), p["prior"]
    g, o_g, v, o_v = pl.col("g"), pl.col("o_g"), pl.col("v"), pl.col("o_v")
    # Σ (y − r · n)² over the clusters, multiplied out; rounding must not push it below 0.
    square = (pl.col("yy") - 2 * r * pl.col("yn") + r**2 * pl.col("nn")).clip(lower_bound=0)
    o_square = (pl.col("o_yy") - 2 * o_r * pl.col("o_yn") + o_r**2 * pl.col("o_nn")).clip(lower_bound=0)
    product = pl.col("y_o_y") - o_r * pl.col("y_o_n") - r * pl.col("n_o_y") + r * o_r * pl.col("n_o_n")
    left, o_left = pl.col("words") - n + (prior - alpha), pl.col("o_words") - o_n + (prior - alpha)
    log_odds = ((n + alpha) / left).log() - ((o_n + alpha) / o_left).log()
    variance = v + o_v - 2 * pl.col("covariance")
    return (
        rows.join(judged, on="document")
        .group_by("class", "cluster", "wrong", "word")
        .agg(
            documents=pl.col("new").sum().cast(pl.Int64),
            n=pl.col("starts").sum().cast(pl.Int64),
            y=pl.col("y").sum(),
        )
        # Each cluster's wrong documents beside its right ones (o).
        .group_by("class", "cluster", "word")
        .agg(**sides)
        .group_by("class", "word")
        .agg(
            pl.col("documents", "n", "y", "o_documents", "o_n", "o_y").sum(),
            yy=(y * y).sum(),
            yn=(y * n).sum(),
            nn=(n * n).sum(),
            o_yy=(o_y * o_y).sum(),
            o_yn=(o_y * o_n).sum(),
            o_nn=(o_n * o_n).sum(),
            y_o_y=(y * o_y).sum(),
            y_o_n=(y * o_n).sum(),
            n_o_y=(n * o_y).sum(),
            n_o_n=(n * o_n).sum(),
        )
        .with_columns(
            text,
            words=n.sum().over("class"),
            o_words=o_n.sum().over("class"),
            alpha=prior * (n + o_n) / (n + o_n).sum().over("class"),
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
        .with_columns(p=p_value(pl.col("t"), pl.col("df")))
        # A family in one order in both engines, as adjusting takes minima from the end.
        .sort("class", "word")
        .with_columns(q=q_value(pl.col("p")).over("class"))
        .with_columns(rank=pl.col(p["rank_by"]).cast(pl.Float32))
        .sort("class", "rank", "documents", "word", descending=[False, True, True, False], nulls_last=True)
        .filter(pl.int_range(pl.len()).over("class") < p["limit"])
        .select(
            "class",
            "word",
            wrong_documents="documents",
            right_documents="o_documents",
            wrong_occurrences="n",
            right_occurrences="o_n",
            wrong_lift="r",
            right_lift="o_r",
            difference="difference",
            error="error",
            t="t",
            p="p",
            q="q",
            log_odds="log_odds",
            z="z",
        )
    )
