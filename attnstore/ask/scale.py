"""How large a reduction's values are in a store: the value with the full shade in a picture."""

import math
from collections.abc import Sequence
from dataclasses import replace

from attnstore.ask.answer import Connect
from attnstore.ask.binding import bound
from attnstore.ask.questions import find_questions, get_question
from attnstore.ask.sql import connect, identifier, select
from attnstore.store.frames import QuestionColumns
from attnstore.store.manifest import StoredReduction
from attnstore.store.store import Store

#: The number of documents sampled, spread evenly over the store: more do not change the figure.
SAMPLE = 1000
#: The number of parts sampled: whole columns of a part are read, however few of its documents count.
PARTS = 4

_LIFT = "{attention} * length"
#: The lift over an even share of what remains (`show.words.ignore_tokens`), with or without special tokens.
_RENORMALISED = """{attention} / nullif(sum({attention}) FILTER ({kept}) OVER of_document, 0)
    * count({attention}) FILTER ({kept}) OVER of_document"""


class Scales:
    """The values of full shade in a store's pictures: computed once for all documents drawn alike.

    It describes one state of a store, without what a run finishes later.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: dict[tuple[object, ...], float] = {}
        self._ahead: set[str] = set()

    def full(
        self,
        reduction: str,
        layer: int | str,
        head: int | str = "mean",
        specials: bool = True,
        renormalised: bool = False,
        connect: Connect = connect,
    ) -> float:
        """Like `ninety_ninth`. Without renormalising, leaving out special tokens changes nothing."""
        alike = (reduction, str(layer), str(head), specials or not renormalised, renormalised)
        if alike not in self._found:
            self._found[alike] = ninety_ninth(self._store, *alike, connect=connect)
        return self._found[alike]

    def look_ahead(self, reduction: StoredReduction, connect: Connect = connect) -> None:
        """Compute those of all layers of a reduction, unless done already: it takes little longer than one layer.

        Several heads are averaged. Raises StoreError if the store can't be read.
        """
        if reduction.name in self._ahead:
            return
        manifest = self._store.manifest
        columns = {
            f"attention_{n}": (name,) for n, name in enumerate(reduction.columns(manifest.layers), start=1)
        }
        added = QuestionColumns(columns, manifest.heads if reduction.per_head else None)
        found = _percentiles(self._store, added, list(columns), _value(reduction), connect)
        for place, full in enumerate(found, start=1):
            layer = str(place) if reduction.per_layer else "last"
            self._found.setdefault((reduction.name, layer, "mean", True, False), full)
        self._ahead.add(reduction.name)


def ninety_ninth(
    store: Store,
    reduction: str,
    layer: int | str,
    head: int | str = "mean",
    specials: bool = True,
    renormalised: bool = False,
    connect: Connect = connect,
) -> float:
    """The 99th percentile of a reduction's lift over the store's tokens without special ones, to two digits.

    A signed reduction has no lift: it is the percentile of the absolute values. `renormalised`: of the lift over an
    even share of what remains, with or without `specials`. The sample is 1,000 documents, spread evenly over the store
    (over 4 of its parts, if it has more). It is 1.0 if all values are 0.

    Raises:
        UsageError: there is no such reduction, layer or head.
        StoreError: the store can't be read.
    """
    asked = {"document": 0, "reduction": reduction, "layer": layer, "head": head}
    _, added = bound(store, get_question("document_tokens", find_questions()), asked)
    stored = store.manifest.reduction(reduction)
    value = _value(stored)
    if renormalised and value == _LIFT:
        value = _RENORMALISED.replace("{kept}", "true" if specials else "NOT special")
    (found,) = _percentiles(store, added, ["attention"], value, connect)
    return found


def _value(stored: StoredReduction | None) -> str:
    """The value whose percentile is taken. A signed score has no lift."""
    return "abs({attention})" if stored is not None and stored.signed else _LIFT


def _percentiles(
    store: Store, added: QuestionColumns, columns: Sequence[str], value: str, connect: Connect
) -> list[float]:
    """The 99th percentile of each column's `value`, over the same sample."""
    values = [
        f"{value.format(attention=identifier(name))} AS value_{place}" for place, name in enumerate(columns)
    ]
    sought = [
        f"quantile_cont(value_{place}, 0.99) FILTER (isfinite(value_{place}))"
        for place in range(len(columns))
    ]
    sql = f"""
        SELECT {", ".join(sought)} FROM (
            SELECT special, {", ".join(values)}
            FROM tokens
            WHERE document % $step = 0
            WINDOW of_document AS (PARTITION BY document)
        )
        WHERE NOT special
    """  # noqa: S608 - put together of the texts above and quoted names
    finished, documents = store.finished_parts(), store.manifest.documents
    if len(finished) > PARTS:
        parts = tuple(finished[place * len(finished) // PARTS] for place in range(PARTS))
        added, documents = replace(added, parts=parts), sum(len(store.part_range(part)) for part in parts)
    step = max(1, math.ceil(documents / SAMPLE))
    with connect(store, added, ()) as connection:
        row = select(store, connection, sql, {"step": step})
    found = [column[0].as_py() for column in row.columns]
    return [_two_digits(each) if each and each > 0 else 1.0 for each in found]


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")
