"""Promises of attnstore.store.store: a directory any reader reads, and that no kill, crash or full disk spoils."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import duckdb
import hypothesis.strategies as st
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import small_store
from hypothesis import given, settings
from small_store import LABELS, contents, manifest, run, tables

import attnstore.store.store
from attnstore.errors import StoreError
from attnstore.store.schema import MAX_LABEL_PARTITIONS, StoredReduction, documents_schema, tokens_schema
from attnstore.store.store import create_or_resume, label_fits_in_path, open_store

# -- any reader, by path alone ----------------------------------------------------------------------------


def with_duckdb(table: Path) -> list[dict]:
    return duckdb.sql(f"from '{table}/**/*.parquet'").to_arrow_table().to_pylist()


def with_polars(table: Path) -> list[dict]:
    # Given a directory Polars looks at the path by itself; given a glob it has to be told.
    return pl.scan_parquet(f"{table}/**/*.parquet", hive_partitioning=True).collect().to_dicts()


def with_polars_by_directory(table: Path) -> list[dict]:
    return pl.read_parquet(table).to_dicts()


def with_pandas(table: Path) -> list[dict]:
    # Through Arrow again only because pandas turns integers with nulls into floats.
    return pa.Table.from_pandas(pd.read_parquet(table, dtype_backend="pyarrow")).to_pylist()


def with_pyarrow(table: Path) -> list[dict]:
    return pyarrow.dataset.dataset(table, partitioning="hive").to_table().to_pylist()


READERS = [with_duckdb, with_polars, with_polars_by_directory, with_pandas, with_pyarrow]


def in_order(rows: list[dict]) -> list[dict]:
    return sorted(
        ({name: row[name] for name in sorted(row)} for row in rows),
        key=lambda row: (row["document"], row.get("position", 0)),
    )


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("label_in_path", [True, False])
def test_plain_readers_read_every_value_by_path_alone(tmp_path: Path, read, label_in_path: bool) -> None:
    """What went in comes out, value for value, in each reader, given the path and nothing else."""
    plan = manifest(label_in_path=label_in_path)
    run(tmp_path / "store", plan)
    documents, tokens = tables(plan, range(10))
    assert in_order(read(tmp_path / "store" / "documents")) == in_order(documents.to_pylist())
    assert in_order(read(tmp_path / "store" / "tokens")) == in_order(tokens.to_pylist())


def test_directory_of_a_sealed_store(tmp_path: Path) -> None:
    """A sealed store holds the manifest, a file for each part and partition that has rows, and nothing else."""
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


def test_splits_are_partitions_too(tmp_path: Path) -> None:
    """A part that spreads over two splits is divided between their directories."""
    plan = manifest(part_size=10)
    halves = [tables(plan, range(5), split="train"), tables(plan, range(5, 10), split="test")]
    with create_or_resume(tmp_path / "store", plan) as store:
        store.write_part(0, *(pa.concat_tables(pair) for pair in zip(*halves, strict=True)))
        store.seal()
    found = [
        (row["document"], row["split"]) for row in in_order(with_duckdb(tmp_path / "store" / "documents"))
    ]
    assert found == [(number, "train" if number < 5 else "test") for number in range(10)]


# -- labels in the path -----------------------------------------------------------------------------------


def labels_read_back(labels: list[str | None]) -> list[list[str | None]]:
    """The labels of a store with one document for each of `labels`, as each reader reads them."""
    count = len(labels)
    plan = manifest(documents=count, part_size=count, label_in_path=label_fits_in_path(labels), reductions=())
    with tempfile.TemporaryDirectory() as directory:
        run(Path(directory) / "store", plan, labels)
        return [
            [row["label"] for row in in_order(read(Path(directory) / "store" / "documents"))]
            for read in READERS
        ]


READABLE = [
    *(
        "pos",
        "a b",
        "a/b",
        "a\\b",
        "a=b",
        "a&label=c",
        "per 50%",
        "a%41",
        'it\'s "quoted"',
        "naïve",
        "отзыв",
        "好",
    ),
    *("a😀", "a\nb", "a\x01", "a:b*?", "a..", "a+b", "x" * 249, "ß" * 41),
]

CHANGED_BY_READERS = [
    *(
        "007",
        "7",
        "-3",
        "1.5",
        "1e5",
        " 7",
        "\N{FULLWIDTH DIGIT SEVEN}",
        "0x10",
        "2024-01-01",
        "12:30:00",
        "true",
    ),
    *(
        "False",
        "inf",
        "Infinity",
        "nan",
        "null",
        "None",
        "epoch",
        "",
        ".",
        "..",
        "__HIVE_DEFAULT_PARTITION__",
    ),
    *("x" * 250, "好" * 28, "😀"),
]


def test_label_in_path_reads_back_as_itself() -> None:
    """A label of any script and with any character stands in the path, and each reader gives it back."""
    labels = [*READABLE, None]
    assert label_fits_in_path(labels)
    assert labels_read_back(labels) == [labels] * len(READERS)


def test_label_that_a_reader_would_change_is_a_column() -> None:
    """Labels that look like numbers, dates, truth values or nothing, and those that are too long, stay out of
    the path, and are read back as themselves all the same.
    """
    labels = [*CHANGED_BY_READERS, None]
    assert [label for label in labels if label_fits_in_path(["pos", label])] == [None]
    assert labels_read_back(labels) == [labels] * len(READERS)


@pytest.mark.parametrize("labels", [["Pos", "pos"], [None], [], [f"label {n}" for n in range(51)]])
def test_labels_that_together_do_not_fit(labels: list[str | None]) -> None:
    """Two that differ only in case, no label at all, and more than fifty make `label` a column."""
    assert not label_fits_in_path(labels)
    labels = labels or [None]
    assert labels_read_back(labels) == [labels] * len(READERS)


def test_as_many_labels_as_may_stand_in_the_path() -> None:
    """The limit itself is still in."""
    assert label_fits_in_path(f"label {n}" for n in range(MAX_LABEL_PARTITIONS))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=12)), min_size=1, max_size=4))
def test_any_labels_read_back_as_themselves(labels: list[str | None]) -> None:
    """Whatever the labels are, in the path or in a column, every reader gives them back."""
    assert labels_read_back(labels) == [labels] * len(READERS)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("aeflnrstuyxINTd019-+.:_ %", min_size=1, max_size=8), min_size=1, max_size=3))
def test_labels_like_values_read_back_as_themselves(labels: list[str]) -> None:
    """The same for labels made of the letters of numbers, dates and truth values."""
    assert labels_read_back(labels) == [labels] * len(READERS)


# -- the files --------------------------------------------------------------------------------------------


def long_table(plan, rows: int) -> tuple[pa.Table, pa.Table]:
    """One document with as many tokens as asked for."""
    documents, tokens = tables(plan, range(1))
    tokens = tokens.take(pa.array([0] * rows))
    columns = {
        "position": pa.array(range(rows), pa.int32()),
        "token_id": pa.array([row % 1000 for row in range(rows)], pa.int32()),
        "token": pa.array([f"t{row % 1000}" for row in range(rows)]).dictionary_encode(),
        "length": pa.array([rows] * rows, pa.int32()),
    }
    for name, values in columns.items():
        tokens = tokens.set_column(tokens.schema.get_field_index(name), tokens.schema.field(name), values)
    place = documents.schema.get_field_index("length")
    return documents.set_column(place, documents.schema.field(place), pa.array([rows], pa.int32())), tokens


def test_parquet_form(tmp_path: Path) -> None:
    """Compression, encodings, row groups, order and metadata are what the store promises its readers."""
    plan = manifest(documents=1)
    with create_or_resume(tmp_path / "store", plan) as store:
        store.write_part(0, *long_table(plan, 130_000))
        store.seal()
    with pq.ParquetFile(store.tokens_files()[0]) as file:
        metadata, schema = file.metadata, file.schema_arrow
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [
        122_880,
        7_120,
    ]
    group = metadata.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert [(key.column_index, key.descending) for key in group.sorting_columns] == [(0, False), (1, False)]
    encodings = {
        name: next((e for e in column.encodings if e not in ("RLE", "PLAIN")), "PLAIN")
        for name, column in columns.items()
    }
    delta, split, dictionary = "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "RLE_DICTIONARY"
    assert encodings == {
        **dict.fromkeys(["document", "position", "start", "end"], delta),
        **dict.fromkeys(["token_id", "token", "word", "piece", "pieces", "length", "prediction"], dictionary),
        **dict.fromkeys(["special", "new_token", "new_word"], "PLAIN"),
        **dict.fromkeys(["cls_01", "cls_02", "odd"], split),
        **dict.fromkeys(["cls_heads_01.list.element", "cls_heads_02.list.element"], split),
    }
    assert json.loads(schema.metadata[b"attnstore.fingerprint"]) == plan.fingerprint
    expected = tokens_schema(plan)
    assert schema.names == expected.names
    assert {field.name: field.metadata[b"meaning"] for field in schema} == {
        field.name: field.metadata[b"meaning"] for field in expected
    }
    assert [field.nullable for field in schema] == [field.nullable for field in expected]
    with pq.ParquetFile(store.documents_files()[0]) as file:
        of_documents = file.metadata.row_group(0)
        assert file.schema_arrow.names == documents_schema(plan).names
    columns = {
        of_documents.column(n).path_in_schema: of_documents.column(n) for n in range(of_documents.num_columns)
    }
    floats = [
        *("probability", "probabilities.list.element", "logits.list.element"),
        *("cls_01_entropy", "cls_heads_02_entropy.list.element"),
    ]
    assert [split in columns[name].encodings for name in floats] == [True] * len(floats)


def test_bytes_follow_from_the_rows_alone(tmp_path: Path) -> None:
    """Rows that came in other chunks, with other dictionaries and columns in another order, make the same bytes."""
    plan = manifest()
    run(tmp_path / "plain", plan)
    with create_or_resume(tmp_path / "other", plan) as store:
        for part in store.missing_parts():
            pair = []
            for table in tables(plan, store.part_range(part)):
                pieces = []
                for row in range(table.num_rows):
                    piece = table.slice(row, 1)
                    for place, field in enumerate(table.schema):
                        if pa.types.is_dictionary(field.type):
                            values = ["unused", *dict.fromkeys(reversed(table[field.name].to_pylist()))]
                            values = pa.array([value for value in values if value is not None], pa.string())
                            index = pa.compute.index_in(piece[field.name].cast(pa.string()), value_set=values)
                            codes = pa.DictionaryArray.from_arrays(index.combine_chunks(), values)
                            piece = piece.set_column(place, field, codes)
                    pieces.append(piece)
                pair.append(pa.concat_tables(pieces).select(table.column_names[::-1]))
            store.write_part(part, *pair)
        store.seal(sealed="2026-01-02T03:04:06+00:00")
    assert contents(tmp_path / "other") == contents(tmp_path / "plain")


@pytest.mark.parametrize("entropies", [None, [0.5, None, 0.25]], ids=str)
def test_null_values_of_reductions_survive(tmp_path: Path, entropies: list[float | None] | None) -> None:
    """A reduction may have nothing to say, a value or a whole list of heads: null, in every reader. Nor need there be
    an entropy of each head.
    """
    reduction = StoredReduction("heads", per_layer=False, per_head=True, meaning="m", total=None)
    plan = manifest(documents=1, reductions=(reduction,))
    documents, tokens = tables(manifest(documents=1), [4])
    values = [None if row % 2 else [float(row), 1.0, -0.5] for row in range(tokens.num_rows)]
    tokens = tokens.select([*tokens_schema(manifest(reductions=())).names, "split", "label"])
    tokens = tokens.append_column("heads", pa.array(values, pa.list_(pa.float32(), 3)))
    place = tokens.schema.get_field_index("document")
    tokens = tokens.set_column(place, tokens.schema.field(place), pa.array([0] * tokens.num_rows, pa.int32()))
    documents = documents.set_column(0, documents.schema.field(0), pa.array([0], pa.int32()))
    documents = documents.select([*documents_schema(manifest(reductions=())).names, "split", "label"])
    documents = documents.append_column("heads_entropy", pa.array([entropies], pa.list_(pa.float32(), 3)))
    with create_or_resume(tmp_path / "store", plan) as store:
        store.write_part(0, documents, tokens)
        store.seal()
    found = [[row["heads"] for row in in_order(read(tmp_path / "store" / "tokens"))] for read in READERS]
    assert len(values) > 2
    assert found == [values] * len(READERS)
    found = [read(tmp_path / "store" / "documents")[0]["heads_entropy"] for read in READERS]
    assert found == [entropies] * len(READERS)


# -- tables that are not of the form ----------------------------------------------------------------------


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
def test_table_of_another_form_is_refused_and_leaves_nothing(tmp_path: Path, spoil, message: str) -> None:
    """Nothing is cast or guessed: the first departure is named, and no file of the part is written."""
    with create_or_resume(tmp_path / "store", manifest()) as store:
        before = contents(store.path)
        with pytest.raises(StoreError) as refused:
            store.write_part(0, *spoil(*tables(store.manifest, range(4))))
        assert str(refused.value) == message
        assert contents(store.path) == before


# -- resuming ---------------------------------------------------------------------------------------------


def test_resume_writes_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    """Finished parts are not touched again; in the end the store is that of an undisturbed run, byte for byte."""
    plan = manifest(part_size=3)
    with create_or_resume(tmp_path / "store", plan) as store:
        assert [list(store.part_range(part)) for part in store.missing_parts()] == [
            [0, 1, 2],
            [3, 4, 5],
            [6, 7, 8],
            [9],
        ]
        for part in (2, 0):
            store.write_part(part, *tables(plan, store.part_range(part)))
        assert (store.finished_parts(), store.missing_parts()) == ([0, 2], [1, 3])
    before = {path: path.stat().st_mtime_ns for path in store.tokens_files()}
    reader = open_store(tmp_path / "store")
    assert (reader.finished_parts(), reader.missing_parts(), reader.sealed) == ([0, 2], [1, 3], False)
    assert {path.name for path in reader.documents_files()} == {"part-00000.parquet", "part-00002.parquet"}
    run(tmp_path / "store", plan)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    run(tmp_path / "undisturbed", plan)
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_part_without_receipt_or_with_a_lost_file_is_missing(tmp_path: Path) -> None:
    """Files that no receipt vouches for are not listed, and a receipt is worth no more than its files."""
    plan = manifest()
    run(tmp_path / "undisturbed", plan)
    store = run(tmp_path / "store", plan, seal=False)
    (store.path / "_parts" / "part-00000.json").unlink()
    lost = next(path for path in store.tokens_files() if path.name == "part-00001.parquet")
    lost.write_bytes(lost.read_bytes()[:-1])
    (store.path / "_parts" / "part-00002.json").write_text('{"part": 2, "fil')
    assert (store.finished_parts(), store.documents_files(), store.tokens_files()) == ([], [], [])
    run(tmp_path / "store", plan)
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_no_plain_reader_meets_a_half_written_file(tmp_path: Path, monkeypatch) -> None:
    """At every moment of writing a part each reader reads the rows of the files that are finished, and no more."""
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
    # Six files and a receipt, each synced before it gets its name, and its directory after.
    assert len(seen) == 2 * 14
    assert seen == expected


CRASHES = """
import os, shutil, signal, sys
from pathlib import Path
from small_store import contents, manifest, run, tables
root, plan = Path(sys.argv[1]), manifest(documents=4, part_size=2)
sync, count = os.fsync, 0

