"""The ends of a long text, for a tokenizer that need not see its middle.

Tokenizers take a text as a whole, and some three hundred times its size of memory. Where a text may be cut, so that
what lies behind has the tokens that it has in the whole text, follows from the tokenizer's own parts. Its model sees
one word at a time, if a pre-tokenizer makes the words. Those of `SPLIT` end a word before a space that a word follows,
whatever stands on either side; so do Metaspace, and GPT-2's pattern, whose alternatives have a space at their beginning
alone.
The normalizers of `_LOCAL` look no further than a character and the marks on it, or at the two ends, or at a run of
spaces. What happens at the beginning of a text, such as a `▁` put before it, is that of its first word, which is not
used. Whatever else a tokenizer is made of, its texts are not cut.
"""

import json
import re
from typing import Any

SPLIT = frozenset({"BertPreTokenizer", "Whitespace", "WhitespaceSplit"})
_LOCAL = frozenset(
    {"BertNormalizer", "Lowercase", "Nmt", "NFC", "NFD", "NFKC", "NFKD", "Precompiled", "Prepend", "Strip"}
    | {"StripAccents"}
)
#: SentencePiece's: several spaces become one.
_SPACES_AS_ONE = {"Regex": " {2,}"}
#: A space that a word follows.
_BEFORE_A_WORD = re.compile(r" (?=\S)")


def can_be_cut(tokenizer: Any) -> bool:
    """Whether a text's tokens behind a place that `place_to_cut` gives are those of the text from there on.

    `tokenizer`: a fast one of transformers. The first word from there on is left out of the promise.
    """
    backend = tokenizer.backend_tokenizer
    spaced = any(re.search(r"\s", token.content) for token in tokenizer.added_tokens_decoder.values())
    return (
        not spaced
        and _makes_words(as_saved(backend.pre_tokenizer))
        and is_local(as_saved(backend.normalizer))
    )


def place_to_cut(text: str, least: int) -> int | None:
    """The first place from `least` on where a text may be cut: a space that a word follows; None if there is none."""
    found = _BEFORE_A_WORD.search(text, least)
    return None if found is None else found.start()


def as_saved(part: Any) -> dict[str, Any] | None:
    """What a part of a tokenizer says of itself in its tokenizer.json."""
    return None if part is None else dict(json.loads(part.__getstate__()))


def _makes_words(state: dict[str, Any] | None) -> bool:
    """Whether each word, with the space before it or without, is made a piece of its own first of all."""
    while state is not None and state["type"] == "Sequence":
        state = next(iter(state["pretokenizers"]), None)  # the others cut what it gives
    if state is None:
        return False
    return (
        state["type"] in SPLIT
        or (state["type"] == "Metaspace" and state.get("split", True))
        or (state["type"] == "ByteLevel" and state.get("use_regex", True))
    )


def is_local(state: dict[str, Any] | None, *, behind_a_space: bool = False) -> bool:
    """Whether what a normalizer makes of a text from a space on does not depend on what is before.

    `behind_a_space`: nor on that the text begins there, or has a space there.
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
