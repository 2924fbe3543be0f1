"""Safe writing: a file is complete or absent after a crash or on a full disk, and no link redirects it."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from attnstore.errors import StoreError

_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "allow larger files",
    errno.EACCES: "make the folder writable",
    errno.EPERM: "make the folder writable",
    errno.EROFS: "make the folder writable",
}


@contextmanager
def writing(path: object) -> Iterator[None]:
    """Turn an operating system's refusal to write `path` into a one-line error, which says that nothing is lost."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "fix that")
        raise StoreError(
            f"can't write {path}: {error.strerror or error}; the parts finished so far are kept: "
            f"{advice} and run again to resume"
        ) from error


def sync_directory(path: Path) -> None:
    """Make a rename or a new entry in `path` survive a power cut."""
    if sys.platform == "win32":  # directories can't be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems can't do it
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


def refuse_links(root: Path, name: str) -> None:
    """Raise StoreError if a directory on the way from `root` to `root / name` is a link: it may lead out of `root`."""
    for directory in reversed((root / name).relative_to(root).parents[:-1]):
        if (root / directory).is_symlink():
            raise StoreError(
                f"can't write {root / name}: {root / directory} is a link, and nothing outside of the store is "
                "written: put a directory in its place and run again"
            )


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file created here for writing. Raises OSError; FileExistsError if something exists there, even a link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        yield file


def write_inside(root: Path, name: str, content: "bytes | memoryview[int]", temporary: str) -> None:
    """`write_file` inside the directory `root`, by names relative to it, through no link.

    Raises:
        StoreError: a directory on the way is a link, or the system refuses.
    """
    refuse_links(root, name)
    refuse_links(root, temporary)
    write_file(root / name, content, root / temporary)


def write_file(path: Path, content: "bytes | memoryview[int]", temporary: Path) -> None:
    """Write `content` to `path`: all of it or, whatever happens, nothing. `temporary`: a name on the same file system.

    Whatever has either name, even a link, is replaced and never written through.

    Raises:
        StoreError: the system refuses.
    """
    with writing(path):
        make_directory(temporary.parent)
        make_directory(path.parent)
        try:
            temporary.unlink(missing_ok=True)  # what a killed run left
            with new_file(temporary) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_directory(path.parent)
