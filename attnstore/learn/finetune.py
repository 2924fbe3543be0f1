"""A pre-trained encoder → a text classifier: `finetune(FinetuneConfig(...))` and what comes of it.

The training itself is transformers' `Trainer`. What is decided here is the data (which documents train,
which choose the model, which are only looked at once), the order of the batches, what is kept when the
run is interrupted, and what is said about the result. Nothing is printed: progress goes out as events.
"""

import hashlib
import importlib.util
import itertools
import json
import math
import os
import platform
import random
import shutil
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import attnstore
from attnstore.config import Device, Dtype, SourceConfig
from attnstore.data.documents import Document
from attnstore.data.labels import (
    Given,
    LabelMap,
    label_order,
    match_labels,
    shown_labels,
    spelling,
    whole_number,
)
from attnstore.data.selection import read_documents, rejections
from attnstore.data.sources import open_source
from attnstore.data.survey import Survey, survey
from attnstore.engine.devices import choose_device, fast_bfloat16
from attnstore.engine.models import local_model
from attnstore.engine.paths import memory
from attnstore.errors import AttnstoreError, DataError, ModelError, UsageError
from attnstore.events import OnEvent, Trained, ignore
from attnstore.interrupts import stop_on_interrupt
from attnstore.messages import first_line, listed

#: Where a run keeps what it needs to go on; removed when the run has ended.
CHECKPOINTS = "checkpoints"
#: How often a checkpoint is written within an epoch, for crashes; an interruption writes its own.
CHECKPOINTS_PER_EPOCH = 4
#: More classes than this are taken for a mistake in the choice of the label column.
MOST_CLASSES = 1000
#: Batches are sorted by length within pools of this many, so that they need little padding and stay random.
BATCHES_PER_POOL = 50


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """Everything that decides what a fine-tuning gives, and where it goes.

    `source`: the dataset. Of one with splits, `train` is trained on and `test` evaluated once, at the end;
    of one without, all is trained on. `source.limit` counts for each split by itself. `source.labels`, if
    given, is the order of the classes.
    `out`: the folder that becomes the model. `epochs` may be a fraction. `warmup` is the fraction of all
    steps in which the learning rate rises to its full height; it falls to zero in the rest, linearly.
    `attention_dropout`: the share of attention weights that training drops; None: as the model's config says.
    Without any, torch takes its fused attention, and on a CPU a step about two thirds of the time.
    `dev_fraction`: the part of the train split that is held out, by whole groups, to choose the epoch by: the
    last one, unless an earlier one is better by more than chance (`Choice`). 0 trains on everything and takes
    the last. `dtype` is what the products are computed in: the
    weights are float32 throughout.
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
    resume: bool = False


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """What a fine-tuning gave. Accuracies are None where there was nothing to measure them on."""

    out: Path
    labels: tuple[str, ...]
    train_documents: int
    dev_documents: int
    test_documents: int
    dev_accuracies: tuple[float, ...]  # one an epoch
    chosen_step: int
    steps: int
    dev_accuracy: float | None  # of the chosen model
    test_accuracy: float | None
    seconds: float  # of this call; a resumed run's earlier calls are not in it
    max_length: int
    dtype: str
    device: str
    notes: tuple[str, ...] = ()


class FinetuneInterrupted(AttnstoreError):  # noqa: N818 - nothing went wrong
    """The user stopped the run; what it had learnt is kept, and the message says how to go on."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class _Split:
    """Tokenised documents: ids int32 [tokens] each, class numbers, and what makes them dependent."""

    ids: list[NDArray[np.int32]]
    labels: list[int]
    groups: list[str]

    def part(self, rows: Sequence[int]) -> "_Split":
        """The documents of these rows, in this order."""
        return _Split(
            [self.ids[i] for i in rows], [self.labels[i] for i in rows], [self.groups[i] for i in rows]
        )

    def by_length(self) -> "_Split":
        """The same documents, the longest first: the order that needs the least padding."""
        return self.part(sorted(range(len(self.ids)), key=lambda i: -len(self.ids[i])))


