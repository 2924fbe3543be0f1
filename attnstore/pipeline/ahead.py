"""An iterator that works ahead of its reader, in a thread of its own."""

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def ahead(items: Generator[T], depth: int = 1) -> Iterator[Iterator[T]]:
    """Run a generator in a thread of its own, `depth` items ahead of its reader; its errors reach the reader.

    It is closed at the end, and with it the files that it reads: left to the interpreter's own end, they would be
    closed when half of it is gone.
    """
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
            with closing(items):
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
