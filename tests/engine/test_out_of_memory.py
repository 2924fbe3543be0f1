"""A device that runs out of memory in the middle of a run: smaller batches, the same store."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import tiny
import torch
from click.testing import CliRunner

from attnstore.commands.group import attnstore
from attnstore.config import RunConfig, SourceConfig
from attnstore.engine import classifier as engine
from attnstore.engine.loading import BATCH_TOKENS
from attnstore.errors import UsageError
from attnstore.events import Computed, Noted
from attnstore.pipeline.run import run
from attnstore.store.store import open_store


@pytest.fixture
def config(tiny_model, reviews):
    return RunConfig(
        SourceConfig(str(reviews)), str(tiny_model), device="cpu", dtype="float32", max_length=40, part_size=20,
        full_precision=True,
    )  # fmt: skip


@pytest.fixture
def memory(monkeypatch):
    """Limit the tokens of a forward pass that the device has memory for; yields the tokens of every pass tried."""
    real = engine.Classifier._forward

    def limit(tokens):
        tried = []

        def forward(self, ids, tap, *types):
            if tap._reductions:  # not while the path through the model is determined
                tried.append(sum(len(i) for i in ids))
                if tried[-1] > tokens:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
            return real(self, ids, tap, *types)

        monkeypatch.setattr(engine.Classifier, "_forward", forward)
        return tried

    return limit


def stored(path):
    """The tokens table in order: what is exact, and the values."""
    tokens = pl.read_parquet(path / "tokens/**/*.parquet").sort("document", "position")
    return tokens.drop(pl.selectors.float()), tokens.select(pl.selectors.float()).to_numpy()


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved_and_the_store_stays_the_same(config, memory, tmp_path):
    """The same rows, values to 1e-6, and one note.

    The budget stays low, so that later batches are not tried in vain.
    """
    whole = run(config, tmp_path / "whole.attn")
    tried, notes, progress = memory(100), [], []
    result = run(
        config,
        tmp_path / "pieces.attn",
        on_event=lambda event: {Noted: notes, Computed: progress}.get(type(event), []).append(event),
    )
    assert (result.documents, result.tokens) == (whole.documents, whole.tokens)
    assert progress[-1].documents == 60
    rows, values = stored(tmp_path / "pieces.attn")
    true_rows, true_values = stored(tmp_path / "whole.attn")
    assert rows.equals(true_rows)
    assert np.abs(values - true_values).max() < 1e-6
    (note,) = [each.line for each in notes]
    before = f"{BATCH_TOKENS['cpu']:,}"
    assert note.startswith(f"cpu ran out of memory with batches of up to {before} tokens: continuing with ")
    assert "\n" not in note
    failed = [tokens for tokens in tried if tokens > 100]
    assert tried[: len(failed)] == failed, "a batch over the lowered budget was tried"
    assert 1 <= len(failed) <= 4
    (record,) = open_store(tmp_path / "pieces.attn").manifest.runs
    assert record["batch_tokens"] == failed[-1] // 2


@pytest.mark.slow
def test_padded_batches_are_halved_by_their_padded_size(config, memory, tmp_path):
    """In a family without packing, the budget counts padding, and so does its reduction."""
    tiny.save(tmp_path / "gte", "gte")
    config = replace(config, model=str(tmp_path / "gte"))
    run(config, tmp_path / "whole.attn")
    tried = memory(100)
    run(config, tmp_path / "pieces.attn")
    assert sum(tokens > 100 for tokens in tried) <= 4
    rows, values = stored(tmp_path / "pieces.attn")
    true_rows, true_values = stored(tmp_path / "whole.attn")
    assert rows.equals(true_rows)
    assert np.abs(values - true_values).max() < 1e-6


@pytest.mark.slow
def test_a_document_that_does_not_fit_alone_is_reported_in_one_line(config, memory, tmp_path):
    """Its id, its length, and what to do. A batch of one is not tried twice."""
    tried = memory(39)
    with pytest.raises(UsageError) as raised:
        run(config, tmp_path / "store.attn")
    assert str(raised.value) == (
        "document r7 of 40 tokens alone does not fit in the memory of cpu: cut documents with a smaller "
        "--max-length, or use --dtype bfloat16 or --device cpu"
    )
    assert tried.count(40) == 1


def test_a_model_that_does_not_fit_is_reported_in_one_line(config, monkeypatch, tmp_path):
    """While it is loaded and examined, there is no batch to halve."""

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(engine.Classifier, "_forward", full)
    with pytest.raises(
        UsageError, match="is too large for the free memory of cpu: free some, take --dtype"
    ) as e:
        run(config, tmp_path / "store.attn")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "store.attn").exists()


@pytest.mark.slow
def test_the_command_line_prints_the_note_once(config, memory, tmp_path):
    """On stderr, beside the progress bar, and not again for every later batch."""
    memory(60)
    done = CliRunner().invoke(
        attnstore,
        [
            *("run", str(tmp_path / "store.attn"), "--model", config.model, "--data", config.source.data),
            *("--device", "cpu", "--dtype", "float32", "--max-length", "40", "--part-size", "10"),
        ],
    )
    assert done.exit_code == 0, done.output
    assert done.stderr.count("note: cpu ran out of memory") == 1
