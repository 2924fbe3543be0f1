"""Promises of attnstore.store.resume: no kill, crash, full disk or other run damages a store."""

import errno
import os
import random
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from nursery import Child
from small_store import LABELS, contents, manifest, run, tables

import attnstore.store.resume
from attnstore.errors import StoreError
from attnstore.store.resume import create_or_resume
from attnstore.store.store import open_store


@pytest.mark.slow
def test_resume_writes_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    """Finished parts are not written again. The finished store equals that of an undisturbed run, byte for byte."""
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


@pytest.mark.slow
def test_a_part_without_its_receipt_or_a_file_is_missing(tmp_path: Path) -> None:
    """Files without a receipt are not listed, and a receipt needs all its files."""
    plan = manifest()
    run(tmp_path / "undisturbed", plan)
    store = run(tmp_path / "store", plan, seal=False)
    (store.path / "_parts" / "part-00000.json").unlink()
    lost = next(path for path in store.tokens_files() if path.name == "part-00001.parquet")
    lost.write_bytes(lost.read_bytes()[:-1])
    (store.path / "_parts" / "part-00002.json").write_text('{"part": 2, "fil')
    store = open_store(store.path)
    assert (store.finished_parts(), store.documents_files(), store.tokens_files()) == ([], [], [])
    run(tmp_path / "store", plan)
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def flipped(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])


@pytest.mark.slow
def test_a_damaged_part_is_computed_again_and_reported(tmp_path: Path) -> None:
    """Whatever happened to a finished part, the resumed run writes it again, and says which and why."""
    plan = manifest()
    run(tmp_path / "undisturbed", plan)
    store = run(tmp_path / "store", plan, seal=False)
    assert store.damaged == ()
    names = [next(p for p in store.tokens_files() if p.name == f"part-0000{n}.parquet") for n in range(3)]
    flipped(names[0])
    names[1].unlink()
    (store.path / "_parts/part-00002.json").write_text("[" * 100_000)
    with create_or_resume(tmp_path / "store", plan) as store:
        assert store.missing_parts() == [0, 1, 2]
        assert store.damaged == (
            f"part 0 is computed again: {names[0].relative_to(store.path)}: its SHA-256 is not the one recorded: "
            "it is damaged",
            f"part 1 is computed again: {names[1].relative_to(store.path)}: is missing",
            "part 2 is computed again: its receipt _parts/part-00002.json is damaged",
        )
    with create_or_resume(tmp_path / "store", plan) as store:
        assert (store.missing_parts(), store.damaged) == ([0, 1, 2], ())
    run(tmp_path / "store", plan)
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["documents", "tokens", "_parts", "tokens/split=test"])
@pytest.mark.parametrize("same", [True, False])
def test_nothing_outside_of_a_store_is_written_or_removed(tmp_path: Path, place: str, same: bool) -> None:
    """A store may come from a stranger, with a link in place of a directory.

    It is refused, and the link's target is not touched.
    """
    other = run(tmp_path / "other", manifest(), seal=False).path
    (other / "_parts/part-00000.tokens.tmp").write_text("theirs")
    store = create_or_resume(tmp_path / "store", manifest(fingerprint={} if same else {"model": "big"}))
    store.close()
    link = store.path / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(other / place)
    before = contents(other)
    wording = f"{place} is a link, and nothing outside of the store is written"
    if (place, same) == ("_parts", False):
        wording = "holds another run"  # by the receipts that the link leads to
    with pytest.raises(StoreError, match=wording):
        run(store.path, manifest(fingerprint={}))
    assert contents(other) == before