def in_a_child(work):
    # Always: Polars, once used, does not survive a fork.
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])

def crashing(descriptor):
    global count
    count += 1
    if count > last:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(descriptor)

def run_and_crash():
    os.fsync = crashing
    run(root / "store", plan)

in_a_child(lambda: run(root / "undisturbed", plan))
whole = contents(root / "undisturbed")
for last in range(1000):
    killed = in_a_child(run_and_crash)
    in_a_child(lambda: run(root / "store", plan))
    assert contents(root / "store") == whole, last
    shutil.rmtree(root / "store")
    if not killed:
        print(last)
        break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_step_and_resumed(tmp_path: Path) -> None:
    """Killed before any of its syncs to the disk, from the first to the last, the resumed run ends with the
    bytes of an undisturbed one.
    """
    done = subprocess.run(
        [sys.executable, "-c", CRASHES, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(Path(small_store.__file__).parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # 11 files (4 documents, 4 tokens, 2 receipts, the totals), each synced and its directory too; twice the manifest.
    assert int(done.stdout) >= 2 * 13


def test_killed_at_random_moments_and_resumed(tmp_path: Path) -> None:
    """Killed with SIGKILL whenever it may be, a run goes on from there, to the bytes of an undisturbed one."""
    chance, plan = random.Random(5), manifest(documents=200, part_size=5, reductions=())
    script = (
        "import sys; from pathlib import Path; from small_store import *\n"
        "plan = manifest(documents=200, part_size=5, reductions=())\n"
        "print(flush=True); run(Path(sys.argv[1]), plan)"
    )
    progress = []
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "store")],
            env=os.environ | {"PYTHONPATH": str(Path(small_store.__file__).parent)},
            stdout=subprocess.PIPE,
        )  # fmt: skip
        child.stdout.readline()
        time.sleep(chance.uniform(0.01, 0.2))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        store = create_or_resume(tmp_path / "store", plan)
        progress.append(len(store.finished_parts()))
        store.close()
    assert progress == sorted(progress)
    assert progress[0] < 40
    run(tmp_path / "store", plan)
    run(tmp_path / "undisturbed", plan)
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


