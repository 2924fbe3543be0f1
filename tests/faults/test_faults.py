"""Whatever fails while a store is written, once, in whatever way: the same command finishes with the same bytes."""

import os
import random
from pathlib import Path

import pytest
from faults import BEGINNINGS, PLAN, WAYS, operations, trial
from small_store import contents, run


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
