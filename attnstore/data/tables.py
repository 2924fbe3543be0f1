"""Rows of tables, one table at a time: a file's kind, and its rows.

Rows are counted from 1, without a header; in JSON Lines a row is a line. A row that can't be read is reported by its
number, with a fixed phrase for the reason, and reading continues with the next.
"""

import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import IO, Literal
from urllib.parse import unquote

from attnstore.config import SourceConfig
from attnstore.data.arrow import (
    Batches,
    batch_rows,
    check_texts,
    columns_with_classes,
    of_ipc,
    of_parquet,
    sample_of,
    with_paths,
)
from attnstore.data.class_names import ClassNames
from attnstore.data.columns import Columns, Sample, Values, choose_columns
from attnstore.data.delimited import Bad, Layout, delimited_rows, layout_of
from attnstore.data.excel import of_excel
from attnstore.data.json_files import of_json
from attnstore.data.objects import Objects, found_in, object_rows
from attnstore.data.splits import SPLIT_WORDS, split_in
from attnstore.data.streams import decompressed, reading
from attnstore.errors import DataError
from attnstore.messages import one_line

Kind = Literal["csv", "tsv", "json", "parquet", "arrow", "excel"]

_SUFFIXES: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ftr": "arrow",
    ".ipc": "arrow",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".xlsb": "excel",
    ".xls": "excel",
    ".ods": "excel",
}
_ROWS_READ = (
    "JSON object: rows are objects (dicts), one per line or in an array, or what pandas' to_json writes"
)
_COMPRESSED = (".gz", ".zst", ".zstd", ".bz2", ".xz")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, in a file, or by `content` elsewhere.

    `partition` are columns in a path (Hive's `label=pos`), `sheet` is a workbook's sheet, None for the first.
    """

    name: str
    kind: Kind
    split: str | None
    partition: Mapping[str, str | None]
    open: Callable[[str], IO[bytes]]
    content: Batches | Objects | None = None
    sheet: str | None = None

    def stream(self) -> IO[bytes]:
        """The file's bytes, decompressed."""
        return decompressed(self.open(self.name))


def kind_of(name: str) -> Kind | None:
    """The kind of table, by a file's name without the suffix of a compression."""
    return _SUFFIXES.get(posixpath.splitext(without_compression(name.lower()))[1])


def without_compression(name: str) -> str:
    """A file's name without the suffix of a compression."""
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return name


def table_at(name: str, open_: Callable[[str], IO[bytes]], kind: Kind) -> Table:
    """The table at a relative path, whose folders may be Hive's (`split=test/label=pos/`).

    Its split is Hive's; else the one in its name (`imdb-train-00001.parquet`); else that of the nearest folder named
    like a split.
    """
    *folders, file = name.split("/")
    partition: dict[str, str | None] = {}
    for folder in folders:
        key, equals, value = folder.partition("=")
        if equals:
            partition[unquote(key)] = None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)
    above = [SPLIT_WORDS[folder.lower()] for folder in folders if folder.lower() in SPLIT_WORDS]
    split = partition.get("split")
    if split is None:
        split = split_in(file) or (above[-1] if above else None)
    return Table(name, kind, split, partition, open_)


def columns_of(table: Table, config: SourceConfig, notes: list[str]) -> Columns:
    """Which columns of a table to read; each guess is added to `notes`.

    Raises UsageError if a column is unclear, or if the text column has something else; DataError if the table can't be
    read.
    """
    with reading(table.name):
        content = _content(table, config, notes)
        classes: frozenset[str] = frozenset()
        if isinstance(content, Batches):
            found, sample = [str(name) for name in content.schema.names], sample_of(content)
            classes = frozenset(columns_with_classes(content, table.name))
        elif isinstance(content, Objects):
            found, sample = found_in(content, config)
            if not found:
                raise DataError(f"{one_line(table.name)} holds no {_ROWS_READ}")
        else:
            notes += content.notes
            found = list(content.columns)
            sample = Sample(content.sample, headed=content.headed or bool(config.columns))
    known = {key: value for key, value in table.partition.items() if key not in found}
    sample = Sample([[*row, *known.values()] for row in sample.rows], sample.headed)
    taken = table.split is not None
    columns = choose_columns(
        table.name, [*found, *known], config, notes, taken=taken, sample=sample, classes=classes
    )
    if isinstance(content, Batches):
        check_texts(table.name, columns, content.schema)
    return columns


def rows(table: Table, columns: Columns, config: SourceConfig) -> Iterator[tuple[int, Values | Bad]]:
    """Each row's number with its values (None for those in the path), or with the reason why it has none.

    A row that has fewer cells than the table has columns, its last ones empty, gives `Padded` values.
    Raises DataError if the table can't be read any further.
    """
    with reading(table.name):
        content = _content(table, config)
        if isinstance(content, Batches):
            yield from batch_rows(content, columns)
        elif isinstance(content, Objects):
            yield from object_rows(content, columns)
        else:
            yield from _delimited(table, columns, content)


def label_values(table: Table, label: str, config: SourceConfig) -> Iterator[object]:
    """The values of the label column; None if there is no such column.

    Raises DataError if the table can't be read any further.
    """
    if label in table.partition:
        yield table.partition[label]
        return
    for _, values in rows(table, Columns((), label, None, None, None, None), config):
        if not isinstance(values, Bad):
            yield values[0]


def class_names(table: Table, label: str, config: SourceConfig) -> ClassNames | None:
    """The names for numbered labels in the metadata of a hub data set's files."""
    if table.content is None and table.kind not in ("parquet", "arrow"):
        return None
    content = _content(table, config)
    return columns_with_classes(content, table.name).get(label) if isinstance(content, Batches) else None


class Padded(tuple[object, ...]):
    """The values of a row that was shorter than its table."""


def _content(
    table: Table, config: SourceConfig, notes: list[str] | None = None
) -> Batches | Objects | Layout:
    """Access to the rows of a table, by its kind; guesses about a workbook are added to `notes`."""
    if table.content is not None:
        return with_paths(table.content) if isinstance(table.content, Batches) else table.content
    if table.kind == "parquet":
        return with_paths(of_parquet(table.name, lambda: table.open(table.name)))
    if table.kind == "arrow":
        return with_paths(of_ipc(table.name, lambda: table.open(table.name)))
    if table.kind == "excel":
        made: list[str] = [] if notes is None else notes
        return of_excel(table.name, lambda: table.open(table.name), config, table.sheet, made)
    if table.kind == "json":
        return of_json(table.name, table.stream, config)
    with table.stream() as stream:
        return layout_of(table.name, stream, config, table.kind == "tsv")


def _delimited(table: Table, columns: Columns, layout: Layout) -> Iterator[tuple[int, Values | Bad]]:
    # A missing column has the index of the last cell, a None that is appended.
    take = itemgetter(
        *(
            layout.columns.index(name) if name is not None and name in layout.columns else -1
            for name in columns
        )
    )
    with table.stream() as stream:
        for number, row in delimited_rows(stream, layout):
            if isinstance(row, Bad):
                yield number, row
            else:
                row.cells.append(None)
                values = take(row.cells)
                yield number, Padded(values) if row.padded else values
