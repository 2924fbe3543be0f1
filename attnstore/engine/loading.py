"""A classifier loaded, and the way through its model found by running three tiny documents."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnstore.config import RunConfig
from attnstore.engine.classifier import Classifier
from attnstore.engine.devices import choose_device, choose_dtype, fast_bfloat16
from attnstore.engine.families import CUT, submodule
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
from attnstore.engine.reductions import Reduction
from attnstore.engine.tap import PACKED, PADDED, Tap
from attnstore.errors import ModelError, UsageError

#: Tokens in a batch unless told otherwise: enough for full matrix products. On a CPU twice as many are no faster, and
#: half as many take a tenth longer for a small model.
BATCH_TOKENS = {"cpu": 8192, "cuda": 65536}


def load_classifier(
    config: RunConfig, reductions: tuple[Reduction, ...], files: ModelFiles | None = None
) -> Classifier:
    """Load model and tokenizer, choose device and dtype, and find the way through the model.

    `files` is what `read_model_files` has found, where it was asked before.

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
    with _fitting(config.model, device):
        model = read_model(folder, config, settings, dtype, PADDED).to(device)
    reads_types = config.source.pair and reads_token_types(model, tokenizer)
    if reads_types and "token_type_ids" not in tokenizer.model_input_names:
        notes = [
            *notes,
            f"{config.model} is given token types, which its tokenizer leaves out unless asked",
        ]
    classifier = Classifier(
        name=config.model,
        model=model,
        tokenizer=tokenizer,
        labels=tuple(str(settings.id2label[i]) for i in range(settings.num_labels)),
        device=device,
        dtype=dtype,
        max_length=max_length,
        reductions=reductions,
        way="padded",
        layers=0,
        heads=0,
        batch_tokens=config.batch_tokens or BATCH_TOKENS[device.type],
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
    """Running out of the device's memory in here is reported in one line."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"the model {model} is too large for the free memory of {device}: free some, take --dtype bfloat16 "
            "or --device cpu"
        ) from error


def load_eager(config: RunConfig) -> tuple[Any, Any, str]:
    """The model with eager attention in float32 on the CPU, its tokenizer, and the hash of its weights.

    What the oracle compares against: transformers as it is, without the tap.
    """
    files = read_model_files(config)
    model = read_model(files.folder, config, files.settings, torch.float32, "eager")
    return model, files.tokenizer, hash_files(sorted(files.folder.glob("*.safetensors")))


def find_way(classifier: Classifier, reload_eager: Any) -> None:
    """Settle `way`, `layers` and `heads` by running three tiny documents."""
    probe = _probe(classifier)
    tap = _probe_tap(classifier, probe.ids, packed=False)
    with torch.inference_mode():
        logits = classifier._forward(probe.ids, tap, probe.types)
    if tap.calls == 0:
        classifier.model = reload_eager()
        classifier.way = "hooked"
        with torch.inference_mode():
            logits = classifier._forward(probe.ids, tap, probe.types)
        if tap.calls == 0:
            raise ModelError(
                f"{classifier.name} ({type(classifier.model).__name__}) shows its attention neither to a registered "
                "function nor to eager attention's output: attnstore can't read it"
            )
    classifier.layers, classifier.heads = tap.calls, tap.heads
    classifier._obstacle = tap.obstacle
    place = CUT.get(classifier.model.config.model_type)
    if classifier.way == "padded" and place is not None:
        classifier._gather = submodule(classifier.model.base_model, place)
        classifier.way = "packed"
        classifier.model.set_attn_implementation(PACKED)
        if not same_logits(classifier, probe, logits):
            # A family member that is built otherwise than its siblings: slower, but right.
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
        except (AttributeError, RuntimeError, TypeError):  # another torch, whose operator is another
            restore()


@dataclass(frozen=True, slots=True)
class Probe:
    """Three tiny documents: the ids of each, and its token types if the model is given any."""

    ids: list[np.ndarray]
    types: list[np.ndarray]


def same_logits(classifier: Classifier, probe: Probe, logits: Tensor) -> bool:
    """Whether the classifier as it is now gives these documents these logits."""
    tap = _probe_tap(classifier, probe.ids, packed=classifier.way == "packed")
    with torch.inference_mode():
        found = classifier._forward(probe.ids, tap, probe.types)
    tolerance = 1e-4 if classifier.dtype == torch.float32 else 5e-2
    return found.shape == logits.shape and torch.allclose(
        found.float(), logits.float(), atol=tolerance, rtol=tolerance
    )


def _probe(classifier: Classifier) -> Probe:
    texts = ["a", "one two three four five", "what was that, and why ever not?"]
    pairs = [texts[::-1]] if classifier.reads_types else []  # with types, these are documents of two texts
    encodings = classifier.tokenizer(
        texts, *pairs, truncation=True, max_length=classifier.max_length, return_token_type_ids=True
    ).encodings
    ids = [np.array(e.ids, dtype=np.int32) for e in encodings]
    return Probe(ids, [np.array(e.type_ids, dtype=np.int32) for e in encodings] if pairs else [])


def _probe_tap(classifier: Classifier, ids: Sequence[np.ndarray], *, packed: bool) -> Tap:
    lengths = [len(i) for i in ids]
    return Tap(lengths, torch.zeros(0, sum(lengths), device=classifier.device), (), packed=packed)
