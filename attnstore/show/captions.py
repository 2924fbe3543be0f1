"""What a picture says in words: the same in a terminal and on a page."""

from collections.abc import Mapping
from typing import Any

from attnstore.show.segments import read_to
from attnstore.show.shading import FULL_LIFT, ShadedDocument
from attnstore.show.words import are_merged, changes, token_rows


def verdict(document: ShadedDocument) -> str:
    """`correct`, `wrong`, or nothing where the model can't be either."""
    if document.label is None or not document.labels_are_models:
        return ""
    return "correct" if document.label == document.prediction else "wrong"


def probability(value: float) -> str:
    """Three decimals, but never 1.000 for less than 1, nor 0.000 for more than 0."""
    if 0.9995 <= value < 1:
        return "over 0.999"
    return "under 0.001" if 0 < value < 0.0005 else f"{value:.3f}"


def method(document: ShadedDocument) -> str:
    """Whose attention is drawn: the reduction and its layer."""
    layer = f"layer {document.layer}" if document.layer[:1].isdigit() else document.layer
    return f"{document.reduction}, {layer}" if layer else document.reduction


def size(document: ShadedDocument) -> str:
    unit = "words and special tokens" if are_merged(document.tokens) else "tokens"
    return f"{document.tokens.num_rows:,} {unit}"


def truncation(document: ShadedDocument) -> str:
    read = sum(read_to(document, number) for number in range(len(document.texts)))
    return f"truncated: the model read {read:,} of {sum(map(len, document.texts)):,} characters"


def tail(document: ShadedDocument, number: int = 0) -> str:
    rest = len(document.texts[number]) - read_to(document, number)
    return f"the model read no further; {rest:,} characters follow"


def second_text() -> str:
    """What stands between the two texts of a pair."""
    return "the second text of the pair"


def value(row: Mapping[str, Any]) -> str:
    """A token's attention and lift."""
    if row["attention"] is None or row["lift"] is None:
        return "no value"
    return f"attention {row['attention']:.3g}, lift {row['lift']:.2f}×"


def tooltip(row: Mapping[str, Any], merged: bool) -> str:
    """A token with its values, for the pointer that rests on it."""
    pieces = ""
    if merged and (row["pieces"] or 1) > 1:
        pieces = f" ({row['pieces']} pieces)"
    elif (row["pieces"] or 1) > 1:
        pieces = f" (piece {row['piece'] + 1} of {row['pieces']} of {row['word']})"
    return f"{row['token']}{pieces}: {value(row)}"


def scale(document: ShadedDocument) -> str:
    """What the shades stand for."""
    lifts = [
        row["lift"] for row in token_rows(document.tokens) if not row["special"] and row["lift"] is not None
    ]
    if not lifts:
        return "no attention values: nothing is shaded"
    if document.relative:
        return (
            f"relative to this document's most attended token (lift {max(0.0, *lifts):.1f}×): "
            "not comparable between documents"
        )
    # Merging and ignoring change the even share; their own captions say how.
    formula = "" if changes(document.tokens) else f" = attention × {size(document)}"
    return f"lift{formula}: 1× is an even share"


def top_of_scale(document: ShadedDocument) -> str:
    """Where the shade is full."""
    return "this document's maximum" if document.relative else f"{FULL_LIFT:g}× or more"
