"""Where data lie: folders, globs, zip and tar archives, the hub; found, opened and decompressed as streams.

Nothing is ever unpacked to disk. An archive with a member outside of itself, or with a link, is refused as a
whole. Whatever a reader raises about a file becomes one line (`reading`).
"""

import bz2
import glob
import io
import lzma
import os
import posixpath
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from attnstore.errors import AttnstoreError, DataError, UsageError
from attnstore.messages import one_line, similar

BUFFER = 1 << 20

#: What a word in the name of a file or folder says about its split.
SPLIT_WORDS = {
    "train": "train", "training": "train", "trainset": "train", "test": "test", "testing": "test",
    "testset": "test", "dev": "dev", "devset": "dev", "validation": "validation", "valid": "valid", "val": "val",
    "eval": "eval", "unsupervised": "unsupervised",
}  # fmt: skip

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}


@dataclass(frozen=True, slots=True)
class Files:
    """Files by name ("/"-separated, relative, sorted part by part), wherever they are.

    `named` says that the user named this one file, instead of a place where files are.
    """

    names: Sequence[str]
    open: Callable[[str], IO[bytes]]
    named: bool = False

    def contents(self, name: str) -> bytes:
        """All of a file's bytes, as they are."""
        with self.open(name) as file:
            return file.read()


def by_parts(name: str) -> list[str]:
    """The order of names: that of a walk through sorted folders."""
    return name.split("/")


def is_hidden(name: str) -> bool:
    """Files of the system's, such as .DS_Store, ._review.txt and .git, are nobody's documents."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def folder(root: Path) -> Files:
    """The files in and under a folder, links followed."""
    names: list[str] = []

    def failed(error: OSError) -> None:
        raise error

    for folder, subfolders, files in os.walk(root, onerror=failed, followlinks=True):
        here = Path(folder)
        above = [here.resolve(), *here.resolve().parents]
        # A link to a folder above would be walked for ever.
        subfolders[:] = [
            each
            for each in subfolders
            if not (here / each).is_symlink() or (here / each).resolve() not in above
        ]
        prefix = here.relative_to(root).as_posix()
        names += files if prefix == "." else [f"{prefix}/{name}" for name in files]
    return Files(sorted(names, key=by_parts), lambda name: (root / name).open("rb"))


def matching(pattern: str) -> Files:
    """The files that match a glob (`**` for any depth). Raises UsageError if there is none."""
    # glob.glob, as Path.glob takes no absolute pattern.
    paths = [Path(path) for path in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    paths = [path for path in paths if path.is_file()]
    if not paths:
        raise UsageError(f"no file matches {one_line(pattern)}")
    root = Path(os.path.commonpath([path.parent for path in paths]))
    names = sorted((path.relative_to(root).as_posix() for path in paths), key=by_parts)
    return Files(names, lambda name: (root / name).open("rb"))


def zip_members(path: Path) -> Files:
    """The files in a zip archive. Raises DataError for one that is not to be trusted."""
    archive = zipfile.ZipFile(path)
    entries = {}
    for entry in archive.infolist():
        name = _safe_name(entry.filename)
        if entry.is_dir():
            continue
        if (entry.external_attr >> 16) & 0o170000 == 0o120000:
            raise DataError(
                f"the archive holds a link ({one_line(name)}), which is never followed: unpack it yourself"
            )
        entries[name] = entry
    return Files(sorted(entries, key=by_parts), lambda name: archive.open(entries[name]))


def tar_members(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The files of a tar archive in its own order, decompressed on the way: name, and how to read it.

    A member can be read until the next is asked for.
    Raises DataError for an archive that is damaged, cut off, or not to be trusted.
    """
    with decompressed(path.open("rb")) as stream:
        forward = _Forward(stream)
        # Not tarfile's own stream mode: that takes four times as long.
        with tarfile.TarFile(fileobj=forward, mode="r", encoding="utf-8") as tar:  # type: ignore[arg-type]
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would remember every member
                name = _safe_name(member.name)
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse() or member.size < 0:
                    kind = "a link" if member.issym() or member.islnk() else "a special file"
                    raise DataError(
                        f"the archive holds {kind} ({one_line(name)}), which is never followed: unpack it yourself"
                    )

                def read(size: int = member.size, name: str = name) -> bytes:
                    content = forward.read(size)
                    if len(content) < size:
                        raise DataError(f"{one_line(path.name)} is cut off in the middle of {one_line(name)}")
                    return content

                yield name, read
        # tarfile takes a damaged header for the end; the real end is a block of zeros, or the end of the file.
        if forward.last.strip(b"\0"):
            raise DataError(f"{one_line(path.name)} is damaged or cut off after {forward.tell():,} bytes")


