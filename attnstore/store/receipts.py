"""Receipts: what says that a part of an unsealed store is wholly there, and of which files it consists."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from attnstore.buckets import Bucket
from attnstore.store.manifest import StoredFile, as_type, fault_of_files, plain_json
from attnstore.store.place import Place, names_below, put, read_text, remove

RECEIPTS = "_parts"
_NAME = re.compile(r"part-([0-9]{5,9})\.json")


def part_name(part: int) -> str:
    """The name of everything of one part, without its ending."""
    return f"part-{part:05d}"


def is_receipt(name: str) -> bool:
    """Whether a file in `_parts` is a receipt, by its name there."""
    return _NAME.fullmatch(name) is not None


def write_receipt(store: Place, part: int, files: Sequence[StoredFile], writer: str) -> None:
    """Vouch for a part's files, which are all there. Raises StoreError if it can't be written.

    `writer` is in the temporary name: no two that write at the same time have the same.
    """
    content = json.dumps({"part": part, "files": [asdict(file) for file in files]}, indent=1).encode()
    name = f"{RECEIPTS}/{part_name(part)}.json"
    put(store, name, content, f"{name}.{writer}.tmp")


def remove_receipt(store: Place, part: int) -> None:
    """Vouch for a part no longer: it counts as missing."""
    remove(store, f"{RECEIPTS}/{part_name(part)}.json")


def read_receipts(
    store: Place, parts: int, hashed: bool = False
) -> tuple[dict[int, tuple[StoredFile, ...]], dict[int, str]]:
    """The files of each finished part, and for each other one that has a receipt, what is wrong with it.

    `parts`: how many the plan has. A receipt is worth no more than its files: all have to be there, of the size that
    they were written with and, if `hashed`, of the same SHA-256.
    """
    finished: dict[int, tuple[StoredFile, ...]] = {}
    damaged: dict[int, str] = {}
    # A bucket is asked once for all sizes, and not for each file's.
    sizes = store.sizes() if isinstance(store, Bucket) else None
    for receipt in names_below(store / RECEIPTS) if sizes is None else _receipts_of(sizes):
        if (name := _NAME.fullmatch(receipt)) is None or int(name[1]) >= parts:
            continue
        part = int(name[1])
        try:
            files = _files_of(store / RECEIPTS / receipt, part)
        except FileNotFoundError:  # the store has been sealed while we looked
            continue
        except (OSError, ValueError):
            damaged[part] = f"its receipt {RECEIPTS}/{receipt} is damaged"
            continue
        faults = ((file, file.damage(store, hashed, sizes)) for file in files)
        wrong = next((f"{file.path}: {fault}" for file, fault in faults if fault), None)
        if wrong is None:
            finished[part] = files
        else:
            damaged[part] = wrong
    return finished, damaged


def _receipts_of(sizes: Mapping[str, int]) -> list[str]:
    """The names of the receipts among those of a whole store."""
    return [name.removeprefix(f"{RECEIPTS}/") for name in sizes if name.startswith(f"{RECEIPTS}/")]


def _files_of(receipt: Place, part: int) -> tuple[StoredFile, ...]:
    """The files that a receipt vouches for. Raises ValueError if it is not one of that part."""
    raw = plain_json(read_text(receipt))
    if not isinstance(raw, dict) or raw.get("part") != part:
        raise ValueError("of another part")
    files: tuple[StoredFile, ...] = as_type("files", raw.get("files"), tuple[StoredFile, ...])
    if fault := fault_of_files(files):
        raise ValueError(fault)
    if any(file.part != part for file in files):
        raise ValueError("it lists a file of another part")
    return files
