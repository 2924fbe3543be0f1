"""The tap against eager float32 attention, in every family and on every path through a model."""

import json
import random
import re
import shutil
import string

import numpy as np
import pytest
import tiny
import torch
import transformers
from torch import nn

from attnstore.check.oracle import Oracle, reduced_by_definition
from attnstore.config import RunConfig, SourceConfig
from attnstore.data.documents import Document
from attnstore.engine import tap
from attnstore.engine.batches import plan_batches, tokenise
from attnstore.engine.devices import choose_device, choose_dtype, fast_bfloat16
from attnstore.engine.loading import load_classifier
from attnstore.engine.paths import kernel, linears
from attnstore.engine.paths.linears import FusedLinear
from attnstore.engine.reductions import resolve_reductions
from attnstore.errors import ModelError, UsageError

NAMES = ("cls", "received", "rollout", "cls_heads", "from_3")


def texts():
    """An empty text, one word, a cut text, and lengths in between, longer than ModernBERT's window of 4."""
    generator = random.Random(0)
    words = [w for w in tiny.WORDS if not w.startswith("##")]
    return [" ".join(generator.choices(words, k=k)) for k in (0, 1, 40, 12, 30, 5, 19)]


def load(folder, names=NAMES, **changes):
    config = RunConfig(
        SourceConfig(""), str(folder), **({"dtype": "float32", "device": "cpu", "max_length": 32} | changes)
    )
    return load_classifier(config, resolve_reductions(names))


def forward(classifier, batch_tokens=70, documents=None):
    """Each document's (tokenised document, logits, {column: values}), in dataset order."""
    documents = documents or [Document(t, str(i), None, "all", None) for i, t in enumerate(texts())]
    tokenised = tokenise(enumerate(documents), classifier.tokenizer, classifier.max_length)
    found = {}
    for batch in plan_batches(tokenised, batch_tokens, padded=classifier.padded):
        reduced = classifier(batch)
        start = 0
        for row, document in enumerate(batch.documents):
            span = slice(start, start + document.length)
            columns = {name: values[span].numpy() for name, values in reduced.columns.items()}
            found[document.number] = (document, reduced.logits[row].numpy(), columns)
            start += document.length
    return [found[number] for number in sorted(found)]


def assert_as_the_oracle_says(folder, classifier, results, tolerance=1e-5):
    oracle = Oracle(str(folder))
    for document, logits, columns in results:
        own_logits, attentions = oracle(document.ids)
        np.testing.assert_allclose(logits, own_logits, atol=10 * tolerance)
        expected = {}
        for reduction in classifier.reductions:
            values = reduced_by_definition(attentions, reduction.name)
            by_column = values if reduction.stored.per_layer else values[None]
            expected |= dict(zip(reduction.stored.columns(classifier.layers), by_column, strict=True))
        assert list(columns) == list(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(columns[name], values, atol=tolerance, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "mps",
            marks=pytest.mark.skipif(
                not torch.backends.mps.is_available(), reason="there is no Apple GPU here"
            ),
        ),
    ],
)
def test_a_gpu_without_a_kernel_agrees_with_eager_attention(device, tiny_model, monkeypatch):
    """The reference for such a GPU, with documents side by side, run on the CPU."""
    classifier = load(tiny_model, device=device)
    if device == "cpu":
        monkeypatch.setattr(kernel, "serves", lambda *_: False)
        monkeypatch.setattr(tap, "_on_gpu", lambda _: True)
        monkeypatch.setattr(tap.Tap, "_gpu_obstacle", lambda *_: "there is no kernel for mps")
    assert_as_the_oracle_says(tiny_model, classifier, forward(classifier))
    assert classifier._obstacle == "there is no kernel for mps"


@pytest.mark.slow
@pytest.mark.parametrize("family", tiny.ROUTED + tiny.UNROUTED)
def test_every_family_agrees_with_eager_float32_attention(family, tmp_path):
    """cls, received, rollout, cls_heads and from_3 of every layer, to 1e-5, in mixed batches with padding."""
    tiny.save(tmp_path, family)
    classifier = load(tmp_path)
    assert_as_the_oracle_says(tmp_path, classifier, forward(classifier))


