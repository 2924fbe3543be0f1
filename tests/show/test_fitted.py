"""A table of answers on a terminal fits, and says what it leaves out."""

import json

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnstore.ask.answer import BASIS_KEY, COLUMNS_KEY
from attnstore.errors import UsageError
from attnstore.show.columns import display_width
from attnstore.show.fitted import fit, fitted_lines, left_out
from attnstore.show.formats import LONGEST

TABLE = pa.table({"class": ["neg", "pos"], "text": ["the dog that barked", None], "lift": [1.23456, 20.0]})


def test_a_table_that_fits_is_drawn_whole():
    """Four significant digits, numbers to the right, and nothing left out."""
    fitted = fit(TABLE, 80)
    assert fitted.text.splitlines() == [
        "┌───────┬─────────────────────┬───────┐",
        "│ class ┆ text                ┆  lift │",
        "╞═══════╪═════════════════════╪═══════╡",
        "│ neg   ┆ the dog that barked ┆ 1.235 │",
        "│ pos   ┆ null                ┆  20.0 │",
        "└───────┴─────────────────────┴───────┘",
    ]
    assert left_out((fitted.rows, fitted.columns), TABLE, "all", "all") == ""


def test_long_texts_are_cut_at_the_beginning_or_the_end():
    """A text loses its end; one that continues a `…` loses its beginning. A … replaces what is cut off."""
    cut, ends = fit(TABLE, 35), fit(TABLE, 35, columns=["class", "…text", "lift"])
    assert [cells(line)[1] for line in cut.text.splitlines()[3:5]] == ["the dog that b…", "null"]
    assert [cells(line)[1] for line in ends.text.splitlines()[3:5]] == ["…og that barked", "null"]
    assert max(map(len, f"{cut.text}\n{ends.text}".splitlines())) <= 35
    assert cut.columns == 3


def cells(line):
    return [cell.strip() for cell in line.strip("│").split("┆")]


def test_columns_that_do_not_fit_are_left_out_from_the_last_on():
    """Numbers are never cut: the column is left out, and the note says so. Rows left out are counted, too."""
    fitted = fit(TABLE, 30, rows=1)
    assert cells(fitted.text.splitlines()[1]) == ["class", "text"]
    assert (fitted.rows, fitted.columns) == (1, 2)
    assert left_out((1, 2), TABLE, "--wide", "--rows 0") == (
        "2 of 3 columns; --wide shows all · 1 of 2 rows; --rows 0 shows all"
    )


def test_a_short_set_of_columns_is_drawn_in_its_order():
    """The columns in the answer's metadata, with a line about subject and basis below. `wide` draws all columns."""
    metadata = {COLUMNS_KEY: json.dumps(["lift", "class"]).encode(), BASIS_KEY: b"2 documents, x=1"}
    table = TABLE.replace_schema_metadata(metadata)
    lines = fitted_lines(table, 80, None, False, "--wide", "--rows 0").splitlines()
    assert cells(lines[1]) == ["lift", "class"]
    assert lines[-2:] == ["2 of 3 columns; --wide shows all", "based on 2 documents, x=1"]
    lines = fitted_lines(table, 20, None, True, "--wide", "--rows 0").splitlines()
    assert cells(lines[1]) == ["class", "text", "lift"]
    assert lines[-2:] == ["based on 2", "documents, x=1"]


def test_a_cell_is_one_line_without_control_characters():
    """Line breaks, escapes and nested values; in names, too."""
    table = duckdb.sql(
        """select 'a' || chr(10) || 'b' || chr(27) as "x\ny", [0.123456::double, null] as l, {'k': 1.5} as s, """
        """'ab'::blob as b, date '2026-01-02' as d, true as t"""
    ).to_arrow_table()
    table = table.rename_columns(["x\ny", *table.column_names[1:]])
    lines = fit(table, 200).text.splitlines()
    assert cells(lines[1]) == ["x␊y", "l", "s", "b", "d", "t"]
    assert cells(lines[3]) == ["a␊b␛", "[0.1235, null]", "{k: 1.5}", "b'ab'", "2026-01-02", "true"]


def test_an_answer_without_rows_is_its_header():
    """An empty answer is not an error. What can't be drawn is refused as in every format."""
    assert cells(fit(TABLE.slice(0, 0), 80).text.splitlines()[1]) == ["class", "text", "lift"]
    with pytest.raises(UsageError, match=r"table can't hold the column odd .*: cast it"):
        fit(duckdb.sql("select interval 3 day as odd").to_arrow_table(), 80)


names = st.lists(st.text("abc ü映", min_size=1, max_size=8), min_size=1, max_size=8, unique=True)


@pytest.mark.slow
@given(names, st.data(), st.integers(40, 120))
def test_no_line_is_wider_than_the_terminal(columns, data, width):
    """For any texts, including wide characters, and any number of columns."""
    values = st.none() | st.text("xyz 映😀\n", max_size=60)
    table = pa.table({name: pa.array([data.draw(values), "x"], pa.string()) for name in columns})
    fitted = fit(table, width)
    assert 1 <= fitted.columns <= len(columns)
    for line in fitted.text.splitlines():
        assert sum(map(display_width, line)) <= width


def test_only_the_ends_of_a_very_long_text_are_read():
    """Its middle is not read, because it may be a hundred million characters long."""
    middle = "x" * 10 * LONGEST
    table = pa.table({"text": [f"begin {middle} end"], "list": [[middle, "end"]]})
    assert "begin xx" in fit(table, 80).text
    assert "xx end" in fit(table, 80, columns=("…text",)).text