def finetune(config: FinetuneConfig, *, on_event: OnEvent = ignore) -> FinetuneResult:
    """Fine-tune `config.model` on `config.source` and write the classifier to `config.out`.

    The result is a plain Hugging Face folder with a README.md. Ctrl-C (SIGINT) ends the run after the step
    in hand with a `FinetuneInterrupted`, and `resume=True` goes on from there to the same weights as if
    nothing had happened. With one seed on one machine the weights are the same every time. `on_event` gets
    `Trained` as it goes, and `Downloaded` before.

    Raises:
        AttnstoreError: of the kind that fits: the data, the model, the options.
    """
    began = time.monotonic()
    _check(config)
    device, dtype = _compute(config)
    tokenizer = _load_tokenizer(config)
    max_length = _max_length(config, tokenizer)
    config = replace(config, max_length=max_length)  # a run that is resumed has to have the same
    splits, labels, notes = _read(config, tokenizer, max_length, on_event)
    train_rows, dev_rows = split_dev(
        splits["train"].groups, splits["train"].labels, config.dev_fraction, config.seed
    )
    train, dev = splits["train"].part(train_rows), splits["train"].part(dev_rows).by_length()
    checkpoint = _begin(config, labels, splits)

    with _quiet(), _repeatable(device), memory.kept(), stop_on_interrupt() as stop:
        transformers.set_seed(config.seed)
        model = _load_model(config, labels)
        batches = LengthGroupedBatches([len(ids) for ids in train.ids], config.batch_size, config.seed)
        watcher = _Watcher(on_event, stop, batches, choosing=bool(dev.ids))
        choice = Choice(config.out / CHECKPOINTS)
        trainer = _Trainer(
            model=model,
            args=_arguments(
                config, device, dtype, choosing=bool(dev.ids), steps=watcher.steps(config.epochs)
            ),
            train_dataset=_Examples(train),
            eval_dataset=_Examples(dev) if dev.ids else None,
            data_collator=_collator(tokenizer.pad_token_id, tokenizer.padding_side),
            compute_loss_func=watcher.loss,
            compute_metrics=lambda found: choice.metrics(
                batches.epoch, found.predictions == found.label_ids, choosing=watcher.phase == "dev"
            ),
            preprocess_logits_for_metrics=_classes,
            callbacks=[watcher],
        )
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            state = trainer.state
            watcher.check_loss(state.global_step)
            if state.global_step < state.max_steps:
                raise _interrupted(config, f"at step {state.global_step:,} of {state.max_steps:,}")
            tested = None
            if "test" in splits:
                watcher.phase = "test"
                found = trainer.predict(_Examples(splits["test"].by_length()))
                tested = float(found.metrics["test_accuracy"])
                watcher.tell(state, accuracy=tested)
        except _Stopped as error:
            raise _interrupted(config, "while the test split was being measured") from error
        except torch.OutOfMemoryError as error:
            raise AttnstoreError(
                f"the {device} has too little memory for batches of {config.batch_size} documents of "
                f"{max_length} tokens: lower --batch-size or --max-length"
            ) from error

        measured = {
            entry["step"]: entry["eval_accuracy"] for entry in state.log_history if "eval_accuracy" in entry
        }
        chosen = state.best_global_step or state.global_step
        result = FinetuneResult(
            out=config.out,
            labels=labels,
            train_documents=len(train.ids),
            dev_documents=len(dev.ids),
            test_documents=len(splits["test"].ids) if "test" in splits else 0,
            dev_accuracies=tuple(measured.values()),
            chosen_step=chosen,
            steps=state.global_step,
            dev_accuracy=measured.get(chosen),
            test_accuracy=tested,
            seconds=time.monotonic() - began,
            max_length=max_length,
            dtype=dtype,
            device=device,
            notes=notes,
        )
        trainer.model.save_pretrained(config.out)
        # Neither is a property of the model: how long texts may be is for its users to say.
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.save_pretrained(config.out)
    (config.out / "README.md").write_text(_card(config, result), encoding="utf-8")
    shutil.rmtree(config.out / CHECKPOINTS)
    return result


