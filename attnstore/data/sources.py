"""A dataset of any of the usual shapes, found and opened: a stream of documents.

A source is read in streams and as often as needed; what is held in memory is one row, the names of a
folder's or a zip archive's files, and for IMDb the films' ids. In order of what they are told from:

* the word `imdb` (a download), `hf://datasets/...`, a folder, a file, a glob;
* gzip, zstd, bzip2, xz, tar, zip and Parquet by their first bytes, the kinds of text by their names:
  `.csv`, `.tsv` or `.tab`, `.jsonl`, `.ndjson` or `.json` (an object a line), `.parquet`;
* splits: folders above the class folders; else files whose names hold a split's name as a word (`train.csv`,
  `imdb-test-00000-of-00001.parquet`) or stand in a folder of that name, or Hive's `split=test`; else what stands
  in a table's column `split`.

Rows of tables are counted from 1, the header not included; a line of JSON is a row. In tables without
ids, a document's id is `<file>:<row>`. Ids of the source's own are kept as they are, repeated or not: to find
every repetition would take memory in the number of documents. `survey` says so where it meets one early.
"""

import glob
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

from attnstore.config import SourceConfig
from attnstore.data.archives import tar_members, zip_members
from attnstore.data.documents import Document, Rejected
from attnstore.data.files import Files, folder, hub_files, is_hidden, matching, similar_path
from attnstore.data.imdb import Progress, fetch_imdb
from attnstore.data.splits import only_a_name, wanted_splits
from attnstore.data.streams import decompressed, reading
from attnstore.data.tables import Columns, Table, choose_columns, class_names, kind_of, rows, table_at
from attnstore.data.texts import URLS, TextTree, lay_out
from attnstore.errors import DataError, UsageError
from attnstore.messages import listed, one_line, quoted

MAX_SPLITS = 50  # with more distinct values a column holds no splits

