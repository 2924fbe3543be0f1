"""Promises of attnstore.store.store: a directory that any reader can read, complete at every moment."""

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from plain_readers import READERS, in_order
from small_store import contents, manifest, run, tables

from attnstore.errors import StoreError
from attnstore.store.resume import create_or_resume
from attnstore.store.store import Store, open_store


@pytest.mark.slow
@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("label_in_path", [True, False])
def test_plain_readers_read_every_value_by_path_alone(tmp_path: Path, read, label_in_path: bool) -> None:
    """Each reader, given only the path, returns every value that was written."""
    plan = manifest(label_in_path=label_in_path)
    run(tmp_path / "store", plan)
    documents, tokens = tables(plan, range(10))
    assert in_order(read(tmp_path / "store" / "documents")) == in_order(documents.to_pylist())
    assert in_order(read(tmp_path / "store" / "tokens")) == in_order(tokens.to_pylist())


def test_the_files_of_a_sealed_store(tmp_path: Path) -> None:
    """The manifest, and a file for each part and partition that has rows; nothing else."""
    run(tmp_path / "store", manifest(), labels=["pos", "a/b"])
    expected = [
        f"{kind}/split=test/label={label}/part-0000{part}.parquet"
        for kind in ("documents", "tokens")
        for label in ("a%2Fb", "pos")
        for part in range(3)
    ]
    assert sorted(contents(tmp_path / "store")) == sorted([*expected, "manifest.json", "totals.parquet"])
    store = open_store(tmp_path / "store")
    assert store.documents_files() == [store.path / name for name in expected[:6]]
    assert store.tokens_files() == [store.path / name for name in expected[6:]]
    assert store.totals_file() == store.path / "totals.parquet"
    assert [file.path for file in store.manifest.files] == [*expected, "totals.parquet"]


@pytest.mark.slow
def test_no_plain_reader_sees_a_half_written_file(tmp_path: Path, monkeypatch) -> None:
    """At every moment of writing a part, each reader reads the rows of the finished files and no others."""
    plan = manifest()
    store = create_or_resume(tmp_path / "store", plan)
    store.write_part(0, *tables(plan, range(4)))
    sync, seen, expected = os.fsync, [], []

    def reading(descriptor: int) -> None:
        for kind, table in zip(("documents", "tokens"), tables(plan, range(8)), strict=True):
            finished = [
                row
                for row in table.to_pylist()
                if (
                    store.path / kind / "split=test" / f"label={row['label'] or '__HIVE_DEFAULT_PARTITION__'}"
                    f"/part-{row['document'] // 4:05d}.parquet"
                ).exists()
            ]
            expected.append(in_order(finished))
            seen.append(in_order(READERS[len(seen) % len(READERS)](store.path / kind)))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", reading)
    store.write_part(1, *tables(plan, range(4, 8)))
    store.close()
    # Six files and a receipt, each synced before it gets its name, and its directory afterwards.
    assert len(seen) == 2 * 14
    assert seen == expected


# -- tables of another form ----------------------------------------------------------------------------------


def recast(table: pa.Table, name: str, type_: pa.DataType) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, name, table[name].cast(type_))


def with_nulls(table: pa.Table, name: str) -> pa.Table:
    return table.set_column(
        table.schema.get_field_index(name), name, pa.nulls(table.num_rows, table[name].type)
    )


def with_split(table: pa.Table, split: str) -> pa.Table:
    return table.set_column(
        table.schema.get_field_index("split"), "split", pa.array([split] * table.num_rows)
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d, t: (d, recast(t, "odd", pa.float64())), "tokens of part 0: column 'odd' is double, not float"),
        (lambda d, t: (recast(d, "length", pa.int64()), t), "documents of part 0: column 'length' is int64, not int32"),
        (lambda d, t: (d, t.drop_columns("odd")), "tokens of part 0: column 'odd' is missing"),
        (lambda d, t: (d.append_column("mine", d["id"]), t), "documents of part 0: unexpected column 'mine'"),
        (lambda d, t: (d.append_column("id", d["id"]), t), "documents of part 0: unexpected column 'id'"),
        (lambda d, t: (d.drop_columns("label"), t), "documents of part 0: column 'label' is missing"),
        (lambda d, t: (d, recast(t, "split", pa.binary())), "tokens of part 0: column 'split' is binary, not text"),
        (lambda d, t: (with_nulls(d, "text"), t), "documents of part 0: column 'text' has nulls"),
        (lambda d, t: (with_nulls(d, "split"), t), "documents of part 0: column 'split' has nulls"),
        (lambda d, t: (d.slice(1), t), "part 0 has to hold the documents 0 to 3, in order"),
        (lambda d, t: (d.take([1, 0, 2, 3]), t), "part 0 has to hold the documents 0 to 3, in order"),
        (lambda d, t: (d, t.slice(1)), "part 0 has 20 tokens, its documents' lengths add up to 21"),
        (
            lambda d, t: (with_split(d, "s" * 250), with_split(t, "s" * 250)),
            f"the split {'s' * 250!r} is too long for a directory's name",
        ),
    ],
)  # fmt: skip
def test_a_table_of_another_form_is_refused_and_leaves_nothing(tmp_path: Path, spoil, message: str) -> None:
    """Nothing is cast or guessed: the first difference is named, and no file of the part is written."""
    with create_or_resume(tmp_path / "store", manifest()) as store:
        before = contents(store.path)
        with pytest.raises(StoreError) as refused:
            store.write_part(0, *spoil(*tables(store.manifest, range(4))))
        assert str(refused.value) == message
        assert contents(store.path) == before


