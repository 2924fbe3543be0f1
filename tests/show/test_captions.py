"""The text below a picture: the same on a terminal and on a page."""

from dataclasses import replace

import pytest
from drawings import Page, shaded, special, word

from attnstore.show.page import html
from attnstore.show.terminal import terminal
from attnstore.show.words import ignore_tokens, merge_words


def test_the_picture_says_what_was_merged_and_ignored(film):
    """Captions belong to the table, and reach the terminal and the page."""
    tokens = ignore_tokens(merge_words(film.tokens), ["an", "."], renormalise=True, special=True)
    tokens = ignore_tokens(tokens, ["film"])
    captions = [
        "wordpieces merged into words: attention summed, lift relative to an even share per word",
        "ignored: “an”, “.” (not in this document), special tokens; the rest is renormalised to a sum of 1",
        "ignored: “film” (not in this document); the rest is not renormalised",
    ]
    drawn = replace(film, tokens=tokens)
    lines = terminal(drawn, "none", 200).splitlines()
    assert lines[-4:] == ["lift: 1× is an even share; full at 10×", *captions]
    assert "attention cls, layer 6 of 6 · 4 words and special tokens" in lines
    page = Page(html(drawn))
    assert [words for words in page.words if words in captions] == captions
    assert page.titles == ["an: no value", "unforgettable (3 pieces): attention 1, lift 1.00×"]


@pytest.mark.parametrize(
    ("label", "known", "probability", "words"),
    [
        ("pos", True, 0.75, "label pos · predicted pos (0.750) · correct"),
        ("neg", True, 0.99996, "label neg · predicted pos (over 0.999) · wrong"),
        (None, True, 1.0, "no label · predicted pos (1.000)"),
        ("neg", False, 0.0004, "label neg · predicted pos (under 0.001)"),
    ],
)
def test_a_prediction_is_called_right_or_wrong_if_the_label_is_a_class(label, known, probability, words):
    """Labels that are not the model's are neither right nor wrong."""
    drawn = shaded("a", [], label=label, labels_are_models=known, probability=probability)
    assert terminal(drawn).splitlines()[1] == words
    assert (">correct<" in html(drawn), ">wrong<" in html(drawn)) == ("correct" in words, "wrong" in words)


@pytest.mark.parametrize(
    ("layer", "words"),
    [("6 of 6", "cls, layer 6 of 6"), ("mean of the layers", "cls, mean of the layers"), ("", "cls")],
)
def test_the_method_is_named(layer, words):
    """With its layer, if it has one."""
    assert terminal(shaded("a", [], layer=layer)).splitlines()[2] == f"attention {words} · 0 tokens"


def test_the_head_is_named():
    """After its layer."""
    drawn = shaded("a", [], reduction="cls_heads", layer="3 of 3", head="2 of 12")
    assert terminal(drawn).splitlines()[2] == "attention cls_heads, layer 3 of 3, head 2 of 12 · 0 tokens"


def test_values_that_are_not_shares_have_no_even_share(film):
    """A norm is shaded by value × length, but it is called neither a lift nor a multiple of an even share."""
    merged = merge_words(film.tokens, whole=False)
    drawn = replace(film, tokens=merged, reduction="norm", whole=False, full=20.0)
    lines = terminal(drawn, "none", 200).splitlines()
    assert lines[-3:] == [
        "marks start at ▁ 4, ▃ 8, ▅ 12, ▇ 16",
        "norm × 4 words and special tokens: its values have no fixed sum, so there is no even share;"
        " full at 20",
        "wordpieces merged into words: values summed",
    ]
    page = html(drawn)
    assert "×+" not in page
    assert "lift" not in page.partition("</style>")[2]
    assert "even share" not in terminal(replace(drawn, relative=True), "none", 200)


def test_an_empty_document_is_reported_as_empty():
    """Only [CLS] and [SEP]: they are listed, and nothing is shaded."""
    drawn = shaded("", [special("[CLS]", 0.4, 0.8), special("[SEP]", 0.6, 1.2)])
    assert terminal(drawn).splitlines()[3:] == [
        "",
        "(the text is empty)",
        "",
        "not in the text: [CLS] attention 0.4, lift 0.80×; [SEP] attention 0.6, lift",
        "1.20×",
        "no attention values: nothing is shaded",
    ]
    page = Page(html(drawn))
    assert page.text == ""
    assert "The text is empty." in page.words


def test_a_document_without_values_is_drawn_without_shades():
    """All values are null, as a custom reduction may have them."""
    drawn = shaded("so so", [word("so", 0, None, None), word("so", 3, None, None)])
    for relative in (False, True):
        assert terminal(replace(drawn, relative=relative), "truecolor").splitlines()[4:] == [
            "so so",
            "",
            "no attention values: nothing is shaded",
        ]
    page = html(drawn)
    assert Page(page).titles == ["so: no value"] * 2
    assert 'class="legend"' not in page