@pytest.mark.sampled(3)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "way"),
    [
        *((f, "packed") for f in ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra")),
        *((f, "packed") for f in ("albert", "ernie", "modernbert")),
        *((f, "padded") for f in ("mobilebert", "gte", "nomic_bert")),
        *((f, "hooked") for f in ("deberta-v2", "mpnet")),
    ],
)
def test_each_family_takes_its_fastest_path(family, way, tmp_path):
    """Packing where it is correct, padding elsewhere, hooks if a family never calls registered functions."""
    tiny.save(tmp_path, family)
    classifier = load(tmp_path)
    assert (classifier.way, classifier.layers, classifier.heads) == (
        way,
        4 if family == "modernbert" else 3,
        4,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "feed_forward"),
    [
        *((f, "encoder.layer.*.intermediate.dense") for f in ("bert", "roberta", "electra", "ernie")),
        ("distilbert", "transformer.layer.*.ffn.lin1"),
        ("albert", "encoder.albert_layer_groups.*.albert_layers.*.ffn"),
    ],
)
def test_after_the_last_attention_only_the_cls_rows_are_computed(family, feed_forward, tmp_path):
    """The feed-forward of the last layer sees one row per document, that of every other layer sees all tokens."""
    tiny.save(tmp_path, family)
    classifier = load(tmp_path)
    rows: list[int] = []
    pattern = re.compile(re.escape(feed_forward).replace(r"\*", r"\d+"))
    for name, module in classifier.model.base_model.named_modules():
        if pattern.fullmatch(name):
            module.register_forward_hook(lambda _m, _inputs, output: rows.append(output[..., 0].numel()))
    lengths = [document.length for document, _, _ in forward(classifier, batch_tokens=10_000)]
    assert rows == [sum(lengths), sum(lengths), len(lengths)]


@pytest.mark.slow
def test_a_head_that_pools_by_mean_is_packed_with_segment_means(tmp_path):
    """ModernBERT with classifier_pooling="mean": each document's own mean, not the batch's."""
    tiny.save(tmp_path, "modernbert", classifier_pooling="mean")
    classifier = load(tmp_path)
    assert classifier.way == "packed"
    assert_as_the_oracle_says(tmp_path, classifier, forward(classifier))


@pytest.mark.slow
def test_roberta_positions_start_after_the_padding_index(tmp_path):
    """With a padding index of 1, as in real RoBERTas, positions start at 2."""
    tiny.save(tmp_path, "roberta", pad_token_id=1)
    classifier = load(tmp_path)
    assert classifier.way == "packed"
    assert_as_the_oracle_says(tmp_path, classifier, forward(classifier))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert", "gte", "mpnet"])
def test_special_tokens_written_in_a_text_do_not_end_the_document(family, tmp_path):
    """A [PAD] in the text is not padding either: it is attended to, and has the position that transformers gives it."""
    tiny.save(tmp_path, family)
    classifier = load(tmp_path)
    written = ["good [SEP] bad film", "[PAD] good [PAD] film", "[CLS]", "a [SEP]", "the film was good"]
    documents = [Document(text, str(n), None, "all", None) for n, text in enumerate(written)]
    assert_as_the_oracle_says(tmp_path, classifier, forward(classifier, documents=documents))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "gte", "deberta-v2"])
def test_the_token_budget_changes_no_value_beyond_rounding(family, tmp_path):
    """One document per batch, all in one, or in between: the values agree to 1e-6 plus 2e-5 relative.

    The largest difference seen is 7.4e-6 relative (gte, padded, on a Zen 4), because products of other shapes add in
    another order.
    """
    tiny.save(tmp_path, family)
    classifier = load(tmp_path)
    alone, together = forward(classifier, 1), forward(classifier, 10_000)
    for (_, logits, columns), (_, other_logits, other_columns) in zip(alone, together, strict=True):
        np.testing.assert_allclose(logits, other_logits, atol=1e-5)
        for name, values in columns.items():
            np.testing.assert_allclose(values, other_columns[name], atol=1e-6, rtol=2e-5)


def test_the_same_batch_twice_gives_the_same_bits(tiny_model):
    """Nothing depends on the order in which threads finish."""
    classifier = load(tiny_model)
    for (_, logits, columns), (_, other_logits, other_columns) in zip(
        forward(classifier), forward(classifier), strict=True
    ):
        assert logits.tobytes() == other_logits.tobytes()
        assert all(values.tobytes() == other_columns[name].tobytes() for name, values in columns.items())


@pytest.mark.slow
def test_bfloat16_stays_near_float32(tiny_model):
    """A document's attention changes little in total variation, and predictions are the same."""
    exact, rough = forward(load(tiny_model)), forward(load(tiny_model, dtype="bfloat16"))
    for (_, _, columns), (_, _, other) in zip(exact, rough, strict=True):
        for name in ("cls_01", "cls_03", "received_03", "rollout"):
            assert np.abs(columns[name] - other[name]).sum() / 2 < 0.05


