"""Predictions by label."""

from collections import Counter

import pytest
from asked_store import made_up_documents, write_store

from attnstore.ask.crossed import cross_table, predictions_by_label


@pytest.mark.slow
@pytest.mark.parametrize("labels", [("neg", "pos", None), ("a/b", "ü", "-1")])
def test_predictions_by_label_are_counted(labels, tmp_path):
    """All labelled documents of all splits, by label and prediction, in that order."""
    documents = made_up_documents(60, labels=labels, splits=("train", "test"))
    store = write_store(tmp_path / "store", documents)
    counts = predictions_by_label(store)
    expected = Counter((d["label"], d["prediction"]) for d in documents if d["label"] is not None)
    assert counts == expected
    assert list(counts) == sorted(expected)


def test_a_table_of_few_classes():
    """A row per label and a column per class in the model's order, including zeros."""
    counts = {("bad\n", "LABEL_0"): 1200, ("good", "LABEL_0"): 1, ("good", "LABEL_1"): 27}
    assert list(cross_table(counts, ["LABEL_0", "LABEL_1"])) == [
        "label  LABEL_0  LABEL_1",
        "bad      1,200        0",
        "good         1       27",
    ]


def test_a_table_of_many_classes():
    """The three most frequent predictions of each of the first twelve labels; the others are counted."""
    classes = [f"LABEL_{n}" for n in range(9)]
    counts = {("x", f"LABEL_{n}"): n + 1 for n in range(5)} | {(f"y{n:02}", "LABEL_8"): 1 for n in range(13)}
    assert list(cross_table(counts, classes)) == [
        "x      LABEL_4 5, LABEL_3 4, LABEL_2 3",
        *(f"y{n:02}    LABEL_8 1" for n in range(11)),
        "and 2 more labels",
    ]
