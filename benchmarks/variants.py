"""The ways to get a data set's predictions, with or without attention, that the benchmarks compare.

Each takes tokenised documents and returns the values only if asked to. All build their inputs from token ids inside the
timed call; none tokenises in it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from attnstore.config import RunConfig, SourceConfig
from attnstore.engine.batches import Batch, TokenisedDocument, plan_batches
from attnstore.engine.classifier import Classifier
from attnstore.engine.loading import BATCH_TOKENS, load_classifier
from attnstore.engine.paths import memory
from attnstore.engine.reductions import resolve_reductions

Documents = Sequence[TokenisedDocument]
#: A document's reduced attention: (layers, n) for `cls` and `received`, (n,) for `rollout`.
Values = dict[str, np.ndarray]
Forward = Callable[[Documents], None]

#: Tokens per batch of (a), padding included, at its fastest. (b) has attnstore's default.
PLAIN_BATCH_TOKENS = 4096
OUR_BATCH_TOKENS = BATCH_TOKENS["cpu"]
#: The three reductions of attention alone; gradients.py measures the additional cost of a gradient.
REDUCTIONS = ("cls", "received", "rollout")


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the ways. `reductions` are attnstore's, () for the others. `slow` ones get few documents and rounds."""

    key: str
    title: str
    reductions: tuple[str, ...] = ()
    portable: bool = False
    slow: bool = False


PLAIN = Variant("plain", "(a) plain inference, no attention")
SAME_BUDGET = Variant("same-budget", f"(a) with batches of {OUR_BATCH_TOKENS:,} tokens, as (b) has")
THREE = Variant("three", "(b) attnstore: cls, received, rollout", REDUCTIONS)
BY_HAND = Variant("by-hand", "(c) by hand: output_attentions, padded to the longest of 32", slow=True)
PARENT = Variant("parent", "(d) float32, padded to 512, batches of 8", slow=True)
VARIANTS = (
    PLAIN,
    SAME_BUDGET,
    Variant("cls", "(b) attnstore: cls", ("cls",)),
    THREE,
    Variant("heads", "(b) attnstore: cls_heads", ("cls_heads",)),
    Variant("portable", "(b) the same three, without the C++ kernel", REDUCTIONS, portable=True),
    BY_HAND,
    PARENT,
)


class Loader:
    """Loads what variants need of one model, and each model once for all variants that share it."""

    def __init__(
        self, folder: Path, dtype: torch.dtype, max_length: int | None = None, device: str = "cpu"
    ) -> None:
        self.folder, self.dtype, self.max_length, self.device = folder, dtype, max_length, device
        self._classifier: Classifier | None = None

    def classifier(self, reductions: Sequence[str]) -> Classifier:
        """The classifier of a run with these reductions; all share one model."""
        resolved = resolve_reductions(reductions)
        if self._classifier is None:
            name: Any = str(self.dtype).removeprefix("torch.")
            config = RunConfig(
                SourceConfig(""),
                str(self.folder),
                device=self.device,
                dtype=name,
                max_length=self.max_length,
            )
            self._classifier = load_classifier(config, resolved)
        return replace(self._classifier, reductions=resolved)

    def forward(self, variant: Variant) -> Forward:
        """The variant as a function of documents."""
        if variant.reductions:
            return Attnstore(self.classifier(variant.reductions), portable=variant.portable)
        if variant.key == PLAIN.key:
            return Plain(self.folder, self.dtype, PLAIN_BATCH_TOKENS, self.device)
        if variant.key == SAME_BUDGET.key:
            return Plain(self.folder, self.dtype, OUR_BATCH_TOKENS, self.device)
        if variant.key == BY_HAND.key:
            return ByHand(self.folder, self.dtype, device=self.device)
        return Parent(self.folder)


