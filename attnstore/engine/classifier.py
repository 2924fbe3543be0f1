"""A fine-tuned classifier whose attention is reduced on the way: load it, tap it, run a batch through it.

The tap is official: transformers lets anyone register an attention function by name, hands it the q, k and v of
every layer, and passes extra keyword arguments of `model(...)` down to it. So no model is patched for it, and nothing
is global: each forward pass carries its own `Tap`. (For speed alone, `linears` exchanges layers for ones that compute
the same, in bfloat16 on a CPU.) Three ways lead through a model, tried in this order and settled
by running three tiny documents when the model is loaded:

1. *packed*: documents end to end in one row, positions that restart at each, no padding and no mask. One public
   forward hook in the last layer gathers what the head needs of each document, behind the attention: of all that
   follows there only the [CLS] rows are computed. For the families in `_PACKED`.
2. *padded*: length-sorted batches with a mask, for every other family that calls registered functions.
3. *hooked*: for families that compute attention themselves (deberta, mpnet, …) and never call us: eager
   attention, and forward hooks that reduce each layer's (heads, S, S) matrix and drop it at once.
"""

import hashlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from attnstore.config import Device, Dtype, RunConfig
from attnstore.engine.batches import Batch, TokenisedDocument, plan_batches
from attnstore.engine.paths import cuda, kernel, linears
from attnstore.engine.reductions import (
    Attended,
    ReducedLayer,
    Reduction,
    attend,
    join,
    reduce_probabilities,
    sweep,
    upload,
)
from attnstore.errors import AttnstoreError, ModelError, UsageError
from attnstore.messages import first_line

T = TypeVar("T")
Way = Literal["packed", "padded", "hooked"]

#: With a mask function registered under the same name, transformers makes a mask; without one it makes none.
_PADDED = "attnstore_padded"
_PACKED_NAME = "attnstore_packed"

_BERT_LAYER = "encoder.layer.*.attention.output"

#: The module of a packable family, below its base model, whose inputs in the last layer (`*`: the last of a list) can
#: be cut to the rows that the head reads: the first one behind the attention that is given all that goes on from there.
_PACKED = {
    "bert": _BERT_LAYER,
    "roberta": _BERT_LAYER,
    "xlm-roberta": _BERT_LAYER,
    "camembert": _BERT_LAYER,
    "electra": _BERT_LAYER,
    "ernie": _BERT_LAYER,
    "albert": "encoder.albert_layer_groups.*.albert_layers.*.attention.LayerNorm",
    "distilbert": "transformer.layer.*.sa_layer_norm",
    "modernbert": "final_norm",
}

#: Families whose learned positions start behind the padding index, as fairseq counts them.
_POSITIONS_BEHIND_PADDING = {"roberta", "xlm-roberta", "camembert"}

#: A packed batch is filled up to a multiple of this: batches of one size reuse each other's memory and products
#: compiled for that size, where a size of its own for each would leave ever more of both behind.
_FILL_TO = 128

#: Tokens in a batch unless told otherwise: enough for full matrix products. On a CPU twice as many are no faster, and
#: half as many take a tenth longer for a small model.
BATCH_TOKENS = {"cpu": 8192, "cuda": 65536}


def _at_once() -> None:
    """What there is to wait for on a CPU."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """What the forward pass leaves of a batch, on the CPU. From a GPU it may still be on its way: reading waits.

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


