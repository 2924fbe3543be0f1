"""Model folders made to break a reader: each is refused in one line."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import tiny
from safetensors.torch import load_file, save_file

from attnstore.check.oracle import verify_sample
from attnstore.config import RunConfig, SourceConfig
from attnstore.engine.loading import load_classifier
from attnstore.engine.models import model_folder, read_model_files, with_revision
from attnstore.engine.reductions import resolve_reductions
from attnstore.errors import ModelError, UsageError
from attnstore.pipeline.run import run
from attnstore.store.store import open_store


def config(model) -> RunConfig:
    return RunConfig(SourceConfig("none"), str(model), device="cpu", dtype="float32")


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ({"0": "pos", "1": "pos"}, "has two classes called 'pos' in its id2label"),
        ({"0": None, "1": "pos"}, "has a class whose name is not text in its id2label"),
        ({"0": ["neg"], "1": "pos"}, "has a class whose name is not text in its id2label"),
        ({"0": "\ud800", "1": "pos"}, "has a class whose name is not text in its id2label"),
    ],
)
def test_odd_class_names_are_refused(tmp_path, names, fault) -> None:
    """A store of such a model could not be verified, or not be written."""
    model = tiny.save(tmp_path / "model")
    raw = json.loads((model / "config.json").read_text())
    raw["id2label"] = names
    raw["label2id"] = {}
    (model / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ModelError) as refused:
        read_model_files(config(model))
    assert str(refused.value).startswith(f"{model} {fault}")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_with_nan_are_refused(tmp_path, value) -> None:
    """Every prediction would be the first class, and half of them right."""
    model = tiny.save(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    name = "classifier.weight"
    weights[name][0, 0] = value
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError) as refused:
        load_classifier(config(model), resolve_reductions(("cls",)), read_model_files(config(model)))
    expected = f"the weights of {model} hold NaN or infinity (first: {name}): train or fetch it again"
    assert str(refused.value) == expected


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        (
            {"num_labels": 10**9, "id2label": None},
            "has num_labels 1e+09 in its config.json, which is impossible",
        ),
        (
            {"num_hidden_layers": 10**12},
            "has num_hidden_layers 1e+12 in its config.json, which is impossible",
        ),
        ({"vocab_size": 1e300}, "has vocab_size 1e+300 in its config.json, which is impossible"),
        (
            {"layer_norm_eps": math.nan},
            "(BertForSequenceClassification) gives no finite logits (nan, nan): look",
        ),
        (
            {"id2label": {"0": "a", "1": "b", "2": "c"}},
            "differ in size from its config.json, which has 3 classes",
        ),
    ],
)
def test_impossible_settings_are_refused(tmp_path, changed, fault) -> None:
    """Each is reported in one line, at once."""
    model = tiny.save(tmp_path / "model")
    raw = json.loads((model / "config.json").read_text()) | {"label2id": {}} | changed
    (model / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ModelError) as refused:
        load_classifier(config(model), resolve_reductions(("cls",)), read_model_files(config(model)))
    assert f"{model} {fault}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_deep_settings_and_pipes_are_refused(tmp_path) -> None:
    """Neither ends in a traceback or a wait."""
    model = tiny.save(tmp_path / "model")
    (model / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match=r"config\.json is nested too deeply: fetch the model again"):
        read_model_files(config(model))
    os.mkfifo(model / "vocab.txt.more")
    with pytest.raises(ModelError, match="is not a regular file: reading it could wait forever"):
        read_model_files(config(model))


def changed(name: str, **values: object):
    """A function that changes entries of one of a model's JSON files."""

    def change(model: Path) -> None:
        raw = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(raw | values))

    return change


def renumbered(model: Path) -> None:
    raw = json.loads((model / "tokenizer.json").read_text())
    raw["model"]["vocab"]["the"] = 10**6
    (model / "tokenizer.json").write_text(json.dumps(raw))


def with_index(model: Path) -> None:
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../secret.safetensors"}}')


def oversized(name: str, size: int):
    """A function that makes one of a model's files that large, without writing the bytes."""

    def change(model: Path) -> None:
        with (model / name).open("r+b") as file:
            file.truncate(size)

    return change


