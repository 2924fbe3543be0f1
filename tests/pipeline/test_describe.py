"""The description of a run before it begins."""

import pytest

from attnstore.data.survey import Survey
from attnstore.pipeline.describe import part_size_of


@pytest.mark.parametrize(
    ("documents", "characters", "expected"),
    [
        (25_000, 25_000 * 1_300, 1_000),  # IMDb's reviews
        (2_000, 2_000 * 4_000_000, 1_000),  # books
        (1_000_000, 1_000_000 * 60, 16_000),  # tweets: 63 parts, not a thousand
        (1_000_000, 1_000_000 * 999, 1_000),
        (5_000_000, 5_000_000 * 4, 100_000),  # words
        (3, 0, 100_000),
        (10_000_000, 10_000_000 * 1_300, 1_000),
        (50_000_000, 50_000_000 * 1_300, 5_000),  # 10,000 parts
        (2**31 - 1, 2**31 * 300, 215_000),
    ],
)
def test_a_part_of_short_documents_has_more_of_them(documents, characters, expected):
    """As many thousands as have a million characters, at least one.

    So a store does not consist of thousands of tiny files.
    """
    assert part_size_of(Survey(documents, {}, 0, {}, (), "", characters=characters)) == expected
