"""Promises of attnstore.store.merged: few files are read however many parts there are, with the same contents."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal
from small_store import contents, manifest, resealed, run, tables

import attnstore
from attnstore.check.verify import verify_files
from attnstore.errors import StoreError
from attnstore.store import frames, merged
from attnstore.store.manifest import Addition, StoredFile
from attnstore.store.merged import (
    SMALL,
    TOGETHER,
    list_of,
    merged_name,
    of_merged,
    read_list,
    to_be_merged,
    without_merged_parts,
)
from attnstore.store.parquet import parquet
from attnstore.store.resume import create_or_resume
from attnstore.store.stage import begin_or_resume, finish_append
from attnstore.store.store import open_store

NEG = "tokens/split=test/label=neg"


def file(part: int, bytes_: int = 100, directory: str = NEG) -> StoredFile:
    return StoredFile(f"{directory}/part-{part:05d}.parquet", 10, bytes_, "0")


@pytest.fixture
def merging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make two consecutive small files enough to merge; three become one, and another begins."""
    monkeypatch.setattr(merged, "MANY", 2)


def test_consecutive_small_files_are_merged() -> None:
    """Separately in each directory, in the numeric order of the parts."""
    files = [file(part) for part in range(99_980, 100_020)] + [
        file(part, directory="x/y=1") for part in range(31)
    ]
    files = [each for each in files if "x/" not in each.path] + [
        file(part, directory="documents/split=test") for part in range(31)
    ]
    (group,) = to_be_merged(reversed(files))
    assert group == files[:40]
    assert merged_name(group) == f"_merged/{NEG}/part-99980-100019.parquet"


def test_large_files_are_not_merged_and_merged_files_stay_small() -> None:
    files = [file(part, SMALL) for part in range(70)]
    files[33] = file(33, SMALL + 1)
    groups = to_be_merged(files)
    assert [[each.part for each in group] for group in groups] == [[*range(32)], [*range(34, 66)]]
    assert all(sum(each.bytes for each in group) <= TOGETHER for group in groups)


def test_merged_rows_are_read_only_from_the_merged_file() -> None:
    parts = [file(part) for part in range(40)]
    whole = StoredFile(merged_name(parts[:33]), 330, 900, "0")
    assert without_merged_parts([*parts, whole]) == [*parts[33:], whole]
    assert of_merged([*parts, whole]) == [(whole, parts[:33])]
    assert to_be_merged([*parts, whole]) == []


@pytest.mark.slow
def test_answers_are_those_of_the_parts(tmp_path: Path, merging, monkeypatch) -> None:
    """In frames and SQL, for all documents and for one. The bytes do not depend on where a run was interrupted."""
    store = run(tmp_path / "merged", manifest())
    names = sorted(each.path for each in store.manifest.files if each.path.startswith("_merged/"))
    assert names == [
        f"_merged/{kind}/split=test/label={label}/part-00000-{last}.parquet"
        for kind in ("documents", "tokens")
        for label, last in (("__HIVE_DEFAULT_PARTITION__", "00002"), ("neg", "00002"), ("pos", "00001"))
    ]
    assert [each.path for each in store.files_to_read("tokens")] == names[3:]
    assert {finding.subject: finding.detail for finding in verify_files(store) if not finding.ok} == {}
    run(tmp_path / "broken", manifest(), seal=False)
    (tmp_path / "broken/_merged/tokens").mkdir(parents=True)
    (tmp_path / "broken/_merged/tokens/left.parquet").touch()
    run(tmp_path / "broken", manifest())
    assert contents(tmp_path / "broken") == contents(store.path)
    monkeypatch.setattr(merged, "MANY", 100)
    plain = run(tmp_path / "plain", manifest())
    assert not any(each.path.startswith("_merged/") for each in plain.files())
    for table in ("documents", "tokens"):
        found, expected = (
            getattr(frames, table)(each).sort(pl.all().exclude(pl.List, pl.Array)) for each in (store, plain)
        )
        assert_frame_equal(found.collect(), expected.collect(), check_exact=True)
    readers = attnstore.open(store.path), attnstore.open(plain.path)
    for sql in (
        "SELECT * FROM tokens ORDER BY document, position",
        "SELECT * FROM documents ORDER BY document",
    ):
        assert readers[0].sql(sql).to_pylist() == readers[1].sql(sql).to_pylist()
    assert str(readers[0].show("@3")) == str(readers[1].show("@3"))


