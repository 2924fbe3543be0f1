"""The same documents in two stores: whether the models agree, and where their attention differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import binomtest

from attnstore.ask.binding import bound
from attnstore.ask.matched import matched_documents
from attnstore.ask.questions import find_questions, get_question
from attnstore.ask.statistics import cluster_sums, margin, p_value, q_value, ratio_error
from attnstore.ask.terms import has_letter_or_digit
from attnstore.errors import UsageError
from attnstore.store import frames
from attnstore.store.frames import QuestionColumns
from attnstore.store.manifest import StoredReduction
from attnstore.store.store import Store

#: The most documents that layers are matched by, spread over all.
_LAYERS_OVER = 2000


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two stores, A and B, have in common, and where they differ.

    `documents` counts those that both have, by id and text; `only_a` and `only_b` count those that only one store
    has, or that differ in their text. `agreeing`: predicted as the same class. If the labels are both models'
    classes: `labelled`, `right_a`, `right_b`, `right_in_a_alone`, `right_in_b_alone`, the accuracy of A minus that of
    B (`difference`, with a 95 % interval by group, `low` to `high`; None if there are too few groups), and McNemar's
    exact `p`; otherwise None.

    `words`: a row per word found in enough documents, the most certain first: `word`, `documents`, `occurrences`,
    `lift_a`, `lift_b` (a word's share of the attention to the words of its document that both stores have, times
    their number; 1 is an even share), `difference` (A minus B, per occurrence) with its 95 % interval by group, `p`,
    `q`.
    `moved`: a row per document, the most distant first: `id`, `distance` (the Jensen-Shannon divergence of these
    shares in bits, 0 to 1), `prediction_a`, `prediction_b`, `words`.
    `layers`: a row per layer of A and layer of B: `layer_a`, `layer_b`, `similarity` (the Bhattacharyya coefficient
    of these shares, Σ √(p q), 1 if they are equal and 0 if no word has a share in both; averaged over at most 2,000
    documents, spread over all) and each layer's similarity to even shares: `even_a`, `even_b`. Empty for a reduction
    with one value for all layers.
    """

    documents: int
    only_a: int
    only_b: int
    agreeing: int
    labelled: int | None
    right_a: int | None
    right_b: int | None
    right_in_a_alone: int | None
    right_in_b_alone: int | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    words: pl.DataFrame
    moved: pl.DataFrame
    layers: pl.DataFrame


def compare(
    a: Store, b: Store, reduction: str = "cls", layer: str = "last", min_documents: int | None = None
) -> Comparison:
    """Compare two stores of the same documents, by one reduction and layer of each.

    Words are matched by their positions in the text, so tokenizers may differ. `min_documents`: leave out words in
    fewer documents; None is one in 200 documents, and at least 5.

    Raises:
        UsageError: the classes differ, no document is in both, or a store does not have that reduction or layer.
        StoreError: a store can't be read.
    """
    pairs, only_a, only_b = matched_documents(a, b)
    found = _accuracies(a, b, pairs)
    words, moved = _attention(a, b, pairs, reduction, layer, min_documents)
    agreeing = pairs.filter(pl.col("prediction_a") == pl.col("prediction_b")).height
    layers = _layers(a, b, pairs, reduction)
    return Comparison(pairs.height, only_a, only_b, agreeing, *found, words, moved, layers)


def _accuracies(
    a: Store, b: Store, pairs: pl.DataFrame
) -> tuple[
    int | None,
    int | None,
    int | None,
    int | None,
    int | None,
    float | None,
    float | None,
    float | None,
    float | None,
]:
    labelled = pairs.filter(pl.col("label").is_not_null())
    if not (a.manifest.labels_are_models and b.manifest.labels_are_models) or labelled.is_empty():
        return (None,) * 9
    one, other = (pl.col(name) == pl.col("label") for name in ("prediction_a", "prediction_b"))
    judged = labelled.select("cluster", one=one, other=other)
    right_a, right_b = int(judged["one"].sum()), int(judged["other"].sum())
    a_alone, b_alone = (
        judged.filter("one", ~pl.col("other")).height,
        judged.filter("other", ~pl.col("one")).height,
    )
    y, n = pl.col("y"), pl.col("n")
    signed = pl.col("one").cast(pl.Int64) - pl.col("other").cast(pl.Int64)
    row = (
        judged.group_by("cluster")
        .agg(y=signed.sum().cast(pl.Float64), n=pl.len().cast(pl.Int64))
        .select(**cluster_sums(y, n), mean=y.sum() / n.sum(), n=n.sum())
        .with_columns(half=margin(ratio_error(pl.col("mean"), n)))
        .row(0, named=True)
    )
    mean, half = row["mean"], row["half"]
    p = float(binomtest(a_alone, a_alone + b_alone).pvalue) if a_alone + b_alone else None
    ends = (None, None) if half is None else (mean - half, mean + half)
    return judged.height, right_a, right_b, a_alone, b_alone, mean, *ends, p


