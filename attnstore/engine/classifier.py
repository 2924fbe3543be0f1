"""A fine-tuned classifier whose attention is reduced during the forward pass of a batch.

The tap is official: transformers lets anyone register an attention function by name, hands it the q, k and v of
every layer, and passes extra keyword arguments of `model(...)` down to it. So no model is patched for it, and nothing
is global: each forward pass carries its own `Tap`. (Only for speed, `linears` replaces layers by equivalent ones, in
bfloat16 on a CPU.) There are three ways through a model. They are tried in this order with three tiny documents when
the model is loaded:

1. *packed*: documents end to end in one row, positions that restart at each, no padding and no mask. A public forward
   hook in the last layer, after the attention, selects the rows that the head needs, so only the [CLS] rows of what
   follows are computed. For the families in `_PACKED`.
2. *padded*: length-sorted batches with a mask, for every other family that calls registered functions.
3. *hooked*: for families that compute attention themselves (deberta, mpnet, …) and never call registered functions:
   eager attention, and forward hooks that reduce each layer's (heads, S, S) matrix and discard it at once.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from attnstore.engine.batches import Batch, TokenisedDocument, plan_batches
from attnstore.engine.families import linears_called, positions_of, reads_mean, usable_positions
from attnstore.engine.gradients import InFloat32
from attnstore.engine.paths import cuda, kernel
from attnstore.engine.reductions import Reduction, upload
from attnstore.engine.tap import Tap, called, present, probabilities_to
from attnstore.errors import ModelError, UsageError

Way = Literal["packed", "padded", "hooked"]

#: A packed batch is filled up to a multiple of this: batches of one size reuse each other's memory and the products
#: compiled for that size; with a different size for each, both would accumulate.
_FILL_TO = 128


def _at_once() -> None:
    """Wait for nothing: for a CPU."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """The results of a batch's forward pass, on the CPU. From a GPU they may still be in transit: reading waits.

    `logits`: (documents, classes) float32. `columns`: by column name, (T,) or, per head, (T, heads) float32,
    the documents' tokens end to end in the batch's order. `wait` returns when both have arrived.
    """

    _logits: Tensor
    _columns: dict[str, Tensor]
    wait: Callable[[], None] = _at_once

    @property
    def logits(self) -> Tensor:
        self.wait()
        return self._logits

    @property
    def columns(self) -> dict[str, Tensor]:
        self.wait()
        return self._columns


@dataclass(slots=True)
class Classifier:
    """A loaded model with its tokenizer. Call it with a batch to get the batch's `Reduced`."""

    name: str
    model: Any
    tokenizer: Any
    labels: tuple[str, ...]
    device: torch.device
    dtype: torch.dtype
    max_length: int
    reductions: tuple[Reduction, ...]
    way: Way
    layers: int
    heads: int
    batch_tokens: int
    model_sha256: str
    tokenizer_sha256: str
    reads_types: bool = False  # whether the model gets the token types of a pair
    notes: tuple[str, ...] = ()
    all_null: set[str] = field(default_factory=set)  # the reductions without any value so far
    room: int = 0  # tokens in a batch that are known to fit into memory; `batch_tokens` until it runs out
    _fell: list[str] = field(default_factory=list, repr=False)  # notes about that, not yet reported
    _obstacle: str = field(default="", repr=False)  # why the CUDA path is not taken
    _before: Reduced | None = field(default=None, repr=False)
    _gather: nn.Module | None = field(default=None, repr=False)
    _attentions: list[nn.Module] = field(
        default_factory=list, repr=False
    )  # of a hooked model, layer by layer
    _projections: list[nn.Linear] = field(default_factory=list, repr=False)  # of each layer, if known
    _values: str = field(
        default="", repr=False
    )  # for a hooked model: the names of the layers that make its values
    _workspace: kernel.Workspace = field(default_factory=kernel.Workspace, repr=False)

    def __post_init__(self) -> None:
        self.room = self.batch_tokens

    @property
    def padded(self) -> bool:
        """Whether batches are padded, so that planning counts the padded size."""
        return self.way != "packed"

    @property
    def kernel(self) -> str:
        """The code that computes attention, in words."""
        if self.way == "hooked":
            return "torch: the model computes attention itself"
        if self.device.type == "cuda" and not self._obstacle:
            return cuda.PATH
        if self.device.type != "cpu":
            return f"torch: {self._obstacle}"
        if any(r.of_probabilities is not None for r in self.reductions):
            return "torch: a custom reduction needs full probabilities"
        return kernel.path(self.dtype)

    def __call__(self, batch: Batch) -> Reduced:
        """One forward pass. Raises ModelError if the model did not call the tap once a layer."""
        ids = [d.ids for d in batch.documents]
        types = [d.types for d in batch.documents if d.types is not None] if self.reads_types else []
        filler = self._filler(batch.tokens)
        tap = self._tap(batch.documents, filler)
        if len(filler):
            ids, types = [*ids, filler], [*types, np.zeros_like(filler)] if types else []
        # A gradient can't be recorded for tensors of the inference mode.
        with tap.recording() if tap.differentiated else torch.inference_mode():
            logits = self._forward(ids, tap, types)[: len(batch.documents)]
            if tap.calls != self.layers:
                raise ModelError(f"{self.name} attended {tap.calls} times in {self.layers} layers")
            if tap.differentiated:
                tap.differentiate(logits)
                logits = logits.detach()
            columns = {name: values[: batch.tokens] for name, values in tap.columns().items()}
        self._obstacle = tap.obstacle
        if logits.shape != (len(batch.documents), len(self.labels)):
            raise ModelError(
                f"{self.name} gave logits of shape {tuple(logits.shape)} for {len(batch.documents)} documents"
            )
        if self.device.type != "cuda":
            return Reduced(
                logits.float().cpu(), {name: values.float().cpu() for name, values in columns.items()}
            )
        # A column may be on the CPU: a custom reduction may return any tensor.
        there = {"": logits, **columns}
        found, wait = cuda.fetch({name: values.to(self.device) for name, values in there.items()})
        reduced = Reduced(found.pop(""), found, wait)
        # The GPU is busy with this batch; more than one ahead would only use memory and blur the progress.
        before, self._before = self._before, reduced
        if before is not None:
            before.wait()
        return reduced

    def pieces(self, batch: Batch) -> Iterator[tuple[Batch, Reduced]]:
        """The batch's results, in as many pieces as the device's memory requires.

        If memory runs out, the current piece is halved by documents and tried again, and `room` is lowered to the size
        of the halves for everything that follows: batches, which are planned for `batch_tokens`, are cut to it. Raises
        UsageError if a single document does not fit.
        """
        waiting = deque([batch])
        while waiting:
            piece = waiting.popleft()
            if len(piece.documents) > 1 and self._cost(piece) > self.room:
                smaller = plan_batches(piece.documents, self.room, padded=self.padded)
                waiting.extendleft(reversed(list(smaller)))
                continue
            reduced = None
            with suppress(torch.OutOfMemoryError):  # the pass's memory is freed only when the error is gone
                reduced = self(piece)
            if reduced is None:
                self._make_room(piece)
                middle = (len(piece.documents) + 1) // 2
                waiting.extendleft([Batch(piece.documents[middle:]), Batch(piece.documents[:middle])])
            else:
                yield piece, reduced

    def note_values(self, reduced: Reduced) -> None:
        """Note which reductions now have a value, in results that are on the CPU: this does not wait for a GPU."""
        for reduction in [r for r in self.reductions if r.name in self.all_null]:
            columns = [reduced.columns[name] for name in reduction.stored.columns(self.layers)]
            if not all(column.isnan().all() for column in columns):
                self.all_null.discard(reduction.name)

    def new_notes(self) -> list[str]:
        """Notes for the user that have not been returned before."""
        notes, self._fell = self._fell, []
        return notes

    def _cost(self, batch: Batch) -> int:
        """A batch's share of the token budget."""
        return max(batch.lengths) * len(batch.documents) if self.padded else batch.tokens

    def _make_room(self, batch: Batch) -> None:
        """After running out of memory over `batch`: halve the budget, and free cached memory."""
        if len(batch.documents) == 1:
            document = batch.documents[0]
            raise UsageError(
                f"document {document.document.id} of {document.length:,} tokens alone does not fit in the memory "
                f"of {self.device}: cut documents with a smaller --max-length, or use --dtype bfloat16 or "
                "--device cpu"
            )
        first = self.room == self.batch_tokens
        self.room = max(1, self._cost(batch) // 2)
        if first:
            self._fell.append(
                f"{self.device} ran out of memory with batches of up to {self.batch_tokens:,} tokens: continuing with "
                f"{self.room:,} or fewer (--batch-tokens {self.room} starts with that)"
            )
        self._before = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _filler(self, tokens: int) -> np.ndarray:
        """The ids of a document that fills up a packed batch (its results are dropped); empty for small batches."""
        positions = usable_positions(self.model.config)
        if positions is not None and positions < _FILL_TO:
            return np.empty(0, dtype=np.int32)  # the filler is a document, and needs positions, too
        if self.way != "packed" or tokens <= 8 * _FILL_TO or any(r.of_probabilities for r in self.reductions):
            return np.empty(0, dtype=np.int32)
        return np.zeros(-tokens % _FILL_TO, dtype=np.int32)

    def _tap(self, documents: Sequence[TokenisedDocument], filler: np.ndarray) -> Tap:
        rows = [r for r in self.reductions if r.row_weights is not None]
        lengths = [*(d.length for d in documents), *([len(filler)] if len(filler) else [])]
        weights = np.zeros((len(rows), sum(lengths)), dtype=np.float32)
        for k, reduction in enumerate(rows):
            start = 0
            for document in documents:
                own = present(reduction.row_weights)
                weights[k, start : start + document.length] = called(
                    reduction.name, own, document.document.id, document
                ).cpu()
                start += document.length
        return Tap(
            lengths,
            upload(weights, self.device),
            self.reductions,
            packed=self.way == "packed",
            ids=[d.document.id for d in documents],
            workspace=self._workspace,
            differentiated=self.layers if any(r.evidence or r.relevance for r in self.reductions) else 0,
            projections=self._projections,
        )

    def _forward(self, ids: Sequence[np.ndarray], tap: Tap, types: Sequence[np.ndarray] = ()) -> Tensor:
        """(documents, classes) logits, in the model's dtype; the tap has been called once a layer.

        `types`: each document's token types, like its `ids` (n,); empty for a model without them.
        """
        if self.way == "packed":
            return self._forward_packed(ids, tap, types)
        longest = max(len(i) for i in ids)
        padding = self.tokenizer.pad_token_id
        input_ids = np.full((len(ids), longest), 0 if padding is None else padding, dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.int64)
        for row, document in enumerate(ids):
            input_ids[row, : len(document)] = document
            mask[row, : len(document)] = 1
        inputs = {
            "input_ids": upload(input_ids, self.device),
            "attention_mask": upload(mask, self.device),
        }
        if types:
            type_ids = np.zeros_like(input_ids)
            for row, of_document in enumerate(types):
                type_ids[row, : len(of_document)] = of_document
            inputs["token_type_ids"] = upload(type_ids, self.device)
        if self.way == "padded":
            logits: Tensor = self.model(**inputs, attention_tap=tap).logits
            return logits
        first = self._attentions[tap.start - 1] if tap.start else None
        values = linears_called(self.model.base_model, self._values) if self._values else []
        with probabilities_to(tap, self.model, first, values) as modules:
            logits = self.model(**inputs, output_attentions=True).logits
        self._attentions = modules
        return logits

    def _forward_packed(self, ids: Sequence[np.ndarray], tap: Tap, types: Sequence[np.ndarray]) -> Tensor:
        lengths = [len(i) for i in ids]
        positions = np.concatenate([positions_of(each, self.model.config) for each in ids])
        starts = upload(np.cumsum([0, *lengths[:-1]]), self.device)

        def cut(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            if tap.calls < self.layers:
                return None  # layers may share the module, as albert's do
            if tap.differentiated:
                behind.enter_context(InFloat32())
            # of (1, T, hidden) each, to (documents, 1, hidden)
            return tuple(rows[0].index_select(0, starts)[:, None] for rows in inputs)

        def pool(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            return torch.stack([rows.mean(dim=0) for rows in torch.split(output[0], lengths)])[:, None]

        of_types = {}
        if types:
            of_types["token_type_ids"] = upload(np.concatenate(types).astype(np.int64)[None], self.device)
        gather = present(self._gather)
        behind = ExitStack()
        if reads_mean(self.model.config):
            handle = gather.register_forward_hook(pool)  # of the final states, for which all rows are needed
        else:
            handle = gather.register_forward_pre_hook(cut)
        try:
            with behind:
                logits: Tensor = self.model(
                    input_ids=upload(np.concatenate(ids).astype(np.int64)[None], self.device),
                    position_ids=upload(positions[None], self.device),
                    attention_tap=tap,
                    **of_types,
                ).logits
        finally:
            handle.remove()
        return logits
