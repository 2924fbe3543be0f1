"""The oracle: attention as eager float32 transformers computes it, one document at a time.

It shares no code with the engine: the model is loaded separately with `attn_implementation="eager"`, its full (heads,
n, n) weights come from `output_attentions=True`, and the reductions follow their definitions, in float64, with the
rollout as the paper's product of matrices. Gradients are plain autograd, through the whole model. `verify` compares a
sample of a store with it, and so do the tests.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from attnstore.check.verify import Finding
from attnstore.config import RunConfig, SourceConfig
from attnstore.engine.loading import load_eager
from attnstore.engine.models import reads_token_types, with_revision
from attnstore.errors import ModelError
from attnstore.events import Checked, OnEvent, ignore
from attnstore.messages import counted
from attnstore.store.manifest import EVIDENCE_FOR, Manifest, names_by_class
from attnstore.store.place import for_arrow
from attnstore.store.store import Store

#: Built-in reductions without a fixed sum: their scale is the model's. Those that describe one prediction have no
#: values for documents that were read in several windows.
SCORES = frozenset(("evidence", "relevance", "norm"))
OF_ONE_PREDICTION = SCORES - {"norm"}


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far stored values are from the oracle's, over all documents and columns of one reduction.

    `absolute` is the worst absolute error; `worst` and `median` are relative errors; `distance` is the worst
    total variation distance of a document's column, ½ Σ |stored - oracle|, between 0 and 1, and `typical` the
    median over documents of that distance, in the column where it is largest. For `SCORES`, which have no scale of
    their own, `absolute` is over the largest value of the document's column, and the distances are over Σ |oracle|.
    """

    absolute: float
    worst: float
    median: float
    distance: float
    typical: float


@dataclass(frozen=True, slots=True)
class Window:
    """What the model read in one pass: its tokens' positions in the document, and every layer's (heads, n, n) float64.

    `norms`: (n,) for each layer. `by_class`: like `gradients`, but for each class, by the name of its evidence. They
    are empty unless requested.
    """

    places: np.ndarray
    attentions: list[np.ndarray]
    gradients: list[np.ndarray]
    norms: list[np.ndarray]
    by_class: dict[str, list[np.ndarray]]