CRASHES = """
import os, random, shutil, signal, sys
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
last = 1000
assert not in_a_child(lambda: (run_and_crash(), (root / "count").write_text(str(count))))
syncs = int((root / "count").read_text())
shutil.rmtree(root / "store")
drawn = random.Random(int(sys.argv[3])).sample(range(syncs), 2)
for last in range(syncs) if sys.argv[2] == "all" else {0, syncs - 1, *drawn}:
    assert in_a_child(run_and_crash), last
    in_a_child(lambda: run(root / "store", plan))
    assert contents(root / "store") == whole, last
    shutil.rmtree(root / "store")
print(syncs)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("tried", ["some", pytest.param("all", marks=pytest.mark.exhaustive)])
def test_a_run_killed_at_any_step_resumes_to_the_same_bytes(tmp_path: Path, tried: str) -> None:
    """Killed before any of its syncs to the disk, from the first to the last, and resumed, it ends with the bytes of an
    undisturbed run. ATTNSTORE_SEED draws others of them.
    """
    with Child(CRASHES, tmp_path, tried, os.environ.get("ATTNSTORE_SEED", "0")) as child:
        out, err = child.communicate(timeout=3600)
    assert child.returncode == 0, err
    # 11 files (4 of documents, 4 of tokens, 2 receipts, totals), each synced with its directory; the manifest twice.
    assert int(out) >= 2 * 13


@pytest.mark.slow
def test_a_run_killed_at_random_moments_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    """Killed by SIGKILL at any moment and resumed, it ends with the bytes of an undisturbed run."""
    chance, plan = random.Random(5), manifest(documents=100, part_size=5, reductions=())
    script = (
        "import sys; from pathlib import Path; from small_store import *\n"
        "plan = manifest(documents=100, part_size=5, reductions=())\n"
        "print(flush=True); run(Path(sys.argv[1]), plan)"
    )
    progress = []
    for _ in range(3):
        with Child(script, tmp_path / "store") as child:
            child.stdout.readline()
            time.sleep(chance.uniform(0.01, 0.1))
        store = create_or_resume(tmp_path / "store", plan)
        progress.append(len(store.finished_parts()))
        store.close()
    assert progress == sorted(progress)
    assert progress[0] < 20
    run(tmp_path / "store", plan)
    run(tmp_path / "undisturbed", plan)
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


# -- another run, another directory --------------------------------------------------------------------------


def test_a_store_of_another_run_is_refused_item_by_item(tmp_path: Path) -> None:
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
        "run with the store's settings to resume it, give another name, or delete it first"
    )
    assert contents(tmp_path / "store") == before


@pytest.mark.slow
def test_any_run_may_replace_a_store_without_a_finished_part(tmp_path: Path) -> None:
    """A run that failed before its first receipt is no obstacle, and none of its files stay."""
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


def test_the_part_size_is_that_of_the_store(tmp_path: Path) -> None:
    """It was fixed when the store was created. A run with another part size is not another run."""
    run(tmp_path / "store", manifest(part_size=4), seal=False)
    with create_or_resume(tmp_path / "store", manifest(part_size=5, notes=("new",))) as store:
        assert (store.manifest.part_size, store.manifest.notes, store.missing_parts()) == (4, (), [])


def test_tuples_in_the_fingerprint_equal_the_lists_they_are_stored_as(tmp_path: Path) -> None:
    """A fingerprint is the same after a round trip through JSON."""
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
def test_a_directory_that_is_no_store_is_refused_in_one_line(
    tmp_path: Path, make, writing: str | None, reading: str
) -> None:
    """Its files are neither read nor written nor removed."""
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


@pytest.mark.slow
def test_parents_are_created_and_an_empty_directory_is_accepted(tmp_path: Path) -> None:
    """A new store may have several missing parents.

    Remains of a run killed at its very start do not count as content.
    """
    run(tmp_path / "a" / "b" / "store", manifest())
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "manifest.json.tmp").write_text("half")
    (tmp_path / "empty" / "writer.lock").write_text("")
    run(tmp_path / "empty", manifest())
    assert contents(tmp_path / "empty") == contents(tmp_path / "a" / "b" / "store")


@pytest.mark.slow
def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    """The lock lasts from opening to closing, also when the run ends with an error."""
    path = tmp_path / "store"
    with pytest.raises(ZeroDivisionError), create_or_resume(path, manifest()):
        with pytest.raises(StoreError, match=f"is being written by process {os.getpid()} on this host"):
            create_or_resume(path, manifest())
        assert open_store(path).missing_parts() == [0, 1, 2]  # reading is allowed all the time
        raise ZeroDivisionError
    create_or_resume(path, manifest()).close()


@pytest.mark.slow
def test_the_run_that_came_first_is_respected(tmp_path: Path, monkeypatch) -> None:
    """What another run created or sealed between our check and our lock counts, and the lock is released."""

    def after(plan, take=attnstore.store.resume.write_lock):
        def take_late(path):
            with monkeypatch.context() as undisturbed:
                undisturbed.setattr(attnstore.store.resume, "write_lock", take)
                run(path, plan)
            return take(path)

        return take_late

    monkeypatch.setattr(attnstore.store.resume, "write_lock", after(manifest()))
    store = create_or_resume(tmp_path / "sealed", manifest())
    assert (store.sealed, store.missing_parts()) == (True, [])
    monkeypatch.setattr(attnstore.store.resume, "write_lock", after(manifest(fingerprint={"model": "big"})))
    with pytest.raises(StoreError, match='model is "big" in the store, "tiny" in this run'):
        create_or_resume(tmp_path / "other", manifest())
    assert [name for name in contents(tmp_path) if name.endswith("writer.lock")] == []


# -- disks that refuse writes --------------------------------------------------------------------------------


@contextmanager
def mounted(path: Path, options: str):
    """A small file system in memory at `path`. Skips the test if it is not available."""
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


@pytest.mark.slow
def test_a_full_disk_keeps_what_is_finished(tmp_path: Path) -> None:
    """On a full disk the run ends with one line. With space again it resumes to the bytes of an undisturbed run."""
    plan = manifest(documents=60, part_size=2)
    run(tmp_path / "undisturbed", plan)
    with mounted(tmp_path / "disk", "size=600k"):
        path = tmp_path / "disk" / "store"
        with pytest.raises(StoreError) as refused:
            run(path, plan)
        message = str(refused.value)
        assert message.startswith(f"can't write {path}/")
        assert message.endswith(
            ": No space left on device; the parts finished so far are kept: free some space and run again to resume"
        )
        finished = open_store(path).finished_parts()
        assert 0 < len(finished) < 30
        assert finished == list(range(len(finished)))
        assert not [name for name in contents(path) if name.endswith(".tmp")]
        with pytest.raises(StoreError, match="No space left on device"):
            run(path, plan)  # still full, and still nothing lost
        assert open_store(path).finished_parts()[: len(finished)] == finished
        subprocess.run(["mount", "-o", "remount,size=8m", str(tmp_path / "disk")], check=True)
        run(path, plan)
        assert contents(path) == contents(tmp_path / "undisturbed")


LIMITED = """
import resource, sys
from pathlib import Path
from attnstore.errors import StoreError
from small_store import manifest, run, tables
from attnstore.store.resume import create_or_resume
with create_or_resume(Path(sys.argv[1]), manifest()) as store:
    store.write_part(0, *tables(store.manifest, range(4)))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    run(Path(sys.argv[1]), manifest())
