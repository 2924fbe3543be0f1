"""Reductions with a gradient: how much the attention to a token supports the prediction.

Let M be a document's margin: the logit of the predicted class minus the log-sum-exp of the other classes' logits (with
two classes, the difference of the logits). With P the last layer's probabilities, v its values and O_i = Σ_j P_ij v_j
its attention's output, all per head,

    ∂M/∂P_0j = dO_0 · v_j,   dO = ∂M/∂O                                                               (1)

and `evidence` is attention times gradient in the row of [CLS], the mean over the H heads (the gradient of attention:
Serrano & Smith 2019; the product, with the mean over heads: Chefer et al. 2021, equation 5, of one layer and with its
sign):

    e_j = (1/H) Σ_h P_0j · (dO_0 · v_j)          so that   Σ_j e_j = (1/H) dO_0 · O_0                 (2)

which is, over H, the first-order change of M if [CLS] gathers more of what it gathers. Positive values support the
prediction, negative ones oppose it. If the classification head reads only the state of [CLS], every other row of dO is
zero, and (2) is complete; a head that reads more has no such row, and is refused.

`relevance` is the same product in all layers, without negative values (Chefer et al. 2021, equations 5 and 6): from
the row of [CLS] down through all layers,

    r = e_0ᵀ (I + B_L) ⋯ (I + B_1) − e_0ᵀ,   B_l = (1/H) Σ_h (P ∘ ∂M/∂P)₊,   ∂M/∂P_ij = dO_i · v_j         (3)

No product of matrices is needed: w starts as e_0, and w ← w + B_lᵀw at each layer, when the backward pass has its dO.
P is recomputed there, block by block, so memory stays linear in a document's length; a model that computes attention
itself keeps P of all layers, which is quadratic.

The backward pass for evidence is short: from the margin through classifier, pooler, norm and feed-forward to the last
attention. If the batch is cut to the [CLS] rows after that attention, as packed batches are, it needs about 10 d²
multiplications per document. They are computed in float32 whatever the model's dtype.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attnstore.engine.reductions import BLOCK, blocks_of, end_to_end, probabilities, upload


class NoGradientError(Exception):
    """The margin's gradient does not reach the last attention as the reductions need it. The message is one line."""


@dataclass(frozen=True, slots=True)
class LastLayer:
    """What the last layer keeps of a batch for the backward pass: `leaf`, from which the rest of the model is
    computed.

    `leaf`: the attention's output, (B, S, heads, d_v), or a hooked model's probabilities, (B, heads, S, S). Then
    `first` (T, heads) float32, the first tokens' probabilities, and `values` (B, key heads, S, d_v), are None.
    """

    leaf: Tensor
    first: Tensor | None = None
    values: Tensor | None = None


@contextmanager
def recorded_from_here_on() -> Iterator[Callable[[], object]]:
    """Within it, nothing is recorded for a gradient until the yielded function is called, then everything."""
    with torch.no_grad():  # its end restores the previous state, whatever is set in between
        yield lambda: torch.set_grad_enabled(True)


def margins(logits: Tensor, classes: Tensor | None = None) -> Tensor:
    """(D,) float32: the logit of each document's class minus the log-sum-exp of the others'.

    `logits`: (D, classes), two or more. `classes`: (D,), None for the one with the highest logit.
    """
    logits = logits.float()
    own = (logits.argmax(dim=-1) if classes is None else classes)[:, None]  # (D, 1)
    others = logits.scatter(1, own, -torch.inf).logsumexp(dim=-1)
    return logits.gather(1, own)[:, 0] - others


def gradient(margin: Tensor, *leaves: Tensor) -> list[Tensor]:
    """∂ Σ margin / ∂ leaf for each leaf, in its shape. Raises NoGradientError if the margin does not depend on one."""
    if margin.requires_grad:
        found = torch.autograd.grad(margin.sum(), leaves, retain_graph=True, allow_unused=True)
        if all(each is not None for each in found):
            return list(found)
    raise NoGradientError("its logits do not depend on its last attention")


class Swept(torch.autograd.Function):
    """Attention with an explicit backward pass: `forward` and `back` are those of one layer.

    forward(q, k, v) -> (B, S, heads, d_v); back(q, k, v, dO) -> dq, dk, dv.
    """

    @staticmethod
    def forward(
        context: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        forward: Callable[[Tensor, Tensor, Tensor], Tensor],
        back: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]],
    ) -> Tensor:
        context.save_for_backward(query, key, value)
        context.back = back
        return forward(query, key, value)

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> Any:
        return (*context.back(*context.saved_tensors, *slopes), None, None)


