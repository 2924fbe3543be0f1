"""The width of a text in columns, and where its lines break."""

from drawings import shaded, word

from attnstore.show.terminal import terminal


def test_wide_and_combining_characters_take_their_columns():
    """Lines and marks are measured in columns, and a line never starts with a combining mark."""
    text = "日本語 cafe\u0301 映画"
    rows = [word("語", 2, 0.5, 10.0), word("café", 4, 0.5, 10.0, length=5)]
    lines = terminal(shaded(text, rows), "none", 80).splitlines()
    assert lines[4:6] == [text, "    ▇▇ ▇▇▇▇"]
    lines = terminal(shaded("e\u0301" * 21 + "日\u0301" * 10, []), "none", 20).splitlines()
    body = lines[lines.index("") + 1 :]
    assert body[:3] == ["e\u0301" * 20, "e\u0301" + "日\u0301" * 9, "日\u0301"]
