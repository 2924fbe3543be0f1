"""Whether the first row of a table is a header: its cells differ from the columns below."""

import re
from collections.abc import Sequence

from attnstore.config import SourceConfig
from attnstore.data.columns import USUAL_COLUMNS, is_number, is_prose, words_in
from attnstore.errors import UsageError
from attnstore.messages import one_line

#: A share of rows that counts as all: a few bad rows mean nothing.
NEARLY_ALL = 0.9

_NAME = re.compile(r"[^\W\d][\w.-]*( [\w.-]+){0,2}\??")


def is_name(cell: str) -> bool:
    """Whether a cell may be the name of a column."""
    return _NAME.fullmatch(cell) is not None and not is_prose([cell])


def is_headed(name: str, rows: Sequence[Sequence[str]], config: SourceConfig) -> bool:
    """Whether the first row is a header. Raises UsageError if that can't be decided."""
    first = [cell.strip() for cell in rows[0]]
    if config.header is not None:
        return config.header
    if config.columns:
        return [cell.casefold() for cell in first] == [column.strip().casefold() for column in config.columns]
    named = {
        part.strip().casefold()
        for column in (
            config.text_column,
            config.label_column,
            config.id_column,
            config.group_column,
            *config.keep,
        )
        for part in [*(column or "").split(","), column or ""]
        if part.strip() and not part.strip().isdecimal()
    }
    # Concatenated tables repeat the header.
    below = [row for row in rows[1:] if row != rows[0]] if _has_usual_name(first) else rows[1:]
    columns = [
        [cell for row in below if len(row) > place and (cell := row[place].strip())]
        for place in range(len(first))
    ]
    if any(cell.casefold() in named for cell in first):
        return True
    votes = [_vote(cell, below) for cell, below in zip(first, columns, strict=True)]
    if any(
        cell.casefold() in USUAL_COLUMNS and cell not in below
        for cell, below in zip(first, columns, strict=True)
    ) and (len(first) > 1 or "row" not in votes):
        return True
    if "row" in votes:
        if len(rows) == 1 or "header" not in votes or votes.count("row") > votes.count("header"):
            return False
    elif "header" in votes:
        return True
    raise UsageError(
        f"{one_line(name)}: its first row ({one_line(', '.join(first))}) may be a header or not: say which with"
        " --header or --no-header"
    )


def _has_usual_name(first: Sequence[str]) -> bool:
    return len(first) > 1 and any(cell.casefold() in USUAL_COLUMNS for cell in first)


def _vote(cell: str, below: Sequence[str]) -> str:
    """The vote of a cell of the first row and those below it: `header`, `row`, or nothing."""
    if not below:
        return "header" if is_name(cell) else "row" if cell else ""
    if not cell:
        return "header" if is_number(below[0]) else ""  # pandas leaves its index without a name
    if sum(map(is_number, below)) >= NEARLY_ALL * len(below):
        return "row" if is_number(cell) else "header"
    if is_number(cell) or cell in below:
        return "row"
    return _vote_of_words(cell, below)


def _vote_of_words(cell: str, below: Sequence[str]) -> str:
    if len(below) > len(set(below)) <= max(2, len(below) // 5):  # classes: a header would stand out
        return "header" if is_name(cell) and len(below) >= 4 else ""
    lengths = sorted(map(words_in, below))
    words = words_in(cell)
    if is_name(cell) and lengths[len(lengths) // 2] >= max(3, 2 * words):
        return "header"
    return "row" if words >= 3 and words >= lengths[len(lengths) // 10] else ""
