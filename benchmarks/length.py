"""Memory and time by document length: one document through a small random ModernBERT, with up to 8,192 tokens.

    python benchmarks/length.py
    python benchmarks/length.py --lengths 512,1024,2048 --variants three,by-hand

Each figure comes from a separate process: the resident memory at the peak of the pass, minus that after loading the
model. Linear in the length means that it grows by the same factor as the length, or less; a matrix of length × length
would grow by the square of that factor. (a), (b) and (c) are those of `engine.py`.
"""

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import machine
import torch
import transformers
import workload
from variants import BY_HAND, VARIANTS, Documents, Loader, Variant

from attnstore.engine.devices import choose_dtype
from attnstore.engine.paths import kernel

RESULTS = Path(__file__).parent / "results"

#: In (c), six layers of six heads of 8,192 × 8,192 probabilities are 5 GB in bfloat16, and intermediate ones as much.
BY_HAND_UNTIL = 4096


@dataclass(frozen=True, slots=True)
class Passed:
    """One document's pass: MiB above the loaded model, and the median of several times in seconds."""

    above: float
    seconds: float


def one_pass(folder: Path, dtype: torch.dtype, variant: Variant, documents: Documents, times: int) -> Passed:
    """The documents through the model, once for memory and `times` for time. Call it in a separate process."""
    (document,) = documents
    forward = Loader(folder, dtype, document.length).forward(variant)
    loaded = machine.forget_peak()
    forward(documents)
    above = machine.peak_rss() - loaded
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        forward(documents)
        seconds.append(time.perf_counter() - began)
    return Passed(above, statistics.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [v.key for v in VARIANTS if v.key != "parent"]
    parser.add_argument("--lengths", default="512,1024,2048,4096,8192")
    parser.add_argument(
        "--variants", default="plain,three,heads,portable,by-hand", help=f"of {', '.join(known)}"
    )
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--quick", action="store_true", help="prints, writes nothing")
    parser.add_argument("--name", default="length", help="the result is results/<date>-<name>.md")
    options = parser.parse_args()
    lengths = sorted(int(n) for n in options.lengths.split(","))
    if unknown := set(options.variants.split(",")) - set(known):
        parser.error(f"no such variant: {', '.join(sorted(unknown))} (there are {', '.join(known)})")
    chosen = [v for v in VARIANTS if v.key in options.variants.split(",")]
    dtype = choose_dtype(options.dtype, torch.device("cpu"))[0]
    lines: list[str] = []

    def write(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    name, texts = workload.reviews()
    write(f"# Memory and time by length, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    write("")
    for line in (*machine.description(), f"documents: joined {name}, one in a batch"):
        write(f"- {line}")
    write(
        f"- model: ModernBERT, 6 layers, 6 heads of 64, random weights, {str(dtype).removeprefix('torch.')}"
    )
    write("")
    write("| variant | tokens | MiB above the loaded model | bytes a token | seconds | tokens/s |")
    write("|---|---|---|---|---|---|")
    kernel.path()  # compile the kernel before anything is timed
    with tempfile.TemporaryDirectory(prefix="attnstore-bench-") as scratch:
        folder = workload.save_modernbert(Path(scratch) / "modernbert", max(lengths))
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        documents = {n: workload.of_length(n, 1, texts, tokenizer) for n in lengths}
        growth: list[str] = []
        for variant in chosen:
            passed: dict[int, Passed] = {}
            for n in lengths:
                if variant is BY_HAND and n > BY_HAND_UNTIL:
                    continue
                found = machine.in_own_process(one_pass, folder, dtype, variant, documents[n], options.times)
                passed[n] = found
                write(
                    f"| {variant.title} | {n:,} | {found.above:,.1f} | {found.above * machine.MEBIBYTE / n:,.0f} "
                    f"| {found.seconds:.3f} | {n / found.seconds:,.0f} |"
                )
            first, last = min(passed), max(passed)
            growth.append(
                f"{variant.title}: {last / first:.0f} times as long, "
                f"{passed[last].above / passed[first].above:.1f} times the memory."
            )
    for line in growth:
        write("")
        write(line)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-{options.name}.md"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"written to {path}")


if __name__ == "__main__":
    main()
