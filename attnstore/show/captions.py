"""The words of a picture: the same in a terminal and on a page."""

from collections.abc import Mapping
from typing import Any

from attnstore.show.segments import Stretch, unread
from attnstore.show.shading import ShadedDocument, shaded_value
from attnstore.show.words import are_merged, changes, token_rows


def verdict(document: ShadedDocument) -> str:
    """`correct`, `wrong`, or empty if the model can be neither."""
    if document.label is None or not document.labels_are_models:
        return ""
    return "correct" if document.label == document.prediction else "wrong"


def probability(value: float) -> str:
    """Three decimals, but never 1.000 for less than 1, or 0.000 for more than 0."""
    if 0.9995 <= value < 1:
        return "over 0.999"
    return "under 0.001" if 0 < value < 0.0005 else f"{value:.3f}"


def method(document: ShadedDocument) -> str:
    """What is drawn: the reduction, its layer and its head."""
    layer = f"layer {document.layer}" if document.layer[:1].isdigit() else document.layer
    head = f"head {document.head}" if document.head else ""
    return ", ".join(filter(None, (document.reduction, layer, head)))


def size(document: ShadedDocument) -> str:
    unit = "words and special tokens" if are_merged(document.tokens) else "tokens"
    return f"{document.tokens.num_rows:,} {unit}"


def truncation(document: ShadedDocument) -> str:
    whole = sum(map(len, document.texts))
    gaps = [gap for number in range(len(document.texts)) for gap in unread(document, number)]
    read = whole - sum(end - start for start, end in gaps)
    return f"truncated: the model read {read:,} of {whole:,} characters"


def above(stretch: Stretch, number: int) -> str:
    """The line above a stretch of that text; empty if the stretch begins the first text and was read."""
    second = "the second text of the pair" if number and stretch.first else ""
    if not stretch.unread:
        return second if stretch.first else "the model read on from here"
    if stretch.last:
        unread = f"the model read no further; {stretch.characters:,} characters follow"
    else:
        unread = f"the model did not read these {stretch.characters:,} characters"
    return f"{second}; {unread}" if second else unread


def value(document: ShadedDocument, row: Mapping[str, Any]) -> str:
    """A token's attention and lift, or its signed value, or its value and its value × length."""
    if row["attention"] is None or (row["lift"] is None and not document.signed):
        return "no value"
    if document.signed:
        return f"{document.reduction} {signed(row['attention'])}"
    if not document.whole:
        return f"{document.reduction} {row['attention']:.3g}, times the length {row['lift']:.3g}"
    return f"attention {row['attention']:.3g}, lift {row['lift']:.2f}×"


def unit(document: ShadedDocument) -> str:
    """What follows a number on the scale: × for a lift, nothing otherwise."""
    return "" if document.signed or not document.whole else "×"


def short_value(document: ShadedDocument, row: Mapping[str, Any]) -> str:
    """The shortest form: the value that the token is shaded by."""
    if document.signed:
        return signed(row["attention"])
    return f"{row['lift']:.1f}×" if document.whole else f"{row['lift']:.3g}"


def signed(number: float) -> str:
    """A sign and three digits; a minus, not a hyphen."""
    return f"{number:+.3g}".replace("-", "−")


def tooltip(document: ShadedDocument, row: Mapping[str, Any]) -> str:
    """A token with its values, shown under the pointer."""
    pieces, merged = "", are_merged(document.tokens)
    if merged and (row["pieces"] or 1) > 1:
        pieces = f" ({row['pieces']} pieces)"
    elif (row["pieces"] or 1) > 1:
        pieces = f" (piece {row['piece'] + 1} of {row['pieces']} of {row['word']})"
    return f"{row['token']}{pieces}: {value(document, row)}"


def scale(document: ShadedDocument) -> str:
    """What the shades mean."""
    found = (shaded_value(document, row) for row in token_rows(document.tokens) if not row["special"])
    values = [value for value in found if value is not None]
    if not values:
        return "no attention values: nothing is shaded"
    if document.signed:
        largest = max(map(abs, values))
        full = (
            f"full at this document's largest, {largest:.3g}: not comparable between documents"
            if document.relative
            else f"full at {document.full:g}{meaning(document)}"
        )
        return f"above 0 it supports the prediction, below 0 it opposes it; {full}"
    if document.relative:
        most = f"lift {max(0.0, *values):.1f}×" if document.whole else f"{max(0.0, *values):.3g}"
        return f"relative to this document's most attended token ({most}): not comparable between documents"
    if not document.whole:
        return (
            f"{document.reduction} × {size(document)}: its values have no fixed sum, so there is no "
            f"even share; full at {document.full:g}{meaning(document)}"
        )
    # Merging and ignoring change the even share; separate captions say how.
    formula = "" if changes(document.tokens) else f" = attention × {size(document)}"
    return f"lift{formula}: 1× is an even share; full at {document.full:g}×{meaning(document)}"


def specials(document: ShadedDocument) -> str:
    """A note that special tokens have most of the attention, so the text is pale; empty if they do not."""
    if document.signed or not document.whole:
        return ""
    values = [
        (row["special"], row["attention"])
        for row in token_rows(document.tokens)
        if row["attention"] is not None
    ]
    whole, on_special = sum(value for _, value in values), sum(value for special, value in values if special)
    if on_special <= whole / 2 or all(special for special, _ in values):
        return ""
    return (
        f"special tokens have {on_special / whole:.0%} of the attention: ignore them and renormalise to see the rest "
        "shaded on its own"
    )


def leading(document: ShadedDocument) -> list[tuple[str, int]]:
    """The lists of leading tokens: (name, sign of their values)."""
    return [("most for", 1), ("most against", -1)] if document.signed else [("most attended", 1)]


def meaning(document: ShadedDocument) -> str:
    """What the number with the full shade means, after a comma."""
    return f", {document.full_means}" if document.full_means else ""


def top_of_scale(document: ShadedDocument) -> str:
    """The value with the full shade."""
    if document.relative:
        return "this document's maximum"
    return f"{document.full:g}{unit(document)} or more"


#: Readable steps of a scale.
_STEPS = tuple(digit * 10.0**power for power in range(-9, 5) for digit in (1, 2, 5))


def ticks(document: ShadedDocument) -> list[tuple[float, str]]:
    """The names along the legend: (position, from 0 for the beginning to 1 for the end; name)."""
    if document.relative:
        ends = ("against", "for") if document.signed else ("0", "maximum")
        return [(0.0, ends[0]), *([(0.5, "0")] if document.signed else []), (1.0, ends[1])]
    if document.signed:
        full = f"{document.full:g}"
        return [(0.0, f"−{full} against"), (0.5, "0"), (1.0, f"for {full}")]
    inner = [step for step in _STEPS if step < 0.8 * document.full][-3:]
    return [
        (0.0, "0"),
        *((step / document.full, f"{step:g}{unit(document)}") for step in inner),
        (1.0, f"{document.full:g}{unit(document)}+"),
    ]
