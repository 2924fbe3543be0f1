"""Promises of attnstore.check.faithfulness: the results of a loop over the model, each computed once, whatever
interrupts.
"""

import math
import os
import shutil
import signal
from collections import Counter

import numpy as np
import pair_models
import polars as pl
import pytest
import tiny
import torch
import transformers
from small_store import contents

import attnstore
from attnstore.check import faithfulness
from attnstore.check.faithfulness import measure
from attnstore.check.lexicon import read_lexicon
from attnstore.check.measured import verify_faithfulness
from attnstore.check.rankings import lexicon_odds
from attnstore.config import FaithfulnessConfig, RunConfig, SourceConfig
from attnstore.errors import AttnstoreError, ModelError, StoreError, UsageError
from attnstore.events import Computed, Noted, Started, ignore
from attnstore.pipeline.run import run
from attnstore.store import frames
from attnstore.store.faithfulness import measurements
from attnstore.store.store import open_store

SCORES = ("cls_01", "cls_03", "rollout", "random", "log_odds")
KEY = ["document", "score", "draw", "by", "unit", "fraction"]


def config(**changes):
    given = {"documents": 9, "scores": ("cls_01", "cls_03", "rollout"), "device": "cpu", "dtype": "float32"}
    return FaithfulnessConfig(**(given | changes))


@pytest.fixture
def store(small_store, tmp_path):
    """A store for this test, to which rows are added."""
    shutil.copytree(small_store, tmp_path / "s.attn")
    return open_store(tmp_path / "s.attn")


@pytest.fixture(scope="module")
def measured(small_store, tmp_path_factory):
    """A store with measurements of deleted tokens and of masked words."""
    path = tmp_path_factory.mktemp("measured") / "s.attn"
    shutil.copytree(small_store, path)
    for ways in ({}, {"by": "mask", "unit": "word"}):
        measure(open_store(path), config(**ways))
    return path


def plain_rows(path):
    """Tokens by document, and documents, as any Parquet reader returns them."""
    tokens = pl.read_parquet(path / "tokens", hive_partitioning=True).sort("document", "position")
    documents = pl.read_parquet(path / "documents", hive_partitioning=True).sort("document")
    return (
        {number: rows.to_dicts() for (number,), rows in tokens.group_by("document")},
        {row["document"]: row for row in documents.to_dicts()},
    )


def units_by_hand(rows, unit):
    """The positions of each unit, in order."""
    units = []
    for row in rows:
        if row["special"]:
            continue
        if unit == "word" and row["piece"] not in (None, 0):
            units[-1].append(row["position"])
        else:
            units.append([row["position"]])
    return units


def log_odds_by_hand(word, document, tokens, documents):
    """Documents of other films with the word, of the predicted class against the others."""
    own = documents[document]
    found, size = Counter(), Counter()
    for number, row in documents.items():
        if row["group"] != own["group"]:
            side = row["prediction"] == own["prediction"]
            size[side] += 1
            found[side] += any(token["word"] == word for token in tokens[number])
    odds = {side: (found[side] + 5) / (size[side] - found[side] + 5) for side in (True, False)}
    return math.log(odds[True] / odds[False])


def ranked_by_hand(score, draw, units, rows, document, tokens, documents):
    """The units, the most important first."""
    if score == "random":
        return np.random.default_rng([0, document, draw]).permutation(len(units)).tolist()
    if score == "log_odds":
        words = [rows[unit[0]]["word"] for unit in units]
        values = [0 if w is None else log_odds_by_hand(w, document, tokens, documents) for w in words]
    else:
        values = [sum(rows[position][score] for position in unit) for unit in units]
    return sorted(range(len(units)), key=lambda n: (-values[n], n))


