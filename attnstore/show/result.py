"""An answer that draws itself when printed or at the end of a notebook's cell, and any library's table on demand."""

import json
import shutil
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from attnstore.ask.answer import BASIS_KEY, COLUMNS_KEY
from attnstore.show.fitted import cells, fitted_lines, left_out, number_columns
from attnstore.show.formats import frame_of
from attnstore.show.markup import render

if TYPE_CHECKING:
    import pandas as pd

#: How many rows are drawn; more would be too long to read.
_ROWS = 60


class Result:
    """The answer to a question or to SQL. It draws itself as the question's short set of columns, and contains them
    all.

    Any library that accepts Arrow's C stream accepts it: `polars.DataFrame(result)`, `pyarrow.table(result)`.
    """

    __slots__ = ("_table",)

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def arrow(self) -> pa.Table:
        """The whole answer as an Arrow table."""
        return self._table

    def polars(self) -> pl.DataFrame:
        """The whole answer as a Polars frame."""
        return frame_of(self._table)

    def pandas(self) -> "pd.DataFrame":
        """The whole answer as a pandas frame. Raises ImportError if pandas is not installed."""
        return self._table.to_pandas()

    def to_pylist(self) -> list[dict[str, Any]]:
        """The rows, each a dictionary by column."""
        rows: list[dict[str, Any]] = self._table.to_pylist()
        return rows

    @property
    def _metadata(self) -> dict[bytes, bytes]:
        return self._table.schema.metadata or {}

    @property
    def basis(self) -> str:
        """What the answer is based on: documents, reduction, layer and the other parameters; "" for SQL."""
        return self._metadata.get(BASIS_KEY, b"").decode()

    @property
    def columns(self) -> list[str]:
        """The names of all columns."""
        names: list[str] = self._table.column_names
        return names

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        width = shutil.get_terminal_size().columns
        return fitted_lines(self._table, width, _ROWS, False, ".polars()", ".polars()")

    def _repr_html_(self) -> str:
        frame = cells(self._table, _ROWS, json.loads(self._metadata.get(COLUMNS_KEY, b"[]")))
        note = left_out(frame.shape, self._table, ".polars()", ".polars()")
        of_numbers = number_columns(self._table)
        return render(
            "answer.html",
            names=frame.columns,
            numbers=[name in of_numbers for name in frame.columns],
            rows=frame.rows(),
            note=note,
            basis=self.basis,
        )
