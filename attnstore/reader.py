"""A store opened from Python: its tables, its questions, its documents drawn."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Self, SupportsIndex

import polars as pl
import pyarrow as pa

from attnstore.ask.answer import ask
from attnstore.ask.paired import ask_paired
from attnstore.ask.questions import Engine, Question, describe, find_questions, get_question
from attnstore.ask.scale import Scales
from attnstore.ask.several import ask_each, open_stores, sql_over, table_of_all
from attnstore.ask.sql import run_sql
from attnstore.errors import UsageError
from attnstore.messages import counted, suggestion
from attnstore.show.card import card, card_html
from attnstore.show.heatmap import Heatmap
from attnstore.show.plot import Plot, plot
from attnstore.show.preview import Preview
from attnstore.show.result import Result
from attnstore.show.shaded import Look, shaded
from attnstore.store import frames
from attnstore.store.manifest import Manifest
from attnstore.store.place import Place
from attnstore.store.store import Store, open_store


class Query:
    """Asks a question by name: `store.query("predictions")`, or `store.query.predictions()`, which completes.

    Each question is a method with its parameters as arguments and its documentation as help. Required parameters may be
    positional, the others are keywords. `engine` is `duckdb` or `polars`, which give the same answer.
    """

    def __init__(self, reader: "Reader") -> None:
        self._reader = reader
        for question in find_questions().values():
            setattr(self, question.name, self._method(question))

    if TYPE_CHECKING:

        def __getattr__(self, question: str) -> Callable[..., Result]: ...

    def __call__(self, name: str, *, engine: Engine = "duckdb", **parameters: Any) -> Result:
        """The answer to the question with that name.

        Raises:
            UsageError: there is no such question, or it has no such parameter.
            StoreError: the store can't be read.
        """
        question = get_question(name, find_questions())
        return Result(ask(self._reader.store, question, parameters, engine))

    def _method(self, question: Question) -> Callable[..., Result]:
        required = [p.name for p in question.parameters if p.required]

        def method(*values: Any, engine: Engine = "duckdb", **parameters: Any) -> Result:
            if len(values) > len(required):
                name = question.parameters[-1].name if question.parameters else "engine"
                raise UsageError(
                    f"{question.name} takes {counted(len(required), 'value')} by position: name the others,"
                    f" as in {name}=…"
                )
            by_place = dict(zip(required, values, strict=False))
            if twice := [name for name in by_place if name in parameters]:
                raise UsageError(f"{question.name}: {twice[0]} is given twice")
            return self(question.name, engine=engine, **by_place, **parameters)

        method.__name__ = question.name
        method.__qualname__ = f"Query.{question.name}"
        method.__doc__, method.__signature__ = _shown(question.name)  # type: ignore[attr-defined]  # what inspect and help look for
        return method


@cache
def _shown(name: str) -> tuple[str, inspect.Signature]:
    """A shipped question's help and signature, made once: that takes longer than opening a store."""
    question = find_questions()[name]
    return describe(question).partition("\n\n")[2], _signature(question)


def _signature(question: Question) -> inspect.Signature:
    """A question's parameters as those of a function: required ones positional or by name, the others by name."""
    required: list[inspect.Parameter] = []
    named: list[inspect.Parameter] = []
    for p in question.parameters:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if p.required else inspect.Parameter.KEYWORD_ONLY
        default = inspect.Parameter.empty if p.required else p.default
        annotation = Literal[p.choices] if p.choices else _ANNOTATIONS.get(p.type, str)
        if not p.required and p.default is None:
            annotation = annotation | None
        (required if p.required else named).append(
            inspect.Parameter(p.name, kind, default=default, annotation=annotation)
        )
    engine = inspect.Parameter("engine", inspect.Parameter.KEYWORD_ONLY, default="duckdb", annotation=Engine)
    return inspect.Signature([*required, *named, engine], return_annotation=Result)


#: The Python type of a parameter's values; all other types are texts.
_ANNOTATIONS: Mapping[str, Any] = {
    "integer": int,
    "count": int,
    "number": float,
    "amount": float,
    "boolean": bool,
    "list": Sequence[str],
    "reductions": Sequence[str],
    "layer": int | str,
    "head": int | str,
    "document": int | str,
}


