"""The CUDA path: flash attention over documents end to end, and a second kernel for the reductions.

Flash attention never stores P, but returns each row's log-sum-exp, and P_ij = exp(q_i·k_j·scale − lse_i). So
`column_sums` computes every reduction of a layer from q, k and lse, in one pass. The rollout's sweep runs the same
kernel again with the weights that have come down to the layer. For that, q, k and lse are kept until the batch is done,
2·d·H + H numbers per token and layer. Keeping P̄ instead would take n numbers per token, which is not linear in the
document's length, and P̄ would be needed even for layers of which only `cls` is requested.

Both kernels are used only after they agreed with `reductions.attend` on this device, with the parameters that the layer
needs. Otherwise `reductions.attend` computes everything, as it always does for float32, which flash attention lacks.
ATTNSTORE_KERNEL=off selects it.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attnstore.engine import reductions
from attnstore.engine.reductions import ReducedLayer, upload

PATH = "flash attention with log-sum-exp, Triton column sums"

#: Columns per tile, which is the work of one program.
_TILE = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of a batch's documents, on the device: D documents with T tokens in all.

    `bounds`: (D + 1,) int32, the first token of each and one beyond the last. `tiles`: (3, tiles) int32, as
    `column_sums` expects them. `entry`, `row`: (T,) int64, a token's place in padded (B, S, …); None if packed.
    """

    longest: int
    bounds: Tensor
    tiles: Tensor
    entry: Tensor | None
    row: Tensor | None

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device, *, packed: bool) -> "Layout":
        """The layout of documents end to end in one entry if packed, else each at the start of its own entry."""
        length = np.array(lengths, dtype=np.int64)
        bounds = np.concatenate([[0], np.cumsum(length)])
        blocks = -(-length // _TILE)
        document = np.repeat(np.arange(len(length)), blocks)
        block = np.arange(blocks.sum()) - np.repeat(np.cumsum(blocks) - blocks, blocks)
        tiles = np.stack([bounds[document], bounds[document + 1], bounds[document] + _TILE * block])
        owner = np.repeat(np.arange(len(length)), length)
        return cls(
            longest=int(length.max()),
            bounds=upload(bounds.astype(np.int32), device),
            tiles=upload(tiles.astype(np.int32), device),
            entry=None if packed else upload(owner, device),
            row=None if packed else upload(np.arange(bounds[-1]) - bounds[owner], device),
        )

    def end_to_end(self, x: Tensor) -> Tensor:
        """(B, heads, S, d) as (T, heads, d), without padding."""
        x = x.transpose(1, 2)  # (B, S, heads, d)
        x = x[0] if self.entry is None or self.row is None else x[self.entry, self.row]
        return x if x.stride(-1) == 1 else x.contiguous()

    def back(self, x: Tensor, batch: int, rows: int) -> Tensor:
        """(T, heads, d) as (B, S, heads, d), zero in padding."""
        if self.entry is None or self.row is None:
            return x[None]
        out = x.new_zeros(batch, rows, *x.shape[1:])
        out[self.entry, self.row] = x
        return out


@dataclass(frozen=True, slots=True)
class Kernels:
    """The parameters that a layer's kernels are compiled for. Layers with the same parameters share the kernels.

    `weightings`: K of the weights. `windowed`, `head_rows`, `keep`: as in `attend`.
    """

    device: torch.device
    dtype: torch.dtype
    heads: int
    key_heads: int
    depth: int
    weightings: int
    windowed: bool
    head_rows: bool
    keep: bool


def obstacle(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    weights: Tensor,
    *,
    window: int | None = None,
    head_rows: bool = False,
    keep: bool = False,
) -> str:
    """Why `attend` can't be called with these arguments; empty if it can. New `Kernels` are tried once, waiting."""
    depth = query.shape[-1]
    if query.device.type != "cuda":
        return f"no CUDA on {query.device.type}"
    if os.environ.get("ATTNSTORE_KERNEL", "").lower() == "off":
        return "ATTNSTORE_KERNEL=off"
    if query.dtype not in (torch.bfloat16, torch.float16) or not query.dtype == key.dtype == value.dtype:
        return f"flash attention has no {str(query.dtype).removeprefix('torch.')}"
    if depth % 8 or depth > 256 or value.shape[-1] != depth:
        return f"flash attention has no heads of {depth} (values {value.shape[-1]})"
    if scale <= 0:
        return f"a scale of {scale}"
    return _disproof(
        Kernels(
            device=query.device,
            dtype=query.dtype,
            heads=query.shape[1],
            key_heads=key.shape[1],
            depth=depth,
            weightings=weights.shape[0],
            windowed=window is not None,
            head_rows=head_rows,
            keep=keep,
        )
    )


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    layout: Layout,
    weights: Tensor,
    *,
    window: int | None = None,
    head_rows: bool = False,
    keep: bool = False,
) -> tuple[Tensor, ReducedLayer]:
    """Compute one layer's attention over a batch, and its reductions. Call it only if there is no `obstacle`.

    Args:
        query: (B, heads, S, d), bfloat16 or float16.
        key, value: (B, key heads, S, d); query heads share key heads evenly.
        scale: the factor of the scores.
        layout: which rows belong to which document; all other rows are padding.
        weights: (K, T) float32, the row weightings of all documents end to end; K may be 0.
        window: a token attends to those at most `window` positions away, on both sides; None for all.
        head_rows: also return the first token's attention row of each head.
        keep: keep the data that the rollout's sweep needs.

    Returns:
        The output, (B, S, heads, d), zero in padding, and the layer's reductions.

    Raises:
        torch.OutOfMemoryError: the device's memory ran out.
    """
    from attnstore.engine.paths.column_sums import column_sums

    q, k, v = (layout.end_to_end(x) for x in (query, key, value))  # (T, heads, d)
    output, lse = _flash(q, k, v, scale, layout, window)
    sums = functools.partial(column_sums, q, k, lse, scale, layout.tiles, block=_TILE, window=window)
    weighted, rows = sums(weights, head_rows=head_rows)

    def apply_transposed_mean(w: Tensor) -> Tensor:
        return sums(w[None])[0][0]

    reduced = ReducedLayer(
        weighted=weighted, head_rows=rows, apply_transposed_mean=apply_transposed_mean if keep else None
    )
    return layout.back(output, query.shape[0], query.shape[2]), reduced


