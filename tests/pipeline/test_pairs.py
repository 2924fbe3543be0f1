"""Pairs of texts: the model's input and the stored values agree with plain transformers on both texts."""

import csv
import io
import re
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pair_models
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_store import resealed
from tokenizers import processors

import attnstore
from attnstore.ask.compare import compare as compare_stores
from attnstore.ask.questions import find_questions
from attnstore.check.oracle import Oracle, compare, verify_sample
from attnstore.check.verify import verify_files
from attnstore.config import RunConfig, SourceConfig
from attnstore.data.documents import Document
from attnstore.engine.batches import plan_batches, tokenise
from attnstore.engine.loading import load_classifier
from attnstore.engine.models import reads_token_types
from attnstore.engine.reductions import resolve_reductions
from attnstore.errors import ModelError, StoreError, UsageError
from attnstore.store.resume import create_or_resume
from attnstore.store.store import open_store

#: For each family, whether its models have token types, and the path through them.
FAMILIES = {
    "bert": (True, "packed"),
    "electra": (True, "packed"),
    "albert": (True, "packed"),
    "roberta": (False, "packed"),
    "xlm-roberta": (False, "packed"),
    "distilbert": (False, "packed"),
    "mobilebert": (True, "padded"),
    "megatron-bert": (True, "hooked"),
    "mpnet": (False, "hooked"),
    "deberta-v2": (False, "hooked"),
}
LONGEST = 24
words = st.sampled_from(
    [*(w for w in tiny.WORDS if w.isalpha()), "unwatchable", "Lovéd", "日", "🎬", "10!", "[SEP]"]
)
texts = st.lists(words, min_size=1, max_size=30).map(" ".join)
pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=6)


class Plain:
    """A model as transformers runs it: its own tokenizer, eager attention, one pair at a time, unbatched."""

    def __init__(self, folder, types):
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        ).eval()
        self.types = types

    def __call__(self, first, second, most):
        encoded = self.tokenizer(
            first,
            second,
            truncation=True,
            max_length=most,
            return_tensors="pt",
            return_token_type_ids=self.types,
        )
        with torch.inference_mode():
            out = self.model(**encoded, output_attentions=True)
        cls = np.stack([layer[0].mean(dim=0)[0].numpy() for layer in out.attentions])  # (layers, n)
        return encoded, out.logits[0].numpy(), cls


@pytest.fixture(
    scope="module",
    params=[
        family if family in ("bert", "roberta") else pytest.param(family, marks=pytest.mark.slow)
        for family in FAMILIES
    ],
)
def loaded(request, tmp_path_factory):
    """A family's classifier, loaded by attnstore for pairs, and by transformers."""
    folder = pair_models.save(tmp_path_factory.mktemp(request.param), request.param)
    types, way = FAMILIES[request.param]
    source = SourceConfig("", pair=True)
    config = RunConfig(source, str(folder), dtype="float32", device="cpu", max_length=LONGEST)
    classifier = load_classifier(config, resolve_reductions(("cls",)))
    assert (classifier.reads_types, classifier.way) == (types, way)
    return classifier, Plain(folder, types)


@pytest.mark.sampled(3)
@pytest.mark.slow
@given(drawn=pairs)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_pair_is_tokenised_and_classified_as_by_plain_transformers(loaded, drawn):
    """Ids, token types, truncation, logits and the [CLS] rows, in batches of unequal pairs."""
    classifier, plain = loaded
    documents = [Document(a, str(n), None, "all", None, text_pair=b) for n, (a, b) in enumerate(drawn)]
    tokenised = tokenise(enumerate(documents), classifier.tokenizer, LONGEST)
    seen = 0
    for batch in plan_batches(tokenised, 60, padded=classifier.padded):
        reduced, start = classifier(batch), 0
        for row, document in enumerate(batch.documents):
            seen += 1
            span = slice(start, start + document.length)
            start += document.length
            encoded, logits, cls = plain(document.document.text, document.document.text_pair, LONGEST)
            assert document.ids.tolist() == encoded["input_ids"][0].tolist()
            if classifier.reads_types:
                assert document.types.tolist() == encoded["token_type_ids"][0].tolist()
            np.testing.assert_allclose(reduced.logits[row].numpy(), logits, atol=1e-4)
            for layer, expected in enumerate(cls, start=1):
                values = reduced.columns[f"cls_{layer:02d}"][span].numpy()
                np.testing.assert_allclose(values, expected, atol=1e-5)
            whole = plain.tokenizer(document.document.text, document.document.text_pair)["input_ids"]
            assert document.truncated == (len(whole) > LONGEST)
    assert seen == len(drawn)


