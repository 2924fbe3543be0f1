"""The whole pipeline: a finished store, and runs that are resumed, interrupted, killed and refused."""

import csv
import os
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import tiny
from nursery import Child
from reviews import write_reviews

from attnstore.check.oracle import Oracle, compare, reduced_by_definition, verify_sample
from attnstore.check.verify import verify_files
from attnstore.config import RunConfig, SourceConfig
from attnstore.engine.devices import choose_device, fast_bfloat16
from attnstore.engine.segmenter import Segmenter
from attnstore.errors import AttnstoreError, DataError, StoreError, UsageError
from attnstore.events import Computed, Noted
from attnstore.pipeline.run import run
from attnstore.store.store import open_store


@pytest.fixture(scope="module")
def config(tiny_model, reviews):
    return RunConfig(
        SourceConfig(str(reviews)), str(tiny_model), device="cpu", dtype="float32", max_length=40, part_size=8
    )


def content(store):
    """Every file of the two tables by its path, to be compared to the byte."""
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(Path(store).rglob("*.parquet"))}


@pytest.fixture(scope="module")
def finished_once(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "store.attn"
    run(config, path)
    return path


@pytest.fixture(scope="module")
def undisturbed(finished_once):
    return content(finished_once)


@pytest.fixture
def finished(finished_once, tmp_path):
    """A finished store that a test may change."""
    return Path(shutil.copytree(finished_once, tmp_path / "store.attn"))


def test_the_finished_store_holds_every_document_once_in_order(small_store, reviews):
    """Ids, texts, labels and groups are those of the file, line by line. The store is sealed and sound."""
    store = open_store(small_store)
    with reviews.open(newline="") as file:
        rows = list(csv.DictReader(file))
    documents = pl.read_parquet(small_store / "documents", hive_partitioning=True).sort("document").to_dicts()
    assert [(d["id"], d["group"], d["text"], d["label"]) for d in documents] == [
        (r["id"], r["group"], r["text"], r["label"]) for r in rows
    ]
    assert [d["document"] for d in documents] == list(range(60))
    assert store.sealed
    assert all(finding.ok for finding in verify_files(store))


@pytest.mark.slow
def test_every_stored_value_agrees_with_the_oracle(small_store, tiny_model):
    """All reductions of all documents to 1e-6, evidence to 2e-5 of its largest value."""
    found = compare(open_store(small_store), Oracle(str(tiny_model)), range(60))
    assert list(found) == ["logits", "cls", "received", "rollout", "cls_heads", "evidence"]
    assert found.pop("evidence").absolute < 2e-5
    assert {name: deviation.absolute < 1e-6 for name, deviation in found.items() if name != "logits"} == {
        "cls": True, "received": True, "rollout": True, "cls_heads": True,
    }  # fmt: skip
    assert found["logits"].absolute < 1e-5


@pytest.mark.slow
def test_the_same_run_twice_writes_the_same_bytes(config, undisturbed, tmp_path):
    """The tables do not depend on the time, on other load, or on which thread was first."""
    run(config, tmp_path / "again.attn")
    assert content(tmp_path / "again.attn") == undisturbed


@pytest.mark.slow
def test_the_same_run_in_half_precision_twice_writes_the_same_bytes(config, tmp_path):
    """bfloat16 rounds more, but in the same way each time."""
    half = replace(config, dtype="bfloat16", reductions=("cls", "received", "rollout", "cls_heads"))
    for name in ("one", "other"):
        run(half, tmp_path / f"{name}.attn")
    assert content(tmp_path / "one.attn") == content(tmp_path / "other.attn")


@pytest.mark.slow
def test_the_token_budget_changes_no_row(config, undisturbed, tmp_path):
    """Batches of 50 tokens and of 8,192 give the same rows, and values within the stored precision."""
    run(replace(config, batch_tokens=50, full_precision=True), tmp_path / "small.attn")
    run(replace(config, full_precision=True), tmp_path / "large.attn")
    small, large = (pl.read_parquet(tmp_path / f"{n}.attn/tokens/**/*.parquet") for n in ("small", "large"))
    order = ["document", "position"]
    values = pl.selectors.float()
    assert small.sort(order).drop(values).equals(large.sort(order).drop(values))
    difference = np.abs(
        small.sort(order).select(values).to_numpy() - large.sort(order).select(values).to_numpy()
    )
    assert difference.max() < 1e-6


@pytest.mark.slow
def test_an_interrupted_run_resumes(config, undisturbed, tmp_path):
    """Ctrl-C lets the current part finish. The same call completes the store, to the byte."""
    path = tmp_path / "store.attn"
    result = run(
        config,
        path,
        on_event=lambda event: (
            os.kill(os.getpid(), signal.SIGINT)
            if isinstance(event, Computed) and not path.joinpath("_parts").exists()
            else None
        ),
    )
    assert result.interrupted
    before = open_store(path).finished_parts()
    assert 0 < len(before) < 8
    again = run(config, path)
    assert (again.parts_before, again.interrupted) == (len(before), False)
    assert again.documents == 60 - sum(len(open_store(path).part_range(p)) for p in before)
    assert content(path) == undisturbed


@pytest.mark.slow
def test_a_part_damaged_in_between_is_computed_again_and_reported(config, undisturbed, tmp_path):
    """The resumed run says what it found, and ends with the bytes of an undisturbed one."""
    path, notes = tmp_path / "store.attn", []

    def interrupt(event):
        if isinstance(event, Computed) and not path.joinpath("_parts").exists():
            os.kill(os.getpid(), signal.SIGINT)

    run(config, path, on_event=interrupt)
    damaged = open_store(path).tokens_files()[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    run(config, path, on_event=lambda event: notes.append(event.line) if isinstance(event, Noted) else None)
    assert notes == [
        f"part 0 is computed again: {damaged.relative_to(path)}: its SHA-256 is not the one recorded: it is damaged"
    ]
    assert content(path) == undisturbed


@pytest.mark.slow
def test_a_finished_store_is_left_alone(config, finished):
    """Running again does nothing, and its result has zero documents and tokens."""
    modified = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    again = run(config, finished)
    assert (again.documents, again.tokens, again.interrupted) == (0, 0, False)
    assert {p: p.stat().st_mtime_ns for p in modified} == modified


@pytest.mark.slow
def test_a_run_killed_at_any_moment_resumes_to_the_same_bytes(config, undisturbed, tmp_path):
    """SIGKILL ten times at moments spread over the run, then resume: every file is equal, and there are no others."""
    path = tmp_path / "store.attn"
    command = [
        *("run", path, "--model", config.model, "--data", config.source.data, "--dtype", "float32"),
        *("--device", "cpu", "--max-length", "40", "--part-size", "8", "--quiet"),
    ]
    kills = 0
    for attempt in range(10):
        with Child(SLOWED, *command) as child:
            wait_until(lambda child=child: (path / "_parts").exists() or child.poll() is not None)
            time.sleep(0.013 * attempt)
        kills += child.returncode == -signal.SIGKILL
        if path.exists() and open_store(path).sealed:
            break
    assert kills >= 3
    run(config, path)
    assert content(path) == undisturbed


#: The command with a pause in every batch, so that kills hit every stage of it.
SLOWED = """
import time
from attnstore.engine import classifier
forward = classifier.Classifier.__call__
def slowed(self, batch):
    time.sleep(0.02)
    return forward(self, batch)
classifier.Classifier.__call__ = slowed
from attnstore.commands import main
main()
"""


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def nowhere(document):
    """A weighting in which no query counts."""
    return np.full(document.length, np.nan)


@pytest.mark.slow
def test_a_reduction_without_any_value_is_reported(config, tmp_path):
    """Custom or built in, its columns are entirely null, and a note says so. With a single value there is no note."""
    few = replace(config.source, limit=5)
    notes = []
    run(
        replace(config, source=few, reductions=("cls", nowhere, "from_1", "from_39")),
        tmp_path / "s.attn",
        on_event=lambda event: notes.append(event.line) if isinstance(event, Noted) else None,
    )
    assert notes == [
        f"{name} has no value for any token (NaN): its columns are null throughout"
        for name in ("from_39", "nowhere")
    ]


@pytest.mark.slow
def test_special_tokens_written_in_texts_are_reported_and_are_no_words(config, tmp_path):
    """Also in a document of several windows that begins with one. The store is sound and agrees with the oracle."""
    texts = ["good [SEP] film", "[SEP] " + "a good film " * 20, "fine [CLS] [SEP]", "a film"]
    (tmp_path / "written.csv").write_text("text\n" + "\n".join(texts) + "\n")
    notes = []
    run(
        replace(
            config, source=SourceConfig(str(tmp_path / "written.csv")), long="windows", full_precision=True
        ),
        tmp_path / "s.attn",
        on_event=lambda event: notes.append(event.line) if isinstance(event, Noted) else None,
    )
    assert notes == [
        "3 documents with [CLS], [SEP] written in the text: the model reads that as its own special token, as"
        " transformers does; it is marked special and is no word"
    ]
    tokens = pl.read_parquet(tmp_path / "s.attn/tokens", hive_partitioning=True).sort("document", "position")
    first = tokens.filter(pl.col("document") == 0)
    assert first.select("token", "word", "special", "start", "end").rows() == [
        ("[CLS]", None, True, 0, 0),
        ("good", "good", False, 0, 4),
        ("[SEP]", None, True, 5, 10),
        ("film", "film", False, 11, 15),
        ("[SEP]", None, True, 0, 0),
    ]
    store = open_store(tmp_path / "s.attn")
    assert [finding for finding in verify_files(store) if not finding.ok] == []
    assert {finding.ok for finding in verify_sample(store)} == {True}


@pytest.mark.slow
def test_texts_that_need_a_dictionary_for_words_are_reported_without_one(config, tmp_path, monkeypatch):
    """Once, at the end. The manifest has the rule for words, so that a store is not resumed with another rule."""
    (tmp_path / "thai.csv").write_text("text\nภาษาไทยดีมาก\na film\n")
    notes = {}
    for name, there in (("with", True), ("without", False)):
        monkeypatch.setattr("importlib.util.find_spec", lambda _, there=there: object() if there else None)
        run(
            replace(config, source=SourceConfig(str(tmp_path / "thai.csv"))),
            tmp_path / name,
            on_event=lambda event, name=name: (
                notes.setdefault(name, []).append(event.line) if isinstance(event, Noted) else None
            ),
        )
    assert notes == {"without": Segmenter(dictionaries=False, unspaced=True).notes}
    rules = [open_store(tmp_path / name).manifest.fingerprint["words"] for name in ("with", "without")]
    assert rules == ["UAX #29, with ICU's dictionaries", "UAX #29"]


@pytest.mark.sampled(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_length": 30}, "max_length is 40 in the store, 30 in this run"),
        ({"reductions": ("cls",)}, "reductions is "),
        ({"full_precision": True}, 'values is "bfloat16" in the store, "float32" in this run'),
        ({"source": SourceConfig("", limit=7)}, "limit is none in the store, 7 in this run"),
        ({"dtype": "bfloat16"}, 'dtype is "float32" in the store, "bfloat16" in this run'),
    ],
)
def test_a_different_run_on_the_same_store_is_refused_with_both_values(change, message, config, finished):
    """The line names each difference, and the store stays as it was."""
    before = content(finished)
    if "source" in change:
        change = {"source": replace(change["source"], data=config.source.data)}
    with pytest.raises(StoreError) as raised:
        run(replace(config, **change), finished)
    assert message in str(raised.value)
    assert str(raised.value).endswith(": give another name, or delete it first")
    assert content(finished) == before


@pytest.mark.slow
def test_another_model_or_other_data_is_another_run(config, finished, tmp_path):
    """Weights and texts are compared by hash. Names and places do not count, but they are reported."""
    other = tiny.save(tmp_path / "other-model", seed=1)
    was = re.escape(
        f"the model differs by its SHA-256: {config.model} in the store, {other} in this run: give an"
    )
    with pytest.raises(StoreError, match=was):
        run(replace(config, model=str(other)), finished)
    changed = write_reviews(tmp_path / "changed.csv", 60, seed=2)
    was = re.escape(
        f"the data differs by its SHA-256: {config.source.data} in the store, {changed} in this run"
    )
    with pytest.raises(StoreError, match=was):
        run(replace(config, source=SourceConfig(str(changed))), finished)
    was = re.escape(f"{config.source.data} has changed, or is read with other options")
    with pytest.raises(StoreError, match=was):
        run(replace(config, source=SourceConfig(config.source.data, header=False)), finished)
    moved = tmp_path / "moved.csv"
    moved.write_bytes(Path(config.source.data).read_bytes())
    assert run(replace(config, source=SourceConfig(str(moved))), finished).documents == 0


@pytest.mark.slow
def test_a_limit_takes_documents_spread_over_the_source(config, tmp_path):
    """Sorted data would otherwise give one class. 6 of 60 are every tenth."""
    run(replace(config, source=replace(config.source, limit=6)), tmp_path / "store.attn")
    ids = duckdb.sql(
        f"from '{tmp_path}/store.attn/documents/**/*.parquet' select id order by document"
    ).fetchall()
    assert [i for (i,) in ids] == ["r0", "r10", "r20", "r30", "r40", "r50"]


@pytest.mark.slow
def test_a_custom_function_from_python_is_a_column_of_the_store(config, tmp_path):
    """Both kinds, stored under their names, equal to their definitions."""
    names = ("cls", last_token, strongest)
    run(
        replace(config, reductions=names, full_precision=True, source=replace(config.source, limit=5)),
        tmp_path / "s.attn",
    )
    tokens = pl.read_parquet(tmp_path / "s.attn/tokens/**/*.parquet").sort("document", "position")
    oracle = Oracle(config.model)
    for _, document in tokens.group_by("document", maintain_order=True):
        _, attentions = oracle(document["token_id"].to_numpy())
        n = len(document)
        expected = reduced_by_definition(attentions, f"from_{n - 1}")
        np.testing.assert_allclose(document["last_token_02"], expected[1], atol=1e-6)
        np.testing.assert_allclose(document["strongest_03"], attentions[2].max((0, 1)), atol=1e-6)


def last_token(document):
    weights = np.zeros(document.length, dtype=np.float32)
    weights[-1] = 1
    return weights


def strongest(probabilities):
    return probabilities.amax(dim=(0, 1))


@pytest.mark.slow
def test_bad_rows_are_counted_and_listed_and_the_rest_is_read(config, tmp_path):
    """Two rows of an unknown label and one without a text are in the manifest, by reason and position."""
    data = tmp_path / "mixed.jsonl"
    data.write_text(
        '{"id": "a", "text": "a good film", "label": "pos"}\n{"id": "b", "text": "bad", "label": "meh"}\n'
        '{"id": "c", "label": "neg"}\n{"id": "d", "text": "awful", "label": "meh"}\n'
        '{"id": "e", "text": "", "label": "neg"}\n'
    )
    labels = ("neg=neg", "pos=pos")
    run(replace(config, source=SourceConfig(str(data), labels=labels)), tmp_path / "store.attn")
    manifest = open_store(tmp_path / "store.attn").manifest
    assert manifest.documents == 2
    assert manifest.rejected == {"text missing": 1, "unknown label 'meh'": 2}
    assert len(manifest.rejected_rows) == 3
    with pytest.raises(DataError, match=r"mixed\.jsonl"):
        run(
            replace(config, source=SourceConfig(str(data), labels=labels, strict=True)),
            tmp_path / "strict.attn",
        )
    assert not (tmp_path / "strict.attn").exists()


@pytest.mark.slow
def test_unlabelled_data_make_a_store_without_labels(config, tmp_path):
    """label is null, and no accuracy is reported."""
    data = tmp_path / "texts.jsonl"
    data.write_text('{"text": "a good film"}\n{"text": "an awful film"}\n')
    run(replace(config, source=SourceConfig(str(data))), tmp_path / "store.attn")
    labels = duckdb.sql(f"from '{tmp_path}/store.attn/documents/**/*.parquet' select label").fetchall()
    assert labels == [(None,), (None,)]
    assert not open_store(tmp_path / "store.attn").manifest.labels_are_models


@pytest.mark.slow
def test_an_error_in_the_middle_ends_the_run_and_keeps_finished_parts(config, undisturbed, tmp_path):
    """A custom reduction that fails late: its error is reported, finished parts stay, and all threads end."""
    import threading

    def run_failing(fail):
        def late(document):
            if fail and document.document.id == "r40":
                return np.ones(1, dtype=np.float32)
            return np.ones(document.length, dtype=np.float32)

        return run(replace(config, reductions=("cls", late)), tmp_path / "store.attn")

    with pytest.raises(UsageError, match="custom reduction late"):
        run_failing(True)
    assert open_store(tmp_path / "store.attn").finished_parts() == [0, 1, 2, 3, 4]
    assert [t.name for t in threading.enumerate() if t.name.startswith("attnstore")] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part_size": 0}, "--part-size 0: it must be a whole number, at least 1"),
        ({"batch_tokens": 0}, "--batch-tokens 0: it must be a whole number, at least 1"),
        ({"model": "no/such/folder"}, "there is no model folder no/such/folder"),
    ],
)
def test_a_refused_run_creates_no_store(change, message, config, tmp_path):
    """Not even a directory."""
    with pytest.raises(AttnstoreError, match=message):
        run(replace(config, **change), tmp_path / "store.attn")
    assert not (tmp_path / "store.attn").exists()


