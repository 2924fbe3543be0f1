"""Texts in class folders: the folders of a tree of .txt files that are splits, and those that are classes."""

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from attnstore.data.imdb import films
from attnstore.data.splits import SPLIT_WORDS
from attnstore.errors import DataError
from attnstore.messages import counted, one_line

#: IMDb's list of the films behind the reviews of a class folder, beside that folder.
URLS = re.compile(r"(?:.*/)?urls_(pos|neg)\.txt")

#: Endings of texts that are not `.txt`.
_TEXT_ENDINGS = ("", ".text", ".asc", ".htm", ".html", ".xml")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of documents. `own` is its name without the part that all folders share."""

    split: str | None
    label: str | None
    own: str
    groups: Sequence[str | None] = field(default=(), repr=False)  # IMDb: the film of each review number

    def group(self, stem: str) -> str | None:
        """The film of the review in `<number>_<rating>.txt`."""
        number = stem.partition("_")[0]
        known = number.isdecimal() and int(number) < len(self.groups)
        return self.groups[int(number)] if known else None


@dataclass(frozen=True, slots=True)
class TextTree:
    """The folders with documents, by name, and the number of .txt files elsewhere.

    `refusal` says why the folders are ambiguous; then there are no places.
    """

    places: Mapping[str, Place]
    elsewhere: int
    is_imdb: bool
    refusal: str | None = None

    @property
    def labels(self) -> list[str]:
        """The classes, sorted."""
        return sorted({place.label for place in self.places.values() if place.label is not None})

    @property
    def splits(self) -> list[str]:
        """The splits, sorted."""
        return sorted({place.split for place in self.places.values() if place.split is not None})

    def check(self) -> None:
        """Raise DataError if it is not clear which folders are splits and which are classes."""
        if self.refusal is not None:
            raise DataError(self.refusal)


def lay_out(counts: Mapping[str, int], urls: Mapping[str, bytes]) -> TextTree:
    """Tell splits and classes from the number of .txt files in each folder ("" is the top).

    The deepest folders hold the documents. Without their common beginning, their paths are `class`, `split` (if each is
    a usual name of a split), `split/class` or, if only the second parts are names of splits, `class/split`. Documents
    directly in the top folder have no class. Files above the deepest folders are not documents, unless they are more
    than those in them. `urls` are IMDb's lists of films by file name: if there are any, only the folders beside them
    are read.
    """
    groups = {re.sub(r"urls_(pos|neg)\.txt$", r"\1", name): films(content) for name, content in urls.items()}
    groups = {folder: of_reviews for folder, of_reviews in groups.items() if folder in counts}
    folders = {folder: folder.split("/") if folder else [] for folder in groups or counts}
    depth = max(map(len, folders.values()), default=0)
    deepest = {folder: parts for folder, parts in folders.items() if len(parts) == depth}
    shared = posixpath.commonpath(deepest) if deepest else ""
    common = max(0, min(len(shared.split("/")) if shared else 0, depth - 1))
    first = next(iter(deepest.values()), [])
    if depth - common == 1 and common and first[common - 1].lower() in SPLIT_WORDS:
        common -= 1  # one split alone
    levels = depth - common
    if levels > 2:
        deep = one_line("/".join(first))
        return TextTree(
            {},
            sum(counts.values()),
            False,
            f"the .txt files are nested too deeply ({deep}): they belong in class or split/class folders",
        )
    if not groups and (refusal := _uneven(counts, deepest)) is not None:
        return TextTree({}, sum(counts.values()), False, refusal)
    is_crossed = levels == 2 and _are_splits(parts[-1] for parts in deepest.values())
    is_crossed = is_crossed and not _are_splits(parts[common] for parts in deepest.values())
    only_splits = levels == 1 and _are_splits(parts[-1] for parts in deepest.values())
    places = {}
    for folder, parts in deepest.items():
        own = parts[common:]
        split = own[-1 if is_crossed else 0] if levels == 2 or only_splits else None
        label = None if levels == 0 or only_splits else own[0 if is_crossed else -1]
        places[folder] = Place(split, label, "/".join(own), groups.get(folder, ()))
    elsewhere = 0 if groups else sum(count for folder, count in counts.items() if folder not in places)
    return TextTree(places, elsewhere, bool(groups))


def _are_splits(names: Iterable[str]) -> bool:
    return all(name.lower() in SPLIT_WORDS for name in names)


def _uneven(counts: Mapping[str, int], deepest: Mapping[str, object]) -> str | None:
    """Why the deepest folders can't be all that holds documents; None if they can."""
    above = {"", *(str(each) for folder in deepest for each in PurePosixPath(folder).parents)}
    others = {folder: count for folder, count in counts.items() if folder not in deepest}
    beside = {folder: count for folder, count in others.items() if folder not in above}
    held = sum(counts[folder] for folder in deepest)
    if not others or (sum(beside.values()) * 10 < held and sum(others.values()) <= held):
        return None
    most = max(beside or others, key=lambda folder: counts[folder])
    here, there = one_line(most or "the folder itself"), one_line(next(iter(deepest)))
    return (
        f"the .txt files are at different depths ({counted(counts[most], 'file')} in {here}, {counted(held, 'file')}"
        f" as deep as {there}): bring the classes to one depth, or name one folder"
    )


def refuse_other_endings(folders: Collection[str], others: Sequence[str]) -> None:
    """Raise DataError if a folder beside those with .txt files has other texts instead: it may be another class."""
    depths = {folder.count("/") for folder in folders if folder}
    for name in others:
        folder = name.rpartition("/")[0]
        is_text = PurePosixPath(name).suffix.lower() in _TEXT_ENDINGS or name.rpartition(".")[2].isdecimal()
        if folder and folder not in folders and folder.count("/") in depths and is_text:
            raise DataError(
                f"{one_line(folder)} holds no .txt file, but {one_line(name)}, and would not be read: give all"
                " texts one ending, or name those to read with a glob such as '*/*.txt'"
            )
