"""Reading a store back: everything that can be checked without the model that wrote it."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.special import xlogy

from attnstore.errors import StoreError
from attnstore.events import Checked, OnEvent, ignore
from attnstore.store.manifest import MANIFEST, PART_FILE, TOTALS, Manifest, StoredFile, StoredReduction
from attnstore.store.merged import MERGED, of_merged, read_list, with_merged
from attnstore.store.parquet import FINGERPRINT_KEY, ROW_GROUP_ROWS, first_difference, in_tables_of
from attnstore.store.partitions import keys_of
from attnstore.store.place import exists, names_below, opened
from attnstore.store.schema import entropy
from attnstore.store.stage import all_files, unfinished_append
from attnstore.store.store import Store
from attnstore.store.totals import KEYS

_ROWS_FOR_THREADS = 20_000
#: How many values of reductions are read from a file at once: a column of a large file, all columns of a small one.
_VALUES_AT_ONCE = 1_000_000
#: How many parts' files are compared with the merged files that have their rows; at least three for each.
COMPARED = 64
#: How far a document's sum may be from the declared total, because values have an 8-bit significand.
TOTAL_TOLERANCE = 0.01
#: How far probabilities may be from summing to 1, and from the softmax of the logits.
PROBABILITY_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: of a file, a part, or the manifest. `detail` says what was found."""

    subject: str
    ok: bool
    detail: str


def verify_files(store: Store, on_event: OnEvent = ignore) -> Iterator[Finding]:
    """Read a store back, part by part, and check what can be checked without the model.

    Of each file: size, SHA-256, schema, column meanings, fingerprint, rows. Of each part: every document of
    the plan once and in order; its tokens at positions 0 to length - 1; what the tokens repeat of their
    document; probabilities that sum to 1 and follow from the logits; the prediction as their maximum; spans
    inside the text; pieces inside their words; first occurrences; reductions finite, and summing to their
    `total` within `TOTAL_TOLERANCE`; the documents' entropies of them. Of a sealed store whose parts are sound:
    totals that are the tokens added up. Beside them: files that are none of the store's.

    If small files have been merged, each is checked by size and SHA-256, and its rows are checked in the merged file,
    for many parts together: reading thousands of small files takes 25 times as long. A merged file was compared with
    its parts when it was written; `COMPARED` files are compared again.

    Yields the state of the store first, then a finding for each sound part, or one for each of its faults. Damage is a
    finding, not an exception. A part that a run finishes in the meantime is not checked: the state is the one in which
    `store` was opened. The files of one part are in memory at a time, of their reductions a million values (a column,
    if it has more), or two merged files, which are small; then the totals, twice. `on_event` gets `Checked` after each
    part.
    """
    behind = _list_of_merged(store)
    if behind and not behind[0].ok:
        yield from behind
        return
    files = store.files()
    yield _state(store, files)
    yield from behind
    listed = store.totals_listed()
    totals = [] if listed is None else [listed]
    for part, fault in store.damaged_parts().items():
        yield Finding(f"part {part}", False, f"{fault}: run again to compute it again")
    parts, strangers = _by_part(store, files)
    all_sound = not strangers
    for path in strangers:
        yield Finding(path, False, "the manifest lists it, but it is no file of the plan's parts")
    merged = of_merged(files)
    held = {file.path for _, of_parts in merged for file in of_parts}
    checked, present = 0, sum(len(store.part_range(part)) for part in parts)
    together: list[StoredFile] = []  # what is checked in merged files
    damaged: set[str] = set()
    for part, its_files in parts.items():
        sound = True
        if any(file.path in held for file in its_files):
            faults = _damages(store, its_files)
            together += its_files
        else:
            faults = _part_faults(store, part, its_files)
        for subject, fault in faults:
            sound = all_sound = False
            damaged.add(subject)
            yield Finding(subject, False, fault)
        if sound:
            documents, tokens = (_rows(its_files, kind) for kind in ("documents", "tokens"))
            yield Finding(f"part {part}", True, f"{documents:,} documents, {tokens:,} tokens")
        checked += len(store.part_range(part))
        on_event(Checked("stored", checked, present))
    for finding in _findings_of_merged(store, merged, together, damaged):
        all_sound &= finding.ok
        yield finding
    if store.sealed:
        wrong = _totals_fault(store, totals, all_sound)
        said = f"{totals[0].rows:,} terms" if totals else ""
        unsure = "" if all_sound else ", not compared with the tokens, which are not sound"
        yield Finding(TOTALS, wrong is None, wrong or said + unsure)
    elif exists(store.path / TOTALS):
        yield Finding(TOTALS, True, "of a sealing that was not finished when the store was opened")
    yield from _foreign_files(store, {file.path for file in files})


