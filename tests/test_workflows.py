"""CI runs what a developer runs."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("job", WORKFLOW["jobs"])
def test_every_job_is_one_make_target(job):
    """Beside `make`, a job checks out, sets up Python, installs make if necessary, and keeps artifacts."""
    steps = [step["run"] for step in WORKFLOW["jobs"][job]["steps"] if "run" in step]
    *before, make = [step for step in steps if step != "choco install make --yes --no-progress"]
    assert before == []
    command, target, python = make.split()
    assert (command, python) == ("make", "PYTHON=python")
    assert target in TARGETS


def test_the_hooks_run_what_make_check_runs():
    """The same tools with the same settings, over the files of a commit; no tool is downloaded."""
    hooks = [hook for repository in HOOKS["repos"] for hook in repository["hooks"]]
    assert {repository["repo"] for repository in HOOKS["repos"]} == {"local"}
    assert {hook["language"] for hook in hooks} == {"system"}
    # The tests may run inside a make with its own settings.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")
    }
    shown = subprocess.run(
        ["make", "--dry-run", "--old-file=.venv/.ready", "check"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    checked = re.findall(r"^\.venv/\w+/(.*)$", shown, re.MULTILINE)
    assert [hook["entry"].removeprefix(".venv/bin/").replace(" --force-exclude", "") for hook in hooks] == [
        command.removesuffix(" .") for command in checked
    ]
