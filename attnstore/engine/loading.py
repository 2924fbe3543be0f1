"""Loads a classifier, and finds the way through its model by running three tiny documents."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attnstore.config import RunConfig
from attnstore.engine import gradients
from attnstore.engine.classifier import Classifier
from attnstore.engine.devices import choose_device, choose_dtype, fast_bfloat16
from attnstore.engine.families import CUT, PROJECTIONS, VALUES, linears_called, submodule
from attnstore.engine.models import (
    ModelFiles,
    case_notes,
    hash_files,
    longest,
    read_model,
    read_model_files,
    reads_token_types,
)
from attnstore.engine.paths import linears
from attnstore.engine.reductions import RELEVANCE, Reduction, by_class
from attnstore.engine.tap import PACKED, PADDED, Tap, heads_apart, present
from attnstore.errors import AttnstoreError, ModelError, UsageError
from attnstore.messages import first_line, listed

#: The default number of tokens in a batch: enough for full matrix products. On a CPU twice as many are no faster, and
#: half as many take a tenth longer for a small model.
BATCH_TOKENS = {"cpu": 8192, "cuda": 65536, "mps": 8192}


#: A relevance keeps data of all layers for the backward pass, so its batches are smaller.
_SMALLER_FOR_RELEVANCE = 4


def _share(reductions: Sequence[Reduction]) -> int:
    return _SMALLER_FOR_RELEVANCE if any(r.relevance for r in reductions) else 1


def load_classifier(
    config: RunConfig, reductions: tuple[Reduction, ...], files: ModelFiles | None = None
) -> Classifier:
    """Load model and tokenizer, choose device and dtype, and find the way through the model.

    `files` is the result of `read_model_files`, if it was called before.

    Raises ModelError or UsageError, one line each, for whatever is not a single-label text classifier with
    safetensors weights and a fast tokenizer.
    """
    files = files or read_model_files(config)
    folder, settings, tokenizer = files.folder, files.settings, files.tokenizer
    # oneDNN keeps a compiled product for each of the last 1,024 shapes, hundreds of megabytes in a long run; a
    # batch needs a dozen. It reads this when it compiles the first one.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    device = choose_device(config.device)
    dtype, notes = choose_dtype(config.dtype, device)
    notes = [*notes, *case_notes(tokenizer, config.model)]
    max_length = longest(config.max_length, settings, tokenizer, pair=config.source.pair)
    if beyond := [r.name for r in reductions if r.shortest > max_length]:
        raise UsageError(
            f"{beyond[0]}: documents are cut at {max_length} tokens here, the last at position {max_length - 1}"
        )
    labels = tuple(str(settings.id2label[i]) for i in range(settings.num_labels))
    reductions = by_class(reductions, labels)
    with _fitting(config.model, device):
        model = read_model(folder, config, settings, dtype, PADDED).to(device)
    reads_types = config.source.pair and reads_token_types(model, tokenizer)
    if reads_types and "token_type_ids" not in tokenizer.model_input_names:
        notes = [
            *notes,
            f"{config.model} gets token types, which its tokenizer omits by default",
        ]
    classifier = Classifier(
        name=config.model,
        model=model,
        tokenizer=tokenizer,
        labels=labels,
        device=device,
        dtype=dtype,
        max_length=max_length,
        reductions=reductions,
        way="padded",
        layers=0,
        heads=0,
        batch_tokens=config.batch_tokens or BATCH_TOKENS[device.type] // _share(reductions),
        model_sha256=hash_files(sorted(folder.glob("*.safetensors"))),
        tokenizer_sha256=hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        reads_types=reads_types,
        notes=tuple(notes),
        all_null={r.name for r in reductions},
    )
    with _fitting(config.model, device):
        find_way(classifier, lambda: read_model(folder, config, settings, dtype, "eager").to(device))
    return classifier


@contextmanager
def _fitting(model: str, device: torch.device) -> Iterator[None]:
    """Report running out of the device's memory in one line."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"the model {model} is too large for the free memory of {device}: free some, take --dtype bfloat16 "
            "or --device cpu"
        ) from error


def load_eager(config: RunConfig) -> tuple[Any, Any, str]:
    """The model with eager attention in float32 on the CPU, its tokenizer, and the hash of its weights.

    The oracle's reference: transformers as it is, without the tap.
    """
    files = read_model_files(config)
    model = read_model(files.folder, config, files.settings, torch.float32, "eager")
    return model, files.tokenizer, hash_files(sorted(files.folder.glob("*.safetensors")))


@dataclass(frozen=True, slots=True)
class Probe:
    """Three tiny documents: the ids of each, and its token types if the model takes them."""

    ids: list[np.ndarray]
    types: list[np.ndarray]


