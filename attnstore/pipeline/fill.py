"""Fills a store's missing parts, and reports events and, at the end, an entry of `runs`."""

import threading
import time
from collections.abc import Generator
from dataclasses import dataclass

from attnstore.events import Computed, Noted, OnEvent
from attnstore.messages import counted, listed
from attnstore.pipeline.alone import Alone
from attnstore.pipeline.describe import this_run
from attnstore.pipeline.parts import Part
from attnstore.pipeline.workers import Workers
from attnstore.store.store import Store


@dataclass(frozen=True, slots=True)
class Filled:
    """What was computed for a store: `seconds` is the time of its parts."""

    documents: int
    tokens: int
    seconds: float


def fill(
    store: Store,
    parts: Generator[Part],
    hands: Alone | Workers,
    stop: threading.Event,
    on_event: OnEvent,
    first: int = 0,
) -> Filled:
    """Compute and write the missing parts of a store, until `stop` is set; events go to `on_event`.

    `parts`: from `missing_parts`. `hands` have the model. `first`: the number of the source's first document.
    """
    before = store.finished_parts()
    total = store.manifest.documents - first
    documents_before = documents = sum(len(store.part_range(part)) for part in before)
    for line in store.damaged:
        on_event(Noted(line))
    began, tokens = time.perf_counter(), 0
    written: dict[int, set[str]] = {}
    try:
        for step in hands.compute(store, parts, stop):
            documents += step.documents
            tokens += step.tokens
            for number, special in step.written.items():
                written.setdefault(number, set()).update(special)
            for note in step.notes:
                on_event(Noted(note))
            on_event(Computed(documents, total, tokens))
        for name in sorted(hands.all_null if tokens else ()):
            on_event(Noted(f"{name} has no value for any token (NaN): its columns are null throughout"))
        if written:
            names = listed(sorted(set.union(*written.values())))
            on_event(
                Noted(
                    f"{counted(len(written), 'document')} with {names} written in the text: the model reads that as"
                    " its own special token, as transformers does; it is marked special and is no word"
                )
            )
        for note in hands.notes:
            on_event(Noted(note))
    finally:
        seconds = time.perf_counter() - began
        if tokens:
            finished = len(store.finished_parts()) - len(before)
            store.record_run(this_run(hands.model, hands.count, finished, tokens, seconds))
    return Filled(documents - documents_before, tokens, seconds)
