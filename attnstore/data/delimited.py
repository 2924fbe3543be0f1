"""Delimited text (CSV, TSV and similar): finds a file's layout from its beginning, and reads its rows.

If the beginning of a file is ambiguous, nothing is guessed: an unclear delimiter, header or encoding is refused,
naming the option that settles it. A quote that is never closed costs one row: reading continues at the line after the
one in which it opens.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from attnstore.config import SourceConfig
from attnstore.data.columns import USUAL_COLUMNS
from attnstore.data.headers import NEARLY_ALL, is_headed, is_name
from attnstore.data.streams import too_large
from attnstore.errors import DataError, UsageError
from attnstore.messages import counted, one_line, quoted

MAX_UNCLOSED = 100  # most rows with an open quote; beyond it, quotes mean something else in this file
SAMPLE = 1 << 20  # bytes from which a file's layout is found
SAMPLE_ROWS = 1000

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
#: Represents a carriage return inside a line, which csv would take for the line's end. No decoder returns it.
_RETURN = "\ud800"
#: Stands for a line that is too large to be held.
_TOO_LARGE = "\ud801"
#: The delimiter of a file of one column: no text file holds it.
_NONE = "\x1f"
_GUESSED = "utf-8-sig"  # the encoding of a file unless --encoding is given
_MOST_ABOVE = 5  # lines above a header
_NUL_SHARE = 100  # bytes in which more than one NUL makes a file binary
_FEW = 4  # the least rows for a decision
#: Characters that occur in text or between words, and so are not taken for delimiters.
_ORDINARY = frozenset(" .,;|\t'\"-_!?()[]{}/\\#@&*+=<>$%")
_CONTROLS = re.compile(r"[\x01-\x08\x0e-\x1f\x7f]")
#: Excel's first line, which names the delimiter.
_SEPARATOR = re.compile(r"sep=(.)\r?\n?")


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read a delimited file.

    `columns` are its names, or `1`, `2`, … without a header. `skipped` lines are above the header or the first row.
    `trailing`: its rows end with a delimiter that the header does not have. `sample` has rows from the beginning,
    without the header. `notes` are the guesses made.
    """

    columns: tuple[str, ...]
    delimiter: str
    quoted: bool
    headed: bool
    skipped: int
    blanks: bool  # blanks after a delimiter are part of it
    encoding: str
    escape: str | None
    ending: str  # of a line
    sample: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    largest: int  # most characters in a row; beyond it, a quote was left open, or it is not a document
    trailing: bool


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that can't be used: a fixed phrase for the reason, and its position beside its number (`line 12`)."""

    reason: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row, one per column. `padded`: the file had fewer."""

    cells: list[str | None]
    padded: bool = False


def layout_of(name: str, stream: IO[bytes], config: SourceConfig, tabs: bool) -> Layout:
    """Find the layout of a file from its first megabyte. `tabs`: its name implies tabs.

    Raises:
        DataError: it is not delimited text, or its encoding is not UTF-8.
        UsageError: its delimiter or header is ambiguous, or an option does not fit it.
    """
    _must_be_characters(config)
    content = stream.read(SAMPLE)
    is_whole = len(content) < SAMPLE
    text, encoding = _decoded(name, content, config)
    if not text.strip():
        raise DataError(f"{one_line(name)} is empty")
    if "\0" in text:
        raise _nul_error(name, content)
    if text.lstrip()[:1] in ("{", "[") and re.match(r'\s*(\{\s*"|\[\s*[\[{])', text):
        raise DataError(f"{one_line(name)} holds JSON, not a table of cells: name it .json or .jsonl")
    ending = "\r" if "\r" in text and "\n" not in text else "\n"
    lines = _lines(text, ending)
    if not is_whole:
        lines.pop()
    if not lines:
        raise DataError(f"{one_line(name)} has a first line of more than {SAMPLE:,} bytes: it is no table")
    notes: list[str] = []
    skipped = 0
    delimiter = config.delimiter
    if said := _SEPARATOR.fullmatch(lines[0]):
        skipped = 1
        delimiter = delimiter or said[1]
        lines = lines[1:]
    above = _above_header(lines, [delimiter] if delimiter else list(_DELIMITERS), config)
    if above:
        notes.append(
            f"left out above the header: {', '.join(quoted(line.strip()) for line in lines[:above])}"
        )
        skipped, lines = skipped + above, lines[above:]
    if delimiter is None:
        delimiter = _delimiter(name, lines, config, "\t" if tabs else ",", notes)
    in_quotes = _is_quoted(lines, is_whole, config.escape) if delimiter == "\t" else delimiter != _NONE
    blanks = _has_blanks(lines[0], delimiter)
    rows = [row for row in _parsed(lines, delimiter, in_quotes, blanks, config.escape) if row][
        : SAMPLE_ROWS + 1
    ]
    if not rows or not _begins(lines, delimiter, in_quotes, blanks, config.escape):
        raise DataError(
            f"{one_line(name)}: its first row has a quote that is not closed, or goes on after it"
        )
    width = len(rows[0])
    trailing = _are_trailing(rows)
    if trailing:
        rows = [row[:width] if len(row) == width + 1 and not row[width].strip() else row for row in rows]
    if config.escape is None:
        _look_for_escapes(name, lines, rows, delimiter, blanks, notes)
    _refuse_odd_delimiter(name, lines, config, width)
    headed = is_headed(name, rows, config)
    if config.columns and len(config.columns) != len(rows[0]):
        raise UsageError(
            f"--columns names {counted(len(config.columns), 'column')}, {one_line(name)} has {len(rows[0])}"
        )
    columns = config.columns or (
        tuple(rows[0]) if headed else tuple(str(place) for place in range(1, len(rows[0]) + 1))
    )
    return Layout(
        columns=columns,
        delimiter=delimiter,
        quoted=in_quotes,
        headed=headed,
        skipped=skipped,
        blanks=blanks,
        encoding=encoding,
        escape=config.escape,
        ending=ending,
        sample=tuple(tuple(row) for row in rows[headed:] if len(row) == len(columns)),
        notes=tuple(notes),
        largest=config.max_document_bytes,
        trailing=trailing,
    )


def delimited_rows(stream: IO[bytes], layout: Layout) -> Iterator[tuple[int, Row | Bad]]:
    """Each row with its number, not counting the header. Only one row is in memory.

    Raises DataError if so many quotes are left open that they can't be quotes.
    """
    csv.field_size_limit(max(layout.largest + 2, csv.field_size_limit()))
    text = io.TextIOWrapper(stream, encoding=layout.encoding, errors="surrogateescape", newline=layout.ending)
    lines = _Lines(text, layout.ending, layout.largest)
    for _ in range(layout.skipped):
        next(lines, None)
    reader = _reader(lines, layout.delimiter, layout.quoted, layout.blanks, layout.escape)
    number = 0 if layout.headed else 1
    width = len(layout.columns)
    unclosed = swallowed_to = 0
    while True:
        lines.begin()
        try:
            cells = next(reader)
        except StopIteration:
            lines.check(layout)
            return
        except csv.Error:
            swallowed_to = max(swallowed_to, lines.first + lines.count - 1)
            bad, again = _malformed(lines)
            unclosed += again
            if unclosed > MAX_UNCLOSED:
                raise DataError(
                    f"more than {MAX_UNCLOSED} rows open a quote that they do not close, the last in line"
                    f" {lines.first}: if quotes are a part of the text, give --delimiter tab or rewrite the file"
                ) from None
            if number:
                yield number, bad
            number += 1
            continue
        if not cells:  # an empty line
            continue
        if number:
            if layout.trailing and len(cells) == width + 1 and not cells[width].strip():
                cells.pop()
            # A short row usually just lacks its empty last cells. After an open quote, though, a short row may be the
            # end of a text, and so may a row with the quote that closes that text.
            suspect = lines.first <= swallowed_to and (len(cells) < width or lines.quotes % 2)
            if len(cells) > width or suspect:
                yield number, Bad("malformed row", lines.span())
            elif cells[0] == layout.columns[0] and layout.headed and tuple(cells) == layout.columns:
                yield number, Bad("the header again", lines.span())
            else:
                cells = [cell.replace(_RETURN, "\r") if _RETURN in cell else cell for cell in cells]
                padding = [None] * (width - len(cells))
                yield number, Row([*cells, *padding], padded=bool(padding))
        number += 1


def _malformed(lines: "_Lines") -> tuple[Bad, bool]:
    """Why the row just read is rejected, and whether its later lines are read again, because it left a quote open."""
    if lines.count == 1:
        reason = too_large(lines.most) if lines.is_too_large else "malformed row"
        return Bad(reason, f"line {lines.first}"), False
    swallowed = lines.count - 1
    lines.again()
    return Bad(
        "a quote is not closed", f"line {lines.first}, it would swallow {counted(swallowed, 'line')}"
    ), True


class _Lines:
    """The lines of a text for csv's reader. Those of the current row are kept so that they can be read again."""

    def __init__(self, text: IO[str], ending: str, most: int) -> None:
        self._text = text
        self._ending = ending
        self.most = most
        self._back: deque[str] = deque()
        self._row: list[str] = []
        self._size = 0
        self._foreign = 0  # the first line that is not UTF-8
        self._fitting = False  # some line is UTF-8 with non-ASCII characters
        self.first = 1  # the number of the row's first line

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._size > self.most:
            raise csv.Error("a row without an end")
        line = self._back.popleft() if self._back else self._next()
        if line == _TOO_LARGE:
            self._row.append(line)
            raise csv.Error("a line that is too large")
        if not line.isascii() and not self._fitting:
            self._look_at(line)
        self._row.append(line)
        self._size += len(line)
        return line

    def _next(self) -> str:
        line = self._text.readline(self.most + 2)
        if not line:
            raise StopIteration
        if len(line) > self.most and not line.endswith(self._ending):
            while (more := self._text.readline(SAMPLE)) and not more.endswith(self._ending):
                pass
            return _TOO_LARGE
        return _line(line, self._ending)

    @property
    def is_too_large(self) -> bool:
        """Whether the row is a single line that is too large."""
        return self._row == [_TOO_LARGE]

    @property
    def count(self) -> int:
        """How many lines the row has."""
        return len(self._row)

    @property
    def quotes(self) -> int:
        """How many quotes the row has."""
        return sum(line.count('"') for line in self._row)

    def begin(self) -> None:
        """Mark the next line as the first of a row."""
        self.first += len(self._row)
        self._row = []
        self._size = 0

    def again(self) -> None:
        """Go back to the row's second line, so that all its lines but the first are read again."""
        self._back.extendleft(reversed(self._row[1:]))
        del self._row[1:]

    def _look_at(self, line: str) -> None:
        try:
            line.replace(_RETURN, "").encode()
        except UnicodeEncodeError:
            self._foreign = self._foreign or self.first + len(self._row)
        else:
            self._fitting = not line.replace(_RETURN, "").isascii()

    def check(self, layout: Layout) -> None:
        """Raise DataError if there were non-ASCII lines and none was UTF-8: the text has another encoding."""
        if self._foreign and not self._fitting and layout.encoding == _GUESSED:
            raise DataError(
                f"line {self._foreign:,} is not UTF-8, nor is any with a character beyond ASCII: give --encoding cp1252"
                " or the one it has (--encoding utf-8 drops such rows)"
            )

    def span(self) -> str:
        """The row's position, if it has more than one line."""
        return f"lines {self.first} to {self.first + self.count - 1}" if self.count > 1 else ""


