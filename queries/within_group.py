"""The Polars twin of within_group.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import kish, p_value, q_value, ratio_variance, t_quantile
from attnstore.ask.terms import is_listed
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the column `class`, `tokens` has `attention`; `p` the parameters and the store's facts."""
    word, n, y, o_n, w, d = (pl.col(name) for name in ("word", "n", "y", "o_n", "w", "d"))
    text = word.cast(pl.String)
    attention = pl.col("attention")
    value = attention if p["signed"] else attention * pl.col("length") / pl.col("pieces")
    film = pl.when(pl.col("group").is_not_null()).then(pl.col("document").min().over("group"))
    class_ = pl.col("class").cast(pl.String)
    sorted_ = tables.documents.filter(pl.col("class").is_not_null()).select("document", class_, film=film)
    contrasting = sorted_.filter(pl.col("film").is_not_null(), pl.col("class").n_unique().over("film") > 1)
    gathered = (
        tables.tokens.drop("class")
        .filter(attention.is_not_null(), is_listed(text, p))
        .join(contrasting, on="document")
        .group_by("film", "class", text)
        .agg(y=value.sum(), n=(pl.col("piece") == 0).sum().cast(pl.Int64))
    )
    rest_n, rest_y = (name.sum().over("word") - name for name in (n, y))
    summed = attention if p["signed"] else pl.col("attention_lift") / pl.col("pieces")
    whole = (
        tables.totals.filter(class_.is_not_null(), attention.is_not_null(), text.is_not_null())
        .group_by(class_, text)
        .agg(y=summed.sum(), n=pl.col("occurrences").filter(pl.col("piece") == 0).sum())
        .select(
            "class", "word", overall=pl.when(n > 0).then(y / n) - pl.when(rest_n > 0).then(rest_y / rest_n)
        )
    )
    g, difference, half = pl.col("g"), pl.col("difference"), pl.col("half")
    return (
        gathered.with_columns(
            o_n=n.sum().over("film", "word") - n,
            o_y=y.sum().over("film", "word") - y,
        )
        .filter(n > 0, o_n > 0)
        .with_columns(w=n * o_n / (n + o_n))
        .with_columns(d=w * (y / n - pl.col("o_y") / o_n))
        .group_by("class", "word")
        .agg(
            groups=pl.len().cast(pl.Int64),
            occurrences=n.sum(),
            other_occurrences=o_n.sum(),
            difference=d.sum() / w.sum(),
            dd=(d * d).sum(),
            dw=(d * w).sum(),
            ww=(w * w).sum(),
            w=w.sum(),
        )
        .filter(pl.col("groups") >= p["min_groups"])
        .with_columns(g=kish(w, pl.col("ww")))
        .with_columns(
            error=pl.when(g >= 5).then(
                ratio_variance(difference, w, pl.col("dd"), pl.col("dw"), pl.col("ww"), g).sqrt()
            )
        )
        .with_columns(
            p=pl.when(pl.col("error") > 0).then(p_value(difference / pl.col("error"), g - 1)),
            half=t_quantile(0.975, g - 1) * pl.col("error"),
        )
        .sort("word")
        .with_columns(q=q_value(pl.col("p")).over("class"))
        .join(whole, on=["class", "word"])
        .filter(difference > 0)
        .with_columns(sure=(difference - half).clip(lower_bound=0).fill_null(0))
        .with_columns(rank=pl.col("sure").cast(pl.Float32))
        .sort("class", "rank", "groups", "word", descending=[False, True, True, False])
        .filter(pl.int_range(pl.len()).over("class") < p["limit"])
        .select(
            "class",
            "word",
            "groups",
            "occurrences",
            "other_occurrences",
            "difference",
            (difference - half).alias("low"),
            (difference + half).alias("high"),
            "sure",
            "p",
            "q",
            "overall",
        )
    )
