"""The package from Python: `attnstore.run`, `attnstore.open`, and their results."""

import dataclasses
import inspect
from typing import get_type_hints

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from small_store import manifest, run

import attnstore
from attnstore.ask.questions import find_questions
from attnstore.config import RunConfig, SourceConfig
from attnstore.errors import StoreError, UsageError


@pytest.mark.slow
def test_run_from_python_is_the_command(tiny_model, reviews, small_store, tmp_path):
    """The same options give the same tables as the pipeline's store, and the store is returned open."""
    store = attnstore.run(
        tmp_path / "s.attn",
        model=tiny_model,
        data=reviews,
        reductions=("cls", "received", "rollout", "cls_heads", "evidence"),
        device="cpu",
        dtype="float32",
        max_length=40,
        part_size=25,
        full_precision=True,
    )
    expected = attnstore.open(small_store)
    assert store.documents().collect().equals(expected.documents().collect())
    assert store.tokens().collect().equals(expected.tokens().collect())
    assert store.manifest.sealed


@pytest.mark.slow
def test_run_accepts_data_in_memory(tiny_model, tmp_path):
    """A frame is stored row by row, and the manifest describes it."""
    frame = pl.DataFrame({"text": ["a fine film", "dull and long"], "label": ["pos", "neg"]})
    store = attnstore.run(
        tmp_path / "s.attn", model=tiny_model, data=frame, labels=["neg", "pos"], device="cpu"
    )
    documents = store.documents().select("id", "text", "label").collect()
    assert documents.sort("id").rows() == [
        ("data:1", "a fine film", "pos"),
        ("data:2", "dull and long", "neg"),
    ]
    assert store.manifest.data == "polars.DataFrame of 2 rows"


def test_the_options_of_run_are_the_fields_of_a_run_with_their_types_and_defaults():
    """By name, so that editors complete them and type checkers know them. A list may be any sequence."""
    options = inspect.signature(attnstore.run, eval_str=True).parameters
    expected = {}
    for record in (SourceConfig, RunConfig):
        types = get_type_hints(record)
        expected |= {field.name: (field.default, types[field.name]) for field in dataclasses.fields(record)}
    for name in ("data", "held", "source", "model"):
        del expected[name]
    assert options.keys() - {"path", "model", "data"} == expected.keys()
    for name, (default, type_) in expected.items():
        assert options[name].default == default
        if name not in ("keep", "columns", "labels", "reductions"):
            assert options[name].annotation == type_


def test_an_unknown_option_is_a_type_error(tiny_model, reviews, tmp_path):
    """A misspelt keyword raises Python's own error, before anything is read or written."""
    with pytest.raises(TypeError, match="max_lenght"):
        attnstore.run(tmp_path / "s.attn", model=tiny_model, data=reviews, max_lenght=40)
    assert not (tmp_path / "s.attn").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"reductions": "cls,rollout"}, "reductions is a list of names: write reductions=['cls', 'rollout']"),
        ({"labels": "neg,pos"}, "labels is a list of names: write labels=['neg', 'pos']"),
        ({"keep": "year"}, "keep is a list of names: write keep=['year']"),
        (
            {"text_column": ["a", "b"], "pair": True},
            "text_column is a text, as in the command: write text_column='a,b'",
        ),
        ({"label_column": 3}, "label_column is a text, as in the command: write label_column='3'"),
        (
            {"device": "tpu"},
            "--device tpu: it is one of auto, cpu, cuda, mps, or cuda:N for one of several GPUs",
        ),
        ({"dtype": "int8"}, "--dtype int8: it is one of auto, float32, bfloat16, float16"),
        ({"limit": "x"}, "--limit x: it must be a whole number, at least 1"),
        ({"max_length": 12.5}, "--max-length 12.5: it must be a whole number, at least 1"),
        ({"model": ""}, "--model is empty"),
        ({"data": ""}, "--data is empty"),
    ],
)
def test_an_option_of_another_type_is_reported(option, message, tiny_model, reviews, tmp_path):
    """The function refuses what the command line refuses, if possible in the same words."""
    with pytest.raises(UsageError) as raised:
        attnstore.run(
            tmp_path / "s.attn", **({"model": tiny_model, "data": reviews, "device": "cpu"} | option)
        )
    assert str(raised.value).startswith(message)
    assert not (tmp_path / "s.attn").exists()


