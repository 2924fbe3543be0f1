"""Suggests a `--labels` for labels that no rule can map, before a run and after it."""

import csv
import io
from collections.abc import Mapping, Sequence

from attnstore.data.spelling import (
    are_nameless,
    beginning,
    label_order,
    spelled,
    usual_order,
    whole_number,
)
from attnstore.messages import counted, quoted

_ADVISED = 12  # the most labels in a suggested `--labels`


def best_assignment(counts: Mapping[tuple[str, str], int], model_labels: Sequence[str]) -> tuple[str, int]:
    """The value of `--labels` with the most predictions that agree with the labels, and the number of these documents.

    `counts` has the number of documents by (label, prediction). Each class gets at most one label and each label one
    class (Kuhn 1955, by scipy's linear_sum_assignment); other labels are dismissed. If there are as many labels as
    classes, and the model has no names for the classes, the labels are given as names, in the model's order.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    labels = sorted({label for label, _ in counts}, key=label_order({label for label, _ in counts}))
    table = np.array([[counts.get((label, name), 0) for name in model_labels] for label in labels])
    rows, columns = linear_sum_assignment(table, maximize=True)
    class_of = {labels[row]: model_labels[column] for row, column in zip(rows, columns, strict=True)}
    agreeing = int(table[rows, columns].sum())
    if (
        are_nameless(model_labels)
        and len(labels) == len(model_labels)
        and not any("=" in each for each in labels)
    ):
        label_of = {name: label for label, name in class_of.items()}
        return _option([label_of[name] for name in model_labels]), agreeing
    return _option([f"{label}={class_of.get(label, '')}" for label in labels]), agreeing


def _option(entries: Sequence[str]) -> str:
    """Entries in the form of `--labels`; one with a comma or a quote is quoted."""
    sink = io.StringIO()
    csv.writer(sink, lineterminator="").writerow(entries)
    return sink.getvalue()


def advice(rows: Mapping[str, int], rest: Mapping[str, str], names: Sequence[str]) -> str:
    """The `--labels` that would map the labels, as far as known.

    `rows` counts the rows of each label, `rest` has the labels by their names.
    """
    labels = sorted(set(rest.values()), key=label_order(set(rest.values())))
    general = "--labels LABEL=CLASS,… maps them, LABEL= leaves the rows of a label out"
    if len(labels) > _ADVISED:
        return general
    numbers = [number for label in labels if (number := whole_number(label)) is not None]
    if len(numbers) == len(labels):
        classes = _advised(numbers, usual_order(names))
        if not classes:
            return general
        option = _option([f"{label}={name}" for label, name in zip(labels, classes, strict=True)])
        return f"if they mean the model's classes in this order, --labels {option} says so"
    mapping = {label: spelled(label, names) or beginning(label, names) for label in labels}
    if not any(mapping.values()):
        return general
    option = _option([f"{label}={name or ''}" for label, name in mapping.items()])
    unknown = {label: 0 for label, name in mapping.items() if name is None}
    for raw, label in rest.items():
        if label in unknown:
            unknown[label] += rows.get(raw, 0)
    said = ", ".join(f"{quoted(label)} ({counted(count, 'row')})" for label, count in unknown.items())
    return (
        f"unknown are {said}; --labels {option} leaves them out"
        if unknown
        else f"--labels {option} maps them"
    )


def _advised(numbers: Sequence[int], names: Sequence[str]) -> list[str]:
    """A class for each of the sorted numbers, "" for none; [] without a suggestion."""
    count, classes = len(numbers), len(names)
    half = count // 2
    if count == 1:
        return []
    if classes == 2:
        return [names[0]] * half + [""] * (count % 2) + [names[1]] * half
    if count in (2, classes):
        return list(names) if count == classes else [names[0], names[-1]]
    first = 1 if numbers[0] >= 1 and numbers[-1] <= classes else 0
    fits = first <= numbers[0] and numbers[-1] < classes + first
    return [names[number - first] for number in numbers] if fits else []