def load_plain(folder: Path, dtype: torch.dtype, attention: str, device: str = "cpu") -> Any:
    """The model, loaded as in transformers' documentation."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention
    )
    return model.eval().to(device)


def padded(documents: Documents, length: int, padding: int, device: str = "cpu") -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`, (documents, length) int64."""
    ids = np.full((len(documents), length), padding, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, document in enumerate(documents):
        ids[row, : document.length] = document.ids
        mask[row, : document.length] = 1
    return {
        "input_ids": torch.from_numpy(ids).to(device),
        "attention_mask": torch.from_numpy(mask).to(device),
    }


class Plain:
    """(a) Predictions alone: stock sdpa, batches sorted by length, padded, under a token budget."""

    def __init__(self, folder: Path, dtype: torch.dtype, batch_tokens: int, device: str = "cpu") -> None:
        self.device = device
        self.model = load_plain(folder, dtype, "sdpa", device)
        self.padding = self.model.config.pad_token_id or 0
        self.batch_tokens = batch_tokens

    def __call__(self, documents: Documents) -> None:
        for batch in plan_batches(documents, self.batch_tokens, padded=True):
            inputs = padded(batch.documents, max(batch.lengths), self.padding, self.device)
            with torch.inference_mode():
                self.model(**inputs).logits.float().cpu().numpy()


class Attnstore:
    """(b) attnstore's forward pass with its reductions; `portable`: as on a CPU without the kernel."""

    def __init__(self, classifier: Classifier, *, portable: bool = False) -> None:
        self.classifier, self.portable = classifier, portable

    def __call__(self, documents: Documents) -> None:
        with memory.kept(), without_kernel() if self.portable else nullcontext():
            last = None
            for batch in self._batches(documents):
                last = self.classifier(batch)  # waits for the batch before, so that a GPU always has work
            if last is not None:
                last.wait()

    def values(self, documents: Documents) -> dict[int, Values]:
        """The three default reductions by document number."""
        found: dict[int, Values] = {}
        for batch in self._batches(documents):
            columns = self.classifier(batch).columns
            arrays = {
                reduction.name: np.stack(
                    [columns[name].numpy() for name in reduction.stored.columns(self.classifier.layers)]
                )
                for reduction in self.classifier.reductions
            }
            start = 0
            for document in batch.documents:
                span = slice(start, start + document.length)
                found[document.number] = {
                    name: array[:, span] if array.shape[0] > 1 else array[0, span]
                    for name, array in arrays.items()
                }
                start += document.length
        return found

    def _batches(self, documents: Documents) -> Iterator[Batch]:
        classifier = self.classifier
        return plan_batches(documents, classifier.batch_tokens, padded=classifier.padded)


@contextmanager
def without_kernel() -> Iterator[None]:
    """Inside the block, torch computes attention, as without a compiler."""
    before = os.environ.get("ATTNSTORE_KERNEL")
    os.environ["ATTNSTORE_KERNEL"] = "off"
    try:
        yield
    finally:
        if before is None:
            del os.environ["ATTNSTORE_KERNEL"]
        else:
            os.environ["ATTNSTORE_KERNEL"] = before


class ByHand:
    """(c) A careful user's code: eager attention with `output_attentions=True`, in the data set's order.

    32 documents at a time, padded to the longest, reduced to the same values. The rollout is computed as rows times
    matrices, not as a product of matrices, which makes this loop faster than most.
    """

    def __init__(self, folder: Path, dtype: torch.dtype, batch: int = 32, device: str = "cpu") -> None:
        self.device = device
        self.model = load_plain(folder, dtype, "eager", device)
        self.padding = self.model.config.pad_token_id or 0
        self.batch = batch

    def __call__(self, documents: Documents) -> None:
        for start in range(0, len(documents), self.batch):
            self._reduce(documents[start : start + self.batch])

    def values(self, documents: Documents) -> dict[int, Values]:
        """The three default reductions by document number."""
        found: dict[int, Values] = {}
        for start in range(0, len(documents), self.batch):
            group = documents[start : start + self.batch]
            arrays = {name: values.cpu().numpy() for name, values in self._reduce(group).items()}
            for row, document in enumerate(group):
                found[document.number] = {
                    name: array[row, ..., : document.length] for name, array in arrays.items()
                }
        return found

    def _reduce(self, documents: Documents) -> dict[str, Tensor]:
        """(B, layers, S) `cls` and `received`, (B, S) `rollout`, float32."""
        inputs = padded(documents, max(d.length for d in documents), self.padding, self.device)
        with torch.inference_mode():
            output = self.model(**inputs, output_attentions=True)
            output.logits.float().cpu().numpy()
            means = [p.mean(dim=1).float() for p in output.attentions]  # (B, S, S) each, heads averaged
            real = inputs["attention_mask"].float()
            weights = real / real.sum(dim=1, keepdim=True)
            row = torch.zeros_like(real)
            row[:, 0] = 1
            for mean in reversed(means):
                row = 0.5 * row + 0.5 * torch.einsum("bi,bij->bj", row, mean)
            return {
                "cls": torch.stack([mean[:, 0] for mean in means], dim=1),
                "received": torch.stack([torch.einsum("bi,bij->bj", weights, mean) for mean in means], dim=1),
                "rollout": row,
            }


class Parent:
    """(d) The settings of attnstore's predecessor: float32, padded to 512, batches of 8, the last layer's [CLS] row."""

    def __init__(self, folder: Path) -> None:
        self.model = load_plain(folder, torch.float32, "eager")
        self.padding = self.model.config.pad_token_id or 0

    def __call__(self, documents: Documents) -> None:
        for start in range(0, len(documents), 8):
            inputs = padded(documents[start : start + 8], 512, self.padding)
            with torch.inference_mode():
                output = self.model(**inputs, output_attentions=True)
                output.logits.numpy()
                output.attentions[-1][:, :, 0].mean(dim=1).numpy()  # (B, S)


def encoder_operations(model: Any, lengths: Sequence[int], *, cls_only: bool) -> float:
    """Floating-point operations of a BERT encoder's matrix products over documents of these lengths, without padding.

    Each linear layer has 2·in·out per token, each attention layer 4·n·hidden per token (QKᵀ and PV); the rest is
    negligible. `cls_only`: after the last attention only for [CLS], as in attnstore.
    """
    settings = model.config
    last = f"encoder.layer.{settings.num_hidden_layers - 1}."
    everywhere = first = 0  # per token, and per document
    for name, module in model.base_model.named_modules():
        if isinstance(module, torch.nn.Linear) and "pooler" not in name:
            operations = 2 * module.in_features * module.out_features
            if cls_only and name.startswith(last) and ".self." not in name:
                first += operations
            else:
                everywhere += operations
    attention = 4 * settings.num_hidden_layers * settings.hidden_size
    return float(sum(everywhere * n + first + attention * n * n for n in lengths))
