"""A text's tokens are those of its chunks, if a chunk has the same tokens in every text."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import tiny
import tokenizers as t
import transformers
from tokenizers import normalizers as n
from tokenizers import pre_tokenizers as p

from attnstore.data.documents import Document
from attnstore.engine import chunks
from attnstore.engine.batches import TokenisedDocument, tokenise
from attnstore.engine.chunks import Chunks
from attnstore.engine.long import passes

SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "the film was a joy and not a bore , filming naïve 映画 it's 12,345 don't Σας ß İ ﬁ [SEP]"
#: Pieces of texts: words, all kinds of spaces, combining marks, and special tokens.
PIECES = (
    "the|film|naïve|映画|,|it's|12,345|don't|\n|\t|[SEP]|[MASK]|[sep]|\u0301|\u0301a|\u200d|\ufe0f|👍🏽|🏽|👨‍👩‍👧|\u3000|\u00a0"
    "|\u00a8|\u00b4|ﬁ|Σας|Σ|İ|ß|\u0600|\x00|\ufffd|\u00ad|\u2028|e\u0301|가|\u11a8|ก็|ि|\U0001f1e9|...|U.S.A.|/><br|##ing|▁"
).split("|")


def trained(normalizer: Any, pre: Any, *, framed: bool = True, unigram: bool = False) -> Any:
    """A transformers tokenizer trained on a few words."""
    trainer: Any = t.trainers.WordPieceTrainer(vocab_size=120, special_tokens=SPECIAL, show_progress=False)
    if unigram:
        trainer = t.trainers.UnigramTrainer(
            vocab_size=80, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False
        )
    made = t.Tokenizer(t.models.Unigram() if unigram else t.models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizer, pre
    made.train_from_iterator([WORDS] * 5, trainer)
    if framed:
        made.post_processor = t.processors.TemplateProcessing(
            single="[CLS] $A [SEP] [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    names = dict(zip(("unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names)
    # As in RoBERTa and XLM-R, the token includes the spaces before it.
    tokenizer.add_special_tokens({"mask_token": transformers.AddedToken("[MASK]", lstrip=True, special=True)})
    return tokenizer


KINDS: dict[str, Callable[[], Any]] = {
    "uncased": tiny.tokenizer,
    "cased": lambda: trained(n.BertNormalizer(lowercase=False), p.BertPreTokenizer()),
    "composed": lambda: trained(n.Sequence([n.NFKC(), n.Lowercase(), n.StripAccents()]), p.Whitespace()),
    "without a frame": lambda: trained(
        n.Sequence([n.Strip(), n.NFD()]),
        p.Sequence([p.WhitespaceSplit(), p.Punctuation(), p.Digits(individual_digits=True)]),
        framed=False,
    ),
    "unigram": lambda: trained(
        n.Sequence([n.Nmt(), n.NFKC(), n.Replace(t.Regex(" {2,}"), " ")]),
        p.Sequence([p.WhitespaceSplit(), p.Metaspace(prepend_scheme="always")]),
        unigram=True,
    ),
}


def documents(texts: list[str]) -> list[tuple[int, Document]]:
    return [(number, Document(text, str(number), None, "all", None)) for number, text in enumerate(texts)]


def facts(found: list[TokenisedDocument]) -> list[Any]:
    arrays = ("ids", "start", "end", "special", "frame", "places")
    return [
        (d.number, d.text, d.truncated, d.window, d.windows, *(getattr(d, name).tolist() for name in arrays))
        for d in found
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, 40))]
)
def test_tokens_are_those_of_the_whole_text(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids, spans and truncation, in texts of any characters, with chunks that are remembered and chunks that were
    forgotten.
    """
    monkeypatch.setattr(chunks, "_REMEMBERED", 60)
    monkeypatch.setattr(chunks, "_TOGETHER", 50)
    chance = random.Random(seed)
    tokenizer = KINDS[kind]()
    known = Chunks.of(tokenizer)
    assert known is not None
    texts = [
        "".join(
            chance.choice(PIECES) + chance.choice(["", " ", " ", "  "]) for _ in range(chance.randrange(20))
        )
        for _ in range(60)
    ]
    texts += ["", " ", "the film", "film " * 30, "z" * 300]
    windows = partial(passes, long="windows", stride=3)
    for length, read in ((8, None), (24, None), (10, windows)):
        found = list(tokenise(documents(texts), tokenizer, length, 16, passes=read, chunks=known))
        with monkeypatch.context() as patch:
            patch.setattr(Chunks, "encode", lambda _, texts, __: [None] * len(texts))
            expected = list(tokenise(documents(texts), tokenizer, length, passes=read))
        assert facts(found) == facts(expected)


def test_a_chunk_is_tokenised_once_and_a_text_with_a_special_token_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tokenizer is given new chunks, many in one text, and whole texts that could be read differently in chunks."""
    tokenizer = tiny.tokenizer()
    known = Chunks.of(tokenizer)
    given: list[str] = []
    own = type(tokenizer).__call__

    def counted(self: Any, texts: list[str], **options: Any) -> Any:
        given.extend(texts)
        return own(self, texts, **options)

    monkeypatch.setattr(type(tokenizer), "__call__", counted)
    for texts in (["a film", "a good film"], ["good, good film"], ["film [SEP] film", "a \u0301film"]):
        list(tokenise(documents(texts), tokenizer, 24, chunks=known))
    assert [sorted(text.split()) for text in given if text.strip()] == [
        ["a", "film", "good"],
        ["good,"],
        ["[SEP]", "film", "film"],
        ["a", "\u0301film"],
    ]


def _with_a_token_of_ones_own() -> Any:
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["Covid"])  # searched for in lower-cased text
    return tokenizer


def _cut_at_the_left() -> Any:
    tokenizer = tiny.tokenizer()
    tokenizer.truncation_side = "left"
    return tokenizer


@pytest.mark.parametrize(
    "make",
    [
        _with_a_token_of_ones_own,
        _cut_at_the_left,
        lambda: trained(None, p.ByteLevel()),  # a space belongs to the word after it
        lambda: trained(None, p.Metaspace()),
        lambda: trained(None, p.Sequence([p.WhitespaceSplit(), p.Metaspace(prepend_scheme="first")])),
        lambda: trained(n.Prepend("▁"), p.WhitespaceSplit()),
        lambda: trained(n.Replace(t.Regex("e f"), "x"), p.WhitespaceSplit()),
        lambda: trained(n.Replace(t.Regex(" {2,}"), "x"), p.WhitespaceSplit()),
        lambda: trained(None, p.Punctuation()),
        lambda: trained(None, None),
    ],
)
def test_texts_are_tokenised_whole_if_chunks_depend_on_their_context(make: Callable[[], Any]) -> None:
    """With each of these tokenizers, some chunk has different tokens in different texts."""
    assert Chunks.of(make()) is None