#: How a tiny model is changed, and a part of the error.
HOSTILE = {
    "another name of layers": (
        changed("config.json", n_layers=10**9),
        "has n_layers 1e+09 in its config.json",
    ),
    "layers further down": (
        changed("config.json", text_config={"parts": [{"num_layers": 10**9}]}),
        "has num_layers 1e+09 in its config.json",
    ),
    "digits": (changed("config.json", num_hidden_layers=10**400), "has num_hidden_layers more digits than"),
    "architectures": (
        changed("config.json", architectures=[3]),
        "has architectures in its config.json that are no",
    ),
    "a class of many letters": (
        changed("config.json", id2label={"0": "x" * 501, "1": "y"}, label2id={}),
        "has a class whose name has more than 500 characters",
    ),
    "settings of many bytes": (
        oversized("config.json", (64 << 20) + 1),
        "has 67,108,865 bytes, which no model needs",
    ),
    "a vocabulary of many bytes": (
        oversized("tokenizer.json", (1 << 30) + 1),
        "has 1,073,741,825 bytes, which no",
    ),
    "a token's number": (renumbered, "numbers a token 1,000,000, its model has only"),
    "a length that is a text": (
        changed("tokenizer_config.json", model_max_length="many"),
        "has model_max_length many in its tokenizer_config.json, which is no number of tokens",
    ),
    "a length that is no number": (
        changed("tokenizer_config.json", model_max_length=math.nan),
        "has model_max_length nan in its tokenizer_config.json, which is no number of tokens",
    ),
    "weights elsewhere": (
        with_index,
        "names weights outside of the model's folder ('../../secret.safetensors')",
    ),
    "a deep tokenizer": (
        lambda model: (model / "tokenizer_config.json").write_text("[" * 100_000),
        "can't read the tokenizer of",
    ),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_folder_made_to_break_its_reader_is_refused_in_one_line(tmp_path, attack) -> None:
    """Before transformers would exhaust the memory, or fail with a traceback."""
    change, fault = HOSTILE[attack]
    model = tiny.save(tmp_path / "model")
    change(model)
    with pytest.raises(ModelError) as refused:
        read_model_files(config(model))
    assert fault in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_at_sign_belongs_to_a_folder_or_precedes_a_revision(tmp_path, monkeypatch):
    """An existing folder wins, a path is never split, and a name on the hub may have a revision."""
    monkeypatch.chdir(tmp_path)
    for name in ("me@home", "plain"):
        (tmp_path / name).mkdir()
    assert {name: with_revision(name) for name in ("me@home", f"{tmp_path}/me@home", "/gone/me@home")} == {
        name: (name, None) for name in ("me@home", f"{tmp_path}/me@home", "/gone/me@home")
    }
    assert with_revision(f"{tmp_path}/plain@v1") == (f"{tmp_path}/plain", "v1")
    assert with_revision(f"{tmp_path}/me@home@v1") == (f"{tmp_path}/me@home", "v1")
    assert with_revision("someone/tiny@main") == ("someone/tiny", "main")
    assert with_revision("someone/tiny") == ("someone/tiny", None)


def test_a_folder_has_no_revisions(tiny_model):
    """The option would be recorded and change nothing."""
    with pytest.raises(UsageError) as refused:
        model_folder(RunConfig(SourceConfig("r.csv"), str(tiny_model), revision="main"))
    told = f"--revision chooses a version of a model on the hub, and {tiny_model} is a folder"
    assert str(refused.value) == told


@pytest.mark.slow
def test_verify_finds_the_model_in_a_folder_with_an_at_sign(tiny_model, reviews, tmp_path):
    """verify recomputes values with that model, and finds no difference."""
    folder = shutil.copytree(tiny_model, tmp_path / "me@home")
    source = SourceConfig(str(reviews), limit=2)
    run(RunConfig(source, str(folder), device="cpu", dtype="float32", max_length=40), tmp_path / "s.attn")
    assert {finding.ok for finding in verify_sample(open_store(tmp_path / "s.attn"))} == {True}
