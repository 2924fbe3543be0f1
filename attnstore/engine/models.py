"""A model's files: found, checked, read. Anything but a single-label text classifier is refused in one line."""

import hashlib
import inspect
import logging
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers.models import WordPiece

from attnstore.config import RunConfig
from attnstore.engine.families import usable_positions
from attnstore.engine.folder import check_folder
from attnstore.errors import ModelError, UsageError
from attnstore.messages import first_line, listed, one_line, quoted

#: Any of these has a vocabulary. Without one, transformers 5 silently makes an empty tokenizer.
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken")

#: The most characters of a class's name: it becomes a folder's name, and is in every row of a table.
_LONGEST_NAME = 500


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What is known of a model before its weights are read: its folder, its config and its tokenizer."""

    folder: Path
    settings: Any
    tokenizer: Any


def read_model_files(config: RunConfig) -> ModelFiles:
    """Find the model, and check that attnstore can read it, in a fraction of the time that loading takes.

    Raises ModelError, one line, for anything but a single-label text classifier with a fast tokenizer.
    """
    folder = model_folder(config)
    _refuse_adapter(folder, config.model)
    settings = _read_config(folder, config)
    tokenizer = _read_tokenizer(folder, config, settings.vocab_size)
    if config.source.pair:
        _must_take_pairs(tokenizer, config)
    return ModelFiles(folder, settings, tokenizer)


def local_model(model: str) -> Path | None:
    """The folder, if the model is one; None if it can only be a name on the hub. Raises ModelError otherwise."""
    if not model.strip():
        raise UsageError("--model is empty: name a model folder, or a model on the hub")
    local = Path(model).expanduser()
    if local.is_dir():
        _refuse_adapter(local, model)
        if not (local / "config.json").is_file():
            raise ModelError(f"{model} is a folder without config.json: give the folder of a saved model")
        check_folder(local, model)
        return local
    if local.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ModelError(f"there is no model folder {model}")
    return None


def with_revision(name: str) -> tuple[str, str | None]:
    """A model's name in a manifest, NAME or NAME@REVISION, as (model, revision); a folder's name may contain an @."""
    model, _, revision = name.rpartition("@")
    is_path = name.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir()
    if not model or is_path or Path(name).expanduser().is_dir():
        return name, None
    return model, revision


def _refuse_adapter(folder: Path, model: str) -> None:
    """Raise ModelError for a folder with an adapter: without peft, transformers silently leaves it out."""
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{model} holds an adapter (adapter_config.json), which attnstore does not read: merge it with peft,"
            " PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(FOLDER), save the tokenizer"
            " there, too, and give FOLDER"
        )


def model_folder(config: RunConfig) -> Path:
    """The local folder of a model: itself, or the snapshot of a hub repository, downloaded if need be.

    Only safetensors weights, JSON and vocabulary files are fetched: never a pickle, and code only if
    `trust_remote_code` is set.
    """
    if (local := local_model(config.model)) is not None:
        if config.revision is not None:
            raise UsageError(
                f"--revision chooses a version of a model on the hub, and {config.model} is a folder"
            )
        return local
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.safetensors", "*.json", "*.txt", "*.model"] + (
        ["*.py"] if config.trust_remote_code else []
    )
    try:
        folder = Path(snapshot_download(config.model, revision=config.revision, allow_patterns=patterns))
    except HFValidationError as error:
        raise ModelError(f"{config.model} is neither a folder nor the name of a hub model") from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"there is no folder {config.model}, and the hub can't be reached to look for a model of that name"
        ) from error
    except HfHubHTTPError as error:
        status = f" ({error.response.status_code})" if error.response is not None else ""
        raise ModelError(
            f"the hub has no model {config.model} that can be read{status}: {first_line(error)}"
        ) from error
    except OSError as error:
        raise ModelError(f"can't fetch {config.model} from the hub: {first_line(error)}") from error
    check_folder(folder, config.model)
    return folder


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' own reports on loading: attnstore reports what matters in one line."""
    logger = logging.getLogger("transformers")
    level, bars = logger.level, transformers.utils.logging.is_progress_bar_enabled()
    logger.setLevel(logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()


def _read_config(folder: Path, config: RunConfig) -> Any:
    try:
        with quiet():
            settings = transformers.AutoConfig.from_pretrained(
                folder, trust_remote_code=config.trust_remote_code
            )
    except Exception as error:  # transformers raises many types for an invalid config
        hint = " (--trust-remote-code runs the code it brings)" if "trust_remote_code" in str(error) else ""
        raise ModelError(
            f"can't read the model's config.json in {config.model}{hint}: {first_line(error)}"
        ) from error
    architecture = (settings.architectures or ["no architecture"])[0]
    if settings.is_encoder_decoder or getattr(settings, "is_decoder", False):
        raise ModelError(f"{config.model} is a generative model ({architecture}): attnstore reads encoders")
    if "ForSequenceClassification" not in architecture:
        raise ModelError(
            f"{config.model} has no classification head (it is a {architecture}): "
            "fine-tune it first, for example with `attnstore finetune`"
        )
    if settings.problem_type == "multi_label_classification":
        raise ModelError(f"{config.model} is a multi-label classifier: attnstore reads single-label ones")
    if sorted(settings.id2label) != list(range(settings.num_labels)):
        named = listed([str(number) for number in sorted(settings.id2label)])
        raise ModelError(
            f"{config.model} names the classes {named} in its id2label, which must have 0 to"
            f" {settings.num_labels - 1}: correct its config.json"
        )
    names = [settings.id2label[number] for number in range(settings.num_labels)]
    if not all(isinstance(name, str | int | float) and _is_utf8(str(name)) for name in names):
        raise ModelError(
            f"{config.model} has a class whose name is not text in its id2label: correct its config.json"
        )
    if max(len(str(name)) for name in names) > _LONGEST_NAME:
        raise ModelError(
            f"{config.model} has a class whose name has more than {_LONGEST_NAME} characters in its id2label:"
            " shorten it in its config.json"
        )
    if twice := [name for name, count in Counter(map(str, names)).items() if count > 1]:
        raise ModelError(
            f"{config.model} has two classes called {quoted(twice[0])} in its id2label: give each a name of its own in"
            " its config.json"
        )
    if settings.num_labels < 2:
        raise ModelError(
            f"{config.model} has {settings.num_labels} output (a regression): attnstore needs two classes"
        )
    return settings


def _read_tokenizer(folder: Path, config: RunConfig, vocabulary_size: int) -> Any:
    if not any(found for pattern in _VOCABULARIES for found in folder.glob(pattern)):
        raise ModelError(
            f"{config.model} has no tokenizer: save it into the model's folder with save_pretrained"
        )
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, trust_remote_code=config.trust_remote_code
            )
    except Exception as error:  # as above: the types are many and undocumented
        raise ModelError(f"can't read the tokenizer of {config.model}: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"{config.model} has a tokenizer without a fast version ({type(tokenizer).__name__}): "
            "only fast ones give the places of tokens in the text"
        )
    if len(tokenizer) > vocabulary_size:
        raise ModelError(
            f"the tokenizer of {config.model} has {len(tokenizer):,} tokens, its model only {vocabulary_size:,}: "
            "they do not belong together"
        )
    if (most := max(tokenizer.get_vocab().values(), default=0)) >= vocabulary_size:
        raise ModelError(
            f"the tokenizer of {config.model} numbers a token {most:,}, its model has only {vocabulary_size:,}: "
            "they do not belong together"
        )
    limit = tokenizer.model_max_length
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
        raise ModelError(
            f"the tokenizer of {config.model} has model_max_length {one_line(limit)} in its tokenizer_config.json,"
            " which is no number of tokens: correct it"
        )
    if not tokenizer("").encodings[0].ids:
        raise ModelError(
            f"the tokenizer of {config.model} adds no special tokens: there is no [CLS] to look from"
        )
    return tokenizer


