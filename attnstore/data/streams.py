"""A file's bytes as a stream, decompressed by what its first bytes say; what a reader raises becomes one line."""

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

from attnstore.errors import AttnstoreError, DataError
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
        # What fetches from elsewhere lets its HTTP library's own errors through, none of them an OSError.
        if "://" not in what and not isinstance(error, _UNREADABLE):
            raise
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(
            f"{one_line(what)} can't be read: {one_line(said) or type(error).__name__}"
        ) from error