@pytest.mark.slow
def test_appended_files_are_merged_with_earlier_ones(tmp_path: Path, merging) -> None:
    """Files of the earlier state that are not merged become part of the next merged file; merged files stay as they
    are.
    """
    path = run(tmp_path / "store", manifest(documents=3), labels=("pos",)).path
    before = contents(path)
    for documents in (2, 1):
        addition = Addition(
            documents, "new.csv", {"data_sha256": str(documents)}, {}, "2026-01-03T03:04:05+00:00"
        )
        with begin_or_resume(finish_append(path), addition, True) as stage:
            for part in stage.missing_parts():
                stage.write_part(part, *tables(stage.manifest, stage.part_range(part), ("pos",)))
            stage.seal()
    store = open_store(path)
    assert [each.path for each in store.files_to_read("tokens")] == [
        "_merged/tokens/split=test/label=pos/part-00000-00001.parquet",
        "tokens/split=test/label=pos/part-00002.parquet",
    ]
    assert frames.documents(store).select("document").collect()["document"].to_list() == [0, 1, 2, 3, 4, 5]
    assert {finding.subject: finding.detail for finding in verify_files(store) if not finding.ok} == {}
    parts = [name for name in before if name.startswith(("documents/", "tokens/"))]
    assert {name: contents(path)[name] for name in parts} == {name: before[name] for name in parts}


@pytest.mark.slow
def test_a_merged_file_with_other_rows_is_a_fault(tmp_path: Path, merging) -> None:
    """Even if it was written by attnstore, and its hash is in the manifest."""
    store = run(tmp_path / "store", manifest())
    name = store.files_to_read("tokens")[1].path
    rows = pq.ParquetFile(store.path / name).read()
    changed = rows.set_column(
        0, rows.schema.field(0), rows.column(0).combine_chunks().take(list(range(len(rows)))[::-1])
    )
    resealed(store.path, name, parquet(changed, store.tokens_schema).to_pybytes())
    faults = [finding for finding in verify_files(open_store(store.path)) if not finding.ok]
    part = name.removeprefix("_merged/").replace("-00002", "")
    assert [(fault.subject, fault.detail) for fault in faults if fault.subject == name] == [
        (name, f"document is not what {part} has")
    ]


@pytest.mark.slow
def test_merged_rows_are_checked_like_those_of_parts(tmp_path: Path, merging) -> None:
    """Each rule, with the number of the document; in parts that were merged, and in one too large to merge."""
    plan = manifest(label_in_path=False)
    with create_or_resume(tmp_path / "store", plan) as store:
        for part in range(plan.parts):
            documents, tokens = tables(plan, plan.part_range(part))
            if part == 1:  # documents 4 to 7
                changed = [0.5 if number == 6 else value for number, value in zip(
                    documents["document"].to_pylist(), documents["probability"].to_pylist(), strict=True)]  # fmt: skip
                documents = documents.set_column(
                    documents.schema.get_field_index("probability"),
                    documents.schema.field("probability"),
                    pa.array(changed, documents["probability"].type),
                )
                ends = tokens["end"].to_numpy() + 1000 * (tokens["document"].to_numpy() == 5)
                tokens = tokens.set_column(
                    tokens.schema.get_field_index("end"),
                    tokens.schema.field("end"),
                    pa.array(ends, pa.int32()),
                )
            store.write_part(part, documents, tokens)
        store.seal()
    found = {(each.subject, each.detail.rpartition(", ")[2]) for each in verify_files(store) if not each.ok}
    assert {
        ("_merged/documents/split=test/part-00000-00002.parquet", "first 6"),
        ("_merged/tokens/split=test/part-00000-00002.parquet", "position 0"),
    } <= found


