"""Rankings of what is important in a document: by the store's scores, at random, and by the word alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from attnstore.check.lexicon import Lexicon
from attnstore.errors import UsageError
from attnstore.messages import suggestion
from attnstore.store import frames
from attnstore.store.faithfulness import BASELINES, LEXICON, LOG_ODDS, RANDOM
from attnstore.store.manifest import Manifest
from attnstore.store.store import Store

#: How many random orders are measured beside the scores.
DRAWS = 10

#: How many documents with each word are added to the counts of each class. With fewer, words in three documents would
#: lead, and with many more, all words would be alike.
_PRIOR = 5.0


def score_columns(manifest: Manifest, names: Sequence[str]) -> list[str]:
    """The columns of `tokens` for names: columns, or reductions for all their layers; without names, all of them.

    Raises UsageError for a name that the store does not have, or that has a value per head.
    """
    single = [r for r in manifest.reductions if not r.per_head]
    by_name = {r.name: r.columns(manifest.layers) for r in single}
    columns = [column for of_reduction in by_name.values() for column in of_reduction]
    if taken := sorted({*columns} & {*BASELINES}):
        raise UsageError(
            f"a reduction of this store is called {taken[0]}, as the score is that stands beside all"
        )
    chosen: list[str] = []
    for name in names:
        if name in columns:
            chosen.append(name)
        elif name in by_name:
            chosen += by_name[name]
        elif name not in BASELINES:  # these are always measured
            reduction = manifest.reduction(name) or manifest.reduction(name.rpartition("_")[0])
            if reduction is not None and reduction.per_head:
                raise UsageError(f"{name} has a value per head: scores have one value per token")
            raise UsageError(
                f"the store has no score {name!r}{suggestion(name, dict.fromkeys([*columns, *by_name]))}"
            )
    return list(dict.fromkeys(chosen)) if names else columns


@dataclass(frozen=True, slots=True)
class Sample:
    """Documents to measure: their numbers in a random order, and those that could not be drawn.

    `by_class`: how many of each predicted class. `in_windows`: documents that the model read in several passes, which
    have no prediction to compare one pass with. `empty`: those with only special tokens.
    """

    documents: list[int]
    by_class: dict[str, int]
    in_windows: int
    empty: int


def draw_sample(store: Store, size: int, split: str, seed: int) -> Sample:
    """Draw documents at random, in the proportions of the predicted classes; a smaller sample is (nearly) part of a
    larger one.

    Raises UsageError if there is no document to draw, or no such split.
    """
    held = store.manifest.max_length
    documents = frames.documents(store).select(
        "document", "split", "length", pl.col("prediction").cast(pl.String)
    )
    units = frames.tokens(store).group_by("document").agg(units=pl.col("special").not_().sum())
    found = frames.collect(store, documents.join(units, on="document", how="left")).sort("document")
    if split != "all":
        splits = found["split"].unique().sort().to_list()
        if split not in splits:
            raise UsageError(f"the store has no split {split!r}{suggestion(split, splits)}")
        found = found.filter(pl.col("split") == split)
    windows, empty = pl.col("length") > held, pl.col("units").fill_null(0) == 0
    there = found.filter(~windows, ~empty)
    if there.is_empty():
        raise UsageError("the store has no document to take tokens out of")
    classes = there["prediction"].value_counts(sort=False).sort("prediction")
    shares = dict(classes.iter_rows())
    size = min(size, there.height)
    quotas = {name: size * count / there.height for name, count in shares.items()}
    taken = {name: int(quota) for name, quota in quotas.items()}
    for name in sorted(quotas, key=lambda name: (taken[name] - quotas[name], name))[
        : size - sum(taken.values())
    ]:
        taken[name] += 1
    numbers: list[int] = []
    for place, (name, count) in enumerate(taken.items()):
        of_class = there.filter(pl.col("prediction") == name)["document"].to_numpy()
        numbers += np.random.default_rng([seed, place]).permutation(of_class)[:count].tolist()
    # In random order, so that an interrupted measurement is also a fair sample.
    numbers = np.random.default_rng([seed, len(taken)]).permutation(numbers).tolist()
    return Sample(
        numbers,
        {name: count for name, count in taken.items() if count},
        found.filter(windows).height,
        found.filter(~windows, empty).height,
    )


def log_odds(store: Store, numbers: Sequence[int]) -> pl.DataFrame:
    """The log-odds of each word of these documents for their predicted class: `document`, `word`, `log_odds`.

    That is ln((a + k) / (n − a + k)) for the documents of the class minus the same for all others, where a of n
    documents have the word, and k is `_PRIOR`. Documents are counted in the store by predicted class, without the
    document's own group, so nothing of the document itself is included.
    """
    documents = frames.documents(store, frames.QuestionColumns(cluster="group")).select(
        "document", "cluster", pl.col("prediction").cast(pl.String)
    )
    own = documents.filter(pl.col("document").is_in(numbers))
    of_cluster = ["cluster", "prediction"]
    sizes = documents.group_by(of_cluster).agg(size=pl.len().cast(pl.Int64))
    words = (
        frames.tokens(store)
        .filter(pl.col("word").is_not_null())
        .select("document", pl.col("word").cast(pl.String))
    )
    words = words.unique().join(documents, on="document")
    asked = frames.collect(store, words.join(own.select("document"), on="document", how="semi"))
    counted = words.join(asked.lazy().select("word").unique(), on="word", how="semi")
    found = frames.collect(
        store, counted.group_by(*of_cluster, "word").agg(found=pl.len().cast(pl.Int64))
    ).lazy()
    sized = frames.collect(store, sizes).lazy()

    def split(counts: pl.LazyFrame, name: str, *keys: str) -> pl.LazyFrame:
        """Of all clusters by class and `keys`, and of the class against the rest."""
        of_class = counts.group_by("prediction", *keys).agg(pl.col(name).sum().alias(f"{name}_class"))
        if not keys:
            return of_class.with_columns(pl.col(f"{name}_class").sum().alias(f"{name}_all"))
        return of_class.join(
            counts.group_by(*keys).agg(pl.col(name).sum().alias(f"{name}_all")), on=list(keys)
        )

    rows = asked.lazy()
    for counts, name, keys in ((found, "found", ["word"]), (sized, "size", [])):
        everywhere = split(counts, name, *keys)
        here = counts.rename({name: f"{name}_own"})
        of_all_classes = here.group_by("cluster", *keys).agg(
            pl.col(f"{name}_own").sum().alias(f"{name}_own_all")
        )
        rows = (
            rows.join(everywhere, on=["prediction", *keys])
            .join(here, on=["cluster", "prediction", *keys])
            .join(of_all_classes, on=["cluster", *keys])
            .with_columns(
                (pl.col(f"{name}_class") - pl.col(f"{name}_own")).alias(name),
                (
                    pl.col(f"{name}_all")
                    - pl.col(f"{name}_class")
                    - (pl.col(f"{name}_own_all") - pl.col(f"{name}_own"))
                ).alias(f"{name}_other"),
            )
        )

    def odds(a: str, n: str) -> pl.Expr:
        return ((pl.col(a) + _PRIOR) / (pl.col(n) - pl.col(a) + _PRIOR)).log()

    difference = odds("found", "size") - odds("found_other", "size_other")
    return rows.select("document", "word", log_odds=difference).collect()


def lexicon_odds(lexicon: Lexicon) -> pl.DataFrame:
    """Like `log_odds`, counted in other data by its labels: `prediction`, `word`, `lexicon`, for each class."""
    every = sum(lexicon.sizes.values())
    found = pl.sum_horizontal(*lexicon.sizes)
    classes = []
    for name in lexicon.sizes:
        size = lexicon.sizes[name]
        a, b = pl.col(name), found - pl.col(name)
        here = ((a + _PRIOR) / (size - a + _PRIOR)).log()
        there = ((b + _PRIOR) / (every - size - b + _PRIOR)).log()
        classes.append(lexicon.words.select(pl.lit(name).alias("prediction"), "word", lexicon=here - there))
    return pl.concat(classes)


def units_of(special: np.ndarray, piece: np.ndarray, unit: str) -> np.ndarray:
    """(n,) the number of the unit that each token belongs to, from 0; −1 for special tokens, which are never removed.

    `piece` (n,): the token's position in its word, −1 without a word. A truncated word also counts as one.
    """
    begins = ~special
    if unit == "word":
        before = np.concatenate([[-1], piece[:-1]])
        begins &= ~((piece > 0) & (before == piece - 1) & ~np.concatenate([[True], special[:-1]]))
    return np.where(special, -1, np.cumsum(begins) - 1)


def of_units(values: np.ndarray, units: np.ndarray, *, summed: bool) -> np.ndarray:
    """(m,) the values of units: the sum over their tokens (n,) or, unless `summed`, the first token's value."""
    inside = units >= 0
    if summed:
        return np.bincount(units[inside], weights=values[inside])
    _, first = np.unique(units[inside], return_index=True)
    return np.asarray(values[inside][first])


def orders(
    scores: dict[str, np.ndarray], units: np.ndarray, document: int, seed: int
) -> Iterator[tuple[str, int, np.ndarray]]:
    """(score, draw, the units from the highest value to the lowest) for each score of one document.

    `scores`: by name, (n,) float64. `random` needs no values: it has `DRAWS` orders, numbered from 1, which depend
    only on the seed and the document. Signed scores keep their sign; of equal units the earlier comes first. A score
    without a value for some token of the document has no order.
    """
    count = int(units.max()) + 1
    for name, values in scores.items():
        if name == RANDOM:
            for draw in range(1, DRAWS + 1):
                yield name, draw, np.random.default_rng([seed, document, draw]).permutation(count)
            continue
        if np.isnan(values[units >= 0]).any():
            continue
        yield (
            name,
            0,
            np.argsort(-of_units(values, units, summed=name not in (LOG_ODDS, LEXICON)), kind="stable"),
        )
