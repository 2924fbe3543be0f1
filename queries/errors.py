"""The Polars twin of errors.sql, which says what is asked and how to read the answer."""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import effective_clusters, error_of, permutation_p, q_value, together
from attnstore.ask.terms import is_listed, known, leading, least_documents, log_odds, occurrences
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the column `cluster`, `tokens` has `attention`; `p` holds the parameters."""
    prediction, label = pl.col("prediction").cast(pl.String), pl.col("label")
    judged = tables.documents.filter(
        pl.lit(p["labels_are_models"]), prediction.is_not_null(), label.is_not_null()
    ).select("document", "cluster", "probability", wrong=prediction != label, **{"class": prediction})
    wrong, right = pl.col("wrong"), ~pl.col("wrong")
    considered = tables.tokens.filter(pl.lit(p["labels_are_models"]), pl.col("attention").is_not_null())
    rows = occurrences(considered, p).filter(pl.col("word").is_not_null())
    # Per document and word, including unlisted words.
    uses = rows.group_by("document", "word").agg(
        n=pl.col("starts").sum().cast(pl.Float64), y=pl.col("lift").sum(), documents=pl.col("new").sum()
    )
    counts = None
    if p["renormalise"]:  # drops words that count, but no document in which nothing is left
        counted = occurrences(considered, {**p, "renormalise": False}).join(rows, on="document", how="semi")
        counted = counted.filter(pl.col("word").is_not_null()).join(judged, on="document")
        starts = pl.col("starts").cast(pl.Float64)
        counts = counted.group_by("class").agg(
            words=starts.filter(wrong).sum(), o_words=starts.filter(right).sum()
        )
    return compared(judged, uses, counts, p, tables.once)


def compared(
    judged: pl.LazyFrame,
    uses: pl.LazyFrame,
    counts: pl.LazyFrame | None,
    p: Mapping[str, Any],
    once: Callable[[pl.LazyFrame], pl.LazyFrame],
) -> pl.LazyFrame:
    """The answer out of `judged` (document, cluster, probability, wrong, class) and `uses` of words in documents.

    `uses` has document, word, n (occurrences), y (the sum of their lifts) and documents (1, or 0 where no occurrence
    starts); `counts` the words of each class, None: those in `uses`. `once` works out a frame that is read again.
    """
    wrong, right = pl.col("wrong"), ~pl.col("wrong")
    unmatched = judged.with_columns(stratum=pl.lit(0))
    matched = once(_stratified(judged) if p["match"] == "probability" else unmatched)
    uses = once(uses.join(matched.drop("probability"), on="document"))
    n, y, o_n, o_y = (pl.col(name) for name in ("n", "y", "o_n", "o_y"))
    of_cell, weight = ["class", "word", "stratum"], pl.col("weight")
    # Per stratum, wrong documents beside right ones (o). Without a weight, the word is on one side only.
    cells = once(
        uses.group_by(of_cell)
        .agg(
            k=wrong.sum().cast(pl.Float64),
            all_k=pl.len().cast(pl.Float64),
            **{name: pl.col(name).filter(wrong).sum() for name in ("documents", "n", "y")},
            **{f"o_{name}": pl.col(name).filter(right).sum() for name in ("documents", "n", "y")},
        )
        .with_columns(weight=pl.when(n > 0, o_n > 0).then(n * o_n / (n + o_n)))
    )
    sizes = judged.group_by("class").agg(size=wrong.sum().cast(pl.Int64), o_size=right.sum().cast(pl.Int64))
    if counts is None:
        counts = cells.group_by("class").agg(words=n.sum(), o_words=o_n.sum())
    r, o_r, factor = pl.col("r"), pl.col("o_r"), pl.col("factor")
    ratio = pl.when(known("documents", "o_documents"), r > 0, o_r > 0).then((r / o_r).log())
    levelled = (
        cells.group_by("class", "word")
        .agg(
            pl.col("documents", "o_documents").sum().cast(pl.Int64),
            pl.col("n", "o_n", "weight").sum(),
            r=(weight * y / n).sum() / weight.sum(),
            o_r=(weight * o_y / o_n).sum() / weight.sum(),
        )
        .join(sizes, on="class")
        .join(counts, on="class")
        .with_columns(text=pl.col("word").cast(pl.String))
        .filter(
            pl.col("documents") >= least_documents(pl.col("size"), p),
            pl.col("o_documents") >= least_documents(pl.col("o_size"), p),
            weight > 0,
            is_listed(pl.col("text"), p),
        )
        .sort("class", "text")
        .with_columns(factor=ratio.median().over("class").fill_null(0).exp())
    )
    k, all_k = pl.col("k"), pl.col("all_k")
    both, third = k * (all_k - k), k * (all_k - k) * (all_k - 2 * k)
    # What an occurrence has on each side, without the factor.
    expected = (
        cells.filter(weight > 0)
        .join(levelled.select("class", "word", "factor"), on=["class", "word"])
        .select(
            *of_cell,
            "factor",
            usual=(y / factor + o_y) / (n + o_n),
            spread=both / (all_k * (all_k - 1)),
            lean=pl.when(all_k > 2).then(third / (all_k * (all_k - 1) * (all_k - 2))).otherwise(0),
        )
    )
    off, spread, lean, rho = (pl.col(name) for name in ("off", "spread", "lean", "rho"))
    value = pl.when(wrong).then(y / factor).otherwise(y)
    # Per cluster, and per document.
    permuted = (
        uses.join(expected, on=of_cell)
        .with_columns(value=value, off=value - pl.col("usual") * n)
        .group_by("class", "word", "cluster")
        .agg(
            n=pl.when(wrong).then(n).otherwise(0).sum(),
            o_n=pl.when(right).then(n).otherwise(0).sum(),
            whole=(spread.sqrt() * off).sum(),
            whole_lean=(lean.cbrt() * off).sum(),
            squares=(spread * off**2).sum(),
            cubes=(lean * off**3).sum(),
            size=(pl.col("value") ** 2).sum(),
        )
        .group_by("class", "word")
        .agg(
            g=effective_clusters(n),
            o_g=effective_clusters(o_n),
            squares=pl.col("squares").sum(),
            wholes=(pl.col("whole") ** 2).sum(),
            cubes=pl.col("cubes").sum(),
            whole_cubes=(pl.col("whole_lean") ** 3).sum(),
            value_squares=pl.col("size").sum(),
        )
        .join(_togetherness(matched), on="class")
        .select(
            "class",
            "word",
            "g",
            "o_g",
            deviation=error_of(
                (1 - rho) * pl.col("squares") + rho * pl.col("wholes"), pl.col("value_squares")
            ),
            third=(1 - rho) * pl.col("cubes") + rho * pl.col("whole_cubes"),
        )
    )
    g, o_g, deviation = pl.col("g"), pl.col("o_g"), pl.col("deviation")
    sure = -pl.col("t").sign() * pl.col("p").clip(lower_bound=1e-300).log()
    return (
        levelled.join(permuted, on=["class", "word"])
        .pipe(log_odds, p["prior"])
        .with_columns(
            difference=r - factor * o_r,
            error=pl.when(g.is_not_null(), o_g.is_not_null()).then(factor * deviation / weight),
            log_ratio=pl.when(r > 0, o_r > 0).then((r / (factor * o_r)).log()),
            skew=pl.col("third") / deviation**3,
        )
        .with_columns(t=pl.col("difference") / pl.col("error"))
        .with_columns(p=permutation_p(pl.col("t"), pl.col("skew"), g, o_g))
        # The same order in both engines, because adjusting takes minima from the end.
        .sort("class", "text")
        .with_columns(q=q_value(pl.col("p")).over("class"))
        .with_columns(rank=sure if p["rank_by"] == "p" else pl.col(p["rank_by"]))
        .pipe(leading, p["limit"], "text")
        .select(
            "class",
            word="text",
            wrong_documents="documents",
            right_documents="o_documents",
            wrong_occurrences=n.cast(pl.Int64),
            right_occurrences=o_n.cast(pl.Int64),
            wrong_clusters="g",
            right_clusters="o_g",
            wrong_lift="r",
            right_lift="o_r",
            factor="factor",
            difference="difference",
            error="error",
            t="t",
            p="p",
            q="q",
            log_ratio="log_ratio",
            log_odds="log_odds",
            z="z",
        )
    )


def _stratified(judged: pl.LazyFrame) -> pl.LazyFrame:
    """`judged` with `stratum`, from the number of wrong documents with a lower probability: equally many in each."""
    wrong = pl.col("wrong").sum().cast(pl.Int64)
    here, all_wrong = pl.col("here"), pl.col("here").sum().over("class")
    strata = (all_wrong // 20).clip(1, 20)
    levels = (
        judged.group_by("class", "probability")
        .agg(here=wrong)
        .sort("class", "probability")
        .with_columns(lower=here.cum_sum().over("class") - here)
        .select(
            "class",
            "probability",
            stratum=pl.min_horizontal(pl.col("lower") * strata // all_wrong.clip(lower_bound=1), strata - 1),
        )
    )
    return judged.join(levels, on=["class", "probability"])


def _togetherness(matched: pl.LazyFrame) -> pl.LazyFrame:
    """`class`, and `rho`: how much the documents of a cluster correlate in being wrong."""
    of_stratum, wrong = ["class", "stratum"], pl.col("wrong").cast(pl.Float64)
    part = wrong.mean().over(of_stratum)
    return (
        matched.with_columns(off=wrong - part, scale=(part * (1 - part)).sqrt())
        .group_by("class", "cluster")
        .agg(
            products=pl.col("off").sum() ** 2 - (pl.col("off") ** 2).sum(),
            most=pl.col("scale").sum() ** 2 - (pl.col("scale") ** 2).sum(),
        )
        .group_by("class")
        .agg(rho=together(pl.col("products").sum(), pl.col("most").sum()))
    )
