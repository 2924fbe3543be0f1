"""`attnstore show`, `info` and `verify`: their output."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from bad_inputs import Case, copied, flipped
from command_line import attnstore
from small_store import manifest
from small_store import run as written

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_show_prints_a_document_by_id_or_number_and_writes_a_page(small_store, tmp_path):
    """Plain text without a terminal. `--html` writes a page with the same text."""
    by_id, by_number = attnstore("show", small_store, "r1"), attnstore("show", small_store, "1")
    assert by_id[0] == by_number[0] == 0
    assert by_id[1] == by_number[1]
    assert by_id[1].startswith("r1\n")
    assert "\x1b[" not in by_id[1]
    code, out, _ = attnstore(
        "show", small_store, "r1", "--html", tmp_path / "r1.html", "--words", "sum", "--layer", "mean"
    )
    assert (code, out) == (0, f"wrote {tmp_path / 'r1.html'}\n")
    assert (tmp_path / "r1.html").read_text().startswith("<!doctype html>")


@pytest.mark.slow
def test_show_obeys_the_colour_conventions(small_store, monkeypatch):
    """FORCE_COLOR colours a pipe; NO_COLOR overrides it."""
    monkeypatch.setenv("FORCE_COLOR", "3")
    assert ";48;2;" in attnstore("show", small_store, "r1")[1]
    dark, light = (attnstore("show", small_store, "r1", "--background", b)[1] for b in ("dark", "light"))
    assert dark != light
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in attnstore("show", small_store, "r1")[1]


def test_info_describes_a_sealed_store_in_text_and_in_json(small_store):
    """The values are those of the manifest."""
    code, out, _ = attnstore("info", small_store)
    assert code == 0
    assert re.search(r"^state: +sealed ", out, re.MULTILINE)
    assert re.search(r"^documents: +60 of 60$", out, re.MULTILINE)
    assert re.search(r"^words: +by UAX #29(, with ICU's dictionaries)?, lower-cased$", out, re.MULTILINE)
    assert re.search(r"^reduction: +cls_01 … cls_03: attention from the first token", out, re.MULTILINE)
    assert json.loads(attnstore("info", small_store, "--format", "json")[1])["documents"] == 60


def test_info_breaks_long_lines_on_a_terminal(small_store):
    """Beside the name, so that no line is wider. A pipe gets each fact on one line."""
    narrow = re.sub(r"\x1b\[\d*m", "", attnstore("info", small_store, terminal=60)[1])
    whole = attnstore("info", small_store)[1]
    assert max(map(len, narrow.splitlines())) <= 60 < max(map(len, whole.splitlines()))
    assert "".join(narrow.split()) == "".join(whole.split())
    assert {line[:15].strip() for line in narrow.splitlines()} - {""} == set(
        re.findall("^.*?:", whole, re.MULTILINE)
    )


def test_info_describes_a_store_that_lacks_what_a_run_records(tmp_path):
    """Another program's manifest may omit how values were computed and what its runs were like."""
    store = written(tmp_path / "s", manifest(runs=({"by": "hand", "tokens": 7},)))
    code, out, err = attnstore("info", store.path)
    assert (code, err) == (0, "")
    assert re.search(r"^data: +made up$", out, re.MULTILINE)
    assert re.search(r"^values: +computed in unknown, stored as unknown$", out, re.MULTILINE)
    assert re.search(r"^words: +by rules unknown, lower-cased$", out, re.MULTILINE)
    assert re.search(r"^run: +by hand, tokens 7$", out, re.MULTILINE)


@pytest.mark.slow
def test_verify_passes_a_sound_store_and_fails_a_damaged_one(small_store, tmp_path):
    """Files, parts and a recomputed sample have one line each. One flipped bit is a fault, with exit code 1."""
    code, out, _ = attnstore("verify", small_store, "--sample", "5")
    assert code == 0
    assert "FAULT" not in out
    assert re.search(
        r"^ok +sample: 5 documents recomputed in eager float32\nok +logits: worst difference",
        out,
        re.MULTILINE,
    )
    damaged = copied(small_store, tmp_path)
    file = next((damaged / "tokens").rglob("*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    code, out, err = attnstore("verify", damaged)
    assert code == 1
    assert "FAULT" in out
    assert err == f"attnstore: {damaged} has 1 fault\n"


@pytest.mark.slow
def test_damage_anywhere_in_a_file_is_reported_as_the_stores(small_store, tmp_path):
    """With a flipped byte, the answer is the same as before, or an error with exit code 1 that names the store and
    `verify`.
    """
    ask = ("query", small_store, "top_tokens_by_class", "-p", "min_documents=2", "--format", "csv")
    _, sound, _ = attnstore(*ask)
    refused = 0
    for place in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        damaged = copied(small_store, tmp_path / str(place))
        for file in (damaged / "tokens").rglob("*.parquet"):
            flipped(file, place)
        code, out, err = attnstore(ask[0], damaged, *ask[2:])
        if code:
            assert code == 1, err
            assert err.startswith(f"attnstore: can't read {damaged}: ")
            assert err.endswith("`attnstore verify` finds the damage\n")
        refused += bool(code)
        assert code or out.count(",") == sound.count(",")
    assert refused


def test_verify_without_a_sample_needs_no_model(small_store, tmp_path):
    """With a sample, a missing model is reported before anything is read."""
    case = Case(tmp_path, small_store, None, None)
    store = case.manifest(model=str(tmp_path / "nope"))
    assert attnstore("verify", store, "--sample", "0")[0] == 0
    code, out, _ = attnstore("verify", store)
    assert (code, out) == (1, "")


@pytest.mark.slow
def test_verify_says_when_stored_values_are_not_the_models(small_store, tmp_path):
    """Values changed together with their hashes pass the checks of files, but not the comparison with the oracle."""
    from attnstore.store.manifest import Manifest

    forged = copied(small_store, tmp_path)
    manifest = Manifest.from_json((forged / "manifest.json").read_text())
    files = []
    for stored in manifest.files:
        path = forged / stored.path
        table = pq.read_table(path, partitioning=None)
        pairs = [(f"cls_01{kind}", f"cls_02{kind}") for kind in ("", "_lift", "_entropy")]
        swapped = {
            name: table[other]
            for a, b in pairs
            if a in table.column_names
            for name, other in ((a, b), (b, a))
        }
        for name, column in swapped.items():
            table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
        pq.write_table(table, path)
        content = path.read_bytes()
        files.append(replace(stored, bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))
    (forged / "manifest.json").write_text(replace(manifest, files=tuple(files)).to_json())
    code, out, _ = attnstore("verify", forged)
    assert code == 1
    assert re.search(r"^FAULT cls: worst difference", out, re.MULTILINE)
    assert re.search(r"^ok +received: worst", out, re.MULTILINE)
