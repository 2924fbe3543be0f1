"""Documents longer than the model's limit: each way of reading them follows its definition."""

import itertools

import numpy as np
import polars as pl
import pytest
import tiny

import attnstore
from attnstore.check.oracle import Oracle, compare, verify_sample
from attnstore.check.verify import verify_files
from attnstore.config import RunConfig, SourceConfig
from attnstore.data.documents import Document
from attnstore.engine.batches import tokenise
from attnstore.engine.long import passes
from attnstore.errors import UsageError
from attnstore.pipeline.run import run
from attnstore.store.store import open_store

WORDS = [word for word in tiny.WORDS if word.isalpha()]


def text(words: int, seed: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "reviews.csv"
    lines = [
        f"r{n},{'pos' if n % 2 else 'neg'},{text(size, n)}"
        for n, size in enumerate([5, 40, 90, 33, 0, 61, 30])
    ]
    path.write_text("id,label,text\n" + "\n".join(lines) + "\n")
    return path


def config(data, tiny_model, **changes):
    options = {"device": "cpu", "dtype": "float32", "max_length": 32, "full_precision": True, "part_size": 4}
    reductions = ("cls", "received", "rollout", "cls_heads")
    return RunConfig(SourceConfig(str(data)), str(tiny_model), reductions=reductions, **(options | changes))


@pytest.mark.parametrize("body", [1, 29, 30, 31, 45, 59, 60, 61, 200])
@pytest.mark.parametrize("stride", [1, 7, 15, 30])
def test_windows_hold_every_token_and_are_equally_long(body, stride):
    """In order, all of the full length unless the document fits into one, none repeated, at steps of at most the
    stride.
    """
    found = passes(body, 30, "windows", stride)
    assert set(np.concatenate(found).tolist()) == set(range(body))
    assert {len(places) for places in found} == {min(body, 30)}
    begins = [int(places[0]) for places in found]
    assert begins == sorted(set(begins))
    assert all(0 < b - a <= stride for a, b in itertools.pairwise(begins))


def test_the_head_and_the_tail_are_those_of_the_paper():
    """Of 510 tokens between the special ones, the first 128 and the last 382 (Sun et al. 2019)."""
    (places,) = passes(1000, 510, "head+tail", 1)
    assert places.tolist() == [*range(128), *range(1000 - 382, 1000)]
    (places,) = passes(1000, 510, "tail", 1)
    assert places.tolist() == list(range(490, 1000))
    (places,) = passes(1000, 510, "cut", 1)
    assert places.tolist() == list(range(510))


@pytest.mark.parametrize("long", ["tail", "head+tail", "windows"])
def test_each_pass_has_special_tokens_and_correct_spans(long):
    """The text at a token's span is the token, whichever stretch of the document is read."""
    words = text(100, 0)
    documents = [(0, Document(words, "a", None, "all", None))]

    def read(body, room):
        return passes(body, room, long, 10)

    found = list(tokenise(documents, tiny.tokenizer(), 32, passes=read))
    assert len(found) == (1 if long != "windows" else len(read(max(f.places[-1] for f in found) - 1, 30)))
    for document in found:
        assert document.length == 32
        assert (document.tokens[0], document.tokens[-1]) == ("[CLS]", "[SEP]")
        assert document.special.tolist() == [True, *[False] * 30, True]
        assert document.truncated == (long != "windows")
        for token, start, end in zip(
            document.tokens[1:-1], document.start[1:-1], document.end[1:-1], strict=True
        ):
            assert words[start:end] == token.removeprefix("##")


@pytest.mark.sampled(3)
@pytest.mark.slow
@pytest.mark.parametrize("long", ["cut", "tail", "head+tail", "windows"])
@pytest.mark.parametrize("family", ["bert", "gte", "deberta"])
def test_a_store_of_long_documents_agrees_with_eager_attention(long, family, data, tmp_path):
    """On all three paths through a model: values and logits of documents that are cut, read in part, or combined from
    windows.
    """
    model = tiny.save(tmp_path / "model", family)
    result = run(
        config(data, model, long=long, stride=10 if long == "windows" else None), tmp_path / "s.attn"
    )
    assert result.documents == 7
    store = open_store(tmp_path / "s.attn")
    assert [finding for finding in verify_files(store) if not finding.ok] == []
    for name, deviation in compare(store, Oracle(str(model)), range(7)).items():
        assert deviation.absolute < (1e-3 if name == "logits" else 1e-5), name
    assert [finding for finding in verify_sample(store) if not finding.ok] == []


@pytest.mark.slow
def test_windows_store_every_token_once_and_a_documents_attention_adds_up_to_one(data, tiny_model, tmp_path):
    """`windows` is the number of windows of a document; nothing is truncated. The other ways have no such column."""
    run(config(data, tiny_model, long="windows", stride=10), tmp_path / "w.attn")
    documents = pl.read_parquet(tmp_path / "w.attn/documents", hive_partitioning=True).sort("document")
    tokens = pl.read_parquet(tmp_path / "w.attn/tokens", hive_partitioning=True).sort("document", "position")
    run(config(data, tiny_model, max_length=80), tmp_path / "whole.attn")
    whole = pl.read_parquet(tmp_path / "whole.attn/tokens", hive_partitioning=True).sort(
        "document", "position"
    )
    fits = documents.filter(pl.col("length") <= 80)["document"]
    same = ["document", "position", "token_id", "word", "piece", "pieces", "start", "end", "special"]
    chosen = pl.col("document").is_in(fits.implode())
    assert tokens.filter(chosen).select(same).equals(whole.filter(chosen).select(same))
    expected = [len(passes(length - 2, 30, "windows", 10)) for length in documents["length"]]
    assert documents["windows"].to_list() == expected
    assert max(expected) > 5
    assert not documents["truncated"].any()
    sums = tokens.group_by("document").agg(pl.col("cls_01", "received_02", "rollout").sum())
    assert np.allclose(sums.drop("document").to_numpy(), 1, atol=1e-5)
    cut = pl.read_parquet(tmp_path / "whole.attn/documents", hive_partitioning=True)
    assert "windows" not in cut.columns


@pytest.mark.slow
def test_another_way_is_another_run(data, tiny_model, tmp_path):
    """A store is not resumed with another way of reading long documents."""
    run(config(data, tiny_model), tmp_path / "s.attn")
    with pytest.raises(Exception, match='long is "cut" in the store, "tail" in this run'):
        run(config(data, tiny_model, long="tail"), tmp_path / "s.attn")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"long": "whole"}, "--long whole: it is one of cut, tail, head"),
        ({"long": "tail", "stride": 4}, "--stride belongs to --long windows, not to --long tail"),
        ({"long": "windows", "stride": 31}, "--stride 31: a window reads 30 tokens of a text here"),
        ({"long": "windows", "stride": 0}, "--stride 0: it must be a whole number, at least 1"),
        ({"long": "tail", "reductions": ("from_3",)}, "from_3 looks from a place in the document, which --long"),
    ],
)  # fmt: skip
def test_contradictory_options_are_refused(changes, message, data, tiny_model, tmp_path):
    """One line, before anything is written."""
    from dataclasses import replace

    with pytest.raises(UsageError, match=message):
        run(replace(config(data, tiny_model), **changes), tmp_path / "s.attn")
    assert not (tmp_path / "s.attn").exists()


