"""A data set's own names for its numbered labels.

They are in the metadata of Parquet (the hub's ClassLabel), in the description beside a data set (`dataset_info.json`,
`dataset_infos.json`, the head of the hub's `README.md`), in `id2label.json` and similar files, or one per line in
`classes.txt`.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from attnstore.errors import DataError
from attnstore.messages import listed, one_line

#: Files with only names of classes: JSON, and text with a name per line.
NAMES_JSON = (
    "id2label.json",
    "label2id.json",
    "labels.json",
    "label_names.json",
    "class_names.json",
    "names.json",
    "label_map.json",
    "label_mapping.json",
    "categories.json",
)
NAMES_TEXT = (
    "classes.txt",
    "labels.txt",
    "label_names.txt",
    "class_names.txt",
    "names.txt",
    "mapping.txt",
    "emotions.txt",
)
#: Descriptions of a data set that may have them.
DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "README.md")
#: Words in the names of files with one class each.
_CLASSES = frozenset(
    ("pos", "neg", "positive", "negative", "neutral", "ham", "spam", "subjective", "objective", "fake", "real", "true")
)  # fmt: skip
_LARGEST = 1 << 20  # bytes; a longer file is not a list of names


@dataclass(frozen=True, slots=True)
class ClassNames:
    """Names by their number in the data.

    `is_counted`: the source gives the numbers. Otherwise (a name per line) they count from 0 here, and may count from
    1 in the data. `where` is the file that has them.
    """

    by_number: Mapping[int, str]
    where: str
    is_counted: bool = True

    def __len__(self) -> int:
        return len(self.by_number)

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the order of their numbers."""
        return tuple(self.by_number[number] for number in sorted(self.by_number))

    def of(self, numbers: Iterable[int]) -> Mapping[int, str]:
        """The names by the numbers in the data; empty if some number has no name, or two numberings are possible."""
        found = set(numbers)
        if self.is_counted:
            return self.by_number if found <= self.by_number.keys() else {}
        count = len(self.by_number)
        if found <= set(range(count)) and 0 in found:
            return self.by_number
        if found <= set(range(1, count + 1)) and count in found:
            return {number + 1: name for number, name in self.by_number.items()}
        return {}


def classes_in(names: Sequence[str]) -> dict[str, str]:
    """The class in each file's name (`pos.txt`, `rt-polarity.neg`); empty unless all have one, and two differ."""
    words = {
        name: [
            word
            for word in re.split(r"[^a-z]+", PurePosixPath(name.lower()).name.removesuffix(".txt"))
            if word in _CLASSES
        ]
        for name in names
    }
    if any(len(found) != 1 for found in words.values()) or len({found[0] for found in words.values()}) < 2:
        return {}
    return {name: found[0] for name, found in words.items()}


def of_feature(feature: Any, where: str) -> ClassNames | None:
    """The names in the `datasets` library's description of a column, in Parquet's metadata and in JSON."""
    if not isinstance(feature, dict):
        return None
    if isinstance(inner := feature.get("dtype"), dict):  # as a dataset card has it
        feature = inner
    feature = feature.get("class_label", feature)
    names = feature.get("names") if isinstance(feature, dict) else None
    return _numbered(names, where)


def beside(names: Sequence[str], open_: Callable[[str], IO[bytes]], label: str | None) -> ClassNames | None:
    """The names in a file beside the tables, None if there is none.

    `names` are the files of the data set, `label` is the column of the labels.
    Raises DataError if two of the files give different names.
    """
    found: list[ClassNames] = []
    for name in names:
        file = PurePosixPath(name).name
        if file not in (*NAMES_JSON, *NAMES_TEXT, *DESCRIPTIONS):
            continue
        with open_(name) as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            continue
        try:
            text = content.decode("utf-8-sig")
            each = _of_text(text, name) if file in NAMES_TEXT else _of_json(text, file, name, label)
        except (ValueError, RecursionError):  # neither UTF-8 nor JSON: not a list of names
            continue
        if each is not None:
            found.append(each)
    return agreed(found)


def agreed(found: Sequence[ClassNames]) -> ClassNames | None:
    """The names in all of a data set's files. Raises DataError, which names two files that differ."""
    for other in found[1:]:
        first = found[0]
        if other.names != first.names or (
            other.is_counted and first.is_counted and other.by_number != first.by_number
        ):
            raise DataError(
                f"{one_line(first.where)} and {one_line(other.where)} name the classes differently"
                f" ({listed(first.names)}; {listed(other.names)}): these are two data sets, name one with --data"
            )
    return next((each for each in found if each.is_counted), found[0] if found else None)


def head_of_card(text: str) -> dict[str, Any]:
    """The content of the YAML head of a data set's card; empty if it has none."""
    import yaml

    head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    try:
        described = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return {}
    return described if isinstance(described, dict) else {}


def _of_json(text: str, file: str, where: str, label: str | None) -> ClassNames | None:
    if file == "README.md":
        infos = head_of_card(text).get("dataset_info")
        return _of_infos(infos if isinstance(infos, list) else [infos], where, label)
    value = json.loads(text)
    if file == "dataset_info.json":
        return _of_infos([value], where, label)
    if file == "dataset_infos.json":
        return _of_infos(list(value.values()) if isinstance(value, dict) else [], where, label)
    if isinstance(value, dict) and isinstance(
        inner := value.get("id2label") or value.get("names"), dict | list
    ):
        value = inner
    return _numbered(value, where)


def _of_infos(infos: Sequence[Any], where: str, label: str | None) -> ClassNames | None:
    """The names of the column `label`; None unless all configurations agree."""
    found: list[ClassNames] = []
    for info in infos:
        features = info.get("features") if isinstance(info, dict) else None
        if isinstance(features, list):  # as a dataset card has it
            features = {each.get("name"): each for each in features if isinstance(each, dict)}
        each = of_feature(features.get(label), where) if isinstance(features, dict) else None
        if each is not None and each not in found:
            found.append(each)
    return found[0] if len(found) == 1 else None


def _of_text(text: str, where: str) -> ClassNames | None:
    """One name per line, or one number and name per line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    pairs = [re.fullmatch(r"([0-9]{1,4})\s*[\t,:; ]\s*(\S.*)", line) for line in lines]
    if lines and all(pairs):
        return _numbered({pair[1]: pair[2] for pair in pairs if pair}, where)
    return _numbered(lines, where, is_counted=False)


def _numbered(names: Any, where: str, is_counted: bool = True) -> ClassNames | None:
    """Names in a list, or by number, or numbers by name; None for anything else, and for names that repeat."""
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or len(names) < 2:
        return None
    if all(isinstance(value, int) for value in names.values()):
        names = {value: name for name, value in names.items()}
    try:
        by_number = {int(number): name.strip() for number, name in names.items()}
    except (ValueError, AttributeError, TypeError):
        return None
    if len({*by_number.values()} - {""}) < len(names):
        return None
    return ClassNames(by_number, where, is_counted)
