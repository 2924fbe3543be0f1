"""Data in buckets: objects below a prefix are read in place, like files in a folder.

A listing fixes the state of each object to read: an object that is rewritten meanwhile is an error, not a mixture of
two states.
"""

import glob
import posixpath
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import IO

from attnstore.buckets import Bucket, Known
from attnstore.data.class_names import DESCRIPTIONS, NAMES_JSON, NAMES_TEXT
from attnstore.data.files import Files, by_parts, of_newest_snapshots
from attnstore.errors import UsageError
from attnstore.messages import one_line


def bucket_files(address: str) -> Files:
    """The object at an address, those below it, or those that match it as a glob; names are relative to it.

    Raises UsageError if there is nothing or no such bucket, and OSError if the server does not answer or refuses.
    """
    place = Bucket.at(address)
    try:
        if place.key and not address.endswith("/") and (known := _object(place)) is not None:
            return _files(place.parent, {place.name: known}, named=True)
        if glob.has_magic(place.key):
            return _matching(place)
        found = _without_folders(place.objects())
    except FileNotFoundError as error:  # from a listing: the bucket does not exist
        raise UsageError(f"{one_line(address)}: {error.strerror}") from None
    if not found:
        raise UsageError(f"there is nothing at {one_line(address)}")
    return _files(place, found)


def beside_in_bucket(address: str) -> Files:
    """The files beside an object that may have the names of the classes. Refused ones count as missing."""
    folder = Bucket.at(address).parent
    found = {}
    for name in (*NAMES_JSON, *NAMES_TEXT, *DESCRIPTIONS):
        with suppress(OSError):
            found[name] = (folder / name).known()
    return _files(folder, found)


def _object(place: Bucket) -> Known | None:
    """What the server knows of an object; None if it does not exist."""
    try:
        return place.known()
    except FileNotFoundError:
        return None


def _files(root: Bucket, found: dict[str, Known], named: bool = False, chosen: bool = False) -> Files:
    names, notes, below = of_newest_snapshots(
        list(found),
        lambda name: (root / name).read_bytes().decode(errors="replace"),
        lambda folder: max(known.written for name, known in found.items() if name.startswith(f"{folder}/")),
    )

    def opened(name: str) -> IO[bytes]:
        return (root / (below + name)).open(found[below + name].size, tag=found[below + name].tag)

    states = {name: " ".join(map(str, (root / (below + name), *found[below + name].tag))) for name in names}
    return Files(sorted(names, key=by_parts), opened, named, notes, states=states, chosen=chosen)


def _without_folders(found: dict[str, Known]) -> dict[str, Known]:
    """The objects without those that represent a folder: empty ones with others below."""
    above = {""}
    for name in found:
        while (name := posixpath.dirname(name)) not in above:
            above.add(name)
    return {name: known for name, known in found.items() if known.size or name not in above}


def _matching(pattern: Bucket) -> Files:
    """The objects that match a glob. Raises UsageError if there is none."""
    parts = pattern.key.split("/")
    fixed = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    root = Bucket("/".join([f"{pattern.scheme}://{pattern.bucket}", *parts[:fixed]]))
    found = {
        name: known
        for name, known in _without_folders(root.objects()).items()
        if _matches(name.split("/"), parts[fixed:])
    }
    if not found:
        raise UsageError(f"no object matches {one_line(pattern)}")
    shared = posixpath.commonpath([posixpath.dirname(name) for name in found])
    if shared:
        root, found = root / shared, {name[len(shared) + 1 :]: known for name, known in found.items()}
    return _files(root, found, chosen=True)


def _matches(name: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a name match those of a glob; `**` matches any number of parts.

    As in a folder, a part that begins with a dot must be given explicitly.
    """
    if not pattern:
        return not name
    if pattern[0] == "**":
        return _matches(name, pattern[1:]) or (
            bool(name) and not name[0].startswith(".") and _matches(name[1:], pattern)
        )
    return (
        bool(name)
        and (pattern[0].startswith(".") or not name[0].startswith("."))
        and fnmatchcase(name[0], pattern[0])
        and _matches(name[1:], pattern[1:])
    )
