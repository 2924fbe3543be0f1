"""`--config FILE`: options from a TOML file, and `info --format toml`, which writes such a file."""

import json
import os
import re
import tomllib
from pathlib import Path

import click
import pytest
from command_line import attnstore
from small_store import contents

from attnstore.commands import group
from attnstore.config import RunConfig, SourceConfig
from attnstore.pipeline.options import options_of

#: Every option of `run` that changes what is stored for these reviews, none with its default value.
OPTIONS = """
split = "test"
text-column = "body"
label-column = "stars"
id-column = "key"
group-column = "film"
columns = "key,film,stars,body"
header = false
delimiter = "tab"
format = "tsv"
labels = "1=neg,2=pos,3="
limit = 20
keep-column = ["film"]
reduce = ["cls", "received,rollout"]
device = "cpu"
dtype = "float32"
max-length = 30
long = "windows"
stride = 11
batch-tokens = 300
part-size = 7
full-precision = true
progress = "none"
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.txt"
    path.write_text(
        "".join(
            f"{n}\tfilm {n // 3}\t{1 + n % 3}\t" + "the film was good and bad " * (n % 9 + 1) + "\n"
            for n in range(60)
        )
    )
    return path


def written(folder, text, name="run.toml"):
    (folder / name).write_text(text)
    return folder / name


def timeless(store):
    """A store's files, with the manifest as values, without the times that differ between equal runs."""
    files = contents(store)
    manifest = json.loads(files.pop("manifest.json"))
    return files, {name: manifest[name] for name in manifest.keys() - {"created", "sealed", "runs"}}


@pytest.mark.slow
def test_a_store_can_write_the_options_that_reproduce_it(rows, tiny_model, tmp_path):
    """A run with an option file, and a run with the output of `info --format toml` of its store: the same bytes."""
    options = written(tmp_path, f'data = "{rows}"\nmodel = "{tiny_model}"\n{OPTIONS}')
    assert attnstore("run", "a.attn", "--config", options, cwd=tmp_path)[0] == 0
    code, out, err = attnstore("info", "a.attn", "--format", "toml", cwd=tmp_path)
    assert (code, err) == (0, "")
    given = tomllib.loads(options.read_text())
    expected = given | {"reduce": ["cls", "received", "rollout"], "strict": False, "pair": False}
    expected |= {"trust-remote-code": False, "max-document-bytes": 16 << 20, "workers": 1}
    del expected["progress"]
    assert tomllib.loads(out) == expected
    manifest = json.loads((tmp_path / "a.attn/manifest.json").read_text())
    hashes = {manifest["fingerprint"][name] for name in ("model_sha256", "data_sha256")}
    assert set(re.findall(r"^# the \w+ (\w{64})$", out, re.MULTILINE)) == hashes
    again = written(tmp_path, out, "again.toml")
    assert attnstore("run", "b.attn", "--config", again, "--quiet", cwd=tmp_path)[0] == 0
    assert timeless(tmp_path / "a.attn") == timeless(tmp_path / "b.attn")


def test_the_command_line_overrides_the_file(monkeypatch, tmp_path):
    """For all kinds of options: a number, a text, a list, a flag with two words, progress; before or after --config."""
    seen = []
    monkeypatch.setattr(
        "attnstore.commands.run._run", lambda config, store, progress: seen.append((config, store, progress))
    )
    file = written(
        tmp_path,
        'data = "here.csv"\nlimit = 5\ntext-column = "a"\nreduce = ["cls", "norm"]\nheader = false\nprogress = "json"',
    )
    for typed in (
        (),
        ("--limit", "7", "--reduce", "rollout", "--header"),
        ("--text-column", "b", "--quiet"),
        ("--progress", "bar"),
    ):
        for arguments in ((*typed, "--config", file), ("--config", file, *typed)):
            assert attnstore("run", "s.attn", *arguments)[0] == 0
    plain = ("here.csv", 5, "a", ("cls", "norm"), False)
    expected = [
        (*plain, "json"),
        ("here.csv", 7, "a", ("rollout",), True, "json"),
        ("here.csv", 5, "b", ("cls", "norm"), False, "none"),
        (*plain, "bar"),
    ]
    found = [
        (c.source.data, c.source.limit, c.source.text_column, c.reductions, c.source.header, progress)
        for c, _, progress in seen
    ]
    assert found == [each for each in expected for _ in range(2)]


