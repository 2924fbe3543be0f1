"""What needs ../shared says so when it is skipped, and can't be skipped in silence where the folder is."""

import os
import subprocess
from pathlib import Path

import pytest
import shared

ROOT = Path(__file__).parents[1]


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A shared folder with one file in it."""
    monkeypatch.setattr(shared, "SHARED", tmp_path)
    (tmp_path / "there").touch()
    return tmp_path


@pytest.mark.parametrize("required", ["", "1"])
def test_what_is_there_is_handed_out(beside, monkeypatch, required):
    """The path, whether it is required or not."""
    monkeypatch.setenv(shared.REQUIRED, required)
    assert shared.shared("there") == beside / "there"


def test_what_is_missing_skips_the_test_and_says_which_file_it_needs(beside, monkeypatch):
    """A developer without the folder sees in the summary of skips what was not tested, and why."""
    monkeypatch.delenv(shared.REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception) as skipped:
        shared.shared("models/minilm-imdb")
    assert skipped.value.msg == "needs ../shared/models/minilm-imdb, which is not there"


def test_what_is_missing_fails_the_test_where_it_is_required(beside, monkeypatch):
    """CI has the folder: a test that would be skipped for want of a file in it fails."""
    monkeypatch.setenv(shared.REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception) as failed:
        shared.shared("models/minilm-imdb")
    assert failed.value.msg == (
        "needs ../shared/models/minilm-imdb, which is not there; "
        "ATTNSTORE_SHARED_REQUIRED is set, so this test may not be skipped"
    )


@pytest.mark.parametrize(("folder", "expected"), [(True, "test, required: 1"), (False, "test, required: ")])
def test_ci_requires_the_folder_where_it_is(tmp_path, folder, expected):
    """`.ci/run` calls `make test`, and asks for no skips exactly where the folder lies beside the checkout."""
    checkout, programs = tmp_path / "checkout", tmp_path / "programs"
    for made in (checkout / ".ci", programs, *([tmp_path / "shared"] if folder else [])):
        made.mkdir(parents=True)
    (checkout / ".ci/run").write_text((ROOT / ".ci/run").read_text())
    make = programs / "make"
    make.write_text(f'#!/bin/sh\necho "$*, required: ${shared.REQUIRED}"\n')
    make.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != shared.REQUIRED}
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", checkout / ".ci/run"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{expected}\n"
