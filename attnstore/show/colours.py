"""The colours of the paper, the ink and the shades."""

from functools import cache
from typing import Literal

from attnstore.show.shading import LEVELS

Background = Literal["dark", "light"]


Rgb = tuple[int, int, int]

#: Of each background: the paper, the ink on it, the ink of what matters less, a rule, and the fullest shade.
PAPER: dict[Background, Rgb] = {"light": (0xFF, 0xFF, 0xFF), "dark": (0x17, 0x15, 0x13)}
INK: dict[Background, Rgb] = {"light": (0x1C, 0x19, 0x17), "dark": (0xE9, 0xE4, 0xDE)}
FAINT: dict[Background, Rgb] = {"light": (0x6B, 0x64, 0x5E), "dark": (0xA3, 0x9B, 0x92)}
RULE: dict[Background, Rgb] = {"light": (0xE4, 0xDF, 0xD9), "dark": (0x3A, 0x36, 0x32)}
_FULL: dict[Background, Rgb] = {"light": (0xF0, 0x8C, 0x00), "dark": (0xFF, 0xB3, 0x00)}


def _linear(channel: int) -> float:
    """An sRGB channel as linear light, 0 to 1 (IEC 61966-2-1)."""
    value = channel / 255
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _encoded(light: float) -> int:
    value = 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    return round(255 * min(max(value, 0.0), 1.0))


def luminance(colour: Rgb) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    red, green, blue = map(_linear, colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Rgb, other: Rgb) -> float:
    """Contrast ratio as WCAG 2.2 defines it, from 1 to 21; text needs 4.5 (success criterion 1.4.3)."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _oklab(colour: Rgb) -> tuple[float, float, float]:
    """The colour in OKLab (Ottosson 2020), where equal steps look about equally large."""
    red, green, blue = map(_linear, colour)
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    medium = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def _from_oklab(lightness: float, green_red: float, blue_yellow: float) -> Rgb:
    long = (lightness + 0.3963377774 * green_red + 0.2158037573 * blue_yellow) ** 3
    medium = (lightness - 0.1055613458 * green_red - 0.0638541728 * blue_yellow) ** 3
    short = (lightness - 0.0894841775 * green_red - 1.2914855480 * blue_yellow) ** 3
    return (
        _encoded(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
        _encoded(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
        _encoded(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
    )


@cache
def ramp(background: Background) -> tuple[Rgb, ...]:
    """The shades of levels 0 to 20, from the paper to one hue, in equal steps of OKLab."""
    paper, full = _oklab(PAPER[background]), _oklab(_FULL[background])
    return tuple(
        _from_oklab(*(p + (f - p) * level / LEVELS for p, f in zip(paper, full, strict=True)))
        for level in range(LEVELS + 1)
    )


def ink(shade: Rgb, preferred: Rgb) -> Rgb:
    """The colour of text on `shade`: the preferred one where it is readable, else black or white.

    One of those two always has a contrast of 4.58 or more.
    """
    if contrast(shade, preferred) >= 4.5:
        return preferred
    return max(((0, 0, 0), (255, 255, 255)), key=lambda colour: contrast(shade, colour))


def xterm_colour(index: int) -> Rgb:
    """The colour of an index from 16 to 255 in xterm's palette: a 6×6×6 cube, then 24 greys."""
    if index >= 232:
        grey = 8 + 10 * (index - 232)
        return grey, grey, grey
    steps = (0, 95, 135, 175, 215, 255)
    cube = index - 16
    return steps[cube // 36], steps[cube // 6 % 6], steps[cube % 6]


#: With 256 colours: the indices nearest in kind to the ramp, weakest first; below the first,
#: no background. The nearest ones by distance alone wander through olive and pink.
XTERM_RAMP: dict[Background, tuple[int, ...]] = {
    "dark": (235, 237, 239, 94, 136, 172, 214),
    "light": (230, 223, 215, 208),
}
