"""The next state of a sealed store, written beside it until it is complete: this is how documents are appended.

    STORE/
      manifest.json                                             the state that readers see
      _append/manifest.json                                     the next one: the same, and an addition to it
      _append/tokens/split=test/label=pos/part-00012.parquet    its new parts, with receipts in _append/_parts
      _earlier/5f70…parquet                                     the totals, under a permanent name
      _sums/5f70….0.91ab….parquet                               the sums of that state's tokens: `sums`

The numbers of documents and parts continue where the store ends, so nothing in it changes. Sealing the next state adds
the sums of the new parts' tokens to those of the store, and completes `_append/manifest.json`: from then on the append
is decided. What remains is to move each new file to its place and to replace the store's manifest; this can be
restarted as often as it is interrupted. Until the manifest is replaced, readers see the old state, and its totals
under their permanent name; afterwards they see the new state. A plain reader, which lists directories, may see some of
the new files while they are moved, but never before.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa

from attnstore.errors import StoreError
from attnstore.store.durable import refuse_links, writing
from attnstore.store.lease import LOCK
from attnstore.store.lock import Lock, write_lock
from attnstore.store.manifest import (
    MANIFEST,
    SUMS,
    TOTALS,
    Addition,
    Manifest,
    StoredFile,
    fault_of_plan,
    read_manifest,
    write_manifest,
)
from attnstore.store.merged import LIST, MERGED, files_of, read_list
from attnstore.store.place import (
    Place,
    duplicate,
    exists,
    move,
    names_below,
    remove,
    remove_directory,
    top_names,
)
from attnstore.store.receipts import RECEIPTS, is_receipt
from attnstore.store.store import EARLIER, Store, now, open_store

if TYPE_CHECKING:
    from attnstore.store.sums import KeptSums

APPEND = "_append"


class Stage(Store):
    """The next state of a sealed store, `base`. It has only the new parts; `seal` makes it the store's state."""

    def __init__(self, base: Store, manifest: Manifest, lock: Lock) -> None:
        super().__init__(base.path / APPEND, manifest, lock)
        self.base = base
        self._before: KeptSums | None = None

    def finished_parts(self) -> list[int]:
        new = range(self.base.manifest.parts, self.manifest.parts)
        return list(new) if self.sealed else sorted(self._finished)

    def missing_parts(self) -> list[int]:
        new = range(self.base.manifest.parts, self.manifest.parts)
        return sorted(set(new).difference(self.finished_parts()))

    def columns_with_nulls(self) -> list[str]:
        before = self.base.columns_with_nulls() if self._before is None else self._before.absent
        absent = {*before, *super().columns_with_nulls()}
        return [name for name in self.tokens_schema.names if name in absent]

    def added_up(self, scratch: Path | None = None) -> Iterator[pa.Table]:
        """The summed tokens of all parts. Those of the store are read only if their sums were not kept.

        With `scratch`, inside the store, the sums are kept for the next append.
        """
        from attnstore.store.sums import forget_sums, keep_sums, kept_sums, tokens_of

        root, of_base = self.base.path, tokens_of(self.base.files())
        self._before = kept_sums(root, of_base, self.tokens_schema)
        of_all = tokens_of([*self._inherited(), *self.files()])
        forget_sums(root, but=[of_base])
        tokens = chain(() if self._before else self.base.tokens_in_order(), self.tokens_in_order())
        before = self._before.runs if self._before else ()
        with TemporaryDirectory(prefix="attnstore-") if scratch is None else nullcontext(scratch) as folder:
            keep = None if scratch is None else partial(keep_sums, root, of_all)
            yield from self._added_up(tokens, Path(folder), before, keep)
        forget_sums(root, but=[of_all])

    def place_of(self, file: StoredFile) -> Place:
        """The store's own files, which are merged with the new ones, stay where they were."""
        return self.path / file.path if file.part in self._finished else self.base.path / file.path

    def _inherited(self) -> Sequence[StoredFile]:
        return [file for file in self.base.files() if file.path != TOTALS]

    def seal(self, **manifest_changes: object) -> None:
        """Sum all tokens, old and new, and make this the state of the store.

        Raises:
            StoreError: as `Store.seal`.
        """
        *before, last = self.manifest.additions
        at = now()
        super().seal(sealed=at, additions=(*before, replace(last, sealed=at)), **manifest_changes)
        _install(self.base.path, self.manifest)


def begin_or_resume(base: Store, addition: Addition, labels_are_models: bool) -> Stage:
    """The next state of a sealed store, ready to be written: a new one, or one that an equal append left unfinished.

    Appends are equal if they have the same fingerprint and number of documents. Any append restarts one that has no
    finished part. Finished parts are read once, as by `create_or_resume`.

    Raises:
        StoreError: the store is not sealed, has changed since `base` was opened, is being written, has another
            unfinished append, or can't be written.
    """
    manifest = replace(
        base.manifest,
        documents=base.manifest.documents + addition.documents,
        labels_are_models=labels_are_models,
        additions=(*base.manifest.additions, addition),
        sealed=None,
        files=(),
        merged_from=None,
    )
    if fault := fault_of_plan(manifest):
        raise StoreError(f"can't append to {base.path}: {fault}")
    lock = write_lock(base.path)
    try:
        if read_manifest(base.path) != base.manifest:
            raise StoreError(
                f"{base.path} has changed since it was opened: run again to append to what it is now"
            )
        _refuse_links(base.path)
        unfinished = _unfinished(base.path, base.manifest)
        if unfinished is not None and _of(unfinished) == _of(manifest):
            stage = Stage(base, unfinished, lock)
            _clear_temporaries(stage.path)
            stage.drop_damaged()
            return stage
        if unfinished is not None and any(map(is_receipt, names_below(base.path / APPEND / RECEIPTS))):
            raise StoreError(
                f"{base.path}: an append of {unfinished.additions[-1].data} is not finished: the same command resumes "
                f"it; to abandon it, remove {base.path / APPEND}"
            )
        _clear(base.path)
        _keep_totals(base)
        stage = Stage(base, manifest, lock)
        write_manifest(stage.path, manifest)
        return stage
    except BaseException:
        lock.release()
        raise


