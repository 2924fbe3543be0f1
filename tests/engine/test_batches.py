"""Tokens with their positions, and batches under a budget of tokens."""

import random
from functools import partial
from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from attnstore.data.documents import Document
from attnstore.engine import batches
from attnstore.engine.batches import plan_batches, tokenise
from attnstore.engine.ends import can_be_cut
from attnstore.engine.long import ends, passes

TOKENIZER = tiny.tokenizer()


def tokenised(*texts, max_length=64):
    documents = [Document(text, str(i), None, "all", None) for i, text in enumerate(texts)]
    return list(tokenise(enumerate(documents), TOKENIZER, max_length, at_once=2))


def test_a_document_has_wordpieces_with_words_and_spans():
    """Worked out by hand:

    `unwatchable` is one word of two wordpieces, and upper case is the text's, not the token's.
    """
    (document,) = tokenised("Unwatchable film!")
    assert document.tokens == ["[CLS]", "unwatch", "##able", "film", "!", "[SEP]"]
    assert document.ids.tolist() == [tiny.VOCABULARY[t] for t in document.tokens]
    assert document.start.tolist() == [0, 0, 7, 12, 16, 0]
    assert document.end.tolist() == [0, 7, 11, 16, 17, 0]
    assert document.special.tolist() == [True, False, False, False, False, True]
    assert (document.length, document.truncated, document.number) == (6, False, 0)


def test_a_special_token_written_in_a_text_is_special_and_has_a_span():
    """The ids are those of transformers.

    An unknown word is a word, and a special token's name in lower case is text.
    """
    text = "[SEP] good [PAD] ☃ [sep][MASK]"
    (document,) = tokenised(text)
    assert document.ids.tolist() == TOKENIZER(text).input_ids
    assert document.tokens == "[CLS] [SEP] good [PAD] [UNK] [UNK] s ##e ##p [UNK] [MASK] [SEP]".split()
    assert document.special.tolist() == [True, True, False, True, *[False] * 6, True, True]
    assert document.frame.tolist() == [True, *[False] * 10, True]
    assert document.written_special == {"[SEP]", "[PAD]", "[MASK]"}
    assert tokenised("[CLS]")[0].written_special == {"[CLS]"}
    assert tokenised("a film")[0].written_special == set()


def test_windows_begin_and_end_with_the_tokenizers_own_special_tokens():
    """A special token written at the start or end of the text is not mistaken for them."""
    text = "[SEP] " + "good " * 9 + "[SEP]"
    document = Document(text, "0", None, "all", None)
    found = list(tokenise([(0, document)], TOKENIZER, 6, passes=partial(passes, long="windows", stride=2)))
    assert [d.tokens for d in found] == [
        ["[CLS]", *body, "[SEP]"]
        for body in [["[SEP]", *["good"] * 3], *[["good"] * 4] * 2, ["good"] * 4, [*["good"] * 3, "[SEP]"]]
    ]


@pytest.mark.parametrize(
    ("words", "length", "truncated"), [(0, 2, False), (6, 8, False), (7, 8, True), (40, 8, True)]
)
def test_a_text_beyond_the_limit_is_cut_and_marked(words, length, truncated):
    """A text of exactly the limit is not cut; one token more is. An empty text is [CLS] [SEP]."""
    (document,) = tokenised(" ".join(["film"] * words), max_length=8)
    assert (document.length, document.truncated) == (length, truncated)
    assert (document.tokens[0], document.tokens[-1]) == ("[CLS]", "[SEP]")


def test_order_is_kept_over_groups_of_any_size():
    """Five documents in groups of two keep their order and their numbers."""
    found = tokenised("a", "film", "was", "not", "good")
    assert [(d.number, d.tokens[1]) for d in found] == [
        (0, "a"),
        (1, "film"),
        (2, "was"),
        (3, "not"),
        (4, "good"),
    ]


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(lengths=st.lists(st.integers(0, 30), max_size=40), budget=st.integers(1, 80), padded=st.booleans())
def test_batches_hold_every_document_once_under_the_budget(lengths, budget, padded):
    """Longest first, none missing or repeated. Only a document that is too long alone exceeds the budget."""
    documents = tokenised(*(" ".join(["film"] * n) for n in lengths))
    batches = list(plan_batches(documents, budget, padded=padded))
    order = [d for batch in batches for d in batch.documents]
    assert sorted(d.number for d in order) == list(range(len(lengths)))
    assert [d.length for d in order] == sorted((d.length for d in documents), reverse=True)
    for batch in batches:
        used = max(batch.lengths) * len(batch.documents) if padded else batch.tokens
        assert used <= budget or len(batch.documents) == 1


