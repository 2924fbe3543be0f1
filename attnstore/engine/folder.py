"""A model's folder, checked before transformers processes its files, which may never end.

The folder's content is untrusted. Other checks are made where files are read: see `models`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attnstore.errors import ModelError

#: The most bytes of a file, by name: of vocabularies, and of other JSON files.
_VOCABULARY = re.compile(r"(tokenizer|vocab)\.json|.*\.(txt|model|tiktoken)")
_MOST_OF_VOCABULARY, _MOST_OF_SETTINGS = 1 << 30, 64 << 20

#: The largest numbers in config.json, by the endings of their names: transformers makes lists of this many names, and
#: this many layers. Families have different names, such as n_layers.
_BOUNDS = (
    (re.compile(r".*(layers|blocks|stages|hidden_groups)"), 1_000),
    (re.compile(r".*heads"), 10_000),
    (re.compile(r"num_labels|.*experts"), 100_000),
    (re.compile(r"(.*_)?(hidden_size|emb_dim|dim|embedding_size)"), 1_000_000),
    (re.compile(r"(.*_)?(intermediate_size|hidden_dim|position_embeddings)"), 10_000_000),
    (re.compile(r"(.*_)?vocab_size"), 100_000_000),
)


def check_folder(folder: Path, model: str) -> None:
    """Check that a model's files are files, have a manageable size, and have no excessive numbers.

    Raises ModelError; `model` is the user's name for it.
    """
    for entry in sorted(folder.iterdir()):
        if entry.is_file():
            most = _MOST_OF_VOCABULARY if _VOCABULARY.fullmatch(entry.name) else _MOST_OF_SETTINGS
            judged = entry.suffix == ".json" or _VOCABULARY.fullmatch(entry.name)
            if judged and (size := entry.stat().st_size) > most:
                raise ModelError(
                    f"{entry} has {size:,} bytes, which no model needs ({most:,} at most): fetch it again"
                )
        elif entry.exists() and not entry.is_dir():
            raise ModelError(f"{entry} is not a regular file: reading it could wait forever")
    _check_settings(_read(folder / "config.json"), model)
    for index in folder.glob("*.index.json"):
        found = _read(index)
        names = found.get("weight_map") if isinstance(found, dict) else None
        for name in names.values() if isinstance(names, dict) else ():
            if not isinstance(name, str) or Path(name).name != name:
                raise ModelError(
                    f"{index} names weights outside of the model's folder ({name!r:.80}): fetch the model again"
                )


def _check_settings(settings: Any, model: str) -> None:
    for name, number in _numbers(settings):
        most = next((most for names, most in _BOUNDS if names.fullmatch(name)), None)
        if most is not None and not -most <= number <= most:
            shown = f"{number:.6g}" if abs(number) < 1e308 else "more digits than a number has"
            raise ModelError(
                f"{model} has {name} {shown} in its config.json, which is impossible: correct it"
            )
    classes = settings.get("architectures") if isinstance(settings, dict) else None
    if classes is not None and not (
        isinstance(classes, list) and all(isinstance(each, str) for each in classes)
    ):
        raise ModelError(
            f"{model} has architectures in its config.json that are no list of names: correct it"
        )


def _read(file: Path) -> Any:
    """A JSON file's content; None if it is not JSON, which its reader reports. Raises ModelError for deep nesting."""
    try:
        return json.loads(file.read_bytes())
    except RecursionError:
        raise ModelError(f"{file} is nested too deeply: fetch the model again") from None
    except (OSError, ValueError):
        return None


def _numbers(found: Any) -> Iterator[tuple[str, int | float]]:
    """The numbers in an object with their names, including those of nested objects."""
    waiting = [found]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            for name, value in here.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    yield name, value
                elif isinstance(value, dict | list):
                    waiting.append(value)
        elif isinstance(here, list):
            waiting += [each for each in here if isinstance(each, dict | list)]
