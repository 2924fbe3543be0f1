"""Promises of attnstore.store.faithfulness: a file counts once it has a receipt, and no file is written twice."""

import json

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from measured_store import measured_rows, written
from small_store import contents, manifest, run

from attnstore.errors import StoreError
from attnstore.store.faithfulness import (
    SCHEMA,
    drop_damaged,
    faithfulness_files,
    measurements,
    write_measurement,
)
from attnstore.store.lock import write_lock
from attnstore.store.store import open_store


@pytest.fixture
def store(tmp_path):
    run(tmp_path / "store", manifest())
    return open_store(tmp_path / "store")


def test_files_are_added_and_existing_ones_are_kept(store):
    """Numbered separately for each way of removing tokens.

    Every file keeps its bytes, and each receipt describes its file.
    """
    first = written(store, measured_rows(range(3), ["cls_01", "random"]))
    before = contents(store.path)
    second = written(store, measured_rows(range(3, 5), ["cls_01"]))
    third = written(store, measured_rows(range(2), ["cls_01"], by="mask", unit="word"))
    after = contents(store.path)
    assert {name: after[name] for name in before} == before
    names = ["deletion-token-00000", "deletion-token-00001", "mask-word-00000"]
    assert measurements(store) == ([first, second, third], {})
    assert [path.name for path in faithfulness_files(store)] == [f"{name}.parquet" for name in names]
    assert [measured.documents for measured in (first, second, third)] == [3, 2, 2]
    raw = json.loads((store.path / "_faithfulness/mask-word-00000.json").read_text())
    assert raw["settings"] == {"store_documents": 10, "by": "mask", "unit": "word", "model_sha256": None}
    assert raw["file"]["rows"] == 10 == pq.read_metadata(faithfulness_files(store)[2]).num_rows


def test_readers_of_parquet_read_the_folder(store):
    """Polars and pyarrow read it by the folder alone, because it contains nothing but Parquet."""
    rows = measured_rows(range(4), ["cls_01", "random"])
    written(store, rows)
    expected = [row["comprehensiveness"] for row in rows]
    folder = store.path / "faithfulness"
    for found in (
        pl.read_parquet(folder)["comprehensiveness"].to_list(),
        pq.read_table(folder)[9].to_pylist(),
    ):
        assert found == pytest.approx(expected)
    assert {path.suffix for path in folder.iterdir()} == {".parquet"}


def test_files_of_a_killed_process_are_overwritten(store):
    """A file without a receipt is not listed, and is replaced by the next measurement."""
    written(store, measured_rows(range(3), ["cls_01"]))
    (store.path / "_faithfulness/deletion-token-00000.json").unlink()
    assert (measurements(store), faithfulness_files(store)) == (([], {}), [])
    with write_lock(store.path):
        assert drop_damaged(store) == []
    assert list((store.path / "faithfulness").iterdir()) == []


@pytest.mark.slow
def test_tables_of_another_form_and_unfinished_stores_are_refused(store, tmp_path):
    """Nothing is cast, and nothing is added to a store that may still change."""
    settings = {"by": "deletion", "unit": "token"}
    table = pa.Table.from_pylist(measured_rows(range(2), ["cls_01"]), schema=SCHEMA)
    with pytest.raises(StoreError, match="faithfulness: the columns are"):
        write_measurement(store, table.drop_columns("draw"), settings)
    run(tmp_path / "open", manifest(), seal=False)
    with pytest.raises(
        StoreError, match="is not sealed: `attnstore run` with the same options finishes it first"
    ):
        write_measurement(open_store(tmp_path / "open"), table, settings)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"store_documents": "all"}},
        {"settings": {"store_documents": 10**30}},
        {"settings": {"store_documents": None}},
        {"settings": {"model": "\udcff"}},
        {"documents": 1e999},
        {"settings": []},
        {"written": [[[[[[[[[[[[[[[["deep"]]]]]]]]]]]]]]]]},
    ],
)
def test_an_implausible_receipt_is_damage(store, change):
    """Infinite numbers, lone surrogates, other types and deep nesting are all refused."""
    written(store, measured_rows(range(3), ["cls_01"]))
    receipt = store.path / "_faithfulness/deletion-token-00000.json"
    receipt.write_text(json.dumps(json.loads(receipt.read_text()) | change))
    found, damaged = measurements(store)
    name = "faithfulness/deletion-token-00000.parquet"
    assert (found, damaged) == ([], {name: "its receipt _faithfulness/deletion-token-00000.json is damaged"})
