"""Data in: a dataset of any of the usual shapes becomes a stream of documents.

A source is read in streams and as often as needed; what is held in memory is one row, the names of a
folder's or a zip archive's files, and for IMDb the films' ids. In order of what they are told from:

* the word `imdb` (a download), `hf://datasets/...`, a folder, a file, a glob;
* gzip, zstd, bzip2, xz, tar, zip and Parquet by their first bytes, the kinds of text by their names:
  `.csv`, `.tsv` or `.tab`, `.jsonl`, `.ndjson` or `.json` (an object a line), `.parquet`;
* splits: folders above the class folders; else files whose names hold a split's name as a word (`train.csv`,
  `imdb-test-00000-of-00001.parquet`) or stand in a folder of that name, or Hive's `split=test`.

Rows of tables are counted from 1, the header not included; a line of JSON is a row. In tables without
ids, a document's id is `<file>:<row>`. Ids of the source's own are kept as they are, repeated or not: to find
every repetition would take memory in the number of documents. `survey` says so where it meets one early.
"""

import bz2
import csv
import difflib
import glob
import hashlib
import io
import json
import lzma
import math
import os
import posixpath
import re
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import unquote

import pyarrow as pa

from attnstore.config import SourceConfig
from attnstore.errors import AttnstoreError, DataError, UsageError

#: The Large Movie Review Dataset at its authors' address (Maas et al., ACL 2011).
IMDB_URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
IMDB_SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"

TEXT_COLUMNS = (
    "text", "review", "sentence", "body", "content", "comment", "document", "review_text", "review_body",
    "comment_text", "message", "tweet", "post", "article", "description",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "sentiment", "class", "category", "target", "stars", "rating", "polarity", "labels", "score",
)  # fmt: skip
ID_COLUMNS = ("id", "idx", "guid", "uid", "doc_id", "document_id", "review_id", "text_id")
GROUP_COLUMNS = ("group",)

#: What a word in the name of a file or folder says about its split.
SPLIT_WORDS = {
    "train": "train", "training": "train", "trainset": "train", "test": "test", "testing": "test",
    "testset": "test", "dev": "dev", "devset": "dev", "validation": "validation", "valid": "valid", "val": "val",
    "eval": "eval", "unsupervised": "unsupervised",
}  # fmt: skip

MAX_LISTED = 1000  # rejected rows told one by one
MAX_LABELS = 10_000  # with more distinct values a column holds no classes
MAX_REMEMBERED = 100_000  # ids looked at for repetitions; ids kept to name the rows of unknown labels
MAX_FIELD = 1 << 26  # characters in a field of a CSV; beyond, a quote was left open
SAMPLE = 1 << 20  # bytes looked at to tell a text file's layout

Progress = Callable[[int, int | None], None]
Kind = Literal["csv", "tsv", "jsonl", "parquet"]

