"""Which label is which class: the one rule that maps the data's labels to the model's classes, or does not.

A mapping counts only if it explains every label of the whole data set, including splits that are not read. It is tried
in this order: names, numbers from 0, numbers from 1. Otherwise the labels are not the model's: they are stored as they
are, nothing is left out, and no accuracy is reported. The frequency of labels does not matter.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from attnstore.data.advice import advice
from attnstore.data.spelling import (
    are_nameless,
    beginning,
    compact,
    label_order,
    number_in,
    spelled,
    spelling,
    usual_order,
    whole_number,
)
from attnstore.data.survey import Survey
from attnstore.errors import UsageError
from attnstore.messages import listed, one_line, quoted, similar

_SHOWN = 10  # how many pairs a note shows


@dataclass(frozen=True, slots=True)
class LabelMap:
    """The source's labels as the model's. Rows with a label that is not in `mapping` are left out.

    `are_models` is False if the labels are not the model's, or if there are none: then no accuracy is reported.
    `model_labels` are the model's classes in the order of its logits, with this run's names. `dismissed` are labels
    that the user excluded.
    """

    mapping: Mapping[str, str]
    are_models: bool
    note: str | None
    model_labels: tuple[str, ...]
    dismissed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Given:
    """`--labels`, parsed: the model's classes in the order of its logits, and labels of the data by class.

    `classes` is () if they keep their names; a label in `pairs` with "" is excluded.
    """

    classes: tuple[str, ...]
    pairs: Mapping[str, str]

    @classmethod
    def of(cls, entries: Sequence[str]) -> "Given":
        """Parse the entries. Raises UsageError for a class or a label without a name, or named twice."""
        classes = tuple(entry.strip() for entry in entries if "=" not in entry)
        if len({name.casefold() for name in classes}) < len(classes) or "" in classes:
            raise UsageError(f"--labels must be different names, none empty: {listed(entries)}")
        pairs: dict[str, str] = {}
        for entry in entries:
            if "=" not in entry:
                continue
            label, _, name = (part.strip() for part in entry.rpartition("="))
            if not label:
                raise UsageError(
                    f"--labels {quoted(entry)}: a pair is LABEL=CLASS, or LABEL= to leave its rows out"
                )
            if pairs.get(label, name) != name:
                raise UsageError(
                    f"--labels maps {quoted(label)} twice: to {quoted(pairs[label])} and {quoted(name)}"
                )
            pairs[label] = name
        return cls(classes, pairs)


def match_labels(found: Survey, model_labels: Sequence[str], given: Sequence[str] = ()) -> LabelMap:
    """Map the source's labels to the model's classes; the note says how.

    1. By name: the data set's own class names, else its labels, each spelled like a class of the model's (exactly; by
       case, accents, hyphens, underscores and blanks; `pos` for `positive`, one `star` for `stars`), or the only one
       to begin like it. Different labels are one class only where they are spellings of it. A number stands for the
       number in a class's name (`3` for `3 stars`) unless it could as well be the class's index.
    2. By number: exactly 0 … n-1, or fewer of them with both 0 and n-1.
    3. By number less one: exactly 1 … n.

    `given` is `--labels`: classes in the model's order replace its names, pairs `label=class` take precedence over all
    rules. With pairs, other labels must be classes by name; the rest is unknown and left out. If the pairs only
    dismiss labels, the rules decide about the others.

    Raises:
        UsageError: `given` does not have as many names as the model has classes, or a pair names no class.
    """
    options = Given.of(given)
    names = options.classes or tuple(model_labels)
    if len(names) != len(model_labels):
        raise UsageError(
            f"--labels names {len(names)} {'class' if len(names) == 1 else 'classes'} ({listed(names)}), the model has"
            f" {len(model_labels)}"
            f" ({listed(model_labels)})"
        )
    if not found.labels:
        return LabelMap({}, False, "the data has no labels: no accuracy is computed", names)
    several = _several([*found.labels, *found.labels_elsewhere])
    if several and not several & options.pairs.keys():
        single = replace(
            found,
            labels={raw: count for raw, count in found.labels.items() if raw not in several},
            labels_elsewhere=tuple(raw for raw in found.labels_elsewhere if raw not in several),
        )
        if (of_single := match_labels(single, model_labels, given)).are_models:
            note = f"{of_single.note}; rows with several labels ({listed(sorted(several))}) are left out"
            return replace(of_single, note=note)
    shown = shown_labels(found)
    notes: list[str] = []
    told = _mapped_by_pairs(shown, names, options.pairs, notes)
    rest = {raw: name for raw, name in shown.items() if raw not in told}
    dismissed = frozenset(raw for raw, name in told.items() if not name)
    if any(told.values()):
        named = {
            raw: spelled(name, names)
            for raw, name in rest.items()
            if whole_number(name) is None or name in names
        }
        mapping = {raw: name for raw, name in (told | named).items() if name}
        notes.insert(0, f"labels were mapped by --labels: {pairs_shown(mapping, shown)}")
        return LabelMap(mapping, True, "; ".join(notes), names, dismissed)
    declared = _declared(found)
    if declared is not None and (matched := _matched(rest, names, declared)):
        mapping, how = matched
        return LabelMap(mapping, bool(mapping), "; ".join([how, *notes]), names, dismissed)
    kept = sorted(set(rest.values()), key=label_order(set(rest.values())))
    if declared is None and found.class_names is not None:
        where = f"{one_line(found.class_names.where)} ({listed(found.class_names.names)})"
        hint = f"the names in {where} do not fit them; --labels LABEL=CLASS,… maps them"
    else:
        hint = advice(found.labels, rest, names)
    notes.insert(
        0,
        f"the data's labels ({listed(kept)}) are not the model's ({listed(names)}): they are kept as they are, no"
        f" accuracy is computed; {hint}",
    )
    return LabelMap(rest, False, "; ".join(notes), names, dismissed)


def shown_labels(found: Survey) -> dict[str, str]:
    """Each label of the whole data set by the data set's name for it, else without outer blanks."""
    raws = [*found.labels, *found.labels_elsewhere]
    numbers = {raw: number for raw in raws if (number := whole_number(raw)) is not None}
    if found.class_names is not None and len(numbers) == len(raws):
        names = found.class_names.of(numbers.values())
        if names:
            return {raw: names[number] for raw, number in numbers.items()}
    return {raw: raw.strip() for raw in raws}


