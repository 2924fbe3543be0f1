"""Several stores of the same documents, such as models of several seeds: what the model does, and what the seed does.

For a word, store s has the mean r_s of a score over the word's occurrences in the documents of a class, r_s = Σ y_s /
Σ n_s over clusters g. Cluster g adds e_gs = (y_gs − r_s n_gs) / Σ n_s to its error (Cochran 1977, "Sampling
Techniques", section 6.3), so its sampling variance is v_s = G / (G − 1) Σ_g e_gs², with G clusters that have the word.
The documents are the same for all stores: what they do to all stores alike is not a difference between them. The
variance between the S stores consists of the seeds' variance and of the sampling errors apart from their mean, d_gs =
e_gs − ē_g:

    E[Σ_s (r_s − r̄)² / (S − 1)] = seed² + Σ_s G / (G − 1) Σ_g d_gs² / (S − 1)

which is solved for seed², as in an analysis of variance (Searle, Casella and McCulloch 1992, "Variance Components").
The variance of the mean over stores is the variance between them over S, plus that of the ē_g, minus what is in both,
with Satterthwaite's degrees of freedom (1946).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import polars as pl

from attnstore.ask.binding import bound
from attnstore.ask.matched import matched_documents
from attnstore.ask.questions import find_questions, get_question
from attnstore.ask.statistics import t_quantile
from attnstore.ask.terms import has_letter_or_digit
from attnstore.errors import UsageError
from attnstore.store import frames
from attnstore.store.frames import QuestionColumns
from attnstore.store.store import Store

#: With fewer clusters that have a word, there is no sampling error.
_FEWEST = 5


@dataclass(frozen=True, slots=True)
class Seeds:
    """What several stores of the same documents have in common, and how they differ.

    `documents` counts those that all have. `accuracies`: by store, over those with a label; empty if there is no
    accuracy.

    `parts`: a row per class: `class`, `words`, and the parts of the variance of the words' figures in one store: the
    words' own, which is the same in all stores (`model`), the seed's (`seed`) and the sample's (`sampling`).

    `lists`: a row per class: `class`, `size` of the lists of leading words, and how many words two stores share:
    `shared` on average, `fewest`, `most`.

    `words`: a row per class and word, highest mean over stores first: `class`, `word`, `documents` (the fewest in a
    store), `clusters`, `mean`, `low` to `high` (95 %, for other seeds and other documents), `lowest`, `highest` (in a
    store), `between` (the standard deviation between stores), `seed` (that of the seeds alone), `sampling` (a store's
    standard error from its documents), `part` (the seed's share of the variance of seed and sampling). What depends on
    sampling is null with fewer than five clusters that have the word.
    """

    documents: int
    accuracies: Mapping[str, float]
    parts: pl.DataFrame
    lists: pl.DataFrame
    words: pl.DataFrame


def compare_seeds(
    stores: Mapping[str, Store],
    reduction: str = "cls",
    layer: str = "last",
    min_documents: int | None = None,
    size: int = 20,
) -> Seeds:
    """Compare several stores of the same documents, word by word, in the documents of each prediction.

    A word's figure is its lift for attention, and the mean of the score for a signed score (evidence).
    `min_documents`: leave out words in fewer documents of the class in any store; None is one in 200 of all documents,
    and at least 5. `size`: the length of the lists.

    Raises:
        UsageError: there are fewer than two stores, the classes differ, no document is in all, or a store does not have
            that reduction or layer.
        StoreError: a store can't be read.
    """
    if len(stores) < 2:
        raise UsageError("one store has nothing to be compared with")
    names = list(stores)
    numbers = _in_all(stores)
    found = pl.concat(
        _words(
            stores[name], numbers.select("cluster", "label", document=name), reduction, layer
        ).with_columns(store=pl.lit(name))
        for name in names
    )
    words, lists, parts = _measured(found, numbers.height, len(names), min_documents, size)
    return Seeds(numbers.height, _accuracies(stores, numbers), parts, lists, words)


def _in_all(stores: Mapping[str, Store]) -> pl.DataFrame:
    """A row for each document that all stores have: `cluster`, `label`, and by store name its number there."""
    first, *others = stores
    whole: pl.DataFrame | None = None
    for name in others:
        pairs, _, _ = matched_documents(stores[first], stores[name])
        pairs = pairs.select("cluster", "label", pl.col("a").alias(first), pl.col("b").alias(name))
        whole = pairs if whole is None else whole.join(pairs.select(first, name), on=first)
    assert whole is not None  # noqa: S101 - there are two stores or more
    if whole.is_empty():
        raise UsageError(f"no document is in all of {len(stores)} stores, by id and text")
    return whole


def _words(store: Store, numbers: pl.DataFrame, reduction: str, layer: str) -> pl.DataFrame:
    """`class`, `word`, `cluster`, `documents`, `n` and `y` of the words in these documents."""
    question = get_question("for_and_against", find_questions())
    added = bound(store, question, {"reduction": reduction, "layer": layer})[1]
    held = store.manifest.reduction(reduction)
    signed = held is not None and held.signed
    attention = pl.col("attention")
    value = attention if signed else attention * pl.col("length") / pl.col("pieces")
    rows = (
        frames.tokens(store, QuestionColumns(added.means, added.heads))
        .filter(pl.col("word").is_not_null(), attention.is_not_null())
        .join(numbers.lazy().select("document", "cluster"), on="document")
        .group_by("prediction", "word", "cluster")
        .agg(
            documents=pl.col("new_word").sum().cast(pl.Int64),
            n=(pl.col("piece") == 0).sum().cast(pl.Int64),
            y=value.sum(),
        )
        .select(pl.col("prediction").cast(pl.String).alias("class"), pl.col("word").cast(pl.String), "cluster",
                "documents", "n", "y")
        .filter(has_letter_or_digit(pl.col("word")))
    )  # fmt: skip
    return frames.collect(store, rows)


def _accuracies(stores: Mapping[str, Store], numbers: pl.DataFrame) -> dict[str, float]:
    """By store, over the documents with a label; empty if the labels are not the models' classes."""
    labelled = numbers.filter(pl.col("label").is_not_null())
    if labelled.is_empty() or not all(store.manifest.labels_are_models for store in stores.values()):
        return {}
    accuracies = {}
    for name, store in stores.items():
        predicted = frames.collect(
            store, frames.documents(store).select("document", pl.col("prediction").cast(pl.String))
        )
        judged = labelled.join(predicted, left_on=name, right_on="document")
        accuracies[name] = judged.select((pl.col("prediction") == pl.col("label")).mean()).item()
    return accuracies


def _measured(
    found: pl.DataFrame, documents: int, stores: int, min_documents: int | None, size: int
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """`words`, `lists` and `parts` of `Seeds`."""
    of_word = ["class", "word"]
    n, y, e = pl.col("n"), pl.col("y"), pl.col("e")
    least = max(5, -(-documents // 200)) if min_documents is None else min_documents
    figures = (
        found.group_by(*of_word, "store")
        .agg(pl.col("documents").sum(), total=n.sum(), r=y.sum() / n.sum())
        .filter(pl.col("total") > 0, pl.col("documents") >= least)
        # A word that is too rare in one store can't be compared.
        .filter(pl.len().over(of_word) == stores)
    )
    errors = found.join(figures.select(*of_word, "store", "total", "r"), on=[*of_word, "store"]).with_columns(
        e=(y - pl.col("r") * n) / pl.col("total")
    )
    # A cluster without the word in a store adds nothing to the store's error: its d is minus the mean of the others.
    by_cluster = errors.group_by(*of_word, "cluster").agg(squares=(e**2).sum(), mean=e.sum() / stores)
    # Σ_s d² = Σ_s e² − S ē², over all stores.
    sampled = by_cluster.group_by(of_word).agg(
        clusters=pl.len().cast(pl.Int64),
        own=pl.col("squares").sum() / stores,
        apart=(pl.col("squares") - stores * pl.col("mean") ** 2).sum(),
        common=(pl.col("mean") ** 2).sum(),
    )
    g = pl.col("clusters")
    scale = pl.when(g >= _FEWEST).then(g / (g - 1))
    between, seed, sampling = pl.col("between"), pl.col("seed"), pl.col("sampling")
    # The sampling error of each store apart is in both.
    apart = pl.col("apart") * scale / (stores - 1)
    of_seeds = between**2 / stores
    of_sample = (pl.col("common") * scale - apart / stores).clip(lower_bound=0)
    words = (
        figures.group_by(of_word)
        .agg(
            pl.col("documents").min(),
            mean=pl.col("r").mean(),
            between=pl.col("r").std(),
            lowest=pl.col("r").min(),
            highest=pl.col("r").max(),
        )
        .join(sampled, on=of_word)
        .with_columns(sampling=(pl.col("own") * scale).sqrt(), left=between**2 - apart)
        .with_columns(seed=pl.col("left").clip(lower_bound=0).sqrt())
        .with_columns(
            variance=of_seeds + of_sample,
            part=pl.when(seed**2 + sampling**2 > 0).then(seed**2 / (seed**2 + sampling**2)),
        )
        .with_columns(
            df=pl.when(pl.col("variance") > 0).then(
                pl.col("variance") ** 2 / (of_seeds**2 / (stores - 1) + of_sample**2 / (g - 1))
            )
        )
        .with_columns(half=t_quantile(0.975, pl.col("df")) * pl.col("variance").sqrt())
        .sort("class", "mean", "word", descending=[False, True, False])
    )
    shown = words.select(
        *of_word, "documents", "clusters", "mean", (pl.col("mean") - pl.col("half")).alias("low"),
        (pl.col("mean") + pl.col("half")).alias("high"), "lowest", "highest", "between", "seed", "sampling", "part",
    )  # fmt: skip
    return shown, _lists(figures, size), _parts(words)


def _parts(words: pl.DataFrame) -> pl.DataFrame:
    """`parts` of `Seeds`: `left`, unlike `seed`, may be below 0 by chance, so that its average is unbiased."""
    known = words.filter(pl.col("sampling").is_not_null())
    model = (pl.col("mean").var() - pl.col("variance_of_mean").mean()).clip(lower_bound=0)
    seed, sampling = pl.col("left").mean().clip(lower_bound=0), (pl.col("sampling") ** 2).mean()
    whole = pl.col("model") + pl.col("seed") + pl.col("sampling")
    return (
        known.with_columns(variance_of_mean=pl.col("variance"))
        .group_by("class")
        .agg(words=pl.len().cast(pl.Int64), model=model, seed=seed, sampling=sampling)
        .with_columns(pl.col("model", "seed", "sampling") / whole)
        .sort("class")
    )


def _lists(figures: pl.DataFrame, size: int) -> pl.DataFrame:
    """`lists` of `Seeds`: each class's leading words by store, and how many two stores share."""
    leading = figures.sort("r", "word", descending=[True, False]).group_by("class", "store").head(size)
    rows = []
    for (name,), of_class in leading.group_by(["class"], maintain_order=True):
        lists = [set(words["word"]) for _, words in of_class.group_by(["store"])]
        shared = [len(one & other) for one, other in combinations(lists, 2)]
        if shared:
            longest = max(map(len, lists))
            rows.append((name, longest, sum(shared) / len(shared), min(shared), max(shared)))
    schema = {
        "class": pl.String,
        "size": pl.Int64,
        "shared": pl.Float64,
        "fewest": pl.Int64,
        "most": pl.Int64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row").sort("class")
