"""The tokens of a store added up over its documents: one row per term, a small table beside the large one.

A term is a wordpiece in its place in a word, in documents of one split, label and prediction; on top of that,
tokens for which a reduction has a value are kept apart from those for which it has none. Questions that ask for
means over occurrences by class, and for nothing of single documents, have their answer in it, a table of a few per
cent of the rows.
"""

from collections.abc import Callable, Mapping, Sequence

import polars as pl
import pyarrow as pa

#: What a term is. `special` adds no row unless a text holds the name of a special token.
KEYS = ("split", "label", "prediction", "token", "word", "piece", "pieces", "special")
COUNTS = ("occurrences", "new_token", "new_word")
#: So many sums of parts wait at most to be put together, unless the whole is larger.
_MERGED_VALUES = 2_000_000
#: So many sums (or those of one column) are made in one pass over the parts, which is what bounds the memory.
_SUMS_A_PASS = 56


def lift(column: str) -> str:
    """The name of the sum of a column's attention × length, beside that of its attention."""
    return f"{column}_lift"


def value_columns(tokens: pa.Schema) -> tuple[str, ...]:
    """The columns of a tokens table that hold reductions."""
    return tuple(field.name for field in tokens if pa.types.is_floating(field.type) or _heads(field.type))


def add_up(
    parts: Sequence[pl.LazyFrame],
    tokens: pa.Schema,
    totals: pa.Schema,
    absent: Sequence[str],
    *,
    before: Callable[[int], pl.DataFrame] | None = None,
    keep: Callable[[int, pl.DataFrame], None] = lambda _, __: None,
) -> pa.Table:
    """The totals of a whole store, with the columns of `totals`, sorted by `KEYS`.

    `parts`: the tokens of each part, with `split` and `label`, and the columns of `tokens` besides; `absent`: the
    columns that lack values for some. The sums of one part, and `_SUMS_A_PASS` of what is added up so far, are in
    memory at a time. The same parts in the same order give the same table to the bit.

    `keep` is called with the number of each pass and its sums in double precision. `before`: what it was called with
    when other parts were added up; these count as the first ones, and the table is that of all parts to the bit.
    """
    if not parts and before is None:
        return totals.empty_table()
    arrays: dict[str, pa.ChunkedArray] = {}
    for number, columns in enumerate(_passes(tokens)):
        merged = [] if before is None else [_as_grouped(before(number), tokens, absent)]
        waiting = 0
        for part in parts:
            # On a whole part at once, and each group in the order of its rows: floats are added in one order.
            merged.append(_grouped(part, _sums(tokens, columns), absent).collect())
            waiting += merged[-1].height
            if waiting > max(_MERGED_VALUES // merged[-1].width, merged[0].height):
                merged, waiting = [_together(merged, absent)], 0
        table = _together(merged, absent).with_columns(pl.col(pl.Categorical).cast(pl.String))
        # A term in which a reduction has nothing to say comes after the same term in which it has.
        table = table.sort(*KEYS, *map(_mark, absent), nulls_last=True, maintain_order=True)
        keep(number, table)
        arrow = _by_column(table.lazy(), tokens, columns, absent).collect()
        arrow = arrow.to_arrow(compat_level=pl.CompatLevel.oldest())
        arrays |= {name: _as(arrow[name], totals.field(name).type) for name in arrow.column_names}
    return pa.Table.from_arrays([arrays[name] for name in totals.names], schema=totals.remove_metadata())


def of_tokens(tokens: pl.LazyFrame, schema: pa.Schema, absent: Sequence[str]) -> pl.LazyFrame:
    """The totals of tokens that have `split` and `label`; `absent`: columns that lack values for some."""
    columns = value_columns(schema)
    return _by_column(_grouped(tokens, _sums(schema, columns), absent), schema, columns, absent)


def sums_by_pass(schema: pa.Schema) -> list[list[str]]:
    """The names of the sums that each pass makes, for a tokens table of `schema`."""
    return [list(_sums(schema, columns)) for columns in _passes(schema)]


def absent_in(columns: Sequence[str], schema: pa.Schema) -> list[str]:
    """Which columns of the reductions are marked in a table of sums."""
    return [column for column in value_columns(schema) if _mark(column) in columns]


def _as_grouped(sums: pl.DataFrame, schema: pa.Schema, absent: Sequence[str]) -> pl.DataFrame:
    """Kept sums as `_grouped` makes them, with the marks of all columns that lack values for some by now."""
    marks = {_mark(column): pl.lit(False) for column in absent if _mark(column) not in sums.columns}
    texts = {field.name for field in schema if pa.types.is_dictionary(field.type)} & {*KEYS}
    numbered = sums.with_columns(pl.col("split", "label", *texts).cast(pl.Categorical), **marks)
    marked = [*KEYS, *map(_mark, absent)]
    return numbered.select(*marked, pl.exclude(marked))


def _passes(schema: pa.Schema) -> list[list[str]]:
    """The columns of reductions, as many together as are added up in one pass."""
    passes: list[list[str]] = [[]]
    for column in value_columns(schema):
        if sum(2 * len(_names(c, schema)) for c in (*passes[-1], column)) > _SUMS_A_PASS and passes[-1]:
            passes.append([])
        passes[-1].append(column)
    return passes


def _sums(schema: pa.Schema, columns: Sequence[str]) -> dict[str, pl.Expr]:
    """The sums of tokens, by name: `COUNTS`, then of each column (of each of its heads) the values and lifts."""
    sums = {
        "occurrences": pl.len().cast(pl.Int64),
        "new_token": pl.col("new_token").sum().cast(pl.Int64),
        "new_word": pl.col("new_word").sum().cast(pl.Int64),
    }
    for column in columns:
        heads, whole = _heads(schema.field(column).type), pl.col(column)
        for head, name in enumerate(_names(column, schema)):
            value = whole.cast(pl.Array(pl.Float32, heads)).arr.get(head) if heads else whole
            sums[name] = value.cast(pl.Float64).sum()
            sums[lift(name)] = (value.cast(pl.Float64) * pl.col("length")).sum()
    return sums


def _grouped(rows: pl.LazyFrame, sums: Mapping[str, pl.Expr], absent: Sequence[str]) -> pl.LazyFrame:
    """Tokens by `KEYS`, and by which of the columns have no value for them."""
    marks = {_mark(column): pl.col(column).is_null() for column in absent}
    numbered = pl.col("split", "label").cast(pl.Categorical)  # texts make keys long
    return rows.with_columns(numbered, **marks).group_by(*KEYS, *marks, maintain_order=True).agg(**sums)


def _together(frames: Sequence[pl.DataFrame], absent: Sequence[str]) -> pl.DataFrame:
    """Sums of several parts as those of all."""
    if len(frames) == 1:
        return frames[0]
    keys = [*KEYS, *map(_mark, absent)]
    rows = pl.concat(frames)
    return rows.group_by(keys, maintain_order=True).agg(
        pl.col(n).sum() for n in rows.columns if n not in keys
    )


def _by_column(
    rows: pl.LazyFrame, schema: pa.Schema, columns: Sequence[str], absent: Sequence[str]
) -> pl.LazyFrame:
    """The sums in single precision, those of the heads of a column in one array; null where nothing has a value."""
    packed = {}
    for column in columns:
        names = _names(column, schema)
        for name, parts in ((column, names), (lift(column), list(map(lift, names)))):
            values = [pl.col(part).cast(pl.Float32) for part in parts]
            value = pl.concat_arr(values) if _heads(schema.field(column).type) else values[0]
            packed[name] = pl.when(~pl.col(_mark(column))).then(value) if column in absent else value
    return rows.select(*KEYS, *COUNTS, **packed)


def _names(column: str, schema: pa.Schema) -> list[str]:
    """A column's own name, or one per head."""
    heads = _heads(schema.field(column).type)
    return [f"{column}:{head}" for head in range(heads)] if heads else [column]


def _mark(column: str) -> str:
    return f"{column}:absent"


def _heads(type_: pa.DataType) -> int:
    """How many values a column of a reduction has for each token; 0 for one plain value."""
    return type_.list_size if pa.types.is_fixed_size_list(type_) else 0


def _as(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(type_):
        return column.cast(type_.value_type).combine_chunks().dictionary_encode().cast(type_)
    return column.cast(type_)
