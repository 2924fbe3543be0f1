"""The Polars twin of negation.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import effective_clusters, error_of, p_value, q_value, t_quantile
from attnstore.ask.terms import has_letter_or_digit, support
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the columns `class` and `cluster`, `tokens` has `class` and `attention`; `p` the parameters."""
    word, place = pl.col("word"), pl.col("place")
    text = word.cast(pl.String)
    kinds = (
        tables.totals.select(word=text)
        .unique()
        .drop_nulls()
        .with_columns(
            negates=word.is_in(p["negations"]) | word.str.contains("n['’]t$"),
        )
        .with_columns(mark=~has_letter_or_digit(word) & ~pl.col("negates"))
    )
    placed = (
        tables.tokens.filter(
            ~pl.col("special"), pl.col("class").is_not_null(), pl.col("attention").is_not_null()
        )
        .select("document", "position", "attention", "piece", pl.col("class").cast(pl.String), word=text)
        .join(kinds, on="word")
        .sort("document", "position")
        .with_columns(place=(pl.col("piece") == 0).cast(pl.Int64).cum_sum())
    )
    # In one pass through all documents; a word of the previous document does not precede one of this document.
    start = (
        pl.when(pl.col("document") != pl.col("document").shift(1, fill_value=-1)).then(place).forward_fill()
    )
    negation, mark = (pl.when(name).then(place).forward_fill() for name in ("negates", "mark"))
    n, y, o_n, o_y, g = (pl.col(name) for name in ("n", "y", "o_n", "o_y", "g"))
    is_negated, of_word = pl.col("is_negated"), ["class", "word"]
    of_documents = (
        placed.with_columns(start=start, negation=negation, mark_place=mark)
        .filter(~pl.col("mark"), ~pl.col("negates"))
        .with_columns(
            is_negated=(
                (pl.col("negation") >= pl.col("start"))
                & (place - pl.col("negation") <= p["distance"])
                & (pl.col("negation") > pl.col("mark_place").fill_null(-1))
            ).fill_null(value=False)
        )
        .group_by("class", "document", "word", "is_negated")
        .agg(y=pl.col("attention").sum(), n=(pl.col("piece") == 0).sum().cast(pl.Int64))
    )
    gathered = (
        of_documents.join(support(tables.documents, p), on="class")
        .filter(is_negated.sum().over(of_word) >= pl.col("least"), ~word.is_in(p["ignore"]))
        .join(tables.documents.select("document", "cluster"), on="document")
        .group_by("class", "word", "cluster")
        .agg(
            n=n.filter(is_negated).sum(),
            o_n=n.filter(~is_negated).sum(),
            y=y.filter(is_negated).sum(),
            o_y=y.filter(~is_negated).sum(),
        )
        .with_columns(
            negated=n.sum().over(of_word),
            plain=o_n.sum().over(of_word),
            r=y.sum().over(of_word) / n.sum().over(of_word),
            o_r=o_y.sum().over(of_word) / o_n.sum().over(of_word),
        )
        .filter(pl.col("negated") > 0, pl.col("plain") > 0)
    )
    r, o_r, difference, half = (pl.col(name) for name in ("r", "o_r", "difference", "half"))
    off = (y - r * n) / pl.col("negated") - (o_y - o_r * o_n) / pl.col("plain")
    return (
        gathered.group_by(of_word)
        .agg(
            pl.col("negated", "plain", "r", "o_r").first(),
            negated_clusters=(n > 0).sum().cast(pl.Int64),
            plain_clusters=(o_n > 0).sum().cast(pl.Int64),
            one=effective_clusters(n),
            other=effective_clusters(o_n),
            squares=(off**2).sum(),
        )
        .with_columns(difference=r - o_r, g=pl.min_horizontal("one", "other"))
        .with_columns(
            error=pl.when(pl.col("one") >= 5, pl.col("other") >= 5).then(
                error_of(pl.col("squares") * g / (g - 1), r**2 + o_r**2)
            )
        )
        .with_columns(
            p=p_value(difference / pl.col("error"), g - 1), half=t_quantile(0.975, g - 1) * pl.col("error")
        )
        .sort("word")
        .with_columns(q=q_value(pl.col("p")).over("class"))
        .with_columns(
            sure=pl.when(half.is_null())
            .then(0.0)
            .when(difference > 0)
            .then((difference - half).clip(lower_bound=0))
            .otherwise((difference + half).clip(upper_bound=0))
        )
        .with_columns(rank=pl.col("sure").abs().cast(pl.Float32))
        .sort("class", "rank", "negated", "word", descending=[False, True, True, False])
        .filter(pl.int_range(pl.len()).over("class") < p["limit"])
        .select(
            "class",
            "word",
            "negated",
            "plain",
            "negated_clusters",
            "plain_clusters",
            negated_evidence="r",
            plain_evidence="o_r",
            difference="difference",
            low=difference - half,
            high=difference + half,
            sure="sure",
            p="p",
            q="q",
        )
    )
