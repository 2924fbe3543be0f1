"""The manifest: what a store is, as a record, as JSON, and as the file `manifest.json`."""

import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

from attnstore.errors import StoreError
from attnstore.messages import listed, quoted
from attnstore.store.place import Place, opened, put, read_text, size

MANIFEST = "manifest.json"
SCHEMA_VERSION = 3
TOTALS = "totals.parquet"
#: The directory of the sums from which a grown store's totals are made: see `sums`.
SUMS = "_sums"
#: Documents have 32-bit numbers, parts nine digits; beyond the other limits, opening a store would take too long.
MOST_PARTS, MOST_COLUMNS = 1_000_000, 10_000
_BOUNDS = (
    ("documents", 0, 2**31 - 1),
    ("part_size", 1, 2**31 - 1),
    ("layers", 1, 1_000),
    ("heads", 1, 10_000),
    ("max_length", 1, 2**31 - 1),
)
#: How deep lists and objects may be nested there.
_DEEPEST = 12
#: Every file of a part. No such path leads out of the store.
PART_FILE = re.compile(r"(documents|tokens)/split=[^/\\\0]+/(?:label=[^/\\\0]*/)?part-([0-9]{5,9})\.parquet")
#: A file with the rows of several parts' files (see `merged`): their directory, the first part and the last.
MERGED_FILE = re.compile(
    r"_merged/((?:documents|tokens)/split=[^/\\\0]+(?:/label=[^/\\\0]*)?)/part-([0-9]{5,9})-([0-9]{5,9})\.parquet"
)
#: The list of the files whose rows are in merged files. Its name determines its content.
MERGED_FROM = re.compile(r"_merged/from-[0-9a-f]{32}\.parquet")


@dataclass(frozen=True, slots=True)
class StoredReduction:
    """One reduction as the store holds it.

    `per_layer`: one column per layer, named `<name>_<layer, two digits>`, layers counted from 1; otherwise one
    column `<name>`. `per_head`: each value is a fixed-size list, one float per head; otherwise a float.
    `meaning` is the sentence in the column's metadata. `total` is what a document's values sum to in each column (in
    each head, if per head): 1.0 for an attention distribution, None if no sum is guaranteed. `signed`: a score that
    supports or opposes something, instead of attention: it is not normalised to 1, and its lift or entropy would be
    meaningless.
    """

    name: str
    per_layer: bool
    per_head: bool
    meaning: str
    total: float | None = 1.0
    signed: bool = False

    @property
    def of_one_prediction(self) -> bool:
        """Whether it describes one prediction; documents read in several windows do not have a single one."""
        return self.signed or self.name == "relevance"

    def columns(self, layers: int) -> list[str]:
        """The columns of this reduction in a model with `layers` layers, in layer order."""
        if not self.per_layer:
            return [self.name]
        return [f"{self.name}_{layer:02d}" for layer in range(1, layers + 1)]


#: The prefix of the columns with the evidence for each class.
EVIDENCE_FOR = "evidence_for_"


def names_by_class(labels: Sequence[str]) -> list[str]:
    """The names of the evidence for each of the model's classes: `evidence_for_<class>`, as valid column names.

    Anything but a letter from a to z or a digit becomes `_`. If two classes would then have the same name, or one an
    empty name, all are numbered in the model's order, from 0: `evidence_for_class_0`.
    """
    plain = [re.sub("[^a-z0-9]+", "_", label.lower()).strip("_") for label in labels]
    if not all(plain) or len(set(plain)) < len(plain):
        plain = [f"class_{number}" for number in range(len(labels))]
    return [EVIDENCE_FOR + name for name in plain]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One Parquet file of a store. `path` is relative to the store, with forward slashes."""

    path: str
    rows: int
    bytes: int
    sha256: str

    @property
    def part(self) -> int | None:
        """The part that it belongs to; None for the totals, and for merged files."""
        name = PART_FILE.fullmatch(self.path)
        return None if name is None else int(name[2])

    def damage(self, store: Place, hashed: bool = True, sizes: Mapping[str, int] | None = None) -> str | None:
        """What is wrong with it in the store: it is missing, or its size or (if `hashed`) its content differs.

        `sizes`: the sizes from a listing of the store, if there is one; then sizes are not requested again.
        """
        try:
            if sizes is not None:
                found: int | None = sizes[self.path]
            else:
                found = size(f"{store}/{self.path}" if isinstance(store, Path) else store / self.path)
            if found is None:
                return "is no file"  # a pipe would be waited for
            if found != self.bytes:
                return f"has {found:,} bytes, {self.bytes:,} were written: it is damaged"
            if hashed:
                with opened(store / self.path) as content:
                    if hashlib.file_digest(content, "sha256").hexdigest() != self.sha256:  # type: ignore[arg-type]
                        return "its SHA-256 is not the one recorded: it is damaged"
        except (FileNotFoundError, NotADirectoryError, KeyError):
            return "is missing"
        except OSError as error:
            return f"can't be read: {error.strerror or error}"
        return None


def fault_of_files(files: Sequence[StoredFile]) -> str | None:
    """What is wrong with a list of a store's files: a path that no store has, or a path twice."""
    paths = [file.path for file in files]
    for path in paths:
        if path != TOTALS and not PART_FILE.fullmatch(path) and not MERGED_FILE.fullmatch(path):
            return f"it lists {quoted(path)}, which is no file of a store"
    for file in files:
        if not 0 <= file.rows < 2**63 or not 0 <= file.bytes < 2**63:
            return f"it lists {quoted(file.path)} with a size that no file has"
    twice = next((path for path, count in Counter(paths).items() if count > 1), None)
    return None if twice is None else f"it lists {quoted(twice)} twice"


