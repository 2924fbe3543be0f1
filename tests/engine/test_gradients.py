"""Evidence and the other gradient scores against plain autograd through the whole model, in every family and path."""

import gc
import json
import random
import re
import weakref

import numpy as np
import polars as pl
import pytest
import tiny
import torch
import transformers
from torch import nn

import attnstore
from attnstore.check.oracle import Oracle, reduced_by_definition, verify_sample
from attnstore.config import RunConfig, SourceConfig
from attnstore.data.documents import Document
from attnstore.engine import classifier as engine_classifier
from attnstore.engine import families, tap
from attnstore.engine.batches import plan_batches, tokenise
from attnstore.engine.gradients import InFloat32, attention_back, margins
from attnstore.engine.loading import load_classifier
from attnstore.engine.paths.linears import FusedLinear
from attnstore.engine.reductions import probabilities, resolve_reductions
from attnstore.errors import UsageError
from attnstore.pipeline.run import run
from attnstore.store.manifest import names_by_class
from attnstore.store.store import open_store


def documents(sizes):
    """A document of each number of words."""
    generator = random.Random(0)
    words = [w for w in tiny.WORDS if not w.startswith("##")]
    return [
        Document(" ".join(generator.choices(words, k=k)), str(i), None, "all", None)
        for i, k in enumerate(sizes)
    ]


#: An empty text, one word, a text cut at the limit, and lengths in between.
FEW = (0, 1, 40, 12, 30, 5, 19)


def load(folder, names=("cls", "evidence"), **changes):
    config = RunConfig(
        SourceConfig(""), str(folder), **({"dtype": "float32", "device": "cpu", "max_length": 32} | changes)
    )
    return load_classifier(config, resolve_reductions(names))


def forward(classifier, sizes=FEW, batch_tokens=70):
    """Each document's (ids, logits, evidence), in order."""
    return [(ids, logits, c["evidence"]) for ids, logits, c in columns(classifier, sizes, batch_tokens)]


def columns(classifier, sizes=FEW, batch_tokens=70):
    """Each document's (ids, logits, values by column), in order."""
    tokenised = tokenise(enumerate(documents(sizes)), classifier.tokenizer, classifier.max_length)
    found = {}
    for batch in plan_batches(tokenised, batch_tokens, padded=classifier.padded):
        reduced = classifier(batch)
        start = 0
        for row, document in enumerate(batch.documents):
            some = slice(start, start + document.length)
            values = {name: whole[some].numpy() for name, whole in reduced.columns.items()}
            found[document.number] = (document.ids, reduced.logits[row].numpy(), values)
            start += document.length
    return [found[number] for number in sorted(found)]


def eager(folder, dtype=torch.float64):
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager", dtype=dtype
    ).eval()


def margin_of(logits, predicted):
    others = [k for k in range(len(logits)) if k != predicted]
    return logits[predicted] - torch.log(torch.exp(logits[others]).sum())


def by_autograd(model, ids, predicted):
    """Probability × derivative in the last layer's first row, averaged over heads: (n,), in the model's dtype."""
    out = model(torch.from_numpy(ids.astype(np.int64))[None], output_attentions=True)
    last = out.attentions[-1]  # (1, heads, n, n)
    (slope,) = torch.autograd.grad(margin_of(out.logits[0], predicted), last)
    return (last * slope)[0, :, 0].mean(dim=0).detach().numpy()


def assert_as_autograd_says(model, found, tolerance=2e-5):
    for ids, logits, values in found:
        true = by_autograd(model, ids, int(logits.argmax()))
        assert np.abs(true).max() > 0
        np.testing.assert_allclose(values, true, rtol=0, atol=tolerance * np.abs(true).max())


