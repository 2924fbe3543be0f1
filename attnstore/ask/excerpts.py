"""What a report quotes from a store beside its answers: documents, contexts of words, words of one class."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from attnstore.ask.answer import Connect, ask
from attnstore.ask.binding import bound
from attnstore.ask.questions import find_questions
from attnstore.ask.sql import select
from attnstore.store.frames import NOTHING, QuestionColumns
from attnstore.store.store import Store

# The middle ranks by length and by probability among the class's documents.
_TYPICAL = """
    WITH placed AS (
        SELECT
            document, prediction,
            abs(percent_rank() OVER (PARTITION BY prediction ORDER BY length) - 0.5)
            + abs(percent_rank() OVER (PARTITION BY prediction ORDER BY probability) - 0.5) AS far
        FROM documents
        WHERE NOT $labels_are_models OR label IS NULL OR label = prediction
    )
    SELECT prediction, document
    FROM placed
    QUALIFY row_number() OVER (PARTITION BY prediction ORDER BY far::FLOAT, document) <= $each
    ORDER BY prediction, far::FLOAT, document
"""

_TOKENS = """
    SELECT * FROM tokens
    WHERE document IN (SELECT unnest($numbers::BIGINT[]))
    ORDER BY document, position
"""

_DOCUMENTS = """
    SELECT document, id, text, text_pair, label, prediction, probability, length, truncated FROM documents
    WHERE document IN (SELECT unnest($numbers::BIGINT[]))
"""

# The occurrences of the question `contexts`, for many words at once; cut by characters instead of words.
_CONTEXTS = """
    WITH
    occurrences AS (
        SELECT
            class, word, document, position - piece AS place, any_value(segment) AS segment,
            min(start) AS start, max("end") AS finish, sum(attention * length / pieces) AS lift
        FROM tokens
        WHERE word IN (SELECT unnest($words::VARCHAR[])) AND class IS NOT NULL AND attention IS NOT NULL
        GROUP BY class, word, document, place
    ),
    best AS (
        SELECT *, row_number() OVER (PARTITION BY class, word ORDER BY lift::FLOAT DESC, document, place) AS rank
        FROM occurrences
        QUALIFY rank <= $each
    )
    SELECT
        best.class, word, id,
        substring(text, greatest(start - $width, 0) + 1, least(start, $width)) AS "left",
        substring(text, start + 1, finish - start) AS keyword,
        substring(text, finish + 1, $width) AS "right",
        lift
    FROM best JOIN (SELECT document, id, text AS first, text_pair FROM documents) USING (document)
    CROSS JOIN LATERAL (SELECT CASE WHEN segment = 1 THEN text_pair ELSE first END AS text)
    ORDER BY word, best.class, rank
"""

_OF_ONE_CLASS = r"""
    WITH counted AS (
        SELECT prediction AS class, word, sum(new_word)::BIGINT AS documents, sum(occurrences)::BIGINT AS occurrences
        FROM totals
        WHERE piece = 0 AND regexp_matches(word, '[\p{L}\p{N}]')
        GROUP BY class, word
    ),
    alone AS (
        SELECT * FROM counted QUALIFY count(*) OVER (PARTITION BY word) = 1
    )
    SELECT class, word, documents, occurrences
    FROM alone
    WHERE documents > 1
    QUALIFY row_number() OVER (PARTITION BY class ORDER BY documents DESC, occurrences DESC, word) <= $each
    ORDER BY class, documents DESC, occurrences DESC, word
"""


def typical_documents(store: Store, each: int, connect: Connect) -> dict[str, list[int]]:
    """By predicted class: the numbers of the `each` documents whose length and probability are nearest to the middle.

    Documents known to be misclassified are left out.
    """
    with connect(store, NOTHING, ()) as connection:
        values = {"each": each, "labels_are_models": store.manifest.labels_are_models}
        rows = select(store, connection, _TYPICAL, values).to_pylist()
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(row["prediction"], []).append(row["document"])
    return found


def certain_documents(
    store: Store, *, sort: str, outcome: str, limit: int, connect: Connect, **more: object
) -> list[int]:
    """The numbers of the first `limit` documents of the question `find_documents`."""
    question = find_questions()["find_documents"]
    given = {"sort": sort, "outcome": outcome, "limit": limit, **more}
    numbers: list[int] = ask(store, question, given, connect=connect).column("document").to_pylist()
    return numbers


def documents_with_tokens(
    store: Store, numbers: Sequence[int], connect: Connect
) -> list[tuple[dict[str, Any], pa.Table]]:
    """Each document's row, and all its tokens with every stored column, in the order of the request."""
    values = {"numbers": list(numbers)}
    with connect(store, QuestionColumns(segments=True), ()) as connection:
        rows = select(store, connection, _DOCUMENTS, values).to_pylist()
        tokens = select(store, connection, _TOKENS, values)
    by_number = {row["document"]: row for row in rows}
    places: dict[int, tuple[int, int]] = {}
    for place, number in enumerate(tokens.column("document").to_pylist()):
        first, count = places.get(number, (place, 0))
        places[number] = first, count + 1
    return [(by_number[number], tokens.slice(*places[number])) for number in numbers]


def contexts_of(
    store: Store,
    words: Sequence[str],
    given: Mapping[str, object],
    each: int,
    connect: Connect,
    width: int = 60,
) -> list[dict[str, Any]]:
    """The `each` most attended occurrences of each word in each class, with `width` characters on each side.

    `given` are the parameters `reduction`, `layer` and `by` of the question `contexts`.
    """
    _, added = bound(store, find_questions()["contexts"], {"word": "", **given})
    with connect(store, added, ()) as connection:
        values = {"words": list(words), "each": each, "width": width}
        rows: list[dict[str, Any]] = select(store, connection, _CONTEXTS, values).to_pylist()
    return rows


def words_of_one_class(store: Store, each: int, connect: Connect) -> dict[str, list[tuple[str, int, int]]]:
    """By predicted class: (word, documents, occurrences) of words that no other class has, most documents first."""
    with connect(store, NOTHING, ()) as connection:
        rows = select(store, connection, _OF_ONE_CLASS, {"each": each}).to_pylist()
    found: dict[str, list[tuple[str, int, int]]] = {}
    for row in rows:
        found.setdefault(row["class"], []).append((row["word"], row["documents"], row["occurrences"]))
    return found