def reduced_by_definition(
    attentions: Sequence[np.ndarray],
    name: str,
    gradients: Sequence[np.ndarray] = (),
    norms: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """One built-in reduction of one document, from every layer's (heads, n, n) float64 probabilities.

    Returns (layers, n) for `cls`, `received` and `from_<t>`, (layers, n, heads) for `cls_heads`, (n,) for
    `rollout`: the first row of Ã_L ⋯ Ã_1 with Ã = ½(I + head mean), Abnar & Zuidema 2020, section 3. (n,) for
    `evidence`: the head mean of probability × gradient in the first row of the last layer, with `gradients` those of
    the margin with respect to every layer's probabilities. (n,) for `relevance`: the first row of
    (I + B_L) ⋯ (I + B_1) - I, with B the head mean of the positive part of probability × gradient. (layers, n) for
    `norm`: the `norms` of `Oracle.norms`.
    """
    if name in SCORES:
        return _score_by_definition(attentions, name, gradients, norms)
    if name == "cls_heads":
        return np.stack([a[:, 0, :].T for a in attentions])
    means = [a.mean(axis=0) for a in attentions]  # (n, n) each
    n = means[0].shape[0]
    if name == "rollout":
        product = np.eye(n)
        for mean in means:
            product = (0.5 * np.eye(n) + 0.5 * mean) @ product
        return np.asarray(product[0])
    if name == "cls":
        return np.stack([mean[0] for mean in means])
    if name == "received":
        return np.stack([mean.mean(axis=0) for mean in means])
    if name.startswith("from_") and name.removeprefix("from_").isdigit():
        position = int(name.removeprefix("from_"))
        return np.stack([mean[position] if position < n else np.full(n, np.nan) for mean in means])
    raise KeyError(name)


def _score_by_definition(
    attentions: Sequence[np.ndarray], name: str, gradients: Sequence[np.ndarray], norms: Sequence[np.ndarray]
) -> np.ndarray:
    if name == "norm":
        return np.stack(norms)
    if name == "relevance":  # Chefer et al. 2021, equations 5 and 6, from the first layer up
        product = np.eye(attentions[0].shape[-1])
        for attention, slope in zip(attentions, gradients, strict=True):
            product += np.maximum(attention * slope, 0).mean(axis=0) @ product
        return np.asarray(product[0] - np.eye(1, len(product))[0])
    return np.asarray((attentions[-1][:, 0] * gradients[-1][:, 0]).mean(axis=0))


class Oracle:
    """A classifier loaded eagerly in float32. Call it with token ids to get logits and every layer's weights."""

    def __init__(self, model: str, revision: str | None = None, *, trust_remote_code: bool = False) -> None:
        config = RunConfig(SourceConfig(""), model, revision=revision, trust_remote_code=trust_remote_code)
        self.model, self.tokenizer, self.sha256 = load_eager(config)

    def __call__(
        self, ids: np.ndarray, types: np.ndarray | None = None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Returns (classes,) float32 logits and, for each layer, (heads, n, n) float64 probabilities.

        `types`: the token types, like `ids` (n,), for a model that is given any.
        """
        given = {} if types is None else {"token_type_ids": torch.from_numpy(types.astype(np.int64))[None]}
        with torch.inference_mode():
            out = self.model(torch.from_numpy(ids.astype(np.int64))[None], **given, output_attentions=True)
        return out.logits[0].numpy(), [a[0].double().numpy() for a in out.attentions]

    def pair(
        self, text: str, text_pair: str, max_length: int
    ) -> tuple[list[int], list[int | None], np.ndarray | None]:
        """A pair as the tokenizer makes it: ids, segments (None for added tokens), and the types (n,), if given."""
        encoded = self.tokenizer(
            text, text_pair, truncation=True, max_length=max_length, return_token_type_ids=True
        )
        types = np.array(encoded["token_type_ids"]) if reads_token_types(self.model, self.tokenizer) else None
        return encoded["input_ids"], encoded.sequence_ids(0), types

    def gradients(self, ids: np.ndarray, predicted: int, types: np.ndarray | None = None) -> list[np.ndarray]:
        """For each layer, (heads, n, n) float64: the derivatives of a class's margin with respect to its
        probabilities.

        The margin is the logit of `predicted` minus the log-sum-exp of the other classes' logits.
        """
        self.model.requires_grad_(True)  # of the weights, so that what follows from them is recorded
        given = {} if types is None else {"token_type_ids": torch.from_numpy(types.astype(np.int64))[None]}
        out = self.model(torch.from_numpy(ids.astype(np.int64))[None], **given, output_attentions=True)
        others = [k for k in range(out.logits.shape[1]) if k != predicted]
        margin = out.logits[0, predicted] - torch.logsumexp(out.logits[0, others], dim=0)
        found = torch.autograd.grad(margin, out.attentions)
        return [gradient[0].double().numpy() for gradient in found]

    def norms(self, ids: np.ndarray, types: np.ndarray | None = None) -> list[np.ndarray]:
        """For each layer, (n,) float64: ‖Σ_h P_0j v_j W_O‖, Kobayashi et al. 2020, equation 5.

        The only assumption about the model is that the first linear layer that depends on a layer's probabilities
        reads the heads' outputs, side by side. Each head's output is linear in its own P, so the derivative with
        respect to P_0j of a head's k-th output of the first token is the k-th element of v_j.
        """
        self.model.requires_grad_(True)
        read: list[tuple[torch.nn.Linear, torch.Tensor]] = []

        def seen(module: torch.nn.Linear, inputs: tuple[torch.Tensor, ...]) -> None:
            read.append((module, inputs[0]))

        linears = [m for m in self.model.modules() if isinstance(m, torch.nn.Linear)]
        handles = [m.register_forward_pre_hook(seen) for m in linears]
        given = {} if types is None else {"token_type_ids": torch.from_numpy(types.astype(np.int64))[None]}
        try:
            out = self.model(torch.from_numpy(ids.astype(np.int64))[None], **given, output_attentions=True)
        finally:
            for handle in handles:
                handle.remove()
        found = []
        candidates = iter(read)
        for p in out.attentions:  # (1, heads, n, n)
            reading = next((each for each in candidates if _depends(each[1], p)), None)
            if reading is None:
                raise ModelError("no linear layer reads what the model's attention gives")
            linear, inputs = reading
            heads = inputs[0, 0].reshape(p.shape[1], -1)  # (heads, d_v)
            values = torch.stack(
                [
                    torch.autograd.grad(heads[:, k].sum(), p, retain_graph=True)[0][0, :, 0]
                    for k in range(heads.shape[1])
                ],
                dim=-1,
            ).double()  # (heads, n, d_v)
            taken = p[0, :, 0, :, None].double() * values
            vectors = taken.transpose(0, 1).flatten(1) @ linear.weight.double().T  # (n, d)
            found.append(vectors.norm(dim=1).detach().numpy())
        return found


def _depends(value: torch.Tensor, on: torch.Tensor) -> bool:
    (slope,) = torch.autograd.grad(value.sum(), on, retain_graph=True, allow_unused=True)
    return slope is not None


def recomputable(manifest: Manifest) -> list[str]:
    """The store's reductions that have a definition here: all but custom ones."""
    return [r.name for r in manifest.reductions if r.total is not None or _is_score(r.name)]


def _is_score(name: str) -> bool:
    return name in SCORES or name.startswith(EVIDENCE_FOR)


def _is_of_one_prediction(name: str) -> bool:
    return name in OF_ONE_PREDICTION or name.startswith(EVIDENCE_FOR)


def compare(
    store: Store, oracle: Oracle, documents: Sequence[int], on_event: OnEvent = ignore
) -> dict[str, Deviation]:
    """Compare the stored values of these documents with the oracle, by reduction; also `logits`, absolutely.

    Pairs are tokenised again from their texts. `on_event` gets `Checked` after each document.

    Raises:
        ModelError: the oracle's tokenizer gives a pair other tokens than the store has.
    """
    manifest = store.manifest
    absolute: dict[str, list[float]] = {}
    relative: dict[str, list[np.ndarray]] = {}
    distance: dict[str, dict[str, list[float]]] = {}
    for done, (table, logits, texts) in enumerate(_stored(store, documents), start=1):
        own_logits, windows = _windows(store.manifest, oracle, table, texts, int(logits.argmax()))
        absolute.setdefault("logits", []).append(float(np.abs(own_logits - logits).max()))
        for name in recomputable(manifest):
            reduction = manifest.reduction(name)
            if reduction is None:
                continue
            expected = _by_definition(windows, table.num_rows, name)
            by_column = expected if reduction.per_layer else expected[None]
            for column, own in zip(reduction.columns(manifest.layers), by_column, strict=True):
                held = _numbers(table[column])
                if np.isnan(own).all() and np.isnan(held).all():
                    continue
                error = np.abs(held - own)
                size = np.maximum(np.abs(own), 1e-30)
                largest, whole = (size.max(), size.sum()) if _is_score(name) else (1.0, 1.0)
                absolute.setdefault(name, []).append(float(error.max() / largest))
                relative.setdefault(name, []).append((error / size).ravel())
                heads = own.shape[1] if own.ndim == 2 else 1
                away = float(error.sum() / whole / 2 / heads)
                distance.setdefault(name, {}).setdefault(column, []).append(away)
        on_event(Checked("recomputed", done, len(documents)))
    found = {}
    for name, errors in absolute.items():
        parts = relative.get(name)
        all_relative = np.concatenate(parts) if parts else np.array([np.nan])
        columns = list(distance.get(name, {"": [np.nan]}).values())
        found[name] = Deviation(
            max(errors),
            float(all_relative.max()),
            float(np.median(all_relative)),
            max(max(distances) for distances in columns),
            max(float(np.median(distances)) for distances in columns),
        )
    return found


def _windows(
    manifest: Manifest, oracle: Oracle, table: pa.Table, texts: tuple[str, str | None], predicted: int
) -> tuple[np.ndarray, list[Window]]:
    """A document's logits, and the windows that the model read, with gradients if they are needed.

    A document read in one pass is one window. The logits of several windows are averaged, without gradients.
    """
    ids = table["token_id"].to_numpy()
    n, most = len(ids), manifest.max_length
    types = None
    if texts[1] is not None:
        *tokens, types = oracle.pair(texts[0], texts[1], most)
        if tokens != [ids.tolist(), table["segment"].to_pylist()]:
            number = table["document"][0].as_py()
            raise ModelError(
                f"document {number}: the tokenizer makes other tokens of its texts than are stored"
            )
    held = [np.arange(n)]
    if n > most:
        # Special tokens around the text have no span; one that is written in the text is part of it.
        frame = table["special"].to_numpy() & (table["start"].to_numpy() == table["end"].to_numpy())
        front = int(np.argmin(frame))
        back = int(np.argmin(frame[::-1]))
        room, stride = most - front - back, int(manifest.fingerprint["stride"])
        first = 0
        held = []
        while True:
            first = min(first, n - front - back - room)
            text = np.arange(front + first, front + first + room)
            held.append(np.concatenate([np.arange(front), text, np.arange(n - back, n)]))
            if first + room == n - front - back:
                break
            first += stride
    found = [oracle(ids[places], types) for places in held]
    logits = np.mean([each for each, _ in found], axis=0)
    names = {r.name for r in manifest.reductions}
    differentiated = len(held) == 1 and any(map(_is_of_one_prediction, names))
    gradients = oracle.gradients(ids, predicted, types) if differentiated else []
    by_class = {
        name: oracle.gradients(ids, number, types)
        for number, name in enumerate(names_by_class(manifest.labels))
        if name in names and differentiated
    }
    windows = [
        Window(
            places,
            attentions,
            gradients,
            oracle.norms(ids[places], types) if "norm" in names else [],
            by_class,
        )
        for places, (_, attentions) in zip(held, found, strict=True)
    ]
    return logits, windows


def _by_definition(windows: Sequence[Window], n: int, name: str) -> np.ndarray:
    """A reduction of a whole document: that of its only window, or each token's mean lift over the windows with it.

    A norm does not depend on the window's length: it is the mean of its own values. Reductions of a single prediction
    are NaN for documents of several windows.
    """
    if len(windows) == 1:
        (window,) = windows
        if name in window.by_class:
            return reduced_by_definition(window.attentions, "evidence", window.by_class[name])
        return reduced_by_definition(window.attentions, name, window.gradients, window.norms)
    if _is_of_one_prediction(name):
        return np.full(n, np.nan)
    reduced = [reduced_by_definition(w.attentions, name, (), w.norms) for w in windows]
    layered = [values if name != "rollout" else values[None] for values in reduced]  # (layers, n_w[, heads])
    lifts: list[list[np.ndarray]] = [[] for _ in range(n)]
    for window, values in zip(windows, layered, strict=True):
        for token, place in enumerate(window.places):
            lifts[place].append(values[:, token] * (1 if name in SCORES else len(window.places)))
    mean = np.stack([np.mean(each, axis=0) for each in lifts], axis=1)  # (layers, n[, heads])
    if name in SCORES:
        return np.asarray(mean)
    shares = np.asarray(mean / mean.sum(axis=1, keepdims=True))
    return shares if name != "rollout" else np.asarray(shares[0])


def verify_sample(
    store: Store,
    model: str | None = None,
    *,
    sample: int = 20,
    seed: int = 0,
    trust_remote_code: bool = False,
    on_event: OnEvent = ignore,
) -> Iterator[Finding]:
    """Recompute a random sample of a store's documents, and report how near the stored values are.

    `model` is the model's present place, if it is not where the run found it. For float32 runs, values must agree to
    the stored precision. For half-precision runs, the limit is on the total variation distance of stored from
    recomputed attention: 0.1 in any document, and 0.03 in the median document of each column. For comparison: with
    IMDb reviews and MiniLM, the median error of bfloat16 is 0.002, and two neighbouring layers are 0.07 apart.

    Raises ModelError at once, not when iterated, if the model is missing or not the run's.
    """
    name, revision = with_revision(model or store.manifest.model)
    without = (
        "--sample 0 checks only the files" if model else "give its new place with --model, or use --sample 0"
    )
    try:
        oracle = Oracle(name, revision, trust_remote_code=trust_remote_code)
    except ModelError as error:
        raise ModelError(f"{error}: {without}") from error
    if oracle.sha256 != store.manifest.fingerprint["model_sha256"]:
        raise ModelError(f"{name} is not the run's model, its weights differ: {without}")
    return _recomputed(store, oracle, sample, seed, on_event)


def _recomputed(store: Store, oracle: Oracle, sample: int, seed: int, on_event: OnEvent) -> Iterator[Finding]:
    manifest = store.manifest
    present = [n for part in store.finished_parts() for n in store.part_range(part)]
    chosen = sorted(random.Random(seed).sample(present, min(sample, len(present))))  # noqa: S311 - not a secret
    exact = manifest.fingerprint["dtype"] == "float32"
    stored_exactly = manifest.fingerprint["values"] == "float32"
    try:
        found = compare(store, oracle, chosen, on_event)
    except ModelError as error:
        yield Finding("sample", False, str(error))
        return
    yield Finding("sample", True, f"{counted(len(chosen), 'document')} recomputed in eager float32")
    for subject, deviation in found.items():
        if subject == "logits":
            good = deviation.absolute <= (1e-3 if exact else 0.5)
            detail = f"worst difference {deviation.absolute:.1e}"
        else:
            # Rounding to an 8-bit significand is off by at most 2⁻⁹ below 1; twice that is no longer rounding.
            # Forwards and backwards, float32 accumulates more errors.
            computed = 1e-4 if _is_score(subject) else 1e-5
            limit = computed if stored_exactly else computed + 2**-8
            near = deviation.distance <= 0.1 and deviation.typical <= 0.03
            good = deviation.absolute <= limit if exact else near
            detail = (
                f"worst difference {deviation.absolute:.1e}, relative {deviation.worst:.1e} "
                f"(median {deviation.median:.1e})"
            )
        yield Finding(subject, good, detail)
    for reduction in manifest.reductions:
        if reduction.name not in recomputable(manifest):
            yield Finding(reduction.name, True, "a custom reduction, its values are not recomputed")


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A reduction's column as (n,) or (n, heads) float64, null as NaN."""
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        flat = array.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
        return np.asarray(flat.reshape(-1, array.type.list_size))
    return np.asarray(array.to_numpy(zero_copy_only=False).astype(np.float64))


def _stored(
    store: Store, documents: Sequence[int]
) -> Iterator[tuple[pa.Table, np.ndarray, tuple[str, str | None]]]:
    """Each document's rows of the tokens table, its (classes,) logits, and its text with the second one, in order."""
    wanted = sorted(documents)
    logits: dict[int, np.ndarray] = {}
    texts: dict[int, tuple[str, str | None]] = {}
    of_documents = ["document", "logits", "text", *(["text_pair"] if store.manifest.pairs else [])]
    parts = {store.manifest.part_of(number) for number in wanted}
    for file in store.files("documents", parts):
        path = store.path / file.path
        table = pq.read_table(for_arrow(path), columns=of_documents, filters=[("document", "in", wanted)])
        for row in table.to_pylist():
            logits[row["document"]] = np.array(row["logits"], dtype=np.float32)
            texts[row["document"]] = row["text"], row.get("text_pair")
    names = [
        "document",
        "token_id",
        "special",
        "start",
        "end",
        *(["segment"] if store.manifest.pairs else []),
    ]
    names += [c for r in store.manifest.reductions for c in r.columns(store.manifest.layers)]
    for file in store.files("tokens", parts):
        path = store.path / file.path
        table = pq.read_table(for_arrow(path), columns=names, filters=[("document", "in", wanted)])
        for number in sorted(set(table["document"].to_pylist())):
            rows = table.filter(pc.equal(table["document"], pa.scalar(number, pa.int32())))
            yield rows, logits[number], texts[number]