@pytest.mark.sampled(4)
@pytest.mark.slow
@pytest.mark.parametrize(
    "family", [f for f in tiny.ROUTED + tiny.UNROUTED if f not in ("eurobert", "mobilebert")]
)
def test_every_score_agrees_with_autograd_in_every_family(family, tmp_path):
    """Signed, in mixed batches, packed, padded and hooked; float32 to 5e-5 of a document's largest value.

    Random weights this large are harder for float32 than trained ones. The largest error seen is 3e-5 (xlm-roberta) if
    all layers are recorded, else 1.4e-5.
    """
    tiny.save(tmp_path, family)
    classifier = load(tmp_path, ("cls", "evidence", "norm", "relevance"))
    read = columns(classifier)
    assert_relevance_equals_its_definition(tmp_path, read)
    found = [(ids, logits, values["evidence"]) for ids, logits, values in read]
    assert_as_autograd_says(eager(tmp_path), found, 5e-5)
    if family == "deberta":
        assert classifier.notes == (
            f"norm is not stored, {tmp_path} has none: attnstore does not know the output projection of deberta",
        )
    else:
        assert_norms_equal_their_definition(tmp_path, read)
    assert len({np.sign(value) for _, _, values in found for value in values}) >= 2


@pytest.mark.slow
def test_evidence_and_norm_of_mobilebert_agree_with_autograd(tmp_path):
    """Without padding, because the state of its last token contains the embedding of the token after it."""
    tiny.save(tmp_path, "mobilebert")
    read = columns(load(tmp_path, ("cls", "evidence", "norm", "relevance")), batch_tokens=1)
    assert_relevance_equals_its_definition(tmp_path, read)
    assert_as_autograd_says(
        eager(tmp_path), [(ids, logits, values["evidence"]) for ids, logits, values in read]
    )
    assert_norms_equal_their_definition(tmp_path, read)


def assert_relevance_equals_its_definition(folder, read):
    """To 5e-5 of a document's largest value, against the product of whole matrices; never below 0."""
    oracle = Oracle(str(folder))
    for ids, logits, values in read:
        _, attentions = oracle(ids)
        slopes = oracle.gradients(ids, int(logits.argmax()))
        true = reduced_by_definition(attentions, "relevance", slopes)
        assert values["relevance"].min() >= 0
        np.testing.assert_allclose(values["relevance"], true, rtol=0, atol=5e-5 * true.max())


@pytest.mark.exhaustive
def test_every_score_of_a_trained_model_equals_its_definition(real_model):
    """To 1e-5 of a document's largest value: evidence by class, norms of all layers, relevance."""
    names = ("evidence_by_class", "norm", "relevance")
    classifier, oracle = load(real_model, names), Oracle(str(real_model))
    assert [r.name for r in classifier.reductions] == [
        "evidence_for_neg",
        "evidence_for_pos",
        "norm",
        "relevance",
    ]
    for ids, logits, values in columns(classifier, (9, 60)):
        _, attentions = oracle(ids)
        true = {f"norm_{layer:02d}": norm for layer, norm in enumerate(oracle.norms(ids), start=1)}
        for number, label in enumerate(("neg", "pos")):
            slopes = oracle.gradients(ids, number)
            true[f"evidence_for_{label}"] = reduced_by_definition(attentions, "evidence", slopes)
            if number == logits.argmax():
                true["relevance"] = reduced_by_definition(attentions, "relevance", slopes)
        assert values.keys() == true.keys()
        for name, expected in true.items():
            atol = 1e-5 * np.abs(expected).max()
            np.testing.assert_allclose(values[name], expected, rtol=0, atol=atol)


def test_relevance_of_a_minimal_model_equals_the_result_by_hand():
    """One head, two layers, two tokens: the first row of (I + B₂)(I + B₁) − I."""
    attentions = [np.array([[[0.5, 0.5], [0.2, 0.8]]]), np.array([[[0.4, 0.6], [1.0, 0.0]]])]
    slopes = [np.array([[[2.0, -1.0], [1.0, 1.0]]]), np.array([[[-1.0, 0.5], [0.0, 3.0]]])]
    # B₁ = [[1, 0], [.2, .8]], B₂ = [[0, .3], [0, 0]]: row 0 of I + B₂ is (1, .3); times I + B₁: (2.06, .54).
    np.testing.assert_allclose(reduced_by_definition(attentions, "relevance", slopes), [1.06, 0.54])


