"""Readers beside a running writer: each sees one state of the store, without errors or false faults."""

import os
import random
from pathlib import Path

import pytest
from beside import READERS, look, writer


def readers_beside_a_writer(folder: Path, kind: str, readers: int, seed: int) -> None:
    chance = random.Random(seed)
    with writer(folder, 1000) as process:
        for _ in range(readers):
            look(folder, kind, chance)
        assert process.poll() is None  # the writer was active all the time


@pytest.mark.slow
def test_some_readers_beside_a_writer_see_one_state(tmp_path: Path) -> None:
    """One reader of each kind. ATTNSTORE_SEED draws other moments."""
    chance = random.Random(int(os.environ.get("ATTNSTORE_SEED", "0")))
    with writer(tmp_path, 1000):
        for kind in READERS:
            look(tmp_path, kind, chance)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "readers"), [(kind, 50) for kind in READERS])
def test_a_reader_beside_a_writer_sees_one_state(tmp_path: Path, kind: str, readers: int) -> None:
    """At random moments between a store's first file and its seal. `beside` describes what each kind reads."""
    readers_beside_a_writer(tmp_path, kind, readers, seed=18)
