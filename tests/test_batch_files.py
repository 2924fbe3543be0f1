"""The Dockerfile and the schedulers' files: parsed, and compared with what they start."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from attnstore.commands import group

ROOT = Path(__file__).parents[1]
BATCH = ROOT / "docs/batch"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def without_docker():
    """The script that runs a Dockerfile's steps without Docker."""
    spec = importlib.util.spec_from_file_location("without_docker", BATCH / "without_docker.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["without_docker"] = module  # dataclasses look for the module there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["without_docker"]


@pytest.fixture(scope="module")
def steps(without_docker):
    return without_docker.steps((ROOT / "Dockerfile").read_text())


def parsed(arguments):
    """The parameters of an attnstore command line; a mistake in it is an error."""
    command = group.attnstore.commands[arguments[0]]
    return command.make_context(arguments[0], list(arguments[1:])).params


def test_the_image_is_pinned_and_its_user_has_no_rights(steps):
    """No base image without a version, no package without constraints.txt, no root, no shell around attnstore."""
    last = dict(steps)
    bases = [rest for name, rest in steps if name == "ARG" and rest.startswith("BASE=")]
    assert all(re.fullmatch(r"BASE=\w+:[\w.-]+", base) and "latest" not in base for base in bases)
    assert [rest.partition(" AS ")[0] for name, rest in steps if name == "FROM"] == [
        "${BASE}",
        "base",
        "base",
    ]
    installed = [rest for name, rest in steps if name == "RUN" and "pip install" in rest]
    assert all("--constraint constraints.txt" in rest for rest in installed)
    assert len(installed) == 2
    extras = re.search(r"'\.\[(.*)\]'", installed[-1])[1].split(",")
    assert set(extras) <= PROJECT["optional-dependencies"].keys()
    user, group_ = last["USER"].split(":")
    assert int(user) == int(group_) >= 10_000
    assert f"useradd --uid {user} " in " ".join(rest for name, rest in steps if name == "RUN")
    assert json.loads(last["ENTRYPOINT"]) == ["attnstore"]
    assert json.loads(last["CMD"]) == ["--help"]


def test_the_context_is_what_the_package_is_built_from(steps, without_docker):
    """Package, questions, files that setuptools reads, and constraints; no tests, no history, no build output."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    single = {"constraints.txt", "LICENSE", "pyproject.toml", "README.md", "setup.py"}
    of_package = {name for name in listed.stdout.splitlines() if name.startswith(("attnstore/", "queries/"))}
    assert set(without_docker.context()) == of_package | single
    copied = [rest.split()[0] for name, rest in steps if name == "COPY" and not rest.startswith("--from")]
    assert copied == ["constraints.txt", "."]


def test_slurm_jobs_are_requeued_only_after_sigterm(tmp_path):
    """bash can parse the file. It ends with attnstore's exit code, and is requeued only after 143."""
    script = BATCH / "slurm.sh"
    assert subprocess.run(["bash", "-n", script], capture_output=True, check=True).stderr == b""
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script.read_text(), re.MULTILINE))
    assert asked["signal"] == "TERM@300"  # to the steps: with B: it would go only to the shell
    assert {"requeue", "time", "gres", "open-mode"} <= asked.keys()
    for name, line in (("srun", 'echo "$@" > started; exit "$CODE"'), ("scontrol", 'echo "$@" > asked')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    for code, requeued in ((0, False), (1, False), (2, False), (143, True)):
        (tmp_path / "asked").unlink(missing_ok=True)
        done = subprocess.run(
            ["bash", script],
            cwd=tmp_path,
            env=os.environ
            | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CODE": str(code), "SLURM_JOB_ID": "17"},
            check=False,
        )
        assert (done.returncode, (tmp_path / "asked").exists()) == (code, requeued)
    assert (tmp_path / "asked").read_text() == "requeue 17\n"
    started = (tmp_path / "started").read_text().split()
    assert started[:2] == ["attnstore", "run"]
    (tmp_path / "run.toml").write_text("limit = 3\n")
    started[started.index("--config") + 1] = str(tmp_path / "run.toml")
    found = parsed(started[1:])
    assert (str(found["store"]), found["progress"], found["limit"]) == ("reviews.attn", "json", 3)


def test_each_task_of_an_array_has_its_own_file_and_store(tmp_path):
    """By its number. A task without a file ends before it starts anything."""
    script = BATCH / "array.sh"
    asked, of_one = (
        dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", path.read_text(), re.MULTILINE))
        for path in (script, BATCH / "slurm.sh")
    )
    assert asked.keys() == of_one.keys()
    assert {name for name in asked if asked[name] != of_one[name]} == {"output", "error"}
    (tmp_path / "shards").mkdir()
    for name in ("b 1.csv.gz", "a.jsonl"):
        (tmp_path / "shards" / name).touch()
    (tmp_path / "run.toml").write_text("limit = 3\n")
    for name, line in (
        ("srun", 'printf "%s\\n" "$@" > started; exit 143'),
        ("scontrol", 'echo "$@" > asked'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for task, data, store in ((0, "a.jsonl", "a.attn"), (1, "b 1.csv.gz", "b 1.attn")):
        told = os.environ | path | {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_JOB_ID": str(40 + task)}
        assert subprocess.run(["bash", script], cwd=tmp_path, env=told, check=False).returncode == 143
        assert (tmp_path / "asked").read_text() == f"requeue {40 + task}\n"
        started = (tmp_path / "started").read_text().splitlines()
        started[started.index("--config") + 1] = str(tmp_path / "run.toml")
        assert started[0] == "attnstore"
        found = parsed(started[1:])
        assert (str(found["store"]), found["data"], found["limit"]) == (f"runs/{store}", f"shards/{data}", 3)
    (tmp_path / "started").unlink()
    told["SLURM_ARRAY_TASK_ID"] = "2"
    assert subprocess.run(
        ["bash", script], cwd=tmp_path, env=told, check=False, capture_output=True
    ).returncode
    assert not (tmp_path / "started").exists()


def test_the_kubernetes_job_starts_a_valid_command(steps, tmp_path):
    """Its options exist, its user is the image's, its exit codes are attnstore's, and its mounts are declared."""
    options, job = yaml.safe_load_all((BATCH / "kubernetes.yaml").read_text())
    assert [(each["kind"], each["apiVersion"]) for each in (options, job)] == [
        ("ConfigMap", "v1"),
        ("Job", "batch/v1"),
    ]
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert volumes["options"]["configMap"]["name"] == options["metadata"]["name"]
    last = dict(steps)
    assert last["USER"] == f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert set(re.findall(r"(?<=/)cache\b", " ".join(rest for _, rest in steps))) == {"cache"}
    assert mounts["cache"] == "/cache"
    assert pod["restartPolicy"] == "Never"  # required by podFailurePolicy
    (rule,) = (rule for rule in job["spec"]["podFailurePolicy"]["rules"] if rule["action"] == "FailJob")
    assert rule["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [2]}
    arguments = list(container["args"])
    place = arguments.index("--config") + 1
    folder, name = arguments[place].rsplit("/", 1)
    assert folder == mounts["options"]
    (tmp_path / name).write_text(options["data"][name])
    arguments[place] = str(tmp_path / name)
    found = parsed(arguments)
    assert str(found["store"]).startswith(f"{mounts['work']}/")
    assert (found["part_size"], found["progress"]) == (500, "json")


def test_the_pages_container_commands_are_those_of_the_files():
    """The page and the Dockerfile's first lines build the same two images, and the `attnstore` commands exist."""
    page = (ROOT / "docs/batch.md").read_text()
    built = re.findall(r"docker build .*", page)
    head = re.findall(r"docker build .*", (ROOT / "Dockerfile").read_text())
    assert built == head
    for line in re.findall(r"docker run .* attnstore(?::cuda)? (.*)", page):
        command, *_ = line.split()
        with pytest.raises(click.ClickException, match="No such option"):
            parsed([command, "--no-such-option"])
        assert command == "run"