class Tap:
    """Collects the reductions of one forward pass, layer by layer.

    `lengths` are the documents' real lengths, T in all, and `ids` their ids. `weights` is (K, T): a row for each
    reduction that is a row weighting, in order, the documents end to end. Where the CPU kernel or the CUDA path
    can, they do a layer in one call; elsewhere `reductions.attend` does one document after the other, and
    `obstacle` says why the CUDA path could not.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        weights: Tensor,
        reductions: Sequence[Reduction],
        *,
        packed: bool,
        ids: Sequence[str] = (),
        workspace: kernel.Workspace | None = None,
    ) -> None:
        self.lengths = list(lengths)
        self.weights = weights
        self.packed = packed
        self.calls = 0
        self.heads = 0
        self.obstacle = ""
        self._reductions = reductions
        self._custom = [
            [partial(_called, r.name, r.of_probabilities, id_) for r in reductions if r.of_probabilities]
            for id_ in (ids if any(r.of_probabilities for r in reductions) else ())
        ]
        self._head_rows = any(r.head_rows for r in reductions)
        self._sweep = any(r.sweep for r in reductions)
        self._places = kernel.Places.of(lengths, packed=packed)
        self._workspace = workspace or kernel.Workspace()
        self._layout: cuda.Layout | None = None  # made in the first layer that wants it
        self._layers: list[ReducedLayer] = []
        self._unmasked: tuple[int, bool] = (0, True)  # id of the last mask looked at, and what was seen

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, window: int | None
    ) -> Tensor:
        """One layer. q, k, v: (B, heads, S, d), B = 1 if packed. Returns (B, S, heads, d_v), zero at padding."""
        self.calls += 1
        self.heads = query.shape[1]
        if mask is not None:
            window = None  # a mask, where there is one, has the window in it
            if self._only_padding(mask):
                mask = None
        if mask is None and not self._custom and kernel.serves(query, key, value, scale):
            output, layer = kernel.attend(
                query,
                key,
                value,
                scale,
                self._places,
                self.weights,
                window=window,
                head_rows=self._head_rows,
                keep=self._workspace if self._sweep else None,
                layer=len(self._layers),
            )
            self._layers.append(layer)
            return output
        if _on_cuda(query):
            self.obstacle = self._cuda_obstacle(query, key, value, mask, scale)
            if not self.obstacle:
                self._layout = self._layout or cuda.Layout.of(self.lengths, query.device, packed=self.packed)
                output, layer = cuda.attend(
                    query,
                    key,
                    value,
                    scale,
                    self._layout,
                    self.weights,
                    window=window,
                    head_rows=self._head_rows,
                    keep=self._sweep,
                )
                self._layers.append(layer)
                return output
        if key.shape[1] != self.heads:  # grouped-query attention: several query heads share a key head
            key = key.repeat_interleave(self.heads // key.shape[1], dim=1)
            value = value.repeat_interleave(self.heads // value.shape[1], dim=1)
        output = value.new_zeros(query.shape[0], query.shape[2], self.heads, value.shape[-1])
        documents: list[Attended] = []
        start = 0
        for i, (n, weights) in enumerate(zip(self.lengths, self._split_weights(), strict=True)):
            row, span = (0, slice(start, start + n)) if self.packed else (i, slice(0, n))
            attended = attend(
                query[row, :, span],
                key[row, :, span],
                value[row, :, span],
                scale,
                weights,
                window=window,
                allowed=None if mask is None else mask[min(row, mask.shape[0] - 1), :, :n, :n],
                head_rows=self._head_rows,
                custom=self._custom[i] if self._custom else (),
                trace=self._sweep,
            )
            output[row, span] = attended.output.transpose(0, 1)
            attended.output = attended.output.new_empty(0)  # the layer's output is the model's now
            documents.append(attended)
            start += n
        self._layers.append(join(documents))
        return output

    def _cuda_obstacle(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
    ) -> str:
        if mask is not None:
            return "the model's mask hides more than padding"
        if self._custom:
            return "a custom reduction wants whole probabilities"
        return cuda.obstacle(query, key, value, scale)

    def take(self, p: Tensor) -> None:
        """One layer of a hooked model: its own probabilities, (B, heads, S, S)."""
        self.calls += 1
        self.heads = p.shape[1]
        documents = [
            reduce_probabilities(
                p[i, :, :n, :n],
                weights,
                head_rows=self._head_rows,
                custom=self._custom[i] if self._custom else (),
                trace=self._sweep,
            )
            for i, (n, weights) in enumerate(zip(self.lengths, self._split_weights(), strict=True))
        ]
        self._layers.append(join(documents))

    def _split_weights(self) -> tuple[Tensor, ...]:
        """Each document's row weightings, (K, n)."""
        return torch.split(self.weights, self.lengths, dim=1)

    def _only_padding(self, mask: Tensor) -> bool:
        """Whether a (B, 1, S, S) bool mask hides nothing but padding. All layers share a mask: look once."""
        if self._unmasked[0] != id(mask):
            seen = all(
                bool(mask[min(i, mask.shape[0] - 1), :, :n, :n].all()) for i, n in enumerate(self.lengths)
            )
            self._unmasked = (id(mask), seen)
        return self._unmasked[1]

    def columns(self) -> dict[str, Tensor]:
        """The reductions by column name, (T,) or (T, heads) float32, documents end to end."""
        found: dict[str, Tensor] = {}
        rows = customs = 0
        for reduction in self._reductions:
            stored = reduction.stored
            if reduction.sweep:
                values = [sweep(self._layers, self.lengths)]
            elif reduction.head_rows:
                values = [_present(layer.head_rows) for layer in self._layers]
            elif reduction.row_weights is not None:
                values = [layer.weighted[rows] for layer in self._layers]
                rows += 1
            else:
                values = [torch.cat([each[customs] for each in layer.custom]) for layer in self._layers]
                customs += 1
            found.update(zip(stored.columns(self.calls), values, strict=True))
        return found


