"""The directory that a run leaves behind: plan it, write a part, seal it, open it.

    STORE/
      manifest.json                                             what was run, and the plan of the parts
      documents/split=test/label=pos/part-00012.parquet
      tokens/split=test/label=pos/part-00012.parquet
      totals.parquet                                            the summed tokens, once sealed
      _merged/tokens/…                                          the rows of small files, many in one: `merged`
      _append/                                                  the next state, while documents are appended: `stage`
      _earlier/                                                 the previous state's totals, for its readers
      _sums/                                                    what the totals of a grown store are made from: `sums`
      _parts/part-00012.json                                    the receipt of a finished part, until sealed
      writer.lock                                               the current writer

A part has a fixed range of documents, so the plan depends only on the manifest. It may have files in several (split,
label) partitions; it counts once its *receipt* exists, which is written last. Parquet files without a receipt were
left by a killed run: they are not listed, and the next run overwrites them. Sealing moves the receipts' content into
the manifest; after that, nothing in the directory changes.

Everything is written under a temporary name in `_parts`, synced to the disk, and renamed: a file with its final name
is complete. `_parts` begins with an underscore and the temporary names do not end in `.parquet`, so no plain reader,
whether it globs or walks, ever sees an incomplete file.
"""

import hashlib
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from attnstore.buckets import Bucket
from attnstore.errors import StoreError
from attnstore.messages import one_line, quoted
from attnstore.store import hub
from attnstore.store.durable import new_file, writing
from attnstore.store.lock import Lock
from attnstore.store.manifest import MANIFEST, TOTALS, Manifest, StoredFile, read_manifest, write_manifest
from attnstore.store.merged import (
    MERGED,
    files_of,
    list_of,
    merged_name,
    read_list,
    to_be_merged,
    with_merged,
    without_merged_parts,
)
from attnstore.store.parquet import (
    checked,
    columns_with_nulls,
    file_schema,
    first_difference,
    parquet,
    write_parquet,
)
from attnstore.store.partitions import keys_of, partitions_of
from attnstore.store.place import (
    Place,
    address,
    exists,
    for_arrow,
    place,
    put,
    put_file,
    remove_directory,
    scratch_in,
)
from attnstore.store.receipts import RECEIPTS, part_name, read_receipts, remove_receipt, write_receipt
from attnstore.store.schema import documents_schema, tokens_schema, totals_schema

if TYPE_CHECKING:
    from attnstore.store.adding import Tokens

#: Where the totals of the previous state are, under a permanent name.
EARLIER = "_earlier"

#: The tables that are stored in parts.
Kind = Literal["documents", "tokens"]

#: Files by directory: split, label (also None if not in the path), addresses.
Partitions = list[tuple[str, str | None, list[str]]]