@pytest.mark.sampled(3)
@pytest.mark.slow
@given(drawn=pairs)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_spans_refer_to_the_right_text(loaded, drawn):
    """The text at a token's span is the token. Segments are those of transformers."""
    classifier, plain = loaded

    def bare(text):
        kept = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))
        return kept.strip()

    documents = [Document(a, str(n), None, "all", None, text_pair=b) for n, (a, b) in enumerate(drawn)]
    for document in tokenise(enumerate(documents), classifier.tokenizer, LONGEST):
        mine = (document.document.text, document.document.text_pair)
        encoded = plain.tokenizer(*mine, truncation=True, max_length=LONGEST)
        expected = [-1 if s is None else s for s in encoded.sequence_ids(0)]
        assert document.segment.tolist() == expected
        named = {*plain.tokenizer.all_special_tokens} - {plain.tokenizer.unk_token}
        added_or_written = [s == -1 or t in named for s, t in zip(expected, document.tokens, strict=True)]
        assert document.special.tolist() == added_or_written
        for token, segment, start, end in zip(
            document.tokens, document.segment, document.start, document.end, strict=True
        ):
            if segment == -1:
                assert (start, end) == (0, 0)
                continue
            own = token.removeprefix("##").strip("▁Ġ")
            if not own or token in ("[UNK]", "<unk>") or not own.isascii():
                continue  # an unknown word, or some bytes of a character
            assert bare(mine[segment][start:end]) == bare(own)


@pytest.mark.slow
def test_the_filler_of_a_batch_has_token_types(tmp_path):
    """More than 1,024 tokens at once, filled up to a multiple of 128, give the values of small batches."""
    folder = pair_models.save(tmp_path, "bert", max_position_embeddings=160)
    config = RunConfig(SourceConfig("", pair=True), str(folder), dtype="float32", device="cpu", max_length=32)
    classifier = load_classifier(config, resolve_reductions(("cls",)))
    documents = [
        Document("a good film " * (n % 5 + 1), str(n), None, "all", None, text_pair="bad " * (n % 7 + 1))
        for n in range(90)
    ]
    tokenised = list(tokenise(enumerate(documents), classifier.tokenizer, 32))
    (large,) = plan_batches(tokenised, 10_000, padded=False)
    assert large.tokens > 1024
    assert large.tokens % 128
    together = classifier(large)
    by_number = {d.number: together.logits[row] for row, d in enumerate(large.documents)}
    for small in plan_batches(tokenised, 60, padded=False):
        for row, logits in enumerate(classifier(small).logits):
            torch.testing.assert_close(logits, by_number[small.documents[row].number], atol=1e-5, rtol=1e-5)


def test_token_types_are_omitted_if_the_models_files_say_so(tmp_path):
    """A model saved with `model_input_names` without token types was trained without them.

    Without such a list, the model's embedding table decides.
    """
    folder = pair_models.save(tmp_path / "bert", "bert")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    own = pair_models.tokenizer("bert")
    assert reads_token_types(model, own)
    names = ["input_ids", "attention_mask"]
    listed = transformers.BertTokenizer(vocab=tiny.VOCABULARY, model_input_names=names)
    listed.save_pretrained(folder)
    assert not reads_token_types(model, transformers.AutoTokenizer.from_pretrained(folder))
    model.config.type_vocab_size = 1
    assert not reads_token_types(model, own)


def test_token_types_that_the_model_lacks_are_refused(tmp_path):
    """If the tokenizer's types do not fit the model's table: one line, no index out of range."""
    folder = tiny.save(tmp_path / "m")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    own = tiny.tokenizer()
    own.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS]:2 $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tiny.VOCABULARY[name]) for name in ("[CLS]", "[SEP]")],
    )  # fmt: skip
    with pytest.raises(ModelError, match="has 3 token types, its model 2: they do not belong together"):
        reads_token_types(model, own)


# -- a whole run ------------------------------------------------------------------------------------------

ROWS = [
    ("a good film", "a bad film", "neg"),
    ("was it never boring", "it was unwatchable ! it was", "pos"),
    (" ".join(["great plot"] * 20), "the end  ", "pos"),
    ("the end  ", " ".join(["awful actor"] * 20), "neg"),
    ("", "nothing on the left", "neg"),
    ("nothing on the right", "   ", "neg"),
    ("film", "film", "pos"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return pair_models.save(tmp_path_factory.mktemp("model"), "bert")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("premise", "hypothesis", "label"), *ROWS])
    return path