def _flash(
    q: Tensor, k: Tensor, v: Tensor, scale: float, layout: Layout, window: int | None
) -> tuple[Tensor, Tensor]:
    """(T, heads, d) output and (heads, T) float32 log-sum-exp."""
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    # If every document has one row, flash attention folds heads into rows, and the log-sum-exp has another layout.
    longest = max(2, layout.longest)
    output, lse = varlen_attn(
        q,
        k,
        v,
        layout.bounds,
        layout.bounds,
        longest,
        longest,
        return_aux=AuxRequest(lse=True),
        scale=scale,
        window_size=(-1, -1) if window is None else (window, window),
        enable_gqa=q.shape[1] != k.shape[1],
        # By default it splits rows depending on the rest of the batch, which would change the last bits.
        num_splits=1,
    )
    return output, lse


@functools.cache
def _disproof(kernels: Kernels) -> str:
    """Why this device can't use the path; empty if a small ragged batch agrees with the reference."""
    if torch.cuda.get_device_capability(kernels.device) < (8, 0):
        return "flash attention needs compute capability 8.0"
    try:
        return "" if _agrees(kernels) else "flash attention and the reference disagree on this device"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Triton's compiler, a missing C compiler and the driver raise various errors
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


#: Lengths of the documents that the kernels are tried on: one token, more than a tile, a tile. The window is shorter.
_TRIED_LENGTHS = (1, 100, 64)
_TRIED_WINDOW = 9


def _agrees(kernels: Kernels) -> bool:
    """Whether output, sums, head rows and the sweep's step agree with the reference."""
    lengths, heads, group = _TRIED_LENGTHS, kernels.heads, kernels.heads // kernels.key_heads
    scale, window = kernels.depth**-0.5, _TRIED_WINDOW if kernels.windowed else None
    draw = torch.Generator().manual_seed(0)
    (
        q,
        k,
        v,
    ) = (  # heads side by side, as in models, because Triton compiles for the divisors of the strides
        torch.randn(1, sum(lengths), h, kernels.depth, generator=draw)
        .to(kernels.device, kernels.dtype)
        .transpose(1, 2)
        for h in (heads, kernels.key_heads, kernels.key_heads)
    )
    weights = torch.rand(kernels.weightings, sum(lengths), generator=draw).to(kernels.device)
    swept = torch.rand(sum(lengths), generator=draw).to(kernels.device)
    layout = Layout.of(lengths, kernels.device, packed=True)
    output, layer = attend(
        q, k, v, scale, layout, weights, window=window, head_rows=kernels.head_rows, keep=kernels.keep
    )
    step = None if layer.apply_transposed_mean is None else layer.apply_transposed_mean(swept)
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    good, start = True, 0
    for n in lengths:
        own = slice(start, start + n)
        true = reductions.attend(
            q[0, :, own],
            k[0, :, own],
            v[0, :, own],
            scale,
            torch.cat([weights, swept[None]])[:, own],
            window=window,
            head_rows=True,
        )
        pairs = [(layer.weighted[:, own], true.weighted[:-1])]
        if layer.head_rows is not None and true.head_rows is not None:
            pairs.append((layer.head_rows[own], true.head_rows.T))
        if step is not None:
            pairs.append((step[own], true.weighted[-1]))
        good = good and all(torch.allclose(mine, its, rtol=1e-3, atol=1e-6) for mine, its in pairs)
        good = good and torch.allclose(
            output[0, own].float(), true.output.transpose(0, 1).float(), rtol=2**-6, atol=2**-6
        )
        start += n
    return good


# ---------------------------------------------------------------- back to the CPU


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # torch gives it no types


def _pinned(numbers: int) -> Tensor:
    """Float32 memory of the host that a GPU writes to asynchronously.

    Systems limit the amount of such memory, independently of the GPU's own: beyond it, the copy goes to ordinary
    memory, and is synchronous.
    """
    try:
        return torch.empty(numbers, dtype=torch.float32, pin_memory=True)
    except RuntimeError:
        return torch.empty(numbers, dtype=torch.float32)


def fetch(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Callable[[], None]]:
    """Start copying float32 tensors of one GPU to pinned memory, in one copy during the next batch's work.

    Returns the tensors on the CPU, and the function to call before they are read.
    """
    flat = torch.cat([tensor.float().reshape(-1) for tensor in tensors.values()])
    pinned = _pinned(flat.numel())
    side = _side_stream(flat.device)
    side.wait_stream(torch.cuda.current_stream(flat.device))
    with torch.cuda.stream(side):
        pinned.copy_(flat, non_blocking=True)
        flat.record_stream(side)
        done = side.record_event()
    pieces = torch.split(pinned, [tensor.numel() for tensor in tensors.values()])
    found = {
        name: piece.view(tensor.shape) for (name, tensor), piece in zip(tensors.items(), pieces, strict=True)
    }
    return found, done.synchronize
