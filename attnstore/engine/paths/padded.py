"""The reference for a GPU without flash attention: groups of padded documents, each computed by a few large products.

`reductions.attend` makes about ten calls per document and layer, tens of thousands per batch, and each is too small to
keep a GPU busy. Here documents of similar length share them. The arithmetic is the same, in float32, for any dtype,
head size and mask, and for custom reductions, which still see one document's probabilities at a time.

Memory is quadratic in the longest document of a group, and bounded by the most probabilities that a group may have. A
document that exceeds that alone goes through `reductions.attend` in blocks of rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from attnstore.engine import reductions
from attnstore.engine.reductions import ReducedLayer, upload

#: Most probabilities of a group, in float32: 128 MiB, with intermediate results up to four times that.
BLOCK = 1 << 25

#: A custom reduction: a function of one document's probabilities, (heads, n, n) -> (n,).
Custom = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Group:
    """D documents that are computed together: t tokens end to end, the longest document of n tokens.

    `documents` and `tokens` are slices of the batch. `place`: (D, n) int64, the index of each padded row's token among
    the t; `inside`: (D, n) bool, False in padding. `back`: (t,) int64, the index of each token among the D · n padded
    rows.
    """

    documents: slice
    tokens: slice
    lengths: tuple[int, ...]
    longest: int
    place: Tensor
    inside: Tensor
    back: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], first: int, start: int, device: torch.device) -> "Group":
        """The group of documents of these lengths. `first`, `start`: the number of its first document and token."""
        length = np.array(lengths, dtype=np.int64)
        longest, begin = int(length.max()), np.cumsum(length) - length
        row = np.arange(longest)
        inside = row < length[:, None]
        owner = np.repeat(np.arange(len(length)), length)
        return cls(
            documents=slice(first, first + len(length)),
            tokens=slice(start, start + int(length.sum())),
            lengths=tuple(lengths),
            longest=longest,
            place=upload(np.where(inside, begin[:, None] + row, 0), device),
            inside=upload(inside, device),
            back=upload(np.arange(length.sum()) - begin[owner] + owner * longest, device),
        )

    def side_by_side(self, x: Tensor) -> Tensor:
        """(t, heads, d) as (D, heads, n, d) float32. Values in padding are arbitrary."""
        return x[self.place].transpose(1, 2).float()

    def of_weights(self, weights: Tensor) -> Tensor:
        """(K, t) as (D, K, n), zero in padding."""
        return weights[:, self.place].masked_fill(~self.inside, 0).transpose(0, 1)

    def end_to_end(self, x: Tensor) -> Tensor:
        """(D, k, n) as (k, t)."""
        return x.transpose(0, 1).flatten(1).index_select(1, self.back)


def groups_of(
    lengths: Sequence[int], heads: int, device: torch.device, block: int | None = None
) -> list[Group]:
    """Consecutive documents in groups with at most `block` probabilities each, padding included."""
    block = BLOCK if block is None else block
    found: list[Group] = []
    first = start = 0
    while first < len(lengths):
        last, longest = first + 1, lengths[first]
        while last < len(lengths):
            longer = max(longest, lengths[last])
            if (last + 1 - first) * heads * longer**2 > block:
                break
            last, longest = last + 1, longer
        found.append(Group.of(lengths[first:last], first, start, device))
        start += sum(lengths[first:last])
        first = last
    return found


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    groups: Sequence[Group],
    weights: Tensor,
    *,
    window: int | None = None,
    mask: Tensor | None = None,
    head_rows: bool = False,
    keep: bool = False,
    custom: Sequence[Sequence[Custom]] = (),
    block: int | None = None,
) -> tuple[Tensor, ReducedLayer]:
    """Compute one layer's attention over documents end to end, and its reductions.

    Args:
        query, key: (T, heads, d); value: (T, heads, d_v).
        scale: the factor of the scores.
        groups: from `groups_of` with the same `block`.
        weights: (K, T) float32; K may be 0.
        window: a token attends to those at most `window` positions away, on both sides; None for all.
        mask: (documents or 1, heads or 1, S, S) bool, False where attention may not go.
        head_rows, keep: as in `cuda.attend`.
        custom: the functions of each document; empty if there are none.

    Returns:
        The output, (T, heads, d_v) in the dtype of `value`, and the layer's reductions.
    """
    block = BLOCK if block is None else block
    output = torch.empty_like(value)
    pieces: list[_Piece] = []
    for group in groups:
        own = slice(None) if mask is None or mask.shape[0] == 1 else group.documents
        scores = _Scores(
            query[group.tokens],
            key[group.tokens],
            scale,
            group,
            window,
            None if mask is None else mask[own, :, : group.longest, : group.longest],
        )
        functions = custom[group.documents] if custom else ()
        some = weights[:, group.tokens]
        if len(group.lengths) == 1 and scores.count > block:
            piece, of_group = _alone(scores, value[group.tokens], some, head_rows, functions, keep, block)
        else:
            p = scores.probabilities()
            found = torch.matmul(p.to(value.dtype), value[group.tokens][group.place].transpose(1, 2))
            of_group = found.transpose(1, 2).flatten(0, 1).index_select(0, group.back)
            # Keep the mean only if it is not larger than q and k, as in `reductions.attend`.
            whole = group.longest <= 2 * query.shape[1] * query.shape[2]
            piece = _reduce(p, group, some, head_rows=head_rows, custom=functions, keep=keep and whole)
            if keep and not whole:
                piece.step = partial(_step_of_scores, scores)
        output[group.tokens] = of_group
        pieces.append(piece)
    return output, _joined(pieces, groups)


def reduce_probabilities(
    p: Tensor,
    groups: Sequence[Group],
    weights: Tensor,
    *,
    head_rows: bool = False,
    keep: bool = False,
    custom: Sequence[Sequence[Custom]] = (),
) -> ReducedLayer:
    """The same reductions, from probabilities that the model computed itself: (documents, heads, S, S)."""
    pieces = []
    for group in groups:
        own = p[group.documents, :, : group.longest, : group.longest].float()
        functions = custom[group.documents] if custom else ()
        pieces.append(
            _reduce(own, group, weights[:, group.tokens], head_rows=head_rows, custom=functions, keep=keep)
        )
    return _joined(pieces, groups)


@dataclass(slots=True)
class _Piece:
    """One layer's reductions of a group. `step`: w (t,) -> P̄ᵀw (t,)."""

    weighted: Tensor  # (K, t)
    head_rows: Tensor | None  # (t, heads)
    custom: list[list[Tensor]]
    step: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True, slots=True)
