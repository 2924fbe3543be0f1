"""Rows that are objects: their keys are columns, and so are paths such as `data.text` or `notes[0].label`."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from attnstore.config import SourceConfig
from attnstore.data.arrow import as_cell
from attnstore.data.columns import Columns, Sample, Values
from attnstore.data.delimited import SAMPLE, SAMPLE_ROWS, Bad

_STEP = re.compile(r"\[([0-9]+)\]")
_DEEPEST = 8  # the most steps of a path that is offered as a column
_MOST = 200  # the most paths that are offered as columns

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Objects:
    """Rows as objects, or the reasons why not. `read` yields them from the beginning, each with its number.

    `headed`: the keys are names of columns, not their places.
    """

    read: Callable[[], Iterator[tuple[int, Object | Bad]]]
    headed: bool = True


def found_in(objects: Objects, config: SourceConfig) -> tuple[list[str], Sample]:
    """The columns of the first objects, and their values.

    They are the keys, then the paths into objects and lists, and the user's paths that lead to something.
    """
    keys: dict[str, None] = {}
    paths: dict[str, None] = {}
    first: list[Object] = []
    size = 0
    for _, each in islice(objects.read(), SAMPLE_ROWS):
        if isinstance(each, Bad):
            continue
        size += len(repr(each))
        keys.update(dict.fromkeys(map(str, each)))
        if len(paths) < _MOST:
            for key, value in each.items():
                paths.update(dict.fromkeys(_paths(str(key), value, 1)))
        first.append(each)
        if size > SAMPLE:
            break
    named = [
        config.label_column,
        config.id_column,
        config.group_column,
        *(config.text_column or "").split(","),
        *config.keep,
    ]
    asked = [path for path in named if path and any(value_at(each, path) is not None for each in first)]
    names = list(dict.fromkeys([*keys, *list(paths)[:_MOST], *asked]))
    rows = [[as_cell(value_at(each, name)) for name in names] for each in first]
    return names, Sample(rows, objects.headed)


def object_rows(objects: Objects, columns: Columns) -> Iterator[tuple[int, Values | Bad]]:
    """Each row's number with its values, or the reason why it has none."""
    for number, each in objects.read():
        if isinstance(each, Bad):
            yield number, each
        else:
            yield number, tuple(None if name is None else value_at(each, name) for name in columns)


def value_at(value: Object, path: str) -> Any:
    """The value at a path; None if there is none.

    A key spelled like the path takes precedence. `[0]` takes one element of a list; `[]` (or nothing) before a key
    takes the distinct values of all elements, as a list.
    """
    if path in value:
        return value[path]
    found: Any = value
    for part in path.split("."):
        key, bracket, _ = part.partition("[")
        found = _below(found, key) if key else found
        for place in _STEP.findall(part) if bracket else ():
            found = found[int(place)] if isinstance(found, list) and int(place) < len(found) else None
    return found


def _below(value: Any, key: str) -> Any:
    """The value of a key; for a list, those of its elements."""
    if isinstance(value, Mapping):
        return value.get(key)
    if not isinstance(value, list):
        return None
    found: list[Any] = []
    for each in value:
        below = _below(each, key)
        found += [one for one in (below if isinstance(below, list) else [below]) if one not in (*found, None)]
    return found or None


def _paths(above: str, value: Any, depth: int) -> Iterator[str]:
    """The paths to the values in an object, or in the objects of a list; empty for anything else."""
    if depth == _DEEPEST:
        return
    if isinstance(value, list):
        value, above = value[:3], f"{above}[]"
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, Mapping):
            for key, below in each.items():
                path = f"{above}.{key}"
                inner = list(_paths(path, below, depth + 1))
                yield from inner or [path]