@pytest.mark.slow
@pytest.mark.parametrize(("by", "unit"), [("deletion", "token"), ("mask", "word")])
def test_every_row_equals_that_of_a_loop_over_the_model(measured, tiny_model, by, unit):
    """Probabilities of complete and shortened texts, one at a time through plain transformers, in ERASER's terms."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_model).eval()
    mask = tiny.VOCABULARY["[MASK]"]
    tokens, documents = plain_rows(measured)
    classes = ["neg", "pos"]

    def probabilities(ids):
        with torch.inference_mode():
            return model(torch.tensor([ids])).logits.softmax(-1)[0].tolist()

    def read(rows, gone):
        if by == "mask":
            return probabilities([mask if r["position"] in gone else r["token_id"] for r in rows])
        return probabilities([r["token_id"] for r in rows if r["position"] not in gone])

    found = pl.read_parquet(measured / "faithfulness").filter(pl.col("by") == by, pl.col("unit") == unit)
    numbers = sorted(set(found["document"]))
    assert len(numbers) == 9
    expected = []
    for number in numbers:
        rows = tokens[number]
        units = units_by_hand(rows, unit)
        predicted = classes.index(documents[number]["prediction"])
        whole = probabilities([row["token_id"] for row in rows])
        for score in SCORES:
            for draw in range(1, 11) if score == "random" else [0]:
                order = ranked_by_hand(score, draw, units, rows, number, tokens, documents)
                for fraction in (0.01, 0.05, 0.1, 0.2, 0.5):
                    count = math.ceil(round(fraction * len(units), 9))
                    top = {position for n in order[:count] for position in units[n]}
                    others = {position for unit_ in units for position in unit_} - top
                    rest, alone = read(rows, top), read(rows, others)
                    expected.append(
                        {
                            "document": number, "score": score, "draw": draw, "by": by, "unit": unit,
                            "fraction": fraction, "removed": count, "units": len(units),
                            "probability": pytest.approx(whole[predicted], abs=1e-5),
                            "comprehensiveness": pytest.approx(whole[predicted] - rest[predicted], abs=1e-5),
                            "sufficiency": pytest.approx(whole[predicted] - alone[predicted], abs=1e-5),
                            "flipped": rest.index(max(rest)) != predicted,
                        }
                    )  # fmt: skip
    texts = pl.col("score", "by", "unit").cast(pl.String)
    rows = found.with_columns(texts).sort(KEY).to_dicts()
    assert rows == sorted(expected, key=lambda row: [row[key] for key in KEY])


def test_the_sealed_files_stay_as_they_are(measured, small_store):
    """Every file of the run keeps its bytes; only the table and its receipts are new."""
    before, after = contents(small_store), contents(measured)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {
        f"{folder}/{name}-00000.{ending}"
        for folder, ending in (("faithfulness", "parquet"), ("_faithfulness", "json"))
        for name in ("deletion-token", "mask-word")
    }


def test_verify_finds_no_fault_in_the_measurements(measured):
    """One finding per file, with its documents and scores."""
    assert [(f.subject, f.ok, f.detail) for f in verify_faithfulness(open_store(measured))] == [
        ("faithfulness/deletion-token-00000.parquet", True, "9 documents, 5 scores"),
        ("faithfulness/mask-word-00000.parquet", True, "9 documents, 5 scores"),
    ]


@pytest.mark.slow
def test_an_interrupted_measurement_resumes(store, monkeypatch):
    """The first signal ends it after the current documents.

    Measured rows are kept, and the result is as if undisturbed.
    """
    monkeypatch.setattr(faithfulness, "_A_FILE", 4)
    monkeypatch.setattr(faithfulness, "_groups", lambda tasks, _: ([task] for task in tasks))
    given = config(scores=("cls_03",), documents=6)
    seen = []

    def interrupt(event):
        seen.append(event)
        # Only once: the note about the signal is also an event, and a second signal would end pytest.
        if isinstance(event, Computed) and sum(isinstance(e, Computed) for e in seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    first = measure(store, given, on_event=interrupt)
    assert (first.new, first.interrupted, first.signal) == (2, True, signal.SIGINT)
    assert [found.documents for found in measurements(store)[0]] == [2]
    second = measure(store, given, on_event=seen.append)
    assert (second.new, second.interrupted) == (4, False)
    assert seen[-1] == Computed(6, 6, second.tokens)
    third = measure(store, given)
    assert (third.new, third.tokens, third.interrupted) == (0, 0, False)
    rows = frames.faithfulness(store).collect().sort(KEY)
    shutil.rmtree(store.path / "faithfulness")
    shutil.rmtree(store.path / "_faithfulness")
    measure(store, given)
    undisturbed = frames.faithfulness(store).collect().sort(KEY)
    assert rows.equals(undisturbed)


@pytest.mark.slow
def test_other_scores_and_more_documents_are_added(store):
    """Existing rows of a document and score are not measured again. A larger sample contains the smaller one."""
    measure(store, config(scores=("cls_03",), documents=4))
    measure(store, config(scores=("rollout", "cls_03"), documents=4))
    measure(store, config(scores=("cls_03",), documents=6))
    rows = frames.faithfulness(store).collect()
    assert not rows.select(KEY).is_duplicated().any()
    documents = {name: set(of["document"]) for (name,), of in rows.group_by("score")}
    assert documents["rollout"] < documents["cls_03"] == documents["random"] == documents["log_odds"]
    assert (len(documents["rollout"]), len(documents["cls_03"])) == (4, 6)


@pytest.mark.slow
def test_the_notes_say_how_the_sample_was_drawn_and_what_was_left_out(store):
    """Documents by predicted class, and the empty ones, which have nothing to remove."""
    seen = []
    drawn = measure(store, config(documents=1000, scores=("cls_03",)), on_event=seen.append).sample
    tokens, documents = plain_rows(store.path)
    whole = [n for n in documents if not all(row["special"] for row in tokens[n])]
    classes = Counter(documents[n]["prediction"] for n in whole)
    assert (sorted(drawn.documents), drawn.by_class, drawn.empty) == (
        whole,
        dict(sorted(classes.items())),
        60 - len(whole),
    )
    assert drawn.empty > 0
    said = ", ".join(f"{name} {count}" for name, count in sorted(classes.items()))
    assert next(event for event in seen if isinstance(event, Started)) == Started(
        len(whole),
        (
            f"{len(whole)} documents drawn from all splits by predicted class ({said}), seed 0",
            f"{drawn.empty} documents without any token but special ones left out",
        ),
    )
    assert not [event for event in seen if isinstance(event, Noted)]


@pytest.mark.slow
def test_documents_read_in_windows_are_left_out(tiny_model, reviews, tmp_path):
    """Their prediction comes from several passes, so no single pass can be compared with it."""
    run(
        RunConfig(
            SourceConfig(str(reviews)), str(tiny_model), device="cpu", dtype="float32", max_length=32,
            long="windows", reductions=("cls",),
        ),
        tmp_path / "w.attn",
    )  # fmt: skip
    store = open_store(tmp_path / "w.attn")
    sample = measure(store, config(documents=1000, scores=("cls_03",))).sample
    _, documents = plain_rows(store.path)
    assert sample.in_windows == sum(row["windows"] > 1 for row in documents.values()) > 0
    assert all(documents[number]["windows"] == 1 for number in sample.documents)


@pytest.mark.slow
def test_a_damaged_file_is_measured_again(store):
    """It is found, named, removed and replaced. Other files are not touched."""
    given = config(scores=("cls_03",), documents=3)
    measure(store, given)
    whole = frames.faithfulness(store).collect().sort(KEY)
    path = store.path / "faithfulness/deletion-token-00000.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    size = len(path.read_bytes())
    fault = f"has {size:,} bytes, {size + 1:,} were written: it is damaged"
    with pytest.raises(StoreError, match=r"faithfulness/deletion-token-00000\.parquet: has"):
        frames.faithfulness(store)
    found = [(f.subject, f.ok, f.detail) for f in verify_faithfulness(store)]
    again = f"{fault}: `attnstore faithfulness` measures it again"
    assert found == [("faithfulness/deletion-token-00000.parquet", False, again)]
    seen = []
    measure(store, given, on_event=seen.append)
    assert seen[0].notes[-1] == f"faithfulness/deletion-token-00000.parquet is measured again: {fault}"
    assert frames.faithfulness(store).collect().sort(KEY).equals(whole)


@pytest.mark.slow
def test_impossible_measurements_are_refused_in_one_line(store, small_store, tmp_path):
    """Wrong names, another model, no mask token, an unfinished store: nothing is written."""
    other = tiny.save(tmp_path / "other", seed=5)
    maskless = shutil.copytree(store.manifest.model, tmp_path / "maskless")
    tokenizer = transformers.AutoTokenizer.from_pretrained(maskless)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(maskless)
    for changes, kind, message in (
        ({"scores": ("cls_08",)}, UsageError, "the store has no score 'cls_08': did you mean cls_03 or cls_02"),
        ({"scores": ("cls_heads_01",)}, UsageError, "cls_heads_01 has a value per head: scores have one value per"),
        ({"split": "tset"}, UsageError, "the store has no split 'tset'"),
        ({"model": str(other)}, ModelError, f"{other} is not the run's model, its weights differ: give that model"),
        ({"model": "nowhere/at/all"}, ModelError, "there is no model folder nowhere/at/all"),
        ({"model": str(maskless), "by": "mask"}, UsageError, f"the tokenizer of {maskless} has no mask token"),
    ):  # fmt: skip
        with pytest.raises(kind) as caught:
            measure(store, config(**changes))
        assert str(caught.value).startswith(message)
    assert contents(store.path) == contents(small_store)
    manifest = store.path / "manifest.json"
    manifest.write_text(
        manifest.read_text().replace('"sealed": "', '"sealed": null, "notes": [], "created": "')
    )
    with pytest.raises(
        StoreError, match="is not sealed: `attnstore run` with the same options finishes it first"
    ):
        measure(open_store(store.path), config())


@pytest.mark.slow
def test_a_pairs_tokens_keep_their_types_when_others_are_removed(tmp_path):
    """The first text's tokens stay those of the first text, whatever is left of it, as transformers reads them."""
    folder = pair_models.save(tmp_path / "model", "bert")
    data = tmp_path / "pairs.csv"
    data.write_text("a,b,label\nthe film was great,it was a bad film,neg\nawful plot,i love the plot,pos\n")
    attnstore.run(
        tmp_path / "p.attn", data=data, model=folder, text_column="a,b", pair=True, device="cpu", dtype="float32",
        reductions=("cls",),
    )  # fmt: skip
    store = open_store(tmp_path / "p.attn")
    measure(store, config(scores=("cls_03",)))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokens, documents = plain_rows(store.path)
    found = (
        frames.faithfulness(store).filter(pl.col("score") == "cls_03").sort("document", "fraction").collect()
    )
    expected = []
    for number, rows in sorted(tokens.items()):
        first_end = [row["position"] for row in rows if row["special"]][1]
        types = [int(row["position"] > first_end) for row in rows]
        predicted = ["neg", "pos"].index(documents[number]["prediction"])

        def read(gone, rows=rows, types=types, predicted=predicted):
            kept = [row["position"] for row in rows if row["position"] not in gone]
            given = [[rows[k]["token_id"] for k in kept]], [[types[k] for k in kept]]
            with torch.inference_mode():
                logits = model(torch.tensor(given[0]), token_type_ids=torch.tensor(given[1])).logits
            return logits.softmax(-1)[0, predicted].item()

        units = units_by_hand(rows, "token")
        order = ranked_by_hand("cls_03", 0, units, rows, number, tokens, documents)
        for fraction in (0.01, 0.05, 0.1, 0.2, 0.5):
            top = {units[n][0] for n in order[: math.ceil(round(fraction * len(units), 9))]}
            expected.append(pytest.approx(read(set()) - read(top), abs=1e-5))
    assert found["comprehensiveness"].to_list() == expected