def options(data, model, **changes):
    return {
        "data": data, "model": model, "text_column": "premise,hypothesis", "pair": True, "device": "cpu",
        "dtype": "float32", "max_length": LONGEST, "part_size": 2, "full_precision": True, **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def reader(data, model, tmp_path_factory):
    return attnstore.run(tmp_path_factory.mktemp("store") / "pairs.attn", **options(data, model))


@pytest.mark.slow
def test_a_store_of_pairs_has_both_texts_and_the_segment_of_each_token(reader):
    """Texts as in the data, segments of transformers, whole words in both texts. Pairs without words are left out."""
    documents = reader.documents().sort("document").collect()
    kept = [row for row in ROWS if row[0].strip() and row[1].strip()]
    assert list(documents.select("text", "text_pair", "label").rows()) == kept
    assert reader.manifest.rejected == {
        "first text of the pair is empty or missing": 1,
        "second text of the pair is empty or missing": 1,
    }
    assert reader.manifest.rejected_rows == (
        "pairs.csv row 5: first text of the pair is empty or missing",
        "pairs.csv row 6: second text of the pair is empty or missing",
    )
    tokens = reader.tokens().sort("document", "position").collect()
    second = tokens.filter(pl.col("document") == 1)
    assert second.select("token", "word", "piece", "pieces", "segment", "start", "end").rows() == [
        ("[CLS]", None, None, None, None, 0, 0),
        ("was", "was", 0, 1, 0, 0, 3),
        ("it", "it", 0, 1, 0, 4, 6),
        ("never", "never", 0, 1, 0, 7, 12),
        ("boring", "boring", 0, 1, 0, 13, 19),
        ("[SEP]", None, None, None, None, 0, 0),
        ("it", "it", 0, 1, 1, 0, 2),
        ("was", "was", 0, 1, 1, 3, 6),
        ("unwatch", "unwatchable", 0, 2, 1, 7, 14),
        ("##able", "unwatchable", 1, 2, 1, 14, 18),
        ("!", "!", 0, 1, 1, 19, 20),
        ("it", "it", 0, 1, 1, 21, 23),
        ("was", "was", 0, 1, 1, 24, 27),
        ("[SEP]", None, None, None, None, 0, 0),
    ]
    both = tokens.filter((pl.col("document") == 4) & ~pl.col("special"))
    assert both.select("word", "piece", "pieces", "new_word").rows() == [
        ("film", 0, 1, True),
        ("film", 0, 1, False),
    ]
    assert documents["truncated"].to_list() == [False, False, True, True, False]


@pytest.mark.slow
def test_stored_values_of_pairs_agree_with_eager_attention(reader, model):
    """Every value. The files are sound, and verify's sample is recomputed from both texts."""
    for name, deviation in compare(reader.store, Oracle(str(model)), range(5)).items():
        assert deviation.absolute < (1e-3 if name == "logits" else 1e-5), name
    assert [finding for finding in verify_files(reader.store) if not finding.ok] == []
    sample = list(verify_sample(reader.store))
    assert [finding.subject for finding in sample] == [
        "sample",
        "logits",
        "cls",
        "received",
        "rollout",
        "evidence",
    ]
    assert all(finding.ok for finding in sample)


def rewritten(reader, path, kind, change):
    """A copy of the store with document 1 changed in its file of this kind, recorded as if written so."""
    shutil.copytree(reader.store.path, path)
    name = f"{kind}/split=all/label=pos/part-00000.parquet"
    with pq.ParquetFile(path / name) as file:
        table = file.read()
    sink = io.BytesIO()
    pq.write_table(change(table), sink)
    resealed(path, name, sink.getvalue())
    return path


def replaced(table, column, values):
    place = table.schema.get_field_index(column)
    return table.set_column(
        place, table.schema.field(place), pa.array(values, table.schema.field(place).type)
    )


def test_verify_recomputes_a_pair_from_its_texts(reader, tmp_path):
    """Another second text gives other tokens: a fault that names the document."""

    def change(table):
        return replaced(
            table, "text_pair", [text.replace("a", "b") for text in table["text_pair"].to_pylist()]
        )

    path = rewritten(reader, tmp_path / "s.attn", "documents", change)
    (finding,) = verify_sample(open_store(path))
    assert (finding.subject, finding.ok) == ("sample", False)
    assert "document 1: the tokenizer makes other tokens of its texts than are stored" in finding.detail


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda s: [0 if each is None else each for each in s], "a special token has a segment"),
        (lambda s: [None if each == 0 else each for each in s], "the segment is not 0 or 1"),
        (lambda s: [None if each is None else 1 - each for each in s], "a token of the first text comes after"),
        (lambda s: [None if each is None else 0 for each in s], "the span is not inside the text"),
    ],
)  # fmt: skip
def test_impossible_segments_are_faults(change, fault, reader, tmp_path):
    """Special tokens have no segment; other tokens have one of two, in order, and their spans lie inside that text."""

    def changed(table):
        return replaced(table, "segment", change(table["segment"].to_pylist()))

    path = rewritten(reader, tmp_path / "s.attn", "tokens", changed)
    found = [finding.detail for finding in verify_files(open_store(path)) if not finding.ok]
    assert any(fault in detail for detail in found), found


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_questions_use_the_text_of_each_token(engine, reader):
    """Contexts stop at the end of a text, truncation counts both texts, and tokens say which text is theirs."""
    rows = reader.query("contexts", engine=engine, word="film", by="label", width=2).to_pylist()
    assert sorted((row["document"], row["left"], row["keyword"], row["right"]) for row in rows) == [
        (0, "a bad", "film", ""), (0, "a good", "film", ""), (4, "", "film", ""), (4, "", "film", ""),
    ]  # fmt: skip
    whole = reader.query("truncation", engine=engine).to_pylist()
    (total,) = [row for row in whole if row["class"] is None and row["truncated"] is None]
    kept = [row for row in ROWS if row[0].strip() and row[1].strip()]
    assert total["characters"] == sum(len(a) + len(b) for a, b, _ in kept)
    # [CLS], two words of the shorter text and two [SEP] leave 19 of 40 words; the part cut off begins with a space.
    long = "great plot " * 9 + "great"
    other = "awful actor " * 9 + "awful"
    assert total["hidden"] == len(kept[2][0]) - len(long) + len(kept[3][1]) - len(other)
    tokens = reader.query("document_tokens", engine=engine, document=0).to_pylist()
    assert [row["segment"] for row in tokens] == [None, 0, 0, 0, None, 1, 1, 1, None]


