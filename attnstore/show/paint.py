"""Colour in a terminal: how much of it there is, and the escape sequences that give it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from attnstore.show.colours import INK, XTERM_RAMP, Background, ink, ramp, xterm_colour
from attnstore.show.shading import LEVELS

Colour = Literal["truecolor", "256", "none"]


def colour_depth(environ: Mapping[str, str], isatty: bool) -> Colour:
    """How many colours to write, from the environment (such as os.environ).

    NO_COLOR, set to anything, means none (no-color.org). FORCE_COLOR or CLICOLOR_FORCE, set to anything
    but 0, mean colour even where the output is no terminal; FORCE_COLOR=2 means 256 and 3 true colour.
    Otherwise: none if the output is no terminal, if CLICOLOR is 0 or TERM is dumb; and as many as
    COLORTERM (truecolor, 24bit) and TERM (*-direct, *256color*) promise.
    """
    if environ.get("NO_COLOR"):
        return "none"
    force, term = environ.get("FORCE_COLOR", ""), environ.get("TERM", "")
    if force.lower() in ("0", "false"):
        return "none"
    forced = bool(force) or environ.get("CLICOLOR_FORCE", "0") not in ("", "0")
    if not forced and (not isatty or term == "dumb" or environ.get("CLICOLOR") == "0"):
        return "none"
    if force == "3" or environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") or "direct" in term:
        return "256" if force == "2" else "truecolor"
    return "256" if forced or "256color" in term else "none"


def terminal_background(environ: Mapping[str, str]) -> Background:
    """Light if COLORFGBG (as set by rxvt, Konsole and others) says so, else dark, as most terminals are."""
    return "light" if environ.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15") else "dark"


@dataclass(frozen=True, slots=True)
class Painter:
    """Escape sequences of one colour depth; with "none" there are none."""

    colour: Colour
    background: Background

    def bold(self, text: str) -> str:
        return text if self.colour == "none" else f"\x1b[1m{text}\x1b[0m"

    def dim(self, text: str) -> str:
        return text if self.colour == "none" else f"\x1b[2m{text}\x1b[0m"

    def shade(self, text: str, level: int) -> str:
        if self.colour == "none":
            return text
        if self.colour == "256":
            indices = XTERM_RAMP[self.background]
            step = level * (len(indices) + 1) // (LEVELS + 1)
            if not step:
                return text
            index = indices[step - 1]
            # 16 and 231 are the cube's black and white: unlike 0 and 15, no theme changes them.
            front = 16 if ink(xterm_colour(index), (0, 0, 0)) == (0, 0, 0) else 231
            return f"\x1b[38;5;{front};48;5;{index}m{text}\x1b[0m"
        shade = ramp(self.background)[level]
        front_rgb = ";".join(map(str, ink(shade, INK[self.background])))
        return f"\x1b[38;2;{front_rgb};48;2;{';'.join(map(str, shade))}m{text}\x1b[0m"
