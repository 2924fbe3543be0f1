"""No drawn p value is 0, wherever an answer is drawn; other formats and other columns keep their numbers."""

import json
import re

import polars as pl
import pyarrow as pa
import pytest
import vl_convert

from attnstore.ask.answer import BASIS_KEY
from attnstore.show.charts import fill
from attnstore.show.explorer.cells import address, grid
from attnstore.show.fitted import fit
from attnstore.show.formats import render
from attnstore.show.p_values import p_value
from attnstore.show.result import Result

P = [0.0, 2e-310, 0.0123456, 1.0, None]
DRAWN = ["< 1e-300", "< 1e-300", "0.01235"]
COLUMNS = {"word": list("abcde"), "p": P, "q": P, "lift": [0.0, 1.0, 2.0, 3.0, 4.0]}
ANSWER = pa.table(COLUMNS).replace_schema_metadata({BASIS_KEY: b"5 documents"})


def cells(lines, bar):
    """The texts of a drawn table's rows, and the rows as wide as they are drawn."""
    return [[cell.strip() for cell in line.strip("│|").split(bar)] for line in lines]


@pytest.mark.parametrize("value", [0.0, 5e-324, 9e-301])
def test_what_is_too_small_for_a_number_has_a_bound(value):
    assert p_value(value) == p_value(value, 2) == "< 1e-300"


def test_other_values_have_their_digits():
    assert [p_value(value) for value in (1e-300, 0.0123456, 1.0)] == ["1e-300", "0.01235", "1"]
    assert p_value(0.0123456, 2) == "0.012"


@pytest.mark.parametrize("drawn", ["table", "markdown", "terminal", "repr"])
def test_a_table_has_a_bound_in_place_of_zero(drawn, monkeypatch):
    """Right below one another, as numbers are; a 0 that is no p value stays."""
    monkeypatch.setenv("COLUMNS", "200")
    text = {
        "table": lambda: render(ANSWER, "table").decode(),
        "markdown": lambda: render(ANSWER, "markdown").decode(),
        "terminal": lambda: fit(ANSWER, 200).text,
        "repr": lambda: repr(Result(ANSWER)),
    }[drawn]()
    lines = [line for line in text.splitlines() if re.match(r"[│|] [a-e] ", line)]
    rows = cells(lines, "|" if drawn == "markdown" else "┆")
    assert [row[1] for row in rows] == [row[2] for row in rows] == [*DRAWN, "1.0", "null"]
    assert [row[3] for row in rows] == ["0.0", "1.0", "2.0", "3.0", "4.0"]
    assert len({line.index("0.01235") + 7 for line in lines if "0.01235" in line}
               | {line.index("< 1e-300") + 8 for line in lines if "< 1e" in line}) == 1  # fmt: skip


def test_a_bound_is_not_cut_where_texts_are():
    """A narrow terminal leaves columns out; half a bound would be another number."""
    for width in range(4, 40):
        drawn = fit(ANSWER.select(["p", "word"]), width).text
        assert drawn.count("< 1e-300") == 2


def test_a_notebook_draws_the_bound_as_a_number():
    page = Result(ANSWER)._repr_html_()
    assert page.count('<td class="n">&lt; 1e-300</td>') == 4
    assert page.count('<td class="n">0.0</td>') == 1


def test_the_explorer_draws_the_bound_as_a_number():
    found = grid(ANSWER, address)
    assert [row[1].text for row in found.rows] == [*DRAWN, "1", "–"]
    assert [row[1].is_number for row in found.rows] == [True] * 4 + [False]
    assert [row[3].text for row in found.rows] == ["0", "1", "2", "3", "4"]


def test_a_chart_draws_the_bound_under_the_pointer():
    """As Vega itself works it out, here into a text; a missing number is none, and not 0."""
    filled, _ = fill({"mark": {"type": "text", "tooltip": True}}, ANSWER)
    shown = filled["mark"].pop("tooltip")["expr"]
    filled["mark"]["text"] = {"expr": f"({shown})['word'] + ': ' + ({shown})['p'] + ', ' + ({shown})['lift']"}
    svg = vl_convert.vegalite_to_svg(json.dumps(filled))
    found = re.findall(r"<text[^>]*>([a-e]: [^<]*)</text>", svg)
    assert found == ["a: &lt; 1e-300, 0", "b: &lt; 1e-300, 1", "c: 0.01235, 2", "d: 1, 3", "e: –, 4"]


def test_programs_get_the_numbers():
    """CSV and JSON have the values as they are."""
    assert json.loads(render(ANSWER, "json")) == ANSWER.to_pylist()
    assert pl.read_csv(render(ANSWER, "csv"))["p"].to_list() == P


def test_a_column_of_somebodys_sql_means_anything():
    """Its p may be a price: a table without a question's basis keeps its 0."""
    assert "< 1e-300" not in render(pa.table(COLUMNS), "table").decode()
    assert grid(pa.table(COLUMNS), address).rows[0][1].text == "0"
