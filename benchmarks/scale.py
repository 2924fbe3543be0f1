"""Costs that grow with the number of documents, parts and workers: measured at several sizes, with a fit.

    python benchmarks/scale.py parts [--parts 100,1000,10000]
    python benchmarks/scale.py terms [--documents 2000,8000,32000]
    python benchmarks/scale.py seal [--files 6,24,96] [--megabytes 512]
    python benchmarks/scale.py workers [--seconds 30] [--workers 1,8,64,512]

`parts`: stores with that many parts, all with the same five real reviews and twelve layers, without forward passes.
Measures resuming such a run, and sealing, opening, asking and browsing its store: CPU seconds and additional memory.
`terms`: real IMDb reviews, tokenised and divided into words, without forward passes: the number of rows of the totals.
`seal`: made-up tokens, half of them with terms that no other file has, summed as when a store is sealed: memory, and
temporary space on the disk. `--megabytes`: the memory of sums before they are written as a sorted run.
`workers`: the code that hands out parts to simulated workers: each part takes `--seconds` of a simulated clock, while
the run's own work takes its real time. Prints Markdown.
"""

import argparse
import gc
import json
import math
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from heapq import heappop, heappush
from pathlib import Path
from queue import Empty
from threading import Event
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import host
import machine
import numpy as np
import polars as pl
import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import transformers
import workload

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions, get_question
from attnstore.ask.sql import run_sql
from attnstore.config import RunConfig, SourceConfig
from attnstore.data.documents import Document
from attnstore.pipeline import workers as hiring
from attnstore.pipeline.describe import LoadedModel
from attnstore.pipeline.parts import Part, Step
from attnstore.pipeline.processes import Processes
from attnstore.pipeline.wire import Loaded, Stepped, Stop, Took, Wrote
from attnstore.pipeline.workers import Workers, _Worker
from attnstore.show.card import facts
from attnstore.store import adding
from attnstore.store.manifest import Manifest, StoredFile, read_manifest, write_manifest
from attnstore.store.resume import create_or_resume
from attnstore.store.store import open_store
from attnstore.store.totals import Summed

#: Documents per part here, and hard links that one file may have.
_OF_A_PART, _LINKS = 5, 20_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["parts", "terms", "seal", "workers"])
    parser.add_argument("--parts", default="100,1000,10000")
    parser.add_argument("--documents", default="2000,8000,32000")
    parser.add_argument("--files", default="6,24,96", help="files of tokens, for seal")
    parser.add_argument("--megabytes", type=int, default=512, help="of sums in memory, for seal")
    parser.add_argument("--workers", default="1,8,64,512")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a part")
    parser.add_argument("--part-size", type=int, default=1000, help="documents of a part, for workers")
    parser.add_argument("--each", type=int, default=30, help="parts a worker")
    given = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"# Scale, {given.what}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n")
    print("\n".join(f"- {line}" for line in machine.description()), flush=True)
    with tempfile.TemporaryDirectory(prefix="attnstore-scale-") as folder:
        if given.what == "parts":
            parts(Path(folder), numbers(given.parts))
        elif given.what == "terms":
            terms(Path(folder), numbers(given.documents))
        elif given.what == "seal":
            seals(Path(folder), numbers(given.files), given.megabytes)
        else:
            crews(numbers(given.workers), given.seconds, given.part_size, given.each)


def numbers(given: str) -> list[int]:
    return [int(number) for number in given.split(",")]


# -- parts ------------------------------------------------------------------------------------------------


