"""Tokenises texts by chunks. A chunk is the text between two spaces: it occurs in many texts, and is tokenised once.

A tokenizer whose pre-tokenizer first cuts at spaces gives a chunk the same tokens in every text. Its parts decide
whether it does, just as they decide whether a text may be cut: see `ends`, which is less strict. Texts in which a
chunk may depend on its neighbours are tokenised whole: those with a special token written in them, or a mark on a
space.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

from attnstore.engine.ends import SPLIT, as_saved, is_local

#: The most chunks that are remembered. If there are more, all are forgotten; common ones soon occur again.
_REMEMBERED = 1 << 19
#: The number of characters of chunks that are tokenised as one text.
_TOGETHER = 1 << 12
#: Pre-tokenizers that cut each piece of another one separately.
_WITHIN = SPLIT | {"Punctuation", "Digits"}
#: The numbers of the special tokens that frame a text, which count as two chunks of it.
_BEFORE, _BEHIND = 0, 1
_FRAMES = frozenset({"TemplateProcessing", "BertProcessing"})
_CLUSTERS = regex.compile(r"\X")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text's tokens, all arrays (n,).

    `start` and `end` are characters of the text; `special`: the tokenizer added it, or it is written in the text;
    `cut`: tokens were left out at the end.
    """

    ids: np.ndarray  # int32
    start: np.ndarray  # int32
    end: np.ndarray  # int32
    special: np.ndarray  # bool
    cut: bool