WRONG = (
    ("run", "limits = 3", "'limits' is not an option of attnstore run: did you mean 'limit'?"),
    (
        "run",
        "text_column = 'a'",
        "'text_column' is not an option of attnstore run: did you mean 'text-column'?",
    ),
    (
        "verify",
        "part-size = 3",
        "'part-size' is not an option of attnstore verify (see attnstore verify --help)",
    ),
    ("run", "[run]\nlimit = 3", "'run' is not an option of attnstore run (see attnstore run --help)"),
    (
        "run",
        "config = 'other.toml'",
        "an option file can't name another one; for a data set's configuration use subset",
    ),
    ("run", "store = 's.attn'", "STORE belongs on the command line, not in an option file"),
    ("run", "limit = '3'", "limit is '3': it must be a whole number"),
    ("run", "limit = 3.0", "limit is 3.0: it must be a whole number"),
    ("run", "limit = true", "limit is true: it must be a whole number"),
    ("run", "limit = [3]", "limit is a list: it must be a whole number"),
    ("run", "limit = 0", "limit: 0 is not in the range x>=1."),
    ("run", "pair = 'yes'", "pair is 'yes': it must be true or false"),
    ("run", "pair = 1", "pair is 1: it must be true or false"),
    ("run", "split = 3", "split is 3: it must be text in quotes"),
    ("run", "reduce = [1]", "reduce is 1: it must be text in quotes, or a list of these in [ ]"),
    ("run", "device = 'tpu'", "device: 'tpu' is not one of 'auto', 'cpu', 'cuda', 'mps'."),
    ("run", "labels.a = 'b'", "labels is a table: it must be text in quotes"),
    ("finetune", "epochs = 'two'", "epochs is 'two': it must be a number"),
)


@pytest.mark.parametrize(("command", "content", "line"), WRONG, ids=[content for _, content, _ in WRONG])
def test_invalid_options_are_refused_in_one_line(tmp_path, command, content, line):
    """An unknown key with the most similar one, a value of another type or out of range: exit code 2."""
    file = written(tmp_path, content)
    assert attnstore(command, "s", "--config", file) == (2, "", f"attnstore: {file}: {line}\n")


def test_invalid_toml_is_reported_in_one_line(tmp_path):
    """With the position of the fault. Also a missing file."""
    file = written(tmp_path, "limit = 3\nsplit = test\n")
    code, out, err = attnstore("run", "s", "--config", file)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"attnstore: {file} is not TOML: ")
    assert "line 2" in err
    file.write_bytes(b"split = '\xff'")
    assert attnstore("run", "s", "--config", file)[2] == f"attnstore: {file} is not TOML: it is not UTF-8\n"
    assert attnstore("run", "s", "--config", tmp_path / "none.toml")[::2] == (
        1,
        f"attnstore: {tmp_path}/none.toml: no such file or directory\n",
    )
    os.mkfifo(tmp_path / "pipe.toml")  # reading it would wait
    for name, what in (("pipe.toml", "not a regular file"), ("", "a folder")):
        code, _, err = attnstore("run", "s", "--config", tmp_path / name)
        assert (code, err) == (2, f"attnstore: {tmp_path / name} is not an option file: it is {what}\n")