# -- sealing -------------------------------------------------------------------------------------------------


def test_a_sealed_store_is_complete_and_never_written_again(tmp_path: Path) -> None:
    """Sealing records the last changes. Afterwards every way of writing is refused, and nothing changes."""
    run(tmp_path / "store", manifest(), seal=False)
    with create_or_resume(tmp_path / "store", manifest()) as store:
        store.record_run({"device": "cpu", "seconds": 1.5})
        store.record_run({"device": "cuda", "seconds": 0.5})
        store.seal(rejected={"no text": 2}, notes=("guessed the columns",))
    before = contents(tmp_path / "store")
    again = create_or_resume(tmp_path / "store", manifest())
    found = again.manifest
    assert (found.rejected, found.notes) == ({"no text": 2}, ("guessed the columns",))
    assert found.runs == ({"device": "cpu", "seconds": 1.5}, {"device": "cuda", "seconds": 0.5})
    assert (again.sealed, again.missing_parts(), again.finished_parts()) == (True, [], [0, 1, 2])
    for write in (
        lambda: again.write_part(0, *tables(manifest(), range(4))),
        again.seal,
        lambda: again.record_run({}),
    ):
        with pytest.raises(StoreError) as refused:
            write()
        assert (
            str(refused.value)
            == f"{tmp_path / 'store'} is sealed and can't be written again: give the run a new store"
        )
    assert contents(tmp_path / "store") == before


def test_a_store_opened_for_reading_is_not_written(tmp_path: Path) -> None:
    """Only the run that holds the lock writes."""
    run(tmp_path / "store", manifest(), seal=False)
    with pytest.raises(
        StoreError, match="was opened for reading: only the run that holds its lock writes it"
    ):
        reader = open_store(tmp_path / "store")
        reader.seal()


def test_an_unfinished_store_is_not_sealed(tmp_path: Path) -> None:
    """The missing parts are named, and the store stays unsealed."""
    with create_or_resume(tmp_path / "store", manifest(part_size=1)) as store:
        store.write_part(4, *tables(store.manifest, [4]))
        with pytest.raises(StoreError) as refused:
            store.seal()
    assert str(refused.value) == (
        f"{store.path} can't be sealed: parts 0, 1, 2, 3, 5 and 4 more are missing: run again to resume"
    )
    assert not open_store(store.path).sealed


def test_a_damaged_store_is_not_sealed(tmp_path: Path) -> None:
    """When the store is sealed, finished parts must be as they were written, to the bit."""
    run(tmp_path / "store", manifest(), seal=False)
    with create_or_resume(tmp_path / "store", manifest()) as store:
        path = store.documents_files()[0]
        content = path.read_bytes()
        path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
        with pytest.raises(StoreError) as refused:
            store.seal()
    assert str(refused.value) == (
        f"{store.path} can't be sealed: {path.relative_to(store.path)}: its SHA-256 is not the one recorded: it is "
        "damaged: run again to compute part 0 again"
    )
    assert not open_store(store.path).sealed


@pytest.mark.slow
def test_a_crash_right_after_sealing_is_harmless(tmp_path: Path) -> None:
    """Receipts left beside a sealed manifest are not read, and the next run removes them."""
    path = tmp_path / "store"
    run(path, manifest(), seal=False)
    shutil.copytree(path / "_parts", tmp_path / "receipts")
    sealed = contents(run(path, manifest()).path)
    shutil.copytree(tmp_path / "receipts", path / "_parts")
    (path / "_parts" / "part-00001.json").write_text("{}")
    assert open_store(path).finished_parts() == [0, 1, 2]
    assert len(open_store(path).tokens_files()) == len(
        [name for name in sealed if name.startswith("tokens/")]
    )
    run(path, manifest())
    assert contents(path) == sealed


def test_a_run_without_documents(tmp_path: Path) -> None:
    """It gives a sealed store without parts and with empty totals."""
    store = run(tmp_path / "store", manifest(documents=0))
    assert sorted(contents(store.path)) == ["manifest.json", "totals.parquet"]
    assert pq.read_table(store.path / "totals.parquet").num_rows == 0
    assert (open_store(store.path).sealed, store.documents_files()) == (True, [])


@pytest.mark.slow
def test_sealing_searches_the_list_of_files_equally_often_for_any_number_of_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searching it once per part would take a quarter of an hour for 2,000 parts."""
    looked: dict[int, int] = {}
    files = Store.files
    for documents in (8, 32):
        asked: list[Store] = []
        monkeypatch.setattr(
            Store, "files", lambda self, *which, asked=asked: (asked.append(self), files(self, *which))[1]
        )
        run(tmp_path / str(documents), manifest(documents=documents))
        monkeypatch.setattr(Store, "files", files)
        looked[documents] = len(asked)
    assert looked[8] == looked[32]