def parts(scratch: Path, sizes: Sequence[int]) -> None:
    one = run_of(scratch, _OF_A_PART, _OF_A_PART, host.LAYERS)
    rows: dict[str, list[tuple[float, float]]] = {}
    for size in sizes:
        store = many(one, scratch / f"{size}.attn", size)
        for what, do in (
            ("take the run up again", lambda store=store: resumed(store)),
            ("seal it", lambda store=store: sealed(store)),
            ("open it", lambda store=store: open_store(store)),
            ("info", lambda store=store: list(facts(open_store(store)))),
            ("predictions", lambda store=store: asked(store, "predictions")),
            ("top_words_by_class, without intervals", lambda store=store: asked(store, "top_words_by_class")),
            ("SELECT count(*) FROM tokens", lambda store=store: counted(store)),
        ):
            rows.setdefault(what, []).append(measured(do))
            print(f"<!-- {size} parts, {what}: {rows[what][-1]} -->", flush=True)
        rows.setdefault("first page of browse", []).append(browsed(store))
        size_of = (store / "manifest.json").stat().st_size
        rows.setdefault("manifest.json, MB (no seconds)", []).append((size_of / 1e6, 0.0))
        shutil.rmtree(store)
    print(f"\n| CPU s, MiB | {' | '.join(f'{size:,} parts' for size in sizes)} | a part more, ms, KiB |")
    print("|---|" + "---|" * (len(sizes) + 1))
    for what, found in rows.items():
        cells = " | ".join(f"{seconds:.2f}, {memory:.0f}" for seconds, memory in found)
        apart = sizes[-1] - sizes[-2]
        slopes = [(found[-1][each] - found[-2][each]) / apart for each in (0, 1)]
        print(f"| {what} | {cells} | {1000 * slopes[0]:.2f}, {1024 * slopes[1]:.1f} |")


def run_of(scratch: Path, documents: int, part_size: int, layers: int) -> Path:
    """A run over real reviews in a random order, whose passes cost nothing."""
    model = host.save_model(scratch / "model", layers)
    data = scratch / "reviews.csv"
    found = workload.reviews()[1][:documents]
    rows = {"text": [d.text for d in found], "label": [d.label for d in found], "id": [d.id for d in found]}
    pl.DataFrame(rows).write_csv(data)
    config = RunConfig(SourceConfig(str(data)), str(model), device="cpu", part_size=part_size)
    names = [f"{name}_{layer:02d}" for name in ("cls", "received") for layer in range(1, layers + 1)]
    no_pass = host.NoPass([*names, "rollout", "evidence"], 2)
    host.whole(config, no_pass, scratch / "one.attn")
    return scratch / "one.attn"


def many(one: Path, path: Path, count: int) -> Path:
    """An unsealed store with that many parts, each with the files of the only part of another store."""
    manifest = of(one)
    files = [file for file in manifest.files if file.part is not None]
    plan = replace(manifest, documents=count * _OF_A_PART, part_size=_OF_A_PART, sealed=None, files=())
    path.mkdir()
    write_manifest(path, plan)
    for file in files:
        (path / file.path).parent.mkdir(parents=True)
    (path / "_parts").mkdir()
    for part in range(count):
        own = [replace(file, path=file.path.replace("part-00000", f"part-{part:05d}")) for file in files]
        for file, named in zip(files, own, strict=True):
            first = path / file.path.replace("part-00000", f"part-{part // _LINKS * _LINKS:05d}")
            if part % _LINKS:
                os.link(first, path / named.path)
            else:
                shutil.copyfile(one / file.path, path / named.path)
        (path / "_parts" / f"part-{part:05d}.json").write_bytes(receipt(part, own))
    return path


def receipt(part: int, files: Sequence[StoredFile]) -> bytes:
    """As `write_receipt` writes it, but without waiting for the disk each time."""
    return json.dumps({"part": part, "files": [asdict(file) for file in files]}, indent=1).encode()


def resumed(store: Path) -> None:
    with create_or_resume(store, of(store)) as found:
        if missing := found.missing_parts():
            raise RuntimeError(f"{len(missing)} parts are missing")


def sealed(store: Path) -> None:
    with create_or_resume(store, of(store)) as found:
        found.seal()


def of(store: Path) -> Manifest:
    manifest = read_manifest(store)
    if manifest is None:
        raise RuntimeError(f"{store} has no manifest")
    return manifest


