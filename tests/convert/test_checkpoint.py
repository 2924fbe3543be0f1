"""A fine-tuned google-research/bert checkpoint becomes a model folder with the same ids, logits and attention."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from command_line import attnstore
from shared import shared

from attnstore.config import RunConfig, SourceConfig
from attnstore.convert import checkpoint
from attnstore.convert.bundle import read_bundle
from attnstore.engine.loading import load_classifier
from attnstore.errors import ModelError

NAME = "model.ckpt-2343"
DATA = f"{NAME}.data-00000-of-00001"


@pytest.fixture(scope="module")
def expected():
    """Results for five texts that numpy computed in float64, without attnstore, transformers or TensorFlow."""
    return json.loads(shared("cases/tf1ckpt/expected.json").read_text())


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "model"
    checkpoint.convert(shared("cases/tf1ckpt"), out, labels=("neg", "pos"))
    return out


@pytest.fixture
def folder(tmp_path):
    """A copy of the checkpoint's folder, to be damaged."""
    return shutil.copytree(shared("cases/tf1ckpt"), tmp_path / "bert", copy_function=shutil.copyfile)


def test_transformers_gives_the_same_ids_logits_and_attention(converted, expected):
    """Within float32's precision: the weights are bit-identical, and the oracle computes in float64."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(converted)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        converted, attn_implementation="eager", dtype=torch.float64
    ).eval()
    assert (model.config.id2label, tokenizer.model_max_length) == ({0: "neg", 1: "pos"}, 64)
    for document in expected:
        inputs = tokenizer(document["text"], return_tensors="pt")
        assert inputs.input_ids[0].tolist() == document["ids"]
        assert tokenizer.convert_ids_to_tokens(document["ids"]) == document["tokens"]
        with torch.inference_mode():
            found = model(**inputs, output_attentions=True)
        np.testing.assert_allclose(found.logits[0], document["logits"], atol=1e-6)
        attention = torch.stack(found.attentions)[:, 0, :, 0].mean(dim=1)  # (layers, tokens) of [CLS]
        np.testing.assert_allclose(attention, document["cls_mean_heads"], atol=1e-6)


def test_a_run_reads_the_folder(converted):
    """It loads as a classifier with its class names, and its documents are packed, as for every BERT."""
    classifier = load_classifier(
        RunConfig(SourceConfig("none"), str(converted), device="cpu", dtype="float32"), ()
    )
    assert (classifier.labels, classifier.way, classifier.layers, classifier.heads) == (
        ("neg", "pos"),
        "packed",
        3,
        4,
    )


def test_words_of_up_to_200_letters_are_split_into_pieces(converted):
    """As in google-research/bert; transformers' own BertTokenizer stops at 100."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(converted)
    assert len(tokenizer.tokenize("a" * 200)) > 1
    assert tokenizer.tokenize("a" * 201) == ["[UNK]"]


def test_the_command_reports_the_converted_model(folder, tmp_path):
    code, out, err = attnstore("convert", folder, tmp_path / "out", "--labels", "neg, pos")
    assert (code, out, err) == (
        0,
        f"{tmp_path / 'out'}: model.ckpt-2343, 31,746 parameters, 3 layers of 4 heads, 2 classes (neg, pos), uncased\n"
        f"next: attnstore run STORE --model {tmp_path / 'out'} --data SOURCE\n",
        "note: texts are lower-cased, by the letters of vocab.txt (--cased if not)\n",
    )
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "out").iterdir()}
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    assert modes == dict.fromkeys(names, modes["config.json"])


def test_classes_without_names_are_reported(folder, tmp_path):
    code, _, err = attnstore("convert", folder, tmp_path / "out", "--uncased")
    assert (code, err) == (
        0,
        "note: the classes are called LABEL_0, LABEL_1: --labels names them, in the order of the logits\n",
    )


def test_cased_overrides_the_vocabulary(folder, tmp_path):
    """The lower-cased vocabulary has the token `the`, but not `The`."""
    assert attnstore("convert", folder, tmp_path / "out", "--cased")[0] == 0
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.tokenize("The the") == ["[UNK]", "the"]


def test_settings_and_vocabulary_may_be_in_another_folder(folder, tmp_path):
    """run_classifier.py leaves them in the folder of the BERT that was fine-tuned."""
    base = tmp_path / "uncased_L-3_H-32_A-4"
    base.mkdir()
    for name in ("bert_config.json", "vocab.txt"):
        (folder / name).rename(base / name)
    code, _, err = attnstore("convert", folder, tmp_path / "out")
    assert (code, err) == (
        2,
        f"attnstore: there is no bert_config.json in {folder}: --base names the folder of the BERT that was fine-tuned"
        "\n",
    )
    assert attnstore("convert", folder / NAME, tmp_path / "out", "--base", base)[0] == 0


