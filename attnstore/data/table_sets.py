"""The tables of one data set, read as one source: their columns, their splits, the names of their classes.

Rows are counted from 1, without the header; a line of JSON is a row. In tables without ids, a document's id is
`<file>:<row>`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath

from attnstore.config import SourceConfig
from attnstore.data.class_names import ClassNames, agreed, classes_in
from attnstore.data.class_names import beside as names_beside
from attnstore.data.columns import Columns, Values
from attnstore.data.delimited import Bad
from attnstore.data.documents import Document, Noticed, Rejected, Source
from attnstore.data.files import Files
from attnstore.data.judging import (
    SeveralError,
    as_document,
    as_label,
    as_scalar,
    as_split,
    joined,
    mostly_utf8,
    paired,
)
from attnstore.data.splits import note_on_missing_splits, wanted_splits
from attnstore.data.tables import Padded, Table, class_names, columns_of, label_values, rows
from attnstore.errors import DataError
from attnstore.messages import one_line, quoted

MAX_LABELS = 10_000  # more distinct values are not classes
MAX_SPLITS = 50  # a column with more distinct values does not have splits


def open_tables(tables: Sequence[Table], config: SourceConfig, beside: Files) -> Source:
    """Open tables. `beside` are the files that may have the names of the classes."""
    tables = _with_splits(tables)
    splits = tuple(dict.fromkeys(table.split for table in tables if table.split))
    wanted = wanted_splits(splits, config)
    others = [table for table in tables if table.split is not None and table.split not in wanted]
    tables = [table for table in tables if table not in others]
    notes: list[str] = []
    tables, others, columns = _with_columns(tables, others, config, notes)
    label_column = next((chosen.label for chosen in columns.values() if chosen.label is not None), None)
    names = _class_names([*tables, *others], label_column, beside, config)

    def label_of(value: object) -> str | None:
        # -1 is the hub's mark for a secret label.
        return None if names is not None and value in (-1, "-1", b"-1") else as_label(value)

    labels_inside: dict[str, set[str]] = {}
    if any(chosen.split is not None for chosen in columns.values()):
        labels_inside = _splits_inside(tables, columns, config, label_of)
        splits = tuple(labels_inside)
        wanted = wanted_splits(splits, config)
    notes += note_on_missing_splits(splits, config)

    def labels_elsewhere() -> Iterator[str]:
        for split, labels in labels_inside.items():
            if split not in wanted:
                yield from labels
        if label_column is not None:
            yield from _labels_of_others(others, label_column, label_of, config)

    def read() -> Iterator[Document | Rejected | Noticed]:
        for table in tables:
            chosen = columns[table.name]
            for row, values in rows(table, chosen, config):
                where = f"{table.name} row {row}"
                if isinstance(values, Bad):
                    yield Rejected(
                        one_line(f"{where} ({values.where})" if values.where else where), values.reason
                    )
                    continue
                texts, (label, id_, group, answer, own, *extra) = _parted(table, chosen, values)
                try:
                    label = None if names is not None and label in (-1, "-1", b"-1") else as_scalar(label)
                    id_, group = as_scalar(id_), as_scalar(group)
                    split = table.split or (config.split if chosen.split is None else as_split(own))
                except SeveralError:
                    yield Rejected(one_line(where), "several labels")
                    continue
                except TypeError:
                    yield Rejected(one_line(where), "its label, id or group is an object, or a list of lists")
                    continue
                if chosen.split is not None and split not in wanted:
                    continue
                if answer is not None and answer not in ("accept", b"accept"):
                    yield Rejected(one_line(where), "not accepted by its annotator")
                    continue
                if isinstance(values, Padded):
                    yield Noticed(
                        one_line(where), "shorter than its table: its last cells were taken for empty"
                    )
                yield paired(
                    where,
                    as_document(
                        where,
                        split,
                        joined(texts[:1] if config.pair else texts),
                        id_ or f"{table.name}:{row}",
                        label,
                        group,
                        extra,
                        config.max_document_bytes,
                    ),
                    texts[1:] if config.pair else (),
                    config.max_document_bytes,
                )

    return Source(
        config.data,
        splits,
        tuple(dict.fromkeys(notes)),
        names,
        # Delimited files detect another encoding themselves.
        (lambda: mostly_utf8(read(), config)) if any(table.kind == "json" for table in tables) else read,
        labels_elsewhere,
        next((chosen.kept for chosen in columns.values()), ()),
    )


def _parted(table: Table, columns: Columns, values: Values) -> tuple[Values, Values]:
    """A row's texts and its other values, including those of the columns in its file's path."""
    if table.partition:
        values = tuple(
            table.partition[name] if name is not None and name in table.partition else value
            for name, value in zip(columns, values, strict=True)
        )
    return values[: len(columns.texts)], values[len(columns.texts) :]


def _class_names(
    tables: Sequence[Table], label: str | None, beside: Files, config: SourceConfig
) -> ClassNames | None:
    """The data set's own names of its classes. Raises DataError if two of its files have different ones."""
    if label is None:
        return None
    found = [names for table in tables if (names := class_names(table, label, config)) is not None]
    names = names_beside(beside.names, beside.open, label)
    return agreed(found if names is None else [*found, names])