def test_a_model_with_other_probabilities_than_stored_is_reported(store, monkeypatch):
    """A probability far from the stored one is no basis for differences."""
    monkeypatch.setattr(faithfulness, "_NEAR", -1.0)
    with pytest.raises(
        ModelError, match=r"^the model gives document r\d+ the probability \d\.\d{3}, the store has"
    ):
        measure(store, config(scores=("cls_03",), documents=2))
    assert frames.faithfulness_files(store) == []


@pytest.mark.slow
def test_the_log_odds_of_other_data_are_a_separate_score(store, reviews, tmp_path):
    """Counted by that data's labels, without the store's own documents.

    Other data are refused; the same data resume.
    """
    rows = [
        ("pos", "good fun never seen"), ("pos", "good film"), ("neg", "bad film"), ("neg", "awful bad plot"),
        ("neg", "bad"), ("pos", "fun"),
    ]  # fmt: skip
    known = pl.read_csv(reviews)["text"].drop_nulls()[1]
    data = tmp_path / "train.csv"
    data.write_text("label,text\n" + "".join(f"{label},{text}\n" for label, text in [*rows, ("pos", known)]))
    events = []
    given = config(documents=6, scores=("cls_03",), lexicon=SourceConfig(str(data)))
    done = measure(store, given, on_event=events.append)
    assert done.scores == ["cls_03", "random", "log_odds", "lexicon"]
    notes = [note for event in events if isinstance(event, Started) for note in event.notes]
    assert (
        "lexicon: log-odds of 8 words in other data (neg 3, pos 3); 1 document that the store has left out"
        in notes
    )

    def odds(word, class_):
        found = Counter((label == class_) for label, text in rows if word in text.split())
        return math.log((found[True] + 5) / (8 - found[True])) - math.log(
            (found[False] + 5) / (8 - found[False])
        )

    made = read_lexicon(given.lexicon, store.manifest.labels, frozenset([known]), ignore)
    expected = {
        (c, w): odds(w, c) for c in ("neg", "pos") for w in {w for _, text in rows for w in text.split()}
    }
    table = lexicon_odds(made)
    assert {(c, w): pytest.approx(v) for c, w, v in table.rows()} == expected
    tokens, documents = plain_rows(store.path)
    number = done.sample.documents[0]
    empty = pl.DataFrame(schema={"document": pl.Int32, "word": pl.String, "log_odds": pl.Float64})
    classifier = faithfulness.classifier_of(store, given)
    (task,) = faithfulness._tasks(store, given, classifier, {number: ["lexicon"]}, empty, table)
    predicted = documents[number]["prediction"]
    assert task.scores["lexicon"].tolist() == pytest.approx(
        [expected.get((predicted, token["word"]), 0) for token in tokens[number]]
    )
    rows_of = frames.faithfulness(store).filter(pl.col("score") == "lexicon").collect()
    assert (rows_of["document"].n_unique(), len(rows_of)) == (6, 30)
    first = data.read_text()
    data.write_text(first + "pos,another plot\n")
    with pytest.raises(UsageError) as caught:
        measure(store, given)
    assert str(caught.value) == (
        f"lexicon was measured with other data: give that, or remove {store.path / 'faithfulness'} to measure again"
    )
    data.write_text(first)
    assert measure(store, given).new == 0


