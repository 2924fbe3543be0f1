"""Zip and tar archives: their members, never unpacked to disk.

An archive with a member outside of itself, or with a link, is refused as a whole.
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
#: What follows the name in the header of a regular file whose name and size stand in it, as tar programs write it.
_PLAIN = re.compile(
    rb".{24}(?P<size>[0-7]{11})[\0 ].{12}(?P<sum>(?P<octal>[0-7]{6})[\0 ]{2})[0\0].{100}ustar.{83}\0.{166}",
    re.DOTALL,
)
_NAME = 100  # bytes
#: A name of which no part is empty or begins with a dot, as of nearly all members.
_SAFE = re.compile(r"(?:[^./\\:][^/\\:]*/)*[^./\\:][^/\\:]*")


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
    return Files(sorted(entries, key=by_parts), lambda name: archive.open(entries[name]), packed=True)


def tar_members(path: Path) -> Iterator[tuple[str, "Member"]]:
    """The files of a tar archive in its own order, decompressed on the way, by name.

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
                if not member.isdir():
                    if not member.isreg() or member.issparse() or member.size < 0:
                        kind = "a link" if member.issym() or member.islnk() else "a special file"
                        raise DataError(
                            f"the archive holds {kind} ({one_line(name)}), which is never followed: unpack it yourself"
                        )
                    yield name, Member(path.name, name, member.size, forward)
                if not tar.pax_headers:  # else these are of all files that follow
                    for name, size in _plain_members(forward, tar):
                        yield name, Member(path.name, name, size, forward)
        # tarfile takes a damaged header for the end; the real end is a block of zeros, or the end of the file.
        if forward.last.strip(b"\0"):
            raise DataError(f"{one_line(path.name)} is damaged or cut off after {forward.tell():,} bytes")


def _plain_members(forward: "_Forward", tar: tarfile.TarFile) -> Iterator[tuple[str, int]]:
    """The names and sizes of the next members, as long as they are files like most; `tar` then stands at what is not.

    tarfile makes an object of twenty attributes of each, which takes ten times as long.
    """
    while True:
        forward.seek(tar.offset)
        block = forward.piece(tarfile.BLOCKSIZE)
        name, plain = block[:_NAME].partition(b"\0")[0], _PLAIN.fullmatch(block, _NAME)
        # The sum of all bytes, those of its own field taken for spaces.
        if (
            plain is None
            or sum(block) - sum(plain["sum"]) + sum(b" " * 8) != int(plain["octal"], 8)
            or name.endswith(b"/")
            or not name
        ):
            forward.unread(block)
            return
        size = int(plain["size"], 8)
        tar.offset += tarfile.BLOCKSIZE + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        yield _safe_name(name.decode("utf-8", "surrogateescape")), size


def put_aside(path: Path, wanted: Callable[[str], bool]) -> Files:
    """The wanted members of a tar archive as files to be read in any order, in a folder that ends with the process.

    They are written there under numbers of ours: no name of the archive's touches the disk.
    Raises DataError for an archive that is damaged, cut off, or not to be trusted.
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
    """A file of a tar archive, as long as the next is not asked for."""

    archive: str
    name: str
    size: int
    stream: "_Forward"

    def contents(self, most: int = MAX_DOCUMENT_BYTES) -> bytes:
        """All of it. Raises TooLargeError if that is more than `most` bytes."""
        if self.size > most:
            raise TooLargeError(f"{one_line(self.name)} has {too_large(most)}")
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """All of it, piece by piece. Raises DataError where the archive ends inside of it."""
        left = self.size
        while left:
            piece = self.stream.piece(min(left, BUFFER))
            if not piece:
                raise DataError(f"{one_line(self.archive)} is cut off in the middle of {one_line(self.name)}")
            left -= len(piece)
            yield piece


class _Forward:
    """A decompressed stream with as much seeking as tarfile needs: none backwards."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._at = 0
        self._again = b""  # what is to be read once more
        self.last = b""  # what was read last

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        """What tarfile reads: headers. A header may say itself how large it is."""
        if size > _LARGEST_HEADER:
            raise DataError(
                f"the archive is damaged or not to be trusted: it has a header of {size:,} bytes, a name of a file"
            )
        return self.piece(size)

    def piece(self, size: int) -> bytes:
        if self._again:
            self.last, self._again = self._again[:size], self._again[size:]
        else:
            self.last = self._stream.read(size)
        self._at += len(self.last)
        return self.last

    def unread(self, block: bytes) -> None:
        """Take back what was read last."""
        self._again = block
        self._at -= len(block)

    def seek(self, to: int) -> int:
        while self._at < to and self.piece(min(to - self._at, BUFFER)):
            pass
        return self._at


def _safe_name(name: str) -> str:
    """A member's name, checked: nothing is ever unpacked, but who writes such names is not to be trusted."""
    if _SAFE.fullmatch(name):
        return name
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or name.startswith("/") or re.match(r"[A-Za-z]:/", name):
        raise DataError(
            f"the archive holds a member outside of itself ({one_line(name)}): it is refused as a whole"
        )
    return "/".join(parts)
