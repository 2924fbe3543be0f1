"""Promises of attnstore.check.measured: every fault of the table `faithfulness` is found, named and located."""

import json

import pyarrow as pa
import pytest
from measured_store import measured_rows, written
from small_store import manifest, run

from attnstore.check.measured import verify_faithfulness
from attnstore.store.store import open_store

FILE = "faithfulness/deletion-token-00000.parquet"


def faults(store):
    return [(f.subject, f.detail) for f in verify_faithfulness(store) if not f.ok]


@pytest.fixture
def store(tmp_path):
    run(tmp_path / "store", manifest())
    return open_store(tmp_path / "store")


ROWS = [row | {"probability": 0.88} for row in measured_rows(range(4), ["cls_01"])]


def test_a_sound_table_and_a_missing_one(store):
    """One finding per file with its contents; none if nothing was measured."""
    assert list(verify_faithfulness(store)) == []
    written(store, ROWS)
    assert [(f.subject, f.ok, f.detail) for f in verify_faithfulness(store)] == [
        (FILE, True, "4 documents, 1 score")
    ]


FAULTS = [
    (lambda rows: [*rows, rows[-1]], "is there more than once: 2 of 21, first document 3"),
    (
        lambda rows: [r | {"document": r["document"] + 9} for r in rows],
        "is of no document of this store: 15 of 20",
    ),
    (
        lambda rows: [r | {"probability": 0.5} for r in rows],
        "has a probability that is not near to the document's",
    ),
    (
        lambda rows: [r | {"sufficiency": -1.5} for r in rows],
        "has an impossible difference of probabilities: 20",
    ),
    (
        lambda rows: [r | {"removed": 11} for r in rows],
        "removes none of its units, or more than there are: 20",
    ),
    (
        lambda rows: rows[:-1],
        "is of a score with other fractions, or probabilities, than the rest: 1 of 19, first",
    ),
    (
        lambda rows: [*rows[:-1], rows[-1] | {"probability": 0.87}],
        "is of a score with other fractions, or prob",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("change", "wording"), FAULTS)
def test_impossible_rows_are_found(store, change, wording):
    """Each kind of fault is named, with its number of rows and the first document."""
    written(store, change(ROWS))
    (subject, detail), *_ = faults(store)
    assert subject == FILE
    assert detail.startswith(f"a row {wording}")


def test_a_file_that_is_not_as_it_was_written_is_found(store):
    """A flipped bit, another model, an invalid receipt, and a file without a receipt."""
    written(store, ROWS)
    path, receipt = store.path / FILE, store.path / "_faithfulness/deletion-token-00000.json"
    content, text = path.read_bytes(), receipt.read_text()
    again = ": `attnstore faithfulness` measures it again"
    path.write_bytes(bytes(byte ^ (n == 99) for n, byte in enumerate(content)))
    assert faults(store) == [(FILE, f"its SHA-256 is not the one recorded: it is damaged{again}")]
    path.write_bytes(content)
    receipt.write_text(text.replace('"model_sha256": null', '"model_sha256": "0"'))
    assert faults(store) == [(FILE, f"it was measured with another model than the run's{again}")]
    raw = json.loads(text)
    raw["file"]["rows"] += 1
    receipt.write_text(json.dumps(raw))
    assert faults(store) == [(FILE, f"has 20 rows, 21 were written{again}")]
    for damage in ("{", "[]", text.replace(FILE, "totals.parquet")):
        receipt.write_text(damage)
        said = "its receipt _faithfulness/deletion-token-00000.json is damaged"
        assert faults(store) == [(FILE, said + again)]
    receipt.unlink()
    said = "it has no receipt, as if a measurement was interrupted, but a plain reader reads it: remove it"
    assert faults(store) == [(FILE, said)]


def test_columns_of_another_kind_are_found(store):
    """A file whose receipt fits, but whose columns do not."""
    import hashlib

    import pyarrow.parquet as pq

    written(store, ROWS)
    path, receipt = store.path / FILE, store.path / "_faithfulness/deletion-token-00000.json"
    table = pq.read_table(path)
    pq.write_table(table.set_column(2, "draw", table["draw"].cast(pa.int32())), path)
    raw = json.loads(receipt.read_text())
    raw["file"] |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    receipt.write_text(json.dumps(raw))
    assert faults(store) == [
        (FILE, "its columns are not the table's: `attnstore faithfulness` measures it again")
    ]
