"""A document as a web page, or as a piece of one for a notebook. The pages themselves are in `templates/`."""

from collections.abc import Iterable
from typing import Any

from attnstore.show import captions
from attnstore.show.markup import render
from attnstore.show.segments import segments
from attnstore.show.shading import (
    FULL_LIFT,
    ShadedDocument,
    intensities,
    level_reached,
    most_attended,
    without_text,
)
from attnstore.show.words import are_merged, changes, token_rows


def html(drawn: ShadedDocument | Iterable[ShadedDocument]) -> str:
    """One page with one document or several, complete in itself: no script, nothing fetched."""
    documents = [drawn] if isinstance(drawn, ShadedDocument) else list(drawn)
    title = documents[0].id if len(documents) == 1 else f"{len(documents):,} documents"
    drawings = [drawing(document) for document in documents]
    return render("page.html", title=title, drawings=drawings)


def fragment(document: ShadedDocument) -> str:
    """The same document as a piece of HTML with its own style, for a notebook or another page."""
    return render("fragment.html", drawing=drawing(document))


def drawing(document: ShadedDocument) -> dict[str, Any]:
    """What `document.html` needs: the document, and what is made of it."""
    rows = token_rows(document.tokens)
    shades = intensities(document.tokens, document.relative)
    level_of = {row["position"]: level_reached(shade or 0) for row, shade in zip(rows, shades, strict=True)}
    merged = are_merged(document.tokens)
    paragraphs: list[dict[str, Any]] = []
    for number in range(len(document.texts)):
        read: list[dict[str, Any]] = []
        unread: list[dict[str, Any]] = []
        for segment in segments(document, rows, number):
            look = [f"s{segment.level}"] if segment.level else []
            piece = {
                "text": segment.text,
                "look": " ".join([*look, "br"] if segment.markup else look),
                "title": " + ".join(captions.tooltip(rows[place], merged) for place in segment.rows),
                "breaks": segment.breaks,
            }
            (unread if segment.unread else read).append(piece)
        above = captions.second_text() if number else ""
        paragraphs.append({"above": above, "class": "text", "pieces": read})
        if unread:
            above = captions.tail(document, number)
            paragraphs.append({"above": above, "class": "text unread", "pieces": unread})
    return {
        "document": document,
        "paragraphs": paragraphs,
        "ticks": _ticks(document.relative) if any(shade is not None for shade in shades) else [],
        "changes": changes(document.tokens),
        "most": [
            (row["token"], f"{row['lift']:.1f}×", level_of[row["position"]]) for row in most_attended(rows)
        ],
        "unplaced": without_text(rows),
    }


def _ticks(relative: bool) -> list[tuple[str, str]]:
    """The names along the legend: (percent of its length, name)."""
    if relative:
        return [("0", "0"), ("100", "maximum")]
    inner = [(f"{100 * lift / FULL_LIFT:g}", f"{lift}×") for lift in (1, 2, 5)]
    return [("0", "0"), *inner, ("100", f"{FULL_LIFT:g}×+")]