def _on_cuda(tensor: Tensor) -> bool:
    return tensor.device.type == "cuda"


def _present(value: T | None) -> T:
    if value is None:
        raise RuntimeError("a reduction was asked for that the layer did not compute")
    return value


def _called(name: str, function: Callable[[Any], object], document: str, given: Any) -> Tensor:
    """What a user's function says of one document, (n,) float32. Raises UsageError if that is something else."""
    n = given.shape[-1] if isinstance(given, Tensor) else given.length
    try:
        returned: Any = function(given)
    except (AttnstoreError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever it is, the user wrote it
        raise UsageError(
            f"the custom reduction {name} failed on document {document}: {type(error).__name__}: {first_line(error)}"
        ) from error
    values: Tensor | None = None
    try:
        if isinstance(returned, np.ndarray):  # which may be read-only, or run backwards: torch wants neither
            returned = np.array(returned, dtype=np.float32, order="C")
        values = torch.as_tensor(returned, dtype=torch.float32)
        found = f"shape {tuple(values.shape)}"
    except (TypeError, ValueError, RuntimeError):
        found = f"no numbers but {type(returned).__name__}"
    if values is None or values.shape != (n,):
        raise UsageError(
            f"the custom reduction {name} returned {found} for document {document} of {n} tokens: "
            "it has to return a number for each"
        )
    return values


def _tapped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    attention_tap: Tap | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The registered attention function. `attention_tap` comes down from `model(..., attention_tap=tap)`."""
    if attention_tap is None:
        raise ModelError("the model does not pass keyword arguments on to its attention")
    if kwargs.get("is_causal") or getattr(module, "is_causal", False):
        raise ModelError(
            "the model is causal (generative): attnstore reads encoders with a classification head"
        )
    for name in ("softcap", "position_bias", "s_aux"):
        if kwargs.get(name) is not None:
            raise ModelError(f"the model's attention uses {name}, which attnstore does not reduce")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # transformers counts the window as flash attention's callers do: one more than the distance it reaches.
    window = None if sliding_window is None else sliding_window - 1
    return attention_tap.attend(query, key, value, attention_mask, scale, window), None


AttentionInterface.register(_PADDED, _tapped_attention)
AttentionMaskInterface.register(_PADDED, sdpa_mask)
AttentionInterface.register(_PACKED_NAME, _tapped_attention)


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
    notes: tuple[str, ...] = ()
    all_null: set[str] = field(default_factory=set)  # the reductions that have given no token a value so far
    room: int = 0  # tokens in a batch that the memory has been seen to hold; `batch_tokens` until it runs out
    _fell: list[str] = field(default_factory=list, repr=False)  # notes about that, not yet given out
    _obstacle: str = field(default="", repr=False)  # why the CUDA path is not taken
    _before: Reduced | None = field(default=None, repr=False)
    _gather: nn.Module | None = field(default=None, repr=False)
    _workspace: kernel.Workspace = field(default_factory=kernel.Workspace, repr=False)

    def __post_init__(self) -> None:
        self.room = self.batch_tokens

    @property
    def padded(self) -> bool:
        """Whether batches are padded, so that planning counts the padded size."""
        return self.way != "packed"

    @property
    def kernel(self) -> str:
        """What computes attention, in words."""
        if self.way == "hooked":
            return "torch: the model computes attention itself"
        if self.device.type == "cuda" and not self._obstacle:
            return cuda.PATH
        if self.device.type == "cuda":
            return f"torch: {self._obstacle}"
        if any(r.of_probabilities is not None for r in self.reductions):
            return "torch: a custom reduction wants whole probabilities"
        return kernel.path(self.dtype)

    def __call__(self, batch: Batch) -> Reduced:
        """One forward pass. Raises ModelError if the model did not call the tap once a layer."""
        ids = [d.ids for d in batch.documents]
        filler = self._filler(batch.tokens)
        tap = self._tap(batch.documents, filler)
        with torch.inference_mode():
            logits = self._forward([*ids, filler] if len(filler) else ids, tap)[: len(ids)]
            if tap.calls != self.layers:
                raise ModelError(f"{self.name} attended {tap.calls} times in {self.layers} layers")
            columns = {name: values[: batch.tokens] for name, values in tap.columns().items()}
            for reduction in [r for r in self.reductions if r.name in self.all_null]:
                if not all(columns[c].isnan().all() for c in reduction.stored.columns(self.layers)):
                    self.all_null.remove(reduction.name)
        self._obstacle = tap.obstacle
        if logits.shape != (len(ids), len(self.labels)):
            raise ModelError(
                f"{self.name} gave logits of shape {tuple(logits.shape)} for {len(ids)} documents"
            )
        if self.device.type != "cuda":
            return Reduced(
                logits.float().cpu(), {name: values.float().cpu() for name, values in columns.items()}
            )
        # A column may be of the CPU: a custom reduction makes what it likes.
        there = {"": logits, **columns}
        found, wait = cuda.fetch({name: values.to(self.device) for name, values in there.items()})
        reduced = Reduced(found.pop(""), found, wait)
        # The GPU has this batch to work on; more than one ahead would only hold memory and blur the progress.
        before, self._before = self._before, reduced
        if before is not None:
            before.wait()
        return reduced

    def pieces(self, batch: Batch) -> Iterator[tuple[Batch, Reduced]]:
        """The batch through the model, in as many pieces as the device's memory asks for.

        Where it runs out, the piece in hand is halved by documents and tried again, and `room` is lowered to what
        the halves hold, for everything that follows: batches, which are planned for `batch_tokens`, are cut to it.
        Raises UsageError if one document alone is too much.
        """
        waiting = deque([batch])
        while waiting:
            piece = waiting.popleft()
            if len(piece.documents) > 1 and self._cost(piece) > self.room:
                smaller = plan_batches(piece.documents, self.room, padded=self.padded)
                waiting.extendleft(reversed(list(smaller)))
                continue
            reduced = None
            with suppress(torch.OutOfMemoryError):  # what the pass held is freed only when the error is gone
                reduced = self(piece)
            if reduced is None:
                self._make_room(piece)
                middle = (len(piece.documents) + 1) // 2
                waiting.extendleft([Batch(piece.documents[middle:]), Batch(piece.documents[:middle])])
            else:
                yield piece, reduced

    def new_notes(self) -> list[str]:
        """What has happened that a user should know and has not been asked for before."""
        notes, self._fell = self._fell, []
        return notes

    def _cost(self, batch: Batch) -> int:
        """What a batch takes of the token budget."""
        return max(batch.lengths) * len(batch.documents) if self.padded else batch.tokens

    def _make_room(self, batch: Batch) -> None:
        """After running out of memory over `batch`: halve the budget, free what is held for nothing."""
        if len(batch.documents) == 1:
            document = batch.documents[0]
            raise UsageError(
                f"document {document.document.id} of {document.length:,} tokens alone is too much for the memory "
                f"of {self.device}: cut documents with a smaller --max-length, or take --dtype bfloat16 or "
                "--device cpu"
            )
        first = self.room == self.batch_tokens
        self.room = max(1, self._cost(batch) // 2)
        if first:
            self._fell.append(
                f"{self.device} ran out of memory with batches of up to {self.batch_tokens:,} tokens: going on with "
                f"{self.room:,} or fewer (--batch-tokens {self.room} begins so)"
            )
        self._before = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _filler(self, tokens: int) -> np.ndarray:
        """Ids of one more document that fills a packed batch up, its results dropped; none for small batches."""
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
                own = _present(reduction.row_weights)
                weights[k, start : start + document.length] = _called(
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
        )

    def _forward(self, ids: Sequence[np.ndarray], tap: Tap) -> Tensor:
        """(documents, classes) logits, in the model's dtype; the tap has been called once a layer."""
        if self.way == "packed":
            return self._forward_packed(ids, tap)
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
        if self.way == "padded":
            logits: Tensor = self.model(**inputs, attention_tap=tap).logits
            return logits
        with _probabilities_to(tap, self.model):
            logits = self.model(**inputs, output_attentions=True).logits
        return logits

    def _forward_packed(self, ids: Sequence[np.ndarray], tap: Tap) -> Tensor:
        lengths = [len(i) for i in ids]
        offset = 0
        if self.model.config.model_type in _POSITIONS_BEHIND_PADDING:
            offset = int(self.model.config.pad_token_id) + 1
        positions = np.concatenate([np.arange(offset, offset + n) for n in lengths])
        starts = upload(np.cumsum([0, *lengths[:-1]]), self.device)

        def cut(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            if tap.calls < self.layers:
                return None  # layers may share the module, as albert's do
            # of (1, T, hidden) each, to (documents, 1, hidden)
            return tuple(rows[0].index_select(0, starts)[:, None] for rows in inputs)

        def pool(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            return torch.stack([rows.mean(dim=0) for rows in torch.split(output[0], lengths)])[:, None]

        gather = _present(self._gather)
        if getattr(self.model.config, "classifier_pooling", "cls") == "mean":
            handle = gather.register_forward_hook(pool)  # of the final states, which takes all rows
        else:
            handle = gather.register_forward_pre_hook(cut)
        try:
            logits: Tensor = self.model(
                input_ids=upload(np.concatenate(ids).astype(np.int64)[None], self.device),
                position_ids=upload(positions[None], self.device),
                attention_tap=tap,
            ).logits
        finally:
            handle.remove()
        return logits


@contextmanager
def _probabilities_to(tap: Tap, model: nn.Module) -> Iterator[None]:
    """While it lasts, every (B, heads, S, S) that a module returns second goes to the tap and is dropped.

    The innermost module that returns one comes first; the modules around it then see an empty tensor.
    """
    batch, longest = len(tap.lengths), max(tap.lengths)

    def reduce(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if not isinstance(output, tuple):
            return None
        for place, item in enumerate(output[1:], start=1):
            if (
                isinstance(item, Tensor)
                and item.dim() == 4
                and item.shape[0] == batch
                and item.shape[2:] == (longest, longest)
                and item.is_floating_point()
            ):
                tap.take(item)
                return (*output[:place], item.new_empty(0), *output[place + 1 :])
        return None

    handles = [m.register_forward_hook(reduce, prepend=True) for m in model.modules() if m is not model]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# ---------------------------------------------------------------- loading


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What a model says of itself before its weights are read: its folder, its config and its tokenizer."""

    folder: Path
    settings: Any
    tokenizer: Any


def read_model_files(config: RunConfig) -> ModelFiles:
    """Find the model, and see that it is what attnstore can read, in a fraction of the time that loading takes.

    Raises ModelError, one line, for whatever is not a single-label text classifier with a fast tokenizer.
    """
    folder = model_folder(config)
    settings = _read_config(folder, config)
    return ModelFiles(folder, settings, _read_tokenizer(folder, config, settings.vocab_size))


def load_classifier(
    config: RunConfig, reductions: tuple[Reduction, ...], files: ModelFiles | None = None
) -> Classifier:
    """Load model and tokenizer, choose device and dtype, and find the way through the model.

    `files` is what `read_model_files` has found, where it was asked before.

    Raises ModelError or UsageError, one line each, for whatever is not a single-label text classifier with
    safetensors weights and a fast tokenizer.
    """
    files = files or read_model_files(config)
    folder, settings, tokenizer = files.folder, files.settings, files.tokenizer
    # oneDNN keeps a compiled product for each of the last 1,024 shapes, hundreds of megabytes in a long run; a
    # batch needs a dozen. It reads this when it compiles the first one.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    device = choose_device(config.device)
    dtype, notes = choose_dtype(config.dtype, device)
    max_length = _max_length(config.max_length, settings, tokenizer)
    if beyond := [r.name for r in reductions if r.shortest > max_length]:
        raise UsageError(
            f"{beyond[0]}: documents are cut at {max_length} tokens here, the last at position {max_length - 1}"
        )
    with _fitting(config.model, device):
        model = _read_model(folder, config, settings, dtype, _PADDED).to(device)
    classifier = Classifier(
        name=config.model,
        model=model,
        tokenizer=tokenizer,
        labels=tuple(str(settings.id2label[i]) for i in range(settings.num_labels)),
        device=device,
        dtype=dtype,
        max_length=max_length,
        reductions=reductions,
        way="padded",
        layers=0,
        heads=0,
        batch_tokens=config.batch_tokens or BATCH_TOKENS[device.type],
        model_sha256=_hash_files(sorted(folder.glob("*.safetensors"))),
        tokenizer_sha256=hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        notes=tuple(notes),
        all_null={r.name for r in reductions},
    )
    with _fitting(config.model, device):
        _find_way(classifier, lambda: _read_model(folder, config, settings, dtype, "eager").to(device))
    return classifier


@contextmanager
def _fitting(model: str, device: torch.device) -> Iterator[None]:
    """Running out of the device's memory in here is told in one line."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"the model {model} is too large for the free memory of {device}: free some, take --dtype bfloat16 "
            "or --device cpu"
        ) from error


def load_eager(config: RunConfig) -> tuple[Any, Any, str]:
    """The model with eager attention in float32 on the CPU, its tokenizer, and the hash of its weights.

    What the oracle compares against: transformers as it is, without the tap.
    """
    files = read_model_files(config)
    model = _read_model(files.folder, config, files.settings, torch.float32, "eager")
    return model, files.tokenizer, _hash_files(sorted(files.folder.glob("*.safetensors")))


def choose_device(asked: str) -> torch.device:
    """The device for `auto`, `cpu` or `cuda`. Raises UsageError for others, and for CUDA where there is none."""
    if asked not in get_args(Device):
        raise UsageError(f"--device {asked}: it is one of {', '.join(get_args(Device))}")
    if asked == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--device cuda: torch sees no CUDA device here; leave the option out, or say --device cpu"
        )
    if asked in ("cpu", "cuda"):
        return torch.device(asked)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices faster than float32 ones.

    Without AMX or AVX512-BF16 a CPU emulates them, about 60 times slower than with.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def choose_dtype(asked: str, device: torch.device) -> tuple[torch.dtype, list[str]]:
    """The dtype for `auto`, `float32`, `bfloat16` or `float16`, and what the user should know about it."""
    if asked not in get_args(Dtype):
        raise UsageError(f"--dtype {asked}: it is one of {', '.join(get_args(Dtype))}")
    fast = fast_bfloat16(device)
    if asked == "auto":
        if device.type == "cuda" and not fast:
            return torch.float16, []
        return (torch.bfloat16 if fast else torch.float32), []
    notes = []
    if asked == "bfloat16" and not fast:
        notes.append("bfloat16 is emulated on this hardware and very slow: --dtype float32 is faster")
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[asked], notes


def local_model(model: str) -> Path | None:
    """The folder of a model that is one; None for what can only be a name on the hub. Raises ModelError for others."""
    if not model.strip():
        raise UsageError("--model is empty: name a model's folder, or a model on the hub")
    local = Path(model).expanduser()
    if local.is_dir():
        if not (local / "config.json").is_file():
            raise ModelError(f"{model} is a folder without config.json: give the folder of a saved model")
        return local
    if local.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ModelError(f"there is no model folder {model}")
    return None


def model_folder(config: RunConfig) -> Path:
    """The local folder of a model: itself, or the snapshot of a hub repository, downloaded if need be.

    Only safetensors weights, JSON and vocabulary files are fetched: never a pickle, and never code unless
    `trust_remote_code` is set.
    """
    if (local := local_model(config.model)) is not None:
        return local
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.safetensors", "*.json", "*.txt", "*.model"] + (
        ["*.py"] if config.trust_remote_code else []
    )
    try:
        return Path(snapshot_download(config.model, revision=config.revision, allow_patterns=patterns))
    except HFValidationError as error:
        raise ModelError(f"{config.model} is neither a folder nor the name of a hub model") from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"there is no folder {config.model}, and the hub can't be reached to look for a model of that name"
        ) from error
    except HfHubHTTPError as error:
        status = f" ({error.response.status_code})" if error.response is not None else ""
        raise ModelError(
            f"the hub has no model {config.model} that can be read{status}: {first_line(error)}"
        ) from error
    except OSError as error:
        raise ModelError(f"can't fetch {config.model} from the hub: {first_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers reports on loading by itself; what matters of it is told in one line, by us."""
    logger = logging.getLogger("transformers")
    level, bars = logger.level, transformers.utils.logging.is_progress_bar_enabled()
    logger.setLevel(logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()


def _read_config(folder: Path, config: RunConfig) -> Any:
    try:
        with _quiet():
            settings = transformers.AutoConfig.from_pretrained(
                folder, trust_remote_code=config.trust_remote_code
            )
    except Exception as error:  # transformers raises many kinds for a config that is not one
        hint = " (--trust-remote-code runs the code it brings)" if "trust_remote_code" in str(error) else ""
        raise ModelError(
            f"can't read the model's config.json in {config.model}{hint}: {first_line(error)}"
        ) from error
    architecture = (settings.architectures or ["no architecture"])[0]
    if settings.is_encoder_decoder or getattr(settings, "is_decoder", False):
        raise ModelError(f"{config.model} is a generative model ({architecture}): attnstore reads encoders")
    if "ForSequenceClassification" not in architecture:
        raise ModelError(
            f"{config.model} has no classification head (it is a {architecture}): "
            "fine-tune it first, for example with `attnstore finetune`"
        )
    if settings.problem_type == "multi_label_classification":
        raise ModelError(f"{config.model} is a multi-label classifier: attnstore reads single-label ones")
    if settings.num_labels < 2:
        raise ModelError(
            f"{config.model} has {settings.num_labels} output (a regression): attnstore needs two classes"
        )
    return settings


#: Any of these holds a vocabulary. Without one, transformers 5 makes an empty tokenizer and says nothing.
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken")


def _read_tokenizer(folder: Path, config: RunConfig, vocabulary_size: int) -> Any:
    if not any(found for pattern in _VOCABULARIES for found in folder.glob(pattern)):
        raise ModelError(
            f"{config.model} has no tokenizer: save it into the model's folder with save_pretrained"
        )
    try:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, trust_remote_code=config.trust_remote_code
            )
    except Exception as error:  # as above: the kinds are many and undocumented
        raise ModelError(f"can't read the tokenizer of {config.model}: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"{config.model} has a tokenizer without a fast version ({type(tokenizer).__name__}): "
            "the places of tokens in the text are known only to fast ones"
        )
    if len(tokenizer) > vocabulary_size:
        raise ModelError(
            f"the tokenizer of {config.model} has {len(tokenizer):,} tokens, its model only {vocabulary_size:,}: "
            "they do not belong together"
        )
    if not tokenizer("").encodings[0].ids:
        raise ModelError(
            f"the tokenizer of {config.model} adds no special tokens: there is no [CLS] to look from"
        )
    return tokenizer


def _max_length(asked: int | None, settings: Any, tokenizer: Any) -> int:
    """The smaller of 512 and the model's own limit, or what was asked for if the model can take it."""
    limits = []
    positions = getattr(settings, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        if settings.model_type in _POSITIONS_BEHIND_PADDING:
            positions -= int(settings.pad_token_id) + 1
        limits.append(positions)
    if 0 < tokenizer.model_max_length < 1_000_000:  # transformers says 1e30 for "no limit known"
        limits.append(int(tokenizer.model_max_length))
    if asked is None:
        return min([512, *limits])
    least = len(tokenizer("").encodings[0].ids) + 1
    if asked < least:
        raise UsageError(f"--max-length {asked} leaves no room for text: the smallest here is {least}")
    # The tokenizer's limit is a habit of training; only the position table is a wall.
    if isinstance(positions, int) and 0 < positions < asked:
        raise UsageError(f"--max-length {asked} is more than the model's {positions} positions")
    return asked


def _read_model(
    folder: Path, config: RunConfig, settings: Any, dtype: torch.dtype, implementation: str
) -> Any:
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{config.model} has no safetensors weights, and pickles are never loaded: "
            "save it again with save_pretrained, which writes safetensors"
        )
    try:
        with _quiet():
            model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=settings,
                dtype=dtype,
                attn_implementation=implementation,
                use_safetensors=True,
                trust_remote_code=config.trust_remote_code,
                output_loading_info=True,
            )
    except Exception as error:  # safetensors, torch and transformers each have their own kinds
        raise ModelError(f"can't load the weights of {config.model}: {first_line(error)}") from error
    missing = sorted(report["missing_keys"]) + sorted(str(m) for m in report.get("mismatched_keys", ()))
    if missing:
        raise ModelError(
            f"the weights of {config.model} lack {len(missing)} tensors of a classifier (first: {missing[0]}): "
            "it was saved without its head, or is not fine-tuned"
        )
    return model.eval()


