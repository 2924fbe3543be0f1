"""What each page of the explorer shows, as plain values for its template. All queries go through `Work`."""

import shlex
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from attnstore.ask.answer import BASIS_KEY
from attnstore.ask.filters import ORDERS, described, from_texts, neighbours
from attnstore.ask.glossary import card, find_words
from attnstore.ask.pool import Work
from attnstore.ask.questions import WHERE, Question, find_questions, get_question
from attnstore.ask.script import script
from attnstore.ask.sql import select
from attnstore.ask.statement import reading_statement
from attnstore.ask.values import Parameter, as_text
from attnstore.errors import NotFoundError, UsageError
from attnstore.messages import counted
from attnstore.show.captions import signed
from attnstore.show.explorer.cells import address, grid, shown
from attnstore.show.page import drawing
from attnstore.show.shaded import Look, shaded
from attnstore.store.faithfulness import faithfulness_files

_PAGE = 50  # documents per list
_WORDS = 100  # words per list

Parameters = Mapping[str, str]


def overview(work: Work) -> dict[str, Any]:
    """What was run, how accurate the model is, and where to go from there."""
    store, manifest = work.pool.store, work.pool.store.manifest
    known = find_questions()
    rows = work.ask(known["predictions"], {}).to_pylist()
    whole = next((row for row in rows if row["split"] is None and row["class"] is None), None)
    now = state(work)
    facts = [
        ("documents", f"{now['finished']:,}"),
        ("model", f"{manifest.model} ({manifest.layers} layers, {manifest.heads} heads)"),
        ("data", manifest.all_data),
        ("classes", ", ".join(manifest.labels)),
        ("reductions", ", ".join(reduction.name for reduction in manifest.reductions) or "none"),
        (
            "state",
            f"sealed {manifest.sealed}"
            if manifest.sealed
            else f"{len(store.finished_parts())} of {manifest.parts} parts so far",
        ),
    ]
    confusion = work.ask(known["confusion"], {}).to_pylist() if _has_labels(work) else []
    return {
        "facts": facts,
        "notes": [*manifest.notes, *(note for addition in manifest.additions for note in addition.notes)],
        "predictions": whole,
        "confusion": _matrix(confusion),
        "labels_are_models": manifest.labels_are_models,
        **now,
        "classes": list(manifest.labels),
        "signed": manifest.evidence is not None,
        "measured": bool(faithfulness_files(store)),
    }


def state(work: Work) -> dict[str, Any]:
    """How far a run has come."""
    store = work.pool.store
    return {
        "finished": sum(len(store.part_range(part)) for part in store.finished_parts()),
        "planned": store.manifest.documents,
        "growing": store.manifest.sealed is None,
    }


def _has_labels(work: Work) -> bool:
    return bool(work.select("SELECT 1 FROM documents WHERE label IS NOT NULL LIMIT 1").num_rows)