class Reader:
    """An open store, from `attnstore.open`. It reads sealed stores, and the finished parts of unsealed ones.

    Every answer describes the store as it was when opened, whatever a run has finished since; `refresh` updates it.
    """

    def __init__(self, path: str | Place) -> None:
        self.store: Store = open_store(path)
        # Not a property: completion in notebooks looks at attributes without running code.
        self.query = Query(self)
        self._scales = Scales(self.store)

    def __repr__(self) -> str:
        return card(self.store)

    def _repr_html_(self) -> str:
        return card_html(self.store)

    @property
    def manifest(self) -> Manifest:
        return self.store.manifest

    def refresh(self) -> Self:
        """Update to what a run has finished by now. Existing tables stay unchanged.

        Raises:
            StoreError: the store is gone, or its manifest can't be read any more.
        """
        self.store = open_store(self.store.path)
        self._scales = Scales(self.store)
        return self

    def documents(self) -> pl.LazyFrame:
        """One row per document; see `schema.documents_schema`. A notebook shows the first rows."""
        return Preview.of(frames.documents(self.store))

    def tokens(self) -> pl.LazyFrame:
        """One row per token; see `schema.tokens_schema`."""
        return Preview.of(frames.tokens(self.store))

    def totals(self) -> pl.LazyFrame:
        """The tokens summed, one row per term; see `schema.totals_schema`."""
        return Preview.of(frames.totals(self.store))

    def faithfulness(self) -> pl.LazyFrame:
        """What `attnstore faithfulness` measured; see `store.faithfulness.SCHEMA`. Raises UsageError if nothing."""
        return Preview.of(frames.faithfulness(self.store))

    def sql(self, sql: str) -> Result:
        """The answer to one read-only SQL statement over views with the names of the methods that return frames.

        Raises:
            UsageError: it is not one read-only statement, or DuckDB refuses it.
            StoreError: the store can't be read.
        """
        return Result(run_sql(self.store, sql))

    def queries(self) -> Result:
        """The available questions, one row each: name and summary."""
        asked = find_questions().values()
        names, summaries = [question.name for question in asked], [question.summary for question in asked]
        return Result(pa.table({"name": names, "question": summaries}))

    def plot(self, name: str, *, classes: Sequence[str] = (), **parameters: Any) -> Plot:
        """A question's chart: a picture in a notebook, and `.save("words.svg")` elsewhere.

        `classes` selects the classes to draw, if the chart separates classes; by default those with the most documents,
        as many as fit.

        Raises:
            UsageError: there is no such question, parameter or class, or the question has no chart.
            StoreError: the store can't be read.
        """
        return plot(self.store, get_question(name, find_questions()), parameters, classes)

    def show(
        self,
        document: str | SupportsIndex,
        *,
        reduction: str | None = None,
        layer: int | str = "last",
        head: int | str = "mean",
        relative: bool = False,
        words: Literal["sum", "mean"] | None = "sum",
        ignore: str | Sequence[str] = (),
        ignore_special: bool = False,
        renormalise: bool = False,
    ) -> Heatmap:
        """A document with its tokens shaded by attention: text in a terminal, a picture in a notebook.

        `document` is its id or its number (`3`, or `"@3"` as text, because a text is first tried as an id). `words`
        merges wordpieces into words by their sum or mean; None leaves the pieces. `head` is one of the layer's heads,
        from 1, if the reduction has a value for each; by default their mean. `ignore` blanks tokens or words,
        `ignore_special` the special ones, and `renormalise` rescales what remains, even if that is everything, to a
        sum of 1. Shades are full at the 99th percentile of the reduction over the store (`ask.scale`), so documents of
        one reduction and layer are comparable; if `relative`, at this document's own maximum.

        Raises:
            UsageError: there is no such document, reduction, layer or head, or the id belongs to several documents.
            StoreError: the store holds no reduction, or can't be read.
        """
        look = Look(
            reduction=reduction,
            layer=layer,
            head=head,
            relative=relative,
            words=words,
            ignore=(ignore,) if isinstance(ignore, str) and ignore else tuple(ignore),
            ignore_special=ignore_special,
            renormalise=renormalise,
        )
        return shaded(self.store, document, look, self._scales)


class Readers:
    """Several stores opened as one, from `attnstore.open` with a list.

    Frames and SQL have a column `store` before those that all stores share. Each store answers a question separately,
    because its numbers belong to one model. `readers[name]` is one of the stores.
    """

    def __init__(self, paths: Sequence[str | Place]) -> None:
        """Raises UsageError for no path, or the same path twice, and StoreError for a store that can't be read."""
        self.stores: dict[str, Store] = open_stores(paths)

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {store!r}" for name, store in self.stores.items())

    def __len__(self) -> int:
        return len(self.stores)

    def __iter__(self) -> Iterator[str]:
        return iter(self.stores)

    def __getitem__(self, name: str) -> Reader:
        if name not in self.stores:
            raise UsageError(f"there is no store {name!r}{suggestion(name, self.stores)}")
        return Reader(self.stores[name].path)

    def documents(self) -> pl.LazyFrame:
        """The documents of all stores."""
        return Preview.of(table_of_all(self.stores, "documents"))

    def tokens(self) -> pl.LazyFrame:
        """The tokens of all stores."""
        return Preview.of(table_of_all(self.stores, "tokens"))

    def totals(self) -> pl.LazyFrame:
        """The tokens of each store, summed."""
        return Preview.of(table_of_all(self.stores, "totals"))

    def query(self, name: str, *, engine: Engine = "duckdb", **parameters: Any) -> Result:
        """Each store's answer to the question with that name, with a column `store`.

        Raises:
            UsageError: there is no such question, or a store has no answer to it.
            StoreError: a store can't be read.
        """
        return Result(ask_each(self.stores, get_question(name, find_questions()), parameters, engine))

    def paired(self, name: str, *, engine: Engine = "duckdb", **parameters: Any) -> Result:
        """The answers of two stores, A and B in the given order, side by side: see `ask.paired.ask_paired`.

        Raises:
            UsageError: these are not two stores, the question can't be paired, or a store has no answer to it.
            StoreError: a store can't be read.
        """
        if len(self.stores) != 2:
            raise UsageError(f"a pair needs two stores, not {len(self.stores)}")
        a, b = self.stores.values()
        return Result(ask_paired(a, b, get_question(name, find_questions()), parameters, engine))

    def sql(self, sql: str) -> Result:
        """The answer to one read-only SQL statement over the views `documents`, `tokens` and `totals` of all stores.

        Raises:
            UsageError: it is not one read-only statement, DuckDB refuses it, or a column is not in all stores.
            StoreError: a store can't be read.
        """
        return Result(sql_over(self.stores, sql))