def attention_back(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    slope: Tensor,
    scale: float,
    weights: Tensor,
    *,
    window: int | None = None,
    allowed: Tensor | None = None,
    first_only: bool = False,
    relevance_only: bool = False,
    block: int = BLOCK,
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """The backward pass of one document's attention: (dq, dk, dv), float32 in the tensors' shapes, and Bᵀw, (n,).

    Args:
        query, key, value: (heads, n, d), as in `reductions.attend`; `scale`, `window` and `allowed` as well.
        slope: dO, (heads, n, d_v).
        weights: w, (n,) float32.
        first_only: all rows of dO but the first are 0, and so are those of w.
        relevance_only: leave the gradients at 0.
        block: how many probabilities may be alive at once.
    """
    heads, n, _ = query.shape
    query, key, value, slope = query.float(), key.float(), value.float(), slope.float()
    dq, dk, dv = torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
    added = torch.zeros_like(weights)
    for rows, columns in [(slice(0, 1), slice(0, n))] if first_only else blocks_of(heads, n, window, block):
        p = probabilities(
            query[:, rows],
            key[:, columns],
            scale,
            first_row=rows.start,
            first_column=columns.start,
            window=window,
            allowed=None if allowed is None else allowed[..., rows, columns],
        )  # (heads, rows, columns)
        own = slope[:, rows]
        if not relevance_only:
            dv[:, columns] += p.transpose(1, 2) @ own
        product = (own @ value[:, columns].transpose(1, 2)).mul_(p)
        positive = product.clamp_min(0).sum(dim=0)  # (rows, columns)
        added[columns] += (weights[rows] @ positive) / heads
        if not relevance_only:
            of_scores = torch.addcmul(product, p, product.sum(dim=-1, keepdim=True), value=-1).mul_(scale)
            dq[:, rows] = of_scores @ key[:, columns]
            dk[:, columns] += of_scores.transpose(1, 2) @ query[:, rows]
    return (dq, dk, dv), added


def evidence(last: LastLayer, found: Tensor, lengths: Sequence[int], *, packed: bool) -> Tensor:
    """Equation (2) for every document, (T,) float32, end to end. `found`: the gradient, in the leaf's shape."""
    if last.first is None or last.values is None:
        products = (last.leaf.detach()[:, :, 0].float() * found[:, :, 0].float()).mean(dim=1)  # (B, S)
        return torch.cat([row[:n] for row, n in zip(products, lengths, strict=True)])
    own = _first_rows(found, lengths, packed=packed)  # (D, heads, d_v)
    owner = upload(
        np.repeat(np.arange(len(lengths)), lengths), own.device
    )  # (T,): the document of each token
    values = end_to_end(last.values, lengths, packed=packed)  # (T, key heads, d_v)
    values = values.repeat_interleave(own.shape[1] // values.shape[1], dim=1)
    along = (values.float() * own.float()[owner]).sum(dim=-1)  # (T, heads)
    return (last.first * along).mean(dim=1)


def must_be_of_first_rows(last: LastLayer, found: Tensor, lengths: Sequence[int], *, packed: bool) -> None:
    """Raise NoGradientError if any attention row except the documents' first ones affects the margin."""
    own = found[:, :, 0] if last.first is None else _first_rows(found, lengths, packed=packed)
    if not own.any():
        raise NoGradientError("its head does not read the state of the first token ([CLS])")
    if found.count_nonzero() > own.count_nonzero():
        raise NoGradientError("its head reads more than the state of the first token ([CLS])")


def _first_rows(x: Tensor, lengths: Sequence[int], *, packed: bool) -> Tensor:
    """(D, heads, d) of (B, S, heads, d): each document's first row."""
    return x[0, upload(np.cumsum([0, *lengths[:-1]]), x.device)] if packed else x[:, 0]


#: Functions that torch computes only for arguments of one dtype; everything else in a head uses the widest dtype.
_OF_ONE_DTYPE = frozenset((nn.functional.linear, nn.functional.layer_norm, nn.functional.rms_norm))


class InFloat32(TorchFunctionMode):
    """Within this context, linear layers and norms compute in float32, whatever the dtype of their input and weights.

    For the few rows after the last attention, because a gradient in bfloat16 would have an error of one per cent.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _OF_ONE_DTYPE:
            args = [_widened(value) for value in args]
            kwargs = {name: _widened(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
