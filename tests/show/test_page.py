"""A page contains the document's own text, is self-contained, and can do no harm."""

import re
from dataclasses import replace

import pytest
from drawings import Page, documents, neutral, rgb, shaded, special, table, wcag, word
from hypothesis import given, settings

from attnstore.show.colours import AGAINST
from attnstore.show.page import fragment, html
from attnstore.show.words import ignore_tokens


def test_every_text_on_the_page_is_readable():
    """In both modes, contrast is 4.5 or more: text on each of the 20 shades, and ink and faint ink on the paper."""
    light, dark = html(shaded("", [])).split("@media screen and (prefers-color-scheme:dark){.attnstore")
    for style in (light, dark):
        shades = re.findall(r"\.s(\d+)\{background:#(\w{6});color:#(\w{6})\}", style)
        assert [int(level) for level, _, _ in shades] == list(range(1, 21))
        assert min(wcag(rgb(back), rgb(front)) for _, back, front in shades) >= 4.5
        paper, ink, faint = (
            rgb(re.search(rf"--{n}:#(\w{{6}})", style)[1]) for n in ("paper", "ink", "faint")
        )
        assert min(wcag(paper, ink), wcag(paper, faint)) >= 4.5


def test_the_markup_of_a_small_document(film):
    """Complete, except for its style."""
    source = fragment(film)
    assert film._repr_html_() == source
    assert source.startswith("<div><style>\n.attnstore-heatmap{")
    swatches = "<i></i>" + "".join(f'<i class="s{level}"></i>' for level in range(1, 21))
    assert source.partition("</style>")[2] == (
        '<article class="attnstore-heatmap" aria-label="Document test/pos/1_9">'
        "<header><h2><bdi>test/pos/1_9</bdi></h2><dl>"
        "<div><dt>label</dt><dd><bdi>pos</bdi></dd></div>"
        '<div><dt>prediction</dt><dd><bdi>neg</bdi> 0.750 <span class="verdict wrong">wrong</span></dd></div>'
        "<div><dt>attention</dt><dd>cls, layer 6 of 6</dd></div>"
        "<div><dt>length</dt><dd>6 tokens</dd></div></dl></header>"
        '<p class="text" lang="" dir="auto">'
        '<span title="an: attention 0.05, lift 0.30×">An</span> '
        '<span class="s1" title="un (piece 1 of 3 of unforgettable): attention 0.1, lift 0.60×">un</span>'
        '<span class="s2" title="##forget (piece 2 of 3 of unforgettable): attention 0.2, lift 1.20×">forget</span>'
        '<span class="s20" title="##table (piece 3 of 3 of unforgettable): attention 0.25, lift 10.00×">table</span>'
        " &lt;film&gt;</p>"
        '<footer><div class="legend" role="img" '
        'aria-label="Shades run from none at 0 to full at 10× or more.">'
        f'<div class="ramp">{swatches}</div>'
        '<div class="ticks"><b style="left:0%">0</b><b style="left:10%">1×</b><b style="left:20%">2×</b>'
        '<b style="left:50%">5×</b><b style="left:100%">10×+</b></div></div>'
        "<p>lift = attention × 6 tokens: 1× is an even share; full at 10×</p>"
        '<div class="list"><h3>most attended</h3><ol><li><bdi class="s20">##table</bdi> 10.0×</li>'
        '<li><bdi class="s2">##forget</bdi> 1.2×</li><li><bdi class="s1">un</bdi> 0.6×</li>'
        "<li><bdi>an</bdi> 0.3×</li></ol></div>"
        '<div class="list"><h3>not in the text</h3><ul><li><code>[CLS]</code> attention 0.1, lift 0.60×</li>'
        "<li><code>[SEP]</code> attention 0.3, lift 1.80×</li></ul></div></footer></article></div>"
    )


