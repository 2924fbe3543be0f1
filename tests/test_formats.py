"""Answers as text and bytes: every format holds the same rows."""

import io
import json

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attnstore.errors import UsageError
from attnstore.formats import render

TABLE = pa.table(
    {
        "word": ["a|b", "x,\"y\"", None],
        "n": [1, 1234567, None],
        "lift": [1.23456789, 0.000123456, None],
    }
)  # fmt: skip


def test_csv_keeps_every_digit_and_quotes_what_needs_it():
    """Commas and quotes are quoted, a null is an empty field."""
    assert render(TABLE, "csv").decode() == (
        'word,n,lift\na|b,1,1.23456789\n"x,""y""",1234567,0.000123456\n,,\n'
    )


def test_json_is_one_list_of_rows():
    assert json.loads(render(TABLE, "json")) == TABLE.to_pylist()


def test_parquet_reads_back_as_the_same_table():
    assert pq.read_table(io.BytesIO(render(TABLE, "parquet"))).equals(TABLE)


def test_markdown_is_a_table_with_rounded_numbers():
    """Header, rule, and a line a row; four significant digits."""
    lines = render(TABLE, "markdown").decode().splitlines()
    assert len(lines) == 5
    assert [cell.strip() for cell in lines[3].strip("|").split("|")] == ['x,"y"', "1234567", "0.0001235"]


def test_a_table_shows_every_row_and_the_whole_of_long_texts():
    """Nothing is abbreviated: 300 rows are 300 lines, a text of 500 characters is all there."""
    long = pa.table({"text": ["x" * 500] * 300, "n": list(range(300))})
    shown = render(long, "table").decode()
    assert shown.count("x" * 500) == 300
    assert "…" not in shown


def test_csv_refuses_nested_columns_by_name():
    with pytest.raises(UsageError, match="CSV can't hold the nested column logits: choose json or parquet"):
        render(pa.table({"logits": [[0.1, 0.2]]}), "csv")


def test_an_empty_answer_is_a_header_alone():
    assert render(TABLE.slice(0, 0), "csv").decode() == "word,n,lift\n"
    assert pl.read_json(io.BytesIO(render(TABLE.slice(0, 0), "json"))).is_empty()
