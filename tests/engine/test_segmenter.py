"""The words of a text do not depend on the tokenizer, and end at the boundaries of Unicode and ICU."""

import random
import re

import numpy as np
import pytest
import tiny
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from attnstore.data.documents import Document
from attnstore.engine import segmenter
from attnstore.engine.batches import tokenise
from attnstore.engine.segmenter import Segmenter

TEXTS = [
    "The film was great,I loved it!<br /><br />Don't miss: 1,234.5 stars... U.S.A. (well-made)",
    "Café naïve ÉCOLE straße “quoted” don’t — élan",
    "great, great! GREAT?  unwatchable\nunwatchable\tfilm.",
    "👍🏽 👨‍👩‍👧 🇩🇪 e\u0301a co\u00adop",
    "",
    " \n ",
]


def test_earlier_texts_change_no_word(monkeypatch):
    """Each chunk is segmented once. Results are the same whether chunks are remembered or were all forgotten."""
    monkeypatch.setattr(segmenter, "_REMEMBERED", 8)
    known = Segmenter()
    for texts in ([TEXTS[0]], TEXTS, TEXTS[1:3], TEXTS[::-1]):
        assert words_of(texts, tiny.tokenizer(), known) == words_of(texts, tiny.tokenizer(), Segmenter())


def unigram():
    """A SentencePiece tokenizer, whose pieces cross word boundaries as XLM-R's do."""
    pieces = [("<unk>", 0.0), ("▁great,", -1.0), ("▁great", -2.0), (",I", -2.0), ("/><br", -1.0)]
    pieces += [(character, -9.0) for character in sorted({*"".join(TEXTS), "▁"} - {" "})]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def byte_level():
    """A byte-level BPE, with a few merges, whose tokens include the space before them."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(["great, great, film... unwatchable... 👍🏽 👍🏽"] * 9, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend)


def characters():
    """One token per character, without any normalisation of case or form."""
    vocabulary = {character: n for n, character in enumerate(["<unk>", *sorted({*"".join(TEXTS)})])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([])
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


TOKENIZERS = {"wordpiece": tiny.tokenizer, "unigram": unigram, "bytes": byte_level, "characters": characters}


def words_of(texts, tokenizer, segmenter=None):
    """(word, piece, pieces, start, end) of every token, one list per text."""
    documents = list(
        tokenise(
            enumerate(Document(t, str(n), None, "x", None) for n, t in enumerate(texts)), tokenizer, 10**6
        )
    )
    lengths = [document.length for document in documents]
    start, end, special = (
        np.concatenate([getattr(document, name) for document in documents])
        for name in ("start", "end", "special")
    )
    found = (segmenter or Segmenter()).of_tokens(
        texts, np.repeat(np.arange(len(texts)), lengths), start, end, special
    )
    names = found.names.to_pylist()
    rows = [
        (names[code], piece, pieces, a, b) if code >= 0 else (None, piece, pieces, a, b)
        for code, piece, pieces, a, b in zip(
            *(array.tolist() for array in (found.code, found.piece, found.pieces, start, end)), strict=True
        )
    ]
    return [rows[end - length : end] for length, end in zip(lengths, np.cumsum(lengths), strict=True)]


def begun(rows):
    return [row[0] for row in rows if row[0] is not None and row[1] == 0]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_punctuation_is_a_separate_word(name):
    """With every tokenizer, no word begins or ends with a mark if it has letters, and none has white space."""
    for rows in words_of(TEXTS, TOKENIZERS[name]()):
        for word, *_ in rows:
            assert word is None or re.fullmatch(r"\w(.*\w)?[\u0301]?|[^\w\s]+", word), word


def test_two_tokenizers_that_see_every_character_have_the_same_words():
    """One letter per token and one byte per token: the same words in the same order, equal to those written by hand."""
    by_character, by_byte = (
        [begun(rows) for rows in words_of(TEXTS, TOKENIZERS[name]())] for name in ("characters", "bytes")
    )
    assert by_character[:3] == [
        "the film was great , i loved it ! < br / > < br / > don't miss : 1,234.5 stars . . . u.s.a . "
        "( well - made )".split(),
        "café naïve école straße “ quoted ” don’t — élan".split(),
        "great , great ! great ? unwatchable unwatchable film .".split(),
    ]
    assert by_character[3:] == [["👍🏽", "👨‍👩‍👧", "🇩🇪", "éa", "co\u00adop"], [], []]
    # Of "..." in one token, the first mark is the word.
    assert [[w for w in words if w != "."] for words in by_byte] == [
        [w for w in words if w != "."] for words in by_character
    ]


def test_a_piece_across_words_belongs_to_the_word_of_its_first_letter():
    """SentencePiece's `▁great,` belongs to `great`, `,I` to `i`, and `/><br` to `br`."""
    (rows,) = words_of(["so great, x/><br great,I"], unigram())
    assert [(word, piece, pieces) for word, piece, pieces, a, b in rows if b - a > 1] == [
        ("great", 0, 1), ("br", 0, 1), ("great", 0, 1), ("i", 0, 1),
    ]  # fmt: skip


