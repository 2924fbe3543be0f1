"""Rows of tables: CSV, TSV, JSON Lines, Parquet, one file at a time, one row in memory.

Rows are counted from 1, a header not included; in JSON Lines a row is a line. A row that can't be read is
told by its number, with a fixed phrase why, and the next ones go on.
"""

import csv
import io
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal
from urllib.parse import unquote

import pyarrow as pa

from attnstore.config import SourceConfig
from attnstore.data.splits import SPLIT_WORDS
from attnstore.data.streams import compression, decompressed, reading
from attnstore.errors import DataError, UsageError
from attnstore.messages import listed, one_line, quoted, similar

MAX_FIELD = 1 << 26  # characters in a field of a CSV; beyond, a quote was left open
SAMPLE = 1 << 20  # bytes looked at to tell a text file's layout
SAMPLE_ROWS = 1000

Kind = Literal["csv", "tsv", "jsonl", "parquet"]

TEXT_COLUMNS = (
    "text", "review", "sentence", "body", "content", "comment", "document", "review_text", "review_body",
    "comment_text", "message", "tweet", "post", "article", "description",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "sentiment", "class", "category", "target", "stars", "rating", "polarity", "labels", "score",
)  # fmt: skip
ID_COLUMNS = ("id", "idx", "guid", "uid", "doc_id", "document_id", "review_id", "text_id")
GROUP_COLUMNS = ("group",)
HEADERLESS = ("id", "label", "text")  # a TSV of three columns without a header


_SUFFIXES: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSED = (".gz", ".zst", ".zstd", ".bz2", ".xz")


@dataclass(frozen=True, slots=True)
class Table:
    """A file of rows. `partition` are the columns that its path holds (Hive's `label=pos`)."""

    name: str
    kind: Kind
    split: str | None
    partition: Mapping[str, str | None]
    open: Callable[[str], IO[bytes]]

    def stream(self) -> IO[bytes]:
        """The file's bytes, decompressed."""
        return decompressed(self.open(self.name))


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns to read."""

    text: str
    label: str | None
    id: str | None
    group: str | None
    split: str | None

    def __iter__(self) -> Iterator[str | None]:
        return iter((self.text, self.label, self.id, self.group, self.split))


Values = tuple[object, ...]  # in the order of `Columns`


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a delimited file looks like: its columns, and how it is to be read."""

    columns: Sequence[str]
    delimiter: str
    is_quoted: bool
    has_header: bool


def kind_of(name: str) -> Kind | None:
    """The kind of table that a file's name tells, without the suffix of a compression."""
    name = name.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return _SUFFIXES.get(posixpath.splitext(name)[1])


def table_at(name: str, open_: Callable[[str], IO[bytes]], kind: Kind) -> Table:
    """The table at a relative path, whose folders may be Hive's (`split=test/label=pos/`).

    Its split is Hive's; else the one that a word of its name says (`imdb-train-00001.parquet`); else the one
    of the nearest folder called as a split is.
    """
    *folders, file = name.split("/")
    partition: dict[str, str | None] = {}
    for folder in folders:
        key, equals, value = folder.partition("=")
        if equals:
            partition[unquote(key)] = None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)
    words = {SPLIT_WORDS[word] for word in re.split(r"[^a-z]+", file.lower()) if word in SPLIT_WORDS}
    above = [SPLIT_WORDS[folder.lower()] for folder in folders if folder.lower() in SPLIT_WORDS]
    split = partition.get("split")
    if split is None:
        split = words.pop() if len(words) == 1 else above[-1] if above else None
    return Table(name, kind, split, partition, open_)


