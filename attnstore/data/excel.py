"""Sheets of workbooks: .xlsx, .xls, .xlsb, .ods, by fastexcel. A sheet is held in memory while it is read."""

from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import pyarrow as pa

from attnstore.config import SourceConfig
from attnstore.data.arrow import Batches
from attnstore.data.delimited import SAMPLE_ROWS
from attnstore.data.headers import is_headed
from attnstore.errors import DataError, UsageError
from attnstore.messages import first_line, listed, one_line, quoted, similar


def of_excel(
    name: str, open_: Callable[[], IO[bytes]], config: SourceConfig, sheet: str | None, notes: list[str]
) -> Batches:
    """The rows of a sheet, the first one if none is named; other sheets are said in `notes`.

    Raises UsageError for a sheet that there is not, and where fastexcel is not installed; DataError for what is no
    workbook.
    """
    if config.header is False and not config.columns:
        raise UsageError(f"{one_line(name)} without a header: give its columns' names with --columns")
    book = _workbook(name, open_)
    sheets: list[str] = book.sheet_names
    if sheet is None:
        sheet = sheets[0]
        if sheets[1:]:
            notes.append(
                f"{one_line(name)}: the sheet {quoted(sheet)} is read, not {listed(sheets[1:])}: FILE::SHEET names one"
            )
    elif sheet not in sheets:
        raise UsageError(
            f"{one_line(name)} has no sheet {quoted(sheet)}, it has {listed(sheets)}{similar(sheet, sheets)}"
        )
    rows = _rows(name, book, sheet, config)
    if config.header is None and not config.columns:
        _refuse_row_as_header(name, rows, config)

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        again = _rows(name, _workbook(name, open_), sheet, config)
        yield again.select([column for column in columns if column in again.schema.names])

    return Batches(rows.schema, read)


def _refuse_row_as_header(name: str, rows: pa.RecordBatch, config: SourceConfig) -> None:
    """Raise UsageError if what was taken for the header is a row."""
    names = [str(each) for each in rows.schema.names]
    below = [[str(cell or "") for cell in row.values()] for row in rows.slice(0, SAMPLE_ROWS).to_pylist()]
    try:
        headed = is_headed(name, [names, *below], config)
    except UsageError:  # nothing tells, and a sheet usually has one
        return
    if not headed:
        raise UsageError(
            f"{one_line(name)}: its first row ({listed(names)}) is no header: give its columns' names with --columns"
            " label,text,…, or say --header"
        )


def _workbook(name: str, open_: Callable[[], IO[bytes]]) -> Any:
    try:
        import fastexcel
    except ImportError:
        raise UsageError(
            f"{one_line(name)} is a workbook, which needs fastexcel: pip install 'attnstore[excel]'"
        ) from None
    with open_() as file:
        content = file.read()
    try:
        return fastexcel.read_excel(content)
    except fastexcel.FastExcelError as error:
        raise DataError(f"{one_line(name)} is no workbook that can be read: {first_line(error)}") from None


def _rows(name: str, book: Any, sheet: str, config: SourceConfig) -> pa.RecordBatch:
    """A sheet's rows. Numbers are fractions in a workbook: a column of whole ones becomes one of integers."""
    import fastexcel

    named: dict[str, Any] = {}
    if config.columns:
        named = {"column_names": list(config.columns), "header_row": 0 if config.header else None}
    try:
        rows = book.load_sheet(sheet, schema_sample_rows=None, **named).to_arrow()
    except fastexcel.FastExcelError as error:
        raise DataError(
            f"{one_line(name)}: its sheet {quoted(sheet)} can't be read: {first_line(error)}"
        ) from None
    if not rows.num_columns:
        raise DataError(f"{one_line(name)}: its sheet {quoted(sheet)} is empty")
    return pa.RecordBatch.from_arrays([_whole(column) for column in rows.columns], names=rows.schema.names)


def _whole(column: pa.Array) -> pa.Array:
    if pa.types.is_floating(column.type):
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            return column
    return column
