"""The words of a text, by Unicode's default word boundaries (UAX #29), and the word that each token belongs to.

A word is a property of the text: two models with different tokenizers have the same words of the same text. It is
lower-cased and composed (NFC). Punctuation marks are words of their own, white space is none.

In scripts without spaces UAX #29 leaves words to dictionaries. ICU has them; where it is not installed, each ideograph
and each Thai letter is a word.

A token belongs to the word in which its first letter or digit stands; one without any, to that of its first visible
character; a special token, or one of white space alone, to none. So SentencePiece's `▁great,` is a piece of `great`.
"""

import functools
import importlib.util
import itertools
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

#: Scripts whose words no space separates.
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
_BOUNDED = regex.compile(r"(?w)\b.+?\b|.", regex.DOTALL)
#: The same for ASCII, six times as fast: rules WB6 and 7, WB11 and 12, WB13a and b, WB3.
_BOUNDED_ASCII = re.compile(
    r"\w+(?:(?<=[A-Za-z])[.:'](?=[A-Za-z])\w+|(?<=[0-9])[.,;'](?=[0-9])\w+)*|\r\n|.", re.ASCII | re.DOTALL
)
_SPACE, _MARK, _LETTER = 0, 1, 2


@dataclass(frozen=True, slots=True)
class TokenWords:
    """The word of each token. `code` (T,) int32: the word's place in `names`, -1 for tokens of no word; `piece` (T,)
    int16: the token's place among those of its word; `pieces` (T,) int16: how many these are; 0 for tokens of no word.
    """

    code: np.ndarray
    names: pa.StringArray
    piece: np.ndarray
    pieces: np.ndarray


