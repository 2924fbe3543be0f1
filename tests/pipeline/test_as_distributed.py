"""Data sets in the form that their authors distribute give the same results as the same rows written by hand."""

import csv
import random
from pathlib import Path

import pandas as pd
import pytest
import tiny

from attnstore.config import RunConfig, SourceConfig
from attnstore.pipeline.run import run

NEWS = ["World", "Sports", "Business", "Sci/Tech"]
WORDS = [word for word in tiny.WORDS if word.isalpha()]


def sentence(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def predicted(store: Path, data: Path, model: Path, **options: object) -> pd.DataFrame:
    source = SourceConfig(str(data), **options)  # type: ignore[arg-type]
    run(RunConfig(source, str(model), device="cpu", dtype="float32", max_length=40), store)
    found = pd.read_parquet(store / "documents").sort_values("document")
    return (
        found[["text", "label", "prediction", "probability"]]
        .astype({"label": str, "prediction": str})
        .reset_index(drop=True)
    )


@pytest.mark.slow
def test_ag_news_in_one_command(tmp_path):
    """AG News's test.csv: no header, quoted, classes 1 to 4, title and description, joined by --text-column 2,3."""
    draw = random.Random(0)
    rows = [(draw.randrange(4), sentence(draw, 6), sentence(draw, 15)) for _ in range(40)]
    folder = tmp_path / "ag_news_csv"
    folder.mkdir()
    with (folder / "test.csv").open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows((label + 1, title, text) for label, title, text in rows)
    (folder / "readme.txt").write_text("AG's corpus of news articles\n")
    (folder / "classes.txt").write_text("\n".join(NEWS) + "\n")
    by_hand = tmp_path / "by_hand.csv"
    with by_hand.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [("text", "label"), *((f"{title} {text}", NEWS[label]) for label, title, text in rows)]
        )
    model = tiny.save(
        tmp_path / "model", id2label=dict(enumerate(NEWS)), label2id={n: i for i, n in enumerate(NEWS)}
    )
    found = predicted(tmp_path / "a.attn", folder, model, text_column="2,3", label_column="1")
    expected = predicted(tmp_path / "b.attn", by_hand, model)
    pd.testing.assert_frame_equal(found, expected)
    assert set(found["label"]) == set(NEWS)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "dev"])
def test_sst2_in_one_command(split, tiny_model, tmp_path):
    """GLUE's folder: train.tsv and dev.tsv with labels 0 and 1, test.tsv with an index and without labels."""
    draw = random.Random(1)
    folder = tmp_path / "SST-2"
    folder.mkdir()
    rows = {name: [(sentence(draw, 8), draw.randrange(2)) for _ in range(20)] for name in ("train", "dev")}
    for name, of_split in rows.items():
        lines = "".join(f"{text} \t{label}\n" for text, label in of_split)
        (folder / f"{name}.tsv").write_text("sentence\tlabel\n" + lines)
    (folder / "test.tsv").write_text("index\tsentence\n0\tnever boring\n")
    (folder / "original").mkdir()  # the treebank in GLUE's archive
    (folder / "original/datasetSentences.txt").write_text("sentence_index\tsentence\n1\tnever boring\n")
    by_hand = tmp_path / "by_hand.csv"
    with by_hand.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [("text", "label"), *((f"{text} ", ("neg", "pos")[label]) for text, label in rows[split])]
        )
    found = predicted(tmp_path / "a.attn", folder, tiny_model, split=split)
    pd.testing.assert_frame_equal(found, predicted(tmp_path / "b.attn", by_hand, tiny_model))
