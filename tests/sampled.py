"""Of a test's many similar cases, a sample always runs, and the others run with `make test-exhaustive`.

@pytest.mark.sampled(3)          every third case, in collection order
@pytest.mark.sampled(3, first=1)
@pytest.mark.sampled(at=(0, 4))  these cases
"""

from collections.abc import Sequence
from pathlib import Path

import pytest


def mark_the_others(items: Sequence[pytest.Item]) -> None:
    """Mark the cases outside every sample as exhaustive. A case that is requested by its own name always runs."""
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
    """Unless `-m` names them. Not a pytest option in `addopts`, because `-m "not slow"` would replace it."""
    if "exhaustive" in config.option.markexpr:
        return
    chosen = [item for item in items if item.get_closest_marker("exhaustive") is None]
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("exhaustive")])
    items[:] = chosen


def _runs(place: int, step: int = 1, first: int = 0, at: Sequence[int] | None = None) -> bool:
    return place in at if at is not None else place % step == first
