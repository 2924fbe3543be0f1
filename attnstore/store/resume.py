"""The store that a run writes: a new one, or the unfinished one of an equal run."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnstore.errors import AttnstoreError, StoreError
from attnstore.store.durable import make_directory, refuse_links, writing
from attnstore.store.lease import LOCK
from attnstore.store.lock import write_lock
from attnstore.store.manifest import (
    MANIFEST,
    MERGED_FILE,
    MERGED_FROM,
    PART_FILE,
    TOTALS,
    Manifest,
    fault_of_plan,
    read_manifest,
    write_manifest,
)
from attnstore.store.merged import MERGED
from attnstore.store.place import Place, names_below, place, remove, remove_directory, top_names
from attnstore.store.receipts import RECEIPTS, is_receipt
from attnstore.store.store import Store

#: The names of what a run writes: parts and, when sealing, merged files.
_OF_A_RUN = (PART_FILE, MERGED_FILE, MERGED_FROM)


def create_or_resume(path: str | Place, manifest: Manifest) -> Store:
    """The store at `path`, ready to be written: a new one, or the unfinished one of an equal run.

    A sealed store of an equal run is returned with nothing missing. Runs are equal if they have the same fingerprint;
    the size of the parts was fixed when the store was created. Any run restarts a store that has no finished part and
    that nobody is writing. Finished parts are read once: parts with damaged files count as missing again, and
    `Store.damaged` says so.

    Raises:
        StoreError: the store belongs to another run (each difference is named, with both values), is being written by
            another process, is neither a store nor empty, or can't be written.
    """
    store = place(path)
    if fault := fault_of_plan(manifest):
        raise StoreError(f"{store} can't be made: {fault}")
    existing = _existing(store, manifest)
    if existing is not None and existing.sealed is not None:
        _clear_up(store)
        return Store(store, existing)
    if isinstance(store, Path):
        with writing(store):
            make_directory(store)
    lock = write_lock(store)
    try:
        if isinstance(store, Path):
            refuse_links(store, f"{RECEIPTS}/any")
        existing = _existing(store, manifest)  # again: another run may have just created or sealed it
        if existing is None:
            _clear_begun(store)
            created = Store(store, replace(manifest, sealed=None, files=(), merged_from=None), lock)
            write_manifest(store, created.manifest)
            return created
        if existing.sealed is not None:
            lock.release()
            return Store(store, existing)
        # Totals and merged files without a seal are from a run that was killed while sealing.
        with suppress(OSError):
            remove(store, TOTALS)
        remove_directory(store, MERGED)
        for left_over in names_below(store / RECEIPTS):
            if left_over.endswith(".tmp"):
                with suppress(OSError):
                    remove(store, f"{RECEIPTS}/{left_over}")
        resumed = Store(store, existing, lock)
        resumed.drop_damaged()
        return resumed
    except BaseException:
        lock.release()
        raise


def threads_begun_with(path: str | Place) -> int | None:
    """How many threads computed the parts of the store at `path`, by its manifest.

    None if there is no such store, no part of it is finished, or the manifest does not say.
    """
    try:
        store = place(path)
        manifest = read_manifest(store)
        if manifest is None or manifest.threads is None or manifest.threads < 1:
            return None
        begun = manifest.sealed is not None or any(map(is_receipt, names_below(store / RECEIPTS)))
    except (AttnstoreError, OSError):  # resuming it reports what is wrong
        return None
    return manifest.threads if begun else None


def _existing(store: Place, manifest: Manifest) -> Manifest | None:
    """The manifest of the existing store, None if there is none yet; it must be from an equal run."""
    try:
        names = top_names(store)
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise StoreError(f"{store} is a file, or inside one: give a new or empty directory") from error
    except OSError as error:
        raise StoreError(f"can't read {store}: {error.strerror or error}") from error
    existing = read_manifest(store)
    if existing is None:
        # This is all that a run leaves if it is killed before it writes its manifest.
        if foreign := sorted(names - {LOCK, MANIFEST, f"{MANIFEST}.tmp"}):
            raise StoreError(
                f"{store} is not empty and not a store ({foreign[0]} is in it): give a new or empty directory"
            )
        return None
    if found := differences(existing, manifest):
        if existing.sealed is None and not any(map(is_receipt, names_below(store / RECEIPTS))):
            return None  # it ended before its first part was finished: there is nothing to continue
        way = "" if existing.sealed else "run with the store's settings to resume it, "
        raise StoreError(
            f"{store} holds another run: {'; '.join(found)}: {way}give another name, or delete it first"
        )
    return existing


def differences(
    stored: Manifest, ours: Manifest, but: frozenset[str] = frozenset(), how: str = "in this run"
) -> list[str]:
    """What makes the runs of two manifests different, each with both values; `but` are names that do not count."""
    sides = []
    for manifest in (stored, ours):
        raw = json.loads(manifest.to_json())  # as in the store, where tuples are lists
        raw["documents"] = manifest.sizes[0]  # later appends are not part of the run
        # Beside the fingerprint: what determines the form of the tables.
        form = (
            "documents",
            "labels",
            "label_in_path",
            "split_in_files",
            "layers",
            "heads",
            "reductions",
            "max_length",
        )
        sides.append({**{name: raw[name] for name in form}, **raw["fingerprint"]})
    theirs, mine = sides

    def shown(side: dict[str, Any], name: str) -> str:
        if name not in side:
            return "not set"
        return "none" if side[name] is None else json.dumps(side[name], ensure_ascii=False)

    def worded(name: str) -> str:
        what, hashed, _ = name.partition("_sha256")
        if hashed:  # hashes are long
            of = "data" if what == "data" else "model"
            one, other = getattr(stored, of), getattr(ours, of)
            if one == other:
                read = ", or is read with other options" if what == "data" else ""
                return f"the {what} differs by its SHA-256: {one} has changed{read}"
            return f"the {what} differs by its SHA-256: {one} in the store, {other} {how}"
        return f"{name} is {shown(theirs, name)} in the store, {shown(mine, name)} {how}"

    return [
        worded(name)
        for name in dict.fromkeys([*ours.fingerprint, *stored.fingerprint, *theirs])
        if name not in but and (name not in theirs or name not in mine or theirs[name] != mine[name])
    ]


def _clear_up(store: Place) -> None:
    """Remove what a crash after sealing, but before the end of the run, left in a sealed store."""
    if {RECEIPTS, LOCK} & top_names(store):
        # If the lock is not available, no harm is done: the leftovers are not read.
        with suppress(StoreError), write_lock(store):
            remove_directory(store, RECEIPTS)


def _clear_begun(store: Place) -> None:
    """Remove the files of a run that finished no part: a plain reader would take them for the next run's."""
    for name in names_below(store):
        temporary = name.startswith(f"{RECEIPTS}/") and name.endswith(".tmp")
        if temporary or name == TOTALS or any(form.fullmatch(name) for form in _OF_A_RUN):
            if isinstance(store, Path):
                refuse_links(store, name)
            with writing(store / name):
                remove(store, name)
