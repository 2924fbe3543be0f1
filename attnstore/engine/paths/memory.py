"""What becomes of memory that is freed while a model works: kept for the next batch, or given back to the system.

Each batch asks for the same hundreds of megabytes as the one before. glibc gives a large block a mapping of its own and
returns it as soon as it is freed, so that every activation gets fresh pages, which the system has to zero: a fifth
of a forward pass, a third of a training step. Other C libraries have no such numbers to set, and are left alone.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: glibc's mallopt: (parameter of malloc.h, value while memory is kept, value after). Setting any of them ends glibc's
#: own adapting of the two thresholds to what a program frees, so the last are where that would have ended.
_MALLOC = (
    (-4, 0, 65536),  # M_MMAP_MAX: no block gets a mapping of its own
    (-1, 2**31 - 1, 64 << 20),  # M_TRIM_THRESHOLD: keep up to 2 GiB of freed memory
    (-2, 64 << 20, 128 << 10),  # M_TOP_PAD: grow by 64 MiB
    (-3, 32 << 20, 32 << 20),  # M_MMAP_THRESHOLD
)


@contextmanager
def kept() -> Iterator[None]:
    """While it lasts, the C library keeps freed memory for what comes next; then it gives all of it back."""
    libc = _glibc()
    if libc is None:
        yield
        return
    for parameter, during, _ in _MALLOC:
        libc.mallopt(parameter, during)
    try:
        yield
    finally:
        for parameter, _, after in _MALLOC:
            libc.mallopt(parameter, after)
        libc.malloc_trim(0)


def give_back() -> None:
    """Return freed memory to the system now.

    It lies in as many pieces as threads ever asked for some, and in a long run would grow by gigabytes that nothing
    uses.
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