def choose_columns(table: Table, config: SourceConfig, notes: list[str]) -> Columns:
    """Which columns to read: those named, else those with a usual name; each guess is added to `notes`.

    Raises UsageError if a named column is not there, no column looks like the text, or the text's holds
    something else; DataError if the table can't be read.
    """
    guesses: list[str] = []
    with reading(table.name):
        if table.kind == "parquet":
            found = [str(name) for name in _parquet_schema(table).names]
        elif table.kind == "jsonl":
            found = _json_keys(table)
        else:
            layout = _layout(table, config)
            found = list(layout.columns)
            if not layout.has_header:
                notes.append(f"{table.name} has no header: its columns were taken for {', '.join(found)}")
                guesses = ["told already"]
            elif layout.delimiter != ("\t" if table.kind == "tsv" else ","):
                notes.append(f"columns guessed to be separated by {layout.delimiter!r}")
    found += [key for key in table.partition if key not in found]

    def choose(what: str, named: str | None, usual: Sequence[str]) -> str | None:
        if named is not None:
            wanted = [name for name in found if name == named] or _same(found, named)
            if not wanted:
                raise UsageError(
                    f"{one_line(table.name)} has no column {quoted(named)} (--{what}-column), it has {listed(found)}"
                    f"{similar(named, found)}"
                )
        else:
            wanted = next(filter(None, (_same(found, name) for name in usual)), [])
            if what == "text" and not wanted and len(found) == 1:
                wanted = found
            if not wanted:
                return None
            guesses.append(f"{what} column guessed: {quoted(wanted[0])}")
        if len(wanted) > 1:
            raise UsageError(
                f"{one_line(table.name)} has {len(wanted)} columns called {quoted(wanted[0])}: rename one"
            )
        return wanted[0]

    text = choose("text", config.text_column, TEXT_COLUMNS)
    if text is None:
        raise UsageError(
            f"{one_line(table.name)} has no column that looks like text (it has {listed(found)}): use --text-column"
        )
    label = choose("label", config.label_column, [name for name in LABEL_COLUMNS if not _same([text], name)])
    if label == text:
        raise UsageError(f"the column {quoted(text)} can't be both the text and the label (--label-column)")
    if label is None:
        guesses.append(f"no column looks like the label (there are {listed(found)}): the documents have none")
    id_ = choose("id", config.id_column, ID_COLUMNS)
    group = choose("group", config.group_column, GROUP_COLUMNS)
    taken = table.split is not None or any(
        _same([name], "split") for name in (text, label, id_, group) if name
    )
    columns = Columns(text, label, id_, group, choose("split", None, () if taken else ("split",)))
    if table.kind == "parquet":
        _check_text(table, columns, _parquet_schema(table))
    notes += [] if guesses[:1] == ["told already"] else guesses
    return columns


def rows(table: Table, columns: Columns, config: SourceConfig) -> Iterator[tuple[int, Values | str]]:
    """Each row's number with its values (None for those in the path), or with the reason why it has none.

    Raises DataError if the table lacks a column, or can't be read any further.
    """
    with reading(table.name):
        if table.kind == "parquet":
            yield from _parquet_rows(table, columns)
        elif table.kind == "jsonl":
            yield from _json_rows(table, columns)
        else:
            yield from _delimited_rows(table, columns, config)


def _same(names: Sequence[str], name: str) -> list[str]:
    return [each for each in names if each.strip().casefold() == name.strip().casefold()]


def _missing(table: Table, name: str, found: Sequence[str]) -> DataError:
    return DataError(
        f"{one_line(table.name)} has no column {quoted(name)}, which the first file has (it has {listed(found)})"
    )


