"""A stranger's files with changed bytes are read, or refused in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.exhaustive
@pytest.mark.slow
def test_changed_bytes_end_in_one_line_or_are_read(tmp_path: Path) -> None:
    """Data, models and questions, in a separate process that forks. ATTNSTORE_SEED draws others."""
    script = Path(__file__).with_name("fuzz.py")
    seed = os.environ.get("ATTNSTORE_SEED", "0")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), seed, "100"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(done.stdout.split("\n")) <= {"read", "one line", ""}
    assert done.stdout.count("\n") == 100