except StoreError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_limit_on_file_size_keeps_what_is_finished(tmp_path: Path) -> None:
    """The same if the system refuses a file for another reason, here a limit on its size."""
    pytest.importorskip("resource", reason="needs POSIX limits")
    with Child(LIMITED, tmp_path / "store") as child:
        out, err = child.communicate()
    assert child.returncode == 0, err
    first = next(
        iter(sorted({str(label).replace("None", "__HIVE_DEFAULT_PARTITION__") for label in [LABELS[1]]}))
    )
    assert out == (
        f"can't write {tmp_path}/store/documents/split=test/label={first}/part-00001.parquet: "
        f"{os.strerror(errno.EFBIG)}; the parts finished so far are kept: allow larger files and run again to resume\n"
    )
    assert open_store(tmp_path / "store").finished_parts() == [0]
    run(tmp_path / "store", manifest())
    run(tmp_path / "undisturbed", manifest())
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


@pytest.mark.slow
def test_a_read_only_disk(tmp_path: Path) -> None:
    """A sealed store on a read-only disk opens, also for an equal run. A new store is refused in one line."""
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
                "kept: make the folder writable and run again to resume"
            )


def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    """In one line, and the folder stays empty."""
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
            "make the folder writable and run again to resume"
        )
        assert list(folder.iterdir()) == []
        folder.chmod(0o755)
