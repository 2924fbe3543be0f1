"""A bucket's files for DuckDB, without its own extension for that, httpfs, which may not be installed."""

import errno
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem

from attnstore.buckets import Bucket
from attnstore.store.store import Store

#: Bytes. Few requests fetch footers and other small reads.
_LEAST = 1 << 16


class BucketFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """Read-only files of the stores in buckets of one scheme.

    `sizes`: bytes by address; they never change.
    """

    cachable = False

    def __init__(self, scheme: str, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.protocol = scheme
        self._sizes = dict(sizes)

    @classmethod
    def of(cls, stores: Iterable[Store]) -> "list[BucketFiles]":
        """The files of the stores that are in buckets, one object per scheme. Raises StoreError."""
        found: dict[str, dict[str, int]] = {}
        for store in stores:
            if isinstance(place := store.path, Bucket):
                sizes = {str(place / name): size for name, size in (store.sizes() or {}).items()}
                found.setdefault(place.scheme, {}).update(sizes)
        return [cls(scheme, sizes) for scheme, sizes in found.items()]

    def open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
        if mode != "rb":
            raise PermissionError(errno.EROFS, "it is read and never written", path)
        # DuckDB chooses the size of its reads: what it skips is not fetched.
        return Bucket(path).open(self.size(path), buffered=_LEAST)

    def size(self, path: str) -> int:
        if path not in self._sizes:
            self._sizes[path] = Bucket(path).size()
        return self._sizes[path]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": self.size(path), "type": "file"}

    def exists(self, path: str, **_: Any) -> bool:
        try:
            return self.size(path) >= 0
        except FileNotFoundError:
            return False

    def isfile(self, path: str) -> bool:
        return self.exists(path)

    def isdir(self, _path: str) -> bool:
        return False

    def modified(self, _path: str) -> datetime:
        return datetime(2000, 1, 1, tzinfo=UTC)

    def glob(self, path: str, **_: Any) -> list[str]:
        """The file that a pattern of `sql.pattern` matches: special characters are in brackets."""
        name = re.sub(r"\[([*?\[])\]", r"\1", path)
        return [name] if self.exists(name) else []
