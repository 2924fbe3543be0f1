"""The colours: readable, and stronger level by level."""

import pytest

from attnstore.show.colours import contrast


def test_contrast_is_that_of_wcag():
    """Black on white is 21, a colour on itself 1, and #767676 the darkest grey to pass on white."""
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((9, 80, 200), (9, 80, 200)) == 1
    assert contrast((0x76, 0x76, 0x76), (255, 255, 255)) > 4.5 > contrast((0x77,) * 3, (255,) * 3)
