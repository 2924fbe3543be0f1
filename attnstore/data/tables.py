"""Rows of tables: CSV, TSV, JSON Lines, Parquet, one file at a time, one row in memory.

Rows are counted from 1, a header not included; in JSON Lines a row is a line. A row that can't be read is
told by its number, with a fixed phrase why, and the next ones go on.
"""

import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal
from urllib.parse import unquote

import pyarrow as pa

from attnstore.config import SourceConfig
from attnstore.data.class_names import ClassNames, of_feature
from attnstore.data.columns import Columns, Sample, Values, choose_columns
from attnstore.data.delimited import SAMPLE, SAMPLE_ROWS, Bad, Layout, delimited_rows, layout_of
from attnstore.data.splits import SPLIT_WORDS
from attnstore.data.streams import compression, decompressed, reading
from attnstore.errors import DataError, UsageError
from attnstore.messages import one_line, quoted

Kind = Literal["csv", "tsv", "jsonl", "parquet"]

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


def columns_of(table: Table, config: SourceConfig, notes: list[str]) -> Columns:
    """Which columns of a table to read; each guess is added to `notes`.

    Raises UsageError if a column can't be told, or the text's holds something else; DataError for what can't be read.
    """
    with reading(table.name):
        schema = None
        if table.kind == "parquet":
            schema = _parquet_schema(table)
            found, sample = [str(name) for name in schema.names], Sample(_parquet_sample(table))
        elif table.kind == "jsonl":
            found, sample = _json_sample(table)
        else:
            layout = _layout(table, config)
            notes += layout.notes
            found = list(layout.columns)
            sample = Sample(layout.sample, headed=layout.headed or bool(config.columns))
    known = {key: value for key, value in table.partition.items() if key not in found}
    sample = Sample([[*row, *known.values()] for row in sample.rows], sample.headed)
    taken = table.split is not None
    classes = frozenset() if schema is None else frozenset(_named_classes(schema, table.name))
    columns = choose_columns(
        table.name, [*found, *known], config, notes, taken=taken, sample=sample, classes=classes
    )
    if schema is not None:
        _check_texts(table, columns, schema)
    return columns


def rows(table: Table, columns: Columns, config: SourceConfig) -> Iterator[tuple[int, Values | Bad]]:
    """Each row's number with its values (None for those in the path), or with the reason why it has none.

    A row that has fewer cells than the table has columns, its last ones empty, gives `Padded` values.
    Raises DataError if the table can't be read any further.
    """
    with reading(table.name):
        if table.kind == "parquet":
            yield from _parquet_rows(table, columns)
        elif table.kind == "jsonl":
            yield from _json_rows(table, columns)
        else:
            layout = _layout(table, config)
            places = [
                None if name is None or name not in layout.columns else layout.columns.index(name)
                for name in columns
            ]
            with table.stream() as stream:
                for number, row in delimited_rows(stream, layout):
                    if isinstance(row, Bad):
                        yield number, row
                    else:
                        values = (None if place is None else row.cells[place] for place in places)
                        yield number, Padded(values) if row.padded else tuple(values)


def label_values(table: Table, label: str, config: SourceConfig) -> Iterator[object]:
    """What stands in the column of the labels; None where there is no such column.

    Raises DataError if the table can't be read any further.
    """
    if label in table.partition:
        yield table.partition[label]
        return
    for _, values in rows(table, Columns((), label, None, None, None, None), config):
        if not isinstance(values, Bad):
            yield values[0]


class Padded(tuple[object, ...]):
    """The values of a row that was shorter than its table."""


def _layout(table: Table, config: SourceConfig) -> Layout:
    with table.stream() as stream:
        return layout_of(table.name, stream, config, table.kind == "tsv")


def _json_sample(table: Table) -> tuple[list[str], Sample]:
    """The keys of the first objects, and their values."""
    keys: dict[str, None] = {}
    objects: list[dict[str, Any]] = []
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
            objects.append(value)
    if not keys:
        raise DataError(f"{one_line(table.name)} holds no JSON object on a line of its own (JSON Lines)")
    return list(keys), Sample([[_shown(each.get(key)) for key in keys] for each in objects])


def _shown(value: object) -> str | None:
    """A value as the cell of a sample: a list or an object is none."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return None if value is None or isinstance(value, list | dict) else str(value)


def _json_object(line: bytes) -> dict[str, Any] | str:
    """The object, or the reason why there is none."""
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return "not UTF-8"
    except (ValueError, RecursionError):
        return "malformed row"
    return value if isinstance(value, dict) else "malformed row"


def _json_rows(table: Table, columns: Columns) -> Iterator[tuple[int, Values | Bad]]:
    with table.stream() as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            value = _json_object(line)
            if isinstance(value, str):
                yield number, Bad(value)
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


def class_names(table: Table, label: str) -> ClassNames | None:
    """The names that a dataset of the hub keeps in its Parquet files' metadata for its numbered labels."""
    return _named_classes(_parquet_schema(table), table.name).get(label) if table.kind == "parquet" else None


def _named_classes(schema: pa.Schema, where: str) -> dict[str, ClassNames]:
    """The columns of classes with names, by the metadata that the `datasets` library writes."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        named = {str(column): of_feature(feature, where) for column, feature in features.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {column: names for column, names in named.items() if names is not None}


def _parquet_rows(table: Table, columns: Columns) -> Iterator[tuple[int, Values | Bad]]:
    with table.open(table.name) as file:
        parquet = _parquet_file(file)
        schema = parquet.schema_arrow
        inside = [name for name in columns if name is not None and name in schema.names]
        number = 0
        for batch in parquet.iter_batches(batch_size=1024, columns=inside):
            lists = {name: _values(batch.column(name)) for name in inside}
            nothing: list[object] = [None] * batch.num_rows
            each = [nothing if name is None else lists.get(name, nothing) for name in columns]
            for values in zip(*each, strict=True):
                number += 1
                yield number, values


def _parquet_sample(table: Table) -> list[list[str | None]]:
    """The first rows of a Parquet file."""
    with table.open(table.name) as file:
        batch = next(_parquet_file(file).iter_batches(batch_size=SAMPLE_ROWS), None)
    if batch is None:
        return []
    return [[_shown(value) for value in row] for row in zip(*map(_values, batch.columns), strict=True)]


def _check_texts(table: Table, columns: Columns, schema: pa.Schema) -> None:
    for name in columns.texts:
        if name in schema.names and not _is_text(kind := schema.field(name).type):
            raise UsageError(
                f"{one_line(table.name)}: column {quoted(name)} is {one_line(kind)}, not text: use --text-column"
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
