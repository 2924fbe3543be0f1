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
_MERGED_VALUES = (
    8_000_000  # so many sums of parts wait at most to be put together, unless the whole is larger
)


def lift(column: str) -> str:
    """The name of the sum of a column's attention × length, beside that of its attention."""
    return f"{column}_lift"


def value_columns(tokens: pa.Schema) -> tuple[str, ...]:
    """The columns of a tokens table that hold reductions."""
    return tuple(field.name for field in tokens if pa.types.is_floating(field.type) or _heads(field.type))


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
        frame = _of_tokens(rows.lazy(), tokens, absent).collect()
        merged.append(frame)
        waiting += frame.height
        if waiting > max(_MERGED_VALUES // frame.width, merged[0].height):
            merged, waiting = [_together(merged, tokens)], 0
    if not merged:
        return totals.empty_table()
    # A term in which nothing has a value comes after the same term in which something has.
    order = [*KEYS, *(pl.col(_names(name, tokens)[0]).is_null() for name in columns)]
    table = _together(merged, tokens).with_columns(pl.col(pl.Categorical).cast(pl.String))
    table = table.sort(order, nulls_last=True, maintain_order=True)
    arrow = _by_column(table.lazy(), tokens).select(totals.names).collect()
    arrow = arrow.to_arrow(compat_level=pl.CompatLevel.oldest())
    return pa.Table.from_arrays(
        [_as(arrow[field.name], field.type) for field in totals], schema=totals.remove_metadata()
    )


def of_tokens(tokens: pl.LazyFrame, schema: pa.Schema, absent: Sequence[str]) -> pl.LazyFrame:
    """The totals of tokens that have `split` and `label`; `absent`: columns that lack values for some."""
    return _by_column(_of_tokens(tokens, schema, absent), schema)


def _of_tokens(tokens: pl.LazyFrame, schema: pa.Schema, absent: Sequence[str]) -> pl.LazyFrame:
    """As `of_tokens`, in double precision, with a column a head (see `_names`)."""
    sums = {
        "occurrences": pl.len().cast(pl.Int64),
        "new_token": pl.col("new_token").sum().cast(pl.Int64),
        "new_word": pl.col("new_word").sum().cast(pl.Int64),
    }
    for column in value_columns(schema):
        heads = _heads(schema.field(column).type)
        for head, name in enumerate(_names(column, schema)):
            value = (
                pl.col(column).cast(pl.Array(pl.Float32, heads)).arr.get(head) if heads else pl.col(column)
            )
            sums[name] = value.cast(pl.Float64).sum()
            sums[lift(name)] = (value.cast(pl.Float64) * pl.col("length")).sum()
    marks = {f"{column}:absent": pl.col(column).is_null() for column in absent}
    return _grouped(tokens, sums, marks, schema)


def _together(frames: Sequence[pl.DataFrame], schema: pa.Schema) -> pl.DataFrame:
    if len(frames) == 1:
        return frames[0]
    rows = pl.concat(frames)
    firsts = {column: _names(column, schema)[0] for column in value_columns(schema)}
    marks = {f"{c}:absent": pl.col(name).is_null() for c, name in firsts.items() if rows[name].null_count()}
    sums = {name: pl.col(name).sum() for name in rows.columns if name not in KEYS}
    return _grouped(rows.lazy(), sums, marks, schema).collect()


def _grouped(
    rows: pl.LazyFrame, sums: Mapping[str, pl.Expr], marks: Mapping[str, pl.Expr], schema: pa.Schema
) -> pl.LazyFrame:
    """Rows by `KEYS`, and by which of the columns have no value: they have no sum then."""
    nothing = {
        name: pl.when(~pl.col(mark)).then(pl.col(name))
        for mark in marks
        for one in _names(mark.removesuffix(":absent"), schema)
        for name in (one, lift(one))
    }
    grouped = rows.with_columns(**marks).group_by(*KEYS, *marks, maintain_order=True).agg(**sums)
    return grouped.with_columns(**nothing).drop(*marks)


def _by_column(rows: pl.LazyFrame, schema: pa.Schema) -> pl.LazyFrame:
    """The sums in single precision, those of the heads of a column in one array."""
    packed = {}
    for column in value_columns(schema):
        names = _names(column, schema)
        for name, parts in ((column, names), (lift(column), [lift(name) for name in names])):
            values = [pl.col(part).cast(pl.Float32) for part in parts]
            several = pl.when(pl.col(parts[0]).is_not_null()).then(pl.concat_arr(values))
            packed[name] = several if _heads(schema.field(column).type) else values[0]
    return rows.select(*KEYS, *COUNTS, **packed)


def _names(column: str, schema: pa.Schema) -> list[str]:
    """A column's own name, or one a head."""
    heads = _heads(schema.field(column).type)
    return [f"{column}:{head}" for head in range(heads)] if heads else [column]


def _heads(type_: pa.DataType) -> int:
    """How many values a column of a reduction has for each token; 0 for one plain value."""
    return type_.list_size if pa.types.is_fixed_size_list(type_) else 0


def _as(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(type_):
        return column.cast(type_.value_type).combine_chunks().dictionary_encode().cast(type_)
    return column.cast(type_)
