"""Fine-tuning on the smallest scale: a random two-layer BERT and data that are trivially separable."""

import csv
import json
import os
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
)

from attnstore.config import SourceConfig
from attnstore.errors import AttnstoreError
from attnstore.events import Event, Trained
from attnstore.learn.choice import Choice
from attnstore.learn.config import CHECKPOINTS, FinetuneConfig, FinetuneInterrupted
from attnstore.learn.examples import split_dev
from attnstore.learn.finetune import finetune
from attnstore.learn.training import LengthGroupedBatches

NOISE = ["the", "a", "film", "of", "was", "and", "seen", "in", "it", "we", "one", "two"]
TELLING = {
    "glad": ["good", "warm"],
    "sad": ["bad", "grey"],
    "angry": ["mad", "red"],
    "calm": ["still", "soft"],
    "Odd / strange": ["queer", "weird"],
    "été": ["sun", "heat"],
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *NOISE,
        *(word for words in TELLING.values() for word in words),
    ]
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        initializer_range=0.1,
    )
    BertModel(config).save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(words)}
    BertTokenizer(vocab=vocabulary, model_max_length=40).save_pretrained(folder)
    return folder


def write_rows(path: Path, labels: list[str], count: int, seed: int = 0) -> None:
    rng = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "group"])
        for number in range(count):
            label = labels[number % len(labels)] if number < len(labels) else rng.choice(labels)
            length = rng.choice([2, 5, 10, 50])  # the longest texts are cut
            words = rng.choices(NOISE, k=length) + rng.choices(TELLING[label], k=length)
            rng.shuffle(words)
            writer.writerow([" ".join(words), label, f"g{number // 4}"])


def data_of(folder: Path, labels: list[str], train: int = 96, test: int = 24) -> Path:
    folder.mkdir(parents=True)
    write_rows(folder / "train.csv", labels, train)
    write_rows(folder / "test.csv", labels, test, seed=1)
    return folder


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_of(tmp_path_factory.mktemp("data") / "two", ["glad", "sad"])


