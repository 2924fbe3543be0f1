"""How strongly each token is shaded."""

from dataclasses import replace

import pytest
from drawings import shaded, special, word

from attnstore.errors import UsageError
from attnstore.show.shading import intensities, level_reached, most_attended
from attnstore.show.words import token_rows


def test_shades_are_lifts_up_to_ten_or_shares_of_the_maximum():
    """Special tokens have no shade and do not affect the scale. Negative, NaN and missing values are distinguished."""
    lifts = [0.0, 2.5, 10.0, 40.0, -3.0, None, float("nan")]
    rows = [special("[CLS]", 0.9, 99.0), *(word("a", 0, 0.1, lift) for lift in lifts)]
    assert intensities(shaded("", rows)) == [None, 0.0, 0.25, 1.0, 1.0, 0.0, None, None]
    assert intensities(shaded("", rows, full=4.0)) == [None, 0.0, 0.625, 1.0, 1.0, 0.0, None, None]
    assert intensities(shaded("", rows, relative=True)) == [None, 0.0, 0.0625, 0.25, 1.0, 0.0, None, None]
    assert intensities(shaded("", [word("a", 0, 0.0, 0.0)], relative=True)) == [0.0]


def test_signed_values_are_shaded_above_and_below_0():
    """Value / full from -1 to 1, whatever the lift. The strongest are listed separately, and levels round towards 0."""
    values = [0.0, 0.01, -0.02, 0.08, -0.05, None]
    rows = [special("[CLS]", 0.9), *(word(f"w{n}", 0, value, None) for n, value in enumerate(values))]
    document = shaded("", rows, signed=True, full=0.04)
    assert intensities(document) == [None, 0.0, 0.25, -0.5, 1.0, -1.0, None]
    assert intensities(replace(document, relative=True)) == [None, 0.0, 0.125, -0.25, 1.0, -0.625, None]
    listed = {sign: most_attended(document, token_rows(document.tokens), sign) for sign in (1, -1)}
    assert {sign: [row["token"] for row in rows] for sign, rows in listed.items()} == {
        1: ["w3", "w1"], -1: ["w4", "w2"],
    }  # fmt: skip
    assert [level_reached(shade) for shade in (-1, -0.99, -0.5, -0.01, 0, 0.49, 1)] == [
        -20,
        -19,
        -10,
        0,
        0,
        9,
        20,
    ]


def test_tokens_without_their_columns_are_refused(film):
    """The error names the columns and the question that has them."""
    with pytest.raises(UsageError, match="lack special, lift: take them from the question document_tokens"):
        replace(film, tokens=film.tokens.drop_columns(["special", "lift"]))
