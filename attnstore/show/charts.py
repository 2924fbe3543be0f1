"""Fills a question's chart, which is a Vega-Lite specification without data, with its answer.

Each `<question>.sql` has a `<question>.vl.json` beside it. The answer's rows become its data, and facts of the store
are added where the specification leaves them out:

- `usermeta.attnstore` has attnstore's settings: `class`, the column that separates classes in the chart, `at_most`,
  how many classes fit, and `parameters`, which differ from the table's.
- Whatever is drawn by `class`, `label` or `prediction` has the model's classes in their order, each in its colour.
- A mark with `"tooltip": true` shows the whole row.
- A score that is not a share of a whole has no even share: titles do not mention one, and its line is not drawn.
- Bands become narrower if there are so many that the picture would be too large (`{"step": ...}`).
- For an empty answer nothing is drawn, not even axes or a legend.
"""

import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import pyarrow as pa

from attnstore.ask.questions import Question
from attnstore.errors import UsageError
from attnstore.messages import first_line, listed, one_line, quoted
from attnstore.show import p_values
from attnstore.store.manifest import StoredReduction
from attnstore.store.place import read_text
from attnstore.visible import visible_line

#: Columns whose values are classes.
_CLASSES = ("class", "label", "prediction")
_POSITIONS = ("x", "y", "xOffset", "yOffset", "facet", "row", "column")
_LONGEST = 960  # the most pixels for the bands of one axis, if they can be narrowed
_NARROWEST = 5
_CHARACTER = 9  # pixels per character of a name above a view, in a wide font
_LEAST_HEADER = 60  # the least pixels of a name above a view
#: What the titles of the shipped charts add to "lift"; it is true only of shares.
_EVEN_SHARE = " (1 is an even share)"


