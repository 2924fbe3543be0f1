"""Opens a data set of any usual form, as a stream of documents.

A source is read in streams and as often as needed; only one row is in memory, besides the names of a folder's or a zip
archive's files, and for IMDb the films' ids. In order of detection:

* the word `imdb` (a download), `-` (the standard input), an address (`hf://datasets/...`, `https://...`), a folder,
  a file, a glob, the name of a data set of the hub;
* gzip, zstd, bzip2, xz, tar, zip and Parquet by their first bytes, the kinds of text by their names:
  `.csv`, `.tsv` or `.tab`, `.jsonl`, `.ndjson` or `.json`, `.parquet`, `.arrow` or `.feather`;
* splits: folders above the class folders; else files whose names contain a split's name as a word (`train.csv`,
  `imdb-test-00000-of-00001.parquet`) or that are in a folder with that name, or Hive's `split=test`; else the values
  of a table's column `split`.

The source's own ids are kept as they are, even if they repeat: finding every repetition would take memory proportional
to the number of documents. `survey` reports one that it meets early.
"""

import glob
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from attnstore.buckets import is_bucket_address
from attnstore.config import MAX_DOCUMENT_BYTES, SourceConfig
from attnstore.data.archives import put_aside, tar_members, zip_members
from attnstore.data.arrow import of_saved
from attnstore.data.class_names import NAMES_TEXT
from attnstore.data.class_names import beside as names_beside
from attnstore.data.configurations import of_configuration
from attnstore.data.databases import database_kind, kind_of_database, of_database
from attnstore.data.documents import Document, Rejected, Source
from attnstore.data.files import Files, folder, matching, neighbours, similar_path
from attnstore.data.foreign import is_no_data, refuse_foreign, refuse_misnamed, refuse_store
from attnstore.data.imdb import fetch_imdb
from attnstore.data.in_buckets import beside_in_bucket, bucket_files
from attnstore.data.in_memory import contents_of
from attnstore.data.judging import (
    as_document,
    as_label,
    in_encoding,
    mostly_utf8,
)
from attnstore.data.lines import LineFiles, line_files, lines_of
from attnstore.data.remote import (
    copied,
    fetched,
    hub_files,
    is_hub_name,
    remote_files,
    standard_input,
    without_secrets,
)
from attnstore.data.splits import note_on_missing_splits, wanted_splits
from attnstore.data.streams import TooLargeError, decompressed, known_encoding, reading, too_large, within
from attnstore.data.table_sets import open_tables
from attnstore.data.tables import (
    Kind,
    Table,
    kind_of,
    table_at,
)
from attnstore.data.texts import URLS, TextTree, lay_out, refuse_other_endings
from attnstore.data.together import of_one_set, own_folder, refuse_folders
from attnstore.errors import DataError, UsageError
from attnstore.events import OnEvent, ignore
from attnstore.messages import counted, listed, one_line, quoted, similar

_KINDS_READ = (
    "attnstore reads .csv, .tsv, .json, .jsonl, .parquet, .arrow, .feather, .xlsx (also compressed), SQLite, DuckDB,"
    " folders of .txt, tar and zip archives"
)
_MAGIC: dict[bytes, Kind] = {
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"FEA1": "arrow",
    b"\xd0\xcf\x11\xe0": "excel",
}
#: Endings of files that may have a text or a label on each line.
_LINE_ENDINGS = ("", ".txt", ".text", ".pos", ".neg", ".ft", ".label", ".labels", ".source", ".target")
_LOOKED_AT = 20  # how many files of a source have their beginning inspected
_HELD = 1 << 27  # most bytes of an archive's texts kept in memory between inspecting and reading it
_LINE_FILES = 50  # with more text files, each is a document


def open_source(config: SourceConfig, *, on_event: OnEvent = ignore) -> Source:
    """Find the data set and how to read it; for `imdb`, download it first unless the cache has it.

    `on_event` gets `Downloaded` during a download. Raises UsageError for what does not exist (the path, the split, a
    column), naming what does, and DataError for what can't be read.
    """
    source = _opened(config, on_event)
    if len(source.kept) < len(config.keep):
        raise UsageError(
            f"--keep-column {one_line(config.keep[0])}: {one_line(source.name)} has no columns to keep"
        )
    return source


