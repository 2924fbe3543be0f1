"""Settings, tensors and vocabulary of a google-research/bert model."""

import json

import pytest
import torch
import transformers

from attnstore.convert.bert import is_cased, is_training_state, read_settings, read_vocabulary, tensors
from attnstore.errors import ModelError, UsageError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[URL]"]
LOWER = [*"abcde", "##a", "the", "1", ".", "中"]


def vocabulary(*tokens):
    return {token: number for number, token in enumerate([*SPECIAL, *tokens])}


def settings(tmp_path, **changes):
    file = tmp_path / "bert_config.json"
    file.write_text(json.dumps({"vocab_size": 30} | changes))
    return read_settings(file)


def test_the_tensors_are_those_of_the_model_in_transformers(tmp_path):
    """Every parameter of BertForSequenceClassification occurs exactly once, in its shape, and there are no others."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    found = settings(tmp_path, **sizes, max_position_embeddings=16, type_vocab_size=2)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**found, num_labels=3))
    expected = {name: values.shape for name, values in model.named_parameters()}
    ours = {t.ours: torch.Size(t.shape[::-1] if t.transposed else t.shape) for t in tensors(found, 3)}
    assert ours == expected
    assert len(list(tensors(found, 3))) == len(expected)


def test_omitted_settings_have_googles_defaults(tmp_path):
    """Those of modeling.BertConfig: its type_vocab_size is 16, that of transformers is 2."""
    assert settings(tmp_path) == {
        "vocab_size": 30,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "type_vocab_size": 16,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "hidden_act": "gelu",
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": "768"}, "hidden_size is '768', which must be a whole number from 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0, which"),
        ({"vocab_size": True}, "vocab_size is True, which"),
        ({"vocab_size": 10**30}, "vocab_size is 10000000000000000000, which"),
        ({"hidden_size": 10, "num_attention_heads": 4}, "a hidden_size of 10 can't be divided among 4 heads"),
        ({"hidden_act": "swish"}, "hidden_act is 'swish', but BERT has gelu, relu, tanh, linear"),
        ({"initializer_range": None}, "initializer_range is None, which must be a number"),
        ({"embedding_size": 128}, "to ALBERT or ELECTRA"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, changes, said):
    with pytest.raises(ModelError) as raised:
        settings(tmp_path, **changes)
    assert said in str(raised.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_type": "bert"}', "\udcff", "[" * 100_000])
def test_a_file_without_settings_is_refused(tmp_path, content):
    file = tmp_path / "bert_config.json"
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ModelError, match=r"bert_config\.json (is not valid JSON|has no vocab_size)"):
        read_settings(file)


@pytest.mark.parametrize(
    ("tokens", "cased"),
    [
        (LOWER, False),
        ([*LOWER, "é", "я", "##я"], False),
        ([*LOWER, *"ABCDE", "The"], True),
        ([*"abcdABC", "é"], True),
        ([*"яюЯЮ"], True),
    ],
)
def test_a_vocabularys_letters_show_whether_it_is_cased(tmp_path, tokens, cased):
    assert is_cased(vocabulary(*tokens), tmp_path) is cased


@pytest.mark.parametrize(
    ("tokens", "why"),
    [
        (["中", "文", "1", "."], "it has no letters with a case"),
        ([*LOWER, "COVID", "A"], "2 of its tokens are in upper case"),
        ([*"ABC"], "3 of its tokens are in upper case"),
    ],
)
def test_an_ambiguous_vocabulary_is_refused(tmp_path, tokens, why):
    """Chinese only, an uncased vocabulary with added names, and one without lower case."""
    with pytest.raises(UsageError) as raised:
        is_cased(vocabulary(*tokens), tmp_path / "vocab.txt")
    assert why in str(raised.value)
    assert "--uncased or --cased" in str(raised.value)


def test_a_vocabulary_is_read_as_google_reads_it(tmp_path):
    """One token per line, stripped. Other characters that Python takes for line ends are part of tokens."""
    file = tmp_path / "vocab.txt"
    file.write_bytes("[PAD]\r\n[UNK]\n[CLS] \n[SEP]\n\u2028a\nb\x0bc".encode())
    assert read_vocabulary(file, 6) == {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "b\x0bc": 5}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[PAD]\n[UNK]\n[CLS]\n", "has no [SEP]"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\nc\n", "has 7 tokens, the model 6"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\na\n", "has the token 'a' twice"),
        (b"[PAD]\xff", "is not in UTF-8"),
        (b"", "has no [PAD]"),
    ],
)
def test_an_invalid_vocabulary_is_refused(tmp_path, content, said):
    file = tmp_path / "vocab.txt"
    file.write_bytes(content)
    with pytest.raises(ModelError) as raised:
        read_vocabulary(file, 6)
    assert said in str(raised.value)


def test_optimiser_state_is_not_part_of_the_model():
    """Google's optimiser, TensorFlow's Adam and the step counter.

    A moving average of the weights is not optimiser state.
    """
    training_state = [
        "global_step",
        "beta1_power",
        "output_bias/adam_m",
        "a/b/adam_v",
        "a/b/Adam",
        "a/b/Adam_1",
    ]
    assert [is_training_state(name) for name in training_state] == [True] * 6
    model = ["output_bias", "bert/adam_m/kernel", "a/b/ExponentialMovingAverage", "my_global_step"]
    assert [is_training_state(name) for name in model] == [False] * 4
