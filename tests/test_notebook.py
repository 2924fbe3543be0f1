"""docs/notebook.ipynb runs from its first cell to its last, and every answer in it displays itself."""

import json
import re
from pathlib import Path

import nbformat
import polars as pl
import pytest
from nursery import Child

ROOT = Path(__file__).parents[1]
#: Like a notebook's kernel: runs one cell after the other in IPython, and keeps each result's display, by MIME type.
KERNEL = """
import base64, json, sys
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shown = []
for cell in json.load(sys.stdin):
    done = shell.run_cell(cell, store_history=True)
    done.raise_error()
    shown.append(shell.display_formatter.format(done.result)[0])
Path("shown.json").write_text(json.dumps(shown, default=lambda picture: base64.b64encode(picture).decode()))
"""


@pytest.mark.slow
def test_the_notebook_runs_and_each_cell_shows_something(tmp_path, monkeypatch):
    """In an empty folder: a card, tables with their basis, a chart, heat-maps, and frames with the right figures.

    The model reads only the first 32 tokens of a review, which takes a small part of the time.
    """
    notebook = nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert 'attnstore.run("demo.attn")' in first.source
    first.source = first.source.replace('"demo.attn"', '"demo.attn", max_length=32')
    monkeypatch.chdir(tmp_path)
    with Child(KERNEL) as child:
        cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        out, err = child.communicate(json.dumps(cells), timeout=300)
    assert child.returncode == 0, out + err
    shown = json.loads((tmp_path / "shown.json").read_text())
    pages = ["".join(data.get("text/html", "")) for data in shown]
    assert "<td><bdi>neg, pos</bdi></td>" in pages[0]
    assert [page.count("based on 220 documents") for page in pages] == [0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0]
    assert "application/vnd.vegalite.v6+json" in shown[4]
    assert [page.count('<article class="attnstore-heatmap"') for page in pages] == [0] * 5 + [
        1,
        1,
        0,
        1,
        0,
        0,
    ]
    negations = ["not", "no", "never", "nothing", "nobody"]
    tokens = pl.read_parquet(tmp_path / "demo.attn/tokens").filter(
        pl.col("word").cast(pl.String).is_in(negations)
    )
    assert re.findall(r"│ (neg|pos) +┆ (\d+)", shown[9]["text/plain"]) == [
        (name, str(tokens.filter(pl.col("prediction").cast(pl.String) == name).height))
        for name in ("neg", "pos")
    ]
    predicted = pl.read_parquet(tmp_path / "demo.attn/documents")["prediction"].value_counts()
    for name, count in predicted.rows():
        assert re.search(rf"\b{name} +{count}\b", shown[10]["text/plain"])