def _line(line: str, ending: str) -> str:
    """A line whose only line end is at its end; carriage returns inside it are replaced by `_RETURN`."""
    if ending == "\r":
        return line
    body = line[:-2] if line.endswith("\r\n") else line.rstrip("\n")
    return body.replace("\r", _RETURN) + "\n" if "\r" in body else line


def _lines(text: str, ending: str) -> list[str]:
    # Not str.splitlines, which also ends lines at a form feed.
    return [_line(line, ending) for line in io.StringIO(text, newline=ending)]


def _reader(
    lines: Iterable[str], delimiter: str, quoted: bool, blanks: bool, escape: str | None
) -> Iterator[list[str]]:
    if not quoted:
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, escapechar=escape)
    return csv.reader(
        lines,
        delimiter=delimiter,
        strict=True,
        skipinitialspace=blanks,
        escapechar=escape,
        doublequote=escape != '"',
    )


def _parsed(
    lines: Sequence[str], delimiter: str, quoted: bool, blanks: bool = False, escape: str | None = None
) -> Iterator[list[str]]:
    """The readable rows of a sample, without the last if the sample may end inside it."""
    reader = _reader(lines, delimiter, quoted, blanks, escape)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            continue


def _begins(lines: Sequence[str], delimiter: str, quoted: bool, blanks: bool, escape: str | None) -> bool:
    """Whether the first row can be read."""
    try:
        return next(_reader(lines, delimiter, quoted, blanks, escape), None) is not None
    except csv.Error:
        return False


