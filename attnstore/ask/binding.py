"""A question's parameters bound to a store: checked values, and the columns that they need."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl
import pyarrow as pa

from attnstore.ask.faithful import best_layer
from attnstore.ask.questions import FACTS, ONCE, WHERE, Question
from attnstore.ask.statement import reading_condition
from attnstore.ask.values import LAYER_WORDS, converted
from attnstore.errors import UsageError
from attnstore.messages import suggestion
from attnstore.store.frames import QuestionColumns, collect, documents, faithfulness
from attnstore.store.manifest import Manifest, StoredReduction
from attnstore.store.store import Store


def bound(
    store: Store, question: Question, given: Mapping[str, object]
) -> tuple[dict[str, Any], QuestionColumns]:
    """A question's parameters and the store's facts by name, checked, and the columns that they need.

    A document stays as given: its number is looked up later, when the store is read anyway.
    """
    names = [p.name for p in question.parameters]
    where = _where(given.get(WHERE))
    for name in given.keys() - {WHERE}:
        if name not in names:
            raise UsageError(f"{question.name} has no parameter {name!r}{suggestion(name, names)}")
    values: dict[str, Any] = {}
    for parameter in question.parameters:
        if parameter.name in given:
            values[parameter.name] = converted(parameter, given[parameter.name])
        elif parameter.required:
            raise UsageError(f"{question.name} needs the parameter {parameter.name}: {parameter.meaning}")
        else:
            values[parameter.name] = parameter.default
        if parameter.type == "model_class" and values[parameter.name] not in (None, *store.manifest.labels):
            raise UsageError(
                f"{parameter.name}={values[parameter.name]} does not fit: the model's classes are "
                f"{', '.join(store.manifest.labels)}"
            )
        if parameter.type == "score":
            _must_be_measured(store, parameter.name, values[parameter.name])

    of_type = {parameter.type: parameter.name for parameter in question.parameters if parameter.type in ONCE}
    class_column = values[of_type["class"]] if "class" in of_type else None
    if class_column == "label" and not _has_labels(store):
        raise UsageError(f"no document of this store has a label: ask with {of_type['class']}=prediction")
    _must_have(store, question)
    columns = _attention(store, of_type, values)
    value = _column(store, of_type["column"], values[of_type["column"]]) if "column" in of_type else None
    asked = of_type.get("signed_reduction")
    score = store.manifest.reduction(values[asked]) if asked is not None else None
    facts = {name: getattr(store.manifest, name) for name in FACTS if name != "signed"}
    facts["signed"] = score is not None and score.signed
    cluster = values[of_type["cluster"]] if "cluster" in of_type else None
    if where is not None:
        values[WHERE] = given[WHERE]
    return values | facts, replace(
        columns, class_column=class_column, cluster=cluster, value_column=value, segments=True, where=where
    )


def _must_have(store: Store, question: Question) -> None:
    """Raise UsageError if the question needs labels or groups, and no document has them."""
    if "labels" in question.needs:
        if not _has_labels(store):
            raise UsageError(f"no document of this store has a label, which {question.name} needs")
        if not store.manifest.labels_are_models:
            raise UsageError(
                f"the data's labels are not the model's classes, which {question.name} needs: "
                "`attnstore run --labels` maps them"
            )
    if "groups" in question.needs and not _has(store, "group"):
        raise UsageError(
            f"no document of this store has a group, such as a film, which {question.name} needs"
        )


def _column(store: Store, parameter: str, name: str) -> str:
    """The column of `documents` with that name. Raises UsageError unless it holds texts, numbers or booleans."""
    held = [
        field.name
        for field in store.documents_schema
        if not pa.types.is_nested(field.type) and field.name not in ("document", "text", "text_pair")
    ]
    if name not in held:
        raise UsageError(
            f"{parameter}={name}: documents has no such column{suggestion(name, held)}; to keep one of the data, use "
            f"`attnstore run --keep-column {name}`"
        )
    return name


def _where(condition: object) -> str | None:
    """The SELECT of the documents to ask about; None for all. Raises UsageError for an invalid condition."""
    if condition is None or (isinstance(condition, str) and not condition.strip()):
        return None
    if not isinstance(condition, str):
        raise UsageError(f"where={condition}: it must be a string, a condition over documents")
    return reading_condition(condition)


def _must_be_measured(store: Store, parameter: str, score: str) -> None:
    """Raise UsageError if the table `faithfulness` does not have that score."""
    scores = collect(store, faithfulness(store).select("score").unique())["score"].sort().to_list()
    if score not in scores:
        raise UsageError(
            f"{parameter}={score} does not fit: it has not been measured{suggestion(score, scores)}"
        )


def _attention(store: Store, of_type: Mapping[str, str], values: dict[str, Any]) -> QuestionColumns:
    """The attention columns that a question's parameters need. Their `values` become plain ones."""
    manifest = store.manifest
    means: dict[str, tuple[str, ...]] = {}
    elements: Mapping[str, tuple[str, int]] = {}
    heads = None
    if kind := next((kind for kind in ("reduction", "signed_reduction") if kind in of_type), None):
        reduction = _reduction(
            manifest, of_type[kind], values[of_type[kind]], signed=kind == "signed_reduction"
        )
        heads = manifest.heads if reduction.per_head else None
        columns = reduction.columns(manifest.layers)
        if "layer" in of_type:
            name = of_type["layer"]
            layer = values[name] = _layer(store, reduction, name, values[name], several="mean")
            means["attention"] = (columns[int(str(layer)) - 1],) if _is_number(layer) else tuple(columns)
            if "head" in of_type and (head := values[of_type["head"]]) != "mean":
                elements = {"attention": _of_head(manifest, reduction, layer, of_type["head"], head)}
                means, heads = {}, None
        else:
            means |= {f"attention_{number:02d}": (column,) for number, column in enumerate(columns, start=1)}
    if "heads" in of_type:
        reduction = _of_heads(manifest, values[of_type["heads"]])
        layer = None
        if "layer" in of_type:
            name = of_type["layer"]
            layer = values[name] = _layer(store, reduction, name, values[name], several="all")
        elements = _by_head(manifest, reduction, layer)
    if "reductions" in of_type:
        name = of_type["reductions"]
        values[name], several = _of_several(manifest, name, values[name])
        means |= {f"attention:{column}": (column,) for column in several}
    return QuestionColumns(means, heads, elements)


