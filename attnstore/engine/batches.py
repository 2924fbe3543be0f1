"""Documents become tokens, tokens become batches.

A batch is some documents end to end, sorted by length, under a token budget. Which documents share a batch
changes no row of the store: batches are planned within a part, and rows are put back in document order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnstore.data.documents import Document


@dataclass(frozen=True, slots=True)
class TokenisedDocument:
    """A document as the model sees it. All arrays have shape (n,).

    `word` numbers the document's words from 0, -1 for tokens that belong to none (special ones). `start` and
    `end` are character positions in the text. `number` is the document's place in the dataset.
    """

    number: int
    document: Document
    ids: np.ndarray  # (n,) int32
    tokens: list[str]
    word: np.ndarray  # (n,) int32
    start: np.ndarray  # (n,) int32
    end: np.ndarray  # (n,) int32
    special: np.ndarray  # (n,) bool
    truncated: bool

    @property
    def text(self) -> str:
        return self.document.text

    @property
    def length(self) -> int:
        return len(self.ids)


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
    numbered: Iterable[tuple[int, Document]], tokenizer: Any, max_length: int, at_once: int = 256
) -> Iterator[TokenisedDocument]:
    """Tokenise documents with a fast Hugging Face tokenizer, special tokens added, cut at `max_length` tokens.

    The tokenizer's own threads work on `at_once` documents at a time. Order is kept.
    """
    group: list[tuple[int, Document]] = []
    for item in numbered:
        group.append(item)
        if len(group) == at_once:
            yield from _tokenise_group(group, tokenizer, max_length)
            group = []
    if group:
        yield from _tokenise_group(group, tokenizer, max_length)


def _tokenise_group(
    group: Sequence[tuple[int, Document]], tokenizer: Any, max_length: int
) -> Iterator[TokenisedDocument]:
    encoded = tokenizer([document.text for _, document in group], truncation=True, max_length=max_length)
    for (number, document), encoding in zip(group, encoded.encodings, strict=True):
        spans = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)
        yield TokenisedDocument(
            number=number,
            document=document,
            ids=np.array(encoding.ids, dtype=np.int32),
            tokens=encoding.tokens,
            word=np.array([-1 if w is None else w for w in encoding.word_ids], dtype=np.int32),
            start=spans[:, 0],
            end=spans[:, 1],
            special=np.array(encoding.special_tokens_mask, dtype=bool),
            truncated=len(encoding.overflowing) > 0,
        )


def plan_batches(
    documents: Iterable[TokenisedDocument], batch_tokens: int, *, padded: bool
) -> Iterator[Batch]:
    """Sort by length, longest first, and cut into batches of at most `batch_tokens` tokens.

    With `padded`, what counts is the padded size: the longest length times the number of documents. A document
    longer than the budget is a batch of its own. The longest come first so that memory runs out at once or
    not at all.
    """
    batch: list[TokenisedDocument] = []
    used = 0
    for document in sorted(documents, key=lambda d: (-d.length, d.number)):
        cost = batch[0].length if padded and batch else document.length
        if batch and used + cost > batch_tokens:
            yield Batch(tuple(batch))
            batch, used, cost = [], 0, document.length
        batch.append(document)
        used += cost
    if batch:
        yield Batch(tuple(batch))
