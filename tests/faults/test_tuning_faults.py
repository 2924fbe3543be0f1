"""A single failure of any kind while a model is fine-tuned: the same command writes the same model."""

import os
import random
from collections.abc import Iterator

import pytest
from tuning import Tunings, built, tunings


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tunings]:
    folder = tmp_path_factory.mktemp("tunings")
    library = built(folder)
    if library is None:
        pytest.skip("nothing builds a library here that stands before the C library")
    with tunings(folder, library) as found:
        yield found


@pytest.mark.slow
def test_random_failures_of_a_fine_tuning(tried: Tunings) -> None:
    """One of all; ATTNSTORE_SEED draws others."""
    chance = random.Random(int(os.environ.get("ATTNSTORE_SEED", "0")))
    tried.trial(*chance.choice(tried.trials()))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_every_failure_of_a_fine_tuning(tried: Tunings) -> None:
    """Each operation, in each way, and killed at each."""
    outcomes = [tried.trial(at, way) for at, way in tried.trials()]
    assert outcomes.count("killed") == tried.undisturbed[0]
    assert {"one line", "finished in spite of it"} <= set(outcomes)