def _fault_of_merged(manifest: "Manifest") -> str | None:
    """What is wrong with a manifest's merged files: rows that would be read twice, or files that are not listed."""
    taken: dict[str, list[tuple[int, int, str]]] = {}
    for file in manifest.files:
        if name := MERGED_FILE.fullmatch(file.path):
            if manifest.merged_from is None:
                return f"{quoted(file.path)} is merged from nothing"
            taken.setdefault(name[1], []).append((int(name[2]), int(name[3]), file.path))
        elif (part := file.part) is not None:
            taken.setdefault(file.path.rpartition("/")[0], []).append((part, part, file.path))
    for of_directory in taken.values():
        of_directory.sort()
        if any(first > last for first, last, _ in of_directory):
            return "a merged file ends before it begins"
        for (_, last, path), (first, _, other) in itertools.pairwise(of_directory):
            if first <= last:
                return f"{quoted(path)} and {quoted(other)} hold rows of the same part"
    if (listed := manifest.merged_from) is not None and not MERGED_FROM.fullmatch(listed.path):
        return f"{quoted(listed.path)} is no list of a store's files"
    return None


@dataclass(frozen=True, slots=True)
class Addition:
    """Documents added to a sealed store: what `attnstore append` wrote, and from which data.

    `fingerprint` has, by name, what makes two appends equal. `rejected`, `rejected_rows` and `notes` are as in
    `Manifest`, for these documents only.
    """

    documents: int
    data: str
    fingerprint: dict[str, Any]
    versions: dict[str, str]
    created: str  # ISO 8601, UTC
    rejected: dict[str, int] = field(default_factory=dict)
    rejected_rows: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sealed: str | None = None  # when, ISO 8601, UTC; None while parts are missing


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a store is: written when a run begins, completed when the store is sealed, and replaced as a whole when
    documents have been appended.

    `fingerprint` has, by name, what makes two runs equal: only a run with an equal fingerprint resumes a store. Its
    values are JSON scalars or lists of them. `labels` are the model's classes in the order of its logits. `rejected`
    counts the rows of the source that did not become documents, by reason; `rejected_rows` gives their positions (the
    first 1,000). `kept` are the columns of the data that `documents` has beside its own, each with its type: boolean,
    integer, number or text. `notes` are the guesses and warnings of the run, reported to the user once and stored.
    `options` are the options of `attnstore run` at its start, by their names without dashes, including those that were
    guessed or left to the model: numbers, texts, true and false, and lists of texts. `threads`: how many CPU threads
    each process used at the start. `runs` has one entry for each start of the run: device, seconds, tokens per second.
    `additions` are later appends, in order; all fields except `documents`, `labels_are_models`, `runs`, `sealed`,
    `files` and `merged_from` stay those of the run. `files` have all rows once. If small files have been merged,
    `merged_from` is the Parquet file that lists them, so opening a store is as fast with thousands of parts as with a
    few (see `merged`).
    """

    fingerprint: dict[str, Any]
    documents: int  # the plan: the total number of documents
    part_size: int  # documents per part: see `part_range`
    labels: tuple[str, ...]
    label_in_path: bool  # False: `label` is an ordinary column (see `partitions.label_fits_in_path`)
    labels_are_models: bool  # False: no labels, or labels that are not the model's: no accuracy is reported
    layers: int
    heads: int
    reductions: tuple[StoredReduction, ...]
    max_length: int
    model: str
    data: str
    versions: dict[str, str]
    created: str  # ISO 8601, UTC
    rejected: dict[str, int] = field(default_factory=dict)
    rejected_rows: tuple[str, ...] = ()
    kept: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    split_in_files: bool = False  # True: `split` is a column of the files, too (see `store.export`)
    notes: tuple[str, ...] = ()
    threads: int | None = None  # None on a GPU, where it does not matter
    runs: tuple[dict[str, Any], ...] = ()
    sealed: str | None = None  # when, ISO 8601, UTC; None while parts are missing
    files: tuple[StoredFile, ...] = ()  # filled when sealed
    merged_from: StoredFile | None = None  # None also if nothing is merged
    additions: tuple[Addition, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def long(self) -> str:
        """How documents longer than the model's limit were read: cut, tail, head+tail or windows."""
        return str(self.fingerprint.get("long", "cut"))

    @property
    def pairs(self) -> bool:
        """Whether each document is two texts, `text` and `text_pair`."""
        return bool(self.fingerprint.get("pair", False))

    @property
    def all_data(self) -> str:
        """The store's sources, in words: the run's data, and what was appended."""
        later = listed([addition.data for addition in self.additions])
        return f"{self.data}, and appended: {later}" if later else self.data

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of documents of the run, and of each addition."""
        later = [addition.documents for addition in self.additions]
        return (self.documents - sum(later), *later)

    @property
    def parts(self) -> int:
        """How many parts the plan has."""
        return sum(-(-size // self.part_size) for size in self.sizes)

    def part_range(self, part: int) -> range:
        """The document numbers of a part. Documents are divided into parts in order, separately for the run and each
        addition: part k of the run has [k · part_size, (k + 1) · part_size), and additions continue the numbers.
        """
        first_document = first_part = 0
        for documents in self.sizes:
            parts = -(-documents // self.part_size)
            if part < first_part + parts:
                first = first_document + (part - first_part) * self.part_size
                return range(first, min(first + self.part_size, first_document + documents))
            first_document, first_part = first_document + documents, first_part + parts
        return range(first_document, first_document)

    def part_of(self, document: int) -> int:
        """The part of a document's number, by the plan; -1 if no part has it."""
        first_document = first_part = 0
        for documents in self.sizes:
            if first_document <= document < first_document + documents:
                return first_part + (document - first_document) // self.part_size
            first_document += documents
            first_part += -(-documents // self.part_size)
        return -1

    def reduction(self, name: str) -> StoredReduction | None:
        """The stored reduction with that name, or None."""
        return next((r for r in self.reductions if r.name == name), None)

    @property
    def attention(self) -> StoredReduction | None:
        """The attention that is shown by default; None if only signed scores are stored.

        It is the first stored reduction with one value per token, else the first with one per head.
        """
        stored = [r for r in self.reductions if not r.signed]
        return next((r for r in stored if not r.per_head), stored[0] if stored else None)

    @property
    def evidence(self) -> StoredReduction | None:
        """The evidence for and against each document's prediction; None if it is not stored."""
        return self.reduction("evidence")

    def to_json(self) -> str:
        """The manifest as indented JSON text, keys in the order of the fields."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a manifest back. Raises StoreError if the text is not one that this version understands."""
        try:
            raw = plain_json(text)
            version = raw["schema_version"]
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                "manifest.json is not an attnstore manifest: it is damaged or foreign"
            ) from error
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"the store has schema version {version}, this attnstore reads version {SCHEMA_VERSION}: "
                "install the attnstore that wrote it, or run again into a new store"
            )
        kinds = get_type_hints(cls)
        try:
            manifest = cls(**{name: as_type(name, value, kinds[name]) for name, value in raw.items()})
        except ValueError as error:
            raise StoreError(f"manifest.json is damaged: {error}") from error
        except (TypeError, KeyError) as error:
            raise StoreError(f"manifest.json lacks or misnames a field ({error}): it is damaged") from error
        if fault := fault_of_plan(manifest) or fault_of_files(manifest.files) or _fault_of_merged(manifest):
            raise StoreError(f"manifest.json is damaged: {fault}")
        return manifest