def _opened(config: SourceConfig, on_event: OnEvent) -> Source:
    data = config.data
    if config.limit is not None and config.limit < 1:
        raise UsageError(f"--limit must be at least 1, not {config.limit}")
    if config.encoding is not None:
        known_encoding(config.encoding)
    if config.held is not None:
        return _open_held(config)
    if not data.strip():
        raise UsageError(
            "--data is empty: name a folder, a file, an archive, a glob, hf://datasets/... or imdb"
        )
    with reading(without_secrets(data) if "://" in data else data):
        if data == "imdb":
            return _open_file(fetch_imdb(on_event), config)
        if data == "-":
            return _open_file(standard_input(), config)
        if data.startswith("hf://"):
            return _open_elsewhere(hub_files(data), config)
        if "://" in data:
            return _open_address(data, config)
        return _open_path(Path(data).expanduser(), config)


def _open_held(config: SourceConfig) -> Source:
    """A source in the program's memory."""
    tables = [
        Table(split or "data", "arrow", split, {}, _no_file, content)
        for split, content in contents_of(config.held).items()
    ]
    return open_tables(tables, config, Files([], _no_file))


def _no_file(name: str) -> IO[bytes]:
    raise FileNotFoundError(name)


def _open_address(address: str, config: SourceConfig) -> Source:
    """A remote source. Files on a web server are fetched first; the rest is read in place."""
    if is_bucket_address(address):
        return _open_in_bucket(address, config)
    config = replace(config, data=without_secrets(address))
    if address.startswith(("http://", "https://")):
        address, inside, member = address.partition("::")
        return _open_file(fetched(address), config, member if inside else None)
    return _open_elsewhere(remote_files(address), config)


def _open_in_bucket(address: str, config: SourceConfig) -> Source:
    """A source in a bucket."""
    archive, inside, member = address.rpartition("::")
    try:
        files = bucket_files(address)
    except UsageError:
        if not inside or not (files := bucket_files(archive)).named:
            raise
        return _open_elsewhere(files, config, member)
    return _open_elsewhere(files, config, beside=beside_in_bucket(address) if files.named else None)


def _open_path(path: Path, config: SourceConfig) -> Source:
    """A source on this machine."""
    data = config.data
    archive, inside, member = data.rpartition("::")
    if inside and not path.exists() and Path(archive).expanduser().is_file():
        return _open_file(Path(archive).expanduser(), config, member)
    if path.is_dir():
        files = folder(path)
        held = [name for name in files.names if not is_no_data(name)]
        root = files.root or path
        alone = len(held) == 1 and (root / held[0]).is_file()  # reading a pipe would wait
        if alone and (_is_archive(held[0]) or database_kind(root / held[0])):
            return _open_file(root / held[0], config)
        return _open_place(files, config)
    if path.is_file():
        return _open_file(path, config)
    if path.exists():
        raise DataError(f"{one_line(data)} is neither a file nor a folder")
    if glob.has_magic(data):
        return _open_files(matching(str(path)), config)
    if is_hub_name(data) and not _kind(data, config) and not _is_archive(data):
        address = f"hf://datasets/{data}"
        with reading(address):
            return _open_elsewhere(hub_files(address), config)
    raise UsageError(f"no such file or folder: {one_line(data)}{similar_path(path)}")


def _open_place(files: Files, config: SourceConfig) -> Source:
    """A source in a folder, which may have configurations."""
    files = of_configuration(files, config)
    source = _open_files(files, config)
    return replace(source, notes=(*files.notes, *source.notes))


def _open_elsewhere(
    files: Files, config: SourceConfig, member: str | None = None, beside: Files | None = None
) -> Source:
    """A source at an address, which may have configurations. See `_open_files` for `beside`.

    What can't be read in place, an archive, a database or a workbook, is first copied to this machine's disk.
    """
    files = of_configuration(files, config)
    held = [name for name in files.names if files.named or not is_no_data(name)]
    if len(held) == 1 and _needs_a_disk(files, held[0], config):
        path = copied(files, held[0], config.data)
        source = _open_file(path, replace(config, subset=None), member, beside or files)
    elif member is not None:
        raise UsageError(
            f"{one_line(config.data)}: it is not an archive, so it has no member {quoted(member)}"
        )
    else:
        source = _open_files(files, config, beside)
    return replace(source, notes=(*files.notes, *source.notes))


def _needs_a_disk(files: Files, name: str, config: SourceConfig) -> bool:
    """Whether a file is an archive, a database or a workbook, by its first bytes or its name."""
    if _kind(name, config) == "excel" or _is_archive(name):
        return True
    with files.open(name) as file:
        head = file.read(16)
        file.seek(0)
        with decompressed(file) as stream:
            is_tar = _is_tar(stream.read(512))
    return is_tar or _is_zip(head) or kind_of_database(head) is not None or _magic(head) == "excel"


