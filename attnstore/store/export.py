"""A store as a data set of the Hugging Face hub: the same store, with `split` and `label` in its files, too.

The library `datasets`, and the hub's tools built on it, read a file's columns but ignore its path: the gold label of a
store that a run wrote would be lost. An exported store is complete: `attnstore.open` reads it and `attnstore verify`
checks it. Parts, their order and every value are those of the run.
"""

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from attnstore.errors import StoreError
from attnstore.events import Copied, OnEvent, ignore
from attnstore.store.faithfulness import RECEIPTS, measurements
from attnstore.store.manifest import StoredFile
from attnstore.store.partitions import keys_of
from attnstore.store.place import Place, for_arrow, opened, put
from attnstore.store.resume import create_or_resume
from attnstore.store.store import Store


def needs_sealed(store: Store) -> None:
    """Raise StoreError if the store is not sealed yet."""
    if not store.sealed:
        raise StoreError(
            f"{store.path} is not sealed: `attnstore run` with the same options finishes it first"
        )


def export(store: Store, path: str | Place, on_event: OnEvent = ignore) -> Store:
    """Write a sealed store to `path` with `split` and `label` as columns of its files, or continue such an export.

    One part is in memory at a time. `on_event` gets `Copied` after each. The table `faithfulness` is copied, too.

    Raises:
        StoreError: the store is not sealed or is damaged; `path` holds something else, or can't be written.
    """
    needs_sealed(store)
    plan = replace(
        store.manifest, label_in_path=False, split_in_files=True, files=(), merged_from=None, sealed=None
    )
    with create_or_resume(path, plan) as made:
        of_parts: dict[int | None, list[StoredFile]] = {}
        for file in store.files():
            of_parts.setdefault(file.part, []).append(file)
        for part in made.missing_parts():
            documents, tokens = (
                _rows(
                    store,
                    [file for file in of_parts.get(part, []) if file.path.startswith(f"{kind}/")],
                    schema,
                )
                for kind, schema in (("documents", made.documents_schema), ("tokens", made.tokens_schema))
            )
            made.write_part(part, documents.sort_by("document"), _in_order(tokens))
            on_event(Copied(made.part_range(part).stop, plan.documents))
        if not made.sealed:
            made.seal(sealed=store.manifest.sealed)
    _copy_measurements(store, made)
    return made


def _rows(store: Store, files: list[StoredFile], schema: pa.Schema) -> pa.Table:
    """The rows of one table's files of a part, with the columns of `schema`; values in a path become columns."""
    tables = [schema.empty_table()]
    for file in files:
        _check(store, file)
        try:
            # Not pq.read_table: it would take the partitions from the path.
            with pq.ParquetFile(for_arrow(store.path / file.path)) as parquet:
                table = parquet.read()
        except (pa.ArrowException, OSError) as error:
            raise store.unreadable(f"{file.path}: {str(error).partition(chr(10))[0]}") from error
        split, label = keys_of(PurePosixPath(file.path).parent)
        for name, value in (("split", split), ("label", label)):
            if name not in table.column_names:
                column = pa.array([value], pa.string()).take(pa.array([0] * len(table), pa.int32()))
                table = table.append_column(name, column.dictionary_encode())
        tables.append(table.select(schema.names).cast(schema))
    return pa.concat_tables(tables).unify_dictionaries()


def _in_order(tokens: pa.Table) -> pa.Table:
    return tokens.sort_by([("document", "ascending"), ("position", "ascending")])


def _check(store: Store, file: StoredFile) -> None:
    """Raise StoreError for a damaged file, because its copy would count as intact."""
    if fault := file.damage(store.path):
        raise store.unreadable(f"{file.path} {fault}")


def _copy_measurements(store: Store, made: Store) -> None:
    """Copy the table `faithfulness` as it is, each file before its receipt."""
    for measured in measurements(store)[0]:
        _check(store, measured.file)
        receipt = f"{RECEIPTS}/{Path(measured.file.path).stem}.json"
        for name in (measured.file.path, receipt):
            with opened(store.path / name) as file:
                put(made.path, name, file.read(), f"{RECEIPTS}/{Path(name).name}.tmp")
