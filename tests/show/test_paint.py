"""How many colours a terminal gets, and which."""

import re
from itertools import groupby

import pytest
from drawings import SGR, shaded, wcag, word

from attnstore.show.colours import SHADES
from attnstore.show.paint import colour_depth, terminal_background
from attnstore.show.terminal import terminal


def test_true_colour_shades_the_text_itself(film):
    """Each token's own characters have the ramp's colour of its level, and lines end unshaded."""
    lines = terminal(film, "truecolor", 70).splitlines()
    dark = [tuple(bytes.fromhex(shade[1:])) for shade, _ in SHADES["dark"]]

    def painted(text, level, front):
        return f"\x1b[38;2;{front};48;2;{';'.join(map(str, dark[level - 1]))}m{text}\x1b[0m"

    ivory = "233;228;222"
    shades = [painted("un", 1, ivory), painted("forget", 2, ivory)]
    assert lines[0] == "\x1b[1mtest/pos/1_9\x1b[0m"
    assert lines[4] == f"An {shades[0]}{shades[1]}{painted('table', 20, '0;0;0')} <film>"
    assert dark[19] == (0xFF, 0xB3, 0x00)
    assert SGR.sub("", lines[-2]) == f"0 {' ' * 10} 10×+"
    assert lines[-1] == "lift = attention × 6 tokens: 1× is an even share; full at 10×"


def test_256_colours_use_a_fixed_ramp(film):
    """Indices of the colour cube and its greys, which no theme changes. The weakest shades are left out."""
    line = terminal(film, "256", 60).splitlines()[4]
    assert line == "An unforget\x1b[38;5;16;48;5;214mtable\x1b[0m <film>"
    line = terminal(film, "256", 60, "light").splitlines()[4]
    assert line == "An unforget\x1b[38;5;16;48;5;208mtable\x1b[0m <film>"


@pytest.mark.parametrize(
    ("environ", "isatty", "depth"),
    [
        ({}, True, "none"),
        ({"TERM": "xterm-256color"}, True, "256"),
        ({"TERM": "xterm-256color"}, False, "none"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, True, "truecolor"),
        ({"TERM": "xterm", "COLORTERM": "24bit"}, True, "truecolor"),
        ({"TERM": "xterm-direct"}, True, "truecolor"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, True, "none"),
        ({"COLORTERM": "truecolor", "NO_COLOR": "0"}, True, "none"),
        ({"COLORTERM": "truecolor", "NO_COLOR": ""}, True, "truecolor"),
        ({"COLORTERM": "truecolor", "CLICOLOR": "0"}, True, "none"),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, "none"),
        ({"FORCE_COLOR": "1"}, False, "256"),
        ({"FORCE_COLOR": "3"}, False, "truecolor"),
        ({"FORCE_COLOR": "2", "COLORTERM": "truecolor"}, True, "256"),
        ({"FORCE_COLOR": "0", "TERM": "xterm-256color"}, True, "none"),
        ({"CLICOLOR_FORCE": "1", "COLORTERM": "truecolor"}, False, "truecolor"),
        ({"CLICOLOR_FORCE": "0", "COLORTERM": "truecolor"}, False, "none"),
        ({"CLICOLOR_FORCE": "1", "TERM": "dumb"}, True, "256"),
    ],
)
def test_the_environment_decides_the_colours(environ, isatty, depth):
    """First NO_COLOR, then variables that force colour, then the terminal's own description."""
    assert colour_depth(environ, isatty) == depth


@pytest.mark.parametrize(
    ("value", "background"), [(None, "dark"), ("15;0", "dark"), ("0;15", "light"), ("0;default;7", "light")]
)
def test_the_terminal_may_say_that_it_is_light(value, background):
    """COLORFGBG ends in the background's colour number."""
    environ = {} if value is None else {"COLORFGBG": value}
    assert terminal_background(environ) == background


@pytest.mark.parametrize("background", ["dark", "light"])
@pytest.mark.parametrize("colour", ["truecolor", "256"])
def test_every_shade_on_the_terminal_is_readable_and_stronger_than_the_last(colour, background):
    """Contrast is 4.5 or more on all of them, and luminance is monotonic from the paper on."""
    rows = [word("a", n, 0.1, n / 2) for n in range(21)]
    line = terminal(shaded("a" * 21, rows), colour, 80, background).splitlines()[4]
    if colour == "256":
        cube = (0, 95, 135, 175, 215, 255)

        def xterm(n):
            return (
                (8 + 10 * (n - 232),) * 3 if n > 231 else tuple(cube[(n - 16) // d % 6] for d in (36, 6, 1))
            )

        found = [(xterm(int(f)), xterm(int(b))) for f, b in re.findall(r"38;5;(\d+);48;5;(\d+)m", line)]
        assert len(found) >= 4
    else:
        codes = re.findall(r"38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m", line)
        found = [(tuple(map(int, c[:3])), tuple(map(int, c[3:]))) for c in codes]
        assert len(found) == 20
    assert min(wcag(front, back) for front, back in found) >= 4.5
    distances = [wcag((0, 0, 0) if background == "dark" else (255, 255, 255), back) for _, back in found]
    steps = [distance for distance, _ in groupby(distances)]
    assert steps == sorted(set(steps))