def test_a_plan_depends_only_on_the_documents():
    """Shuffled documents make the same batches, so a resumed part repeats its first attempt bit for bit."""
    documents = tokenised(*(" ".join(["film"] * (n % 7)) for n in range(30)))
    shuffled = random.Random(1).sample(documents, len(documents))
    plans = [
        [[d.number for d in b.documents] for b in plan_batches(ds, 20, padded=False)]
        for ds in (documents, shuffled)
    ]
    assert plans[0] == plans[1]


def _kinds_of_tokenizers() -> dict[str, Any]:
    """A WordPiece, a byte-level and a unigram tokenizer, trained on a few words, as transformers tokenizers."""
    import tokenizers as t
    import transformers

    words = "the film was a joy and not a bore , filming naïve 映画 it's 12,345 don't".split()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    byte_level = t.pre_tokenizers.ByteLevel(add_prefix_space=False)
    kinds = {
        "word pieces": (
            t.models.WordPiece(unk_token="[UNK]"),
            t.pre_tokenizers.BertPreTokenizer(),
            t.trainers.WordPieceTrainer(vocab_size=60, special_tokens=special, show_progress=False),
        ),
        "byte-level": (
            t.models.BPE(),
            byte_level,
            t.trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False),
        ),
        "unigram": (
            t.models.Unigram(),
            t.pre_tokenizers.Metaspace(),
            t.trainers.UnigramTrainer(
                vocab_size=60, special_tokens=special, unk_token="[UNK]", show_progress=False
            ),
        ),
        "without words": (
            t.models.BPE(),
            None,
            t.trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False),
        ),
    }
    found = {}
    for name, (model, pre, trainer) in kinds.items():
        made = t.Tokenizer(model)
        if pre is not None:
            made.pre_tokenizer = pre
        made.train_from_iterator([" ".join(words)] * 20, trainer)
        made.post_processor = t.processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
        found[name] = transformers.PreTrainedTokenizerFast(
            tokenizer_object=made, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
        )
    return found


def test_the_unknown_token_has_one_name_whatever_the_text() -> None:
    """A unigram tokenizer returns the unknown text itself, so tokens of one id would have many names."""
    tokenizer = _kinds_of_tokenizers()["unigram"]
    documents = [Document(text, "", None, "all", None) for text in ("☃", "the ⚅")]
    first, second = tokenise(enumerate(documents), tokenizer, 24)
    for document in (first, second):
        assert document.tokens == tokenizer.convert_ids_to_tokens(document.ids.tolist())
        assert "[UNK]" in document.tokens
        assert tokenizer.unk_token_id in document.ids
    assert not {"☃", "⚅"} & {*first.tokens, *second.tokens}


