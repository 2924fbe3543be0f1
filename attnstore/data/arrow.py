"""Tables that Arrow reads: Parquet, IPC files and streams (Feather, `datasets`' `save_to_disk`), and tables in memory.

One batch of rows is in memory at a time, with the columns that are read.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow as pa

from attnstore.data.class_names import ClassNames, of_feature
from attnstore.data.columns import Columns, Sample, Values
from attnstore.data.delimited import SAMPLE, SAMPLE_ROWS
from attnstore.data.files import Files
from attnstore.data.streams import compression
from attnstore.errors import DataError, UsageError
from attnstore.messages import one_line, quoted

_FILE = b"ARROW1"  # the first bytes of an IPC file; a stream begins with its schema's length
_FEATHER_1 = b"FEA1"
_ROWS = 1024  # how many rows of Parquet become Python values at a time


@dataclass(frozen=True, slots=True)
class Batches:
    """Rows in Arrow's form. `read` yields their batches from the beginning, with at least the named columns.

    `classes` are the data set's own names for the numbers in a column, if its schema has none.
    """

    schema: pa.Schema
    read: Callable[[Sequence[str]], Iterator[pa.RecordBatch]]
    classes: dict[str, ClassNames] | None = None


def of_parquet(name: str, open_: Callable[[], IO[bytes]]) -> Batches:
    """The rows of a Parquet file."""

    @contextmanager
    def parquet() -> Iterator[Any]:
        import pyarrow.parquet as pq

        with open_() as file:
            if compression(file) is not None:
                raise DataError(
                    f"{one_line(name)} is Parquet inside another compression: decompress it first"
                )
            # Buffered, so that a row group of any size is read page by page.
            yield pq.ParquetFile(file, buffer_size=SAMPLE, pre_buffer=False)

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with parquet() as file:
            yield from file.iter_batches(batch_size=_ROWS, columns=list(columns))

    with parquet() as file:
        return Batches(file.schema_arrow, read)


def of_ipc(name: str, open_: Callable[[], IO[bytes]]) -> Batches:
    """The rows of an Arrow file or stream, by its first bytes. Raises DataError for Feather's first version."""

    @contextmanager
    def opened() -> Iterator[tuple[bool, IO[bytes]]]:
        with open_() as file:
            head = file.read(8)
            file.seek(0)
            if compression(file) is not None:
                raise DataError(f"{one_line(name)} is Arrow inside another compression: decompress it first")
            if head.startswith(_FEATHER_1):
                raise DataError(
                    f"{one_line(name)} is of Feather's first version: write it again as Feather V2"
                )
            yield head.startswith(_FILE), file

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        places = [place for place, each in enumerate(schema.names) if each in columns]
        options = pa.ipc.IpcReadOptions(included_fields=places)
        with opened() as (is_file, file):
            if is_file:
                reader = pa.ipc.open_file(file, options=options)
                yield from (_sound(reader.get_batch(number)) for number in range(reader.num_record_batches))
            else:
                yield from map(_sound, pa.ipc.open_stream(file, options=options))

    with opened() as (is_file, file):
        schema = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(file).schema
    return Batches(schema, read)


