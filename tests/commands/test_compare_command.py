"""`attnstore compare`: its output."""

import json
import re

import pytest
from asked_store import made_up_documents, write_store
from command_line import attnstore


@pytest.mark.slow
def test_two_stores_are_compared_in_text_and_in_json(tmp_path):
    """Agreement, accuracies, words and documents: the same figures in both formats."""
    documents = made_up_documents(40)
    write_store(tmp_path / "a", documents)
    for document in documents[:10]:
        document["prediction"] = "neg" if document["prediction"] == "pos" else "pos"
    write_store(tmp_path / "b", documents)
    code, out, err = attnstore("compare", tmp_path / "a", tmp_path / "b", "--limit", "3")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == [
        "40 documents in both, 0 only in A, 0 only in B",
        "predicted the same: 30 (0.7500)",
    ]
    assert re.fullmatch(r"accuracy: A 0\.\d{4}, B 0\.\d{4}, difference [+-]\d\.\d{4} \(.* to .*\)", lines[2])
    assert [line.partition(" ")[0] for line in lines[4:]] == [
        *("words", "", "", "", "layers", "", "", ""),
        *("documents", "", "", ""),
    ]
    # The attention is the same, so each layer is most similar to itself.
    assert [line.split()[:3] for line in lines[9:12]] == [[n, n, "1.000"] for n in "123"]
    code, out, _ = attnstore("compare", tmp_path / "a", tmp_path / "b", "--limit", "3", "--format", "json")
    found = json.loads(out)
    assert (code, found["documents"], found["agreeing"], len(found["words"])) == (0, 40, 30, 3)
    assert lines[3].startswith(
        f"right only in A: {found['right_in_a_alone']}, only in B: {found['right_in_b_alone']}"
    )


@pytest.mark.slow
def test_three_stores_separate_the_model_from_the_seed(tmp_path):
    """Text and JSON have the same figures."""
    documents = made_up_documents(40)
    for name in "abc":
        write_store(tmp_path / name, documents)
    stores = [tmp_path / name for name in "abc"]
    code, out, err = attnstore("compare", *stores, "--limit", "2", "--min-documents", "3")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "40 documents in all of 3 stores"
    assert re.fullmatch(r"accuracy: a (0\.\d{4}), b \1, c \1", lines[1])
    assert "sources of the variance of the words' figures in one store" in lines
    code, out, _ = attnstore("compare", *stores, "--limit", "2", "--min-documents", "3", "--format", "json")
    found = json.loads(out)
    assert (code, found["documents"], len(found["words"])) == (0, 40, 4)
    assert [line.split()[:2] for line in lines[-4:]] == [[r["class"], r["word"]] for r in found["words"]]