def config_of(encoder: Path, data: Path, out: Path, **changes: object) -> FinetuneConfig:
    config = FinetuneConfig(
        source=SourceConfig(str(data), group_column="group"),
        out=out,
        model=str(encoder),
        device="cpu",
        dtype="float32",
        batch_size=8,
        learning_rate=3e-3,
        epochs=3,
        dev_fraction=0.2,
    )
    return replace(config, **changes)  # type: ignore[arg-type]  # the names are checked by replace


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def undisturbed(encoder: Path, two_classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "model"
    seen: list[Event] = []
    result = finetune(config_of(encoder, two_classes, out), on_event=seen.append)
    assert result.test_accuracy == 1.0
    assert (result.chosen_step, result.dev_accuracy) == (30, result.dev_accuracies[-1])
    assert len(result.dev_accuracies) == 3
    assert (result.train_documents, result.dev_documents, result.test_documents) == (80, 16, 24)
    assert result.max_length == 40  # not 512, because the model has 40 positions
    told = [event for event in seen if isinstance(event, Trained)]
    trained = [p for p in told if p.phase == "train"]
    assert trained[-1].step == trained[-1].steps == result.steps == 30
    assert trained[-1].loss is not None and trained[-1].accuracy is not None
    assert told[-1].phase == "test" and told[-1].accuracy == 1.0
    assert all(p.eta >= 0 for p in told)
    return out


@pytest.mark.slow
def test_the_result_is_a_plain_folder_with_the_labels(undisturbed: Path) -> None:
    files = {file.name for file in undisturbed.iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= files
    assert CHECKPOINTS not in files and "training_args.bin" not in files
    model = AutoModelForSequenceClassification.from_pretrained(undisturbed)
    tokenizer = AutoTokenizer.from_pretrained(undisturbed)
    assert model.config.id2label == {0: "glad", 1: "sad"}
    assert model.config.label2id == {"glad": 0, "sad": 1}
    assert model.dtype == torch.float32
    stored = json.loads((undisturbed / "tokenizer.json").read_text())
    assert stored["truncation"] is None and stored["padding"] is None
    for text, label in (("good film", "glad"), ("it was bad", "sad")):
        found = model(**tokenizer(text, return_tensors="pt")).logits.argmax().item()
        assert model.config.id2label[found] == label


def test_the_readme_has_data_recipe_and_figures(undisturbed: Path) -> None:
    card = (undisturbed / "README.md").read_text()
    for part in ("glad, sad", "| epochs | 3 |", "| learning rate | 0.003", "1.0000", "torch", "24 documents"):
        assert part in card


@pytest.mark.slow
def test_the_weights_depend_on_the_seed_alone(
    encoder: Path, two_classes: Path, undisturbed: Path, tmp_path: Path
) -> None:
    finetune(config_of(encoder, two_classes, tmp_path / "again"))
    assert same(tmp_path / "again", undisturbed)
    finetune(config_of(encoder, two_classes, tmp_path / "other", seed=1))
    assert not same(tmp_path / "other", undisturbed)


def interrupter(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Send SIGINT from inside the training, during that step."""
    from attnstore.learn.training import Watcher

    plain = Watcher.loss
    calls = 0

    def loss(self: object, *args: object, **kwargs: object) -> object:
        nonlocal calls
        if torch.is_grad_enabled():
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGINT)
        return plain(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Watcher, "loss", loss)


@pytest.mark.sampled(at=(1,))
@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 10, 23])  # in the first epoch, at its end, in the last
def test_an_interrupted_and_resumed_run_equals_an_undisturbed_one(
    step: int,
    encoder: Path,
    two_classes: Path,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = config_of(encoder, two_classes, tmp_path / "model")
    with monkeypatch.context() as patched:
        interrupter(patched, step)
        with pytest.raises(
            FinetuneInterrupted, match=f"step {step} of 30.*the same command resumes"
        ) as caught:
            finetune(config)
    assert caught.value.exit_code == 130
    assert (config.out / CHECKPOINTS / f"checkpoint-{step}" / "model.safetensors").is_file()
    with pytest.raises(AttnstoreError, match=r"begun with learning_rate 0\.003, not 0\.1"):
        finetune(replace(config, learning_rate=0.1))
    result = finetune(config)
    assert same(config.out, undisturbed)
    assert len(result.dev_accuracies) == 3
    assert (config.out / "README.md").read_text() == (undisturbed / "README.md").read_text()


@pytest.mark.slow
def test_an_interrupt_while_the_test_split_is_measured(
    encoder: Path, two_classes: Path, undisturbed: Path, tmp_path: Path
) -> None:
    def interrupt_after_the_last_step(now: Event) -> None:
        if isinstance(now, Trained) and now.phase == "train" and now.step == now.steps:
            os.kill(os.getpid(), signal.SIGINT)

    config = config_of(encoder, two_classes, tmp_path / "model")
    with pytest.raises(FinetuneInterrupted, match="while the test split was being measured"):
        finetune(config, on_event=interrupt_after_the_last_step)
    result = finetune(config)
    assert same(config.out, undisturbed)
    assert result.test_accuracy == 1.0 and len(result.dev_accuracies) == 3


@pytest.mark.slow
def test_a_torn_checkpoint_is_skipped(
    encoder: Path, two_classes: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(encoder, two_classes, tmp_path / "model")
    with monkeypatch.context() as patched:
        interrupter(patched, 11)
        with pytest.raises(FinetuneInterrupted):
            finetune(config)
    (config.out / CHECKPOINTS / "checkpoint-11" / "trainer_state.json").unlink()
    finetune(config)
    assert same(config.out, undisturbed)


@pytest.mark.slow
def test_six_numbered_classes_without_a_test_split(encoder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "six.csv", list(TELLING), 120)
    config = config_of(encoder, tmp_path / "six.csv", tmp_path / "model", epochs=1, dtype="bfloat16")
    result = finetune(config)
    assert result.labels == ("Odd / strange", "angry", "calm", "glad", "sad", "été")
    assert result.test_accuracy is None and result.test_documents == 0
    assert result.dev_accuracy is not None
    assert tuple(AutoModelForSequenceClassification.from_pretrained(config.out).config.id2label.values()) == (
        result.labels
    )
    assert "not known" in (config.out / "README.md").read_text()


@pytest.mark.slow
def test_stars_are_ordered_by_number_and_the_last_weights_are_used(encoder: Path, tmp_path: Path) -> None:
    rows = "\n".join(f"good film {'the ' * n},{n}" for n in (2, 10, 1, 10, 2, 1))
    (tmp_path / "stars.csv").write_text(f"body,stars\n{rows}\n")
    source = SourceConfig(str(tmp_path / "stars.csv"), text_column="body", label_column="stars")
    config = config_of(encoder, tmp_path, tmp_path / "model", source=source, epochs=0.5, dev_fraction=0.0)
    result = finetune(config)
    assert result.labels == ("1", "2", "10")
    assert result.dev_accuracy is None and result.steps == 1


@pytest.mark.slow
def test_spellings_of_a_class_are_one_class_in_both_splits(encoder: Path, tmp_path: Path) -> None:
    """`Glad`, `glad ` and `glad` are one class, with the name that most training documents have.

    `huh` in test is not a class.
    """
    (tmp_path / "train.csv").write_text(
        "text,label\n" + "the film was good warm,glad\nthe film was bad grey,SAD\n" * 6
        + "good it was,Glad\nwarm it was,glad \nbad it was,sad\n"
    )  # fmt: skip
    (tmp_path / "test.csv").write_text(
        "text,label\ngood was the film,GLAD\nbad was the film,sad\nthe film was seen,huh\n"
    )
    source = SourceConfig(str(tmp_path))
    config = config_of(encoder, tmp_path, tmp_path / "model", source=source, epochs=0.5, dev_fraction=0.0)
    result = finetune(config)
    assert (result.labels, result.train_documents, result.test_documents) == (("SAD", "glad"), 15, 2)
    card = (config.out / "README.md").read_text()
    assert "rows left out of test: 1 unknown label 'huh'" in card


@pytest.mark.sampled(at=(0, 3))
@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "labels", "documents"),
    [
        (("1=bad", "2=bad", "4=good", "5=good", "3="), ("bad", "good"), 8),
        (("good", "bad", "1=bad", "2=bad", "4=good", "5=good", "3="), ("good", "bad"), 8),
        (("3=",), ("1", "2", "4", "5"), 8),
        (("a", "b", "c", "d", "e"), ("a", "b", "c", "d", "e"), 10),
    ],
)
def test_labels_may_be_mapped_and_left_out(
    given: tuple[str, ...], labels: tuple[str, ...], documents: int, encoder: Path, tmp_path: Path
) -> None:
    """--labels with pairs gives the classes in the order of their first occurrence, unless a list gives their order."""
    rows = "".join(f"good film {'the ' * n},{n}\n" for n in (1, 2, 3, 4, 5) * 2)
    (tmp_path / "stars.csv").write_text(f"text,label\n{rows}")
    source = SourceConfig(str(tmp_path / "stars.csv"), labels=given)
    config = config_of(encoder, tmp_path, tmp_path / "model", source=source, epochs=0.5, dev_fraction=0.0)
    result = finetune(config)
    assert (result.labels, result.train_documents) == (labels, documents)


@pytest.mark.slow
def test_the_head_is_kept_for_the_same_classes_and_new_for_others(
    encoder: Path, two_classes: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """A learning rate near 0 leaves the initial weights."""
    config = config_of(undisturbed, two_classes, tmp_path / "same", learning_rate=1e-12, epochs=1)
    assert finetune(config).test_accuracy == 1.0
    write_rows(tmp_path / "other.csv", ["calm", "angry"], 40)
    other = config_of(undisturbed, tmp_path / "other.csv", tmp_path / "new", learning_rate=1e-12, epochs=0.1)
    assert finetune(other).labels == ("angry", "calm")
    before, after = weights(undisturbed), weights(other.out)
    assert not torch.allclose(before["classifier.weight"], after["classifier.weight"], atol=1e-3)
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.allclose(before[name], after[name], atol=1e-6)


@pytest.mark.slow
def test_attention_dropout_is_the_models_or_the_given_one(
    encoder: Path, two_classes: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """In the config that the model is saved with, for a new head and for one that is kept."""

    def dropout(folder: Path) -> float:
        return json.loads((folder / "config.json").read_text())["attention_probs_dropout_prob"]

    out = tmp_path / "none"
    finetune(config_of(encoder, two_classes, out, epochs=0.1, attention_dropout=0.0))
    assert (dropout(encoder), dropout(undisturbed), dropout(out)) == (0.1, 0.1, 0.0)
    assert "| attention dropout | 0 |" in (out / "README.md").read_text()
    assert "| attention dropout | as in the base |" in (undisturbed / "README.md").read_text()
    again = tmp_path / "again"
    finetune(config_of(undisturbed, two_classes, again, epochs=0.1, attention_dropout=0.3))
    assert dropout(again) == 0.3


@pytest.mark.slow
def test_the_limit_applies_to_each_split(encoder: Path, two_classes: Path, tmp_path: Path) -> None:
    config = config_of(encoder, two_classes, tmp_path / "model", epochs=0.1)
    result = finetune(replace(config, source=replace(config.source, limit=12)))
    assert result.train_documents + result.dev_documents == 12
    assert result.test_documents == 12


def test_batches_are_random_and_grouped_by_length_and_depend_only_on_the_epoch() -> None:
    lengths = [(i * 37) % 509 + 3 for i in range(1001)]
    batches = LengthGroupedBatches(lengths, 8, seed=5)
    first = list(batches)
    assert len(first) == len(batches) == 126
    assert sorted(row for rows in first for row in rows) == list(range(1001))
    padded = sum(len(rows) * max(lengths[row] for row in rows) for rows in first)
    assert padded < 1.05 * sum(lengths)
    assert max(lengths) == max(lengths[row] for row in first[0])
    assert list(batches) == first
    batches.epoch = 1
    assert list(batches) != first


def test_dev_has_whole_groups_and_leaves_every_class_in_train() -> None:
    groups = [f"film {i // 3}" for i in range(300)]
    labels = [i % 2 for i in range(300)]
    train, dev = split_dev(groups, labels, 0.1, seed=0)
    assert len(dev) == 30 and sorted(train + dev) == list(range(300))
    assert not {groups[i] for i in train} & {groups[i] for i in dev}
    assert split_dev(groups, labels, 0.1, seed=0) == (train, dev)
    assert split_dev(groups, labels, 0.1, seed=1) != (train, dev)
    assert split_dev(groups, labels, 0.0, seed=0) == (list(range(300)), [])
    rare = [f"one {i}" for i in range(20)]
    train, dev = split_dev(rare, [i if i < 5 else 5 for i in range(20)], 0.5, seed=0)
    assert set(range(5)) <= set(train) and len(dev) == 10


def hits(right: str) -> NDArray[np.bool_]:
    """`1` for a held-out document that an epoch classifies correctly."""
    return np.array([letter == "1" for letter in right])


def test_the_last_epoch_is_chosen_unless_an_earlier_one_beats_it_by_more_than_chance(tmp_path: Path) -> None:
    choice = Choice(tmp_path)
    first = choice.metrics(0, hits("111111110000"), choosing=True)
    assert first == {"accuracy": 8 / 12, "rank": 0.0}
    # Four that only the first has right may be chance (1 in 16): the last is less accurate, and still chosen.
    assert choice.metrics(1, hits("000011110000"), choosing=True) == {"accuracy": 4 / 12, "rank": 1.0}
    # Six to one: 8 chances in 128. Six to none: one in 64, which is less than one in 20.
    assert choice.metrics(2, hits("000000110001"), choosing=True)["rank"] == 2.0
    assert choice.metrics(3, hits("000000110000"), choosing=True)["rank"] == -1.0
    # The last is compared with the best of all earlier epochs, not with the one chosen so far.
    assert choice.metrics(4, hits("000000010000"), choosing=True)["rank"] == -1.0
    assert choice.metrics(5, hits("000111111111"), choosing=True)["rank"] == 5.0
    assert choice.metrics(0, hits("1100"), choosing=False) == {"accuracy": 0.5}


def test_a_resumed_choice_includes_the_earlier_epochs(tmp_path: Path) -> None:
    Choice(tmp_path).metrics(0, hits("111111"), choosing=True)
    assert Choice(tmp_path).metrics(1, hits("000000"), choosing=True)["rank"] == -1.0


@pytest.mark.slow
def test_an_epoch_that_no_later_one_equals_is_written(
    encoder: Path, two_classes: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Choice, "_beats", lambda *_: True)
    config = config_of(encoder, two_classes, tmp_path / "model")
    result = finetune(config)
    assert (result.chosen_step, result.steps) == (10, 30)
    assert result.dev_accuracy == result.dev_accuracies[0]
    assert not same(config.out, undisturbed)
    assert "step 10 of 30" in (config.out / "README.md").read_text()


BAD: list[tuple[str, Callable[[FinetuneConfig, Path], FinetuneConfig], str]] = [
    ("no such data", lambda c, t: replace(c, source=SourceConfig(str(t / "none.csv"))), "no such file"),
    ("no such model", lambda c, t: replace(c, model=str(t / "none")), "there is no model folder"),
    (
        "empty folder",
        lambda c, t: replace(c, model=str(t)),
        "is a folder without config.json: give the folder of a",
    ),
    ("epochs", lambda c, t: replace(c, epochs=0), "--epochs"),
    ("not a number", lambda c, t: replace(c, epochs=float("nan")), "--epochs"),
    ("batch size", lambda c, t: replace(c, batch_size=0), "--batch-size"),
    ("learning rate", lambda c, t: replace(c, learning_rate=-1), "--learning-rate"),
    ("max length", lambda c, t: replace(c, max_length=2), "--max-length"),
    (
        "beyond the model",
        lambda c, t: replace(c, max_length=41),
        "--max-length 41 is more than the model's 40 positions",
    ),
    ("no model", lambda c, t: replace(c, model=""), "--model is empty"),
    ("warmup", lambda c, t: replace(c, warmup=1), "--warmup"),
    ("weight decay", lambda c, t: replace(c, weight_decay=-0.1), "--weight-decay"),
    ("attention dropout", lambda c, t: replace(c, attention_dropout=1.0), "--attention-dropout"),
    ("dev fraction", lambda c, t: replace(c, dev_fraction=0.9), "--dev-fraction"),
    ("seed", lambda c, t: replace(c, seed=-1), "--seed"),
    ("float16 on a CPU", lambda c, t: replace(c, dtype="float16"), "float16"),
    ("out is a file", lambda c, t: replace(c, out=t / "rows.csv"), "is a file"),
    ("out is not empty", lambda c, t: replace(c, out=t), "not empty"),
    ("no labels", lambda c, t: replace(c, source=SourceConfig(str(t / "bare.csv"))), "--label-column"),
    ("one class", lambda c, t: replace(c, source=SourceConfig(str(t / "one.csv"))), "one class"),
    (
        "too many",
        lambda c, t: replace(c, source=SourceConfig(str(t / "many.csv"), label_column="label")),
        "not classes",
    ),
    ("label unknown", lambda c, t: replace(c, source=replace(c.source, labels=("x", "y"))), "x"),
    ("no train split", lambda c, t: replace(c, source=SourceConfig(str(t / "splits"))), "none called train"),
    (
        "diverges",
        lambda c, t: replace(c, learning_rate=0.99, epochs=0.5, dtype="float32", model=str(t / "nan")),
        "loss",
    ),
]


@pytest.mark.sampled(3)
@pytest.mark.slow
@pytest.mark.parametrize(("change", "says"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_a_one_line_error(
    change: Callable[[FinetuneConfig, Path], FinetuneConfig], says: str, encoder: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows.csv", ["glad", "sad"], 16)
    write_rows(tmp_path / "one.csv", ["glad"], 8)
    (tmp_path / "bare.csv").write_text("text\nthe film\nof it\n")
    (tmp_path / "many.csv").write_text("text,label\n" + "".join(f"film {n},{n}\n" for n in range(1100)))
    (tmp_path / "splits").mkdir()
    write_rows(tmp_path / "splits" / "dev.csv", ["glad", "sad"], 4)
    write_rows(tmp_path / "splits" / "test.csv", ["glad", "sad"], 4)
    (tmp_path / "nan").mkdir()
    for file in encoder.iterdir():
        (tmp_path / "nan" / file.name).write_bytes(file.read_bytes())
    broken = BertModel.from_pretrained(encoder)
    broken.embeddings.word_embeddings.weight.data[:] = float("nan")
    broken.save_pretrained(tmp_path / "nan")
    config = config_of(encoder, tmp_path / "rows.csv", tmp_path / "out" / "model")
    with pytest.raises(AttnstoreError, match=says) as caught:
        finetune(change(config, tmp_path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.slow
def test_nothing_is_printed(
    encoder: Path, two_classes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    finetune(config_of(encoder, two_classes, tmp_path / "model", epochs=0.2))
    assert capfd.readouterr() == ("", "")