@pytest.mark.slow
def test_a_missing_document_of_a_merged_part_is_found(tmp_path: Path, merging) -> None:
    """Each part has the documents of its plan, merged or not. Here the plan has one more."""
    plan = manifest(label_in_path=False)
    store = run(tmp_path / "store", plan)
    raw = json.loads((store.path / "manifest.json").read_text())
    raw["documents"], raw["part_size"] = 11, 4
    (store.path / "manifest.json").write_text(json.dumps(raw))
    found = [(each.subject, each.detail) for each in verify_files(open_store(store.path)) if not each.ok]
    assert ("part 2", "does not hold the documents 8 to 10, each once") in found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["documents", "tokens"])
def test_a_damaged_part_that_has_been_merged_is_named(tmp_path: Path, merging, kind: str) -> None:
    """One changed byte in its own file, which plain readers of the store read."""
    store = run(tmp_path / "store", manifest())
    name = f"{kind}/split=test/label=neg/part-00001.parquet"
    content = bytearray((store.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (store.path / name).write_bytes(content)
    (fault,) = (finding for finding in verify_files(store) if not finding.ok)
    assert (fault.subject, fault.detail) == (name, "its SHA-256 is not the one recorded: it is damaged")


def test_a_part_that_differs_from_its_merged_rows_is_a_fault(tmp_path: Path, merging) -> None:
    """Even if its hash is in the list: a few parts of each merged file are compared."""
    store = run(tmp_path / "store", manifest())
    name = "tokens/split=test/label=neg/part-00001.parquet"
    rows = pq.ParquetFile(store.path / name).read()
    changed = rows.set_column(
        0, rows.schema.field(0), rows.column(0).combine_chunks().take([*range(len(rows))][::-1])
    )
    content = parquet(changed.set_column(
        rows.schema.get_field_index("odd"), rows.schema.field("odd"), pa.array([7.0] * len(rows), pa.float32())),
        store.tokens_schema).to_pybytes()  # fmt: skip
    (store.path / name).write_bytes(content)
    made = StoredFile(name, len(rows), len(content), hashlib.sha256(content).hexdigest())
    files = [
        made if each.path == name else each for each in store.files() if each not in store.manifest.files
    ]
    listed, of_list = list_of(files)
    (store.path / listed.path).write_bytes(of_list)
    (store.path / "manifest.json").write_text(replace(store.manifest, merged_from=listed).to_json())
    (fault,) = (finding for finding in verify_files(open_store(store.path)) if not finding.ok)
    assert fault.subject == "_merged/tokens/split=test/label=neg/part-00000-00002.parquet"
    assert fault.detail.endswith(f"is not what {name} has")


def test_merged_files_are_read_back_after_writing(tmp_path: Path, merging, monkeypatch) -> None:
    """A store is not sealed with merged files that do not contain the rows that were written."""
    run(tmp_path / "store", manifest(), seal=False)
    monkeypatch.setattr(
        "attnstore.store.store.parquet", lambda table, schema: parquet(table.slice(1), schema)
    )
    with pytest.raises(StoreError, match=r"document of _merged/.* can't be read as it was written"):
        run(tmp_path / "store", manifest())


@pytest.mark.parametrize("change", ["overlap", "part", "backwards", "no list", "elsewhere"])
def test_a_manifest_that_lists_rows_twice_is_refused(tmp_path: Path, merging, change: str) -> None:
    """On opening, from the manifest alone: no listed file contains rows of another listed file."""
    store = run(tmp_path / "store", manifest())
    raw = json.loads((store.path / "manifest.json").read_text())
    entry = next(each for each in raw["files"] if each["path"].startswith("_merged/tokens"))
    path = entry["path"]
    if change == "overlap":
        raw["files"].append({**entry, "path": path.replace("00000-", "00001-")})
    elif change == "part":
        raw["files"].append(
            {**entry, "path": f"{path.removeprefix('_merged/').rpartition('/')[0]}/part-00001.parquet"}
        )
    elif change == "backwards":
        entry["path"] = path.replace("00000-", "99999-")
    elif change == "no list":
        raw["merged_from"] = None
    else:
        raw["merged_from"]["path"] = "../from.parquet"
    (store.path / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(StoreError, match=r"manifest.json is damaged: ") as refused:
        open_store(store.path)
    assert {
        "overlap": "hold rows of the same part",
        "part": "hold rows of the same part",
        "backwards": "ends before it begins",
        "no list": "is merged from nothing",
        "elsewhere": "'../from.parquet' is no list of a store's files",
    }[change] in str(refused.value)


def test_the_list_of_parts_is_read_only_when_needed(tmp_path: Path, merging) -> None:
    """So opening a store takes no longer for thousands of parts. A damaged list is still a fault."""
    store = run(tmp_path / "store", manifest())
    behind = store.manifest.merged_from
    assert behind is not None
    listed = [each.path for each in store.files() if each not in store.manifest.files]
    assert behind.rows == len(listed) == len({*listed})
    assert listed == sorted(
        name for name in contents(store.path) if name.startswith(("documents/", "tokens/"))
    )
    assert [each.path for each in store.files("tokens", [2])] == [
        name for name in listed if name.startswith("tokens/") and name.endswith("part-00002.parquet")
    ]
    whole = (store.path / behind.path).read_bytes()
    (store.path / behind.path).write_bytes(whole[:-1] + b"?")
    opened = open_store(store.path)
    assert frames.documents(opened).collect().height == opened.rows("documents") == 10
    with pytest.raises(StoreError, match=f"{behind.path} its SHA-256 is not the one recorded"):
        opened.files()
    (fault,) = verify_files(opened)
    assert (fault.subject, fault.ok) == (behind.path, False)


@pytest.mark.parametrize("change", ["rows", "path", "twice", "nowhere"])
def test_a_list_that_does_not_match_the_merged_files_is_a_fault(tmp_path: Path, merging, change: str) -> None:
    """Even if its hash is in the manifest: it lists each file once, and exactly those whose rows were merged."""
    store = run(tmp_path / "store", manifest())
    first, *others = (each for each in store.files() if each not in store.manifest.files)
    changed = {
        "rows": [replace(first, rows=first.rows + 1)],
        "path": [replace(first, path="documents/../../x.parquet")],
        "twice": [first, others[0]],
        "nowhere": [first, replace(first, path=first.path.replace("00000", "00077"))],
    }[change]
    listed, content = list_of([*changed, *others])
    (store.path / listed.path).write_bytes(content)
    made = replace(store.manifest, merged_from=listed)
    (store.path / "manifest.json").write_text(made.to_json())
    (fault,) = verify_files(open_store(store.path))
    assert (fault.subject, fault.ok) == (listed.path, False)
    with pytest.raises(StoreError, match="verify"):
        open_store(store.path).files()


def test_a_list_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """A long text in a dictionary, used in many rows: a small file with the right hash."""
    (tmp_path / "_merged").mkdir()
    entry, content = list_of([file(part) for part in range(40)])
    (tmp_path / entry.path).write_bytes(content)
    schema = read_list(tmp_path, entry).schema
    rows = pa.table([["x" * 1_000_000] * 40, range(40), range(40), ["0"] * 40], schema=schema)
    for options in ({"use_dictionary": True}, {"use_dictionary": False}):
        pq.write_table(rows, tmp_path / entry.path, compression="zstd", **options)
        bomb = (tmp_path / entry.path).read_bytes()
        assert len(bomb) < 100_000
        made = replace(entry, bytes=len(bomb), sha256=hashlib.sha256(bomb).hexdigest())
        with pytest.raises(StoreError, match="is no list of a store's files"):
            read_list(tmp_path, made)


def test_a_merged_file_has_no_part_number() -> None:
    assert replace(file(3), path=merged_name([file(1), file(3)])).part is None
