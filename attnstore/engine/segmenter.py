"""The words of a text, by Unicode's default word boundaries (UAX #29), and the word that each token belongs to.

A word is a property of the text: two models with different tokenizers have the same words in the same text. It is
lower-cased and composed (NFC). Punctuation marks are separate words, white space is not a word.

In scripts without spaces, UAX #29 leaves words to dictionaries. ICU has them; if it is not installed, each ideograph
and each Thai letter is a word.

A token belongs to the word that contains its first letter or digit, or else its first visible character; a special
token, or one of only white space, belongs to no word. So SentencePiece's `▁great,` is a piece of `great`.
"""

import functools
import importlib.util
import itertools
import re
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

from attnstore.engine.chunks import extended

#: Scripts whose words are not separated by spaces.
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
_BOUNDED = regex.compile(r"(?w)\b.+?\b|.", regex.DOTALL)
#: The same for ASCII, six times as fast: rules WB6 and 7, WB11 and 12, WB13a and b, WB3.
_BOUNDED_ASCII = re.compile(
    r"\w+(?:(?<=[A-Za-z])[.:'](?=[A-Za-z])\w+|(?<=[0-9])[.,;'](?=[0-9])\w+)*|\r\n|.", re.ASCII | re.DOTALL
)
_SPACE, _MARK, _LETTER = 0, 1, 2
#: The most chunks that are remembered. Beyond it, all are forgotten.
_REMEMBERED = 1 << 19


@dataclass(frozen=True, slots=True)
class TokenWords:
    """The word of each token. `code` (T,) int32: the word's index in `names`, -1 for tokens outside words; `piece`
    (T,) int16: the token's position in its word; `pieces` (T,) int16: the word's number of tokens; 0 for tokens
    outside words.
    """

    code: np.ndarray
    names: pa.StringArray
    piece: np.ndarray
    pieces: np.ndarray


@dataclass(frozen=True, slots=True)
class _Cut:
    """Chunks cut into stretches. `counts`, `firsts`, `lengths` (chunks,): each chunk's number of stretches, the index
    of its first one in the arrays that follow, and its characters. `begins`, `words` (stretches,): where each begins
    in its chunk, and its word's index in `names`.
    """

    counts: np.ndarray
    firsts: np.ndarray
    lengths: np.ndarray
    begins: np.ndarray
    words: np.ndarray
    names: list[str]