class Store:
    """A store's directory and its manifest. Made by `resume.create_or_resume` (to write) or `open_store` (to read).

    It is one state of the store: what existed when it was opened, and what was written through it since. It does not
    include what others finish in the meantime, and everything it names remains: a part's files are never removed. As a
    context manager, it releases its write lock at the end.
    """

    def __init__(
        self,
        path: Place,
        manifest: Manifest,
        lock: Lock | None = None,
        finished: Mapping[int, tuple[StoredFile, ...]] | None = None,
        damaged: Mapping[int, str] | None = None,
    ) -> None:
        """`finished` and `damaged`: the receipts of an unsealed store, as `read_receipts` gives them."""
        self.path = path
        self.manifest = manifest
        self._lock = lock
        self._finished = dict(finished or {})
        self._damaged = dict(damaged or {})
        self._listed: Mapping[str, int] | None = None
        self._merged_from: pa.Table | None = None
        self._all: list[StoredFile] | None = None  # with those of `_merged_from`
        # Two writers of the same part must not use the same temporary file.
        self._writer = secrets.token_hex(4)
        for schema in (documents_schema(manifest), tokens_schema(manifest), totals_schema(manifest)):
            if len(set(schema.names)) < len(schema.names):
                twice = next(name for name in schema.names if schema.names.count(name) > 1)
                raise StoreError(f"{path}: manifest.json is damaged: two columns are called {quoted(twice)}")
        #: What was wrong with each part that is recomputed because its files were damaged.
        self.damaged: tuple[str, ...] = ()
        #: The Parquet files' schemas: the contract's, with the run's fingerprint.
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
        """Release the write lock, if there is one. What is written stays."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def sealed(self) -> bool:
        """Every part exists, and nothing changes any more."""
        return self.manifest.sealed is not None

    # -- contents -----------------------------------------------------------------------------------------

    def part_range(self, part: int) -> range:
        """The document numbers of a part, by the plan."""
        return self.manifest.part_range(part)

    def finished_parts(self) -> list[int]:
        """The complete parts, in order."""
        return list(range(self.manifest.parts)) if self.sealed else sorted(self._finished)

    def missing_parts(self) -> list[int]:
        """The parts that must still be written, in order."""
        return sorted(set(range(self.manifest.parts)).difference(self.finished_parts()))

    def files(self, kind: Kind | None = None, parts: Collection[int] | None = None) -> list[StoredFile]:
        """The Parquet files of the finished parts and, once sealed, the merged files and the totals, by path.

        `kind`: of one table only; `parts`: of these parts only. Raises StoreError if the list of files that were
        merged can't be read.
        """
        files: Iterable[StoredFile] = self.manifest.files
        if not self.sealed:
            files = (f for part in self._finished.values() for f in part)
        elif (behind := self._behind()) is not None:
            try:
                if parts is not None:
                    files = [*files, *files_of(behind, parts)]
                else:
                    self._all = self._all or with_merged(files, behind)
                    files = self._all
            except StoreError as error:
                raise self.unreadable(str(error)) from error
        if kind is not None:
            files = (file for file in files if file.path.startswith(f"{kind}/"))
        if parts is not None:
            files = (file for file in files if file.part in parts)
        return sorted(files, key=lambda file: file.path)

    def files_to_read(self, kind: Kind, parts: Collection[int] | None = None) -> list[StoredFile]:
        """The files that have a table's rows once: merged files in place of small ones.

        `parts`: only these parts, which are read from their own files.
        """
        if parts is not None:
            return self.files(kind, parts)
        files = self.manifest.files if self.sealed else self.files()
        found = (file for file in files if file.path.removeprefix(f"{MERGED}/").startswith(f"{kind}/"))
        return sorted(found, key=lambda file: file.path)

    def rows(self, kind: Kind) -> int:
        """How many rows a table has."""
        return sum(file.rows for file in self.files_to_read(kind))

    def count_and_bytes(self) -> tuple[int, int]:
        """The number of files in `files`, and their total size."""
        files = self.manifest.files if self.sealed else self.files()
        behind = self._behind()
        listed = (0, 0) if behind is None else (len(behind), int(pc.sum(behind["bytes"]).as_py() or 0))
        return len(files) + listed[0], sum(file.bytes for file in files) + listed[1]

    def _behind(self) -> pa.Table | None:
        """The parts' files whose rows are in merged files, one row each; None if there are none. Read once."""
        if self._merged_from is None and self.manifest.merged_from is not None:
            try:
                self._merged_from = read_list(self.path, self.manifest.merged_from)
            except StoreError as error:
                raise self.unreadable(str(error)) from error
        return self._merged_from

    def documents_files(self) -> list[Place]:
        """The documents' Parquet files of the finished parts, sorted by path."""
        return [self.path / file.path for file in self.files("documents")]

    def tokens_files(self) -> list[Place]:
        """The tokens' Parquet files of the finished parts, sorted by path."""
        return [self.path / file.path for file in self.files("tokens")]

    def totals_file(self) -> Place | None:
        """The file of the totals; None while the store is not sealed, or if it has none.

        Raises StoreError if it is missing, or if its size has changed.
        """
        listed = self.totals_listed()
        if listed is None:
            return None
        if listed.path == TOTALS:
            self.check_size(listed)
        return self.path / listed.path

    def totals_listed(self) -> StoredFile | None:
        """The file of the totals, under its current name; None while the store is not sealed.

        When documents are appended, the next state's totals take its name; it gets another name before that.
        """
        listed = next((file for file in self.manifest.files if file.path == TOTALS), None)
        if listed is None:
            return None
        kept = f"{EARLIER}/{listed.sha256[:32]}.parquet"
        return replace(listed, path=kept) if exists(self.path / kept) else listed

    def partitions(self, files: Iterable[StoredFile]) -> Partitions:
        """(split, label, addresses) of files, one for each directory; the label is also None if not in the path.

        Raises StoreError if a file is gone, or of another size than was written.
        """
        root = address(self.path)
        directories: dict[str, list[str]] = {}
        for file in files:
            self.check_size(file)
            directories.setdefault(file.path.rpartition("/")[0], []).append(f"{root}/{file.path}")
        return [(*keys_of(PurePosixPath(directory)), paths) for directory, paths in directories.items()]

    def labels_in_paths(self) -> set[str | None]:
        """The labels in the paths of the documents' files; None means no label."""
        directories = {file.path.rpartition("/")[0] for file in self.files_to_read("documents")}
        return {keys_of(PurePosixPath(directory))[1] for directory in directories}

    def check_size(self, file: StoredFile) -> None:
        """Raise StoreError if one of the store's files is gone, or of another size than was written."""
        if fault := file.damage(self.path, hashed=False, sizes=self.sizes()):
            raise self.unreadable(f"{file.path} {fault}")

    def sizes(self) -> Mapping[str, int] | None:
        """What is in the bucket, requested once: a store's files do not change. None for a folder."""
        if isinstance(self.path, Bucket) and self._listed is None:
            try:
                self._listed = self.path.sizes()
            except OSError as error:
                raise self.unreadable(error.strerror or str(error)) from error
        return self._listed

    def columns_with_nulls(self) -> list[str]:
        """The reductions' columns without a value for some of the tokens of the finished parts.

        Raises StoreError if a file can't be read.
        """
        columns = {c for r in self.manifest.reductions for c in r.columns(self.manifest.layers)}
        found: set[str] = set()
        for file in self.files_to_read("tokens"):
            try:
                found |= columns_with_nulls(self.path / file.path) & columns
            except (pa.ArrowException, OSError, ValueError) as error:
                raise self.unreadable(f"{file.path}: {error}") from error
        return [name for name in self.tokens_schema.names if name in found]

    def added_up(self, scratch: Path | None = None) -> Iterator[pa.Table]:
        """The summed tokens of the finished parts, with `totals_schema`, many rows at a time.

        `scratch`: a directory for what does not fit into memory; by default one of the system's. Raises StoreError if
        a file can't be read.
        """
        with TemporaryDirectory(prefix="attnstore-") if scratch is None else nullcontext(scratch) as folder:
            yield from self._added_up(self.tokens_in_order(), Path(folder))

    def added_up_as_read(self) -> Iterator[pa.Table]:
        """The same from the files that answers read: there are fewer, and only the last bits of the sums differ."""
        with TemporaryDirectory(prefix="attnstore-") as folder:
            yield from self._added_up(self.tokens_in_order(self.files_to_read("tokens")), Path(folder))

    def _added_up(
        self,
        tokens: "Iterable[Tokens]",
        scratch: Path,
        before: Sequence[Place] = (),
        keep: Callable[[Sequence[Place]], None] | None = None,
    ) -> Iterator[pa.Table]:
        """These tokens, summed; the other arguments are those of `adding.add_up`."""
        # Imported here, so that a run's forward pass does not wait for Polars.
        from attnstore.store.adding import add_up
        from attnstore.store.totals import Summed, as_totals

        summed = Summed(self.tokens_schema, tuple(self.columns_with_nulls()))
        try:
            sums = add_up(tokens, summed, scratch, before=before, keep=keep)
            yield from as_totals(sums, summed, self.totals_schema)
        except (OSError, pa.ArrowException) as error:
            raise self.unreadable(one_line(error)) from error

    def tokens_in_order(self, files: Iterable[StoredFile] | None = None) -> "Iterator[Tokens]":
        """The tokens of the finished parts, a file at a time; `files`: these instead of the parts' own.

        Raises StoreError if one is gone or of another size.
        """
        from attnstore.store.adding import Tokens

        read = self.files("tokens") if files is None else files
        for file in sorted(read, key=lambda file: (file.part or 0, file.path)):
            self.check_size(file)
            yield Tokens(self.path / file.path, *keys_of(PurePosixPath(file.path).parent))

    def unreadable(self, why: str) -> StoreError:
        """The error that the store can't be read; `why` is on one line."""
        return StoreError(f"can't read {self.path}: {why}: `attnstore verify` finds the damage")

    def damaged_parts(self) -> dict[int, str]:
        """What is wrong with each part of an unsealed store that was finished and is damaged, by a quick check.

        Readers leave these parts out, and the next run recomputes them.
        """
        return {} if self.sealed else dict(self._damaged)

    # -- writing ------------------------------------------------------------------------------------------

    def write_part(self, part: int, documents: pa.Table, tokens: pa.Table) -> tuple[StoredFile, ...]:
        """Write both tables of a part and, last, its receipt. The part exists when this returns its files.

        `documents`: `documents_schema` with `split` and `label` (strings, or dictionaries of them); one row
        for each number in `part_range(part)`, in order. `tokens`: `tokens_schema` with the same two, sorted
        by (document, position). The columns may have any order, but must have the exact types: nothing is cast.

        Raises:
            StoreError: the tables do not have that form; the store is sealed; it can't be written.
        """
        self._must_be_writable()
        documents = checked(documents, self.documents_schema, f"documents of part {part}")
        tokens = checked(tokens, self.tokens_schema, f"tokens of part {part}")
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
            for directory, rows_of_it in partitions_of(table, self.manifest.label_in_path):
                path, temporary = (
                    f"{kind}/{directory}/{part_name(part)}.parquet",
                    f"{part_name(part)}.{kind}.{self._writer}.tmp",
                )
                files.append(self._write(path, rows_of_it, schema, temporary))
        self._must_be_writable()
        write_receipt(self.path, part, files, self._writer)
        self._finished[part] = tuple(files)
        return self._finished[part]

    def take_part(self, part: int, files: Iterable[StoredFile]) -> None:
        """Register a part that another process has written with this store's lock (see `lent`), including its receipt.

        Raises:
            StoreError: the store is sealed, or its lock is lost.
        """
        self._must_be_writable()
        self._finished[part] = tuple(files)

    def drop_damaged(self) -> None:
        """Read every file of the finished parts, and make parts with damaged files count as missing.

        What was wrong is in `damaged`, one line each.

        Raises:
            StoreError: the store is sealed, or can't be read or written.
        """
        self._must_be_writable()
        self._finished, damaged = read_receipts(self.path, self.manifest.parts, hashed=True)
        for part in damaged:
            with writing(self.path / RECEIPTS):
                remove_receipt(self.path, part)
        self.damaged = tuple(f"part {part} is computed again: {fault}" for part, fault in damaged.items())

    def record_run(self, run: Mapping[str, Any]) -> None:
        """Add an entry to `manifest.runs` about a run that was started on this store.

        Raises:
            StoreError: the store is sealed, or can't be written.
        """
        self._must_be_writable()
        self._write_manifest(replace(self.manifest, runs=(*self.manifest.runs, dict(run))))

    def seal(self, **manifest_changes: Any) -> None:
        """Sum the tokens, and complete the manifest with every file's rows, size and hash. Nothing can be written
        afterwards.

        `manifest_changes`: fields of the manifest that are not known before (`rejected`, `notes`, `runs`).

        Raises:
            StoreError: parts are missing or can't be read, the totals do not count all tokens, the store is sealed
                already, or it can't be written.
        """
        self._must_be_writable()
        damaged: dict[int, str] = {}
        if not self.missing_parts():
            self._finished, damaged = read_receipts(self.path, self.manifest.parts, hashed=True)
        if damaged:
            part, fault = next(iter(damaged.items()))
            raise StoreError(f"{self.path} can't be sealed: {fault}: run again to compute part {part} again")
        if missing := self.missing_parts():
            raise StoreError(
                f"{self.path} can't be sealed: {_some(missing, 'part')} missing: run again to resume"
            )
        parts = sorted([*self._inherited(), *self.files()], key=lambda file: file.path)
        tokens = sum(file.rows for file in parts if file.path.startswith("tokens/"))
        totals = self._write_totals(tokens)
        merged = [self._merge(group) for group in to_be_merged(parts)]
        parts += merged
        files = without_merged_parts(parts)
        behind = self._write_list(parts, but=files)
        files.append(totals)
        changes = {"sealed": now(), **manifest_changes, "files": tuple(files), "merged_from": behind}
        self._write_manifest(replace(self.manifest, **changes))
        # The manifest is complete. A crash before the next line leaves receipts that nobody reads.
        remove_directory(self.path, RECEIPTS)

    def _write_totals(self, tokens: int) -> StoredFile:
        """Sum the tokens and write the totals. Raises StoreError unless they count as many tokens as `tokens`."""
        summed = 0

        def counted(folder: Path) -> Iterator[pa.Table]:
            nonlocal summed
            for table in self.added_up(folder):
                summed += pc.sum(table["occurrences"]).as_py() or 0
                yield checked(table, self.totals_schema, "totals")

        with scratch_in(self.path, RECEIPTS) as folder, writing(self.path / TOTALS):
            written = folder / "totals.tmp"
            with new_file(written) as file:
                rows = write_parquet(counted(folder), self.totals_schema, file)
            if summed != tokens:
                raise StoreError(f"the totals are of {summed} tokens, the parts have {tokens}")
            with written.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            size = written.stat().st_size
            put_file(self.path, TOTALS, written)
        self._listed = None  # the bucket has more files now
        return StoredFile(TOTALS, rows, size, digest)

    def _merge(self, group: Sequence[StoredFile]) -> StoredFile:
        """Copy the rows of these files, which are in one directory, into one file. Raises StoreError.

        They are read back, because `verify` compares only a few files with the merged ones.
        """
        schema = self.tokens_schema if group[0].path.startswith("tokens/") else self.documents_schema
        rows = self.rows_of(group, schema)
        return self._write(merged_name(group), rows, schema, f"{MERGED}.{self._writer}.tmp", read_back=True)

    def _write_list(self, files: Iterable[StoredFile], but: Iterable[StoredFile]) -> StoredFile | None:
        """Write the list of these files except some; None if none is left."""
        others = {file.path for file in but}
        behind = [file for file in files if file.path not in others]
        if not behind:
            return None
        listed, content = list_of(behind)
        put(self.path, listed.path, memoryview(content), f"{RECEIPTS}/{MERGED}.{self._writer}.tmp")
        self._listed = None
        return listed

    def rows_of(self, files: Iterable[StoredFile], schema: pa.Schema) -> pa.Table:
        """The rows of files, one file after the other, with the columns of `schema`. Raises StoreError."""
        tables = []
        for file in files:
            try:
                with pq.ParquetFile(for_arrow(self.place_of(file))) as parquet:
                    tables.append(parquet.read(schema.names, use_threads=False))
            except (pa.ArrowException, OSError) as error:
                raise self.unreadable(f"{file.path}: {one_line(error)}") from error
        return pa.concat_tables(tables).unify_dictionaries()

    def place_of(self, file: StoredFile) -> Place:
        """Where a file of the store is."""
        return self.path / file.path

    def _inherited(self) -> Sequence[StoredFile]:
        """The parts' files that the sealed store has beside those written here: those of the previous state."""
        return ()

    def _write(
        self, path: str, table: pa.Table, schema: pa.Schema, temporary: str, read_back: bool = False
    ) -> StoredFile:
        """Write a file of the store under its temporary name in `_parts`, and rename it.

        `read_back`: first check that its bytes are what was written; raises StoreError if not.
        """
        content = parquet(table, schema)
        if read_back:
            with pq.ParquetFile(pa.BufferReader(content)) as written:
                if (name := first_difference(written.read(use_threads=False), table)) is not None:
                    raise StoreError(f"{self.path}: {name} of {path} can't be read as it was written")
        put(self.path, path, memoryview(content), f"{RECEIPTS}/{temporary}")
        self._listed = None  # the bucket has more files now
        return StoredFile(path, table.num_rows, content.size, hashlib.sha256(content).hexdigest())

    def _must_be_writable(self) -> None:
        if self.sealed:
            raise StoreError(f"{self.path} is sealed and can't be written again: give the run a new store")
        if self._lock is None:
            raise StoreError(
                f"{self.path} was opened for reading: only the run that holds its lock writes it"
            )
        self._lock.check()

    def _write_manifest(self, manifest: Manifest) -> None:
        write_manifest(self.path, manifest)
        self.manifest = manifest


