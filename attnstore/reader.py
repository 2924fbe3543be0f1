"""A store opened from Python: its tables, its questions, its documents drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, SupportsIndex

import polars as pl
import pyarrow as pa

from attnstore.ask.answer import ask, document_with_tokens
from attnstore.ask.faithful import best_layer
from attnstore.ask.questions import find_questions, get_question
from attnstore.ask.sql import run_sql
from attnstore.errors import StoreError
from attnstore.show.heatmap import Heatmap
from attnstore.show.plot import Plot, plot
from attnstore.show.words import ignore_tokens, merge_words
from attnstore.store import frames
from attnstore.store.manifest import Manifest
from attnstore.store.store import Store, open_store


class Reader:
    """What `attnstore.open` gives. It reads sealed stores, and the finished parts of unsealed ones.

    Every answer is of the store as it was when it was opened, whatever a run finishes meanwhile; `refresh` looks again.
    """

    def __init__(self, path: str | Path) -> None:
        self.store: Store = open_store(path)

    def __repr__(self) -> str:
        return f"attnstore.open({str(self.store.path)!r})"

    @property
    def manifest(self) -> Manifest:
        return self.store.manifest

    def refresh(self) -> Self:
        """Look again: from now on, what a run has finished until now is there. Tables taken before stay as they were.

        Raises:
            StoreError: the store is gone, or its manifest can't be read any more.
        """
        self.store = open_store(self.store.path)
        return self

    def documents(self) -> pl.LazyFrame:
        """One row per document; see `schema.documents_schema`."""
        return frames.documents(self.store)

    def tokens(self) -> pl.LazyFrame:
        """One row per token; see `schema.tokens_schema`."""
        return frames.tokens(self.store)

    def totals(self) -> pl.LazyFrame:
        """The tokens added up, one row per term; see `schema.totals_schema`."""
        return frames.totals(self.store)

    def faithfulness(self) -> pl.LazyFrame:
        """What `attnstore faithfulness` has measured; see `store.faithfulness.SCHEMA`. Raises UsageError if nothing."""
        return frames.faithfulness(self.store)

    def sql(self, sql: str) -> pa.Table:
        """The answer to one read-only SQL statement over the views named like the methods that give frames."""
        return run_sql(self.store, sql)

    def query(
        self, name: str, *, engine: Literal["duckdb", "polars"] = "duckdb", **parameters: Any
    ) -> pa.Table:
        """The answer to a question by name.

        Raises:
            UsageError: there is no such question, or it has no such parameter.
        """
        question = get_question(name, find_questions())
        return ask(self.store, question, parameters, engine)

    def plot(self, name: str, *, classes: Sequence[str] = (), **parameters: Any) -> Plot:
        """A question's chart: a picture in a notebook, and `.save("words.svg")` elsewhere.

        `classes` are those to draw, where the chart sets classes apart; by default those with most documents, as many
        as the chart can hold.

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
        relative: bool = False,
        words: Literal["sum", "mean"] | None = None,
        ignore: str | Sequence[str] = (),
        ignore_special: bool = False,
        renormalise: bool = False,
    ) -> Heatmap:
        """A document with its tokens shaded by attention: text in a terminal, a picture in a notebook.

        `document` is its id or its number (`3`, or `"@3"` in text, where an id would come first). `words` merges
        wordpieces into words by their sum or mean; `ignore` blanks tokens or words, `ignore_special` the special
        ones, and `renormalise` rescales what remains, be it all, to a sum of 1.

        Raises:
            UsageError: there is no such document, reduction or layer, or the id belongs to several documents.
            StoreError: the store holds no reduction, or can't be read.
        """
        if not self.manifest.reductions:
            raise StoreError(f"{self.store.path} holds no reduction: there is nothing to shade by")
        chosen = reduction or self.manifest.reductions[0].name
        stored = self.manifest.reduction(chosen)
        if layer == "best" and stored is not None and stored.per_layer:
            layer = best_layer(self.store, stored)
        row, tokens = document_with_tokens(self.store, document, chosen, layer)
        if words is not None:
            tokens = merge_words(tokens, words)
        if ignore or ignore_special or renormalise:
            tokens = ignore_tokens(
                tokens, [ignore] if isinstance(ignore, str) else ignore, renormalise, ignore_special
            )
        return Heatmap(
            id=row["id"],
            text=row["text"],
            label=row["label"],
            prediction=row["prediction"],
            probability=row["probability"],
            reduction=chosen,
            layer=_layer_in_words(layer, self.manifest.layers)
            if stored is not None and stored.per_layer
            else "",
            truncated=row["truncated"],
            tokens=tokens,
            relative=relative,
            labels_are_models=self.manifest.labels_are_models,
        )


def _layer_in_words(layer: int | str, layers: int) -> str:
    if layer == "mean":
        return "mean of the layers"
    number = {"first": 1, "last": layers}.get(str(layer), layer)
    return f"{number} of {layers}"