def _delimited_rows(
    table: Table, columns: Columns, config: SourceConfig
) -> Iterator[tuple[int, Values | str]]:
    # The standard library's reader: rows that don't fit are told apart one by one, with their numbers, a row
    # may be of any length, and what is in memory is one row.
    layout = _layout(table, config)
    places: list[int | None] = []
    for name in columns:
        if name is None or name in table.partition:
            places.append(None)
        elif name in layout.columns:
            places.append(layout.columns.index(name))
        else:
            raise _missing(table, name, layout.columns)
    csv.field_size_limit(max(MAX_FIELD, csv.field_size_limit()))
    with table.stream() as stream:
        lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        reader = _csv_reader(lines, layout.delimiter, layout.is_quoted)
        number = 0 if layout.has_header else 1
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield number, "malformed row"
                number += 1
                continue
            if not fields:  # an empty line
                continue
            if number:
                if len(fields) != len(layout.columns):
                    yield number, "malformed row"
                else:
                    yield number, tuple(None if place is None else fields[place] for place in places)
            number += 1


def _csv_reader(lines: Iterable[str], delimiter: str, is_quoted: bool) -> Iterator[list[str]]:
    if is_quoted:
        return csv.reader(lines, delimiter=delimiter, strict=True)
    return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)


def _layout(table: Table, config: SourceConfig) -> _Layout:
    """Tell a delimited file's layout from its beginning.

    A CSV has a header and quoted fields; its delimiter is the comma, unless a semicolon, a tab or a bar
    makes a text column appear. A TSV is unquoted, unless some field begins with a quote and quoting explains
    everything; its first row is the header if one of its cells is a usual column name or one that the user
    named, or if it has not three cells; otherwise the columns are id, label, text.
    """
    with table.stream() as stream:
        sample = stream.read(SAMPLE)
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{one_line(table.name)} is UTF-16, not UTF-8: convert it first")
    if b"\0" in sample:
        raise DataError(f"{one_line(table.name)} is binary, not text (it holds NUL bytes)")
    text = sample.decode("utf-8-sig", "surrogateescape")
    if not text.strip():
        raise DataError(f"{one_line(table.name)} is empty")
    # Not str.splitlines, to which a form feed ends a line, too.
    lines = list(io.StringIO(text, newline=""))
    is_whole = len(sample) < SAMPLE
    if not is_whole:
        lines.pop()
    named = [config.text_column, config.label_column, config.id_column, config.group_column]
    usual = {
        *TEXT_COLUMNS,
        *LABEL_COLUMNS,
        *ID_COLUMNS,
        *GROUP_COLUMNS,
        *(n.strip().casefold() for n in named if n),
    }

    if not lines:
        raise DataError(
            f"{one_line(table.name)} has a first line of more than {SAMPLE:,} bytes: it is no table"
        )

    def first_row(delimiter: str, is_quoted: bool = True) -> list[str]:
        try:
            return next((row for row in _csv_reader(lines, delimiter, is_quoted) if row), [])
        except csv.Error:
            return []

    if table.kind == "tsv":
        is_quoted = _is_quoted(lines, is_whole)
        row = first_row("\t", is_quoted)
        headed = len(row) != 3 or any(cell.strip().casefold() in usual for cell in row)
        return _Layout(row if headed else HEADERLESS, "\t", is_quoted, headed)
    texts = {config.text_column.strip().casefold()} if config.text_column else set(TEXT_COLUMNS)
    rows = {delimiter: first_row(delimiter) for delimiter in ",;\t|"}
    fitting = (d for d, row in rows.items() if any(cell.strip().casefold() in texts for cell in row))
    delimiter = next(fitting, ",")
    if not rows[delimiter]:
        raise DataError(
            f"{one_line(table.name)}: its first row has a quote that is not closed, or goes on after it"
        )
    return _Layout(rows[delimiter], delimiter, True, True)


def _is_quoted(lines: Sequence[str], is_whole: bool) -> bool:
    """Some field begins with a quote, and read as quoted all rows have the same number of fields."""
    if not any(line.startswith('"') or '\t"' in line for line in lines):
        return False
    widths = set()
    try:
        for row in _csv_reader(lines, "\t", True):
            if row:
                widths.add(len(row))
    except csv.Error as error:
        # A sample may end inside of a quoted field.
        if is_whole or "unexpected end" not in str(error):
            return False
    return len(widths) == 1


