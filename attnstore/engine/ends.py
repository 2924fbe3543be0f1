"""The ends of a long text, for a tokenizer that need not see its middle.

Tokenizers take a whole text, and some three hundred times its size of memory. A text may be cut where the rest has the
same tokens as in the whole text; the tokenizer's own parts decide where that is. Its model sees one word at a time, if
a pre-tokenizer makes the words. Those of `SPLIT` end a word before a space that a word follows, whatever is on either
side; so do Metaspace, and GPT-2's pattern, whose alternatives have a space only at their beginning. The normalizers of
`_LOCAL` look only at a character and the marks on it, at the two ends, or at a run of spaces. Changes at the beginning
of a text, such as a `▁` put before it, affect only its first word, which is not used. If a tokenizer has any other
parts, its texts are not cut.
"""

import json
import re
from typing import Any

SPLIT = frozenset({"BertPreTokenizer", "Whitespace", "WhitespaceSplit"})
_LOCAL = frozenset(
    {"BertNormalizer", "Lowercase", "Nmt", "NFC", "NFD", "NFKC", "NFKD", "Precompiled", "Prepend", "Strip"}
    | {"StripAccents"}
)
#: SentencePiece's rule: several spaces become one.
_SPACES_AS_ONE = {"Regex": " {2,}"}
#: A space that a word follows.
_BEFORE_A_WORD = re.compile(r" (?=\S)")


def can_be_cut(tokenizer: Any) -> bool:
    """Whether the tokens after a place from `place_to_cut` are the same for the text from there on.

    `tokenizer`: a fast one of transformers. The first word after the place is excepted.
    """
    backend = tokenizer.backend_tokenizer
    spaced = any(re.search(r"\s", token.content) for token in tokenizer.added_tokens_decoder.values())
    return (
        not spaced
        and _makes_words(as_saved(backend.pre_tokenizer))
        and is_local(as_saved(backend.normalizer))
    )


def place_to_cut(text: str, least: int) -> int | None:
    """The first place from `least` on where a text may be cut: a space before a word; None if there is none."""
    found = _BEFORE_A_WORD.search(text, least)
    return None if found is None else found.start()


def as_saved(part: Any) -> dict[str, Any] | None:
    """A tokenizer part's entry in tokenizer.json."""
    return None if part is None else dict(json.loads(part.__getstate__()))


def _makes_words(state: dict[str, Any] | None) -> bool:
    """Whether each word, with the space before it or without, is made a piece of its own first of all."""
    while state is not None and state["type"] == "Sequence":
        state = next(iter(state["pretokenizers"]), None)  # the others cut its pieces
    if state is None:
        return False
    return (
        state["type"] in SPLIT
        or (state["type"] == "Metaspace" and state.get("split", True))
        or (state["type"] == "ByteLevel" and state.get("use_regex", True))
    )


def is_local(state: dict[str, Any] | None, *, behind_a_space: bool = False) -> bool:
    """Whether a normalizer's result from a space on is independent of the text before it.

    `behind_a_space`: also of whether the text begins there, or has a space there.
    """
    if state is None:
        return True
    if state["type"] == "Sequence":
        return all(is_local(each, behind_a_space=behind_a_space) for each in state["normalizers"])
    if state["type"] == "Replace":
        pattern = state["pattern"]
        if pattern == _SPACES_AS_ONE:
            return not behind_a_space or state["content"] == " "
        return not re.search(r"\s", pattern.get("String", " "))
    return state["type"] in _LOCAL and not (behind_a_space and state["type"] == "Prepend")
