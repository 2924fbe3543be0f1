"""Models by name, from a hub: a local server that speaks the hub's protocol."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hub
import pytest

ROOT = Path(__file__).parents[1]


def attnstore_online(address, cache, *arguments):
    """The command in a process of its own, since the hub's address is read when its client is imported."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment = kept | {
        "HF_ENDPOINT": address,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "NO_COLOR": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "attnstore", *map(str, arguments)],
        capture_output=True, text=True, env=environment, cwd=ROOT, check=False,
    )  # fmt: skip


@pytest.fixture
def with_a_pickle(tiny_model, tmp_path):
    """The tiny model as a repository that also holds a pickle and code, which nobody should fetch."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for file in tiny_model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    (folder / "modeling.py").write_text("raise SystemExit('code from a hub was run')\n")
    return folder


@pytest.mark.slow
def test_a_model_comes_from_the_hub_by_name_without_pickles_or_code(with_a_pickle, reviews, tmp_path):
    """The run finds the model by name, fetches safetensors and JSON alone, and the manifest has the name."""
    with hub.serving({"someone/tiny": with_a_pickle}) as (address, asked):
        done = attnstore_online(
            address, tmp_path / "cache", "run", tmp_path / "s.attn", "--model", "someone/tiny", "--revision", "main",
            "--data", reviews, "--max-length", "40", "--limit", "5",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    fetched = {path.rpartition("/")[2] for path in asked if "/resolve/" in path}
    assert "model.safetensors" in fetched
    assert fetched <= {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}
    assert json.loads((tmp_path / "s.attn/manifest.json").read_text())["model"] == "someone/tiny@main"


@pytest.mark.slow
def test_a_name_that_the_hub_does_not_have_is_told(reviews, tmp_path):
    """One line with the name, exit code 1, no store."""
    with hub.serving({}) as (address, _):
        done = attnstore_online(
            address,
            tmp_path / "cache",
            "run",
            tmp_path / "s.attn",
            "--model",
            "someone/else",
            "--data",
            reviews,
        )
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1
    assert lines[0].startswith("attnstore: the hub has no model someone/else that can be read (404)")
    assert not (tmp_path / "s.attn").exists()