# --- Finding the layout from a file's beginning ---------------------------------------------------------------


def _decoded(name: str, content: bytes, config: SourceConfig) -> tuple[str, str]:
    """The sample as text, and its encoding. Raises DataError if it is not UTF-8."""
    if config.encoding is not None:
        try:
            return content.decode(config.encoding, "surrogateescape"), config.encoding
        except UnicodeDecodeError as error:  # a sample may end inside a character
            if len(content) < SAMPLE or error.start < len(content) - 4:
                raise DataError(
                    f"{one_line(name)} is not {config.encoding} throughout: byte {error.start:,} does not fit"
                ) from None
            return content[: error.start].decode(config.encoding), config.encoding
    if content.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise DataError(f"{one_line(name)} is UTF-32, not UTF-8: give --encoding utf-32")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{one_line(name)} is UTF-16, not UTF-8: give --encoding utf-16")
    text = content.decode("utf-8-sig", "surrogateescape")
    if (first := foreign_byte(content)) is not None:
        if len(_CONTROLS.findall(text)) > len(text) / 100:
            raise DataError(f"{one_line(name)} is binary, not text (it holds control characters throughout)")
        fitting = encoding_of(content)
        line = content[:first].count(b"\n") + 1
        raise DataError(
            f"{one_line(name)} is not UTF-8: byte 0x{content[first]:02x} in line {line:,} is invalid; "
            f"--encoding {fitting} fits, and reads that line's word as"
            f" {_word_around(content, first).decode(fitting, 'replace')!r} (--encoding utf-8 drops such rows)"
        )
    return text, _GUESSED


