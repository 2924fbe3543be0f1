"""A question over two stores of the same documents: both answers side by side, and what differs.

For every question, the interval of a difference comes from leaving documents out: clusters (such as films, if
documents have a group) are dealt at random into groups, and the question is asked again without each group, in both
stores alike. With g groups and d_i the difference without the i-th, its variance is (g − 1) / g · Σ (d_i − mean)², the
delete-a-group jackknife (Kott 2001, "The Delete-a-Group Jackknife"). What both stores find in a document enters both
answers and cancels out in the difference. A row that depends on few of the groups has fewer degrees of freedom than g
− 1: (3.16 − 2.77 / √g) · (Σ e_i²)² / Σ e_i⁴ with e_i = d_i − mean (Johnson and Rust 1992).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from attnstore.ask.answer import BASIS_KEY, COLUMNS_KEY, ask, asked_documents
from attnstore.ask.binding import bound
from attnstore.ask.matched import matched_documents
from attnstore.ask.questions import FACTS, Engine, Question
from attnstore.ask.statement import tables_of
from attnstore.ask.statistics import t_quantile
from attnstore.ask.values import as_text
from attnstore.errors import AttnstoreError, UsageError
from attnstore.messages import counted, one_line
from attnstore.store import frames
from attnstore.store.faithfulness import FOLDER
from attnstore.store.store import Store

#: The number of groups that clusters are dealt into.
GROUPS = 20

#: With fewer clusters there is no interval.
_FEWEST = 5

_ALL_ROWS = 10**9


@dataclass(frozen=True, slots=True)
class _Asked:
    """A store, and the question bound to it. `numbers` (n,): its documents that the other store has, too."""

    store: Store
    question: Question
    engine: Engine
    timeout: float | None
    numbers: np.ndarray
    whole: bool

    def answer(self, parameters: Mapping[str, object], kept: np.ndarray | None = None) -> pl.DataFrame:
        """The keys and the compared columns; `kept` (n,) selects the documents."""
        # Over some of the documents the twins take half the time: they need no connection.
        twin = kept is not None and self.question.polars is not None
        documents = (
            None if self.whole and kept is None else self.numbers[slice(None) if kept is None else kept]
        )
        try:
            answer = ask(
                self.store,
                self.question,
                parameters,
                "polars" if twin else self.engine,
                timeout=self.timeout,
                documents=None if documents is None else documents.tolist(),
            )
        except AttnstoreError as error:
            raise type(error)(f"{one_line(self.store.path)}: {error}") from error
        wanted = [*self.question.keys, *self.question.compared]
        if unknown := [name for name in wanted if name not in answer.column_names]:
            raise UsageError(
                f"{self.question.path}: @pair names {unknown[0]}, which is not a column of the answer"
            )
        frame = pl.DataFrame(answer.select(wanted).replace_schema_metadata(None))
        return frame.with_columns(pl.col(self.question.compared).cast(pl.Float64))


def ask_paired(
    a: Store,
    b: Store,
    question: Question,
    parameters: Mapping[str, object] | None = None,
    engine: Engine = "duckdb",
    timeout: float | None = None,
    groups: int = GROUPS,
) -> pa.Table:
    """The answers of two stores to a question, over the documents that both have, by id and text.

    The rows of both answers, matched by the key columns: in the order of A's answer, then those that only B's has,
    class by class. For each compared number NAME: `NAME_a`, `NAME_b`, `NAME_difference` (A minus B) with its 95 %
    interval, `NAME_low` to `NAME_high`. The interval is null with fewer than five clusters, and if leaving out a group
    removes the row. `groups`: how many groups clusters are dealt into; 0 for no intervals.

    Raises:
        UsageError: the question can't be paired, the classes differ, no document is in both, or as `answer.ask`.
        StoreError: a store can't be read.
    """
    given = dict(parameters or {})
    if not question.keys:
        raise UsageError(
            f"the answers to {question.name} can't be paired, as no row of one belongs to a row of the other: ask"
            f" each store, or `attnstore compare {one_line(a.path)} {one_line(b.path)}`"
        )
    pairs = _pairs(a, b, question, given)
    asked = [
        _Asked(store, question, engine, timeout, pairs[name].to_numpy(), pairs.height == _documents(store))
        for store, name in ((a, "a"), (b, "b"))
    ]
    shown = [each.answer(given) for each in asked]
    keys = list(question.keys)
    rows = _rows(shown, keys)
    every = _without_limit(question, given)
    both = [
        answer if every is None else each.answer(every) for each, answer in zip(asked, shown, strict=True)
    ]
    answer = _joined(rows, both, keys, question.compared)
    clusters = pairs["cluster"].n_unique()
    dealt = min(groups, clusters) if clusters >= _FEWEST and groups > 1 else 0
    again = _again(question, given, pairs.height)
    differences = []
    for group in range(dealt):
        kept = _groups(pairs["cluster"].to_numpy(), dealt) != group
        parts = [each.answer(again, kept) for each in asked]
        found = _joined(rows, parts, keys, question.compared)
        differences.append(found.select(f"{name}_difference" for name in question.compared).to_numpy())
    answer = _with_intervals(answer, question.compared, differences)
    basis = [
        f"{counted(pairs.height, 'document')} in both A = {one_line(a.path)} and B = {one_line(b.path)}",
        "differences are A less B",
        f"intervals by {dealt} groups of {counted(clusters, 'cluster')}"
        if dealt
        else f"no intervals: {counted(clusters, 'cluster')}",
        *(
            f"{name}={as_text(value)}"
            for name, value in bound(a, question, given)[0].items()
            if name not in FACTS
        ),
    ]
    first = [f"{question.compared[0]}_{part}" for part in ("a", "b", "difference", "low", "high")]
    told = {BASIS_KEY: ", ".join(basis).encode(), COLUMNS_KEY: json.dumps([*keys, *first]).encode()}
    return answer.to_arrow(compat_level=pl.CompatLevel.oldest()).replace_schema_metadata(told)


def _pairs(a: Store, b: Store, question: Question, given: Mapping[str, object]) -> pl.DataFrame:
    """The documents of both stores to ask about: `a` and `b`, their numbers, and `cluster`."""
    pairs, _, _ = matched_documents(a, b)
    for store, name in ((a, "a"), (b, "b")):
        try:
            _, added = bound(store, question, given)
        except AttnstoreError as error:
            raise type(error)(f"{one_line(store.path)}: {error}") from error
        if added.where is not None:
            pairs = pairs.filter(pl.col(name).is_in(asked_documents(store, added)))
        if FOLDER in tables_of(question.sql):
            measured = frames.collect(store, frames.faithfulness(store).select("document").unique())
            pairs = pairs.filter(pl.col(name).is_in(measured["document"].implode()))
    if pairs.is_empty():
        raise UsageError(
            f"{one_line(a.path)} and {one_line(b.path)} have no document in common that is asked about"
        )
    chosen = next(
        (given[p.name] for p in question.parameters if p.type == "cluster" and p.name in given), None
    )
    if chosen == "document":
        pairs = pairs.with_columns(cluster=pl.col("a"))
    return pairs.select("a", "b", "cluster")


def _documents(store: Store) -> int:
    return sum(len(store.part_range(part)) for part in store.finished_parts())


def _rows(answers: Sequence[pl.DataFrame], keys: Sequence[str]) -> pl.DataFrame:
    """The keys of both answers' rows, in the order shown."""
    one, other = (answer.select(keys).unique(maintain_order=True) for answer in answers)
    alone = other.join(one, on=keys, how="anti", nulls_equal=True, maintain_order="left")
    both = pl.concat([one, alone], how="vertical_relaxed")
    if len(keys) == 1 or both.is_empty():
        return both
    # Rows that only B has come after those of A, within their class.
    return pl.concat(both.partition_by(keys[0], maintain_order=True))


