"""The CPU kernel: one layer's attention over a whole batch, with its reductions, in one parallel region.

`kernel.cpp` does the work and describes the method; `compiler` builds a library from it. The library depends on nothing
of torch except the OpenMP runtime that torch has loaded, so one compiled file serves every version of torch. Where the
kernel is not available (no compiler, not Linux), `reductions.attend` computes the same instead; `path()` says which of
the two is used. ATTNSTORE_KERNEL=off selects torch; avx2 or avx512 selects slower instructions than the processor has.
"""

import ctypes
import functools
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from subprocess import SubprocessError

import numpy as np
import torch
from torch import Tensor

from attnstore.engine.paths import compiler
from attnstore.engine.paths.compiler import NoKernelError
from attnstore.engine.reductions import ReducedLayer

#: The ways to multiply bfloat16, from slow to fast, in the order of `Products` in kernel.cpp.
PRODUCTS = ("AVX-512 float32 on bfloat16", "AVX-512 bfloat16", "AMX bfloat16")

#: The instructions that `lanes.h` is compiled to without AVX-512.
_SINGLE = "NEON" if platform.machine() == "aarch64" else "AVX2"

_FIELDS = (
    "documents heads key_heads depth value_depth tokens weightings window bfloat16 products keep threads"
)
_POINTERS = "length batch row token query key value out weights weighted head_rows mean"


class _Call(ctypes.Structure):
    """`struct Call` of kernel.cpp, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _FIELDS.split()),
        *((f"{name}_stride", ctypes.c_int64 * 3) for name in ("query", "key", "value", "out")),
        ("scale", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in _POINTERS.split()),
    ]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the documents of a batch are. Each array is (documents,) int64.

    A document has `length` tokens. They are the rows from `row` on in entry `batch` of q, k and v, and the columns from
    `token` on in all tensors that hold the documents' tokens end to end.
    """

    length: np.ndarray
    batch: np.ndarray
    row: np.ndarray
    token: np.ndarray

    @classmethod
    def of(cls, lengths: Sequence[int], *, packed: bool) -> "Places":
        """The places of documents end to end in one entry if packed, else each at the start of its own entry."""
        length = np.array(lengths, dtype=np.int64)
        token = np.cumsum(length) - length
        nothing = np.zeros_like(length)
        if packed:
            return cls(length, nothing, token, token)
        return cls(length, np.arange(len(length), dtype=np.int64), nothing, token)

    @property
    def tokens(self) -> int:
        return int(self.length.sum())


@dataclass(slots=True)
class Workspace:
    """Memory for the head means that layers keep for the rollout, reused by every batch.

    A head mean is not needed after its batch, but fresh memory pages for the next one cost more than filling them.
    """

    _buffers: list[Tensor] = field(default_factory=list)

    def buffer(self, layer: int, size: int) -> Tensor:
        """The buffer of a layer, by its number: (at least `size`,) uint8. Its contents are lost if it has to grow."""
        while len(self._buffers) <= layer:
            self._buffers.append(torch.empty(0, dtype=torch.uint8))
        if self._buffers[layer].numel() < size:
            self._buffers[layer] = torch.empty(size, dtype=torch.uint8)
        return self._buffers[layer]


@dataclass(frozen=True, slots=True)
class _Loaded:
    library: ctypes.CDLL | None
    products: int  # the fastest of PRODUCTS on this processor; -1 if it multiplies no bfloat16
    reason: str  # why there is no library


def path(dtype: torch.dtype = torch.bfloat16) -> str:
    """What computes attention of this dtype on this CPU: "c++ kernel, …", or "torch: …" with the reason."""
    loaded = _loaded()
    if loaded.library is None:
        return f"torch: {loaded.reason}"
    if dtype == torch.float32:
        return f"c++ kernel, {_SINGLE if loaded.products < 0 else 'AVX-512'} float32"
    if dtype == torch.bfloat16:
        if loaded.products < 0:
            return "torch: the kernel multiplies bfloat16 with AVX-512 only"
        return f"c++ kernel, {PRODUCTS[loaded.products]}"
    return f"torch: the kernel has no {str(dtype).removeprefix('torch.')}"


