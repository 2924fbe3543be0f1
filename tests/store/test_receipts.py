"""Promises of attnstore.store.receipts: a part counts while all its files are as they were written."""

import json
from pathlib import Path

import pytest
from small_store import manifest, run

from attnstore.store.receipts import read_receipts


def spoil(receipt: Path, change) -> None:
    raw = json.loads(receipt.read_text())
    change(raw)
    receipt.write_text(json.dumps(raw))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda raw: raw.update(part=2), id="of another part"),
        pytest.param(lambda raw: raw.pop("files"), id="without files"),
        pytest.param(lambda raw: raw["files"][0].update(rows="4"), id="of another type"),
        pytest.param(lambda raw: raw["files"][0].pop("sha256"), id="without a hash"),
        pytest.param(lambda raw: raw["files"].append(raw["files"][0]), id="a file twice"),
        pytest.param(lambda raw: raw["files"][0].update(path="../../etc/passwd"), id="out of the store"),
        pytest.param(
            lambda raw: raw["files"][0].update(path="tokens/split=test/label=pos/part-00000.parquet"),
            id="a file of another part",
        ),
    ],
)
def test_an_invalid_receipt_counts_for_nothing(tmp_path: Path, change) -> None:
    """A receipt may be a stranger's or damaged. It is named, and the other parts stay finished."""
    store = run(tmp_path / "store", manifest(), seal=False).path
    spoil(store / "_parts/part-00001.json", change)
    finished, damaged = read_receipts(store, 3)
    assert sorted(finished) == [0, 2]
    assert damaged == {1: "its receipt _parts/part-00001.json is damaged"}


def test_a_receipt_that_is_not_in_the_plan_counts_for_nothing(tmp_path: Path) -> None:
    """Other file names, and parts that the plan does not have."""
    store = run(tmp_path / "store", manifest(), seal=False).path
    for name in ("part-x.json", "part-00003.json", "part-1.json", "part-00000.json.tmp"):
        (store / "_parts" / name).write_bytes((store / "_parts/part-00000.json").read_bytes())
    finished, damaged = read_receipts(store, 3)
    assert (sorted(finished), damaged) == ([0, 1, 2], {})


def test_file_contents_are_read_only_if_asked_for(tmp_path: Path) -> None:
    """Readers check the sizes; resuming, sealing and verifying check every byte."""
    store = run(tmp_path / "store", manifest(), seal=False)
    path = store.tokens_files()[0]
    content = path.read_bytes()
    path.write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])
    part = int(path.stem[-5:])
    assert sorted(read_receipts(store.path, 3)[0]) == [0, 1, 2]
    finished, damaged = read_receipts(store.path, 3, hashed=True)
    assert sorted(finished) == sorted({0, 1, 2} - {part})
    name = path.relative_to(store.path)
    assert damaged == {part: f"{name}: its SHA-256 is not the one recorded: it is damaged"}
