"""A heat-map displays itself."""

import subprocess
import sys
from dataclasses import replace

from attnstore.show.heatmap import Heatmap
from attnstore.show.page import fragment
from attnstore.show.terminal import terminal


def test_it_is_text_when_printed_and_a_picture_in_a_notebook(film):
    """Without colours and 80 columns wide. A changed copy is a heat-map too, and its repr says so."""
    assert str(film) == terminal(film, "none", 80)
    assert film._repr_html_() == fragment(film)
    other = replace(film, id="test/neg/2_1")
    assert (type(other), str(other).splitlines()[0]) == (Heatmap, "test/neg/2_1")
    assert repr(other).startswith("Heatmap(id='test/neg/2_1', label='pos', ")


def test_importing_it_is_cheap():
    """Drawing imports neither torch nor an engine nor the command line, and templates only when a page is drawn."""
    heavy = ("torch", "transformers", "click", "duckdb", "polars", "pyarrow.dataset", "jinja2")
    code = f"import sys, attnstore.show.heatmap; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
