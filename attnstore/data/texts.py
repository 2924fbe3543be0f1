"""Texts in class folders: which folders of a tree of .txt files are splits, and which are classes."""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from attnstore.data.imdb import films
from attnstore.data.splits import SPLIT_WORDS
from attnstore.errors import DataError
from attnstore.messages import one_line

#: IMDb's list of the films behind the reviews of a class folder, beside that folder.
URLS = re.compile(r"(?:.*/)?urls_(pos|neg)\.txt")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of documents. `own` is its name without what all have in common."""

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
    """The folders that hold documents, by name, and how many .txt files lie elsewhere.

    `too_deep` is an example of a folder that is neither a class nor a split; then there are no places.
    """

    places: Mapping[str, Place]
    elsewhere: int
    is_imdb: bool
    too_deep: str | None = None

    @property
    def labels(self) -> list[str]:
        """The classes, sorted."""
        return sorted({place.label for place in self.places.values() if place.label is not None})

    @property
    def splits(self) -> list[str]:
        """The splits, sorted."""
        return sorted({place.split for place in self.places.values() if place.split is not None})

    def check(self) -> None:
        """Raises DataError if the folders are too deep to be told apart."""
        if self.too_deep is not None:
            raise DataError(
                f"the .txt files lie too deep ({one_line(self.too_deep)}): they belong in class or split/class folders"
            )


def lay_out(counts: Mapping[str, int], urls: Mapping[str, bytes]) -> TextTree:
    """Tell splits and classes from the number of .txt files in each folder ("" is the top).

    The deepest folders hold the documents. After what all of these have in common, their names are `class`,
    `split` (if each is a split's usual name) or `split/class`; at the top, there are no classes.
    `urls` are IMDb's lists of films by their names: where there are any, the folders beside them are all.
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
        return TextTree({}, sum(counts.values()), False, "/".join(first))
    only_splits = levels == 1 and all(parts[-1].lower() in SPLIT_WORDS for parts in deepest.values())
    places = {}
    for folder, parts in deepest.items():
        own = parts[common:]
        split = own[0] if levels == 2 or only_splits else None
        label = None if levels == 0 or only_splits else own[-1]
        places[folder] = Place(split, label, "/".join(own), groups.get(folder, ()))
    elsewhere = 0 if groups else sum(count for folder, count in counts.items() if folder not in places)
    return TextTree(places, elsewhere, bool(groups))