def _nul_error(name: str, content: bytes) -> DataError:
    """The error about a text with NUL bytes."""
    for encoding, zeros in (("utf-16-le", content[1::2]), ("utf-16-be", content[::2])):
        if zeros.count(0) > len(zeros) / 2:
            return DataError(f"{one_line(name)} is UTF-16, not UTF-8: give --encoding {encoding}")
    first = content.index(0)
    if content.count(0) <= len(content) / _NUL_SHARE:
        line = content[:first].count(b"\n") + 1
        return DataError(
            f"{one_line(name)} holds NUL bytes, the first in line {line:,}: take them out, as with tr -d '\\000'"
        )
    return DataError(f"{one_line(name)} is binary, not text (it holds NUL bytes)")


def foreign_byte(content: bytes) -> int | None:
    """The position of the first invalid byte if the text is not UTF-8; None for UTF-8, even with a few broken rows.

    If no non-ASCII bytes of a text form a valid multi-byte character, its encoding has one byte per character.
    """
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start >= len(content) - 3 and error.reason == "unexpected end of data":
            return None  # the sample ends inside a character
        fitting = sum(not c.isascii() for c in content.decode("utf-8", "ignore"))
        broken = sum(0xDC80 <= ord(c) <= 0xDCFF for c in content.decode("utf-8", "surrogateescape"))
        return error.start if fitting == 0 or broken > fitting else None
    return None


