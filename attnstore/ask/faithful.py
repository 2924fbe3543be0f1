"""The most faithful score, by measurement: chosen on some documents, reported on others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from attnstore.ask.statistics import cluster_sums, margin, ratio_error
from attnstore.errors import UsageError
from attnstore.messages import counted, listed
from attnstore.store import frames
from attnstore.store.faithfulness import BASELINES, REMOVALS, UNITS, not_measured
from attnstore.store.manifest import StoredReduction
from attnstore.store.store import Store


@dataclass(frozen=True, slots=True)
class Best:
    """The chosen score, and how faithful it is on documents that did not choose it.

    `chosen_on` documents decided, by the highest mean comprehensiveness (AOPC) among `among` scores.
    `comprehensiveness` is the mean over the `documents` of other groups, with its 95 % interval by group, `low` to
    `high`; None if there are too few.
    """

    score: str
    among: int
    chosen_on: int
    documents: int
    comprehensiveness: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """The score and how certain its figure is, in one sentence without its full stop."""
        chosen = (
            f"best of {counted(self.among, 'score')} on {counted(self.chosen_on, 'document')}: {self.score}"
        )
        if self.comprehensiveness is None:
            return chosen
        interval = "" if self.low is None else f" ({self.low:.3f} to {self.high:.3f})"
        return f"{chosen}; on {self.documents:,} others its comprehensiveness is {self.comprehensiveness:.3f}{interval}"


def best_score(store: Store, among: Sequence[str] = (), by: str = "", unit: str = "") -> Best:
    """The best of some scores or, if none are given, of all measured ones except `random` and `log_odds`.

    Only documents with measurements of all these scores count. One half of the groups, always the same, chooses (a
    document without a group is its own). `by` and `unit` default to the deletion of tokens, or else to what was
    measured.

    Raises:
        UsageError: nothing has been measured, or not all of the scores.
        StoreError: the store can't be read.
    """
    measured = pl.col("by") == by if by else pl.lit(True)
    measured &= pl.col("unit") == unit if unit else pl.lit(True)
    rows = frames.faithfulness(store).filter(measured, pl.col("score").is_in(BASELINES).not_())
    keys = ["by", "unit", "document", "score"]
    mean = pl.col("comprehensiveness").cast(pl.Float64).mean()
    areas = frames.collect(store, rows.group_by(keys).agg(area=mean)).sort(keys)
    ways = [(a, b) for b in UNITS for a in REMOVALS]
    there = set(areas.select("by", "unit").unique().iter_rows())
    wanted = set(among)
    for way in [way for way in ways if way in there]:
        of_way = areas.filter(pl.col("by") == way[0], pl.col("unit") == way[1])
        names = wanted or set(of_way["score"].unique())
        of_way = of_way.filter(pl.col("score").is_in(sorted(names)))
        whole = of_way.filter(pl.len().over("document") == len(names))
        if len(whole):
            return _chosen(store, whole, len(names))
    missing = sorted(wanted - set(areas["score"].unique()))
    what = listed(missing) if missing else f"{listed(sorted(wanted)) or 'any score'} in the same documents"
    raise not_measured(store, f"faithfulness has not been measured for {what}")


def best_layer(store: Store, reduction: StoredReduction) -> int:
    """The layer, from 1, of a reduction with layers, whose column is the most faithful.

    Raises:
        UsageError: not all layers have been measured, or a token has a value per head.
        StoreError: the store can't be read.
    """
    if reduction.per_head:
        raise UsageError(
            f"{reduction.name} has no best layer: faithfulness is of scores of one value per token, it has one per head"
        )
    columns = reduction.columns(store.manifest.layers)
    return columns.index(best_score(store, columns).score) + 1


def _chosen(store: Store, areas: pl.DataFrame, among: int) -> Best:
    """`areas`: the AOPC (`area`) of each document and score, with every score for every document."""
    documents = frames.documents(store, frames.QuestionColumns(cluster="group")).select("document", "cluster")
    rows = areas.join(frames.collect(store, documents), on="document")
    clusters = rows["cluster"].unique().sort().to_numpy()
    choosing = np.random.default_rng(0).permutation(clusters)[: -(-len(clusters) // 2)]
    chooses = pl.col("cluster").is_in(choosing.tolist())
    means = rows.filter(chooses).group_by("score").agg(pl.col("area").mean())
    score: str = means.sort("area", "score", descending=[True, False])["score"][0]
    held = rows.filter(~chooses, pl.col("score") == score)
    y, n, ratio = pl.col("y"), pl.col("n"), pl.col("ratio")
    summed = (
        held.group_by("cluster")
        .agg(y=pl.col("area").sum(), n=pl.len().cast(pl.Int64))
        .select(**cluster_sums(y, n), ratio=y.sum() / n.sum(), n=n.sum())
        .with_columns(half=margin(ratio_error(ratio, n)))
        .row(0, named=True)
    )
    mean, half = summed["ratio"], summed["half"]
    return Best(
        score=score,
        among=among,
        chosen_on=rows.filter(chooses)["document"].n_unique(),
        documents=summed["n"],
        comprehensiveness=mean,
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
    )
