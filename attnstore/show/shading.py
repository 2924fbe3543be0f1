"""How strongly each token of a document is shaded.

The scale. By default a token's shade is its *lift over uniform*, attention × length: 1 is the even share of each of a
document's tokens, whatever the document's length. The shade is proportional to the lift and is full at the document's
`full`: if that is one number for a store (`ask.scale`), equal shades mean the same in every document. The relative
scale is full at the document's own maximum instead: it shows more of a flat document, but is not comparable between
documents.

A reduction whose values are not shares of a whole, such as a norm, has no even share. It is still shaded by its values
× length, so that long documents are as dark as short ones, but that is not called a lift.

A signed reduction supports something or opposes it, and is not a share of a whole: it has no lift. Its shade is its
value, in one colour above 0 and in another below.

Special tokens have no text and often most of the attention (Clark et al. 2019, section 3.2). They are
listed with their values beside the text, and never set a scale. Shades show where attention went, not why a
class was predicted (Jain & Wallace 2019).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from attnstore.errors import UsageError
from attnstore.show.words import COLUMNS, token_rows

#: The lift with the full shade if no store defines it. Measured in five reviews (last layer of a 6-layer MiniLM
#: fine-tuned on IMDb): medians of 0.3 to 0.6, and one token in a hundred beyond 6 to 17.
FULL_LIFT = 10.0

#: The number of shades: more than the eye can tell apart, and few enough for a style sheet.
LEVELS = 20

_MOST = 8  # how many of the most attended tokens are listed


@dataclass(frozen=True, slots=True)
class ShadedDocument:
    """What is drawn: a document, the model's prediction, and the attention of its tokens.

    `text`: the whole text, as the source has it; `text_pair`: the second one of a pair, else None. `label`: the gold
    class, None if there is none. `probability`: that of the prediction, from 0 to 1. `labels_are_models`: False if the
    gold classes are not the model's; then nothing is called correct or wrong. `layer`: such as "6 of 6", or in words
    ("mean of the layers"), or "" if the reduction has no layers. `truncated`: the text continues beyond the last
    token. `tokens`: the question `document_tokens` (`COLUMNS`), one row per token in order of position; `start` and
    `end` count characters of `text`, or of `text_pair` if `segment` is 1; `attention` and `lift` may be null.
    `relative`: shade by this document's own maximum. `signed`: the values have a sign, and no lift. `whole`: the
    values of a document sum to 1, so a lift of 1 is an even share. `full`: the lift (the value, if signed) at which a
    shade is full, and `full_means` says in words what that is. `head`: the one whose values they are, in words, "" for
    the mean of all, or if there is one value for all.

    Raises:
        UsageError: `tokens` lacks a column.
    """

    id: str
    text: str = field(repr=False)
    label: str | None
    prediction: str
    probability: float
    reduction: str
    layer: str
    truncated: bool
    tokens: pa.Table = field(repr=False, hash=False)
    relative: bool = False
    labels_are_models: bool = True
    text_pair: str | None = field(default=None, repr=False)
    signed: bool = False
    whole: bool = True
    head: str = ""
    full: float = FULL_LIFT
    full_means: str = ""

    @property
    def texts(self) -> list[str]:
        """The text, or both of a pair."""
        return [self.text] if self.text_pair is None else [self.text, self.text_pair]

    def __post_init__(self) -> None:
        if missing := [name for name in COLUMNS if name not in self.tokens.column_names]:
            raise UsageError(
                f"the tokens to draw lack {', '.join(missing)}: take them from the question document_tokens"
            )


def intensities(document: ShadedDocument) -> list[float | None]:
    """The shade of every row, from 0 to 1; None for special tokens and missing values.

    Absolute: lift / full, at most 1. Relative: lift over the largest lift of the tokens that are not special.
    Values below zero, which a custom reduction may have, are shown as 0. For signed values: value / full, from -1 to
    1, or the value over the largest absolute value.
    """
    found = [None if row["special"] else shaded_value(document, row) for row in token_rows(document.tokens)]
    values = [value if value is None or document.signed else max(value, 0.0) for value in found]
    full = document.full
    if document.relative:
        full = max((abs(value) for value in values if value is not None), default=0.0)
    return [None if value is None else max(-1.0, min(value / full, 1.0)) if full else 0.0 for value in values]


def shaded_value(document: ShadedDocument, row: Mapping[str, Any]) -> float | None:
    """The value that a token is shaded by: its lift or, if values are signed, its value."""
    value: float | None = row["attention" if document.signed else "lift"]
    return value


def level_reached(shade: float) -> int:
    """The level that a shade from -1 to 1 reaches. It is rounded toward 0: only a full shade looks full."""
    return int(shade * LEVELS + (1e-9 if shade >= 0 else -1e-9))


def most_attended(
    document: ShadedDocument, rows: list[dict[str, Any]], sign: int = 1
) -> list[dict[str, Any]]:
    """The eight rows with the largest lift, without special tokens; ties in text order.

    For signed values: the eight largest above 0 or, with the sign -1, below.
    """
    value_of = {row["position"]: sign * (shaded_value(document, row) or 0) for row in rows}
    eligible = [row for row in rows if not row["special"] and value_of[row["position"]] > 0]
    return sorted(eligible, key=lambda row: (-value_of[row["position"]], row["position"]))[:_MOST]


def without_text(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without text to shade: mainly special tokens."""
    return [row for row in rows if row["special"] or row["start"] >= row["end"]]