class _Scores:
    """What a group's probabilities are computed from: q and k, (t, heads, d), the scale, the window and the mask."""

    query: Tensor
    key: Tensor
    scale: float
    group: Group
    window: int | None
    allowed: Tensor | None  # (D or 1, heads or 1, n, n)

    @property
    def count(self) -> int:
        """The number of probabilities, padding included."""
        return len(self.group.lengths) * self.query.shape[1] * self.group.longest**2

    def probabilities(self) -> Tensor:
        """(D, heads, n, n) float32. Rows of padding are arbitrary and may be NaN."""
        group = self.group
        q, k = group.side_by_side(self.query), group.side_by_side(self.key)
        scores = torch.matmul(q, k.transpose(-1, -2)).mul_(self.scale)
        scores.masked_fill_(~group.inside[:, None, None, :], -torch.inf)
        if self.window is not None:
            at = torch.arange(group.longest, device=scores.device)
            scores.masked_fill_((at[:, None] - at[None, :]).abs() > self.window, -torch.inf)
        if self.allowed is not None:
            scores.masked_fill_(~self.allowed, -torch.inf)
        return torch.softmax(scores, dim=-1)


def _reduce(
    p: Tensor,
    group: Group,
    weights: Tensor,
    *,
    head_rows: bool,
    custom: Sequence[Sequence[Custom]],
    keep: bool,
) -> _Piece:
    """The reductions of probabilities `p`, (D, heads, n, n) float32. `weights`: (K, t)."""
    mean = _mean(p, group)
    return _Piece(
        weighted=group.end_to_end(group.of_weights(weights) @ mean),
        head_rows=group.end_to_end(p[:, :, 0]).T if head_rows else None,
        custom=[
            [function(p[i, :, :n, :n]) for function in functions]
            for i, (n, functions) in enumerate(zip(group.lengths, custom, strict=True))
        ]
        if custom
        else [[] for _ in group.lengths],
        step=partial(_step, mean, group) if keep else None,
    )


def _mean(p: Tensor, group: Group) -> Tensor:
    """The mean of the heads, (D, n, n), with zeros in rows of padding."""
    return p.mean(dim=1).masked_fill_(~group.inside[:, :, None], 0)


def _step(mean: Tensor, group: Group, w: Tensor) -> Tensor:
    return group.end_to_end(group.of_weights(w[None]) @ mean)[0]


def _step_of_scores(scores: _Scores, w: Tensor) -> Tensor:
    return _step(_mean(scores.probabilities(), scores.group), scores.group, w)


def _alone(
    scores: _Scores,
    value: Tensor,
    weights: Tensor,
    head_rows: bool,
    custom: Sequence[Sequence[Custom]],
    keep: bool,
    block: int,
) -> tuple[_Piece, Tensor]:
    """One long document in blocks of rows: its reductions, and its output, (t, heads, d_v)."""
    found = reductions.attend(
        scores.query.transpose(0, 1),
        scores.key.transpose(0, 1),
        value.transpose(0, 1),
        scores.scale,
        weights,
        window=scores.window,
        allowed=None if scores.allowed is None else scores.allowed[0],
        head_rows=head_rows,
        custom=custom[0] if custom else (),
        trace=keep,
        block=block,
    )
    layer = reductions.join([found])
    piece = _Piece(layer.weighted, layer.head_rows, layer.custom, layer.apply_transposed_mean)
    return piece, found.output.transpose(0, 1)


def _joined(pieces: Sequence[_Piece], groups: Sequence[Group]) -> ReducedLayer:
    """The reductions of all groups, with their tokens end to end."""
    rows = [piece.head_rows for piece in pieces if piece.head_rows is not None]
    steps = [piece.step for piece in pieces if piece.step is not None]

    def apply_transposed_mean(w: Tensor) -> Tensor:
        return torch.cat([step(w[group.tokens]) for step, group in zip(steps, groups, strict=True)])

    return ReducedLayer(
        weighted=torch.cat([piece.weighted for piece in pieces], dim=1),
        head_rows=torch.cat(rows) if rows else None,
        custom=[each for piece in pieces for each in piece.custom],
        apply_transposed_mean=apply_transposed_mean if steps else None,
    )