def _attention(
    a: Store, b: Store, pairs: pl.DataFrame, reduction: str, layer: str, min_documents: int | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`words` and `moved` of `Comparison`."""
    pair = pairs.with_row_index("pair").select(
        "pair", "id", "cluster", "a", "b", "prediction_a", "prediction_b"
    )
    one, other = (
        _words(s, pair.select("pair", document=name), _means(s, reduction, layer))
        for s, name in ((a, "a"), (b, "b"))
    )
    share_a, share_b = (
        pl.col(name) / pl.col(name).sum().over("pair") for name in ("attention", "attention_b")
    )
    whole = (pl.col("attention").sum().over("pair") > 0) & (pl.col("attention_b").sum().over("pair") > 0)
    shared = (
        one.join(other, on=["pair", "segment", "start", "end"], suffix="_b", nulls_equal=True)
        .filter(whole)
        .with_columns(p=share_a, q=share_b, size=pl.len().over("pair"))
    )
    middle = (pl.col("p") + pl.col("q")) / 2
    p, q = pl.col("p"), pl.col("q")
    # 0 · log 0 is 0.
    parts = [pl.when(x > 0).then(x * (x / middle).log(2)).otherwise(0) for x in (p, q)]
    moved = (
        shared.group_by("pair")
        .agg(distance=((parts[0] + parts[1]).sum() / 2).clip(0, 1), words=pl.len().cast(pl.Int64))
        .join(pair, on="pair")
        .sort("distance", "pair", descending=[True, False])
        .select("id", "distance", "prediction_a", "prediction_b", "words")
    )
    least = max(5, -(-pairs.height // 200)) if min_documents is None else min_documents
    y, n, lift_a, lift_b = (pl.col(name) for name in ("y", "n", "lift_a", "lift_b"))
    difference, error = pl.col("difference"), pl.col("error")
    words = (
        shared.filter(has_letter_or_digit(pl.col("word")))
        .join(pair.select("pair", "cluster"), on="pair")
        .with_columns(lift_a=p * pl.col("size"), lift_b=q * pl.col("size"))
        .group_by("word", "cluster")
        .agg(
            documents=pl.col("pair").n_unique().cast(pl.Int64),
            n=pl.len().cast(pl.Int64),
            lift_a=lift_a.sum(),
            lift_b=lift_b.sum(),
            y=(lift_a - lift_b).sum(),
        )
        .group_by("word")
        .agg(
            pl.col("documents").sum(),
            **cluster_sums(y, n),
            occurrences=n.sum(),
            lift_a=lift_a.sum() / n.sum(),
            lift_b=lift_b.sum() / n.sum(),
            difference=y.sum() / n.sum(),
        )
        .filter(pl.col("documents") >= least)
        .with_columns(error=ratio_error(difference, pl.col("occurrences")))
        .with_columns(
            half=margin(error),
            # A remainder from rounding alone is not an error.
            p=p_value(difference / pl.when(error > 1e-7).then(error), pl.col("clusters") - 1),
        )
        .sort("word")
        .with_columns(q=q_value(p), low=difference - pl.col("half"), high=difference + pl.col("half"))
        .sort(p, difference.abs(), "word", descending=[False, True, False], nulls_last=True)
        .select(
            *("word", "documents", "occurrences", "lift_a", "lift_b", "difference", "low", "high", "p", "q")
        )
    )
    return words, moved


def _layers(a: Store, b: Store, pairs: pl.DataFrame, reduction: str) -> pl.DataFrame:
    """`layers` of `Comparison`."""
    schema = {"layer_a": pl.Int64, "layer_b": pl.Int64} | dict.fromkeys(
        ("similarity", "even_a", "even_b"), pl.Float64
    )
    if not (_shared_out(a, reduction).per_layer and _shared_out(b, reduction).per_layer):
        return pl.DataFrame(schema=schema)
    some = pairs.gather_every(-(-pairs.height // _LAYERS_OVER)).with_row_index("pair")
    names = [
        [f"{side}_{layer}" for layer in range(1, s.manifest.layers + 1)] for side, s in (("a", a), ("b", b))
    ]
    one, other = (
        _words(s, some.select("pair", document=side), _all_layers(s, reduction, columns))
        for s, side, columns in ((a, "a", names[0]), (b, "b", names[1]))
    )
    columns = [*names[0], *names[1]]
    whole = pl.all_horizontal(pl.col(column).sum().over("pair") > 0 for column in columns)
    shared = (
        one.join(other, on=["pair", "segment", "start", "end"], suffix="_other", nulls_equal=True)
        .filter(whole)
        .select(
            pl.col("pair"),
            # The root of a word's share: products of two of them are summed.
            *((pl.col(column) / pl.col(column).sum().over("pair")).sqrt() for column in columns),
            even=(1 / pl.len().over("pair")).sqrt(),
        )
    )
    documents = shared["pair"].n_unique()
    if not documents:
        return pl.DataFrame(schema=schema)
    roots_a, roots_b, even = (shared.select(of).to_numpy() for of in (names[0], names[1], ["even"]))
    similarity = roots_a.T @ roots_b / documents
    even_a, even_b = ((roots.T @ even)[:, 0] / documents for roots in (roots_a, roots_b))
    rows, places = np.indices(similarity.shape)
    return pl.DataFrame(
        {
            "layer_a": rows.ravel() + 1,
            "layer_b": places.ravel() + 1,
            "similarity": similarity.ravel(),
            "even_a": even_a[rows.ravel()],
            "even_b": even_b[places.ravel()],
        },
        schema=schema,
    )


def _shared_out(store: Store, reduction: str) -> StoredReduction:
    """The reduction, if its values are shares of a whole. Raises UsageError if the store has no such reduction."""
    held = store.manifest.reduction(reduction)
    if held is None or held.total is None:
        raise UsageError(
            f"{reduction} does not add up to a share of a whole: compare takes attention, such as cls"
        )
    return held


def _means(store: Store, reduction: str, layer: str) -> QuestionColumns:
    """One layer's columns, as `attention`. Raises UsageError if the store does not have the layer."""
    question = get_question("top_words_by_class", find_questions())
    added = bound(store, question, {"reduction": reduction, "layer": layer})[1]
    _shared_out(store, reduction)
    return QuestionColumns(added.means, added.heads)


def _all_layers(store: Store, reduction: str, names: Sequence[str]) -> QuestionColumns:
    """The columns of all layers, by name."""
    held = _shared_out(store, reduction)
    means: Mapping[str, tuple[str, ...]] = {
        name: (column,) for name, column in zip(names, held.columns(store.manifest.layers), strict=True)
    }
    return QuestionColumns(means, store.manifest.heads if held.per_head else None)


def _words(store: Store, pair: pl.DataFrame, added: QuestionColumns) -> pl.DataFrame:
    """The words of the matched documents: `pair`, `segment`, `start`, `end`, `word`, and their summed attention.

    The sums have the names in `added`.
    """
    place = (pl.col("piece") == 0).cum_sum().over("document", order_by="position")
    segment = pl.col("segment") if store.manifest.pairs else pl.lit(None, dtype=pl.Int8)
    attention = pl.col(list(added.means))
    words = (
        frames.tokens(store, added)
        .filter(pl.col("word").is_not_null(), pl.all_horizontal(attention.is_not_null()))
        .join(pair.lazy(), on="document")
        .with_columns(place=place, segment=segment)
        .group_by("pair", "place")
        .agg(
            pl.col("segment").first(),
            pl.col("start").min(),
            pl.col("end").max(),
            pl.col("word").first().cast(pl.String),
            attention.sum(),
        )
    )
    return frames.collect(store, words)
