"""A test that needs ../shared says so when it is skipped, and is not skipped silently if the folder exists."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import shared

ROOT = Path(__file__).parents[1]


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A shared folder with one file."""
    monkeypatch.setattr(shared, "SHARED", tmp_path)
    (tmp_path / "there").touch()
    return tmp_path


@pytest.mark.parametrize("required", ["", "1"])
def test_an_existing_file_is_returned(beside, monkeypatch, required):
    """The path, whether it is required or not."""
    monkeypatch.setenv(shared.REQUIRED, required)
    assert shared.shared("there") == beside / "there"


def test_a_missing_file_skips_the_test_and_is_named(beside, monkeypatch):
    """A developer without the folder sees in the summary what was not tested, and why."""
    monkeypatch.delenv(shared.REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception) as skipped:
        shared.shared("models/minilm-imdb")
    assert skipped.value.msg == "needs ../shared/models/minilm-imdb, which is not there"


def test_a_missing_file_fails_the_test_if_it_is_required(beside, monkeypatch):
    """CI has the folder, so a test that lacks a file in it fails."""
    monkeypatch.setenv(shared.REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception) as failed:
        shared.shared("models/minilm-imdb")
    assert failed.value.msg == (
        "needs ../shared/models/minilm-imdb, which is not there; "
        "ATTNSTORE_SHARED_REQUIRED is set, so this test may not be skipped"
    )


def run_ci(tmp_path, programs, path):
    """`.ci/run` of a checkout in `tmp_path`, where `make` and each of `programs` are replaced by scripts."""
    checkout, folder = tmp_path / "checkout", tmp_path / "programs"
    for made in (checkout / ".ci", folder):
        made.mkdir(parents=True)
    (checkout / ".ci/run").write_text((ROOT / ".ci/run").read_text())
    for name, script in {"make": f'echo "$*, required: ${shared.REQUIRED}"', **programs}.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != shared.REQUIRED}
    environment["PATH"] = os.pathsep.join([str(folder), *path])
    command = [shutil.which("bash"), checkout / ".ci/run"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(("folder", "required"), [(True, "1"), (False, "")])
def test_ci_requires_the_folder_if_it_exists(tmp_path, folder, required):
    """`.ci/run` calls `make test`, and forbids skips exactly if the folder is beside the checkout."""
    if folder:
        (tmp_path / "shared").mkdir()
    done = run_ci(tmp_path, {"chromium": ""}, [os.environ["PATH"]])
    assert done.stdout == f".venv/.ready, required: {required}\ntest, required: {required}\n"
    assert done.stderr == ""


@pytest.mark.parametrize("status", [0, 100])
def test_ci_installs_the_browser_if_there_is_none(tmp_path, status):
    """Debian's, as root. If that fails, the tests still run, and a line says what is missing."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("dirname", "timeout"):
        (tools / name).symlink_to(shutil.which(name))
    apt = f'echo "$*" >> {tmp_path}/asked; exit {status}'
    done = run_ci(tmp_path, {"apt-get": apt, "id": "echo 0"}, [str(tools)])
    assert done.stdout.splitlines()[-1] == "test, required: "
    lacks = "chromium can't be installed here: tests that need a browser are skipped\n"
    assert done.stderr == ("" if status == 0 else lacks)
    asked = ["-qq update", "-qq install -y --no-install-recommends chromium"]
    assert (tmp_path / "asked").read_text().splitlines() == (asked if status == 0 else asked[:1])
