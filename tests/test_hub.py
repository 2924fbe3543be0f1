"""Models by name from a hub: a local server with the hub's protocol."""

import json

import hub
import pytest
from command_line import run
from huggingface_hub import constants, hf_api


@pytest.fixture
def online(monkeypatch, tmp_path):
    """Lets this process reach the hub at an address, with an empty cache, by changing what its client read when it was
    imported.
    """

    def reach(address):
        settings = {
            "ENDPOINT": address,
            "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(hf_api.api, "endpoint", address)

    return reach


@pytest.fixture
def with_a_pickle(tiny_model, tmp_path):
    """The tiny model as a repository that also has a pickle and code, which must not be fetched."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for file in tiny_model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    (folder / "modeling.py").write_text("raise SystemExit('code from a hub was run')\n")
    return folder


@pytest.mark.slow
def test_a_model_comes_from_the_hub_by_name_without_pickles_or_code(online, with_a_pickle, reviews, tmp_path):
    """The run finds the model by name, fetches only safetensors and JSON, and the manifest has the name."""
    with hub.serving({"someone/tiny": with_a_pickle}) as (address, asked):
        online(address)
        options = ("--revision", "main", "--max-length", "40", "--limit", "5")
        code, _, err = run(tmp_path / "s.attn", reviews, "someone/tiny", *options)
    assert code == 0, err
    fetched = {path.rpartition("/")[2] for path in asked if "/resolve/" in path}
    assert "model.safetensors" in fetched
    assert fetched <= {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}
    assert json.loads((tmp_path / "s.attn/manifest.json").read_text())["model"] == "someone/tiny@main"


@pytest.mark.slow
def test_a_name_that_the_hub_does_not_have_is_reported(online, reviews, tmp_path):
    """One line with the name, exit code 1, and no store."""
    with hub.serving({}) as (address, _):
        online(address)
        code, _, err = run(tmp_path / "s.attn", reviews, "someone/else")
    assert code == 1
    lines = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1
    assert lines[0].startswith("attnstore: the hub has no model someone/else that can be read (404)")
    assert not (tmp_path / "s.attn").exists()