@dataclass(slots=True)
class Segmenter:
    """Cuts texts into words. `name` says by what; `unspaced`: it has met a script whose words only ICU knows."""

    dictionaries: bool = field(default_factory=lambda: importlib.util.find_spec("icu4py") is not None)
    unspaced: bool = False

    @property
    def name(self) -> str:
        """What decides where a word ends: stores with different ones do not compare in scripts without spaces."""
        return "UAX #29, with ICU's dictionaries" if self.dictionaries else "UAX #29"

    @property
    def notes(self) -> list[str]:
        """What a user should know of the words that were found."""
        if not self.unspaced:
            return []
        return [
            "words of scripts without spaces (Chinese, Japanese, Thai …) are single characters here: "
            "pip install 'attnstore[words]' for dictionaries, and write a new store"
        ]

    def stretches(self, chunk: str) -> list[str]:
        """What stands between two boundaries each, in a text without U+0020, where there is always one."""
        if not chunk.isascii() and not self.dictionaries and _UNSPACED.search(chunk):
            self.unspaced = True
        return _stretches(chunk, self.dictionaries)

    def in_texts(self, texts: Sequence[str]) -> tuple[np.ndarray, pa.StringArray]:
        """Each word of each text once: (N, 2) the text's place in `texts` and the word's in the names; the names."""
        first = np.cumsum([0, *(len(each) + 1 for each in texts)], dtype=np.int64)
        begins, codes, names = self._segments(" ".join(texts))
        text = np.searchsorted(first, begins, side="right") - 1
        return np.unique(np.stack([text, codes], axis=1), axis=0), names

    def of_tokens(
        self, texts: Sequence[str], text: np.ndarray, start: np.ndarray, end: np.ndarray, special: np.ndarray
    ) -> TokenWords:
        """The word of each token, in order; all arrays have shape (T,).

        `text`: the place in `texts` of the token's; `start`, `end`: its characters there; `special`: it has no word.
        """
        # All texts are one, with a space between: a boundary at which no word is changed.
        whole = " ".join(texts)
        first = np.cumsum([0, *(len(each) + 1 for each in texts)], dtype=np.int64)[text]  # (T,)
        place = _places(whole, first + start, first + end)
        place[special] = -1
        begins, codes, names = self._segments(whole)
        inside = np.flatnonzero(place >= 0)
        segment = np.searchsorted(begins, place[inside], side="right") - 1
        # A run: neighbouring tokens of one word.
        new = np.ones(len(inside), dtype=bool)
        new[1:] = segment[1:] != segment[:-1]
        heads = np.flatnonzero(new)
        run = np.cumsum(new) - 1
        code = np.full(len(place), -1, dtype=np.int32)
        piece, pieces = np.zeros(len(place), dtype=np.int16), np.zeros(len(place), dtype=np.int16)
        code[inside] = codes[segment]
        piece[inside] = np.arange(len(inside)) - heads[run]
        pieces[inside] = np.diff(np.append(heads, len(inside)))[run]
        return TokenWords(code, names, piece, pieces)

    def _segments(self, whole: str) -> tuple[np.ndarray, np.ndarray, pa.StringArray]:
        """Where each stretch between boundaries begins, ascending; its word's place among the names; the names."""
        # Most chunks are there many times: Arrow finds the distinct ones without a step of Python for each.
        chunks = pc.split_pattern(pa.array([whole]), " ").flatten().dictionary_encode()
        which = chunks.indices.to_numpy()  # (chunks,)
        distinct = chunks.dictionary.to_pylist()
        found = [self.stretches(chunk) for chunk in distinct]
        counts = np.array([len(stretches) for stretches in found])  # (distinct,)
        stretches = pa.array(itertools.chain.from_iterable(found), type=pa.string())
        sizes = pc.utf8_length(stretches).to_numpy()
        words = pc.utf8_lower(pc.utf8_normalize(stretches, form="NFC")).dictionary_encode()
        behind = np.cumsum(counts)  # (distinct,): where each chunk's stretches end in `sizes`
        ends = np.concatenate([[0], np.cumsum(sizes)])
        within = ends[:-1] - np.repeat(
            ends[behind - counts], counts
        )  # of each stretch, its begin in its chunk
        lengths = np.array([len(chunk) for chunk in distinct], dtype=np.int64)[which]
        begin = np.cumsum(lengths + 1) - lengths - 1  # (chunks,): each one's in `whole`
        repeated = counts[which]
        rank = np.arange(repeated.sum()) - np.repeat(np.cumsum(repeated) - repeated, repeated)
        stretch = np.repeat((behind - counts)[which], repeated) + rank
        return (
            np.repeat(begin, repeated) + within[stretch],
            words.indices.to_numpy()[stretch],
            words.dictionary,
        )


def _stretches(chunk: str, dictionaries: bool) -> list[str]:
    if chunk.isascii():
        return [chunk] if chunk.isalnum() else _BOUNDED_ASCII.findall(chunk)
    if dictionaries and _UNSPACED.search(chunk):
        from icu4py.breakers import WordBreaker

        return list(WordBreaker(chunk, "root"))
    return list(_BOUNDED.findall(chunk))


def _places(whole: str, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(T,) of each span the first letter or digit, else the first visible character, else -1."""
    kinds = _kinds()[np.frombuffer(whole.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)]
    letter, visible = (_next(kinds >= kind)[start] for kind in (_LETTER, _MARK))
    return np.where(letter < end, letter, np.where(visible < end, visible, -1))


def _next(there: np.ndarray) -> np.ndarray:
    """(n + 1,) the first place from each one on where `there` is true; n where there is none."""
    n = len(there)
    places = np.append(np.where(there, np.arange(n), n), n)
    return np.minimum.accumulate(places[::-1])[::-1]


@functools.cache
def _kinds() -> np.ndarray:
    """(code points,) uint8: white space, a letter or digit, or another mark."""
    kinds = np.full(sys.maxunicode + 1, _MARK, dtype=np.uint8)
    for point in range(0x40000):  # beyond it there are neither letters nor spaces
        character = chr(point)
        if character.isspace():
            kinds[point] = _SPACE
        elif character.isalnum():
            kinds[point] = _LETTER
    return kinds
