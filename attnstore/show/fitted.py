"""A table of answers cut to fit a terminal: as many rows and columns as fit, with long texts shortened.

`left_out` says what is cut; nothing is cut if a table goes to a file or a pipe (`formats`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from attnstore.ask.answer import BASIS_KEY, COLUMNS_KEY
from attnstore.messages import counted
from attnstore.show.columns import display_width, paragraph
from attnstore.show.formats import LONGEST, frame_of, grid, refuse, rounded_column
from attnstore.show.p_values import p_columns
from attnstore.visible import visible_line

#: A text column is not made narrower than this to fit another column.
_LEAST = 12


@dataclass(frozen=True, slots=True)
class Fitted:
    """A drawn table, a line per row, and how many of the table's rows and columns it has."""

    text: str
    rows: int
    columns: int


def left_out(shape: tuple[int, int], table: pa.Table, all_columns: str, all_rows: str) -> str:
    """What is not drawn of a table of which (rows, columns) are, and how to show it; empty if all is drawn."""
    rows, columns = shape
    notes = []
    if columns < table.num_columns:
        notes.append(f"{columns} of {counted(table.num_columns, 'column')}; {all_columns} shows all")
    if rows < table.num_rows:
        notes.append(f"{rows:,} of {counted(table.num_rows, 'row')}; {all_rows} shows all")
    return " · ".join(notes)


def fit(table: pa.Table, width: int, rows: int | None = None, columns: Sequence[str] = ()) -> Fitted:
    """The table in at most `width` columns of a terminal, its first `rows` rows (all where that is None).

    `columns` are the columns to draw; if empty, all. If a name begins with `…`, its texts keep their end when cut.
    Columns that do not fit are left out, the last first; the first is always drawn, even if its name is wider than the
    terminal. Numbers have four significant digits.

    Raises:
        UsageError: columns can't be drawn, or have the same name.
    """
    frame = cells(table, rows, columns)
    names = frame.columns
    texts = {name for name in names if frame[name].dtype == pl.String} - number_columns(table)
    ends = {visible_line(name.removeprefix("…")) for name in columns if name.startswith("…")}
    natural = dict(zip(names, _widths(frame), strict=True))
    headers = {name: sum(map(display_width, name)) for name in names}

    def width_of(name: str, cap: int) -> int:
        return min(natural[name], max(cap, headers[name])) if name in texts else natural[name]

    def total(some: Sequence[str], cap: int) -> int:
        return sum(width_of(name, cap) + 3 for name in some) + 1

    count = next((n for n in range(len(names), 1, -1) if total(names[:n], _LEAST) <= width), 1)
    shown = names[:count]
    widest = max((natural[name] for name in shown), default=0)
    cap = next((cap for cap in range(widest, 0, -1) if total(shown, cap) <= width), 1)
    cut = [
        pl.Series(
            name, [shortened(text, width_of(name, cap), name in ends) for text in frame[name]], pl.String
        )
        for name in shown
        if name in texts and width_of(name, cap) < natural[name]
    ]
    drawn = grid(frame.select(shown).with_columns(cut), "UTF8_FULL_CONDENSED")
    return Fitted(drawn, frame.height, len(shown))


def fitted_lines(
    table: pa.Table, width: int, rows: int | None, wide: bool, all_columns: str, all_rows: str
) -> str:
    """A table for people: its short set of columns or, if `wide`, all; what is left out; what it is based on.

    The columns and the basis are an answer's metadata (`ask.answer`); of other tables, all columns that fit are drawn.
    `all_columns` and `all_rows` say how to show what is left out.
    """
    metadata = table.schema.metadata or {}
    columns = [] if wide else json.loads(metadata.get(COLUMNS_KEY, b"[]"))
    fitted = fit(table, 10**6 if wide else width, rows, columns)
    lines = [fitted.text]
    if note := left_out((fitted.rows, fitted.columns), table, all_columns, all_rows):
        lines += paragraph(note, width)
    if basis := metadata.get(BASIS_KEY):
        lines += paragraph(f"based on {basis.decode()}", width)
    return "\n".join(lines)


def cells(table: pa.Table, rows: int | None, columns: Sequence[str]) -> pl.DataFrame:
    """What `fit` draws, before cutting: rounded floats, texts made visible on one line, and all others as such texts.

    A column of numbers may be texts too: see `rounded_column`.

    Raises:
        UsageError: columns can't be drawn, or have the same name.
    """
    refuse(table, "table")
    chosen = [name.removeprefix("…") for name in columns] or table.column_names
    frame = frame_of(table.select(chosen).slice(0, rows))
    with_p = p_columns(table)
    drawn = []
    for column in frame.rename({name: visible_line(name) for name in chosen}).get_columns():
        if column.dtype.is_float():
            column = rounded_column(column, column.name in with_p)  # noqa: PLW2901 - the same column, as it is drawn
        elif column.dtype.is_nested() or not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
            texts = [
                None if value is None else visible_line(_both_ends(_text(value)))
                for value in column.to_list()
            ]
            column = pl.Series(column.name, texts, pl.String)  # noqa: PLW2901
        drawn.append(column)
    return pl.DataFrame(drawn)


def number_columns(table: pa.Table) -> set[str]:
    """The columns of numbers, by their names in `cells`, which may draw numbers as texts."""
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return {visible_line(field.name) for field in table.schema if any(kind(field.type) for kind in kinds)}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_text(field)}' for name, field in value.items())}}}"
    return "null" if value is None else str(value)


def _both_ends(text: str) -> str:
    """The part of a text that tables use: of a long one, both ends, because some columns keep the end."""
    half = (LONGEST - 1) // 2
    return text if len(text) <= LONGEST else f"{text[:half]}…{text[-half:]}"


def _widths(frame: pl.DataFrame) -> list[int]:
    """The width of each drawn column, measured on the rule below the header: the renderer's own measure."""
    rule = next(line for line in grid(frame, "UTF8_FULL_CONDENSED").splitlines() if line.startswith("╞"))
    return [len(part) - 2 for part in rule.strip("╞╡").split("╪")]


def shortened(text: str | None, width: int, keep_end: bool = False) -> str | None:
    """The text in at most `width` columns, with `…` in place of what is cut off."""
    if text is None or sum(map(display_width, text)) <= width:
        return text
    used, kept = 1, []
    for character in reversed(text) if keep_end else text:
        used += display_width(character)
        if used > width:
            break
        kept.append(character)
    return "…" + "".join(reversed(kept)).lstrip() if keep_end else "".join(kept).rstrip() + "…"