def _must_take_pairs(tokenizer: Any, config: RunConfig) -> None:
    """Raise ModelError if the tokenizer does not put a special token between the two texts of a pair."""
    try:
        order = tokenizer("a", "a").encodings[0].sequence_ids  # None for special tokens
        parted = None in order[order.index(0) : order.index(1)]
    except Exception as error:  # a tokenizer may refuse pairs in any way
        raise ModelError(
            f"--pair: the tokenizer of {config.model} does not take pairs: {first_line(error)}"
        ) from error
    if not parted:
        raise ModelError(
            f"--pair: the tokenizer of {config.model} does not take pairs: it puts nothing between the two texts"
        )


def reads_token_types(model: Any, tokenizer: Any) -> bool:
    """Whether a model gets the token types that its tokenizer gives the two texts of a pair.

    It does if the types differ and the model has a table of them, whatever the tokenizer returns by default: in
    transformers 5, some leave out types that their models were trained with
    (https://github.com/huggingface/transformers/issues/48128). But if a list in the model's own files leaves them out,
    that counts.

    Raises:
        ModelError: the tokenizer has more types than the model.
    """
    most = max(tokenizer("a", "a", return_token_type_ids=True).encodings[0].type_ids)
    if not most or "token_type_ids" not in inspect.signature(model.forward).parameters:
        return False
    own_list = tokenizer.init_kwargs.get("model_input_names")
    if own_list and "token_type_ids" not in own_list:
        return False
    table = getattr(model.config, "type_vocab_size", None)
    if table is None:
        return "token_type_ids" in tokenizer.model_input_names
    if 2 <= table <= most:
        raise ModelError(
            f"--pair: the tokenizer of {model.name_or_path} has {most + 1} token types, its model {table}: they do not"
            " belong together"
        )
    return bool(table > most)


