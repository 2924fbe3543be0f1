"""Promises of attnstore.store.partitions: every reader reads split and label back from the path."""

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings
from plain_readers import READERS, in_order, with_duckdb
from small_store import manifest, run, tables

from attnstore.store.partitions import MAX_LABEL_PARTITIONS, label_fits_in_path
from attnstore.store.resume import create_or_resume


def test_splits_are_partitions(tmp_path: Path) -> None:
    """A part with documents of two splits is divided between their directories."""
    plan = manifest(part_size=10)
    halves = [tables(plan, range(5), split="train"), tables(plan, range(5, 10), split="test")]
    with create_or_resume(tmp_path / "store", plan) as store:
        store.write_part(0, *(pa.concat_tables(pair) for pair in zip(*halves, strict=True)))
        store.seal()
    found = [
        (row["document"], row["split"]) for row in in_order(with_duckdb(tmp_path / "store" / "documents"))
    ]
    assert found == [(number, "train" if number < 5 else "test") for number in range(10)]


def labels_read_back(labels: list[str | None]) -> list[list[str | None]]:
    """The labels of a store with one document per label, as read by each reader."""
    count = len(labels)
    plan = manifest(documents=count, part_size=count, label_in_path=label_fits_in_path(labels), reductions=())
    with tempfile.TemporaryDirectory() as directory:
        run(Path(directory) / "store", plan, labels)
        return [
            [row["label"] for row in in_order(read(Path(directory) / "store" / "documents"))]
            for read in READERS
        ]


READABLE = [
    *(
        "pos",
        "a b",
        "a/b",
        "a\\b",
        "a=b",
        "a&label=c",
        "per 50%",
        "a%41",
        'it\'s "quoted"',
        "naïve",
        "отзыв",
        "好",
    ),
    *("a😀", "a\nb", "a\x01", "a:b*?", "a..", "a+b", "x" * 249, "ß" * 41),
]

CHANGED_BY_READERS = [
    *(
        "007",
        "7",
        "-3",
        "1.5",
        "1e5",
        " 7",
        "\N{FULLWIDTH DIGIT SEVEN}",
        "0x10",
        "2024-01-01",
        "12:30:00",
        "true",
    ),
    *(
        "False",
        "inf",
        "Infinity",
        "nan",
        "null",
        "None",
        "epoch",
        "",
        ".",
        "..",
        "__HIVE_DEFAULT_PARTITION__",
    ),
    *("x" * 250, "好" * 28, "😀"),
]


@pytest.mark.slow
def test_a_label_in_the_path_reads_back_unchanged() -> None:
    """A label of any script and with any character is in the path, and each reader returns it."""
    labels = [*READABLE, None]
    assert label_fits_in_path(labels)
    assert labels_read_back(labels) == [labels] * len(READERS)


def test_a_label_that_a_reader_would_change_is_a_column() -> None:
    """Labels that look like numbers, dates, truth values or null, and labels that are too long, are not in the path,
    and also read back unchanged.
    """
    labels = [*CHANGED_BY_READERS, None]
    assert [label for label in labels if label_fits_in_path(["pos", label])] == [None]
    assert labels_read_back(labels) == [labels] * len(READERS)


@pytest.mark.parametrize("labels", [["Pos", "pos"], [None], [], [f"label {n}" for n in range(51)]])
def test_labels_that_do_not_fit_together_are_a_column(labels: list[str | None]) -> None:
    """Two that differ only in case, missing labels, and more than fifty labels make `label` a column."""
    assert not label_fits_in_path(labels)
    labels = labels or [None]
    assert labels_read_back(labels) == [labels] * len(READERS)


def test_the_most_labels_that_may_be_in_the_path() -> None:
    """The limit itself is still in the path."""
    assert label_fits_in_path(f"label {n}" for n in range(MAX_LABEL_PARTITIONS))


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=12)), min_size=1, max_size=4))
def test_any_labels_read_back_unchanged(labels: list[str | None]) -> None:
    """Any labels, in the path or in a column, are returned by every reader."""
    assert labels_read_back(labels) == [labels] * len(READERS)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.lists(st.text("aeflnrstuyxINTd019-+.:_ %", min_size=1, max_size=8), min_size=1, max_size=3))
def test_labels_that_look_like_values_read_back_unchanged(labels: list[str]) -> None:
    """The same for labels made of the characters of numbers, dates and truth values."""
    assert labels_read_back(labels) == [labels] * len(READERS)