# -- another run, another directory -----------------------------------------------------------------------


def test_store_of_another_run_is_refused_item_by_item(tmp_path: Path) -> None:
    """Every differing item is named with both values, and the store stays as it is."""
    run(tmp_path / "store", manifest(), seal=False)
    before = contents(tmp_path / "store")
    other = manifest(
        documents=20,
        fingerprint={"model": "tiny", "max_length": 256, "dtype": "float32", "reductions": ["cls"]},
    )
    with pytest.raises(StoreError) as refused:
        create_or_resume(tmp_path / "store", other)
    assert str(refused.value) == (
        f"{tmp_path / 'store'} holds another run: max_length is 512 in the store, 256 in this run; "
        'dtype is not set in the store, "float32" in this run; '
        'reductions is ["cls", "cls_heads", "odd"] in the store, ["cls"] in this run; '
        "documents is 10 in the store, 20 in this run: "
        "run with the store's settings to go on with it, give another name, or delete it first"
    )
    assert contents(tmp_path / "store") == before


def test_store_without_a_finished_part_is_begun_again_by_any_run(tmp_path: Path) -> None:
    """What a run leaves that failed before its first receipt is no obstacle, and none of it stays."""
    with create_or_resume(tmp_path / "store", manifest(fingerprint={"model": "big"})) as store:
        with pytest.raises(StoreError, match="is being written by"):
            create_or_resume(tmp_path / "store", manifest())
        store.write_part(0, *tables(store.manifest, store.part_range(0)))
    (receipt,) = (tmp_path / "store/_parts").glob("*.json")
    with pytest.raises(StoreError, match="holds another run"):
        create_or_resume(tmp_path / "store", manifest())
    receipt.unlink()
    run(tmp_path / "store", manifest())
    run(tmp_path / "undisturbed", manifest())
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_part_size_is_the_stores(tmp_path: Path) -> None:
    """The size of the parts was fixed when the store was made; another one is no other run."""
    run(tmp_path / "store", manifest(part_size=4), seal=False)
    with create_or_resume(tmp_path / "store", manifest(part_size=5, notes=("new",))) as store:
        assert (store.manifest.part_size, store.manifest.notes, store.missing_parts()) == (4, (), [])


