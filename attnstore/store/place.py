"""Where a store is: a folder on this machine, or a prefix in a bucket, with the operations that a store needs on both.

Folders need guards against links, pipes and incomplete files (`durable`). Buckets do not: an object is complete or
absent.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from attnstore.buckets import Bucket, is_bucket_address, settings_of
from attnstore.errors import StoreError
from attnstore.store.durable import make_directory, refuse_links, sync_directory, write_inside, writing

#: The place of a store, or of one of its files.
Place = Path | Bucket

#: The most bytes of a manifest or a receipt: enough for a million parts in ten partitions each.
_MOST_BYTES = 4 << 30


def place(named: "str | Place") -> Place:
    """A store's place by its name.

    Raises:
        StoreError: some reader of the files can't use this name.
        UsageError: it is an unsupported address, or not a bucket's.
    """
    if isinstance(named, Bucket):
        return named
    try:
        str(named).encode()
    except UnicodeEncodeError:
        raise StoreError(f"can't use {named}: the name is not UTF-8: rename it") from None
    if "\0" in str(named):
        raise StoreError(f"can't use {named}: there is a NUL in the name")
    # A Path reduces two slashes to one.
    written = str(named).replace(":/", "://", 1) if isinstance(named, Path) else named
    return Bucket.at(written) if is_bucket_address(written) else Path(named)


def read_text(place: Place) -> str:
    """The text of a file of a store.

    Raises:
        OSError: it does not exist, can't be read, or is not a file (so that nobody waits for the other end of a pipe).
        ValueError: it is not UTF-8, or larger than any such file of a run.
    """
    if isinstance(place, Bucket):
        return place.read_bytes().decode()
    with os.fdopen(os.open(place, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(place))
        if found.st_size > _MOST_BYTES:
            raise ValueError(f"it has {found.st_size:,} bytes")
        return file.read().decode()


def opened(place: Place) -> BinaryIO:
    """A file of a store, open for reading and seeking. Raises OSError."""
    return place.open() if isinstance(place, Bucket) else place.open("rb")


def exists(place: Place) -> bool:
    """Whether there is a file. Raises OSError if that can't be determined."""
    try:
        return size(place) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def size(place: "Place | str") -> int | None:
    """Bytes; None for anything but a file. Raises OSError; FileNotFoundError if it does not exist."""
    if isinstance(place, Bucket):
        return place.size()
    found = os.stat(place)  # noqa: PTH116 - a store may have thousands of files: making a Path of a name takes longer
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def names_below(place: Place) -> list[str]:
    """The names of everything except directories below `place`, with forward slashes, sorted. Raises OSError."""
    if isinstance(place, Bucket):
        return list(place.sizes())
    found: list[str] = []
    for folder, _, names in os.walk(place):  # a store may have thousands of files: avoid a Path for each
        inside = "" if folder == str(place) else f"{PurePath(folder).relative_to(place).as_posix()}/"
        found += [inside + name for name in names]
    return sorted(found)


def top_names(place: Place) -> set[str]:
    """The names of files and directories in `place`. Raises OSError; FileNotFoundError if it is not a directory."""
    if isinstance(place, Bucket):
        return {name.partition("/")[0] for name in place.sizes()}
    return {entry.name for entry in place.iterdir()}


def put(root: Place, name: str, content: "bytes | memoryview[int]", temporary: str) -> None:
    """Write `name` in the store: all of it or, whatever happens, nothing. An existing file is replaced.

    `temporary` is its name in a folder until it is complete; a bucket needs none.

    Raises:
        StoreError: a directory on the way is a link, or the system or server refuses.
    """
    if isinstance(root, Bucket):
        with writing(root / name):
            (root / name).put(content)
    else:
        write_inside(root, name, content, temporary)


def put_file(root: Place, name: str, source: Path) -> None:
    """Move a complete file on this machine to its place, `name`. An existing file is replaced.

    For a folder, `source` must be inside it. Raises StoreError as `move`.
    """
    with writing(root / name):
        if isinstance(root, Bucket):
            (root / name).put(source)
            source.unlink()
            return
        refuse_links(root, name)
        with source.open("rb") as file:
            os.fsync(file.fileno())
        make_directory((root / name).parent)
        source.replace(root / name)
        sync_directory((root / name).parent)


@contextmanager
def scratch_in(root: Place, name: str) -> Iterator[Path]:
    """A directory for temporary files, or files for `put_file`: in the store's own directory `name`, or on this
    machine for a bucket. Raises StoreError if it can't be made.
    """
    if not isinstance(root, Bucket):
        refuse_links(root, f"{name}/any")
        with writing(root / name):
            make_directory(root / name)
    with ExitStack() as stack:
        with writing(root / name):
            within = None if isinstance(root, Bucket) else root / name
            found = stack.enter_context(
                TemporaryDirectory(prefix="attnstore-", suffix=".tmp", dir=within, ignore_cleanup_errors=True)
            )
        yield Path(found)


def move(root: Place, source: str, target: str) -> None:
    """Rename a file of a store, and replace an existing one. A bucket copies it first.

    Raises:
        StoreError: a directory on the way is a link, or the system or server refuses.
    """
    with writing(root / target):
        if isinstance(root, Bucket):
            (root / source).copy(root / target)
            (root / source).remove()
            return
        refuse_links(root, source)
        refuse_links(root, target)
        make_directory((root / target).parent)
        (root / source).replace(root / target)
        sync_directory((root / target).parent)


def duplicate(root: Place, source: str, target: str) -> None:
    """Give a store's file a second name, which stays if another file takes its first. Raises StoreError as `move`."""
    with writing(root / target):
        if isinstance(root, Bucket):
            (root / source).copy(root / target)
            return
        refuse_links(root, source)
        refuse_links(root, target)
        make_directory((root / target).parent)
        temporary = root / f"{target}.tmp"
        temporary.unlink(missing_ok=True)
        try:
            os.link(root / source, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(root / source, temporary)
        temporary.replace(root / target)
        sync_directory((root / target).parent)


def remove(root: Place, name: str) -> None:
    """Remove a file of a store; a missing one is not an error. Raises OSError."""
    if isinstance(root, Bucket):
        (root / name).remove()
    else:
        (root / name).unlink(missing_ok=True)


def remove_directory(root: Place, name: str) -> None:
    """Remove a directory of a store and its contents, as far as possible."""
    if not isinstance(root, Bucket):
        shutil.rmtree(root / name, ignore_errors=True)
        return
    with suppress(OSError):
        if names := (root / name).sizes():
            (root / name).remove(list(names))


def below(place: Place, root: Place) -> PurePath:
    """The name of a file or directory of a store, relative to the store."""
    if isinstance(place, Bucket):
        assert isinstance(root, Bucket)  # noqa: S101 - both are of one store
        return place.relative_to(root)
    return place.relative_to(str(root))


def for_arrow(place: Place) -> "Path | BinaryIO":
    """A file of a store, in a form that pyarrow accepts."""
    return place if isinstance(place, Path) else place.open()


def address(place: Place) -> str:
    """The address of a store or of one of its files, whatever the working directory."""
    return str(place.absolute())


def for_polars(addresses: Sequence[str]) -> dict[str, Any]:
    """The arguments with which `polars.scan_parquet` reads only these files."""
    told: dict[str, Any] = {"source": list(addresses), "hive_partitioning": False, "glob": False}
    if addresses and is_bucket_address(addresses[0]):
        told["storage_options"] = settings_of(addresses[0].partition(":")[0])
    return told