def cut(folder, name, size):
    (folder / name).write_bytes((folder / name).read_bytes()[:size])


def flip(folder, name, place):
    content = bytearray((folder / name).read_bytes())
    content[place] ^= 1
    (folder / name).write_bytes(content)


def change(folder, **changes):
    file = folder / "bert_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


#: name: (how the folder is damaged, extra arguments, the exit code, a part of the error line)
BAD = {
    "no folder": (shutil.rmtree, (), 1, "there is no checkpoint"),
    "no index": (lambda f: (f / f"{NAME}.index").unlink(), (), 1, "holds no checkpoint of TensorFlow"),
    "no data": (lambda f: (f / DATA).unlink(), (), 1, f"there is no {DATA}"),
    "no vocabulary": (lambda f: (f / "vocab.txt").unlink(), (), 2, "there is no vocab.txt"),
    "cut index": (lambda f: cut(f, f"{NAME}.index", 4000), (), 1, "was cut short"),
    "changed index": (lambda f: flip(f, f"{NAME}.index", 2000), (), 1, "a block has another checksum"),
    "cut data": (lambda f: cut(f, DATA, 200_000), (), 1, f"{DATA} is too short"),
    "changed data": (lambda f: flip(f, DATA, 10), (), 1, "bert/embeddings/LayerNorm/beta has another checksum"),
    "an empty index": (lambda f: cut(f, f"{NAME}.index", 0), (), 1, "is not a checkpoint index"),
    "settings cut short": (lambda f: cut(f, "bert_config.json", 50), (), 1, "bert_config.json is not valid JSON"),
    "another width": (lambda f: change(f, hidden_size=64), (), 1, "(88, 32), but bert_config.json implies (88, 64)"),
    "a layer too many": (lambda f: change(f, num_hidden_layers=4), (), 1, "has no bert/encoder/layer_3/attention"),
    "a layer too few": (lambda f: change(f, num_hidden_layers=2), (), 1, "bert/encoder/layer_2/attention/output/La"),
    "another vocabulary": (lambda f: (f / "vocab.txt").open("a").write("x\n" * 99), (), 1, "the model 88"),
    "too few labels": (lambda f: None, ("--labels", "a"), 2, "--labels has 1 name, the model 2 classes"),
    "labels twice": (lambda f: None, ("--labels", "a,a"), 2, "the names a, a must differ"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_an_unreadable_checkpoint_is_one_line_and_leaves_nothing(folder, tmp_path, name):
    damage, arguments, code, said = BAD[name]
    damage(folder)
    found, out, err = attnstore("convert", folder, tmp_path / "to" / "out", *arguments)
    assert (found, out) == (code, "")
    assert err.startswith("attnstore: ")
    assert err.count("\n") == 1
    assert said in err
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda entries: entries.pop("output_weights"),
            "has no classification head (output_weights and output_bias",
        ),
        (
            lambda entries: entries.update(output_bias=replace(entries["output_bias"], shape=(1,))),
            "output_bias has the shape (1,); a classifier has two classes at least",
        ),
        (
            lambda entries: entries.update({"output/dense/kernel": entries["output_weights"]}),
            "holds output/dense/kernel, which neither bert_config.json nor run_classifier.py defines",
        ),
    ],
)
def test_a_checkpoint_that_is_no_google_classifier_is_refused(tmp_path, monkeypatch, change, said):
    """A BERT that was only pre-trained, a regression model, and a model with a custom head."""
    bundle = read_bundle(shared(f"cases/tf1ckpt/{NAME}.index").with_suffix(""))
    change(bundle.entries)
    monkeypatch.setattr(checkpoint, "read_bundle", lambda _: bundle)
    with pytest.raises(ModelError) as raised:
        checkpoint.convert(shared("cases/tf1ckpt"), tmp_path / "out")
    assert said in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_touched(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("kept")
    code, _, err = attnstore("convert", folder, tmp_path / "out")
    assert (code, err) == (2, f"attnstore: {tmp_path / 'out'} already exists: name a new folder\n")
    assert [file.read_text() for file in (tmp_path / "out").iterdir()] == ["kept"]


def test_a_full_disk_leaves_no_folder(folder, tmp_path, monkeypatch):
    """A failed write never leaves a folder that looks like a model."""
    from safetensors import SafetensorError, numpy

    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(numpy, "save_file", full)
    code, _, err = attnstore("convert", folder, tmp_path / "out")
    assert (code, "can't write" in err, "No space left on device" in err) == (1, True, True)
    assert [file.name for file in tmp_path.iterdir()] == ["bert"]
