"""Colour in a terminal: how much it can show, and the escape sequences that show it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from attnstore.show.colours import AGAINST, SHADES, XTERM_AGAINST, XTERM_SHADES, Background

Colour = Literal["truecolor", "256", "none"]


def colour_depth(environ: Mapping[str, str], isatty: bool) -> Colour:
    """How many colours to write, from the environment (such as os.environ).

    NO_COLOR, set to anything, means none (no-color.org). FORCE_COLOR or CLICOLOR_FORCE, set to anything
    but 0, mean colour even if the output is not a terminal; FORCE_COLOR=2 means 256 and 3 true colour.
    Otherwise: none if the output is not a terminal, if CLICOLOR is 0 or if TERM is dumb; else as many as
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
    """Puts text between the escape sequences of one colour depth; with "none", there are no sequences."""

    colour: Colour
    background: Background

    def bold(self, text: str) -> str:
        return text if self.colour == "none" else f"\x1b[1m{text}\x1b[0m"

    def dim(self, text: str) -> str:
        return text if self.colour == "none" else f"\x1b[2m{text}\x1b[0m"

    def shade(self, text: str, level: int) -> str:
        """The text on the shade of that level, from 1; below 0, on the shade of opposition."""
        if self.colour == "none":
            return text
        if self.colour == "truecolor":
            shades = SHADES if level > 0 else AGAINST
            shade, ink = map(_decimal, shades[self.background][abs(level) - 1])
            return f"\x1b[38;2;{ink};48;2;{shade}m{text}\x1b[0m"
        indices = (XTERM_SHADES if level > 0 else XTERM_AGAINST)[self.background][abs(level) - 1]
        return text if indices is None else f"\x1b[38;5;{indices[1]};48;5;{indices[0]}m{text}\x1b[0m"


def _decimal(colour: str) -> str:
    """`#ffb300` as `255;179;0`."""
    return ";".join(map(str, bytes.fromhex(colour[1:])))
