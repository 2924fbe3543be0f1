"""Of many like cases of a test a sample runs always, and the others with `make test-exhaustive`.

@pytest.mark.sampled(3)          every third case, in the order in which they are collected
@pytest.mark.sampled(3, first=1)
@pytest.mark.sampled(at=(0, 4))  these
"""

from collections.abc import Sequence
from pathlib import Path

import pytest


def mark_the_others(items: Sequence[pytest.Item]) -> None:
    """Make exhaustive what is in no sample. A case that is asked for by its name, alone, is always in it."""
    seen: dict[tuple[Path, str], int] = {}
    for item in items:
        sample = item.get_closest_marker("sampled")
        if sample is None:
            continue
        of = item.path, getattr(item, "originalname", item.name)
        place = seen[of] = seen.get(of, -1) + 1
        if not _runs(place, *sample.args, **sample.kwargs):
            item.add_marker(pytest.mark.exhaustive)


def leave_out_the_exhaustive(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Unless `-m` names them. Not an option of pytest's: `-m "not slow"` would take its place, and bring them back."""
    if "exhaustive" in config.option.markexpr:
        return
    chosen = [item for item in items if item.get_closest_marker("exhaustive") is None]
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("exhaustive")])
    items[:] = chosen


def _runs(place: int, step: int = 1, first: int = 0, at: Sequence[int] | None = None) -> bool:
    return place in at if at is not None else place % step == first
