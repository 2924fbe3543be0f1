"""`attnstore plot`: its files and its output."""

import json

import pytest
from command_line import attnstore


@pytest.mark.slow
def test_plot_writes_the_chart_and_says_where(small_store, tmp_path):
    """With -o, a file of that format. Without it, a page named after the question in a temporary folder."""
    path = tmp_path / "words.json"
    ask = ("plot", small_store, "top_words_by_class", "-p", "min_documents=2", "--class", "pos")
    assert attnstore(*ask, "-o", path) == (0, f"wrote {path}\n", "")
    assert {row["class"] for row in json.loads(path.read_text())["data"]["values"]} == {"pos"}
    code, out, err = attnstore(*ask)
    assert (code, err) == (0, "")
    assert out.startswith("wrote ")
    assert out.endswith("/top_words_by_class.html\n")


def test_an_unknown_format_is_refused_before_the_store_is_asked(tmp_path):
    """One line, and nothing is written."""
    code, out, err = attnstore("plot", tmp_path / "no.attn", "sinks", "-o", tmp_path / "sinks.gif")
    assert (code, out) == (2, "")
    assert err == f"attnstore: {tmp_path}/sinks.gif: a chart is written as .svg, .png, .pdf, .html or .json\n"
    assert list(tmp_path.iterdir()) == []
