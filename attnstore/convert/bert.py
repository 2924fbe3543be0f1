"""A google-research/bert model: its settings, the names and shapes of its tensors, and its vocabulary.

TensorFlow's names and shapes come from modeling.py and run_classifier.py of that repository, PyTorch's from
BertForSequenceClassification. Settings that bert_config.json leaves out have the defaults of modeling.BertConfig.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from attnstore.errors import ModelError, UsageError
from attnstore.messages import first_line, listed

_SIZES = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 16,
}
_SHARES = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02}
#: transformers uses the same names. Its gelu is exact, as google-research/bert's was at first. The tanh approximation
#: used there today differs by less than 0.001.
_ACTIVATIONS = ("gelu", "relu", "tanh", "linear")

#: Names of tensors that training leaves in a checkpoint beside the model.
_TRAINING_STATE = re.compile(r"(.*/)?(adam_[mv]|Adam(_1)?|lamb_[mv]|global_step|beta[12]_power)")

#: The longest word, in characters, that google-research/bert splits into pieces. The default of `tokenizers` is 100.
LONGEST_WORD = 200
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class Tensor(NamedTuple):
    """A tensor: its name and shape in TensorFlow, its name in PyTorch, and whether PyTorch transposes it."""

    theirs: str
    ours: str
    shape: tuple[int, ...]
    transposed: bool = False


def read_settings(file: Path) -> dict[str, int | float | str]:
    """The settings in bert_config.json. transformers' BertConfig uses the same names.

    Raises:
        ModelError: the file is not a bert_config.json, or a value is impossible for a BERT.
    """
    try:
        if file.exists() and not file.is_file():
            raise ModelError(f"{file} is not a regular file: reading it could wait forever")
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of JSON, or of UTF-8
        raise ModelError(f"{file} is not valid JSON: {first_line(error)}") from error
    if not isinstance(found, dict) or "vocab_size" not in found:
        raise ModelError(f"{file} has no vocab_size: it is not a bert_config.json from google-research/bert")
    settings: dict[str, Any] = {"vocab_size": found["vocab_size"]}
    settings |= {name: found.get(name, default) for name, default in _SIZES.items()}
    for name, size in settings.items():
        if type(size) is not int or not 1 <= size < 2**31:
            raise ModelError(f"{file}: {name} is {repr(size)[:20]}, which must be a whole number from 1")
    if settings["hidden_size"] % settings["num_attention_heads"]:
        heads = f"{settings['num_attention_heads']} heads"
        raise ModelError(f"{file}: a hidden_size of {settings['hidden_size']} can't be divided among {heads}")
    settings |= {name: found.get(name, default) for name, default in _SHARES.items()}
    for name in _SHARES:
        if type(settings[name]) not in (int, float):
            raise ModelError(f"{file}: {name} is {settings[name]!r}, which must be a number")
    activation = found.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise ModelError(f"{file}: hidden_act is {activation!r}, but BERT has {listed(_ACTIVATIONS)}")
    if found.get("embedding_size", settings["hidden_size"]) != settings["hidden_size"]:
        raise ModelError(
            f"{file} has an embedding_size of its own: it belongs to ALBERT or ELECTRA, which are not supported"
        )
    return {**settings, "hidden_act": activation}


def tensors(settings: dict[str, int | float | str], classes: int) -> Iterator[Tensor]:
    """Every tensor of a classifier with these settings."""
    vocabulary, hidden, layers, _, inner, positions, types = (
        int(settings[n]) for n in ("vocab_size", *_SIZES)
    )
    for name, rows in (("word", vocabulary), ("position", positions), ("token_type", types)):
        theirs = f"bert/embeddings/{name}_embeddings"
        yield Tensor(theirs, f"{theirs.replace('/', '.')}.weight", (rows, hidden))
    yield from _norm("bert/embeddings", "bert.embeddings", hidden)
    for layer in range(layers):
        theirs, ours = f"bert/encoder/layer_{layer}", f"bert.encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            place = f"attention/self/{part}"
            yield from _dense(f"{theirs}/{place}", f"{ours}.{place.replace('/', '.')}", hidden, hidden)
        for place, wide, narrow in (
            ("attention/output/dense", hidden, hidden),
            ("intermediate/dense", hidden, inner),
            ("output/dense", inner, hidden),
        ):
            yield from _dense(f"{theirs}/{place}", f"{ours}.{place.replace('/', '.')}", wide, narrow)
        for place in ("attention/output", "output"):
            yield from _norm(f"{theirs}/{place}", f"{ours}.{place.replace('/', '.')}", hidden)
    yield from _dense("bert/pooler/dense", "bert.pooler.dense", hidden, hidden)
    # The classification head is (classes, hidden) in both.
    yield Tensor("output_weights", "classifier.weight", (classes, hidden))
    yield Tensor("output_bias", "classifier.bias", (classes,))


def _norm(theirs: str, ours: str, size: int) -> Iterator[Tensor]:
    yield Tensor(f"{theirs}/LayerNorm/gamma", f"{ours}.LayerNorm.weight", (size,))
    yield Tensor(f"{theirs}/LayerNorm/beta", f"{ours}.LayerNorm.bias", (size,))


def _dense(theirs: str, ours: str, inputs: int, outputs: int) -> Iterator[Tensor]:
    """A dense layer: TensorFlow's kernel is (inputs, outputs), PyTorch's weight (outputs, inputs)."""
    yield Tensor(f"{theirs}/kernel", f"{ours}.weight", (inputs, outputs), transposed=True)
    yield Tensor(f"{theirs}/bias", f"{ours}.bias", (outputs,))


def is_training_state(name: str) -> bool:
    """Whether a tensor is the step counter or an optimiser's state, and so not part of the model."""
    return _TRAINING_STATE.fullmatch(name) is not None


