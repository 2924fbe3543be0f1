"""(e) of engine.py: whole runs in a separate process, the first of which is cold.

`measure` starts this file, which does the same as the command `attnstore run`, in the same order: it starts compiling
the C++ kernel, then loads torch and the rest. So no large library may be imported at its top.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attnstore.engine.paths import compiler


@dataclass(frozen=True, slots=True)
class WholeRun:
    """Seconds of a run: in all, of its parts (the model loaded, the data surveyed), and of forward passes.

    `forward` is the time inside the classifier's calls while the run's other threads work, `alone` that of the same
    batches without other work.
    """

    whole: float
    parts: float
    forward: float
    alone: float
    documents: int
    tokens: int
    peak: float  # MiB, of the process up to then


def measure(folder: Path, data: Path, scratch: Path, warm: int) -> list[WholeRun]:
    """A cold run, from starting Python to the sealed store, and `warm` warm ones after it in the same process.

    The stores, and a cache without a kernel, are in `scratch`. Raises CalledProcessError.
    """
    environment = os.environ | {"ATTNSTORE_CACHE": str(scratch / "cache")}
    environment.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)  # as for a user
    given = [folder, data, scratch, warm, time.monotonic()]  # its clock is shared by all processes
    done = subprocess.run(
        [sys.executable, __file__, *map(str, given)], env=environment, stdout=subprocess.PIPE, check=True
    )
    return [WholeRun(**one) for one in json.loads(done.stdout)]


def main() -> None:
    """The child: prints the runs as JSON."""
    folder, data, scratch, warm, started = sys.argv[1:]
    compiler.start("cpu")
    import machine

    from attnstore.config import RunConfig, SourceConfig
    from attnstore.engine.paths import memory
    from attnstore.pipeline.run import run

    found: list[WholeRun] = []
    for number in range(1 + int(warm)):
        with _timed_classifier() as (seconds, batches):
            began = float(started) if number == 0 else time.monotonic()
            config = RunConfig(SourceConfig(data), folder, device="cpu")
            result = run(config, Path(scratch) / f"{number}.attn")
            whole = time.monotonic() - began
            peak = machine.peak_rss()
        began = time.monotonic()
        with memory.kept():  # as in the run
            for classifier, batch in batches:
                classifier(batch).wait()
        alone = time.monotonic() - began
        found.append(
            WholeRun(whole, result.seconds, sum(seconds), alone, result.documents, result.tokens, peak)
        )
    print(json.dumps([asdict(one) for one in found]))


@contextlib.contextmanager
def _timed_classifier() -> Iterator[tuple[list[float], list[tuple[Any, Any]]]]:
    """Inside the block, every call of a classifier is timed and its batch kept."""
    from attnstore.engine.classifier import Classifier

    seconds: list[float] = []
    batches: list[tuple[Any, Any]] = []
    original: Callable[..., Any] = Classifier.__call__

    def timed(self: Any, batch: Any) -> Any:
        began = time.perf_counter()
        reduced = original(self, batch)
        reduced.wait()
        seconds.append(time.perf_counter() - began)
        batches.append((self, batch))
        return reduced

    Classifier.__call__ = timed  # type: ignore[method-assign]
    try:
        yield seconds, batches
    finally:
        Classifier.__call__ = original  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
