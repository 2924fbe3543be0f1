"""Data in a program's memory: every kind of table gives the same documents."""

from collections.abc import Callable, Iterator
from typing import Any

import datasets
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from attnstore.config import SourceConfig
from attnstore.data.documents import Document, Rejected, Source
from attnstore.data.in_memory import name_of
from attnstore.data.sources import open_source
from attnstore.errors import DataError, UsageError

ROWS = [("a fine film", "pos"), ("dull, and long", "neg"), ("schöne Grüße \U0001f600", None)]
COLUMNS = {"text": [row[0] for row in ROWS], "label": [row[1] for row in ROWS]}
DICTS = [{"text": text, "label": label} for text, label in ROWS]
EXPECTED = [Document(text, f"data:{n}", None, "all", label) for n, (text, label) in enumerate(ROWS, 1)]


class Anew:
    """Rows that start again at each iteration, without a length."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(DICTS)


HELD: dict[str, tuple[Callable[[], object], str]] = {
    "pandas": (lambda: pd.DataFrame(COLUMNS), "pandas.DataFrame of 3 rows"),
    "pandas with an index": (lambda: pd.DataFrame(COLUMNS, index=[7, 5, 5]), "pandas.DataFrame of 3 rows"),
    "pandas of categories": (lambda: pd.DataFrame(COLUMNS).astype("category"), "pandas.DataFrame of 3 rows"),
    "polars": (lambda: pl.DataFrame(COLUMNS), "polars.DataFrame of 3 rows"),
    "arrow": (lambda: pa.table(COLUMNS), "pyarrow.Table of 3 rows"),
    "arrow in chunks": (
        lambda: pa.concat_tables([pa.table(COLUMNS)[:1], pa.table(COLUMNS)[1:]]),
        "pyarrow.Table of 3 rows",
    ),
    "datasets": (lambda: datasets.Dataset.from_dict(COLUMNS), "datasets.Dataset of 3 rows"),
    "datasets, selected": (
        lambda: datasets.Dataset.from_dict({k: v[::-1] for k, v in COLUMNS.items()}).select([2, 1, 0]),
        "datasets.Dataset of 3 rows",
    ),
    "datasets, streamed": (
        lambda: datasets.Dataset.from_dict(COLUMNS).to_iterable_dataset(),
        "datasets.IterableDataset",
    ),
    "dicts": (lambda: DICTS, "list of 3 rows"),
    "rows anew": (Anew, "test_in_memory.Anew"),
}  # fmt: skip


def held(data: object, **options: object) -> Source:
    return open_source(SourceConfig(name_of(data), held=data, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", HELD)
def test_documents(kind: str) -> None:
    """Every kind of table has the same documents, and can be read twice."""
    make, name = HELD[kind]
    source = held(make())
    assert (list(source), list(source), source.name) == (EXPECTED, EXPECTED, name)


def test_splits_and_classes() -> None:
    """A DatasetDict has splits, and its classes have names."""
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    parts = {
        split: datasets.Dataset.from_dict({"text": [f"{split} text"], "label": [1]}, features=features)
        for split in ("train", "mine")
    }
    source = held(datasets.DatasetDict(parts), split="mine")
    assert source.name == "datasets.DatasetDict (train, mine)"
    assert source.class_names is not None and source.class_names.names == ("bad", "good")
    assert (source.splits, list(source)) == (
        ("train", "mine"),
        [Document("mine text", "mine:1", None, "mine", "1")],
    )


def test_bad_rows() -> None:
    """Rows that are not dicts are counted, and so are rows with several labels."""
    rows = [{"text": "a", "label": ["x"]}, "b", {"text": "c", "label": ["x", "y"]}, {"text": 5, "label": "x"}]
    rows += [
        {"text": "d", "label": [[0, 4, "x"]]},
        {"text": "e", "label": []},
        {"text": "f", "label": {"a": 1}},
    ]
    assert list(held(rows)) == [
        Document("a", "data:1", None, "all", "x"),
        Rejected("data row 2", "malformed row"),
        Rejected("data row 3", "several labels"),
        Rejected("data row 4", "text is not a string"),
        Rejected("data row 5", "its label, id or group is an object, or a list of lists"),
        Document("e", "data:6", None, "all", None),
        Rejected("data row 7", "its label, id or group is an object, or a list of lists"),
    ]


@pytest.mark.parametrize(
    "data",
    [iter(DICTS), (row for row in DICTS), pa.table(COLUMNS).to_reader()],
    ids=["iterator", "generator", "reader"],
)
def test_an_iterator_is_refused(data: object) -> None:
    """A source is read more than once, and a second reading would find nothing."""
    with pytest.raises(UsageError, match="can be read only once, but attnstore reads data more than once"):
        held(data)


@pytest.mark.parametrize("data", [5, b"text", {"text": "a"}], ids=repr)
def test_other_objects_are_refused(data: object) -> None:
    """One line, which lists the possible kinds."""
    with pytest.raises(UsageError, match=r"is not data: give a path, a table of pandas, Polars or Arrow"):
        held(data)


@pytest.mark.parametrize("data", [[], ["text", "text"], [{}]], ids=repr)
def test_rows_without_keys(data: object) -> None:
    """One line says that there are no columns."""
    with pytest.raises(DataError, match=r"data holds no JSON object: rows are objects \(dicts\)"):
        held(data)


def test_a_frame_that_arrow_does_not_accept() -> None:
    """Only pandas allows a column of several types; one line says which column it is."""
    with pytest.raises(
        DataError, match=r"^pandas.DataFrame of 2 rows can't be read as an Arrow table: [^\n]+$"
    ):
        held(pd.DataFrame({"text": ["a", 5], "label": ["x", "y"]}))