def read_vocabulary(file: Path, size: int) -> dict[str, int]:
    """The tokens of vocab.txt with their ids, read as tokenization.load_vocab reads them.

    Raises:
        ModelError: the file is not a BERT vocabulary, has more tokens than the model's `size`, or has a token twice.
    """
    try:
        lines = file.read_bytes().decode().split("\n")
    except ValueError as error:
        raise ModelError(f"{file} is not in UTF-8: it is not the vocab.txt of a BERT") from error
    if not lines[-1]:
        lines.pop()
    vocabulary = {line.strip(): number for number, line in enumerate(lines)}
    if lacking := [token for token in _SPECIAL if token not in vocabulary]:
        raise ModelError(f"{file} has no {lacking[0]}: it is not the vocab.txt of a BERT")
    if len(lines) > size:
        raise ModelError(f"{file} has {len(lines):,} tokens, the model {size:,}: they do not belong together")
    if len(vocabulary) < len(lines):
        twice = next(line for number, line in enumerate(lines) if vocabulary[line.strip()] != number)
        raise ModelError(f"{file} has the token {twice.strip()!r} twice: one of them is a mistake")
    return vocabulary


def is_cased(vocabulary: dict[str, int], file: Path) -> bool:
    """Whether a vocabulary belongs to a cased model.

    A WordPiece vocabulary contains every letter of its training texts as a token. A vocabulary with most letters in
    both cases is cased; one without any upper case is not.

    Raises:
        UsageError: the letters do not decide it, or none of them has a case.
    """
    tokens = [token.removeprefix("##") for token in vocabulary if not re.fullmatch(r"\[.*\]", token)]
    upper = {token for token in tokens if token != token.lower()}
    lower = {token for token in tokens if token != token.upper()}
    letters = {token for token in lower if len(token) == 1}
    both = {letter for letter in letters if letter.upper() in upper}
    if lower and not upper:
        return False
    if both and len(both) >= len(letters) / 2:
        return True
    why = f"{len(upper)} of its tokens are in upper case" if upper else "it has no letters with a case"
    raise UsageError(
        f"{file} does not say whether the model was trained on lower-cased texts ({why}): --uncased or --cased"
    )
