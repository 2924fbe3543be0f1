"""The Polars twin of ratings.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import kish, ratio_variance, share_interval, t_quantile
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the columns `value` and `cluster`, `tokens` has `attention`; `p` the parameters and facts."""
    most = max(1, p["bins"])
    value, number, attention = pl.col("value"), pl.col("number"), pl.col("attention")
    right = pl.col("label").cast(pl.String) == pl.col("prediction").cast(pl.String)
    place = (number.rank("min") - 1).cast(pl.Int64)
    nth = number.rank("dense").cast(pl.Int64)
    spoken = (
        tables.tokens.filter(~pl.col("special"), attention.is_not_null())
        .group_by("document")
        .agg(pro=attention.clip(lower_bound=0).sum(), contra=attention.clip(upper_bound=0).sum())
    )
    judged, hits, heard, net, g, net_g = (
        pl.col(name) for name in ("judged", "hits", "heard", "net", "g", "net_g")
    )
    pro, contra, accuracy, half = (pl.col(name) for name in ("pro", "contra", "accuracy", "half"))
    both = pro + contra
    summed = (
        tables.documents.select(
            "document",
            "cluster",
            pl.col("probability").cast(pl.Float64),
            correct=right.cast(pl.Int64) if p["labels_are_models"] else pl.lit(None, dtype=pl.Int64),
            number=pl.coalesce(
                value.cast(pl.Float64, strict=False),
                value.str.extract(p["pattern"], 1).cast(pl.Float64, strict=False),
            ),
        )
        .filter(number.is_finite())
        .with_columns(
            bin=pl.when(nth.max() <= most).then(nth).otherwise(place * most // pl.len().cast(pl.Int64))
        )
        .join(spoken, on="document", how="left")
        .group_by("bin", "cluster")
        .agg(
            least=number.min(),
            highest=number.max(),
            n=pl.len().cast(pl.Int64),
            said=pl.col("probability").sum(),
            judged=pl.col("correct").count().cast(pl.Int64),
            hits=pl.col("correct").sum(),
            heard=pro.count().cast(pl.Int64),
            pro=pro.sum(),
            contra=contra.sum(),
        )
        .group_by("bin")
        .agg(
            pl.col("least").min(),
            pl.col("highest").max(),
            documents=pl.col("n").sum(),
            clusters=pl.len().cast(pl.Int64),
            mean_probability=pl.col("said").sum() / pl.col("n").sum(),
            hits=hits.sum(),
            hh=(hits * hits).sum(),
            hj=(hits * judged).sum(),
            jj=(judged * judged).sum(),
            judged=judged.sum(),
            pro=pro.sum(),
            contra=contra.sum(),
            ee=(both**2).sum(),
            eh=(both * heard).sum(),
            hearings=(heard * heard).sum(),
            heard=heard.sum(),
        )
        .with_columns(
            accuracy=pl.when(judged > 0).then(hits / judged),
            g=pl.when(judged > 0).then(kish(judged, pl.col("jj"))),
            pro=pl.when(heard > 0).then(pro / heard),
            contra=pl.when(heard > 0).then(contra / heard),
            net=pl.when(heard > 0).then(both / heard),
            net_g=pl.when(heard > 0).then(kish(heard, pl.col("hearings"))),
        )
    )
    low, high = share_interval(
        accuracy,
        judged,
        ratio_variance(accuracy, judged, pl.col("hh"), pl.col("hj"), pl.col("jj"), g),
        g,
    )
    variance = ratio_variance(net, heard, pl.col("ee"), pl.col("eh"), pl.col("hearings"), net_g)
    return (
        summed.with_columns(low=low, high=high, half=t_quantile(0.975, net_g - 1) * variance.sqrt())
        .sort("least")
        .select(
            "documents",
            "clusters",
            "accuracy",
            "low",
            "high",
            "mean_probability",
            "net",
            number_from="least",
            number_to="highest",
            evidence_for="pro",
            evidence_against="contra",
            net_low=net - half,
            net_high=net + half,
        )
        .select(
            *(
                "number_from",
                "number_to",
                "documents",
                "clusters",
                "accuracy",
                "low",
                "high",
                "mean_probability",
            ),
            *("evidence_for", "evidence_against", "net", "net_low", "net_high"),
        )
    )