def _joined(
    rows: pl.DataFrame, answers: Sequence[pl.DataFrame], keys: Sequence[str], compared: Sequence[str]
) -> pl.DataFrame:
    """The keys, both values of each compared column, and their difference; null if a row is missing."""
    for answer, side in zip(answers, "ab", strict=True):
        values = answer.unique(subset=list(keys), keep="first", maintain_order=True).rename(
            {name: f"{name}_{side}" for name in compared}
        )
        rows = rows.join(values, on=list(keys), how="left", nulls_equal=True, maintain_order="left")
    difference = {f"{n}_difference": pl.col(f"{n}_a") - pl.col(f"{n}_b") for n in compared}
    return rows.with_columns(**difference)


def _without_limit(question: Question, given: Mapping[str, object]) -> dict[str, object] | None:
    """The parameters that give every row; None if the given ones do."""
    return {**given, "limit": _ALL_ROWS} if question.parameter("limit") is not None else None


def _again(question: Question, given: Mapping[str, object], documents: int) -> dict[str, object]:
    """The parameters for asking again without some documents: no limit, and no intervals of the question's own.

    A row must not disappear because it has slightly less support: half the support is enough.
    """
    again = {name: value for name, value in given.items() if name != "rank_by"} | (
        _without_limit(question, given) or {}
    )
    for parameter in question.parameters:
        name = parameter.name
        if name == "intervals":
            again[name] = False
        if name in ("min_documents", "min_groups"):
            asked = given.get(name, parameter.default)
            again[name] = max(1, int(str(asked)) // 2) if asked is not None else max(2, documents // 1600)
    again.pop("where", None)  # the documents are given by number
    return again


def _groups(clusters: np.ndarray, groups: int) -> np.ndarray:
    """(n,) the group of each document: clusters dealt at random, always in the same way, equally many to each."""
    _, place = np.unique(clusters, return_inverse=True)
    count = int(place.max()) + 1
    return np.asarray(np.random.default_rng(count).permutation(count)[place] % groups)


def _with_intervals(
    answer: pl.DataFrame, compared: Sequence[str], differences: Sequence[np.ndarray]
) -> pl.DataFrame:
    """The columns of `_joined`, each difference followed by its interval."""
    rows = answer.height
    found = (
        np.stack(differences).astype(np.float64) if differences else np.full((1, rows, len(compared)), np.nan)
    )
    g = len(found)
    off = found - found.mean(axis=0)
    squares = (off**2).sum(axis=0)
    # A remainder from rounding two values is not an error.
    size = answer.select(
        pl.max_horizontal(pl.col(f"{n}_a", f"{n}_b").abs()).fill_null(0).alias(n) for n in compared
    ).to_numpy()
    squares[squares <= (1e-9 * size) ** 2] = np.nan
    weight = squares**2 / (off**4).sum(axis=0)
    freedom = np.minimum(g - 1, (3.16 - 2.77 / np.sqrt(g)) * weight)
    # A row that depends on one group alone gives no error estimate.
    freedom[weight < 2 - 1e-6] = np.nan
    error = np.sqrt(squares * (g - 1) / g)
    columns = [pl.col(name) for name in answer.columns[: len(answer.columns) - 3 * len(compared)]]
    for place, name in enumerate(compared):
        frame = pl.DataFrame({"df": freedom[:, place], "error": error[:, place]}, nan_to_null=True)
        half = frame.select(half=t_quantile(0.975, pl.col("df")) * pl.col("error"))["half"]
        difference = pl.col(f"{name}_difference")
        columns += [
            pl.col(f"{name}_a"),
            pl.col(f"{name}_b"),
            difference,
            (difference - pl.lit(half)).alias(f"{name}_low"),
            (difference + pl.lit(half)).alias(f"{name}_high"),
        ]
    return answer.select(columns)
