"""Documents become tokens, tokens become batches.

A batch is some documents end to end, sorted by length, under a token budget. Which documents share a batch
changes no row of the store: batches are planned within a part, and rows are put back in document order.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from attnstore.data.documents import Document
from attnstore.engine.chunks import Chunks, Encoded, encodings, spans, special_ids
from attnstore.engine.ends import can_be_cut, place_to_cut

#: Characters of a text that are always tokenised, and further ones for each token that is read.
_LOOKED_AT = 1 << 15
_CHARACTERS_A_TOKEN = 64
#: Words between the last token that is read and the place where a long text is cut in advance.
_WORDS_BEHIND = 50
#: How many characters are tokenised together, and how many if the tokenizer gets whole texts.
_CHARACTERS_AT_ONCE = 1 << 21
_WHOLES_AT_ONCE = 256
#: (tokens of the body, tokens that fit into a pass) -> the positions that each pass reads.
Passes = Callable[[int, int], list[np.ndarray]]
#: tokens that fit into a pass -> how many first and last tokens it reads of a document with more.
Ends = Callable[[int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class TokenisedDocument:
    """A document as the model sees it. All arrays have shape (n,).

    `start` and `end` are character positions in the text. `number` is the document's position in the data set.
    `special`: the tokenizer added it, or it is written in the text, as `[SEP]`; only then it has a span. `vocabulary`
    maps ids to tokens.

    A document may be read in several `windows`, each of them such a record; `window` numbers them from 0, and `places`
    (n,) gives the positions of its tokens in the whole document. `truncated`: tokens of the text were left out.

    In a pair, `segment` is the text that a token belongs to, 0 or 1, or -1 for tokens that the tokenizer adds, and
    `start` and `end` are positions in that text; `types` are the tokenizer's token types. Both are None for a single
    text.
    """

    number: int
    document: Document
    ids: np.ndarray  # (n,) int32
    vocabulary: Callable[[list[int]], list[str]] = field(repr=False)
    start: np.ndarray  # (n,) int32
    end: np.ndarray  # (n,) int32
    special: np.ndarray  # (n,) bool
    truncated: bool
    places: np.ndarray  # (n,) int64
    window: int = 0
    windows: int = 1
    segment: np.ndarray | None = None  # (n,) int8
    types: np.ndarray | None = None  # (n,) int32

    @property
    def text(self) -> str:
        return self.document.text

    @property
    def texts(self) -> list[str]:
        """The text, or both of a pair."""
        second = self.document.text_pair
        return [self.document.text] if second is None else [self.document.text, second]

    @property
    def tokens(self) -> list[str]:
        """(n,) tokens, as the tokenizer prints them."""
        return self.vocabulary(self.ids.tolist())

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def frame(self) -> np.ndarray:
        """(n,) bool: the special tokens that the tokenizer added."""
        return np.asarray(self.special & (self.start == self.end))

    @property
    def written_special(self) -> set[str]:
        """The special tokens that are written in the text; the model reads them as special."""
        return set(self.vocabulary(self.ids[self.special & (self.start < self.end)].tolist()))


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents that go through the model together."""

    documents: tuple[TokenisedDocument, ...]

    @property
    def lengths(self) -> list[int]:
        return [d.length for d in self.documents]

    @property
    def tokens(self) -> int:
        return sum(self.lengths)


def tokenise(
    numbered: Iterable[tuple[int, Document]],
    tokenizer: Any,
    max_length: int,
    at_once: int = 1024,
    passes: Passes | None = None,
    ends: Ends | None = None,
    chunks: Chunks | None = None,
) -> Iterator[TokenisedDocument]:
    """Tokenise documents with a fast Hugging Face tokenizer, special tokens added, at most `max_length` tokens each.

    Either all are pairs or none is. In a pair that is too long, the longer text loses its last token until the pair
    fits: transformers' `longest_first`. `passes(body, room)` says which tokens of a longer one are read, once or in
    windows; None cuts it. If these are its first and last tokens, `ends` says how many, and the middle of a very long
    text is not tokenised. `at_once`: the most documents that are tokenised together. `chunks`: the tokenizer's results
    for earlier texts. Order is kept.
    """
    how = _How(tokenizer, max_length, passes, ends, chunks or Chunks.of(tokenizer))
    group: list[tuple[int, Document]] = []
    characters = 0
    for item in numbered:
        group.append(item)
        characters += len(item[1].text)
        if len(group) == at_once or characters > _CHARACTERS_AT_ONCE:
            yield from _tokenise_group(group, how)
            group, characters = [], 0
    if group:
        yield from _tokenise_group(group, how)