class _Forward:
    """A decompressed stream with as much seeking as tarfile needs: none backwards."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._at = 0
        self.last = b""  # what was read last

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        self.last = self._stream.read(size)
        self._at += len(self.last)
        return self.last

    def seek(self, to: int) -> int:
        while self._at < to and self.read(min(to - self._at, BUFFER)):
            pass
        return self._at


def _safe_name(name: str) -> str:
    """A member's name, checked: nothing is ever unpacked, but who writes such names is not to be trusted."""
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or name.startswith("/") or re.match(r"[A-Za-z]:/", name):
        raise DataError(
            f"the archive holds a member outside of itself ({one_line(name)}): it is refused as a whole"
        )
    return "/".join(parts)


def hub_files(address: str) -> Files:
    """The files under an `hf://datasets/OWNER/NAME[@REVISION][/PATH]` (a glob, too), through the hub's client.

    Names are relative to the dataset. Raises UsageError if there is nothing.
    """
    from huggingface_hub import HfFileSystem

    path = address.removeprefix("hf://").rstrip("/")
    if not re.match(r"datasets/[^/]+/[^/]+", path):
        raise UsageError(
            f"{one_line(address)}: a dataset of the hub is hf://datasets/OWNER/NAME, or a path in it"
        )
    hub = HfFileSystem()
    is_glob = glob.has_magic(path)
    found = hub.glob(path) if is_glob else hub.find(path)
    paths = [str(each) for each in found if not is_glob or hub.isfile(each)]  # type: ignore[no-untyped-call]
    if not paths:
        raise UsageError(f"no such dataset or file on the hub: {one_line(address)}")
    names = {"/".join(each.split("/")[3:]): each for each in paths}
    named = not is_glob and len(paths) == 1 and posixpath.basename(paths[0]) == posixpath.basename(path)
    return Files(sorted(names, key=by_parts), lambda name: hub.open(names[name], "rb"), named)


def compression(file: IO[bytes]) -> str | None:
    """The compression that a seekable file's first bytes tell, or None; the file is left at its start."""
    head = file.read(6)
    file.seek(0)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def decompressed(file: IO[bytes]) -> IO[bytes]:
    """A seekable file's bytes as a buffered stream, decompressed if need be."""
    kind = compression(file)
    stream: Any = file
    if kind in ("gzip", "zstd"):
        stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), kind)
    elif kind == "bz2":
        stream = bz2.BZ2File(file)
    elif kind == "xz":
        stream = lzma.LZMAFile(file)  # noqa: SIM115 - closed by the caller, with the stream around it
    return io.BufferedReader(stream, BUFFER)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever a reader raises about its file into a DataError of one line about `what`."""
    try:
        yield
    except AttnstoreError:
        raise
    except Exception as error:
        # The hub's client lets its HTTP library's own errors through, none of them an OSError.
        if not what.startswith("hf://") and not isinstance(error, _UNREADABLE):
            raise
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(
            f"{one_line(what)} can't be read: {one_line(said) or type(error).__name__}"
        ) from error


_UNREADABLE = (
    OSError,
    EOFError,
    pa.ArrowException,
    zipfile.BadZipFile,
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    UnicodeError,  # names of columns or members
    NotImplementedError,  # a zip archive with a compression that zipfile does not have
    RuntimeError,  # an encrypted zip archive
)


def similar_path(path: Path) -> str:
    """The end of a message: did you mean its closest neighbour?"""
    try:
        return similar(path.name, sorted(each.name for each in path.parent.iterdir()))
    except OSError:
        return ""
