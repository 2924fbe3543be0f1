"""The wording of lines for users."""

from attnstore.messages import one_line


def test_one_line() -> None:
    """Anything becomes one printable line of limited length."""
    assert one_line("a\n\tb \udcff\x1b[31m") == "a b \\udcff\N{REPLACEMENT CHARACTER}[31m"
    assert one_line("x" * 1000) == "x" * 299 + "…"
