"""A file's bytes as a stream, decompressed according to its first bytes; a reader's errors become one line."""

import bz2
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa

from attnstore.errors import AttnstoreError, DataError, UsageError
from attnstore.messages import one_line

BUFFER = 1 << 20

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}

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


def compression(file: IO[bytes]) -> str | None:
    """The compression, by a seekable file's first bytes, or None; the file is left at its start."""
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


class TooLargeError(DataError):
    """A row or a text file with more bytes than a document may have."""


def too_large(most: int) -> str:
    """The reason for leaving out a row or a text file with more bytes."""
    return f"more than {most:,} bytes (--max-document-bytes)"


def within(name: str, content: bytes, most: int) -> bytes:
    """A file's bytes. Raises TooLargeError if there are more than `most`."""
    if len(content) > most:
        raise TooLargeError(f"{one_line(name)} has {too_large(most)}")
    return content


def lines(stream: IO[bytes], most: int) -> Iterator[bytes | None]:
    """The lines of a stream; None for a line of more than `most` bytes, which is skipped and never in memory."""
    while line := stream.readline(most + 2):
        if len(line) > most and not line.endswith(b"\n"):
            read_over(stream)
            yield None
        else:
            yield line


def read_over(stream: IO[bytes]) -> None:
    """Go to the end of a stream's line."""
    while (more := stream.readline(BUFFER)) and not more.endswith(b"\n"):
        pass


class _InUtf8(io.RawIOBase):
    """A text in another encoding as UTF-8. Bytes that are invalid in it stay as they are, and invalid in UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._text = io.TextIOWrapper(file, encoding, "surrogateescape", newline="")
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = self._text.read(BUFFER >> 4).encode("utf-8", "surrogateescape")
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        self._text.close()
        super().close()


def known_encoding(encoding: str) -> None:
    """Raise UsageError for an unknown encoding."""
    try:
        "".encode(encoding)
    except (LookupError, UnicodeError, ValueError):  # ValueError: a NUL in the name
        raise UsageError(
            f"--encoding {one_line(encoding)} is not known: utf-8, cp1252, latin-1 and utf-16 are some"
        ) from None


def in_utf8(file: IO[bytes], encoding: str) -> IO[bytes]:
    """A text's bytes as UTF-8, converted from that encoding. What can't be decoded is reported row by row."""
    return io.BufferedReader(_InUtf8(file, encoding), BUFFER)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever a reader raises about its file into a DataError of one line about `what`."""
    try:
        yield
    except AttnstoreError:
        raise
    except Exception as error:
        # Remote file systems let their HTTP library's errors through, which are not OSErrors.
        if "://" not in what and not isinstance(error, _UNREADABLE):
            raise
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(
            f"{one_line(what)} can't be read: {one_line(said) or type(error).__name__}"
        ) from error
