"""The documents that two stores have in common."""

import polars as pl

from attnstore.errors import UsageError
from attnstore.messages import listed
from attnstore.store import frames
from attnstore.store.frames import QuestionColumns
from attnstore.store.store import Store


def matched_documents(a: Store, b: Store) -> tuple[pl.DataFrame, int, int]:
    """A row for each document that both have, by id and text; how many are only in A, and only in B.

    Columns: `a` and `b` (its numbers there), `id`, `cluster` (as A has it), `label`, `prediction_a`, `prediction_b`.

    Raises:
        UsageError: the classes differ, or no document is in both.
        StoreError: a store can't be read.
    """
    if a.manifest.labels != b.manifest.labels and set(a.manifest.labels) != set(b.manifest.labels):
        raise UsageError(
            f"the classes differ: {listed(a.manifest.labels)} in {a.path}, {listed(b.manifest.labels)} in {b.path}"
        )
    tables = []
    for store in (a, b):
        rows = frames.documents(store, QuestionColumns(cluster="group", segments=True)).select(
            "document", "id", "text", "text_pair", "cluster", pl.col("label", "prediction").cast(pl.String)
        )
        # Ids may repeat, even with the same text: the first is matched with the first.
        again = pl.int_range(pl.len()).over("id", "text", "text_pair", order_by="document")
        tables.append(frames.collect(store, rows.with_columns(again=again)))
    one, other = tables
    same = ["id", "text", "text_pair", "again"]
    joined = one.join(other, on=same, suffix="_b", maintain_order="left", nulls_equal=True).select(
        "id",
        "cluster",
        a="document",
        b="document_b",
        label=pl.when(pl.col("label") == pl.col("label_b")).then("label"),
        prediction_a="prediction",
        prediction_b="prediction_b",
    )
    if joined.is_empty():
        raise UsageError(f"{a.path} and {b.path} have no document in common, by id and text")
    return joined, one.height - joined.height, other.height - joined.height