def test_relevance_in_blocks_of_rows_is_the_same():
    """The backward pass of one document's attention against autograd, for any block size, with a window."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 9, 4, requires_grad=True) for _ in range(3))
    slope, weights = torch.randn(2, 9, 4), torch.rand(9)
    for window in (None, 2):
        p = probabilities(query, key, 0.5, window=window)
        p.retain_grad()
        expected = torch.autograd.grad((p @ value * slope).sum(), (query, key, value, p))
        added = weights @ (p * expected[3]).clamp_min(0).mean(dim=0)
        for block in (1, 40, 1000):
            found, own = attention_back(
                query.detach(), key.detach(), value.detach(), slope, 0.5, weights, window=window, block=block
            )
            torch.testing.assert_close(own, added)
            torch.testing.assert_close(list(found), list(expected[:3]))


@pytest.mark.slow
def test_relevance_does_not_change_other_reductions(tiny_model):
    """The rollout sweep, rows per head, whole probabilities and evidence are the same as without it."""
    names = ("received", "cls_heads", "rollout", "evidence", "norm", strongest)
    with_it, without = columns(load(tiny_model, (*names, "relevance"))), columns(load(tiny_model, names))
    for (_, logits, values), (_, others, own) in zip(with_it, without, strict=True):
        np.testing.assert_allclose(logits, others, rtol=0, atol=1e-5)
        for name, expected in own.items():
            atol = 1e-5 * np.abs(expected).max()
            np.testing.assert_allclose(values[name], expected, rtol=0, atol=atol)


@pytest.mark.slow
def test_evidence_by_class_has_a_column_per_class(tmp_path):
    """Each class's margin is its logit minus the log-sum-exp of the others.

    The predicted class's column equals `evidence`.
    """
    names = ("Very Good", "bad", "c", "4")
    tiny.save(tmp_path, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})
    stored = ["evidence_for_very_good", "evidence_for_bad", "evidence_for_c", "evidence_for_4"]
    read = columns(load(tmp_path, ("evidence_by_class", "evidence")))
    model = eager(tmp_path)
    for ids, logits, values in read:
        assert list(values) == [*stored, "evidence"]
        predicted = int(logits.argmax())
        assert np.array_equal(values[stored[predicted]], values["evidence"])
        for number, name in enumerate(stored):
            true = by_autograd(model, ids, number)
            np.testing.assert_allclose(values[name], true, rtol=0, atol=2e-5 * np.abs(true).max())


def test_evidence_for_one_of_two_classes_is_against_the_other(tiny_model):
    """The two margins differ only in sign."""
    for _, _, values in columns(load(tiny_model, ("evidence_by_class",))):
        against, largest = -values["evidence_for_pos"], np.abs(values["evidence_for_pos"]).max()
        np.testing.assert_allclose(values["evidence_for_neg"], against, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("NEGATIVE", "very-good!"), ["evidence_for_negative", "evidence_for_very_good"]),
        (("好", "坏"), ["evidence_for_class_0", "evidence_for_class_1"]),
        (("a b", "a_b", "c"), ["evidence_for_class_0", "evidence_for_class_1", "evidence_for_class_2"]),
    ],
)
def test_a_column_of_a_class_has_a_valid_name(labels, names):
    """It is a number if the name would be empty, or equal to another."""
    assert names_by_class(labels) == names


@pytest.mark.slow
def test_every_score_is_stored_verified_and_asked(tiny_model, tmp_path):
    """verify recomputes them all; a signed question accepts the evidence for a class.

    For documents of several windows all but the norms are null.
    """
    data = tmp_path / "texts.jsonl"
    texts = [document.text for document in documents((5, 60, 12))]
    data.write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(texts)))
    config = RunConfig(
        SourceConfig(str(data)),
        str(tiny_model),
        dtype="float32",
        device="cpu",
        max_length=32,
        long="windows",
        reductions=("norm", "relevance", "evidence_by_class"),
    )
    run(config, tmp_path / "s.attn")
    findings = {f.subject: f.ok for f in verify_sample(open_store(tmp_path / "s.attn"))}
    names = ["norm", "relevance", "evidence_for_neg", "evidence_for_pos"]
    assert findings == dict.fromkeys(["sample", "logits", *names], True)
    store = attnstore.open(tmp_path / "s.attn")
    long = store.tokens().filter(document=1).collect()
    assert [long[name].null_count() for name in names[1:]] == [len(long)] * 3
    assert not long["norm_01"].null_count()
    assert (
        "documents read in several windows have no relevance, evidence_for_neg and evidence_for_pos (null): "
        "each window has its own prediction"
    ) in [note.replace(", evidence_for_pos", " and evidence_for_pos") for note in store.manifest.notes]
    answer = store.query("for_and_against", reduction="evidence_for_neg", min_documents=1).arrow()
    assert answer.num_rows > 0


def assert_norms_equal_their_definition(folder, read):
    """All layers, to 1e-5 of a document's largest value, against the oracle, which knows no families."""
    oracle = Oracle(str(folder))
    for ids, _, values in read:
        for layer, true in enumerate(oracle.norms(ids), start=1):
            own = values[f"norm_{layer:02d}"]
            np.testing.assert_allclose(own, true, rtol=0, atol=1e-5 * true.max())


