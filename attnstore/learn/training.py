"""The training: the order of the batches, transformers' Trainer, and what watches it."""

import math
import os
import random
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import (
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from attnstore.errors import ModelError
from attnstore.events import OnEvent, Trained
from attnstore.learn.checkpoints import keeping
from attnstore.learn.config import (
    CHECKPOINTS,
    FinetuneConfig,
)
from attnstore.learn.examples import Split

#: How often a checkpoint is written within an epoch, for crashes; an interruption writes its own.
CHECKPOINTS_PER_EPOCH = 4


#: Batches are sorted by length within pools of this many, so that they need little padding and stay random.
BATCHES_PER_POOL = 50


class LengthGroupedBatches(Sampler[list[int]]):
    """Random batches of rows of similar length, a function of `seed` and `epoch` alone.

    transformers' own sampler draws from the global generator, whose state in a later epoch depends on
    everything before: a resumed run would see another order. The longest batch comes first, so that
    memory runs out in the first step or never.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.epoch = 0

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = random.Random(f"{self.seed} {self.epoch}")  # noqa: S311 - as in split_dev
        order = list(range(len(self.lengths)))
        rng.shuffle(order)
        batches: list[list[int]] = []
        pool_size = BATCHES_PER_POOL * self.batch_size
        for start in range(0, len(order), pool_size):
            pool = sorted(order[start : start + pool_size], key=lambda row: -self.lengths[row])
            batches += [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
        rng.shuffle(batches)
        largest = max(range(len(batches)), key=lambda i: len(batches[i]) * self.lengths[batches[i][0]])
        batches[0], batches[largest] = batches[largest], batches[0]
        return iter(batches)


class Examples(Dataset[tuple[NDArray[np.int32], int]]):
    """A split as torch's loader wants it."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split.ids)

    def __getitem__(self, row: int) -> tuple[NDArray[np.int32], int]:
        return self.split.ids[row], self.split.labels[row]


def collator(
    pad_id: int, side: str
) -> Callable[[Sequence[tuple[NDArray[np.int32], int]]], dict[str, torch.Tensor]]:
    """Rows → `input_ids` and `attention_mask` [batch, longest], `labels` [batch], all int64."""

    def collate(rows: Sequence[tuple[NDArray[np.int32], int]]) -> dict[str, torch.Tensor]:
        longest = max(len(ids) for ids, _ in rows)
        ids_matrix = np.full((len(rows), longest), pad_id, np.int64)
        mask = np.zeros((len(rows), longest), np.int64)
        for i, (ids, _) in enumerate(rows):
            place = slice(longest - len(ids), longest) if side == "left" else slice(len(ids))
            ids_matrix[i, place] = ids
            mask[i, place] = 1
        return {
            "input_ids": torch.from_numpy(ids_matrix),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.tensor([label for _, label in rows]),
        }

    return collate


class LengthGroupedTrainer(Trainer):  # type: ignore[misc]  # transformers ships no types
    """transformers' Trainer with our order of batches, and with one line for what fails at a checkpoint."""

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        with keeping(Path(self.args.output_dir).parent):
            super()._save_checkpoint(*arguments, **options)

    def _load_from_checkpoint(self, *arguments: Any, **options: Any) -> None:
        with keeping(Path(self.args.output_dir).parent):
            super()._load_from_checkpoint(*arguments, **options)

    def _load_best_model(self) -> None:
        with keeping(Path(self.args.output_dir).parent):
            super()._load_best_model()

    def get_train_dataloader(self) -> Any:
        watcher = next(c for c in self.callback_handler.callbacks if isinstance(c, Watcher))
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=watcher.batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)


def arguments(
    config: FinetuneConfig, device: str, dtype: str, *, choosing: bool, steps: int
) -> TrainingArguments:
    never = 10**9  # the watcher decides when to evaluate and to save, but Trainer needs a number
    return TrainingArguments(
        output_dir=str(config.out / CHECKPOINTS),
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=max(config.batch_size, 16),
        learning_rate=config.learning_rate,
        max_steps=steps,
        lr_scheduler_type="linear",
        warmup_steps=round(config.warmup * steps),
        weight_decay=config.weight_decay,
        seed=config.seed,
        use_cpu=device == "cpu",
        bf16=dtype == "bfloat16",
        fp16=dtype == "float16",
        dataloader_pin_memory=device == "cuda",
        remove_unused_columns=False,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        eval_strategy="steps" if choosing else "no",
        eval_steps=never,
        save_strategy="steps",
        save_steps=never,
        save_total_limit=2,
        load_best_model_at_end=choosing,
        metric_for_best_model="rank" if choosing else None,
        greater_is_better=True,
        disable_tqdm=True,
        report_to="none",
    )


