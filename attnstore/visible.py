"""Untrusted text made safe to print: characters that could control a terminal or reorder a line get a visible name."""

import json
import unicodedata
from functools import cache


def visible(text: str) -> str:
    """The text, with every character that acts instead of showing replaced by a visible name.

    Control characters become their pictures (ESC is ␛). Others become their code points, such as ⟨U+009B⟩: the
    C1 controls, the bidirectional controls, line separators, soft hyphens and other format characters. New
    lines and tabs stay, and so do the joiners that emoji and many scripts need (U+200C, U+200D).
    """
    return text.translate({ord(character): _visible(character) for character in _acting(text)})


def _acting(text: str) -> list[str]:
    """The characters of a text that are not shown as they are, each looked up once, because the text may be long."""
    return [character for character in set(text) if _visible(character) != character]


@cache
def _visible(character: str) -> str:
    code = ord(character)
    if character in "\n\t\u200c\u200d" or unicodedata.category(character) not in (
        "Cc",
        "Cf",
        "Cs",
        "Zl",
        "Zp",
    ):
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def visible_line(text: str) -> str:
    """The same on one line: new lines and tabs become pictures too."""
    return visible(text).replace("\n", "␊").replace("\t", "␉")


def visible_json(text: str) -> str:
    """Equivalent JSON, with these characters as JSON's own escapes."""
    return text.translate({ord(character): json.dumps(character)[1:-1] for character in _acting(text)})
