"""What a shell completes: questions, their parameters, reductions, layers, classes and documents' ids.

Click calls these while a command line is typed: they return nothing if it does not name a store yet.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from attnstore.messages import one_line

if TYPE_CHECKING:
    from attnstore.ask.questions import Question
    from attnstore.ask.values import Parameter
    from attnstore.store.store import Store

Completed = list[CompletionItem]
Complete = Callable[[click.Context, click.Parameter, str], Completed]

#: How many ids are offered; nobody reads more.
_IDS = 50


def _quietly(complete: Complete) -> Complete:
    """Return nothing on any error, because it would be printed into the line that is being typed."""

    def completed(context: click.Context, parameter: click.Parameter, incomplete: str) -> Completed:
        try:
            return complete(context, parameter, incomplete)
        except Exception:  # running the command will report the error
            return []

    return completed


def _items(values: Iterable[object], incomplete: str) -> Completed:
    return [CompletionItem(str(value)) for value in values if str(value).startswith(incomplete)]


def _store(context: click.Context) -> "Store":
    from attnstore.store.store import open_store

    return open_store(_argument(context, "store", 0))


def _argument(context: click.Context, name: str, place: int) -> Any:
    """An argument's value. If the option before the cursor has no value yet, click leaves arguments unparsed."""
    value = context.params.get(name)
    return context.args[place] if value is None else value


@_quietly
def questions(context: click.Context, _parameter: click.Parameter, incomplete: str) -> Completed:
    """The questions' names, with the questions as help."""
    from attnstore.ask.questions import find_questions

    return [
        CompletionItem(name, help=one_line(question.summary))
        for name, question in find_questions(*context.params.get("folders") or ()).items()
        if name.startswith(incomplete)
    ]


@_quietly
def parameters(context: click.Context, _parameter: click.Parameter, incomplete: str) -> Completed:
    """`NAME=` with its default for each parameter of the question that is not given yet; then the values it takes."""
    from attnstore.ask.questions import find_questions, get_question

    known = find_questions(*context.params.get("folders") or ())
    question = get_question(_argument(context, "name", 1), known)
    name, equals, value = incomplete.partition("=")
    if equals:
        parameter = question.parameter(name)
        values = [] if parameter is None else _values(parameter, context, value)
        return _items((f"{name}={found}" for found in values), incomplete)
    return _names(question, context.params.get("given") or (), incomplete)


def _names(question: "Question", given: Iterable[str], incomplete: str) -> Completed:
    from attnstore.ask.values import as_text

    there = {item.partition("=")[0] for item in given}
    return [
        CompletionItem(f"{p.name}={'' if p.required else as_text(p.default)}", help=one_line(p.meaning))
        for p in question.parameters
        if p.name not in there and p.name.startswith(incomplete)
    ]


def _values(parameter: "Parameter", context: click.Context, incomplete: str) -> Iterable[object]:
    if parameter.choices:
        return parameter.choices
    if parameter.type == "boolean":
        return ("true", "false")
    if parameter.type == "document":
        return _ids(_store(context), incomplete)
    manifest = _store(context).manifest
    return {
        "model_class": manifest.labels,
        "reduction": [reduction.name for reduction in manifest.reductions if not reduction.signed],
        "signed_reduction": [reduction.name for reduction in manifest.reductions],
        "reductions": [reduction.name for reduction in manifest.reductions if not reduction.signed],
        "heads": [reduction.name for reduction in manifest.reductions if reduction.per_head],
        "layer": ("first", "last", "mean", *range(1, manifest.layers + 1)),
        "head": ("mean", *range(1, manifest.heads + 1)),
    }.get(parameter.type, ())


@_quietly
def reductions(context: click.Context, _parameter: click.Parameter, incomplete: str) -> Completed:
    """The names of the store's reductions."""
    return _items((reduction.name for reduction in _store(context).manifest.reductions), incomplete)


@_quietly
def layers(context: click.Context, _parameter: click.Parameter, incomplete: str) -> Completed:
    """The words for layers, and their numbers."""
    numbers = range(1, _store(context).manifest.layers + 1)
    return _items(("first", "last", "mean", "best", *numbers), incomplete)


@_quietly
def heads(context: click.Context, _parameter: click.Parameter, incomplete: str) -> Completed:
    """The numbers of a layer's heads, and their mean."""
    return _items(("mean", *range(1, _store(context).manifest.heads + 1)), incomplete)


@_quietly
def classes(context: click.Context, _parameter: click.Parameter, incomplete: str) -> Completed:
    """The model's classes."""
    return _items(_store(context).manifest.labels, incomplete)


@_quietly
def documents(context: click.Context, _parameter: click.Parameter, incomplete: str) -> Completed:
    """The ids of documents with this beginning, the first fifty."""
    return _items(_ids(_store(context), incomplete), incomplete)


def _ids(store: "Store", incomplete: str) -> list[Any]:
    from attnstore.ask.sql import connect, select

    sql = f"SELECT id FROM documents WHERE starts_with(id, $so_far) ORDER BY document LIMIT {_IDS}"  # noqa: S608
    with connect(store) as connection:
        return list(select(store, connection, sql, {"so_far": incomplete}).column(0).to_pylist())
