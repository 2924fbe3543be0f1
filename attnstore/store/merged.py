"""Small files copied into larger ones, because opening a file takes longer than reading a small one.

    STORE/
      _merged/tokens/split=test/label=pos/part-00000-00511.parquet      the rows of those parts, in their order
      _merged/from-5f70….parquet                                        the parts' files that were merged

A run resumes by parts; if they are small, an answer would open thousands of files. So sealing writes the rows of such
files a second time, and the package reads from there. The parts' own files stay: plain readers read them, and `verify`
compares the two. Only the sizes decide which files are merged.

The manifest lists files that have all rows once. The parts' files behind merged ones are in a separate list with its
SHA-256 in its name: it is read only when one of them is, so opening a store does not wait for thousands of names.
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from attnstore.errors import StoreError
from attnstore.store.manifest import MERGED_FILE, MOST_PARTS, StoredFile, fault_of_files
from attnstore.store.parquet import parquet
from attnstore.store.place import Place, opened

MERGED = "_merged"
LIST = "from-"
_LIST = pa.schema(
    [
        pa.field(name, type_, nullable=False)
        for name, type_ in (
            ("path", pa.string()),
            ("rows", pa.int64()),
            ("bytes", pa.int64()),
            ("sha256", pa.string()),
        )
    ]
)
#: The most bytes of a file that is merged with others, and of those that become one.
SMALL, TOGETHER = 1 << 18, 1 << 23
#: Fewer consecutive files than this are left as they are.
MANY = 32


def of_merged(files: Iterable[StoredFile]) -> list[tuple[StoredFile, list[StoredFile]]]:
    """Each merged file with the parts' files whose rows it has, in order.

    Raises:
        ValueError: two have the same part, or one does not have as many rows as its parts.
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


def without_merged_parts(files: Iterable[StoredFile]) -> list[StoredFile]:
    """The files that have all rows once: merged files, and those of parts that are not merged."""
    files = list(files)
    merged = of_merged(files)
    if not merged:
        return files
    held = {file.path for file in chain.from_iterable(parts for _, parts in merged)}
    return [file for file in files if file.path not in held]


def to_be_merged(files: Iterable[StoredFile]) -> list[list[StoredFile]]:
    """The groups of parts' files to merge: small, consecutive in a directory, and not merged yet."""
    groups: list[list[StoredFile]] = []
    for of_directory in _by_directory(without_merged_parts(files)).values():
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
    """The path of the merged file for a group of `to_be_merged`."""
    directory, _, first = group[0].path.rpartition("/")
    last = group[-1].path.rpartition("/part-")[2]
    return f"{MERGED}/{directory}/{first.removesuffix('.parquet')}-{last}"


def list_of(files: Iterable[StoredFile]) -> tuple[StoredFile, pa.Buffer]:
    """The file that lists these, with a name that follows from its content, and that content."""
    rows = sorted((file.path, file.rows, file.bytes, file.sha256) for file in files)
    columns = [
        pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _LIST, strict=True)
    ]
    content = parquet(pa.table(columns, schema=_LIST), _LIST)
    sha256 = hashlib.sha256(content).hexdigest()
    return StoredFile(f"{MERGED}/{LIST}{sha256[:32]}.parquet", len(rows), content.size, sha256), content


def read_list(store: Place, listed: StoredFile) -> pa.Table:
    """What `list_of` wrote, one row per file.

    Raises:
        StoreError: it is not as it was written.
    """
    fault = listed.damage(store, hashed=False)
    try:
        if fault is None:
            with opened(store / listed.path) as file:
                content = file.read()
            if hashlib.sha256(content).hexdigest() != listed.sha256:
                fault = "its SHA-256 is not the one recorded: it is damaged"
            else:
                with pq.ParquetFile(pa.BufferReader(content)) as parquet:
                    if parquet.schema_arrow.equals(_LIST) and _holds(parquet.metadata, listed.rows):
                        return parquet.read(use_threads=False)
                fault = "is no list of a store's files"
    except (pa.ArrowException, OSError, ValueError) as error:
        fault = f"can't be read: {str(error).partition(chr(10))[0]}"
    raise StoreError(f"{listed.path} {fault}")


def _holds(footer: pq.FileMetaData, rows: int) -> bool:
    """Whether a list has this many rows, and no more than a small file has bytes for names and hashes."""
    groups = map(footer.row_group, range(footer.num_row_groups))
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    # A dictionary's single long text might be in a million rows.
    plain = not any("DICTIONARY" in encoding for column in columns for encoding in column.encodings)
    size = sum(column.total_uncompressed_size for column in columns)
    return plain and footer.num_rows == rows <= 10 * MOST_PARTS and size <= 2_000 * rows


def files_of(table: pa.Table, parts: Collection[int] | None = None) -> list[StoredFile]:
    """The files of a list; `parts`: only of these parts, which are found without checking every name.

    Raises StoreError for anything but a list of a store's files.
    """
    if parts is not None:
        numbers = pc.extract_regex(table["path"], r"/part-(?P<part>[0-9]{5,9})\.parquet$")
        numbers = pc.struct_field(numbers, "part").cast(pa.int64()).to_numpy()
        table = table.filter(pa.array(np.isin(numbers, sorted(parts))))
    columns = [table[name].to_pylist() for name in _LIST.names]
    files = [StoredFile(*row) for row in zip(*columns, strict=True)]
    if fault := fault_of_files(files):
        raise StoreError(f"the list of what is merged is damaged: {fault}")
    return files


def with_merged(files: Iterable[StoredFile], behind: pa.Table) -> list[StoredFile]:
    """All of a store's files: those that have all rows once, and those of the list behind them.

    Raises StoreError if merged files do not have the rows of the others.
    """
    files = [*files, *files_of(behind)]
    try:
        held = len(files) - len(without_merged_parts(files))
    except ValueError as error:
        raise StoreError(f"manifest.json is damaged: {error}") from error
    if held != len(behind):
        raise StoreError("the list of what is merged is damaged: it has files that are in no merged one")
    return files


def _by_directory(files: Iterable[StoredFile]) -> dict[str, list[tuple[int, StoredFile]]]:
    """The parts' files of each directory with their parts, in order of the parts."""
    found: dict[str, list[tuple[int, StoredFile]]] = {}
    for file in files:
        if (part := file.part) is not None:
            found.setdefault(file.path.rpartition("/")[0], []).append((part, file))
    return {directory: sorted(of_directory, key=itemgetter(0)) for directory, of_directory in found.items()}
