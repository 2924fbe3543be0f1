"""A document as lines for a terminal: its text, shaded, between its captions."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from attnstore.show import captions
from attnstore.show.colours import Background
from attnstore.show.columns import NEW_LINE, Cell, cells, paragraph, wrapped
from attnstore.show.paint import Colour, Painter
from attnstore.show.segments import Segment, stretches
from attnstore.show.shading import LEVELS, ShadedDocument, intensities, most_attended, without_text
from attnstore.show.words import changes, token_rows

#: Without colour, a line of marks is below the text: one per fifth of the full shade, none for the lowest. Negative
#: values, which oppose, have separate marks.
_MARKS = " ▁▃▅▇"
_MARKS_AGAINST = " ·-=≡"


def terminal(
    document: ShadedDocument, colour: Colour = "none", width: int = 80, background: Background = "dark"
) -> str:
    """The document as lines of at most `width` columns (at least 20), without a newline at the end.

    With colour, tokens have a background. With "none", marks are on a separate line below the text, which stays intact
    and can be searched.
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
        for stretch in stretches(document, rows, number):
            if above := captions.above(stretch, number):
                out += [paint.dim(line) for line in paragraph(f"── {above} ──", width)]
            out += _body(stretch.segments, paint, width)
        if not whole.strip():
            out.append(paint.dim("(the text is empty)"))
    out.append("")
    for name, sign in captions.leading(document):
        if most := most_attended(document, rows, sign):
            listed = ", ".join(f"{row['token']} {captions.short_value(document, row)}" for row in most)
            out += paragraph(f"{name}: {listed}", width)
    if unplaced := without_text(rows):
        listed = "; ".join(f"{row['token']} {captions.value(document, row)}" for row in unplaced)
        out += paragraph(f"not in the text: {listed}", width)
    out += _legend(document, paint, width)
    if note := captions.specials(document):
        out += paragraph(note, width)
    for caption in changes(document.tokens):
        out += paragraph(caption, width)
    return "\n".join(out)


def _body(text: Sequence[Segment], paint: Painter, width: int) -> Iterator[str]:
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
    return (_MARKS if level >= 0 else _MARKS_AGAINST)[min(abs(level) * 5 // LEVELS, 4)]


def _legend(document: ShadedDocument, paint: Painter, width: int) -> list[str]:
    if all(shade is None for shade in intensities(document)):
        return paragraph(captions.scale(document), width)
    if paint.colour == "none":
        of_document = document.full, captions.unit(document), ""
        full, unit, after = (100.0, "%", " of the maximum") if document.relative else of_document
        marks = [_fifths(_MARKS, full, unit)]
        if document.signed:
            marks = [f"for {marks[0]}", f"against {_fifths(_MARKS_AGAINST, full, unit)}"]
        return paragraph(f"marks start at {'; '.join(marks)}{after}", width) + paragraph(
            captions.scale(document), width
        )
    swatches = "".join(paint.shade(" ", level) for level in range(2, LEVELS + 1, 2))
    ends = [name for _, name in captions.ticks(document)]
    if document.signed:
        swatches = "".join(paint.shade(" ", -level) for level in range(LEVELS, 0, -2)) + " 0 " + swatches
    return [f"{ends[0]} {swatches} {ends[-1]}", *paragraph(captions.scale(document), width)]


def _fifths(marks: str, full: float, unit: str) -> str:
    return ", ".join(f"{marks[n]} {full * n / 5:.3g}{unit}" for n in range(1, 5))
