"""The tokens of a store added up over its documents: one row a term, a small table beside the large one.

A term is a wordpiece in its place in a word, in documents of one split, label and prediction; on top of that,
tokens for which a reduction has a value are kept apart from those for which it has none. Questions that ask for
means over occurrences by class, and for nothing of single documents, have their answer in it: a table of a
twentieth of the rows.
"""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl
import pyarrow as pa

#: What a term is. `special` adds no row unless a text holds the name of a special token.
KEYS = ("split", "label", "prediction", "token", "word", "piece", "pieces", "special")
COUNTS = ("occurrences", "new_token", "new_word")
_MERGED_ROWS = 1_000_000  # so many rows of parts are put together at once


def lift(column: str) -> str:
    """The name of the sum of a column's attention × length, beside that of its attention."""
    return f"{column}_lift"


def value_columns(tokens: pa.Schema) -> tuple[str, ...]:
    """The columns of a tokens table that hold reductions."""
    return tuple(
        field.name
        for field in tokens
        if pa.types.is_floating(field.type) or pa.types.is_fixed_size_list(field.type)
    )


def add_up(parts: Iterable[pl.LazyFrame], tokens: pa.Schema, totals: pa.Schema) -> pa.Table:
    """The totals of a whole store, with the columns of `totals`, sorted by `KEYS`.

    `parts`: the tokens of each part, with `split` and `label`, and the columns of `tokens` besides. One part is in
    memory at a time, and what is added up so far. The same parts in the same order give the same table to the bit.
    """
    columns = value_columns(tokens)
    merged: list[pl.DataFrame] = []
    waiting = 0
    for part in parts:
        rows = part.select(*KEYS, "new_token", "new_word", "length", *columns).collect()
        absent = [name for name in columns if rows[name].null_count()]
        # On a whole part at once, and each group in the order of its rows: floats are added in one order.
        frame = of_tokens(rows.lazy(), tokens, absent).collect()
        merged.append(frame)
        waiting += frame.height
        if waiting > max(_MERGED_ROWS, merged[0].height):
            merged, waiting = [_together(merged, columns)], 0
    if not merged:
        return totals.empty_table()
    # A term in which nothing has a value comes after the same term in which something has.
    order = [*KEYS, *(pl.col(name).is_null() for name in columns)]
    table = _together(merged, columns).with_columns(pl.col(pl.Categorical).cast(pl.String))
    table = table.sort(order, nulls_last=True, maintain_order=True)
    arrow = table.select(totals.names).to_arrow(compat_level=pl.CompatLevel.oldest())
    return pa.Table.from_arrays(
        [_as(arrow[field.name], field.type) for field in totals], schema=totals.remove_metadata()
    )


def of_tokens(tokens: pl.LazyFrame, schema: pa.Schema, absent: Sequence[str]) -> pl.LazyFrame:
    """The totals of tokens that have `split` and `label`; `absent`: columns that lack values for some."""
    columns = value_columns(schema)
    values = {name: _value(pl.col(name), schema.field(name).type) for name in columns}
    sums = {
        "occurrences": pl.len().cast(pl.Int64),
        "new_token": pl.col("new_token").sum().cast(pl.Int64),
        "new_word": pl.col("new_word").sum().cast(pl.Int64),
        **{name: value.sum() for name, value in values.items()},
        **{lift(name): (value * pl.col("length")).sum() for name, value in values.items()},
    }
    return _grouped(tokens, sums, absent)


def _together(frames: Sequence[pl.DataFrame], columns: Sequence[str]) -> pl.DataFrame:
    if len(frames) == 1:
        return frames[0]
    rows = pl.concat(frames)
    absent = [name for name in columns if rows[name].null_count()]
    names = [*COUNTS, *columns, *map(lift, columns)]
    return _grouped(rows.lazy(), {name: pl.col(name).sum() for name in names}, absent).collect()


def _grouped(rows: pl.LazyFrame, sums: Mapping[str, pl.Expr], absent: Sequence[str]) -> pl.LazyFrame:
    """Rows by `KEYS`, and by which of the columns have no value: they have no sum then."""
    marks = {f"{name}:absent": pl.col(name).is_null() for name in absent}
    nothing = {
        name: pl.when(~pl.col(f"{column}:absent")).then(pl.col(name))
        for column in absent
        for name in (column, lift(column))
    }
    grouped = rows.with_columns(**marks).group_by(*KEYS, *marks, maintain_order=True).agg(**sums)
    return grouped.with_columns(**nothing).drop(*marks)


def _value(column: pl.Expr, type_: pa.DataType) -> pl.Expr:
    if pa.types.is_fixed_size_list(type_):
        return column.cast(pl.Array(pl.Float64, type_.list_size)).arr.mean()
    return column.cast(pl.Float64)


def _as(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(type_):
        return column.cast(type_.value_type).combine_chunks().dictionary_encode().cast(type_)
    return column.cast(type_)
