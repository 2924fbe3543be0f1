"""An iterator that works ahead of its reader, in a thread of its own."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def ahead(items: Iterator[T], depth: int = 1) -> Iterator[Iterator[T]]:
    """Run an iterator in a thread of its own, `depth` items ahead of its reader; its errors reach the reader."""
    line: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    gone = threading.Event()

    def put(item: tuple[T | None, BaseException | None]) -> bool:
        while not gone.is_set():
            try:
                line.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def fill() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
        except BaseException as error:  # whatever it is belongs to the reader
            put((None, error))
        else:
            put((None, StopIteration()))

    def read() -> Iterator[T]:
        while True:
            item, error = line.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc] # an item without an error is a T

    thread = threading.Thread(target=fill, name="attnstore-ahead", daemon=True)
    thread.start()
    try:
        yield read()
    finally:
        gone.set()
        thread.join()