def test_a_wrong_model_is_reported_before_the_data_are_read(config, tmp_path, monkeypatch):
    """Reading a large data set takes minutes, which a mistyped model name must not cost."""
    monkeypatch.setattr("attnstore.pipeline.run.survey", lambda *_: pytest.fail("the data were read"))
    (tmp_path / "headless").mkdir()
    (tmp_path / "headless" / "config.json").write_text(
        '{"model_type": "bert", "architectures": ["BertModel"]}'
    )
    for model, message in (
        ("no/such/folder", "no model folder"),
        (tmp_path / "headless", "no classification head"),
    ):
        with pytest.raises(AttnstoreError, match=message):
            run(replace(config, model=str(model)), tmp_path / "store.attn")


@pytest.mark.slow
def test_memory_is_not_proportional_to_the_documents(config, tmp_path):
    """At most three parts of documents are in memory: the part being computed, the next one and the previous one."""
    from attnstore.engine import batches

    alive, most = [0], [0]
    original = batches.TokenisedDocument

    class Counted(original):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            alive[0] += 1
            most[0] = max(most[0], alive[0])

        def __del__(self):
            alive[0] -= 1

    batches.TokenisedDocument = Counted
    try:
        run(replace(config, part_size=4), tmp_path / "store.attn")
    finally:
        batches.TokenisedDocument = original
    assert most[0] <= 5 * 4, "documents of finished parts are still held"