def test_a_norm_is_that_of_attention_times_value_times_output_projection(tiny_model):
    """Kobayashi et al. 2020, equation 5, from BERT's own matrices: W_V with its bias, W_O without."""
    model = eager(tiny_model)
    width = model.config.hidden_size // model.config.num_attention_heads
    read = columns(load(tiny_model, ("norm",)))
    for ids, _, values in read:
        with torch.no_grad():
            out = model(
                torch.from_numpy(ids.astype(np.int64))[None],
                output_attentions=True,
                output_hidden_states=True,
            )
        for number, layer in enumerate(model.bert.encoder.layer):
            value, projection = layer.attention.self.value, layer.attention.output.dense.weight.detach()
            vectors = value(out.hidden_states[number][0]).detach()  # (n, heads · width)
            taken = 0
            for head, p in enumerate(out.attentions[number][0]):  # (n, n)
                own = slice(head * width, (head + 1) * width)
                taken = taken + p[0, :, None] * (vectors[:, own] @ projection[:, own].T)
            true = taken.norm(dim=1).numpy()
            np.testing.assert_allclose(values[f"norm_{number + 1:02d}"], true, rtol=0, atol=1e-5 * true.max())


@pytest.mark.slow
def test_norms_with_shared_value_heads(tmp_path):
    """Also with a classification head that reads more than [CLS], which norms allow."""
    tiny.save(tmp_path, "eurobert")
    assert_norms_equal_their_definition(tmp_path, columns(load(tmp_path, ("norm",))))


def test_a_projection_that_reads_something_else_has_no_norm_and_a_note(tmp_path, monkeypatch):
    """A layer with the right name and place but another input is detected on three short documents."""
    tiny.save(tmp_path)
    monkeypatch.setitem(families.PROJECTIONS, "bert", "intermediate.dense")
    classifier = load(tmp_path, ("cls", "norm"))
    assert [r.name for r in classifier.reductions] == ["cls"]
    assert classifier.notes == (
        f"norm is not stored, {tmp_path} has none: attnstore does not know the output projection of bert",
    )


@pytest.mark.slow
def test_evidence_of_four_classes_is_for_the_predicted_one_against_the_others(tmp_path):
    """The margin subtracts the log-sum-exp of three logits, not a single logit."""
    names = ("a", "b", "c", "d")
    tiny.save(tmp_path, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})
    found = forward(load(tmp_path))
    assert len({int(logits.argmax()) for _, logits, _ in found}) > 1
    assert_as_autograd_says(eager(tmp_path), found)


@pytest.mark.slow
def test_evidence_without_the_cpu_kernel_is_the_same(tiny_model, monkeypatch):
    """If torch computes attention."""
    monkeypatch.setenv("ATTNSTORE_KERNEL", "off")
    assert_as_autograd_says(eager(tiny_model), forward(load(tiny_model)))


@pytest.mark.slow
def test_a_large_batch_gives_each_document_the_values_it_has_alone(tiny_model):
    """More than 1,024 tokens, filled up by a document that is not used."""
    sizes = [3 + i % 27 for i in range(90)]
    classifier = load(tiny_model)
    together, alone = forward(classifier, sizes, 10_000), forward(classifier, sizes, 1)
    assert sum(len(ids) for ids, _, _ in together) > 1024
    for (_, _, values), (_, _, own) in zip(together, alone, strict=True):
        np.testing.assert_allclose(values, own, rtol=0, atol=1e-5 * np.abs(own).max())


