"""A store that several processes write at once: one holds its lock, and lends it to the workers that it started.

A worker only writes parts. The process that holds the lock writes the manifest, resumes and seals, and registers each
reported part with `Store.take_part`.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from attnstore.errors import StoreError
from attnstore.store.manifest import Manifest
from attnstore.store.place import Place
from attnstore.store.store import Store


class LentLock:
    """The lock of another process, the lender, valid while the lender lives."""

    def __init__(self, path: Place, lent: Callable[[], bool]) -> None:
        """`lent`: whether the lender lives, as far as known here."""
        self.path = path
        self._lent = lent

    def check(self) -> None:
        """Raise StoreError if the lender is gone: the next writer may hold the lock by now."""
        if not self._lent():
            raise StoreError(f"the run that writes {self.path} has ended: run again to resume")

    def release(self) -> None:
        """Do nothing: the lock belongs to the lender."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def lent_store(path: Place, manifest: Manifest, lent: Callable[[], bool]) -> Store:
    """The store at `path`, for writing parts while `lent` says that the lender of its lock lives."""
    return Store(path, manifest, LentLock(path, lent))