@pytest.mark.sampled(at=(1, 3))
@pytest.mark.slow
@pytest.mark.parametrize("long", ["cut", "tail", "head+tail", "windows"])
def test_truncation_counts_what_was_not_read(long, data, tiny_model, tmp_path):
    """The characters after the cut, before the tail, between head and tail, or none: by brute force."""
    run(config(data, tiny_model, long=long), tmp_path / "s.attn")
    tokens = pl.read_parquet(tmp_path / "s.attn/tokens", hive_partitioning=True).sort("document", "position")
    hidden = 0
    for document in pl.read_parquet(tmp_path / "s.attn/documents", hive_partitioning=True).iter_rows(
        named=True
    ):
        rows = tokens.filter((pl.col("document") == document["document"]) & ~pl.col("special"))
        spans = rows.select("start", "end").rows()
        if not document["truncated"]:
            continue
        if long == "cut":
            hidden += len(document["text"]) - spans[-1][1]
        elif long == "tail":
            hidden += spans[0][0]
        else:
            hidden += max(b[0] - a[1] for a, b in itertools.pairwise(spans))
    assert (hidden > 0) == (long != "windows")
    for engine in ("duckdb", "polars"):
        rows = attnstore.open(tmp_path / "s.attn").query("truncation", engine=engine).to_pylist()
        (whole,) = [row for row in rows if row["class"] is None and row["truncated"] is None]
        assert whole["hidden"] == hidden
