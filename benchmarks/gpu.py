"""The CUDA path on a GPU: whether it is right, how fast it is, and where the time goes, in under ten minutes.

    python benchmarks/gpu.py                          # writes results/<date>-gpu-<name of the GPU>.md
    python benchmarks/gpu.py --device cpu --small     # a rehearsal of the same code without a GPU

1. Attention alone against float64 by its definition: dtypes, head sizes, windows, shared key heads, a long document.
2. A trained model against eager float32 attention on the CPU (`attnstore.check.oracle`): every dtype and reduction.
3. Forward passes of a model of BERT-base's size, in bfloat16 if the hardware has it, over the IMDb test set, or over
   generated documents of the same lengths without the archive: attnstore compared with plain inference and a loop
   written by hand; the share of the peak speed of matrix products; what Triton compiles; where the host waits for the
   GPU.
4. torch.profiler over a few batches: which kernels take the time, and how long the GPU is idle.
5. A whole run, from the first document to the sealed store, and its predictions against a plain loop's.

A section that fails is reported with its traceback, and the others still run. The exit code is 1 if a section failed or
an error is larger than promised. Please send the file, whatever it contains.
"""

import argparse
import contextlib
import random
import re
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine
import numpy as np
import plain_loop
import torch
import transformers
import workload
from pyarrow import parquet
from torch.autograd import DeviceType
from variants import (
    PLAIN,
    REDUCTIONS,
    THREE,
    Attnstore,
    ByHand,
    Forward,
    Loader,
    Plain,
    encoder_operations,
)

from attnstore.check.oracle import Oracle, reduced_by_definition
from attnstore.config import DEFAULT_REDUCTIONS, RunConfig, SourceConfig
from attnstore.embedded import MODEL
from attnstore.engine.batches import TokenisedDocument, plan_batches
from attnstore.engine.devices import choose_device, choose_dtype, hardware
from attnstore.engine.loading import BATCH_TOKENS
from attnstore.engine.reductions import resolve_reductions
from attnstore.engine.tap import Tap
from attnstore.events import Computed
from attnstore.pipeline.run import run

RESULTS = Path(__file__).parent / "results"
#: The promised errors: of attention alone, relative to the true value; of float32, absolute; of half precision through
#: a whole model, the total variation distance of a document's column.
ALONE = {torch.float32: 1e-4, torch.bfloat16: 1e-3, torch.float16: 1e-3}
IN_FLOAT32, IN_HALF = 1e-4, 0.1
ORACLE_REDUCTIONS = ("cls", "received", "rollout", "cls_heads", "norm", "evidence", "relevance", "from_3")
#: The most seconds per round of one variant of the third section; it gets fewer documents if they would take longer.
A_ROUND = 25.0


@dataclass(slots=True)
class Report:
    """The lines written, and the faults found."""

    device: str
    small: bool
    scratch: Path
    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def say(self, *lines: str) -> None:
        for line in lines:
            print(line, flush=True)
            self.lines.append(line)

    def fault(self, line: str) -> str:
        """A mark for the table. The fault is listed at the end."""
        self.faults.append(line)
        return " **too far**"

    def wait(self) -> None:
        machine.wait_for(self.device)


class Compiled:
    """The kernels that Triton has compiled since the last call, by name and signature."""

    def __init__(self) -> None:
        self.names: list[str] = []
        with contextlib.suppress(ImportError, AttributeError):
            import triton

            triton.knobs.runtime.jit_post_compile_hook = self._compiled

    def _compiled(self, *_: Any, **given: Any) -> None:
        self.names.append(str(given.get("repr", "")))

    def since(self) -> list[str]:
        names, self.names = self.names, []
        return names


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# ---------------------------------------------------------------- 1. attention alone


@dataclass(frozen=True, slots=True)
class Shape:
    """`lengths` of the documents; `window` as in the engine: that many positions on both sides."""

    dtype: torch.dtype
    lengths: tuple[int, ...]
    heads: int = 12
    key_heads: int = 12
    depth: int = 64
    window: int | None = None


