"""A chart that displays itself in a notebook and saves itself in files, without network requests."""

import json
import re
import sys

import pytest

import attnstore
from attnstore.errors import UsageError
from attnstore.show.plot import _with_room


@pytest.fixture(scope="module")
def drawn(small_store):
    return attnstore.open(small_store).plot("top_words_by_class", min_documents=2, limit=3)


@pytest.mark.slow
def test_the_file_ending_decides_the_format(drawn, tmp_path):
    """SVG, PNG, PDF, a page and JSON, each a valid file of its format."""
    begins = {
        "svg": b"<svg ",
        "png": b"\x89PNG\r\n",
        "pdf": b"%PDF-",
        "html": b"<!doctype html>\n",
        "json": b'{"$schema',
    }
    for form, start in begins.items():
        path = drawn.save(tmp_path / f"words.{form}")
        assert path.read_bytes().startswith(start), form
    with pytest.raises(UsageError, match=r"gif: a chart is written as .svg, .png, .pdf, .html or .json$"):
        drawn.save(tmp_path / "words.gif")


def test_the_chart_says_what_it_is_based_on(drawn):
    """The question is the title. Below it are documents, reduction, layer, the kind of class, and support."""
    title = json.loads(drawn.json())["title"]
    assert title["text"] == ["Which words does the model attend to most, in the documents of each class?"]
    assert " ".join(title["subtitle"]) == (
        "based on 60 documents, reduction=cls, layer=3, by=prediction, min_documents=2, cluster=group, limit=3"
    )


@pytest.mark.slow
def test_the_picture_has_a_point_per_row(drawn):
    """It draws exactly the answer."""
    svg = drawn.rendered("svg").decode()
    assert len(re.findall('aria-roledescription="point"', svg)) == drawn.table.num_rows == 6
    assert all(f">{word}<" in svg for word in drawn.table["word"].to_pylist())


@pytest.mark.slow
def test_a_notebook_gets_the_specification_and_a_picture(drawn):
    """A program with Vega-Lite draws it live; others show the picture or the text."""
    bundle = drawn._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.vegalite.v6+json", "image/png", "text/plain"}
    assert (
        bundle["application/vnd.vegalite.v6+json"]["data"]["values"]
        == json.loads(drawn.json())["data"]["values"]
    )
    assert bundle["text/plain"] == "Plot(question='top_words_by_class')"
    assert bundle["image/png"].startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_page_makes_no_requests(drawn):
    """It contains no address to load from, and its policy forbids every request and every script but its own three."""
    page = drawn.html()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    directives = dict(
        d.strip().split(" ", 1) for d in policy.replace("&#x27;", "'").replace("&#39;", "'").split(";")
    )
    assert directives["default-src"] == "'none'"
    assert directives["script-src"].split() == [
        s for s in directives["script-src"].split() if s.startswith("'sha256-")
    ]
    assert len(directives["script-src"].split()) == 3
    assert (
        re.findall(r"<(?:link|img|iframe|object|embed)\b|\bsrc=|url\((?!#)", page.split("<script", 1)[0])
        == []
    )


def test_without_vl_convert_one_line_says_what_to_install(drawn, monkeypatch, tmp_path):
    """JSON can still be written, and a notebook still gets the specification."""
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(UsageError) as refused:
        drawn.save(tmp_path / "words.svg")
    assert str(refused.value) == (
        "drawing charts needs vl-convert-python: pip install 'attnstore[charts]', or write .json"
    )
    assert json.loads(drawn.save(tmp_path / "words.json").read_text())["data"]["values"]
    assert set(drawn._repr_mimebundle_()) == {"application/vnd.vegalite.v6+json", "text/plain"}


def test_a_picture_has_room_for_its_title_in_a_wide_font():
    """DejaVu Sans is wider than the font that titles are measured by. A title that fits is unchanged."""
    narrow = (
        '<svg class="marks" width="361" height="9" viewBox="0 0 361 9"><rect width="361" height="9"/></svg>'
    )
    wide = (
        '<svg class="marks" width="470" height="9" viewBox="0 0 470 9"><rect width="470" height="9"/></svg>'
    )
    assert _with_room(narrow, ["x" * 40], ["y" * 10]) == wide
    assert _with_room(wide, ["x" * 40], ["y" * 10]) == wide
