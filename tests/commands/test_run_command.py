"""`attnstore run` and `finetune`: their output, and how they end."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
import tiny
import torch
import transformers
from command_line import attnstore, run
from nursery import Child

from attnstore import open as open_reader

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_run_ends_with_a_summary_and_the_next_commands(tiny_model, reviews, tmp_path):
    """Documents, tokens, accuracy, the top words of each class and what to type next, on stdout."""
    store = tmp_path / "s.attn"
    code, out, err = run(store, reviews, tiny_model, "--max-length", "40", "--part-size", "20")
    assert code == 0
    tokens = pl.read_parquet(store / "tokens", hive_partitioning=True)
    documents = pl.read_parquet(store / "documents", hive_partitioning=True)
    correct = (documents["label"] == documents["prediction"]).sum()
    lines = out.splitlines()
    assert re.fullmatch(
        rf"60 documents, {len(tokens):,} tokens in [\d.]+ s \([\d,]+ tokens/s\); {store} is sealed with 60 documents",
        lines[0],
    )
    assert lines[1] == f"{documents['truncated'].sum()} documents were cut at 40 tokens"
    assert lines[2] == f"accuracy {correct / 60:.5f} ({correct} of 60)"
    start = lines.index("words for a prediction and against it (mean evidence, by predicted class):") + 1
    signed = open_reader(store).query.for_and_against(intervals=False, limit=8, engine="polars")
    said = {}
    for row in signed.to_pylist():
        said.setdefault(f"  {row['side']} {row['class']}: ", []).append(row["word"])
    assert len(said) >= 2
    assert lines[start : start + len(said)] == [side + ", ".join(words) for side, words in said.items()]
    assert lines[start + len(said) :] == [
        "next:",
        f"  attnstore query {store} top_words_by_class",
        f"  attnstore query {store} for_and_against",
        f"  attnstore show {store} 0",
        f"  attnstore browse {store}",
        f"  attnstore report {store}",
        f"  attnstore info {store}",
        "  attnstore queries",
    ]
    assert "note: the text column is" not in out  # notes go to stderr
    assert "documents" in err  # the progress bar


@pytest.mark.slow
def test_labels_of_a_nameless_model_are_proposed_and_the_proposal_runs(tmp_path):
    """No guessed accuracy: predictions by label, and the --labels with which the most agree, which can be copied."""
    model = tiny.save(tmp_path / "model", id2label={0: "LABEL_0", 1: "LABEL_1"}, label2id=None)
    data = tmp_path / "r.csv"
    words = ["good film", "bad plot", "great actor", "awful", "never boring", "fun", "the end", "lov it"]
    rows = "".join(
        f"{text},{'ham' if number % 3 else 'spam, or so'!r}\n" for number, text in enumerate(words)
    )
    data.write_text("text,label\n" + rows.replace("'", '"'))
    code, out, err = run(tmp_path / "s.attn", data, model)
    assert code == 0, err
    documents = pl.read_parquet(tmp_path / "s.attn/documents", hive_partitioning=True)
    counts = Counter(
        zip(documents["label"].cast(pl.String), documents["prediction"].cast(pl.String), strict=True)
    )
    best = max(counts["ham", "LABEL_0"] + counts["spam, or so", "LABEL_1"],
               counts["ham", "LABEL_1"] + counts["spam, or so", "LABEL_0"])  # fmt: skip
    assert "accuracy" not in out.replace("no accuracy is reported", "")
    assert "  label        LABEL_0  LABEL_1\n" in out
    assert f"  ham          {counts['ham', 'LABEL_0']:>7}  {counts['ham', 'LABEL_1']:>7}\n" in out
    proposal = re.search(r"a suggestion to check: (--labels .*) \((\d) of 8 predictions agree", out)
    assert int(proposal[2]) == best
    code, out, _ = run(tmp_path / "t.attn", data, model, *shlex.split(proposal[1]))
    assert code == 0
    assert f"accuracy {best / 8:.5f} ({best} of 8)\n" in out


@pytest.mark.slow
def test_rows_left_out_are_reported_by_label_in_summary_and_info(tiny_model, tmp_path):
    """A label that --labels does not map, and one that it maps to nothing, each with its number of rows."""
    data = tmp_path / "r.csv"
    data.write_text("text,label\n" + "good,3 star\nbad,1 star\n" * 2 + "so so,2 star\n" * 3 + "fun,none\n")
    code, out, _ = run(tmp_path / "s.attn", data, tiny_model, "--labels", "1 star=neg,3 star=pos,none=")
    assert code == 0
    assert "left out: unknown label '2 star': 3 rows\nleft out: by --labels, label 'none': 1 row\n" in out
    _, out, _ = attnstore("info", tmp_path / "s.attn")
    assert re.search(r"^left out: +unknown label '2 star': 3 rows$", out, re.MULTILINE)


@pytest.mark.slow
def test_another_mapping_is_another_run(tiny_model, reviews, tmp_path):
    """A run that would store other labels for the same rows does not resume a store."""
    assert run(tmp_path / "s.attn", reviews, tiny_model, "--max-length", "40")[0] == 0
    code, _, err = run(
        tmp_path / "s.attn", reviews, tiny_model, "--max-length", "40", "--labels", "neg=pos,pos=neg"
    )
    assert code == 1
    assert "label_map" in err.splitlines()[-1]


@pytest.mark.slow
def test_the_next_commands_can_be_copied(tiny_model, tmp_path):
    """A store name with a blank is quoted. For one document, the line says `1 document`."""
    data = tmp_path / "one.csv"
    data.write_text(f"text,label\n{'good ' * 50},pos\n")
    code, out, _ = run(tmp_path / "my store", data, tiny_model, "--max-length", "40")
    assert code == 0
    assert f"  attnstore show '{tmp_path / 'my store'}' 0\n" in out
    assert out.startswith("1 document, 40 tokens in ")
    assert out.splitlines()[0].endswith("is sealed with 1 document")
    assert out.splitlines()[1] == "1 document was cut at 40 tokens"


@pytest.mark.slow
def test_run_again_on_a_finished_store_says_so(tiny_model, reviews, tmp_path):
    """Nothing is computed again, and the summary says why it was so quick."""
    store = tmp_path / "s.attn"
    run(store, reviews, tiny_model, "--max-length", "40")
    code, out, _ = run(store, reviews, tiny_model, "--max-length", "40")
    assert (code, out.splitlines()[0]) == (0, f"{store} was already finished: 60 documents")


@pytest.mark.slow
def test_reductions_may_be_listed_or_repeated(tiny_model, reviews, tmp_path):
    """`--reduce a,b --reduce c` stores all three."""
    code, _, _ = run(
        tmp_path / "s.attn",
        reviews,
        tiny_model,
        "--limit",
        "4",
        "--reduce",
        "rollout,from_2",
        "--reduce",
        "cls",
    )
    assert code == 0
    columns = pl.scan_parquet(tmp_path / "s.attn" / "tokens").collect_schema().names()
    stored = [name for name in columns if re.match("rollout|from_|cls|received", name)]
    assert stored == ["rollout", *(f"from_2_0{i}" for i in (1, 2, 3)), *(f"cls_0{i}" for i in (1, 2, 3))]


@pytest.mark.slow
def test_an_interrupt_says_how_to_resume_and_exits_130(tiny_model, reviews, tmp_path):
    """SIGINT in a real process: the current part is finished, and stderr says what is missing."""
    import signal

    slowed = (
        "import time; from attnstore import commands; from attnstore.engine import classifier\n"
        "call = classifier.Classifier.__call__\n"
        "def slow(self, batch):\n    print('batch', flush=True); time.sleep(0.3); return call(self, batch)\n"
        "classifier.Classifier.__call__ = slow; commands.main()"
    )
    command = ("run", tmp_path / "s.attn", "--data", reviews, "--model", tiny_model, "--part-size", "10")
    with Child(slowed, *command, "--max-length", "40", "--device", "cpu") as child:
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, err = child.communicate()
    assert child.returncode == 130
    assert re.search(
        r"attnstore: stopped; [1-5] of 6 parts are missing: the same command resumes$", err.strip()
    )
    code, out, _ = attnstore("info", tmp_path / "s.attn")
    assert code == 0
    assert re.search(r"^state: +unsealed: [1-5] of 6 parts", out, re.MULTILINE)


@pytest.mark.slow
def test_six_classes_go_through_finetune_run_and_query_without_a_special_case(tmp_path):
    """Names with spaces, a slash and an accent are learnt, stored, and asked for, and each word is found in its own
    class.
    """
    torch.manual_seed(0)
    encoder = transformers.AutoModel.from_config(tiny.settings("bert", initializer_range=0.1))
    encoder.save_pretrained(tmp_path / "encoder")
    tiny.tokenizer().save_pretrained(tmp_path / "encoder")
    telling = {
        "glad": "great",
        "sad": "awful",
        "Odd / strange": "boring",
        "calm": "good",
        "angry": "bad",
        "été": "fun",
    }
    rows = ["text,label"]
    for number in range(240):
        label, word = list(telling.items())[number % 6]
        rows.append(f'the film {"was " * (number % 5)}{word} plot,"{label}"')
    data = tmp_path / "six.csv"
    data.write_text("\n".join(rows) + "\n")
    code, out, err = attnstore(
        *(
            "finetune",
            tmp_path / "model",
            "--model",
            tmp_path / "encoder",
            "--data",
            data,
            "--epochs",
            "8",
            "--device",
            "cpu",
        ),
        *("--learning-rate", "3e-3", "--max-length", "32", "--dtype", "float32"),
    )
    assert code == 0, err
    assert "6 classes (Odd / strange, angry, calm, glad, sad, été)" in out
    code, out, err = run(tmp_path / "six.attn", data, tmp_path / "model", "--max-length", "32")
    assert code == 0, err
    assert "accuracy 1.00000 (240 of 240)" in out
    code, out, _ = attnstore(
        *(
            "query",
            tmp_path / "six.attn",
            "top_tokens_by_class",
            "-p",
            "by=label",
            "-p",
            "limit=50",
            "--format",
            "json",
        ),
    )
    assert code == 0
    found = {(row["class"], row["token"]): row["occurrences"] for row in json.loads(out)}
    assert {key: n for key, n in found.items() if key[1] in telling.values()} == dict.fromkeys(
        telling.items(), 40
    )


@pytest.mark.parametrize(("test_documents", "unseen"), [(7, "'my data' --split test"), (0, "NEW")])
def test_finetune_proposes_data_that_the_model_was_not_trained_on(
    monkeypatch, tmp_path, test_documents, unseen
):
    """The test split of the same source if it has one, otherwise data that the user has to name."""
    from attnstore.learn import finetune
    from attnstore.learn.config import FinetuneResult

    result = FinetuneResult(
        out=tmp_path / "a model",
        labels=("neg", "pos"),
        train_documents=95,
        dev_documents=5,
        test_documents=test_documents,
        dev_accuracies=(0.8,),
        chosen_step=12,
        steps=12,
        dev_accuracy=0.8,
        test_accuracy=0.75 if test_documents else None,
        seconds=3.0,
        max_length=40,
        dtype="float32",
        device="cpu",
    )
    monkeypatch.setattr(finetune, "finetune", lambda *_, **__: result)
    code, out, _ = attnstore("finetune", tmp_path / "a model", "--data", "my data")
    assert (code, out.splitlines()[-1]) == (
        0,
        f"next: attnstore run STORE --model '{tmp_path}/a model' --data {unseen}",
    )


def test_a_source_given_twice_is_refused(tiny_model, reviews, tmp_path):
    """One of the two would be ignored without a message."""
    code, out, err = run(tmp_path / "s.attn", reviews, tiny_model, "--data", reviews)
    assert (code, out) == (2, "")
    assert err == "attnstore: --data is given 2 times: name one folder, or several files with a quoted glob\n"
    assert not (tmp_path / "s.attn").exists()


@pytest.mark.slow
def test_progress_in_a_log_is_lines_and_quiet_keeps_only_notes(tiny_model, reviews, tmp_path, monkeypatch):
    """A redirected stderr gets no carriage returns. With --quiet it gets only notes, and the summary is the same."""
    from attnstore.commands import progress

    monkeypatch.setattr(progress, "_LINE_EVERY", 0.0)
    said, summaries = {}, {}
    for name, more in (("loud", ()), ("quiet", ("--quiet",))):
        code, out, err = run(tmp_path / f"{name}.attn", reviews, tiny_model, "--max-length", "40", *more)
        assert code == 0
        assert "\r" not in out + err
        said[name] = err.splitlines()
        summaries[name] = re.sub(r" in .* tokens/s\)", "", out.replace(name, ""))
    assert summaries["loud"] == summaries["quiet"]
    shown = [line for line in said["loud"] if not line.startswith("note: ")]
    assert re.fullmatch(r"60 of 60 documents, [\d,]+ tokens/s", shown[-1])
    assert said["quiet"] == [line for line in said["loud"] if line.startswith("note: ")] != []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 kB: enough for one or two parts."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small tmpfs can't be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_keeps_the_finished_parts(small_disk, tiny_model, tmp_path):
    """The store is on a disk that fills up: finished parts stay readable, and a run elsewhere completes."""
    from reviews import write_reviews

    data = write_reviews(tmp_path / "many.csv", 900)
    code, _, err = run(small_disk / "s.attn", data, tiny_model, "--part-size", "50", "--max-length", "40")
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("attnstore: ")
    assert "space" in last.lower()
    assert "Traceback" not in err
    code, out, _ = attnstore("info", small_disk / "s.attn")
    assert code == 0
    assert int(re.search(r"unsealed: (\d+) of 18 parts", out)[1]) >= 1


@pytest.mark.slow
def test_a_second_writer_is_refused_by_process_and_host(tiny_model, reviews, tmp_path):
    """While one process writes a store, the error of another names the writer."""
    from attnstore.store.resume import create_or_resume
    from attnstore.store.store import open_store

    run(tmp_path / "s.attn", reviews, tiny_model, "--max-length", "40")
    manifest = open_store(tmp_path / "s.attn").manifest
    shutil.rmtree(tmp_path / "s.attn")
    with create_or_resume(tmp_path / "s.attn", manifest):
        code, _, err = run(tmp_path / "s.attn", reviews, tiny_model, "--max-length", "40")
    assert code == 1
    assert str(os.getpid()) in err
    assert socket.gethostname() in err
