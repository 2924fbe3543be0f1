"""The text of a document, cut where its shade changes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from attnstore.show.shading import ShadedDocument, intensities, level_reached

_BREAKS = re.compile(r"(?:<br\s*/?>\s*)+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of text with one shade.

    `rows`: the numbers of its tokens' rows. `level`: 0 to `LEVELS`, below 0 for negative signed values, None without a
    token that has a value.
    `markup`: it is a `<br />` of the source. `unread`: the model did not read it. `breaks`: a line ends after it.
    """

    text: str
    rows: tuple[int, ...]
    level: int | None
    markup: bool
    unread: bool
    breaks: bool


def segments(document: ShadedDocument, rows: list[dict[str, Any]], number: int = 0) -> Iterator[Segment]:
    """Cut the text, or the text with that number in a pair. The texts of the segments, joined, are the whole text.

    Tokens that share characters (the bytes of one emoji, in a byte-level vocabulary) share a segment, which
    has the shade of the strongest: their sum could exceed what any token has.
    """
    text = document.texts[number]
    shades = intensities(document)
    own = ((place, row) for place, row in enumerate(rows) if (row["segment"] or 0) == number)
    spans = sorted(span for span in (_span(row, text, place) for place, row in own) if span)
    breaks = [match.span() for match in _BREAKS.finditer(text)]
    cuts = {0, len(text)}
    cuts.update(cut for start, end, _ in spans for cut in (start, end))
    cuts.update(cut for span in breaks for cut in span)
    gaps = unread(document, number)
    cuts.update(cut for gap in gaps for cut in gap)
    edges = sorted(cuts)
    ends = {end for _, end in breaks}
    waiting, active, run = iter([*spans, (len(text), len(text), -1)]), list[tuple[int, int, int]](), 0
    upcoming = next(waiting)
    for start, end in pairwise(edges):
        active = [span for span in active if span[1] > start]
        while upcoming[0] <= start and upcoming[2] >= 0:
            active.append(upcoming)
            upcoming = next(waiting)
        while run < len(breaks) and breaks[run][1] <= start:
            run += 1
        here = [shade for _, _, place in active if (shade := shades[place]) is not None]
        yield Segment(
            text=text[start:end],
            rows=tuple(sorted(place for _, _, place in active)),
            level=level_reached(max(here, key=abs)) if here else None,
            markup=run < len(breaks) and breaks[run][0] <= start,
            unread=any(begin <= start < finish for begin, finish in gaps),
            breaks=end in ends and end < len(text),
        )


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive segments that the model read, or did not; whether they begin or end their text."""

    segments: tuple[Segment, ...]
    unread: bool
    first: bool
    last: bool

    @property
    def characters(self) -> int:
        return sum(len(segment.text) for segment in self.segments)


def stretches(document: ShadedDocument, rows: list[dict[str, Any]], number: int = 0) -> list[Stretch]:
    """The segments of a text, split where reading stops or resumes."""
    parts = [
        (is_unread, tuple(part))
        for is_unread, part in groupby(segments(document, rows, number), key=lambda segment: segment.unread)
    ]
    return [
        Stretch(part, is_unread, place == 0, place == len(parts) - 1)
        for place, (is_unread, part) in enumerate(parts)
    ]


def unread(document: ShadedDocument, number: int = 0) -> list[tuple[int, int]]:
    """What the model did not read of the text, or of the text with that number in a pair: (start, end) of each
    stretch.

    It may be the end, the beginning or the middle, depending on `--long`. White space beside what was read counts as
    read. Characters that a tokenizer drops between two tokens are not such a stretch, unless they include a letter or
    a digit.
    """
    if not document.truncated:
        return []
    text = document.texts[number]
    columns = (document.tokens[name].to_pylist() for name in ("segment", "start", "end"))
    spans = sorted(
        (start, end) for segment, start, end in zip(*columns, strict=True) if (segment or 0) == number
    )
    gaps, reached = [], 0
    for start, end in spans:
        if start < end and any(map(str.isalnum, text[reached:start])):
            gaps.append((reached, start))
        reached = max(reached, min(end, len(text)))
    if text[reached:].strip():
        gaps.append((reached, len(text)))
    return [_without_white_space(text, start, end) for start, end in gaps]


def _without_white_space(text: str, start: int, end: int) -> tuple[int, int]:
    """A stretch without the white space at its edges, except at the end of the text."""
    piece = text[start:end]
    begin = start + len(piece) - len(piece.lstrip())
    return begin, end if end == len(text) else start + len(piece.rstrip())


def _span(row: Mapping[str, Any], text: str, place: int) -> tuple[int, int, int] | None:
    """(start, end, place) of a token's characters to shade, without white space at its edges."""
    start, end = max(row["start"], 0), min(row["end"], len(text))
    if row["special"] or start >= end:
        return None
    piece = text[start:end]
    if stripped := piece.strip():
        start += len(piece) - len(piece.lstrip())
        end = start + len(stripped)
    return start, end, place
