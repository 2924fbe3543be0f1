"""Promises of attnstore.store.stage: a store grows completely or not at all, whoever reads and whatever ends the
writer.
"""

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from bucket_server import Server
from measured_store import measured_rows, written
from polars.testing import assert_frame_equal
from small_store import contents, manifest, run, tables

import attnstore.store.stage as stage_module
import attnstore.store.store as store_module
from attnstore.ask.answer import BASIS_KEY, ask
from attnstore.ask.questions import find_questions, get_question
from attnstore.check.verify import verify_files
from attnstore.errors import StoreError
from attnstore.show.card import facts
from attnstore.store import frames
from attnstore.store.faithfulness import measured_before
from attnstore.store.manifest import Addition, Manifest, StoredFile
from attnstore.store.resume import create_or_resume
from attnstore.store.stage import Stage, begin_or_resume, finish_append
from attnstore.store.store import Store, open_store

STEPS = (10, 1, 6, 4)  # of 21 documents, in parts of 4


def addition(documents: int, name: str = "new.csv") -> Addition:
    return Addition(documents, name, {"data_sha256": name}, {}, "2026-01-03T03:04:05+00:00")


def append(path: Path | str, documents: int, name: str = "new.csv", parts: int | None = None) -> Store:
    """Append the next documents of the small run. `parts`: write that many and stop."""
    with begin_or_resume(finish_append(path), addition(documents, name), True) as stage:
        for part in stage.missing_parts()[:parts]:
            stage.write_part(part, *tables(stage.manifest, stage.part_range(part)))
        if not stage.missing_parts():
            stage.seal()
    return open_store(path)


def read(store: Store) -> dict[str, pl.DataFrame]:
    """The tables as a reader sees them, in the order of documents, with keys as text."""
    found = {
        "documents": frames.documents(store).sort("document"),
        "tokens": frames.tokens(store).sort("document", "position"),
        "totals": frames.totals(store),
    }
    return {
        name: frame.with_columns(pl.col(pl.Categorical).cast(pl.String)).collect()
        for name, frame in found.items()
    }


def assert_same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    for name in ("documents", "tokens"):
        assert_frame_equal(found[name], expected[name], check_exact=True)
    keys = ["split", "label", "prediction", "token", "word", "piece", "pieces", "special", "occurrences"]
    found_totals, expected_totals = (each["totals"].sort(keys) for each in (found, expected))
    assert_frame_equal(found_totals, expected_totals, rel_tol=1e-6)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, pl.DataFrame]:
    """One run over all documents."""
    return read(run(tmp_path_factory.mktemp("whole") / "store", manifest(documents=sum(STEPS))))


@pytest.mark.slow
def test_several_appends_give_the_tables_of_one_run(tmp_path: Path, whole) -> None:
    """Document and part numbers continue, existing files are not touched, and the store is sound after each step."""
    path = run(tmp_path / "store", manifest(documents=STEPS[0])).path
    for place, step in enumerate(STEPS[1:]):
        before = contents(path)
        store = append(path, step, f"{place}.csv")
        after = contents(path)
        kept = {name for name in before if name.startswith(("documents", "tokens"))}
        assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
        assert {finding.subject: finding.detail for finding in verify_files(store) if not finding.ok} == {}
    assert_same(read(store), whole)
    assert store.sealed
    assert [store.part_range(part) for part in range(store.manifest.parts)] == [
        range(4), range(4, 8), range(8, 10), range(10, 11), range(11, 15), range(15, 17), range(17, 21),
    ]  # fmt: skip
    for part in range(store.manifest.parts):
        assert {store.manifest.part_of(number) for number in store.part_range(part)} == {part}
    assert {store.manifest.part_of(number) for number in (-1, 21)} == {-1}
    assert [a.data for a in store.manifest.additions] == ["0.csv", "1.csv", "2.csv"]
    assert not (path / "_append").exists()
    assert [len(list((path / name).iterdir())) for name in ("_earlier", "_sums")] == [1, 1]


@pytest.mark.slow
def test_a_reader_keeps_the_state_that_it_opened(tmp_path: Path) -> None:
    """Before, during and after an append, a store opened earlier has its earlier tables, and one opened afterwards the
    new ones.
    """
    path = run(tmp_path / "store", manifest()).path
    old = open_store(path)
    before = read(old)
    append(path, 5, parts=1)
    assert_same(read(old), before)
    assert_same(read(open_store(path)), before)
    assert sorted(p.name for p in (path / "tokens").rglob("*.parquet")) == sorted(
        Path(f.path).name for f in old.files() if f.path.startswith("tokens")
    )  # a plain reader sees nothing new yet
    new = append(path, 5)
    assert_same(read(old), before)
    assert len(read(new)["documents"]) == 15
    assert new.manifest.documents == 15


