"""Parameters of questions, and their values: parsed from the command line's text, or given in Python."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, SupportsIndex

from attnstore.errors import UsageError

LAYER_WORDS = ("first", "last", "mean", "all", "best")

#: A document's number, where a text would mean its id. Not `#3`: for shells that is a comment.
BY_NUMBER = re.compile(r"@([0-9]{1,18})")
NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a question. `type` is from the list in `questions`; a choice of words has type `text`.

    `default` is the value that is bound when none is given; None means `auto`, or nothing if the parameter is
    `required`. `choices` is empty if any value of the type is allowed.
    """

    name: str
    type: str
    default: object
    meaning: str
    choices: tuple[str, ...] = ()
    required: bool = False


def converted(parameter: Parameter, value: object) -> Any:
    """`value`, which may be text from the command line, as the parameter's type. Raises UsageError."""
    if parameter.default is None and not parameter.required and (value is None or value == "auto"):
        return None
    convert, wanted = CONVERSIONS[parameter.type]
    if parameter.choices:
        wanted = f"one of {', '.join(parameter.choices)}"
    try:
        converted = convert(value)
        if parameter.choices and converted not in parameter.choices:
            raise ValueError
    except ValueError as error:
        raise UsageError(f"{parameter.name}={as_text(value)} does not fit: it is {wanted}") from error
    return converted


def as_text(value: object) -> str:
    """A bound value as a user would type it."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def whole(value: object) -> int:
    if isinstance(value, bool) or not (
        isinstance(value, SupportsIndex) or (isinstance(value, str) and NUMBER.fullmatch(value))
    ):
        raise ValueError
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _count(value: object) -> int:
    number = whole(value)
    if number < 0:
        raise ValueError
    return number


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _amount(value: object) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError
    return number


def _truth(value: object) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    word = str(value).lower()
    if word not in words:
        raise ValueError
    return words[word]


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        try:
            # `[CLS]` is a token, not JSON.
            value = json.loads(value) if value.startswith("[") else value.split(",") if value else []
        except ValueError:
            value = str(value).split(",")
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(t, str) for t in value):
        raise ValueError
    return list(value)


def _layer_value(value: object) -> str:
    return str(value) if value in LAYER_WORDS else str(whole(value))


def _head_value(value: object) -> str:
    if value == "mean":
        return "mean"
    if (number := whole(value)) < 1:
        raise ValueError
    return str(number)


def _document_value(value: object) -> str | int:
    return value if isinstance(value, str) else whole(value)


CONVERSIONS: dict[str, tuple[Callable[[object], Any], str]] = {
    "text": (_text, "a text"),
    "integer": (whole, "a whole number"),
    "count": (_count, "a whole number, 0 or more"),
    "number": (_number, "a number"),
    "amount": (_amount, "a number, 0 or more"),
    "boolean": (_truth, "true or false"),
    "list": (_texts, 'texts, separated by commas or as JSON: ["a", "b"]'),
    "model_class": (_text, "a class of the model"),
    "score": (_text, "the name of a score"),
    "class": (_text, ""),
    "cluster": (_text, ""),
    "reduction": (_text, "the name of a reduction"),
    "signed_reduction": (_text, "the name of a reduction"),
    "heads": (_text, "the name of a reduction"),
    "reductions": (_texts, "the names of reductions, separated by commas"),
    "layer": (_layer_value, "a number, or a word such as first or last"),
    "head": (_head_value, "a number from 1, or mean"),
    "column": (_text, "a column of documents"),
    "document": (_document_value, "an id, or a number, such as @3"),
}