def serves(query: Tensor, key: Tensor, value: Tensor, scale: float) -> bool:
    """Whether `attend` can be called with these arguments."""
    if query.device.type != "cpu" or not query.dtype == key.dtype == value.dtype or scale <= 0:
        return False
    loaded = _loaded()
    if loaded.library is None:
        return False
    return query.dtype == torch.float32 or (query.dtype == torch.bfloat16 and loaded.products >= 0)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    places: Places,
    weights: Tensor,
    *,
    window: int | None = None,
    head_rows: bool = False,
    keep: Workspace | None = None,
    layer: int = 0,
    products: int | None = None,
) -> tuple[Tensor, ReducedLayer]:
    """Compute one layer's attention over a batch, and its reductions. Call it only if `serves` is true.

    Args:
        query: (B, heads, S, d) with any strides. It is copied if the innermost stride is not 1.
        key, value: (B, key heads, S, d) and (B, key heads, S, d_v); query heads share key heads evenly.
        scale: the factor of the scores, above 0.
        places: which rows belong to which document; all other rows are padding.
        weights: (K, T) float32, the row weightings of all documents end to end; K may be 0.
        window: a token attends to those at most `window` positions away, on both sides; None for all.
        head_rows: also return the first token's attention row of each head.
        keep: memory for the head means that the rollout needs afterwards; None if there is no rollout.
        layer: the layer's number in the workspace.
        products: for tests: an index into PRODUCTS that the processor supports; None for the fastest.

    Returns:
        The output, (B, S, heads, d_v), zero in padding, and the layer's reductions.

    Raises:
        MemoryError: memory ran out.
    """
    library = _loaded().library
    if library is None:
        raise RuntimeError("there is no kernel: ask `serves` first")
    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    batch, heads, rows, depth = query.shape
    tokens = places.tokens
    shape = (batch, rows, heads, value.shape[-1])
    out = value.new_empty(shape) if batch * rows == tokens else value.new_zeros(shape)
    reduced = ReducedLayer(
        weighted=torch.empty(weights.shape[0], tokens, dtype=torch.float32),
        head_rows=torch.empty(tokens, heads, dtype=torch.float32) if head_rows else None,
    )
    weights = weights.contiguous()
    call = _Call(
        documents=len(places.length),
        heads=heads,
        key_heads=key.shape[1],
        depth=depth,
        value_depth=value.shape[-1],
        tokens=tokens,
        weightings=weights.shape[0],
        window=-1 if window is None else window,
        bfloat16=query.dtype == torch.bfloat16,
        products=_loaded().products if products is None else products,
        keep=0,
        threads=torch.get_num_threads(),
        query_stride=query.stride()[:3],
        key_stride=key.stride()[:3],
        value_stride=value.stride()[:3],
        out_stride=out.stride()[:3],
        scale=scale,
        length=places.length.ctypes.data,
        batch=places.batch.ctypes.data,
        row=places.row.ctypes.data,
        token=places.token.ctypes.data,
        query=query.data_ptr(),
        key=key.data_ptr(),
        value=value.data_ptr(),
        out=out.data_ptr(),
        weights=weights.data_ptr(),
        weighted=reduced.weighted.data_ptr(),
        head_rows=None if reduced.head_rows is None else reduced.head_rows.data_ptr(),
    )
    if keep is not None:
        everything = ctypes.c_int64()
        size = library.attnstore_mean_bytes(ctypes.byref(call), ctypes.byref(everything))
        mean = keep.buffer(layer, size)
        call.keep, call.mean = 1, mean.data_ptr()
        held = () if everything.value else (query, key)
        reduced.apply_transposed_mean = functools.partial(
            _apply_transposed_mean, library, call, places, mean, held
        )
    _run(library, call)
    return out, reduced


def _apply_transposed_mean(
    library: ctypes.CDLL, call: _Call, places: Places, mean: Tensor, held: tuple[Tensor, ...], w: Tensor
) -> Tensor:
    """P̄ᵀw of every document, (T,): from the kept head means, else computed again from q and k.

    `places`, `mean` and `held` keep the memory alive that the call's pointers refer to.
    """
    w = w.contiguous()
    out = torch.empty_like(w)
    again = _Call.from_buffer_copy(call)
    again.keep, again.weightings = 2, 1
    again.weights, again.weighted = w.data_ptr(), out.data_ptr()
    again.value = again.out = again.head_rows = None
    _run(library, again)
    return out


def _run(library: ctypes.CDLL, call: _Call) -> None:
    failed = library.attnstore_attend(ctypes.byref(call))
    if failed == 2:
        raise RuntimeError("this kernel does not multiply bfloat16: ask `serves` first")
    if failed:
        raise MemoryError(f"no memory for the attention of {call.documents} documents, {call.tokens} tokens")


# ---------------------------------------------------------------- loading


def _loaded() -> _Loaded:
    asked = compiler.asked_for()
    if asked == "off":
        return _Loaded(None, 0, "ATTNSTORE_KERNEL=off")
    return _load(asked)


@functools.cache
def _load(asked: str) -> _Loaded:
    """The library for these instructions, compiled if it is not in the cache; loaded once per process."""
    try:
        library = ctypes.CDLL(str(compiler.library(asked)))
        library.attnstore_mean_bytes.restype = ctypes.c_int64
        library.attnstore_call_bytes.restype = ctypes.c_int64
        if library.attnstore_call_bytes() != ctypes.sizeof(_Call):
            raise NoKernelError("the kernel was built for another attnstore")
        library.attnstore_products.restype = ctypes.c_int64
        products = int(library.attnstore_products())
    except NoKernelError as error:
        return _Loaded(None, 0, str(error))
    except (OSError, AttributeError, SubprocessError) as error:
        first, _, _ = str(error).partition("\n")
        return _Loaded(None, 0, f"the kernel can't be loaded: {first}")
    return _Loaded(library, products, "")