class Chunks:
    """The chunks seen by one tokenizer, and their tokens."""

    def __init__(self, tokenizer: Any, before: Sequence[int], behind: Sequence[int]) -> None:
        """`before`, `behind`: the ids of the special tokens around a text."""
        self._tokenizer = tokenizer
        self._special = special_ids(tokenizer)
        self._before, self._behind = before, behind
        written = "|".join(re.escape(token.content) for token in tokenizer.added_tokens_decoder.values())
        self._written = re.compile(written or r"(?!)")
        self._forget()

    @classmethod
    def of(cls, tokenizer: Any) -> Self | None:
        """Chunks for a fast transformers tokenizer; None if its chunks do not have the same tokens in every text."""
        backend = tokenizer.backend_tokenizer
        frame = as_saved(backend.post_processor)
        if (
            not _cuts_at_spaces(as_saved(backend.pre_tokenizer))
            or not is_local(as_saved(backend.normalizer), behind_a_space=True)
            or (frame is not None and frame["type"] not in _FRAMES)
            or tokenizer.truncation_side != "right"
            or getattr(backend.model, "dropout", None)
        ):
            return None
        for token in tokenizer.added_tokens_decoder.values():
            # A special token that is matched after normalising can't be found in a text.
            if token.normalized or not token.content or re.search(r"\s", token.content):
                return None
        (encoding,) = tokenizer(["a"]).encodings
        own = [place for place, text in enumerate(encoding.sequence_ids) if text is not None]
        return cls(tokenizer, encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :]) if own else None

    @property
    def frame(self) -> int:
        """The number of special tokens around a text."""
        return len(self._before) + len(self._behind)

    def encode(self, texts: Sequence[str], most: int | None) -> list[Encoded | None]:
        """The tokens of each text, cut at `most` with its special tokens; None for a text to be tokenised as a whole.

        `most`: more than the frame, or None for all. The arrays of all texts share their memory.
        """
        if not texts:
            return []
        split = pc.split_pattern(pa.array(texts, type=pa.string()), " ")
        chunks = split.flatten().dictionary_encode()
        of_text = np.diff(split.offsets.to_numpy()) + 2  # (texts,): chunks of each, and the two of its frame
        heads = np.cumsum(of_text) - of_text
        tails = heads + of_text - 1
        codes = np.full(len(chunks) + 2 * len(texts), _BEHIND)
        codes[heads] = _BEFORE
        inside = np.ones(len(codes), dtype=bool)
        inside[heads] = inside[tails] = False
        codes[inside] = self._coded(chunks.dictionary.to_pylist())[chunks.indices.to_numpy()]

        steps = self._lengths[codes] + 1
        begins = np.cumsum(steps) - steps
        begins -= np.repeat(begins[heads + 1], of_text)  # (chunks,): each one's place in its text
        begins[~inside] = 0
        counts = self._counts[codes]
        behind = np.cumsum(counts)
        place = np.repeat(self._firsts[codes] - behind + counts, counts)
        place += np.arange(len(place))  # (tokens,): each one's among all tokens of chunks
        begin = np.repeat(begins.astype(np.int32), counts)
        sizes = np.add.reduceat(counts, heads)  # (texts,)
        ends = np.cumsum(sizes)
        cut = np.zeros(len(texts), dtype=bool) if most is None else sizes > most
        if cut.any():
            rank = np.arange(len(place)) - np.repeat(ends - sizes, sizes)
            kept = (rank < (most or 0) - len(self._behind)) | (
                rank >= np.repeat(sizes - len(self._behind), sizes)
            )
            kept |= ~np.repeat(cut, sizes)
            place, begin = place[kept], begin[kept]
            sizes = np.where(cut, most or 0, sizes)
            ends = np.cumsum(sizes)
        ids, start, end = self._ids[place], self._starts[place] + begin, self._ends[place] + begin
        special = self._special[ids] | (place < self.frame)
        odd = np.logical_or.reduceat(self._odd[codes], heads)
        return [
            None if is_odd else Encoded(ids[a:b], start[a:b], end[a:b], special[a:b], is_cut)
            for is_odd, a, b, is_cut in zip(
                odd.tolist(), (ends - sizes).tolist(), ends.tolist(), cut.tolist(), strict=True
            )
        ]

    def _forget(self) -> None:
        self._known: dict[str, int] = {}
        # For each chunk, the special tokens' first. All arrays have room for more.
        self._counts = np.array([len(self._before), len(self._behind)])
        self._firsts = np.array([0, len(self._before)])  # its first token's place in the arrays below
        self._lengths = np.array([0, 0])
        self._odd = np.zeros(2, dtype=bool)
        # For each token of a chunk.
        self._tokens = self.frame
        self._ids = np.array([*self._before, *self._behind], dtype=np.int32)
        self._starts, self._ends = np.zeros(self.frame, dtype=np.int32), np.zeros(self.frame, dtype=np.int32)

    def _coded(self, chunks: Sequence[str]) -> np.ndarray:
        """The numbers of some different chunks."""
        if len(self._known) > _REMEMBERED:
            self._forget()
        codes = np.fromiter(map(self._known.get, chunks, itertools.repeat(-1)), np.int64, len(chunks))
        new = np.flatnonzero(codes < 0)
        if len(new):
            codes[new] = np.arange(len(new)) + len(self._known) + 2
            self._learn([chunks[place] for place in new.tolist()])
        return codes

    def _learn(self, chunks: Sequence[str]) -> None:
        """Tokenise unknown chunks, many in one text."""
        is_odd = np.array([self._is_odd(chunk) for chunk in chunks])
        plain = ["" if odd else chunk for chunk, odd in zip(chunks, is_odd.tolist(), strict=True)]
        sizes = np.array(list(map(len, plain)), dtype=np.int64) + 1  # with the space after it
        begins = np.cumsum(sizes) - sizes
        cuts = [0, *(np.flatnonzero(np.diff(begins // _TOGETHER)) + 1).tolist(), len(plain)]
        texts = [" ".join(plain[a:b]) for a, b in itertools.pairwise(cuts)]
        found = encodings(self._tokenizer, texts, truncation=False, add_special_tokens=False, verbose=False)
        ids = np.concatenate([np.array(one.ids, dtype=np.int32) for one in found])
        start, end = (np.concatenate(each) for each in zip(*map(spans, found), strict=True))
        at = np.repeat(begins[cuts[:-1]], [len(one) for one in found])
        owner = np.searchsorted(begins, at + start, side="right") - 1  # (tokens,)
        at -= begins[owner]
        counts = np.bincount(owner, minlength=len(chunks))

        known, tokens = len(self._known) + 2, self._tokens
        self._counts = extended(self._counts, known, counts)
        self._firsts = extended(self._firsts, known, tokens + np.cumsum(counts) - counts)
        self._lengths = extended(self._lengths, known, np.array(list(map(len, chunks))))
        self._odd = extended(self._odd, known, is_odd)
        self._ids = extended(self._ids, tokens, ids)
        self._starts = extended(self._starts, tokens, start + at)
        self._ends = extended(self._ends, tokens, end + at)
        self._known.update(zip(chunks, range(known, known + len(chunks)), strict=True))
        self._tokens += len(ids)

    def _is_odd(self, chunk: str) -> bool:
        """Whether a special token is written in a chunk, or a space beside it combines with it into one character."""
        if self._written.search(chunk):
            return True
        if chunk.isascii():
            return False
        clusters = _CLUSTERS.findall(f" {chunk} ")
        return bool(clusters[0] != " " or clusters[-1] != " ")


def special_ids(tokenizer: Any) -> np.ndarray:
    """(vocabulary,) bool: the special tokens except the unknown token."""
    special = np.zeros(len(tokenizer), dtype=bool)
    special[[number for number in tokenizer.all_special_ids if number != tokenizer.unk_token_id]] = True
    return special


def encodings(tokenizer: Any, *texts: Sequence[str], **options: Any) -> list[Any]:
    """The tokenizer's encodings of texts, or of pairs of texts, without the lists that transformers would make."""
    encoded = tokenizer(*texts, return_token_type_ids=False, return_attention_mask=False, **options)
    return list(encoded.encodings)


def spans(encoding: Any) -> tuple[np.ndarray, np.ndarray]:
    """(n,) int32 each: the characters of the text at which each token begins and ends."""
    # From a flat iterator, in half of numpy's time for a list of pairs.
    flat = np.fromiter(itertools.chain.from_iterable(encoding.offsets), np.int32, 2 * len(encoding))
    return flat[::2], flat[1::2]


def extended(array: np.ndarray, used: int, more: np.ndarray) -> np.ndarray:
    """An array with more values after the first `used`; it may have spare room at the end."""
    if used + len(more) > len(array):
        room = np.empty(max(used, 1 << 12), dtype=array.dtype)
        return np.concatenate([array[:used], more.astype(array.dtype, copy=False), room])
    array[used : used + len(more)] = more
    return array


def _cuts_at_spaces(state: dict[str, Any] | None) -> bool:
    """Whether a pre-tokenizer cuts at every space, and then each piece separately."""
    if state is None:
        return False
    if state["type"] != "Sequence":
        return state["type"] in SPLIT
    first, *others = state["pretokenizers"] or [None]
    return _cuts_at_spaces(first) and all(
        each["type"] in _WITHIN or (each["type"] == "Metaspace" and each["prepend_scheme"] == "always")
        for each in others
    )
