"""Data in a Python program: tables of pandas, Polars and Arrow, `datasets`, and any iterable of dicts.

None of these libraries is imported: a table is anything with Arrow's C stream (`__arrow_c_stream__`), a
`datasets.Dataset` anything with `features` and `with_format`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from attnstore.data.arrow import Batches
from attnstore.data.class_names import ClassNames, of_feature
from attnstore.data.delimited import Bad
from attnstore.data.objects import Object, Objects
from attnstore.errors import DataError, UsageError
from attnstore.messages import counted, first_line

_MALFORMED = Bad("malformed row")
_ROWS = 1024


def name_of(held: object) -> str:
    """The manifest's name for data from Python: its type, and its number of rows if known."""
    kind = type(held)
    name = f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}".removeprefix("builtins.")
    if isinstance(held, Mapping):
        return f"{name} ({', '.join(map(str, held))})"
    try:
        return f"{name} of {counted(len(held), 'row')}"  # type: ignore[arg-type] # what has no length says so
    except TypeError:
        return name


def contents_of(held: Any) -> dict[str | None, Batches | Objects]:
    """The rows by split; by None if there are no splits. A mapping of tables (`datasets.DatasetDict`) has splits.

    Raises UsageError for anything but a table, and for an iterator, because a source is read more than once.
    """
    if isinstance(held, Mapping) and held and all(map(_is_table, held.values())):
        return {str(split): _content(each) for split, each in held.items()}
    return {None: _content(held)}


def _is_table(held: Any) -> bool:
    return hasattr(held, "__arrow_c_stream__") or (hasattr(held, "features") and hasattr(held, "with_format"))


def _content(held: Any) -> Batches | Objects:
    what = name_of(held)
    if isinstance(held, Iterator | pa.RecordBatchReader):
        raise UsageError(
            f"{what} can be read only once, but attnstore reads data more than once: give a list, or an object that"
            " can be iterated again"
        )
    if hasattr(held, "features") and hasattr(held, "with_format"):
        return _of_data_set(held)
    if hasattr(held, "__arrow_c_stream__"):
        return _of_stream(held, what)
    if isinstance(held, str | bytes | Mapping) or not isinstance(held, Iterable):
        raise UsageError(
            f"{what} is not data: give a path, a table of pandas, Polars or Arrow, a datasets.Dataset, or dicts"
        )
    return Objects(lambda: _objects(held))


def _objects(rows: Iterable[object]) -> Iterator[tuple[int, Object | Bad]]:
    for number, row in enumerate(rows, start=1):
        yield number, row if isinstance(row, Mapping) else _MALFORMED


def _of_stream(held: Any, what: str) -> Batches:
    def reader() -> pa.RecordBatchReader:
        try:
            return pa.RecordBatchReader.from_stream(held)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise DataError(f"{what} can't be read as an Arrow table: {first_line(error)}") from None

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from reader()

    return Batches(reader().schema, read)


def _of_data_set(held: Any) -> Batches | Objects:
    """A `datasets.Dataset`, in batches of Arrow; an `IterableDataset`, in dicts. Both know the names of classes."""
    if held.features is None:
        return Objects(lambda: _objects(held))
    classes: dict[str, ClassNames] = {}
    for column, feature in held.features.items():
        named = of_feature({"names": getattr(feature, "names", None)}, "the data set's features")
        if named is not None:
            classes[column] = named

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for table in held.with_format("arrow").iter(batch_size=_ROWS):
            yield from table.to_batches()

    return Batches(held.features.arrow_schema, read, classes)
