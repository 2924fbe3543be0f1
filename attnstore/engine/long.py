"""Documents longer than the model's limit: cut, read by their end or by both ends, or read whole in windows.

Lengths here are those of a document's body: its tokens without the special ones that the tokenizer adds before and
after it. Each pass through the model gets those, too.

Head and tail: of the 510 tokens between BERT's special ones Sun et al. 2019 ("How to Fine-Tune BERT for Text
Classification?", section 5.3.1) keep the first 128 and the last 382; the same share of other lengths.

Windows: a token's lift, its value times the window's length, does not depend on the window's length. It is averaged
over the windows that contain the token, and divided by the document's length to give a value again. All values are
scaled so that a document's have the sum of one window's. Logits are the mean over the windows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from attnstore.config import Long
from attnstore.engine.batches import TokenisedDocument

_HEAD_SHARE = 128 / 510


def passes(body: int, room: int, long: Long, stride: int) -> list[np.ndarray]:
    """The positions in the body that each pass reads, in order; one pass if the document fits into `room` tokens."""
    if body <= room:
        return [np.arange(body)]
    if long == "cut":
        return [np.arange(room)]
    if long != "windows":
        head, tail = ends(room, long)
        return [np.concatenate([np.arange(head), np.arange(body - tail, body)])]
    # The last window is as long as the others: it begins earlier instead of being shorter.
    starts = [*range(0, body - room, stride), body - room]
    return [np.arange(start, start + room) for start in starts]


def ends(room: int, long: Literal["tail", "head+tail"]) -> tuple[int, int]:
    """How many first and last tokens are read of a document with more than `room` tokens."""
    head = round(room * _HEAD_SHARE) if long == "head+tail" else 0
    return head, room - head


def joined(
    documents: Sequence[TokenisedDocument],
    logits: np.ndarray,
    columns: Mapping[str, np.ndarray],
    totals: Mapping[str, float | None],
) -> tuple[list[TokenisedDocument], np.ndarray, dict[str, np.ndarray]]:
    """Documents, logits and columns, with each document's windows combined.

    `logits`: (passes, classes); `columns`: by name (T,) or (T, heads), the passes end to end in the order of
    `documents`; `totals`: the sum of a column's values in a document, None if it is not fixed: such values are
    averaged as they are. Documents read in one pass stay as they are.
    """
    starts = np.cumsum([0, *(d.length for d in documents)])
    of_number: dict[int, list[int]] = {}
    for place, document in enumerate(documents):
        of_number.setdefault(document.number, []).append(place)
    whole: list[TokenisedDocument] = []
    own_logits: list[np.ndarray] = []
    own: dict[str, list[np.ndarray]] = {name: [] for name in columns}
    for places in of_number.values():
        windows = sorted(places, key=lambda place: documents[place].window)
        own_logits.append(logits[windows].mean(axis=0))
        spans = [slice(starts[place], starts[place + 1]) for place in windows]
        if len(windows) == 1:
            whole.append(documents[windows[0]])
            for name, values in columns.items():
                own[name].append(values[spans[0]])
            continue
        pieces = [documents[place] for place in windows]
        whole.append(_whole(pieces))
        held = [piece.places for piece in pieces]
        for name, values in columns.items():
            own[name].append(_averaged([values[span] for span in spans], held, totals[name]))
    return whole, np.stack(own_logits), {name: np.concatenate(values) for name, values in own.items()}


def _averaged(values: Sequence[np.ndarray], places: Sequence[np.ndarray], total: float | None) -> np.ndarray:
    """One column of a document, (n,) or (n, heads), from its windows' columns."""
    n = 1 + max(int(held[-1]) for held in places)
    summed = np.zeros((n, *values[0].shape[1:]), dtype=np.float64)
    windows = np.zeros(n)
    for window, held in zip(values, places, strict=True):
        summed[held] += window * (1 if total is None else len(held))
        windows[held] += 1
    mean = summed / windows.reshape(-1, *[1] * (summed.ndim - 1))
    if total is not None:
        mean *= total / mean.sum(axis=0)
    return mean.astype(np.float32)


def _whole(windows: Sequence[TokenisedDocument]) -> TokenisedDocument:
    """A document with all the tokens of its windows."""
    n = 1 + max(int(window.places[-1]) for window in windows)
    arrays = {name: np.zeros(n, dtype=np.int32) for name in ("ids", "start", "end")}
    special = np.zeros(n, dtype=bool)
    for window in windows:
        for name, array in arrays.items():
            array[window.places] = getattr(window, name)
        special[window.places] = window.special
    return replace(
        windows[0],
        ids=arrays["ids"],
        start=arrays["start"],
        end=arrays["end"],
        special=special,
        places=np.arange(n),
    )
