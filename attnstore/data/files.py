"""Where data are: folders, globs, the hub; their files, found by name."""

import glob
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from attnstore.config import MAX_DOCUMENT_BYTES
from attnstore.data.streams import TooLargeError, too_large
from attnstore.errors import DataError, UsageError
from attnstore.messages import listed, one_line, similar

#: A file in a data set's snapshot in the cache of the hub's client.
_SNAPSHOT = re.compile(r"((?:.*/)?)snapshots/([^/]+)/")


@dataclass(frozen=True, slots=True)
class Files:
    """Files by name ("/"-separated, relative, sorted part by part), in any place.

    `named`: the user named this single file, instead of a place with files; `chosen`: the user selected files with a
    glob. `packed`: they are in an archive. `splits` are the data set's own, by file. `states`: the identity of a
    file's current content, if known. `root`: the local folder that names are relative to.
    """

    names: Sequence[str]
    open: Callable[[str], IO[bytes]]
    named: bool = False
    notes: Sequence[str] = ()
    splits: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    chosen: bool = False
    packed: bool = False
    root: Path | None = None

    def contents(self, name: str, most: int = MAX_DOCUMENT_BYTES) -> bytes:
        """All of a file's bytes. Raises TooLargeError if there are more than `most`."""
        with self.open(name) as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise TooLargeError(f"{one_line(name)} has {too_large(most)}")
        return content


def by_parts(name: str) -> list[str]:
    """The sort key of names: as in a walk through sorted folders."""
    return name.split("/")


def folder(root: Path) -> Files:
    """The files in and under a folder, links followed."""
    names: list[str] = []

    def failed(error: OSError) -> None:
        raise error

    for folder, subfolders, files in os.walk(root, onerror=failed, followlinks=True):
        here = Path(folder)
        above = [here.resolve(), *here.resolve().parents]
        # A link to a folder above would be followed forever.
        subfolders[:] = [
            each
            for each in subfolders
            if not (here / each).is_symlink() or (here / each).resolve() not in above
        ]
        prefix = here.relative_to(root).as_posix()
        names += files if prefix == "." else [f"{prefix}/{name}" for name in files]
    names, notes, below = of_newest_snapshots(
        names, lambda name: (root / name).read_text(), lambda below: (root / below).stat().st_mtime
    )
    held = root / below
    return Files(sorted(names, key=by_parts), lambda name: _opened(held / name), notes=notes, root=held)


def _opened(path: Path) -> IO[bytes]:
    """A file, open for reading. Raises DataError for a pipe or a device, because reading would wait for its writer."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise DataError(f"{one_line(path)} is a pipe or a device, not a file: take it out of the data")
    return file


def of_newest_snapshots(
    names: Sequence[str], read: Callable[[str], str], age: Callable[[str], float]
) -> tuple[list[str], list[str], str]:
    """The names in one of a data set's snapshots in a cache of the hub, a note, and the snapshot's folder.

    It is the snapshot that `refs/main` names, else the newest. `read` returns a file's text, `age` a folder's time.
    Names outside such a cache are returned unchanged, in the folder "". Raises DataError for a cache of several data
    sets.
    """
    snapshots: dict[str, set[str]] = {}
    for name in names:
        if found := _SNAPSHOT.match(name):
            snapshots.setdefault(found[1], set()).add(found[2])
    names, notes = list(names), []
    for above, revisions in snapshots.items():
        if len(revisions) == 1:
            continue
        main = f"{above}refs/main"
        chosen = read(main).strip() if main in names else ""
        if chosen not in revisions:
            chosen = max(sorted(revisions), key=lambda each, at=above: age(f"{at}snapshots/{each}"))  # type: ignore[misc] # mypy can't type a lambda's default
        left = {f"{above}snapshots/{each}/" for each in revisions - {chosen}}
        names = [name for name in names if not name.startswith(tuple(left))]
        notes.append(f"of {len(revisions)} snapshots of the data set the newest is read ({chosen[:12]})")
    of_data = [above for above in snapshots if "datasets--" in above] or list(snapshots)
    if len(of_data) > 1:
        named = listed(sorted(above.strip("/") for above in of_data))
        raise DataError(f"a cache of several data sets ({named}): name the folder of one")
    if not of_data:
        return names, notes, ""
    (below,) = {found[0] for name in names if (found := _SNAPSHOT.match(name)) and found[1] == of_data[0]}
    return [name.removeprefix(below) for name in names if name.startswith(below)], notes, below


def neighbours(path: Path) -> Files:
    """The files in the folder of a file, including the file; empty if they can't be listed."""
    try:
        names = sorted(each.name for each in path.parent.iterdir() if each.is_file())
    except OSError:
        names = []
    return Files(names, lambda name: (path.parent / name).open("rb"))


def matching(pattern: str) -> Files:
    """The files that match a glob (`**` for any depth). Raises UsageError if there is none."""
    # glob.glob, as Path.glob takes no absolute pattern.
    paths = [Path(path) for path in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    paths = [path for path in paths if path.is_file()]
    if not paths:
        raise UsageError(f"no file matches {one_line(pattern)}")
    root = Path(os.path.commonpath([path.parent for path in paths]))
    names = sorted((path.relative_to(root).as_posix() for path in paths), key=by_parts)
    return Files(names, lambda name: (root / name).open("rb"), chosen=True)


def similar_path(path: Path) -> str:
    """The end of a message: did you mean its closest neighbour?"""
    try:
        return similar(path.name, sorted(each.name for each in path.parent.iterdir()))
    except OSError:
        return ""
