"""How long the explorer's pages take for one reader and for four at once, and how much memory the server needs.

    python benchmarks/explorer.py imdb.attn [--runs 20] [--requests 100] [--readers 4]

The server is a separate process, and pages are fetched as by a browser. The first line is the very first page, from the
start of the request, with everything cold except the file system. Words and documents are drawn from the store with a
seed, a different one for each request, so that no answer comes from a cache.
"""

import argparse
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from urllib.parse import quote_plus, urljoin
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]
from machine import description

from attnstore.ask.sql import run_sql
from attnstore.store.store import open_store


def addresses(store: Path, seed: int) -> dict[str, list[str]]:
    """Addresses below the store's, for each kind of page."""
    chance = random.Random(seed)
    opened = open_store(store)
    words = run_sql(
        opened,
        "SELECT word FROM totals WHERE piece = 0 GROUP BY word ORDER BY sum(new_word) DESC, word LIMIT 500",
    )
    words = chance.sample(words.column(0).to_pylist(), 100)
    numbers = chance.sample(range(opened.manifest.documents), min(100, opened.manifest.documents))
    layers = opened.manifest.layers
    return {
        "overview": [""],
        "documents": ["documents", "documents?verdict=wrong&order=surest", "documents?order=longest&page=3"],
        "documents with a text": [f"documents?text={quote_plus(word)}" for word in words],
        "documents with a word": [f"documents?word={quote_plus(word)}&order=least+certain" for word in words],
        "a document": [f"documents/{number}" for number in numbers],
        "another layer": [
            f"documents/{number}/heatmap?layer={1 + place % layers}" for place, number in enumerate(numbers)
        ],
        "words by a part": [f"words?q={quote_plus(word[:3])}" for word in words],
        "a word": [f"word?word={quote_plus(word)}" for word in words],
        "its contexts": [f"word/contexts?word={quote_plus(word)}" for word in words],
        "confusion": ["questions/confusion"],
        "SQL": ["sql?sql=select+label,+avg(length)+from+documents+group+by+all"],
    }


def fetched(address: str) -> float:
    """Seconds until a page has arrived."""
    began = time.perf_counter()
    with urlopen(address) as answer:  # noqa: S310 - our own server's
        answer.read()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(*description(), sep="\n")
    kinds = addresses(options.store, options.seed)
    command = [sys.executable, "-m", "attnstore", "browse", str(options.store), "--no-open", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None  # noqa: S101 - it is a pipe
        home = server.stdout.readline().split()[0]
        process = psutil.Process(server.pid)
        with urlopen(home) as answer:  # noqa: S310 - as above
            root = answer.url
        print(f"\nthe first page again: {fetched(root) * 1000:.0f} ms\n")
        print("| page | median, ms | slowest, ms |\n|---|---|---|")
        for kind, pages in kinds.items():
            fetched(urljoin(root, pages[0]))
            times = [fetched(urljoin(root, pages[each % len(pages)])) * 1000 for each in range(options.runs)]
            print(f"| {kind} | {statistics.median(times):.0f} | {max(times):.0f} |", flush=True)
        mixed(root, kinds, options, process)
        server.terminate()


def mixed(
    root: str, kinds: dict[str, list[str]], options: argparse.Namespace, process: psutil.Process
) -> None:
    """Several readers at once, each reading pages of all kinds in turn."""
    times: dict[str, list[float]] = defaultdict(list)
    faults: list[str] = []
    peak = process.memory_info().rss

    def read(first: int) -> None:
        for number in range(first, options.requests, options.readers):
            kind = list(kinds)[number % len(kinds)]
            address = urljoin(root, kinds[kind][number % len(kinds[kind])])
            try:
                times[kind].append(fetched(address) * 1000)
            except OSError as error:
                faults.append(f"{address}: {error}")

    began = time.perf_counter()
    readers = [threading.Thread(target=read, args=(each,)) for each in range(options.readers)]
    for reader in readers:
        reader.start()
    while any(reader.is_alive() for reader in readers):
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.02)
    every = [value for several in times.values() for value in several]
    print(
        f"\n{options.requests} mixed requests by {options.readers} readers: {time.perf_counter() - began:.1f} s,"
        f" median {statistics.median(every):.0f} ms, slowest {max(every):.0f} ms, {len(faults)} errors,"
        f" {peak / 2**20:,.0f} MiB at the peak"
    )
    print(*faults, sep="\n")


if __name__ == "__main__":
    main()