def unfinished_append(store: Store) -> Manifest | None:
    """The next state of a store that is being written, or was left unfinished; None if there is none.

    It is sealed if only moving the files remains. One that can't be read counts as none.
    """
    try:
        found = read_manifest(store.path / APPEND)
    except StoreError:
        return None
    return found if found is not None and found.additions else None


def finish_append(path: str | Place) -> Store:
    """The store at `path` in its current state, after finishing an append that was decided and interrupted.

    Raises:
        StoreError: there is no store, it is being written, or can't be.
    """
    store = open_store(path)
    if not store.sealed:
        raise StoreError(
            f"{store.path} is not sealed: `attnstore run` with the same options finishes it first"
        )
    decided = unfinished_append(store)
    if decided is None or decided.sealed is None:
        _clear_up(store.path)
        return store
    with write_lock(store.path):
        _refuse_links(store.path)
        if (decided := unfinished_append(store)) is not None and decided.sealed is not None:
            _install(store.path, decided)
    return open_store(store.path)


def _unfinished(store: Place, base: Manifest) -> Manifest | None:
    """The next state of `base` that an append began and did not seal; None if there is none, or its base is another
    state.

    Raises StoreError if it can't be read.
    """
    try:
        found = read_manifest(store / APPEND)
    except StoreError as error:
        raise StoreError(f"{error}: remove {store / APPEND} to begin the append again") from error
    if found is None or found.sealed is not None or not found.additions:
        return None
    of_base = found.created == base.created and found.additions[:-1] == base.additions
    return found if of_base and found.fingerprint == base.fingerprint else None


def _of(manifest: Manifest) -> tuple[object, ...]:
    """What makes two next states equal."""
    return manifest.additions[-1].fingerprint, manifest.documents, manifest.labels_are_models


def _install(store: Place, decided: Manifest) -> None:
    """Move the files of a decided next state to their places, then replace the store's manifest. May be repeated.

    Raises StoreError if a file is in neither of its places, or can't be moved.
    """
    names = set(names_below(store / APPEND))
    # The totals last: those of the previous state are found under their permanent name.
    files = all_files(store, decided)
    for file in sorted(files, key=lambda file: file.path == TOTALS):
        if file.path in names:
            move(store, f"{APPEND}/{file.path}", file.path)
    for file in files:
        if fault := file.damage(store, hashed=False):
            raise StoreError(f"can't append to {store}: {file.path} {fault}: remove {store / APPEND}")
    write_manifest(store, decided)
    remove_directory(store, APPEND)


def all_files(store: Place, decided: Manifest) -> list[StoredFile]:
    """The files of a decided next state of the store at `store`, wherever they are by now, with the list of merged
    ones.

    Raises StoreError if that can't be read.
    """
    if (listed := decided.merged_from) is None:
        return list(decided.files)
    where = store / APPEND if exists(store / APPEND / listed.path) else store
    try:
        return [*decided.files, *files_of(read_list(where, listed)), listed]
    except StoreError as error:
        raise StoreError(f"can't append to {store}: {error}: remove {store / APPEND}") from error


def _keep_totals(base: Store) -> None:
    """Give the totals a permanent name; remove those of the state before this one, and its list of files."""
    listed = next((file for file in base.manifest.files if file.path == TOTALS), None)
    if listed is None:
        raise base.unreadable(f"{TOTALS} is not in its manifest")
    kept = f"{listed.sha256[:32]}.parquet"
    if not exists(base.path / EARLIER / kept):
        base.check_size(listed)
        duplicate(base.path, TOTALS, f"{EARLIER}/{kept}")
    behind = base.manifest.merged_from
    for name in names_below(base.path / MERGED):
        if name.startswith(LIST) and (behind is None or f"{MERGED}/{name}" != behind.path):
            with writing(base.path / MERGED / name):
                remove(base.path, f"{MERGED}/{name}")
    for name in names_below(base.path / EARLIER):
        if name != kept:
            with writing(base.path / EARLIER / name):
                remove(base.path, f"{EARLIER}/{name}")


def _clear_up(store: Place) -> None:
    """Remove what a crash at the very end of an append left."""
    if {APPEND, LOCK} & top_names(store):
        # If the lock is not available, no harm is done: the leftovers are not read.
        with suppress(StoreError), write_lock(store):
            if not exists(store / APPEND / MANIFEST):
                remove_directory(store, APPEND)


def _clear(store: Place) -> None:
    """Remove what is left of an append that finished no part. Raises StoreError if that fails."""
    remove_directory(store, APPEND)
    if APPEND in top_names(store):
        raise StoreError(f"can't write {store / APPEND}: remove it and run again")


def _clear_temporaries(stage: Place) -> None:
    for name in names_below(stage):
        # Totals and merged files without a seal are from an append that was killed while sealing.
        if name.endswith(".tmp") or name == TOTALS or name.startswith(f"{MERGED}/"):
            with writing(stage / name):
                remove(stage, name)


def _refuse_links(store: Place) -> None:
    """Raise StoreError if a directory that is written here is a link."""
    if isinstance(store, Path):
        for name in (f"{APPEND}/{RECEIPTS}/any", f"{EARLIER}/any", f"{SUMS}/any"):
            refuse_links(store, name)