def _by_part(store: Store, files: Iterable[StoredFile]) -> tuple[dict[int, list[StoredFile]], list[str]]:
    """The files of each finished part, and the paths of files that belong to no part."""
    parts: dict[int, list[StoredFile]] = {part: [] for part in store.finished_parts()}
    strangers = []
    for file in files:
        if file.path == TOTALS or file.path.startswith(f"{MERGED}/"):
            continue
        if file.part is None or file.part not in parts:
            strangers.append(file.path)
        else:
            parts[file.part].append(file)
    return parts, strangers


def _list_of_merged(store: Store) -> list[Finding]:
    """A finding about the list of merged files; nothing if none were merged."""
    if (behind := store.manifest.merged_from) is None:
        return []
    try:
        with_merged(store.manifest.files, read_list(store.path, behind))
    except StoreError as error:
        fault = str(error).removeprefix(f"{behind.path} ")
        return [Finding(behind.path, False, f"{fault}: what it lists can't be looked at")]
    return [Finding(behind.path, True, f"lists {behind.rows:,} files that have been merged")]


def _rows(files: Iterable[StoredFile], kind: str) -> int:
    return sum(file.rows for file in files if file.path.startswith(f"{kind}/"))


def _state(store: Store, files: list[StoredFile]) -> Finding:
    finished, planned = len(store.finished_parts()), store.manifest.parts
    state = "sealed" if store.sealed else f"not sealed, {finished} of {planned} parts finished"
    rows = f"{_rows(files, 'documents'):,} documents, {_rows(files, 'tokens'):,} tokens"
    return Finding(MANIFEST, True, f"{state}: {rows} in {len(files):,} files")


def _foreign_files(store: Store, known: set[str]) -> Iterator[Finding]:
    """Files in the two tables' directories that a plain reader would take for part of the table."""
    finished = set(store.finished_parts())
    coming: set[str] = set()
    if store.sealed and (next_state := unfinished_append(store)) is not None:
        with suppress(StoreError):  # the remains of an append name no file
            coming = {file.path for file in all_files(store.path, next_state)}
    for kind in ("documents", "tokens"):
        for name in names_below(store.path / kind):
            relative = f"{kind}/{name}"
            # Beside the tables, as in Delta's _delta_log: no Parquet reader takes it for part of a table.
            if relative in known or (name.startswith("_") and not name.endswith(".parquet")):
                continue
            of_part = PART_FILE.fullmatch(relative)
            if of_part is not None and not store.sealed and int(of_part[2]) not in finished:
                yield Finding(relative, True, "of a part that was not finished when the store was opened")
            elif relative in coming:
                yield Finding(relative, True, "of an append that was not finished when the store was opened")
            else:
                yield Finding(
                    relative, False, "not a file of this store, but a plain reader reads it: move it away"
                )


def _damages(store: Store, files: Iterable[StoredFile]) -> Iterator[tuple[str, str]]:
    """The damaged files: pairs of path and fault."""
    for file in files:
        if (fault := file.damage(store.path)) is not None:
            yield file.path, fault


def _findings_of_merged(
    store: Store,
    merged: Sequence[tuple[StoredFile, list[StoredFile]]],
    files: Sequence[StoredFile],
    damaged: Collection[str],
) -> Iterator[Finding]:
    """The findings in merged files, and so about the parts whose `files` are in them, for many parts together.

    `damaged`: the paths of damaged files.
    """
    if not merged:
        return
    held = {file.path: into for into, of_parts in merged for file in of_parts}
    faults = dict.fromkeys(_faults_together(store, files, held, _Shelf(store, merged, damaged)))
    for subject, fault in faults:
        yield Finding(subject, False, fault)
    faulty = {subject for subject, _ in faults}
    for file, of_parts in merged:
        if file.path not in faulty:
            yield Finding(file.path, True, f"the rows of {len(of_parts):,} files")


