"""Data that are not on this machine's disk: other addresses, the hub, standard input.

What a web server or a pipe sends is first copied to a file, because a source is read more than once.
"""

import glob
import posixpath
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from attnstore.buckets import is_bucket_address
from attnstore.data.files import Files, by_parts
from attnstore.data.streams import BUFFER
from attnstore.errors import DataError, UsageError
from attnstore.messages import first_line, one_line

#: The packages with the file systems that fsspec lacks.
_PACKAGES = {
    "http": "'attnstore[remote]'",
    "https": "'attnstore[remote]'",
}
#: Other programs' names for the schemes of buckets.
_ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "azure": "az"}
#: The name of a data set of the hub.
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def without_secrets(address: str) -> str:
    """An address without possible secrets: a password, and a signature in the query.

    In a bucket's address, anything after `?` is part of a name.
    """
    if is_bucket_address(address):
        return address
    parts = urlsplit(address)
    if not parts.netloc and not parts.query:
        return address
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def is_hub_name(data: str) -> bool:
    """Whether `data` may be a data set of the hub: OWNER/NAME, if there is no local folder OWNER."""
    return _HUB_NAME.fullmatch(data) is not None and not Path(data).parent.exists()


def standard_input() -> Path:
    """A file with all of standard input, which is read once per process."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("--data - reads the standard input, but nothing is piped into it")
    return _put_aside("stdin", lambda: sys.stdin.buffer, "-")


def fetched(address: str) -> Path:
    """A file with a web server's content at an address, fetched once per process.

    Raises UsageError without aiohttp, DataError if it can't be fetched.
    """
    name = posixpath.basename(unquote(urlsplit(address).path)) or "data"
    file_system, path = _file_system(address)
    try:
        return _put_aside(name, lambda: file_system.open(path, "rb"), address)
    except Exception as error:
        # aiohttp's errors have no common class and name the whole address; fsspec hides them behind its own.
        shown, why = one_line(without_secrets(address)), error.__cause__ or error
        status = getattr(why, "status", None)
        if status == 404:
            raise UsageError(f"there is nothing at {shown}") from None
        said = (
            f"{status} {getattr(why, 'message', '')}" if status else first_line(why).replace(address, shown)
        )
        raise DataError(f"{shown} can't be fetched: {said}") from None


_aside: dict[str, tuple[Path, tempfile.TemporaryDirectory[str]]] = {}


def copied(files: Files, name: str, address: str) -> Path:
    """A copy of a file at an address on this machine's disk, made once per process and state of the file."""
    key = f"{address} {name} {files.states.get(name, '')}"
    return _put_aside(posixpath.basename(name), lambda: files.open(name), key)


def _put_aside(name: str, open_: Callable[[], IO[bytes]], key: str) -> Path:
    """A copy in a folder that is removed with the process, made at the first call for `key`."""
    if key not in _aside:
        folder = tempfile.TemporaryDirectory(prefix="attnstore-")
        path = Path(folder.name) / name.replace("\0", "")[-200:]
        with open_() as source, path.open("wb") as copy:
            shutil.copyfileobj(source, copy, BUFFER)
        _aside[key] = path, folder
    return _aside[key][0]


def remote_files(address: str) -> Files:
    """The files at, or under, an address that fsspec knows (a glob, too); names are relative to it.

    Raises UsageError if there is nothing, or if the package for such addresses is not installed.
    """
    file_system, path = _file_system(address)
    if file_system.isfile(path):
        return Files([posixpath.basename(path)], lambda _: file_system.open(path, "rb"), named=True)
    found = [
        str(each) for each in (file_system.glob(path) if glob.has_magic(path) else file_system.find(path))
    ]
    paths = [each for each in found if file_system.isfile(each)] if glob.has_magic(path) else found
    if not paths:
        raise UsageError(f"there is nothing at {one_line(without_secrets(address))}")
    folders = [posixpath.dirname(each) for each in paths]
    root = posixpath.commonpath(folders) if glob.has_magic(path) else path.rstrip("/")
    names = {posixpath.relpath(each, root): each for each in paths}
    return Files(
        sorted(names, key=by_parts),
        lambda name: file_system.open(names[name], "rb"),
        chosen=glob.has_magic(path),
    )


def _file_system(address: str) -> tuple[Any, str]:
    """The file system for an address, and the path in it. Raises UsageError if there is none."""
    from fsspec.core import url_to_fs

    protocol = address.partition("://")[0]
    if protocol in _ALIASES:
        raise UsageError(f"{protocol}:// is not read: write {_ALIASES[protocol]}://BUCKET/NAME")
    try:
        file_system, path = url_to_fs(address)
    except ImportError:
        package = _PACKAGES.get(protocol, f"what fsspec reads {one_line(protocol)}:// with")
        raise UsageError(f"{one_line(protocol)}:// needs another package: pip install {package}") from None
    except ValueError as error:
        raise UsageError(
            f"{one_line(without_secrets(address))} is not a readable URL: {first_line(error)}"
        ) from None
    return file_system, path


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
    return Files(sorted(names, key=by_parts), lambda name: hub.open(names[name], "rb"), named, chosen=is_glob)
