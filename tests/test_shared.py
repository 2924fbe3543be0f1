"""What needs ../shared says so when it is skipped, and can't be skipped in silence where the folder is."""

import os
import shutil
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


def run_ci(tmp_path, programs, path):
    """`.ci/run` of a checkout in `tmp_path`, where `make` and each of `programs` are scripts of ours."""
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
def test_ci_requires_the_folder_where_it_is(tmp_path, folder, required):
    """`.ci/run` calls `make test`, and asks for no skips exactly where the folder lies beside the checkout."""
    if folder:
        (tmp_path / "shared").mkdir()
    done = run_ci(tmp_path, {"chromium": ""}, [os.environ["PATH"]])
    assert done.stdout == f".venv/.ready, required: {required}\ntest, required: {required}\n"
    assert done.stderr == ""


@pytest.mark.parametrize("status", [0, 100])
def test_ci_installs_the_browser_where_there_is_none(tmp_path, status):
    """Debian's, by root; where it is not to be had the tests run all the same, and a line says what they lack."""
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
