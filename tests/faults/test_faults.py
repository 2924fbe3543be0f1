"""Whatever fails while a store is written, once, in whatever way: the same command finishes with the same bytes."""

import os
import random
from dataclasses import replace
from pathlib import Path

import cuts
import pytest
from faults import BEGINNINGS, PLAN, WAYS, operations, trial
from small_store import contents, run

from attnstore.errors import StoreError


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return contents(run(tmp_path_factory.mktemp("undisturbed") / "store", PLAN).path)


def trials(beginning: str, folder: Path) -> list[tuple[int, str]]:
    """Every operation with every way in which it can fail: a short write is one of a write alone."""
    done = operations(beginning, folder / "counted")
    return [(at, way) for at, name in enumerate(done) for way in WAYS if way != "short" or name == "write"]


@pytest.mark.slow
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_random_failures(beginning: str, tmp_path: Path, undisturbed) -> None:
    """A few of all; ATTNSTORE_SEED draws others, and `make test-exhaustive` tries every one."""
    chance = random.Random(int(os.environ.get("ATTNSTORE_SEED", "0")))
    for number, (at, way) in enumerate(chance.sample(trials(beginning, tmp_path), 3)):
        trial(beginning, at, way, tmp_path / str(number), undisturbed)


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_random_power_cuts(beginning: str, tmp_path: Path, undisturbed) -> None:
    """What was not synced is dropped, torn or reordered: the same run goes on, and finds no part damaged."""
    chance = random.Random(int(os.environ.get("ATTNSTORE_SEED", "0")))
    work = cuts.recorded(beginning, tmp_path / "recorded")
    for number in range(2):
        cuts.trial(work, chance.randrange(len(work.steps) + 1), chance, tmp_path / str(number), undisturbed)


@pytest.mark.parametrize("forgotten", ["sync", "syncdir"])
def test_a_run_that_forgets_to_sync_does_not_survive_a_power_cut(
    tmp_path: Path, undisturbed, forgotten: str
) -> None:
    """What the trials are worth: without the syncs of files, or of folders, some of them fail."""
    chance = random.Random(18)
    work = cuts.recorded("a run", tmp_path / "recorded")
    careless = replace(work, steps=tuple(step for step in work.steps if step.name != forgotten))
    with pytest.raises((AssertionError, StoreError)):
        for number in range(40):
            at = chance.randrange(len(careless.steps) + 1)
            cuts.trial(careless, at, chance, tmp_path / str(number), undisturbed)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_every_failure(beginning: str, tmp_path: Path, undisturbed) -> None:
    """Each operation of a run, of one that goes on, and of a sealing, in each way. What it came to is counted."""
    outcomes = [
        trial(beginning, at, way, tmp_path / "trial", undisturbed) for at, way in trials(beginning, tmp_path)
    ]
    assert len(outcomes) > 100
    assert set(outcomes) <= {"one line", "killed", "finished in spite of it"}
    assert outcomes.count("killed") == len(operations(beginning, tmp_path / "again"))