def test_evidence_beside_values_per_head_and_whole_probabilities(tiny_model):
    """What other reductions need of the last layer does not change evidence."""
    found = forward(load(tiny_model, ("cls_heads", "evidence", "rollout", strongest)))
    assert_as_autograd_says(eager(tiny_model), found)


def strongest(probabilities):
    """The largest probability that any head gives a token."""
    return probabilities.amax(dim=(0, 1))


def test_evidence_adds_up_to_the_first_order_change_of_the_margin(tiny_model):
    """If [CLS] gathers (1 + ε) times as much in the last layer, the margin changes by ε · Σ evidence × heads, by finite
    differences.
    """
    model = eager(tiny_model)
    scale = 1.0

    def scaled(_module, _inputs, output):
        context = output[0].clone()
        context[:, 0] *= scale
        return (context, *output[1:])

    model.bert.encoder.layer[-1].attention.self.register_forward_hook(scaled)
    for ids, logits, values in forward(load(tiny_model)):
        margin = []
        for scale in (1 - 1e-5, 1 + 1e-5):  # noqa: B007 - `scaled` reads it
            with torch.no_grad():
                own = model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0]
            margin.append(float(margin_of(own, int(logits.argmax()))))
        change = (margin[1] - margin[0]) / 2e-5
        assert values.astype(np.float64).sum() * model.config.num_attention_heads == pytest.approx(
            change, rel=1e-3, abs=1e-4
        )


def test_a_margin_is_a_logit_less_the_log_sum_exp_of_the_others():
    """Of the highest logit, or of the class asked for, in float32 for any dtype of logits."""
    logits = torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 5.0]])
    expected = [3 - np.log(np.exp(1) + np.exp(2)), 5 - np.log(2)]
    np.testing.assert_allclose(margins(logits), expected, rtol=1e-6)
    np.testing.assert_allclose(
        margins(logits.bfloat16(), torch.tensor([0, 1])),
        [1 - np.log(np.exp(3) + np.exp(2)), 0 - np.log(np.exp(5) + 1)],
        rtol=1e-6,
    )


# ---------------------------------------------------------------- half precision


def test_what_follows_the_last_attention_is_computed_in_float32():
    """Linear layers and norms with bfloat16 weights give the float32 results of those weights, to the bit."""
    torch.manual_seed(0)
    rough = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 2)).bfloat16()
    given = torch.randn(3, 16).bfloat16()
    with InFloat32():
        found = rough(given)
    assert found.dtype == torch.float32
    assert torch.equal(found, rough.float()(given.float()))


@pytest.mark.parametrize(("algorithm", "approximate"), [(None, None), ("none", "none"), ("tanh", "tanh")])
def test_a_fused_layer_has_a_gradient_where_one_is_recorded(algorithm, approximate):
    """The fused product has no gradient, so torch's own layers compute it, with the same results."""
    torch.manual_seed(0)
    linear = nn.Linear(16, 8).bfloat16().requires_grad_(False)
    given = torch.randn(3, 16).bfloat16().requires_grad_()
    plain = (
        linear(given) if approximate is None else nn.functional.gelu(linear(given), approximate=approximate)
    )
    (expected,) = torch.autograd.grad(plain.sum(), given)
    fused = FusedLinear(linear, algorithm)(given)
    assert torch.equal(fused, plain)
    assert torch.equal(torch.autograd.grad(fused.sum(), given)[0], expected)


@pytest.mark.sampled(2)
@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "albert", "gte", "deberta-v2"])
def test_evidence_in_bfloat16_stays_near_float32(family, tmp_path):
    """In total variation, for documents with the same prediction.

    Random weights make it far worse than a trained model.
    """
    tiny.save(tmp_path, family)
    distances = []
    for (_, logits, exact), (_, other, rough) in zip(
        forward(load(tmp_path)), forward(load(tmp_path, dtype="bfloat16")), strict=True
    ):
        if logits.argmax() == other.argmax():
            distances.append(np.abs(exact - rough).sum() / 2 / np.abs(exact).sum())
    assert len(distances) >= 3
    assert np.median(distances) < 0.1


