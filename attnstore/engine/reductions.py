"""The mathematics: attention reduced to one number per token while it is computed.

For one layer and head let P = softmax(QKᵀ·scale) over a document's own n tokens. A *row weighting* w says how
much each query counts, and the reduction it gives is

    out_j = Σ_i w_i · P_ij            so that   Σ_j out_j = Σ_i w_i                                    (1)

1. `cls` counts only the first token: w = e_0 (Clark et al. 2019 look at this row; [CLS] feeds the head).
2. `received` counts every token alike: w = 1/n.
3. `from_<t>` counts only the token at position t; custom weightings are any other function of the tokens.
4. `rollout` (Abnar & Zuidema 2020, section 3, with their 0.5·A + 0.5·I) is the [CLS] row of the product of all
   layers' head means. No product of matrices is needed: start with w = e_0 at the top layer and go down,

    w ← ½·w + ½·P̄ᵀw,   P̄ = (1/H) Σ_h P_h                                                             (2)

   which is the first row of (½I + ½P̄_L) ⋯ (½I + ½P̄_1), read from the left.

5. `norm` (Kobayashi et al. 2020, equation 5) is the size of what the first token takes from token j through all heads:
   the vector that they add to its state, with W_O^h the head's rows of the output projection, without bias,

    out_j = ‖Σ_h P_0j^h · v_j^h W_O^h‖                                                                (3)

Weightings 1 to 3 are known before a layer runs, so they are taken from P block by block while P also makes the layer's
output. The sweep (2) starts at the top, so every layer must keep something for it: its q and k (2·n·H·d numbers), or
its head mean P̄ (n² numbers) if that is smaller. Both are linear in n for long documents, and both are freed when the
batch is done.

Everything here works on plain tensors, one document at a time, in float32 whatever the model's dtype: bfloat16 scores
are off by up to 2 % after the exponential. It depends on no model and no file, and runs on any device.
"""

import hashlib
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from attnstore.errors import UsageError
from attnstore.store.manifest import EVIDENCE_FOR, StoredReduction, names_by_class
from attnstore.store.schema import lift

#: The most probabilities in memory at once, (heads, rows, n) of one document: 4 MiB in float32. Four times as many are
#: no faster, and several copies of a block exist, a quarter of the memory beside the model.
BLOCK = 1 << 20