def fault_of_plan(manifest: Manifest) -> str | None:
    """What is impossible in a manifest, or too large for any machine; None if nothing is."""
    for name, least, most in _BOUNDS:
        if not least <= (number := getattr(manifest, name)) <= most:
            return f"{name} can't be {shown_number(number)}"
    if min(manifest.sizes) < 0:
        return "more documents were appended than there are"
    if manifest.parts > MOST_PARTS:
        return f"{manifest.parts:,} parts are more than {MOST_PARTS:,}"
    if len(set(manifest.labels)) < len(manifest.labels):
        return "two classes have the same name"
    return _fault_of_reductions(manifest)


def _fault_of_reductions(manifest: Manifest) -> str | None:
    """The same for the reductions: their columns, and what these sum to."""
    columns = [column for r in manifest.reductions[:MOST_COLUMNS] for column in r.columns(manifest.layers)]
    if len(columns) > MOST_COLUMNS or len(manifest.reductions) > MOST_COLUMNS:
        return f"its reductions have more than {MOST_COLUMNS:,} columns"
    if endless := next(
        (r for r in manifest.reductions if r.total is not None and not math.isfinite(r.total)), None
    ):
        return f"the total of {quoted(endless.name)} is no finite number"
    if twice := next((name for name, count in Counter(columns).items() if count > 1), None):
        return f"two columns are called {quoted(twice)}"
    return None