def test_values_against_have_another_colour_on_the_page():
    """Values below 0 have their own CSS classes, a legend from against to for, two lists, and tooltips."""
    rows = [word("good", 0, 0.031, None), word("bad", 5, -0.04, None)]
    drawn = shaded("good bad", rows, reduction="evidence", layer="", signed=True, full=0.04, full_means="p99")
    page = fragment(drawn)
    assert '<span class="s15" title="good: evidence +0.031">good</span>' in page
    assert '<span class="a20" title="bad: evidence −0.04">bad</span>' in page
    assert re.search(r'<div class="ramp">(.*?)</div>', page)[1] == (
        "".join(f'<i class="a{n}"></i>' for n in range(20, 0, -1))
        + "<i></i>"
        + "".join(f'<i class="s{n}"></i>' for n in range(1, 21))
    )
    assert (
        '<b style="left:0%">−0.04 against</b><b style="left:50%">0</b><b style="left:100%">for 0.04</b>'
        in page
    )
    assert '<h3>most for</h3><ol><li><bdi class="s15">good</bdi> +0.031</li></ol>' in page
    assert '<h3>most against</h3><ol><li><bdi class="a20">bad</bdi> −0.04</li></ol>' in page
    assert f"a20{{background:{AGAINST['light'][19][0]}" in page


def test_a_page_is_self_contained(film):
    """It declares its type, forbids requests, and contains no script and no address."""
    page = html(film)
    head, _, article = page.partition("<style>")
    assert head == (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        'content="default-src &#x27;none&#x27;; style-src &#x27;unsafe-inline&#x27;">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>test/pos/1_9 · attention</title>'
    )
    markup = fragment(film).partition("</style>")[2].removesuffix("</div>")
    assert article.partition("</style>")[2] == (
        f"</head><body><main>{markup.replace('h2>', 'h1>').replace('h3>', 'h2>')}</main></body></html>\n"
    )
    assert not re.search(r"https?:|url\(|@import|<script|<link|<img|javascript|\bsrc=|\bon\w+=", page)


def test_several_documents_make_one_page(film):
    """One after the other below a title that counts them. A page without documents is valid, too."""
    page = html([film, replace(film, id="test/neg/2_1")])
    headings = re.findall(r"<h[12]>(?:<bdi>)?([^<]*)", page)
    assert headings == ["2 documents", "test/pos/1_9", "test/neg/2_1"]
    assert "<title>2 documents · attention</title>" in page
    assert page.count("<style>") == 1
    assert "<h1>0 documents</h1>" in html([])


def test_nothing_in_a_document_becomes_markup():
    """Tags, quotes, a closing title and bidirectional controls, in every place of untrusted text."""
    bad = "</title></style></p>\"'><script>alert(1)</script>&amp;\u202e\x00\x1b"
    named = bad.replace("\u202e", "⟨U+202E⟩").replace("\x00", "␀").replace("\x1b", "␛")
    rows = [(bad, bad, 0, 2, 0, 5, False, 0.5, 1.0), special(bad, 0.5, 1.0)]
    tokens = ignore_tokens(table(rows), [bad])
    drawn = shaded(bad, rows, id=bad, label=bad, prediction=bad, reduction=bad, layer=bad)
    clean = shaded("good!", [("a", "a", 0, 2, 0, 5, False, 0.5, 1.0), special("a", 0.5, 1.0)])
    for several in (False, True):
        source, plain = (html([d, d] if several else d) for d in (drawn, clean))
        assert Page(source).tags == Page(plain).tags
        assert Page(source).text == named * (1 + several)
        assert not {"\u202e", "\x00", "\x1b"} & set(source)
    assert Page(html(drawn)).titles == [f"{named} (piece 1 of 2 of {named}): attention 0.5, lift 1.00×"]
    assert (
        f"ignored: “{named}”; the rest is not renormalised" in Page(html(replace(drawn, tokens=tokens))).words
    )


def test_a_document_is_not_a_template():
    """What looks like an expression, a statement or a comment of the template engine is shown as text."""
    text = "{{ 7 * 7 }} {% raw %} {# note #} {{ captions }}"
    page = Page(html(shaded(text, [], id=text, label=text, prediction=text)))
    assert page.text == text
    assert page.words.count(text) == 3  # the heading, the label and the prediction; the title has more


@pytest.mark.slow
@given(documents())
@settings(max_examples=50, deadline=None)
def test_a_page_has_exactly_the_documents_text(drawn):
    """Without tags, the text on the page equals the document's, character by character."""
    assert Page(html(drawn)).text == neutral(drawn.text)
