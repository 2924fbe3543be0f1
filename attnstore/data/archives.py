"""Zip and tar archives: their members, never unpacked to disk.

An archive with a member outside itself, or with a link, is refused as a whole.
"""

import re
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from attnstore.config import MAX_DOCUMENT_BYTES
from attnstore.data.files import Files, by_parts
from attnstore.data.streams import BUFFER, TooLargeError, decompressed, too_large
from attnstore.errors import DataError
from attnstore.messages import one_line

_LARGEST_HEADER = 1 << 20  # bytes


def zip_members(path: Path) -> Files:
    """The files in a zip archive. Raises DataError for an unsafe one."""
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
    return Files(sorted(entries, key=by_parts), lambda name: archive.open(entries[name]), packed=True)


def tar_members(path: Path) -> Iterator[tuple[str, "Member"]]:
    """The files of a tar archive in its own order, decompressed while reading, by name.

    A member can be read until the next is requested. Raises DataError for an archive that is damaged, cut off, or
    unsafe.
    """
    with decompressed(path.open("rb")) as stream:
        forward = _Forward(stream)
        # Not tarfile's own stream mode, which is four times as slow.
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
                yield name, Member(path.name, name, member.size, forward)
        # tarfile takes a damaged header for the end; the real end is a block of zeros, or the end of the file.
        if forward.last.strip(b"\0"):
            raise DataError(f"{one_line(path.name)} is damaged or cut off after {forward.tell():,} bytes")


def put_aside(path: Path, wanted: Callable[[str], bool]) -> Files:
    """The wanted members of a tar archive as files for reading in any order, in a folder that is removed with the
    process.

    The files have numbers for names: no name of the archive's touches the disk. Raises DataError for an archive that
    is damaged, cut off, or unsafe.
    """
    aside = tempfile.TemporaryDirectory(prefix="attnstore-")
    places: dict[str, Path] = {}
    for name, member in tar_members(path):
        if wanted(name):
            places[name] = Path(aside.name) / str(len(places))
            with places[name].open("wb") as file:
                file.writelines(member.pieces())

    def opened(name: str, _keep: object = aside) -> IO[bytes]:
        return places[name].open("rb")

    return Files(sorted(places, key=by_parts), opened, packed=True)


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a tar archive, readable until the next is requested."""

    archive: str
    name: str
    size: int
    stream: "_Forward"

    def contents(self, most: int = MAX_DOCUMENT_BYTES) -> bytes:
        """The whole content. Raises TooLargeError if it is more than `most` bytes."""
        if self.size > most:
            raise TooLargeError(f"{one_line(self.name)} has {too_large(most)}")
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The whole content, piece by piece. Raises DataError if the archive ends inside it."""
        left = self.size
        while left:
            piece = self.stream.piece(min(left, BUFFER))
            if not piece:
                raise DataError(f"{one_line(self.archive)} is cut off in the middle of {one_line(self.name)}")
            left -= len(piece)
            yield piece


class _Forward:
    """A decompressed stream with the seeking that tarfile needs: only forwards."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._at = 0
        self.last = b""  # the last bytes read

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        """Read for tarfile, which reads headers. A header may itself state its size."""
        if size > _LARGEST_HEADER:
            raise DataError(
                f"the archive is damaged or not to be trusted: it has a header of {size:,} bytes, a name of a file"
            )
        return self.piece(size)

    def piece(self, size: int) -> bytes:
        self.last = self._stream.read(size)
        self._at += len(self.last)
        return self.last

    def seek(self, to: int) -> int:
        while self._at < to and self.piece(min(to - self._at, BUFFER)):
            pass
        return self._at


def _safe_name(name: str) -> str:
    """A member's name, checked: nothing is ever unpacked, but an archive with unsafe names is not trustworthy."""
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or name.startswith("/") or re.match(r"[A-Za-z]:/", name):
        raise DataError(
            f"the archive holds a member outside of itself ({one_line(name)}): it is refused as a whole"
        )
    return "/".join(parts)