class DocumentTokens(Protocol):
    """The input of a custom row weighting: one document's tokens. Arrays have shape (n,)."""

    @property
    def text(self) -> str: ...
    @property
    def ids(self) -> np.ndarray: ...
    @property
    def tokens(self) -> list[str]: ...
    @property
    def special(self) -> np.ndarray: ...
    @property
    def length(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Reduction:
    """How attention becomes one number per token. Exactly one of the seven ways is set.

    `row_weights(document) -> (n,)`: a weighting known before the layer, equation (1), heads averaged.
    `of_probabilities(probabilities: (heads, n, n)) -> (n,)`: any function of one layer, one document at a time.
    `head_rows`: the [CLS] row of every head, not averaged. `sweep`: the rollout, equation (2). `norm`: equation (3).
    `evidence`: attention times gradient, see `gradients`, for the predicted class or the class with number `of_class`;
    `relevance`: swept from the top, see `gradients`. `shortest`: documents with fewer tokens have no value. `identity`
    decides whether two custom reductions with one name are the same, for the store's fingerprint.
    """

    stored: StoredReduction
    row_weights: Callable[[DocumentTokens], "np.ndarray | Tensor"] | None = None
    of_probabilities: Callable[[Tensor], Tensor] | None = None
    head_rows: bool = False
    sweep: bool = False
    norm: bool = False
    evidence: bool = False
    of_class: int | None = None
    relevance: bool = False
    shortest: int = 1
    identity: str = ""

    @property
    def name(self) -> str:
        return self.stored.name


def _first_token(document: DocumentTokens) -> np.ndarray:
    return one_hot(0, document.length)


def _all_tokens(document: DocumentTokens) -> np.ndarray:
    return np.full(document.length, 1.0 / document.length, dtype=np.float32)


def one_hot(position: int, length: int) -> np.ndarray:
    """(length,) float32: 1 at `position`, all NaN if the document has no such position."""
    if position >= length:
        return np.full(length, np.nan, dtype=np.float32)
    weights = np.zeros(length, dtype=np.float32)
    weights[position] = 1.0
    return weights


CLS = Reduction(
    StoredReduction("cls", True, False, "attention from the first token ([CLS]), mean over heads"),
    row_weights=_first_token,
)
RECEIVED = Reduction(
    StoredReduction("received", True, False, "attention received, mean over the document's tokens and heads"),
    row_weights=_all_tokens,
)
ROLLOUT = Reduction(
    StoredReduction("rollout", False, False, "attention rollout of the first token ([CLS]) over all layers"),
    sweep=True,
)
CLS_HEADS = Reduction(
    StoredReduction("cls_heads", True, True, "attention from the first token ([CLS]), one value per head"),
    head_rows=True,
)
EVIDENCE = Reduction(
    StoredReduction(
        "evidence",
        False,
        False,
        "attention × gradient of the prediction's margin, row of the first token ([CLS]) in the last layer, mean over "
        "heads: above 0 for the prediction, below 0 against it",
        total=None,
        signed=True,
    ),
    evidence=True,
)
NORM = Reduction(
    StoredReduction(
        "norm",
        True,
        False,
        "norm of what the first token ([CLS]) takes from the token: attention × value × output projection, summed over "
        "heads",
        total=None,
    ),
    norm=True,
)
RELEVANCE = Reduction(
    StoredReduction(
        "relevance",
        False,
        False,
        "relevance to the prediction: what is positive of attention × gradient of its margin, mean over heads, from "
        "the first token ([CLS]) down through all layers",
        total=None,
    ),
    relevance=True,
)
#: A placeholder for one reduction per class of the model, once these are known: see `by_class`.
EVIDENCE_BY_CLASS = Reduction(
    StoredReduction(
        "evidence_by_class",
        False,
        False,
        "attention × gradient of the margin of a class, row of the first token ([CLS]) in the last layer, mean over "
        "heads: above 0 for the class, below 0 against it",
        total=None,
        signed=True,
    ),
    evidence=True,
)
BUILT_IN = {
    r.name: r for r in (CLS, RECEIVED, ROLLOUT, CLS_HEADS, EVIDENCE, NORM, RELEVANCE, EVIDENCE_BY_CLASS)
}


def by_class(reductions: Sequence[Reduction], labels: Sequence[str]) -> tuple[Reduction, ...]:
    """The reductions, with one for each of the model's classes in place of `evidence_by_class`.

    The evidence for the predicted class is `evidence` itself, from the same margin: a class's logit minus the
    log-sum-exp of the others'. With two classes, each has the other's evidence with the opposite sign.
    """
    found: list[Reduction] = []
    for reduction in reductions:
        if reduction is not EVIDENCE_BY_CLASS:
            found.append(reduction)
            continue
        for number, (name, label) in enumerate(zip(names_by_class(labels), labels, strict=True)):
            meaning = reduction.stored.meaning.replace("a class", f"the class {label}", 1)
            stored = replace(reduction.stored, name=name, meaning=meaning)
            found.append(replace(reduction, stored=stored, of_class=number))
    return tuple(found)


_FROM_TOKEN = re.compile(r"from_(\d{1,4})")
_COLUMN_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _from_token(position: int) -> Reduction:
    return Reduction(
        StoredReduction(
            f"from_{position}",
            True,
            False,
            f"attention from the token at position {position}, mean over heads",
        ),
        row_weights=lambda document: one_hot(position, document.length),
        shortest=position + 1,
    )


def custom_reduction(function: Callable[..., object]) -> Reduction:
    """A user's function as a reduction, stored under the function's own name.

    The name of its one parameter decides its kind: `document` for row weights (n,) known before the layer, the fast
    path; `probabilities` for a function (heads, n, n) -> (n,) of one layer. Its docstring's first line becomes the
    column's meaning. Raises UsageError for anything else.
    """
    name = getattr(function, "__name__", "")
    if (
        not _COLUMN_NAME.fullmatch(name)
        or name in BUILT_IN
        or name.startswith(EVIDENCE_FOR)
        or _FROM_TOKEN.fullmatch(name)
        or name.endswith(lift(""))
    ):
        raise UsageError(
            f"a custom reduction is stored under its function's name, and {name!r} can't be one: "
            "use lower-case letters, digits and underscores, none of the built-in names, and no name that ends in "
            f"{lift('')!r}, which the totals give to another column"
        )
    try:
        parameters = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.default is inspect.Parameter.empty
        ]
    except (TypeError, ValueError):
        parameters = []
    documentation = (inspect.getdoc(function) or "").partition("\n")[0].strip()
    meaning = documentation or f"custom reduction {getattr(function, '__module__', '')}:{name}"
    stored = StoredReduction(name, True, False, meaning, total=None)
    identity = f"{name}:{_source_hash(function)}"
    if parameters == ["document"]:
        return Reduction(stored, row_weights=function, identity=identity)  # type: ignore[arg-type] # checked when called
    if parameters == ["probabilities"]:
        return Reduction(stored, of_probabilities=function, identity=identity)  # type: ignore[arg-type] # checked when called
    raise UsageError(
        f"the custom reduction {name} takes ({', '.join(parameters)}): its one parameter must be called `document` "
        "(returning a weight for each query token) or `probabilities` (heads, n, n) (returning a value for each token)"
    )


