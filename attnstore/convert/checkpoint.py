"""`convert(...)`: a fine-tuned google-research/bert checkpoint becomes a model folder."""

import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attnstore.convert.bert import (
    LONGEST_WORD,
    is_cased,
    is_training_state,
    read_settings,
    read_vocabulary,
    tensors,
)
from attnstore.convert.bundle import Bundle, find_checkpoint, read_bundle
from attnstore.errors import ModelError, UsageError
from attnstore.messages import counted, first_line, listed, one_line


@dataclass(frozen=True, slots=True)
class Converted:
    """The model folder that was written. `parameters`: how many numbers its weights hold."""

    out: Path
    checkpoint: Path
    labels: tuple[str, ...]
    layers: int
    heads: int
    parameters: int
    cased: bool
    notes: tuple[str, ...]


def convert(
    place: Path,
    out: Path,
    *,
    labels: Sequence[str] = (),
    base: Path | None = None,
    cased: bool | None = None,
) -> Converted:
    """Write the checkpoint at `place`, a folder or a prefix, as the model folder `out`, completely or not at all.

    `labels` names the classes in the order of the logits; without it they are LABEL_0 and so on. `base` is the folder
    of bert_config.json and vocab.txt, if they are not beside the checkpoint. `cased`: whether the model distinguishes
    upper case from lower; None decides by the vocabulary.

    Raises:
        ModelError: the checkpoint is damaged, or it is not a google-research/bert classifier.
        UsageError: `out` exists, the number of labels differs from the number of classes, or the vocabulary does not
            show whether the model is cased.
    """
    if out.exists():
        raise UsageError(f"{out} already exists: name a new folder")
    prefix = find_checkpoint(place)
    beside = prefix.parent if base is None else base
    settings = read_settings(_found(beside, "bert_config.json"))
    vocabulary_file = _found(beside, "vocab.txt")
    vocabulary = read_vocabulary(vocabulary_file, int(settings["vocab_size"]))
    bundle = read_bundle(prefix)
    classes = _classes(bundle)
    names = _names(labels, classes)
    notes = []
    if cased is None:
        cased = is_cased(vocabulary, vocabulary_file)
        how, otherwise = ("cased", "--uncased") if cased else ("lower-cased", "--cased")
        notes.append(
            f"texts are {'kept ' if cased else ''}{how}, by the letters of vocab.txt ({otherwise} if not)"
        )
    if not labels:
        notes.append(
            f"the classes are called {listed(names)}: --labels names them, in the order of the logits"
        )
    weights = _weights(bundle, settings, classes)
    _write(
        out, settings, names, _tokenizer(vocabulary, cased, int(settings["max_position_embeddings"])), weights
    )
    return Converted(
        out=out,
        checkpoint=prefix,
        labels=names,
        layers=int(settings["num_hidden_layers"]),
        heads=int(settings["num_attention_heads"]),
        parameters=sum(values.size for values in weights.values()),
        cased=cased,
        notes=tuple(notes),
    )


def _found(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise UsageError(
            f"there is no {name} in {folder}: --base names the folder of the BERT that was fine-tuned"
        )
    return folder / name


def _classes(bundle: Bundle) -> int:
    """How many classes the classification head has. Raises ModelError if there is no head."""
    head = bundle.entries.get("output_bias")
    if head is None or "output_weights" not in bundle.entries:
        raise ModelError(
            f"{bundle.prefix} has no classification head (output_weights and output_bias of run_classifier.py): it was"
            " not fine-tuned as a classifier"
        )
    if len(head.shape) != 1 or head.shape[0] < 2:
        raise ModelError(
            f"{bundle.prefix}: output_bias has the shape {head.shape}; a classifier has two classes at least"
        )
    return head.shape[0]


def _names(labels: Sequence[str], classes: int) -> tuple[str, ...]:
    if not labels:
        return tuple(f"LABEL_{number}" for number in range(classes))
    names = tuple(label.strip() for label in labels)
    if len(names) != classes:
        raise UsageError(f"--labels has {counted(len(names), 'name')}, the model {classes} classes")
    if not all(names) or len(set(names)) < classes:
        raise UsageError(f"--labels: the names {listed(names)} must differ, and none may be empty")
    return names


def _weights(bundle: Bundle, settings: dict[str, int | float | str], classes: int) -> dict[str, np.ndarray]:
    """The model's tensors by their names in transformers. Raises ModelError if one is missing or unknown."""
    wanted = list(tensors(settings, classes))
    for tensor in wanted:
        entry = bundle.entries.get(tensor.theirs)
        if entry is None:
            raise ModelError(
                f"{bundle.prefix} has no {tensor.theirs}: bert_config.json is another model's, or it is not a BERT from"
                " google-research/bert"
            )
        if entry.shape != tensor.shape:
            raise ModelError(
                f"{bundle.prefix}: {tensor.theirs} has the shape {entry.shape}, but bert_config.json implies"
                f" {tensor.shape}: they do not belong together"
            )
    known = {tensor.theirs for tensor in wanted}
    more = sorted(name for name in bundle.entries if name not in known and not is_training_state(name))
    if more:
        others = f" and {counted(len(more) - 1, 'other tensor')}" if len(more) > 1 else ""
        raise ModelError(
            f"{bundle.prefix} holds {one_line(more[0])}{others}, which neither bert_config.json nor run_classifier.py"
            " defines: without them the model's predictions would differ"
        )
    weights = {}
    for tensor in wanted:
        values = bundle.read(tensor.theirs)
        weights[tensor.ours] = np.ascontiguousarray(values.T if tensor.transposed else values)
    return weights


def _tokenizer(vocabulary: dict[str, int], cased: bool, max_length: int) -> Any:
    """The tokenizer of google-research/bert's tokenization.py."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(
        models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD)  # noqa: S106 - no password
    )
    # Lower-casing also strips accents, as in tokenization.py.
    backend.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    if "[MASK]" in vocabulary:
        special["mask_token"] = "[MASK]"  # noqa: S105 - as above
    # This class keeps tokenizer.json as it is; BertTokenizer would build a new one from the vocabulary.
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=max_length, **special)


def _write(
    out: Path,
    settings: dict[str, int | float | str],
    labels: Sequence[str],
    tokenizer: Any,
    weights: dict[str, np.ndarray],
) -> None:
    """Write a temporary folder beside `out` and rename it when it is complete."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file
    from transformers import BertConfig

    config = BertConfig(
        **settings,
        architectures=["BertForSequenceClassification"],
        problem_type="single_label_classification",
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        pad_token_id=tokenizer.pad_token_id,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    made = out.with_name(f".{out.name}-{secrets.token_hex(4)}")
    made.mkdir()
    try:
        config.save_pretrained(made)
        tokenizer.save_pretrained(made)
        save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
        # safetensors makes the file readable for its owner only.
        (made / "model.safetensors").chmod((made / "config.json").stat().st_mode)
        for file in made.iterdir():
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        made.rename(out)
    except SafetensorError as error:  # raised for a full disk, too
        raise ModelError(f"can't write {out}: {first_line(error)}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
