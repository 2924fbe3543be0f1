"""The tap: attention reduced while a model computes it.

It is official: transformers lets anyone register an attention function by name, hands it the q, k and v of every
layer, and passes extra keyword arguments of `model(...)` down to it. So no model is patched for it, and nothing is
global: each forward pass carries its own `Tap`.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers.masking_utils import AttentionMaskInterface, bidirectional_mask_function, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from attnstore.engine import gradients
from attnstore.engine.paths import cuda, kernel, padded
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
    upload,
)
from attnstore.errors import AttnstoreError, ModelError, UsageError
from attnstore.messages import first_line

T = TypeVar("T")

#: Transformers makes a mask only if a mask function is registered under the same name.
PADDED = "attnstore_padded"
PACKED = "attnstore_packed"


class Tap:
    """Collects the reductions of one forward pass, layer by layer.

    `lengths` are the documents' real lengths, T in all, and `ids` their ids. `weights` is (K, T): a row for each
    reduction that is a row weighting, in order, the documents end to end. If possible, the CPU kernel or the CUDA path
    computes a layer in one call; otherwise `reductions.attend` computes one document after the other, or on a GPU
    `padded.attend` many side by side, and `obstacle` says why the CUDA path could not.

    `differentiated` is the number of the last layer, if the gradient of the logits with respect to its attention is
    needed, else 0. The model is recorded from that attention on, or from the first layer's for a relevance. In this
    case, call the model within `recording`, and then call `differentiate`.

    `projections`: each layer's output projection, if a norm is requested. A hooked model's tap gets the layer's values
    as `value`, (B, S, heads · d_v), before its probabilities.
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
        self._layout: cuda.Layout | None = None  # made in the first layer that needs it
        self._groups: list[padded.Group] = []  # likewise
        self._layers: list[ReducedLayer] = []
        self.differentiated = differentiated
        self.last: gradients.LastLayer | None = None
        self._evidence: dict[int | None, Tensor] = {}  # (T,) by class, None for the predicted one
        self._swept = differentiated > 0 and any(r.relevance for r in reductions)
        self._relevance: Tensor = weights.new_zeros(sum(self.lengths) if self._swept else 0)  # (T,)
        self._first: _First | None = None
        self._kept: list[Tensor] = []  # a hooked model's probabilities, if a relevance is requested
        self._record: Callable[[], object] = _nothing
        self._unmasked: tuple[Tensor | None, bool] = (
            None,
            True,
        )  # the last mask inspected, and the result

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, window: int | None
    ) -> Tensor:
        """One layer. q, k, v: (B, heads, S, d), B = 1 if packed. Returns (B, S, heads, d_v), zero in padding."""
        self.calls += 1
        self.heads = query.shape[1]
        if not self.packed:
            window = None  # the mask includes it, as models do without the tap
        if mask is not None and self._only_padding(mask):
            mask = None
        seen = _Seen(mask, scale, window)
        if self._swept and self.calls > 1:
            key, value = self._of_every_head(key), self._of_every_head(value)
            # torch's graph refers to the backward pass and the tap to the graph: a cycle that no garbage collector can
            # see, and every batch would stay in memory. So the graph has only a weak reference to the tap.
            tap: Tap = weakref.proxy(self)
            forward, back = (
                partial(self._forward, seen=seen),
                partial(Tap._back, tap, seen=seen, layer=self.calls),
            )
            output: Tensor = gradients.Swept.apply(query, key, value, forward, back)  # type: ignore[no-untyped-call]
        else:
            output = self._forward(query, key, value, seen=seen)
        if self.calls == self.start:
            output.requires_grad_()
            if self._swept:
                self._first = _First(
                    query, self._of_every_head(key), self._of_every_head(value), output, seen
                )
            self._record()
        if self._is_last:
            self.last = gradients.LastLayer(output, self._layers[-1].head_rows, value.detach())
        return output

    def _forward(self, query: Tensor, key: Tensor, value: Tensor, *, seen: "_Seen") -> Tensor:
        head_rows = self._head_rows or self._is_last or bool(self._projections)
        output, layer = self._attended(query, key, value, seen, head_rows)
        self._layers.append(layer)
        if self._projections:
            self._add_norm(present(layer.head_rows), value)
        return output

    def _of_every_head(self, x: Tensor) -> Tensor:
        """(B, heads, S, d) of (B, key heads, S, d): in grouped-query attention several share a key head."""
        return x if x.shape[1] == self.heads else x.repeat_interleave(self.heads // x.shape[1], dim=1)

    def _back(
        self, query: Tensor, key: Tensor, value: Tensor, slope: Tensor, *, seen: "_Seen", layer: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One layer's backward pass of attention, and the relevance one layer down. `slope`: (B, S, heads, d_v)."""
        slopes = tuple(torch.zeros_like(x) for x in (query, key, value))
        weights = self._from_first()
        for row, span, tokens, allowed in self._documents(seen.mask):
            found, added = gradients.attention_back(
                query[row, :, span],
                key[row, :, span],
                value[row, :, span],
                slope[row, span].transpose(0, 1),
                seen.scale,
                weights[tokens],
                window=seen.window,
                allowed=allowed,
                first_only=layer == self.differentiated,
                relevance_only=layer == 1,
            )
            if layer > 1:
                for whole, own in zip(slopes, found, strict=True):
                    whole[row, :, span] = own
            self._relevance[tokens] += added
        dq, dk, dv = slopes
        return dq, dk, dv

    def _from_first(self) -> Tensor:
        """(T,): the weight of each row in the sweep: 1 for a first token, plus what has come down to it."""
        weights = self._relevance.clone()
        weights[upload(np.cumsum([0, *self.lengths[:-1]]), weights.device)] += 1
        return weights

    def _documents(self, mask: Tensor | None) -> Iterator[tuple[int, slice, slice, Tensor | None]]:
        """For each document: its entry and rows in q, k and v, its place end to end, and where attention may go."""
        start = 0
        for i, n in enumerate(self.lengths):
            tokens = slice(start, start + n)
            row, span = (0, tokens) if self.packed else (i, slice(0, n))
            yield row, span, tokens, None if mask is None else mask[min(row, mask.shape[0] - 1), :, :n, :n]
            start += n

    def _attended(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        seen: "_Seen",
        head_rows: bool,
    ) -> tuple[Tensor, ReducedLayer]:
        mask, scale, window = seen.mask, seen.scale, seen.window
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
        if _on_gpu(query):
            return self._attended_on_gpu(query, key, value, seen, head_rows)
        key, value = self._of_every_head(key), self._of_every_head(value)
        output = value.new_zeros(query.shape[0], query.shape[2], self.heads, value.shape[-1])
        documents: list[Attended] = []
        for i, (row, span, tokens, allowed) in enumerate(self._documents(mask)):
            attended = attend(
                query[row, :, span],
                key[row, :, span],
                value[row, :, span],
                scale,
                self.weights[:, tokens],
                window=window,
                allowed=allowed,
                head_rows=head_rows,
                custom=self._custom[i] if self._custom else (),
                trace=self._sweep,
            )
            output[row, span] = attended.output.transpose(0, 1)
            attended.output = attended.output.new_empty(0)  # the layer's output now belongs to the model
            documents.append(attended)
        return output, join(documents)

    def _attended_on_gpu(
        self, query: Tensor, key: Tensor, value: Tensor, seen: "_Seen", head_rows: bool
    ) -> tuple[Tensor, ReducedLayer]:
        layout = self._layout = self._layout or cuda.Layout.of(self.lengths, query.device, packed=self.packed)
        self.obstacle = self._gpu_obstacle(query, key, value, seen, head_rows)
        if not self.obstacle:
            return cuda.attend(
                query,
                key,
                value,
                seen.scale,
                layout,
                self.weights,
                window=seen.window,
                head_rows=head_rows,
                keep=self._sweep,
            )
        key, value = self._of_every_head(key), self._of_every_head(value)
        output, layer = padded.attend(
            layout.end_to_end(query),
            layout.end_to_end(key),
            layout.end_to_end(value),
            seen.scale,
            self._side_by_side(query.device),
            self.weights,
            window=seen.window,
            mask=seen.mask,
            head_rows=head_rows,
            keep=self._sweep,
            custom=self._custom,
        )
        return layout.back(output, query.shape[0], query.shape[2]), layer

    def _side_by_side(self, device: torch.device) -> list[padded.Group]:
        if not self._groups:
            self._groups = padded.groups_of(self.lengths, self.heads, device)
        return self._groups

    def _gpu_obstacle(self, query: Tensor, key: Tensor, value: Tensor, seen: "_Seen", head_rows: bool) -> str:
        if query.device.type == "mps":
            return "there is no kernel for mps"
        if seen.mask is not None:
            return "the model's mask hides more than padding"
        if self._custom:
            return "a custom reduction needs full probabilities"
        return cuda.obstacle(
            query,
            key,
            value,
            seen.scale,
            self.weights,
            window=seen.window,
            head_rows=head_rows,
            keep=self._sweep,
        )

    @property
    def _is_last(self) -> bool:
        return self.calls == self.differentiated > 0

    @property
    def start(self) -> int:
        """The number of the layer from whose attention on the model is recorded; 0 for no recording."""
        return 1 if self._swept else self.differentiated

    @contextmanager
    def recording(self) -> Iterator[None]:
        """The context for the model's call if a layer is `differentiated`; the gradient is computed within it."""
        with gradients.recorded_from_here_on() as self._record:
            yield

    def differentiate(self, logits: Tensor) -> None:
        """Find the gradient of the margins of (documents, classes) logits with respect to the last layer's attention.

        Raises NoGradientError if they do not depend on it.
        """
        last = present(self.last)
        leaves = [last.leaf, *self._kept[:-1]]
        if self._first is not None and self._first.output is not last.leaf:
            leaves.append(self._first.output)
        margins: dict[int | None, Tensor] = {
            number: gradients.margins(logits, torch.full((len(logits),), number, device=logits.device))
            for number in {r.of_class for r in self._reductions if r.of_class is not None}
        }
        found = {number: gradients.gradient(margin, last.leaf) for number, margin in margins.items()}
        found[None] = gradients.gradient(gradients.margins(logits), *leaves)
        with torch.no_grad():
            for number, (own, *_) in found.items():
                self._evidence[number] = gradients.evidence(last, own, self.lengths, packed=self.packed)
            if self._first is not None:
                first = self._first
                self._back(first.query, first.key, first.value, found[None][-1], seen=first.seen, layer=1)
            own, *others = found[None]
            for p, slope in reversed([*zip(self._kept, [*others, own], strict=True)] if self._kept else []):
                self._sweep_probabilities(p, slope)

    def _sweep_probabilities(self, p: Tensor, slope: Tensor) -> None:
        """The relevance one layer further down, for a hooked model: both (B, heads, S, S)."""
        weights = self._from_first()
        for row, span, tokens, _ in self._documents(None):
            product = p[row, :, span, span].float() * slope[row, :, span, span].float()
            self._relevance[tokens] += weights[tokens] @ product.clamp_min(0).mean(dim=0)

    def recorded(
        self, inputs: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """A hooked model's attention, for recording if that begins there; else None."""
        if self.calls + 1 != self.start:
            return None  # layers may share the module
        self._record()
        return tuple(map(_leaf, inputs)), {name: _leaf(value) for name, value in keywords.items()}

    def take(self, p: Tensor) -> None:
        """One layer of a hooked model: its own probabilities, (B, heads, S, S)."""
        self.calls += 1
        self.heads = p.shape[1]
        if self._is_last:
            self.last = gradients.LastLayer(p)
        if self._swept:
            self._kept.append(p)
        layer = self._reduced(p.detach())
        self._layers.append(layer)
        if self._projections:
            value = heads_apart(present(self.value).detach(), self.heads)
            self._add_norm(present(layer.head_rows), value)
            self.value = None

    def _reduced(self, p: Tensor) -> ReducedLayer:
        """`p`: (B, heads, S, S)."""
        head_rows = self._head_rows or bool(self._projections)
        if _on_gpu(p):
            return padded.reduce_probabilities(
                p,
                self._side_by_side(p.device),
                self.weights,
                head_rows=head_rows,
                keep=self._sweep,
                custom=self._custom,
            )
        return join(
            [
                reduce_probabilities(
                    p[i, :, :n, :n],
                    weights,
                    head_rows=head_rows,
                    custom=self._custom[i] if self._custom else (),
                    trace=self._sweep,
                )
                for i, (n, weights) in enumerate(zip(self.lengths, self._split_weights(), strict=True))
            ]
        )

    def _add_norm(self, first: Tensor, value: Tensor) -> None:
        """`first`: (T, heads); `value`: (B, key heads, S, d_v)."""
        values = end_to_end(value, self.lengths, packed=self.packed)
        with torch.no_grad():
            self._norms.append(norms(first, values, self._projections[self.calls - 1].weight))

    def _split_weights(self) -> tuple[Tensor, ...]:
        """Each document's row weightings, (K, n)."""
        return torch.split(self.weights, self.lengths, dim=1)

    def _only_padding(self, mask: Tensor) -> bool:
        """Whether a (B, 1, S, S) bool mask hides only padding. All layers share a mask: it is checked once."""
        if self._unmasked[0] is not mask:
            shown = [mask[min(i, mask.shape[0] - 1), :, :n, :n].all() for i, n in enumerate(self.lengths)]
            # One result for all: this waits for a GPU once, not once per document.
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
                values = [self._evidence[reduction.of_class]]
            elif reduction.relevance:
                values = [self._relevance]
            elif reduction.row_weights is not None:
                values = [layer.weighted[rows] for layer in self._layers]
                rows += 1
            else:
                values = [torch.cat([each[customs] for each in layer.custom]) for layer in self._layers]
                customs += 1
            found.update(zip(stored.columns(self.calls), values, strict=True))
        return found


@dataclass(frozen=True, slots=True)
class _Seen:
    """Where one layer's attention may go, and the scale of its scores; the mask is None where it hides only padding."""

    mask: Tensor | None
    scale: float
    window: int | None


@dataclass(frozen=True, slots=True)
class _First:
    """The first layer's attention, which is the last step of the sweep."""

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    seen: _Seen


def _nothing() -> None:
    """The recording context if nothing is recorded."""


def _leaf(value: Any) -> Any:
    return (
        value.detach().requires_grad_() if isinstance(value, Tensor) and value.is_floating_point() else value
    )


def heads_apart(value: Tensor, heads: int) -> Tensor:
    """(B, S, heads · d) as (B, heads, S, d)."""
    return value.reshape(*value.shape[:2], heads, -1).transpose(1, 2)


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.device.type != "cpu"


def present(value: T | None) -> T:
    if value is None:
        raise RuntimeError("a reduction was asked for that the layer did not compute")
    return value


def called(name: str, function: Callable[[Any], object], document: str, given: Any) -> Tensor:
    """The result of a user's function for one document, (n,) float32. Raises UsageError if it is anything else."""
    n = given.shape[-1] if isinstance(given, Tensor) else given.length
    try:
        returned: Any = function(given)
    except (AttnstoreError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # user code may raise anything
        raise UsageError(
            f"the custom reduction {name} failed on document {document}: {type(error).__name__}: {first_line(error)}"
        ) from error
    values: Tensor | None = None
    try:
        if isinstance(returned, np.ndarray):  # it may be read-only or reversed: torch accepts neither
            returned = np.array(returned, dtype=np.float32, order="C")
        values = torch.as_tensor(returned, dtype=torch.float32)
        found = f"shape {tuple(values.shape)}"
    except (TypeError, ValueError, RuntimeError):
        found = f"no numbers but {type(returned).__name__}"
    if values is None or values.shape != (n,):
        raise UsageError(
            f"the custom reduction {name} returned {found} for document {document} of {n} tokens: "
            "it must return one number per token"
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
    """The registered attention function. `attention_tap` is passed down from `model(..., attention_tap=tap)`."""
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
    # transformers counts the window like callers of flash attention: one more than its reach.
    window = None if sliding_window is None else sliding_window - 1
    return attention_tap.attend(query, key, value, attention_mask, scale, window), None


def _mask(
    *,
    mask_function: Callable[..., Any],
    q_offset: int = 0,
    kv_offset: int = 0,
    **given: Any,
) -> Tensor | None:
    """The registered mask function: (B, 1, S, S) bool, or None if only padding is hidden.

    The tap knows the documents' lengths. A mask with only that information would be S² values per document, only to be
    inspected, and inspecting it would wait for a GPU.
    """
    if mask_function is bidirectional_mask_function and not q_offset and not kv_offset:
        return None
    mask: Tensor | None = sdpa_mask(
        mask_function=mask_function, q_offset=q_offset, kv_offset=kv_offset, **given
    )
    return mask


AttentionInterface.register(PADDED, _tapped_attention)
AttentionMaskInterface.register(PADDED, _mask)
AttentionInterface.register(PACKED, _tapped_attention)


@contextmanager
def probabilities_to(
    tap: Tap, model: nn.Module, first: nn.Module | None = None, values: Sequence[nn.Module] = ()
) -> Iterator[list[nn.Module]]:
    """Within this context, every (B, heads, S, S) that a module returns second goes to the tap and is dropped.

    The innermost module that returns one comes first; the modules around it then see an empty tensor. `first` is the
    module from which the tap records; `values` make the values of each layer. Yields a list that has, in the end, the
    modules in layer order.
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
    if first is not None:
        handles.append(first.register_forward_pre_hook(record, with_kwargs=True))
    try:
        yield modules
    finally:
        for handle in handles:
            handle.remove()
