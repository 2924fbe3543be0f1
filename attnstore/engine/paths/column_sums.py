"""The Triton kernel: the attention that every token gets, from q, k and the log-sum-exp of each query's scores.

    out_j = Σ_i w_i · 1/H Σ_h exp(q_hi·k_hj·scale − lse_hi)

One program computes one block of columns j of one document. It goes through the document's rows in order, sums the
heads in registers, and computes every weighting from the same tile. Each column belongs to one program, so there are no
atomics, and a document has the same bits whatever else is in its batch. Blocks of rows whose weights are all zero are
skipped: `cls` and the top of the rollout read one block of each document.

The module needs Triton, so `cuda` imports it when it is first used. Under Triton's interpreter
(TRITON_INTERPRET=1 before Triton is imported) it runs anywhere.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

#: How many rows a program takes at a time.
QUERIES = 64


# Values that vary between batches or layers must not cause recompilation. By default, Triton compiles separate kernels
# for multiples of 16 and for 1.
@triton.jit(do_not_specialize=["tile_count", "tokens", "window"])  # type: ignore[untyped-decorator] # it has no types
def _column_sums(  # type: ignore[no-untyped-def] # Triton takes no annotation but constexpr
    query,
    key,
    lse,
    weights,
    sums,
    first_rows,
    tiles,
    tile_count,
    tokens,
    heads,
    group,
    query_token,
    query_head,
    key_token,
    key_head,
    scale,
    window,
    WEIGHTINGS: tl.constexpr,
    WEIGHT_BLOCK: tl.constexpr,
    DEPTH: tl.constexpr,
    DEPTH_BLOCK: tl.constexpr,
    WINDOWED: tl.constexpr,
    HEAD_ROWS: tl.constexpr,
    WIDEN: tl.constexpr,
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
):
    tile = tl.program_id(0)
    begin = tl.load(tiles + tile)  # the document's first token, and one beyond its last
    end = tl.load(tiles + tile_count + tile)
    left = tl.load(tiles + 2 * tile_count + tile)
    columns = left + tl.arange(0, KEY_BLOCK)
    inside = columns < end
    depth = tl.arange(0, DEPTH_BLOCK)
    key_places = columns.to(tl.int64)[None, :] * key_token + depth[:, None]  # (DEPTH_BLOCK, KEY_BLOCK)
    key_there = inside[None, :] & (depth < DEPTH)[:, None]
    if HEAD_ROWS:
        for head in range(heads):
            k = tl.load(key + (head // group) * key_head + key_places, mask=key_there, other=0.0)
            first = query + begin.to(tl.int64) * query_token + head * query_head + depth
            q = tl.load(first, mask=depth < DEPTH, other=0.0)
            score = tl.sum(q.to(tl.float32)[:, None] * k.to(tl.float32), axis=0) * scale
            p = tl.exp(score - tl.load(lse + head * tokens + begin))
            if WINDOWED:
                p = tl.where(columns - begin <= window, p, 0.0)
            tl.store(first_rows + columns.to(tl.int64) * heads + head, p, mask=inside)
    if WEIGHTINGS > 0:
        number = tl.arange(0, WEIGHT_BLOCK)
        total = tl.zeros((WEIGHT_BLOCK, KEY_BLOCK), tl.float32)
        top, bottom = begin, end
        if WINDOWED:
            top = tl.maximum(begin, left - window)
            bottom = tl.minimum(end, left + KEY_BLOCK + window)
        for start in range(top, bottom, QUERY_BLOCK):
            rows = start + tl.arange(0, QUERY_BLOCK)
            there = rows < end
            every = tl.load(
                weights + number.to(tl.int64)[:, None] * tokens + rows[None, :],
                mask=(number < WEIGHTINGS)[:, None] & there[None, :],
                other=0.0,
            )
            if tl.max(tl.max((every != 0).to(tl.int32), axis=1), axis=0) > 0:
                query_places = rows.to(tl.int64)[:, None] * query_token + depth[None, :]
                query_there = there[:, None] & (depth < DEPTH)[None, :]
                mean = tl.zeros((QUERY_BLOCK, KEY_BLOCK), tl.float32)
                for head in range(heads):
                    q = tl.load(query + head * query_head + query_places, mask=query_there, other=0.0)
                    k = tl.load(key + (head // group) * key_head + key_places, mask=key_there, other=0.0)
                    if WIDEN:
                        q, k = q.to(tl.float32), k.to(tl.float32)
                    score = tl.dot(q, k, input_precision="ieee") * scale
                    mean += tl.exp(
                        score - tl.load(lse + head * tokens + rows, mask=there, other=0.0)[:, None]
                    )
                if WINDOWED:
                    near = tl.abs(rows[:, None] - columns[None, :]) <= window
                    mean = tl.where(near, mean, 0.0)
                # A score outside the document may overflow, and must not be multiplied by a weight of zero.
                mean = tl.where(there[:, None] & inside[None, :], mean / heads, 0.0)
                for k_number in tl.static_range(WEIGHTINGS):
                    w = tl.load(weights + k_number * tokens + rows, mask=there, other=0.0)
                    one = tl.sum(w[:, None] * mean, axis=0)  # (KEY_BLOCK,)
                    total += tl.where(number[:, None] == k_number, one[None, :], 0.0)
        tl.store(
            sums + number.to(tl.int64)[:, None] * tokens + columns[None, :],
            total,
            mask=(number < WEIGHTINGS)[:, None] & inside[None, :],
        )


def column_sums(
    query: Tensor,
    key: Tensor,
    lse: Tensor,
    scale: float,
    tiles: Tensor,
    weights: Tensor,
    *,
    block: int,
    window: int | None = None,
    head_rows: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """The attention that each token gets from the weighted queries, averaged over heads, and each first token's rows.

    Args:
        query: (T, heads, d), documents end to end, innermost stride 1.
        key: (T, key heads, d), likewise; query heads share key heads evenly.
        lse: (heads, T) float32, contiguous: natural log of Σ_j exp(q_i·k_j·scale) over the row's own tokens.
        scale: the factor of the scores.
        tiles: (3, tiles) int32: a document's first token, one beyond its last, a block's first column.
        weights: (K, T) float32; K may be 0.
        block: columns per tile, a power of two.
        window: a token attends to those at most `window` positions away, on both sides; None for all.
        head_rows: also return the first token's attention row of each head.

    Returns:
        (K, T) float32, and (T, heads) float32 or None.
    """
    tokens, heads, depth = query.shape
    weights, lse = weights.contiguous(), lse.contiguous()
    sums = torch.empty(weights.shape[0], tokens, dtype=torch.float32, device=query.device)
    rows = torch.empty(tokens if head_rows else 0, heads, dtype=torch.float32, device=query.device)
    if not weights.shape[0] and not head_rows:
        return sums, None  # nothing is requested, so nothing is compiled
    # Triton launches on the current device, which need not be this one.
    with torch.cuda.device_of(query):  # type: ignore[no-untyped-call] # torch gives it no types
        _column_sums[(tiles.shape[1],)](
            query,
            key,
            lse,
            weights,
            sums,
            rows,
            tiles,
            tiles.shape[1],
            tokens,
            heads,
            heads // key.shape[1],
            query.stride(0),
            query.stride(1),
            key.stride(0),
            key.stride(1),
            scale,
            0 if window is None else window,
            WEIGHTINGS=weights.shape[0],
            WEIGHT_BLOCK=triton.next_power_of_2(max(1, weights.shape[0])),
            DEPTH=depth,
            DEPTH_BLOCK=max(16, triton.next_power_of_2(depth)),
            WINDOWED=window is not None,
            HEAD_ROWS=head_rows,
            # The interpreter is numpy, which has no bfloat16. Its products are exact in float32, as on tensor cores.
            WIDEN=query.device.type == "cpu",
            QUERY_BLOCK=QUERIES,
            KEY_BLOCK=block,
        )
    return sums, rows if head_rows else None