_SUFFIXES: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSED = (".gz", ".zst", ".zstd", ".bz2", ".xz")
_KINDS_READ = (
    "attnstore reads .csv, .tsv, .jsonl, .parquet (also compressed), folders of .txt, tar and zip archives"
)


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
        with _reading(self.name):
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
    with _reading(data):
        if data == "imdb":
            return _open_file(fetch_imdb(progress), config)
        if data.startswith("hf://"):
            return _open_hub(config)
        if "://" in data:
            raise UsageError(
                f"{_line(data)} is an address: download it first (only hf:// and imdb are fetched)"
            )
        path = Path(data).expanduser()
        if path.is_dir():
            return _open_files(_folder(path), config)
        if path.is_file():
            return _open_file(path, config)
        if path.exists():
            raise DataError(f"{_line(data)} is neither a file nor a folder")
        if glob.has_magic(data):
            return _open_files(_glob(str(path)), config)
        raise UsageError(f"no such file or folder: {_line(data)}{_similar_path(path)}")


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
    remembered = unlabelled = documents = 0
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
                f"{_line(source.name)} has more than {MAX_LABELS:,} different labels, the last {_quoted(item.label)}: "
                "these are no classes; name another column with --label-column"
            )
        ids = ids_by_label.setdefault(item.label, [])
        if len(ids) < MAX_LISTED and remembered < MAX_REMEMBERED:
            ids.append(item.id)
            remembered += 1
    if not documents:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected.most_common())
        raise DataError(
            f"{_line(source.name)} holds no document"
            + (f": all rows rejected ({reasons})" if reasons else "")
        )
    notes = (
        () if repeated is None else (f"ids repeat: {_quoted(repeated)} is the id of more than one document",)
    )
    return Survey(
        documents=documents,
        labels=dict(labels),
        unlabelled=unlabelled,
        rejected=dict(rejected),
        rejected_rows=tuple(rows),
        sha256=digest.hexdigest(),
        notes=notes,
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
                f"--labels names {len(names)} classes ({_listed(names)}), the model has {len(model_labels)}"
                f" ({_listed(model_labels)})"
            )
        if len({name.casefold() for name in names}) < len(names) or "" in names:
            raise UsageError(f"--labels must be different names, none empty: {_listed(names)}")
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
        f"the data's labels ({_listed(sorted(set(shown.values())))}) are not the model's ({_listed(names)}): they are"
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
        if taken == wanted:
            return
        if isinstance(item, Rejected):
            continue
        label = item.label
        if label is not None:
            label = labels.mapping.get(label)
            if label is None:
                continue
        if position == taken * usable // wanted:
            taken += 1
            yield Document(item.text, item.id, item.group, item.split, label)
        position += 1
    if taken < wanted:
        raise DataError(
            f"{_line(source.name)} changed while it was read: {usable:,} documents before, {position:,} now"
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
            f"{id_}: unknown label {_quoted(raw)}"
            for raw in unknown
            for id_ in found.ids_by_label.get(raw, ())
        ]
    total = sum(counts.values())
    if strict and total:
        first = rows[0] if rows else f"label {_quoted(next(iter(unknown)))} is unknown"
        others = f", and {total - 1:,} more rows were rejected" if total > 1 else ""
        raise DataError(
            f"{_line(first)}{others}: mend the data, or leave --strict out to go on without such rows"
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


# --- Where files are: a folder, a glob, a zip archive, the hub ------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Files:
    """Files by name ("/"-separated, relative, sorted part by part), wherever they are."""

    names: Sequence[str]
    open: Callable[[str], IO[bytes]]


def _open_file(path: Path, config: SourceConfig) -> Source:
    """A source in one local file: an archive or a table, told by its first bytes."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise DataError(f"{_line(config.data)} is empty")
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
        return _open_files(_zip(path), config)

    def opened(_: str = "") -> IO[bytes]:
        return path.open("rb")

    with _decompressed(opened()) as stream:
        start = stream.read(512)
    if start[257:262] == b"ustar" or path.name.endswith((".tar", ".tgz")) or ".tar." in path.name:
        return _open_tar(path, config)
    kind: Kind | None = "parquet" if start.startswith(b"PAR1") else _kind(path.name)
    if kind is None:
        raise DataError(f"{_line(config.data)}: unknown kind of file; {_KINDS_READ}")
    return _open_tables([_Table(path.name, kind, None, {}, opened)], config)


def _open_files(files: _Files, config: SourceConfig) -> Source:
    """A source of many files: tables, or texts in class folders."""
    names = [name for name in files.names if not _hidden(name)]
    tables = [name for name in names if _kind(name)]
    texts = [name for name in names if name.lower().endswith(".txt")]
    tree = _text_tree(texts, files.open) if texts else None
    if tree and (tree.is_imdb or not tables):
        return _open_texts(tree, config, lambda: ((name, partial(_contents, files, name)) for name in texts))
    if tables and tree and tree.labelled:
        raise DataError(
            f"{_line(config.data)} holds tables ({_listed(tables)}) and class folders ({_listed(tree.classes)}):"
            " name the one to read with --data"
        )
    if tables:
        return _open_tables([_table(name, files.open) for name in tables], config)
    what = f"{len(names):,} files" if names else "no files"
    raise DataError(f"{_line(config.data)} holds {what}, none that can be read; {_KINDS_READ}")


def _contents(files: _Files, name: str) -> bytes:
    with files.open(name) as file:
        return file.read()


def _by_parts(name: str) -> list[str]:
    return name.split("/")


def _hidden(name: str) -> bool:
    """Files of the system's, such as .DS_Store, ._review.txt and .git, are nobody's documents."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _folder(root: Path) -> _Files:
    names: list[str] = []

    def failed(error: OSError) -> None:
        raise error

    for folder, subfolders, files in os.walk(root, onerror=failed, followlinks=True):
        here = Path(folder)
        # A link to a folder above would be walked for ever.
        subfolders[:] = [
            name
            for name in subfolders
            if not (here / name).is_symlink()
            or (here / name).resolve() not in (here.resolve(), *here.resolve().parents)
        ]
        prefix = here.relative_to(root).as_posix()
        names += files if prefix == "." else [f"{prefix}/{name}" for name in files]
    return _Files(sorted(names, key=_by_parts), lambda name: (root / name).open("rb"))


def _glob(pattern: str) -> _Files:
    # glob.glob, as Path.glob takes no absolute pattern.
    paths = [path for path in glob.glob(pattern, recursive=True) if Path(path).is_file()]  # noqa: PTH207
    if not paths:
        raise UsageError(f"no file matches {_line(pattern)}")
    root = Path(os.path.commonpath([str(Path(path).parent) for path in paths]))
    names = sorted((Path(path).relative_to(root).as_posix() for path in paths), key=_by_parts)
    return _Files(names, lambda name: (root / name).open("rb"))


def _zip(path: Path) -> _Files:
    archive = zipfile.ZipFile(path)
    entries = {}
    for entry in archive.infolist():
        name = _safe_name(entry.filename)
        if not entry.is_dir():
            if (entry.external_attr >> 16) & 0o170000 == 0o120000:
                raise DataError(
                    f"the archive holds a link ({_line(name)}), which is never followed: unpack it yourself"
                )
            entries[name] = entry
    return _Files(sorted(entries, key=_by_parts), lambda name: archive.open(entries[name]))


def _safe_name(name: str) -> str:
    """A member's name, checked: nothing is ever unpacked, but who writes such names is not to be trusted."""
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or name.startswith("/") or re.match(r"[A-Za-z]:/", name):
        raise DataError(
            f"the archive holds a member outside of itself ({_line(name)}): it is refused as a whole"
        )
    return "/".join(parts)


def _open_hub(config: SourceConfig) -> Source:
    from huggingface_hub import HfFileSystem

    path = config.data.removeprefix("hf://").rstrip("/")
    if not re.match(r"datasets/[^/]+/[^/]+", path):
        raise UsageError(
            f"{_line(config.data)}: a dataset of the hub is hf://datasets/OWNER/NAME, or a path in it"
        )
    hub = HfFileSystem()
    found = sorted(hub.glob(path) if glob.has_magic(path) else hub.find(path))
    paths = [each for each in found if not glob.has_magic(path) or hub.info(each)["type"] == "file"]
    if not paths:
        raise UsageError(f"no such dataset or file on the hub: {_line(config.data)}")
    if paths == [path]:
        root = path.rpartition("/")[0]
    else:
        root = posixpath.commonpath([posixpath.dirname(each) for each in paths])
    names = sorted((each[len(root) + 1 :] for each in paths), key=_by_parts)
    return _open_files(_Files(names, lambda name: hub.open(f"{root}/{name}", "rb")), config)


# --- Texts in class folders, IMDb among them ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _TextTree:
    """Where a tree of .txt files has its splits and classes.

    `places` says of each folder that holds documents: its split, its label, its name without what all have
    in common. `groups` has for IMDb's class folders the film of each review number.
    """

    places: Mapping[str, tuple[str | None, str | None, str]]
    groups: Mapping[str, Sequence[str | None]]
    left_out: int
    is_imdb: bool

    @property
    def labelled(self) -> bool:
        return any(label is not None for _, label, _ in self.places.values())

    @property
    def classes(self) -> list[str]:
        return sorted({label for _, label, _ in self.places.values() if label is not None})

    @property
    def splits(self) -> list[str]:
        return sorted({split for split, _, _ in self.places.values() if split is not None})


_URLS = re.compile(r"(?:.*/)?urls_(pos|neg)\.txt")


def _text_tree(names: Iterable[str], open_: Callable[[str], IO[bytes]]) -> _TextTree:
    counts: Counter[str] = Counter()
    urls: dict[str, bytes] = {}
    for name in names:
        if _URLS.fullmatch(name):
            with open_(name) as file:
                urls[name] = file.read()
        else:
            counts[name.rpartition("/")[0]] += 1
    return _lay_out(counts, urls)


def _lay_out(counts: Mapping[str, int], urls: Mapping[str, bytes]) -> _TextTree:
    """Tell splits and classes from the folders' names and their numbers of .txt files.

    The deepest folders hold the documents: after what all have in common, `class`, `split` or `split/class`.
    Raises DataError if there are more levels.
    """
    folders = {folder: tuple(folder.split("/")) if folder else () for folder in counts}
    groups: dict[str, Sequence[str | None]] = {}
    for name, content in urls.items():
        above, _, file = name.rpartition("/")
        folder = f"{above}/{file[5:8]}".lstrip("/")
        if folder in counts:
            groups[folder] = _films(content)
    is_imdb = bool(groups)
    if is_imdb:
        folders = {folder: parts for folder, parts in folders.items() if folder in groups}
    depth = max((len(parts) for parts in folders.values()), default=0)
    deepest = {folder: parts for folder, parts in folders.items() if len(parts) == depth}
    shared = posixpath.commonpath(deepest) if deepest else ""
    common = max(0, min(len(shared.split("/")) if shared else 0, depth - 1))
    any_folder = next(iter(deepest.values()), ())
    if depth - common == 1 and common and any_folder[common - 1].lower() in SPLIT_WORDS:
        common -= 1
    levels = depth - common
    if levels > 2:
        example = "/".join(any_folder)
        raise DataError(
            f"the .txt files lie too deep ({_line(example)}): class folders should hold them, or split/class folders"
        )
    only_splits = levels == 1 and all(parts[-1].lower() in SPLIT_WORDS for parts in deepest.values())
    places: dict[str, tuple[str | None, str | None, str]] = {}
    for folder, parts in deepest.items():
        own = parts[common:]
        split = own[0] if levels == 2 or only_splits else None
        places[folder] = (split, None if levels == 0 or only_splits else own[-1], "/".join(own))
    left_out = 0 if is_imdb else sum(count for folder, count in counts.items() if folder not in places)
    return _TextTree(places, groups, left_out, is_imdb)


def _films(urls: bytes) -> list[str | None]:
    """Line n of an IMDb list of addresses is of review n: the film's id, such as tt0406816."""
    ids = (re.search(r"/title/(tt[0-9]+)", line) for line in urls.decode("utf-8", "replace").splitlines())
    return [found[1] if found else None for found in ids]


def _open_texts(
    tree: _TextTree, config: SourceConfig, members: Callable[[], Iterable[tuple[str, Callable[[], bytes]]]]
) -> Source:
    """`members` yields each .txt file's name and how to read it, in the order of the documents."""
    _refuse_columns(config)
    splits = tuple(tree.splits)
    wanted = _wanted_splits(splits, config)
    notes = []
    if not tree.labelled:
        notes.append("there are no class folders: the documents have no labels")
    if tree.left_out:
        notes.append(f"{tree.left_out:,} .txt files beside or above the class folders were left out")

    def read() -> Iterator[Document | Rejected]:
        for name, content in members():
            folder, _, file = name.rpartition("/")
            place = tree.places.get(folder)
            if place is None:
                continue
            split, label, own = place
            if split is not None and split not in wanted:
                continue
            stem = file[:-4]
            id_ = f"{own}/{stem}".lstrip("/")
            group = None
            if films := tree.groups.get(folder):
                number = stem.partition("_")[0]
                group = films[int(number)] if number.isdecimal() and int(number) < len(films) else None
            yield _document(id_, split or config.split, content(), id_, label, group)

    return Source(config.data, splits, tuple(notes), (), read)


class _Forward:
    """A decompressed stream with as much seeking as tarfile needs: none backwards."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._at = 0
        self.last = b""  # what was read last

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        self.last = self._stream.read(size)
        self._at += len(self.last)
        return self.last

    def seek(self, to: int) -> int:
        while self._at < to and self.read(min(to - self._at, SAMPLE)):
            pass
        return self._at


def _tar_members(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The regular files of a tar archive as they stand in it, decompressed on the way, never unpacked.

    tarfile's own stream mode takes four times as long and remembers every member.
    """
    with _decompressed(path.open("rb")) as stream:
        forward = _Forward(stream)
        with tarfile.TarFile(fileobj=forward, mode="r", encoding="utf-8") as tar:  # type: ignore[arg-type]
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # or it keeps them all
                name = _safe_name(member.name)
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    kind = "a link" if member.issym() or member.islnk() else "a special file"
                    raise DataError(
                        f"the archive holds {kind} ({_line(name)}), which is never followed: unpack it yourself"
                    )

                def read(size: int = member.size, name: str = name) -> bytes:
                    content = forward.read(size)
                    if len(content) < size:
                        raise DataError(
                            f"{_line(path.name)} ends in the middle of {_line(name)}: it is cut off"
                        )
                    return content

                yield name, read
        # tarfile takes a damaged header for the end; the real end is a block of zeros, or the end of the file.
        if forward.last.strip(b"\0"):
            raise DataError(f"{_line(path.name)} is damaged or cut off after {forward.tell():,} bytes")


def _open_tar(path: Path, config: SourceConfig) -> Source:
    counts: Counter[str] = Counter()
    urls: dict[str, bytes] = {}
    names: list[str] = []

    def texts() -> Iterator[tuple[str, Callable[[], bytes]]]:
        return (
            (name, read)
            for name, read in _tar_members(path)
            if name.lower().endswith(".txt") and not _hidden(name)
        )

    for name, read in _tar_members(path):
        if len(names) < 3:
            names.append(name)
        if _hidden(name) or not name.lower().endswith(".txt"):
            continue
        if _URLS.fullmatch(name):
            urls[name] = read()
        else:
            counts[name.rpartition("/")[0]] += 1
    if not counts:
        what = f"it has {_listed(names)}" if names else "it has no files"
        raise DataError(
            f"{_line(config.data)} holds no .txt files in class folders ({what}): unpack other data first"
        )
    return _open_texts(_lay_out(counts, urls), config, texts)


# --- Tables: CSV, TSV, JSON lines, Parquet --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    """A file of rows. `partition` are the columns that its path holds (Hive's `label=pos`)."""

    name: str
    kind: Kind
    split: str | None
    partition: Mapping[str, str | None]
    open: Callable[[str], IO[bytes]]

    def stream(self) -> IO[bytes]:
        """The file's bytes, decompressed."""
        return _decompressed(self.open(self.name))


@dataclass(frozen=True, slots=True)
class _Columns:
    """The names of the columns to read."""

    text: str
    label: str | None
    id: str | None
    group: str | None

    def __iter__(self) -> Iterator[str | None]:
        return iter((self.text, self.label, self.id, self.group))


_Values = tuple[object, object, object, object]  # text, label, id, group


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a delimited file looks like: its columns, and how it is to be read."""

    columns: Sequence[str]
    delimiter: str
    quoted: bool
    has_header: bool


def _kind(name: str) -> Kind | None:
    name = name.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return _SUFFIXES.get(posixpath.splitext(name)[1])


def _table(name: str, open_: Callable[[str], IO[bytes]]) -> _Table:
    *folders, file = name.split("/")
    partition: dict[str, str | None] = {}
    for folder in folders:
        key, equals, value = folder.partition("=")
        if equals:
            partition[unquote(key)] = None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)
    words = [SPLIT_WORDS[word] for word in re.split(r"[^a-z]+", file.lower()) if word in SPLIT_WORDS]
    above = [SPLIT_WORDS[folder.lower()] for folder in folders if folder.lower() in SPLIT_WORDS]
    split = partition.get("split")
    if split is None:
        split = words[0] if len(set(words)) == 1 else above[-1] if above else None
    return _Table(name, _kind(name) or "csv", split, partition, open_)


def _open_tables(tables: Sequence[_Table], config: SourceConfig) -> Source:
    if any(table.split for table in tables):
        tables = [
            replace(table, split=table.split or Path(table.name).name.partition(".")[0]) for table in tables
        ]
    splits = tuple(dict.fromkeys(table.split for table in tables if table.split))
    wanted = _wanted_splits(splits, config)
    tables = [table for table in tables if table.split is None or table.split in wanted]
    first = tables[0]
    notes: list[str] = []
    found = _columns_of(first, config, notes)
    columns = _choose(found, config, notes, first)
    label_names = _class_names(first, columns.label) if first.kind == "parquet" else ()

    def read() -> Iterator[Document | Rejected]:
        for table in tables:
            split = table.split or config.split
            for row, values in _rows(table, columns, config):
                where = f"{table.name} row {row}"
                if isinstance(values, str):
                    yield Rejected(where, values)
                    continue
                text, label, id_, group = (
                    table.partition[name] if name is not None and name in table.partition else value
                    for name, value in zip(columns, values, strict=True)
                )
                if label_names and label == -1:
                    label = None  # the hub's way to say that a label is kept secret
                try:
                    label, id_, group = _scalar(label), _scalar(id_), _scalar(group)
                except TypeError:
                    yield Rejected(where, "malformed row")
                    continue
                yield _document(where, split, text, id_ or f"{table.name}:{row}", label, group)

    return Source(config.data, splits, tuple(notes), label_names, read)


def _rows(table: _Table, columns: _Columns, config: SourceConfig) -> Iterator[tuple[int, _Values | str]]:
    """Each row's number, from 1, with its values, or with the reason why it has none."""
    with _reading(table.name):
        if table.kind == "parquet":
            yield from _parquet_rows(table, columns)
        elif table.kind == "jsonl":
            yield from _json_rows(table, columns)
        else:
            yield from _delimited_rows(table, columns, config)


def _columns_of(table: _Table, config: SourceConfig, notes: list[str]) -> list[str]:
    """The columns of a table, those in its path included. Raises DataError if there are none to be found."""
    with _reading(table.name):
        if table.kind == "parquet":
            names = [str(name) for name in _parquet_schema(table).names]
        elif table.kind == "jsonl":
            names = _json_keys(table)
        else:
            layout = _layout(table, config)
            names = list(layout.columns)
            if not layout.has_header:
                notes.append(f"{table.name} has no header: its columns were taken for {', '.join(names)}")
            elif layout.delimiter != ("\t" if table.kind == "tsv" else ","):
                notes.append(f"columns guessed to be separated by {layout.delimiter!r}")
    return [*names, *(key for key in table.partition if key not in names)]


def _choose(found: Sequence[str], config: SourceConfig, notes: list[str], table: _Table) -> _Columns:
    """Which columns to read: those named, else those with a usual name.

    Raises UsageError if a named column is not there, or no column looks like the text.
    """

    def choose(what: str, named: str | None, usual: Sequence[str]) -> str | None:
        if named is not None:
            matching = [name for name in found if name == named] or [
                name for name in found if name.strip().casefold() == named.strip().casefold()
            ]
            if not matching:
                raise UsageError(
                    f"{_line(table.name)} has no column {_quoted(named)} (--{what}-column), it has"
                    f" {_listed(found)}{_similar(named, found)}"
                )
        else:
            matching = next(
                (same for u in usual if (same := [n for n in found if n.strip().casefold() == u])), []
            )
            if what == "text" and not matching and len(found) == 1:
                matching = list(found)
            if not matching:
                return None
        if len(matching) > 1:
            raise UsageError(f"{_line(table.name)} has {len(matching)} columns called {_quoted(matching[0])}")
        if named is None:
            notes.append(f"{what} column guessed: {_quoted(matching[0])}")
        return matching[0]

    text = choose("text", config.text_column, TEXT_COLUMNS)
    if text is None:
        raise UsageError(
            f"{_line(table.name)} has no column that looks like text (it has {_listed(found)}): --text-column names it"
        )
    label = choose("label", config.label_column, LABEL_COLUMNS)
    if label is None:
        notes.append(
            f"no column looks like the label (there are {_listed(found)}): the documents have no labels"
        )
    return _Columns(
        text,
        label,
        choose("id", config.id_column, ID_COLUMNS),
        choose("group", config.group_column, GROUP_COLUMNS),
    )


def _missing(table: _Table, name: str, found: Sequence[str]) -> DataError:
    return DataError(
        f"{_line(table.name)} has no column {_quoted(name)} (it has {_listed(found)}), as the file before it has"
    )


def _delimited_rows(
    table: _Table, columns: _Columns, config: SourceConfig
) -> Iterator[tuple[int, _Values | str]]:
    # The standard library's reader: rows that don't fit are told apart one by one, with their numbers, a row
    # may be of any length, and what is in memory is one row.
    layout = _layout(table, config)
    places: list[int | None] = []
    for name in columns:
        if name is None or name in table.partition:
            places.append(None)
        elif name in layout.columns:
            places.append(layout.columns.index(name))
        else:
            raise _missing(table, name, layout.columns)
    csv.field_size_limit(max(MAX_FIELD, csv.field_size_limit()))
    with table.stream() as stream:
        lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        reader = _csv_reader(lines, layout.delimiter, layout.quoted)
        number = 0 if layout.has_header else 1
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield number, "malformed row"
                number += 1
                continue
            if not fields:  # an empty line
                continue
            if number:
                if len(fields) != len(layout.columns):
                    yield number, "malformed row"
                else:
                    text, label, id_, group = (None if place is None else fields[place] for place in places)
                    yield number, (text, label, id_, group)
            number += 1


def _csv_reader(lines: Iterable[str], delimiter: str, quoted: bool) -> "Iterator[list[str]]":
    if quoted:
        return csv.reader(lines, delimiter=delimiter, strict=True)
    return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)