def test_the_store_pages_sql_divides_the_attention_between_the_texts(reader, monkeypatch):
    """The shares of the first text, the second text and the special tokens, as sums over plain rows, add up to 1."""
    page = (Path(__file__).parents[2] / "docs/store.md").read_text()
    (sql,) = (block for block in re.findall(r"```sql\n(.*?)```", page, re.DOTALL) if "segment" in block)
    monkeypatch.chdir(reader.store.path.parent)
    found = dict(duckdb.sql(sql).fetchall())
    sums = dict.fromkeys((None, 0, 1), 0.0)
    for row in reader.tokens().collect().iter_rows(named=True):
        sums[row["segment"]] += row["cls_03"] / 5
    assert found == pytest.approx(sums, abs=1e-6)
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)


#: Parameters that some questions require.
NEEDED = {"word": "film", "document": 0}


def answerable(question):
    """The questions that need no groups, heads or measurements, which these pairs do not have."""
    return (
        question.name != "within_group"
        and not any(p.type == "heads" for p in question.parameters)
        and {p.name for p in question.parameters if p.required} <= set(NEEDED)
        and not re.search(r"(FROM|JOIN) faithfulness", question.sql)
    )


@pytest.mark.sampled(3)
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, of in find_questions().items() if answerable(of)])
def test_both_engines_give_the_same_answers_over_pairs(reader, name):
    """The same rows, numbers to five digits. No question fails because of the second text."""

    def rounded(rows):
        return [
            {name: float(f"{v:.5g}") if isinstance(v, float) else v for name, v in row.items()}
            for row in rows
        ]

    required = [p.name for p in find_questions()[name].parameters if p.required]
    given = {parameter: NEEDED[parameter] for parameter in required}
    duckdb_says, polars_says = (
        reader.query(name, engine=engine, **given).to_pylist() for engine in ("duckdb", "polars")
    )
    assert rounded(duckdb_says) == rounded(polars_says)


@pytest.mark.slow
def test_pairs_are_drawn_one_under_the_other(reader):
    """Both texts, with a line that says where the second begins, on a terminal and on a page."""
    drawn = reader.show(1)
    lines = [line for line in str(drawn).splitlines() if not set(line) <= set(" ▁▃▅▇")]
    assert lines[3:6] == [
        "was it never boring",
        "── the second text of the pair ──",
        "it was unwatchable ! it was",
    ]
    assert drawn._repr_html_().index("never") < drawn._repr_html_().index("the second text of the pair")