def case_notes(tokenizer: Any, name: str) -> list[str]:
    """A note if a WordPiece vocabulary has upper-case letters that the tokenizer never looks up, because it
    lower-cases.

    It does wherever nothing beside vocab.txt says otherwise.
    """
    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.model, WordPiece) or backend.normalizer is None:
        return []
    if backend.normalizer.normalize_str("A") != "a":
        return []
    letters = sum(backend.token_to_id(letter) is not None for letter in string.ascii_uppercase)
    if letters <= len(string.ascii_uppercase) // 2:
        return []
    return [
        f"the tokenizer of {name} lower-cases texts, yet its vocabulary has upper-case letters: if the model is cased,"
        ' put {"do_lower_case": false} into its tokenizer_config.json'
    ]


def longest(asked: int | None, settings: Any, tokenizer: Any, *, pair: bool = False) -> int:
    """The smaller of 512 and the model's own limit, or the requested length if the model supports it."""
    limits = []
    positions = usable_positions(settings)
    if positions is not None:
        limits.append(positions)
    if 0 < tokenizer.model_max_length < 1_000_000:  # transformers says 1e30 for "no limit known"
        limits.append(int(tokenizer.model_max_length))
    if asked is None:
        return min([512, *limits])
    least = tokenizer.num_special_tokens_to_add(pair=pair) + (2 if pair else 1)
    if asked < least:
        raise UsageError(f"--max-length {asked} leaves no room for text: the smallest here is {least}")
    # The tokenizer's limit is from training; only the position table is a hard limit.
    if positions is not None and positions < asked:
        raise UsageError(f"--max-length {asked} is more than the model's {positions} positions")
    return asked


def read_model(
    folder: Path, config: RunConfig, settings: Any, dtype: torch.dtype, implementation: str
) -> Any:
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{config.model} has no safetensors weights, and pickles are never loaded: "
            "save it again with save_pretrained, which writes safetensors"
        )
    try:
        with quiet():
            model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=settings,
                dtype=dtype,
                attn_implementation=implementation,
                use_safetensors=True,
                trust_remote_code=config.trust_remote_code,
                output_loading_info=True,
            )
    except Exception as error:  # safetensors, torch and transformers each have their own types
        if "ignore_mismatched_sizes" in str(error):
            raise ModelError(
                f"the weights of {config.model} differ in size from its config.json, which has"
                f" {settings.num_labels:,} classes: correct it, or fetch the model again"
            ) from error
        raise ModelError(f"can't load the weights of {config.model}: {first_line(error)}") from error
    missing = sorted(report["missing_keys"]) + sorted(str(m) for m in report.get("mismatched_keys", ()))
    if missing:
        raise ModelError(
            f"the weights of {config.model} lack {len(missing)} tensors of a classifier (first: {missing[0]}): "
            "it was saved without its head, or is not fine-tuned"
        )
    for name, weights in model.named_parameters():
        if not bool(torch.isfinite(weights).all()):
            raise ModelError(
                f"the weights of {config.model} hold NaN or infinity (first: {name}): train or fetch it again"
            )
    return model.eval().requires_grad_(False)


def _is_utf8(name: str) -> bool:
    """Whether it has only whole characters: JSON's escapes may be halves of one."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def hash_files(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
