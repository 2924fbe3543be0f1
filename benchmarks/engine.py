"""The cost of attention: attnstore's forward pass and whole run compared with plain inference.

    make bench                                                  # everything, on an idle machine
    python benchmarks/engine.py --models minilm --variants three,portable --rounds 9
    python benchmarks/engine.py --quick                         # does it still work? prints, writes nothing

In one process, each round runs every variant over the same documents, in a random order, after one round that is not
counted. A ratio is the median of the rounds' ratios, so that other load on the machine affects both sides. On a busy
machine, --processor-time counts this process's processor seconds instead (with OMP_NUM_THREADS=1, so that no thread
spins while it waits). The documents are a fixed random sample of the IMDb test set, as they are, and joined into
documents of 512 tokens. With --alike N they are N reviews of nearly equal length, for five lengths, with hardly any
padding. The slow variants, (c) and (d), run over the first few documents, compared with (a) and (b) over the same ones
in the same round. (b) keeps freed memory between batches, as a run does; the others have glibc's default. Peak memory
is that of a separate process for each variant, measured after the model is loaded.
(e) is a whole `attnstore run`: cold, from starting Python to the sealed store, including the compilation of the C++
kernel, and warm, again in the same process. Its forward time is that of the classifier's calls in the run, and that of
the same batches again without other work.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

# Progress bars and advice of transformers do not belong in a table, and nothing is fetched here.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import machine
import numpy as np
import torch
import transformers
import whole_run
import workload
from variants import (
    BY_HAND,
    OUR_BATCH_TOKENS,
    PLAIN,
    PLAIN_BATCH_TOKENS,
    REDUCTIONS,
    THREE,
    VARIANTS,
    Attnstore,
    ByHand,
    Documents,
    Forward,
    Loader,
    Variant,
    encoder_operations,
)

from attnstore.engine.devices import choose_dtype
from attnstore.engine.paths import kernel

RESULTS = Path(__file__).parent / "results"
RUN = "run"  # (e), which is no forward pass

#: Largest absolute difference between (b) and (c) in float32, where they differ only in the order of additions,
#: and the largest total variation distance of a document's column in bfloat16, as allowed by `attnstore verify`.
FLOAT32_TOLERANCE = 1e-5
BFLOAT16_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of documents: reviews, documents of 512 tokens, reviews for (c) and for (d), reviews for a whole run."""

    reviews: int
    full: int
    by_hand: int
    parent: int
    run: int

    @classmethod
    def of(cls, reviews: int, run: int) -> "Sizes":
        """(c) has batches of 32 and (d) of 8, so they get full batches."""
        return cls(
            reviews, max(8, reviews // 3), max(32, reviews // 128 * 32), max(8, reviews // 64 * 8), run
        )


#: The numbers of documents for each model, by its speed.
SIZES = {"embedded": Sizes.of(128, 1000), "minilm": Sizes.of(192, 5000), "bert-base": Sizes.of(64, 250)}
QUICK = Sizes.of(32, 64)


@dataclass(slots=True)
class Timing:
    """A variant over a set of documents: the seconds of each round, and those of plain inference and of (b)."""

    variant: Variant
    documents: Documents
    seconds: list[float]
    plain: list[float]
    three: list[float]

    @property
    def tokens(self) -> int:
        return sum(d.length for d in self.documents)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident MiB after the model was loaded, and at the peak of the pass."""

    loaded: float
    peak: float


# ---------------------------------------------------------------- forward passes


def time_rounds(
    forwards: dict[str, Forward],
    documents: Documents,
    rounds: int,
    shuffle: random.Random,
    warm: int,
    clock: Callable[[], float],
) -> dict[str, list[float]]:
    """Wall-clock seconds of each forward function over the documents, by round.

    The first `warm` documents go through each before.
    """
    for forward in forwards.values():
        forward(documents[:warm])
    seconds: dict[str, list[float]] = {key: [] for key in forwards}
    for _ in range(rounds):
        for key in shuffle.sample(list(forwards), len(forwards)):
            began = clock()
            forwards[key](documents)
            seconds[key].append(clock() - began)
    return seconds


def time_variants(
    loader: Loader,
    chosen: Sequence[Variant],
    workloads: Mapping[str, Documents],
    documents: Documents,
    sizes: Sizes,
    rounds: int,
    clock: Callable[[], float],
) -> dict[str, list[Timing]]:
    """The timings by workload, and those of the slow variants, each over few of `documents`."""
    shuffle = random.Random(workload.SEED)
    found: dict[str, list[Timing]] = {name: [] for name in (*workloads, "of these reviews")}
    base = {v.key: loader.forward(v) for v in (PLAIN, THREE)}
    fast = base | {v.key: loader.forward(v) for v in chosen if not v.slow and v.key not in base}
    for name, given in workloads.items():
        if not any(not v.slow for v in chosen):
            break
        seconds = time_rounds(fast, given, rounds, shuffle, len(given), clock)
        for variant in VARIANTS:
            if variant.key in fast:
                timing = Timing(variant, given, seconds[variant.key], seconds[PLAIN.key], seconds[THREE.key])
                found[name].append(timing)
    for variant in chosen:
        if variant.slow:
            few = documents[: sizes.by_hand if variant is BY_HAND else sizes.parent]
            forwards = base | {variant.key: loader.forward(variant)}
            seconds = time_rounds(forwards, few, min(rounds, 3), shuffle, 8, clock)
            timing = Timing(variant, few, seconds[variant.key], seconds[PLAIN.key], seconds[THREE.key])
            found["of these reviews"].append(timing)
    return found


def peak_memory(folder: Path, dtype: torch.dtype, variant: Variant, documents: Documents) -> Memory:
    """The memory of one pass over the documents, in this process. Call it in a separate process."""
    os.environ.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)  # each with its default, (b) with its own setting
    forward = Loader(folder, dtype).forward(variant)
    loaded = machine.forget_peak()
    forward(documents)
    return Memory(loaded, machine.peak_rss())


def agreement(folder: Path, dtype: torch.dtype, documents: Documents) -> str:
    """Compare the reduced attention of (b) and (c). Raises ValueError if they differ too much."""
    lines = []
    for held, few in ((torch.float32, documents[:8]), (dtype, documents[:32])):
        ours = Loader(folder, held).classifier(REDUCTIONS)
        stored = Attnstore(ours).values(few)
        by_hand = ByHand(folder, held).values(few)
        errors: list[float] = []
        distances: list[float] = []
        for number, values in by_hand.items():
            for name, expected in values.items():
                difference = np.abs(stored[number][name] - expected)
                errors.append(float(difference.max()))
                distances += (difference.sum(axis=-1) / 2).ravel().tolist()
        worst, distance = max(errors), max(distances)
        good = worst <= FLOAT32_TOLERANCE if held == torch.float32 else distance <= BFLOAT16_TOLERANCE
        lines.append(
            f"{str(held).removeprefix('torch.')} over {len(few)} reviews: worst difference {worst:.1e}, "
            f"total variation distance {distance:.1e} at worst and {statistics.median(distances):.1e} in the median"
        )
        if not good:
            raise ValueError(f"(b) and (c) do not compute the same values: {lines[-1]}")
        if held == dtype:
            break
    return "; ".join(lines)


# ---------------------------------------------------------------- the tables


def forward_table(
    found: dict[str, list[Timing]],
    memory: dict[str, Memory],
    model: torch.nn.Module,
    peak: float,
    *,
    wall: bool,
) -> list[str]:
    """Markdown: a row per workload and variant. It has the share of the peak only if the times are wall-clock times."""
    lines = [
        "| documents | variant | tokens | seconds | tokens/s | time / (a) | from–to (rounds) | share of peak "
        "| peak MiB | of it, loaded |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, timings in found.items():
        for timing in timings:
            ratios = [mine / plain for mine, plain in zip(timing.seconds, timing.plain, strict=True)]
            lengths = [d.length for d in timing.documents]
            work = encoder_operations(model, lengths, cls_only=bool(timing.variant.reductions))
            share = f"{work / timing.median / peak:.0%}" if wall else ""
            used = memory.get(timing.variant.key) if name in ("reviews", "of these reviews") else None
            cells = [
                f"{len(timing.documents)} {name}",
                timing.variant.title,
                f"{timing.tokens:,}",
                f"{timing.median:.3f}",
                f"{timing.tokens / timing.median:,.0f}",
                f"**{statistics.median(ratios):.3f}**",
                f"{min(ratios):.3f}–{max(ratios):.3f} ({len(ratios)})",
                "" if timing.variant.slow else share,
                f"{used.peak:,.0f}" if used else "",
                f"{used.loaded:,.0f}" if used else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Time / (a), round by round:", ""]
    for name, timings in found.items():
        for timing in timings:
            if timing.variant is not PLAIN:
                by_round = ", ".join(
                    f"{mine / plain:.3f}" for mine, plain in zip(timing.seconds, timing.plain, strict=True)
                )
                lines.append(f"- {len(timing.documents)} {name}, {timing.variant.title}: {by_round}")
    for timing in found["of these reviews"]:
        ratios = [mine / three for mine, three in zip(timing.seconds, timing.three, strict=True)]
        lines += [
            "",
            f"{timing.variant.title}: **{statistics.median(ratios):.1f}** times as long as (b) with three.",
        ]
    plain, three = memory.get(PLAIN.key), memory.get(THREE.key)
    if plain and three:
        lines += ["", f"Peak memory of (b) with three: **{three.peak / plain.peak:.2f}** times that of (a)."]
    return lines


def run_table(runs: Sequence[whole_run.WholeRun]) -> list[str]:
    """Markdown: a row per run."""
    lines = [
        "| (e) `attnstore run` | documents | tokens | whole s | its parts s | forward in it s | forward alone s "
        "| tokens/s | whole / forward | parts / forward | whole / alone | parts / alone | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for number, one in enumerate(runs):
        cells = [
            "warm" if number else "cold",
            *(f"{one.documents:,}", f"{one.tokens:,}"),
            *(f"{s:.1f}" for s in (one.whole, one.parts, one.forward, one.alone)),
            f"{one.tokens / one.whole:,.0f}",
            *(f"{one.whole / one.forward:.3f}", f"**{one.parts / one.forward:.3f}**"),
            *(f"{one.whole / one.alone:.3f}", f"{one.parts / one.alone:.3f}"),
            f"{one.peak:,.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def benchmark(
    name: str, sizes: Sizes, chosen: Sequence[Variant], options: argparse.Namespace, scratch: Path
) -> Iterator[str]:
    """One model: yields the lines of its section."""
    folder = workload.model_folder(name, scratch)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    dtype = choose_dtype(options.dtype, torch.device("cpu"))[0]
    _, texts = workload.reviews()
    yield from ("", f"## {name}, {str(dtype).removeprefix('torch.')}", "")
    if chosen:
        documents = workload.as_tokens(texts[: sizes.reviews], tokenizer)
        workloads = (
            workload.alike(workload.as_tokens(texts[:1000], tokenizer), options.alike)
            if options.alike
            else {
                "reviews": documents,
                "of 512 tokens": workload.of_length(512, sizes.full, texts, tokenizer),
            }
        )
        loader = Loader(folder, dtype)
        clock = time.process_time if options.processor_time else time.perf_counter
        peaks = [0.0 if options.processor_time else machine.matmul_peak(dtype)]
        found = time_variants(loader, chosen, workloads, documents, sizes, options.rounds, clock)
        if not options.processor_time:
            peaks.append(machine.matmul_peak(dtype))
        memory = {}
        if not options.no_memory:
            wanted = {v.key: v for v in (PLAIN, THREE, *chosen)}
            sample = {BY_HAND.key: documents[: sizes.by_hand], "parent": documents[: sizes.parent]}
            for key, variant in wanted.items():
                few = sample.get(key, documents)
                memory[key] = machine.in_own_process(peak_memory, folder, dtype, variant, few)
        model = loader.classifier(REDUCTIONS).model
        yield from forward_table(found, memory, model, max(peaks), wall=not options.processor_time)
        computed_by = loader.classifier(REDUCTIONS).kernel
        yield from ("", f"Attention by the {computed_by}; without it, by torch.")
        if not options.processor_time:
            yield f"Peak of torch.mm, 4096 × 4096: {max(peaks) / 1e12:.2f} T operations/s."
        if not options.alike and any(v.reductions == REDUCTIONS or v is BY_HAND for v in chosen):
            values = machine.in_own_process(agreement, folder, dtype, documents[:32])
            yield from ("", f"(b) and (c) compute the same values: {values}.")
    if RUN in options.variants:
        data = scratch / f"{name.replace('/', '_')}.jsonl"
        workload.write_jsonl(texts[: sizes.run], data)
        place = scratch / f"{name.replace('/', '_')}-runs"
        place.mkdir()
        runs = whole_run.measure(folder, data, place, options.warm)
        yield from ("", *run_table(runs))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [v.key for v in VARIANTS] + [RUN]
    parser.add_argument(
        "--models", default="embedded,minilm,bert-base", help="of these, or folders, with commas between"
    )
    parser.add_argument(
        "--variants", default=",".join(known), help="of these, with commas between: %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=5, help="at most 3 for the slow variants")
    parser.add_argument("--documents", type=int, help="reviews; the other sets of documents follow from it")
    parser.add_argument("--alike", type=int, help="so many reviews of like length, of each of five lengths")
    parser.add_argument("--run-documents", type=int, help="reviews for (e)")
    parser.add_argument("--warm", type=int, default=1, help="warm runs of (e), after the cold one")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument(
        "--processor-time", action="store_true", help="time by seconds on the processors, for a busy machine"
    )
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    parser.add_argument(
        "--quick", action="store_true", help="few documents, one round; prints, writes nothing"
    )
    parser.add_argument("--name", default="engine", help="the result is results/<date>-<name>.md")
    options = parser.parse_args()
    options.variants = options.variants.split(",")
    if unknown := set(options.variants) - set(known):
        parser.error(f"no such variant: {', '.join(sorted(unknown))} (there are {', '.join(known)})")
    if options.quick:
        options.rounds, options.warm = 1, 1
    return options


def sizes_for(name: str, options: argparse.Namespace) -> Sizes:
    usual = QUICK if options.quick else SIZES.get(name, SIZES["minilm"])
    return Sizes.of(options.documents or usual.reviews, options.run_documents or usual.run)


def main() -> None:
    options = parse()
    began = time.monotonic()
    lines: list[str] = []

    def write(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    name, texts = workload.reviews()
    write(f"# The engine, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    write("")
    for line in (
        *machine.description(),
        f"documents: a random sample of {len(texts):,} {name}, cut at 512 tokens",
    ):
        write(f"- {line}")
    write(
        f"- batches of (a): {PLAIN_BATCH_TOKENS:,} tokens, of (b): {OUR_BATCH_TOKENS:,}; {options.rounds} rounds"
    )
    if options.processor_time:
        write(
            "- seconds are those on the processors (`--processor-time`), the machine doing other work beside it"
        )
    chosen = [v for v in VARIANTS if v.key in options.variants]
    # torch's default, which attnstore lowers: plain inference has many shapes, and their products should stay cached.
    os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "1024"
    kernel.path()  # compile the kernel before anything is timed
    with tempfile.TemporaryDirectory(prefix="attnstore-bench-") as scratch:
        for model in options.models.split(","):
            for line in benchmark(model, sizes_for(model, options), chosen, options, Path(scratch)):
                write(line)
    write("")
    write(f"The benchmark took {(time.monotonic() - began) / 60:.1f} minutes.")
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-{options.name}.md"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"written to {path}")


if __name__ == "__main__":
    main()
