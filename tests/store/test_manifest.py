"""Promises of attnstore.store.manifest: what is read is what was written, and leads nowhere else."""

import json
from pathlib import Path

import pytest
from small_store import manifest, run

from attnstore.errors import StoreError
from attnstore.store.manifest import Manifest, StoredFile
from attnstore.store.store import open_store

DOCUMENTS = "documents/split=test/label=pos/part-00000.parquet"


def test_manifest_comes_back_from_its_json() -> None:
    """Every field, also those that are empty until the store is sealed."""
    file = StoredFile(DOCUMENTS, 4, 100, "0" * 64)
    for plan in (
        manifest(),
        manifest(files=(file,), sealed="2026-01-02T03:04:06+00:00", runs=({"seconds": 1.5},)),
    ):
        assert Manifest.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    "path",
    [
        "documents/../../passwords",
        "documents/split=test/../../../part-00000.parquet",
        "documents/split=..\\\\..\\\\x/part-00000.parquet",
        "documents/split=test/label=/../part-00000.parquet",
        "/etc/passwd",
        "C:/documents/split=test/part-00000.parquet",
        "totals.parquet/../../x",
        "documents/part-00000.parquet",
        "documents/split=a\\u0000/part-00000.parquet",
        "",
    ],
)
@pytest.mark.parametrize("replaced", [DOCUMENTS, "totals.parquet"])
def test_path_that_is_not_one_of_a_stores_files_is_refused(tmp_path: Path, path: str, replaced: str) -> None:
    """A manifest may be a stranger's: what is not inside the store, or not a store's file, is never opened."""
    store = run(tmp_path / "store", manifest()).path
    text = (store / "manifest.json").read_text()
    (store / "manifest.json").write_text(text.replace(f'"{replaced}"', f'"{path}"'))
    with pytest.raises(StoreError, match=r"damaged: it lists [^\n]*, which is no file of a store$"):
        open_store(store)


def test_file_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    """Its rows would count twice."""
    store = run(tmp_path / "store", manifest()).path
    raw = json.loads((store / "manifest.json").read_text())
    raw["files"].append(next(file for file in raw["files"] if file["path"] == DOCUMENTS))
    (store / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(StoreError) as refused:
        open_store(store)
    assert str(refused.value) == f"{store}: manifest.json is damaged: it lists '{DOCUMENTS}' twice"
