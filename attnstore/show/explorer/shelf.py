"""The stores that an explorer shows, each reopened when a run has added to it."""

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from attnstore.ask.pool import Pool, Work
from attnstore.buckets import Bucket
from attnstore.errors import StoreError
from attnstore.store.manifest import MANIFEST
from attnstore.store.place import Place, names_below
from attnstore.store.receipts import RECEIPTS
from attnstore.store.store import Store, open_store


@dataclass(slots=True)
class _Place:
    path: Place
    state: tuple[object, ...]
    pool: Pool


class Shelf:
    """Stores by their name in a URL: the folder's without `.attn`, with a number if two are equal."""

    def __init__(self, paths: Iterable[Place]) -> None:
        """Raises StoreError if a store can't be read."""
        self._lock = threading.Lock()
        self._places: dict[str, _Place] = {}
        for path in paths:
            open_store(path)  # for anything but a store, its own error says so
            place = _Place(path, _state(path), Pool(open_store(path)))
            self._places[self._free(path)] = place

    def _free(self, path: Place) -> str:
        name = path.resolve().name if isinstance(path, Path) else path.name
        own = re.sub(r"[^\w.-]+", "-", name.removesuffix(".attn")).strip(".-") or "store"
        names = [own, *(f"{own}-{number}" for number in range(2, len(self._places) + 3))]
        return next(name for name in names if name not in self._places)

    @property
    def names(self) -> list[str]:
        return list(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def path(self, name: str) -> Place:
        return self._places[name].path

    def work(self, name: str) -> Work:
        """Work on a store in its current state. Raises StoreError if it can't be read any more."""
        place = self._places[name]
        with self._lock:
            state = _state(place.path)
            if state != place.state:
                fresh = Pool(open_store(place.path))
                place.pool.close()
                place.pool, place.state = fresh, state
            return Work(place.pool)

    def store(self, name: str) -> Store:
        return self.work(name).pool.store

    def close(self) -> None:
        for place in self._places.values():
            place.pool.close()


def _state(path: Place) -> tuple[object, ...]:
    """What changes whenever a run finishes a part, or seals."""
    try:
        if isinstance(path, Bucket):
            return (path / MANIFEST).tag(), len(names_below(path / RECEIPTS))
        manifest = (path / MANIFEST).stat()
    except OSError as error:
        raise StoreError(f"can't read {path / MANIFEST}: {error.strerror or error}") from error
    receipts = path / RECEIPTS
    try:
        finished = receipts.stat().st_mtime_ns
    except OSError:  # a sealed store no longer has any
        finished = 0
    return (manifest.st_ino, manifest.st_mtime_ns, manifest.st_size, finished)
