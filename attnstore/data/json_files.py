"""JSON in its usual forms: one object per line, an array of objects, and what pandas' `to_json` writes.

Lines and arrays are read row by row. Any other document is one value, and is in memory as a whole: above 128 MiB it is
refused, with the advice to write JSON Lines.

| document | rows |
|---|---|
| `[{"text": …}, …]`, `{"data": [{…}, …]}` | the objects |
| `[["…", "pos"], …]` (pandas' values), or a list per line | the lists, with places from 1 as their columns' names |
| `{"train": [{…}, …], "test": [{…}, …]}` | the objects, with a column `split` |
| `{"columns": […], "data": [[…], …]}` (split) | the lists, with these names |
| `{"text": {"0": …}, "label": {"0": …}}` (columns), `{"text": […], "label": […]}` | the columns' values, key by key |
| `{"0": {"text": …, "label": …}, …}` (index) | the objects |
"""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from attnstore.config import SourceConfig
from attnstore.data.columns import USUAL_COLUMNS
from attnstore.data.delimited import SAMPLE, Bad
from attnstore.data.objects import Object, Objects
from attnstore.data.splits import split_in
from attnstore.data.streams import TooLargeError, in_utf8, lines, read_over, too_large
from attnstore.errors import DataError
from attnstore.messages import listed, one_line

LARGEST = 128 << 20  # most bytes of a document in memory
_BLANK = b" \t\r\n"
_NEAR = 12  # characters: an error so near to the end of what was read may come from what was not
_FEW = 4  # keys of an object that is not a row of a table: they are not column names
_MALFORMED = Bad("malformed row")
_DECODER = json.JSONDecoder()


def of_json(name: str, stream: Callable[[], IO[bytes]], config: SourceConfig) -> Objects:
    """The rows of a file of JSON. Raises DataError for a document that holds no rows, or is too large."""
    encoding, own, most = config.encoding, stream, config.max_document_bytes
    if encoding is not None:
        stream = lambda: in_utf8(own(), encoding)  # noqa: E731 - the same stream, seen otherwise
    with stream() as file:
        start = file.read(SAMPLE)
        if b"\0" in start:
            raise DataError(
                f"{one_line(name)} is binary or UTF-16, not text (it holds NUL bytes): --encoding utf-16 reads that"
            )
        start = start.removeprefix(b"\xef\xbb\xbf").lstrip(_BLANK)
        if not start:
            raise DataError(f"{one_line(name)} is empty")
        is_document = start.startswith(b"{") and _is_document(start, file, most)
    if start.startswith(b"["):
        if _is_list_per_line(start):
            return Objects(lambda: _named(_lines(stream, most, list), config.columns), bool(config.columns))
        if not start[1:].lstrip(_BLANK).startswith(b"["):
            return Objects(lambda: _array(name, stream, dict, most))
        return Objects(lambda: _named(_array(name, stream, list, most), config.columns), bool(config.columns))
    if _are_consecutive_objects(start):
        return Objects(lambda: _values(name, stream, most))
    if not is_document:
        return Objects(lambda: _lines(stream, most, dict))

    def read() -> Iterator[tuple[int, Object | Bad]]:
        return enumerate(_rows_of(name, _whole(name, stream), config), start=1)

    read()  # a document without rows is refused here; it is in memory only while it is read
    return Objects(read)


def _is_list_per_line(start: bytes) -> bool:
    """Whether a file's first line is a list, and its second one begins another."""
    first, _, rest = start.partition(b"\n")
    try:
        return isinstance(json.loads(first), list) and rest.lstrip().startswith(b"[")
    except (ValueError, RecursionError):
        return False


def _are_consecutive_objects(start: bytes) -> bool:
    """Whether objects follow each other without being on separate lines."""
    text = start.decode(errors="replace")
    try:
        _, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return False
    rest = text[end:].lstrip(" \t\r")
    return text[end:].lstrip().startswith("{") and ("\n" in text[:end] or not rest.startswith("\n"))


def _lines(stream: Callable[[], IO[bytes]], most: int, kind: type) -> Iterator[tuple[int, Any]]:
    with stream() as file:
        for number, line in enumerate(lines(file, most), start=1):
            if line is None:
                yield number, Bad(too_large(most))
            elif line.strip():
                yield number, _value(line, kind)


def _value(line: bytes, kind: type) -> Any:
    """The object or list on a line, or the reason why there is none."""
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Bad("not UTF-8")
    except (ValueError, RecursionError):
        return _MALFORMED
    return value if isinstance(value, kind) else _MALFORMED


