"""An answer in Python: how it displays itself, and its conversions."""

import json
import re

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from drawings import Page

from attnstore.ask.answer import BASIS_KEY, COLUMNS_KEY
from attnstore.show.result import Result

BASIS = "2 documents, word=<b>"
TABLE = pa.table(
    {"word": ["<i>bad</i>\x1b", None], "n": [1, 2], "lift": [1.23456, None], "right": [True, False]}
).replace_schema_metadata({BASIS_KEY: BASIS.encode(), COLUMNS_KEY: json.dumps(["lift", "word"]).encode()})


def test_an_answer_converts_to_other_libraries():
    """All rows and columns, by its own methods and by Arrow's C stream."""
    result = Result(TABLE)
    assert result.arrow() is TABLE
    assert result.to_pylist() == TABLE.to_pylist()
    assert result.polars().equals(pl.from_arrow(TABLE))
    assert result.polars().equals(pl.DataFrame(result))
    assert pa.table(result) == TABLE
    pd.testing.assert_frame_equal(result.pandas(), TABLE.to_pandas())
    assert duckdb.sql("select sum(n) from result").fetchall() == [(3,)]
    assert (len(result), result.columns, result.basis) == (2, ["word", "n", "lift", "right"], BASIS)


def test_an_answer_prints_as_its_short_table_with_its_basis(monkeypatch):
    """As wide as the terminal, with at most 60 rows."""
    monkeypatch.setenv("COLUMNS", "60")
    lines = repr(Result(TABLE)).splitlines()
    assert [cell.strip() for cell in lines[1].strip("│").split("┆")] == ["lift", "word"]
    assert [cell.strip() for cell in lines[3].strip("│").split("┆")] == ["1.235", "<i>bad</i>␛"]
    assert lines[-2:] == ["2 of 4 columns; .polars() shows all", f"based on {BASIS}"]
    many = repr(Result(pa.table({"n": range(1000)}))).splitlines()
    assert len(many) == 60 + 5
    assert many[-1] == "60 of 1,000 rows; .polars() shows all"


def test_an_answer_in_a_notebook_is_a_table_with_its_basis():
    """Numbers to the right, texts escaped and control characters visible, nulls empty, and no script."""
    page = Result(TABLE)._repr_html_()
    assert '<tr><th scope="col" class="n">lift</th><th scope="col">word</th></tr>' in page
    assert '<tr><td class="n">1.235</td><td title="&lt;i&gt;bad&lt;/i&gt;␛">' in page
    assert "<tr><td></td><td></td></tr>" in page
    assert "based on 2 documents, word=&lt;b&gt;</p>" in page
    assert "<p>2 of 4 columns; .polars() shows all</p>" in page
    assert {"script", "i", "b"}.isdisjoint(Page(page).tags)


def test_small_numbers_in_a_notebook_stay_numbers():
    """To the right like all others, with four significant digits."""
    page = Result(pa.table({"evidence": [0.5, -5.3124e-05]}))._repr_html_()
    assert '<th scope="col" class="n">evidence</th>' in page
    cells = re.findall(r'<td class="n">(.*?)</td>', page)
    assert [cell.strip() for cell in cells] == ["0.5", "-5.312e-05"]


@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_is_a_word(value):
    assert f"<td>{str(value).lower()}</td>" in Result(pa.table({"t": [value]}))._repr_html_()
