"""The words of a store, searched by what they contain, and the attention each gets by class and layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from attnstore.ask.sql import identifier, select
from attnstore.store.manifest import Manifest
from attnstore.store.schema import lift
from attnstore.store.store import Store


def find_words(
    store: Store, connection: duckdb.DuckDBPyConnection, part: str, limit: int = 100
) -> list[dict[str, Any]]:
    """Words that contain `part`, in any case: those that begin with it first, then the most frequent first.

    Each with its `occurrences` and the number of `documents` it occurs in.
    """
    sql = """
        SELECT word, sum(occurrences) AS occurrences, sum(new_word) AS documents
        FROM totals WHERE piece = 0 AND NOT special AND contains(lower(word), lower($part))
        GROUP BY word
        ORDER BY starts_with(lower(word), lower($part)) DESC, occurrences DESC, word LIMIT $limit
    """
    return list(select(store, connection, sql, {"part": part, "limit": limit}).to_pylist())


@dataclass(frozen=True, slots=True)
class Card:
    """A word by predicted class.

    `classes`: each with `class`, `occurrences`, `documents` (how many it occurs in) and `of` (how many there are).
    `lifts`: for each reduction and layer (None without layers), the mean lift by class, in the order of `classes`: an
    occurrence's attention, summed over its pieces, relative to what these would get if each token of the document got
    the same. `scores`: for each signed score, such as evidence, the mean value of an occurrence.
    """

    word: str
    classes: list[dict[str, Any]]
    lifts: list[tuple[str, int | None, list[float | None]]]
    scores: list[tuple[str, int | None, list[float | None]]]


def card(store: Store, connection: duckdb.DuckDBPyConnection, word: str) -> Card | None:
    """The card of a word; None if no document has it."""
    columns = _columns(store.manifest)
    # Summed over the pieces of a word: each token's lift is weighted by 1 / pieces, so that an even share is 1.
    sums = "".join(
        f", sum({identifier(lift(column))}::DOUBLE / pieces) AS {identifier(column)}"
        for _, _, column in columns
    )
    sql = f"""
        WITH of_word AS (
            SELECT prediction AS class, sum(occurrences) FILTER (piece = 0) AS occurrences,
                sum(new_word) AS documents{sums}
            FROM totals WHERE word = $word AND NOT special GROUP BY prediction
        ),
        all_of AS (SELECT prediction AS class, count(*) AS "of" FROM documents GROUP BY prediction)
        SELECT * FROM all_of LEFT JOIN of_word USING (class) ORDER BY class
    """  # noqa: S608 - names of columns, quoted
    rows = select(store, connection, sql, {"word": word}).to_pylist()
    if not any(row["occurrences"] for row in rows):
        return None
    classes = [
        {
            "class": row["class"],
            "occurrences": row["occurrences"] or 0,
            "documents": row["documents"] or 0,
            "of": row["of"],
        }
        for row in rows
    ]
    lifts = [
        (name, layer, [_mean(row[column], row["occurrences"]) for row in rows])
        for name, layer, column in columns
    ]
    of_word = signed_scores(store, connection, [word]).get(word, {})
    scores = [
        (name, layer, [of_word.get(row["class"], {}).get(column) for row in rows])
        for name, layer, column in _columns(store.manifest, signed=True)
    ]
    return Card(word, classes, lifts, scores)


def signed_scores(
    store: Store, connection: duckdb.DuckDBPyConnection, words: Sequence[str]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """By word, predicted class and column: the mean value of a signed score in an occurrence of the word.

    A value is the sum over the word's pieces; occurrences without a value are left out, and None means there are
    none.
    """
    columns = [column for _, _, column in _columns(store.manifest, signed=True)]
    if not columns:
        return {}
    means = "".join(
        f", sum({column}::DOUBLE) / nullif(sum(occurrences) FILTER (piece = 0 AND {column} IS NOT NULL), 0) AS {column}"
        for column in map(identifier, columns)
    )
    sql = f"""
        SELECT word, prediction AS class{means} FROM totals
        WHERE word IN (SELECT unnest($words::VARCHAR[])) AND NOT special GROUP BY word, prediction
    """  # noqa: S608 - names of columns, quoted
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in select(store, connection, sql, {"words": list(words)}).to_pylist():
        found.setdefault(row["word"], {})[row["class"]] = {column: row[column] for column in columns}
    return found


def _mean(total: float | None, occurrences: int | None) -> float | None:
    return None if total is None or not occurrences else total / occurrences


def _columns(manifest: Manifest, *, signed: bool = False) -> list[tuple[str, int | None, str]]:
    """The column of each reduction with one value per token, by layer: signed ones, or those with a known total."""
    return [
        (reduction.name, layer if reduction.per_layer else None, column)
        for reduction in manifest.reductions
        if not reduction.per_head and (reduction.signed if signed else reduction.total is not None)
        for layer, column in enumerate(reduction.columns(manifest.layers), start=1)
    ]