def _is_document(start: bytes, file: IO[bytes], most: int) -> bool:
    """Whether a file that begins with `start` is one value: its first line is the whole file, or part of a value."""
    line, ended, rest = start.partition(b"\n")
    if not ended:
        more = file.readline(most)
        if len(more) == most and not more.endswith(b"\n"):  # too large for a row: others may come behind it
            read_over(file)
            return not file.read(SAMPLE).strip()
        line += more
        rest = file.read(SAMPLE)
    try:
        json.loads(line.decode(errors="replace"))
    except RecursionError:
        return False
    except ValueError as error:
        if not isinstance(error, json.JSONDecodeError):
            return False
        # A first line that ends too early, and a second that continues it.
        ends_early = error.pos >= len(line.decode(errors="replace").rstrip())
        return ends_early and rest.lstrip(_BLANK)[:1] in (b'"', b"}", b"[", b"]")
    return not rest.strip()


def _whole(name: str, stream: Callable[[], IO[bytes]]) -> Any:
    with stream() as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise DataError(
            f"{one_line(name)} is one JSON value of more than {LARGEST >> 20} MiB, which would have to be held in"
            " memory: write one object per line (JSON Lines, pandas' to_json(orient='records', lines=True))"
        )
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise DataError(
            f"{one_line(name)} is not UTF-8: give --encoding cp1252, or the one that it has"
        ) from None
    except RecursionError:
        raise DataError(f"{one_line(name)} is JSON nested too deeply") from None
    except ValueError as error:
        said = (
            f"{error.msg} in line {error.lineno:,}" if isinstance(error, json.JSONDecodeError) else str(error)
        )
        raise DataError(f"{one_line(name)} is no JSON: {one_line(said)}") from None


def _rows_of(name: str, document: Any, config: SourceConfig) -> Iterable[Object | Bad]:
    """The rows in a document, which may itself be one row. Raises DataError if it is ambiguous."""
    values = list(document.values())
    if _is_split(document):
        return _with_names(document["data"], document["columns"])
    tables = [key for key, value in document.items() if _is_table(value)]
    if "rows" in tables:  # the hub's viewer has the `features` beside them
        tables = ["rows"]
    if len(document) > 1 and all(map(split_in, document)) and all(isinstance(each, list) for each in values):
        return _of_splits(document)
    if len(tables) > 1:
        raise DataError(
            f"{one_line(name)} holds several lists of rows ({listed(tables)}): write each to its own file"
        )
    if values and all(isinstance(value, list) for value in values) and not tables:
        if len({len(value) for value in values}) > 1:
            raise DataError(f"{one_line(name)} holds columns of different lengths ({listed(list(document))})")
        return (dict(zip(document, row, strict=True)) for row in zip(*values, strict=True))
    if tables:
        return (each if isinstance(each, dict) else _MALFORMED for each in document[tables[0]])
    if values and all(isinstance(value, dict) for value in values):
        return _crossed(name, document, config)
    if len(values) >= _FEW and not any(key.strip().casefold() in USUAL_COLUMNS for key in document):
        raise DataError(
            f"{one_line(name)} is one object ({listed(list(document))}), not a table: write one object per line with"
            " the text and its label (JSON Lines)"
        )
    return [document]


def _of_splits(document: Mapping[str, Sequence[Any]]) -> Iterator[Object | Bad]:
    """The rows of lists named like splits, with a column `split`; a list's columns are named by position."""
    for name, rows in document.items():
        for row in rows:
            if isinstance(row, list):
                yield {"split": split_in(name)} | {
                    str(place): each for place, each in enumerate(row, start=1)
                }
            else:
                yield {"split": split_in(name), **row} if isinstance(row, dict) else _MALFORMED


def _is_split(document: Mapping[str, Any]) -> bool:
    columns, data = document.get("columns"), document.get("data")
    return (
        isinstance(columns, list)
        and isinstance(data, list)
        and all(isinstance(row, list) and len(row) == len(columns) for row in data)
    )


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value[:20])


