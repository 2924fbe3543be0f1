"""Where a text is divided: the same on a terminal and on a page."""

import pytest
from drawings import Page, shaded, special, word

from attnstore.show.page import html
from attnstore.show.terminal import terminal


def test_line_breaks_of_the_source_stay_visible_and_break():
    """`<br />` is shown as it is, and a new line starts after a run of them."""
    drawn = shaded("Good.<br /><br />Bad.<BR>\nUgly.<br>", [word("bad", 17, 0.5, 10.0)])
    assert terminal(drawn).splitlines()[4:9] == ["Good.<br /><br />", "Bad.<BR>", "▇▇▇", "Ugly.<br>", ""]
    body = Page(html(drawn))
    assert body.text == drawn.text
    assert body.tags.count("br") == 2


@pytest.mark.slow
def test_the_unread_rest_is_set_apart():
    """The model read 510 of 600 words: the rest follows unshaded below a line that says so."""
    words = ["film"] * 600
    rows = [special("[CLS]"), *(word("film", 5 * n, 0.01, 1.0) for n in range(510)), special("[SEP]")]
    drawn = shaded(" ".join(words), rows, truncated=True)
    lines = terminal(drawn, "none", 80).splitlines()
    assert lines[3] == "truncated: the model read 2,550 of 2,999 characters"
    cut = lines.index("── the model read no further; 449 characters follow ──")
    assert " ".join(lines[5:cut]).split() == words[:510]
    assert " ".join(lines[cut + 1 : lines.index("", cut)]).split() == words[510:]
    assert terminal(drawn, "256").splitlines()[cut + 1] == f"\x1b[2m{lines[cut + 1]}\x1b[0m"
    page = Page(html(drawn))
    assert page.text == drawn.text
    assert len(page.titles) == 510
    assert "the model read no further; 449 characters follow" in page.words


def test_tokens_on_the_same_characters_are_one_segment():
    """The bytes of an emoji have the shade of the strongest, and all are named.

    White space around a token is not shaded.
    """
    rows = [word("ð", 0, 0.1, 2.0, length=1), word("Ł", 0, 0.1, 10.0, length=1), word("▁ok", 1, 0.1, 10.0)]
    drawn = shaded("🎬 ok", rows)
    assert Page(html(drawn)).titles == [
        "ð: attention 0.1, lift 2.00× + Ł: attention 0.1, lift 10.00×",
        "▁ok: attention 0.1, lift 10.00×",
    ]
    assert terminal(drawn).splitlines()[4:6] == ["🎬 ok", "▇▇ ▇▇"]


def read_words(places):
    """A document of 60 words, `w0` to `w59`, of which the model read those at these positions."""
    starts = [4 * n for n in range(60)]
    rows = [special("[CLS]"), *(word(f"w{n:02d}", starts[n], 0.01, 1.0) for n in places), special("[SEP]")]
    return shaded(" ".join(f"w{n:02d}" for n in range(60)), rows, truncated=True)


def test_an_unread_beginning_is_set_apart():
    """`--long tail`: a line says where reading begins."""
    drawn = read_words(range(50, 60))
    lines = terminal(drawn, "none", 400).splitlines()
    assert lines[3] == "truncated: the model read 40 of 239 characters"
    cut = lines.index("── the model did not read these 199 characters ──")
    assert lines[cut + 1].split() == [f"w{n:02d}" for n in range(50)]
    assert lines[cut + 2] == "── the model read on from here ──"
    assert lines[cut + 3].split() == [f"w{n:02d}" for n in range(50, 60)]
    assert Page(html(drawn)).text == drawn.text


def test_an_unread_middle_is_set_apart():
    """`--long head+tail`: three stretches, the second set apart."""
    drawn = read_words([*range(10), *range(40, 60)])
    lines = terminal(drawn, "none", 400).splitlines()
    assert lines[3] == "truncated: the model read 120 of 239 characters"
    cut = lines.index("── the model did not read these 119 characters ──")
    assert [line.split() for line in lines[cut - 1 : cut + 4 : 2]] == [
        [f"w{n:02d}" for n in several] for several in (range(10), range(10, 40), range(40, 60))
    ]
    assert lines[cut + 2] == "── the model read on from here ──"
    page = Page(html(drawn))
    assert page.text == drawn.text
    assert "the model read on from here" in html(drawn)


def test_characters_that_a_tokenizer_drops_are_not_unread():
    """Control characters and the like have no token. Only letters and digits show that reading stopped."""
    rows = [special("[CLS]"), word("a", 0, 0.1, 1.0), word("b", 6, 0.1, 1.0), special("[SEP]")]
    drawn = shaded("a \x00\ufffd\u200b b and more", rows, truncated=True)
    lines = terminal(drawn, "none", 200).splitlines()
    assert "── the model read no further; 8 characters follow ──" in lines
    assert not any("did not read" in line for line in lines)