def shown_number(number: int) -> str:
    """A number for a message; it may have any length."""
    return (
        f"{number:,}"
        if abs(number) < 10**15
        else f"{'-' if number < 0 else ''}a number of more than 15 digits"
    )


def as_type(name: str, value: Any, kind: Any) -> Any:
    """A value from JSON as a field's type, including tuples and records.

    Raises:
        ValueError: it doesn't fit; the message begins with `name`.
    """
    origin, inner = _parts_of(kind)
    if origin is UnionType:  # of something and None
        return None if value is None else as_type(name, value, inner[0])
    if origin is tuple and isinstance(value, list):
        return tuple(as_type(name, item, inner[0]) for item in value)
    if isinstance(origin, type) and is_dataclass(origin) and isinstance(value, dict):
        hints = _fields_of(origin)
        if value.keys() == hints.keys():
            return origin(**{key: as_type(f"{name}.{key}", value[key], hints[key]) for key in hints})
    elif origin is dict and isinstance(value, dict):
        return {key: as_type(f"{name}.{key}", item, inner[1]) for key, item in value.items()}
    elif kind is Any or (
        isinstance(value, (int, float) if origin is float else origin)
        and isinstance(value, bool) == (origin is bool)
    ):
        return value
    raise ValueError(f"{name} can't be {json.dumps(value, ensure_ascii=False)[:80]}")


@cache
def _parts_of(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type's parts, looked up once: a manifest has four times as many values as a store has files."""
    return get_origin(kind) or kind, get_args(kind)


@cache
def _fields_of(record: type) -> dict[str, Any]:
    return get_type_hints(record)


def plain_json(text: str) -> Any:
    """JSON from a file of a store. Raises ValueError for anything else, and for JSON that is not allowed there.

    Not allowed are deep nesting, NaN and infinities, and lone surrogates, which no file or database accepts.
    """

    def no_number(name: str) -> Any:
        raise ValueError(f"{name} is no number")

    try:
        raw = json.loads(text, parse_constant=no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [raw]
    for _ in range(_DEEPEST):
        lists = [
            each if isinstance(each, list) else [*each, *each.values()]
            for each in level
            if isinstance(each, list | dict)
        ]
        level = [each for inner in lists for each in inner]
        for each in level:
            if isinstance(each, str):
                each.encode()  # UnicodeEncodeError is a ValueError
    if level:
        raise ValueError("it is nested too deeply")
    return raw


def read_manifest(store: Place) -> Manifest | None:
    """The manifest of the store at `store`; None if it has none.

    Raises:
        StoreError: it can't be read, is damaged, or has another version.
    """
    path = store / MANIFEST
    try:
        text = read_text(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StoreError(f"{path} is not an attnstore manifest: it is damaged or foreign") from error
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror or error}") from error
    try:
        return Manifest.from_json(text)
    except StoreError as error:
        raise StoreError(f"{store}: {error}") from error


def write_manifest(store: Place, manifest: Manifest) -> None:
    """Write the manifest of a store. Raises StoreError if it can't be written."""
    put(store, MANIFEST, manifest.to_json().encode(), f"{MANIFEST}.tmp")
