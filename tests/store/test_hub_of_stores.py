"""Stores on the hub: pushed to a local server with the hub's protocol, and opened from there."""

import json

import hub_of_datasets
import pytest
from command_line import attnstore
from huggingface_hub import constants, hf_api
from huggingface_hub.utils import close_session
from polars.testing import assert_frame_equal
from small_store import LABELS, manifest, run
from test_export import frames

from attnstore.errors import UsageError
from attnstore.store import hub
from attnstore.store.store import open_store

ADDRESS = "hf://datasets/me/reviews"


def online(server, cache, *arguments, token=hub_of_datasets.WRITES):
    """Runs a command:

    (exit code, stdout, stderr). The hub's client reads its settings when it is imported, so they are set here.
    """
    settings = {
        "ENDPOINT": server.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(cache / "hub"),
        "HF_TOKEN_PATH": str(cache / "token"),
    }
    close_session()  # a new process has no connections either
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setattr(constants, name, value)
        patch.setattr(hf_api.api, "endpoint", server.address)
        patch.delenv("HF_TOKEN", raising=False)
        if token:
            patch.setenv("HF_TOKEN", token)
        return attnstore(*arguments)


@pytest.fixture
def store(tmp_path):
    return run(tmp_path / "run.attn", manifest(), LABELS)


@pytest.mark.slow
def test_a_pushed_store_can_be_opened(store, tmp_path, monkeypatch):
    """Files first, the manifest last; private unless public is asked for; the same rows come back.

    A second push of fewer parts leaves none of the first. Somebody else's data set is left alone.
    """
    cache = tmp_path / "cache"
    with hub_of_datasets.serving() as server:
        code, out, err = online(server, cache, "push", store.path, ADDRESS, "--license", "mit", "--quiet")
        assert (code, err) == (0, "")
        assert out.splitlines()[-1] == f"next: attnstore info {ADDRESS}"
        files, *_ = server.commits
        assert server.commits[1] == ["README.md", "manifest.json"]
        assert len(server.commits) == 2
        assert "report.html" in files
        assert server.private == {"me/reviews": True}
        assert b"license: mit" in server.files["me/reviews"]["README.md"]

        code, out, err = online(
            server, cache, "sql", ADDRESS, "SELECT count(*) AS n FROM tokens", token=hub_of_datasets.READS
        )
        assert (code, err) == (0, "")
        (folder,) = cache.glob("hub/datasets--me--reviews/snapshots/*")
        assert not (folder / "report.html").exists()
        for name, frame in frames(store).items():
            assert_frame_equal(frames(open_store(folder))[name], frame, check_exact=name != "totals")
        assert online(server, cache, "verify", ADDRESS, "--sample", "0", "--quiet")[0] == 0
        monkeypatch.setattr("attnstore.show.report.report", lambda _: "")  # one has been pushed
        smaller = run(tmp_path / "small.attn", manifest(documents=3), LABELS)
        assert online(server, cache, "push", smaller.path, ADDRESS, "--quiet")[0] == 0
        there = {name for name in server.files["me/reviews"] if name.endswith(".parquet")}
        assert there == {
            file["path"] for file in json.loads(server.files["me/reviews"]["manifest.json"])["files"]
        }

        server.files["me/other"], server.private["me/other"] = {"data.csv": b"text\n"}, False
        code, _, err = online(server, cache, "push", store.path, "hf://datasets/me/other", "--quiet")
        assert (code, err) == (
            2,
            "attnstore: hf://datasets/me/other holds another data set (data.csv is in it): push to a new name\n",
        )
        assert server.files["me/other"] == {"data.csv": b"text\n"}
        code, _, err = online(server, cache, "info", "hf://datasets/me/other")
        assert (code, err) == (
            1, "attnstore: hf://datasets/me/other holds no store: `attnstore push` puts one there\n"
        )  # fmt: skip
    code, _, err = online(server, tmp_path / "empty", "info", ADDRESS)
    assert (code, err.count("\n")) == (1, 1)
    assert err == "attnstore: the hub can't be reached, and me/reviews was not fetched before\n"
    code, _, err = online(server, cache, "push", store.path, ADDRESS, "--quiet")
    assert (
        code,
        err.count("\n"),
        err.startswith("attnstore: the hub can't be asked about me/reviews: "),
    ) == (1, 1, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("token", "address", "line"),
    [
        (
            None,
            ADDRESS,
            "the hub denies access to me/reviews (401): set HF_TOKEN to a token with access",
        ),
        (
            hub_of_datasets.READS,
            ADDRESS,
            "the hub forbids that for me/reviews (403): the token in HF_TOKEN needs that permission",
        ),
        (
            hub_of_datasets.WRITES,
            "hf://datasets/you/reviews",
            "the hub forbids that for you/reviews (403): the token in HF_TOKEN needs that permission",
        ),
    ],
)
def test_missing_rights_to_push_are_reported_in_one_line(store, tmp_path, token, address, line):
    """No token, a read-only token, and somebody else's name: exit code 1."""
    with hub_of_datasets.serving() as server:
        told = online(server, tmp_path / "cache", "push", store.path, address, "--quiet", token=token)
    assert told == (1, "", f"attnstore: {line}\n")


@pytest.mark.slow
def test_a_missing_data_set_is_reported_in_one_line(tmp_path):
    """404, which the hub also answers for a private data set without access."""
    with hub_of_datasets.serving() as server:
        server.files["me/secret"], server.private["me/secret"] = {"manifest.json": b"{}"}, True
        for name in ("me/none", "me/secret"):
            told = online(server, tmp_path / "cache", "info", f"hf://datasets/{name}", token=None)
            line = f"the hub has no data set {name}, or not for the token in HF_TOKEN (404)"
            assert told == (1, "", f"attnstore: {line}\n")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hf://datasets/me/reviews", ("me/reviews", None)),
        ("hf://datasets/me/re.views-2/", ("me/re.views-2", None)),
        ("hf://datasets/me/reviews@v1.0", ("me/reviews", "v1.0")),
        ("hf://datasets/me/reviews@refs/pr/1", ("me/reviews", "refs/pr/1")),
        *(
            (f"hf://{wrong}", None)
            for wrong in ("me/reviews", "datasets/me", "models/me/x", "datasets/me/x/y", "")
        ),
    ],
)
def test_an_address_is_a_data_set_with_an_optional_revision(address, expected):
    """Anything else is refused before a request is made."""
    if expected is None:
        with pytest.raises(UsageError, match=r"is not a data set on the hub: write hf://datasets/USER/NAME"):
            hub.repository_of(address)
    else:
        assert hub.repository_of(address) == expected


def test_commands_that_write_refuse_stores_on_the_hub():
    """`run`, `append` and `faithfulness` would write into the hub's cache."""
    line = f"{ADDRESS} is a URL: a store is a folder on this machine, or in a bucket (s3://…)"
    assert attnstore("run", ADDRESS, "--data", "x.csv") == (2, "", f"attnstore: {line}\n")
    assert attnstore("append", ADDRESS, "--data", "x.csv") == (2, "", f"attnstore: {line}\n")
    assert attnstore("faithfulness", ADDRESS) == (2, "", f"attnstore: {line}\n")