def test_every_setting_of_a_run_is_an_option():
    """The settings that a store writes are options of `attnstore run` with the same names; no field is missing."""
    source = SourceConfig(
        "here", labels=("a, b", " c", '"d"', "1=e"), columns=("x", "y"), delimiter="\t", limit=3
    )
    found = options_of(RunConfig(source, "model", reductions=("cls", options_of)), {"stride": 4})
    run = group.attnstore.commands["run"]
    options = {max(p.opts, key=len)[2:] for p in run.params if isinstance(p, click.Option)}
    assert found.keys() <= options
    names = {*SourceConfig.__dataclass_fields__, *RunConfig.__dataclass_fields__} - {"held", "source"}
    of_commands = {"config", "progress", "quiet", "reduce", "keep-column"}
    assert {name.replace("_", "-") for name in names} - {"reductions", "keep"} == options - of_commands
    assert found["labels"] == '"a, b"," c","""d""","1=e"'
    assert (found["columns"], found["delimiter"], found["stride"]) == ("x,y", "tab", 4)
    assert found["reduce"] == ["cls", "attnstore.pipeline.options:options_of"]


def test_addresses_are_kept_without_secrets_and_the_embedded_ones_without_a_path():
    """What is shown, or passed on with a store, contains no password and no folder of this machine."""
    from attnstore.embedded import MODEL, REVIEWS

    asked = RunConfig(SourceConfig("https://me:secret@example.org/a.csv?key=secret"), "m")
    assert options_of(asked, {})["data"] == "https://example.org/a.csv"
    assert options_of(RunConfig(SourceConfig("reviews-?.csv"), "m"), {})["data"] == "reviews-?.csv"
    assert {"data", "model"}.isdisjoint(options_of(RunConfig(SourceConfig(str(REVIEWS)), str(MODEL)), {}))


def test_options_from_a_strangers_manifest_are_escaped(small_store, tmp_path):
    """A manifest's texts are written as TOML with the same meaning and visible characters.

    An invalid option name is refused.
    """
    store = tmp_path / "s.attn"
    store.mkdir()
    manifest = json.loads((small_store / "manifest.json").read_text())
    odd = 'a"\\\n\x1b[31m\u202e\U000e0041 ä😀'
    (store / "manifest.json").write_text(json.dumps(manifest | {"options": {"split": odd, "reduce": [odd]}}))
    _, out, _ = attnstore("info", store, "--format", "toml")
    assert tomllib.loads(out) == {"split": odd, "reduce": [odd]}
    assert all(character.isprintable() or character == "\n" for character in out)
    for options, line in (
        ({'x" = 1\ny': 1}, 'manifest.json is damaged: there is no option x" = 1 y'),
        ({"limit": {}}, "manifest.json is damaged: {} is no option's value"),
    ):
        (store / "manifest.json").write_text(json.dumps(manifest | {"options": options}))
        assert attnstore("info", store, "--format", "toml") == (1, "", f"attnstore: {store}: {line}\n")
    later = {
        "documents": 0,
        "data": "b.csv",
        "fingerprint": {},
        "versions": {},
        "created": "then",
        "sealed": "now",
    }
    later |= {"rejected": {}, "rejected_rows": [], "notes": []}
    added = manifest | {"options": {"limit": 3}, "additions": [later]}
    (store / "manifest.json").write_text(json.dumps(added))
    code, out, _ = attnstore("info", store, "--format", "toml")
    assert (code, out.splitlines()[-2:]) == (
        0,
        ["# Without the 0 documents of b.csv, appended later.", "limit = 3"],
    )
    del manifest["options"]
    (store / "manifest.json").write_text(json.dumps(manifest))
    line = f"attnstore: {store} does not say with which options it was run\n"
    assert attnstore("info", store, "--format", "toml") == (1, "", line)


def test_the_pages_option_files_are_valid():
    """The option files in docs/batch.md are TOML, and their keys are options of `run`."""
    page = (Path(__file__).parents[2] / "docs/batch.md").read_text()
    known = {max(p.opts, key=len)[2:] for p in group.attnstore.commands["run"].params}
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert blocks
    assert all(tomllib.loads(block).keys() <= known for block in blocks)
