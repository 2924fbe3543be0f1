"""Whose labels are whose: the source's, as the model's classes."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnstore.data.survey import Survey
from attnstore.errors import UsageError
from attnstore.messages import listed


@dataclass(frozen=True, slots=True)
class LabelMap:
    """The source's labels as the model's. A label that `mapping` lacks is unknown, its rows are rejected.

    `are_models` is False where no label is the model's, or there is none: then no accuracy can be claimed.
    `model_labels` are the model's classes in the order of its logits, by the names this run gives them.
    """

    mapping: Mapping[str, str]
    are_models: bool
    note: str | None
    model_labels: tuple[str, ...]


def match_labels(found: Survey, model_labels: Sequence[str], given: Sequence[str] = ()) -> LabelMap:
    """Tell which of the source's labels is which of the model's.

    In this order: by name, ignoring case and outer blanks; if no name fits, by number, which is the number in
    the model's label if each has one (`LABEL_0`, `3 stars`), else its index, and only if most of the numbered
    documents have a number of the model's; if the model has nothing but `LABEL_0`, `LABEL_1`, ... and the
    source as many labels, the source's in order (of number, else of the alphabet) name the model's.
    `given` replaces the model's own names. Raises UsageError if these are not as many as the model's classes.
    """
    names = tuple(model_labels)
    if given:
        names = tuple(label.strip() for label in given)
        if len(names) != len(model_labels):
            raise UsageError(
                f"--labels names {len(names)} classes ({listed(names)}), the model has {len(model_labels)}"
                f" ({listed(model_labels)})"
            )
        if len({name.casefold() for name in names}) < len(names) or "" in names:
            raise UsageError(f"--labels must be different names, none empty: {listed(names)}")
    if not found.labels:
        return LabelMap({}, False, "the data has no labels: no accuracy is computed", names)

    shown = {raw: _shown_label(raw, found.label_names) for raw in found.labels}
    by_name = {name.strip().casefold(): name for name in names}
    named = {raw: by_name[name.casefold()] for raw, name in shown.items() if name.casefold() in by_name}
    if named:
        return LabelMap(named, True, None, names)

    generic = not given and all(re.fullmatch(r"LABEL_\d+", name) for name in names)
    if generic and len(found.label_names) == len(names):
        numbers = [str(number) for number in range(len(names))]
        return _naming_the_model(
            dict(zip(numbers, found.label_names, strict=True)), names, "the dataset's own order"
        )

    by_number = _numbers_of(names)
    numbered = {raw: _number(raw) for raw in found.labels}
    fitting = {raw: by_number[n] for raw, n in numbered.items() if n is not None and n in by_number}
    documents = sum(found.labels[raw] for raw in fitting)
    others = sum(found.labels[raw] for raw, n in numbered.items() if n is not None) - documents
    if generic and len(fitting) < len(shown) == len(names):
        order = sorted(shown, key=_label_order(list(shown)))
        return _naming_the_model({raw: shown[raw] for raw in order}, names, "their sorted order")
    if documents > others:
        pairs = ", ".join(f"{raw.strip()} is {name}" for raw, name in sorted(fitting.items())[:10])
        return LabelMap(fitting, True, f"labels were matched by number: {pairs}", names)
    return LabelMap(
        shown,
        False,
        f"the data's labels ({listed(sorted(set(shown.values())))}) are not the model's ({listed(names)}): they are"
        " kept as they are, no accuracy is computed; --labels gives the model's classes other names",
        names,
    )


def _shown_label(raw: str, label_names: tuple[str, ...]) -> str:
    number = _number(raw) if label_names else None
    return label_names[number] if number is not None and 0 <= number < len(label_names) else raw.strip()


def _naming_the_model(shown: Mapping[str, str], names: Sequence[str], order: str) -> LabelMap:
    new = tuple(shown.values())
    pairs = ", ".join(f"{name} is {label}" for name, label in list(zip(names, new, strict=True))[:10])
    note = f"the model's classes have no names, so the data's labels, in {order}, name them: {pairs}"
    return LabelMap(dict(shown), True, note, new)


def _number(label: str) -> int | None:
    """The whole number that a label is, `1.0` and `true` included, else None."""
    text = label.strip().casefold()
    if text in ("false", "true"):
        return int(text == "true")
    return int(text.partition(".")[0]) if re.fullmatch(r"[+-]?[0-9]{1,9}(\.0*)?", text) else None


def _numbers_of(names: Sequence[str]) -> dict[int, str]:
    """The number each class goes by: the only one in its name if all have one, else its index."""
    inside = [re.findall(r"[0-9]+", name) for name in names]
    if all(len(numbers) == 1 for numbers in inside):
        by_number = {int(numbers[0]): name for numbers, name in zip(inside, names, strict=True)}
        if len(by_number) == len(names):
            return by_number
    return dict(enumerate(names))


def _label_order(labels: Sequence[str]) -> Callable[[str], Any]:
    try:
        numbers = {label: float(label) for label in labels}
    except ValueError:
        return lambda label: label.strip()
    return lambda label: numbers[label]
