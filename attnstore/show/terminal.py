"""A document as lines for a terminal: its text, shaded, between its captions."""

from collections.abc import Iterator
from itertools import groupby

from attnstore.show import captions
from attnstore.show.colours import Background
from attnstore.show.columns import NEW_LINE, Cell, cells, paragraph, wrapped
from attnstore.show.paint import Colour, Painter
from attnstore.show.segments import Segment, segments
from attnstore.show.shading import FULL_LIFT, LEVELS, ShadedDocument, intensities, most_attended, without_text
from attnstore.show.words import changes, token_rows

#: Without colour, a line of marks stands under the text: one per fifth of the full shade, none for the lowest.
_MARKS = " ▁▃▅▇"


def terminal(
    document: ShadedDocument, colour: Colour = "none", width: int = 80, background: Background = "dark"
) -> str:
    """The document as lines of at most `width` columns (at least 20), without a newline at the end.

    With colour, tokens have a background. With "none", marks stand on a line of their own under the text,
    which stays whole and can be searched.
    """
    width = max(width, 20)
    rows = token_rows(document.tokens)
    paint = Painter(colour, background)
    out = [paint.bold(line) for line in paragraph(document.id, width)]
    label = "no label" if document.label is None else f"label {document.label}"
    facts = [
        label,
        f"predicted {document.prediction} ({captions.probability(document.probability)})",
        captions.verdict(document),
    ]
    out += paragraph(" · ".join(filter(None, facts)), width)
    out += paragraph(f"attention {captions.method(document)} · {captions.size(document)}", width)
    if document.truncated:
        out += paragraph(captions.truncation(document), width)
    out.append("")
    for number, whole in enumerate(document.texts):
        if number:
            out += [paint.dim(line) for line in paragraph(f"── {captions.second_text()} ──", width)]
        text = list(segments(document, rows, number))
        out += _body([segment for segment in text if not segment.unread], paint, width)
        if tail := [segment for segment in text if segment.unread]:
            out += [paint.dim(line) for line in paragraph(f"── {captions.tail(document, number)} ──", width)]
            out += _body(tail, paint, width)
        if not whole.strip():
            out.append(paint.dim("(the text is empty)"))
    out.append("")
    if most := most_attended(rows):
        listed = ", ".join(f"{row['token']} {row['lift']:.1f}×" for row in most)
        out += paragraph(f"most attended: {listed}", width)
    if unplaced := without_text(rows):
        listed = "; ".join(f"{row['token']} {captions.value(row)}" for row in unplaced)
        out += paragraph(f"not in the text: {listed}", width)
    out += _legend(document, paint, width)
    for caption in changes(document.tokens):
        out += paragraph(caption, width)
    return "\n".join(out)


def _body(text: list[Segment], paint: Painter, width: int) -> Iterator[str]:
    drawn: list[Cell] = []
    for segment in text:
        level = segment.level or 0
        drawn += cells(segment.text, level, segment.unread or (segment.markup and not level))
        if segment.breaks and drawn[-1] is not NEW_LINE:
            drawn.append(NEW_LINE)
    for line in wrapped(drawn, width):
        painted = []
        for (level, dim), run in groupby(line, key=lambda cell: (cell.level, cell.dim)):
            glyphs = "".join(cell.glyphs for cell in run)
            painted.append(paint.shade(glyphs, level) if level else paint.dim(glyphs) if dim else glyphs)
        yield "".join(painted)
        if paint.colour == "none" and (marks := "".join(_mark(c.level) * c.columns for c in line).rstrip()):
            yield marks


def _mark(level: int) -> str:
    return _MARKS[min(level * 5 // LEVELS, 4)]


def _legend(document: ShadedDocument, paint: Painter, width: int) -> list[str]:
    if all(shade is None for shade in intensities(document.tokens)):
        return paragraph(captions.scale(document), width)
    if paint.colour == "none":
        full, unit, after = (100, "%", " of the maximum") if document.relative else (FULL_LIFT, "×", "")
        fifths = ", ".join(f"{_MARKS[n]} {full * n / 5:g}{unit}" for n in range(1, 5))
        return paragraph(f"marks start at {fifths}{after}", width) + paragraph(
            captions.scale(document), width
        )
    swatches = "".join(paint.shade(" ", level) for level in range(2, LEVELS + 1, 2))
    end = "maximum" if document.relative else f"{FULL_LIFT:g}×+"
    return [f"0 {swatches} {end}", *paragraph(captions.scale(document), width)]
