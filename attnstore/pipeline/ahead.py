"""An iterator that works ahead of its reader, in a separate thread."""

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def ahead(items: Generator[T], depth: int = 1) -> Iterator[Iterator[T]]:
    """Run a generator in a separate thread, `depth` items ahead of its reader; its errors reach the reader.

    At the end it is closed, with the files that it reads: during the interpreter's shutdown, closing them would come
    too late.
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
        except BaseException as error:  # any error belongs to the reader
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