def _crossed(
    name: str, document: Mapping[str, Mapping[str, Any]], config: SourceConfig
) -> Iterable[Object | Bad]:
    """The rows of objects in an object: the outer keys are columns or rows, or the outer object is a row."""
    outer, inner = list(document), list(dict.fromkeys(key for each in document.values() for key in each))
    known = {
        *USUAL_COLUMNS,
        *(config.text_column or "").casefold().split(","),
        (config.label_column or "").casefold(),
    }

    def are_columns(keys: Sequence[str]) -> bool:
        return any(key.strip().casefold() in known for key in keys)

    def are_numbers(keys: Sequence[str]) -> bool:
        return bool(keys) and all(key.isdecimal() for key in keys)

    if are_numbers(inner) or (are_columns(outer) and not are_columns(inner) and len(outer) < len(inner)):
        return ({key: column.get(row) for key, column in document.items()} for row in inner)
    if are_numbers(outer) or (are_columns(inner) and not are_columns(outer)):
        return document.values()
    if len(outer) == 1 or are_columns(outer):
        return [document]
    raise DataError(
        f"{one_line(name)} is an object of objects, and either level may be the columns: write one object per line"
        " (JSON Lines)"
    )


def _with_names(rows: Sequence[Sequence[Any]], names: Sequence[object]) -> Iterator[Object]:
    return (dict(zip(map(str, names), row, strict=True)) for row in rows)


def _named(rows: Iterator[tuple[int, Any]], names: Sequence[str]) -> Iterator[tuple[int, Object | Bad]]:
    """Lists as objects, whose keys are `names`, or the positions from 1."""
    for number, row in rows:
        if isinstance(row, Bad):
            yield number, row
            continue
        names = names or [str(place) for place in range(1, len(row) + 1)]
        yield number, dict(zip(names, row, strict=True)) if len(row) == len(names) else _MALFORMED


def _values(name: str, stream: Callable[[], IO[bytes]], most: int) -> Iterator[tuple[int, Object | Bad]]:
    """Consecutive objects, over several lines or within one. Raises DataError if they are not JSON."""
    number = 0
    with stream() as file:
        text = _Text(file, most)
        try:
            while text.next():
                value = text.value()
                number += 1
                yield number, value if isinstance(value, dict) else _MALFORMED
        except (ValueError, RecursionError, TooLargeError) as error:
            said = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise DataError(
                f"{one_line(name)} is damaged or cut off after row {number:,}: {one_line(said)}"
            ) from None


def _array(name: str, stream: Callable[[], IO[bytes]], kind: type, most: int) -> Iterator[tuple[int, Any]]:
    """The elements of an array of objects or lists, each parsed separately; other elements are malformed.

    Raises DataError if it is not JSON: the following elements can't be separated.
    """
    number = 0
    with stream() as file:
        text = _Text(file, most)
        try:
            text.take("[")
            while number or text.next() != "]":
                value = text.value()
                number += 1
                yield number, value if isinstance(value, kind) else _MALFORMED
                if text.next() == "]":
                    break
                text.take(",")
            text.take("]")
            text.take("")
        except TooLargeError as error:
            # What follows can't be separated without reading it.
            raise DataError(
                f"{one_line(name)}: its row {number + 1:,} {error}: leave it out, or write one object per line"
            ) from None
        except (ValueError, RecursionError) as error:  # ValueError: also a number with thousands of digits
            said = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            after = f"after row {number:,}" if number else "at its beginning"
            raise DataError(f"{one_line(name)} is damaged or cut off {after}: {one_line(said)}") from None


class _Text:
    """JSON that is read as far as needed, and then forgotten."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        # UTF-8 is checked row by row.
        self._file = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")
        self._text = ""
        self._at = 0
        self._most = most

    def next(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            while (here := self._text[self._at : self._at + 1]) and here in " \t\r\n":
                self._at += 1
            if here or not self._more():
                return here

    def take(self, wanted: str) -> None:
        """Skip the next character, which must be `wanted`."""
        if self.next() != wanted:
            raise json.JSONDecodeError(f"expecting {wanted!r}" if wanted else "data after its end", "", 0)
        self._at += len(wanted)

    def value(self) -> Any:
        """The next value. Raises JSONDecodeError."""
        self.next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _NEAR
                if is_cut and len(self._text) - self._at > self._most:
                    raise TooLargeError(f"has {too_large(self._most)}") from None
                if not is_cut or not self._more():
                    raise
                continue
            if end == len(self._text) and self._more():
                continue  # a number may continue
            self._at = end
            return value

    def _more(self) -> bool:
        rest = self._text[self._at :]
        # Double the amount, so that a large value is not parsed again for every piece.
        read = self._file.read(max(SAMPLE, len(rest)))
        self._text, self._at = rest + read, 0
        return bool(read)