def encoding_of(content: bytes) -> str:
    """The likeliest encoding with one byte per character: Windows-1252 if it fits, else Latin-1."""
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _word_around(content: bytes, place: int) -> bytes:
    start = (
        max(content.rfind(separator, 0, place) for separator in (b" ", b"\n", b"\t", b",", b";", b'"')) + 1
    )
    found = re.match(rb'[^\s,;"]*', content[start : start + 40])
    return found[0] if found else b""


def _has_blanks(first: str, delimiter: str) -> bool:
    """Whether a blank follows each delimiter of the header, as in `label, text`."""
    return (
        delimiter in ",;|" and delimiter in first and first.count(delimiter) == first.count(f"{delimiter} ")
    )


def _above_header(lines: Sequence[str], delimiters: Sequence[str], config: SourceConfig) -> int:
    """How many lines (a title, comments, blank lines) are above the header; 0 if in doubt.

    The header is followed by rows of the same width, and has only names, one of them a usual column name.
    """
    if config.header is False or config.columns or len(lines) < _FEW:
        return 0
    for delimiter in delimiters:
        for above in range(1, min(_MOST_ABOVE + 1, len(lines) - _FEW)):
            title = lines[above - 1]
            filled = sum(bool(cell.strip()) for cell in title.split(delimiter))
            if '"' in title or (filled > 1 and not title.startswith("#")):
                break
            first = [cell.strip(' "\n') for cell in lines[above].split(delimiter)]
            if len(first) < 2 or not all(map(is_name, first)):
                continue
            if not any(cell.casefold() in USUAL_COLUMNS for cell in first):
                continue
            in_quotes = delimiter != "\t" or _is_quoted(lines[above:], True, config.escape)
            rows = [row for row in _parsed(lines[above:], delimiter, in_quotes, escape=config.escape) if row]
            if sum(len(row) == len(first) for row in rows) >= NEARLY_ALL * len(rows):
                return above
    return 0


def _are_trailing(rows: Sequence[Sequence[str]]) -> bool:
    """Whether nearly all rows end with a delimiter that the first row lacks."""
    width = len(rows[0]) if rows else 0
    longer = sum(len(row) == width + 1 and not row[width].strip() for row in rows[1:])
    return width > 1 and longer > 0 and longer >= NEARLY_ALL * len(rows[1:])


def _look_for_escapes(
    name: str,
    lines: Sequence[str],
    rows: Sequence[Sequence[str]],
    delimiter: str,
    blanks: bool,
    notes: list[str],
) -> None:
    r"""Add a note if some quotes are written `\"`, as Spark does; raise UsageError if most rows are lost otherwise."""
    if not any('\\"' in line for line in lines):
        return
    width = len(rows[0])
    escaped = [row for row in _parsed(lines, delimiter, True, blanks, "\\") if row][: SAMPLE_ROWS + 1]
    fitting, before = (sum(len(row) == width for row in each) for each in (escaped, rows))
    # Between tabs, such rows can be read, but the quotes stay around the text.
    around = sum(any(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in row) for row in rows[1:])
    is_kept = delimiter == "\t" and around >= NEARLY_ALL * len(rows[1:])
    if len(escaped[0]) != width or fitting < NEARLY_ALL * len(escaped):
        return
    if fitting <= before and not is_kept:
        return
    advice = r"""quotes in it are written \", as Spark does: --escape '\' reads them"""
    if before < fitting / 2 or is_kept:
        raise UsageError(f"{one_line(name)}: {advice}")
    notes.append(f"{one_line(name)}: some {advice}; without it such rows are malformed")


def _must_be_characters(config: SourceConfig) -> None:
    """Raise UsageError for an option that csv can't use."""
    for option, value in (("--delimiter", config.delimiter), ("--escape", config.escape)):
        if value is not None and (len(value) != 1 or value in '"\r\n\0'):
            raise UsageError(
                f"{option} {value!r}: give one character that is no double quote and no line break"
            )
    if config.delimiter is not None and config.delimiter == config.escape:
        raise UsageError(f"--delimiter and --escape are both {config.delimiter!r}: give two characters")


