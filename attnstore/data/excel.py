"""Sheets of workbooks: .xlsx, .xls, .xlsb, .ods, by fastexcel. A sheet is in memory while it is read."""

from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import pyarrow as pa

from attnstore.config import SourceConfig
from attnstore.data.arrow import Batches
from attnstore.data.columns import USUAL_COLUMNS
from attnstore.data.delimited import SAMPLE_ROWS
from attnstore.data.headers import is_headed, is_name
from attnstore.errors import DataError, UsageError
from attnstore.messages import first_line, listed, one_line, quoted, similar

_MOST_ABOVE = 12  # rows that are searched for the header


def of_excel(
    name: str, open_: Callable[[], IO[bytes]], config: SourceConfig, sheet: str | None, notes: list[str]
) -> Batches:
    """The rows of a sheet, the first one if none is named; `notes` mentions other sheets.

    Raises UsageError if the sheet does not exist, or if fastexcel is not installed; DataError if it is not a workbook.
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
    above = 0
    if config.header is None and not config.columns:
        above, titles = _above_header(name, book, sheet)
        notes += [f"left out above the header: {', '.join(map(quoted, titles))}"] if titles else []
    rows = _rows(name, book, sheet, config, above)
    if config.header is None and not config.columns:
        _refuse_row_as_header(name, rows, config)

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        again = _rows(name, _workbook(name, open_), sheet, config, above)
        yield again.select([column for column in columns if column in again.schema.names])

    return Batches(rows.schema, read)


def _above_header(name: str, book: Any, sheet: str) -> tuple[int, list[str]]:
    """How many rows are above the header, and what is in them.

    The header is the first row that has only names, one of them usual, else the first row below titles, which are rows
    of one cell.
    """
    top = _loaded(name, book, sheet, header_row=None, skip_rows=0, n_rows=_MOST_ABOVE, dtypes="string")
    rows = [[cell for cell in row.values() if cell and cell.strip()] for row in top.to_pylist()]
    first = next((place for place, row in enumerate(rows) if row), 0)
    headers = [place for place, row in enumerate(rows) if len(row) > 1 and all(map(is_name, row))]
    usual = [place for place in headers if any(_is_usual(cell) for cell in rows[place])]
    titled = [place for place in headers if all(len(row) < 2 for row in rows[first:place])]
    header = next(iter([*usual, *titled]), first)
    return (header if header > first else 0), [row[0] for row in rows[first:header] if row]


def _is_usual(cell: str) -> bool:
    return cell.strip().casefold() in USUAL_COLUMNS


def _refuse_row_as_header(name: str, rows: pa.RecordBatch, config: SourceConfig) -> None:
    """Raise UsageError if what was taken for the header is a row."""
    names = [str(each) for each in rows.schema.names]
    below = [[str(cell or "") for cell in row.values()] for row in rows.slice(0, SAMPLE_ROWS).to_pylist()]
    try:
        headed = is_headed(name, [names, *below], config)
    except UsageError:  # undecided, and a sheet usually has one
        return
    if not headed:
        raise UsageError(
            f"{one_line(name)}: its first row ({listed(names)}) is not a header: give its columns' names with --columns"
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
        raise DataError(f"{one_line(name)} is not a readable workbook: {first_line(error)}") from None


def _rows(name: str, book: Any, sheet: str, config: SourceConfig, above: int) -> pa.RecordBatch:
    """A sheet's rows below the header, with `above` rows above it.

    Numbers in a workbook are floats: a column of whole numbers becomes integers.
    """
    named: dict[str, Any] = {}
    if config.columns:
        named = {"column_names": list(config.columns), "header_row": 0 if config.header else None}
    elif above:
        named = {"header_row": above}
    rows = _loaded(name, book, sheet, schema_sample_rows=None, **named)
    if not rows.num_columns:
        raise DataError(f"{one_line(name)}: its sheet {quoted(sheet)} is empty")
    return pa.RecordBatch.from_arrays([_whole(column) for column in rows.columns], names=rows.schema.names)


def _loaded(name: str, book: Any, sheet: str, **options: Any) -> pa.RecordBatch:
    import fastexcel

    try:
        rows: pa.RecordBatch = book.load_sheet(sheet, **options).to_arrow()
    except fastexcel.FastExcelError as error:
        raise DataError(
            f"{one_line(name)}: its sheet {quoted(sheet)} can't be read: {first_line(error)}"
        ) from None
    return rows


def _whole(column: pa.Array) -> pa.Array:
    if pa.types.is_floating(column.type):
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            return column
    return column
