"""A table of answers as the cells of a page: each a text and, for a link, an address."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import pyarrow as pa

from attnstore.show.p_values import p_columns, p_value

_LISTED = 12  # how many values of a list are shown
_LONG = 400  # how many characters of a text are shown


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    href: str | None = None
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A table on a page. `cut`: how many rows are not shown."""

    columns: list[str]
    rows: list[list[Cell]]
    cut: int = 0


def grid(table: pa.Table, address: Callable[..., str], most: int = 1000) -> Grid:
    """The first `most` rows of an answer. `address(page, **parameters)` makes the links."""
    rows = table.slice(0, most).to_pylist()
    with_p = p_columns(table)
    cells = [
        [_cell(name, value, row, address, name in with_p) for name, value in row.items()] for row in rows
    ]
    return Grid(list(table.column_names), cells, max(0, table.num_rows - most))


def address(page: str, /, **parameters: object) -> str:
    """The address of a page below its store's, with the parameters that are not None or empty."""
    return _with("/".join(quote(part, safe="") for part in page.split("/")), parameters)


def _with(path: str, parameters: Mapping[str, object]) -> str:
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def shown(value: Any) -> str:
    """A readable value: four significant digits, separated thousands, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        more = f", … ({len(value):,})" if len(value) > _LISTED else ""
        return ", ".join(map(shown, value[:_LISTED])) + more
    text = str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _cell(name: str, value: Any, row: Mapping[str, Any], address: Callable[..., str], is_p: bool) -> Cell:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and is_p:
        text = p_value(value)
    else:
        text = str(value) if name in ("document", "position", "layer") and value is not None else shown(value)
    href = None
    if value is not None:
        if name == "document" and isinstance(value, int):
            href = address(f"documents/{value}")
        elif name == "id" and isinstance(row.get("document"), int):
            href = address(f"documents/{row['document']}")
        elif name in ("word", "term") and isinstance(value, str):
            href = address("word", word=value)
        elif name == "group" and isinstance(value, str):
            href = address("documents", group=value)
    return Cell(text, href, is_number)