@dataclass(frozen=True, slots=True)
class _How:
    """The arguments of `tokenise`."""

    tokenizer: Any
    max_length: int
    passes: Passes | None
    ends: Ends | None
    chunks: Chunks | None


def _tokenise_group(group: Sequence[tuple[int, Document]], how: _How) -> Iterator[TokenisedDocument]:
    read = _by_chunks(group, how)
    rest = [(place, item) for place, item in enumerate(group) if place not in read]
    for part in (rest[start : start + _WHOLES_AT_ONCE] for start in range(0, len(rest), _WHOLES_AT_ONCE)):
        found = _as_wholes([item for _, item in part], how)
        read.update(zip((place for place, _ in part), found, strict=True))
    for place in range(len(group)):
        whole = read[place]
        if how.passes is None or whole.length <= how.max_length:
            yield whole
        else:
            yield from _in_passes(whole, how.max_length, how.passes)


def _by_chunks(group: Sequence[tuple[int, Document]], how: _How) -> dict[int, TokenisedDocument]:
    """The documents that can be tokenised by chunks, by position in the group: neither pairs nor long ones."""
    short = [
        place
        for place, (_, document) in enumerate(group)
        if document.text_pair is None and len(document.text) <= _LOOKED_AT
    ]
    if how.chunks is None or how.max_length <= how.chunks.frame or not short:
        return {}
    found = how.chunks.encode(
        [group[place][1].text for place in short], how.max_length if how.passes is None else None
    )
    places = np.arange(max((len(one.ids) for one in found if one is not None), default=0))
    return {
        place: _tokenised(*group[place], how.tokenizer, one, places[: len(one.ids)])
        for place, one in zip(short, found, strict=True)
        if one is not None
    }


def _as_wholes(group: Sequence[tuple[int, Document]], how: _How) -> Iterator[TokenisedDocument]:
    """Each document, tokenised as a whole text."""
    tokenizer, max_length, is_special = how.tokenizer, how.max_length, special_ids(how.tokenizer)
    texts = [document.text for _, document in group]
    seconds = [document.text_pair for _, document in group if document.text_pair is not None]
    read: dict[int, TokenisedDocument] = {}
    if how.ends is not None:
        for place, (number, document) in enumerate(group):
            found = _by_its_ends(number, document, tokenizer, max_length, how.ends, is_special)
            if found is not None:
                read[place], texts[place] = found, ""
    if not texts:
        encoded = []
    elif seconds:
        encoded = encodings(tokenizer, texts, seconds, truncation="longest_first", max_length=max_length)
    elif how.passes is None:
        encoded = _beginnings(texts, tokenizer, max_length)
    else:
        # `verbose` would warn of long ones.
        encoded = encodings(tokenizer, texts, truncation=False, verbose=False)
    for place, ((number, document), encoding) in enumerate(zip(group, encoded, strict=True)):
        if place in read:
            yield read[place]
            continue
        whole = _tokenised(number, document, tokenizer, _encoded(encoding, is_special))
        if seconds:
            whole = replace(
                whole,
                segment=np.array([-1 if s is None else s for s in encoding.sequence_ids], dtype=np.int8),
                types=np.array(encoding.type_ids, dtype=np.int32),
            )
        yield whole


def _encoded(encoding: Any, is_special: np.ndarray) -> Encoded:
    """A tokenizer's encoding as arrays. `is_special` (vocabulary,): see `special_ids`."""
    start, end = spans(encoding)
    ids = np.array(encoding.ids, dtype=np.int32)
    special = np.array(encoding.special_tokens_mask, dtype=bool) | is_special[ids]
    return Encoded(ids, start, end, special, len(encoding.overflowing) > 0)


def _tokenised(
    number: int, document: Document, tokenizer: Any, encoded: Encoded, places: np.ndarray | None = None
) -> TokenisedDocument:
    """A document from its tokens. `places` (n,) are the numbers from 0."""
    return TokenisedDocument(
        number=number,
        document=document,
        ids=encoded.ids,
        vocabulary=tokenizer.convert_ids_to_tokens,
        start=encoded.start,
        end=encoded.end,
        special=encoded.special,
        truncated=encoded.cut,
        places=np.arange(len(encoded.ids)) if places is None else places,
    )


