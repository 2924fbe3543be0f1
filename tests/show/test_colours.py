"""The colours: derived again, readable, and stronger from level to level."""

from itertools import groupby, pairwise

import pytest
from drawings import rgb, wcag

from attnstore.show.colours import AGAINST, PAGE, SHADES, XTERM_AGAINST, XTERM_SHADES
from attnstore.show.shading import LEVELS

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
#: The two ramps, for values above and below 0: shades, indices, and final colours.
RAMPS = pytest.mark.parametrize(
    ("shades", "xterm_shades", "ends", "indices"),
    [
        (
            SHADES,
            XTERM_SHADES,
            {"dark": (0xFF, 0xB3, 0x00), "light": (0xF0, 0x8C, 0x00)},
            {"dark": (235, 237, 239, 94, 136, 172, 214), "light": (230, 223, 215, 208)},
        ),
        (
            AGAINST,
            XTERM_AGAINST,
            {"dark": (0x6C, 0xC6, 0xFF), "light": (0x4A, 0x9F, 0xF5)},
            {"dark": (17, 18, 24, 31, 74, 117), "light": (195, 153, 117, 75)},
        ),
    ],
    ids=["for", "against"],
)
BACKGROUNDS = pytest.mark.parametrize("background", ["dark", "light"])


def linear(channel):
    """An sRGB channel as linear light, 0 to 1 (IEC 61966-2-1)."""
    value = channel / 255
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def encoded(light):
    value = 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    return round(255 * min(max(value, 0.0), 1.0))


def oklab(colour):
    """(lightness, green to red, blue to yellow) of a colour in OKLab (Ottosson 2020)."""
    red, green, blue = map(linear, colour)
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    medium = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def from_oklab(lightness, green_red, blue_yellow):
    long = (lightness + 0.3963377774 * green_red + 0.2158037573 * blue_yellow) ** 3
    medium = (lightness - 0.1055613458 * green_red - 0.0638541728 * blue_yellow) ** 3
    short = (lightness - 0.0894841775 * green_red - 1.2914855480 * blue_yellow) ** 3
    return (
        encoded(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
        encoded(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
        encoded(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
    )


def readable(shade, preferred):
    """The text colour on a shade: the preferred one if its contrast is 4.5 or more, else black or white."""
    return preferred if wcag(shade, preferred) >= 4.5 else max(BLACK, WHITE, key=lambda c: wcag(shade, c))


def xterm(index):
    """The colour of an index from 16 to 255 in xterm's palette: a 6×6×6 cube, then 24 greys."""
    if index >= 232:
        return (8 + 10 * (index - 232),) * 3
    steps = (0, 95, 135, 175, 215, 255)
    return tuple(steps[(index - 16) // size % 6] for size in (36, 6, 1))


def test_contrast_is_that_of_wcag():
    """Black on white is 21, a colour on itself 1, and #767676 the darkest grey to pass on white."""
    assert wcag(BLACK, WHITE) == pytest.approx(21)
    assert wcag((9, 80, 200), (9, 80, 200)) == 1
    assert wcag((0x76,) * 3, WHITE) > 4.5 > wcag((0x77,) * 3, WHITE)


def test_the_conversion_is_oklab():
    """White and the primaries, to three decimals, as in CSS Color 4, and back again."""
    assert oklab(WHITE) == pytest.approx((1, 0, 0), abs=1e-6)
    assert oklab((255, 0, 0)) == pytest.approx((0.628, 0.225, 0.126), abs=5e-4)
    assert oklab((0, 255, 0)) == pytest.approx((0.866, -0.234, 0.179), abs=5e-4)
    assert oklab((0, 0, 255)) == pytest.approx((0.452, -0.032, -0.312), abs=5e-4)
    for colour in [(23, 21, 19), (240, 140, 0), (1, 2, 3), (200, 10, 250)]:
        assert from_oklab(*oklab(colour)) == colour


@RAMPS
@BACKGROUNDS
def test_the_shades_run_from_the_paper_to_one_hue_in_equal_steps(
    background, shades, xterm_shades, ends, indices
):
    """Each of the 20, to the last bit, with its text colour: the ink if it is readable, else black or white."""
    paper, ink = (rgb(PAGE[background][name][1:]) for name in ("paper", "ink"))
    way = list(zip(oklab(paper), oklab(ends[background]), strict=True))
    derived = [from_oklab(*(a + (b - a) * n / LEVELS for a, b in way)) for n in range(1, LEVELS + 1)]
    table = [(rgb(shade[1:]), rgb(text[1:])) for shade, text in shades[background]]
    assert table == [(shade, readable(shade, ink)) for shade in derived]


@RAMPS
@BACKGROUNDS
def test_lightness_is_monotonic_and_every_text_is_readable(background, shades, xterm_shades, ends, indices):
    """From the paper on, shades become lighter on dark paper and darker on light paper. Contrast is 4.5 or more."""
    page = {name: rgb(colour[1:]) for name, colour in PAGE[background].items()}
    pairs = [(rgb(shade[1:]), rgb(text[1:])) for shade, text in shades[background]]
    lightness = [oklab(colour)[0] for colour in (page["paper"], *(shade for shade, _ in pairs))]
    away = 1 if background == "dark" else -1
    assert min(away * (after - before) for before, after in pairwise(lightness)) > 0.01
    assert min(wcag(*pair) for pair in pairs) >= 4.5
    assert min(wcag(page["paper"], page[name]) for name in ("ink", "faint")) >= 4.5


@RAMPS
@BACKGROUNDS
def test_256_colours_divide_the_levels_equally_and_are_readable(
    background, shades, xterm_shades, ends, indices
):
    """Consecutive indices, none for the weakest levels, with black or white text by the colours of the cube."""
    chosen = indices[background]
    steps = [level * (len(chosen) + 1) // (LEVELS + 1) for level in range(1, LEVELS + 1)]
    table = xterm_shades[background]
    assert [pair and pair[0] for pair in table] == [chosen[step - 1] if step else None for step in steps]
    pairs = [(xterm(shade), xterm(text)) for shade, text in filter(None, table)]
    assert [text for _, text in pairs] == [readable(shade, BLACK) for shade, _ in pairs]
    assert min(wcag(*pair) for pair in pairs) >= 4.5
    lightness = [light for light, _ in groupby(oklab(shade)[0] for shade, _ in pairs)]
    assert lightness == sorted(set(lightness), reverse=background == "light")


@BACKGROUNDS
def test_for_and_against_are_distinguishable_for_the_colour_blind(background):
    """As seen by protanopes and deuteranopes (Viénot et al. 1999), from the fifth level on, and equally strong."""
    for level in range(5, LEVELS + 1):
        pair = [rgb(ramp[background][level - 1][0][1:]) for ramp in (SHADES, AGAINST)]
        for red, green in (
            ((0.11238, 0.88762), (0.11238, 0.88762)),
            ((0.29275, 0.70725), (0.29275, 0.70725)),
        ):
            seen = [
                oklab(
                    tuple(
                        encoded(light)
                        for light in (
                            red[0] * linear(c[0]) + red[1] * linear(c[1]),
                            green[0] * linear(c[0]) + green[1] * linear(c[1]),
                            linear(c[2]),
                        )
                    )
                )
                for c in pair
            ]
            assert abs(seen[0][2] - seen[1][2]) > 0.04
        assert abs(oklab(pair[0])[0] - oklab(pair[1])[0]) < 0.05