@pytest.mark.slow
def test_real_reviews_through_the_real_model_agree_with_the_oracle(imdb_archive, real_model, tmp_path):
    """Two IMDb reviews through the fine-tuned MiniLM in float32: every stored value to 1e-5."""
    config = RunConfig(
        SourceConfig(str(imdb_archive), split="test", limit=2),
        str(real_model),
        dtype="float32",
        max_length=128,
        full_precision=True,
    )
    run(config, tmp_path / "imdb.attn")
    store = open_store(tmp_path / "imdb.attn")
    found = compare(store, Oracle(str(real_model)), range(2))
    assert {name: deviation.absolute < 1e-5 for name, deviation in found.items() if name != "logits"} == {
        "cls": True, "received": True, "rollout": True, "evidence": True,
    }  # fmt: skip
    documents = pq.read_table(tmp_path / "imdb.attn/documents").sort_by("document").to_pylist()
    assert documents[0]["id"] == "test/neg/0_2"
    assert [d["label"] for d in documents] == ["neg", "pos"]


@pytest.mark.slow
@pytest.mark.parametrize("swapped", [False, True])
def test_swapped_layers_are_found_in_half_precision(swapped, imdb_archive, real_model, tmp_path):
    """In spite of bfloat16's rounding, `verify` distinguishes the two most similar layers, with four reviews."""
    if not fast_bfloat16(choose_device("cpu")):
        pytest.skip("bfloat16 is emulated here")
    config = RunConfig(
        SourceConfig(str(imdb_archive), split="test", limit=4),
        str(real_model),
        device="cpu",
        dtype="bfloat16",
    )
    run(config, tmp_path / "imdb.attn")
    if swapped:
        for path in (tmp_path / "imdb.attn/tokens").rglob("*.parquet"):
            table = pq.read_table(path, partitioning=None)
            names = [{"cls_02": "cls_03", "cls_03": "cls_02"}.get(n, n) for n in table.column_names]
            pq.write_table(table.rename_columns(names), path)
    found = {f.subject: f.ok for f in verify_sample(open_store(tmp_path / "imdb.attn"), sample=4)}
    assert found == {
        "sample": True,
        "logits": True,
        "cls": not swapped,
        "received": True,
        "rollout": True,
        "evidence": True,
    }


