"""The words of other labelled data: how many documents of each class have each word."""

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import polars as pl

from attnstore.config import SourceConfig
from attnstore.data.documents import Document
from attnstore.data.labels import match_labels
from attnstore.data.selection import read_documents
from attnstore.data.sources import open_source
from attnstore.data.survey import survey
from attnstore.engine.segmenter import Segmenter
from attnstore.errors import AttnstoreError, UsageError
from attnstore.events import OnEvent
from attnstore.messages import one_line

#: How many texts are searched for words at once.
_AT_ONCE = 1000
#: The prefix for the names of a run's options that also exist for other data.
_OPTIONS = re.compile(r"--(?=(?:split|text-column|label-column|labels)\b)")


@dataclass(frozen=True, slots=True)
class Lexicon:
    """`sizes`: documents by class. `words`: a row per `word`, with the number of its documents in a column per class.

    `digest` is the SHA-256 of all this. `left_out`: documents that the store also has.
    """

    sizes: dict[str, int]
    words: pl.DataFrame
    digest: str
    left_out: int


def read_lexicon(
    config: SourceConfig, labels: Sequence[str], known: Collection[str], on_event: OnEvent
) -> Lexicon:
    """Count the words of labelled data by the model's classes `labels`. `known`: texts that are left out.

    Raises:
        DataError, UsageError: as `survey` and `match_labels`; its labels are not the model's classes; fewer than two
            classes have a document.
    """
    try:
        source = open_source(config, on_event=on_event)
        found = survey(source, on_event)
        mapping = match_labels(found, labels, config.labels)
    except AttnstoreError as error:  # its advice mentions a run's options
        raise type(error)(_OPTIONS.sub("--lexicon-", str(error.args[0]))) from error
    if not mapping.are_models:
        raise UsageError(
            f"the labels of {one_line(source.name)} are not the model's classes: --lexicon-labels says which is which, "
            "such as 1=neg,2=pos"
        )
    sizes = dict.fromkeys(labels, 0)
    counts: dict[str, np.ndarray] = {}
    segmenter, out = Segmenter(), 0
    documents = (d for d in read_documents(source, found, mapping) if d.label is not None)
    for batch in _batches(documents):
        kept = [document for document in batch if document.text not in known]
        out += len(batch) - len(kept)
        if not kept:
            continue
        kinds = np.array([labels.index(str(document.label)) for document in kept])
        for kind in kinds:
            sizes[labels[kind]] += 1
        pairs, names = segmenter.in_texts([f"{d.text} {d.text_pair or ''}" for d in kept])
        table = np.zeros((len(names), len(labels)), dtype=np.int64)
        np.add.at(table, (pairs[:, 1], kinds[pairs[:, 0]]), 1)
        for name, row in zip(names.to_pylist(), table, strict=True):
            counts[name] = counts[name] + row if name in counts else row
    if sum(size > 0 for size in sizes.values()) < 2:
        raise UsageError(f"{one_line(source.name)} has documents of only one class: log-odds need two")
    words = sorted(counts)
    columns = np.array([counts[word] for word in words])
    frame = pl.DataFrame({"word": words} | {name: columns[:, place] for place, name in enumerate(labels)})
    digest = hashlib.sha256(repr((sizes, words)).encode() + columns.tobytes()).hexdigest()
    return Lexicon(sizes, frame, digest, out)


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    while batch := list(islice(documents, _AT_ONCE)):
        yield batch
