"""Spellings of classes: names with several spellings, and numbers."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

_SHORT = {"pos": "positive", "neg": "negative", "neu": "neutral"}
#: Orders in which data sets number these classes. Models may have any order (ProsusAI/finbert: positive, negative,
#: neutral; facebook/bart-large-mnli: contradiction, neutral, entailment), so numbers need not be a model's indices.
_USUAL_ORDERS = (
    ("verynegative", "negative", "neutral", "positive", "verypositive"),
    ("entailment", "neutral", "contradiction"),
    ("bad", "good"),
    ("false", "true"),
    ("no", "yes"),
    ("ham", "spam"),
)
_NEGATIONS = ("not", "non", "no", "un", "in", "ir")


def whole_number(label: str) -> int | None:
    """A label's value as a whole number, also for `1.0` and `true`; else None."""
    text = label.strip().casefold()
    if text in ("false", "true"):
        return int(text == "true")
    return int(text.partition(".")[0]) if re.fullmatch(r"[+-]?[0-9]{1,9}(\.0*)?", text) else None


@lru_cache(maxsize=1 << 14)
def spelling(label: str) -> str:
    """A label without case, accents, and what separates words."""
    folded = unicodedata.normalize("NFKD", label.casefold())
    plain = "".join(character for character in folded if not "\u0300" <= character <= "\u036f")
    return " ".join(re.sub(r"[\s_./\u2010-\u2015-]+", " ", unicodedata.normalize("NFC", plain)).split())


def label_order(labels: Iterable[str]) -> Callable[[str], Any]:
    """The key to sort labels by: numbers by size if all are numbers, else as text."""
    try:
        numbers = {label: float(label) for label in labels}
    except ValueError:
        return str.strip
    return lambda label: numbers[label]


def are_nameless(names: Sequence[str]) -> bool:
    """Whether the model was saved without names for its classes: `LABEL_0`, `LABEL_1`, … or bare numbers from 0."""
    found = (re.fullmatch(r"(?:label|class)?[\s_-]*([0-9]+)", name.strip(), re.IGNORECASE) for name in names)
    return all(match is not None and int(match[1]) == index for index, match in enumerate(found))


def spelled(label: str, names: Sequence[str]) -> str | None:
    """The class that the label spells: exactly, else except for case, accents and blanks, else by a known pair."""
    for key in (str.strip, compact, _canonical):
        alike = [name for name in names if key(name) == key(label) != ""]
        if alike:
            return alike[0] if len(alike) == 1 else None
    return None


def compact(label: str) -> str:
    return spelling(label).replace(" ", "")


def _canonical(label: str) -> str:
    """The spelling without blanks and abbreviations: `neg`, `1 stars`, `LABEL_3` become `negative`, `1star`, `3`."""
    words = [_SHORT.get(word, word) for word in spelling(label).split()]
    if len(words) == 2 and words[0] == "label" and words[1].isdecimal():
        return words[1]
    if words and len(words[-1]) > 3 and re.search("[^s]s$", words[-1]):
        words[-1] = words[-1][:-1]
    return "".join(words)


def beginning(label: str, names: Sequence[str]) -> str | None:
    """The only class of which the label is a beginning, or the reverse: by whole words, or three letters."""

    def alike(name: str) -> bool:
        short, long = sorted((spelling(label), spelling(name)), key=len)
        rest = long[len(short) :]
        if not short or not long.startswith(short) or re.search(r"\b(no|not|non|free)\b|less\b", rest):
            return False
        return rest.startswith(" ") or (len(short) >= 3 and short[-1].isalpha() and rest[:1].isalpha())

    found = [name for name in names if alike(name)]
    return found[0] if len(found) == 1 else None


def number_in(names: Sequence[str]) -> dict[int, str]:
    """The classes by the only number in each name; empty if some have none, or if two share a number."""
    inside = [re.findall("[0-9]+", name) for name in names]
    if any(len(numbers) != 1 for numbers in inside):
        return {}
    by_number = {int(numbers[0]): name for numbers, name in zip(inside, names, strict=True)}
    return by_number if len(by_number) == len(names) else {}


def usual_order(names: Sequence[str]) -> list[str]:
    """The classes in the usual order of data sets: by the numbers in their names, else as they are except for those in
    one of `_USUAL_ORDERS`; of two classes, the negation of the other comes first.
    """
    if by_number := number_in(names):
        return [by_number[number] for number in sorted(by_number)]
    for usual in _USUAL_ORDERS:
        place = {name: usual.index(_canonical(name)) for name in names if _canonical(name) in usual}
        if len(place) > 1:
            ordered = iter(sorted(place, key=lambda name: place[name]))
            names = [next(ordered) if name in place else name for name in names]
            break
    return list(names[::-1]) if len(names) == 2 and _denies(names[1], names[0]) else list(names)


def _denies(name: str, other: str) -> bool:
    """Whether a name is the other with a negation, which has the lower number except in entailment."""
    denied, plain = compact(name), compact(other)
    return plain != "entailment" and any(denied == f"{no}{plain}" for no in _NEGATIONS)