def _source_hash(function: Callable[..., object]) -> str:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        source = code.co_code.hex() if code is not None else repr(type(function))
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def resolve_reductions(asked: Sequence[str | Callable[..., object]]) -> tuple[Reduction, ...]:
    """The reductions with these names, `package.module:function` paths or functions, in this order.

    Raises UsageError for an unknown name, a module or function that can't be imported, or a name given twice.
    """
    found: dict[str, Reduction] = {}
    for item in asked:
        reduction = _resolve(item)
        if reduction.name in found:
            raise UsageError(f"the reduction {reduction.name} is listed twice: name each once")
        found[reduction.name] = reduction
    if not found:
        raise UsageError(f"no reduction is given: choose from {', '.join(BUILT_IN)}")
    return tuple(found.values())


def _resolve(item: str | Callable[..., object]) -> Reduction:
    if not isinstance(item, str):
        return custom_reduction(item)
    if item in BUILT_IN:
        return BUILT_IN[item]
    if match := _FROM_TOKEN.fullmatch(item):
        return _from_token(int(match[1]))
    if ":" not in item:
        raise UsageError(
            f"there is no reduction {item!r}: choose from {', '.join(BUILT_IN)}, from_<position>, "
            "or package.module:function"
        )
    module_name, _, attribute = item.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's module may raise anything on import; the user reads it
        raise UsageError(f"can't import {module_name} for the reduction {item}: {error}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise UsageError(f"the module {module_name} has no function {attribute!r} for the reduction {item}")
    return custom_reduction(function)


@dataclass(slots=True)
class LayerTrace:
    """What one layer keeps of one document for the sweep: P̄, or what is needed to recompute it."""

    mean: Tensor | None = None  # (n, n) float32
    query: Tensor | None = None  # (heads, n, d)
    key: Tensor | None = None  # (heads, n, d)
    scale: float = 1.0
    allowed: Tensor | None = None  # (n, n) or (heads, n, n) bool: True where attention may go
    window: int | None = None


@dataclass(slots=True)
class Attended:
    """One layer's attention over one document, reduced."""

    output: Tensor  # (heads, n, d_v), in the dtype of v
    weighted: Tensor  # (K, n) float32, one row per row weighting
    head_rows: Tensor | None  # (heads, n) float32: the first token's row of each head
    custom: list[Tensor] = field(default_factory=list)  # each (n,) float32
    trace: LayerTrace | None = None


@dataclass(slots=True)
class ReducedLayer:
    """One layer's attention over a batch, reduced, with the documents' tokens end to end: T of them."""

    weighted: Tensor  # (K, T) float32, one row per row weighting
    head_rows: Tensor | None = None  # (T, heads) float32: the attention of the document's first token
    custom: list[list[Tensor]] = field(default_factory=list)  # per document and custom reduction: (n,)
    apply_transposed_mean: Callable[[Tensor], Tensor] | None = (
        None  # w (T,) -> every document's P̄ᵀw (T,), for the sweep
    )


def probabilities(
    query: Tensor,
    key: Tensor,
    scale: float,
    *,
    first_row: int = 0,
    first_column: int = 0,
    window: int | None = None,
    allowed: Tensor | None = None,
) -> Tensor:
    """softmax(QKᵀ·scale) in float32 for some rows of one document, over all columns that they reach.

    Args:
        query: (heads, rows, d), the rows `first_row`, `first_row + 1`, … of the document.
        key: (heads, columns, d), its columns `first_column`, `first_column + 1`, …
        scale: usually d ** -0.5.
        first_row, first_column: their positions in the document, which only a window needs.
        window: a token attends to those at most `window` positions away, on both sides; None for all.
        allowed: bool, broadcastable to (heads, rows, columns); False where attention may not go.

    Returns:
        (heads, rows, columns) float32, each row adding up to 1.
    """
    scores = torch.matmul(query.float(), key.float().transpose(-1, -2)).mul_(scale)  # (heads, rows, columns)
    if window is not None:
        rows = torch.arange(first_row, first_row + query.shape[-2], device=query.device)
        columns = torch.arange(first_column, first_column + key.shape[-2], device=query.device)
        scores.masked_fill_((rows[:, None] - columns[None, :]).abs() > window, -torch.inf)
    if allowed is not None:
        scores.masked_fill_(~allowed, -torch.inf)
    return torch.softmax(scores, dim=-1)


def blocks_of(heads: int, n: int, window: int | None, block: int) -> Iterator[tuple[slice, slice]]:
    """Rows of a document, and the columns that they reach, in blocks of at most `block` probabilities, or of one row.

    With a window, a block has at most 2 · window rows, which reach 4 · window columns.
    """
    most = n if window is None else min(n, 4 * window + 1)
    step = max(1, min(n, block // (heads * most)))
    if window is not None and most < n:
        step = min(step, max(1, 2 * window))
    for start in range(0, n, step):
        stop = min(n, start + step)
        reached = slice(0, n) if window is None else slice(max(0, start - window), min(n, stop + window))
        yield slice(start, stop), reached


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    weights: Tensor,
    *,
    window: int | None = None,
    allowed: Tensor | None = None,
    head_rows: bool = False,
    custom: Sequence[Callable[[Tensor], Tensor]] = (),
    trace: bool = False,
    block: int = BLOCK,
) -> Attended:
    """Attention over one document, with its reductions computed block by block from the same probabilities.

    Args:
        query, key, value: (heads, n, d); value may have another d.
        scale: the factor of the scores.
        weights: (K, n) float32, one row weighting per row; K may be 0.
        window, allowed: as in `probabilities`; `allowed` is (n, n) or (heads, n, n).
        head_rows: also return the first token's attention row of each head.
        custom: functions of the whole (heads, n, n) float32 probabilities; only they need the whole in memory.
        trace: keep the data that the rollout's sweep needs.
        block: the most probabilities in memory at once.
    """
    heads, n, depth = query.shape
    keep_mean = trace and n <= 2 * heads * depth
    # One tensor each: small ones in a list would lie between the blocks, and keep the heap from reusing their memory.
    output = value.new_empty(heads, n, value.shape[-1])
    weighted = torch.zeros(weights.shape[0], n, dtype=torch.float32, device=query.device)
    means = weighted.new_zeros(n, n) if keep_mean else None
    first = weighted.new_zeros(heads, n) if head_rows else None
    customs: list[Tensor] = []
    for rows, columns in [(slice(0, n), slice(0, n))] if custom else blocks_of(heads, n, window, block):
        p = probabilities(
            query[:, rows],
            key[:, columns],
            scale,
            first_row=rows.start,
            first_column=columns.start,
            window=window,
            allowed=None if allowed is None else allowed[..., rows, columns],
        )  # (heads, rows, columns)
        if means is not None or weights.shape[0]:
            mean = p.mean(dim=0)  # (rows, columns)
            weighted[:, columns] += weights[:, rows] @ mean
            if means is not None:
                means[rows, columns] = mean
        if first is not None and rows.start == 0:
            first[:, columns] = p[:, 0]
        customs.extend(function(p) for function in custom)
        torch.matmul(p.to(value.dtype), value[:, columns], out=output[:, rows])
    left: LayerTrace | None = None
    if means is not None:
        left = LayerTrace(mean=means)
    elif trace:
        left = LayerTrace(query=query, key=key, scale=scale, window=window, allowed=allowed)
    return Attended(output, weighted, first, customs, left)


def reduce_probabilities(
    p: Tensor, weights: Tensor, *, head_rows: bool, custom: Sequence[Callable[[Tensor], Tensor]], trace: bool
) -> Attended:
    """The same reductions from probabilities that a model computed itself, (heads, n, n), for eager models.

    `output` is empty: the model makes its own. The trace is always P̄: a model that materialises P already uses
    quadratic memory.
    """
    p = p.float()
    mean = p.mean(dim=0)  # (n, n)
    return Attended(
        output=p.new_empty(0),
        weighted=weights @ mean,
        head_rows=p[:, 0].clone() if head_rows else None,
        custom=[function(p) for function in custom],
        trace=LayerTrace(mean=mean) if trace else None,
    )


def rollout(traces: Sequence[LayerTrace], block: int = BLOCK) -> Tensor:
    """Attention rollout of the first token, (n,) float32: the sweep of equation (2), from the top layer down.

    `traces` are one document's, in layer order.
    """
    top = traces[-1]
    like = top.mean if top.mean is not None else top.query
    if like is None:
        raise ValueError("a trace holds either the head mean or q and k")
    n = like.shape[-2]
    w = torch.zeros(n, dtype=torch.float32, device=like.device)
    w[0] = 1.0
    for trace in reversed(traces):
        w = 0.5 * w + 0.5 * _transposed_mean_times(trace, w, block)
    return w


def join(attended: Sequence[Attended]) -> ReducedLayer:
    """One layer's documents, put end to end."""
    rows = [a.head_rows.T for a in attended if a.head_rows is not None]
    traces = [a.trace for a in attended if a.trace is not None]
    lengths = [a.weighted.shape[1] for a in attended]

    def apply_transposed_mean(w: Tensor) -> Tensor:
        pieces = zip(traces, torch.split(w, lengths), strict=True)
        return torch.cat([_transposed_mean_times(trace, piece, BLOCK) for trace, piece in pieces])

    return ReducedLayer(
        weighted=torch.cat([a.weighted for a in attended], dim=1),
        head_rows=torch.cat(rows) if rows else None,
        custom=[a.custom for a in attended],
        apply_transposed_mean=apply_transposed_mean if traces else None,
    )


def sweep(layers: Sequence[ReducedLayer], lengths: Sequence[int]) -> Tensor:
    """Attention rollout of every document's first token, (T,) float32: equation (2), from the top layer down."""
    like = layers[-1].weighted
    first = np.zeros(like.shape[1], dtype=np.float32)
    first[np.cumsum(lengths) - np.array(lengths)] = 1.0
    w = upload(first, like.device)
    for layer in reversed(layers):
        if layer.apply_transposed_mean is None:
            raise ValueError("a layer was reduced without what the sweep needs")
        w = 0.5 * w + 0.5 * layer.apply_transposed_mean(w)
    return w


#: How many tokens' vectors are processed at once on a CPU, so that they stay in the cache. A GPU takes all.
_NORM_ROWS = 1024


def norms(first: Tensor, values: Tensor, projection: Tensor) -> Tensor:
    """Equation (3), (T,) float32; the product is made in the dtype of the values.

    `first`: (T, heads), the first tokens' probabilities. `values`: (T, key heads, d_v). `projection`: the weights of
    the output projection, (d, heads · d_v).
    """
    groups = first.shape[1] // values.shape[1]
    found = first.new_empty(first.shape[0], dtype=torch.float32)
    rows = _NORM_ROWS if first.device.type == "cpu" else max(1, first.shape[0])
    for start in range(0, first.shape[0], rows):
        some = slice(start, start + rows)
        own = values[some] if groups == 1 else values[some].repeat_interleave(groups, dim=1)
        taken = (own * first[some, :, None].to(own.dtype)).flatten(1)  # (t, heads · d_v)
        torch.linalg.vector_norm(taken @ projection.T, dim=1, dtype=torch.float32, out=found[some])
    return found


def end_to_end(x: Tensor, lengths: Sequence[int], *, packed: bool) -> Tensor:
    """(B, heads, S, d) as (T, heads, d), without padding."""
    x = x.transpose(1, 2)
    if packed:
        return x[0]
    return torch.cat([row[:n] for row, n in zip(x, lengths, strict=True)])


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """The array on the device. A GPU copies it from pinned memory asynchronously."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    try:
        tensor = tensor.pin_memory()
    except RuntimeError:  # systems limit the amount of such memory; without it the copy is synchronous
        return tensor.to(device)
    return tensor.to(device, non_blocking=True)


def _transposed_mean_times(trace: LayerTrace, w: Tensor, block: int) -> Tensor:
    """P̄ᵀw, (n,), recomputing P̄ in blocks of rows if it was not kept."""
    if trace.mean is not None:
        return w @ trace.mean
    if trace.query is None or trace.key is None:
        raise ValueError("a trace holds either the head mean or q and k")
    heads, n, _ = trace.query.shape
    out = torch.zeros_like(w)
    for rows, columns in blocks_of(heads, n, trace.window, block):
        p = probabilities(
            trace.query[:, rows],
            trace.key[:, columns],
            trace.scale,
            first_row=rows.start,
            first_column=columns.start,
            window=trace.window,
            allowed=None if trace.allowed is None else trace.allowed[..., rows, columns],
        )
        out[columns] += w[rows] @ p.mean(dim=0)
    return out