def _refuse_odd_delimiter(name: str, lines: Sequence[str], config: SourceConfig, width: int) -> None:
    """Raise UsageError if an unusual character occurs equally often in all lines of a file with one column.

    Such a character may separate columns.
    """
    if width > 1 or config.delimiter is not None or len(lines) < _FEW:
        return
    for sign in dict.fromkeys(lines[0].rstrip("\r\n")):
        if sign.isalnum() or sign in _ORDINARY:
            continue
        count = lines[0].count(sign)
        if sum(line.count(sign) == count for line in lines) >= NEARLY_ALL * len(lines):
            shown = f"'{sign}'" if sign.isprintable() else f"$'\\x{ord(sign):02x}'"
            raise UsageError(
                f"{one_line(name)}: the lines may be columns separated by {shown}: --delimiter {shown} reads them so,"
                " --format lines each line as a text"
            )


def _delimiter(name: str, lines: Sequence[str], config: SourceConfig, usual: str, notes: list[str]) -> str:
    """The delimiter with which nearly all rows are as wide as the first; of several, one that gives a text column.

    Raises UsageError if it is ambiguous.
    """
    texts = {
        n.strip().casefold() for n in (config.text_column or "").split(",") if n.strip()
    } or USUAL_COLUMNS
    total: dict[str, int] = {}
    fitting: dict[str, int] = {}  # rows as wide as the first
    headed: set[str] = set()
    widths: dict[str, int] = {}
    for delimiter in _DELIMITERS:
        rows = [
            row
            for row in _parsed(lines, delimiter, delimiter != "\t" or _is_quoted(lines, True, config.escape))
            if row
        ]
        # The first row is decisive: a header is always well-formed.
        width = len(rows[0]) if rows else 0
        total[delimiter] = len(rows)
        if width > 1 and _are_trailing(rows):
            width += 1
        fitting[delimiter] = sum(len(row) == width for row in rows) if width > 1 else 0
        if width > 1 and any(cell.strip().casefold() in texts for cell in rows[0]):
            headed.add(delimiter)
        if _are_split_by_another(rows, delimiter):
            fitting[delimiter] = 0
        widths[delimiter] = width
    consistent = [d for d, n in fitting.items() if n and n >= NEARLY_ALL * total[d]]
    named = [d for d in consistent if widths[d] == len(config.columns)]
    likely = named or [d for d in consistent if d in headed] or consistent or sorted(headed)
    # Two or three rows may have the same number of commas by chance.
    is_clear = headed or len(likely) == 1 or total[usual] >= _FEW
    if usual in likely and is_clear:
        return usual
    if len(likely) == 1:
        notes.append(f"detected column separator: {likely[0]!r}")
        return likely[0]
    if likely:
        raise UsageError(
            f"{one_line(name)} may have its columns separated by"
            f" {' or by '.join(_DELIMITERS[d] for d in likely)}: choose one with --delimiter"
        )
    if fitting[usual] > total[usual] / 2:
        raise UsageError(
            f"{one_line(name)}: no delimiter gives all rows the same number of cells: set --delimiter,"
            " and rows that do not fit are counted"
        )
    # Without quotes, lines with a usual delimiter here and there are texts, one per line.
    return (
        usual
        if any(line.startswith('"') for line in lines) or not any(usual in line for line in lines)
        else _NONE
    )


def _are_split_by_another(rows: Sequence[Sequence[str]], delimiter: str) -> bool:
    """Whether in nearly all rows a quoted cell begins inside a cell, after one of the other delimiters."""
    others = [f'{other}"' for other in _DELIMITERS if other != delimiter]
    hidden = sum(any(cell[:1] != '"' and other in cell for cell in row for other in others) for row in rows)
    return bool(rows) and hidden >= NEARLY_ALL * len(rows)


def _is_quoted(lines: Sequence[str], is_whole: bool, escape: str | None) -> bool:
    """Whether some field begins with a quote, and quoting gives all rows the same number of fields."""
    if not any(line.startswith('"') or '\t"' in line for line in lines):
        return False
    widths = set()
    try:
        for row in _reader(lines, "\t", True, False, escape):
            if row:
                widths.add(len(row))
    except csv.Error as error:
        # A sample may end inside a quoted field.
        if is_whole or "unexpected end" not in str(error):
            return False
    return len(widths) == 1
