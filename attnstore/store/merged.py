"""Small files once more, many in one: to open a file takes longer than to read a small one.

    STORE/
      _merged/tokens/split=test/label=pos/part-00000-00511.parquet      the rows of those parts, in their order

Parts are the unit in which a run goes on; where they are small, thousands of files would be opened for an answer. So
sealing writes the rows of such files once more, and what the package reads it reads from there. The parts' own files
stay: plain readers read them, and `verify` compares the two. Which files are merged follows from their sizes alone.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import itemgetter

from attnstore.store.manifest import MERGED_FILE, StoredFile

MERGED = "_merged"
#: Bytes of a file that is merged with others, and of those that become one together: at most.
SMALL, TOGETHER = 1 << 18, 1 << 23
#: Fewer files in a row than this are left as they are.
MANY = 32


def of_merged(files: Iterable[StoredFile]) -> list[tuple[StoredFile, list[StoredFile]]]:
    """Each merged file with the parts' files whose rows it holds, in their order.

    Raises:
        ValueError: two hold the same part, or one has not as many rows as its parts.
    """
    files = list(files)
    if not any(file.path.startswith(f"{MERGED}/") for file in files):
        return []
    directories = _by_directory(files)
    numbers = {directory: [part for part, _ in parts] for directory, parts in directories.items()}
    found: list[tuple[StoredFile, list[StoredFile]]] = []
    taken: set[str] = set()
    for file in files:
        if name := MERGED_FILE.fullmatch(file.path):
            of_directory = numbers.get(name[1], [])
            places = slice(bisect_left(of_directory, int(name[2])), bisect_right(of_directory, int(name[3])))
            held = [part for _, part in directories.get(name[1], [])[places]]
            if any(part.path in taken for part in held) or sum(part.rows for part in held) != file.rows:
                raise ValueError(f"{file.path} has not the rows of the parts that it names, each once")
            taken.update(part.path for part in held)
            found.append((file, held))
    return found


def in_their_place(files: Iterable[StoredFile]) -> list[StoredFile]:
    """The files that hold all rows, each once: the merged ones, and those of parts that are in none."""
    files = list(files)
    merged = of_merged(files)
    if not merged:
        return files
    held = {file.path for file in chain.from_iterable(parts for _, parts in merged)}
    return [file for file in files if file.path not in held]


def to_be_merged(files: Iterable[StoredFile]) -> list[list[StoredFile]]:
    """Which parts' files become one together: small ones that follow one another in a directory and are in none yet."""
    groups: list[list[StoredFile]] = []
    for of_directory in _by_directory(in_their_place(files)).values():
        groups.append([])
        size = 0
        for _, file in of_directory:
            if file.bytes > SMALL or size + file.bytes > TOGETHER:
                groups.append([])
                size = 0
            if file.bytes <= SMALL:
                groups[-1].append(file)
                size += file.bytes
    return [group for group in groups if len(group) >= MANY]


def merged_name(group: Sequence[StoredFile]) -> str:
    """The path of the file that a group of `to_be_merged` becomes."""
    directory, _, first = group[0].path.rpartition("/")
    last = group[-1].path.rpartition("/part-")[2]
    return f"{MERGED}/{directory}/{first.removesuffix('.parquet')}-{last}"


def _by_directory(files: Iterable[StoredFile]) -> dict[str, list[tuple[int, StoredFile]]]:
    """The parts' files of each directory with their parts, in the order of these."""
    found: dict[str, list[tuple[int, StoredFile]]] = {}
    for file in files:
        if (part := file.part) is not None:
            found.setdefault(file.path.rpartition("/")[0], []).append((part, file))
    return {directory: sorted(of_directory, key=itemgetter(0)) for directory, of_directory in found.items()}
