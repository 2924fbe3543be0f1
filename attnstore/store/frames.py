"""A store's tables as Polars lazy frames.

They are made of the files of the finished parts alone, have the columns of the contract, `split` and `label` as
text (in `documents` and `tokens` the last), and may get columns on top that parameters of a question choose
(`QuestionColumns`). While the store is not sealed its `totals` are added up when they are asked for.
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
    """Columns beside the stored ones. One that has a stored column's name hides it.

    `means`: for each column that `tokens` and `totals` get, the stored columns whose mean it is, in double
    precision; `totals` gets their lifts beside them, named the same way.
    `heads`: these columns hold so many values per token, of which the mean is taken first; None: one value.
    `elements`: for each column that `tokens` and `totals` get, a stored column of several values per token and the
    place (from 0) of the one that it is, in double precision; `totals` gets their lifts, too, and `documents` their
    entropies, named the same way.
    `class_column`: the column that all tables have under the name `class`, None for no such column.
    `value_column`: the column that `documents` has as a text under the name `value`, too; None for no such column.
    `segments`: a store of single texts has the columns of one of pairs, too: in `tokens` `segment`, 0 and null for
    special tokens, in `documents` `text_pair`, null.
    `cluster`: what makes documents dependent, a group or nothing. `documents` then gets an int32 column
    `cluster`: the number of the group's first document, the document's own where it has no group. None: no
    such column.
    `where`: the SELECT of the numbers of the documents that are asked about, over `documents` and `tokens` as they are
    stored; None for all. It is SQL: these frames have to be given what it finds, `only`.
    `parts`: `documents` and `tokens` are of these parts alone, for whoever knows in which ones his documents are;
    `totals` is of all. None: of all parts.
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
        """`means` as `totals` gets them: each with its lift."""
        lifts = {lift(name): tuple(map(lift, columns)) for name, columns in self.means.items()}
        return {**self.means, **lifts}

    @property
    def summed_elements(self) -> dict[str, tuple[str, int]]:
        """`elements` as `totals` gets them: each with its lift."""
        lifts = {lift(name): (lift(column), place) for name, (column, place) in self.elements.items()}
        return {**self.elements, **lifts}

    @property
    def entropies(self) -> dict[str, tuple[str, int]]:
        """What `documents` gets of `elements`: the entropy of each."""
        return {entropy(name): (entropy(column), place) for name, (column, place) in self.elements.items()}


NOTHING = QuestionColumns()


@dataclass(frozen=True)
class Tables:
    """A store's tables as lazy frames with the added columns: what the Polars twin of a question is given."""

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
        """The frame, worked out now: for what an answer reads more than once, which Polars would work out each time.

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
    """The tokens of the finished parts added up: `schema.totals_schema`, dictionaries as in `tokens`.

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
    """What `attnstore faithfulness` has measured: the columns of `store.faithfulness.SCHEMA`, texts as String.

    Raises:
        UsageError: nothing has been measured.
        StoreError: a file of it is damaged.
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
        # Streaming: a store may be larger than the memory. Polars can't end a streaming query: it is left to itself.
        return interruptible(lambda: answer.collect(engine="streaming"))
    except (OSError, pl.exceptions.ComputeError, pl.exceptions.PanicException) as error:
        raise store.unreadable(one_line(error)) from error


def _asked(frame: pl.LazyFrame, added: QuestionColumns) -> pl.LazyFrame:
    """The rows of the documents that are asked about."""
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
    # As an array: to take an element out of a list takes three times as long.
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
