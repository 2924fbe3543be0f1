"""Promises of attnstore.store.manifest: it reads back as written, and names no files outside the store."""

import json
import os
from pathlib import Path

import pytest
from small_store import manifest, run

from attnstore.check.verify import verify_files
from attnstore.errors import StoreError
from attnstore.store.manifest import Manifest, StoredFile, StoredReduction
from attnstore.store.store import open_store

DOCUMENTS = "documents/split=test/label=pos/part-00000.parquet"


def test_a_manifest_survives_json() -> None:
    """Every field, also those that are empty until the store is sealed."""
    file = StoredFile(DOCUMENTS, 4, 100, "0" * 64)
    for plan in (
        manifest(),
        manifest(files=(file,), sealed="2026-01-02T03:04:06+00:00", runs=({"seconds": 1.5},)),
    ):
        assert Manifest.from_json(plan.to_json()) == plan


def test_attention_is_shown_by_a_reduction_with_one_unsigned_value_per_token() -> None:
    """By one with a value per head if there is no other. Evidence is found by its name."""
    heads = StoredReduction("cls_heads", per_layer=True, per_head=True, meaning="")
    cls = StoredReduction("cls", per_layer=True, per_head=False, meaning="")
    evidence = StoredReduction(
        "evidence", per_layer=False, per_head=False, meaning="", total=None, signed=True
    )
    for stored, attention in (
        ((evidence, heads, cls), cls), ((evidence, heads), heads), ((evidence,), None), ((), None)
    ):  # fmt: skip
        assert manifest(reductions=stored).attention == attention
        assert manifest(reductions=stored).evidence == (evidence if evidence in stored else None)


@pytest.mark.sampled(4)
@pytest.mark.slow
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
def test_a_path_that_is_not_a_stores_file_is_refused(tmp_path: Path, path: str, replaced: str) -> None:
    """A manifest may come from a stranger: a path outside the store, or not of a store's file, is never opened."""
    store = run(tmp_path / "store", manifest()).path
    text = (store / "manifest.json").read_text()
    (store / "manifest.json").write_text(text.replace(f'"{replaced}"', f'"{path}"'))
    with pytest.raises(StoreError, match=r"damaged: it lists [^\n]*, which is no file of a store$"):
        open_store(store)


def test_a_file_listed_twice_is_refused(tmp_path: Path) -> None:
    """Its rows would count twice."""
    store = run(tmp_path / "store", manifest()).path
    raw = json.loads((store / "manifest.json").read_text())
    raw["files"].append(next(file for file in raw["files"] if file["path"] == DOCUMENTS))
    (store / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(StoreError) as refused:
        open_store(store)
    assert str(refused.value) == f"{store}: manifest.json is damaged: it lists '{DOCUMENTS}' twice"


REDUCTION = {"per_layer": False, "per_head": False, "meaning": "", "total": 1.0, "signed": False}
HOSTILE = [
    ({"documents": 10**30}, "documents can't be a number of more than 15 digits"),
    ({"documents": -1}, "documents can't be -1"),
    ({"documents": 2**31 - 1, "part_size": 1}, "2,147,483,647 parts are more than 1,000,000"),
    ({"layers": 10**9}, "layers can't be 1,000,000,000"),
    ({"heads": -(10**20)}, "heads can't be -a number of more than 15 digits"),
    ({"max_length": 0}, "max_length can't be 0"),
    ({"labels": ["neg", "neg"]}, "two classes have the same name"),
    ({"reductions": 2 * [REDUCTION | {"name": "cls"}]},
     "two columns are called 'cls'"),
    ({"reductions": [REDUCTION | {"name": "text"}, REDUCTION | {"name": "position"}]},
     "two columns are called 'position'"),
    ({"files": [{"path": "totals.parquet", "rows": -1, "bytes": 1, "sha256": ""}]},
     "it lists 'totals.parquet' with a size that no file has"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "fault"), HOSTILE)
def test_a_manifest_that_would_exhaust_its_reader_is_refused(tmp_path, changes, fault) -> None:
    """Excessive numbers and repeated names: one line when the store is opened, before anything is allocated."""
    store = run(tmp_path / "store", manifest()).path
    raw = json.loads((store / "manifest.json").read_text()) | changes
    (store / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(StoreError) as refused:
        open_store(store)
    assert str(refused.value) == f"{store}: manifest.json is damaged: {fault}"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 100_000 + "]" * 100_000, id="deep lists"),
        pytest.param('{"a":' * 50 + "1" + "}" * 50, id="deep objects"),
        pytest.param('{"schema_version": NaN}', id="NaN"),
        pytest.param('{"schema_version": -Infinity}', id="infinity"),
        pytest.param('{"schema_version": 1, "model": "\\ud800"}', id="half a character"),
        pytest.param('{"schema_version": 1, "fingerprint": {"\\udfff": 1}}', id="half a character in a name"),
        pytest.param("1" * 5000, id="5,000 digits"),
    ],
)
def test_json_made_to_break_a_reader_is_refused(tmp_path, text) -> None:
    """The same content in a receipt makes only its own part missing."""
    store = run(tmp_path / "store", manifest(), seal=False).path
    (store / "_parts/part-00001.json").write_text(text)
    opened = open_store(store)
    assert (opened.finished_parts(), opened.damaged_parts()) == (
        [0, 2], {1: "its receipt _parts/part-00001.json is damaged"},
    )  # fmt: skip
    (store / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match="is not an attnstore manifest: it is damaged or foreign"):
        open_store(store)


@pytest.mark.slow
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path) -> None:
    """In place of a receipt, a table, the totals or the manifest: each is reported at once as a damaged file."""
    store = run(tmp_path / "store", manifest(), seal=False).path
    table = sorted(store.glob("tokens/*/*/part-00000.parquet"))[0]
    for path in (store / "_parts/part-00001.json", table):
        path.unlink()
        os.mkfifo(path)
    opened = open_store(store)
    assert opened.damaged_parts() == {
        0: f"{table.relative_to(store)}: is no file",
        1: "its receipt _parts/part-00001.json is damaged",
    }
    sealed = run(tmp_path / "sealed", manifest()).path
    (sealed / "totals.parquet").unlink()
    os.mkfifo(sealed / "totals.parquet")
    found = [(f.subject, f.detail) for f in verify_files(open_store(sealed)) if not f.ok]
    assert found == [("totals.parquet", "is no file")]
    (sealed / "manifest.json").unlink()
    os.mkfifo(sealed / "manifest.json")
    with pytest.raises(StoreError, match="it is no file"):
        open_store(sealed)


def test_an_infinite_total_is_refused(tmp_path) -> None:
    """No sum differs from infinity, so verify would find every store sound.

    JSON can write infinity as a large number.
    """
    store = run(tmp_path / "store", manifest()).path
    text = (store / "manifest.json").read_text()
    (store / "manifest.json").write_text(text.replace('"total": 1.0', '"total": 1e999', 1))
    with pytest.raises(StoreError, match="the total of 'cls' is no finite number"):
        open_store(store)
