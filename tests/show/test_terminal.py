"""Pictures on a terminal: the document's own text within the terminal's width, without control characters."""

import re
import unicodedata

import pytest
from drawings import SGR, documents, neutral, shaded, word
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attnstore.show.colours import AGAINST, SHADES
from attnstore.show.terminal import terminal


def test_without_colour_marks_stand_under_the_text(film):
    """The whole piped output: the unchanged text, marks below the strong tokens, and values in a list."""
    assert str(film) == terminal(film, "none", 80)
    assert terminal(film, "none", 64).splitlines() == [
        "test/pos/1_9",
        "label pos · predicted neg (0.750) · wrong",
        "attention cls, layer 6 of 6 · 6 tokens",
        "",
        "An unforgettable <film>",
        "           ▇▇▇▇▇",
        "",
        "most attended: ##table 10.0×, ##forget 1.2×, un 0.6×, an 0.3×",
        "not in the text: [CLS] attention 0.1, lift 0.60×; [SEP]",
        "attention 0.3, lift 1.80×",
        "marks start at ▁ 2×, ▃ 4×, ▅ 6×, ▇ 8×",
        "lift = attention × 6 tokens: 1× is an even share; full at 10×",
    ]


def test_values_against_have_their_own_marks():
    """Signed values: marks for and against, the strongest of both, and an explanation of the signs."""
    rows = [word("good", 0, 0.031, None), word("bad", 5, -0.04, None), word("so", 9, 0.001, None)]
    drawn = shaded(
        "good bad so", rows, reduction="evidence", layer="", signed=True, full=0.04, full_means="p99"
    )
    assert terminal(drawn, "none", 100).splitlines()[4:] == [
        "good bad so",
        "▅▅▅▅ ≡≡≡",
        "",
        "most for: good +0.031, so +0.001",
        "most against: bad −0.04",
        "marks start at for ▁ 0.008, ▃ 0.016, ▅ 0.024, ▇ 0.032; against · 0.008, - 0.016, = 0.024, ≡ 0.032",
        "above 0 it supports the prediction, below 0 it opposes it; full at 0.04, p99",
    ]
    lines = terminal(drawn, "truecolor", 90).splitlines()
    assert SGR.sub("", lines[-2]) == f"−0.04 against {' ' * 10} 0 {' ' * 10} for 0.04"
    good, bad = (tuple(bytes.fromhex(shade[1:])) for shade in (SHADES["dark"][14][0], AGAINST["dark"][19][0]))
    assert [f"48;2;{';'.join(map(str, shade))}m" in lines[4] for shade in (good, bad)] == [True, True]


def test_the_marks_are_fifths():
    """The marks change at lifts of 2, 4, 6 and 8, or at shares of the maximum if relative."""
    rows = [word(letter, at, 0.1, 2.0 * at) for at, letter in enumerate("abcdef")]
    lines = terminal(shaded("abcdef", rows)).splitlines()
    assert lines[4:6] == ["abcdef", " ▁▃▅▇▇"]
    below = [word(letter, at, 0.1, 2.0 * at - 0.01) for at, letter in enumerate("abcdef")]
    assert terminal(shaded("abcdef", below)).splitlines()[4:6] == ["abcdef", "  ▁▃▅▇"]
    lines = terminal(shaded("abcdef", rows[:3], relative=True)).splitlines()
    assert lines[4:6] == ["abcdef", " ▃▇"]
    assert lines[-3:] == [
        "marks start at ▁ 20%, ▃ 40%, ▅ 60%, ▇ 80% of the maximum",
        "relative to this document's most attended token (lift 4.0×): not comparable",
        "between documents",
    ]


def test_a_text_does_not_control_the_terminal():
    """Escape sequences, C1 controls and bidirectional overrides in text, id and labels become visible names."""
    bad = "a\x1b]0;owned\x07\x9b31m\u202eb\u2028c\r\x7f\xad"
    drawn = shaded(bad, [word("a", 0, 0.5, 10.0, length=1)], id=bad + "\n", label=bad, prediction=bad)
    named = "a␛]0;owned␇⟨U+009B⟩31m⟨U+202E⟩b⟨U+2028⟩c␍␡⟨U+00AD⟩"
    lines = terminal(drawn, "none", 200).splitlines()
    assert lines[0] == named + "␊"
    assert lines[1] == f"label {named} · predicted {named} (0.750) · correct"
    assert lines[4] == named
    for colour in ("none", "256", "truecolor"):
        left = SGR.sub("", terminal(drawn, colour))
        assert not [c for c in left if unicodedata.category(c) in ("Cc", "Cf", "Zl") and c != "\n"]


@pytest.mark.slow
@given(documents(), st.sampled_from(["none", "256", "truecolor"]), st.integers(20, 90))
@example(shaded(" \x9b\x9b\x80", []), "none", 20)  # even if broken after the space, it is too long for a line
@settings(max_examples=60, deadline=None)
def test_a_terminal_gets_the_documents_text_within_its_width(drawn, colour, width):
    """Without colours, marks and line breaks, the text equals the document's.

    No line is too long, and no control character remains.
    """
    lines = SGR.sub("", terminal(drawn, colour, width)).split("\n")
    first, last = lines.index(""), len(lines) - lines[::-1].index("") - 1
    body = "\n".join(line for line in lines[first:last] if not re.fullmatch("[ ▁▃▅▇]+", line))
    body = re.sub(r"──\s+the\s+model[^─]*──", "", body) if drawn.truncated else body
    body = body.replace("(the text is empty)", "") if not drawn.text.strip() else body
    assert "".join(body.split()) == "".join(neutral(drawn.text).split())
    for line in lines:
        wide = sum(
            0 if unicodedata.category(c) in ("Mn", "Me", "Cf") or 0x1160 <= ord(c) <= 0x11FF
            else 1 + (unicodedata.east_asian_width(c) in "WF")
            for c in line
        )  # fmt: skip
        assert wide <= width
        assert not [c for c in line if unicodedata.category(c) == "Cc"]
