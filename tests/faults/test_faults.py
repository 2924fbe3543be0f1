"""A single failure of any kind while a store is written: the same command finishes with the same bytes."""

import os
import random
from dataclasses import replace
from pathlib import Path

import cuts
import pytest
from faults import WORKS, operations, trial, trials, undisturbed

from attnstore.errors import StoreError


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The result of each work if nothing disturbs it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return {work: undisturbed(work, folder / str(n)) for n, work in enumerate(WORKS)}


@pytest.mark.sampled(2)
@pytest.mark.slow
@pytest.mark.parametrize("work", WORKS)
def test_random_failures(work: str, tmp_path: Path, expected) -> None:
    """A few of all; ATTNSTORE_SEED draws others, and `make test-exhaustive` tries every one."""
    chance = random.Random(int(os.environ.get("ATTNSTORE_SEED", "0")))
    every = trials(operations(work, tmp_path / "counted"))
    for number, (at, way) in enumerate(chance.sample(every, 3)):
        trial(work, at, way, tmp_path / str(number), expected[work])


@pytest.mark.sampled(2)
@pytest.mark.slow
def test_sealing_survives_a_folder_that_can_not_be_removed(tmp_path: Path, expected) -> None:
    """The folder for computing totals. It is removed with the receipts."""
    done = operations("a seal", tmp_path / "counted")
    removals = [at for at, name in enumerate(done) if name == "rmdir"]
    assert removals
    for at in removals:
        trial("a seal", at, "EINTR", tmp_path / str(at), expected["a seal"])


@pytest.mark.slow
@pytest.mark.parametrize("work", WORKS)
def test_random_power_cuts(work: str, tmp_path: Path, expected) -> None:
    """Unsynced data is dropped, torn or reordered: the same command resumes, and finds no part damaged."""
    chance = random.Random(int(os.environ.get("ATTNSTORE_SEED", "0")))
    done = cuts.recorded(work, tmp_path / "recorded")
    for number in range(2):
        at = chance.randrange(len(done.steps) + 1)
        cuts.trial(done, at, chance, tmp_path / str(number), expected[work])


@pytest.mark.slow
@pytest.mark.parametrize("forgotten", ["sync", "syncdir"])
def test_a_run_that_forgets_to_sync_does_not_survive_a_power_cut(
    tmp_path: Path, expected, forgotten: str
) -> None:
    """Shows that the trials can fail: without the syncs of files, or of folders, some of them do."""
    chance = random.Random(18)
    done = cuts.recorded("a run", tmp_path / "recorded")
    careless = replace(done, steps=tuple(step for step in done.steps if step.name != forgotten))
    with pytest.raises((AssertionError, StoreError)):
        for number in range(40):
            at = chance.randrange(len(careless.steps) + 1)
            cuts.trial(careless, at, chance, tmp_path / str(number), expected["a run"])


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("work", WORKS)
def test_every_failure(work: str, tmp_path: Path, expected) -> None:
    """Each operation of each work, in each way. The outcomes are counted."""
    done = operations(work, tmp_path / "counted")
    outcomes = [trial(work, at, way, tmp_path / "trial", expected[work]) for at, way in trials(done)]
    assert len(outcomes) > 100
    assert set(outcomes) <= {"one line", "killed", "finished in spite of it"}
    assert outcomes.count("killed") == len(done)