_KINDS_READ = (
    "attnstore reads .csv, .tsv, .jsonl, .parquet (also compressed), folders of .txt, tar and zip archives"
)
#: What a dataset's description is called, not the dataset.
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json")


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset, ready to be read as often as needed, always in the same order.

    `name` is what the user called it; `splits` are all of the dataset's, () if it has none, and iterating
    reads those asked for; `notes` are the guesses made, a sentence each; `label_names` are the names that the
    dataset itself gives its numbered labels (the hub's ClassLabel), in order.

    Iterating raises DataError where the data can't be read any further.
    """

    name: str
    splits: tuple[str, ...]
    notes: tuple[str, ...]
    label_names: tuple[str, ...]
    read: Callable[[], Iterator[Document | Rejected]] = field(repr=False)

    def __iter__(self) -> Iterator[Document | Rejected]:
        with reading(self.name):
            yield from self.read()


def open_source(config: SourceConfig, *, progress: Progress | None = None) -> Source:
    """Find the dataset and how to read it; for `imdb`, download it first unless the cache has it.

    `progress(bytes done, bytes in all or None)` follows the download.
    Raises UsageError for what does not exist (the path, the split, a column), with what does exist, and
    DataError for what can't be read.
    """
    data = config.data
    if config.limit is not None and config.limit < 1:
        raise UsageError(f"--limit must be at least 1, not {config.limit}")
    if not data.strip():
        raise UsageError(
            "--data is empty: name a folder, a file, an archive, a glob, hf://datasets/... or imdb"
        )
    with reading(data):
        if data == "imdb":
            return _open_file(fetch_imdb(progress), config)
        if data.startswith("hf://"):
            return _open_files(hub_files(data), config)
        if "://" in data:
            raise UsageError(
                f"{one_line(data)} is an address: download it first (only hf:// and imdb are fetched)"
            )
        path = Path(data).expanduser()
        if path.is_dir():
            return _open_files(folder(path), config)
        if path.is_file():
            return _open_file(path, config)
        if path.exists():
            raise DataError(f"{one_line(data)} is neither a file nor a folder")
        if glob.has_magic(data):
            return _open_files(matching(str(path)), config)
        raise UsageError(f"no such file or folder: {one_line(data)}{similar_path(path)}")


def _open_file(path: Path, config: SourceConfig) -> Source:
    """A source in one local file: an archive or a table, told by its first bytes."""
    with path.open("rb") as file:
        head = file.read(4)
    if not head:
        raise DataError(f"{one_line(config.data)} is empty")
    if head in (b"PK\x03\x04", b"PK\x05\x06"):
        return _open_files(zip_members(path), config)
    with decompressed(path.open("rb")) as stream:
        start = stream.read(512)
    if start[257:262] == b"ustar" or path.name.endswith((".tar", ".tgz")) or ".tar." in path.name:
        return _open_tar(path, config)
    if start.startswith(b"PAR1"):
        table = Table(path.name, "parquet", None, {}, lambda _: path.open("rb"))
        return _open_tables([table], config)
    return _open_files(Files([path.name], lambda _: path.open("rb"), named=True), config)


def _open_files(files: Files, config: SourceConfig) -> Source:
    """A source of many files: tables of one kind, or texts in class folders."""
    names = [name for name in files.names if files.named or not is_hidden(name)]
    if files.named and kind_of(names[0]) is None:
        raise DataError(f"{one_line(config.data)}: unknown kind of file; {_KINDS_READ}")
    tables = _tables(names, config)
    texts = [name for name in names if name.lower().endswith(".txt")]
    tree = _survey_texts((name, partial(files.contents, name)) for name in texts) if texts else None
    if tree and (tree.is_imdb or not tables):
        return _open_texts(tree, config, lambda: ((name, partial(files.contents, name)) for name in texts))
    if tree and tree.labels:
        raise DataError(
            f"{one_line(config.data)} holds tables ({listed(tables)}) and class folders ({listed(tree.labels)}):"
            " name the one to read with --data"
        )
    if tables:
        found = [table_at(name, files.open, kind_of(name) or "csv") for name in tables]
        return _open_tables([replace(table, split=None) for table in found] if files.named else found, config)
    what = f"{len(names):,} files" if names else "no files"
    archives = [name for name in names if name.endswith((".zip", ".tgz", ".tar")) or ".tar." in name]
    hint = f"name the archive itself: {listed(archives)}" if archives else _KINDS_READ
    raise DataError(f"{one_line(config.data)} holds {what}, none that can be read; {hint}")


def _tables(names: Sequence[str], config: SourceConfig) -> list[str]:
    """The names of tables. JSON beside tables of another kind describes them. Raises DataError for a mixture."""
    tables = [name for name in names if kind_of(name) and PurePosixPath(name).name not in _DESCRIPTIONS]
    tables = [name for name in tables if not _is_json(name)] or tables
    kinds = {kind_of(name): name for name in tables}
    if len(kinds) > 1:
        raise DataError(
            f"{one_line(config.data)} holds tables of several kinds ({listed(list(kinds.values()))}): name those to"
            " read, with a glob such as '*.csv'"
        )
    return tables


def _is_json(name: str) -> bool:
    return ".json" in PurePosixPath(name.lower()).suffixes


def _open_tar(path: Path, config: SourceConfig) -> Source:
    """A source in a tar archive, which is read through once to see what there is, then once a reading."""
    others: list[str] = []

    def texts() -> Iterator[tuple[str, Callable[[], bytes]]]:
        for name, read in tar_members(path):
            if name.lower().endswith(".txt") and not is_hidden(name):
                yield name, read
            elif len(others) < 3:
                others.append(name)

    tree = _survey_texts(texts())
    tree.check()
    if not tree.places:
        what = f"it has {listed(others)}" if others else "it is empty"
        raise DataError(
            f"{one_line(config.data)} holds no .txt files in class folders ({what}): unpack it, and name what to read"
        )
    return _open_texts(tree, config, texts)


def _survey_texts(members: Iterable[tuple[str, Callable[[], bytes]]]) -> TextTree:
    """Splits and classes of a tree of .txt files, each given by its name and how to read it."""
    counts: Counter[str] = Counter()
    urls: dict[str, bytes] = {}
    for name, read in members:
        if URLS.fullmatch(name):
            urls[name] = read()
        else:
            counts[name.rpartition("/")[0]] += 1
    return lay_out(counts, urls)


def _open_texts(
    tree: TextTree, config: SourceConfig, members: Callable[[], Iterable[tuple[str, Callable[[], bytes]]]]
) -> Source:
    """`members` yields each .txt file's name and how to read it, in the order of the documents."""
    tree.check()
    for what in ("text", "label", "id", "group"):
        if (named := getattr(config, f"{what}_column")) is not None:
            raise UsageError(
                f"{one_line(config.data)} holds text files, which have no column {quoted(named)} (--{what}-column)"
            )
    splits = tuple(tree.splits)
    wanted = wanted_splits(splits, config)
    notes = only_a_name(splits, config)
    if not tree.labels:
        notes.append("there are no class folders: the documents have no labels")
    if tree.elsewhere:
        notes.append(f"{tree.elsewhere:,} .txt files beside or above the class folders were left out")

    def read() -> Iterator[Document | Rejected]:
        for name, content in members():
            where, _, file = name.rpartition("/")
            place = tree.places.get(where)
            if place is None or (place.split is not None and place.split not in wanted):
                continue
            stem = file[: -len(".txt")]
            id_ = f"{place.own}/{stem}".lstrip("/")
            yield _document(id_, place.split or config.split, content(), id_, place.label, place.group(stem))

    return Source(config.data, splits, tuple(notes), (), read)


def _open_tables(tables: Sequence[Table], config: SourceConfig) -> Source:
    if any(table.split for table in tables):
        tables = [
            replace(table, split=table.split or PurePosixPath(table.name).name.partition(".")[0])
            for table in tables
        ]
    splits = tuple(dict.fromkeys(table.split for table in tables if table.split))
    wanted = wanted_splits(splits, config)
    tables = [table for table in tables if table.split is None or table.split in wanted]
    first = tables[0]
    notes: list[str] = []
    columns = choose_columns(first, config, notes)
    if columns.split is not None:
        splits = _splits_inside(tables, columns, config)
        wanted = wanted_splits(splits, config)
    notes += only_a_name(splits, config)
    label_names = class_names(first, columns.label) if first.kind == "parquet" else ()

    def read() -> Iterator[Document | Rejected]:
        for table in tables:
            for row, values in rows(table, columns, config):
                where = f"{table.name} row {row}"
                if isinstance(values, str):
                    yield Rejected(one_line(where), values)
                    continue
                text, label, id_, group, own = (
                    table.partition[name] if name is not None and name in table.partition else value
                    for name, value in zip(columns, values, strict=True)
                )
                if label_names and label == -1:
                    label = None  # the hub's way to say that a label is kept secret
                try:
                    label, id_, group = _scalar(label), _scalar(id_), _scalar(group)
                    split = table.split or (config.split if columns.split is None else _split(own))
                except TypeError:
                    yield Rejected(one_line(where), "malformed row")
                    continue
                if columns.split is None or split in wanted:
                    yield _document(where, split, text, id_ or f"{table.name}:{row}", label, group)

    return Source(config.data, splits, tuple(notes), label_names, read)


def _document(
    where: str,
    split: str,
    text: object,
    id_: str | bytes,
    label: str | bytes | None,
    group: str | bytes | None,
) -> Document | Rejected:
    """One row, judged: strings are as the source has them, blank labels and groups are none."""
    if text is None:
        return Rejected(one_line(where), "text missing")
    if not isinstance(text, str | bytes):
        return Rejected(one_line(where), "text is not a string")
    try:
        text, id_, split = _utf8(text), _utf8(id_), _utf8(split)
        label = _utf8(label) if label is not None else None
        group = _utf8(group) if group is not None else None
    except UnicodeError:
        return Rejected(one_line(where), "not UTF-8")
    return Document(
        text,
        id_,
        group if group and group.strip() else None,
        split,
        label if label and label.strip() else None,
    )


def _utf8(value: str | bytes) -> str:
    """Raises UnicodeError for what UTF-8 can't say: foreign bytes, and halves of surrogate pairs."""
    if isinstance(value, bytes):
        return value.decode("utf-8-sig")
    if not value.isascii():
        value.encode()
    return value


def _scalar(value: object) -> str | bytes | None:
    """A label, id or group as text. Raises TypeError for a list or an object."""
    if value is None or isinstance(value, str | bytes):
        return value or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isnan(value):
        return None  # pandas' null in a column of numbers
    if isinstance(value, dict | list):
        raise TypeError
    return str(value)


def _split(value: object) -> str:
    """A row's own split; `all` where it has none. Raises TypeError for a list or an object."""
    split = _scalar(value) or "all"
    return split.decode(errors="replace") if isinstance(split, bytes) else split


def _splits_inside(tables: Sequence[Table], columns: Columns, config: SourceConfig) -> tuple[str, ...]:
    """The splits in the tables' column of that name, which is read through for them."""
    found: dict[str, None] = {}
    for table in tables:
        for _, values in rows(table, columns, config):
            with suppress(TypeError):
                found |= {} if isinstance(values, str) else {_split(values[-1]): None}
            if len(found) > MAX_SPLITS:
                raise DataError(
                    f"{one_line(config.data)} has more than {MAX_SPLITS} splits in its column"
                    f" {quoted(str(columns.split))}: give it another name if it holds something else"
                )
    return tuple(found)
