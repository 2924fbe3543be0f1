"""Answers as text and bytes: every format has the same rows."""

import io
import json
import re

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attnstore.errors import UsageError
from attnstore.show.formats import FORMATS, LONGEST, render

TABLE = pa.table(
    {
        "word": ["a|b", "x,\"y\"", None],
        "n": [1, 1234567, None],
        "lift": [1.23456789, 0.000123456, None],
    }
)  # fmt: skip


def test_csv_keeps_every_digit_and_quotes_if_necessary():
    """Fields with commas and quotes are quoted; a null is an empty field."""
    assert render(TABLE, "csv").decode() == (
        'word,n,lift\na|b,1,1.23456789\n"x,""y""",1234567,0.000123456\n,,\n'
    )


def test_json_is_one_list_of_rows():
    assert json.loads(render(TABLE, "json")) == TABLE.to_pylist()


def test_parquet_reads_back_as_the_same_table():
    assert pq.read_table(io.BytesIO(render(TABLE, "parquet"))).equals(TABLE)


def test_markdown_is_a_table_with_rounded_numbers():
    """A header, a rule, and a line per row, with four significant digits."""
    lines = render(TABLE, "markdown").decode().splitlines()
    assert len(lines) == 5
    assert [cell.strip() for cell in lines[3].strip("|").split("|")] == ['x,"y"', "1234567", "0.0001235"]


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_small_numbers_keep_four_significant_digits_as_well(form):
    """However small, of either sign, and aligned with the others, to the right."""
    numbers = [12.3456, 0.5, 0.00123456, -0.000825149, 5.3124e-05, -4.63249e-06, 1.23451e-12, 0.0, None]
    drawn = render(pa.table({"x": numbers}), form).decode()
    cells = [line.strip()[1:-1] for line in drawn.splitlines() if re.search(r"[0-9]|null", line)]
    assert [cell.strip() for cell in cells] == [
        "12.35", "0.5", "0.001235", "-0.0008251", "5.312e-05", "-4.632e-06", "1.235e-12", "0.0", "null"
    ]  # fmt: skip
    assert len({len(cell.rstrip()) for cell in cells[:-1]}) == 1


def test_markdown_keeps_a_cell_in_its_cell():
    """Bars are escaped, in names, too, and line breaks are those of HTML."""
    table = pa.table({"a|b": ["x|y\nz\r\n|"], "n": [1]})
    lines = render(table, "markdown").decode().splitlines()
    assert len(lines) == 3
    assert [cell.strip() for cell in re.split(r"(?<!\\)\|", lines[0])] == ["", r"a\|b", "n", ""]
    assert [cell.strip() for cell in re.split(r"(?<!\\)\|", lines[2])] == ["", r"x\|y<br>z<br>\|", "1", ""]


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_control_characters_of_a_text_do_not_reach_the_terminal(form):
    """An escape sequence is made visible in a value, a list and a column's name."""
    bad = "\x1b[2J\x9b\x07\u202e"
    shown = render(pa.table({bad: [bad], "l": [[bad]]}), form).decode()
    assert not set(bad) & set(shown) - set("[2J")
    assert shown.count("␛[2J⟨U+009B⟩␇⟨U+202E⟩") == 3


def test_a_table_shows_every_row_and_complete_texts():
    """Nothing is abbreviated: 300 rows are 300 lines, and a text of 500 characters is complete."""
    long = pa.table({"text": ["x" * 500] * 300, "n": list(range(300))})
    shown = render(long, "table").decode()
    assert shown.count("x" * 500) == 300
    assert "…" not in shown


def test_a_very_long_text_is_cut_only_in_a_table():
    """`repeat('x', 100000000)` would take minutes to draw."""
    table = pa.table({"text": ["a" * 200_000]})
    for form in ("table", "markdown"):
        drawn = render(table, form).decode()
        assert drawn.count("a") == LONGEST - 1
        assert drawn.count("…") == 1
    assert render(table, "csv").decode() == f"text\n{'a' * 200_000}\n"
    assert json.loads(render(table, "json")) == table.to_pylist()


def test_csv_refuses_nested_columns_by_name():
    with pytest.raises(UsageError, match="CSV can't hold the nested column logits: choose json or parquet"):
        render(pa.table({"logits": [[0.1, 0.2]]}), "csv")


@pytest.mark.parametrize(
    ("sql", "forms"),
    [
        ("interval 3 day", "table csv json markdown parquet"),
        ("[interval 3 day]", "table csv json markdown parquet"),
        ("union_value(number := 2)", "table csv json markdown parquet"),
        ("'ab'::blob", "csv json"),
        ("{'b': ['ab'::blob]}", "json"),
        ("'101'::bit", "csv json"),
        ("1::bignum", "csv json"),
        ("map {1: 2}", "json"),
    ],
)
def test_a_column_that_the_format_can_not_hold_is_reported_and_a_cast_helps(sql, forms):
    """One line names the column, its type and the cast.

    With the cast, every format can hold it; others can without it.
    """
    answer = duckdb.sql(f"select 1 as n, {sql} as odd").to_arrow_table()
    cast = duckdb.sql(f"select ({sql})::VARCHAR as odd").to_arrow_table()
    for form in FORMATS:
        assert render(cast, form)
        if form in forms.split():
            with pytest.raises(
                UsageError, match=f"{form} can't hold the column odd .*: cast it, as in odd::VARCHAR"
            ):
                render(answer, form)
        elif form != "csv":
            assert render(answer, form)


@pytest.mark.parametrize("form", FORMATS)
def test_columns_with_equal_names_are_refused(form):
    """No format can distinguish them."""
    twice = duckdb.sql("select 1 as a, 2 as a").to_arrow_table()
    assert twice.column_names == ["a", "a"]
    with pytest.raises(UsageError, match="two columns are called a: give one another name"):
        render(twice, form)


def test_nested_columns_are_json():
    """Lists, structs and maps with text keys are written as JSON."""
    table = duckdb.sql("select [1, 2] as l, {'a': [0.5]} as s, map {'k': 1} as m").to_arrow_table()
    assert json.loads(render(table, "json")) == [{"l": [1, 2], "s": {"a": ["0.5"]}, "m": {"k": 1}}]


def test_an_empty_answer_is_only_a_header():
    assert render(TABLE.slice(0, 0), "csv").decode() == "word,n,lift\n"
    assert pl.read_json(io.BytesIO(render(TABLE.slice(0, 0), "json"))).is_empty()
