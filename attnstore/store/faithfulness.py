"""The table `faithfulness`: predictions after tokens are removed from documents.

    STORE/
      faithfulness/deletion-token-00000.parquet       rows, and nothing else: any reader reads the folder
      _faithfulness/deletion-token-00000.json         the receipt of a file, and what it was made with

It is added to a sealed store, one file at a time, and does not change anything that is sealed. A file counts once its
receipt exists, which is written last, and is never written again. A file without a receipt was left by a killed
process.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from attnstore.errors import StoreError, UsageError
from attnstore.store.durable import writing
from attnstore.store.manifest import StoredFile, as_type, plain_json
from attnstore.store.parquet import file_schema, parquet
from attnstore.store.place import Place, names_below, put, read_text, remove
from attnstore.store.schema import DICTIONARY
from attnstore.store.store import Store

FOLDER = "faithfulness"
RECEIPTS = "_faithfulness"

#: How tokens are removed, and the unit that is removed.
REMOVALS = ("deletion", "mask")
UNITS = ("token", "word")

#: The scores beside the store's own: a random order, and the log-odds of the word alone.
RANDOM, LOG_ODDS = "random", "log_odds"
#: Like log_odds, from other labelled data, if given.
LEXICON = "lexicon"
BASELINES = (RANDOM, LOG_ODDS, LEXICON)

_NAME = re.compile(rf"((?:{'|'.join(REMOVALS)})-(?:{'|'.join(UNITS)}))-([0-9]{{5,9}})")


def _field(name: str, type_: pa.DataType, meaning: str) -> pa.Field:
    return pa.field(name, type_, nullable=False, metadata={"meaning": meaning})


#: One row per document, score, draw and fraction.
SCHEMA = pa.schema(
    [
        _field("document", pa.int32(), "the document's number, from 0, in dataset order"),
        _field("score", DICTIONARY, "what ranks: a column of `tokens`, or random, or log_odds of the word"),
        _field("draw", pa.int16(), "which order by chance, from 1; 0 for a score"),
        _field("by", DICTIONARY, "how tokens are taken out: deletion, or mask ([MASK] in their place)"),
        _field("unit", DICTIONARY, "what is ranked and taken out as one: token or word"),
        _field(
            "fraction", pa.float64(), "the part of the units that is taken out, those of the highest score"
        ),
        _field("removed", pa.int32(), "how many units that is, rounded up"),
        _field("units", pa.int32(), "how many units the document has; special tokens are none"),
        _field("probability", pa.float32(), "of the predicted class, given the whole document"),
        _field(
            "comprehensiveness", pa.float32(), "by how much that probability falls when they are taken out"
        ),
        _field("sufficiency", pa.float32(), "by how much it falls when all else is taken out"),
        _field("flipped", pa.bool_(), "without them the prediction is another class"),
    ]
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One file of the table: its size and hash, and the settings it was made with.

    `settings`: `store_documents` (how many the store had then), `by`, `unit`, `scores`, `seed`, `draws`, `model`,
    `model_sha256`, `dtype`, `device`, and the versions of the libraries. `written`: when, ISO 8601, UTC.
    """

    file: StoredFile
    documents: int
    settings: dict[str, Any]
    written: str


def file_schema_of(store: Store) -> pa.Schema:
    """The schema of the table's files, with the run's fingerprint as metadata."""
    return file_schema(SCHEMA, store.manifest)


def measurements(store: Store) -> tuple[list[Measurement], dict[str, str]]:
    """The table's intact files, sorted by name, and what is wrong with the others.

    A quick check, without hashes.
    """
    found: list[Measurement] = []
    damaged: dict[str, str] = {}
    for stem in _receipts(store):
        path, receipt = f"{FOLDER}/{stem}.parquet", f"{RECEIPTS}/{stem}.json"
        try:
            raw = plain_json(read_text(store.path / receipt))
            measured: Measurement = as_type("receipt", raw, Measurement)
            if measured.file.path != path:
                raise ValueError("of another file")
            before = measured.settings.get("store_documents", 0)
            if type(before) is not int or not 0 <= before <= store.manifest.documents:
                raise ValueError("of more documents than there are")
        except (OSError, ValueError):
            damaged[path] = f"its receipt {receipt} is damaged"
            continue
        if fault := measured.file.damage(store.path, hashed=False):
            damaged[measured.file.path] = fault
        else:
            found.append(measured)
    return found, damaged