def _layout(table: _Table, config: SourceConfig) -> _Layout:
    """Tell a delimited file's layout from its beginning.

    A CSV has a header and quoted fields; its delimiter is the comma, unless a semicolon, a tab or a bar
    makes a text column appear. A TSV is unquoted, unless some field begins with a quote and quoting explains
    everything; its first row is the header if one of its cells is a usual column name or one is named by the
    user, or it has not three cells; otherwise the columns are id, label, text.
    """
    with table.stream() as stream:
        sample = stream.read(SAMPLE)
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{_line(table.name)} is UTF-16, not UTF-8: convert it first")
    if b"\0" in sample:
        raise DataError(f"{_line(table.name)} is binary, not text (it holds NUL bytes)")
    text = sample.decode("utf-8-sig", "surrogateescape")
    if not text.strip():
        raise DataError(f"{_line(table.name)} is empty")
    lines = text.splitlines(keepends=True) if len(sample) < SAMPLE else text.splitlines(keepends=True)[:-1]
    named = [config.text_column, config.label_column, config.id_column, config.group_column]
    usual = {
        *TEXT_COLUMNS,
        *LABEL_COLUMNS,
        *ID_COLUMNS,
        *GROUP_COLUMNS,
        *(n.strip().casefold() for n in named if n),
    }

    def first_row(delimiter: str, quoted: bool) -> list[str]:
        try:
            return next((row for row in _csv_reader(lines, delimiter, quoted) if row), [])
        except csv.Error as error:
            raise DataError(f"{_line(table.name)}: its first row is malformed ({_line(error)})") from error

    if table.kind == "tsv":
        quoted = _is_quoted(lines)
        row = first_row("\t", quoted)
        headed = any(named) or len(row) != 3 or any(cell.strip().casefold() in usual for cell in row)
        return _Layout(row if headed else ["id", "label", "text"], "\t", quoted, headed)
    texts = {config.text_column.strip().casefold()} if config.text_column else set(TEXT_COLUMNS)
    rows = {delimiter: first_row(delimiter, True) for delimiter in ",;\t|"}
    fitting = (d for d, row in rows.items() if any(cell.strip().casefold() in texts for cell in row))
    delimiter = next(fitting, ",")
    return _Layout(rows[delimiter], delimiter, True, True)