def _open_file(
    path: Path, config: SourceConfig, member: str | None = None, beside: Files | None = None
) -> Source:
    """A source in one local file: an archive, or named members of it, or a table, by its first bytes.

    `beside`: the files beside it, by default those in its folder.
    """
    beside = beside or neighbours(path)
    with path.open("rb") as file:
        head = file.read(4)
    if config.subset is not None:
        raise UsageError(f"--subset chooses among folders of data, and {one_line(config.data)} is a file")
    if not head:
        raise DataError(f"{one_line(config.data)} is empty")
    if database_kind(path) is not None:
        content = of_database(path, member, config.query)
        name = path.name if member is None else f"{path.name}::{member}"
        return open_tables([Table(name, "arrow", None, {}, _no_file, content)], config, beside)
    is_zip = _is_zip(head)
    with decompressed(path.open("rb")) as stream:
        start = stream.read(512)
    refuse_foreign(path.name, start)
    if _kind(path.name, config) == "excel" or (is_zip and "xl/workbook.xml" in zip_members(path).names):
        book = Table(path.name, "excel", None, {}, lambda _: path.open("rb"), sheet=member)
        return open_tables([book], config, beside)
    if is_zip:
        return _open_files(_members(zip_members(path), member, config), config)
    if _is_tar(start) or _is_archive(path.name):
        return _open_tar(path, config, member)
    if member is not None:
        raise UsageError(f"{one_line(str(path))} is not an archive, so it has no member {quoted(member)}")
    return _open_files(Files([path.name], lambda _: path.open("rb"), named=True), config, beside)


def _is_zip(head: bytes) -> bool:
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def _is_tar(start: bytes) -> bool:
    return start[257:262] == b"ustar"


def _magic(start: bytes) -> Kind | None:
    """The kind of table, by a file's first bytes."""
    return next((kind for bytes_, kind in _MAGIC.items() if start.startswith(bytes_)), None)


def _members(files: Files, member: str | None, config: SourceConfig) -> Files:
    """The archive's files that are named, by a glob or one by one; all if none is."""
    if member is None:
        return files
    chosen = [name for name in files.names if fnmatchcase(name, member) or PurePosixPath(name).name == member]
    if not chosen:
        raise UsageError(
            f"{one_line(config.data)}: the archive has no member {quoted(member)}, it has {listed(files.names)}"
            f"{similar(member, files.names)}"
        )
    return replace(files, names=chosen, named=len(chosen) == 1, chosen=True)


def _open_files(files: Files, config: SourceConfig, beside: Files | None = None) -> Source:
    """A source of many files: tables of one kind, texts in class folders, or texts by line.

    `beside`: where names of classes may be, if not among these files.
    """
    if config.query is not None:
        raise UsageError(f"--query asks a SQLite or DuckDB file, which {one_line(config.data)} is not")
    refuse_store(files.names, config.data)
    files = of_saved(files)
    names = [name for name in files.names if files.named or not is_no_data(name)]
    starts: dict[str, bytes] = {}
    for name in names[:_LOOKED_AT]:
        with decompressed(files.open(name)) as stream:
            start = stream.read(512)
        if files.named and (magic := _magic(start)) is not None:
            return open_tables([Table(name, magic, None, {}, files.open)], config, beside or files)
        refuse_foreign(name, start)
        if (kind := _kind(name, config)) is not None:
            refuse_misnamed(name, start, kind)
        starts[name] = start
    tables = _tables(names, config)
    texts = [name for name in names if name not in set(tables) and (files.named or not _kind(name, config))]
    asked = config.format == "lines"
    flat = [name for name in texts if len(texts) <= _LINE_FILES and (asked or _may_have_lines(name))]
    if flat and len(flat) == len(texts) and not tables:
        by_line = line_files(files, texts, asked, _in_folders(texts))
        if by_line is not None:
            folders = {own_folder(file.name) for file in by_line.files}
            if len(folders) > 1 and not files.chosen:
                refuse_folders(folders, files, config.data)
            return _open_lines(files, by_line, config)
    if files.named and not tables:
        raise UsageError(
            f"{one_line(config.data)}: unknown file format: choose one with --format (lines means one text per line);"
            f" {_KINDS_READ}"
        )
    texts = _of_documents(texts, bool(tables), starts)
    tree = _survey_texts((name, partial(files.contents, name)) for name in texts) if texts else None
    if tree and (tree.is_imdb or not tables):
        source = _open_texts(tree, config, lambda: ((name, partial(files.contents, name)) for name in texts))
        notes = [] if tree.is_imdb else _not_read(names, texts)
        return replace(source, notes=(*source.notes, *notes))
    if tree and len(tree.labels) > 1:
        raise DataError(
            f"{one_line(config.data)} holds tables ({listed(tables)}) and class folders ({listed(tree.labels)}):"
            " name the one to read with --data"
        )
    if tables:
        found = [table_at(name, files.open, _kind(name, config) or "csv") for name in tables]
        found = [replace(table, split=files.splits.get(table.name, table.split)) for table in found]
        if files.named:
            found = [replace(table, split=None) for table in found]
        notes = _not_read(names, tables)
        found = of_one_set(found, files, config.data, notes)
        source = open_tables(found, config, beside or files)
        return replace(source, notes=(*notes, *source.notes))
    what = counted(len(files.names), "file") if files.names else "no files"
    archives = [name for name in names if _is_archive(name)]
    hint = f"name the archive itself: {listed(archives)}" if archives else _KINDS_READ
    raise DataError(f"{one_line(config.data)} holds {what}, none that can be read; {hint}")