@pytest.mark.slow
def test_numbers_of_numpy_are_numbers_and_a_text_is_one_word(small_store):
    """`show(np.int64(3))` is `show(3)`, and `ignore="bad"` ignores that word, not its letters."""
    store = attnstore.open(small_store)
    assert store.show(np.int64(3), layer=np.int64(1)).id == store.show(3, layer=1).id == "r3"
    word = next(t for t in store.show(1).tokens.to_pylist() if not t["special"])["token"]
    assert store.show(1, ignore=word).tokens == store.show(1, ignore=[word]).tokens
    with pytest.raises(UsageError, match=r"document=3\.5 does not fit"):
        store.show(3.5)


def test_the_tables_are_lazy_frames_with_their_partition_keys(small_store):
    """`split` and `label` are columns, nothing is read before it is needed, and the two tables can be joined."""
    store = attnstore.open(small_store)
    documents, tokens = store.documents(), store.tokens()
    assert isinstance(documents, pl.LazyFrame)
    counted = tokens.group_by("document", "label").len().collect().sort("document")
    own = (
        documents.select("document", "label", len=pl.col("length").cast(pl.UInt32)).collect().sort("document")
    )
    assert counted.cast({"label": pl.String}).equals(own.cast({"label": pl.String}))


def test_a_table_shows_its_first_rows_and_stays_lazy(small_store, monkeypatch):
    """In a notebook and a terminal: ten rows, short texts.

    A frame derived from it shows its own rows; an invalid one shows none.
    """
    store = attnstore.open(small_store)
    documents = store.documents()
    html = documents._repr_html_()
    assert html.count("<tr>") == 11
    assert ">r0<" in html
    assert "the first 10 rows of a lazy frame: .collect() reads all" in html
    few = documents.filter(pl.col("document") < 2).select("document", text=pl.lit("x" * 500))
    assert isinstance(few, pl.LazyFrame)
    assert few._repr_html_().count("<tr>") == 3
    assert "x" * 159 + "…" in few._repr_html_()
    assert "x" * 160 not in few._repr_html_()
    monkeypatch.setenv("COLUMNS", "80")
    drawn = repr(documents.select("document", "id", "text"))
    assert "┆ r0 " in drawn
    assert max(map(len, drawn.splitlines())) <= 80
    assert few.collect().height == 2
    broken = documents.select("nothing")
    assert "│" not in repr(broken)
    assert "<tr>" not in broken._repr_html_()


@pytest.mark.slow
def test_sql_and_query_answer_with_the_same_count(small_store):
    """The same count by SQL, by a question in each engine, and by hand."""
    store = attnstore.open(small_store)
    correct = store.documents().filter(
        pl.col("label").cast(pl.String) == pl.col("prediction").cast(pl.String)
    )
    expected = correct.select(pl.len()).collect().item()
    assert store.sql("select count(*) as n from documents where label = prediction").to_pylist() == [
        {"n": expected}
    ]
    for engine in ("duckdb", "polars"):
        assert store.query("predictions", engine=engine).to_pylist()[0]["correct"] == expected
    with pytest.raises(UsageError, match="top_words_by_class"):
        store.query("top_wrds_by_class")


@pytest.mark.slow
def test_each_question_is_a_method_with_its_parameters_and_help(small_store):
    """For completion and help: names, signature and documentation of all questions, and the same answer."""
    store = attnstore.open(small_store)
    for name, question in find_questions().items():
        assert name in dir(store.query)
        method = getattr(store.query, name)
        signature = inspect.signature(method)
        assert {*signature.parameters} == {*(p.name for p in question.parameters), "engine"}
        defaults = {p.name: p.default for p in question.parameters if not p.required}
        assert {n: p.default for n, p in signature.parameters.items() if n in defaults} == defaults
        assert " ".join(method.__doc__.split()).startswith(question.summary)
    assert store.queries().to_pylist() == [
        {"name": name, "question": question.summary} for name, question in find_questions().items()
    ]
    asked = store.query.top_words_by_class(limit=2, min_documents=2, engine="polars")
    answer = store.query("top_words_by_class", limit=2, min_documents=2)
    assert_frame_equal(asked.polars(), answer.polars(), rel_tol=1e-6)
    assert (
        store.query.contexts("great", limit=1).arrow() == store.query.contexts(word="great", limit=1).arrow()
    )
    with pytest.raises(
        UsageError, match="contexts takes 1 value by position: name the others, as in limit=…"
    ):
        store.query.contexts("great", 3)
    with pytest.raises(UsageError, match="contexts: word is given twice"):
        store.query.contexts("great", word="great")
    with pytest.raises(UsageError, match="contexts has no parameter 'wrod': did you mean word"):
        store.query.contexts(wrod="great")