def _sound(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A checked batch of a file that itself says where each value is, because Arrow uses its memory as it is.

    Raises pyarrow.ArrowException if a value would be outside: reading it could return any memory, or crash.
    """
    for column in batch.columns:
        _of_bytes(column).validate(full=True)
    return batch


def _of_bytes(column: pa.Array) -> pa.Array:
    """A text column as bytes, in the same memory: UTF-8 is checked row by row."""
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(
            column.indices, _of_bytes(column.dictionary), ordered=column.type.ordered, safe=False
        )
    as_bytes = {
        pa.string(): pa.binary(),
        pa.large_string(): pa.large_binary(),
        pa.string_view(): pa.binary_view(),
    }
    return column.view(as_bytes[column.type]) if column.type in as_bytes else column


def with_paths(batches: Batches) -> Batches:
    """The rows with an additional column for each leaf of a struct, named by its path (`data.text`)."""
    import pyarrow.compute as pc

    paths: dict[str, tuple[str, list[str]]] = {}  # the column, and the keys in it
    fields: list[pa.Field] = []

    def below(name: str, kind: pa.DataType, top: str, keys: list[str]) -> None:
        for child in kind:
            path = f"{name}.{child.name}"
            if pa.types.is_struct(child.type):
                below(path, child.type, top, [*keys, child.name])
            elif path not in batches.schema.names:
                paths[path] = top, [*keys, child.name]
                fields.append(child.with_name(path))

    for field in batches.schema:
        if pa.types.is_struct(field.type):
            below(field.name, field.type, field.name, [])
    if not paths:
        return batches

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        whole = [name for name in batches.schema.names if name in columns]
        tops = {paths[name][0] for name in columns if name in paths}
        for batch in batches.read(list(dict.fromkeys([*whole, *tops]))):
            held = {name: batch.column(name) for name in whole}
            for name in columns:
                if name in paths:
                    top, keys = paths[name]
                    held[name] = pc.struct_field(batch.column(top), keys)
            yield pa.RecordBatch.from_arrays(list(held.values()), names=list(held))

    schema = pa.schema([*batches.schema, *fields], metadata=batches.schema.metadata)
    return replace(batches, schema=schema, read=read)


def of_saved(files: Files) -> Files:
    """The files of folders that `datasets`' `save_to_disk` wrote, without its cache files.

    `state.json` names the files of a split; its folder is the split, if `dataset_dict.json` is above it. Other files
    are returned unchanged.
    """
    names = list(files.names)
    splits = dict(files.splits)
    for state in [name for name in names if PurePosixPath(name).name == "state.json"]:
        folder = PurePosixPath(state).parent
        try:
            held = {
                str(folder / each["filename"]) for each in json.loads(files.contents(state))["_data_files"]
            }
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        own = [name for name in names if PurePosixPath(name).parent == folder and name.endswith(".arrow")]
        if missing := sorted(held - set(own)):
            raise DataError(f"{one_line(state)} names a file that does not exist: {one_line(missing[0])}")
        names = [name for name in names if name not in own or name in held]
        if str(folder.parent / "dataset_dict.json") in files.names:
            splits |= dict.fromkeys(held, folder.name)
    return replace(files, names=names, splits=splits)


def columns_with_classes(batches: Batches, where: str) -> dict[str, ClassNames]:
    """The columns of named classes, from the metadata that the `datasets` library writes."""
    try:
        features = json.loads((batches.schema.metadata or {})[b"huggingface"])["info"]["features"]
        named = {str(column): of_feature(feature, where) for column, feature in features.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        named = {}
    return {column: names for column, names in named.items() if names is not None} | (batches.classes or {})


def sample_of(batches: Batches) -> Sample:
    """The first rows."""
    shown: list[Sequence[str | None]] = []
    for batch in batches.read(batches.schema.names):
        part = batch.slice(0, SAMPLE_ROWS - len(shown))
        shown += [list(map(as_cell, row)) for row in zip(*map(_values, part.columns), strict=True)]
        if len(shown) >= SAMPLE_ROWS:
            break
    return Sample(shown)


def batch_rows(batches: Batches, columns: Columns) -> Iterator[tuple[int, Values]]:
    """Each row's number, from 1, with its values; None for missing columns."""
    names = set(batches.schema.names)
    inside = list(dict.fromkeys(name for name in columns if name is not None and name in names))
    number = 0
    for whole in batches.read(inside):
        for start in range(0, whole.num_rows, _ROWS):
            batch = whole.slice(start, _ROWS)
            lists = {name: _values(batch.column(name)) for name in inside}
            nothing: list[object] = [None] * batch.num_rows
            each = [nothing if name is None else lists.get(name, nothing) for name in columns]
            for values in zip(*each, strict=True):
                number += 1
                yield number, values


def check_texts(name: str, columns: Columns, schema: pa.Schema) -> None:
    """Raise UsageError if a text column has anything but texts."""
    for text in columns.texts:
        if text in schema.names and not _is_text(kind := schema.field(text).type):
            raise UsageError(
                f"{one_line(name)}: column {quoted(text)} is {one_line(kind)}, not text: use --text-column"
            )


def as_cell(value: object) -> str | None:
    """A value as the cell of a sample; None for an object, and for a list unless it has one element."""
    if isinstance(value, list) and len(value) == 1:
        return as_cell(value[0])
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return None if value is None or isinstance(value, list | dict) else str(value)


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
    """A column as Python values, with strings as bytes: UTF-8 is checked row by row."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_text(column.type):
        column = column.cast(pa.large_binary())
    values: list[object] = column.to_pylist()
    return values
