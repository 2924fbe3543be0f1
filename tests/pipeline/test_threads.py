"""Promises about --threads: a store keeps the number of threads it was begun with if possible; otherwise a note says
so.
"""

import os
import signal
from dataclasses import replace

import pytest
import torch
from small_store import manifest, tables

from attnstore.config import RunConfig, SourceConfig
from attnstore.engine.devices import on_threads, threads_each
from attnstore.events import Computed, Noted
from attnstore.pipeline.run import run
from attnstore.store.resume import create_or_resume, threads_begun_with
from attnstore.store.store import open_store


@pytest.mark.parametrize(
    ("workers", "begun", "expected"),
    [
        (1, None, 16),  # all
        (4, None, 4),  # divided
        (32, None, 1),
        (1, 4, 4),  # the store's number
        (4, 4, 4),
        (8, 4, 2),  # fewer than the store's number
        (1, 64, 16),
    ],
)
def test_the_number_of_threads_of_a_process(workers, begun, expected, monkeypatch):
    """Of 16 cores: all, divided among the workers, or the number that the store was begun with."""
    monkeypatch.setattr("attnstore.engine.devices.usable_threads", lambda: 16)
    assert threads_each(workers, begun) == expected


def test_a_stores_number_of_threads_is_known_once_a_part_is_finished(tmp_path):
    """Before that, any run begins anew. A folder that is no store, or is damaged, has no number."""
    path = tmp_path / "store"
    assert threads_begun_with(path) is None
    plan = manifest(threads=7)
    with create_or_resume(path, plan) as store:
        assert threads_begun_with(path) is None
        store.write_part(0, *tables(plan, store.part_range(0)))
    assert threads_begun_with(path) == 7
    path.joinpath("manifest.json").write_text("{")
    assert threads_begun_with(path) is None


def test_torchs_number_of_threads_is_restored():
    """For programs that call `attnstore.run` and compute with torch themselves."""
    before = torch.get_num_threads()
    with on_threads(before + 2):
        assert torch.get_num_threads() == before + 2
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_a_run_resumed_with_other_threads_says_so_once(tiny_model, reviews, tmp_path):
    """The manifest keeps the original number, which a run without the option uses."""
    config = RunConfig(
        SourceConfig(str(reviews)), str(tiny_model), device="cpu", dtype="float32", max_length=40, part_size=10,
        reductions=("cls",), threads=2,
    )  # fmt: skip
    path, notes = tmp_path / "store.attn", []

    def stop(event):
        if isinstance(event, Computed) and not path.joinpath("_parts").exists():
            os.kill(os.getpid(), signal.SIGINT)

    assert run(config, path, on_event=stop).interrupted
    result = run(
        replace(config, threads=1),
        path,
        on_event=lambda event: notes.append(event.line) if isinstance(event, Noted) else None,
    )
    assert notes == [
        "the store was begun on 2 threads per process and continues with 1: the last bits of its values may differ"
        " from those of a single run (--threads 2 keeps them)"
    ]
    sealed = open_store(path).manifest
    assert (result.interrupted, sealed.threads, [entry["threads"] for entry in sealed.runs]) == (
        False,
        2,
        [2, 1],
    )