def _several(labels: Sequence[str]) -> frozenset[str]:
    """The labels that are lists of others, such as `2,14` beside `2` and `14` (GoEmotions)."""
    known = {label.strip() for label in labels}
    parts = {label: [part.strip() for part in re.split("[,;|]", label)] for label in labels}
    return frozenset(label for label, each in parts.items() if len(each) > 1 and known >= set(each))


def _declared(found: Survey) -> frozenset[int] | None:
    """The data set's own names for its classes, if they are numbers.

    None if the names do not fit the labels: then nothing is known about these.
    """
    if found.class_names is None:
        return frozenset()
    numbers = [whole_number(raw) for raw in (*found.labels, *found.labels_elsewhere)]
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers):
        return frozenset()
    names = found.class_names.of(known)
    by_name = [whole_number(name) for name in names.values()]
    return frozenset(number for number in by_name if number is not None) if names else None


# --- The rule ---------------------------------------------------------------------------------------------------


def _matched(
    shown: Mapping[str, str], names: Sequence[str], declared: frozenset[int]
) -> tuple[dict[str, str], str] | None:
    """The class of each label, and how it was found; None if no rule explains all of them.

    `declared` are numbers that may be labels, even if no row has them.
    """
    if not shown:
        return {}, "--labels leaves all labels out: no accuracy is computed"
    if (mapping := _by_name(shown, names)) is not None:
        if all(mapping[raw] == name == raw.strip() for raw, name in shown.items()):
            return (
                mapping,
                f"the data's labels are the model's classes: {listed(sorted(set(mapping.values())))}",
            )
        return mapping, f"labels were matched by name: {pairs_shown(mapping, shown)}"
    return _by_index(shown, names, declared)


def _by_index(
    shown: Mapping[str, str], names: Sequence[str], declared: frozenset[int]
) -> tuple[dict[str, str], str] | None:
    """See `match_labels`, 2 and 3. A model without names calls its class 3 `LABEL_3`, counting from 0."""
    numbers = {raw: int(name[6:]) for raw, name in shown.items() if re.fullmatch("LABEL_[0-9]{1,4}", name)}
    is_from_0 = bool(numbers)
    numbers |= {raw: number for raw, name in shown.items() if (number := whole_number(name)) is not None}
    if len(numbers) < len(shown) or usual_order(names) != list(names):
        return None
    found, count = {*numbers.values(), *declared}, len(names)
    if found <= set(range(count)) and {0, count - 1} <= found:
        mapping = {raw: names[number] for raw, number in numbers.items()}
        from_0 = "" if len(found) == count else f", counted from 0 as both 0 and {count - 1} occur"
        return mapping, f"labels were matched by number{from_0}: {pairs_shown(mapping, shown)}"
    if found == set(range(1, count + 1)) and not is_from_0:
        mapping = {raw: names[number - 1] for raw, number in numbers.items()}
        return mapping, f"labels were matched by number, counted from 1: {pairs_shown(mapping, shown)}"
    return None


