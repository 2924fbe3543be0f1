"""The cost of a run's checks: processor seconds with and without them, in turns over the same documents.

    python benchmarks/checks.py [--model MODEL] [--data DATA] [--limit 300] [--rounds 5] [--part-size 50]

The second run leaves out: SHA-256 of written and sealed files, syncs to the disk, checks of file sizes, checksums of
pages, checks for links. Model and data are the embedded ones by default. Each run reads the first documents, in this
process, with one thread. The order of the two alternates between rounds. Prints Markdown.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")
os.environ.setdefault("RAYON_NUM_THREADS", "1")

import machine
import pyarrow.parquet as pq

import attnstore
from attnstore.store import durable, merged, place, store
from attnstore.store.manifest import StoredFile


class _NoHash:
    """Replaces a SHA-256: a name of the right form."""

    def __init__(self, *_: object) -> None:
        self.name = os.urandom(32).hex()

    def hexdigest(self) -> str:
        return self.name


@contextmanager
def unchecked() -> Iterator[None]:
    """A run inside the block checks and syncs nothing."""
    writer = pq.ParquetWriter

    def plain(*arguments: Any, **options: Any) -> pq.ParquetWriter:
        return writer(*arguments, **options | {"write_page_checksum": False})

    with ExitStack() as patched:
        for owner, name, other in (
            (os, "fsync", lambda _: None),
            (durable, "sync_directory", lambda _: None),
            (place, "sync_directory", lambda _: None),
            (durable, "refuse_links", lambda *_: None),
            (place, "refuse_links", lambda *_: None),
            (StoredFile, "damage", lambda *_, **__: None),
            (pq, "ParquetWriter", plain),
            (store, "first_difference", lambda *_: None),
            (store, "hashlib", SimpleNamespace(sha256=_NoHash, file_digest=_NoHash)),
            (merged, "hashlib", SimpleNamespace(sha256=_NoHash)),
        ):
            patched.enter_context(mock.patch.object(owner, name, other))
        yield


def seconds(folder: Path, **options: Any) -> float:
    """Processor seconds, of all threads, of a run into a new store."""
    began = time.process_time()
    attnstore.run(folder / "run.attn", threads=1, **options)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--part-size", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    options = {name: value for name, value in vars(given).items() if name != "rounds" and value is not None}
    print("\n".join(machine.description()))
    print("\n| round | checked | unchecked | ratio |\n|---|---|---|---|")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        seconds(Path(folder, "first"), **options)  # loads modules, and compiles the kernel
        for number in range(given.rounds):
            found = {}
            for checked in (True, False) if number % 2 else (False, True):
                where = Path(folder, f"{number}-{checked}")
                with ExitStack() as way:
                    if not checked:
                        way.enter_context(unchecked())
                    found[checked] = seconds(where, **options)
            ratios.append(found[True] / found[False])
            print(f"| {number + 1} | {found[True]:.2f} | {found[False]:.2f} | {ratios[-1]:.4f} |", flush=True)
    print(f"\nmedian of the ratios: {statistics.median(ratios):.4f}")


if __name__ == "__main__":
    main()