def find_way(classifier: Classifier, reload_eager: Any) -> None:
    """Settle `way`, `layers` and `heads` by running three tiny documents, together and alone.

    Raises ModelError for a model that can't be read in any way, or would be read wrongly.
    """
    probe = _probe(classifier)
    tap = _probe_tap(classifier, probe.ids, packed=False)
    logits = _run(classifier, probe, tap)
    if tap.calls == 0:
        classifier.model = reload_eager()
        classifier.way = "hooked"
        logits = _run(classifier, probe, tap)
        if tap.calls == 0:
            raise ModelError(
                f"{classifier.name} ({type(classifier.model).__name__}) shows its attention neither to a registered "
                "function nor to eager attention's output: attnstore can't read it"
            )
    _refuse_misreading(classifier, probe, logits, tap.calls)
    classifier.layers, classifier.heads = tap.calls, tap.heads
    classifier._obstacle = tap.obstacle
    if any(r.norm for r in classifier.reductions) and (why := _find_projections(classifier, probe)):
        _leave_out(classifier, {"norm"}, why)
    place = CUT.get(classifier.model.config.model_type)
    if classifier.way == "padded" and place is not None:
        classifier._gather = submodule(classifier.model.base_model, place)
        classifier.way = "packed"
        classifier.model.set_attn_implementation(PACKED)
        if not same_logits(classifier, probe, logits):
            # A family member with a different structure: slower, but right.
            classifier.way = "padded"
            classifier.model.set_attn_implementation(PADDED)
    if (
        classifier.dtype == torch.bfloat16
        and classifier.device.type == "cpu"
        and fast_bfloat16(classifier.device)
    ):
        restore = linears.fuse(classifier.model.base_model)
        try:
            if not same_logits(classifier, probe, logits):
                restore()
        except (AttributeError, RuntimeError, TypeError):  # a torch version with another operator
            restore()
    of_margin = {r.name for r in classifier.reductions if r.evidence or r.relevance}
    if of_margin and (why := _no_gradient(classifier, probe, logits)):
        _leave_out(classifier, of_margin, why)
        return
    relevance = {r.name for r in classifier.reductions if r.relevance}
    if relevance and (why := _no_gradient(classifier, probe, logits, RELEVANCE)):
        _leave_out(classifier, relevance, why)


def _leave_out(classifier: Classifier, names: set[str], why: str) -> None:
    """Continue without these reductions, with a note. Raises UsageError if no others are requested."""
    without = [r.name for r in classifier.reductions if r.name in names]
    left = tuple(r for r in classifier.reductions if r.name not in names)
    if not left:
        raise UsageError(f"--reduce {','.join(without)}: {classifier.name} has none, {why}")
    classifier.reductions = left
    classifier.all_null -= names
    verb = "is" if len(without) == 1 else "are"
    classifier.notes += (f"{listed(without)} {verb} not stored, {classifier.name} has none: {why}",)