def _not_read(names: Sequence[str], read: Sequence[str]) -> list[str]:
    """The note, if any, about files that are left out although their names suggest data."""
    known = {*read, *(name for name in names if PurePosixPath(name).name in NAMES_TEXT)}
    left = [name for name in names if name not in known]
    return [f"not read: {listed(left)}"] if left else []


def _of_documents(texts: Sequence[str], beside_tables: bool, starts: Mapping[str, bytes]) -> list[str]:
    """The files with one document each: `.txt` or, without any, all files if they are in at least two folders.

    Raises DataError if that would leave out a class, or if the first bytes of a file are not text.
    """
    found = [name for name in texts if _is_txt(name)]
    if found:
        others = [name for name in texts if not _is_txt(name)]
        refuse_other_endings({name.rpartition("/")[0] for name in found}, others)
    elif not beside_tables and _in_folders(texts):
        found = list(texts)
    for name in found:
        refuse_misnamed(name, starts.get(name, b""), None)
    return found


def _is_txt(name: str) -> bool:
    return name.lower().endswith(".txt")


def _is_archive(name: str) -> bool:
    return name.endswith((".zip", ".tgz", ".tar")) or ".tar." in name


def _may_have_lines(name: str) -> bool:
    """Whether a file's name may be a text file's: `.txt`, an ending that is a class, or none."""
    return PurePosixPath(name.lower()).suffix in _LINE_ENDINGS


def _in_folders(names: Sequence[str]) -> bool:
    """Whether files are in at least two folders, like texts in class folders."""
    return len({name.rpartition("/")[0] for name in names}) > 1 and all("/" in name for name in names)


def _tables(names: Sequence[str], config: SourceConfig) -> list[str]:
    """The names of tables. JSON beside another kind of tables describes them. Raises DataError for a mixture."""
    tables = [name for name in names if _kind(name, config)]
    tables = [name for name in tables if not _is_json(name)] or tables
    kinds = {_kind(name, config): name for name in tables}
    if len(kinds) > 1:
        raise DataError(
            f"{one_line(config.data)} holds tables of several kinds ({listed(list(kinds.values()))}): name those to"
            " read, with a glob such as '*.csv'"
        )
    return tables


def _kind(name: str, config: SourceConfig) -> Kind | None:
    """The kind of table in a file: the user's choice, else by its name."""
    if config.format is None:
        return kind_of(name)
    if config.format == "jsonl":
        return "json"
    return None if config.format == "lines" else config.format


def _is_json(name: str) -> bool:
    return ".json" in PurePosixPath(name.lower()).suffixes


def _open_tar(path: Path, config: SourceConfig, member: str | None) -> Source:
    """A source in a tar archive, which is first read through once to see what it contains.

    Texts in class folders are then read from the archive itself at each reading, except for the first if they are few
    enough to stay in memory. Any other data are first copied to files, because a table is read more than once and not
    in the archive's order.
    """
    others: list[str] = []
    held: deque[tuple[str, Callable[[int], bytes]]] = deque()

    def texts() -> Iterator[tuple[str, Callable[[int], bytes]]]:
        for name, held in tar_members(path):
            if is_no_data(name):
                continue
            if _is_txt(name):
                yield name, held.contents
            elif len(others) < _LOOKED_AT:
                others.append(name)

    def seen() -> Iterator[tuple[str, Callable[[int], bytes]]]:
        room = _HELD
        for name, contents in texts():
            try:
                text = contents(min(room, config.max_document_bytes))
            except TooLargeError:
                if room < config.max_document_bytes:
                    held.clear()
                    room = -1  # too small for any text
                else:
                    held.append((name, contents))  # reports it again, and reads nothing
                yield name, contents
            else:
                room -= len(text)
                held.append((name, partial(within, name, text)))
                yield held[-1]

    def read() -> Iterator[tuple[str, Callable[[int], bytes]]]:
        if not held:
            yield from texts()
        while held:
            yield held.popleft()

    tree = _survey_texts(seen())
    if member is None and tree.places and tree.labels and not any(map(kind_of, others)):
        tree.check()
        refuse_other_endings(tree.places.keys(), others)
        return _open_texts(tree, config, read)
    held.clear()
    return _open_files(_members(put_aside(path, lambda name: not is_no_data(name)), member, config), config)


