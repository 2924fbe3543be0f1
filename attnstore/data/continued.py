"""Which labels are which classes in data appended to a store: a label keeps its meaning.

A label that the store's data had keeps its class. Others are decided by the rule of `labels`, over the labels of both,
as one run over all of the data would have decided. What can't be decided is refused, because nothing in a store
distinguishes two vocabularies.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from attnstore.data.labels import Given, LabelMap, match_labels, pairs_shown, shown_labels
from attnstore.data.survey import Survey
from attnstore.errors import UsageError
from attnstore.messages import listed, one_line, quoted


@dataclass(frozen=True, slots=True)
class StoreLabels:
    """A store's labels.

    `classes` are the model's, by their names in the store; `are_models`: the labels are these classes; `labels` are
    those of the documents. `known` has the class, or "" for none, of each label of the data so far.
    """

    classes: tuple[str, ...]
    are_models: bool
    labels: frozenset[str]
    known: Mapping[str, str]


def known_labels(maps: Iterable[Sequence[str]], labels: Iterable[str]) -> dict[str, str]:
    """The labels of a store's data, from the lists `label=class` of its sources, and from the labels of its documents.

    Labels that are stored unchanged are in no list. A label that two sources read differently is not known.
    """
    known: dict[str, str] = {}
    unsure: set[str] = set()
    targets: set[str] = set()
    for entries in maps:
        for entry in entries:
            raw, _, name = entry.rpartition("=")
            targets.add(name)
            if known.setdefault(raw, name) != name:
                unsure.add(raw)
    known |= {name: name for name in labels if name not in targets and name not in known}
    return {raw: name for raw, name in known.items() if raw not in unsure}


def match_more(found: Survey, store: StoreLabels, given: Sequence[str] = ()) -> LabelMap:
    """Match the new data's labels with the store's; `given` is `--labels`.

    Raises UsageError if a label is not one of the store's, or would mean something else there, or if `given` names
    other classes.
    """
    options = Given.of(given)
    if options.classes and options.classes != store.classes:
        raise UsageError(
            f"--labels names the classes {listed(options.classes)}, the store has {listed(store.classes)}"
        )
    if not found.labels:
        return LabelMap({}, False, "the new data has no labels", store.classes)
    if store.labels and not store.are_models:
        return _as_they_are(found, store, given)
    pairs = [entry for entry in given if "=" in entry]
    # A data set's own names explain its labels; without names, a label keeps its meaning.
    known = {} if found.class_names is not None else store.known
    if not pairs and found.labels.keys() <= known.keys():
        mapping = {raw: known[raw] for raw in found.labels if known[raw]}
        note = (
            f"labels mean what they mean in the store: {pairs_shown(mapping, {raw: raw for raw in mapping})}"
        )
        left_out = frozenset(raw for raw in found.labels if not known[raw])
        as_written = all(raw == name for raw, name in mapping.items())
        return LabelMap(mapping, True, None if as_written else note, store.classes, left_out)
    elsewhere = (*found.labels_elsewhere, *(raw for raw in known if raw not in found.labels))
    both = replace(found, labels_elsewhere=tuple(dict.fromkeys(elsewhere)))
    matched = match_labels(both, store.classes, pairs)
    if not matched.are_models and store.labels:
        raise UsageError(
            f"the new data's labels ({listed(sorted(found.labels))}) are not the store's classes"
            f" ({listed(store.classes)}): --labels LABEL=CLASS,… maps them, LABEL= leaves rows out"
        )
    told = {pair.rpartition("=")[0].strip() for pair in pairs}
    for raw, name in known.items():
        if raw in found.labels and raw.strip() not in told and matched.mapping.get(raw, "") != name:
            other = matched.mapping.get(raw)
            raise UsageError(
                f"the label {quoted(raw)} is {quoted(name) if name else 'left out'} in the store, and would be"
                f" {quoted(other) if other else 'left out'} in the new data: --labels"
                f" {one_line(raw)}=CLASS says what it is"
            )
    return matched


def _as_they_are(found: Survey, store: StoreLabels, given: Sequence[str]) -> LabelMap:
    """Labels that are not the model's classes: they must be the store's, with the same spelling."""
    if given:
        raise UsageError("--labels: the store's labels are not the model's classes, and stay as they are")
    shown = {raw: name for raw, name in shown_labels(found).items() if raw in found.labels}
    if unknown := sorted(set(shown.values()) - store.labels):
        raise UsageError(
            f"the new data has the label {quoted(unknown[0])}, which no document of the store has (there are"
            f" {listed(sorted(store.labels))}): write it as there, or write a new store"
        )
    return LabelMap(shown, False, None, store.classes)
