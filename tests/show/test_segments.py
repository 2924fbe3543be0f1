"""Where the text is cut: the same in a terminal and on a page."""

from drawings import Page, shaded, special, word

from attnstore.show.page import html
from attnstore.show.terminal import terminal


def test_line_breaks_of_the_source_stay_visible_and_break():
    """`<br />` is shown as it is; after a run of them, a new line."""
    drawn = shaded("Good.<br /><br />Bad.<BR>\nUgly.<br>", [word("bad", 17, 0.5, 10.0)])
    assert terminal(drawn).splitlines()[4:9] == ["Good.<br /><br />", "Bad.<BR>", "▇▇▇", "Ugly.<br>", ""]
    body = Page(html(drawn))
    assert body.text == drawn.text
    assert body.tags.count("br") == 2


def test_the_unread_rest_is_set_apart():
    """600 words, of which the model read 510: the rest follows under a line that says so, undrawn."""
    words = ["film"] * 600
    rows = [special("[CLS]"), *(word("film", 5 * n, 0.01, 1.0) for n in range(510)), special("[SEP]")]
    drawn = shaded(" ".join(words), rows, truncated=True)
    lines = terminal(drawn, "none", 80).splitlines()
    assert lines[3] == "truncated: the model read 2,549 of 2,999 characters"
    cut = lines.index("── the model read no further; 450 characters follow ──")
    assert " ".join(lines[5:cut]).split() == words[:510]
    assert " ".join(lines[cut + 1 : lines.index("", cut)]).split() == words[510:]
    assert terminal(drawn, "256").splitlines()[cut + 1] == f"\x1b[2m{lines[cut + 1]}\x1b[0m"
    page = Page(html(drawn))
    assert page.text == drawn.text
    assert len(page.titles) == 510
    assert "the model read no further; 450 characters follow" in page.words


def test_tokens_on_the_same_characters_are_one_segment():
    """The bytes of an emoji: shaded by the strongest, all named; white space around a token is not shaded."""
    rows = [word("ð", 0, 0.1, 2.0, length=1), word("Ł", 0, 0.1, 10.0, length=1), word("▁ok", 1, 0.1, 10.0)]
    drawn = shaded("🎬 ok", rows)
    assert Page(html(drawn)).titles == [
        "ð: attention 0.1, lift 2.00× + Ł: attention 0.1, lift 10.00×",
        "▁ok: attention 0.1, lift 10.00×",
    ]
    assert terminal(drawn).splitlines()[4:6] == ["🎬 ok", "▇▇ ▇▇"]
