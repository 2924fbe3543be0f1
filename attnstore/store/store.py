"""The directory that a run leaves behind: plan it, write a part, seal it, open it.

    STORE/
      manifest.json                                             what was run, and the plan of the parts
      documents/split=test/label=pos/part-00012.parquet
      tokens/split=test/label=pos/part-00012.parquet
      totals.parquet                                            the tokens added up, once sealed
      _parts/part-00012.json                                    the receipt of a finished part, until sealed
      writer.lock                                               who is writing, while someone is

A part holds a fixed range of documents, so the plan depends on nothing but the manifest. It may spread over
several (split, label) partitions; it counts once its *receipt* exists, which is written last. Parquet files
without a receipt are what a killed run left: nobody lists them, and the next run writes over them. Sealing
moves what the receipts say into the manifest; after that nothing in the directory changes any more.

Everything is written under a temporary name in `_parts`, synced to the disk, and renamed: under its final
name a file is whole. `_parts` begins with an underscore and the temporary names do not end in `.parquet`,
so no plain reader, whether it globs or walks, ever meets half a file.

Encodings. Each was read back with DuckDB, Polars, pandas and pyarrow, and measured on 272,226 tokens of IMDb
reviews (bytes a token): `document` 0.02, `position` 0.06, `start` 0.86 and `end` 0.87 with
DELTA_BINARY_PACKED (`start` as a dictionary: 1.51); `token_id` 1.59 as a dictionary (delta 1.94;
BYTE_STREAM_SPLIT 1.53, which older readers do not know for integers); `piece`, `length` 0.08, 0.02 as
dictionaries (delta 0.11, 0.05). Floats are BYTE_STREAM_SPLIT, also inside lists. The bytes of a file follow
from its rows alone: dictionaries are rebuilt in order of first occurrence and chunks are joined, so batches
of another size give the same file, and no time stands in it.

A plain reader guesses the types of partition values. `label_fits_in_path` lets only such labels into the
path as all four read back as themselves; others (numbers, dates, `true`) become an ordinary column. A split
is always in the path: one that is called `2024` is read as a number unless the reader is told otherwise
(DuckDB `hive_types`, Polars `hive_schema`, pyarrow `partitioning`). Polars looks for partitions by itself in
a directory (`scan_parquet("STORE/tokens")`), in a glob only with `hive_partitioning=True`.
"""

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from attnstore.errors import StoreError
from attnstore.messages import one_line
from attnstore.store.durable import LOCK, WriteLock, make_directory, write_file, write_lock, writing
from attnstore.store.schema import (
    MAX_LABEL_PARTITIONS,
    Manifest,
    StoredFile,
    documents_schema,
    tokens_schema,
    totals_schema,
)

MANIFEST = "manifest.json"
TOTALS = "totals.parquet"
RECEIPTS = "_parts"
FINGERPRINT_KEY = b"attnstore.fingerprint"
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
ROW_GROUP_ROWS = 122_880
MAX_NAME_BYTES = 255  # of one path component, on every file system in common use

PART_FILE = re.compile(r"(documents|tokens)/split=[^/]+/(?:label=[^/]*/)?part-(\d{5,})\.parquet")
_DELTA = frozenset({"document", "position", "start", "end"})
_REPEATING = frozenset(
    {"token_id", "token", "word", "piece", "pieces", "length", "prediction", "split", "label", "group"}
)

# ---------------------------------------------------------------------------------------------------------
# Names in the path
# ---------------------------------------------------------------------------------------------------------

#: Words that one of the readers takes for a number, a truth value, a date or a missing value.
_GUESSED_WORDS = frozenset({"true", "false", "nan", "inf", "infinity", "epoch", "null", "none", "na"})


def label_fits_in_path(labels: Iterable[str | None]) -> bool:
    """Whether every label can stand in a directory's name and be read back as itself by any plain reader.

    `labels`: all gold labels the data may have; None (no label) is allowed beside others. False means that
    `label` has to be an ordinary column (`Manifest.label_in_path`). That is so when there are more than
    `MAX_LABEL_PARTITIONS` of them; when there is none at all (pyarrow can't tell the type of a partition
    that is always null); when two differ only in case (one directory on some file systems); when one is
    too long for a directory's name, percent-encoded; and when one is empty or does not begin with a letter,
    or is a word like `true` or `inf`, because readers turn such values into numbers, dates and truth values,
    each in its own way.
    """
    names = {label for label in labels if label is not None}
    return (
        0 < len(names) <= MAX_LABEL_PARTITIONS
        and len({name.casefold() for name in names}) == len(names)
        and all(_reads_back(name) for name in names)
    )