@pytest.mark.slow
def test_a_readers_methods_use_its_current_state(tmp_path):
    """A method kept from before `refresh` answers from the store's present state."""
    path = tmp_path / "store"
    run(path, manifest(), seal=False)
    reader = attnstore.open(path)
    confusion = reader.query.confusion
    run(path, manifest())
    reader.refresh()
    assert "parts)" not in confusion().basis


def test_an_open_store_is_a_card(small_store, monkeypatch):
    """Path, state, sizes, model, classes, data and reductions, one line each, on a terminal and in a notebook."""
    monkeypatch.setenv("COLUMNS", "50")
    store = attnstore.open(small_store)
    lines = repr(store).splitlines()
    named = ["store", "state", "documents", "tokens", "model", "classes", "data"]
    assert [line.partition(":")[0] for line in lines[:7]] == named
    assert [line.partition(":")[0] for line in lines[7:-1]] == ["reduction"] * 5
    assert lines[2] == "documents:  60 of 60"
    assert lines[5] == "classes:    neg, pos"
    assert max(map(len, lines)) <= 50
    page = store._repr_html_()
    assert "<script" not in page
    assert '<th scope="row">classes</th><td><bdi>neg, pos</bdi></td>' in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "shown"),
    [("last", "3 of 3"), ("first", "1 of 3"), (2, "2 of 3"), ("mean", "mean of the layers")],
)
def test_show_draws_the_layer_that_is_asked_for(layer, shown, small_store):
    """The drawn attention is the stored column's, or the mean of the columns."""
    store = attnstore.open(small_store)
    drawn = store.show("r1", reduction="received", layer=layer)
    rows = store.tokens().filter(document=1).sort("position").collect()
    columns = ["received_01", "received_02", "received_03"]
    chosen = {"last": columns[2:], "first": columns[:1], 2: columns[1:2], "mean": columns}[layer]
    assert drawn.layer == shown
    np.testing.assert_allclose(drawn.tokens["attention"], rows.select(chosen).to_numpy().mean(1), rtol=1e-6)


@pytest.mark.slow
def test_show_merges_ignores_and_renormalises(small_store):
    """Wordpieces merged by sum or mean, tokens ignored with and without renormalising, a reduction without layers."""
    store = attnstore.open(small_store)
    pieces = store.show("r1", reduction="rollout")
    merged = store.show("r1", reduction="rollout", words="sum")
    assert pieces.layer == ""
    assert sum(merged.tokens["attention"].to_pylist()) == pytest.approx(1, abs=1e-5)
    assert all(row["special"] or row["piece"] == 0 for row in merged.tokens.to_pylist())
    rest = store.show("r1", ignore_special=True, renormalise=True).tokens["attention"].to_pylist()
    assert rest[0] is rest[-1] is None
    assert sum(value for value in rest if value is not None) == pytest.approx(1)
    word = merged.tokens["token"].to_pylist()[1]
    ignored = store.show("r1", words="sum", ignore=(word,)).tokens.to_pylist()
    assert [row["attention"] is None for row in ignored] == [row["token"] == word for row in ignored]


@pytest.mark.slow
def test_a_notebook_shows_the_drawing(small_store):
    """`show` as the last line of a cell gives a picture without scripts."""
    page = attnstore.open(small_store).show(7)._repr_html_()
    assert "<script" not in page
    assert "r7" in page


def test_opening_a_folder_that_is_no_store_is_reported(tmp_path):
    """The error is attnstore's own, one line, and can be caught by the package's name for it."""
    with pytest.raises(StoreError, match="does not exist"):
        attnstore.open(tmp_path / "nope")
    assert issubclass(StoreError, attnstore.AttnstoreError)


def test_the_package_has_its_public_names():
    """`__all__` resolves, and another name is an AttributeError as usual."""
    assert {name: callable(getattr(attnstore, name)) for name in attnstore.__all__} == {
        "AttnstoreError": True, "append": True, "open": True, "run": True,
    }  # fmt: skip
    with pytest.raises(AttributeError, match="has no attribute 'opne'"):
        _ = attnstore.opne
