"""A document as a web page, or as a fragment for a notebook. The templates are in `templates/`."""

from collections.abc import Iterable
from typing import Any

from attnstore.show import captions
from attnstore.show.markup import render
from attnstore.show.segments import Segment, stretches
from attnstore.show.shading import (
    LEVELS,
    ShadedDocument,
    intensities,
    level_reached,
    most_attended,
    without_text,
)
from attnstore.show.words import changes, token_rows


def html(drawn: ShadedDocument | Iterable[ShadedDocument]) -> str:
    """One self-contained page with one document or several: no script, nothing fetched."""
    documents = [drawn] if isinstance(drawn, ShadedDocument) else list(drawn)
    title = documents[0].id if len(documents) == 1 else f"{len(documents):,} documents"
    drawings = [drawing(document) for document in documents]
    return render("page.html", title=title, drawings=drawings)


def fragment(document: ShadedDocument) -> str:
    """A document as a fragment of HTML with its own style, for a notebook or another page."""
    return render("fragment.html", drawing=drawing(document))


def drawing(document: ShadedDocument) -> dict[str, Any]:
    """What `document.html` needs: the document, and what is derived from it."""
    rows = token_rows(document.tokens)
    shades = intensities(document)
    level_of = {row["position"]: level_reached(shade or 0) for row, shade in zip(rows, shades, strict=True)}
    paragraphs: list[dict[str, Any]] = []
    for number in range(len(document.texts)):
        for stretch in stretches(document, rows, number):
            pieces = [_piece(document, rows, segment) for segment in stretch.segments]
            kind = "text unread" if stretch.unread else "text"
            paragraphs.append({"above": captions.above(stretch, number), "class": kind, "pieces": pieces})
    return {
        "document": document,
        "paragraphs": paragraphs,
        "ticks": _ticks(document) if any(shade is not None for shade in shades) else [],
        "ramp": [_look(level) for level in range(-LEVELS if document.signed else 0, LEVELS + 1)],
        "changes": changes(document.tokens),
        "most": [
            (
                name,
                [
                    (row["token"], captions.short_value(document, row), _look(level_of[row["position"]]))
                    for row in most
                ],
            )
            for name, sign in captions.leading(document)
            if (most := most_attended(document, rows, sign))
        ],
        "unplaced": without_text(rows),
    }


def _piece(document: ShadedDocument, rows: list[dict[str, Any]], segment: Segment) -> dict[str, Any]:
    look = [_look(segment.level)] if segment.level else []
    return {
        "text": segment.text,
        "look": " ".join([*look, "br"] if segment.markup else look),
        "title": " + ".join(captions.tooltip(document, rows[place]) for place in segment.rows),
        "breaks": segment.breaks,
    }


def _look(level: int) -> str:
    """The style sheet's class for a level: a shade, a shade of opposition, or none."""
    return f"s{level}" if level > 0 else f"a{-level}" if level else ""


def _ticks(document: ShadedDocument) -> list[tuple[str, str]]:
    """The names along the legend: (percent of the length, name)."""
    return [(f"{100 * place:.4g}", name) for place, name in captions.ticks(document)]
