"""The options of a fine-tuning, and its result."""

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path

from attnstore.config import Device, Dtype, SourceConfig
from attnstore.engine.devices import choose_device, fast_bfloat16, visible_gpus
from attnstore.engine.models import local_model
from attnstore.errors import AttnstoreError, UsageError

#: Where a run keeps what it needs to resume; removed when the run has ended.
CHECKPOINTS = "checkpoints"
#: The file in it with the configuration that the run began with.
RECORD = "run.json"


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """Everything that decides the result of a fine-tuning, and where it is written.

    `source`: the data set. If it has splits, `train` is used for training and `test` is evaluated once, at the end;
    otherwise all documents are used for training. `source.limit` applies to each split. `source.labels`, if given, is
    the order of the classes.
    `out`: the folder of the model. `epochs` may be a fraction. `warmup`: the fraction of all steps in which the
    learning rate rises to its maximum; then it falls linearly to zero.
    `attention_dropout`: the share of attention weights that training drops; None for the model's own. With 0, torch
    uses its fused attention, and on a CPU a step takes about two thirds of the time.
    `dev_fraction`: the part of the train split, in whole groups, that is held out to choose the epoch: the last one,
    unless an earlier one is better by more than chance (`Choice`). 0 trains on everything and keeps the last.
    `dtype`: the dtype of the products; the weights are always float32.
    """

    source: SourceConfig
    out: Path
    model: str = "bert-base-uncased"
    revision: str | None = None
    trust_remote_code: bool = False
    device: Device = "auto"
    dtype: Dtype = "auto"
    max_length: int | None = None  # 512, or the model's own limit
    batch_size: int = 8
    learning_rate: float = 3e-5
    epochs: float = 3.0
    warmup: float = 0.06
    weight_decay: float = 0.01
    attention_dropout: float | None = None
    dev_fraction: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """The result of a fine-tuning. Accuracies are None if there was nothing to measure them on."""

    out: Path
    labels: tuple[str, ...]
    train_documents: int
    dev_documents: int
    test_documents: int
    dev_accuracies: tuple[float, ...]  # one per epoch
    chosen_step: int
    steps: int
    dev_accuracy: float | None  # of the chosen model
    test_accuracy: float | None
    seconds: float  # of this call, without a resumed run's earlier calls
    max_length: int
    dtype: str
    device: str
    notes: tuple[str, ...] = ()


class FinetuneInterrupted(AttnstoreError):  # noqa: N818 - nothing went wrong
    """The user stopped the run; its progress is kept, and the message says how to resume."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number  # the exit code of shells for a signal with that number


def check(config: FinetuneConfig) -> None:
    """Refuse what can't work before anything slow begins."""
    if importlib.util.find_spec("accelerate") is None:
        raise UsageError("fine-tuning needs accelerate: pip install 'attnstore[finetune]'")
    bounds = [
        ("--epochs", config.epochs, 0 < config.epochs < math.inf, "more than 0"),
        ("--batch-size", config.batch_size, config.batch_size >= 1, "at least 1"),
        ("--learning-rate", config.learning_rate, 0 < config.learning_rate < 1, "between 0 and 1"),
        (
            "--max-length",
            config.max_length,
            config.max_length is None or config.max_length >= 3,
            "at least 3",
        ),
        ("--warmup", config.warmup, 0 <= config.warmup < 1, "at least 0 and less than 1"),
        ("--weight-decay", config.weight_decay, 0 <= config.weight_decay < 1, "at least 0 and less than 1"),
        (
            "--attention-dropout",
            config.attention_dropout,
            config.attention_dropout is None or 0 <= config.attention_dropout < 1,
            "at least 0 and less than 1",
        ),
        ("--dev-fraction", config.dev_fraction, 0 <= config.dev_fraction <= 0.5, "between 0 and 0.5"),
        ("--seed", config.seed, 0 <= config.seed < 2**32, "between 0 and 2^32 - 1"),
    ]
    for option, value, good, wanted in bounds:
        if not good:
            raise UsageError(f"{option} is {value}: it must be {wanted}")
    if config.source.pair:
        raise UsageError("--pair is for `run`: fine-tuning reads one text per document")
    local_model(config.model)
    out = config.out
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: name a folder for the model")
    begun = (out / CHECKPOINTS / RECORD).exists()
    if not begun and out.exists() and any(file.name != CHECKPOINTS for file in out.iterdir()):
        raise UsageError(f"{out} is not empty: name a new folder")


def compute(config: FinetuneConfig) -> tuple[str, str]:
    """The device, `cpu` or `cuda`, and the type that products are computed in."""
    device = choose_device(config.device)
    if device.type == "mps":
        raise UsageError("--device mps: models are trained on CUDA or a CPU: use --device cpu")
    if ":" in config.device:
        raise UsageError(
            f"--device {config.device}: training uses the visible GPUs: use --device cuda, with"
            f" CUDA_VISIBLE_DEVICES={visible_gpus()[device.index]} in the environment"
        )
    if config.dtype == "float16" and device.type == "cpu":
        raise UsageError("--dtype float16 trains on CUDA only: use bfloat16 or float32 on a CPU")
    if config.dtype != "auto":
        return device.type, config.dtype
    return device.type, "bfloat16" if fast_bfloat16(device) else "float32"
