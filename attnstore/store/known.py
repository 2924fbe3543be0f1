"""What a store already has, for documents to append: its labels, and the documents with given ids."""

from collections.abc import Container, Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from attnstore.store.manifest import StoredFile
from attnstore.store.partitions import keys_of
from attnstore.store.place import for_arrow
from attnstore.store.store import Store


def labels_of(store: Store) -> frozenset[str]:
    """The gold labels of the finished parts; empty if no document has one. Raises StoreError."""
    found: set[str | None] = set()
    if store.manifest.label_in_path:
        found = store.labels_in_paths()
    else:
        for file in store.files("documents"):
            found |= set(_read(store, file, ["label"])["label"].cast(pa.string()).unique().to_pylist())
    return frozenset(label for label in found if label is not None)


def documents_of(store: Store, ids: Container[str]) -> Iterator[dict[str, Any]]:
    """The documents with one of these ids, each by column: the data's values, without the model's.

    The columns are `id`, `group`, `text`, `text_pair` (None for a single text), those kept, `split` and `label`. Only
    the ids of other documents are read, a file at a time. Raises StoreError if a file can't be read.
    """
    manifest = store.manifest
    columns = [
        *("id", "group", "text"),
        *(["text_pair"] if manifest.pairs else []),
        *manifest.kept,
        *([] if manifest.label_in_path else ["label"]),
    ]
    for file in store.files("documents"):
        there = _read(store, file, ["id"])["id"].to_pylist()
        places = [place for place, each in enumerate(there) if each in ids]
        if not places:
            continue
        split, label = keys_of(PurePosixPath(file.path).parent)
        of_path = {"text_pair": None, "label": label}
        for row in _read(store, file, columns).take(places).to_pylist():
            yield {**of_path, **row, "split": split}


def _read(store: Store, file: StoredFile, columns: list[str]) -> pa.Table:
    store.check_size(file)
    try:
        with pq.ParquetFile(for_arrow(store.path / file.path)) as parquet:
            return parquet.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise store.unreadable(f"{file.path}: {error}") from error