def test_other_data_may_have_other_columns_and_labels(tmp_path):
    """Named columns and `1=neg,2=pos` give the results of the same rows that need neither. Errors name the options."""
    rows = [("pos", "good film"), ("neg", "bad film"), ("neg", "awful plot")]
    plain, own = tmp_path / "plain.csv", tmp_path / "own.csv"
    plain.write_text("label,text\n" + "".join(f"{label},{text}\n" for label, text in rows))
    marks = {"neg": 1, "pos": 2}
    own.write_text("stars,title,said\n" + "".join(f"{marks[label]},a title,{text}\n" for label, text in rows))
    columns = {"text_column": "said", "label_column": "stars"}
    pairs = ("1=neg", "2=pos")
    expected = read_lexicon(SourceConfig(str(plain)), ("neg", "pos"), (), ignore)
    found = read_lexicon(SourceConfig(str(own), **columns, labels=pairs), ("neg", "pos"), (), ignore)
    assert found.sizes == {"neg": 2, "pos": 1}
    assert found.digest == expected.digest
    with pytest.raises(UsageError, match=r"--lexicon-labels"):
        read_lexicon(SourceConfig(str(own), **columns, labels=("1=bad", "2=pos")), ("neg", "pos"), (), ignore)
    with pytest.raises(AttnstoreError, match=r"--lexicon-text-column") as caught:
        read_lexicon(SourceConfig(str(own), text_column="told"), ("neg", "pos"), (), ignore)
    assert " --text-column" not in str(caught.value)
