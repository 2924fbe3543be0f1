"""Receipts: each confirms that a part of an unsealed store is complete, and lists its files."""

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
    """The name of one part's files, without its ending."""
    return f"part-{part:05d}"


def is_receipt(name: str) -> bool:
    """Whether a file in `_parts` is a receipt, by its name there."""
    return _NAME.fullmatch(name) is not None


def write_receipt(store: Place, part: int, files: Sequence[StoredFile], writer: str) -> None:
    """Confirm that all of a part's files exist. Raises StoreError if the receipt can't be written.

    `writer` is in the temporary name: simultaneous writers have different ones.
    """
    content = json.dumps({"part": part, "files": [asdict(file) for file in files]}, indent=1).encode()
    name = f"{RECEIPTS}/{part_name(part)}.json"
    put(store, name, content, f"{name}.{writer}.tmp")


def remove_receipt(store: Place, part: int) -> None:
    """Withdraw a part's receipt, so that the part counts as missing."""
    remove(store, f"{RECEIPTS}/{part_name(part)}.json")


def read_receipts(
    store: Place, parts: int, hashed: bool = False
) -> tuple[dict[int, tuple[StoredFile, ...]], dict[int, str]]:
    """The files of each finished part, and what is wrong with each other part that has a receipt.

    `parts`: how many the plan has. A receipt counts only if all its files exist with their original size and, if
    `hashed`, SHA-256.
    """
    finished: dict[int, tuple[StoredFile, ...]] = {}
    damaged: dict[int, str] = {}
    # One request to a bucket gives all sizes.
    sizes = store.sizes() if isinstance(store, Bucket) else None
    for receipt in names_below(store / RECEIPTS) if sizes is None else _receipts_of(sizes):
        if (name := _NAME.fullmatch(receipt)) is None or int(name[1]) >= parts:
            continue
        part = int(name[1])
        try:
            files = _files_of(store / RECEIPTS / receipt, part)
        except FileNotFoundError:  # the store was sealed in the meantime
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
    """The files that a receipt confirms. Raises ValueError if it is not a receipt of that part."""
    raw = plain_json(read_text(receipt))
    if not isinstance(raw, dict) or raw.get("part") != part:
        raise ValueError("of another part")
    files: tuple[StoredFile, ...] = as_type("files", raw.get("files"), tuple[StoredFile, ...])
    if fault := fault_of_files(files):
        raise ValueError(fault)
    if any(file.part != part for file in files):
        raise ValueError("it lists a file of another part")
    return files