def split_dev(
    groups: Sequence[str], labels: Sequence[int], fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """(train, dev) rows: whole groups, drawn by `seed`, until `fraction` of the documents is in dev.

    A group must not lie on both sides, because what it shares (a film's title, a copied text) would tell
    the class. A group that holds all that train has left of a class stays in train.
    """
    wanted = round(fraction * len(groups))
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    left = Counter(labels)
    order = sorted(members)
    random.Random(seed).shuffle(order)  # noqa: S311 - a reproducible draw, nothing to do with secrets
    dev: set[int] = set()
    for group in order:
        if len(dev) + len(members[group]) > wanted:
            continue
        taken = Counter(labels[row] for row in members[group])
        if all(left[label] > count for label, count in taken.items()):
            dev.update(members[group])
            left -= taken
    return [row for row in range(len(groups)) if row not in dev], sorted(dev)


class Choice:
    """Which epoch's weights are taken: the latest that no earlier epoch beats by more than chance.

    The highest accuracy is the wrong rule where few documents are held out: of epochs equally good it takes one
    at random, and an early one was left in the middle of its schedule, at a high learning rate. Two epochs judge the
    same documents, so they are compared by those on which they differ: with w that only the earlier has right and l
    that only the later has, w of w + l is tested against one half, one-sided (the exact form of McNemar's test,
    Psychometrika 12, 1947). `folder` keeps each epoch's hits, so that a resumed run chooses as if never interrupted.
    """

    #: The earlier epoch wins if chance would favour it as much less often than this.
    LEVEL = 0.05

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def metrics(self, epoch: int, hits: NDArray[np.bool_], *, choosing: bool) -> dict[str, float]:
        """What Trainer is told of a measurement: `accuracy`, and `rank`, by which it takes the highest.

        `epoch` counts from 0; `hits` [documents] says which held-out documents it has right, in the order of
        the earlier epochs. A measurement that chooses nothing (of the test split) has no rank.
        """
        accuracy = float(hits.mean())
        if not choosing:
            return {"accuracy": accuracy}
        np.save(self._file(epoch), hits)
        beaten = any(self._beats(np.load(self._file(earlier)), hits) for earlier in range(epoch))
        return {"accuracy": accuracy, "rank": float(-1 if beaten else epoch)}

    def _file(self, epoch: int) -> Path:
        return self.folder / f"hits-{epoch}.npy"

    def _beats(self, earlier: NDArray[np.bool_], later: NDArray[np.bool_]) -> bool:
        from scipy.stats import binomtest

        won, lost = int((earlier & ~later).sum()), int((later & ~earlier).sum())
        return won > lost and binomtest(won, won + lost, alternative="greater").pvalue < self.LEVEL


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


# --- before the training ---------------------------------------------------------------------------------


def _check(config: FinetuneConfig) -> None:
    """Refuse what can't work before anything slow is begun."""
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
            raise UsageError(f"{option} is {value}: it has to be {wanted}")
    local_model(config.model)
    out = config.out
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: name a folder for the model")
    if config.resume:
        if not (out / CHECKPOINTS / "run.json").is_file():
            raise UsageError(f"{out} holds no interrupted run: leave --resume out to begin one")
    elif out.exists() and any(out.iterdir()):
        begun = (out / CHECKPOINTS / "run.json").is_file()
        advice = "--resume goes on with the run begun there" if begun else "name a new folder"
        raise UsageError(f"{out} is not empty: {advice}")


def _compute(config: FinetuneConfig) -> tuple[str, str]:
    """The device, `cpu` or `cuda`, and the type that products are computed in."""
    device = choose_device(config.device)
    if config.dtype == "float16" and device.type == "cpu":
        raise UsageError("--dtype float16 trains on CUDA only: use bfloat16 or float32 on a CPU")
    if config.dtype != "auto":
        return device.type, config.dtype
    return device.type, "bfloat16" if fast_bfloat16(device) else "float32"


def _load_tokenizer(config: FinetuneConfig) -> Any:
    with _quiet(), _one_line(config.model):
        tokenizer = AutoTokenizer.from_pretrained(
            config.model, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
    if not tokenizer.is_fast:
        raise ModelError(f"{config.model}: its tokenizer has no fast version, which attnstore needs")
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{config.model}: its tokenizer has no padding token, so it can't make batches")
    return tokenizer


def _load_config(config: FinetuneConfig, **changes: Any) -> Any:
    return AutoConfig.from_pretrained(
        config.model, revision=config.revision, trust_remote_code=config.trust_remote_code, **changes
    )


def _max_length(config: FinetuneConfig, tokenizer: Any) -> int:
    """The most tokens a document keeps: what was asked for if the model can take it, else 512 or its own limit."""
    with _quiet(), _one_line(config.model):
        settings = _load_config(config)
    positions = getattr(settings, "max_position_embeddings", None) or math.inf
    if settings.model_type in (
        "roberta",
        "xlm-roberta",
        "camembert",
        "xlm-roberta-xl",
        "longformer",
        "mpnet",
    ):
        positions -= settings.pad_token_id + 1  # their positions are counted from there
    if config.max_length is None:
        return int(min(512, positions, tokenizer.model_max_length))
    if config.max_length > positions:
        raise UsageError(f"--max-length {config.max_length} is more than the model's {positions} positions")
    return config.max_length


def _read(
    config: FinetuneConfig,
    tokenizer: Any,
    max_length: int,
    on_event: OnEvent,
) -> tuple[dict[str, _Split], tuple[str, ...], tuple[str, ...]]:
    """The splits `train` and, if there is one, `test`, tokenised; the classes; what the user should know."""
    source = open_source(replace(config.source, split="all", limit=None), on_event=on_event)
    if not source.splits:
        wanted = {"train": config.source.split}
    elif "train" in source.splits:
        wanted = {name: name for name in ("train", "test") if name in source.splits}
    elif len(source.splits) == 1:
        wanted = {"train": source.splits[0]}
    else:
        raise UsageError(
            f"{source.name} has the splits {', '.join(source.splits)} and none called train: name one file or folder"
        )
    with _quiet(), _one_line(config.model):
        model_labels = _model_labels(_load_config(config))
    notes = list(source.notes)
    splits: dict[str, _Split] = {}
    labels: LabelMap | None = None
    for role, name in wanted.items():
        part = open_source(replace(config.source, split=name, limit=None), on_event=on_event)
        found = survey(part)
        if labels is None:
            labels = _classes_of(found, config.source.labels, model_labels)
        left_out = rejections(found, labels, config.source.strict).counts
        if found.unlabelled:
            left_out = {**left_out, "no label": found.unlabelled}
        if left_out:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
            notes.append(f"rows left out of {role}: {counts}")
        splits[role] = _tokenise(
            read_documents(part, found, labels, config.source.limit),
            labels.model_labels,
            tokenizer,
            max_length,
        )
    assert labels is not None  # noqa: S101 - `wanted` always has train
    present = len(set(splits["train"].labels))
    if present < 2:
        raise DataError(f"{source.name}: all documents to train on are of one class, a classifier needs two")
    if "test" in splits and not splits["test"].ids:
        notes.append("the test split has no document that can be measured")
        del splits["test"]
    return splits, labels.model_labels, tuple(notes)


def _classes_of(found: Survey, given: tuple[str, ...], model_labels: tuple[str, ...]) -> LabelMap:
    """The source's labels as classes, in the order of the logits: as given, the model's, by number, by name.

    Labels that are spelled alike are one class, by the name that most documents have.
    """
    if not found.labels:
        raise DataError("the data has no labels to learn: name their column with --label-column")
    shown = shown_labels(found)
    options = Given.of(given)
    if names := options.classes or tuple(dict.fromkeys(name for name in options.pairs.values() if name)):
        matched = match_labels(found, names, given)
        if not matched.are_models:
            raise DataError(
                f"not all of the data's labels ({listed(sorted(set(shown.values())))}) are among those given"
                f" ({listed(names)}): --labels LABEL=CLASS says which is which, LABEL= leaves its rows out"
            )
        return matched
    dismissed = frozenset(raw for raw, name in shown.items() if {raw.strip(), name} & options.pairs.keys())
    keys = {raw: _key(name) for raw, name in shown.items() if raw not in dismissed}
    spellings: dict[str, Counter[str]] = {}
    for raw, key in keys.items():
        # What only the other splits have is no class, unless the data set itself names it.
        if raw in found.labels or found.class_names is not None:
            spellings.setdefault(key, Counter())[shown[raw]] += found.labels.get(raw, 0)
    name_of = {key: each.most_common(1)[0][0] for key, each in spellings.items()}
    mapping = {raw: name_of[key] for raw, key in keys.items() if key in name_of}
    own = found.class_names.names if found.class_names is not None else ()
    classes = set(name_of.values())
    if classes <= set(own):
        classes |= set(own)
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"the label column has {len(classes):,} different values in {found.documents:,} documents: "
            "these are no classes, name another column with --label-column"
        )
    order = next((known for known in (model_labels, own) if classes == set(known)), None)
    return LabelMap(mapping, True, None, order or tuple(sorted(classes, key=label_order(classes))), dismissed)


def _key(label: str) -> str:
    """What two spellings of a class have in common: `Pos` and `pos `, `1` and `1.0`."""
    number = whole_number(label)
    return str(number) if number is not None else spelling(label) or label


def _tokenise(
    documents: Iterable[Document], labels: tuple[str, ...], tokenizer: Any, max_length: int
) -> _Split:
    """Token ids of every labelled document, cut at `max_length`; only these stay in memory, not the texts."""
    numbers = {label: number for number, label in enumerate(labels)}
    split = _Split([], [], [])
    labelled = (document for document in documents if document.label is not None)
    while chunk := list(itertools.islice(labelled, 1000)):
        texts = [document.text for document in chunk]
        encoded = tokenizer(texts, truncation=True, max_length=max_length, return_attention_mask=False)
        split.ids.extend(np.array(ids, np.int32) for ids in encoded["input_ids"])
        for document in chunk:
            split.labels.append(numbers[document.label or ""])
            # Copies of a text must not lie on both sides of the dev split either.
            copy = hashlib.blake2b(document.text.encode(), digest_size=16).hexdigest()
            split.groups.append(f"group {document.group}" if document.group else f"text {copy}")
    return split


def _load_model(config: FinetuneConfig, labels: tuple[str, ...]) -> Any:
    """The encoder with a head for `labels`: its own if it has one for the same labels, else a new one."""
    source = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    with _one_line(config.model):
        settings = _load_config(config)
        dropout = _attention_dropout(config, settings)
        if _model_labels(settings) == labels:
            return AutoModelForSequenceClassification.from_pretrained(
                config.model, dtype=torch.float32, use_safetensors=True, **source, **dropout
            )
        settings = _load_config(config, problem_type="single_label_classification", **names, **dropout)
        model = AutoModelForSequenceClassification.from_config(
            settings, trust_remote_code=config.trust_remote_code
        ).float()
        encoder, loading = AutoModel.from_pretrained(
            config.model, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **source
        )
    # A pooler that the encoder lacks is part of the new head; anything else would be noise.
    missing = [name for name in loading["missing_keys"] if "pooler" not in name]
    if missing:
        raise ModelError(
            f"{config.model} lacks weights of its encoder ({missing[0]} and {len(missing) - 1} more)"
        )
    model.base_model.load_state_dict(encoder.state_dict(), strict=False)
    return model


def _attention_dropout(config: FinetuneConfig, settings: Any) -> dict[str, float]:
    """The change of the model's config that gives it the attention dropout asked for."""
    if config.attention_dropout is None:
        return {}
    # BERT and its kin, then DistilBERT and ModernBERT
    for name in ("attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(settings, name):
            return {name: config.attention_dropout}
    raise UsageError(f"--attention-dropout: {config.model} ({settings.model_type}) has no such setting")


def _model_labels(settings: Any) -> tuple[str, ...]:
    """The class names of a model that has a classification head, else nothing."""
    architectures = settings.architectures or ()
    if not any(name.endswith("ForSequenceClassification") for name in architectures):
        return ()
    return tuple(str(settings.id2label[i]) for i in range(len(settings.id2label)))


@contextmanager
def _one_line(model: str) -> Iterator[None]:
    """Turn the many ways in which loading a model fails into a ModelError of one line."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(f"can't fine-tune {model}: {first_line(error)}") from error


def _begin(config: FinetuneConfig, labels: tuple[str, ...], splits: dict[str, _Split]) -> Path | None:
    """Make the folder, or find the checkpoint to go on from. Resuming another run is refused."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        digest.update(f"{name} {len(split.ids)} {split.labels}".encode())
        for ids in split.ids:
            digest.update(ids.tobytes())
    decisive = {k: v for k, v in asdict(config).items() if k not in ("resume", "out")}
    run = json.loads(json.dumps({**decisive, "labels": labels, "tokens": digest.hexdigest()}, default=str))
    folder = config.out / CHECKPOINTS
    record = folder / "run.json"
    if config.resume:
        begun = json.loads(record.read_text(encoding="utf-8"))
        for name, value in run.items():
            if begun.get(name) != value:
                was, now = (f"{json.dumps(v)[:60]}" for v in (begun.get(name), value))
                raise UsageError(f"the run in {config.out} was begun with {name} {was}, not {now}")
        # trainer_state.json is the last file of a checkpoint: one without it was cut short by a crash.
        complete = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
        return max(complete, key=lambda path: int(path.name.split("-")[1]), default=None)
    try:
        folder.mkdir(parents=True)
        record.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"can't write to {config.out}: {error.strerror or error}") from error
    return None


# --- the training ----------------------------------------------------------------------------------------


class _Examples(Dataset[tuple[NDArray[np.int32], int]]):
    """A split as torch's loader wants it."""

    def __init__(self, split: _Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split.ids)

    def __getitem__(self, row: int) -> tuple[NDArray[np.int32], int]:
        return self.split.ids[row], self.split.labels[row]


def _collator(
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


class _Trainer(Trainer):  # type: ignore[misc]  # transformers ships no types
    """transformers' Trainer with our order of batches."""

    def get_train_dataloader(self) -> Any:
        watcher = next(c for c in self.callback_handler.callbacks if isinstance(c, _Watcher))
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=watcher.batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)


def _arguments(
    config: FinetuneConfig, device: str, dtype: str, *, choosing: bool, steps: int
) -> TrainingArguments:
    never = 10**9  # the watcher says when to evaluate and to save; Trainer wants a number all the same
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


def _classes(logits: Any, _: Any) -> torch.Tensor:
    """Class numbers [batch] of logits [batch, classes], so that no more than that is kept of a dataset."""
    first = logits[0] if isinstance(logits, tuple) else logits
    return torch.as_tensor(first).argmax(dim=-1)


class _Stopped(Exception):  # noqa: N818 - not an error: the way out of a measurement that the user stops
    """The user interrupted a measurement, which has no step after which to end."""


class _Watcher(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
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
        """Optimiser steps in so many epochs."""
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
            raise _Stopped
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
        """Refuse to go on with weights that are no numbers."""
        if self.losses and not all(bool(torch.isfinite(loss)) for loss in self.losses):
            raise ModelError(f"the loss was not a finite number near step {step:,}: lower --learning-rate")

    def tell(self, state: Any, accuracy: float | None = None) -> None:
        """Report where the phase stands; `accuracy` is that of a measurement which has ended."""
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


def _interrupted(config: FinetuneConfig, when: str) -> FinetuneInterrupted:
    return FinetuneInterrupted(
        f"interrupted {when}; what was learnt is kept in {config.out / CHECKPOINTS}: "
        "the same command with --resume goes on"
    )


@contextmanager
def _repeatable(device: str) -> Iterator[None]:
    """Make a GPU add in the same order every time; a CPU does with as many threads as the time before."""
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' own reports and bars from standard error; what matters is raised or noted."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


# --- after the training ----------------------------------------------------------------------------------


def _card(config: FinetuneConfig, result: FinetuneResult) -> str:
    """The README.md of the model: what it was made of, how, and what was measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "tokenizers"))
    figures = []
    if result.dev_accuracy is not None:
        each = ", ".join(f"{accuracy:.4f}" for accuracy in result.dev_accuracies)
        figures.append(
            f"- accuracy on {result.dev_documents:,} held-out documents of the train split after each epoch: {each}. "
            f"The weights are those of step {result.chosen_step:,} of {result.steps:,} ({result.dev_accuracy:.4f}): "
            "the latest epoch that no earlier one beats by more than chance (exact McNemar test, 5 %)"
        )
    else:
        figures.append("- nothing was held out: the weights are those of the last step")
    if result.test_accuracy is not None:
        figures.append(
            f"- accuracy on {result.test_documents:,} documents of the test split, looked at once, after the choice: "
            f"{result.test_accuracy:.4f} (products in {result.dtype}, at most {result.max_length} tokens)"
        )
    else:
        figures.append("- the data has no test split: the accuracy on unseen data is not known")
    settings = [
        ("base", config.model if config.revision is None else f"{config.model}@{config.revision}"),
        ("data", config.source.data),
        ("documents trained on", f"{result.train_documents:,}"),
        ("longest document", f"{result.max_length} tokens"),
        ("epochs", f"{config.epochs:g}"),
        ("batch size", config.batch_size),
        ("optimiser", f"AdamW, weight decay {config.weight_decay:g}"),
        (
            "learning rate",
            f"{config.learning_rate:g}, rising for {config.warmup:.0%} of the steps, then falling to 0",
        ),
        (
            "attention dropout",
            "as in the base" if config.attention_dropout is None else f"{config.attention_dropout:g}",
        ),
        ("products in", f"{result.dtype} on {result.device}; weights in float32"),
        ("seed", config.seed),
    ]
    rows = "\n".join(f"| {name} | {value} |" for name, value in settings)
    notes = "".join(f"- {note}\n" for note in result.notes)
    if notes:
        notes = f"\n## Notes\n\n{notes}"
    measured = "\n".join(figures)
    return f"""---
library_name: transformers
pipeline_tag: text-classification
---
# {config.out.resolve().name}

A text classifier with {len(result.labels)} classes ({listed(result.labels)}), fine-tuned with attnstore.

| | |
|---|---|
{rows}

## Measured

{measured}
{notes}
## Use

    attnstore run out.attn --model {config.out.name} --data {config.source.data}

or `AutoModelForSequenceClassification.from_pretrained` and `AutoTokenizer.from_pretrained` on this folder.
The licence of the base model and the terms of the data hold for this model too. What a classifier attends to
is not in itself an explanation of what it decides.

attnstore {attnstore.__version__}, Python {platform.python_version()}, {versions}.
"""
