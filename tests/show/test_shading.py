"""How strongly each token is shaded."""

from dataclasses import replace

import pytest
from drawings import special, table, word

from attnstore.errors import UsageError
from attnstore.show.shading import intensities


def test_shades_are_lifts_up_to_ten_or_shares_of_the_maximum():
    """Special tokens have no shade and set no scale; below 0, not a number and missing are told apart."""
    lifts = [0.0, 2.5, 10.0, 40.0, -3.0, None, float("nan")]
    rows = [special("[CLS]", 0.9, 99.0), *(word("a", 0, 0.1, lift) for lift in lifts)]
    assert intensities(table(rows)) == [None, 0.0, 0.25, 1.0, 1.0, 0.0, None, None]
    assert intensities(table(rows), relative=True) == [None, 0.0, 0.0625, 0.25, 1.0, 0.0, None, None]
    assert intensities(table([word("a", 0, 0.0, 0.0)]), relative=True) == [0.0]


def test_tokens_without_their_columns_are_refused(film):
    """The error names the columns and the question that gives them."""
    with pytest.raises(UsageError, match="lack special, lift: take them from the question document_tokens"):
        replace(film, tokens=film.tokens.drop_columns(["special", "lift"]))