def test_a_word_is_whole_even_if_its_pieces_are_cut_off():
    """A word is the text's: if the model reads only its first letters, it is the same word with fewer pieces."""
    tokenizer = TOKENIZERS["characters"]()
    (document,) = tokenise([(0, Document("a film", "", None, "x", None))], tokenizer, 4)
    found = Segmenter().of_tokens(
        ["a film"], np.zeros(4, int), document.start, document.end, document.special
    )
    assert [found.names[c].as_py() if c >= 0 else None for c in found.code.tolist()] == [
        "a",
        None,
        "film",
        "film",
    ]
    assert (found.piece.tolist(), found.pieces.tolist()) == ([0, 0, 0, 1], [1, 0, 2, 2])


def test_special_tokens_and_white_space_have_no_word():
    (rows,) = words_of(["a  b"], tiny.tokenizer())
    assert [row[0] for row in rows] == [None, "a", "b", None]
    (rows,) = words_of(["a \n b"], TOKENIZERS["characters"]())
    assert [row[:3] for row in rows] == [("a", 0, 1), (None, 0, 0), (None, 0, 0), (None, 0, 0), ("b", 0, 1)]


def test_two_forms_of_a_word_are_one_word():
    """Upper and lower case, and composed letters or letters with a combining accent."""
    rows = words_of(["CAFÉ café", "cafe\u0301"], TOKENIZERS["bytes"]())
    assert [begun(each) for each in rows] == [["café", "café"], ["café"]]


def by_definition(texts, tokens, stretches):
    """The word of each token (text, start, end), one character at a time."""
    found = []
    for text, start, end in tokens:
        inside = range(start, end)
        letters = [p for p in inside if texts[text][p].isalnum()]
        visible = [p for p in inside if not texts[text][p].isspace()]
        place = (letters or visible or [None])[0]
        at = 0
        for stretch in stretches[text]:
            if place is not None and at <= place < at + len(stretch):
                found.append((text, at, stretch.lower()))
                break
            at += len(stretch)
        else:
            found.append(None)
    return found


def test_tokens_of_any_span_get_the_word_of_the_definition():
    """Random texts and spans, against a loop over characters with ICU's boundaries."""
    breakers = pytest.importorskip("icu4py.breakers")
    chance = random.Random(0)
    alphabet = ["a", "B", "é", "1", ".", ",", "'", " ", " ", "\n", "_", "я", "👍", "ß", "\u00a0", "-"]
    texts = ["".join(chance.choices(alphabet, k=chance.randrange(30))) for _ in range(200)]
    stretches = [list(breakers.WordBreaker(text, "root")) for text in texts]
    tokens = []
    for text, content in enumerate(texts):
        cuts = sorted(chance.choices(range(len(content) + 1), k=8))
        tokens += [(text, a, b) for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    text, start, end = (np.array(column) for column in zip(*tokens, strict=True))
    found = Segmenter().of_tokens(texts, text, start, end, np.zeros(len(tokens), bool))
    names = found.names.to_pylist()
    expected = by_definition(texts, tokens, stretches)
    assert [names[c] if c >= 0 else None for c in found.code.tolist()] == [e and e[2] for e in expected]
    several = {e: expected.count(e) for e in expected if e}
    assert found.pieces.tolist() == [several.get(e, 0) for e in expected]
    seen = [expected[:n].count(e) if e else 0 for n, e in enumerate(expected)]
    assert found.piece.tolist() == seen


@given(
    st.text(st.characters(max_codepoint=127, exclude_characters=" ")) | st.text("aZ09_.,:;'\r\n", max_size=12)
)
def test_ascii_texts_have_the_boundaries_of_unicode(text):
    """The fast expression for ASCII against the library's boundaries, and ICU's."""
    from attnstore.engine.segmenter import _BOUNDED, _BOUNDED_ASCII

    breakers = pytest.importorskip("icu4py.breakers")
    assert _BOUNDED_ASCII.findall(text) == _BOUNDED.findall(text) == list(breakers.WordBreaker(text, "root"))


def test_dictionaries_separate_words_without_spaces():
    """Chinese, Japanese and Thai with ICU. Without it, each character is a word and a note asks for ICU."""
    texts = ["我们很好 iPhone很好", "私はその映画が大好きです。", "ภาษาไทยดีมาก"]
    pytest.importorskip("icu4py")
    with_icu, without = Segmenter(dictionaries=True), Segmenter(dictionaries=False)
    tokenizer = byte_level()
    assert [begun(rows) for rows in words_of(texts, tokenizer, with_icu)] == [
        ["我们", "很好", "iphone", "很好"],
        ["私", "は", "その", "映画", "が", "大好き", "です", "。"],
        ["ภาษา", "ไทย", "ดี", "มาก"],
    ]
    assert (with_icu.notes, with_icu.name) == ([], "UAX #29, with ICU's dictionaries")
    assert begun(words_of(texts, tokenizer, without)[0]) == ["我", "们", "很", "好", "iphone", "很", "好"]
    assert without.name == "UAX #29"
    assert [note.partition(" (")[0] for note in without.notes] == ["words of scripts without spaces"]
    english = Segmenter(dictionaries=False)
    words_of(TEXTS, tokenizer, english)
    assert english.notes == []