def open_store(path: str | Place) -> Store:
    """A store for reading, sealed or not, in its current state: see `Store`. Also in a bucket: `s3://…`.

    A store on the hub, `hf://datasets/USER/NAME`, is fetched first.

    Raises:
        StoreError: there is no store at `path`, or its manifest is damaged or has another version.
    """
    store = hub.fetched(str(path)) if hub.is_hub_address(path) else place(path)
    if isinstance(store, Path):
        if not store.exists():
            raise StoreError(f"{store} does not exist: give the directory that a run wrote")
        if not store.is_dir():
            raise StoreError(f"{store} is a file, not a store: give the directory that a run wrote")
    while True:
        manifest = read_manifest(store)
        if manifest is None:
            raise StoreError(
                f"{store} is not a store: it has no {MANIFEST}; give the directory that a run wrote"
            )
        if manifest.sealed is not None:
            return Store(store, manifest)
        finished, damaged = read_receipts(store, manifest.parts)
        # Sealing completes the manifest and then removes the receipts; another run replaces the manifest before it
        # writes any. So receipts belong to the manifest if it is the same before and after they are read.
        now = read_manifest(store)
        if now is not None and now.to_json() == manifest.to_json():
            return Store(store, manifest, finished=finished, damaged=damaged)


def now() -> str:
    """The current time in the form of manifests: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _some(numbers: Iterable[int], noun: str) -> str:
    """`part 3 is`, `parts 3, 4 and 12 more are`: a list of numbers that stays short."""
    numbers = list(numbers)
    if len(numbers) == 1:
        return f"{noun} {numbers[0]} is"
    shown = ", ".join(map(str, numbers[:5]))
    return f"{noun}s {shown} and {len(numbers) - 5} more are" if len(numbers) > 5 else f"{noun}s {shown} are"
