"""Data in: a dataset of any of the usual shapes becomes a stream of documents.

A source is read in streams and as often as needed; what is held in memory is one row, the names of a
folder's or a zip archive's files, and for IMDb the films' ids. In order of what they are told from:

* the word `imdb` (a download), `hf://datasets/...`, a folder, a file, a glob;
* gzip, zstd, bzip2, xz, tar, zip and Parquet by their first bytes, the kinds of text by their names:
  `.csv`, `.tsv` or `.tab`, `.jsonl`, `.ndjson` or `.json` (an object a line), `.parquet`;
* splits: folders above the class folders; else files whose names hold a split's name as a word (`train.csv`,
  `imdb-test-00000-of-00001.parquet`) or stand in a folder of that name, or Hive's `split=test`; else what stands
  in a table's column `split`.

Rows of tables are counted from 1, the header not included; a line of JSON is a row. In tables without
ids, a document's id is `<file>:<row>`. Ids of the source's own are kept as they are, repeated or not: to find
every repetition would take memory in the number of documents. `survey` says so where it meets one early.
"""

import glob
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from attnstore.config import SourceConfig
from attnstore.data.files import (
    Files,
    decompressed,
    folder,
    hub_files,
    is_hidden,
    matching,
    reading,
    similar_path,
    tar_members,
    zip_members,
)
from attnstore.data.imdb import Progress, fetch_imdb
from attnstore.data.tables import Columns, Table, choose_columns, class_names, kind_of, rows, table_at
from attnstore.data.texts import URLS, TextTree, lay_out
from attnstore.errors import DataError, UsageError
from attnstore.messages import listed, one_line, quoted, similar

MAX_LISTED = 1000  # rejected rows told one by one
MAX_LABELS = 10_000  # with more distinct values a column holds no classes
MAX_SPLITS = 50  # with more distinct values a column holds no splits
MAX_REMEMBERED = 100_000  # ids looked at for repetitions; ids kept to name the rows of unknown labels

_KINDS_READ = (
    "attnstore reads .csv, .tsv, .jsonl, .parquet (also compressed), folders of .txt, tar and zip archives"
)
#: What a dataset's description is called, not the dataset.
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json")


