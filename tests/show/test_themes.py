"""The colours of classes are visible on their background, and distinguishable for the colour-blind."""

from itertools import combinations

import pytest
from drawings import rgb as bare_rgb
from drawings import wcag
from test_colours import encoded, linear, oklab

from attnstore.show.colours import PAGE
from attnstore.show.themes import CLASSES, theme

BACKGROUNDS = pytest.mark.parametrize("background", ["light", "dark"])

#: Linear RGB as perceived (Machado, Oliveira and Fernandes 2009, table 1, severity 1.0).
SEEN = {
    "without red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "without green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "without blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
}  # fmt: skip


def rgb(colour):
    return bare_rgb(colour.removeprefix("#"))


def seen(colour, eye):
    light = [linear(channel) for channel in rgb(colour)]
    return tuple(
        encoded(sum(part * each for part, each in zip(row, light, strict=True))) for row in SEEN[eye]
    )


def apart(one, other, eye):
    """The distance of two colours in OKLab, as this eye perceives them."""
    a, b = oklab(seen(one, eye)), oklab(seen(other, eye))
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5


@BACKGROUNDS
def test_every_class_stands_out_from_the_paper(background):
    """A contrast of 3, as WCAG 2.1 requires for graphics (1.4.11)."""
    assert [c for c in CLASSES[background] if wcag(rgb(c), rgb(PAGE[background]["paper"])) < 3] == []


@BACKGROUNDS
@pytest.mark.parametrize("eye", SEEN)
def test_the_first_classes_are_distinguishable_for_every_eye(background, eye):
    """The first six classes are 0.08 apart in OKLab, about four just noticeable differences; the first two twice as
    far.
    """
    colours = CLASSES[background]
    near = {pair: apart(*pair, eye) for pair in combinations(colours[:6], 2)}
    assert {pair: distance for pair, distance in near.items() if distance < 0.08} == {}
    assert apart(*colours[:2], eye) > 0.15


@BACKGROUNDS
def test_a_chart_has_the_colours_of_the_page(background):
    """Paper, ink and classes are those of the pages."""
    looks = theme(background)
    assert looks["background"] == PAGE[background]["paper"]
    assert looks["title"]["color"] == looks["text"]["color"] == PAGE[background]["ink"]
    assert looks["range"]["category"] == list(CLASSES[background])
