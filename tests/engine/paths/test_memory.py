"""Freed memory is kept while a model works, and returned when it is done."""

import ctypes
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="only glibc can be told what to do with freed memory",
)

#: Prints how many fresh pages a buffer of 96 MiB takes when it is allocated again and every page is written to: while
#: memory is kept, and after an error has ended that; and the resident MiB before, meanwhile and afterwards.
MEASURE = """
import contextlib, ctypes, resource
from attnstore.engine.paths import memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
SIZE = 96 << 20

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(SIZE)
    ctypes.memset(block, 1, SIZE)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

before = resident()
with contextlib.suppress(ValueError), memory.kept():
    pages()
    kept, meanwhile = pages(), resident()
    raise ValueError
pages()
print(kept, pages(), before, meanwhile, resident())
"""


@pytest.fixture(scope="module")
def measured():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    return [int(figure) for figure in done.stdout.split()]


def test_a_repeated_allocation_takes_no_fresh_pages_while_memory_is_kept(measured):
    """Afterwards all its pages are fresh again: at least 48, if the system uses pages of 2 MiB."""
    kept, later, *_ = measured
    assert kept < 24
    assert later >= 48


def test_kept_memory_is_returned_at_the_end(measured):
    """Within 8 MiB of the 96."""
    *_, before, meanwhile, after = measured
    assert meanwhile >= before + 88
    assert after <= before + 8