def _json_keys(table: Table) -> list[str]:
    keys: dict[str, None] = {}
    with table.stream() as stream:
        sample = stream.read(SAMPLE)
    if b"\0" in sample:
        raise DataError(f"{one_line(table.name)} is binary or UTF-16, not text (it holds NUL bytes)")
    if not sample.strip():
        raise DataError(f"{one_line(table.name)} is empty")
    if sample.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        raise DataError(
            f"{one_line(table.name)} is one JSON array: write an object a line (JSON Lines) instead"
        )
    for line in sample.splitlines()[:SAMPLE_ROWS]:
        value = _json_object(line)
        if isinstance(value, dict):
            keys.update(dict.fromkeys(value))
    if not keys:
        raise DataError(f"{one_line(table.name)} holds no JSON object on a line of its own (JSON Lines)")
    return list(keys)


def _json_object(line: bytes) -> dict[str, Any] | str:
    """The object, or the reason why there is none."""
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return "not UTF-8"
    except (ValueError, RecursionError):
        return "malformed row"
    return value if isinstance(value, dict) else "malformed row"


def _json_rows(table: Table, columns: Columns) -> Iterator[tuple[int, Values | str]]:
    with table.stream() as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            value = _json_object(line)
            if isinstance(value, str):
                yield number, value
            else:
                yield number, tuple(None if name is None else value.get(name) for name in columns)


def _parquet_file(file: IO[bytes]) -> Any:
    import pyarrow.parquet as pq

    # Buffered, so that a row group of any size is read page by page.
    return pq.ParquetFile(file, buffer_size=SAMPLE, pre_buffer=False)


def _parquet_schema(table: Table) -> pa.Schema:
    with table.open(table.name) as file:
        if compression(file) is not None:
            raise DataError(
                f"{one_line(table.name)} is Parquet inside another compression: decompress it first"
            )
        return _parquet_file(file).schema_arrow


def class_names(table: Table, label: str | None) -> tuple[str, ...]:
    """The names that a dataset of the hub keeps in its Parquet files' metadata for its numbered labels."""
    metadata = _parquet_schema(table).metadata or {}
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][label]
        names = feature["names"] if feature["_type"] == "ClassLabel" else []
        return tuple(str(name) for name in names)
    except (KeyError, TypeError, ValueError):
        return ()


def _parquet_rows(table: Table, columns: Columns) -> Iterator[tuple[int, Values | str]]:
    with table.open(table.name) as file:
        parquet = _parquet_file(file)
        schema = parquet.schema_arrow
        inside = [name for name in columns if name is not None and name not in table.partition]
        for name in inside:
            if name not in schema.names:
                raise _missing(table, name, schema.names)
        _check_text(table, columns, schema)
        number = 0
        for batch in parquet.iter_batches(batch_size=1024, columns=inside):
            lists = {name: _values(batch.column(name)) for name in inside}
            nothing: list[object] = [None] * batch.num_rows
            each = [nothing if name is None else lists.get(name, nothing) for name in columns]
            for values in zip(*each, strict=True):
                number += 1
                yield number, values


def _check_text(table: Table, columns: Columns, schema: pa.Schema) -> None:
    if columns.text not in table.partition and not _is_text(kind := schema.field(columns.text).type):
        raise UsageError(
            f"{one_line(table.name)}: column {quoted(columns.text)} is {one_line(kind)}, not text: use --text-column"
        )


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        "is_string",
        "is_large_string",
        "is_string_view",
        "is_binary",
        "is_large_binary",
        "is_binary_view",
    )
    return any(getattr(pa.types, test)(kind) for test in tests)


def _values(column: pa.Array) -> list[object]:
    """A column as Python values, strings as bytes: whether they are UTF-8 is for each row to show."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_text(column.type):
        column = column.cast(pa.large_binary())
    values: list[object] = column.to_pylist()
    return values
