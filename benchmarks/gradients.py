"""The cost of reductions with a gradient, and their errors against autograd, over real reviews.

    python benchmarks/gradients.py                                  # MiniLM, writes results/<date>-gradients.md
    python benchmarks/gradients.py --models embedded --documents 64 --rounds 2 --no-result

In one process with one thread, every set of reductions runs over a batch before the next batch is taken, in a random
order, after one round that is not counted. Times are processor seconds, so that other load on the machine does not
count. A ratio is the median over rounds of the ratio of a round's sums. The documents are a fixed random sample of the
IMDb test set.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import machine
import numpy as np
import torch
import transformers
import workload
from engine import RESULTS
from variants import OUR_BATCH_TOKENS, PLAIN, REDUCTIONS, Attnstore, Documents, Forward, Loader

from attnstore.check.oracle import Oracle, reduced_by_definition
from attnstore.config import RunConfig, SourceConfig
from attnstore.engine.batches import plan_batches
from attnstore.engine.devices import choose_dtype
from attnstore.engine.loading import load_classifier
from attnstore.engine.paths import kernel
from attnstore.engine.reductions import resolve_reductions

#: The comparisons: a set of reductions, and the one that it is compared with ("": plain inference).
SETS = {
    "attention": REDUCTIONS,
    "evidence": (*REDUCTIONS, "evidence"),
    "norm": (*REDUCTIONS, "norm"),
    "relevance": (*REDUCTIONS, "relevance"),
    "by_class": (*REDUCTIONS, "evidence_by_class"),
}
AGAINST = tuple((name, other) for other in ("attention", "") for name in SETS if name != other)


def costs(folder: Path, dtype: torch.dtype, documents: Documents, rounds: int) -> Iterator[str]:
    """Markdown: a row for each pair of `AGAINST`."""
    forwards: dict[str, Forward] = {"": Loader(folder, dtype).forward(PLAIN)}
    for name, reductions in SETS.items():
        config = RunConfig(SourceConfig(""), str(folder), device="cpu", dtype=_name(dtype))
        forwards[name] = Attnstore(load_classifier(config, resolve_reductions(reductions)))
    shuffle = random.Random(workload.SEED)
    batches = [batch.documents for batch in plan_batches(documents, OUR_BATCH_TOKENS, padded=False)]
    seconds: dict[str, list[float]] = {name: [0.0] * (rounds + 1) for name in forwards}
    for number in range(rounds + 1):
        for batch in batches:
            for name in shuffle.sample(list(forwards), len(forwards)):
                began = time.process_time()
                forwards[name](batch)
                seconds[name][number] += time.process_time() - began
    seconds = {name: values[1:] for name, values in seconds.items()}
    yield "| reductions | seconds | against | ratio | from–to (rounds) |"
    yield "|---|---|---|---|---|"
    for name, other in AGAINST:
        ratios = [mine / its for mine, its in zip(seconds[name], seconds[other], strict=True)]
        against = ", ".join(SETS[other]) if other else "plain inference (sdpa, sorted, padded)"
        yield (
            f"| {', '.join(SETS[name])} | {statistics.median(seconds[name]):.3f} | {against} "
            f"| **{statistics.median(ratios):.3f}** | {min(ratios):.3f}–{max(ratios):.3f} ({rounds}) |"
        )


def nearness(folder: Path, dtype: torch.dtype, documents: Documents, names: Sequence[str]) -> Iterator[str]:
    """Markdown: a row per reduction, with its error against autograd in float32, relative to a document's largest
    value.
    """
    config = RunConfig(SourceConfig(""), str(folder), device="cpu", dtype=_name(dtype))
    classifier = load_classifier(config, resolve_reductions(names))
    oracle = Oracle(str(folder))
    errors: dict[str, list[float]] = {}
    for batch in plan_batches(documents, classifier.batch_tokens, padded=classifier.padded):
        reduced = classifier(batch)
        starts = np.cumsum([0, *batch.lengths])
        for place, document in enumerate(batch.documents):
            predicted = int(reduced.logits[place].argmax())
            _, attentions = oracle(document.ids)
            gradients = oracle.gradients(document.ids, predicted)
            norms = oracle.norms(document.ids) if "norm" in names else []
            for reduction in classifier.reductions:
                values = reduced_by_definition(attentions, reduction.name, gradients, norms)
                columns = reduction.stored.columns(classifier.layers)
                for column, true in zip(
                    columns, values if reduction.stored.per_layer else [values], strict=True
                ):
                    own = reduced.columns[column][starts[place] : starts[place + 1]].numpy()
                    error = float(np.abs(own - true).max() / np.abs(true).max())
                    errors.setdefault(reduction.name, []).append(error)
    yield f"| {_name(dtype)}, {len(documents)} documents | median | 95 % | worst |"
    yield "|---|---|---|---|"
    for name, found in errors.items():
        middle, most = np.quantile(found, (0.5, 0.95))
        yield f"| {name} | {middle:.1e} | {most:.1e} | {max(found):.1e} |"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="minilm", help="of embedded, minilm, bert-base, or folders")
    parser.add_argument("--documents", type=int, default=320)
    parser.add_argument("--near", type=int, default=100, help="documents held against autograd")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--no-result", action="store_true", help="print, and write no file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines: list[str] = []

    def write(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    name, texts = workload.reviews()
    write(f"# Reductions with a gradient, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    write("")
    for line in (*machine.description(), f"documents: a random sample of {name}, cut at 512 tokens"):
        write(f"- {line}")
    kernel.path()
    with tempfile.TemporaryDirectory(prefix="attnstore-bench-") as scratch:
        for model in options.models.split(","):
            folder = workload.model_folder(model, Path(scratch))
            dtype = choose_dtype(options.dtype, torch.device("cpu"))[0]
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            documents = workload.as_tokens(texts[: options.documents], tokenizer)
            tokens = sum(document.length for document in documents)
            write(f"\n## {model}, {_name(dtype)}, {len(documents)} documents, {tokens:,} tokens\n")
            for line in costs(folder, dtype, documents, options.rounds):
                write(line)
            for held in dict.fromkeys((torch.float32, dtype)):
                write("\nError against autograd in float32, over the document's largest value:\n")
                for line in nearness(
                    folder, held, documents[: options.near], ("evidence", "norm", "relevance")
                ):
                    write(line)
    if not options.no_result:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-gradients.md"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"written to {path}")


if __name__ == "__main__":
    main()
