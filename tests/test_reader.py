"""Promises of attnstore.reader: an open store stays in one state, whatever a run does meanwhile."""

from pathlib import Path

import pytest
from small_store import document_rows, manifest, run, tables

import attnstore
import attnstore.store.store
from attnstore.ask.sql import connect
from attnstore.check.verify import verify_files
from attnstore.errors import StoreError, UsageError
from attnstore.reader import Reader
from attnstore.store.receipts import read_receipts
from attnstore.store.resume import create_or_resume
from attnstore.store.store import open_store


def with_parts(path: Path, parts: int) -> Path:
    """A store with the first parts of three, not sealed."""
    with create_or_resume(path, manifest()) as store:
        for part in store.missing_parts()[:parts]:
            store.write_part(part, *tables(manifest(), store.part_range(part)))
    return path


def rows(documents: int) -> dict[str, int]:
    """The number of rows of the first documents in each table."""
    found = [document_rows(number, ("neg", "pos", None)) for number in range(documents)]
    tokens = sum(len(tokens) for _, tokens in found)
    return {"documents": documents, "tokens": tokens, "totals": tokens}


def answers(reader: Reader) -> dict[str, dict[str, int]]:
    """The same counts by every way to ask: SQL, frames, questions in both engines, and verify."""
    counted = "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM tokens), "
    counted += "(SELECT sum(occurrences) FROM totals)::BIGINT"
    names = ("documents", "tokens", "totals")
    (sql,) = (tuple(row.values()) for row in reader.sql(counted).to_pylist())
    frames = (
        reader.documents().collect().height,
        reader.tokens().collect().height,
        int(reader.totals().collect()["occurrences"].sum()),
    )
    found = {"sql": sql, "frames": frames}
    for engine in ("duckdb", "polars"):
        confusion = reader.query("confusion", engine=engine).to_pylist()
        found[engine] = (sum(row["documents"] for row in confusion), *frames[1:])
    assert [finding for finding in verify_files(reader.store) if not finding.ok] == []
    return {way: dict(zip(names, counts, strict=True)) for way, counts in found.items()}


def as_many(documents: int) -> dict[str, dict[str, int]]:
    return dict.fromkeys(("sql", "frames", "duckdb", "polars"), rows(documents))


@pytest.mark.slow
def test_a_reader_open_during_a_run_keeps_its_state(tmp_path: Path) -> None:
    """Neither a further part nor the sealing, which removes the receipts, affects it before it refreshes."""
    path = with_parts(tmp_path / "store", 1)
    reader = attnstore.open(path)
    taken = reader.tokens()
    assert answers(reader) == as_many(4)
    with_parts(path, 1)
    assert answers(reader) == as_many(4)
    assert answers(attnstore.open(path)) == as_many(8)
    run(path, manifest())
    assert not (path / "_parts").exists()
    assert answers(reader) == as_many(4)
    assert answers(reader.refresh()) == as_many(10)
    assert reader.store.sealed
    assert taken.collect().height == rows(4)["tokens"]


@pytest.mark.slow
def test_a_store_sealed_while_it_is_opened_is_opened_sealed(tmp_path: Path, monkeypatch) -> None:
    """Between reading manifest and receipts, after some receipts, after all: never without documents."""
    for moment in ("before", "after"):
        path = with_parts(tmp_path / moment, 3)

        def sealing(store, parts, hashed=False, moment=moment, path=path):
            with monkeypatch.context() as undisturbed:
                undisturbed.setattr(attnstore.store.store, "read_receipts", read_receipts)
                found = read_receipts(store, parts, hashed) if moment == "after" else None
                run(path, manifest())
                return found or read_receipts(store, parts, hashed)

        monkeypatch.setattr(attnstore.store.store, "read_receipts", sealing)
        assert open_store(path).sealed
        monkeypatch.setattr(attnstore.store.store, "read_receipts", read_receipts)


def test_receipts_of_another_run_are_not_read_with_the_first_ones_manifest(
    tmp_path: Path, monkeypatch
) -> None:
    """A run that finished no part is replaced by the next one: a reader sees one or the other."""
    path = with_parts(tmp_path / "store", 0)
    other = manifest(fingerprint={"model": "another"}, documents=4, part_size=2)

    def replaced(store, parts, hashed=False):
        with monkeypatch.context() as undisturbed:
            undisturbed.setattr(attnstore.store.store, "read_receipts", read_receipts)
            run(path, other, seal=False)
            return read_receipts(store, parts, hashed)

    with monkeypatch.context() as late:
        late.setattr(attnstore.store.store, "read_receipts", replaced)
        opened = open_store(path)
    assert (opened.manifest.fingerprint, opened.finished_parts()) == ({"model": "another"}, [0, 1])


def test_a_question_asked_while_a_part_finishes_is_answered(tmp_path: Path, monkeypatch) -> None:
    """A connection may read the files that its views name, whenever a part is finished."""
    path = with_parts(tmp_path / "store", 1)
    store = open_store(path)
    listed = store.files
    monkeypatch.setattr(store, "files", lambda *which: (with_parts(path, 1), listed(*which))[1])
    with connect(store) as connection:
        assert connection.execute("SELECT count(*) FROM documents").fetchone() == (4,)
    assert open_store(path).finished_parts() == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("seal", [True, False])
def test_a_document_is_looked_up_in_its_own_part(tmp_path: Path, monkeypatch, seal) -> None:
    """By number or id, the picture is the same, and no files of other parts are opened."""
    path = run(tmp_path / "store", manifest(documents=12), seal=False).path
    if not seal:
        path.joinpath("_parts/part-00001.json").unlink()
    else:
        run(path, manifest(documents=12))
    expected = attnstore.open(path).show(9, words=None)
    monkeypatch.setattr("attnstore.ask.answer._FEW_PARTS", 1)
    monkeypatch.setattr("attnstore.ask.scale.PARTS", 1)
    reader = attnstore.open(path)
    read = []
    execute = attnstore.ask.answer.select
    monkeypatch.setattr(
        "attnstore.ask.answer.select",
        lambda store, connection, sql, *more: (
            read.append(connection.sql("SELECT DISTINCT document // 4 FROM tokens").fetchall()),
            execute(store, connection, sql, *more),
        )[1],
    )
    for wanted in (9, "@9", "9", "test/9"):
        drawn = reader.show(wanted, words=None)
        assert (drawn.id, drawn.text, drawn.tokens) == (expected.id, expected.text, expected.tokens)
    assert set(map(str, read)) == {"[(2,)]"}
    missing = "there is no document 5 .* 8 of 12" if not seal else "there is no document 12 .* 12"
    with pytest.raises(UsageError, match=missing):
        reader.show(12 if seal else 5)


def test_refreshing_a_deleted_store_is_one_line(tmp_path: Path) -> None:
    """The error says so, and the reader stays as it was."""
    path = with_parts(tmp_path / "store", 1)
    reader = attnstore.open(path)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="does not exist: give the directory that a run wrote"):
        reader.refresh()
    assert reader.store.finished_parts() == [0]