def _survey_texts(members: Iterable[tuple[str, Callable[[int], bytes]]]) -> TextTree:
    """Splits and classes of a tree of .txt files, each given as its name and a function that reads it."""
    counts: Counter[str] = Counter()
    urls: dict[str, bytes] = {}
    for name, read in members:
        if URLS.fullmatch(name):
            urls[name] = read(MAX_DOCUMENT_BYTES)
        else:
            counts[name.rpartition("/")[0]] += 1
    return lay_out(counts, urls)


def _open_texts(
    tree: TextTree, config: SourceConfig, members: Callable[[], Iterable[tuple[str, Callable[[int], bytes]]]]
) -> Source:
    """`members` yields each .txt file's name and a function that reads it, in the order of the documents."""
    tree.check()
    _must_be_single(config)
    for what in ("text", "label", "id", "group"):
        if (named := getattr(config, f"{what}_column")) is not None:
            raise UsageError(
                f"{one_line(config.data)} holds text files, which have no column {quoted(named)} (--{what}-column)"
            )
    splits = tuple(tree.splits)
    wanted = wanted_splits(splits, config)
    notes = note_on_missing_splits(splits, config)
    if not tree.labels:
        notes.append("there are no class folders: the documents have no labels")
        notes.append("each .txt file is a document: --format lines reads one text per line")
    if tree.elsewhere:
        notes.append(f"{tree.elsewhere:,} .txt files beside or above the class folders were left out")

    def read() -> Iterator[Document | Rejected]:
        for name, content in members():
            where, _, file = name.rpartition("/")
            place = tree.places.get(where)
            if place is None or (place.split is not None and place.split not in wanted):
                continue
            stem = file.removesuffix(".txt")
            id_ = f"{place.own}/{stem}".lstrip("/")
            try:
                text = in_encoding(content(config.max_document_bytes), config)
            except TooLargeError:
                yield Rejected(one_line(id_), too_large(config.max_document_bytes))
                continue
            yield as_document(
                id_,
                place.split or config.split,
                text,
                id_,
                place.label,
                place.group(stem),
                most=config.max_document_bytes,
            )

    return Source(
        config.data, splits, tuple(notes), None, lambda: mostly_utf8(read(), config), lambda: tree.labels
    )


def _must_be_single(config: SourceConfig) -> None:
    """Raise UsageError if pairs are requested from files with one text per document."""
    if config.pair:
        raise UsageError(
            f"--pair reads two columns of a table, and {one_line(config.data)} holds text files, with one text per"
            " document"
        )


def _open_lines(files: Files, found: LineFiles, config: SourceConfig) -> Source:
    """A source of text files with a document per line."""
    _must_be_single(config)
    splits = tuple(dict.fromkeys(file.split for file in found.files if file.split))
    wanted = wanted_splits(splits, config)
    notes = [*found.notes, *note_on_missing_splits(splits, config)]

    def read() -> Iterator[Document | Rejected]:
        for file in found.files:
            if splits and file.split not in wanted:
                continue
            for line in lines_of(files, file, config.max_document_bytes):
                where = f"{file.name} line {line.number}"
                if line.reason:
                    yield Rejected(one_line(where), line.reason)
                else:
                    id_ = f"{file.name}:{line.number}"
                    text = in_encoding(line.text, config)
                    yield as_document(
                        where,
                        file.split or config.split,
                        text,
                        id_,
                        line.label,
                        None,
                        most=config.max_document_bytes,
                    )

    def labels_elsewhere() -> Iterator[str]:
        for file in found.files:
            if splits and file.split not in wanted:
                for line in lines_of(files, file, config.max_document_bytes):
                    with suppress(UnicodeError):
                        if not line.reason and (label := as_label(line.label)) is not None:
                            yield label

    names = names_beside(files.names, files.open, None)
    return Source(
        config.data, splits, tuple(notes), names, lambda: mostly_utf8(read(), config), labels_elsewhere
    )
