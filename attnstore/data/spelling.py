"""How classes are written: as names that may be spelled in several ways, and as numbers."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

_SHORT = {"pos": "positive", "neg": "negative", "neu": "neutral"}
#: Orders in which data sets number these classes. A model has them in any order (ProsusAI/finbert: positive, negative,
#: neutral; facebook/bart-large-mnli: contradiction, neutral, entailment), so that numbers need not be its indices.
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
    """The whole number that a label is, `1.0` and `true` included, else None."""
    text = label.strip().casefold()
    if text in ("false", "true"):
        return int(text == "true")
    return int(text.partition(".")[0]) if re.fullmatch(r"[+-]?[0-9]{1,9}(\.0*)?", text) else None


@lru_cache(maxsize=1 << 14)
def spelling(label: str) -> str:
    """What is left of a label without case, accents, and what stands between words."""
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
    """The model was saved without names for its classes: `LABEL_0`, `LABEL_1`, … or bare numbers from 0."""
    found = (re.fullmatch(r"(?:label|class)?[\s_-]*([0-9]+)", name.strip(), re.IGNORECASE) for name in names)
    return all(match is not None and int(match[1]) == index for index, match in enumerate(found))


def spelled(label: str, names: Sequence[str]) -> str | None:
    """The class that the label is a spelling of: exactly, else by case, accents and blanks, else by a known pair."""
    for key in (str.strip, compact, _canonical):
        alike = [name for name in names if key(name) == key(label) != ""]
        if alike:
            return alike[0] if len(alike) == 1 else None
    return None


def compact(label: str) -> str:
    return spelling(label).replace(" ", "")


def _canonical(label: str) -> str:
    """The spelling without blanks and what abbreviates: `neg`, `1 stars` and `LABEL_3` are `negative`, `1star`, `3`."""
    words = [_SHORT.get(word, word) for word in spelling(label).split()]
    if len(words) == 2 and words[0] == "label" and words[1].isdecimal():
        return words[1]
    if words and len(words[-1]) > 3 and re.search("[^s]s$", words[-1]):
        words[-1] = words[-1][:-1]
    return "".join(words)


def beginning(label: str, names: Sequence[str]) -> str | None:
    """The only class that begins like the label, or like whose name it begins: with whole words, or three letters."""

    def alike(name: str) -> bool:
        short, long = sorted((spelling(label), spelling(name)), key=len)
        rest = long[len(short) :]
        if not short or not long.startswith(short) or re.search(r"\b(no|not|non|free)\b|less\b", rest):
            return False
        return rest.startswith(" ") or (len(short) >= 3 and short[-1].isalpha() and rest[:1].isalpha())

    found = [name for name in names if alike(name)]
    return found[0] if len(found) == 1 else None


def number_in(names: Sequence[str]) -> dict[int, str]:
    """The classes by the only number in the name of each; empty if they have none, or not each its own."""
    inside = [re.findall("[0-9]+", name) for name in names]
    if any(len(numbers) != 1 for numbers in inside):
        return {}
    by_number = {int(numbers[0]): name for numbers, name in zip(inside, names, strict=True)}
    return by_number if len(by_number) == len(names) else {}


def usual_order(names: Sequence[str]) -> list[str]:
    """The classes in the order in which data usually number them: by the numbers in their names, else as they are
    but for those that have a place in one of `_USUAL_ORDERS`; of two, the negation of the other comes first.
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
    """Whether a name is that of the other with a negation, which has the lower number but in entailment."""
    denied, plain = compact(name), compact(other)
    return plain != "entailment" and any(denied == f"{no}{plain}" for no in _NEGATIONS)
