"""A lazy frame that shows its first rows instead of its plan, and is a plain lazy frame otherwise."""

import shutil
from html import escape
from typing import Self

import polars as pl
import pyarrow as pa

from attnstore.messages import counted
from attnstore.show.fitted import cells, fitted_lines, shortened
from attnstore.show.markup import render

#: Rows that are shown: enough to see what is in the columns.
_ROWS = 10
#: How many terminal columns a page gives to one text.
_WIDEST = 160


class Preview(pl.LazyFrame):
    """A Polars lazy frame. A notebook, or `repr`, reads and shows its first rows; `collect` gives all.

    The results of `filter`, `select` and similar methods are previews, too. `explain` shows the plan.
    """

    @classmethod
    def of(cls, frame: pl.LazyFrame) -> Self:
        made = cls._from_pyldf(frame._ldf)
        assert isinstance(made, cls)  # noqa: S101 - Polars makes what it was asked of, and says LazyFrame
        return made

    def __repr__(self) -> str:
        first = self._first()
        if first is None:
            return super().__repr__()
        table, note = first
        width = shutil.get_terminal_size().columns
        return f"{fitted_lines(table, width, _ROWS, False, '.columns', '.collect()')}\n{note}"

    def _repr_html_(self) -> str:
        first = self._first()
        if first is None:
            return f"<pre>{escape(super().__repr__())}</pre>"
        table, note = first
        frame = cells(table, _ROWS, [])
        frame = frame.with_columns(
            pl.Series(name, [shortened(text, _WIDEST) for text in frame[name]], pl.String)
            for name, kind in frame.schema.items()
            if kind == pl.String
        )
        numbers = [column.dtype.is_numeric() for column in frame.get_columns()]
        return render(
            "answer.html", names=frame.columns, numbers=numbers, rows=frame.rows(), note=note, basis=""
        )

    def _first(self) -> tuple[pa.Table, str] | None:
        """The first rows, and what they are; None if they are not available: showing them must not fail."""
        try:
            frame = self.head(_ROWS + 1).collect()
            table = frame.head(_ROWS).to_arrow(compat_level=pl.CompatLevel.oldest())
        except Exception:
            return None
        if frame.height > _ROWS:
            return table, f"the first {_ROWS} rows of a lazy frame: .collect() reads all"
        return table, f"a lazy frame of {counted(frame.height, 'row')}"
