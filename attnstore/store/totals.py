"""The tokens of a store summed over its documents: one row per term, a small table beside the large one.

A term is a wordpiece at its position in a word, in documents of one split, label and prediction; tokens with a value
of a reduction are also separate from those without. Questions about means over occurrences by class, and not about
single documents, need only this table, with a few per cent of the rows.

Here is what the table is, and how it follows from sums in double precision. `adding` makes these for a whole store, in
bounded memory; `of_tokens` has Polars make them of whatever tokens are asked for.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa

from attnstore.store.schema import lift

#: The keys of a term. `special` adds no row unless a text has the name of a special token.
KEYS = ("split", "label", "prediction", "token", "word", "piece", "pieces", "special")
COUNTS = ("occurrences", "new_token", "new_word")


def mark(column: str) -> str:
    """The name of the column that marks rows whose tokens have no value in a reduction's column."""
    return f"{column}:absent"


@dataclass(frozen=True)
class Summed:
    """What is summed: the reductions of a tokens table. `absent`: the columns without values for some tokens."""

    tokens: pa.Schema
    absent: tuple[str, ...]

    @cached_property
    def columns(self) -> dict[str, int]:
        """The columns of reductions, with their number of values per token; 0 for one plain value."""
        return {
            field.name: field.type.list_size if pa.types.is_fixed_size_list(field.type) else 0
            for field in self.tokens
            if pa.types.is_floating(field.type) or pa.types.is_fixed_size_list(field.type)
        }

    @cached_property
    def schema(self) -> pa.Schema:
        """`KEYS`, a mark for each column of `absent`, `COUNTS`, and the sums of values and lifts, in doubles."""
        types = dict.fromkeys(KEYS[:5], pa.string()) | {"special": pa.bool_()}
        pairs = ((name, lift(name)) for column in self.columns for name in self.sums(column))
        return pa.schema(
            [(name, types.get(name, pa.int16())) for name in KEYS]
            + [(mark(name), pa.bool_()) for name in self.absent]
            + [(name, pa.int64()) for name in COUNTS]
            + [(name, pa.float64()) for pair in pairs for name in pair]
        )

    def sums(self, column: str) -> list[str]:
        """The names of the sums of a column's values: its own name, or one per head."""
        heads = self.columns[column]
        return [f"{column}:{head}" for head in range(heads)] if heads else [column]


def value_columns(tokens: pa.Schema) -> tuple[str, ...]:
    """The columns of a tokens table that are reductions."""
    return tuple(Summed(tokens, ()).columns)


def as_totals(sums: Iterable[pa.Table], summed: Summed, totals: pa.Schema) -> Iterator[pa.Table]:
    """Tables of sums, as `adding.add_up` gives them, with the columns of `totals`: in single precision, those of the
    heads of a column in one list, null where nothing has a value.
    """
    for table in sums:
        columns = {name: table[name] for name in (*KEYS, *COUNTS)}
        for column, heads in summed.columns.items():
            absent = table[mark(column)].to_numpy() if column in summed.absent else None
            names = summed.sums(column)
            for name, parts in ((column, names), (lift(column), list(map(lift, names)))):
                with np.errstate(over="ignore"):  # values that are too large become infinite
                    singles = [table[part].to_numpy().astype(np.float32) for part in parts]
                if heads:
                    flat, nothing = np.stack(singles, axis=1).reshape(-1), absent
                    mask = None if nothing is None else pa.array(nothing)
                    columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), heads, mask=mask)
                else:
                    columns[name] = pa.array(singles[0], mask=absent)
        found = pa.table({name: columns[name] for name in totals.names})
        texts = {field.name: field.type for field in totals if pa.types.is_dictionary(field.type)}
        for name, type_ in texts.items():
            place = found.schema.get_field_index(name)
            encoded = found[name].combine_chunks().dictionary_encode().cast(type_)
            found = found.set_column(place, name, encoded)
        yield found.cast(totals.remove_metadata())


def of_tokens(tokens: pl.LazyFrame, schema: pa.Schema, absent: Sequence[str]) -> pl.LazyFrame:
    """The totals of tokens that have `split` and `label`; `absent`: columns without values for some."""
    summed = Summed(schema, tuple(absent))
    marks = {mark(column): pl.col(column).is_null() for column in absent}
    numbered = pl.col("split", "label").cast(pl.Categorical)  # texts make keys long
    rows = tokens.with_columns(numbered, **marks).group_by(*KEYS, *marks, maintain_order=True)
    return _by_column(rows.agg(**_sums(summed)), summed)


def _sums(summed: Summed) -> dict[str, pl.Expr]:
    """The sums of tokens, by name: `COUNTS`, then of each column (of each of its heads) the values and lifts."""
    sums = {
        "occurrences": pl.len().cast(pl.Int64),
        "new_token": pl.col("new_token").sum().cast(pl.Int64),
        "new_word": pl.col("new_word").sum().cast(pl.Int64),
    }
    for column, heads in summed.columns.items():
        whole = pl.col(column)
        for head, name in enumerate(summed.sums(column)):
            value = whole.cast(pl.Array(pl.Float32, heads)).arr.get(head) if heads else whole
            sums[name] = value.cast(pl.Float64).sum()
            sums[lift(name)] = (value.cast(pl.Float64) * pl.col("length")).sum()
    return sums


def _by_column(rows: pl.LazyFrame, summed: Summed) -> pl.LazyFrame:
    """As `as_totals`."""
    packed = {}
    for column, heads in summed.columns.items():
        names = summed.sums(column)
        for name, parts in ((column, names), (lift(column), list(map(lift, names)))):
            values = [pl.col(part).cast(pl.Float32) for part in parts]
            value = pl.concat_arr(values) if heads else values[0]
            packed[name] = pl.when(~pl.col(mark(column))).then(value) if column in summed.absent else value
    return rows.select(*KEYS, *COUNTS, **packed)