needs_bfloat16 = pytest.mark.skipif(
    not fast_bfloat16(torch.device("cpu")), reason="this processor does not multiply bfloat16"
)


@needs_bfloat16
@pytest.mark.parametrize(
    ("family", "activated"),
    [
        *((f, 3) for f in ("bert", "roberta", "electra", "distilbert", "deberta-v2")),
        ("albert", 1),  # its layers share their weights
        *((f, 0) for f in ("modernbert", "gte")),  # its gelu multiplies another half of the product
    ],
)
def test_fused_linear_layers_give_the_same_logits_in_bfloat16(family, activated, tmp_path, monkeypatch):
    """All linear layers of the encoder, with the gelu that follows.

    Logits are as close to float32's as without fusing.
    """
    tiny.save(tmp_path, family)
    fused = load(tmp_path, dtype="bfloat16")
    encoder = [m for m in fused.model.base_model.modules() if isinstance(m, nn.Linear)]
    assert {type(m) for m in encoder} == {FusedLinear}
    assert sum(m.algorithm is not None for m in encoder) == activated
    monkeypatch.setattr(linears, "fuse", lambda _model: lambda: None)
    plain, exact = load(tmp_path, dtype="bfloat16"), load(tmp_path)
    assert FusedLinear not in {type(m) for m in plain.model.modules()}
    errors = {"fused": 0.0, "plain": 0.0}
    for name, classifier in (("fused", fused), ("plain", plain)):
        for (_, logits, _), (_, expected, _) in zip(forward(classifier), forward(exact), strict=True):
            errors[name] += float(np.abs(logits - expected).sum())
    assert errors["fused"] < 1.5 * errors["plain"]


@needs_bfloat16
@pytest.mark.parametrize("wrong", [lambda x: x + 1.0, lambda x: x * torch.nan, lambda x: x.no_such_operator])
def test_fused_layers_that_compute_something_else_are_not_used(wrong, tiny_model, monkeypatch):
    """If torch's operator has changed, or a family's names mean something else, the model stays unchanged."""
    honest = FusedLinear.forward
    monkeypatch.setattr(FusedLinear, "forward", lambda self, x: wrong(honest(self, x)))
    refused = load(tiny_model, dtype="bfloat16")
    assert FusedLinear not in {type(m) for m in refused.model.modules()}
    monkeypatch.setattr(linears, "fuse", lambda _model: lambda: None)
    for (_, logits, _), (_, plain, _) in zip(
        forward(refused), forward(load(tiny_model, dtype="bfloat16")), strict=True
    ):
        assert logits.tobytes() == plain.tobytes()


def test_no_layer_is_fused_in_float32(tiny_model):
    """Fusing does not speed up float32 products."""
    assert FusedLinear not in {type(m) for m in load(tiny_model).model.modules()}


def by_position(document):
    """Queries weighted by their position."""
    return np.arange(document.length, dtype=np.float32)


def strongest(probabilities):
    """The largest probability that any query of any head gives a token."""
    return probabilities.amax(dim=(0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "gte", "deberta-v2"])
def test_custom_reductions_of_both_kinds_equal_their_definitions(family, tmp_path):
    """Row weights and functions of probabilities, packed, padded and hooked, against numpy."""
    tiny.save(tmp_path, family)
    classifier = load(tmp_path, names=("cls", by_position, strongest))
    oracle = Oracle(str(tmp_path))
    for document, _, columns in forward(classifier):
        _, attentions = oracle(document.ids)
        for layer, p in enumerate(attentions, start=1):
            weighted = np.arange(document.length) @ p.mean(axis=0)
            np.testing.assert_allclose(columns[f"by_position_{layer:02d}"], weighted, atol=1e-4)
            np.testing.assert_allclose(columns[f"strongest_{layer:02d}"], p.max(axis=(0, 1)), atol=1e-5)


def too_few(document):
    return np.ones(2, dtype=np.float32)


def too_many(probabilities):
    return torch.ones(1 + probabilities.shape[-1])


def words(document):
    return document.tokens


def nothing(probabilities):
    """Forgets to return what it computed."""