@pytest.mark.slow
def test_remains_of_a_crash_at_the_very_end_are_removed(tmp_path: Path) -> None:
    """A folder without its manifest, and the lock: the next append, even of the same data, removes both."""
    path = run(tmp_path / "store", manifest()).path
    append(path, 5)
    expected = contents(path)
    (path / "_append/_parts").mkdir(parents=True)
    (path / "_append/_parts/part-00003.json").write_text("{}")
    (path / "writer.lock").touch()
    finish_append(path)
    assert contents(path) == expected
    assert not (path / "_append").exists()


class Killed(BaseException):
    """Like a kill, this exception must not be caught by any cleaning up."""


@contextmanager
def killed_at(number: int, monkeypatch, after: bool) -> Iterator[list[str]]:
    """Lets all writing end before or after call `number`; yields the calls that were made."""
    calls: list[str] = []

    def watched(name, function):
        def call(*given):
            place = len(calls)
            calls.append(name)
            if place == number and not after:
                raise Killed
            found = function(*given)
            if place == number:
                raise Killed
            return found

        return call

    with monkeypatch.context() as patched:
        for module in (stage_module, store_module):
            for name in (
                "put",
                "move",
                "duplicate",
                "remove",
                "remove_directory",
                "write_receipt",
                "write_manifest",
            ):
                if hasattr(module, name):
                    patched.setattr(module, name, watched(name, getattr(module, name)))
        yield calls


@pytest.mark.slow
@pytest.mark.parametrize("tried", ["some", pytest.param("all", marks=pytest.mark.exhaustive)])
def test_an_append_killed_at_any_write_leaves_the_old_or_the_new_state(
    tmp_path: Path, monkeypatch, tried: str
) -> None:
    """Each write in turn is the last, with the kill just before or after it.

    Readers see one complete state, and repeating the append gives the same tables. ATTNSTORE_SEED draws others of them.
    """
    begun = run(tmp_path / "begun", manifest()).path
    old = read(open_store(begun))
    new = read(append(Path(shutil.copytree(begun, tmp_path / "done")), 5))
    with killed_at(-1, monkeypatch, after=True) as calls:
        append(Path(shutil.copytree(begun, tmp_path / "counted")), 5)
    moments = [(number, after) for number in range(len(calls)) for after in (False, True)]
    # The last writes are those of sealing: each leaves another intermediate state.
    assert calls[-3:] == ["move", "write_manifest", "remove_directory"]
    if tried == "some":
        chance = random.Random(int(os.environ.get("ATTNSTORE_SEED", "0")))
        moments = [*chance.sample(moments[:-5], 2), *moments[-5:]]
    states = []
    for number, after in moments:
        path = Path(shutil.copytree(begun, tmp_path / "store"))
        reader = open_store(path)
        with pytest.raises(Killed), killed_at(number, monkeypatch, after):
            append(path, 5)
        store = open_store(path)
        states.append(store.manifest.documents)
        assert_same(read(store), old if states[-1] == 10 else new)
        assert_same(read(reader), old)
        assert all(finding.ok for finding in verify_files(store))
        if finish_append(path).manifest.documents == 10:
            append(path, 5)
        assert_same(read(open_store(path)), new)
        assert all(finding.ok for finding in verify_files(open_store(path)))
        assert not (path / "_append").exists()
        shutil.rmtree(path)
    assert states[-5:] == [10, 10, 15, 15, 15]


@pytest.mark.slow
def test_an_unfinished_append_keeps_others_out(tmp_path: Path) -> None:
    """Another append is refused with what to do; an append without a finished part is replaced."""
    path = run(tmp_path / "store", manifest()).path
    append(path, 5, parts=0)
    append(path, 6, "other.csv", parts=1)
    with pytest.raises(StoreError) as refused:
        append(path, 5)
    assert str(refused.value) == (
        f"{path}: an append of other.csv is not finished: the same command resumes it; to abandon it, remove"
        f" {path}/_append"
    )
    stage = begin_or_resume(open_store(path), addition(6, "other.csv"), True)
    assert (stage.finished_parts(), stage.missing_parts()) == ([3], [4])
    with pytest.raises(StoreError, match="is being written by"):
        begin_or_resume(open_store(path), addition(6, "other.csv"), True)
    stage.close()


