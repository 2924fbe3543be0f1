"""Controls whether memory that a model frees is kept for the next batch or returned to the system.

Each batch allocates the same hundreds of megabytes as the one before. By default glibc maps each large block separately
and unmaps it when it is freed. Every activation then gets fresh pages, which the kernel has to zero: a fifth of a
forward pass, a third of a training step. Other C libraries have no such parameters, and nothing is changed there.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Arguments of glibc's mallopt: (parameter of malloc.h, value while memory is kept, value afterwards). Setting any of
#: them stops glibc from adapting its two thresholds to what a program frees, so the values afterwards are those that it
#: would have reached.
_MALLOC = (
    (-4, 0, 65536),  # M_MMAP_MAX: no block gets a mapping of its own
    (-1, 2**31 - 1, 64 << 20),  # M_TRIM_THRESHOLD: keep up to 2 GiB of freed memory
    (-2, 64 << 20, 128 << 10),  # M_TOP_PAD: grow by 64 MiB
    (-3, 32 << 20, 32 << 20),  # M_MMAP_THRESHOLD
)


@contextmanager
def kept() -> Iterator[None]:
    """Let the C library keep freed memory inside the `with` block, and return all of it to the system at the end."""
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
    """Return freed memory to the system immediately.

    Every thread that allocates has its own arena, and in a long run these would grow by gigabytes of unused memory.
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
