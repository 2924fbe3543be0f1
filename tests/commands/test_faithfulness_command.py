"""`attnstore faithfulness`: its output, and what other commands say about the table."""

import re
import shutil

import pytest
from command_line import attnstore


@pytest.fixture(scope="module")
def store(small_store, tmp_path_factory):
    path = tmp_path_factory.mktemp("faithfulness") / "s.attn"
    shutil.copytree(small_store, path)
    return path


@pytest.mark.slow
def test_the_command_measures_and_reports_the_best_score(store):
    """One row per score and baseline, and the best score on one half measured on the other.

    A second call computes nothing.
    """
    options = ("--documents", "12", "--scores", "cls,rollout", "--device", "cpu", "--quiet")
    given = ("faithfulness", store, *options)
    code, out, err = attnstore(*given)
    assert code == 0
    assert [re.sub(r"\(.*\)", "()", line) for line in err.splitlines()] == [
        "note: 12 documents drawn from all splits by predicted class (), seed 0",
        "note: 6 documents without any token but special ones left out",
    ]
    first, head, *rows, best, following, command = out.splitlines()
    assert re.fullmatch(r"12 documents measured, [\d,]+ tokens read in [\d.]+ s \([\d,]+ tokens/s\)", first)
    assert head.split("  ")[0] == "score"
    assert {row.split()[0] for row in rows} == {"cls_01", "cls_02", "cls_03", "rollout", "random", "log_odds"}
    drops = [float(row.split()[1]) for row in rows]
    assert drops == sorted(drops, reverse=True)
    assert re.fullmatch(
        r"best of 4 scores on \d+ documents: (cls_0\d|rollout); on \d+ others its comprehensiveness is "
        r"-?\d\.\d{3} \(-?\d\.\d{3} to -?\d\.\d{3}\)",
        best,
    )
    assert (following, command) == ("next:", f"  attnstore query {store} faithfulness")
    code, again, _ = attnstore(*given)
    assert (code, again) == (0, out.replace(first, "12 documents: already measured"))


@pytest.mark.slow
def test_verify_and_query_know_the_table(store):
    """`verify` lists the file with its contents, and the question answers."""
    attnstore(
        "faithfulness", store, "--documents", "12", "--scores", "cls,rollout", "--device", "cpu", "--quiet"
    )
    code, out, _ = attnstore("verify", store, "--sample", "0")
    assert code == 0
    assert out.splitlines()[-1] == "ok    faithfulness/deletion-token-00000.parquet: 12 documents, 6 scores"
    code, out, _ = attnstore("query", store, "faithfulness", "-p", "rows=outcome", "--format", "csv")
    assert code == 0
    assert {line.split(",")[0] for line in out.splitlines()[1:]} <= {'"right"', '"wrong"', "right", "wrong"}
    path = store / "faithfulness/deletion-token-00000.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"!")
    code, out, _ = attnstore("verify", store, "--sample", "0")
    path.write_bytes(content)
    assert code == 1
    assert out.splitlines()[-1].startswith(
        "FAULT faithfulness/deletion-token-00000.parquet: its SHA-256 is not"
    )
