"""Splits: the words that name them, which exist, and which are requested."""

import re
from collections.abc import Sequence

from attnstore.config import SourceConfig
from attnstore.errors import UsageError
from attnstore.messages import listed, one_line, quoted, similar

#: The split that a word in a file's or folder's name means.
SPLIT_WORDS = {
    "train": "train", "training": "train", "trainset": "train", "test": "test", "testing": "test",
    "testset": "test", "dev": "dev", "devset": "dev", "validation": "validation", "valid": "valid", "val": "val",
    "eval": "eval", "unsupervised": "unsupervised", "traindata": "train", "trainingdata": "train",
    "testdata": "test", "devdata": "dev",
}  # fmt: skip
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def split_in(name: str) -> str | None:
    """The one split in the words of a file's name (`imdb-train`, `testData`); None for none, or for two."""
    words = {word for part in re.split(r"[^A-Za-z]+", name) for word in (part, *_WORD.findall(part))}
    found = {SPLIT_WORDS[word] for each in words if (word := each.lower()) in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else None


def wanted_splits(splits: Sequence[str], config: SourceConfig) -> frozenset[str]:
    """The splits to read. Raises UsageError if there are splits, but not the requested one."""
    if not splits or config.split == "all":
        return frozenset(splits)
    if config.split not in splits:
        raise UsageError(
            f"{one_line(config.data)} has no split {quoted(config.split)}, it has {listed(splits)}"
            f"{similar(config.split, splits)}"
        )
    return frozenset([config.split])


def note_on_missing_splits(splits: Sequence[str], config: SourceConfig) -> list[str]:
    """The note, if any, that a split is only a name, because the source has no splits."""
    if splits or config.split == "all":
        return []
    return [f"the data has no splits: {quoted(config.split)} is only the name that its documents get"]
