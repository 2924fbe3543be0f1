"""Loads the encoder to train: its tokenizer, its config, and its weights with a classification head."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from attnstore.engine.families import usable_positions
from attnstore.engine.models import quiet
from attnstore.errors import ModelError, UsageError
from attnstore.learn.config import (
    FinetuneConfig,
)
from attnstore.messages import first_line


def load_tokenizer(config: FinetuneConfig) -> Any:
    with quiet(), one_line_about(config.model):
        tokenizer = AutoTokenizer.from_pretrained(
            config.model, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
    if not tokenizer.is_fast:
        raise ModelError(f"{config.model}: its tokenizer has no fast version, which attnstore needs")
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{config.model}: its tokenizer has no padding token, so it can't make batches")
    return tokenizer


def load_config(config: FinetuneConfig, **changes: Any) -> Any:
    return AutoConfig.from_pretrained(
        config.model, revision=config.revision, trust_remote_code=config.trust_remote_code, **changes
    )


def longest_of(config: FinetuneConfig, tokenizer: Any) -> int:
    """The most tokens of a document: `max_length` if it is set, else the model's limit, but at most 512.

    Raises UsageError if `max_length` is more than the model's positions.
    """
    with quiet(), one_line_about(config.model):
        settings = load_config(config)
    positions = usable_positions(settings)
    limits = [512, tokenizer.model_max_length, *([] if positions is None else [positions])]
    if config.max_length is None:
        return int(min(limits))
    if positions is not None and config.max_length > positions:
        raise UsageError(f"--max-length {config.max_length} is more than the model's {positions} positions")
    return config.max_length


def load_model(config: FinetuneConfig, labels: tuple[str, ...]) -> Any:
    """The encoder with a classification head for `labels`: its own if it has the same labels, else a new one."""
    source = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    with one_line_about(config.model):
        settings = load_config(config)
        dropout = _attention_dropout(config, settings)
        if model_labels(settings) == labels:
            return AutoModelForSequenceClassification.from_pretrained(
                config.model, dtype=torch.float32, use_safetensors=True, **source, **dropout
            )
        settings = load_config(config, problem_type="single_label_classification", **names, **dropout)
        model = AutoModelForSequenceClassification.from_config(
            settings, trust_remote_code=config.trust_remote_code
        ).float()
        encoder, loading = AutoModel.from_pretrained(
            config.model, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **source
        )
    # A missing pooler is trained with the new head; any other missing weight would stay random.
    missing = [name for name in loading["missing_keys"] if "pooler" not in name]
    if missing:
        raise ModelError(
            f"{config.model} lacks weights of its encoder ({missing[0]} and {len(missing) - 1} more)"
        )
    model.base_model.load_state_dict(encoder.state_dict(), strict=False)
    return model


def _attention_dropout(config: FinetuneConfig, settings: Any) -> dict[str, float]:
    """The config entry that sets the attention dropout asked for; empty if none was asked for."""
    if config.attention_dropout is None:
        return {}
    # BERT and its kin, then DistilBERT and ModernBERT
    for name in ("attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(settings, name):
            return {name: config.attention_dropout}
    raise UsageError(f"--attention-dropout: {config.model} ({settings.model_type}) has no such setting")


def model_labels(settings: Any) -> tuple[str, ...]:
    """A model's class names if it has a classification head, else ()."""
    architectures = settings.architectures or ()
    if not any(name.endswith("ForSequenceClassification") for name in architectures):
        return ()
    return tuple(str(settings.id2label[i]) for i in range(len(settings.id2label)))


@contextmanager
def one_line_about(model: str) -> Iterator[None]:
    """Turn the various errors of loading a model into a ModelError of one line."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(f"can't fine-tune {model}: {first_line(error)}") from error