def predicted_classes(logits: Any, _: Any) -> torch.Tensor:
    """Class numbers [batch] of logits [batch, classes], so that no more than that is kept of a dataset."""
    first = logits[0] if isinstance(logits, tuple) else logits
    return torch.as_tensor(first).argmax(dim=-1)


class Stopped(Exception):  # noqa: N818 - not an error: the way out of a measurement that the user stops
    """The user interrupted a measurement, which has no step after which to end."""


class Watcher(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Sets the rhythm of a training (when to measure, save, stop) and tells how it goes."""

    def __init__(
        self,
        on_event: OnEvent,
        stop: threading.Event,
        batches: LengthGroupedBatches,
        *,
        choosing: bool,
    ) -> None:
        self.on_event, self.stop, self.batches, self.choosing = on_event, stop, batches, choosing
        self.phase: Literal["train", "dev", "test"] = "train"
        self.losses: list[torch.Tensor] = []
        self.hits: list[torch.Tensor] = []
        self.first_step = 0
        self.phase_began = self.told = time.monotonic()
        self.measured = (0, 0)  # batches of the phase: done, in all

    def steps(self, epochs: float) -> int:
        """The number of optimiser steps in that many epochs."""
        return max(1, round(epochs * len(self.batches)))

    def loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Mean cross-entropy of logits [batch, classes], a scalar; also notes it, with the accuracy."""
        logits = outputs.logits.float()
        loss = torch.nn.functional.cross_entropy(logits, labels)
        if torch.is_grad_enabled():
            # Kept as tensors: reading a number off a GPU at each step would make it wait.
            self.losses.append(loss.detach())
            self.hits.append((logits.detach().argmax(dim=-1) == labels).float().mean())
        return loss

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.first_step = state.global_step
        self.phase_began = time.monotonic()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.batches.epoch = state.global_step // len(self.batches)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        in_epoch = state.global_step % len(self.batches)
        quarter = -(-len(self.batches) // CHECKPOINTS_PER_EPOCH)
        last = state.global_step == state.max_steps
        if in_epoch == 0 or last:
            control.should_evaluate = self.choosing
        stopping = self.stop.is_set() and not last
        if in_epoch % quarter == 0 or last or stopping:
            control.should_save = True
        control.should_training_stop = control.should_training_stop or stopping
        if time.monotonic() - self.told > 1 or last or stopping:
            self.check_loss(state.global_step)
            self.tell(state)

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **_: Any
    ) -> None:
        if self.phase == "test" and self.stop.is_set():
            raise Stopped
        if self.measured[0] == self.measured[1]:  # the first batch of a measurement
            if self.phase == "train":
                self.phase = "dev"
            self.measured = (0, len(eval_dataloader))
            self.phase_began = time.monotonic()
        self.measured = (self.measured[0] + 1, self.measured[1])
        if time.monotonic() - self.told > 1:
            self.tell(state)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        self.tell(state, accuracy=float(metrics["eval_accuracy"]))
        self.phase = "train"
        self.first_step, self.phase_began = state.global_step, time.monotonic()

    def check_loss(self, step: int) -> None:
        """Refuse to continue with weights that are not numbers."""
        if self.losses and not all(bool(torch.isfinite(loss)) for loss in self.losses):
            raise ModelError(f"the loss was not a finite number near step {step:,}: lower --learning-rate")

    def tell(self, state: Any, accuracy: float | None = None) -> None:
        """Report the phase's progress; `accuracy` is that of a finished measurement."""
        now = self.told = time.monotonic()
        if self.phase == "train":
            done, steps, begun = state.global_step, state.max_steps, self.first_step
            loss = float(torch.stack(self.losses).mean()) if self.losses else None
            accuracy = float(torch.stack(self.hits).mean()) if self.hits else None
            self.losses.clear()
            self.hits.clear()
        else:
            (done, steps), begun, loss = self.measured, 0, None
        past = [entry["eval_accuracy"] for entry in state.log_history if "eval_accuracy" in entry]
        seconds = now - self.phase_began
        self.on_event(
            Trained(
                phase=self.phase,
                step=done,
                steps=steps,
                epoch=float(state.epoch or 0.0),
                seconds=seconds,
                eta=seconds * (steps - done) / max(1, done - begun),
                loss=loss,
                accuracy=accuracy,
                dev_accuracy=past[-1] if past else None,
            )
        )


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Make a GPU sum in the same order every time; a CPU does if its number of threads is the same."""
    if device == "cpu":
        yield
        return
    # cuBLAS reads this when it is first used; without it its products are not repeatable.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic")
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
