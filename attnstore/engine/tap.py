"""The tap: attention reduced while a model computes it.

It is official: transformers lets anyone register an attention function by name, hands it the q, k and v of every
layer, and passes extra keyword arguments of `model(...)` down to it. So no model is patched for it, and nothing is
global: each forward pass carries its own `Tap`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from attnstore.engine import gradients
from attnstore.engine.paths import cuda, kernel
from attnstore.engine.reductions import (
    Attended,
    ReducedLayer,
    Reduction,
    attend,
    end_to_end,
    join,
    norms,
    reduce_probabilities,
    sweep,
)
from attnstore.errors import AttnstoreError, ModelError, UsageError
from attnstore.messages import first_line

T = TypeVar("T")

#: With a mask function registered under the same name, transformers makes a mask; without one it makes none.
PADDED = "attnstore_padded"
PACKED = "attnstore_packed"


class Tap:
    """Collects the reductions of one forward pass, layer by layer.

    `lengths` are the documents' real lengths, T in all, and `ids` their ids. `weights` is (K, T): a row for each
    reduction that is a row weighting, in order, the documents end to end. Where the CPU kernel or the CUDA path
    can, they do a layer in one call; elsewhere `reductions.attend` does one document after the other, and
    `obstacle` says why the CUDA path could not.

    `differentiated` is the number of the layer from whose attention on the model is recorded, for the gradient of its
    logits: the last one, or 0 for none. Then `recording` is to be around the model's call, and `found` has the margins'
    gradient afterwards.

    `projections`: of each layer the output projection, where a norm is asked for. A hooked model's tap is given the
    layer's values as `value`, (B, S, heads · d_v), before its probabilities.
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
        differentiated: int = 0,
        projections: Sequence[nn.Linear] = (),
    ) -> None:
        self.lengths = list(lengths)
        self.weights = weights
        self.packed = packed
        self.calls = 0
        self.heads = 0
        self.obstacle = ""
        self._reductions = reductions
        self._custom = [
            [partial(called, r.name, r.of_probabilities, id_) for r in reductions if r.of_probabilities]
            for id_ in (ids if any(r.of_probabilities for r in reductions) else ())
        ]
        self._head_rows = any(r.head_rows for r in reductions)
        self._sweep = any(r.sweep for r in reductions)
        self._projections = projections if any(r.norm for r in reductions) else ()
        self.value: Tensor | None = None
        self._norms: list[Tensor] = []  # (T,) of each layer
        self._places = kernel.Places.of(lengths, packed=packed)
        self._workspace = workspace or kernel.Workspace()
        self._layout: cuda.Layout | None = None  # made in the first layer that wants it
        self._layers: list[ReducedLayer] = []
        self.differentiated = differentiated
        self.last: gradients.LastLayer | None = None
        self._evidence: Tensor | None = None  # (T,)
        self._record: Callable[[], object] = _nothing
        self._unmasked: tuple[Tensor | None, bool] = (
            None,
            True,
        )  # the last mask looked at, and what was seen

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, window: int | None
    ) -> Tensor:
        """One layer. q, k, v: (B, heads, S, d), B = 1 if packed. Returns (B, S, heads, d_v), zero at padding."""
        self.calls += 1
        self.heads = query.shape[1]
        head_rows = self._head_rows or self._is_last or bool(self._projections)
        output, layer = self._attended(query, key, value, mask, scale, window, head_rows)
        self._layers.append(layer)
        if self._projections:
            self._add_norm(present(layer.head_rows), value)
        if self._is_last:
            self.last = gradients.LastLayer(output.requires_grad_(), layer.head_rows, value)
            self._record()
        return output

    def _attended(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scale: float,
        window: int | None,
        head_rows: bool,
    ) -> tuple[Tensor, ReducedLayer]:
        if mask is not None:
            window = None  # a mask, where there is one, has the window in it
            if self._only_padding(mask):
                mask = None
        if mask is None and not self._custom and kernel.serves(query, key, value, scale):
            return kernel.attend(
                query,
                key,
                value,
                scale,
                self._places,
                self.weights,
                window=window,
                head_rows=head_rows,
                keep=self._workspace if self._sweep else None,
                layer=len(self._layers),
            )
        if _on_cuda(query):
            self.obstacle = self._cuda_obstacle(query, key, value, mask, scale)
            if not self.obstacle:
                self._layout = self._layout or cuda.Layout.of(self.lengths, query.device, packed=self.packed)
                return cuda.attend(
                    query,
                    key,
                    value,
                    scale,
                    self._layout,
                    self.weights,
                    window=window,
                    head_rows=head_rows,
                    keep=self._sweep,
                )
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
                head_rows=head_rows,
                custom=self._custom[i] if self._custom else (),
                trace=self._sweep,
            )
            output[row, span] = attended.output.transpose(0, 1)
            attended.output = attended.output.new_empty(0)  # the layer's output is the model's now
            documents.append(attended)
            start += n
        return output, join(documents)

    def _cuda_obstacle(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
    ) -> str:
        if mask is not None:
            return "the model's mask hides more than padding"
        if self._custom:
            return "a custom reduction wants whole probabilities"
        return cuda.obstacle(query, key, value, scale)

    @property
    def _is_last(self) -> bool:
        return self.calls == self.differentiated > 0

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Around the model's call, if there is a layer to be `differentiated`; the gradient is asked for within."""
        with gradients.recorded_from_here_on() as self._record:
            yield

    def differentiate(self, logits: Tensor) -> None:
        """Find what the margins of (documents, classes) logits owe to the last layer's attention.

        Raises NoGradientError if they do not depend on it.
        """
        last = present(self.last)
        found = gradients.gradient(gradients.margins(logits), last)
        with torch.no_grad():
            self._evidence = gradients.evidence(last, found, self.lengths, packed=self.packed)

    def recorded(
        self, inputs: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """What a hooked model's attention is given, to be recorded if its layer is the last; else None."""
        if self.calls + 1 != self.differentiated:
            return None  # layers may share the module
        self._record()
        return tuple(map(_leaf, inputs)), {name: _leaf(value) for name, value in keywords.items()}

    def take(self, p: Tensor) -> None:
        """One layer of a hooked model: its own probabilities, (B, heads, S, S)."""
        self.calls += 1
        self.heads = p.shape[1]
        if self._is_last:
            self.last = gradients.LastLayer(p)
            p = p.detach()
        documents = [
            reduce_probabilities(
                p[i, :, :n, :n],
                weights,
                head_rows=self._head_rows or bool(self._projections),
                custom=self._custom[i] if self._custom else (),
                trace=self._sweep,
            )
            for i, (n, weights) in enumerate(zip(self.lengths, self._split_weights(), strict=True))
        ]
        layer = join(documents)
        self._layers.append(layer)
        if self._projections:
            value = heads_apart(present(self.value).detach(), self.heads)
            self._add_norm(present(layer.head_rows), value)
            self.value = None

    def _add_norm(self, first: Tensor, value: Tensor) -> None:
        """`first`: (T, heads); `value`: (B, key heads, S, d_v)."""
        values = end_to_end(value, self.lengths, packed=self.packed)
        with torch.no_grad():
            self._norms.append(norms(first, values, self._projections[self.calls - 1].weight))

    def _split_weights(self) -> tuple[Tensor, ...]:
        """Each document's row weightings, (K, n)."""
        return torch.split(self.weights, self.lengths, dim=1)

    def _only_padding(self, mask: Tensor) -> bool:
        """Whether a (B, 1, S, S) bool mask hides nothing but padding. All layers share a mask: look once."""
        if self._unmasked[0] is not mask:
            shown = [mask[min(i, mask.shape[0] - 1), :, :n, :n].all() for i, n in enumerate(self.lengths)]
            # One answer for all: a GPU is waited for once, not once a document.
            self._unmasked = (mask, bool(torch.stack(shown).all()))
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
                values = [present(layer.head_rows) for layer in self._layers]
            elif reduction.norm:
                values = self._norms
            elif reduction.evidence:
                values = [present(self._evidence)]
            elif reduction.row_weights is not None:
                values = [layer.weighted[rows] for layer in self._layers]
                rows += 1
            else:
                values = [torch.cat([each[customs] for each in layer.custom]) for layer in self._layers]
                customs += 1
            found.update(zip(stored.columns(self.calls), values, strict=True))
        return found


def _nothing() -> None:
    """What is done to record where nothing is."""


def _leaf(value: Any) -> Any:
    return (
        value.detach().requires_grad_() if isinstance(value, Tensor) and value.is_floating_point() else value
    )


def heads_apart(value: Tensor, heads: int) -> Tensor:
    """(B, S, heads · d) as (B, heads, S, d)."""
    return value.reshape(*value.shape[:2], heads, -1).transpose(1, 2)


def _on_cuda(tensor: Tensor) -> bool:
    return tensor.device.type == "cuda"


def present(value: T | None) -> T:
    if value is None:
        raise RuntimeError("a reduction was asked for that the layer did not compute")
    return value


def called(name: str, function: Callable[[Any], object], document: str, given: Any) -> Tensor:
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


AttentionInterface.register(PADDED, _tapped_attention)
AttentionMaskInterface.register(PADDED, sdpa_mask)
AttentionInterface.register(PACKED, _tapped_attention)


@contextmanager
def probabilities_to(
    tap: Tap, model: nn.Module, last: nn.Module | None = None, values: Sequence[nn.Module] = ()
) -> Iterator[list[nn.Module]]:
    """While it lasts, every (B, heads, S, S) that a module returns second goes to the tap and is dropped.

    The innermost module that returns one comes first; the modules around it then see an empty tensor. `last` is the one
    from which on the tap records; `values` make the values of each layer. Gives a list that has, in the end, the
    modules in the order of their layers.
    """
    batch, longest = len(tap.lengths), max(tap.lengths)
    modules: list[nn.Module] = []

    def reduce(module: nn.Module, _inputs: Any, output: Any) -> Any:
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
                modules.append(module)
                return (*output[:place], item.new_empty(0), *output[place + 1 :])
        return None

    def record(_module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return tap.recorded(inputs, keywords)

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        tap.value = output

    handles = [m.register_forward_hook(reduce, prepend=True) for m in model.modules() if m is not model]
    handles += [m.register_forward_hook(keep) for m in values]
    if last is not None:
        handles.append(last.register_forward_pre_hook(record, with_kwargs=True))
    try:
        yield modules
    finally:
        for handle in handles:
            handle.remove()
