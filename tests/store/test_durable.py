"""Promises of attnstore.store.durable: whole files or none, and one writer at a time."""

import errno
import json
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from attnstore.errors import StoreError
from attnstore.store.durable import LOCK, write_file, write_lock

HOLD = """
import sys
from attnstore.store.durable import write_lock
try:
    lock = write_lock(sys.argv[1])
except Exception as error:
    print(error, flush=True)
else:
    print("held", flush=True)
sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that takes the lock, tells how that went, and lives until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def lock_text(**changes: object) -> str:
    ours = {"process": os.getpid(), "host": socket.gethostname(), "started": None}
    return json.dumps(ours | changes)


def test_second_process_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    """While one process holds the lock another is refused, with the holder's number and host."""
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
    assert (tmp_path / LOCK).exists()  # what a killed process leaves ...
    with write_lock(tmp_path):  # ... is stale
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_same_process_is_refused_too(tmp_path: Path) -> None:
    """Two stores open for writing in one process would spoil each other just as well."""
    with write_lock(tmp_path), pytest.raises(StoreError, match=f"process {os.getpid()} on this host"):
        write_lock(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(lambda: lock_text(process=dead_process()), id="its process is gone"),
        pytest.param(lambda: "", id="killed before it was written"),
        pytest.param(lambda: '{"process": 12', id="torn"),
        pytest.param(
            lambda: lock_text(started=1),
            id="another process has its number",
            marks=pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="start times need /proc"),
        ),
    ],
)
def test_stale_lock_is_taken_over(tmp_path: Path, text) -> None:
    """A lock whose holder no longer runs on this host does not stop the next run."""
    (tmp_path / LOCK).write_text(text())
    with write_lock(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()


def test_lock_of_another_host_stands(tmp_path: Path) -> None:
    """Whether a process runs on another host can't be seen from here: the user is told what to look at."""
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
    """If the user removed our lock and somebody else took it, ours to give back is gone."""
    lock = write_lock(tmp_path)
    (tmp_path / LOCK).write_text(lock_text(process=7, host="elsewhere"))
    lock.release()
    assert (tmp_path / LOCK).read_text() == lock_text(process=7, host="elsewhere")


def test_of_many_that_find_a_stale_lock_one_takes_it(tmp_path: Path) -> None:
    """Taking over is atomic: of six processes at once exactly one gets the lock, and all others name it."""
    (tmp_path / LOCK).write_text(lock_text(process=dead_process()))
    processes = [holder(tmp_path) for _ in range(6)]
    answers = [process.stdout.readline() for process in processes]
    for process in processes:
        process.communicate()
    (winner,) = (
        process.pid for process, answer in zip(processes, answers, strict=True) if answer == "held\n"
    )
    assert sum(f"is being written by process {winner} " in answer for answer in answers) == 5


def test_taking_over_waits_for_whoever_is_at_it(tmp_path: Path) -> None:
    """While one process looks at a stale lock and takes it over, another waits, and then is refused."""
    fcntl = pytest.importorskip("fcntl", reason="needs POSIX file locks")
    with (tmp_path / LOCK).open("w+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # we are at it; the lock's content is still stale
        other = holder(tmp_path)
        assert select.select([other.stdout], [], [], 0.7) == ([], [], [])
        lock.write(lock_text())
    answer = other.stdout.readline()
    other.communicate()
    assert f"is being written by process {os.getpid()} on this host" in answer


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_refused_file_leaves_the_old_one_and_no_litter(
    tmp_path: Path, monkeypatch, number: int, step: str
) -> None:
    """Whichever step the system refuses, the old content stands, the temporary file is gone, one line says so."""
    target, temporary = tmp_path / "a" / "file", tmp_path / "b" / "file.tmp"
    write_file(target, b"old", temporary)

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os if step == "fsync" else Path, step, refuse)
    with pytest.raises(StoreError) as refused:
        write_file(target, b"new and longer", temporary)
    message = str(refused.value)
    assert message.startswith(
        f"can't write {target}: {os.strerror(number)}; the parts finished so far are kept: "
    )
    assert message.endswith(" and run again to go on")
    assert target.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "file"]


def test_interrupt_leaves_no_litter(tmp_path: Path, monkeypatch) -> None:
    """Ctrl-C while a file is written passes through, and takes the half-written file with it."""

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "file", b"x", tmp_path / "file.tmp")
    assert list(tmp_path.iterdir()) == []
