"""Control characters get a visible name."""

import sys
import unicodedata

import pytest
from drawings import neutral

from attnstore.visible import visible, visible_line


@pytest.mark.parametrize("step", [61, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.exhaustive])])
def test_every_character_is_itself_or_has_the_stated_name(step):
    """All of Unicode except lone surrogates, against the rule implemented differently: the first plane, the plane of
    tags, and every 61st of all others.
    """
    numbers = sorted({*range(0x10000), *range(0xE0000, 0xE0200), *range(0x10000, sys.maxunicode + 1, step)})
    everything = "".join(c for c in map(chr, numbers) if unicodedata.category(c) != "Cs")
    assert visible(everything) == neutral(everything)
    assert visible("\ud800") == "⟨U+D800⟩"


def test_a_line_stays_one_line():
    """New lines and tabs, which a text may keep, are also replaced by pictures."""
    assert visible("a\n\tb") == "a\n\tb"
    assert visible_line("a\n\tb\x1b") == "a␊␉b␛"
