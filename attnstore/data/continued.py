"""Whose labels are whose in data that comes to a store: what a label meant there it means here.

A label that the store's data had keeps its class. Others are decided by the rule of `labels`, over the labels of both:
one run over all of the data would have decided no otherwise. What can't be decided so is refused, as nothing in a
store tells two vocabularies apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from attnstore.data.labels import Given, LabelMap, match_labels, pairs_shown, shown_labels
from attnstore.data.survey import Survey
from attnstore.errors import UsageError
from attnstore.messages import listed, one_line, quoted


@dataclass(frozen=True, slots=True)
class StoreLabels:
    """What a store knows of labels.

    `classes` are the model's, by the names that the store gives them; `are_models` says that the labels are these;
    `labels` are those that documents have. `known` has the class, or "" for none, of each label of the data so far.
    """

    classes: tuple[str, ...]
    are_models: bool
    labels: frozenset[str]
    known: Mapping[str, str]


def known_labels(maps: Iterable[Sequence[str]], labels: Iterable[str]) -> dict[str, str]:
    """The labels of a store's data by the lists `label=class` of its sources, and by the labels of its documents.

    Labels that are stored as they are stand in no list. One that two sources read differently is not known.
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
    """Which of the new data's labels is which of the store's; `given` is `--labels`.

    Raises UsageError if a label is none of the store's, would mean something else than there, or if `given` names
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
    # Names of its own explain themselves; without, a label means what it meant.
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
    """Labels that are not the model's: they have to be those of the store, as these are written there."""
    if given:
        raise UsageError("--labels: the store's labels are not the model's classes, and stay as they are")
    shown = {raw: name for raw, name in shown_labels(found).items() if raw in found.labels}
    if unknown := sorted(set(shown.values()) - store.labels):
        raise UsageError(
            f"the new data has the label {quoted(unknown[0])}, which no document of the store has (there are"
            f" {listed(sorted(store.labels))}): write it as there, or write a new store"
        )
    return LabelMap(shown, False, None, store.classes)