def test_tuples_in_the_fingerprint_equal_the_lists_they_are_stored_as(tmp_path: Path) -> None:
    """A fingerprint that went through JSON is still the same fingerprint."""
    plan = manifest(fingerprint={"reductions": ("cls", "rollout")})
    create_or_resume(tmp_path / "store", plan).close()
    create_or_resume(tmp_path / "store", plan).close()


def foreign_directory(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("precious")


def damaged_manifest(path: Path) -> None:
    run(path, manifest())
    (path / "manifest.json").write_text('{"schema_version": 1')


def binary_manifest(path: Path) -> None:
    path.mkdir()
    (path / "manifest.json").write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("make", "writing", "reading"),
    [
        (
            foreign_directory,
            "{path} is not empty and not a store (thesis.txt is in it): give a new or empty directory",
            "{path} is not a store: it has no manifest.json; give the directory that a run wrote",
        ),
        (
            lambda path: path.write_text("x"),
            "{path} is a file, or inside one: give a new or empty directory",
            "{path} is a file, not a store: give the directory that a run wrote",
        ),
        (lambda path: None, None, "{path} does not exist: give the directory that a run wrote"),
        (
            damaged_manifest,
            "{path}: manifest.json is not an attnstore manifest: it is damaged or foreign",
            "{path}: manifest.json is not an attnstore manifest: it is damaged or foreign",
        ),
        (
            binary_manifest,
            "{path}/manifest.json is not an attnstore manifest: it is damaged or foreign",
            "{path}/manifest.json is not an attnstore manifest: it is damaged or foreign",
        ),
    ],
)
def test_what_is_no_store_is_refused_in_one_line(
    tmp_path: Path, make, writing: str | None, reading: str
) -> None:
    """A directory of something else is neither read nor written, and loses nothing."""
    path = tmp_path / "here"
    make(path)
    before = contents(tmp_path)
    with pytest.raises(StoreError) as refused:
        open_store(path)
    assert str(refused.value) == reading.format(path=path)
    if writing is not None:
        with pytest.raises(StoreError) as refused:
            create_or_resume(path, manifest())
        assert str(refused.value) == writing.format(path=path)
    assert contents(tmp_path) == before


