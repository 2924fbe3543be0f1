"""Promises of attnstore.pipeline.append: the result is that of one run over all data, or the append is refused."""

import csv
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import tiny
from nursery import Child
from polars.testing import assert_frame_equal

import attnstore
from attnstore.check.oracle import verify_sample
from attnstore.check.verify import verify_files
from attnstore.config import AppendConfig, RunConfig, SourceConfig
from attnstore.errors import AttnstoreError, ModelError, StoreError, UsageError
from attnstore.events import Computed, Started
from attnstore.pipeline.append import append
from attnstore.pipeline.run import run
from attnstore.reader import Reader
from attnstore.store.store import open_store

SIZES = (8, 4, 8, 4, 8, 8)  # of 40 reviews, in parts of 4


@pytest.fixture(scope="module")
def files(tmp_path_factory, reviews) -> list[Path]:
    """The first 40 reviews in six files; the last column is a year to keep."""
    folder = tmp_path_factory.mktemp("days")
    with reviews.open(newline="") as file:
        rows = [{**row, "year": str(1990 + n)} for n, row in enumerate(csv.DictReader(file))][: sum(SIZES)]
    paths, start = [], 0
    for day, size in enumerate(SIZES):
        paths.append(write(folder / f"day{day}.csv", rows[start : start + size]))
        start += size
    write(folder / "all.csv", rows)
    return paths