def _reads_back(label: str) -> bool:
    try:
        size = len(_partition("label", label))
    except UnicodeEncodeError:  # a lone surrogate: no file name, and no Arrow string either
        return False
    return label[:1].isalpha() and label.lower() not in _GUESSED_WORDS and size <= MAX_NAME_BYTES


def _partition(key: str, value: str | None) -> str:
    """One directory of a Hive path. Everything but letters, digits and `_.-~` is percent-encoded UTF-8."""
    return f"{key}={NULL_PARTITION if value is None else quote(value, safe='')}"


# ---------------------------------------------------------------------------------------------------------
# The store
# ---------------------------------------------------------------------------------------------------------


class Store:
    """A store's directory and its manifest. Made by `create_or_resume` (to write) or `open_store` (to read).

    As a context manager it gives its write lock back at the end.
    """

    def __init__(self, path: Path, manifest: Manifest, lock: WriteLock | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self._lock = lock
        #: What the Parquet files hold: the contract's schemas with the run's fingerprint.
        self.documents_schema = file_schema(documents_schema(manifest), manifest)
        self.tokens_schema = file_schema(tokens_schema(manifest), manifest)
        self.totals_schema = file_schema(totals_schema(manifest), manifest)

    def __repr__(self) -> str:
        state = "sealed" if self.sealed else f"{len(self.finished_parts())} of {self.manifest.parts} parts"
        return f"Store({str(self.path)!r}, {state})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the write lock back, if there is one. What is written stays."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def sealed(self) -> bool:
        """Every part is there and nothing changes any more."""
        return self.manifest.sealed is not None

    # -- what is there ------------------------------------------------------------------------------------

    def part_range(self, part: int) -> range:
        """The document numbers of a part, by the plan."""
        first = part * self.manifest.part_size
        return range(first, min(first + self.manifest.part_size, self.manifest.documents))

    def finished_parts(self) -> list[int]:
        """The parts that are wholly there, in order."""
        return list(range(self.manifest.parts)) if self.sealed else sorted(self._receipts())

    def missing_parts(self) -> list[int]:
        """The parts that are still to be written, in order."""
        return sorted(set(range(self.manifest.parts)).difference(self.finished_parts()))

    def files(self) -> list[StoredFile]:
        """The Parquet files of the finished parts and, once sealed, the totals, sorted by path."""
        files = self.manifest.files if self.sealed else [f for r in self._receipts().values() for f in r]
        return sorted(files, key=lambda file: file.path)

    def documents_files(self) -> list[Path]:
        """The documents' Parquet files of the finished parts, sorted by path."""
        return [self.path / file.path for file in self.files() if file.path.startswith("documents/")]

    def tokens_files(self) -> list[Path]:
        """The tokens' Parquet files of the finished parts, sorted by path."""
        return [self.path / file.path for file in self.files() if file.path.startswith("tokens/")]

    def totals_file(self) -> Path | None:
        """The file of the tokens added up; None while the store is not sealed, or if it has none."""
        listed = any(file.path == TOTALS for file in self.manifest.files)
        return self.path / TOTALS if listed else None

    def partitions(self, files: Iterable[Path]) -> list[tuple[str, str | None, list[Path]]]:
        """(split, label, absolute paths), one for each directory; the label is None, too, if not in the path.

        We read the path ourselves. DuckDB and Polars would take every `name=value` in it for a partition, also
        those above the store (`runs/lr=3e-5/imdb.attn`). Raises StoreError if a file is gone.
        """
        directories: dict[Path, list[Path]] = {}
        for file in files:
            if not file.is_file():
                raise self.unreadable(f"{file.relative_to(self.path)} is missing")
            directories.setdefault(file.parent, []).append(file.absolute())
        found = []
        for directory, paths in directories.items():
            pairs = (part.partition("=") for part in directory.relative_to(self.path).parts)
            keys = {
                key: None if text == NULL_PARTITION else unquote(text) for key, sign, text in pairs if sign
            }
            found.append((keys["split"] or "", keys.get("label"), paths))
        return found

    def columns_with_nulls(self) -> list[str]:
        """The reductions' columns that have no value for some of the tokens of the finished parts.

        Raises StoreError if a file can't be read.
        """
        columns = {c for r in self.manifest.reductions for c in r.columns(self.manifest.layers)}
        found: set[str] = set()
        for path in self.tokens_files():
            try:
                footer = pq.read_metadata(path)
            except (pa.ArrowException, OSError) as error:
                raise self.unreadable(f"{path.relative_to(self.path)}: {error}") from error
            for group in map(footer.row_group, range(footer.num_row_groups)):
                for chunk in map(group.column, range(group.num_columns)):
                    name = chunk.path_in_schema.partition(".")[0]
                    counted = chunk.statistics is not None and chunk.statistics.has_null_count
                    if name in columns and (not counted or chunk.statistics.null_count):
                        found.add(name)
        return [name for name in self.tokens_schema.names if name in found]

    def added_up(self) -> pa.Table:
        """The tokens of the finished parts added up, as `totals_schema` has them.

        Raises StoreError if a file can't be read.
        """
        # Here, so that a run's forward pass does not wait for Polars.
        import polars as pl

        from attnstore.store.scan import scan
        from attnstore.store.totals import add_up

        files: dict[int, list[Path]] = {part: [] for part in self.finished_parts()}
        for path in self.tokens_files():
            if name := PART_FILE.fullmatch(path.relative_to(self.path).as_posix()):
                files.setdefault(int(name[2]), []).append(path)
        try:
            parts = [scan(self.partitions(paths), self.tokens_schema) for paths in files.values()]
            return add_up(parts, self.tokens_schema, self.totals_schema, self.columns_with_nulls())
        except (OSError, pl.exceptions.PolarsError) as error:
            raise self.unreadable(one_line(error)) from error

    def unreadable(self, why: str) -> StoreError:
        """The error that the store can't be read; `why` is on one line."""
        return StoreError(f"can't read {self.path}: {why}: `attnstore verify` tells what is damaged")

    def _receipts(self) -> dict[int, tuple[StoredFile, ...]]:
        """The files of each finished part. A receipt whose files are gone or cut short is no receipt."""
        receipts: dict[int, tuple[StoredFile, ...]] = {}
        for path in (self.path / RECEIPTS).glob("part-*.json"):
            try:
                receipt = json.loads(path.read_text(encoding="utf-8"))
                part, files = int(receipt["part"]), tuple(StoredFile(**file) for file in receipt["files"])
                whole = all((self.path / file.path).stat().st_size == file.bytes for file in files)
            except (OSError, ValueError, TypeError, KeyError):
                continue
            if whole and 0 <= part < self.manifest.parts:
                receipts[part] = files
        return receipts

    # -- writing ------------------------------------------------------------------------------------------

    def write_part(self, part: int, documents: pa.Table, tokens: pa.Table) -> None:
        """Write both tables of a part and, last, its receipt. The part is there when this returns.

        `documents`: `documents_schema` with `split` and `label` (strings, or dictionaries of them); one row
        for each number in `part_range(part)`, in order. `tokens`: `tokens_schema` with the same two, sorted
        by (document, position). The order of the columns is free; their types are not: nothing is cast.

        Raises:
            StoreError: the tables are not of that form; the store is sealed; it can't be written.
        """
        self._must_be_writable()
        documents = _checked(documents, self.documents_schema, f"documents of part {part}")
        tokens = _checked(tokens, self.tokens_schema, f"tokens of part {part}")
        numbers = documents["document"].to_numpy()
        planned = self.part_range(part)
        if not np.array_equal(numbers, np.arange(planned.start, planned.stop)):
            raise StoreError(
                f"part {part} has to hold the documents {planned.start} to {planned.stop - 1}, in order"
            )
        if (rows := int(pc.sum(documents["length"]).as_py() or 0)) != tokens.num_rows:
            raise StoreError(
                f"part {part} has {tokens.num_rows} tokens, its documents' lengths add up to {rows}"
            )

        files = []
        for kind, table, schema in (
            ("documents", documents, self.documents_schema),
            ("tokens", tokens, self.tokens_schema),
        ):
            for directory, rows_of_it in _partitions(table, self.manifest.label_in_path):
                path = f"{kind}/{directory}/{_part_name(part)}.parquet"
                content = _parquet(rows_of_it, schema)
                temporary = self.path / RECEIPTS / f"{_part_name(part)}.{kind}.tmp"
                write_file(self.path / path, memoryview(content), temporary)
                digest = hashlib.sha256(content).hexdigest()
                files.append(StoredFile(path, rows_of_it.num_rows, content.size, digest))
        receipt = {"part": part, "files": [asdict(file) for file in files]}
        path_of_it = self.path / RECEIPTS / f"{_part_name(part)}.json"
        write_file(path_of_it, json.dumps(receipt, indent=1).encode(), path_of_it.with_suffix(".json.tmp"))

    def record_run(self, run: Mapping[str, Any]) -> None:
        """Add an entry to `manifest.runs`: a run was started on this store, and how it went.

        Raises:
            StoreError: the store is sealed, or can't be written.
        """
        self._must_be_writable()
        self._write_manifest(replace(self.manifest, runs=(*self.manifest.runs, dict(run))))

    def seal(self, **manifest_changes: Any) -> None:
        """Add the tokens up, and complete the manifest with every file's rows, size and hash. It is the last word.

        `manifest_changes`: fields of the manifest that are known only now (`rejected`, `notes`, `runs`).

        Raises:
            StoreError: parts are missing or can't be read, the tokens do not add up to as many as there are, the
                store is sealed already, or it can't be written.
        """
        self._must_be_writable()
        if missing := self.missing_parts():
            raise StoreError(
                f"{self.path} can't be sealed: {_some(missing, 'part')} missing: run again to go on"
            )
        parts = self.files()
        tokens = sum(file.rows for file in parts if file.path.startswith("tokens/"))
        totals = _checked(self.added_up(), self.totals_schema, "totals")
        if (summed := int(pc.sum(totals["occurrences"]).as_py() or 0)) != tokens:
            raise StoreError(f"the totals are of {summed} tokens, the parts have {tokens}")
        content = _parquet(totals, self.totals_schema)
        write_file(self.path / TOTALS, memoryview(content), self.path / RECEIPTS / f"{TOTALS}.tmp")
        digest = hashlib.sha256(content).hexdigest()
        files = (*parts, StoredFile(TOTALS, totals.num_rows, content.size, digest))
        changes = {"sealed": _now(), **manifest_changes, "files": files}
        self._write_manifest(replace(self.manifest, **changes))
        # The manifest now says it all. A crash before the next line leaves receipts that nobody reads.
        shutil.rmtree(self.path / RECEIPTS, ignore_errors=True)

    def _must_be_writable(self) -> None:
        if self.sealed:
            raise StoreError(f"{self.path} is sealed: it is never written again; give the run a new store")
        if self._lock is None:
            raise StoreError(
                f"{self.path} was opened for reading: only the run that holds its lock writes it"
            )

    def _write_manifest(self, manifest: Manifest) -> None:
        path = self.path / MANIFEST
        write_file(path, manifest.to_json().encode(), path.with_suffix(".json.tmp"))
        self.manifest = manifest


def create_or_resume(path: str | Path, manifest: Manifest) -> Store:
    """The store at `path`, ready to be written: a new one, or the unfinished one of an equal run.

    A sealed store of an equal run comes back with nothing missing. Equal are runs with the same fingerprint;
    the size of the parts is the store's: it was fixed when the store was made. One in which no part is finished
    yet, and which nobody is writing, is begun again by whatever run comes.

    Raises:
        StoreError: the store is of another run (each difference is named, with both values), is being
            written by another process, is no store but not empty either, or can't be written.
    """
    store = Path(path)
    existing = _existing(store, manifest)
    if existing is not None and existing.sealed is not None:
        _clear_up(store)
        return Store(store, existing)
    with writing(store):
        make_directory(store)
    lock = write_lock(store)
    try:
        existing = _existing(store, manifest)  # again: another run may have just made or sealed it
        if existing is None:
            _clear_begun(store)
            created = Store(store, replace(manifest, sealed=None, files=()), lock)
            created._write_manifest(created.manifest)
            return created
        if existing.sealed is not None:
            lock.release()
            return Store(store, existing)
        # Totals without a seal are of a run that was killed between the two.
        for left_over in [store / TOTALS, *(store / RECEIPTS).glob("*.tmp")]:
            with suppress(OSError):
                left_over.unlink()
        return Store(store, existing, lock)
    except BaseException:
        lock.release()
        raise


def open_store(path: str | Path) -> Store:
    """A store to read from, sealed or not.

    Raises:
        StoreError: there is no store at `path`, or its manifest is damaged or of another version.
    """
    store = Path(path)
    if not store.exists():
        raise StoreError(f"{store} does not exist: give the directory that a run wrote")
    if not store.is_dir():
        raise StoreError(f"{store} is a file, not a store: give the directory that a run wrote")
    manifest = _read_manifest(store)
    if manifest is None:
        raise StoreError(f"{store} is not a store: it has no {MANIFEST}; give the directory that a run wrote")
    return Store(store, manifest)


def _read_manifest(store: Path) -> Manifest | None:
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


def _existing(store: Path, manifest: Manifest) -> Manifest | None:
    """The manifest of the store that is there, None if there is none yet; it has to be of an equal run."""
    try:
        names = {entry.name for entry in store.iterdir()}
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise StoreError(f"{store} is a file, or inside one: give a new or empty directory") from error
    except OSError as error:
        raise StoreError(f"can't read {store}: {error.strerror or error}") from error
    existing = _read_manifest(store)
    if existing is None:
        # A run that was killed before it wrote its manifest leaves no more than this.
        if foreign := sorted(names - {LOCK, MANIFEST, f"{MANIFEST}.tmp"}):
            raise StoreError(
                f"{store} is not empty and not a store ({foreign[0]} is in it): give a new or empty directory"
            )
        return None
    if differences := _differences(existing, manifest):
        if existing.sealed is None and not any((store / RECEIPTS).glob("part-*.json")):
            return None  # it ended before its first part was finished: there is nothing to go on with
        way = "" if existing.sealed else "run with the store's settings to go on with it, "
        raise StoreError(
            f"{store} holds another run: {'; '.join(differences)}: {way}give another name, or delete it first"
        )
    return existing


def _differences(stored: Manifest, ours: Manifest) -> list[str]:
    """What makes two manifests different runs, each with both values."""
    sides = []
    for manifest in (stored, ours):
        raw = json.loads(manifest.to_json())  # as the store has it: tuples are lists there
        # Beside the fingerprint: what the tables' form depends on.
        form = ("documents", "labels", "label_in_path", "layers", "heads", "reductions", "max_length")
        sides.append({**{name: raw[name] for name in form}, **raw["fingerprint"]})
    theirs, mine = sides

    def shown(side: dict[str, Any], name: str) -> str:
        if name not in side:
            return "not set"
        return "none" if side[name] is None else json.dumps(side[name], ensure_ascii=False)

    def told(name: str) -> str:
        what, hashed, _ = name.partition("_sha256")
        if hashed:  # nobody knows a hash by heart
            of = "data" if what == "data" else "model"
            values = f"{getattr(stored, of)} in the store, {getattr(ours, of)} in this run"
            return f"the {what} differs by its SHA-256: {values}"
        return f"{name} is {shown(theirs, name)} in the store, {shown(mine, name)} in this run"

    return [
        told(name)
        for name in dict.fromkeys([*ours.fingerprint, *stored.fingerprint, *theirs])
        if name not in theirs or name not in mine or theirs[name] != mine[name]
    ]


def _clear_up(store: Path) -> None:
    """Take away what a crash between the sealing and the end of its run left in a sealed store."""
    if (store / RECEIPTS).exists() or (store / LOCK).exists():
        with suppress(StoreError), write_lock(store):  # if it can't be had, nothing is lost: it is not read
            shutil.rmtree(store / RECEIPTS, ignore_errors=True)


def _clear_begun(store: Path) -> None:
    """Take away the files of a run that finished no part: a plain reader would take them for the next run's."""
    parts = store.glob("*/split=*/**/part-*.parquet")
    for path in [*parts, *store.glob(TOTALS), *(store / RECEIPTS).glob("*.tmp")]:
        name = path.relative_to(store).as_posix()
        if path.suffix == ".tmp" or name == TOTALS or PART_FILE.fullmatch(name):
            with writing(path):
                path.unlink()


def _part_name(part: int) -> str:
    return f"part-{part:05d}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _some(numbers: Iterable[int], noun: str) -> str:
    """`part 3 is`, `parts 3, 4 and 12 more are`: a list of numbers that stays short."""
    numbers = list(numbers)
    if len(numbers) == 1:
        return f"{noun} {numbers[0]} is"
    shown = ", ".join(map(str, numbers[:5]))
    return f"{noun}s {shown} and {len(numbers) - 5} more are" if len(numbers) > 5 else f"{noun}s {shown} are"


# ---------------------------------------------------------------------------------------------------------
# Tables to Parquet
# ---------------------------------------------------------------------------------------------------------


def file_schema(schema: pa.Schema, manifest: Manifest) -> pa.Schema:
    """The contract's schema with the run's fingerprint as the file's metadata."""
    fingerprint = json.dumps(manifest.fingerprint, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return schema.with_metadata({FINGERPRINT_KEY: fingerprint.encode()})


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_null(type_))


def _checked(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """`table` with the contract's columns in the contract's order, then `split` and `label`."""
    names = [*schema.names, *(name for name in ("split", "label") if name not in schema.names)]
    if counts := Counter(table.column_names) - Counter(names):
        raise StoreError(f"{what}: unexpected column {next(iter(counts))!r}")
    for name in names:
        if name not in table.column_names:
            raise StoreError(f"{what}: column {name!r} is missing")
        column = table[name]
        if name not in schema.names:
            if not _is_text(column.type):
                raise StoreError(f"{what}: column {name!r} is {column.type}, not text")
        elif column.type != schema.field(name).type:
            raise StoreError(f"{what}: column {name!r} is {column.type}, not {schema.field(name).type}")
        if column.null_count and (
            name == "split" or (name in schema.names and not schema.field(name).nullable)
        ):
            raise StoreError(f"{what}: column {name!r} has nulls")
    return table.select(names)


def _partitions(table: pa.Table, label_in_path: bool) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each (split, label), in order of first occurrence, with the directory they belong in."""
    keys = ["split", "label"] if label_in_path else ["split"]
    texts = {key: table[key].cast(pa.string()).combine_chunks() for key in keys}
    pairs = pa.table(texts).group_by(keys, use_threads=False).aggregate([]).to_pylist()
    for pair in pairs:
        directory = "/".join(_partition(key, pair[key]) for key in keys)
        if too_long := [key for key in keys if len(_partition(key, pair[key])) > MAX_NAME_BYTES]:
            raise StoreError(f"the {too_long[0]} {pair[too_long[0]]!r} is too long for a directory's name")
        if len(pairs) == 1:
            yield directory, table
            continue
        mask = None
        for key in keys:
            value = pair[key]
            same = pc.is_null(texts[key]) if value is None else pc.equal(texts[key], value).fill_null(False)
            mask = same if mask is None else pc.and_(mask, same)
        yield directory, table.filter(mask)


def _parquet(table: pa.Table, schema: pa.Schema) -> pa.Buffer:
    """The bytes of a Parquet file with the rows of `table` and the columns of `schema`."""
    columns, encodings, dictionaries = [], {}, []
    for field in schema:
        column = table[field.name]
        if pa.types.is_dictionary(field.type):
            # Anew, in order of first occurrence: a vocabulary's unused entries are dropped (a third of the
            # column's bytes), and how the rows came in batches leaves no trace.
            column = column.cast(pa.string()).combine_chunks().dictionary_encode()
        columns.append(column)
        if field.name in _REPEATING:
            dictionaries.append(field.name)
        elif field.name in _DELTA:
            encodings[field.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_floating(field.type):
            encodings[field.name] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type):
            encodings[f"{field.name}.list.element"] = "BYTE_STREAM_SPLIT"
    keys = [name for name in ("document", "position") if name in schema.names]
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(columns, schema=schema).combine_chunks(),
        sink,
        compression="zstd",
        compression_level=3,
        use_dictionary=dictionaries,
        column_encoding=encodings,
        row_group_size=ROW_GROUP_ROWS,
        sorting_columns=[pq.SortingColumn(schema.get_field_index(name)) for name in keys],
    )
    return sink.getvalue()