@dataclass(frozen=True, slots=True)
class Document:
    """A text to classify. `label` is the source's own until `read_documents` maps it to the model's."""

    text: str
    id: str
    group: str | None
    split: str
    label: str | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that became no document: where it stands (`reviews.csv row 17`), and a fixed phrase why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset, ready to be read as often as needed, always in the same order.

    `name` is what the user called it; `splits` are all of the dataset's, () if it has none, and iterating
    reads those asked for; `notes` are the guesses made, a sentence each; `label_names` are the names that the
    dataset itself gives its numbered labels (the hub's ClassLabel), in order.

    Iterating raises DataError where the data can't be read any further.
    """

    name: str
    splits: tuple[str, ...]
    notes: tuple[str, ...]
    label_names: tuple[str, ...]
    read: Callable[[], Iterator[Document | Rejected]] = field(repr=False)

    def __iter__(self) -> Iterator[Document | Rejected]:
        with reading(self.name):
            yield from self.read()


def open_source(config: SourceConfig, *, progress: Progress | None = None) -> Source:
    """Find the dataset and how to read it; for `imdb`, download it first unless the cache has it.

    `progress(bytes done, bytes in all or None)` follows the download.
    Raises UsageError for what does not exist (the path, the split, a column), with what does exist, and
    DataError for what can't be read.
    """
    data = config.data
    if config.limit is not None and config.limit < 1:
        raise UsageError(f"--limit must be at least 1, not {config.limit}")
    if not data.strip():
        raise UsageError(
            "--data is empty: name a folder, a file, an archive, a glob, hf://datasets/... or imdb"
        )
    with reading(data):
        if data == "imdb":
            return _open_file(fetch_imdb(progress), config)
        if data.startswith("hf://"):
            return _open_files(hub_files(data), config)
        if "://" in data:
            raise UsageError(
                f"{one_line(data)} is an address: download it first (only hf:// and imdb are fetched)"
            )
        path = Path(data).expanduser()
        if path.is_dir():
            return _open_files(folder(path), config)
        if path.is_file():
            return _open_file(path, config)
        if path.exists():
            raise DataError(f"{one_line(data)} is neither a file nor a folder")
        if glob.has_magic(data):
            return _open_files(matching(str(path)), config)
        raise UsageError(f"no such file or folder: {one_line(data)}{similar_path(path)}")


# --- What a source holds, and what it becomes -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Survey:
    """A source read through once.

    `labels` counts the source's own labels, `unlabelled` the documents without; `rejected` counts by reason
    and `rejected_rows` says where (the first 1,000). `ids_by_label` keeps the ids of some documents of
    each label, to name the rows should the label turn out to be unknown. `sha256` is over split, id, group,
    label and text of all documents in order, each preceded by its length: a folder and an archive of the same
    data have the same.
    """

    documents: int
    labels: Mapping[str, int]
    unlabelled: int
    rejected: Mapping[str, int]
    rejected_rows: tuple[str, ...]
    sha256: str
    notes: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()
    ids_by_label: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)


def survey(source: Source) -> Survey:
    """Read the whole source once and count. Raises DataError if it holds no document, or no classes."""
    labels: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    rows: list[str] = []
    ids_by_label: dict[str, list[str]] = {}
    remembered = unlabelled = documents = empty = 0
    seen: set[str] = set()
    repeated: str | None = None
    digest = hashlib.sha256()
    for item in source:
        if isinstance(item, Rejected):
            rejected[item.reason] += 1
            if len(rows) < MAX_LISTED:
                rows.append(f"{item.where}: {item.reason}")
            continue
        documents += 1
        empty += not item.text.strip()
        digest.update(_digestible(item))
        if repeated is None and documents <= MAX_REMEMBERED:
            repeated = item.id if item.id in seen else None
            seen.add(item.id)
        if item.label is None:
            unlabelled += 1
            continue
        labels[item.label] += 1
        if labels[item.label] == 1 and len(labels) > MAX_LABELS:
            raise DataError(
                f"{one_line(source.name)} has more than {MAX_LABELS:,} labels, the last {quoted(item.label)}: "
                "these are no classes; name another column with --label-column"
            )
        ids = ids_by_label.setdefault(item.label, [])
        if len(ids) < MAX_LISTED and remembered < MAX_REMEMBERED:
            ids.append(item.id)
            remembered += 1
    if not documents:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected.most_common())
        raise DataError(
            f"{one_line(source.name)} holds no document"
            + (f": all rows rejected ({reasons})" if reasons else "")
        )
    notes = []
    if repeated is not None:
        notes.append(f"ids repeat: {quoted(repeated)} is the id of more than one document")
    if empty:
        notes.append(f"{empty:,} of {documents:,} texts are empty: they are documents without a word")
    return Survey(
        documents=documents,
        labels=dict(labels),
        unlabelled=unlabelled,
        rejected=dict(rejected),
        rejected_rows=tuple(rows),
        sha256=digest.hexdigest(),
        notes=tuple(notes),
        label_names=source.label_names,
        ids_by_label={label: tuple(ids) for label, ids in ids_by_label.items()},
    )


@dataclass(frozen=True, slots=True)
class LabelMap:
    """The source's labels as the model's. A label that `mapping` lacks is unknown, its rows are rejected.

    `are_models` is False where no label is the model's, or there is none: then no accuracy can be claimed.
    `model_labels` are the model's classes in the order of its logits, by the names this run gives them.
    """

    mapping: Mapping[str, str]
    are_models: bool
    note: str | None
    model_labels: tuple[str, ...]


def match_labels(found: Survey, model_labels: Sequence[str], given: Sequence[str] = ()) -> LabelMap:
    """Tell which of the source's labels is which of the model's.

    In this order: by name, ignoring case and outer blanks; if no name fits, by number, which is the number in
    the model's label if each has one (`LABEL_0`, `3 stars`), else its index, and only if most of the numbered
    documents have a number of the model's; if the model has nothing but `LABEL_0`, `LABEL_1`, ... and the
    source as many labels, the source's in order (of number, else of the alphabet) name the model's.
    `given` replaces the model's own names. Raises UsageError if these are not as many as the model's classes.
    """
    names = tuple(model_labels)
    if given:
        names = tuple(label.strip() for label in given)
        if len(names) != len(model_labels):
            raise UsageError(
                f"--labels names {len(names)} classes ({listed(names)}), the model has {len(model_labels)}"
                f" ({listed(model_labels)})"
            )
        if len({name.casefold() for name in names}) < len(names) or "" in names:
            raise UsageError(f"--labels must be different names, none empty: {listed(names)}")
    if not found.labels:
        return LabelMap({}, False, "the data has no labels: no accuracy is computed", names)

    shown = {raw: _shown_label(raw, found.label_names) for raw in found.labels}
    by_name = {name.strip().casefold(): name for name in names}
    named = {raw: by_name[name.casefold()] for raw, name in shown.items() if name.casefold() in by_name}
    if named:
        return LabelMap(named, True, None, names)

    generic = not given and all(re.fullmatch(r"LABEL_\d+", name) for name in names)
    if generic and len(found.label_names) == len(names):
        numbers = [str(number) for number in range(len(names))]
        return _naming_the_model(
            dict(zip(numbers, found.label_names, strict=True)), names, "the dataset's own order"
        )

    by_number = _numbers_of(names)
    numbered = {raw: _number(raw) for raw in found.labels}
    fitting = {raw: by_number[n] for raw, n in numbered.items() if n is not None and n in by_number}
    documents = sum(found.labels[raw] for raw in fitting)
    others = sum(found.labels[raw] for raw, n in numbered.items() if n is not None) - documents
    if generic and len(fitting) < len(shown) == len(names):
        order = sorted(shown, key=_label_order(list(shown)))
        return _naming_the_model({raw: shown[raw] for raw in order}, names, "their sorted order")
    if documents > others:
        pairs = ", ".join(f"{raw.strip()} is {name}" for raw, name in sorted(fitting.items())[:10])
        return LabelMap(fitting, True, f"labels were matched by number: {pairs}", names)
    return LabelMap(
        shown,
        False,
        f"the data's labels ({listed(sorted(set(shown.values())))}) are not the model's ({listed(names)}): they are"
        " kept as they are, no accuracy is computed; --labels gives the model's classes other names",
        names,
    )


def count_documents(found: Survey, labels: LabelMap, limit: int | None = None) -> int:
    """How many documents `read_documents` yields."""
    usable = found.documents - sum(_unknown(found, labels).values())
    return usable if limit is None else min(limit, usable)


def read_documents(
    source: Source, found: Survey, labels: LabelMap, limit: int | None = None
) -> Iterator[Document]:
    """The documents with the model's labels; the place in this stream is the document's number.

    Rows with an unknown label are left out. Of N documents, `limit` takes number i·N // limit for i = 0, 1,
    ..., limit - 1: IMDb is sorted by label, its first documents are of one class.
    Raises DataError if the source no longer holds what `found` counted.
    """
    usable = count_documents(found, labels)
    wanted = count_documents(found, labels, limit)
    position = taken = 0
    for item in source:
        if isinstance(item, Rejected) or (item.label is not None and item.label not in labels.mapping):
            continue
        if position == taken * usable // wanted:
            taken += 1
            yield item if item.label is None else replace(item, label=labels.mapping[item.label])
            if taken == wanted:
                return
        position += 1
    if taken < wanted:
        raise DataError(
            f"{one_line(source.name)} changed while it was read: {usable:,} documents before, {position:,} now"
        )


@dataclass(frozen=True, slots=True)
class Rejections:
    """What became no document: how many by reason, and where the first 1,000 stood."""

    counts: dict[str, int]
    rows: tuple[str, ...]


def rejections(found: Survey, labels: LabelMap, strict: bool = False) -> Rejections:
    """What is left out, unknown labels included. With `strict` any is a DataError that names the first."""
    counts = dict(found.rejected)
    rows = list(found.rejected_rows)
    unknown = _unknown(found, labels)
    if unknown:
        counts["unknown label"] = sum(unknown.values())
        rows += [
            f"{id_}: unknown label {quoted(raw)}"
            for raw in unknown
            for id_ in found.ids_by_label.get(raw, ())
        ]
    total = sum(counts.values())
    if strict and total:
        first = rows[0] if rows else f"label {quoted(next(iter(unknown)))} is unknown"
        others = f", and {total - 1:,} more rows were rejected" if total > 1 else ""
        raise DataError(
            f"{one_line(first)}{others}: mend the data, or leave --strict out to go on without such rows"
        )
    return Rejections(counts, tuple(rows[:MAX_LISTED]))


def _digestible(document: Document) -> bytes:
    parts = []
    for value in (document.split, document.id, document.group, document.label, document.text):
        if value is None:
            parts.append(b"\xff" * 8)  # no length can be this
        else:
            encoded = value.encode()
            parts += (len(encoded).to_bytes(8, "little"), encoded)
    return b"".join(parts)


def _unknown(found: Survey, labels: LabelMap) -> dict[str, int]:
    return {raw: count for raw, count in found.labels.items() if raw not in labels.mapping}


def _shown_label(raw: str, label_names: tuple[str, ...]) -> str:
    number = _number(raw) if label_names else None
    return label_names[number] if number is not None and 0 <= number < len(label_names) else raw.strip()


def _naming_the_model(shown: Mapping[str, str], names: Sequence[str], order: str) -> LabelMap:
    new = tuple(shown.values())
    pairs = ", ".join(f"{name} is {label}" for name, label in list(zip(names, new, strict=True))[:10])
    note = f"the model's classes have no names, so the data's labels, in {order}, name them: {pairs}"
    return LabelMap(dict(shown), True, note, new)


def _number(label: str) -> int | None:
    """The whole number that a label is, `1.0` and `true` included, else None."""
    text = label.strip().casefold()
    if text in ("false", "true"):
        return int(text == "true")
    return int(text.partition(".")[0]) if re.fullmatch(r"[+-]?[0-9]{1,9}(\.0*)?", text) else None


def _numbers_of(names: Sequence[str]) -> dict[int, str]:
    """The number each class goes by: the only one in its name if all have one, else its index."""
    inside = [re.findall(r"[0-9]+", name) for name in names]
    if all(len(numbers) == 1 for numbers in inside):
        by_number = {int(numbers[0]): name for numbers, name in zip(inside, names, strict=True)}
        if len(by_number) == len(names):
            return by_number
    return dict(enumerate(names))


def _label_order(labels: Sequence[str]) -> Callable[[str], Any]:
    try:
        numbers = {label: float(label) for label in labels}
    except ValueError:
        return lambda label: label.strip()
    return lambda label: numbers[label]


# --- From files to documents ----------------------------------------------------------------------------------


def _open_file(path: Path, config: SourceConfig) -> Source:
    """A source in one local file: an archive or a table, told by its first bytes."""
    with path.open("rb") as file:
        head = file.read(4)
    if not head:
        raise DataError(f"{one_line(config.data)} is empty")
    if head in (b"PK\x03\x04", b"PK\x05\x06"):
        return _open_files(zip_members(path), config)
    with decompressed(path.open("rb")) as stream:
        start = stream.read(512)
    if start[257:262] == b"ustar" or path.name.endswith((".tar", ".tgz")) or ".tar." in path.name:
        return _open_tar(path, config)
    if start.startswith(b"PAR1"):
        table = Table(path.name, "parquet", None, {}, lambda _: path.open("rb"))
        return _open_tables([table], config)
    return _open_files(Files([path.name], lambda _: path.open("rb"), named=True), config)


def _open_files(files: Files, config: SourceConfig) -> Source:
    """A source of many files: tables of one kind, or texts in class folders."""
    names = [name for name in files.names if files.named or not is_hidden(name)]
    if files.named and kind_of(names[0]) is None:
        raise DataError(f"{one_line(config.data)}: unknown kind of file; {_KINDS_READ}")
    tables = _tables(names, config)
    texts = [name for name in names if name.lower().endswith(".txt")]
    tree = _survey_texts((name, partial(files.contents, name)) for name in texts) if texts else None
    if tree and (tree.is_imdb or not tables):
        return _open_texts(tree, config, lambda: ((name, partial(files.contents, name)) for name in texts))
    if tree and tree.labels:
        raise DataError(
            f"{one_line(config.data)} holds tables ({listed(tables)}) and class folders ({listed(tree.labels)}):"
            " name the one to read with --data"
        )
    if tables:
        found = [table_at(name, files.open, kind_of(name) or "csv") for name in tables]
        return _open_tables([replace(table, split=None) for table in found] if files.named else found, config)
    what = f"{len(names):,} files" if names else "no files"
    archives = [name for name in names if name.endswith((".zip", ".tgz", ".tar")) or ".tar." in name]
    hint = f"name the archive itself: {listed(archives)}" if archives else _KINDS_READ
    raise DataError(f"{one_line(config.data)} holds {what}, none that can be read; {hint}")


def _tables(names: Sequence[str], config: SourceConfig) -> list[str]:
    """The names of tables. JSON beside tables of another kind describes them. Raises DataError for a mixture."""
    tables = [name for name in names if kind_of(name) and PurePosixPath(name).name not in _DESCRIPTIONS]
    tables = [name for name in tables if not _is_json(name)] or tables
    kinds = {kind_of(name): name for name in tables}
    if len(kinds) > 1:
        raise DataError(
            f"{one_line(config.data)} holds tables of several kinds ({listed(list(kinds.values()))}): name those to"
            " read, with a glob such as '*.csv'"
        )
    return tables


def _is_json(name: str) -> bool:
    return ".json" in PurePosixPath(name.lower()).suffixes


def _open_tar(path: Path, config: SourceConfig) -> Source:
    """A source in a tar archive, which is read through once to see what there is, then once a reading."""
    others: list[str] = []

    def texts() -> Iterator[tuple[str, Callable[[], bytes]]]:
        for name, read in tar_members(path):
            if name.lower().endswith(".txt") and not is_hidden(name):
                yield name, read
            elif len(others) < 3:
                others.append(name)

    tree = _survey_texts(texts())
    tree.check()
    if not tree.places:
        what = f"it has {listed(others)}" if others else "it is empty"
        raise DataError(
            f"{one_line(config.data)} holds no .txt files in class folders ({what}): unpack it, and name what to read"
        )
    return _open_texts(tree, config, texts)


def _survey_texts(members: Iterable[tuple[str, Callable[[], bytes]]]) -> TextTree:
    """Splits and classes of a tree of .txt files, each given by its name and how to read it."""
    counts: Counter[str] = Counter()
    urls: dict[str, bytes] = {}
    for name, read in members:
        if URLS.fullmatch(name):
            urls[name] = read()
        else:
            counts[name.rpartition("/")[0]] += 1
    return lay_out(counts, urls)


def _open_texts(
    tree: TextTree, config: SourceConfig, members: Callable[[], Iterable[tuple[str, Callable[[], bytes]]]]
) -> Source:
    """`members` yields each .txt file's name and how to read it, in the order of the documents."""
    tree.check()
    for what in ("text", "label", "id", "group"):
        if (named := getattr(config, f"{what}_column")) is not None:
            raise UsageError(
                f"{one_line(config.data)} holds text files, which have no column {quoted(named)} (--{what}-column)"
            )
    splits = tuple(tree.splits)
    wanted = _wanted_splits(splits, config)
    notes = _only_a_name(splits, config)
    if not tree.labels:
        notes.append("there are no class folders: the documents have no labels")
    if tree.elsewhere:
        notes.append(f"{tree.elsewhere:,} .txt files beside or above the class folders were left out")

    def read() -> Iterator[Document | Rejected]:
        for name, content in members():
            where, _, file = name.rpartition("/")
            place = tree.places.get(where)
            if place is None or (place.split is not None and place.split not in wanted):
                continue
            stem = file[: -len(".txt")]
            id_ = f"{place.own}/{stem}".lstrip("/")
            yield _document(id_, place.split or config.split, content(), id_, place.label, place.group(stem))

    return Source(config.data, splits, tuple(notes), (), read)


def _open_tables(tables: Sequence[Table], config: SourceConfig) -> Source:
    if any(table.split for table in tables):
        tables = [
            replace(table, split=table.split or PurePosixPath(table.name).name.partition(".")[0])
            for table in tables
        ]
    splits = tuple(dict.fromkeys(table.split for table in tables if table.split))
    wanted = _wanted_splits(splits, config)
    tables = [table for table in tables if table.split is None or table.split in wanted]
    first = tables[0]
    notes: list[str] = []
    columns = choose_columns(first, config, notes)
    if columns.split is not None:
        splits = _splits_inside(tables, columns, config)
        wanted = _wanted_splits(splits, config)
    notes += _only_a_name(splits, config)
    label_names = class_names(first, columns.label) if first.kind == "parquet" else ()

    def read() -> Iterator[Document | Rejected]:
        for table in tables:
            for row, values in rows(table, columns, config):
                where = f"{table.name} row {row}"
                if isinstance(values, str):
                    yield Rejected(one_line(where), values)
                    continue
                text, label, id_, group, own = (
                    table.partition[name] if name is not None and name in table.partition else value
                    for name, value in zip(columns, values, strict=True)
                )
                if label_names and label == -1:
                    label = None  # the hub's way to say that a label is kept secret
                try:
                    label, id_, group = _scalar(label), _scalar(id_), _scalar(group)
                    split = table.split or (config.split if columns.split is None else _split(own))
                except TypeError:
                    yield Rejected(one_line(where), "malformed row")
                    continue
                if columns.split is None or split in wanted:
                    yield _document(where, split, text, id_ or f"{table.name}:{row}", label, group)

    return Source(config.data, splits, tuple(notes), label_names, read)


def _document(
    where: str,
    split: str,
    text: object,
    id_: str | bytes,
    label: str | bytes | None,
    group: str | bytes | None,
) -> Document | Rejected:
    """One row, judged: strings are as the source has them, blank labels and groups are none."""
    if text is None:
        return Rejected(one_line(where), "text missing")
    if not isinstance(text, str | bytes):
        return Rejected(one_line(where), "text is not a string")
    try:
        text, id_, split = _utf8(text), _utf8(id_), _utf8(split)
        label = _utf8(label) if label is not None else None
        group = _utf8(group) if group is not None else None
    except UnicodeError:
        return Rejected(one_line(where), "not UTF-8")
    return Document(
        text,
        id_,
        group if group and group.strip() else None,
        split,
        label if label and label.strip() else None,
    )


def _utf8(value: str | bytes) -> str:
    """Raises UnicodeError for what UTF-8 can't say: foreign bytes, and halves of surrogate pairs."""
    if isinstance(value, bytes):
        return value.decode("utf-8-sig")
    if not value.isascii():
        value.encode()
    return value


def _scalar(value: object) -> str | bytes | None:
    """A label, id or group as text. Raises TypeError for a list or an object."""
    if value is None or isinstance(value, str | bytes):
        return value or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isnan(value):
        return None  # pandas' null in a column of numbers
    if isinstance(value, dict | list):
        raise TypeError
    return str(value)


def _split(value: object) -> str:
    """A row's own split; `all` where it has none. Raises TypeError for a list or an object."""
    split = _scalar(value) or "all"
    return split.decode(errors="replace") if isinstance(split, bytes) else split


def _splits_inside(tables: Sequence[Table], columns: Columns, config: SourceConfig) -> tuple[str, ...]:
    """The splits in the tables' column of that name, which is read through for them."""
    found: dict[str, None] = {}
    for table in tables:
        for _, values in rows(table, columns, config):
            with suppress(TypeError):
                found |= {} if isinstance(values, str) else {_split(values[-1]): None}
            if len(found) > MAX_SPLITS:
                raise DataError(
                    f"{one_line(config.data)} has more than {MAX_SPLITS} splits in its column"
                    f" {quoted(str(columns.split))}: give it another name if it holds something else"
                )
    return tuple(found)


def _only_a_name(splits: Sequence[str], config: SourceConfig) -> list[str]:
    if splits or config.split == "all":
        return []
    return [f"the data has no splits: {quoted(config.split)} is only the name that its documents get"]


def _wanted_splits(splits: Sequence[str], config: SourceConfig) -> frozenset[str]:
    """The splits to read. Raises UsageError if there are splits, but not the one asked for."""
    if not splits or config.split == "all":
        return frozenset(splits)
    if config.split not in splits:
        raise UsageError(
            f"{one_line(config.data)} has no split {quoted(config.split)}, it has {listed(splits)}"
            f"{similar(config.split, splits)}"
        )
    return frozenset([config.split])
