"""Labelled documents as examples: tokenised, split by whole groups, classes numbered."""

import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnstore.data.documents import Document
from attnstore.data.labels import Given, LabelMap, match_labels, shown_labels
from attnstore.data.selection import read_documents, rejections
from attnstore.data.sources import open_source
from attnstore.data.spelling import label_order, spelling, whole_number
from attnstore.data.survey import Survey, survey
from attnstore.engine.models import quiet
from attnstore.errors import DataError, UsageError
from attnstore.events import OnEvent
from attnstore.learn.config import FinetuneConfig
from attnstore.learn.encoder import load_config, model_labels, one_line_about
from attnstore.messages import listed

#: More classes than this suggest a wrong label column.
MOST_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Split:
    """Tokenised documents: ids int32 [tokens] each, class numbers, and what makes them dependent."""

    ids: list[NDArray[np.int32]]
    labels: list[int]
    groups: list[str]

    def part(self, rows: Sequence[int]) -> "Split":
        """The documents of these rows, in this order."""
        return Split(
            [self.ids[i] for i in rows], [self.labels[i] for i in rows], [self.groups[i] for i in rows]
        )

    def by_length(self) -> "Split":
        """The same documents, the longest first: the order that needs the least padding."""
        return self.part(sorted(range(len(self.ids)), key=lambda i: -len(self.ids[i])))


def split_dev(
    groups: Sequence[str], labels: Sequence[int], fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """(train, dev) rows: whole groups, drawn by `seed`, until `fraction` of the documents is in dev.

    A group must not be on both sides, because what it shares (a film's title, a copied text) may reveal the class. A
    group that has all remaining documents of a class stays in train.
    """
    wanted = round(fraction * len(groups))
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    left = Counter(labels)
    order = sorted(members)
    random.Random(seed).shuffle(order)  # noqa: S311 - a reproducible draw, nothing to do with secrets
    dev: set[int] = set()
    for group in order:
        if len(dev) + len(members[group]) > wanted:
            continue
        taken = Counter(labels[row] for row in members[group])
        if all(left[label] > count for label, count in taken.items()):
            dev.update(members[group])
            left -= taken
    return [row for row in range(len(groups)) if row not in dev], sorted(dev)


def read_splits(
    config: FinetuneConfig,
    tokenizer: Any,
    max_length: int,
    on_event: OnEvent,
) -> tuple[dict[str, Split], tuple[str, ...], tuple[str, ...]]:
    """The splits `train` and, if there is one, `test`, tokenised; the classes; what the user should know."""
    source = open_source(replace(config.source, split="all", limit=None), on_event=on_event)
    if not source.splits:
        wanted = {"train": config.source.split}
    elif "train" in source.splits:
        wanted = {name: name for name in ("train", "test") if name in source.splits}
    elif len(source.splits) == 1:
        wanted = {"train": source.splits[0]}
    else:
        raise UsageError(
            f"{source.name} has the splits {', '.join(source.splits)} and none called train: name one file or folder"
        )
    with quiet(), one_line_about(config.model):
        known = model_labels(load_config(config))
    notes = list(source.notes)
    splits: dict[str, Split] = {}
    labels: LabelMap | None = None
    for role, name in wanted.items():
        part = open_source(replace(config.source, split=name, limit=None), on_event=on_event)
        found = survey(part, on_event)
        if labels is None:
            labels = classes_of(found, config.source.labels, known)
        left_out = rejections(found, labels, config.source.strict).counts
        if found.unlabelled:
            left_out = {**left_out, "no label": found.unlabelled}
        if left_out:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
            notes.append(f"rows left out of {role}: {counts}")
        splits[role] = _tokenise(
            read_documents(part, found, labels, config.source.limit),
            labels.model_labels,
            tokenizer,
            max_length,
        )
    assert labels is not None  # noqa: S101 - `wanted` always has train
    present = len(set(splits["train"].labels))
    if present < 2:
        raise DataError(f"{source.name}: all documents to train on are of one class, a classifier needs two")
    if "test" in splits and not splits["test"].ids:
        notes.append("the test split has no document that can be measured")
        del splits["test"]
    return splits, labels.model_labels, tuple(notes)


def classes_of(found: Survey, given: tuple[str, ...], model_labels: tuple[str, ...]) -> LabelMap:
    """The source's labels as classes, in the order of the logits: as given, the model's, by number, by name.

    Labels that are spelled alike are one class, by the name that most documents have.
    """
    if not found.labels:
        raise DataError("the data has no labels to learn: name their column with --label-column")
    shown = shown_labels(found)
    options = Given.of(given)
    if names := options.classes or tuple(dict.fromkeys(name for name in options.pairs.values() if name)):
        matched = match_labels(found, names, given)
        if not matched.are_models:
            raise DataError(
                f"not all of the data's labels ({listed(sorted(set(shown.values())))}) are among those given"
                f" ({listed(names)}): --labels LABEL=CLASS maps them, LABEL= leaves rows out"
            )
        return matched
    dismissed = frozenset(raw for raw, name in shown.items() if {raw.strip(), name} & options.pairs.keys())
    keys = {raw: _key(name) for raw, name in shown.items() if raw not in dismissed}
    spellings: dict[str, Counter[str]] = {}
    for raw, key in keys.items():
        # A label that only other splits have is not a class, unless the data set itself names it.
        if raw in found.labels or found.class_names is not None:
            spellings.setdefault(key, Counter())[shown[raw]] += found.labels.get(raw, 0)
    name_of = {key: each.most_common(1)[0][0] for key, each in spellings.items()}
    mapping = {raw: name_of[key] for raw, key in keys.items() if key in name_of}
    own = found.class_names.names if found.class_names is not None else ()
    classes = set(name_of.values())
    if classes <= set(own):
        classes |= set(own)
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"the label column has {len(classes):,} different values in {found.documents:,} documents: "
            "these are not classes, name another column with --label-column"
        )
    order = next((known for known in (model_labels, own) if classes == set(known)), None)
    return LabelMap(mapping, True, None, order or tuple(sorted(classes, key=label_order(classes))), dismissed)


def _key(label: str) -> str:
    """What two spellings of a class have in common: `Pos` and `pos `, `1` and `1.0`."""
    number = whole_number(label)
    return str(number) if number is not None else spelling(label) or label


def _tokenise(
    documents: Iterable[Document], labels: tuple[str, ...], tokenizer: Any, max_length: int
) -> Split:
    """Token ids of every labelled document, cut at `max_length`; only these stay in memory, not the texts."""
    numbers = {label: number for number, label in enumerate(labels)}
    split = Split([], [], [])
    labelled = (document for document in documents if document.label is not None)
    while chunk := list(itertools.islice(labelled, 1000)):
        texts = [document.text for document in chunk]
        encoded = tokenizer(texts, truncation=True, max_length=max_length, return_attention_mask=False)
        split.ids.extend(np.array(ids, np.int32) for ids in encoded["input_ids"])
        for document in chunk:
            split.labels.append(numbers[document.label or ""])
            # Copies of a text must not be on both sides of the dev split either.
            copy = hashlib.blake2b(document.text.encode(), digest_size=16).hexdigest()
            split.groups.append(f"group {document.group}" if document.group else f"text {copy}")
    return split
