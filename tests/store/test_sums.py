"""Promises of attnstore.store.sums: an append reads only the new tokens, and the totals are as if all were read."""

import io
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_store import manifest, run, tables

import attnstore.store.adding as adding
from attnstore.check.verify import verify_files
from attnstore.store.manifest import Addition
from attnstore.store.parquet import write_parquet
from attnstore.store.stage import begin_or_resume
from attnstore.store.store import Store, open_store

STEPS = (9, 5, 8)  # of new documents, in parts of 4


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records the files that are read to be added up."""
    read: list[str] = []
    add_tokens = adding.Terms.add_tokens

    def watched(terms, tokens, aside):
        read.append(str(tokens.place))
        add_tokens(terms, tokens, aside)

    monkeypatch.setattr(adding.Terms, "add_tokens", watched)
    return read


def append(path: Path, documents: int) -> Store:
    name = f"{open_store(path).manifest.documents}.csv"
    addition = Addition(documents, name, {"data_sha256": name}, {}, "2026-01-03T03:04:05+00:00")
    with begin_or_resume(open_store(path), addition, True) as stage:
        for part in stage.missing_parts():
            stage.write_part(part, *tables(stage.manifest, stage.part_range(part)))
        stage.seal()
    return open_store(path)


def of_reading_all(store: Store) -> bytes:
    content = io.BytesIO()
    write_parquet(store.added_up(), store.totals_schema, content)
    return content.getvalue()


@pytest.mark.parametrize("in_memory", [1 << 26, pytest.param(100, marks=pytest.mark.slow)])
def test_an_append_gives_exact_totals_and_reads_only_new_tokens(
    tmp_path: Path, scanned: list[str], monkeypatch, in_memory
) -> None:
    """Bit-equal to the totals of one run over everything, from the second append on.

    `odd` has no values in the first store.
    """
    monkeypatch.setattr(adding, "_SUMS_IN_MEMORY", in_memory)
    path = run(tmp_path / "store", manifest(documents=1)).path
    for number, step in enumerate(STEPS):
        before = {str(file) for file in open_store(path).tokens_files()}
        scanned.clear()
        store = append(path, step)
        read = set(scanned)
        assert read >= before if number == 0 else not read & before
        assert len(read - before) == len(store.tokens_files()) - len(before)
        assert (path / "totals.parquet").read_bytes() == of_reading_all(store)
    assert {finding.subject: finding.detail for finding in verify_files(store) if not finding.ok} == {}
    assert (len(list((path / "_sums").iterdir())) > 1) == (in_memory == 100)
    assert pq.read_table(path / "totals.parquet")["odd"].null_count > 0


@pytest.fixture(scope="module")
def grown(tmp_path_factory) -> Path:
    """A store with one addition."""
    path = run(tmp_path_factory.mktemp("grown") / "store", manifest(documents=6)).path
    return append(path, 5).path


def flip(file: Path) -> None:
    """Damage the sums."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def of_other_columns(file: Path) -> None:
    """Sums with a valid name but the columns of another version."""
    import hashlib

    with pa.ipc.open_file(file.read_bytes()) as run_file:
        table = run_file.read_all().drop_columns("new_word")
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    tokens, number, _, end = file.name.split(".")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:32]
    file.rename(file.with_name(f"{tokens}.{number}.{digest}.{end}"))


@pytest.mark.slow
@pytest.mark.parametrize("harm", [Path.unlink, flip, of_other_columns, lambda file: file.write_bytes(b"")],
                         ids=["gone", "damaged", "of other columns", "empty"])  # fmt: skip
def test_invalid_sums_are_computed_again(
    tmp_path: Path, grown: Path, scanned: list[str], harm: Callable[[Path], object]
) -> None:
    """All tokens are read then, and the totals are the same."""
    path = Path(shutil.copytree(grown, tmp_path / "store"))
    harm(next((path / "_sums").iterdir()))
    before = {str(file) for file in open_store(path).tokens_files()}
    store = append(path, 7)
    assert set(scanned) >= before
    assert (path / "totals.parquet").read_bytes() == of_reading_all(store)
    scanned.clear()
    append(path, 3)
    assert not set(scanned) & before  # the sums are valid again


@pytest.mark.slow
def test_the_sums_of_another_store_are_not_used(tmp_path: Path, grown: Path, scanned: list[str]) -> None:
    """Sums are identified by the token files, and one of them differs here."""
    path = run(tmp_path / "store", manifest(documents=5)).path
    append(path, 6)
    shutil.rmtree(path / "_sums")
    shutil.copytree(grown / "_sums", path / "_sums")
    before = {str(file) for file in open_store(path).tokens_files()}
    scanned.clear()
    store = append(path, 7)
    assert set(scanned) >= before
    assert (path / "totals.parquet").read_bytes() == of_reading_all(store)
    assert len({file.name.partition(".")[0] for file in (path / "_sums").iterdir()}) == 1


def test_an_addition_starts_after_the_last_part() -> None:
    additions = tuple(Addition(n, "x", {}, {}, "") for n in STEPS)
    plan = manifest(documents=10 + sum(STEPS), additions=additions)
    starts = itertools.accumulate(plan.sizes[:-1], initial=0)
    parts = (-(-size // plan.part_size) for size in plan.sizes[:-1])
    firsts = itertools.accumulate(parts, initial=0)
    assert [plan.part_range(part).start for part in firsts] == list(starts)
