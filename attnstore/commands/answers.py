"""Writes a table of answers to stdout or a file, in the requested format."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnstore.commands.output import give, paint, shows
from attnstore.errors import UsageError
from attnstore.visible import visible, visible_json

if TYPE_CHECKING:
    import pyarrow as pa


def write(table: "pa.Table", form: Any, output: Path | None, wide: bool, rows: int) -> None:
    """Write the table to stdout or a file. A terminal gets `rows` rows (0: all) and, unless `wide`, what fits."""
    from attnstore.show.formats import render

    if form == "table" and output is None and shows(sys.stdout):
        from attnstore.show.fitted import fitted_lines

        width = shutil.get_terminal_size().columns
        paint(fitted_lines(table, width, rows or None, wide, "--wide", "--rows 0") + "\n")
        return
    content = render(table, form)
    if form in ("table", "markdown"):
        from attnstore.ask.answer import BASIS_KEY

        if basis := (table.schema.metadata or {}).get(BASIS_KEY):
            content += f"\nbased on {visible(basis.decode())}\n".encode()
    if output is not None:
        output.write_bytes(content)
    elif form == "parquet" and shows(sys.stdout):
        raise UsageError("Parquet can't be shown on a terminal: give --output FILE, or redirect it to a file")
    else:
        give(visible_json(content.decode()) if form == "json" else content)