def _find_projections(classifier: Classifier, probe: Probe) -> str:
    """Find each layer's output projection, on the padded or hooked way. Returns why there is none; empty if there is.

    A projection's input must be what the first token gathers, or the norm would describe something else.
    """
    model = classifier.model.base_model
    family = classifier.model.config.model_type
    unknown = f"attnstore does not know the output projection of {family}"
    if family not in PROJECTIONS:
        return unknown
    if classifier.way == "hooked":
        if family not in VALUES:
            return f"attnstore does not know the values of {family}"
        classifier._values = VALUES[family]
    given: list[tuple[nn.Linear, Tensor]] = []

    def seen(module: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
        given.append((module, inputs[0][:, 0].float()))

    handles = [m.register_forward_pre_hook(seen) for m in linears_called(model, PROJECTIONS[family])]
    tap = _GatheringTap([len(i) for i in probe.ids], classifier.device)
    try:
        with torch.inference_mode():
            classifier._forward(probe.ids, tap, probe.types)
    finally:
        for handle in handles:
            handle.remove()
    if len(given) != classifier.layers or not all(
        rows.shape == own.shape and _close(rows.to(classifier.dtype), own, 1e-4)
        for (_, rows), own in zip(given, tap.gathered, strict=True)
    ):
        classifier._values = ""
        return unknown
    classifier._projections = [module for module, _ in given]
    return ""


class _GatheringTap(Tap):
    """Keeps what the first tokens gather in each layer: (documents, heads · d_v)."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        super().__init__(lengths, torch.zeros(0, sum(lengths), device=device), (), packed=False)
        self.gathered: list[Tensor] = []

    def attend(self, *given: Any) -> Tensor:
        output = super().attend(*given)
        self.gathered.append(output[:, 0].flatten(1))
        return output

    def take(self, p: Tensor) -> None:
        super().take(p)
        value = heads_apart(present(self.value), self.heads)
        self.gathered.append((p[:, :, :1].to(value.dtype) @ value).flatten(1))  # (B, heads, 1, d_v), flat


def _no_gradient(classifier: Classifier, probe: Probe, logits: Tensor, *reductions: Reduction) -> str:
    """Why the margin's gradient by the last attention, or these reductions, can't be computed; empty if they can.

    Tried on the probe, whose logits are known.
    """
    lengths, packed = [len(i) for i in probe.ids], classifier.way == "packed"
    tap = _probe_tap(classifier, probe.ids, reductions, packed=packed, differentiated=classifier.layers)
    try:
        with tap.recording():
            found = classifier._forward(probe.ids, tap, probe.types)
            last = present(tap.last)
            (gradient,) = gradients.gradient(gradients.margins(found), last.leaf)
            if reductions:
                tap.differentiate(found)
            gradients.must_be_of_first_rows(last, gradient, lengths, packed=packed)
    except gradients.NoGradientError as error:
        return str(error)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # anything that torch can't differentiate
        return first_line(error)
    return "" if _close(found, logits, 1e-4) else "its logits differ when the gradient is recorded"


def same_logits(classifier: Classifier, probe: Probe, logits: Tensor) -> bool:
    """Whether the classifier in its current state gives these documents these logits."""
    tap = _probe_tap(classifier, probe.ids, packed=classifier.way == "packed")
    with torch.inference_mode():
        found = classifier._forward(probe.ids, tap, probe.types)
    return found.shape == logits.shape and _close(found, logits, 1e-4)


def _close(found: Tensor, logits: Tensor, tolerance: float) -> bool:
    """Whether logits are equal to within `tolerance`, absolute and relative; in half precision to 5 %."""
    tolerance = tolerance if logits.dtype == torch.float32 else 5e-2
    return torch.allclose(found.float(), logits.float(), atol=tolerance, rtol=tolerance)


def _run(classifier: Classifier, probe: Probe, tap: Tap) -> Tensor:
    """(documents, classes) logits. Raises ModelError if a model needs more than token ids."""
    try:
        with torch.inference_mode():
            return classifier._forward(probe.ids, tap, probe.types)
    except (AttnstoreError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a model's own code may raise anything
        raise ModelError(
            f"{classifier.name} ({type(classifier.model).__name__}) can't be run on a text's tokens alone: "
            f"{first_line(error)}"
        ) from error


def _refuse_misreading(classifier: Classifier, probe: Probe, logits: Tensor, tapped: int) -> None:
    """Raise ModelError for a model that would give wrong numbers; this takes two or three tiny passes.

    `logits` are those of the probe's documents in one batch, `tapped` the layers whose attention was seen.
    """
    name = f"{classifier.name} ({type(classifier.model).__name__})"
    layers = getattr(classifier.model.config, "num_hidden_layers", tapped)
    if tapped != layers:
        raise ModelError(
            f"{name} shows the attention of {tapped} of its {layers} layers: attnstore can't read it"
        )
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(
            f"{name} gives no finite logits ({_shown(logits[0])}): look for an impossible number in its config.json,"
            " or try --dtype float32"
        )
    longest = max(probe.ids, key=len)
    for place, (own, ids) in enumerate(zip(logits, probe.ids, strict=True)):
        if len(ids) == len(longest):
            continue  # it was not padded
        single = Probe([ids], probe.types[place : place + 1])
        alone = _run(classifier, single, _probe_tap(classifier, single.ids, packed=False))[0]
        if not _close(alone, own, 1e-3):
            raise ModelError(
                f"{name} gives a document different logits alone ({_shown(alone)}) and beside a longer one "
                f"({_shown(own)}): padding leaks into it, and attnstore can't read it"
            )
    if classifier.way != "hooked":
        return  # the tap refuses causal attention by itself
    with torch.inference_mode():
        inputs = torch.from_numpy(longest.astype(np.int64))[None].to(classifier.device)
        attentions = classifier.model(input_ids=inputs, output_attentions=True).attentions
    if all(not torch.triu(weights, 1).any() for weights in attentions):
        raise ModelError(
            f"{name} is causal (generative): attnstore reads encoders with a classification head"
        )


def _shown(logits: Tensor) -> str:
    return listed([f"{value:.4g}" for value in logits.tolist()])


def _probe(classifier: Classifier) -> Probe:
    texts = ["a", "one two three four five", "what was that, and why ever not?"]
    pairs = [texts[::-1]] if classifier.reads_types else []  # with types, these are documents of two texts
    encodings = classifier.tokenizer(
        texts, *pairs, truncation=True, max_length=classifier.max_length, return_token_type_ids=True
    ).encodings
    ids = [np.array(e.ids, dtype=np.int32) for e in encodings]
    return Probe(ids, [np.array(e.type_ids, dtype=np.int32) for e in encodings] if pairs else [])


def _probe_tap(
    classifier: Classifier,
    ids: Sequence[np.ndarray],
    reductions: Sequence[Reduction] = (),
    *,
    packed: bool,
    differentiated: int = 0,
) -> Tap:
    lengths = [len(i) for i in ids]
    weights = torch.zeros(0, sum(lengths), device=classifier.device)
    return Tap(lengths, weights, reductions, packed=packed, differentiated=differentiated)