def _is_quoted(lines: Sequence[str]) -> bool:
    if not any(line.startswith('"') or '\t"' in line for line in lines):
        return False
    widths = set()
    reader = _csv_reader(lines, "\t", True)
    try:
        widths = {len(row) for row in reader if row}
    except csv.Error as error:
        # A sample that ends inside a quoted field is no evidence against quoting.
        return "unexpected end" in str(error) and len(widths) <= 1
    return len(widths) == 1


def _json_keys(table: _Table) -> list[str]:
    keys: dict[str, None] = {}
    with table.stream() as stream:
        sample = stream.read(SAMPLE)
    if b"\0" in sample:
        raise DataError(f"{_line(table.name)} is binary or UTF-16, not text (it holds NUL bytes)")
    if not sample.strip():
        raise DataError(f"{_line(table.name)} is empty")
    if sample.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        raise DataError(f"{_line(table.name)} is one JSON array: write an object a line (JSON Lines) instead")
    for line in sample.splitlines()[:MAX_LISTED]:
        value = _json_object(line)
        if isinstance(value, dict):
            keys.update(dict.fromkeys(value))
    if not keys:
        raise DataError(f"{_line(table.name)} holds no JSON object on a line of its own (JSON Lines)")
    return list(keys)


def _json_object(line: bytes) -> dict[str, Any] | str:
    """The object, or the reason why there is none."""
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return "not UTF-8"
    except (ValueError, RecursionError):
        return "malformed row"
    return value if isinstance(value, dict) else "malformed row"