def _by_its_ends(
    number: int, document: Document, tokenizer: Any, max_length: int, ends: Ends, is_special: np.ndarray
) -> TokenisedDocument | None:
    """The tokens of a long text that are read, without tokenising its middle.

    None if they might differ from those that `passes` selects in the whole text: the text is not long enough, can't be
    cut, or has too few words at the cut. `places` are numbered without the middle.
    """
    text, most = document.text, max(_LOOKED_AT, _CHARACTERS_A_TOKEN * max_length)
    if len(text) <= 2 * most or not can_be_cut(tokenizer):
        return None
    if (cut := place_to_cut(text, len(text) - most)) is None:
        return None
    (encoding,) = encodings(tokenizer, [text[cut:]], truncation=False, verbose=False)
    behind = _tokenised(number, document, tokenizer, _encoded(encoding, is_special))
    own = np.flatnonzero(~behind.frame)
    head, tail = ends(room := max_length - (behind.length - len(own)))
    words = {encoding.word_ids[place] for place in own[: max(len(own) - tail, 0)].tolist()}
    if len(own) <= room or len(words) <= _WORDS_BEHIND:
        return None
    first = own[0]
    (beginning,) = _beginnings([text], tokenizer, head + max_length - room)
    before = _tokenised(number, document, tokenizer, _encoded(beginning, is_special))
    chosen = np.concatenate([own[len(own) - tail :], np.arange(own[-1] + 1, behind.length)])
    shift = np.where(behind.frame[chosen], 0, cut).astype(np.int32)
    begun = slice(first + head)
    return replace(
        before,
        ids=np.concatenate([before.ids[begun], behind.ids[chosen]]),
        start=np.concatenate([before.start[begun], behind.start[chosen] + shift]),
        end=np.concatenate([before.end[begun], behind.end[chosen] + shift]),
        special=np.concatenate([before.special[begun], behind.special[chosen]]),
        truncated=True,
        places=np.arange(max_length),
    )


def _beginnings(texts: Sequence[str], tokenizer: Any, max_length: int) -> list[Any]:
    """The encodings of texts that are cut at `max_length` tokens, without tokenising text far after the cut.

    Tokenizers encode a whole text before they cut it, which takes 300 times a long text's size in memory. Text far
    after a word does not change its tokens if there are words in between, so such a text is cut in advance.
    """
    most = max(_LOOKED_AT, _CHARACTERS_A_TOKEN * max_length)
    shown = [text if len(text) <= most else text[:most] for text in texts]
    found = encodings(tokenizer, shown, truncation=True, max_length=max_length)
    for place, text in enumerate(texts):
        if shown[place] is not text and not _is_settled(found[place], most):
            (found[place],) = encodings(tokenizer, [text], truncation=True, max_length=max_length)
    return found


def _is_settled(encoding: Any, most: int) -> bool:
    """Whether the tokens are the same for any longer text: they end in its first half, followed by whole words."""
    if not encoding.overflowing:
        return False
    ends = [end for _, end in encoding.offsets]
    read = [word for word in encoding.word_ids if word is not None]
    behind = {word for more in encoding.overflowing for word in more.word_ids if word is not None}
    return max(ends, default=0) <= most // 2 and len(behind - set(read)) > _WORDS_BEHIND


def _in_passes(whole: TokenisedDocument, max_length: int, passes: Passes) -> Iterator[TokenisedDocument]:
    """The document as read by each pass, with the special tokens around it."""
    text = np.flatnonzero(~whole.frame)
    before = np.arange(text[0])
    behind = np.arange(text[-1] + 1, whole.length)
    body = whole.length - len(before) - len(behind)
    read = passes(body, max_length - len(before) - len(behind))
    for window, places in enumerate(read):
        chosen = np.concatenate([before, text[0] + places, behind])
        yield replace(
            whole,
            ids=whole.ids[chosen],
            start=whole.start[chosen],
            end=whole.end[chosen],
            special=whole.special[chosen],
            truncated=len(read) == 1,
            places=chosen,
            window=window,
            windows=len(read),
        )


def plan_batches(
    documents: Iterable[TokenisedDocument], batch_tokens: int, *, padded: bool
) -> Iterator[Batch]:
    """Sort by length, longest first, and cut into batches of at most `batch_tokens` tokens.

    With `padded`, the padded size counts: the longest length times the number of documents. A document longer than the
    budget is a separate batch. The longest come first, so that memory runs out at once or not at all.
    """
    batch: list[TokenisedDocument] = []
    used = 0
    for document in sorted(documents, key=lambda d: (-d.length, d.number, d.window)):
        cost = batch[0].length if padded and batch else document.length
        if batch and used + cost > batch_tokens:
            yield Batch(tuple(batch))
            batch, used, cost = [], 0, document.length
        batch.append(document)
        used += cost
    if batch:
        yield Batch(tuple(batch))