@pytest.mark.slow
def test_the_explorer_draws_both_texts(reader):
    """On a document's page as in `show`."""
    from starlette.testclient import TestClient

    from attnstore.show.explorer.app import explorer

    with TestClient(explorer((reader.store.path,)), base_url="http://127.0.0.1:8000") as web:
        page = web.get("/pairs/documents/1").text
    assert "the second text of the pair" in page
    assert (
        page.index(">boring</span>")
        < page.index("the second text of the pair")
        < page.index(">unwatchable</span>")
    )


@pytest.mark.slow
def test_pairs_joined_columns_and_another_order_are_different_runs(reader, data, model):
    """A store of pairs is resumed only with the same pairs."""
    path = reader.store.path
    assert attnstore.run(path, **options(data, model)).manifest == reader.manifest
    with pytest.raises(StoreError, match="pair is true in the store, false in this run"):
        attnstore.run(path, **options(data, model, pair=False))
    with pytest.raises(StoreError, match="the data differs by its SHA-256"):
        attnstore.run(path, **options(data, model, text_column="hypothesis,premise"))


@pytest.mark.slow
def test_a_run_of_pairs_resumes(reader, data, model, tmp_path):
    """With its first part finished and the others missing, the same call computes the rest: the same rows."""
    whole, path = reader.store, tmp_path / "s.attn"
    begun = replace(whole.manifest, sealed=None, files=(), runs=())
    with create_or_resume(path, begun) as store:
        tables = {}
        for name, frame in (("documents", reader.documents()), ("tokens", reader.tokens())):
            rows = frame.filter(pl.col("document") < 2).sort(
                "document", *(["position"] if name == "tokens" else [])
            )
            schema = getattr(store, f"{name}_schema")
            arrow = rows.collect().to_arrow(compat_level=pl.CompatLevel.oldest())
            tables[name] = pa.table({
                field: arrow[field].cast(schema.field(field).type if field in schema.names else pa.string())
                for field in dict.fromkeys([*schema.names, "split", "label"])
            })  # fmt: skip
        store.write_part(0, tables["documents"], tables["tokens"])
    again = attnstore.run(path, **options(data, model))
    assert again.manifest.runs[-1]["parts"] == 2
    keys = ["document", "position"]
    assert again.tokens().sort(keys).collect().equals(reader.tokens().sort(keys).collect())
    assert again.documents().sort("document").collect().equals(reader.documents().sort("document").collect())


@pytest.mark.slow
def test_pairs_with_another_second_text_are_not_the_same_documents(reader, data, model, tmp_path):
    """Stores are compared by both texts."""
    changed = tmp_path / data.name
    changed.write_text(data.read_text().replace("a bad film", "a great film"))
    other = attnstore.run(tmp_path / "s.attn", **options(changed, model))
    found = compare_stores(reader.store, other.store)
    assert (found.documents, found.only_a, found.only_b) == (4, 1, 1)


@pytest.mark.slow
def test_pairs_from_python(reader, model, tmp_path):
    """From a list of dictionaries: the same tokens as from a file."""
    rows = [dict(zip(("premise", "hypothesis", "label"), row, strict=True)) for row in ROWS]
    mine = attnstore.run(tmp_path / "s.attn", **options(rows, model))
    keys = ["document", "position"]
    assert mine.tokens().sort(keys).collect().equals(reader.tokens().sort(keys).collect())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"long": "windows"}, "--pair: the two texts are cut, longest first: leave --long windows out"),
        ({"max_length": 4}, "--max-length 4 leaves no room for text: the smallest here is 5"),
        ({"text_column": "premise"}, "--pair reads two columns, and --text-column names premise: name two"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_pairs_are_refused(changes, message, data, model, tmp_path):
    """One line, before anything is written."""
    with pytest.raises(UsageError, match=message):
        attnstore.run(tmp_path / "s.attn", **options(data, model, **changes))
    assert not (tmp_path / "s.attn").exists()


def test_a_tokenizer_that_takes_no_pairs_is_refused(data, tmp_path):
    """A tokenizer that would join both texts without a token between them."""
    folder = tiny.save(tmp_path / "model")
    own = tiny.tokenizer()
    own.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A $B [SEP]",
        special_tokens=[(name, tiny.VOCABULARY[name]) for name in ("[CLS]", "[SEP]")],
    )  # fmt: skip
    own.save_pretrained(folder)
    with pytest.raises(ModelError, match="does not take pairs: it puts nothing between the two texts"):
        attnstore.run(tmp_path / "s.attn", **options(data, folder))