def _labels_of_others(
    tables: Sequence[Table], column: str, label_of: Callable[[object], str | None], config: SourceConfig
) -> Iterator[str]:
    """The labels of splits that are not read, without those of a split whose labels are all -1: they are secret."""
    found: dict[str | None, set[str]] = {}
    for table in tables:
        labels = found.setdefault(table.split, set())
        for value in label_values(table, column, config):
            with suppress(TypeError, UnicodeError):
                if len(labels) <= MAX_LABELS and (label := label_of(value)) is not None:
                    labels.add(label)
    for labels in found.values():
        yield from () if labels == {"-1"} else sorted(labels)


def _with_splits(tables: Sequence[Table]) -> list[Table]:
    """The tables, each with a split if any has one: an unknown split is named after its file."""
    if not any(table.split for table in tables):
        return list(tables)
    return [
        replace(table, split=table.split or PurePosixPath(table.name).name.partition(".")[0])
        for table in tables
    ]


def _with_columns(
    tables: Sequence[Table], others: Sequence[Table], config: SourceConfig, notes: list[str]
) -> tuple[list[Table], list[Table], dict[str, Columns]]:
    """The tables to read, those of other splits, and the columns; guesses are added to `notes`.

    If there is no label column, but each file is named after a class, that is its label.
    """
    own: list[str] = []
    columns = _columns(tables, config, own)
    classes = classes_in([table.name for table in (*tables, *others)])
    if classes and all(chosen.label is None for chosen in columns.values()):
        tables, others = (
            [replace(table, partition={**table.partition, "label": classes[table.name]}) for table in each]
            for each in (tables, others)
        )
        own = ["the files' names are the labels"]
        columns = _columns(tables, config, own)
    notes += own
    return list(tables), list(others), columns


def _columns(tables: Sequence[Table], config: SourceConfig, notes: list[str]) -> dict[str, Columns]:
    """The columns of each table, found file by file: a file without labels is a split without labels."""
    found: list[Columns] = []
    first: dict[str, Columns] = {}
    for table in tables:
        own: list[str] = []
        chosen = columns_of(table, config, own)
        first.setdefault("text", chosen)
        if chosen.label is not None:
            first.setdefault("label", chosen)
        _must_agree(table, "text", ",".join(chosen.texts), ",".join(first["text"].texts))
        if chosen.label is not None:
            _must_agree(table, "label", chosen.label, first["label"].label or "")
        found.append(chosen)
        notes += [note if note in notes or len(tables) == 1 else _of_file(note, table, found) for note in own]
    return {table.name: chosen for table, chosen in zip(tables, found, strict=True)}


def _must_agree(table: Table, what: str, here: str, before: str) -> None:
    """Raise DataError for a file whose text or label would come from a different column than in earlier files."""
    if here != before:
        raise DataError(
            f"{one_line(table.name)} has no column {quoted(before)}, the {what} in the files before it"
            f" ({quoted(here)} looks like it): name one file with --data, or the column with --{what}-column"
        )


def _of_file(note: str, table: Table, found: Sequence[Columns]) -> str:
    """A note about a file, with its name unless it is the first file."""
    return (
        note
        if len(found) == 1 or note.startswith(one_line(table.name))
        else f"{one_line(table.name)}: {note}"
    )


def _splits_inside(
    tables: Sequence[Table],
    columns: Mapping[str, Columns],
    config: SourceConfig,
    label_of: Callable[[object], str | None],
) -> dict[str, set[str]]:
    """The splits in the tables' column with that name, which is read through, and the labels in each."""
    found: dict[str, set[str]] = {}
    for table in tables:
        chosen = columns[table.name]
        if chosen.split is None:
            continue
        for _, values in rows(table, chosen, config):
            if isinstance(values, Bad):
                continue
            with suppress(TypeError, UnicodeError):
                labels = found.setdefault(as_split(values[len(chosen.texts) + 4]), set())
                label = label_of(values[len(chosen.texts)])
                if label is not None and len(labels) <= MAX_LABELS:
                    labels.add(label)
            if len(found) > MAX_SPLITS:
                raise DataError(
                    f"{one_line(config.data)} has more than {MAX_SPLITS} splits in its column"
                    f" {quoted(chosen.split)}: give it another name if it holds something else"
                )
    return found
