"""The manifest: what a store is, as a record, as JSON, and as the file `manifest.json`."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

from attnstore.errors import StoreError
from attnstore.messages import quoted
from attnstore.store.durable import write_inside

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
TOTALS = "totals.parquet"
#: Every file of a part. No such path leaves the store.
PART_FILE = re.compile(r"(documents|tokens)/split=[^/\\\0]+/(?:label=[^/\\\0]*/)?part-([0-9]{5,9})\.parquet")


@dataclass(frozen=True, slots=True)
class StoredReduction:
    """One reduction as the store holds it.

    `per_layer`: one column per layer, named `<name>_<layer, two digits>`, layers counted from 1; otherwise one
    column `<name>`. `per_head`: each value is a fixed-size list, one float per head; otherwise a float.
    `meaning` is the sentence that stands in the column's metadata. `total` is what a document's values add
    up to in each column (in each head, if per head): 1.0 for an attention distribution, None where nothing
    is promised.
    """

    name: str
    per_layer: bool
    per_head: bool
    meaning: str
    total: float | None = 1.0

    def columns(self, layers: int) -> list[str]:
        """The columns of this reduction in a model of `layers` layers, in layer order."""
        if not self.per_layer:
            return [self.name]
        return [f"{self.name}_{layer:02d}" for layer in range(1, layers + 1)]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One Parquet file of a store. `path` is relative to the store, with forward slashes."""

    path: str
    rows: int
    bytes: int
    sha256: str

    @property
    def part(self) -> int | None:
        """The part that it belongs to; None for the totals."""
        name = PART_FILE.fullmatch(self.path)
        return None if name is None else int(name[2])

    def damage(self, store: Path, hashed: bool = True) -> str | None:
        """What is wrong with it in the store's folder: it is gone, of another size or (if `hashed`) content."""
        path = store / self.path
        try:
            if (size := path.stat().st_size) != self.bytes:
                return f"has {size:,} bytes, {self.bytes:,} were written: it is damaged"
            if hashed:
                with path.open("rb") as opened:
                    if hashlib.file_digest(opened, "sha256").hexdigest() != self.sha256:
                        return "its SHA-256 is not the one recorded: it is damaged"
        except (FileNotFoundError, NotADirectoryError):
            return "is missing"
        except OSError as error:
            return f"can't be read: {error.strerror or error}"
        return None


def fault_of_files(files: Iterable[StoredFile]) -> str | None:
    """What is wrong with a list of a store's files as a list: a path that is not one of a store, or is there twice."""
    paths = [file.path for file in files]
    for path in paths:
        if path != TOTALS and not PART_FILE.fullmatch(path):
            return f"it lists {quoted(path)}, which is no file of a store"
    twice = next((path for path, count in Counter(paths).items() if count > 1), None)
    return None if twice is None else f"it lists {quoted(twice)} twice"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a store is: written once when a run begins, completed once when the store is sealed.

    `fingerprint` holds what makes two runs the same run, by name: a store is only ever resumed by a run
    with an equal fingerprint. Everything in it is a JSON scalar or a list of them. `labels` are the model's
    classes in the order of its logits. `rejected` counts the rows of the source that became no document,
    by reason; `rejected_rows` says where they stood (the first 1,000). `kept` are the columns of the data that
    `documents` has beside its own, each with its type: boolean, integer, number or text. `notes` are the guesses and
    warnings of the run, reported to the user once and kept. `runs` has one entry for each time the run was
    started: device, seconds, tokens per second.
    """

    fingerprint: dict[str, Any]
    documents: int  # the plan: how many documents the whole run has
    part_size: int  # part k holds the documents [k * part_size, (k + 1) * part_size)
    labels: tuple[str, ...]
    label_in_path: bool  # False: `label` is an ordinary column (see `partitions.label_fits_in_path`)
    labels_are_models: bool  # False: no labels, or labels that are not the model's: no accuracy is claimed
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
    notes: tuple[str, ...] = ()
    runs: tuple[dict[str, Any], ...] = ()
    sealed: str | None = None  # when, ISO 8601, UTC; None while parts are missing
    files: tuple[StoredFile, ...] = ()  # filled when sealed
    schema_version: int = SCHEMA_VERSION

    @property
    def long(self) -> str:
        """How documents longer than the model reads were read: cut, tail, head+tail or windows."""
        return str(self.fingerprint.get("long", "cut"))

    @property
    def pairs(self) -> bool:
        """Whether each document is two texts, `text` and `text_pair`."""
        return bool(self.fingerprint.get("pair", False))

    @property
    def parts(self) -> int:
        """How many parts the plan has."""
        return -(-self.documents // self.part_size)

    def reduction(self, name: str) -> StoredReduction | None:
        """The stored reduction of that name, or None."""
        return next((r for r in self.reductions if r.name == name), None)

    def to_json(self) -> str:
        """The manifest as indented JSON text, keys in the order of the fields."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a manifest back. Raises StoreError if the text is not one that this version understands."""
        try:
            raw = json.loads(text)
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
        for name, least in (("documents", 0), ("part_size", 1), ("layers", 1), ("heads", 1)):
            if raw[name] < least:
                raise StoreError(f"manifest.json is damaged: {name} can't be {raw[name]}")
        if fault := fault_of_files(manifest.files):
            raise StoreError(f"manifest.json is damaged: {fault}")
        return manifest


def as_type(name: str, value: Any, kind: Any) -> Any:
    """A value out of JSON as the type that a field has, tuples and records included.

    Raises:
        ValueError: it doesn't fit; the message begins with `name`.
    """
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is tuple and isinstance(value, list):
        return tuple(as_type(name, item, inner[0]) for item in value)
    if isinstance(origin, type) and is_dataclass(origin) and isinstance(value, dict):
        hints = get_type_hints(origin)
        if value.keys() == hints.keys():
            return origin(**{key: as_type(f"{name}.{key}", value[key], hints[key]) for key in hints})
    elif origin is dict and isinstance(value, dict):
        return {key: as_type(f"{name}.{key}", item, inner[1]) for key, item in value.items()}
    elif kind is Any or (origin is UnionType and value is None):
        return value
    else:
        of = inner[0] if origin is UnionType else origin
        if isinstance(value, (int, float) if of is float else of) and isinstance(value, bool) == (of is bool):
            return value
    raise ValueError(f"{name} can't be {json.dumps(value, ensure_ascii=False)[:80]}")


def read_manifest(store: Path) -> Manifest | None:
    """The manifest of the store in the folder `store`; None if it has none.

    Raises:
        StoreError: it can't be read, is damaged or of another version.
    """
    path = store / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise StoreError(f"{path} is not an attnstore manifest: it is damaged or foreign") from error
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror or error}") from error
    try:
        return Manifest.from_json(text)
    except StoreError as error:
        raise StoreError(f"{store}: {error}") from error


def write_manifest(store: Path, manifest: Manifest) -> None:
    """Put the manifest into the store's folder. Raises StoreError if it can't be written."""
    write_inside(store, MANIFEST, manifest.to_json().encode(), f"{MANIFEST}.tmp")