def shapes(*, small: bool) -> list[Shape]:
    ragged = (1, 2, 63, 64, 65, 130) if small else (1, 2, 63, 64, 65, 130, 511, 512, 1000)
    half = [torch.bfloat16, torch.float16]
    found = [Shape(dtype, ragged) for dtype in (*half, torch.float32)]
    found += [Shape(torch.bfloat16, ragged, depth=depth) for depth in (16, 32, 80, 96, 128, 256)]
    found += [Shape(dtype, ragged, window=64) for dtype in (torch.bfloat16, torch.float32)]
    found += [Shape(torch.bfloat16, ragged, heads=8, key_heads=2), Shape(torch.bfloat16, ragged, depth=20)]
    found.append(Shape(torch.bfloat16, (700 if small else 8192,), heads=2, key_heads=2))
    return found


def attention_alone(report: Report) -> None:
    """Each shape through the tap's own branch, compared with its definition in float64."""
    report.say(
        "| dtype | lengths | heads | size | window | way | output | cls | received | rollout | cls_heads |"
    )
    report.say("|---|---|---|---|---|---|---|---|---|---|---|")
    for shape in shapes(small=report.small):
        errors, way = errors_of(shape, report.device)
        cells = [f"{errors['output']:.1e}"]
        for name in ("cls", "received", "rollout", "cls_heads"):
            off = errors[name] > ALONE[shape.dtype]
            cells.append(
                f"{errors[name]:.1e}" + (report.fault(f"attention alone: {name} of {shape}") if off else "")
            )
        lengths = f"{len(shape.lengths)} to {max(shape.lengths):,}"
        heads = f"{shape.heads}/{shape.key_heads}" if shape.heads != shape.key_heads else f"{shape.heads}"
        report.say(
            f"| {name_of(shape.dtype)} | {lengths} | {heads} | {shape.depth} | {shape.window or ''} | {way} | "
            f"{' | '.join(cells)} |"
        )
    report.say(
        "",
        "The worst error: of the output over its largest value, of a reduction relative to the true value.",
    )


