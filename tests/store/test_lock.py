"""Promises of attnstore.store.lock: one writer at a time, whom the others can name."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from attnstore.errors import StoreError
from attnstore.store.lease import _holder
from attnstore.store.lock import LOCK, write_lock

HOLD = """
import sys
from attnstore.store.lock import write_lock
try:
    lock = write_lock(sys.argv[1])
except Exception as error:
    print(error, flush=True)
else:
    print("held", flush=True)
sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that takes the lock, reports the outcome, and lives until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def lock_text(process: int | None = None, host: str | None = None) -> str:
    return f"{process or os.getpid()}\n{host or socket.gethostname()}\n"


@pytest.mark.slow
def test_a_second_process_is_refused_and_learns_who_writes(tmp_path: Path) -> None:
    """While one process holds the lock, another is refused with the holder's process number and host."""
    first = holder(tmp_path)
    assert first.stdout.readline() == "held\n"
    with pytest.raises(StoreError) as refused:
        write_lock(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path} is being written by process {first.pid} on this host ({socket.gethostname()}): "
        "wait for it, or stop it, and run again"
    )
    first.kill()
    first.communicate()
    assert (tmp_path / LOCK).exists()  # what a killed process leaves
    with write_lock(tmp_path):  # is a stale lock
        assert (tmp_path / LOCK).read_text() == lock_text()
    assert not (tmp_path / LOCK).exists()


@pytest.mark.slow
def test_the_same_process_is_refused_too(tmp_path: Path) -> None:
    """Two stores open for writing in one process would damage each other just as well."""
    with write_lock(tmp_path), pytest.raises(StoreError, match=f"process {os.getpid()} on this host"):
        write_lock(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(lambda: lock_text(process=dead_process()), id="its process is gone"),
        pytest.param(lambda: "", id="killed before it was written"),
        pytest.param(lambda: "12", id="torn"),
        pytest.param(lambda: lock_text(process=os.getppid()), id="another process has its number"),
        pytest.param(lock_text, id="we have its number"),
        pytest.param(lambda: "x" * 9999, id="something else"),
    ],
)
def test_a_stale_lock_is_taken_over(tmp_path: Path, text) -> None:
    """A lock whose holder no longer runs on this host does not stop the next run."""
    (tmp_path / LOCK).write_text(text())
    with write_lock(tmp_path):
        assert (tmp_path / LOCK).read_text() == lock_text()


def test_a_lock_of_another_host_is_respected(tmp_path: Path) -> None:
    """Whether a process runs on another host can't be seen from here. The error says what to check."""
    text = lock_text(process=7, host="elsewhere")
    (tmp_path / LOCK).write_text(text)
    with pytest.raises(StoreError) as refused:
        write_lock(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path} is being written by process 7 on elsewhere: wait for it, or, if it is no longer running "
        f"there, remove {LOCK} and run again"
    )
    assert (tmp_path / LOCK).read_text() == text


def test_release_leaves_another_writers_lock_alone(tmp_path: Path) -> None:
    """If the user removed our lock and somebody else took it, we do not release theirs."""
    lock = write_lock(tmp_path)
    (tmp_path / LOCK).write_text(lock_text(process=7, host="elsewhere"))
    lock.release()
    assert (tmp_path / LOCK).read_text() == lock_text(process=7, host="elsewhere")


@pytest.mark.slow
def test_only_one_of_many_takes_over_a_stale_lock(tmp_path: Path) -> None:
    """Taking over is atomic: of six processes exactly one gets the lock, and all others name it."""
    (tmp_path / LOCK).write_text(lock_text(process=dead_process()))
    processes = [holder(tmp_path) for _ in range(6)]
    answers = [process.stdout.readline() for process in processes]
    for process in processes:
        process.communicate()
    (winner,) = (
        process.pid for process, answer in zip(processes, answers, strict=True) if answer == "held\n"
    )
    assert sum(f"is being written by process {winner} " in answer for answer in answers) == 5


@pytest.mark.slow
def test_a_lock_without_a_name_yet_is_respected(tmp_path: Path) -> None:
    """The holder has the lock even before its name is in the file. The error then names nobody."""
    fcntl = pytest.importorskip("fcntl", reason="needs POSIX file locks")
    with (tmp_path / LOCK).open("w+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError) as refused:
            write_lock(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path} is being written by another process: wait for it, or stop it, and run again"
    )
    write_lock(tmp_path).release()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_keep_the_lock_of_its_killed_parent(tmp_path: Path) -> None:
    """A forked process that lives on does not hold its parent's lock."""
    script = (
        "import os, sys\nfrom attnstore.store.lock import write_lock\nlock = write_lock(sys.argv[1])\n"
        "child = os.fork()\n"
        "if child: print(child, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    try:
        os.kill(child, 0)  # it lives
        with write_lock(tmp_path):
            assert (tmp_path / LOCK).read_text() == lock_text()
    finally:
        os.kill(child, signal.SIGKILL)
        parent.communicate()


@pytest.mark.parametrize("target", ["precious", "nowhere"])
def test_a_link_in_place_of_the_lock_is_never_followed(tmp_path: Path, target: str) -> None:
    """A store may come from a stranger: the target of its `writer.lock` is neither written nor created."""
    (tmp_path / "precious").write_text("mine")
    store = tmp_path / "store"
    store.mkdir()
    (store / LOCK).symlink_to(tmp_path / target)
    with pytest.raises(
        StoreError, match=r"^can't write .*writer\.lock: Too many levels of symbolic links;.*"
    ):
        write_lock(store)
    assert (tmp_path / "precious").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "store"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_the_lock_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody is at its other end, so the lock is taken."""
    os.mkfifo(tmp_path / LOCK)
    with write_lock(tmp_path), pytest.raises(StoreError, match="is being written by"):
        write_lock(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"lease": 1e30},
        {"lease": 0},
        {"lease": -5},
        {"renewed": math.inf},
        {"process": math.inf},
        {"lease": 10**400},
    ],
)
def test_an_implausible_lease_has_no_holder(change):
    """A lock in a bucket is respected for an hour at most, so that no writer waits for a stranger's lock for ever."""
    sound = {"owner": "a", "process": 1, "host": "h", "machine": "m", "renewed": 1e9, "lease": 60.0}
    assert _holder(json.dumps(sound).encode()) is not None
    assert _holder(json.dumps(sound | change).encode()) is None
    assert _holder(b"[" * 100_000) is None
