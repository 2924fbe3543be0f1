"""The host's work beside the forward pass: each stage's speed on one core, and the pipeline without the pass.

    python benchmarks/host.py [--documents N] [--keep STORE]

The model has twelve layers, so that a token has 26 columns. Its forward pass is replaced by values that were drawn
once, from which every batch takes its own at almost no cost. Stages run one after the other, with one thread for the
tokenizer. Then the whole pipeline runs like `attnstore run`, on all cores except for the tokenizer, which has one.
`--keep` keeps the store of that run, whose files have the same bytes every time: compare two commits by `diff -r` of
`documents`, `tokens` and `totals.parquet`. Times are wall-clock and processor seconds; on a busy machine only the
latter are meaningful. Prints Markdown.
"""

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

# Set before torch and the tokenizer read it: a stage is timed on one core.
os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import machine
import numpy as np
import torch
import transformers
import workload

from attnstore.config import RunConfig, SourceConfig
from attnstore.data.labels import match_labels
from attnstore.data.selection import read_documents
from attnstore.data.sources import open_source
from attnstore.data.survey import survey
from attnstore.embedded import MODEL, REVIEWS
from attnstore.engine.batches import Batch, TokenisedDocument, plan_batches, tokenise
from attnstore.engine.classifier import Classifier, Reduced
from attnstore.engine.devices import usable_threads
from attnstore.engine.loading import load_classifier
from attnstore.engine.models import read_model_files
from attnstore.engine.reductions import resolve_reductions
from attnstore.engine.rows import part_tables
from attnstore.engine.segmenter import Segmenter
from attnstore.pipeline.describe import LoadedModel, describe
from attnstore.pipeline.run import run
from attnstore.store.resume import create_or_resume

LAYERS = 12
#: The number of values drawn once: more than the tokens of any batch.
_DRAWN = 1 << 18


@dataclass(slots=True)
class Took:
    """Wall-clock seconds, and processor seconds of all threads."""

    clock: float = 0.0
    processors: float = 0.0

    @contextmanager
    def more(self) -> Iterator[None]:
        """Add the time spent inside the block."""
        clock, processors = time.perf_counter(), time.process_time()
        yield
        self.clock += time.perf_counter() - clock
        self.processors += time.process_time() - processors