def asked(store: Path, question: str) -> None:
    parameters = {"intervals": False} if question == "top_words_by_class" else {}
    ask(open_store(store), get_question(question, find_questions()), parameters)


def counted(store: Path) -> None:
    run_sql(open_store(store), "SELECT count(*) FROM tokens")


def browsed(store: Path) -> tuple[float, float]:
    """CPU seconds of a server from its start to its first page, and its memory then."""
    command = [sys.executable, "-m", "attnstore", "browse", str(store), "--no-open", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None  # noqa: S101 - it is a pipe
        try:
            with urlopen(server.stdout.readline().split()[0]) as answer:  # noqa: S310 - our own server's
                answer.read()
            process = psutil.Process(server.pid)
            times, memory = process.cpu_times(), process.memory_info().rss / machine.MEBIBYTE
        except HTTPError as error:  # a page that takes more than a minute is an error
            print(f"<!-- the first page: {error} -->")
            return math.nan, math.nan
        finally:
            server.terminate()
    return times.user + times.system, memory


def measured(do: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of all threads, and MiB at the peak beyond the memory before."""
    gc.collect()
    before, began = machine.forget_peak(), time.process_time()
    do()
    return time.process_time() - began, max(0.0, machine.peak_rss() - before)


# -- terms ------------------------------------------------------------------------------------------------


def terms(scratch: Path, sizes: Sequence[int]) -> None:
    """Rows of the totals, by the number of reviews."""
    store = open_store(run_of(scratch, max(sizes), 1000, 1))
    found = []
    for size in sizes:
        keys = "split, label, prediction, token, word, piece, pieces, special"
        counts = f"count(*), count(DISTINCT ({keys}))"
        row = run_sql(store, f"SELECT {counts} FROM tokens WHERE document < {size}")  # noqa: S608 - our own numbers
        found.append((size, row.column(0)[0].as_py(), row.column(1)[0].as_py()))
    print("\n| documents | tokens | rows of the totals | grows by the power |\n|---|---|---|---|")
    for place, (size, tokens, rows) in enumerate(found):
        power = ""
        if place:
            power = f"{math.log(rows / found[place - 1][2]) / math.log(size / found[place - 1][0]):.3f}"
        print(f"| {size:,} | {tokens:,} | {rows:,} | {power} |")


# -- seal -------------------------------------------------------------------------------------------------

#: Tokens of a made-up file, and words that all files share.
_OF_A_FILE, _COMMON = 100_000, 20_000


@dataclass
class MadeUp:
    """A file of tokens that is made when it is opened. No other file has half of its words."""

    number: int
    values: dict[str, pa.Array]
    split: str = "all"
    label: str | None = "pos"

    def opened(self) -> pq.ParquetFile:
        chance = np.random.default_rng(self.number)
        common = chance.integers(_COMMON, size=_OF_A_FILE // 2)
        own = range(self.number * _OF_A_FILE, self.number * _OF_A_FILE + _OF_A_FILE // 2)
        words = pa.array([*(f"c{word}" for word in common), *(f"w{word}" for word in own)])
        tokens = pa.array([f"t{word % 5000}" for word in (*common, *own)])
        texts = {name: texts.dictionary_encode() for name, texts in (("token", tokens), ("word", words))}
        file = pa.BufferOutputStream()
        pq.write_table(pa.table(texts | self.values), file, compression=None)
        return pq.ParquetFile(pa.BufferReader(file.getvalue()))


def seals(scratch: Path, sizes: Sequence[int], megabytes: int) -> None:
    columns = [f"{name}_{layer:02d}" for name in ("cls", "received") for layer in range(1, host.LAYERS + 1)]
    columns += ["rollout", "evidence"]
    chance = np.random.default_rng(workload.SEED)
    ones = np.ones(_OF_A_FILE, np.int16)
    values = {
        "prediction": pa.array(["pos"] * _OF_A_FILE).dictionary_encode(),
        "piece": pa.array(ones - 1), "pieces": pa.array(ones), "special": pa.array(ones < 0),
        "new_token": pa.array(ones > 0), "new_word": pa.array(ones > 0),
        "length": pa.array(271 * ones.astype(np.int32)),
        **{name: pa.array(chance.random(_OF_A_FILE, np.float32)) for name in columns},
    }  # fmt: skip
    schema = pa.schema([(name, pa.float32()) for name in columns])
    adding._SUMS_IN_MEMORY = megabytes << 17
    print(
        "\n| tokens | terms | runs | MiB on the disk | CPU s | MiB at the peak |\n|---|---|---|---|---|---|"
    )
    for size in sizes:
        files = [MadeUp(number, values) for number in range(size)]
        folder = scratch / f"{size}"
        folder.mkdir()
        gc.collect()
        before, began = machine.forget_peak(), time.process_time()
        sums = adding.add_up(files, Summed(schema, ()), folder)  # type: ignore[arg-type]
        rows = sum(table.num_rows for table in sums)
        took, peak = time.process_time() - began, machine.peak_rss() - before
        runs = [run.stat().st_size for run in folder.iterdir()]
        print(
            f"| {size * _OF_A_FILE:,} | {rows:,} | {len(runs)} | {sum(runs) / machine.MEBIBYTE:,.0f} |"
            f" {took:.1f} | {peak:,.0f} |",
            flush=True,
        )
        shutil.rmtree(folder)


# -- workers ----------------------------------------------------------------------------------------------


class Clock:
    """The simulated time: it advances with this process's computation, and jumps when the process waits."""

    def __init__(self) -> None:
        self._waited = 0.0
        self._began = time.process_time()

    @property
    def now(self) -> float:
        return self._waited + time.process_time() - self._began

    @property
    def busy(self) -> float:
        return time.process_time() - self._began

    def jump(self, to: float) -> None:
        self._waited += max(0.0, to - self.now)

    def monotonic(self) -> float:
        return self.now


class Simulated:
    """Workers that compute nothing: their messages, and when they are sent. It replaces the run's inbox."""

    def __init__(self, clock: Clock, seconds: float, model: LoadedModel) -> None:
        self._clock, self._seconds, self._model = clock, seconds, model
        self._coming: list[tuple[float, int, _Worker, Any]] = []
        self._free: dict[int, float] = {}
        self._chance = random.Random(workload.SEED)
        self._count = 0

    def say(self, at: float, worker: _Worker, message: Any) -> None:
        self._count += 1
        heappush(self._coming, (at, self._count, worker, message))

    def hear_of(self, worker: _Worker, message: object) -> None:
        """Messages to a worker are pickled as usual, and a part begins when the one before is done."""
        pickle.dumps(message, protocol=5)
        if not isinstance(message, Part):
            if isinstance(message, Stop):
                self.say(self._clock.now, worker, None)
            return
        begins = max(self._clock.now, self._free.get(worker.place, 0.0))
        ends = begins + self._seconds * self._chance.uniform(0.9, 1.1)
        self._free[worker.place] = ends
        self.say(begins, worker, Took(message.number))
        batches = 10
        for batch in range(1, batches + 1):
            step = Step(len(message.documents) // batches, 100)
            self.say(begins + batch * (ends - begins) / batches, worker, Stepped(message.number, step))
        name = f"part-{message.number:05d}.parquet"
        files = tuple(
            StoredFile(f"{kind}/split=all/label={label}/{name}", 1, 1, "0" * 64)
            for kind in ("documents", "tokens")
            for label in ("neg", "pos")
        )
        said = pickle.dumps(Wrote(message.number, files, frozenset(), (), self._model), protocol=5)
        self.say(ends, worker, said)

    def get(self, timeout: float) -> tuple[_Worker, Any]:
        if not self._coming:
            self._clock.jump(self._clock.now + timeout)
            raise Empty
        at = self._coming[0][0]
        if at > self._clock.now + timeout:
            self._clock.jump(self._clock.now + timeout)
            raise Empty
        self._clock.jump(at)
        _, _, worker, message = heappop(self._coming)
        return worker, pickle.loads(message) if isinstance(message, bytes) else message  # noqa: S301 - our own


class Nothing:
    """The link to a worker that does not exist."""

    started = True

    def send(self, _message: object) -> None: ...

    def receive(self) -> None: ...

    def end(self) -> None: ...

    def how_it_ended(self) -> str:
        return "never"


class Outbox:
    def __init__(self, simulated: Simulated) -> None:
        self.worker: _Worker | None = None
        self._simulated = simulated

    def put(self, message: object) -> None:
        if message is not None and self.worker is not None:
            self._simulated.hear_of(self.worker, message)


def crews(sizes: Sequence[int], seconds: float, part_size: int, each: int) -> None:
    """Runs with `each` parts per worker."""
    texts = workload.reviews()[1]
    print(
        f"\nParts of {part_size:,} reviews that take {seconds:g} s each (± 10 %, drawn), {each} a worker.\n\n"
        "| workers | parts | simulated s | efficiency | the run's own CPU s | a part, ms | MiB |\n"
        "|---|---|---|---|---|---|---|"
    )
    for size in sizes:
        gc.collect()
        before = machine.forget_peak()
        clock = Clock()
        total, busy = simulated(size, each * size, seconds, part_size, texts, clock)
        print(
            f"| {size} | {each * size:,} | {total:,.1f} | {each * seconds / total:.3f} | {busy:.2f} |"
            f" {1000 * busy / (each * size):.2f} | {machine.peak_rss() - before:,.0f} |",
            flush=True,
        )


def simulated(
    size: int, count: int, seconds: float, part_size: int, texts: Sequence[Document], clock: Clock
) -> tuple[float, float]:
    """Simulated seconds of a run, and the CPU seconds of the process that hands out the parts."""
    model = LoadedModel(
        labels=("neg", "pos"), layers=12, heads=12, max_length=512, stride=None, model_sha256="", tokenizer_sha256="",
        words="", reductions=(), identities=(), dtype="", device="cuda", hardware="", threads=1, way="", kernel="",
        batch_tokens=1, notes=(),
    )  # fmt: skip
    config = RunConfig(SourceConfig("reviews"), "model", workers=size)
    crew = Workers(config, 1, Processes())
    inbox = Simulated(clock, seconds, model)
    crew._inbox = inbox  # type: ignore[assignment]
    hiring.time = clock  # type: ignore[assignment,attr-defined]

    def hire(place: int) -> None:
        outbox = Outbox(inbox)
        worker = _Worker(place, Nothing(), outbox=outbox)  # type: ignore[arg-type]
        outbox.worker = worker
        crew._crew.append(worker)
        inbox.say(clock.now, worker, Loaded(model))

    for place in range(size):
        hire(place)
    while crew._model is None:
        crew._hear()

    def read() -> Generator[Part]:
        for number in range(count):
            first = number * part_size
            own = [(first + n, texts[(first + n) % len(texts)]) for n in range(part_size)]
            yield Part(number, own)

    store = Counted(count, part_size)
    for _ in crew.compute(store, read(), Event()):  # type: ignore[arg-type]
        pass
    if sorted(store.taken) != list(range(count)):
        raise RuntimeError("parts are missing")
    return clock.now, clock.busy


class Counted:
    """The part of a store that `Workers` uses."""

    def __init__(self, parts: int, part_size: int) -> None:
        self.path = Path("store")
        self.manifest = None
        self._parts = parts
        self.taken: dict[int, tuple[StoredFile, ...]] = {}

    def missing_parts(self) -> list[int]:
        return [number for number in range(self._parts) if number not in self.taken]

    def take_part(self, part: int, files: tuple[StoredFile, ...]) -> None:
        self.taken[part] = files


if __name__ == "__main__":
    main()