def divides(document):
    return np.ones(document.length) * (1 // 0)


def indexes(probabilities):
    return probabilities[99]


@pytest.mark.sampled(3)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (too_few, "too_few returned shape (2,) for document {} of 32 tokens: it must return one number per token"),
        (too_many, "too_many returned shape (33,) for document {} of 32 tokens: it must return one number per token"),
        (words, "words returned no numbers but list for document {} of 32 tokens"),
        (nothing, "nothing returned no numbers but NoneType for document {} of 32 tokens"),
        (divides, "divides failed on document {}: ZeroDivisionError: integer division or modulo by zero"),
        (indexes, "indexes failed on document {}: IndexError: index 99 is out of bounds"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_a_failing_custom_reduction_is_reported(function, message, family, tmp_path):
    """The line names the function, the document, and what it returned or raised; packed and hooked."""
    tiny.save(tmp_path, family)
    long = [Document(texts()[2], "train/7", None, "all", None)]
    with pytest.raises(UsageError) as raised:
        forward(load(tmp_path, names=(function,)), documents=long)
    assert str(raised.value).startswith("the custom reduction " + message.format("train/7"))


@pytest.mark.slow
def test_grouped_query_attention_repeats_the_key_heads(tmp_path):
    """In EuroBERT two query heads share a key head. Head rows are those of the query heads."""
    tiny.save(tmp_path, "eurobert")
    classifier = load(tmp_path, names=("cls_heads",))
    assert_as_the_oracle_says(tmp_path, classifier, forward(classifier))
    assert forward(classifier)[2][2]["cls_heads_01"].shape == (32, 4)


# ---------------------------------------------------------------- unusable models and options


def changed(folder, target, **config):
    """A copy of a model's folder with other settings in config.json; None removes one."""
    shutil.copytree(folder, target)
    settings = json.loads((target / "config.json").read_text())
    settings = {k: v for k, v in (settings | config).items() if v is not None}
    (target / "config.json").write_text(json.dumps(settings))
    return target


def without(folder, target, *names):
    shutil.copytree(folder, target)
    for name in names:
        (target / name).unlink()
    return target


def pickled(folder, target):
    without(folder, target, "model.safetensors")
    (target / "pytorch_model.bin").write_bytes(b"\x80\x04")
    return target


def headless(folder, target):
    """Saved as an encoder without a head, although its config names a classifier."""
    import transformers

    model = transformers.AutoModel.from_pretrained(folder)
    model.save_pretrained(target)
    tiny.tokenizer().save_pretrained(target)
    settings = json.loads((target / "config.json").read_text())
    settings["architectures"] = ["BertForSequenceClassification"]
    (target / "config.json").write_text(json.dumps(settings))
    return target


def spoilt_file(folder, target, name, content):
    shutil.copytree(folder, target)
    (target / name).write_text(content)
    return target


def truncated_weights(folder, target):
    shutil.copytree(folder, target)
    whole = (target / "model.safetensors").read_bytes()
    (target / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    return target


def adapter_alone(folder, target):
    """An adapter as peft saves it: no config.json, and weights that are not a whole model's."""
    target.mkdir()
    (target / "adapter_config.json").write_text('{"base_model_name_or_path": "bert"}')
    (target / "adapter_model.safetensors").write_bytes(b"")
    return target


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f, t: t, "there is no model folder"),
        (lambda f, t: without(f, t, "config.json"), "is a folder without config.json"),
        (
            lambda f, t: changed(f, t, architectures=["BertModel"]),
            "has no classification head (it is a BertModel)",
        ),
        (lambda f, t: changed(f, t, architectures=["BertForMaskedLM"]), "has no classification head"),
        (lambda f, t: changed(f, t, is_decoder=True), "is a generative model"),
        (lambda f, t: changed(f, t, model_type="nonesuch"), "can't read the model's config.json"),
        (
            lambda f, t: changed(f, t, problem_type="multi_label_classification"),
            "is a multi-label classifier",
        ),
        (lambda f, t: changed(f, t, id2label={"0": "score"}, label2id={"score": 0}), "(a regression)"),
        (pickled, "has no safetensors weights, and pickles are never loaded"),
        (headless, "lack 2 tensors of a classifier (first: classifier.bias)"),
        (truncated_weights, "can't load the weights"),
        (
            lambda f, t: changed(f, t, hidden_size=48, num_attention_heads=4),
            "differ in size from its config.json",
        ),
        (lambda f, t: without(f, t, "tokenizer.json", "tokenizer_config.json"), "has no tokenizer"),
        (lambda f, t: spoilt_file(f, t, "tokenizer.json", "{}"), "can't read the tokenizer"),
        (lambda f, t: spoilt_file(f, t, "config.json", "{"), "can't read the model's config.json"),
        (lambda f, t: changed(f, t, vocab_size=50), "they do not belong together"),
        (
            lambda f, t: spoilt_file(f, t, "adapter_config.json", "{}"),
            "holds an adapter (adapter_config.json), which",
        ),
        (
            adapter_alone,
            "merge_and_unload().save_pretrained(FOLDER), save the tokenizer there, too, and give FOLDER",
        ),
    ],
)
def test_an_unusable_model_is_reported_in_one_line(spoil, message, tiny_model, tmp_path):
    """Each kind of unusable model has its own line, without a traceback."""
    folder = spoil(tiny_model, tmp_path / "spoilt")
    with pytest.raises(ModelError) as raised:
        load(folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "letters", "said"),
    [(None, 26, True), ("{}", 26, True), ('{"do_lower_case": false}', 26, False), (None, 13, False)],
)
def test_lower_casing_with_a_cased_vocabulary_is_reported(settings, letters, said, tiny_model, tmp_path):
    """With only vocab.txt, transformers lower-cases.

    A vocabulary without most capital letters does not count as cased.
    """
    folder = without(tiny_model, tmp_path / "model", "tokenizer.json", "tokenizer_config.json")
    vocabulary = [*list(tiny.VOCABULARY)[:60], *string.ascii_uppercase[:letters]]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(settings)
    classifier = load(folder)
    assert (classifier.tokenizer.tokenize("A") == ["A"]) is not (said or letters == 13)
    expected = [
        f"the tokenizer of {folder} lower-cases texts, yet its vocabulary has upper-case letters"
    ] * said
    assert [note.partition(":")[0] for note in classifier.notes] == expected