# ---------------------------------------------------------------- heads that read more than [CLS]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "changes"), [("eurobert", {}), ("modernbert", {"classifier_pooling": "mean"})]
)
def test_a_head_that_reads_more_than_cls_has_no_evidence_and_a_note(family, changes, tmp_path):
    """One line; everything else is stored."""
    tiny.save(tmp_path, family, **changes)
    classifier = load(tmp_path)
    assert [r.name for r in classifier.reductions] == ["cls"]
    assert classifier.notes == (
        f"evidence is not stored, {tmp_path} has none: its head reads more than the state of the first token ([CLS])",
    )


def test_evidence_alone_of_a_head_that_reads_more_than_cls_is_refused(tmp_path):
    """There would be nothing to store."""
    tiny.save(tmp_path, "modernbert", classifier_pooling="mean")
    message = f"--reduce evidence: {tmp_path} has none, its head reads more than the state of the first token ([CLS])"
    with pytest.raises(UsageError, match=re.escape(message)):
        load(tmp_path, ("evidence",))


# ---------------------------------------------------------------- stored, asked, drawn


@pytest.mark.slow
def test_a_document_of_several_windows_has_no_evidence_and_the_run_says_so(tiny_model, tmp_path):
    """Null in all its tokens. Documents read in one pass have the same values as without windows."""
    data = tmp_path / "texts.jsonl"
    texts = [document.text for document in documents((5, 60, 12))]
    data.write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(texts)))
    stores = {}
    for long in ("cut", "windows"):
        config = RunConfig(
            SourceConfig(str(data)),
            str(tiny_model),
            dtype="float32",
            device="cpu",
            max_length=32,
            long=long,
            reductions=("cls", "evidence"),
        )
        run(config, tmp_path / long)
        stores[long] = attnstore.open(tmp_path / long)
    values = {long: s.tokens().select("document", "evidence").collect() for long, s in stores.items()}
    found = values["windows"]
    assert found.filter(document=1)["evidence"].is_null().all()
    for number in (0, 2):
        assert found.filter(document=number).equals(values["cut"].filter(document=number))
    note = "documents read in several windows have no evidence (null): each window has its own prediction"
    assert note in stores["windows"].manifest.notes
    assert note not in stores["cut"].manifest.notes
    assert "evidence_entropy" not in stores["cut"].documents().collect_schema().names()


@pytest.mark.slow
def test_evidence_is_asked_for_by_document_and_refused_as_attention(small_store):
    """Its values have no lift, in both engines, because evidence has no even share."""
    reader = attnstore.open(small_store)
    expected = reader.tokens().filter(document=3).collect()["evidence"].cast(pl.Float64).to_list()
    for engine in ("duckdb", "polars"):
        answer = reader.query("document_tokens", engine=engine, document=3, reduction="evidence").arrow()
        assert answer["attention"].to_pylist() == expected
        assert answer["lift"].to_pylist() == [None] * len(expected)
    held = "cls, received, rollout, cls_heads"
    with pytest.raises(UsageError) as refused:
        reader.query("top_words_by_class", reduction="evidence")
    assert str(refused.value) == (
        "evidence is a signed score, but this question needs attention: reduction must be one of " + held
    )
    agreement = reader.query("layer_agreement", min_documents=1).arrow()
    columns = {*agreement["one"].to_pylist(), *agreement["other"].to_pylist()}
    assert "rollout" in columns
    assert "evidence" not in columns


@pytest.mark.sampled(at=(0,))
@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "gte", "deberta-v2"])
def test_no_memory_of_a_batch_is_left_once_it_was_read(family, tmp_path, monkeypatch):
    """A graph that referred to itself would keep the activations of all batches: 46 MB per review with MiniLM."""
    tiny.save(tmp_path, family)
    left = weakref.WeakSet()

    class Watched(tap.Tap):
        def __init__(self, *args, **keywords):
            super().__init__(*args, **keywords)
            left.add(self)

    monkeypatch.setattr(engine_classifier, "Tap", Watched)
    classifier = load(tmp_path, ("cls", "evidence", "relevance", "norm", "evidence_by_class"))
    assert len(columns(classifier)) == len(FEW)
    gc.collect()
    assert not left
