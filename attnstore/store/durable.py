"""Writing that a crash, a full disk or a second writer can't spoil: whole files, and one writer at a time."""

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from attnstore.errors import StoreError

if sys.platform != "win32":
    import fcntl

LOCK = "writer.lock"

_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "allow larger files",
    errno.EACCES: "make the folder writable",
    errno.EPERM: "make the folder writable",
    errno.EROFS: "make the folder writable",
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write `path` into one line that says what is lost: nothing."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "mend that")
        raise StoreError(
            f"can't write {path}: {error.strerror or error}; the parts finished so far are kept: "
            f"{advice} and run again to go on"
        ) from error


def sync_directory(path: Path) -> None:
    """Make a rename or a new entry in `path` survive a power cut."""
    if sys.platform == "win32":  # directories can't be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems can't
            raise
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create a directory and its parents, each synced into the one above."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def write_file(path: Path, content: "bytes | memoryview[int]", temporary: Path) -> None:
    """Put `content` at `path`: all of it or, whatever happens, nothing. `temporary`: same file system."""
    with writing(path):
        make_directory(temporary.parent)
        make_directory(path.parent)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_directory(path.parent)


class WriteLock:
    """The right to write a store, held until `release` or the end of the `with` block."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self._content = content

    def release(self) -> None:
        """Let the next writer in. Harmless when done twice, or when the lock is no longer ours."""
        with suppress(OSError):
            if self.path.read_bytes() == self._content:
                self.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def write_lock(path: str | Path) -> WriteLock:
    """Take the lock of the store at `path` (a directory that exists).

    The lock file names its holder: process, host, and when the process started. One whose process is gone
    (or whose number now belongs to another process: the start times differ) is stale and taken over. That
    can only be known on the holder's own host.

    Raises:
        StoreError: another process holds the lock, or the directory can't be written.
    """
    store = Path(path)
    lock = store / LOCK
    holder = {"process": os.getpid(), "host": socket.gethostname(), "started": _process_start(os.getpid())}
    content = (json.dumps(holder) + "\n").encode()
    while True:
        with writing(lock):
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            if sys.platform != "win32":
                # Held for these few lines only: of two processes that find a stale lock, one takes it over.
                # Not for the whole run: a forked child would keep it alive after its parent was killed.
                with suppress(OSError):  # a file system without flock
                    fcntl.flock(file, fcntl.LOCK_EX)
                with suppress(FileNotFoundError):
                    if not os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                        continue  # released, and perhaps taken anew, between the opening and the flock
                if not lock.exists():
                    continue
            holding = _holder_of(file.read())
            if holding is not None:
                raise StoreError(f"{store} is being written by {holding}")
            with writing(lock):
                file.seek(0)
                file.truncate()
                try:
                    file.write(content)
                except OSError:
                    lock.unlink(missing_ok=True)
                    raise
            return WriteLock(lock, content)


def _holder_of(content: bytes) -> str | None:
    """Who holds a lock file of this content, and what to do about it; None if nobody does any more."""
    try:
        holder = json.loads(content)
        process, host, started = int(holder["process"]), str(holder["host"]), holder["started"]
    except (ValueError, TypeError, KeyError):
        return None  # empty or torn: its writer died before it had the lock
    if host != socket.gethostname():
        return (
            f"process {process} on {host}: wait for it, or, if it is no longer running there, "
            f"remove {LOCK} and run again"
        )
    if not _process_lives(process) or (
        started is not None and _process_start(process) not in (None, started)
    ):
        return None
    return f"process {process} on this host ({host}): wait for it, or stop it, and run again"


def _process_lives(process: int) -> bool:
    if sys.platform == "win32":  # os.kill would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # somebody else's process
    return True


def _process_start(process: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None where there is no /proc."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])  # field 22; the name before it may hold anything
    except (OSError, ValueError, IndexError):
        return None