class _Shelf:
    """The store's files as tables, with the last two kept: a directory's files are requested in order."""

    def __init__(
        self,
        store: Store,
        merged: Sequence[tuple[StoredFile, list[StoredFile]]],
        damaged: Collection[str],
    ) -> None:
        self._store = store
        self._of_parts = {file.path: of_parts for file, of_parts in merged}
        self._compared = max(3, COMPARED // len(merged))
        self._damaged = damaged
        self._kept: dict[str, pa.Table | str] = {}

    def table(self, file: StoredFile) -> pa.Table | str:
        """All rows of a file, checked to be intact and those of its parts; or what is wrong with it."""
        if file.path not in self._kept:
            for path in list(self._kept)[:-1]:
                del self._kept[path]
            self._kept[file.path] = self._read(file)
        return self._kept[file.path]

    def _read(self, file: StoredFile) -> pa.Table | str:
        found = _opened(self._store, file)
        if isinstance(found, str):
            return found
        try:
            rows = _read(found).unify_dictionaries().combine_chunks()
            return self._difference_from_parts(rows, self._of_parts.get(file.path, ())) or rows
        except (StoreError, pa.ArrowException, OSError, ValueError) as error:
            return f"can't be read, or be compared with its parts: {_one_line(error)}"

    def _difference_from_parts(self, found: pa.Table, of_parts: Sequence[StoredFile]) -> str | None:
        """Where merged rows differ from those of their parts; None if the compared ones are equal.

        These are spread evenly, and include the first and the last: a shift continues to the end.
        """
        begins = np.cumsum([0, *(part.rows for part in of_parts)])
        number = min(self._compared, len(of_parts))
        for place in np.linspace(0, len(of_parts) - 1, number).round().astype(int):
            part = of_parts[place]
            if part.path in self._damaged:  # Parquet readers may crash on damaged bytes
                continue
            expected, rows = (
                self._store.rows_of([part], found.schema),
                found.slice(begins[place], part.rows),
            )
            if (name := first_difference(rows, expected)) is not None:
                return f"{name} is not what {part.path} has"
        return None


@dataclass(slots=True)
class _Rows:
    """Consecutive parts in a directory, whose rows are in one file of documents and one of tokens.

    `files`: the two, None if no part has one; `begin`: where the parts' rows begin in each; `rows`: how many.
    """

    files: tuple[StoredFile | None, StoredFile | None]
    begin: tuple[int, int]
    rows: tuple[int, int]
    parts: list[tuple[int, int]]  # each with its number of documents


def _in_rows(files: Sequence[StoredFile], held: Mapping[str, StoredFile]) -> Iterator[_Rows]:
    """The parts' files by directory, in the longest stretches with one file of each kind."""
    directories: dict[str, dict[int, dict[str, StoredFile]]] = {}
    for file in files:
        kind, _, rest = file.path.partition("/")
        if (part := file.part) is not None:
            directories.setdefault(rest.rpartition("/")[0], {}).setdefault(part, {})[kind] = file
    for of_directory in directories.values():
        begun: dict[str, int] = {}  # how many rows of a file have been yielded
        rows: _Rows | None = None
        for part in sorted(of_directory):
            own = [of_directory[part].get(kind) for kind in ("documents", "tokens")]
            into = [None if own_file is None else held.get(own_file.path, own_file) for own_file in own]
            if rows is None or list(rows.files) != into:
                if rows is not None:
                    yield rows
                starts = [0 if into_file is None else begun.get(into_file.path, 0) for into_file in into]
                rows = _Rows((into[0], into[1]), (starts[0], starts[1]), (0, 0), [])
            counts = [0 if own_file is None else own_file.rows for own_file in own]
            for into_file, count in zip(into, counts, strict=True):
                if into_file is not None:
                    begun[into_file.path] = begun.get(into_file.path, 0) + count
            rows.rows = (rows.rows[0] + counts[0], rows.rows[1] + counts[1])
            rows.parts.append((part, counts[0]))
        if rows is not None:
            yield rows


def _faults_together(
    store: Store, files: Sequence[StoredFile], held: Mapping[str, StoredFile], shelf: _Shelf
) -> Iterator[tuple[str, str]]:
    """What is wrong with the contents of these parts, read from merged files: subjects and faults."""
    seen = np.zeros(store.manifest.documents, np.bool_)
    unread: set[int] = set()  # parts whose documents are unknown
    for rows in _in_rows(files, held):
        documents_file, tokens_file = rows.files
        if documents_file is None:
            if tokens_file is not None:
                yield tokens_file.path, "has no file of documents beside it"
            continue
        documents = shelf.table(documents_file)
        tokens = None if tokens_file is None else shelf.table(tokens_file)
        if isinstance(documents, str) or isinstance(tokens, str):
            unread.update(part for part, _ in rows.parts)
            for file, table in ((documents_file, documents), (tokens_file, tokens)):
                if file is not None and isinstance(table, str):
                    yield file.path, table
            continue
        documents = documents.slice(rows.begin[0], rows.rows[0])
        read = None if tokens is None else tokens.slice(rows.begin[1], rows.rows[1]).select
        path = None if tokens_file is None else tokens_file.path
        try:
            yield from _pair_faults(store, documents, documents_file.path, path, read)
        except (pa.ArrowException, ValueError) as error:
            unread.update(part for part, _ in rows.parts)
            yield documents_file.path, f"can't be read: {_one_line(error)}"
            continue
        numbers = documents["document"].to_numpy()
        counts = [count for _, count in rows.parts]
        planned = [store.part_range(part) for part, _ in rows.parts]
        first, end = (
            np.repeat(ends, counts) for ends in zip(*((r.start, r.stop) for r in planned), strict=True)
        )
        there = numbers[(numbers >= first) & (numbers < end)]
        if len(there) < len(numbers) or seen[there].any():
            yield documents_file.path, "has documents twice, or of other parts"
        seen[there] = True
    for part in sorted({file.part for file in files if file.part is not None} - unread):
        planned_of_it = store.part_range(part)
        if not seen[planned_of_it.start : planned_of_it.stop].all():
            yield f"part {part}", _not_as_planned(planned_of_it)


def _not_as_planned(planned: range) -> str:
    return f"does not hold the documents {planned.start} to {planned.stop - 1}, each once"


def _part_faults(store: Store, part: int, files: list[StoredFile]) -> Iterator[tuple[str, str]]:
    """What is wrong with a part: pairs of the subject and the fault."""
    sound: dict[str, pq.ParquetFile] = {}
    for file in files:
        found = _opened(store, file)
        if isinstance(found, str):
            yield file.path, found
        else:
            sound[file.path] = found
    if len(sound) < len(files):
        return  # its contents are not read: Parquet readers may crash on damaged bytes
    tokens_of = {
        file.path.removeprefix("tokens/"): file.path for file in files if file.path.startswith("tokens/")
    }
    numbers = [np.empty(0, np.int32)]
    try:
        for file in files:
            if file.path.startswith("documents/"):
                tokens = tokens_of.pop(file.path.removeprefix("documents/"), None)
                documents = _read(sound[file.path])
                numbers.append(documents["document"].to_numpy())
                read = None if tokens is None else partial(_read, sound[tokens])
                yield from _pair_faults(store, documents, file.path, tokens, read)
    except (pa.ArrowException, OSError, ValueError) as error:
        yield f"part {part}", f"can't be read: {_one_line(error)}"
        return
    for path in tokens_of.values():
        yield path, "has no file of documents beside it"
    planned = store.part_range(part)
    found = np.sort(np.concatenate(numbers))
    if not np.array_equal(found, np.arange(planned.start, planned.stop)):
        yield f"part {part}", _not_as_planned(planned)


def _opened(store: Store, file: StoredFile) -> pq.ParquetFile | str:
    """One file, read into memory and checked for the recorded hash and form; or what is wrong with it.

    It is read once: what is hashed is what is checked.
    """
    try:
        if fault := file.damage(store.path, hashed=False):
            return fault
        with opened(store.path / file.path) as content:
            whole = content.read()
        if hashlib.sha256(whole).hexdigest() != file.sha256:
            return "its SHA-256 is not the one recorded: it is damaged"
        parquet = pq.ParquetFile(pa.BufferReader(whole))
        return _form_fault(store, file, parquet) or parquet
    except (pa.ArrowException, OSError) as error:
        return f"can't be read: {_one_line(error)}"


def _form_fault(store: Store, file: StoredFile, parquet: pq.ParquetFile) -> str | None:
    """How a file differs from the expected schema, fingerprint or number of rows."""
    kinds = {"documents": store.documents_schema, "tokens": store.tokens_schema}
    expected = kinds.get(file.path.removeprefix(f"{MERGED}/").partition("/")[0], store.totals_schema)
    schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    if schema.names != expected.names:
        return f"has the columns {', '.join(schema.names)}, not {', '.join(expected.names)}"
    for wanted in expected:
        found = schema.field(wanted.name)
        for what in ("type", "nullable"):
            if getattr(found, what) != getattr(wanted, what):
                return (
                    f"column {wanted.name!r}: {what} is {getattr(found, what)}, not {getattr(wanted, what)}"
                )
        if (found.metadata or {}).get(b"meaning") != wanted.metadata[b"meaning"]:
            return f"column {wanted.name!r} has another description"
    if (schema.metadata or {}).get(FINGERPRINT_KEY) != expected.metadata[FINGERPRINT_KEY]:
        return "has another run's fingerprint"
    return None if rows == file.rows else f"has {rows:,} rows, {file.rows:,} were written"


def _one_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _read(parquet: pq.ParquetFile, columns: list[str] | None = None) -> pa.Table:
    """These columns of a file, or all. Handing a small file to threads takes longer than reading it."""
    return parquet.read(columns, use_threads=parquet.metadata.num_rows > _ROWS_FOR_THREADS)


def _pair_faults(
    store: Store,
    documents: pa.Table,
    documents_path: str,
    tokens_path: str | None,
    read: Callable[[list[str]], pa.Table] | None,
) -> Iterator[tuple[str, str]]:
    """What is wrong inside two tables of one partition; `read` returns columns of the one at `tokens_path`."""
    predictions = _class_numbers(documents["prediction"], store.manifest)
    split, _ = keys_of(PurePosixPath(documents_path).parent)
    if (
        store.manifest.split_in_files
        and not pc.all(pc.equal(documents["split"].cast(pa.string()), split)).as_py()
    ):
        yield documents_path, "split: it is not the one in the path"
    for fault in _document_faults(store.manifest, documents, predictions):
        yield documents_path, fault
    lengths = documents["length"].to_numpy()
    if tokens_path is None or read is None:
        if lengths.any():
            yield documents_path, "its documents have tokens, but there is no file of them"
        return
    numbers = documents["document"].to_numpy()
    reductions = [(c, r) for r in store.manifest.reductions for c in r.columns(store.manifest.layers)]
    of_reductions = {column for column, _ in reductions}
    tokens = read([name for name in store.tokens_schema.names if name not in of_reductions])
    rows = np.repeat(np.arange(len(lengths)), lengths)  # the row of its document, for each token
    positions = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    if not (
        np.array_equal(tokens["document"].to_numpy(), numbers[rows])
        and np.array_equal(tokens["position"].to_numpy(), positions)
    ):
        yield (
            tokens_path,
            "its rows are not each document's positions 0 to length - 1, in the documents' order",
        )
        return
    characters = pc.utf8_length(documents["text"]).to_numpy()[rows]
    segments = None
    if store.manifest.pairs:
        segments = tokens["segment"].fill_null(-1).to_numpy()
        second = pc.utf8_length(documents["text_pair"]).to_numpy()[rows]
        characters = np.where(segments == 1, second, characters)
    for what, wrong in (
        ("the length is not the document's", tokens["length"].to_numpy() != lengths[rows]),
        (
            "the prediction is not the document's",
            _class_numbers(tokens["prediction"], store.manifest) != predictions[rows],
        ),
        *(
            (f"the {key} is not the document's", _texts(tokens[key]) != _texts(documents[key])[rows])
            for key in ("split", "label")
            if key in tokens.column_names
        ),
        *_token_faults(tokens, rows, characters),
        *_segment_faults(tokens, rows, segments),
    ):
        if count := int(np.count_nonzero(wrong)):
            first = int(np.argmax(wrong))
            where = f"document {numbers[rows[first]]}, position {positions[first]}"
            yield tokens_path, f"{what}: {count:,} of {len(rows):,} tokens, first {where}"
    yield from _faults_of_reductions(documents, documents_path, read, tokens_path, reductions, rows)


def _faults_of_reductions(
    documents: pa.Table,
    documents_path: str,
    read: Callable[[list[str]], pa.Table],
    tokens_path: str,
    reductions: Sequence[tuple[str, StoredReduction]],
    rows: npt.NDArray[np.int64],
) -> Iterator[tuple[str, str]]:
    """What is wrong with the values of the tokens, and with the documents' entropies of them.

    `reductions`: each column and its reduction; `rows`: the row of its document, for each token.
    """
    numbers = documents["document"].to_numpy()
    at_once = max(1, _VALUES_AT_ONCE // max(1, len(rows)))
    for place, (column, reduction) in enumerate(reductions):
        if place % at_once == 0:
            together = reductions[place : place + at_once]
            values_of = read([name for name, _ in together])
            sound = _all_sound(documents, values_of, together)
        if sound:
            continue
        values = values_of[column]
        if (wrong := _reduction_fault(values.combine_chunks(), reduction, rows, numbers)) is not None:
            yield tokens_path, f"{column}: {wrong}"  # and an entropy would have no sound values
        elif reduction.signed:
            continue
        elif (wrong := _entropy_fault(documents[entropy(column)], values, rows, numbers)) is not None:
            yield documents_path, f"{entropy(column)}: {wrong}"


def _all_sound(
    documents: pa.Table, tokens: pa.Table, reductions: Sequence[tuple[str, StoredReduction]]
) -> bool:
    """Whether all of these columns are sound, checked together, which is much faster for a small file than one by one.
    Also False if they must be checked one by one.
    """
    lengths = documents["length"].to_numpy()
    scores = [(column, reduction) for column, reduction in reductions if not reduction.signed]
    stored = [documents[entropy(column)] for column, _ in scores]
    nulls = any(column.null_count for column in (*tokens.columns, *stored))
    if nulls or not len(lengths) or not lengths.all():
        return False
    starts = np.cumsum(lengths) - lengths
    for signed in (True, False):
        columns = [(column, reduction) for column, reduction in reductions if reduction.signed == signed]
        if not columns:
            continue
        blocks = [_values(tokens[column]).reshape(tokens.num_rows, -1) for column, _ in columns]
        values = np.hstack(blocks)  # (tokens, columns, or heads of them)
        if not np.isfinite(values).all():
            return False
        sums = np.add.reduceat(values, starts, axis=0)
        for (_, reduction), block, end in zip(
            columns, blocks, np.cumsum([block.shape[1] for block in blocks]), strict=True
        ):
            total = reduction.total
            of_it = sums[:, end - block.shape[1] : end]
            if total is not None and (np.abs(of_it - total) > TOTAL_TOLERANCE * (abs(total) or 1.0)).any():
                return False
        if signed:
            continue
        if (values < 0).any() or (sums == 0).any():
            return False  # there is no entropy of these
        values /= np.repeat(sums, lengths, axis=0)
        expected = np.add.reduceat(-xlogy(values, values), starts, axis=0)
        found = np.hstack([_values(column).reshape(len(lengths), -1) for column in stored])
        if (
            found.shape != expected.shape
            or not (np.abs(found - expected) <= 1e-9 + 1e-6 * np.abs(expected)).all()
        ):
            return False
    return True


def _totals_fault(store: Store, files: list[StoredFile], parts_are_sound: bool) -> str | None:
    """What is wrong with the totals of a sealed store; None if nothing is."""
    if not files:
        return "the manifest does not list it"
    totals = _opened(store, files[0])
    if isinstance(totals, str):
        return totals
    if not parts_are_sound:
        return None  # there is nothing sound to sum
    try:
        found = in_tables_of(ROW_GROUP_ROWS, map(totals.read_row_group, range(totals.num_row_groups)))
        # One row group at a time: all terms of a large store may not fit into memory.
        for theirs, ours in zip_longest(found, in_tables_of(ROW_GROUP_ROWS, store.added_up_as_read())):
            if (name := _difference_of_totals(theirs, ours)) is not None:
                return f"{name} is not what the tokens add up to"
    except (StoreError, pa.ArrowException, OSError) as error:
        return f"can't be compared with the tokens: {_one_line(error)}"
    return None


def _difference_of_totals(found: pa.Table | None, expected: pa.Table | None) -> str | None:
    """The first column of these rows of totals that is not as expected; None if all are."""
    if found is None or expected is None:
        return KEYS[0]
    names: list[str] = found.column_names
    for name in names:
        ours, theirs = expected[name], found[name]
        if name in KEYS or pa.types.is_integer(theirs.type):
            same = len(ours) == len(theirs) and ours.cast(_plain(ours.type)).equals(
                theirs.cast(_plain(theirs.type))
            )
        else:  # other versions of NumPy may sum in another order
            same = len(ours) == len(theirs) and np.allclose(
                _values(ours), _values(theirs), rtol=1e-5, atol=1e-12, equal_nan=True
            )
        if not same:
            return name
    return None


def _texts(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    return np.asarray(column.cast(pa.string()).to_numpy(), dtype=np.object_)


def _values(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """The numbers of a column, NaN for null, with lists concatenated."""
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        missing = np.repeat(array.is_null().to_numpy(zero_copy_only=False), array.type.list_size)
        size = array.type.list_size
        # Not flatten(), which leaves out nulls; and `values` are those of the whole array that this one is cut from.
        values = array.values.slice(array.offset * size, len(array) * size)
        values = values.to_numpy(zero_copy_only=False).astype(np.float64)
        return np.where(missing, np.nan, values)
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)


def _plain(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _class_numbers(column: pa.ChunkedArray, manifest: Manifest) -> npt.NDArray[np.int64]:
    """The number of each class among the model's, -1 if it is not one of them."""
    numbers = pc.index_in(column.cast(pa.string()), value_set=pa.array(manifest.labels, pa.string()))
    result: npt.NDArray[np.int64] = numbers.fill_null(-1).to_numpy().astype(np.int64)
    return result


def _document_faults(
    manifest: Manifest, documents: pa.Table, predictions: npt.NDArray[np.int64]
) -> Iterator[str]:
    """What is wrong with the rows of a documents file."""
    numbers = documents["document"].to_numpy()
    classes = len(manifest.labels)

    def told(wrong: npt.NDArray[np.bool_], what: str) -> Iterator[str]:
        if count := int(np.count_nonzero(wrong)):
            yield f"{what}: {count:,} of {len(numbers):,} documents, first {numbers[np.argmax(wrong)]}"

    yield from told(np.diff(numbers, prepend=numbers[:1] - 1) <= 0, "the order of the documents is broken")
    lengths = documents["length"].to_numpy()
    long = lengths > manifest.max_length
    if manifest.long == "windows":
        windows = documents["windows"].to_numpy()
        yield from told((windows > 1) != long, "the number of windows does not fit the length")
        long = windows < 1
    yield from told((lengths < 0) | long, f"the length is not in 0 to {manifest.max_length}")
    yield from told(predictions < 0, "the prediction is not a class of the model")
    sizes = [pc.list_value_length(documents[name]).to_numpy() for name in ("logits", "probabilities")]
    uneven = (sizes[0] != classes) | (sizes[1] != classes)
    yield from told(uneven, f"there are not {classes} logits and probabilities")
    if uneven.any() or (predictions < 0).any():
        return
    logits, probabilities = (
        documents[name]
        .combine_chunks()
        .flatten()
        .to_numpy(zero_copy_only=False)
        .astype(np.float64)
        .reshape(-1, classes)
        for name in ("logits", "probabilities")
    )
    infinite = ~(np.isfinite(logits).all(axis=1) & np.isfinite(probabilities).all(axis=1))
    yield from told(infinite, "a logit or a probability is not a finite number")
    if infinite.any():
        return
    every = np.arange(len(numbers))
    yield from told(
        logits[every, predictions] < logits.max(axis=1), "the prediction does not have the highest logit"
    )
    yield from told(
        np.abs(probabilities.sum(axis=1) - 1) > PROBABILITY_TOLERANCE,
        "the probabilities do not sum to 1",
    )
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax = powers / powers.sum(axis=1, keepdims=True)
    yield from told(
        (np.abs(probabilities - softmax) > PROBABILITY_TOLERANCE).any(axis=1),
        "the probabilities are not the softmax of the logits",
    )
    probability = documents["probability"].to_numpy().astype(np.float64)
    yield from told(
        ~(np.abs(probability - probabilities[every, predictions]) <= 1e-6),
        "the probability is not the prediction's",
    )


def _token_faults(
    tokens: pa.Table, rows: npt.NDArray[np.int64], characters: npt.NDArray[np.int32]
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Possible faults of a tokens file's rows, each with the rows that have it.

    `characters` (tokens,): the number of characters in each token's text.
    """
    start, end = tokens["start"].to_numpy(), tokens["end"].to_numpy()
    yield "the span is not inside the text", (start < 0) | (start > end) | (end > characters)
    wordless, special = tokens["word"].is_null().to_numpy(), tokens["special"].to_numpy()
    yield "a special token has a word", special & ~wordless
    piece, pieces = (tokens[name].fill_null(-1).to_numpy() for name in ("piece", "pieces"))
    in_word = (piece >= 0) & (piece < pieces)
    nothing = tokens["piece"].is_null().to_numpy() & tokens["pieces"].is_null().to_numpy()
    yield "the piece does not fit its word", np.where(wordless, ~nothing, ~in_word)
    new_token = _first_occurrences(rows, tokens["token_id"].to_numpy(), np.ones(len(rows), np.bool_))
    yield "new_token is wrong", tokens["new_token"].to_numpy() != new_token
    words = tokens["word"].combine_chunks().indices.fill_null(0).to_numpy()
    yield "new_word is wrong", tokens["new_word"].to_numpy() != _first_occurrences(rows, words, piece == 0)


def _segment_faults(
    tokens: pa.Table, rows: npt.NDArray[np.int64], segments: npt.NDArray[np.int8] | None
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Possible faults of the tokens' positions in the two texts of pairs; `segments` is -1 for null."""
    if segments is None:
        return
    # A special token written in a text belongs to that text.
    special = tokens["special"].to_numpy() & (tokens["start"].to_numpy() == tokens["end"].to_numpy())
    yield "the segment is not 0 or 1", ~special & (segments != 0) & (segments != 1)
    yield "a special token has a segment", special & (segments != -1)
    reached = np.maximum.accumulate(rows * 2 + segments)  # the latest text so far; special tokens are -1
    yield "a token of the first text comes after the second", ~special & (rows * 2 + segments < reached)


def _first_occurrences(
    rows: npt.NDArray[np.int64], terms: npt.NDArray[np.int32], counted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """The first occurrence of each term in its document, among the tokens that are `counted`."""
    first = np.zeros(len(rows), np.bool_)
    places = np.flatnonzero(counted)
    _, indices = np.unique((rows[places] << 32) | terms[places], return_index=True)
    first[places[indices]] = True
    return first


def _reduction_fault(
    values: pa.Array, reduction: StoredReduction, rows: npt.NDArray[np.int64], numbers: npt.NDArray[np.int32]
) -> str | None:
    """What is wrong with one column of a reduction; None if nothing is. Nulls are ignored."""
    there = rows if not values.null_count else rows[values.is_valid().to_numpy(zero_copy_only=False)]
    if not len(there):
        return None
    flat = values.flatten() if reduction.per_head else values.drop_null()
    heads = flat.to_numpy(zero_copy_only=False).reshape(len(there), -1)  # (tokens, heads or 1)
    finite = np.isfinite(heads).all(axis=1)
    if not finite.all():
        first = numbers[there[np.argmin(finite)]]
        return f"no finite number: {np.count_nonzero(~finite):,} of {len(there):,} tokens, first in document {first}"
    if reduction.total is None:
        return None
    counted = np.bincount(there, minlength=len(numbers)) > 0
    tolerance = TOTAL_TOLERANCE * (abs(reduction.total) or 1.0)
    off = np.zeros(len(numbers), np.bool_)
    for head in heads.T:
        sums = np.bincount(there, weights=head, minlength=len(numbers))
        off |= counted & (np.abs(sums - reduction.total) > tolerance)
    if not off.any():
        return None
    where = f"{np.count_nonzero(off):,} of {len(numbers):,} documents, first {numbers[np.argmax(off)]}"
    return f"the values do not sum to {reduction.total:g}: {where}"


def _entropy_fault(
    found: pa.ChunkedArray,
    values: pa.ChunkedArray,
    rows: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int32],
) -> str | None:
    """What is wrong with the documents' entropies of one column of a reduction; None if nothing is."""
    heads = values.type.list_size if pa.types.is_fixed_size_list(values.type) else 1
    expected = _entropies(_values(values).reshape(-1, heads), rows, len(numbers))
    stored = _values(found).reshape(-1, heads)  # in single precision
    same = np.isclose(stored, expected, rtol=1e-6, atol=1e-9, equal_nan=True).all(axis=1)
    if same.all():
        return None
    where = f"{np.count_nonzero(~same):,} of {len(numbers):,} documents, first {numbers[np.argmin(same)]}"
    return f"not that of the tokens: {where}"


def _entropies(
    values: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], documents: int
) -> npt.NDArray[np.float64]:
    """(documents, heads): −Σ p ln p over each document's tokens in nats, where p is a value over their sum.

    `values`: (tokens, heads); `rows`: the row of its document, for each token. NaN if a value is NaN or negative, or
    if the sum is 0.
    """
    entropies = np.empty((documents, values.shape[1]))
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, and so is the result for a negative value
        for head, of_head in enumerate(values.T):
            usable = np.where(of_head < 0, np.nan, of_head)
            parts = usable / np.bincount(rows, weights=usable, minlength=documents)[rows]
            entropies[:, head] = np.bincount(rows, weights=-xlogy(parts, parts), minlength=documents)
    entropies[np.bincount(rows, minlength=documents) == 0] = np.nan  # of no token
    return entropies