def _reduction(manifest: Manifest, parameter: str, name: str, *, signed: bool = False) -> StoredReduction:
    """The reduction with that name. A signed one has no even share to divide by, and is refused unless `signed`."""
    reduction = manifest.reduction(name)
    held = ", ".join(r.name for r in manifest.reductions if signed or not r.signed) or "none"
    if reduction is None:
        raise UsageError(f"the store has no reduction {name!r}: {parameter} must be one of {held}")
    if reduction.signed and not signed:
        raise UsageError(
            f"{name} is a signed score, but this question needs attention: {parameter} must be one of {held}"
        )
    return reduction


def _of_heads(manifest: Manifest, name: str) -> StoredReduction:
    reduction = manifest.reduction(name)
    if reduction is None or not reduction.per_head:
        raise UsageError(
            f"the store has no values per head of {name!r}: run again with --reduce cls_heads and any others you want"
        )
    return reduction


def _of_head(
    manifest: Manifest, reduction: StoredReduction, layer: str | None, parameter: str, head: str
) -> tuple[str, int]:
    """A layer's column, and a head's position in its values. Heads of different layers have nothing in common."""
    if not reduction.per_head:
        raise UsageError(f"{reduction.name} has one value for all heads: leave {parameter} out")
    if int(head) > manifest.heads:
        raise UsageError(f"the store has no head {head}: {parameter} is 1 to {manifest.heads}, or mean")
    if not _is_number(layer):
        raise UsageError(f"{parameter}={head} is a head of one layer: choose the layer by its number")
    return reduction.columns(manifest.layers)[int(str(layer)) - 1], int(head) - 1


def _by_head(manifest: Manifest, reduction: StoredReduction, layer: str | None) -> dict[str, tuple[str, int]]:
    """The column for each layer (or the one layer) and head of a reduction, and the position of its value."""
    return {
        f"attention_{number:02d}_{head:02d}": (column, head - 1)
        for number, column in enumerate(reduction.columns(manifest.layers), start=1)
        for head in range(1, manifest.heads + 1)
        if not _is_number(layer) or number == int(str(layer))
    }


def _of_several(manifest: Manifest, parameter: str, names: list[str] | None) -> tuple[list[str], list[str]]:
    """The reductions' names, and the columns of all their layers; None means all with one weight per token."""
    if names is None:
        names = [r.name for r in manifest.reductions if not r.per_head and not r.signed]
    columns: list[str] = []
    for name in names:
        reduction = _reduction(manifest, parameter, name)
        if reduction.per_head:
            raise UsageError(
                f"{name} has a value per head: {parameter} takes reductions of one value per token"
            )
        columns += reduction.columns(manifest.layers)
    return names, list(dict.fromkeys(columns))


def _layer(store: Store, reduction: StoredReduction, parameter: str, layer: str, several: str) -> str | None:
    """The layer as a number, or the word `several`; None for a reduction with one value for all layers."""
    manifest = store.manifest
    if not reduction.per_layer:
        if _is_number(layer):
            raise UsageError(f"{reduction.name} has one value for all layers: leave {parameter} out")
        return None
    if layer == several:
        return layer
    words = f"first, last or {several}" + ("" if reduction.per_head else ", or best")
    if layer in ("mean", "all"):
        raise UsageError(f"{parameter}={layer} does not fit: it is a number, {words}")
    if layer == "best":
        return str(best_layer(store, reduction))
    number = {"first": 1, "last": manifest.layers}.get(layer) or int(layer)
    if not 1 <= number <= manifest.layers:
        raise UsageError(f"the store has no layer {number}: {parameter} is 1 to {manifest.layers}, {words}")
    return str(number)


def _is_number(layer: str | None) -> bool:
    return layer is not None and layer not in LAYER_WORDS


def _has_labels(store: Store) -> bool:
    """Whether some document has a gold label. True while there are no documents yet."""
    if store.manifest.label_in_path:
        found = store.labels_in_paths()
        return not found or any(label is not None for label in found)
    return _has(store, "label")


def _has(store: Store, column: str) -> bool:
    """Whether some document has a value there. True while there are no documents yet."""
    frame = documents(store).select(some=pl.col(column).is_not_null().any(), rows=pl.len())
    some, rows = collect(store, frame).row(0)
    return bool(some or rows == 0)
