"""`attnstore append`: its output, and how it ends."""

import re
import shutil
import signal
from pathlib import Path

import polars as pl
import pytest
from command_line import attnstore

from attnstore.commands import append as command
from attnstore.pipeline import append as pipeline
from attnstore.pipeline import hands
from attnstore.pipeline.alone import Alone
from attnstore.pipeline.append import AppendResult
from attnstore.pipeline.processes import Processes
from attnstore.store.store import open_store

NEW = "id,label,group,text\nn0,pos,film0,a good film\nn1,neg,film1,the film was bad\nn2,pos,film0,\n"


@pytest.fixture
def store(small_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_store, tmp_path / "small.attn"))


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """Reviews that are not in the store."""
    (tmp_path / "new.csv").write_text(NEW)
    return tmp_path / "new.csv"


@pytest.mark.slow
def test_documents_are_appended_once_and_the_summary_counts_them(store, new):
    """On stdout. The same data again, or the same documents under another name, are reported as already there."""
    code, out, err = attnstore("append", store, "--data", new, "--device", "cpu")
    assert code == 0, err
    tokens = pl.read_parquet(store / "tokens", hive_partitioning=True).filter(pl.col("document") >= 60)
    lines = out.splitlines()
    assert re.fullmatch(
        rf"3 documents appended, {len(tokens)} tokens in [\d.]+ s \([\d,]+ tokens/s\); {re.escape(str(store))} is"
        " sealed with 63 documents",
        lines[0],
    )
    assert lines[1:] == ["next:", f"  attnstore info {store}"]
    assert sorted(tokens["document"].unique()) == [60, 61, 62]
    assert "documents" in err  # the progress bar
    code, out, err = attnstore("append", store, "--data", new, "--device", "cpu", "--quiet")
    assert (code, out) == (0, f"{store} already has this data: nothing was appended to its 63 documents\n")
    new.write_text(NEW.replace("n2,pos,film0,\n", ""))
    options = ("--on-duplicate", "skip", "--device", "cpu", "--quiet")
    code, out, err = attnstore("append", store, "--data", new, *options)
    assert (code, out) == (
        0,
        f"{store} already has all of these documents: nothing was appended to its 63 documents\n",
    )
    code, out, err = attnstore("append", store, "--data", new, "--device", "cpu", "--quiet")
    assert (code, out, err) == (
        2,
        "",
        f"attnstore: {new}: the store has the ids of 2 of 2 documents (n1, n0; the same documents): --on-duplicate"
        " skip leaves out what is the same there, keep appends all; --id-column names other keys\n",
    )


def test_without_data_it_says_what_to_type(store):
    """In one line, with exit code 2."""
    assert attnstore("append", store) == (
        2,
        "",
        "attnstore: name the data to append: attnstore append STORE --data SOURCE\n",
    )


def test_a_missing_store_is_one_line(new, tmp_path):
    """Nothing is created in its place."""
    there = tmp_path / "nowhere"
    found = attnstore("append", there, "--data", new)
    assert found == (1, "", f"attnstore: {there} does not exist: give the directory that a run wrote\n")
    assert not there.exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (0, 130)])
def test_a_stopped_append_ends_with_the_signals_code(store, new, monkeypatch, number, code):
    """It says what is missing, what readers see, and how to resume."""
    result = AppendResult(open_store(store), 1, 5, 1.0, 0, 4, 3, signal=number)
    monkeypatch.setattr(pipeline, "append", lambda config, place, on_event: result)
    assert attnstore("append", store, "--data", new, "--quiet") == (
        code,
        "",
        "attnstore: stopped; 3 of 4 new parts are missing, and readers see the store as it was: the same command"
        " resumes\n",
    )


def test_options_reach_the_configuration(store, new, monkeypatch):
    """Columns, labels and duplicates; processes; device."""
    seen = []

    def append(config, place, on_event):
        seen.append(config)
        return AppendResult(open_store(store), 0, 0, 0.0, 0, 0, 0, present=True)

    monkeypatch.setattr(pipeline, "append", append)
    monkeypatch.setattr(command.compiler, "start", seen.append)
    options = "--text-column text --labels 1=neg,2=pos --limit 2 --on-duplicate keep --workers 3 --worker-timeout 60"
    more = "--threads 2 --device cpu --batch-tokens 99 --model elsewhere --quiet"
    code, _, err = attnstore("append", store, "--data", new, *options.split(), *more.split())
    assert code == 0, err
    device, config = seen
    assert (device, config.device, config.model, config.batch_tokens) == ("cpu", "cpu", "elsewhere", 99)
    assert (config.workers, config.worker_timeout, config.threads) == (3, 60, 2)
    assert (config.source.data, config.source.text_column, config.source.limit) == (str(new), "text", 2)
    assert (config.source.labels, config.on_duplicate) == (("1=neg", "2=pos"), "keep")


@pytest.mark.slow
def test_several_workers_have_the_stores_settings_and_its_threads(store, new, monkeypatch):
    """Whichever worker computes them, new parts have the run's dtype, reductions and length."""
    hired = []

    def workers(config, threads, host):
        assert isinstance(host, Processes)
        hired.append((config.workers, config.worker_timeout, threads, config.dtype, config.max_length))
        return Alone(config, pipeline.read_model_files(config), threads)

    monkeypatch.setattr(hands, "Workers", workers)
    options = ("--workers", "2", "--worker-timeout", "60", "--threads", "1", "--device", "cpu", "--quiet")
    assert attnstore("append", store, "--data", new, *options)[0] == 0
    assert hired == [(2, 60, 1, "float32", 40)]
    assert open_store(store).manifest.documents == 63