class _KnownChunks:
    """The chunks that have been cut so far, each once: most chunks occur in many texts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._numbers: dict[str, int] = {}
        self._words: dict[str, int] = {}
        self._names: list[str] = []
        self._stretches = 0
        # As in `_Cut`, with room for more.
        self._counts, self._firsts, self._lengths, self._begins, self._of_word = (
            np.zeros(0, dtype=np.int64) for _ in range(5)
        )

    def cut(self, chunks: Sequence[str], stretches: Callable[[str], list[str]]) -> _Cut:
        """Cut different chunks, in order, into `stretches`; safe for several threads."""
        with self._lock:
            if len(self._numbers) > _REMEMBERED:
                self._forget()
            numbers = np.fromiter(map(self._numbers.get, chunks, itertools.repeat(-1)), np.int64, len(chunks))
            new = np.flatnonzero(numbers < 0)
            if len(new):
                numbers[new] = np.arange(len(new)) + len(self._numbers)
                self._learn([chunks[place] for place in new.tolist()], stretches)
            # What other threads add is behind these stretches, or in other arrays.
            counts, firsts, lengths = self._counts[numbers], self._firsts[numbers], self._lengths[numbers]
            return _Cut(counts, firsts, lengths, self._begins, self._of_word, self._names)

    def _learn(self, chunks: Sequence[str], stretches: Callable[[str], list[str]]) -> None:
        found = [stretches(chunk) for chunk in chunks]
        counts = np.array([len(each) for each in found])
        flat = pa.array(itertools.chain.from_iterable(found), type=pa.string())
        sizes = pc.utf8_length(flat).to_numpy()
        ends = np.cumsum(sizes)
        behind = np.cumsum(counts)  # (chunks,): where each one's stretches end
        at = np.concatenate([[0], ends])
        begins = at[:-1] - np.repeat(at[behind - counts], counts)
        words = pc.utf8_lower(pc.utf8_normalize(flat, form="NFC")).dictionary_encode()
        numbers = [self._words.setdefault(word, len(self._words)) for word in words.dictionary.to_pylist()]
        self._names.extend(itertools.islice(self._words, len(self._names), None))
        known = len(self._numbers)
        self._counts = extended(self._counts, known, counts)
        self._firsts = extended(self._firsts, known, self._stretches + behind - counts)
        self._lengths = extended(self._lengths, known, np.array(list(map(len, chunks))))
        self._begins = extended(self._begins, self._stretches, begins)
        self._of_word = extended(self._of_word, self._stretches, np.array(numbers)[words.indices.to_numpy()])
        self._numbers.update(zip(chunks, range(known, known + len(chunks)), strict=True))
        self._stretches += len(flat)


@dataclass(slots=True)
class Segmenter:
    """Cuts texts into words. `name`: the method; `unspaced`: it has seen a script whose words only ICU knows."""

    dictionaries: bool = field(default_factory=lambda: importlib.util.find_spec("icu4py") is not None)
    unspaced: bool = False
    _known: _KnownChunks = field(default_factory=_KnownChunks, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The method of cutting: stores with different methods are not comparable in scripts without spaces."""
        return "UAX #29, with ICU's dictionaries" if self.dictionaries else "UAX #29"

    @property
    def notes(self) -> list[str]:
        """Notes for the user about the words that were found."""
        if not self.unspaced:
            return []
        return [
            "words of scripts without spaces (Chinese, Japanese, Thai …) are single characters here: "
            "pip install 'attnstore[words]' for dictionaries, and write a new store"
        ]

    def stretches(self, chunk: str) -> list[str]:
        """The stretches between boundaries, in a text without U+0020, at which there is always a boundary."""
        if not chunk.isascii() and not self.dictionaries and _UNSPACED.search(chunk):
            self.unspaced = True
        return _stretches(chunk, self.dictionaries)

    def in_texts(self, texts: Sequence[str]) -> tuple[np.ndarray, pa.StringArray]:
        """Each word of each text once: (N, 2) the text's index in `texts` and the word's in the names; the names."""
        first = np.cumsum([0, *(len(each) + 1 for each in texts)], dtype=np.int64)
        begins, codes, names = self._segments(" ".join(texts))
        text = np.searchsorted(first, begins, side="right") - 1
        return np.unique(np.stack([text, codes], axis=1), axis=0), names

    def of_tokens(
        self, texts: Sequence[str], text: np.ndarray, start: np.ndarray, end: np.ndarray, special: np.ndarray
    ) -> TokenWords:
        """The word of each token, in order; all arrays have shape (T,).

        `text`: the index of the token's text in `texts`; `start`, `end`: its characters there; `special`: it has no
        word.
        """
        # All texts are joined, with a space between: a boundary that changes no word.
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
        """Where each stretch between boundaries begins, ascending; its word's index in the names; the names."""
        # Most chunks occur many times: Arrow finds the distinct ones without a Python step for each.
        chunks = pc.split_pattern(pa.array([whole]), " ").flatten().dictionary_encode()
        distinct = chunks.dictionary.to_pylist()
        cut = self._known.cut(distinct, self.stretches)
        which = chunks.indices.to_numpy()  # (chunks,)
        lengths = cut.lengths[which]
        begin = np.cumsum(lengths + 1) - lengths - 1  # (chunks,): each one's in `whole`
        counts = cut.counts[which]
        behind = np.cumsum(counts)
        stretch = np.repeat(cut.firsts[which] - behind + counts, counts)
        stretch += np.arange(len(stretch))
        occurring, codes = coded(cut.words[stretch])
        names = pa.array([cut.names[word] for word in occurring.tolist()], type=pa.string())
        return np.repeat(begin, counts) + cut.begins[stretch], codes, names


def _stretches(chunk: str, dictionaries: bool) -> list[str]:
    if chunk.isascii():
        return [chunk] if chunk.isalnum() else _BOUNDED_ASCII.findall(chunk)
    if dictionaries and _UNSPACED.search(chunk):
        from icu4py.breakers import WordBreaker

        return list(WordBreaker(chunk, "root"))
    return list(_BOUNDED.findall(chunk))


def _places(whole: str, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(T,) each span's first letter or digit, else its first visible character, else -1."""
    kinds = np.append(_kinds()[np.frombuffer(whole.encode("utf-32-le", "surrogatepass"), np.uint32)], _SPACE)
    places = np.full(len(start), -1, dtype=np.int64)
    at, open_ = start.astype(np.int64), np.flatnonzero(start < end)
    # Most begin with a letter: these take one step, and others one per consecutive mark.
    while len(open_):
        here = at[open_]
        kind = kinds[here]
        found = (kind == _LETTER) | ((kind == _MARK) & (places[open_] < 0))
        places[open_[found]] = here[found]
        at[open_] += 1
        open_ = open_[(kind != _LETTER) & (here + 1 < end[open_])]
    return places


def coded(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values of (n,) small numbers from 0, ascending, and the index of each of the n among them.

    The same as from `np.unique`, which sorts.
    """
    there = np.zeros(int(values.max(initial=0)) + 1, dtype=bool)
    there[values] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[values]


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