def test_parents_are_made_and_an_empty_directory_is_taken(tmp_path: Path) -> None:
    """A new store may lie deep; what a run that was killed at its very start left does not count as content."""
    run(tmp_path / "a" / "b" / "store", manifest())
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "manifest.json.tmp").write_text("half")
    (tmp_path / "empty" / "writer.lock").write_text("")
    run(tmp_path / "empty", manifest())
    assert contents(tmp_path / "empty") == contents(tmp_path / "a" / "b" / "store")


def test_second_writer_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    """The lock lasts from opening to closing, also when the run ends with an error."""
    path = tmp_path / "store"
    with pytest.raises(ZeroDivisionError), create_or_resume(path, manifest()):
        with pytest.raises(StoreError, match=f"is being written by process {os.getpid()} on this host"):
            create_or_resume(path, manifest())
        assert open_store(path).missing_parts() == [0, 1, 2]  # reading is allowed all the time
        raise ZeroDivisionError
    create_or_resume(path, manifest()).close()


def test_run_that_came_first_is_respected(tmp_path: Path, monkeypatch) -> None:
    """What another run made or sealed between our first look and our lock counts; the lock is given back."""

    def after(plan, take=attnstore.store.store.write_lock):
        def take_late(path):
            with monkeypatch.context() as undisturbed:
                undisturbed.setattr(attnstore.store.store, "write_lock", take)
                run(path, plan)
            return take(path)

        return take_late

    monkeypatch.setattr(attnstore.store.store, "write_lock", after(manifest()))
    store = create_or_resume(tmp_path / "sealed", manifest())
    assert (store.sealed, store.missing_parts()) == (True, [])
    monkeypatch.setattr(attnstore.store.store, "write_lock", after(manifest(fingerprint={"model": "big"})))
    with pytest.raises(StoreError, match='model is "big" in the store, "tiny" in this run'):
        create_or_resume(tmp_path / "other", manifest())
    assert [name for name in contents(tmp_path) if name.endswith("writer.lock")] == []


