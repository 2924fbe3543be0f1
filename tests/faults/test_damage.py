"""Damaged files of a sealed store: `verify` finds every damage that changes an answer."""

import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import asked, sealed_store, trial
from small_store import manifest, run

from attnstore.errors import StoreError
from attnstore.reader import Reader
from attnstore.store.parquet import parquet
from attnstore.store.store import open_store


@pytest.mark.slow
def test_random_damage(tmp_path: Path) -> None:
    """Some damages; ATTNSTORE_SEED draws others."""
    chance = random.Random(int(os.environ.get("ATTNSTORE_SEED", "0")))
    sealed = sealed_store(tmp_path / "sealed")
    expected = asked(sealed)
    outcomes = {trial(sealed, expected, tmp_path / "trial", chance) for _ in range(2)}
    assert outcomes <= {"refused", "harmless", "wrong, and verify sees it"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokens/split=test/label=pos/part-00000.parquet", "totals.parquet"])
def test_a_file_of_another_size_is_reported_before_it_is_read(tmp_path: Path, name: str) -> None:
    """Also in sealed stores and in both engines, because checking sizes costs nothing."""
    path = run(tmp_path / "store", manifest()).path
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[:-1])
    expected = (
        f"can't read {path}: {name} has {len(content) - 1:,} bytes, {len(content):,} were written: it is damaged: "
        "`attnstore verify` finds the damage"
    )
    for ask in (
        lambda: Reader(path).sql("SELECT count(*) FROM totals"),
        lambda: Reader(path).totals() if name == "totals.parquet" else Reader(path).tokens(),
    ):
        with pytest.raises(StoreError) as refused:
            ask()
        assert str(refused.value) == expected


def test_pages_have_checksums(tmp_path: Path) -> None:
    """A reader with pyarrow that asks for checksums finds a damaged page without a manifest."""
    store = open_store(run(tmp_path / "store", manifest()).path)
    table = pq.ParquetFile(store.tokens_files()[0]).read()
    schema = store.tokens_schema
    content = bytearray(parquet(table, schema))
    column = pq.ParquetFile(pa.BufferReader(bytes(content))).metadata.row_group(0).column(0)
    content[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    with (
        pytest.raises(OSError, match="CRC"),
        pq.ParquetFile(pa.BufferReader(bytes(content)), page_checksum_verification=True) as damaged,
    ):
        damaged.read(columns=[schema.names[0]])


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, -1])
def test_a_damaged_column_name_is_one_line(tmp_path: Path, place: int) -> None:
    """DuckDB quotes the name in its message, which is then not UTF-8: in the first file, and in one read later."""
    store = open_store(run(tmp_path / "store", manifest()).path)
    file = store.tokens_files()[place]
    file.write_bytes(file.read_bytes().replace(b"token_id", b"t\xffken_id"))
    with pytest.raises(StoreError, match=r"`attnstore verify` finds the damage$") as refused:
        Reader(store.path).sql("SELECT sum(token_id) AS n FROM tokens")
    assert "\n" not in str(refused.value)