def _hash_files(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


# ---------------------------------------------------------------- finding the way


def _find_way(classifier: Classifier, reload_eager: Any) -> None:
    """Settle `way`, `layers` and `heads` by running three tiny documents."""
    ids = _probe(classifier)
    tap = _probe_tap(classifier, ids, packed=False)
    with torch.inference_mode():
        logits = classifier._forward(ids, tap)
    if tap.calls == 0:
        classifier.model = reload_eager()
        classifier.way = "hooked"
        with torch.inference_mode():
            logits = classifier._forward(ids, tap)
        if tap.calls == 0:
            raise ModelError(
                f"{classifier.name} ({type(classifier.model).__name__}) shows its attention neither to a registered "
                "function nor to eager attention's output: attnstore can't read it"
            )
    classifier.layers, classifier.heads = tap.calls, tap.heads
    classifier._obstacle = tap.obstacle
    place = _PACKED.get(classifier.model.config.model_type)
    if classifier.way == "padded" and place is not None:
        classifier._gather = _submodule(classifier.model.base_model, place)
        classifier.way = "packed"
        classifier.model.set_attn_implementation(_PACKED_NAME)
        if not _says(classifier, ids, logits):
            # A family member that is built otherwise than its siblings: slower, but right.
            classifier.way = "padded"
            classifier.model.set_attn_implementation(_PADDED)
    if (
        classifier.dtype == torch.bfloat16
        and classifier.device.type == "cpu"
        and fast_bfloat16(classifier.device)
    ):
        restore = linears.fuse(classifier.model.base_model)
        try:
            if not _says(classifier, ids, logits):
                restore()
        except (AttributeError, RuntimeError, TypeError):  # another torch, whose operator is another
            restore()


def _says(classifier: Classifier, ids: Sequence[np.ndarray], logits: Tensor) -> bool:
    """Whether the classifier as it is now gives these documents these logits."""
    with torch.inference_mode():
        found = classifier._forward(ids, _probe_tap(classifier, ids, packed=classifier.way == "packed"))
    tolerance = 1e-4 if classifier.dtype == torch.float32 else 5e-2
    return found.shape == logits.shape and torch.allclose(
        found.float(), logits.float(), atol=tolerance, rtol=tolerance
    )


def _submodule(module: nn.Module, path: str) -> nn.Module:
    """The module at `path` below another; `*` stands for the last of a list."""
    for name in path.split("."):
        module = list(module.children())[-1] if name == "*" else module.get_submodule(name)
    return module


def _probe(classifier: Classifier) -> list[np.ndarray]:
    texts = ["a", "one two three four five", "what was that, and why ever not?"]
    encodings = classifier.tokenizer(texts, truncation=True, max_length=classifier.max_length).encodings
    return [np.array(e.ids, dtype=np.int32) for e in encodings]


def _probe_tap(classifier: Classifier, ids: Sequence[np.ndarray], *, packed: bool) -> Tap:
    lengths = [len(i) for i in ids]
    return Tap(lengths, torch.zeros(0, sum(lengths), device=classifier.device), (), packed=packed)