# -- sealing ----------------------------------------------------------------------------------------------


def test_sealed_store_is_complete_and_never_written_again(tmp_path: Path) -> None:
    """Sealing takes the changes along; afterwards every way of writing is refused and nothing changes."""
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
            == f"{tmp_path / 'store'} is sealed: it is never written again; give the run a new store"
        )
    assert contents(tmp_path / "store") == before


def test_store_opened_to_read_is_not_written(tmp_path: Path) -> None:
    """Only the run that holds the lock writes."""
    run(tmp_path / "store", manifest(), seal=False)
    with pytest.raises(
        StoreError, match="was opened for reading: only the run that holds its lock writes it"
    ):
        reader = open_store(tmp_path / "store")
        reader.seal()


def test_unfinished_store_is_not_sealed(tmp_path: Path) -> None:
    """The missing parts are named, and the store goes on unsealed."""
    with create_or_resume(tmp_path / "store", manifest(part_size=1)) as store:
        store.write_part(4, *tables(store.manifest, [4]))
        with pytest.raises(StoreError) as refused:
            store.seal()
    assert str(refused.value) == (
        f"{store.path} can't be sealed: parts 0, 1, 2, 3, 5 and 4 more are missing: run again to go on"
    )
    assert not open_store(store.path).sealed


def test_crash_right_after_sealing_is_harmless(tmp_path: Path) -> None:
    """Receipts left beside a sealed manifest are not read, and go away with the next run."""
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


def test_run_without_documents(tmp_path: Path) -> None:
    """Nothing in, nothing out: a sealed store without a part, its totals empty."""
    store = run(tmp_path / "store", manifest(documents=0))
    assert sorted(contents(store.path)) == ["manifest.json", "totals.parquet"]
    assert pq.read_table(store.path / "totals.parquet").num_rows == 0
    assert (open_store(store.path).sealed, store.documents_files()) == (True, [])