def _json_rows(table: _Table, columns: _Columns) -> Iterator[tuple[int, _Values | str]]:
    with table.stream() as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            value = _json_object(line)
            if isinstance(value, str):
                yield number, value
            else:
                text, label, id_, group = (None if name is None else value.get(name) for name in columns)
                yield number, (text, label, id_, group)


def _parquet_file(file: IO[bytes]) -> Any:
    import pyarrow.parquet as pq

    # Buffered, so that a row group of any size is read page by page.
    return pq.ParquetFile(file, buffer_size=SAMPLE, pre_buffer=False)


def _parquet_schema(table: _Table) -> pa.Schema:
    with table.open(table.name) as file:
        if _magic(file) is not None:
            raise DataError(f"{_line(table.name)} is Parquet inside another compression: decompress it first")
        return _parquet_file(file).schema_arrow


def _class_names(table: _Table, label: str | None) -> tuple[str, ...]:
    """The names that a dataset of the hub keeps in its Parquet files' metadata for its numbered labels."""
    metadata = _parquet_schema(table).metadata or {}
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][label]
        names = feature["names"] if feature["_type"] == "ClassLabel" else []
        return tuple(str(name) for name in names)
    except (KeyError, TypeError, ValueError):
        return ()


def _parquet_rows(table: _Table, columns: _Columns) -> Iterator[tuple[int, _Values | str]]:
    with table.open(table.name) as file:
        parquet = _parquet_file(file)
        schema = parquet.schema_arrow
        inside = [name for name in columns if name is not None and name not in table.partition]
        for name in inside:
            if name not in schema.names:
                raise _missing(table, name, schema.names)
        if columns.text in inside and not _is_text(schema.field(columns.text).type):
            kind = schema.field(columns.text).type
            raise UsageError(f"{_line(table.name)}: column {_quoted(columns.text)} is {kind}, not text")
        number = 0
        for batch in parquet.iter_batches(batch_size=1024, columns=inside):
            lists = {name: _values(batch.column(name)) for name in inside}
            nothing: list[object] = [None] * batch.num_rows
            each = [nothing if name is None else lists.get(name, nothing) for name in columns]
            for text, label, id_, group in zip(*each, strict=True):
                number += 1
                yield number, (text, label, id_, group)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    views = (pa.types.is_string_view(kind), pa.types.is_binary_view(kind))
    return any(views) or pa.types.is_large_string(kind) or pa.types.is_string(kind) or pa.types.is_binary(kind) or (
        pa.types.is_large_binary(kind)
    )  # fmt: skip