class NoPass:
    """Replaces a classifier's passes: every batch gets the same drawn values, by its tokens' positions in them."""

    def __init__(self, columns: list[str], classes: int) -> None:
        drawn = (
            np.random.default_rng(workload.SEED).random(_DRAWN + 997 * len(columns), np.float32) ** 6 + 1e-6
        )
        # (columns, positions): each column has another offset
        self._values = np.stack([drawn[997 * i : 997 * i + _DRAWN] for i in range(len(columns))])
        self._columns = columns
        self._classes = classes

    def __call__(self, batch: Batch) -> Reduced:
        documents = torch.tensor([d.number for d in batch.documents], dtype=torch.float32)
        logits = torch.stack([torch.sin(documents + c) for c in range(self._classes)], dim=1)
        # Values depend on the document's number, so batches of other sizes give the same store. numpy copies, because
        # it leaves no waiting threads behind.
        starts = [7 * d.number % (_DRAWN // 2) for d in batch.documents]
        own = [self._values[:, at : at + n] for at, n in zip(starts, batch.lengths, strict=True)]
        drawn = torch.from_numpy(np.concatenate(own, axis=1))  # (columns, tokens)
        return Reduced(logits, dict(zip(self._columns, drawn, strict=True)))

    def replacement(self) -> Callable[[Classifier, Batch], Iterator[tuple[Batch, Reduced]]]:
        """A function that replaces `Classifier.pieces`."""

        def pieces(_classifier: Classifier, batch: Batch) -> Iterator[tuple[Batch, Reduced]]:
            yield batch, self(batch)

        return pieces


def save_model(folder: Path, layers: int = LAYERS) -> Path:
    """A BERT with that many thin layers and MiniLM's tokenizer. It is loaded, but never called."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        workload.MINILM if workload.MINILM.exists() else MODEL
    )
    torch.manual_seed(workload.SEED)
    settings = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=24,
        num_hidden_layers=layers,
        id2label={0: "neg", 1: "pos"},
        label2id={"neg": 0, "pos": 1},
    )
    transformers.BertForSequenceClassification(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def stages(config: RunConfig, scratch: Path) -> tuple[dict[str, Took], int, int, Classifier, NoPass]:
    """The time of each stage, one after the other; documents, tokens; the model, and the replacement of its passes."""
    took: defaultdict[str, Took] = defaultdict(Took)
    with took["find the data, read and survey them"].more():
        source = open_source(config.source)
        surveyed = survey(source)
    classifier = load_classifier(config, resolve_reductions(config.reductions), read_model_files(config))
    labels = match_labels(surveyed, classifier.labels, config.source.labels)
    with took["read again (up to the last document taken)"].more():
        documents = list(enumerate(read_documents(source, surveyed, labels, config.source.limit)))
    with took["tokenise"].more():
        tokenised = list(tokenise(documents, classifier.tokenizer, classifier.max_length))
    segmenter = Segmenter()
    model = LoadedModel.of(classifier, config, segmenter, usable_threads())
    manifest = describe(config, source, surveyed, labels, model)
    columns = [column for r in manifest.reductions for column in r.columns(manifest.layers)]
    no_pass = NoPass(columns, len(manifest.labels))
    with create_or_resume(scratch / "stages.attn", manifest) as store:
        for part in store.missing_parts():
            numbers = store.part_range(part)
            own: list[TokenisedDocument] = tokenised[numbers.start : numbers.stop]
            with took["plan"].more():
                planned = list(plan_batches(own, classifier.batch_tokens, padded=classifier.padded))
            results = [(batch, no_pass(batch)) for batch in planned]
            with took["rows, words among them"].more():
                tables = part_tables(manifest, results, segmenter, full_precision=False)
            with took["Parquet and its receipts"].more():
                store.write_part(part, tables.documents, tables.tokens)
        with took["totals, seal"].more():
            store.seal()
    return dict(took), len(tokenised), sum(d.length for d in tokenised), classifier, no_pass


def whole(config: RunConfig, no_pass: NoPass, path: Path) -> Took:
    """The time of a whole run whose passes cost nothing."""
    original = Classifier.pieces
    Classifier.pieces = no_pass.replacement()  # type: ignore[method-assign]
    took = Took()
    try:
        with took.more():
            run(config, path)
    finally:
        Classifier.pieces = original  # type: ignore[method-assign]
    return took


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument(
        "--documents", type=int, help="documents of the test set that are taken; all by default"
    )
    asked.add_argument("--keep", type=Path, help="where the store of the whole run is to be kept")
    given = asked.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    data = workload.IMDB if workload.IMDB.exists() else REVIEWS
    split = "test" if data == workload.IMDB else "all"
    print(f"# The host's side, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n")
    print("\n".join(f"- {line}" for line in machine.description()))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        model = save_model(scratch / "model")
        config = RunConfig(
            SourceConfig(str(data), split=split, limit=given.documents), str(model), device="cpu"
        )
        found, documents, tokens, _, no_pass = stages(config, scratch)
        print(
            f"- data: {data.name}, {documents:,} documents, {tokens:,} tokens, {len(no_pass._columns)} columns\n"
        )
        print("| stage | seconds | on the processors | tokens a second of them |\n|---|---|---|---|")
        found["all of them"] = Took(
            sum(t.clock for t in found.values()), sum(t.processors for t in found.values())
        )
        for name, took in found.items():
            print(
                f"| {name} | {took.clock:.2f} | {took.processors:.2f} | {tokens / max(took.processors, 1e-9):,.0f} |"
            )
        machine.forget_peak()
        os.environ.pop("TOKENIZERS_PARALLELISM")
        took = whole(config, no_pass, given.keep or scratch / "whole.attn")
        print(
            f"\nThe whole pipeline, loading the model among it, passes that cost nothing: {took.clock:.2f} s, "
            f"{took.processors:.2f} on the processors, {tokens / took.clock:,.0f} tokens/s, "
            f"peak {machine.peak_rss():,.0f} MiB; load average at the end {os.getloadavg()[0]:.2f}"
        )


if __name__ == "__main__":
    main()