def measured_before(store: Store) -> int | None:
    """The number of documents that the store had at a measurement before others were appended.

    The smallest number, if there are several; None if all measurements are of the current store.
    """
    first = store.manifest.sizes[0]
    found = [int(each.settings.get("store_documents", first)) for each in measurements(store)[0]]
    least = min(found, default=store.manifest.documents)
    return least if least < store.manifest.documents else None


def _receipts(store: Store) -> list[str]:
    """The names of the existing receipts, without their ending, sorted."""
    names = (
        name.removesuffix(".json") for name in names_below(store.path / RECEIPTS) if name.endswith(".json")
    )
    return sorted(name for name in names if _NAME.fullmatch(name))


def faithfulness_files(store: Store) -> list[Place]:
    """The table's files. Raises StoreError if one of them is damaged."""
    found, damaged = measurements(store)
    for path, fault in damaged.items():
        raise store.unreadable(f"{path}: {fault}")
    return [store.path / measured.file.path for measured in found]


def not_measured(store: Store, why: str = "") -> UsageError:
    """The error that the store has no such table, or `why` the table is not enough, and how to make it."""
    return UsageError(
        f"{why or 'faithfulness has not been measured in this store'}: `attnstore faithfulness {store.path}` does that"
    )


def write_measurement(store: Store, table: pa.Table, settings: Mapping[str, Any]) -> Measurement:
    """Add a file of the table, and then its receipt. The caller holds the store's write lock.

    `table` has the columns of `SCHEMA`; its rows are sorted by document. `settings` have `by` and `unit`, which name
    the file.

    Raises:
        StoreError: the table does not have that form, the store is not sealed, or it can't be written.
    """
    if not store.sealed:
        raise StoreError(
            f"{store.path} is not sealed: `attnstore run` with the same options finishes it first"
        )
    if not table.schema.equals(SCHEMA):
        raise StoreError(
            f"faithfulness: the columns are {table.schema.names}, or of other types than the table's"
        )
    way = f"{settings['by']}-{settings['unit']}"
    taken = [
        int(name[2]) for name in map(_NAME.fullmatch, _receipts(store)) if name is not None and name[1] == way
    ]
    stem = f"{way}-{max(taken, default=-1) + 1:05d}"
    content = parquet(table.sort_by("document"), file_schema_of(store))
    path = f"{FOLDER}/{stem}.parquet"
    put(store.path, path, memoryview(content), f"{RECEIPTS}/{stem}.tmp")
    file = StoredFile(path, table.num_rows, content.size, hashlib.sha256(content).hexdigest())
    documents = len(table["document"].unique())
    told = {"store_documents": store.manifest.documents, **settings}
    measured = Measurement(file, documents, told, datetime.now(UTC).isoformat(timespec="seconds"))
    text = json.dumps(asdict(measured), indent=1, ensure_ascii=False)
    put(store.path, f"{RECEIPTS}/{stem}.json", text.encode(), f"{RECEIPTS}/{stem}.json.tmp")
    return measured


def drop_damaged(store: Store) -> list[str]:
    """Remove damaged files, and say what was wrong with each; also remove files without a receipt.

    The caller holds the store's write lock. Raises StoreError if one can't be removed.
    """
    found, damaged = measurements(store)
    for measured in found:
        if fault := measured.file.damage(store.path):
            damaged[measured.file.path] = fault
    for path in damaged:
        with writing(store.path / RECEIPTS):
            remove(store.path, f"{RECEIPTS}/{PurePosixPath(path).stem}.json")
            remove(store.path, path)
    kept = set(_receipts(store))
    for orphan in names_below(store.path / FOLDER):
        stem = orphan.removesuffix(".parquet")
        if _NAME.fullmatch(stem) and stem not in kept:  # what a killed process left
            with writing(store.path / FOLDER / orphan):
                remove(store.path, f"{FOLDER}/{orphan}")
    return [f"{path} is measured again: {fault}" for path, fault in damaged.items()]
