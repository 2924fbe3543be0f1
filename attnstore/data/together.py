"""Decides which tables in one place are one data set, and which are copies or belong to another data set.

Folders named after splits (`train/`) or with Hive keys (`label=pos`) are parts of one data set. In other folders, the
tables of the topmost folder are read instead of those below that have the same splits or file names. Folders side by
side with the same splits or file names are different data sets, and are refused. Equal files are read once. A note
lists the files that are read as one.
"""

import hashlib
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from attnstore.data.files import Files
from attnstore.data.splits import SPLIT_WORDS
from attnstore.data.streams import decompressed
from attnstore.data.tables import Table, without_compression
from attnstore.errors import DataError
from attnstore.messages import counted, listed, one_line

_PIECE = 1 << 20
#: The most tables among which copies are looked for; more are parts of one table.
_MOST = 1000


def of_one_set(tables: Sequence[Table], files: Files, data: str, notes: list[str]) -> list[Table]:
    """The tables to read among those in `files`, called `data`. Adds notes on what is left out or read as one.

    Raises DataError for several data sets, and for two versions of one table.
    """
    found = list(tables)
    if not files.chosen:
        found = _of_one_folder(found, files, data, notes)
    found = _without_copies(found, notes)
    for split in dict.fromkeys(table.split for table in found):
        names = [table.name for table in found if table.split == split]
        if len({_numberless(name) for name in names}) > 1 or len(set(map(own_folder, names))) > 1:
            whole = "one data set" if split is None else f"the split {one_line(split)}"
            notes.append(f"{counted(len(names), 'file')} are read as {whole}: {listed(names)}")
    return found


def refuse_folders(folders: Iterable[str], files: Files, data: str) -> None:
    """Raise a DataError that says that these folders are different data sets."""
    folders = sorted(folders)
    first = posixpath.basename(folders[0])
    one = f"--data FILE::'*{first}/*'" if files.packed else f"--subset {first}"
    several = "" if files.packed else ", or several with a glob"
    raise DataError(
        f"{one_line(data)} holds several data sets, each in its own folder ({listed(folders)}): name one with"
        f" {one_line(one)}{several}"
    )


def own_folder(name: str) -> str:
    """The folder of a file, without the parts of its path that are named after splits or are Hive keys."""
    parts = name.split("/")[:-1]
    return "/".join(part for part in parts if part.lower() not in SPLIT_WORDS and "=" not in part)


def _of_one_folder(tables: Sequence[Table], files: Files, data: str, notes: list[str]) -> list[Table]:
    """The tables without those in other folders that are another version of them, or another data set."""
    by_folder: dict[str, list[Table]] = defaultdict(list)
    for table in tables:
        by_folder[own_folder(table.name)].append(table)
    if len(by_folder) == 1 or any(table.name in files.splits for table in tables):
        return list(tables)
    top = posixpath.commonpath([f"/{folder}" for folder in by_folder])[1:]
    if top in by_folder:
        here = _signs(by_folder[top])
        below = [folder for folder in by_folder if folder != top and here & _signs(by_folder[folder])]
        left = [table for folder in below for table in by_folder[folder]]
        if left:
            notes.append(
                f"{counted(len(left), 'file')} in {listed(below)} {'is' if len(left) == 1 else 'are'} not read, as"
                f" {listed([table.name for table in by_folder[top]])} {'is' if len(by_folder[top]) == 1 else 'are'}:"
                " name a folder, or several files with a glob"
            )
        return [table for table in tables if table not in left]
    folders = list(by_folder)
    # Days and years are parts of one data set.
    if not all(re.fullmatch(r"[\d._-]+", posixpath.basename(folder)) for folder in folders):
        for place, folder in enumerate(folders):
            if any(_signs(by_folder[folder]) & _signs(by_folder[other]) for other in folders[:place]):
                refuse_folders(folders, files, data)
    return list(tables)


def _signs(tables: Sequence[Table]) -> set[str | tuple[str]]:
    """The names and splits of tables: if two folders have one in common, each is a complete data set."""
    names = {posixpath.basename(table.name) for table in tables}
    return {*names, *((table.split,) for table in tables if table.split is not None)}


def _without_copies(tables: Sequence[Table], notes: list[str]) -> list[Table]:
    """The tables without those that equal another one, byte for byte or except for the compression."""
    if len(tables) > _MOST:
        return list(tables)
    by_stem: dict[str, list[Table]] = defaultdict(list)
    by_size: dict[int, list[Table]] = defaultdict(list)
    for table in tables:
        by_stem[without_compression(table.name)].append(table)
        with table.open(table.name) as file:
            by_size[file.seek(0, 2)].append(table)
    copies: set[str] = set()
    for alike in by_stem.values():
        for other in alike[1:]:
            if _content(other, whole=True) != _content(alike[0], whole=True):
                raise DataError(
                    f"{one_line(alike[0].name)} and {one_line(other.name)} are two versions of one table: name one"
                    " with --data"
                )
            notes.append(_read_once(alike[0], other))
            copies.add(other.name)
    for same_size in by_size.values():
        first: dict[bytes, Table] = {}
        if len(same_size) < 2:
            continue
        for table in sorted(same_size, key=lambda each: (len(each.name), each.name)):
            before = first.setdefault(_content(table), table)
            if before is table or table.name in copies:
                continue
            if before.split != table.split:
                notes.append(
                    f"{one_line(table.name)} and {one_line(before.name)} are the same, byte for byte: two splits of"
                    " the same documents"
                )
            elif before.partition == table.partition:
                notes.append(_read_once(before, table))
                copies.add(table.name)
    return [table for table in tables if table.name not in copies]


def _read_once(table: Table, copy: Table) -> str:
    return f"{one_line(copy.name)} is the same as {one_line(table.name)}, which is read: it is left out"


def _content(table: Table, whole: bool = False) -> bytes:
    """What a file's bytes are known by, decompressed if asked for."""
    digest = hashlib.sha256()
    with table.open(table.name) as file, decompressed(file) if whole else file as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.digest()


def _numberless(name: str) -> str:
    """A name without what numbers the parts of a table: figures, and the identifiers of Spark's."""
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]+", "0", posixpath.basename(name).lower())
