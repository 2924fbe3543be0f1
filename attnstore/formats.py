"""A table of answers as text or bytes, in the formats that the commands share."""

import io
from typing import Literal, get_args

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from attnstore.errors import UsageError

Format = Literal["table", "csv", "json", "markdown", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)


def render(table: pa.Table, form: Format) -> bytes:
    """The table in that format, text in UTF-8 with a newline at the end.

    `json` is one list of rows. `table` and `markdown` round numbers to four significant digits; the others
    keep every digit. Raises UsageError where CSV can't hold a nested column.
    """
    if form == "parquet":
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        return buffer.getvalue()
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):  # from_arrow gives a Series for what is no table
        raise TypeError(f"expected a table, not {type(table).__name__}")
    if form == "csv":
        if nested := [name for name, kind in frame.schema.items() if kind.is_nested()]:
            raise UsageError(f"CSV can't hold the nested column {nested[0]}: choose json or parquet")
        return frame.write_csv().encode()
    if form == "json":
        return (frame.write_json() + "\n").encode()
    rounded = frame.with_columns(pl.selectors.float().round_sig_figs(4))
    with pl.Config(
        tbl_formatting="MARKDOWN" if form == "markdown" else "UTF8_FULL_CONDENSED",
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=60_000,
        fmt_str_lengths=100_000,
        fmt_table_cell_list_len=-1,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        tbl_cell_numeric_alignment="RIGHT",
        float_precision=None,
    ):
        return (str(rounded) + "\n").encode()