# -- a disk that won't take it ----------------------------------------------------------------------------


@contextmanager
def mounted(path: Path, options: str):
    """A small file system in memory at `path`; the test is skipped where it can't be had."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"can't mount a tmpfs here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_full_disk_keeps_what_is_finished(tmp_path: Path) -> None:
    """On a full disk the run ends with one line; with space again it goes on to the bytes of an undisturbed run."""
    plan = manifest(documents=60, part_size=2)
    run(tmp_path / "undisturbed", plan)
    with mounted(tmp_path / "disk", "size=600k"):
        path = tmp_path / "disk" / "store"
        with pytest.raises(StoreError) as refused:
            run(path, plan)
        message = str(refused.value)
        assert message.startswith(f"can't write {path}/")
        assert message.endswith(
            ": No space left on device; the parts finished so far are kept: free some space and run again to go on"
        )
        finished = open_store(path).finished_parts()
        assert 0 < len(finished) < 30
        assert finished == list(range(len(finished)))
        assert not [name for name in contents(path) if name.endswith(".tmp")]
        with pytest.raises(StoreError, match="No space left on device"):
            run(path, plan)  # still full: still nothing lost
        assert open_store(path).finished_parts()[: len(finished)] == finished
        subprocess.run(["mount", "-o", "remount,size=8m", str(tmp_path / "disk")], check=True)
        run(path, plan)
        assert contents(path) == contents(tmp_path / "undisturbed")


LIMITED = """
import resource, sys
from pathlib import Path
from attnstore.errors import StoreError
from small_store import manifest, run, tables
from attnstore.store.store import create_or_resume
with create_or_resume(Path(sys.argv[1]), manifest()) as store:
    store.write_part(0, *tables(store.manifest, range(4)))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    run(Path(sys.argv[1]), manifest())
except StoreError as error:
    print(error)
"""


def test_limit_on_file_size_keeps_what_is_finished(tmp_path: Path) -> None:
    """The same where the system refuses a file for another reason: here a limit on its size."""
    pytest.importorskip("resource", reason="needs POSIX limits")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "store")],
        env=os.environ | {"PYTHONPATH": str(Path(small_store.__file__).parent)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    first = next(
        iter(sorted({str(label).replace("None", "__HIVE_DEFAULT_PARTITION__") for label in [LABELS[1]]}))
    )
    assert done.stdout == (
        f"can't write {tmp_path}/store/documents/split=test/label={first}/part-00001.parquet: "
        f"{os.strerror(errno.EFBIG)}; the parts finished so far are kept: allow larger files and run again to go on\n"
    )
    assert open_store(tmp_path / "store").finished_parts() == [0]
    run(tmp_path / "store", manifest())
    run(tmp_path / "undisturbed", manifest())
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_read_only_disk(tmp_path: Path) -> None:
    """A sealed store on a read-only disk opens, also for an equal run; a new one is refused in one line."""
    with mounted(tmp_path / "disk", "size=4m"):
        path = tmp_path / "disk" / "store"
        run(path, manifest())
        run(tmp_path / "disk" / "unsealed", manifest(), seal=False)
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        assert create_or_resume(path, manifest()).missing_parts() == []
        for name, refused_file in (("new", "new"), ("unsealed", "unsealed/writer.lock")):
            with pytest.raises(StoreError) as refused:
                create_or_resume(tmp_path / "disk" / name, manifest())
            assert str(refused.value) == (
                f"can't write {tmp_path}/disk/{refused_file}: Read-only file system; the parts finished so far are "
                "kept: make the folder writable and run again to go on"
            )


def test_folder_without_permission(tmp_path: Path) -> None:
    """A folder that belongs to somebody else is refused in one line, and stays empty."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        folder.chmod(0o555)
        if os.getuid() == 0:
            os.seteuid(65534)  # root may write anywhere
        try:
            with pytest.raises(StoreError) as refused:
                create_or_resume(folder / "store", manifest())
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
        assert str(refused.value) == (
            f"can't write {folder}/store: Permission denied; the parts finished so far are kept: "
            "make the folder writable and run again to go on"
        )
        assert list(folder.iterdir()) == []
        folder.chmod(0o755)