def _matrix(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts by label and prediction over all splits, each with the filter for its documents."""
    counts: dict[tuple[str | None, str], int] = {}
    for row in rows:
        key = (row["label"], row["prediction"])
        counts[key] = counts.get(key, 0) + row["documents"]
    labels = sorted({label for label, _ in counts}, key=lambda label: (label is None, label))
    predictions = sorted({prediction for _, prediction in counts})
    lines = []
    for label in labels:
        total = sum(counts.get((label, prediction), 0) for prediction in predictions)
        cells = []
        for prediction in predictions:
            count = counts.get((label, prediction), 0)
            where = {"label": label} if label is not None else {"unlabelled": "true"}
            cells.append(
                {
                    "count": count,
                    "share": count / total if total else 0.0,
                    "href": address("documents", prediction=prediction, **where),
                }
            )
        lines.append({"label": "no label" if label is None else label, "cells": cells})
    return {"predictions": predictions, "lines": lines}


def documents(work: Work, given: Parameters) -> dict[str, Any]:
    """A page of the documents that match a filter."""
    store = work.pool.store
    wanted = from_texts(given)
    number = max(1, _whole(given.get("page", ""), 1))
    found = work.select(*wanted.statement())
    shown = found.column("document").slice((number - 1) * _PAGE, _PAGE).to_pylist()
    with work.connect(store) as connection:
        rows = described(store, connection, shown)
    splits = work.select("SELECT DISTINCT split FROM documents ORDER BY split").column(0)
    labels = work.select(
        "SELECT DISTINCT label FROM documents WHERE label IS NOT NULL ORDER BY label"
    ).column(0)
    own = wanted.given()
    pages = max(1, -(-found.num_rows // _PAGE))
    return {
        "filter": own,
        "hits": counted(found.num_rows, "document"),
        "rows": [
            {
                **row,
                "href": address(f"documents/{row['document']}", **own),
                "right": row["prediction"] == row["label"],
            }
            for row in rows
        ],
        "page": number,
        "pages": pages,
        "before": address("documents", **own, page=number - 1) if number > 1 else None,
        "after": address("documents", **own, page=number + 1) if number < pages else None,
        "classes": list(store.manifest.labels),
        "labels": labels.to_pylist(),
        "splits": splits.to_pylist(),
        "orders": list(ORDERS),
        "labels_are_models": store.manifest.labels_are_models,
    }


def document(work: Work, number: int, given: Parameters) -> dict[str, Any]:
    """A document with its heat-map, a second one if requested, and its neighbours in the list."""
    manifest = work.pool.store.manifest
    if not manifest.reductions:
        raise UsageError("the store holds no reduction: there is nothing to shade by")
    look = _look(work, given, "")
    wanted = from_texts(given)
    own = wanted.given()
    second = _look(work, given, "2") if given.get("reduction2") else None
    beside = neighbours(work.select(*wanted.statement()), number)
    alone = given.get("alone") == "true"
    looks = {**_as_given(look), **_second(second), "alone": "true" if alone else ""}

    def of(neighbour: int | None) -> str | None:
        return None if neighbour is None else address(f"documents/{neighbour}", **own, **looks)

    return {
        "number": number,
        "filter": own,
        "look": look,
        "alone": alone,
        "second": second,
        "drawing": _drawn(work, number, look),
        "drawing2": None if second is None else _drawn(work, number, second),
        "beside": beside,
        "before": of(None if beside is None else beside.before),
        "after": of(None if beside is None else beside.after),
        "list": address("documents", **own),
        "layers": manifest.layers,
        "heads": manifest.heads,
        "heads_stored": any(reduction.per_head for reduction in manifest.reductions),
        "reductions": list(manifest.reductions),
        "part": address(f"documents/{number}/heatmap", **own),
        "similar": address(f"documents/{number}/similar"),
    }


def _look(work: Work, given: Parameters, suffix: str) -> Look:
    """How the picture with that suffix, none or 2, is drawn: the page's parameters that are not filters.

    A layer or a head that only the other reduction has is ignored.
    """
    manifest = work.pool.store.manifest
    name = given.get(f"reduction{suffix}") or manifest.reductions[0].name
    stored = manifest.reduction(name)
    if stored is None:
        raise UsageError(
            f"the store has no reduction {name!r}: it holds {', '.join(r.name for r in manifest.reductions)}"
        )
    layer = (given.get(f"layer{suffix}") or "last") if stored.per_layer else "last"
    layer = {"first": "1", "last": str(manifest.layers)}.get(layer, layer) if stored.per_layer else layer
    head = (given.get(f"head{suffix}") or "mean") if stored.per_head and layer != "mean" else "mean"
    words = given.get(f"words{suffix}") or given.get("words") or "sum"
    if words not in ("sum", "mean", "pieces"):
        raise UsageError(f"words is sum, mean or pieces, not {words!r}")
    return Look(
        reduction=name,
        layer=layer,
        head="mean" if head == "0" else head,  # the slider's start
        words=None if words == "pieces" else "mean" if words == "mean" else "sum",
        relative=given.get("relative") == "true",
        ignore_special=(alone := given.get("alone") == "true" and not stored.signed),
        renormalise=alone,
    )


def _as_given(look: Look) -> dict[str, str]:
    """The page's parameters for this look."""
    return {
        "reduction": str(look.reduction),
        "layer": str(look.layer),
        "head": str(look.head),
        "words": look.words or "pieces",
        "relative": "true" if look.relative else "",
    }


def _second(look: Look | None) -> dict[str, str]:
    """Those of the second picture: what it does not share."""
    given = {} if look is None else _as_given(look)
    return {f"{name}2": given[name] for name in ("reduction", "layer", "head") if name in given}


def _drawn(work: Work, number: int, look: Look) -> dict[str, Any]:
    """What the template of a document's heat-map needs."""
    stored = work.pool.store.manifest.reduction(str(look.reduction))
    if stored is not None and look.layer != "mean" and look.head == "mean" and not look.renormalise:
        work.pool.scales.look_ahead(stored, work.connect)
    return drawing(shaded(work.pool.store, number, look, work.pool.scales, work.connect))


def heat_map_alone(work: Work, number: int, given: Parameters) -> dict[str, Any]:
    """The heat-map alone, for the slider over layers."""
    return {"drawing": _drawn(work, number, _look(work, given, given.get("which", "")))}


def similar(work: Work, number: int) -> dict[str, Any]:
    """The documents whose attended words are most similar to a document's."""
    question = find_questions()["similar_documents"]
    table = work.ask(question, {"document": f"@{number}"})
    return {"grid": grid(table, address), "basis": basis(table)}


def words(work: Work, given: Parameters) -> dict[str, Any]:
    """Words, searched by what they contain."""
    part = given.get("q", "")
    store = work.pool.store
    with work.connect(store) as connection:
        found = find_words(store, connection, part, _WORDS)
    return {
        "q": part,
        "rows": [{**row, "href": address("word", word=row["word"])} for row in found],
        "most": _WORDS,
    }


def word(work: Work, given: Parameters) -> dict[str, Any]:
    """A word's card: its occurrences by class, and its attention by layer."""
    wanted = given.get("word", "")
    store = work.pool.store
    with work.connect(store) as connection:
        found = card(store, connection, wanted)
    if found is None:
        raise NotFoundError(f"no document has the word {wanted!r}, spelt so")
    layers = [
        {
            "name": name if layer is None else f"{name}, layer {layer}",
            "cells": [{"lift": lift, "text": shown(lift), "shade": _shade(lift)} for lift in lifts],
        }
        for name, layer, lifts in found.lifts
    ]
    strongest = max((abs(value) for _, _, values in found.scores for value in values if value), default=1.0)
    scores = [
        {
            "name": name if layer is None else f"{name}, layer {layer}",
            "cells": [
                {
                    "text": "–" if value is None else signed(value),
                    "shade": _signed_shade(value / strongest) if value else "",
                }
                for value in values
            ],
        }
        for name, layer, values in found.scores
    ]
    return {
        "word": wanted,
        "classes": [
            {**row, "href": address("documents", word=wanted, prediction=row["class"])}
            for row in found.classes
        ],
        "lifts": layers,
        "scores": scores,
        "all": address("documents", word=wanted),
        "contexts": address("word/contexts", word=wanted),
    }


def _shade(lift: float | None) -> int:
    """How dark a lift's cell is, in 20 steps: 0 up to an even share, full at ten times that."""
    return 0 if lift is None or lift <= 1 else min(20, int(20 * (lift - 1) / 9))


def _signed_shade(part: float) -> str:
    """The shade of a value from -1 to 1, for support of the prediction or for opposition to it."""
    return f"{'s' if part > 0 else 'a'}{max(1, min(20, round(20 * abs(part))))}"


def contexts(work: Work, given: Parameters) -> dict[str, Any]:
    """Where a word gets its attention: its most attended occurrences, or its least."""
    question = find_questions()["contexts"]
    asked = {
        "word": given.get("word", ""),
        "limit": str(max(1, min(200, _whole(given.get("limit", ""), 10)))),
    }
    for name in ("order", "reduction", "layer", "by"):
        if given.get(name):
            asked[name] = given[name]
    table = work.ask(question, asked)
    more = min(200, int(asked["limit"]) * 2)
    return {
        "rows": [
            {**row, "href": address(f"documents/{row['document']}", word=asked["word"])}
            for row in table.to_pylist()
        ],
        "basis": basis(table),
        "order": asked.get("order", "most"),
        "more": address("word/contexts", **{**asked, "limit": more}) if more > int(asked["limit"]) else None,
    }


def questions() -> dict[str, Any]:
    """Every question, one line each."""
    return {
        "rows": [
            {
                "name": question.name,
                "summary": question.summary,
                "href": address(f"questions/{question.name}"),
            }
            for question in find_questions().values()
        ]
    }


def question(work: Work, name: str, given: Parameters) -> dict[str, Any]:
    """A question as a form with its parameters; answered unless a required one is missing."""
    store = work.pool.store
    known = get_question(name, find_questions())
    asked = asked_of(known, given)
    missing = [p.name for p in known.parameters if p.required and p.name not in asked]
    table, problem = (None, None) if missing else _tried(work, lambda: work.ask(known, asked))
    flags = "".join(f" -p {shlex.quote(f'{key}={value}')}" for key, value in asked.items())
    return {
        "question": known.name,
        "summary": known.summary,
        "documentation": known.documentation,
        "fields": [_field(work, p, asked.get(p.name)) for p in (*known.parameters, _WHERE)],
        "missing": missing,
        "problem": problem,
        "grid": None if table is None else grid(table, address),
        "words": [] if table is None else _words_by_class(table),
        "is_part": given.get("part") == "answer",
        "basis": None if table is None else basis(table),
        "command": f"attnstore query {shlex.quote(str(store.path))} {known.name}{flags}",
        "sql": None if table is None else script(store, known, asked),
        "twin": known.path.with_suffix(".py").read_text(encoding="utf-8") if known.polars else None,
        "files": [
            (form, address(f"questions/{known.name}.{form}", **asked)) for form in ("csv", "parquet", "json")
        ],
        "chart": address(f"questions/{known.name}.svg", **asked)
        if known.path.with_suffix(".vl.json").is_file()
        else None,
        "png": address(f"questions/{known.name}.png", **asked),
    }


def _words_by_class(table: pa.Table) -> list[tuple[str, list[tuple[str, str]]]]:
    """The words of an answer in order, each with its page: one list per class, or per side of a class."""
    heads = [name for name in ("side", "class") if name in table.column_names]
    if "class" not in heads or "word" not in table.column_names:
        return []
    words: dict[str, list[tuple[str, str]]] = {}
    for row in table.select([*heads, "word"]).to_pylist():
        name = " ".join(str(row[head]) for head in heads)
        words.setdefault(name, []).append((row["word"], address("word", word=row["word"])))
    return list(words.items())


_WHERE = Parameter(
    WHERE, "text", None, "a condition over documents in SQL, such as length > 100 AND label = 'pos'"
)


def asked_of(question: Question, given: Parameters) -> dict[str, str]:
    """The question's own parameters from a URL; blank ones have their defaults."""
    names = [*(p.name for p in question.parameters), WHERE]
    return {name: given[name] for name in names if given.get(name, "").strip()}


def basis(table: pa.Table) -> str:
    return str((table.schema.metadata or {}).get(BASIS_KEY, b"").decode())


def _field(work: Work, parameter: Parameter, value: str | None) -> dict[str, Any]:
    manifest = work.pool.store.manifest
    choices: list[str] = list(parameter.choices)
    if parameter.type == "model_class":
        choices = list(manifest.labels)
    elif parameter.type == "reduction":
        choices = [r.name for r in manifest.reductions if not r.signed]
    elif parameter.type == "signed_reduction":
        choices = [r.name for r in manifest.reductions]
    elif parameter.type == "heads":
        choices = [r.name for r in manifest.reductions if r.per_head]
    elif parameter.type == "boolean":
        choices = ["true", "false"]
    usual = "" if parameter.required else as_text(parameter.default)
    return {
        "name": parameter.name,
        "meaning": parameter.meaning,
        "choices": choices,
        "value": value or "",
        "usual": usual,
        "required": parameter.required,
        "number": parameter.type in ("integer", "count"),
    }


def console(work: Work, given: Parameters) -> dict[str, Any]:
    """SQL over the views, with their columns beside it."""
    store = work.pool.store
    sql = given.get("sql", "").strip()
    table, problem = _tried(work, lambda: _rows_of(work, sql)) if sql else (None, None)
    schemas = [
        (view, [(field.name, _kind(field.type)) for field in schema])
        for view, schema in (
            ("documents", store.documents_schema),
            ("tokens", store.tokens_schema),
            ("totals", store.totals_schema),
        )
    ]
    return {
        "sql": sql,
        "problem": problem,
        "grid": None if table is None else grid(table, address, MOST_ROWS),
        "rows": None if table is None else counted(min(table.num_rows, MOST_ROWS), "row"),
        "most": MOST_ROWS,
        "cut": table is not None and table.num_rows > MOST_ROWS,
        "schemas": schemas,
        "csv": address("sql.csv", sql=sql) if sql else None,
    }


def _rows_of(work: Work, sql: str) -> pa.Table:
    reading_statement(sql)
    with work.connect(work.pool.store) as connection:
        return select(work.pool.store, connection, _most(sql))


def _tried(work: Work, make: Callable[[], pa.Table]) -> tuple[pa.Table | None, str | None]:
    """An answer, or what is wrong with the request: the page shows it beside what can be changed."""
    try:
        return make(), None
    except UsageError as error:
        if work.ended:
            raise
        return None, str(error)


#: How many rows the console shows; one more is requested, to see whether there are others.
MOST_ROWS = 1000


def _most(sql: str) -> str:
    """A SELECT as it is or, if it can be a subquery, limited to the rows shown."""
    bare = sql.rstrip().rstrip(";")
    wrapped = f"SELECT * FROM (\n{bare}\n) LIMIT {MOST_ROWS + 1}"  # noqa: S608 - it reads, as `reading_statement` knows
    try:
        reading_statement(wrapped)
    except UsageError:
        return sql  # EXPLAIN, DESCRIBE and similar statements return few rows
    return wrapped


def _kind(kind: pa.DataType) -> str:
    return str(kind.value_type if pa.types.is_dictionary(kind) else kind)


def _whole(text: str, otherwise: int) -> int:
    try:
        return int(text)
    except ValueError:
        return otherwise
