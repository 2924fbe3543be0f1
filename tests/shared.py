"""The folder `../shared` beside a checkout: real data and a real model, too large for the repository."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"
#: Set by `.ci/run` if the folder exists: a test that needs it must then run, and skipping is a failure.
REQUIRED = "ATTNSTORE_SHARED_REQUIRED"


def shared(name: str) -> Path:
    """The path of a file or folder in `../shared`. If it does not exist, the test is skipped, or fails."""
    path = SHARED / name
    if path.exists():
        return path
    reason = f"needs ../shared/{name}, which is not there"
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason}; {REQUIRED} is set, so this test may not be skipped", pytrace=False)
    pytest.skip(reason)
