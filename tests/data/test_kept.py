"""Kept columns of the data: the same values and types from every format."""

import json
import math
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnstore.config import SourceConfig
from attnstore.data.documents import Document
from attnstore.data.kept import TypeFinder, as_type, kept_value
from attnstore.data.sources import open_source
from attnstore.data.survey import survey
from attnstore.errors import DataError, UsageError

ROWS = {
    "text": ["a fine film", "dull and long", "so so, all in all"],
    "label": ["pos", "neg", "pos"],
    "year": [1999, 2001, None],
    "zip": ["01234", "99", "7"],
    "ok": [True, None, False],
    "score": [1.5, 2.0, -1e-3],
    "nothing": [None, None, None],
}
KEPT = ("year", "zip", "ok", "score", "nothing")
TYPES = {"year": "integer", "zip": "text", "ok": "boolean", "score": "number", "nothing": "text"}


def types_of(values: list[Any]) -> str:
    finder = TypeFinder(1)
    for value in values:
        finder.add([kept_value(value)])
    return finder.types()[0]


def write(path: Any, form: str) -> Any:
    """The rows in a file of that format, with missing values in that format's own way."""
    if form == "json":
        rows = [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif form == "pandas":
        pd.DataFrame(ROWS).to_csv(path, index=False)
    elif form == "csv":
        pl.DataFrame(ROWS).write_csv(path)
    else:
        pl.DataFrame(ROWS).write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("form", "name"), [("json", "r.jsonl"), ("csv", "r.csv"), ("parquet", "r.parquet"), ("held", "held")]
)
def test_types_and_values_are_the_same_from_every_format(tmp_path, form, name):
    """Text files have no types, Parquet and JSON do. The kept columns are equal, and so is the data's hash."""
    if form == "held":
        config = SourceConfig("d", held=pl.DataFrame(ROWS), keep=KEPT, id_column="text")
    else:
        config = SourceConfig(str(write(tmp_path / name, form)), keep=KEPT, id_column="text")
    source = open_source(config)
    found = survey(source)
    assert found.kept == TYPES
    documents = [item for item in source if isinstance(item, Document)]
    values = {
        column: [as_type(d.kept[place], TYPES[column]) for d in documents]
        for place, column in enumerate(KEPT)
    }
    assert values == {column: ROWS[column] for column in KEPT}
    other = tmp_path / "other.csv"
    write(other, "csv")
    of_csv = survey(open_source(SourceConfig(str(other), keep=("zip",), id_column="text")))
    same = SourceConfig(config.data, held=config.held, keep=("zip",), id_column="text")
    if form != "held":
        assert survey(open_source(same)).sha256 == of_csv.sha256
    assert found.sha256 != of_csv.sha256


def test_a_number_among_nulls_of_pandas_stays_a_number(tmp_path):
    """pandas writes 1999.0 for a whole number in a column with nulls: it stays a number of that value, not a text."""
    source = open_source(SourceConfig(str(write(tmp_path / "r.csv", "pandas")), keep=("year",)))
    assert survey(source).kept == {"year": "number"}
    kept = [as_type(d.kept[0], "number") for d in source if isinstance(d, Document)]
    assert kept == [1999.0, 2001.0, None]


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (["1", "2", ""], "integer"),
        (["1", "02"], "text"),
        (["1", "2.0"], "number"),
        (["9223372036854775807"], "integer"),
        (["9223372036854775808"], "text"),
        (["9007199254740993", "0.5"], "text"),
        (["true", "FALSE"], "boolean"),
        (["true", "1"], "text"),
        (["1e400"], "text"),
        (["nan"], "text"),
        ([math.nan, 1.5], "number"),
        (["+1"], "text"),
        ([[1, 2]], "text"),
        (["1_000"], "text"),
        (["\u0661"], "text"),
        ([], "text"),
    ],
)
def test_a_columns_type_is_one_that_all_of_its_values_have(values, type_):
    """A type is used only if every value survives the conversion."""
    assert types_of(values) == type_


@pytest.mark.slow
@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()), max_size=5))
def test_every_value_is_of_its_columns_type_and_is_not_changed(values):
    """For any column: each value fits the type found, and has the same meaning as before."""
    try:
        kept = [kept_value(value) for value in values]
    except UnicodeError:
        return
    finder = TypeFinder(1)
    for value in kept:
        finder.add([value])
    (type_,) = finder.types()
    for value in kept:
        typed = as_type(value, type_)
        if value is None:
            assert typed is None
        elif type_ == "text":
            assert isinstance(typed, str)
            assert typed == value or typed.lower() == str(value).lower()
        elif isinstance(value, str):
            assert json.loads(value.strip().lower()) == typed
        else:
            assert value == typed


def test_a_value_that_does_not_fit_any_more_is_reported():
    """If the data changed between survey and reading, they are refused, not stored as something else."""
    with pytest.raises(DataError, match="changed while it was read: 'x' stands in a column of type integer"):
        as_type("x", "integer")


def test_a_missing_column_can_not_be_kept(tmp_path):
    """A folder of texts has no columns, and a table only its own."""
    folder = tmp_path / "texts" / "pos"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("good")
    with pytest.raises(UsageError, match=r"--keep-column year: .* has no columns to keep"):
        open_source(SourceConfig(str(tmp_path / "texts"), keep=("year",)))
    with pytest.raises(UsageError, match=r"has no column 'yaer' \(--keep-column\).*did you mean 'year'"):
        open_source(SourceConfig(str(write(tmp_path / "r.csv", "csv")), keep=("yaer",)))