def _values(column: pa.Array) -> list[object]:
    """A column as Python values, strings as bytes: whether they are UTF-8 is for each row to show."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_text(column.type):
        column = column.cast(pa.large_binary())
    values: list[object] = column.to_pylist()
    return values


# --- What all of them share -----------------------------------------------------------------------------------


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
        return Rejected(_line(where), "text missing")
    if not isinstance(text, str | bytes):
        return Rejected(_line(where), "text is not a string")
    try:
        text, id_, split = _utf8(text), _utf8(id_), _utf8(split)
        label = _utf8(label) if label is not None else None
        group = _utf8(group) if group is not None else None
    except UnicodeError:
        return Rejected(_line(where), "not UTF-8")
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


def _wanted_splits(splits: Sequence[str], config: SourceConfig) -> frozenset[str]:
    """The splits to read. Raises UsageError if there are splits, but not the one asked for."""
    if not splits or config.split == "all":
        return frozenset(splits)
    if config.split not in splits:
        raise UsageError(
            f"{_line(config.data)} has no split {_quoted(config.split)}, it has {_listed(splits)}"
            f"{_similar(config.split, splits)}"
        )
    return frozenset([config.split])


def _refuse_columns(config: SourceConfig) -> None:
    for what in ("text", "label", "id", "group"):
        if (named := getattr(config, f"{what}_column")) is not None:
            raise UsageError(
                f"{_line(config.data)} holds text files, which have no column {_quoted(named)} (--{what}-column)"
            )


def _magic(file: IO[bytes]) -> str | None:
    """The compression that a seekable file's first bytes tell, None for none; the file is left at its start."""
    head = file.read(6)
    file.seek(0)
    magics = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}
    return next((name for magic, name in magics.items() if head.startswith(magic)), None)


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    """The file's bytes, decompressed if need be, buffered. Closing it closes the file."""
    compression = _magic(file)
    stream: Any = file
    if compression in ("gzip", "zstd"):
        stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), compression)
    elif compression == "bz2":
        stream = bz2.BZ2File(file)
    elif compression == "xz":
        stream = lzma.LZMAFile(file)  # noqa: SIM115 - closed by the caller, with the stream around it
    return io.BufferedReader(stream, SAMPLE)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn whatever a reader raises about its file into one line about `what`."""
    try:
        yield
    except AttnstoreError:
        raise
    except Exception as error:
        # The hub's client lets its HTTP library's own errors through, none of them an OSError.
        if not what.startswith("hf://") and not isinstance(error, _UNREADABLE):
            raise
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{_line(what)} can't be read: {_line(said) or type(error).__name__}") from error


_UNREADABLE = (
    OSError,
    EOFError,
    pa.ArrowException,
    zipfile.BadZipFile,
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    NotImplementedError,  # a zip archive with a compression that zipfile does not have
    RuntimeError,  # an encrypted zip archive
)


def _line(text: object) -> str:
    """Anything as one printable line of bearable length."""
    line = " ".join(str(text).encode("utf-8", "backslashreplace").decode().split())
    return line if len(line) <= 300 else line[:299] + "…"


def _quoted(name: str) -> str:
    return f"'{_line(name)[:80]}'"


def _listed(names: Sequence[str]) -> str:
    listed = [_line(name)[:40] for name in names[:12]]
    return ", ".join(listed) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _similar(name: str, names: Sequence[str]) -> str:
    by_fold = {each.casefold(): each for each in names}
    close = difflib.get_close_matches(name.casefold(), by_fold, n=1)
    return f": did you mean {_quoted(by_fold[close[0]])}?" if close else ""


def _similar_path(path: Path) -> str:
    try:
        return _similar(path.name, sorted(each.name for each in path.parent.iterdir()))
    except OSError:
        return ""


# --- The word imdb --------------------------------------------------------------------------------------------


def fetch_imdb(progress: Progress | None = None) -> Path:
    """The IMDb archive in the cache, downloaded if it is not there yet, its SHA-256 checked.

    The cache is ATTNSTORE_CACHE, by default ~/.cache/attnstore. A download that breaks off is kept and
    resumed, by this call or the next. `progress(bytes done, bytes in all or None)` is called as it goes.
    Raises DataError if the archive can't be had, or is not the authors' (it is removed then).
    """
    folder = Path(os.environ.get("ATTNSTORE_CACHE") or Path.home() / ".cache" / "attnstore").expanduser()
    archive = folder / IMDB_URL.rpartition("/")[2]
    if archive.exists():
        _check_imdb(archive)
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    part = archive.with_name(archive.name + ".part")
    for attempt in range(5):
        before = part.stat().st_size if part.exists() else 0
        try:
            _download(part, progress)
            break
        except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
            # A connection that broke under way is taken up again at once; one that brings nothing is not.
            if attempt == 4 or not part.exists() or part.stat().st_size <= before:
                reason = error.reason if isinstance(error, urllib.error.URLError) else error
                raise DataError(
                    f"{IMDB_URL} can't be downloaded ({_line(reason)}): try again, what is there is kept;"
                    " or give a copy of the archive as --data"
                ) from error
    _check_imdb(part)
    part.replace(archive)
    return archive


def _download(part: Path, progress: Progress | None) -> None:
    """Append to `part` what it lacks; a server that can't resume sends everything again."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(IMDB_URL)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=60)  # noqa: S310 - a constant address, no user's
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return  # there is no more: the SHA-256 tells whether it is right
        raise
    with response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        if response.status == 206 and not resumed:
            part.unlink()
            raise HTTPException("the server sent another part than the one asked for")
        length = response.headers.get("Content-Length")
        done = have if resumed else 0
        total = done + int(length) if length and length.isdecimal() else None
        with part.open("ab" if resumed else "wb") as file:
            while chunk := response.read(1 << 18):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
        if total is not None and done < total:
            raise HTTPException(f"the connection broke after {done:,} of {total:,} bytes")


def _check_imdb(archive: Path) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != IMDB_SHA256:
        size = archive.stat().st_size
        archive.unlink()
        raise DataError(
            f"the archive from {IMDB_URL} is not the authors' ({size:,} bytes with SHA-256 {found[:12]}…, not"
            f" {IMDB_SHA256[:12]}…): it was removed, try again"
        )
