"""Text in terminal columns: how many a character takes, and where lines break."""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attnstore.visible import visible, visible_line


@dataclass(frozen=True, slots=True)
class Cell:
    """One character of the text in the terminal: its glyphs, their columns, and their look."""

    glyphs: str
    columns: int
    level: int = 0
    dim: bool = False


NEW_LINE = Cell("\n", 0)


def display_width(character: str) -> int:
    """The columns a terminal gives a character: 0 if it combines, 2 if wide (UAX #11), else 1."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cells(text: str, level: int, dim: bool) -> Iterator[Cell]:
    """One cell per character, all with the same look."""
    for character in text:
        if character == "\n":
            yield NEW_LINE
        else:
            glyphs = " " if character == "\t" else visible(character)
            yield Cell(glyphs, sum(map(display_width, glyphs)), level, dim)


def wrapped(text: Iterable[Cell], width: int) -> Iterator[list[Cell]]:
    """Lines of at most `width` columns, broken after spaces and wide characters, or else where the line is full.

    Spaces at the end of a line are dropped; a combining mark stays with its character.
    """
    line: list[Cell] = []
    used = 0
    breakable = 0  # the line may end before this cell; 0: nowhere yet
    for cell in text:
        if cell is NEW_LINE:
            yield _trimmed(line)
            line, used, breakable = [], 0, 0
            continue
        space = cell.glyphs == " "
        while line and cell.columns and not space and used + cell.columns > width:
            at = breakable or len(line)
            yield _trimmed(line[:at])
            line, breakable = line[at:], 0
            used = sum(kept.columns for kept in line)
        follows_break = breakable == len(line) > 0
        line.append(cell)
        used += cell.columns
        if space or cell.columns == 2 or (cell.columns == 0 and follows_break):
            breakable = len(line)
    if line:
        yield _trimmed(line)


def _trimmed(line: list[Cell]) -> list[Cell]:
    end = len(line)
    while end and line[end - 1].glyphs == " ":
        end -= 1
    return line[:end]


def paragraph(text: str, width: int) -> list[str]:
    """A caption on as many lines as it needs. What it quotes can't control the terminal."""
    return [
        "".join(cell.glyphs for cell in line) for line in wrapped(cells(visible_line(text), 0, False), width)
    ]