def test_a_causal_model_with_a_classification_head_is_refused(tmp_path):
    """GPT-2 with a classifier calls the tap, but its tokens attend only to earlier ones."""
    tiny.save(tmp_path, "gpt2")
    with pytest.raises(ModelError, match=r"causal \(generative\)"):
        load(tmp_path)


LEAKS = "gives a document different logits alone"


@pytest.mark.sampled(3)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("convbert", {}, LEAKS),
        ("nystromformer", {}, LEAKS),
        ("canine", {}, "shows the attention of 2 of its 3 layers"),
        ("bloom", {"n_layer": 3, "n_head": 4}, "is causal (generative)"),
        ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 80}, "is causal (generative)"),
        ("layoutlm", {}, "can't be run on a text's tokens alone"),
        ("fnet", {}, "shows its attention neither"),
    ],
)
def test_a_family_that_would_be_read_wrongly_is_refused(family, changes, message, tmp_path):
    """Judged by its results for three tiny documents, not by its name, so an unknown family of this kind is refused,
    too.
    """
    tiny.save(tmp_path, family, **changes)
    with pytest.raises(ModelError) as raised:
        load(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path} (")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_model_that_exposes_only_some_layers_is_refused(tmp_path):
    """Funnel pools between its blocks, so only the layers before the first pooling attend to every token."""
    sizes = {"d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64, "vocab_size": len(tiny.VOCABULARY)}
    torch.manual_seed(0)
    config = transformers.FunnelConfig(
        block_sizes=[1, 1, 1], num_labels=2, cls_token_id=2, pad_token_id=0, **sizes
    )
    transformers.FunnelForSequenceClassification(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"shows the attention of 1 of its 3 layers"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"device": "cuda"}, "torch sees no CUDA device here"),
        ({"max_length": 2}, "--max-length 2 leaves no room for text: the smallest here is 3"),
        ({"max_length": 81}, "--max-length 81 is more than the model's 80 positions"),
    ],
)
def test_impossible_options_are_reported(asked, message, tiny_model):
    """The line says what was asked for and what the model or machine supports."""
    if "device" in asked and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(UsageError, match=message):
        load(tiny_model, **asked)


@pytest.mark.slow
def test_the_default_length_is_the_smaller_of_512_and_the_models_own(tiny_model, tmp_path):
    """64, from the tokenizer, here. A RoBERTa of 80 positions can use two fewer, because its padding index is 1."""
    assert load(tiny_model, max_length=None).max_length == 64
    tiny.save(tmp_path, "roberta", pad_token_id=1)
    assert load(tmp_path, max_length=78).max_length == 78
    with pytest.raises(UsageError, match="more than the model's 78 positions"):
        load(tmp_path, max_length=79)


def test_the_hardware_decides_the_default_dtype(monkeypatch):
    """bfloat16 only if the hardware multiplies it fast. Asking for it elsewhere works, with a warning."""
    cpu = choose_device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert choose_dtype("auto", cpu) == (torch.float32, [])
    dtype, notes = choose_dtype("bfloat16", cpu)
    assert dtype == torch.bfloat16
    assert notes == ["bfloat16 is emulated on this hardware and very slow: --dtype float32 is faster"]
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert choose_dtype("auto", cpu) == (torch.bfloat16, [])
