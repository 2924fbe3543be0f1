"""One writer at a time: the lock of a store, held by `filelock`, and its holder's name in the file."""

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from attnstore.buckets import Bucket
from attnstore.errors import StoreError
from attnstore.store.durable import writing
from attnstore.store.lease import LOCK, lease
from attnstore.store.place import Place

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: Seconds. A process that has just taken the lock has written its name into the file by then.
_PATIENCE = 1.0
#: Do not follow a link, and do not wait for the other end of a pipe.
_PLAINLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class WriteLock:
    """The right to write a store, held until `release` or the end of the `with` block."""

    def __init__(self, path: Path, lock: "BaseFileLock") -> None:
        self.path = path
        self._lock = lock

    def check(self) -> None:
        """Do nothing: the system keeps the lock as long as this process lives."""

    def release(self) -> None:
        """Let the next writer in. Harmless when done twice, or when the lock is no longer ours."""
        if not self._lock.is_locked:
            return
        with suppress(OSError):
            if _holder(self.path) == _this_process():
                self.path.unlink()
        with suppress(OSError):
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Lock(Protocol):
    """The right to write a store."""

    def check(self) -> None:
        """Raise StoreError if it is lost."""

    def release(self) -> None:
        """Give it back; harmless when done twice."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def write_lock(path: "str | Place") -> Lock:
    """Take the lock of the store at `path` (a directory that exists, or a place in a bucket: see `lease`).

    The system gives the lock back when its holder ends, however it ends. Between hosts it may not do so on every
    file system; so a file that names a process on another host is left alone, locked or not.

    Raises:
        StoreError: another process holds the lock, or the directory can't be written.
    """
    from filelock import FileLock, Timeout  # readers of a store need not wait for it

    if isinstance(path, Bucket):
        return lease(path)
    store = Path(path)
    file = store / LOCK
    lock = FileLock(file, thread_local=False)
    with writing(file):
        try:
            lock.acquire(timeout=_PATIENCE)
        except Timeout:
            raise StoreError(f"{store} is being written by {_worded(_holder(file))}") from None
    try:
        holder = _holder(file)
        if holder is not None and holder[1] != socket.gethostname():
            raise StoreError(f"{store} is being written by {_worded(holder)}")
        # On Windows, nobody can read or write a locked file.
        if holder != _this_process() and sys.platform != "win32":
            with writing(file):
                _sign(file)
    except BaseException:
        lock.release()
        raise
    return WriteLock(file, lock)


def _this_process() -> tuple[int, str]:
    return os.getpid(), socket.gethostname()


def _sign(file: Path) -> None:
    """Write this process and host into the lock file, one line each, in the form of filelock's own marker."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC | _PLAINLY)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write("".join(f"{line}\n" for line in _this_process()))
    except OSError:
        file.unlink(missing_ok=True)
        raise


def _holder(file: Path) -> tuple[int, str] | None:
    """The process and host that a lock file names; None if it names nobody, or can't be read."""
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | _PLAINLY), encoding="utf-8") as opened:
            process, host = opened.read(1024).split("\n")[:2]
            # If a file system has no locks, the line is filelock's, which may add a container's number.
            return int(process), host.partition("?")[0]
    except (OSError, ValueError):
        return None


def _worded(holder: tuple[int, str] | None) -> str:
    """Who holds the lock, and what to do about it."""
    if holder is None:
        return "another process: wait for it, or stop it, and run again"
    process, host = holder
    if host == socket.gethostname():
        return f"process {process} on this host ({host}): wait for it, or stop it, and run again"
    return (
        f"process {process} on {host}: wait for it, or, if it is no longer running there, "
        f"remove {LOCK} and run again"
    )
