"""A store's tables as Polars lazy frames.

They come from the files of the finished parts only, and have the columns of the contract, with `split` and `label` as
text (the last columns in `documents` and `tokens`). Parameters of a question may add columns (`QuestionColumns`).
While the store is not sealed, its `totals` are computed on demand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import polars as pl

from attnstore.interrupts import interruptible
from attnstore.messages import one_line
from attnstore.store.faithfulness import SCHEMA, faithfulness_files, not_measured
from attnstore.store.place import address, for_polars
from attnstore.store.scan import scan
from attnstore.store.schema import entropy, lift
from attnstore.store.store import Store
from attnstore.store.totals import of_tokens


@dataclass(frozen=True, slots=True)
class QuestionColumns:
    """Columns beside the stored ones. A column with a stored column's name hides it.

    `means`: for each column that `tokens` and `totals` get, the stored columns that it is the mean of, in double
    precision; `totals` also gets their lifts, named the same way.
    `heads`: these columns have this many values per token, which are averaged first; None: one value.
    `elements`: for each column that `tokens` and `totals` get, a stored column with several values per token and the
    position (from 0) of the value to use, in double precision; `totals` also gets their lifts, and `documents` their
    entropies, named the same way.
    `class_column`: the column that all tables also have under the name `class`; None for no such column.
    `value_column`: the column that `documents` also has as a text under the name `value`; None for no such column.
    `segments`: a store of single texts also has the columns of a store of pairs: `segment` in `tokens`, 0 (null for
    special tokens), and `text_pair` in `documents`, null.
    `cluster`: what makes documents dependent, a group or nothing. `documents` then gets an int32 column `cluster`: the
    number of the group's first document, or the document's own number without a group. None: no such column.
    `where`: the SELECT of the numbers of the documents to ask about, over `documents` and `tokens` as stored; None for
    all. It is SQL, so these frames must be given its result, `only`.
    `parts`: `documents` and `tokens` have only these parts, for callers who know which parts have their documents;
    `totals` has all. None: all parts.
    """

    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    heads: int | None = None
    elements: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    class_column: str | None = None
    cluster: Literal["group", "document"] | None = None
    value_column: str | None = None
    segments: bool = False
    where: str | None = None
    only: tuple[int, ...] | None = None
    parts: tuple[int, ...] | None = None

    @property
    def summed_means(self) -> dict[str, tuple[str, ...]]:
        """`means` for `totals`: each with its lift."""
        lifts = {lift(name): tuple(map(lift, columns)) for name, columns in self.means.items()}
        return {**self.means, **lifts}

    @property
    def summed_elements(self) -> dict[str, tuple[str, int]]:
        """`elements` for `totals`: each with its lift."""
        lifts = {lift(name): (lift(column), place) for name, (column, place) in self.elements.items()}
        return {**self.elements, **lifts}

    @property
    def entropies(self) -> dict[str, tuple[str, int]]:
        """The columns of `elements` for `documents`: the entropy of each."""
        return {entropy(name): (entropy(column), place) for name, (column, place) in self.elements.items()}


NOTHING = QuestionColumns()


@dataclass(frozen=True)
class Tables:
    """A store's tables as lazy frames with the added columns, for a question's Polars twin."""

    store: Store
    added: QuestionColumns

    @cached_property
    def documents(self) -> pl.LazyFrame:
        return documents(self.store, self.added)

    @cached_property
    def tokens(self) -> pl.LazyFrame:
        return tokens(self.store, self.added)

    @cached_property
    def totals(self) -> pl.LazyFrame:
        return totals(self.store, self.added)

    @cached_property
    def faithfulness(self) -> pl.LazyFrame:
        return faithfulness(self.store, self.added)

    def once(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The frame, collected: for what an answer reads more than once, because Polars would compute it each time.

        Raises:
            StoreError: a file of the store can't be read.
        """
        return collect(self.store, frame).lazy()


def documents(store: Store, added: QuestionColumns = NOTHING) -> pl.LazyFrame:
    """The documents of the finished parts, with `split` and `label` (String) after the contract's columns.

    Raises:
        StoreError: a file of the store is missing.
    """
    frame = _asked(
        scan(store.partitions(store.files_to_read("documents", added.parts)), store.documents_schema), added
    )
    missing = added.segments and not store.manifest.pairs
    second = [pl.lit(None, dtype=pl.String).alias("text_pair")] if missing else []
    return frame.with_columns(
        *_elements(store, added.entropies), *_class(added), *_cluster(added), *_text(added), *second
    )