@pytest.mark.slow
def test_long_texts_are_cut_in_advance_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens, spans and whether the text was cut are those of the whole text, with every kind of tokenizer."""
    monkeypatch.setattr(batches, "_LOOKED_AT", 400)
    monkeypatch.setattr(batches, "_CHARACTERS_A_TOKEN", 8)
    monkeypatch.setattr(batches, "_WORDS_BEHIND", 5)
    chance = random.Random(18)
    words = ["the", "film", "was", "naïve", "映画", ",", "it's", "12,345", "zzz" * 30, "don't", "\n", ""]
    texts = [chance.choice([" ", "", "  ", "\n"]).join(chance.choices(words, k=400)) for _ in range(12)]
    texts += ["x" * 3000, " " * 3000 + "film", "film " * 900]
    saved = 0
    for name, tokenizer in _kinds_of_tokenizers().items():
        asked: list[int] = []

        def counted(given: list[str], asked: list[int] = asked, own: Any = tokenizer, **options: Any) -> Any:
            asked += map(len, given)
            return own(given, **options)

        found = batches._beginnings(texts, counted, 24)
        whole = tokenizer(texts, truncation=True, max_length=24).encodings
        for one, other in zip(found, whole, strict=True):
            assert (one.ids, one.offsets, one.tokens) == (other.ids, other.offsets, other.tokens), name
            assert bool(one.overflowing) == bool(other.overflowing)
        saved += sum(asked) < sum(map(len, texts)) / 2
    assert saved >= 2  # most are never tokenised as a whole


@pytest.mark.slow
@pytest.mark.parametrize("long", ["tail", "head+tail"])
def test_the_ends_of_long_texts_are_read_without_their_middle(
    long: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is that of tokenising the whole text, with every kind of tokenizer."""
    monkeypatch.setattr(batches, "_LOOKED_AT", 400)
    monkeypatch.setattr(batches, "_CHARACTERS_A_TOKEN", 8)
    monkeypatch.setattr(batches, "_WORDS_BEHIND", 5)
    chance = random.Random(18)
    words = [
        "the",
        "film",
        "Σας",
        "naïve",
        "映画",
        ",",
        "it's",
        "12,345",
        "zzz" * 30,
        "don't",
        "\n",
        "",
        "[SEP]",
        " \u0301a",
    ]
    texts = [chance.choice([" ", "", "  ", "\n"]).join(chance.choices(words, k=400)) for _ in range(16)]
    texts += [
        "x" * 3000,
        " " * 3000 + "film",
        "film " * 900,
        "1" * 2000 + " " + "2" * 700,
        "a" * 1500 + " film" * 20,
    ]
    documents = [(n, Document(text, str(n), None, "all", None)) for n, text in enumerate(texts)]
    read, by_ends = partial(passes, long=long, stride=1), partial(ends, long=long)
    for name, tokenizer in _kinds_of_tokenizers().items():
        found = list(tokenise(documents, tokenizer, 24, passes=read, ends=by_ends))
        lengths = []
        for one, other in zip(found, tokenise(documents, tokenizer, 24, passes=read), strict=True):
            for array in ("ids", "start", "end", "special", "frame"):
                assert getattr(one, array).tolist() == getattr(other, array).tolist(), (name, array)
            assert (one.tokens, one.truncated, one.number) == (other.tokens, other.truncated, other.number)
            lengths.append(one.length)
        assert max(lengths) == 24


@pytest.mark.slow
def test_the_middle_of_a_long_text_is_not_tokenised(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the tokenizer makes words. A tokenizer that does not is given the whole text."""
    monkeypatch.setattr(batches, "_LOOKED_AT", 1 << 10)
    document = Document("a film that was not a bore, and ends well. " * 4000, "0", None, "all", None)
    looked: dict[str, int] = {}
    for name, tokenizer in _kinds_of_tokenizers().items():
        own = type(tokenizer).__call__

        def counted(
            self: Any, given: Any, *more: Any, name: str = name, own: Any = own, **options: Any
        ) -> Any:
            looked[name] = looked.get(name, 0) + sum(map(len, given))
            return own(self, given, *more, **options)

        with monkeypatch.context() as patch:
            patch.setattr(type(tokenizer), "__call__", counted)
            list(
                tokenise(
                    [(0, document)],
                    tokenizer,
                    24,
                    passes=partial(passes, long="head+tail", stride=1),
                    ends=partial(ends, long="head+tail"),
                )
            )
    whole = len(document.text)
    assert looked.pop("without words") >= whole
    assert max(looked.values()) < whole / 20


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"pre_tokenizer": None}, False),
        ({"pre_tokenizer": ("Split", " ")}, False),
        ({"normalizer": "words"}, False),
        ({"normalizer": "letters"}, True),
        ({"token": "two words"}, False),
    ],
)
def test_a_text_is_cut_only_if_the_tokenizer_is_known_to_allow_it(
    change: dict[str, Any], expected: bool
) -> None:
    """By its pre-tokenizer, its normalizer and its added tokens. With unknown parts a text is not cut."""
    import tokenizers as t

    tokenizer = _kinds_of_tokenizers()["word pieces"]
    backend = tokenizer.backend_tokenizer
    if "pre_tokenizer" in change:
        backend.pre_tokenizer = t.pre_tokenizers.Split(" ", "removed") if change["pre_tokenizer"] else None
    if "normalizer" in change:
        pattern = t.Regex("a .* b") if change["normalizer"] == "words" else "``"
        backend.normalizer = t.normalizers.Sequence(
            [t.normalizers.NFD(), t.normalizers.Replace(pattern, "x")]
        )
    if "token" in change:
        tokenizer.add_tokens([change["token"]])
    assert can_be_cut(tokenizer) is expected