@pytest.mark.slow
def test_a_damaged_part_of_the_next_state_is_written_again(tmp_path: Path) -> None:
    """As in a run: the receipt's hash is compared, and the part counts as missing."""
    path = run(tmp_path / "store", manifest()).path
    append(path, 5, parts=1)
    file = next((path / "_append" / "tokens").rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with begin_or_resume(open_store(path), addition(5), True) as stage:
        assert stage.missing_parts() == [3, 4]
        assert len(stage.damaged) == 1
    assert append(path, 5).manifest.documents == 15


@pytest.mark.slow
def test_an_append_to_a_changed_or_unsealed_store_is_refused(tmp_path: Path) -> None:
    """An append is made for one state of a store, which another process may have changed."""
    path = run(tmp_path / "store", manifest()).path
    old = open_store(path)
    append(path, 5)
    with pytest.raises(
        StoreError, match="has changed since it was opened: run again to append to what it is now"
    ):
        begin_or_resume(old, addition(3, "x"), True)
    unsealed = run(tmp_path / "unsealed", manifest(), seal=False)
    with pytest.raises(
        StoreError, match="is not sealed: `attnstore run` with the same options finishes it first"
    ):
        finish_append(unsealed.path)


@pytest.mark.slow
def test_earlier_measurements_are_reported_as_of_the_earlier_documents(tmp_path: Path) -> None:
    """Their rows stay and are sound, and a note says how many documents they were drawn from."""
    path = run(tmp_path / "store", manifest()).path
    assert (
        written(open_store(path), measured_rows([0, 1, 2], ["cls_01", "random"])).settings["store_documents"]
        == 10
    )
    assert measured_before(open_store(path)) is None
    store = append(path, 5)
    assert measured_before(store) == 10
    assert ("faithfulness", "drawn from the first 10 documents, before others were appended") in list(
        facts(store)
    )
    answer = ask(store, get_question("faithfulness", find_questions()), {})
    assert (
        b"15 documents, faithfulness measured in 3 (drawn when there were 10), "
        in answer.schema.metadata[BASIS_KEY]
    )
    written(store, measured_rows([12], ["cls_01", "random"]))
    assert measured_before(open_store(path)) == 10


@pytest.mark.slow
def test_a_log_beside_the_files_is_no_fault(tmp_path: Path) -> None:
    """Delta Lake's, for example. A Parquet file there is a fault, because plain readers would read its rows."""
    path = run(tmp_path / "store", manifest()).path
    (path / "tokens" / "_delta_log").mkdir()
    (path / "tokens" / "_delta_log" / "0.json").write_text("{}")
    assert all(finding.ok for finding in verify_files(open_store(path)))
    (path / "tokens" / "_delta_log" / "0.parquet").write_text("")
    faults = [finding.subject for finding in verify_files(open_store(path)) if not finding.ok]
    assert faults == ["tokens/_delta_log/0.parquet"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """A store may come from a stranger."""
    path = run(tmp_path / "store", manifest()).path
    (tmp_path / "elsewhere").mkdir()
    (path / "_append").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link, and nothing outside of the store is written"):
        append(path, 5)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.slow
def test_the_original_run_finds_a_grown_store_finished(tmp_path: Path) -> None:
    """However much the store has grown since."""
    plan = manifest()
    path = run(tmp_path / "store", plan).path
    append(path, 5)
    assert create_or_resume(path, plan).missing_parts() == []
    with pytest.raises(StoreError, match="documents is 10 in the store, 15 in this run"):
        create_or_resume(path, replace(plan, documents=15))


def test_an_addition_survives_json() -> None:
    """Every field; an impossible plan is refused."""
    plan = manifest(documents=15, additions=(addition(5),))
    assert Manifest.from_json(plan.to_json()) == plan
    assert plan.sizes == (10, 5)
    with pytest.raises(StoreError, match="more documents were appended than there are"):
        Manifest.from_json(manifest(documents=4, additions=(addition(5),)).to_json())
    assert issubclass(Stage, Store)


@pytest.mark.slow
def test_a_store_in_a_bucket_grows_like_one_in_a_folder(tmp_path: Path, bucket: Server, whole) -> None:
    """Files are copied, not renamed: the same tables, the same files, and an open reader keeps its state."""
    path = run(tmp_path / "store", manifest(documents=STEPS[0])).path
    address = bucket.upload(path, "grown.attn")
    old = open_store(address)
    before = read(old)
    for place, step in enumerate(STEPS[1:]):
        append(path, step, f"{place}.csv")
        append(address, step, f"{place}.csv")
    assert_same(read(open_store(address)), whole)
    there = dict(open_store(address).path.sizes())
    assert {n: s for n, s in there.items() if n != "manifest.json"} == {
        n: len(c) for n, c in contents(path).items() if n != "manifest.json"
    }
    assert_frame_equal(read(old)["documents"], before["documents"])


def test_an_invalid_next_state_disturbs_no_reader_and_no_append(tmp_path: Path) -> None:
    """One that appends nothing, or lists missing merged files, from a stranger or after damage."""
    store = run(tmp_path / "store", manifest(documents=6), seal=True)
    lost = replace(
        store.manifest,
        additions=(addition(1),),
        documents=7,
        merged_from=StoredFile(f"_merged/from-{'0' * 32}.parquet", 4, 400, "0" * 64),
    )
    for strange in (store.manifest, replace(store.manifest, sealed=None, files=()), lost):
        (store.path / "_append").mkdir()
        (store.path / "_append/manifest.json").write_text(strange.to_json())
        assert ("documents", "6 of 6") in list(facts(store))
        assert all(finding.ok for finding in verify_files(store))
        if strange is not lost:
            assert append(store.path, 1, "a.csv").manifest.documents == 7
            shutil.rmtree(store.path)
            store = run(tmp_path / "store", manifest(documents=6))
