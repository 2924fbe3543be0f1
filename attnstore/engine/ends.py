"""Decides whether a tokenizer can skip the middle of a long text, and where the text may be cut.

A tokenizer needs the whole text, and about three hundred times its size in memory. A text may be cut where the rest has
the same tokens as in the whole text, which depends on the tokenizer's parts. If a pre-tokenizer makes words, the model
sees one word at a time. The pre-tokenizers in `SPLIT` end a word before a space that a word follows, whatever is on
either side. So do Metaspace, and GPT-2's pattern, whose alternatives have a space only at their beginning. The
normalizers in `_LOCAL` look only at a character and the marks on it, at the two ends, or at a run of spaces. Changes at
the beginning of a text, such as a `▁` put before it, affect only its first word, which is not used. Texts are not cut
for tokenizers with any other parts.
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
    """Whether a text cut at a `place_to_cut` has the same tokens from there on as the whole text.

    The first word after the cut is excepted. `tokenizer`: a fast tokenizer of transformers.
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
    """Whether the first pre-tokenizer makes each word, with or without the space before it, a separate piece."""
    while state is not None and state["type"] == "Sequence":
        state = next(iter(state["pretokenizers"]), None)  # the others split its pieces further
    if state is None:
        return False
    return (
        state["type"] in SPLIT
        or (state["type"] == "Metaspace" and state.get("split", True))
        or (state["type"] == "ByteLevel" and state.get("use_regex", True))
    )


def is_local(state: dict[str, Any] | None, *, behind_a_space: bool = False) -> bool:
    """Whether a normalizer's result from a space on is independent of the text before the space.

    `behind_a_space`: also of whether there is a space or the text begins.
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