def errors_of(shape: Shape, device: str) -> tuple[dict[str, float], str]:
    """The largest error of the output and of each reduction, and the path that the tap took."""
    draw = torch.Generator().manual_seed(1)
    tokens = sum(shape.lengths)
    q, k, v = (
        (1.5 * torch.randn(1, tokens, count, shape.depth, generator=draw))
        .to(device, shape.dtype)
        .transpose(1, 2)
        for count in (shape.heads, shape.key_heads, shape.key_heads)
    )
    scale = shape.depth**-0.5
    reductions = resolve_reductions(["cls", "received", "rollout", "cls_heads"])
    weights = torch.zeros(2, tokens)
    start = 0
    for n in shape.lengths:
        weights[0, start], weights[1, start : start + n] = 1.0, 1 / n
        start += n
    tap = Tap(shape.lengths, weights.to(device), reductions, packed=True)
    with torch.inference_mode():
        output = tap.attend(q, k, v, None, scale, shape.window)[0].double().cpu()  # (T, heads, d)
        columns = {name: values.double().cpu() for name, values in tap.columns().items()}
    errors = dict.fromkeys(("output", "cls", "received", "rollout", "cls_heads"), 0.0)
    names = {r.name: r.stored.columns(1)[0] for r in reductions}
    start = 0
    for n in shape.lengths:
        own = slice(start, start + n)
        mine, its, values = (x[0, :, own].double().cpu() for x in (q, k, v))
        its, values = (x.repeat_interleave(shape.heads // shape.key_heads, 0) for x in (its, values))
        scores = mine @ its.transpose(1, 2) * scale
        if shape.window is not None:
            at = torch.arange(n)
            scores.masked_fill_((at[:, None] - at[None]).abs() > shape.window, -torch.inf)
        p = scores.softmax(-1)
        first = torch.zeros(n, dtype=torch.float64)
        first[0] = 1
        true = {
            "cls": p.mean(0)[0],
            "received": p.mean(0).mean(0),
            "rollout": 0.5 * first + 0.5 * p.mean(0)[0],
            "cls_heads": p[:, 0].T,
        }
        for name, wanted in true.items():
            distance = (columns[names[name]][own] - wanted).abs() / wanted.clamp_min(1e-6)
            errors[name] = max(errors[name], float(distance.max()))
        wanted = (p @ values).transpose(0, 1)
        errors["output"] = max(
            errors["output"], float((output[own] - wanted).abs().max() / values.abs().max())
        )
        start += n
    way = "the CPU's" if device == "cpu" else tap.obstacle or "flash, Triton"
    return errors, way


# ---------------------------------------------------------------- 2. a model against the oracle


def loudest(probabilities: torch.Tensor) -> torch.Tensor:
    """The largest probability that any head and query gives a token: a custom reduction of whole probabilities."""
    return probabilities.amax(dim=(0, 1))


def model_against_oracle(report: Report) -> None:
    """Every dtype of the device and every built-in reduction: the largest distances over a few reviews."""
    folder = MODEL if report.small or not workload.MINILM.exists() else workload.MINILM
    _, texts = workload.reviews()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    documents = workload.as_tokens(
        texts[: 3 if report.small else 12], tokenizer, 128 if report.small else 512
    )
    oracle = Oracle(str(folder))
    truth = []
    for document in documents:
        logits, attentions = oracle(document.ids)
        gradients = oracle.gradients(document.ids, int(logits.argmax()))
        norms = oracle.norms(document.ids)
        found = {
            name: reduced_by_definition(attentions, name, gradients, norms) for name in ORACLE_REDUCTIONS
        }
        found["loudest"] = np.stack([p.max(axis=(0, 1)) for p in attentions])
        truth.append((logits, found))
    report.say(f"{folder.name}, {len(documents)} reviews, against eager float32 attention on the CPU:", "")
    report.say("| dtype | kernel | reduction | worst difference | worst distance | median distance |")
    report.say("|---|---|---|---|---|---|")
    for dtype in dtypes_of(report.device):
        for reductions in (ORACLE_REDUCTIONS, (loudest,)):
            against(report, folder, dtype, reductions, documents, truth)


def dtypes_of(device: str) -> list[torch.dtype]:
    """float32, and the dtypes that the device multiplies fast."""
    fast = choose_dtype("auto", choose_device(device))[0]
    return [*dict.fromkeys([torch.float32, fast])] + ([torch.float16] if device != "cpu" else [])


def against(
    report: Report,
    folder: Path,
    dtype: torch.dtype,
    reductions: Sequence[Any],
    documents: Sequence[TokenisedDocument],
    truth: Sequence[tuple[np.ndarray, dict[str, np.ndarray]]],
) -> None:
    classifier = Loader(folder, dtype, device=report.device).classifier(reductions)
    (batch,) = plan_batches(documents, 10**9, padded=classifier.padded)
    reduced = classifier(batch)
    flipped = 0
    worst: dict[str, list[tuple[float, float]]] = {r.name: [] for r in classifier.reductions}
    start = 0
    for row, document in enumerate(batch.documents):
        logits, expected = truth[document.number]
        flipped += int(reduced.logits[row].argmax()) != int(logits.argmax())
        own = slice(start, start + document.length)
        for reduction in classifier.reductions:
            true = expected[reduction.name] if reduction.stored.per_layer else expected[reduction.name][None]
            for name, wanted in zip(reduction.stored.columns(classifier.layers), true, strict=True):
                difference = np.abs(reduced.columns[name][own].double().numpy() - wanted)
                scale = np.abs(wanted).sum(axis=0) if reduction.stored.total is None else 1.0
                distance = float(np.max(difference.sum(axis=0) / 2 / scale))
                worst[reduction.name].append((float(difference.max()), distance))
        start += document.length
    for name, found in worst.items():
        absolute, distance = (max(each) for each in zip(*found, strict=True))
        off = absolute > IN_FLOAT32 if dtype == torch.float32 else distance > IN_HALF
        mark = report.fault(f"{name} in {name_of(dtype)} against the oracle") if off else ""
        median = statistics.median(distance for _, distance in found)
        report.say(
            f"| {name_of(dtype)} | {classifier.kernel} | {name} | {absolute:.1e} | {distance:.1e}{mark} "
            f"| {median:.1e} |"
        )
    if flipped:
        report.say(f"| {name_of(dtype)} | | predictions | {flipped} of {len(documents)} are others | | |")


# ---------------------------------------------------------------- 3. and 4. forward passes


@dataclass(slots=True)
class Work:
    """The model whose speed is measured, and the documents."""

    folder: Path
    dtype: torch.dtype
    texts: Sequence[Any]
    documents: list[TokenisedDocument]
    loader: Loader
    what: str
    per_document: float = 0.0  # seconds of a forward pass with the default reductions, once measured

    @property
    def tokens(self) -> int:
        return sum(d.length for d in self.documents)


def prepare(report: Report, options: argparse.Namespace) -> Work:
    """The model of BERT-base's size and all documents, tokenised."""
    folder = workload.model_folder("embedded" if report.small else options.model, report.scratch)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    count = options.documents or (12 if report.small else 25_000)
    if workload.IMDB.exists():
        what, texts = workload.reviews()
    else:
        what = "generated documents of the lengths of IMDb's test reviews"
        texts = workload.of_imdb_lengths(count, tokenizer)
    texts = texts[:count]
    began = time.perf_counter()
    documents = workload.as_tokens(texts, tokenizer)
    dtype = choose_dtype(options.dtype, choose_device(report.device))[0]
    work = Work(folder, dtype, texts, documents, Loader(folder, dtype, device=report.device), what)
    report.say(
        f"{folder.name} in {name_of(dtype)} over {len(documents):,} {what}: {work.tokens:,} tokens, made in "
        f"{time.perf_counter() - began:.1f} s."
    )
    return work


def ways(work: Work, report: Report) -> dict[str, tuple[Callable[[], Forward], tuple[str, ...], float]]:
    """By title: the function that loads the variant, its reductions, and its share of the documents."""
    budget = BATCH_TOKENS[choose_device(report.device).type]

    def ours(*names: str) -> Callable[[], Forward]:
        return lambda: Attnstore(work.loader.classifier(names))

    return {
        PLAIN.title: (lambda: Plain(work.folder, work.dtype, budget, report.device), (), 1.0),
        "(b) attnstore: cls": (ours("cls"), ("cls",), 1.0),
        THREE.title: (ours(*REDUCTIONS), REDUCTIONS, 1.0),
        f"(b) attnstore: {', '.join(DEFAULT_REDUCTIONS)}": (
            ours(*DEFAULT_REDUCTIONS),
            DEFAULT_REDUCTIONS,
            1.0,
        ),
        "(c) by hand: output_attentions, padded to the longest of 32": (
            lambda: ByHand(work.folder, work.dtype, device=report.device),
            (),
            0.02,
        ),
    }


def forward_passes(report: Report, work: Work, compiled: Compiled) -> None:
    size = 512 if report.small else 8192
    peak = machine.matmul_peak(work.dtype, size, device=report.device)
    report.say("", f"Peak of torch.mm, {size} × {size}: {peak / 1e12:.1f} T operations/s.", "")
    report.say(
        "| way | documents | tokens | seconds | rounds | tokens/s | per token / (a) | share of peak | first batch s |"
    )
    report.say("|---|---|---|---|---|---|---|---|---|")
    shuffled = random.Random(workload.SEED).sample(work.documents, len(work.documents))
    plain, a_round = 0.0, 0.5 if report.small else A_ROUND
    notes: list[str] = []
    for title, (load, reductions, share) in ways(work, report).items():
        some = shuffled[: max(8, int(share * len(shuffled)))]
        began = time.perf_counter()
        forward = load()
        forward(some[:8])
        report.wait()
        first = time.perf_counter() - began
        compiled_before = compiled.since()
        probe = some[: max(8, len(some) // 50)]
        forward(probe)
        per_document = timed(report, forward, probe) / len(probe)
        some = some[: max(8, min(len(some), int(a_round / per_document)))]
        seconds = [timed(report, forward, some)]
        while len(seconds) < 3 and sum(seconds) < a_round:
            seconds.append(timed(report, forward, some))
        tokens = sum(d.length for d in some)
        rate = tokens / statistics.median(seconds)
        plain = plain or rate
        model = work.loader.classifier(REDUCTIONS).model
        work_done = encoder_operations(model, [d.length for d in some], cls_only=bool(reductions))
        report.say(
            f"| {title} | {len(some):,} | {tokens:,} | {statistics.median(seconds):.3f} "
            f"({min(seconds):.3f}–{max(seconds):.3f}) | {len(seconds)} | {rate:,.0f} | **{plain / rate:.3f}** "
            f"| {work_done / statistics.median(seconds) / peak:.0%} | {first:.1f} |"
        )
        if reductions == DEFAULT_REDUCTIONS:
            work.per_document = per_document
            late = compiled.since()
            said = (
                f"Triton compiled {len(compiled_before)} kernels with the first batch and {len(late)} later"
            )
            kernel = work.loader.classifier(reductions).kernel
            notes = [f"{title}: {kernel}. {said}" + (f" (**{'; '.join(late)}**)" if late else "") + "."]
            notes.append(waits_of(report, forward, some[: max(8, len(some) // 20)]))
            if late:
                report.fault("Triton compiled in mid-run")
        del forward
    report.say("", *notes)
    if report.device != "cpu":
        most, there = (
            torch.cuda.max_memory_allocated(),
            torch.cuda.get_device_properties(report.device).total_memory,
        )
        report.say(f"Most memory of the GPU that was in use: {most / 2**30:.1f} of {there / 2**30:.1f} GiB.")


def timed(report: Report, forward: Forward, documents: Sequence[TokenisedDocument]) -> float:
    report.wait()
    began = time.perf_counter()
    forward(documents)
    report.wait()
    return time.perf_counter() - began


def waits_of(report: Report, forward: Forward, documents: Sequence[TokenisedDocument]) -> str:
    """Where the host waits for the GPU, according to torch. Waiting for an event, as results do, is not counted."""
    if report.device == "cpu":
        forward(documents)
        return "Waits of the host: there is no GPU to wait for."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            forward(documents)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = sorted(
        f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchron" in str(w.message).lower()
    )
    counts = ", ".join(f"{place} {places.count(place)} times" for place in dict.fromkeys(places))
    return f"Waits of the host in a pass over {len(documents):,} documents: {counts or 'none'}."


def profile(report: Report, work: Work) -> None:
    """The kernels and calls that take the time of a few batches."""
    forward = Attnstore(work.loader.classifier(DEFAULT_REDUCTIONS))
    shuffled = random.Random(workload.SEED).sample(work.documents, len(work.documents))
    budget = 4 * BATCH_TOKENS[choose_device(report.device).type]
    some = shuffled[: max(8, budget * len(shuffled) // work.tokens)]
    forward(some)
    on_gpu = report.device != "cpu"
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if on_gpu else []
    with torch.profiler.profile(activities=activities) as profiled:
        seconds = timed(report, forward, some)
    events = profiled.key_averages()
    # Entries for calls on the CPU include the time of their kernels; only these entries are the GPU's own.
    kernels = [
        event for event in events if event.device_type != DeviceType.CPU and not event.is_user_annotation
    ]
    for title, some_events, attribute in (
        ("GPU", kernels, "self_device_time_total"),
        ("CPU", events, "self_cpu_time_total"),
    ):
        spent = [(float(getattr(event, attribute)) / 1e6, event.count, event.key) for event in some_events]
        spent = sorted((each for each in spent if each[0] > 0), reverse=True)
        total = sum(each[0] for each in spent)
        busy = f", {total / seconds:.0%} of the {seconds:.3f} s of the pass" if title == "GPU" else ""
        report.say(
            "",
            f"On the {title}: {total:.3f} s{busy}.",
            "",
            "| seconds | share | calls | what |",
            "|---|---|---|---|",
        )
        for own, count, name in spent[:14]:
            report.say(f"| {own:.4f} | {own / total:.0%} | {count:,} | `{name[:90].replace('|', ' ')}` |")


# ---------------------------------------------------------------- 5. a whole run


def whole_run(report: Report, work: Work) -> None:
    data = report.scratch / "documents.jsonl"
    documents = work.texts
    if work.per_document:
        documents = documents[: max(8, int(4 * A_ROUND / work.per_document))]
    workload.write_jsonl(documents, data)
    config = RunConfig(
        SourceConfig(str(data)), str(work.folder), device=report.device, dtype=name_of(work.dtype)
    )
    computed: list[float] = []

    def heard(event: object) -> None:
        if isinstance(event, Computed):
            computed.append(time.perf_counter())

    began = time.perf_counter()
    result = run(config, report.scratch / "store.attn", on_event=heard)
    whole = time.perf_counter() - began
    report.say(
        f"{result.documents:,} documents, {result.tokens:,} tokens: **{whole:.1f} s** from the call to the sealed "
        f"store, of which {computed[0] - began:.1f} s until the first batch was computed (data read, model loaded), "
        f"{result.seconds:.1f} s for all parts, {whole - (computed[-1] - began):.1f} s after the last batch. "
        f"{result.tokens / result.seconds:,.0f} tokens/s of the parts."
    )
    if result.store.sealed is False:
        report.fault("the store is not sealed")
    texts = [document.text for document in documents]
    began = time.perf_counter()
    probabilities = plain_loop.predict(
        str(work.folder), texts, work.dtype, BATCH_TOKENS[choose_device(report.device).type], report.device
    )
    # Read with Arrow alone, because a machine lent for its GPU may have no DuckDB.
    table = parquet.read_table(f"{result.store.path}/documents", columns=["id", "probabilities"])
    stored = dict(zip(table["id"].to_pylist(), table["probabilities"].to_pylist(), strict=True))
    own = np.array([stored[document.id][1] for document in documents])
    theirs = probabilities[:, 1].numpy()
    off = np.abs(own - theirs)
    report.say(
        f"The plain loop (benchmarks/plain_loop.py), predictions alone: {time.perf_counter() - began:.1f} s with its "
        f"tokenizer and model. {int(((own > 0.5) != (theirs > 0.5)).sum())} of {len(own):,} predictions are others; "
        f"probabilities differ by {off.max():.1e} at most, {np.median(off):.1e} in the median."
    )


# ---------------------------------------------------------------- all of it


def section(report: Report, title: str, body: Callable[[], Any]) -> Any:
    """A part of the report. An error in it is recorded."""
    report.say("", f"## {title}", "")
    began = time.perf_counter()
    try:
        found = body()
    except Exception:
        report.faults.append(f"{title}: {traceback.format_exc().strip().splitlines()[-1]}")
        report.say("", "```", *traceback.format_exc().splitlines(), "```")
        return None
    report.say("", f"({time.perf_counter() - began:.0f} s)")
    return found


def describe(device: str) -> Iterator[str]:
    yield from machine.description()
    if device != "cpu":
        properties = torch.cuda.get_device_properties(device)
        yield (
            f"GPU: {hardware(choose_device(device))}, compute capability {properties.major}.{properties.minor}, "
            f"{properties.total_memory / 2**30:.0f} GiB, {properties.multi_processor_count} processors; torch "
            f"built for CUDA {torch.version.cuda}"
        )
    with contextlib.suppress(ImportError):
        import triton

        yield f"triton {triton.__version__}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, …; cpu for a rehearsal")
    parser.add_argument("--small", action="store_true", help="little of everything; prints, writes no result")
    parser.add_argument("--model", default="bert-base", help="of sections 3 to 5: or a folder")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"])
    parser.add_argument("--documents", type=int, help="of sections 3 to 5; 25,000 unless told otherwise")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the result")
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py: torch sees no GPU here; --device cpu --small rehearses it without one")
    if options.device == "cpu" and not options.small:
        sys.exit("benchmarks/gpu.py: --device cpu is a rehearsal, and takes --small with it")
    return options


def main() -> None:
    options = parse()
    began = time.perf_counter()
    compiled = Compiled()
    if ":" in options.device:
        torch.cuda.set_device(options.device)
    with tempfile.TemporaryDirectory(prefix="attnstore-gpu-") as scratch:
        report = Report(options.device, options.small, Path(scratch))
        report.say(f"# The CUDA path, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "")
        report.say(*(f"- {line}" for line in describe(options.device)))
        section(report, "1. Attention alone, against float64", lambda: attention_alone(report))
        section(report, "2. A trained model, against the oracle", lambda: model_against_oracle(report))
        work = section(report, "The work of what follows", lambda: prepare(report, options))
        if work is not None:
            section(report, "3. Forward passes", lambda: forward_passes(report, work, compiled))
            section(report, "4. Where the time goes", lambda: profile(report, work))
            section(report, "5. A whole run", lambda: whole_run(report, work))
        report.say("", "## Faults", "", *(f"- {fault}" for fault in report.faults or ["none"]))
        report.say("", f"It took {(time.perf_counter() - began) / 60:.1f} minutes.")
        name = re.sub(r"[^a-z0-9]+", "-", (hardware(choose_device(options.device)) or "rehearsal").lower())
        folder = report.scratch if options.small else options.out
        folder.mkdir(exist_ok=True)
        path = folder / f"{datetime.now(UTC):%Y-%m-%d}-gpu-{name}.md"
        path.write_text("\n".join(report.lines) + "\n", encoding="utf-8")
        if not options.small:
            print(f"written to {path}")
    sys.exit(1 if report.faults else 0)


if __name__ == "__main__":
    main()