@pytest.mark.slow
def test_columns_of_the_data_are_kept_with_their_types(config, tmp_path):
    """`documents` has them with their types and values, in every reader. Other columns make another run."""
    rows = [{"text": f"a good film {n}", "label": "pos", "year": 1990 + n, "zip": f"0{n}"} for n in range(9)]
    rows[4]["year"] = None
    data = tmp_path / "rows.csv"
    pl.DataFrame(rows).write_csv(data)
    kept = replace(config, source=SourceConfig(str(data), keep=("year", "zip")))
    store = run(kept, tmp_path / "s.attn").store
    assert not [finding for finding in verify_files(store) if not finding.ok]
    found = duckdb.sql(f"select year, zip from '{store.path}/documents/**/*.parquet' order by document")  # noqa: S608 - a path of this test's own
    assert [str(kind) for kind in found.types] == ["BIGINT", "VARCHAR"]
    assert found.fetchall() == [(row["year"], row["zip"]) for row in rows]
    with pytest.raises(StoreError, match=r"kept is \[\"year: integer\", \"zip: text\"\] in the store"):
        run(replace(kept, source=SourceConfig(str(data), keep=("year",))), tmp_path / "s.attn")
    for name in ("length", "Label", "cls_01_entropy"):
        pl.DataFrame(rows).with_columns(pl.lit(1).alias(name)).write_csv(data)
        with pytest.raises(UsageError, match=f"--keep-column '{name}': documents has a column of that name"):
            run(
                replace(kept, source=SourceConfig(str(data), label_column="label", keep=(name,))),
                tmp_path / "t.attn",
            )