def _by_name(shown: Mapping[str, str], names: Sequence[str]) -> dict[str, str] | None:
    """The class that each label names; None unless every label names one."""
    if any(whole_number(name) is None for name in shown.values()):
        return _by_spelling(shown, names)
    if are_nameless(names):
        return None  # which number means which nameless class is the open question
    by_exact = {name.strip(): name for name in names}
    if all(name in by_exact for name in shown.values()):
        return {raw: by_exact[name] for raw, name in shown.items()}
    return _by_number_in_name(shown, names)


def _by_spelling(shown: Mapping[str, str], names: Sequence[str]) -> dict[str, str] | None:
    """The class of each label by `spelled`, or, for one label per class, by `beginning`; None unless all have one."""
    mapping: dict[str, str] = {}
    only_begin: dict[str, set[str]] = {}  # by class, the spellings of labels that only begin like it
    for raw, label in shown.items():
        name = spelled(label, names)
        if name is None and (name := beginning(label, names)) is not None:
            only_begin.setdefault(name, set()).add(spelling(label))
        if name is None:
            return None
        mapping[raw] = name
    for name, spellings in only_begin.items():
        if spellings != {spelling(shown[raw]) for raw, own in mapping.items() if own == name}:
            return None  # another label spells the class
        if len(spellings) > 1:
            return None
    return mapping


def _by_number_in_name(shown: Mapping[str, str], names: Sequence[str]) -> dict[str, str] | None:
    """`3` is `3 stars`, if all labels are such numbers, and can't all be indices in any order of the classes."""
    by_number = number_in(names)
    numbers = {raw: number for raw, name in shown.items() if (number := whole_number(name)) is not None}
    if not by_number or not by_number.keys() >= set(numbers.values()):
        return None
    if all(0 <= number < len(names) for number in numbers.values()):
        return None
    return {raw: by_number[number] for raw, number in numbers.items()}


def _mapped_by_pairs(
    shown: Mapping[str, str], names: Sequence[str], pairs: Mapping[str, str], notes: list[str]
) -> dict[str, str]:
    """The class of each label that `--labels` maps, "" if excluded. Raises UsageError for anything but a class."""
    classes: dict[str, str] = {}
    for label, name in pairs.items():
        found = spelled(name, names) if name else ""
        if found is None:
            hint = similar(name, names)
            if are_nameless(names):
                hint = ": name all its classes, in their order, before the pairs"
            raise UsageError(
                f"--labels {one_line(label)}={one_line(name)}: the model has no class {quoted(name)}, it has"
                f" {listed(names)}{hint}"
            )
        classes[label] = found
    told: dict[str, str] = {}
    used: set[str] = set()
    for raw, name in shown.items():
        number = whole_number(raw)
        for label in pairs:
            if label in (raw.strip(), name) or (number is not None and number == whole_number(label)):
                break
        else:
            label = next((label for label in pairs if compact(label) == compact(name) != ""), "")
        if label:
            told[raw] = classes[label]
            used.add(label)
    if unused := [label for label in pairs if label not in used]:
        notes.append(f"no row has the label {listed(unused)} of --labels")
    return told


# --- Wording of notes -------------------------------------------------------------------------------------------


def pairs_shown(mapping: Mapping[str, str], shown: Mapping[str, str]) -> str:
    """`0 is neg, 1 is pos`: each label, by the data set's name if it has one, and its class."""

    def said(raw: str) -> str:
        own = shown[raw]
        return one_line(own if own == raw.strip() else f"{raw.strip()} ({own})")

    order = label_order(list(mapping))
    pairs = dict.fromkeys(f"{said(raw)} is {one_line(mapping[raw])}" for raw in sorted(mapping, key=order))
    more = len(pairs) - _SHOWN
    return ", ".join(list(pairs)[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