def tokens(store: Store, added: QuestionColumns = NOTHING) -> pl.LazyFrame:
    """The tokens of the finished parts, with `split` and `label` (String) after the contract's columns.

    Raises:
        StoreError: a file of the store is missing.
    """
    frame = _asked(
        scan(store.partitions(store.files_to_read("tokens", added.parts)), store.tokens_schema), added
    )
    missing = added.segments and not store.manifest.pairs
    segment = pl.when(~pl.col("special")).then(pl.lit(0, dtype=pl.Int8)).alias("segment")
    return frame.with_columns(
        *_means(added.means, added.heads),
        *_elements(store, added.elements),
        *_class(added),
        *([segment] if missing else []),
    )


def totals(store: Store, added: QuestionColumns = NOTHING) -> pl.LazyFrame:
    """The summed tokens of the finished parts: `schema.totals_schema`, dictionaries as in `tokens`.

    Raises:
        StoreError: a file of the store is missing.
    """
    path = store.totals_file() if added.only is None else None
    if path is None:
        of_asked = tokens(store, QuestionColumns(only=added.only))
        frame = of_tokens(of_asked, store.tokens_schema, store.columns_with_nulls())
    else:
        frame = pl.scan_parquet(**for_polars([address(path)]))
    frame = frame.select(store.totals_schema.names).with_columns(pl.col("split", "label").cast(pl.String))
    return frame.with_columns(
        *_means(added.summed_means, added.heads), *_elements(store, added.summed_elements), *_class(added)
    )


def faithfulness(store: Store, added: QuestionColumns = NOTHING) -> pl.LazyFrame:
    """What `attnstore faithfulness` measured: the columns of `store.faithfulness.SCHEMA`, texts as String.

    Raises:
        UsageError: nothing has been measured.
        StoreError: a file of the table is damaged.
    """
    files = faithfulness_files(store)
    if not files:
        raise not_measured(store)
    frame = pl.scan_parquet(**for_polars([address(file) for file in files]))
    return (
        _asked(frame, added).select(SCHEMA.names).with_columns(pl.col("score", "by", "unit").cast(pl.String))
    )


def collect(store: Store, answer: pl.LazyFrame) -> pl.DataFrame:
    """Run a query over these frames.

    Raises:
        StoreError: a file of the store can't be read.
    """
    try:
        # Streaming: a store may be larger than the memory. Polars can't end a streaming query, so it is left running.
        return interruptible(lambda: answer.collect(engine="streaming"))
    except (OSError, pl.exceptions.ComputeError, pl.exceptions.PanicException) as error:
        raise store.unreadable(one_line(error)) from error


def _asked(frame: pl.LazyFrame, added: QuestionColumns) -> pl.LazyFrame:
    """The rows of the selected documents."""
    if added.only is None:
        return frame
    return frame.filter(pl.col("document").is_in(pl.Series(added.only, dtype=pl.Int32).implode()))


def _means(means: Mapping[str, tuple[str, ...]], heads: int | None) -> list[pl.Expr]:
    return [
        _mean([_value(column, heads) for column in columns]).alias(name) for name, columns in means.items()
    ]


def _value(column: str, heads: int | None) -> pl.Expr:
    if heads is None:
        return pl.col(column).cast(pl.Float64)
    return pl.col(column).cast(pl.Array(pl.Float64, heads)).arr.mean()


def _mean(values: Sequence[pl.Expr]) -> pl.Expr:
    total = sum(values[1:], values[0])
    return total / len(values) if len(values) > 1 else total


def _elements(store: Store, elements: Mapping[str, tuple[str, int]]) -> list[pl.Expr]:
    # As an array: taking an element out of a list is three times as slow.
    whole = pl.Array(pl.Float32, store.manifest.heads)
    return [
        pl.col(column).cast(whole).arr.get(place).cast(pl.Float64).alias(name)
        for name, (column, place) in elements.items()
    ]


def _class(added: QuestionColumns) -> list[pl.Expr]:
    return [] if added.class_column is None else [pl.col(added.class_column).alias("class")]


def _cluster(added: QuestionColumns) -> list[pl.Expr]:
    own = pl.col("document")
    if added.cluster == "group":
        own = pl.when(pl.col("group").is_null()).then(own).otherwise(own.min().over("group"))
    return [] if added.cluster is None else [own.alias("cluster")]


def _text(added: QuestionColumns) -> list[pl.Expr]:
    return [] if added.value_column is None else [pl.col(added.value_column).cast(pl.String).alias("value")]
