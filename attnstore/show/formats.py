"""A table of answers as text or bytes, in the formats that the commands share."""

import io
from collections import Counter
from collections.abc import Iterator
from typing import Literal, get_args

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from attnstore.errors import UsageError
from attnstore.show.p_values import LEAST, p_columns, p_value
from attnstore.visible import visible

Format = Literal["table", "csv", "json", "markdown", "parquet"]
#: The most characters of a text that a table draws: a hundred million would take minutes. Other formats have the whole
#: text.
LONGEST = 50_000
FORMATS: tuple[Format, ...] = get_args(Format)


def render(table: pa.Table, form: Format) -> bytes:
    """The table in that format, text in UTF-8 with a newline at the end.

    `json` is one list of rows. `table` and `markdown` round numbers to four significant digits, and write no p value as
    0; the others keep every digit.

    Raises:
        UsageError: the format can't hold a column, or two have the same name.
    """
    refuse(table, form)
    if form == "parquet":
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        return buffer.getvalue()
    frame = frame_of(table)
    if form == "csv":
        return frame.write_csv().encode()
    if form == "json":
        return (frame.write_json() + "\n").encode()
    with_p = p_columns(table)
    rounded = frame.with_columns(
        rounded_column(column, column.name in with_p)
        for column in frame.select(pl.selectors.float()).iter_columns()
    )
    if form == "markdown":
        cell = pl.col(pl.String).str.replace_all("|", r"\|", literal=True)
        rounded = rounded.rename(lambda name: name.replace("|", r"\|")).with_columns(
            cell.str.replace_all(r"\r\n?|\n", "<br>")
        )
    drawn = grid(rounded, "MARKDOWN" if form == "markdown" else "UTF8_FULL_CONDENSED")
    return (visible(drawn) + "\n").encode()  # control characters in a text would reach a terminal


def rounded_column(column: pl.Series, is_p: bool) -> pl.Series:
    """Floats as people read them: four significant digits. With small numbers among them, all are texts.

    Polars draws a number below 0.001 with six decimals at most, which may leave a single digit.
    """
    rounded = column.round_sig_figs(4)
    small = (column.abs() < 1e-3) & (column != 0)
    if is_p:
        small |= column < LEAST
    if not small.any():
        return rounded
    draw = p_value if is_p else "{:.4g}".format
    drawn = column.filter(small).map_elements(draw, return_dtype=pl.String)
    texts = rounded.cast(pl.String).scatter(small.arg_true(), drawn)
    widest = max(len(text) for text in (column.name, *texts.drop_nulls()))
    return texts.str.pad_start(widest)


def frame_of(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):  # from_arrow returns a Series for anything but a table
        raise TypeError(f"expected a table, not {type(table).__name__}")
    return frame


def grid(frame: pl.DataFrame, rules: Literal["MARKDOWN", "UTF8_FULL_CONDENSED"]) -> str:
    """The whole frame, each column as wide as its widest cell, and texts up to `LONGEST`."""
    longest = pl.col(pl.String).str.len_chars() > LONGEST
    cut = pl.col(pl.String).str.head(LONGEST - 1) + "…"
    frame = frame.with_columns(pl.when(longest).then(cut).otherwise(pl.col(pl.String)))
    with pl.Config(
        tbl_formatting=rules,
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=60_000,
        fmt_str_lengths=LONGEST,
        fmt_table_cell_list_len=-1,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        tbl_cell_numeric_alignment="RIGHT",
        float_precision=None,
    ):
        return str(frame)


def refuse(table: pa.Table, form: Format) -> None:
    """Raise UsageError for the first column that `form` can't hold, with what to do about it."""
    if twice := [name for name, n in Counter(table.column_names).items() if n > 1]:
        raise UsageError(f"two columns are called {twice[0]}: give one another name, as in `... AS other`")
    for column in table.schema:
        kinds = list(_kinds(column.type))
        if form == "csv" and pa.types.is_nested(column.type) and not any(map(_is_foreign, kinds)):
            raise UsageError(f"CSV can't hold the nested column {column.name}: choose json or parquet")
        if any(map(_is_foreign, kinds)) or (form in ("csv", "json") and any(map(_is_textless, kinds))):
            raise UsageError(
                f"{form} can't hold the column {column.name} ({column.type}): cast it, as in {column.name}::VARCHAR"
            )


def _kinds(kind: pa.DataType) -> Iterator[pa.DataType]:
    """A type and all types inside it."""
    yield kind
    for number in range(kind.num_fields):
        yield from _kinds(kind.field(number).type)


def _is_foreign(kind: pa.DataType) -> bool:
    """Whether neither Polars nor Parquet has the type: INTERVAL and UNION."""
    return bool(pa.types.is_interval(kind) or pa.types.is_union(kind))


def _is_textless(kind: pa.DataType) -> bool:
    """Whether it is bytes (BLOB, BIT, BIGNUM), or a map whose keys are not texts."""
    if pa.types.is_map(kind):
        return not pa.types.is_string(kind.key_type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind)) or isinstance(
        kind, pa.BaseExtensionType
    )
