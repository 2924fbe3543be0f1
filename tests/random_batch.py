"""A batch of random documents, and their attention in float64, by definition."""

import torch

from attnstore.engine.paths.kernel import Places


class RandomBatch:
    """q, k and v as transformers lays them out, with weightings: the input that every path is tested with.

    `weights` (weightings, T) and `sweep` (T,) are positive, so that their sums are far from cancelling.
    """

    def __init__(
        self, dtype, lengths, *, heads=2, key_heads=None, depth=16, value_depth=None, packed=True,
        window=None, weightings=2, seed=0, spread=1.5,
    ):  # fmt: skip
        self.dtype = dtype
        self.lengths, self.window, self.heads, self.packed = lengths, window, heads, packed
        self.scale = depth**-0.5
        draw = torch.Generator().manual_seed(seed)
        tokens = sum(lengths)
        self.batch, self.rows = (1, tokens) if packed else (len(lengths), max(lengths) + 3)

        def laid_out(count, size):
            flat = torch.randn(self.batch, self.rows, count * size, generator=draw) * spread
            return flat.to(self.dtype).view(self.batch, self.rows, count, size).transpose(1, 2)

        key_heads = key_heads or heads
        self.q, self.k = laid_out(heads, depth), laid_out(key_heads, depth)
        self.v = laid_out(key_heads, value_depth or depth)
        self.weights = torch.rand(weightings, tokens, generator=draw)
        self.sweep = torch.rand(tokens, generator=draw)
        self.places = Places.of(lengths, packed=packed)

    def documents(self):
        """For each document: its rows in q, k, v and the output as an index, its columns, and its own q, k and v.

        q, k and v are (heads, n, d), with shared key heads repeated.
        """
        group, start = self.heads // self.k.shape[1], 0
        for i, n in enumerate(self.lengths):
            entry, span = (0, slice(start, start + n)) if self.packed else (i, slice(0, n))
            q, k, v = (x[entry, :, span] for x in (self.q, self.k, self.v))
            k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
            yield (entry, span), slice(start, start + n), q, k, v
            start += n

    def hidden(self, n):
        """(n, n) bool: True where the window hides a position."""
        at = torch.arange(n)
        reach = n if self.window is None else self.window
        return (at[:, None] - at[None]).abs() > reach

    def expected(self):
        """(output, weighted, head_rows, transposed mean times sweep) in float64, one document after the other."""
        output = torch.zeros(self.batch, self.rows, self.heads, self.v.shape[-1], dtype=torch.float64)
        weighted, head_rows, spread = [], [], []
        for place, own, q, k, v in self.documents():
            scores = q.double() @ k.double().transpose(1, 2) * self.scale
            p = scores.masked_fill(self.hidden(q.shape[1]), -torch.inf).softmax(-1)  # (heads, n, n)
            output[place] = (p @ v.double()).transpose(0, 1)
            weighted.append(self.weights[:, own].double() @ p.mean(0))
            head_rows.append(p[:, 0].T)
            spread.append(self.sweep[own].double() @ p.mean(0))
        return output, torch.cat(weighted, 1), torch.cat(head_rows), torch.cat(spread)

    def assert_as_expected(self, output, weighted, head_rows, spread):
        """float32 to 1e-5. From bfloat16 q and k, reductions to 1e-3 relative and the output to its rounding.

        A path without an output or head rows gives None for it.
        """
        tolerance = 1e-5 if self.dtype == torch.float32 else 1e-3
        true_output, *true_reductions = self.expected()
        for name, got, true in zip(
            ("weighted", "head_rows", "spread"), (weighted, head_rows, spread), true_reductions, strict=True
        ):
            if got is None:
                continue
            assert got.dtype == torch.float32
            torch.testing.assert_close(
                got.double(),
                true,
                rtol=tolerance,
                atol=1e-8,
                equal_nan=True,
                msg=lambda m, n=name: f"{n}: {m}",
            )
        if output is None:
            return
        assert output.dtype == self.dtype
        # bfloat16 rounds the result and, on AMX, its weights: an error of 2^-9 of the largest value each.
        rounding = 1e-5 if self.dtype == torch.float32 else 2**-8
        largest = self.v.abs().max().item()
        torch.testing.assert_close(output.double(), true_output, rtol=rounding, atol=rounding * largest)