def write(path: Path, rows: list[dict]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows(*changes: dict, **common) -> list[dict]:
    base = {"id": "x0", "label": "pos", "group": "film0", "text": "a good film", "year": "2000"}
    return [base | common | change for change in changes]


def settings(data: Path, model: Path) -> RunConfig:
    return RunConfig(
        SourceConfig(str(data), keep=("year",)), str(model), device="cpu", dtype="float32", max_length=40,
        reductions=("cls", "rollout", "evidence"), part_size=4, full_precision=True,
    )  # fmt: skip


def tables(path) -> dict[str, pl.DataFrame]:
    reader = Reader(path)
    found = {
        "documents": reader.documents().sort("document"),
        "tokens": reader.tokens().sort("document", "position"),
        "totals": reader.totals(),
    }
    return {k: v.with_columns(pl.col(pl.Categorical).cast(pl.String)).collect() for k, v in found.items()}


@pytest.fixture(scope="module")
def whole(files, tiny_model, tmp_path_factory) -> dict[str, pl.DataFrame]:
    """One run over all reviews."""
    path = tmp_path_factory.mktemp("whole") / "store.attn"
    run(settings(files[0].with_name("all.csv"), tiny_model), path)
    return tables(path)


@pytest.fixture(scope="module")
def begun(files, tiny_model, tmp_path_factory) -> Path:
    """A run over the first day's file."""
    path = tmp_path_factory.mktemp("begun") / "store.attn"
    run(settings(files[0], tiny_model), path)
    return path


@pytest.fixture
def store(begun, tmp_path) -> Path:
    import shutil

    return Path(shutil.copytree(begun, tmp_path / "store.attn"))


def more(data: Path, **changes) -> AppendConfig:
    return replace(AppendConfig(SourceConfig(str(data)), device="cpu"), **changes)


@pytest.mark.slow
def test_five_appends_equal_one_run(store, files, whole):
    """All tables, value by value. Every state in between is sound, also by the oracle."""
    for data in files[1:]:
        result = append(more(data), store)
        assert (result.missing, result.present, result.skipped) == (0, False, 0)
    found = tables(store)
    assert_frame_equal(found["documents"], whole["documents"], check_exact=True)
    assert_frame_equal(found["tokens"], whole["tokens"], check_exact=True)
    assert_frame_equal(found["totals"], whole["totals"], rel_tol=1e-6)
    assert all(finding.ok for finding in verify_files(open_store(store)))
    assert all(finding.ok for finding in verify_sample(open_store(store), sample=5))
    assert [a.documents for a in open_store(store).manifest.additions] == list(SIZES[1:])


def refused(kind: type[AttnstoreError], config: AppendConfig, store: Path) -> str:
    before = {p: p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file()}
    with pytest.raises(kind) as raised:
        append(config, store)
    assert {p: p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file()} == before
    return str(raised.value)


@pytest.mark.slow
def test_documents_already_in_the_store_are_refused_skipped_or_kept(store, files, tmp_path):
    """A known id may belong to the same document or to another one. Only identical documents are ever left out."""
    with files[0].open(newline="") as file:
        there = list(csv.DictReader(file))[:2]
    data = write(tmp_path / "new.csv", [*there, *rows({"id": "n1"}, {"id": "n1"}, {"id": "n2"})])
    assert refused(UsageError, more(data), store) == (
        f"{data}: the store has the ids of 2 of 5 documents (r0, r1; the same documents): --on-duplicate skip leaves"
        " out what is the same there, keep appends all; --id-column names other keys"
    )
    other = write(
        tmp_path / "other.csv",
        [there[0] | {"text": "bad"}, there[1] | {"group": "another"}, *rows({"id": "n1"})],
    )
    assert refused(UsageError, more(other), store).startswith(
        f"{other}: the store has the ids of 2 of 3 documents (r0, r1; 2 with another text, label or group)"
    )
    assert refused(UsageError, more(other, on_duplicate="skip"), store).startswith(
        f"{other}: 2 ids would be that of another document, too ('r0' with another text, 'r1' with another label or"
    )
    result = append(more(data, on_duplicate="skip"), store)
    assert (result.skipped, result.documents) == (3, 2)
    documents = tables(store)["documents"]
    assert documents["id"].to_list() == [*(f"r{n}" for n in range(8)), "n1", "n2"]
    again = append(more(data, on_duplicate="skip"), store)
    assert (again.present, again.parts) == (True, 0)
    all_there = write(tmp_path / "there.csv", there)
    assert append(more(all_there, on_duplicate="skip"), store).skipped == 2
    assert append(more(all_there, on_duplicate="keep"), store).documents == 2
    assert tables(store)["documents"]["id"].to_list()[-2:] == ["r0", "r1"]


@pytest.mark.slow
def test_an_interrupted_append_resumes_and_readers_see_the_old_state(store, files, whole):
    """Ctrl-C lets the current part finish. The same call completes the append, and then recognises that data."""
    data = files[2]
    append(more(files[1]), store)
    before = tables(store)
    events = []

    def interrupt(event):
        first = not any(isinstance(e, Computed) for e in events)
        events.append(event)
        if isinstance(event, Computed) and first:  # a second signal would end pytest
            os.kill(os.getpid(), signal.SIGINT)

    result = append(more(data), store, on_event=interrupt)
    assert (result.interrupted, result.parts, result.missing) == (True, 2, 1)
    assert Started(8, ()) in [replace(e, notes=()) for e in events if isinstance(e, Started)]
    for name, frame in tables(store).items():
        assert_frame_equal(frame, before[name], check_exact=True)
    assert "appending:" in repr(attnstore.open(store))
    assert "the same command resumes it" in refused(StoreError, more(files[3]), store)
    result = append(more(data), store)
    assert (result.documents, result.missing) == (4, 0)
    assert_frame_equal(
        tables(store)["tokens"], whole["tokens"].filter(pl.col("document") < 20), check_exact=True
    )
    assert append(more(data), store).present


@pytest.mark.slow
def test_an_append_that_does_not_match_the_store_is_refused(store, files, tmp_path):
    """Another model, another rule for words, labels that differ from the store's, and values of another type."""
    data = files[1]
    other = tiny.save(tmp_path / "other-model", seed=1)
    assert refused(ModelError, more(data, model=str(other)), store) == (
        f"{other} is not the store's model, its weights differ: give that model with --model"
    )
    assert refused(ModelError, more(data, model="./nowhere"), store) == "there is no model folder ./nowhere"
    labels = write(tmp_path / "labels.csv", rows({"id": "n1", "label": "good"}, {"id": "n2", "label": "bad"}))
    assert refused(UsageError, more(labels), store) == (
        "the new data's labels (bad, good) are not the store's classes (neg, pos): --labels LABEL=CLASS,… maps them,"
        " LABEL= leaves rows out"
    )
    year = write(tmp_path / "year.csv", rows({"id": "n1", "year": "soon"}, {"id": "n2"}))
    assert refused(UsageError, more(year), store) == (
        "--keep-column year: 'n1' has 'soon' there, which is no integer, as the column is in the store"
    )
    without = write(tmp_path / "without.csv", [{"id": "n1", "text": "a film"}, {"id": "n2", "text": "b"}])
    assert "has no column 'year'" in refused(UsageError, more(without), store)


@pytest.mark.slow
def test_only_the_models_place_may_be_given(store, files, tiny_model, tmp_path):
    """`--model` says where the model is.

    Notes about the new data are printed and kept, from Python as from the command.
    """
    import shutil

    moved = Path(shutil.copytree(tiny_model, tmp_path / "moved"))
    notes = []
    result = append(
        more(write(tmp_path / "n.csv", rows({"id": "n"}, {"id": "n"})), model=str(moved)),
        store,
        on_event=lambda event: notes.extend(event.notes) if isinstance(event, Started) else None,
    )
    assert "ids repeat: 'n' is the id of more than one document" in notes
    assert tuple(notes) == result.store.manifest.additions[0].notes
    reader = attnstore.append(store, [{"id": "m", "text": "good", "label": "neg", "group": None, "year": None}],
                              device="cpu")  # fmt: skip
    assert reader.documents().sort("document").collect()["id"].to_list()[8:] == ["n", "n", "m"]
    assert reader.documents().sort("document").collect()["year"].to_list()[8:] == [2000, 2000, None]
    assert [f for f in verify_files(reader.store) if not f.ok] == []


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_workers_append_the_bytes_of_one_process(begun, files, tmp_path):
    """Tables and totals, to the byte."""
    import shutil

    found = []
    for workers in (1, 2):
        path = Path(shutil.copytree(begun, tmp_path / f"{workers}.attn"))
        assert append(more(files[4], workers=workers, threads=1), path).documents == 8
        assert [run["workers"] for run in open_store(path).manifest.runs] == [1, workers]
        found.append({p.relative_to(path): p.read_bytes() for p in sorted(path.rglob("*.parquet"))})
    assert found[0] == found[1]


#: The command with a pause in every batch, so that kills hit every stage of it.
SLOWED = """
import sys, time
import torch
torch.set_num_threads(1)
from attnstore.engine import classifier
from attnstore.store import stage
forward, move = classifier.Classifier.__call__, stage.move
def slowed(self, batch):
    time.sleep(0.02)
    return forward(self, batch)
def slowly(*given):
    time.sleep(0.02)
    return move(*given)
classifier.Classifier.__call__, stage.move = slowed, slowly
from attnstore.commands import main
main(sys.argv[1:])
"""


def wait_until(condition, seconds=100):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@pytest.mark.exhaustive
def test_five_appends_killed_at_random_moments_equal_one_run(store, files, whole):
    """SIGKILL again and again, from the first import to the last rename.

    Every state that is read is one of the six complete ones, and the result is that of one run. ATTNSTORE_SEED sets
    other moments.
    """
    chance = random.Random(int(os.environ.get("ATTNSTORE_SEED", "0")))
    started = kills = 0
    for day, data in enumerate(files[1:], start=1):
        size = sum(SIZES[: day + 1])
        command = ["append", str(store), "--data", str(data), "--device", "cpu", "--quiet"]
        while open_store(store).manifest.documents < size:
            with Child(SLOWED, *command) as child:
                wait_until(lambda child=child: (store / "_append").exists() or child.poll() is not None, 900)
                started += 1
                if started % 4 == 0:  # every fourth may finish
                    child.wait()
                time.sleep(chance.uniform(0, 1.2))
                child.kill()
                kills += child.wait() == -signal.SIGKILL
            state = tables(store)
            assert state["documents"].height in (sum(SIZES[:day]), size)
            expected = whole["tokens"].filter(pl.col("document") < state["documents"].height)
            assert_frame_equal(state["tokens"], expected, check_exact=True)
            assert state["totals"]["occurrences"].sum() == expected.height
    print(f"{kills} kills")
    assert kills >= 10
    found = tables(store)
    for name in ("documents", "tokens"):
        assert_frame_equal(found[name], whole[name], check_exact=True)
    assert_frame_equal(found["totals"], whole["totals"], rel_tol=1e-6)
    assert all(finding.ok for finding in verify_files(open_store(store)))
