"""A small document with its attention, as most tests of this room draw it."""

import pytest
from drawings import FILM, shaded


@pytest.fixture
def film():
    return shaded("An unforgettable <film>", FILM, prediction="neg")