def read_chart(question: Question) -> dict[str, Any]:
    """The specification beside a question.

    Raises:
        UsageError: there is none, it is not a JSON object, or it has its own data.
    """
    path = question.path.with_suffix(".vl.json")
    try:
        spec = json.loads(read_text(path))
    except FileNotFoundError:
        raise UsageError(
            f"{question.name} has no chart: put a Vega-Lite specification without data beside it, {path}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"can't read {path}: {first_line(error)}") from error
    if not isinstance(spec, dict):
        raise UsageError(f"{path} is not a Vega-Lite specification: it must be a JSON object")
    if any("data" in each or "url" in each for each in _objects(spec)):
        raise UsageError(f"{path} has its own data: leave data and url out, the answer is inserted")
    about = (
        spec.get("usermeta", {}).get("attnstore", {}) if isinstance(spec.get("usermeta", {}), dict) else {}
    )
    if not isinstance(about, dict) or not isinstance(about.get("parameters", {}), dict):
        raise UsageError(f"{path}: usermeta.attnstore is an object with class, at_most and parameters")
    return spec


def own_parameters(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a chart that differ from the table's, by name."""
    return dict(_about(spec).get("parameters", {}))


def fill(
    spec: Mapping[str, Any],
    table: pa.Table,
    *,
    labels: Sequence[str] = (),
    by: str | None = None,
    only: Sequence[str] = (),
    of: StoredReduction | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """The specification with the answer `table` in it, and the notes for the lines under its title.

    `labels` are the model's classes, `by` is what defines a class (`prediction` or `label`), and `only` are the
    classes to draw if the chart separates classes; by default those with most documents, as many as fit. `of` is the
    answer's reduction, if it has one. Texts are made visible: no control characters from untrusted text reach a
    picture.

    Raises:
        UsageError: `only` names a class that the answer does not have, or the chart does not separate classes.
    """
    filled = deepcopy(dict(spec))
    about = _about(filled)
    filled.pop("usermeta", None)
    rows = [{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()]
    notes = [] if rows else ["The answer has no rows: nothing is drawn."]
    column = about.get("class")
    shown, said = _shown(rows, column, about.get("at_most"), [visible_line(name) for name in only])
    notes += said
    if shown is not None:
        rows = [row for row in rows if row[str(column)] in shown]
    order = list(dict.fromkeys(visible_line(label) for label in labels))
    found = {row[name] for row in rows for name in _CLASSES if isinstance(row.get(name), str)}
    order += sorted(found - set(order))
    for channels in _encodings(filled):
        _put_classes(channels, order, rows, column, by)
    if of is not None and (of.signed or of.total != 1.0):
        _take_even_share(filled, "value" if of.signed else "value × length")
    _put_tooltips(filled, table)
    for unit in _objects(filled):
        _narrow(unit, rows)
        _fit_headers(unit, rows)
    if not rows:
        filled = {name: value for name, value in filled.items() if name == "$schema"} | {"mark": "point"}
    filled["data"] = {"values": rows}
    return filled, notes


def with_title(spec: Mapping[str, Any], title: str, lines: Sequence[str]) -> dict[str, Any]:
    """The chart with a title and `lines` under it, all wrapped; they are also its description in words."""
    return {
        **{name: value for name, value in spec.items() if name == "$schema"},
        "title": {
            "text": textwrap.wrap(title, 80) or [""],
            "subtitle": [short for line in lines for short in textwrap.wrap(line, 110)],
        },
        "description": " ".join([title, *lines]),
        **{name: value for name, value in spec.items() if name not in ("$schema", "title", "description")},
    }


def _about(spec: Mapping[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = spec.get("usermeta", {}).get("attnstore", {})
    return about


def _objects(part: Any) -> Iterator[dict[str, Any]]:
    """All JSON objects in a specification, itself first."""
    if isinstance(part, dict):
        yield part
        for inner in part.values():
            yield from _objects(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _objects(inner)


def _encodings(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The channels of every view, by name. A facet is beside them and counts as one."""
    for each in _objects(spec):
        if isinstance(each.get("encoding"), dict):
            yield each["encoding"]
        if isinstance(each.get("facet"), dict):
            yield each["facet"] if {"row", "column"} & each["facet"].keys() else {"facet": each["facet"]}


def _plain(value: Any) -> Any:
    """A value for JSON and Vega: visible text, no NaN, and whatever JSON does not support as text."""
    if isinstance(value, str):
        return visible_line(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    return visible_line(str(value))


def _shown(
    rows: Sequence[Mapping[str, Any]], column: str | None, at_most: int | None, only: Sequence[str]
) -> tuple[list[Any] | None, list[str]]:
    """The classes to draw (None for all), and a note about the others."""
    if column is None:
        if only:
            raise UsageError("this chart sets no classes apart: leave out which to draw")
        return None, []
    there = list(dict.fromkeys(row.get(column) for row in rows))
    if only:
        if missing := [name for name in only if name not in there]:
            names = listed([str(name) for name in there])
            raise UsageError(f"the answer has no class {quoted(missing[0])}: it has {names}")
        return list(only), [f"{len(only)} of {len(there)} classes are drawn, as asked"]
    if at_most is None or len(there) <= at_most:
        return None, []
    size = {name: max(_documents(row) for row in rows if row.get(column) == name) for name in there}
    most = sorted(there, key=lambda name: -size[name])[:at_most]
    kept = [name for name in there if name in most]
    return kept, [
        f"{at_most} of {len(there)} classes are drawn, those with most documents; choose others with --class"
    ]


def _documents(row: Mapping[str, Any]) -> float:
    """How many documents a row is based on, if the answer says."""
    numbers = [
        value for name, value in row.items() if name.endswith(("documents", "tokens", "predicted")) and value
    ]
    return float(max((n for n in numbers if isinstance(n, int | float)), default=0))


def _put_classes(
    channels: dict[str, Any],
    order: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    column: str | None,
    by: str | None,
) -> None:
    """Give the channels that draw classes the model's order, and each class the same colour in every chart."""
    for channel, drawn in channels.items():
        if not isinstance(drawn, dict) or drawn.get("field") not in _CLASSES:
            continue
        if channel in _POSITIONS and "sort" not in drawn:
            drawn["sort"] = list(order)
        if channel == "color" and "scale" not in drawn:
            drawn["scale"] = {"domain": list(order)}
            there = {row.get(drawn["field"]) for row in rows}
            if drawn.get("legend", ...) is not None and there != {None}:
                drawn["legend"] = {
                    **drawn.get("legend", {}),
                    "values": [name for name in order if name in there],
                }
        if channel == "facet" and by is not None and drawn["field"] == column:
            said = "predicted" if by == "prediction" else "labelled"
            drawn["header"] = {"title": f"documents {said}", **drawn.get("header", {})}


def _take_even_share(filled: dict[str, Any], name: str) -> None:
    """Do not call a score a lift if it is not a share of a whole, and leave out the line at 1, the even share."""
    for unit in _objects(filled):
        if isinstance(title := unit.get("title"), str) and _EVEN_SHARE in title:
            unit["title"] = title.replace(_EVEN_SHARE, "").replace("lift", name, 1)
        if isinstance(unit.get("layer"), list):
            unit["layer"] = [each for each in unit["layer"] if not _is_line_at_1(each)]


def _is_line_at_1(unit: Any) -> bool:
    channels = unit.get("encoding", {}) if isinstance(unit, dict) else {}
    return any(isinstance(drawn, dict) and drawn.get("datum") == 1 for drawn in channels.values())


def _put_tooltips(spec: dict[str, Any], table: pa.Table) -> None:
    """Make marks with `"tooltip": true` show every column of the row under the pointer."""
    with_p = p_values.p_columns(table)
    shown = ", ".join(
        f"{json.dumps(one_line(column.name))}: {_shown_value(column, column.name in with_p)}"
        for column in table.schema
    )
    for unit in _objects(spec):
        mark = unit.get("mark")
        if (
            isinstance(mark, dict)
            and mark.get("tooltip") is True
            and "tooltip" not in unit.get("encoding", {})
        ):
            mark["tooltip"] = {"expr": f"{{{shown}}}"}


def _shown_value(column: pa.Field, is_p: bool) -> str:
    """A column's value under the pointer, in Vega's language, which would write a missing number as 0."""
    value = f"datum[{json.dumps(column.name)}]"
    if pa.types.is_floating(column.type):
        shown = f"format({value}, '.4~g')"
        shown = p_values.expression(value, shown) if is_p else shown
    elif pa.types.is_integer(column.type):
        shown = f"format({value}, ',')"
    else:
        shown = f"isArray({value}) ? join({value}, ', ') : {value}"
    return f"isValid({value}) ? {shown} : '–'"


def _narrow(unit: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Make the bands of a view narrower if there are very many."""
    for side, channel in (("width", "x"), ("height", "y")):
        size = unit.get(side)
        if not isinstance(size, dict) or not isinstance(size.get("step"), int | float):
            continue
        fields = _fields(unit, channel)
        bands = _bands(fields, rows)
        if bands * size["step"] > _LONGEST and fields & set(_CLASSES):
            unit[side] = {"step": max(_NARROWEST, _LONGEST / bands)}


def _fit_headers(unit: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Wrap the names above views side by side at the views' width, so that they do not overlap."""
    facet, inner = unit.get("facet"), unit.get("spec")
    if not isinstance(facet, dict) or "field" not in facet or not isinstance(inner, dict):
        return
    width = inner.get("width")
    if isinstance(width, dict) and isinstance(width.get("step"), int | float):
        width = width["step"] * _bands(_fields(inner, "x"), rows)
    header = facet.get("header", {})
    if isinstance(width, int | float) and isinstance(header, dict):
        limit = max(_LEAST_HEADER, round(width))
        fit = limit // _CHARACTER
        of_name: dict[str, Any] = {"labelLimit": limit}
        if any(len(str(row.get(facet["field"]))) > fit for row in rows):
            lines = ", ".join(f"slice(datum.label, {fit * n}, {fit * (n + 1)})" for n in range(3))
            of_name["labelExpr"] = f"length(datum.label) > {fit} ? [{lines}] : datum.label"
        facet["header"] = {**of_name, **header}


def _fields(unit: dict[str, Any], channel: str) -> set[str]:
    """The fields that a channel of a view draws."""
    return {
        drawn["field"]
        for channels in _encodings(unit)
        if isinstance(drawn := channels.get(channel), dict) and "field" in drawn
    }


def _bands(fields: set[str], rows: Sequence[Mapping[str, Any]]) -> int:
    """How many bands these fields need."""
    return max((len({str(row.get(field)) for row in rows}) for field in fields), default=0)
