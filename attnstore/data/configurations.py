"""The configurations of a data set that has several: those of its card (README.md), or folders.

A configuration assigns files to splits. Two configurations are two data sets, and are not read as one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from attnstore.config import SourceConfig
from attnstore.data.class_names import head_of_card
from attnstore.data.files import Files
from attnstore.data.foreign import is_no_data
from attnstore.errors import DataError, UsageError
from attnstore.messages import listed, one_line, quoted, similar

_LARGEST = 1 << 20  # bytes of a card


def of_configuration(files: Files, config: SourceConfig) -> Files:
    """The files of the requested configuration, of the default, or of the only one; all files if there are none.

    Raises UsageError if the configuration does not exist, or if none of several is chosen.
    """
    described = _described(files)
    name = config.subset
    if name is None:
        if not described:
            return files
        default = [
            each for each, entry in described.items() if entry.get("default") is True or each == "default"
        ]
        if not default and len(described) > 1:
            raise UsageError(
                f"{one_line(config.data)} has the configurations {listed(list(described))}: name one with --subset"
            )
        name = default[0] if default else next(iter(described))
        if len(described) > 1:
            others = [each for each in described if each != name]
            note = f"the configuration {quoted(name)} is read, not {listed(others)}: --subset names another"
            files = replace(files, notes=(*files.notes, note))
    if name in described:
        return _chosen(files, name, described[name])
    folders = {part: None for each in files.names if not is_no_data(each) for part in each.split("/")[:-1]}
    inside = [each for each in files.names if name in each.split("/")[:-1]]
    if described or not inside:
        known = list(described or folders)
        has = f"it has {listed(known)}" if known else "it has none"
        raise UsageError(
            f"{one_line(config.data)} has no configuration {quoted(name)} (--subset), {has}{similar(name, known)}"
        )
    return replace(files, names=[*_descriptions(files), *inside])


def _described(files: Files) -> dict[str, Mapping[str, Any]]:
    """The configurations in the card that list their files, by name."""
    if "README.md" not in files.names:
        return {}
    with files.open("README.md") as file:
        card = head_of_card(file.read(_LARGEST).decode(errors="replace"))
    entries = card.get("configs")
    return {
        str(each["config_name"]): each
        for each in (entries if isinstance(entries, list) else [])
        if isinstance(each, dict) and "config_name" in each and ("data_files" in each or "data_dir" in each)
    }


def _chosen(files: Files, name: str, entry: Mapping[str, Any]) -> Files:
    """The files that a configuration's patterns match, and their splits."""
    above = f"{str(entry.get('data_dir', '')).strip('./')}/".lstrip("/")
    splits: dict[str, str | None] = {}
    for split, pattern in _patterns(entry.get("data_files", "**")):
        wanted = above + pattern.removeprefix("./")
        for each in files.names:
            if fnmatchcase(each, wanted.replace("**/", "*").replace("**", "*")) or each.startswith(
                f"{wanted}/"
            ):
                splits.setdefault(each, split)
    if not splits:
        raise DataError(f"the card's configuration {quoted(name)} lists files that do not exist")
    named = {each: split for each, split in splits.items() if split is not None}
    found = [each for each in files.names if each in splits]
    return replace(files, names=[*_descriptions(files), *found], splits=named)


def _descriptions(files: Files) -> list[str]:
    """The descriptions that may cover all configurations."""
    return [each for each in files.names if "/" not in each and is_no_data(each)]


def _patterns(data_files: Any) -> Iterator[tuple[str | None, str]]:
    """(split or None, pattern) of a card's `data_files`, which come in several forms."""
    if isinstance(data_files, str):
        yield None, data_files
    elif isinstance(data_files, list):
        for each in data_files:
            yield from _patterns(each)
    elif isinstance(data_files, dict) and "path" in data_files:
        paths = data_files["path"]
        for path in paths if isinstance(paths, list) else [paths]:
            yield str(data_files["split"]) if "split" in data_files else None, str(path)
    elif isinstance(data_files, dict):
        for split, paths in data_files.items():
            for path in paths if isinstance(paths, list) else [paths]:
                yield str(split), str(path)
