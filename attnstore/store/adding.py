"""Tokens summed by term, in bounded memory whatever the number of tokens and terms.

Sums are made in double precision, file by file, in arrays with a place for each term. When there are too many terms,
these sums become a *run*, a file sorted by term, and new sums begin. At the end the runs are merged, one range of
terms at a time. A term's sums are added in the order of the files, so the same files in the same order give the same
sums to the bit, even if some of them were summed earlier and their runs were kept.
"""

import itertools
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from attnstore.store.durable import new_file, writing
from attnstore.store.place import Place, for_arrow, opened
from attnstore.store.schema import lift
from attnstore.store.totals import KEYS, Summed, mark

#: The most sums in memory before they become a run, except for those of the last file: 512 MiB.
_SUMS_IN_MEMORY = 1 << 26
#: About how many values are read, and sums merged, at a time: 128 MiB.
_AT_A_TIME = 1 << 24
#: How many sums a batch of a run's file has. Merging holds one batch of each run.
_OF_A_BATCH = 1 << 16
#: The rows from which several threads read a file: handing a small one to them takes longer.
_LARGE = 50_000
#: The most runs that are merged at the same time; before there are more, they become one.
_RUNS = 256

_Whole = npt.NDArray[np.int64]
_Double = npt.NDArray[np.float64]

#: A term as Python compares them: in the order of the totals.
_Term = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Tokens:
    """A file of tokens of one split and, if the path says so, of one label."""

    place: Place
    split: str
    label: str | None

    def opened(self) -> pq.ParquetFile:
        """The file, open for reading. Raises pyarrow.ArrowException or OSError."""
        return pq.ParquetFile(for_arrow(self.place))


def add_up(
    files: Iterable[Tokens],
    summed: Summed,
    scratch: Path,
    *,
    before: Sequence[Place] = (),
    keep: Callable[[Sequence[Place]], None] | None = None,
) -> Iterator[pa.Table]:
    """The sums of the tokens of all files, with the columns of `summed.schema`, sorted by term, many rows at a time.

    A term without values comes after the same term with values. `scratch`: a directory for runs. `before`: the runs of
    other files, which count as the first ones. `keep` is called at the end with the runs of all files, in the form
    that `before` takes.
    """
    terms, runs = Terms(summed), list(before[:-1])
    for last in before[-1:]:
        with closing(_Run(last, summed)) as run:
            for table in run.tables():
                terms.add_sums(table)
    with ThreadPoolExecutor(1, "attnstore-sums") as aside:
        for file in files:
            terms.add_tokens(file, aside)
            if terms.full:
                runs.append(_written(terms.in_order(), summed, scratch))
                terms = Terms(summed)
                if len(runs) == _RUNS:
                    runs = [_together(runs, summed, scratch)]
    if runs or keep is not None:
        runs.append(_written(terms.in_order(), summed, scratch))
    if len(runs) < 2:
        yield from terms.in_order()
    else:
        del terms
        yield from _merged(runs, summed)
    if keep is not None:
        keep(runs)


class Terms:
    """Terms and their sums, in memory. Terms are placed in order of first occurrence."""

    def __init__(self, summed: Summed) -> None:
        self._summed = summed
        self._columns = summed.columns
        self._names = {name: _Names() for name in ("split", "label", "prediction", "token", "word")}
        self._shapes = _numbering()
        self._places = _numbering()
        self._parts = {part: _Grown(np.int64) for part in ("token", "word", "shape")}
        types = {field.name: field.type.to_pandas_dtype() for field in summed.schema}
        self._sums = {name: _Grown(types[name]) for name in types if name not in (*KEYS, *self._marks)}
        self._adding: Future[None] | None = None

    @property
    def _marks(self) -> list[str]:
        return list(map(mark, self._summed.absent))

    @property
    def full(self) -> bool:
        """Whether there are so many sums that they must become a run."""
        return len(self._places) * len(self._sums) > _SUMS_IN_MEMORY

    def add_tokens(self, tokens: Tokens, aside: Executor) -> None:
        """Sum the tokens of a file: the values in the thread `aside`, while the terms of the next file are looked up.

        Raises pyarrow.ArrowException or OSError if the file can't be read, or the one before it.
        """
        with ExitStack() as still_open:
            file = still_open.enter_context(tokens.opened())
            count = file.metadata.num_rows
            read = partial(file.read, use_threads=count > _LARGE)
            in_file = [name for name in KEYS if name != "split" and name in file.schema_arrow.names]
            table = read([*in_file, "new_token", "new_word", "length"])
            keys: dict[str, pa.ChunkedArray | str | None] = {"label": tokens.label}
            keys |= {name: table[name] for name in in_file} | {"split": tokens.split}
            absent = [read([name])[name].is_null().to_numpy() for name in self._summed.absent]
            codes, places = self._placed(keys, absent, count)
            self.settle()  # the values of one file at a time, because sums are made in the order of the files
            self._adding = aside.submit(
                self._add_file,
                still_open.pop_all(),
                read,
                table.select(["new_token", "new_word", "length"]),
                codes,
                places,
                len(self._places),
            )

    def settle(self) -> None:
        """Wait until everything is added. Raises what `add_tokens` does."""
        if self._adding is not None:
            self._adding.result()
            self._adding = None

    def _add_file(
        self,
        file: AbstractContextManager[object],
        read: Callable[[list[str]], pa.Table],
        counted: pa.Table,
        codes: _Whole,
        places: _Whole,
        terms: int,
    ) -> None:
        """Add the counts and values of an open file; `terms`: how many there are, including those of the file."""
        with file:
            self._make_room(terms)
            length = counted["length"].to_numpy().astype(np.float64)
            self._sums["occurrences"].add(places, np.bincount(codes, minlength=len(places)))
            for name in ("new_token", "new_word"):
                own = codes[counted[name].to_numpy()]
                self._sums[name].add(places, np.bincount(own, minlength=len(places)))
            for columns in self._groups(_AT_A_TIME // max(len(codes), 1)):
                table = read(columns)
                for column in columns:
                    self._add_values(column, table[column], codes, places, length)

    def _make_room(self, terms: int) -> None:
        for sums in self._sums.values():
            sums.grow(terms)

    def add_sums(self, table: pa.Table) -> None:
        """Add a run's rows, which have different terms. Marks may be missing if nothing was absent."""
        absent = [
            table[name].to_numpy() if name in table.column_names else np.zeros(table.num_rows, bool)
            for name in self._marks
        ]
        codes, places = self._placed({name: table[name] for name in KEYS}, absent, table.num_rows)
        self._make_room(len(self._places))
        for name, sums in self._sums.items():
            sums.add(places[codes], table[name].to_numpy())

    def in_order(self) -> Iterator[pa.Table]:
        """The rows of a run, many at a time."""
        self.settle()
        order, schema = self._order(), self._summed.schema
        shapes = self._shape_columns()
        texts = {name: names.array() for name, names in self._names.items()}
        for start in range(0, len(order), rows := max(1, _AT_A_TIME // 4 // len(self._sums))):
            own = order[start : start + rows]
            token, word, shape = (self._parts[name].of(own) for name in ("token", "word", "shape"))
            split, label, prediction, piece, pieces, special, *marks = shapes[:, shape]
            coded = {"split": split, "label": label, "prediction": prediction, "token": token, "word": word}
            columns: dict[str, Any] = {name: texts[name].take(pa.array(code)) for name, code in coded.items()}
            columns["piece"] = pa.array(piece.astype(np.int16), mask=piece < 0)
            columns["pieces"] = pa.array(pieces.astype(np.int16), mask=pieces < 0)
            columns["special"] = pa.array(special.astype(bool))
            columns |= {name: pa.array(m.astype(bool)) for name, m in zip(self._marks, marks, strict=True)}
            columns |= {name: pa.array(sums.of(own)) for name, sums in self._sums.items()}
            yield pa.table([columns[name] for name in schema.names], schema=schema)

    def _groups(self, values: int) -> Iterator[list[str]]:
        """The columns of reductions, grouped by their number of values per token."""
        group: list[str] = []
        for column, heads in self._columns.items():
            if group and sum(max(1, self._columns[name]) for name in group) + max(1, heads) > values:
                yield group
                group = []
            group.append(column)
        if group:
            yield group

    def _add_values(
        self, column: str, values: pa.ChunkedArray, codes: _Whole, places: _Whole, length: _Double
    ) -> None:
        """Add the values of a column, and their lifts. Absent values count as 0."""
        whole = values.combine_chunks()
        heads = self._columns[column]
        if heads:  # (rows, heads); the rows of nulls are arbitrary
            flat = _filled(whole.values.slice(whole.offset * heads, len(whole) * heads), 0.0)
            by_head = flat.reshape(-1, heads)
            if whole.null_count:
                by_head = np.where(whole.is_null().to_numpy(zero_copy_only=False)[:, None], 0, by_head)
            singles = list(by_head.T)
        else:
            singles = [_filled(whole, 0.0)]
        for name, single in zip(self._summed.sums(column), singles, strict=True):
            # Row by row, so that floats are added in a fixed order.
            doubles = single.astype(np.float64)
            self._sums[name].add(places, np.bincount(codes, doubles, len(places)))
            doubles *= length
            self._sums[lift(name)].add(places, np.bincount(codes, doubles, len(places)))

    def _placed(
        self,
        keys: dict[str, pa.ChunkedArray | str | None],
        absent: Sequence[npt.NDArray[np.bool_]],
        count: int,
    ) -> tuple[_Whole, _Whole]:
        """The terms of `count` rows, numbered in order of occurrence, and the place of each term. New terms get one.

        `keys`: by `KEYS`, or one value for all rows.
        """
        of_rows: list[_Whole] = []
        for name in KEYS:
            column = keys[name]
            if name in self._names:
                of_rows.append(self._names[name].codes(column, count))
            else:
                assert isinstance(column, pa.ChunkedArray)  # noqa: S101 - these are in every file
                # Null is -1, which has no place in a word.
                of_rows.append(_filled(column.cast(pa.int64()), -1))
        split, label, prediction, token, word, *rest = of_rows
        rest += [each.astype(np.int64) for each in absent]
        shape, first = _dense([split, label, prediction, *rest])
        shapes = zip(*(c[first].tolist() for c in (split, label, prediction, *rest)), strict=True)
        numbered = np.array([self._shapes[each] for each in shapes], np.int64)
        codes, first = _dense([token, word, shape])
        own = {"token": token[first], "word": word[first], "shape": numbered[shape[first]]}
        known = len(self._places)
        terms = packed(own["token"], own["word"], own["shape"])
        places = np.fromiter(map(self._places.__getitem__, terms), np.int64, len(terms))
        new = places >= known
        for name, part in own.items():
            self._parts[name].extend(part[new])
        return codes, places

    def _shape_columns(self) -> _Whole:
        """(keys but for token and word, and marks; shapes): what each shape is."""
        keys = len(KEYS) - 2 + len(self._marks)
        return np.array(list(self._shapes), np.int64).reshape(-1, keys).T

    def _order(self) -> _Whole:
        """The places, in the order of the terms."""
        ranks = {name: names.ranks() for name, names in self._names.items()}
        shapes = self._shape_columns()
        # What is compared before the token, and after the word; -1 is null, which comes last.
        head = [ranks[name][codes] for name, codes in zip(KEYS[:3], shapes, strict=False)]
        tail = [np.where(codes < 0, 1 << 20, codes) for codes in shapes[3:]]
        rows = {name: part.of(slice(None)) for name, part in self._parts.items()}
        before, after = _ranks(head), _ranks(tail)
        shape = rows["shape"]
        by_word = ranks["word"][rows["word"]] << 32 | after[shape]
        by_token = before[shape] << 32 | ranks["token"][rows["token"]]
        order: _Whole = np.lexsort([by_word, by_token])
        return order


def _numbering() -> defaultdict[Any, int]:
    """A key gets the next number when it is looked up for the first time."""
    return defaultdict(itertools.count().__next__)


def _filled(column: "pa.Array | pa.ChunkedArray", value: float) -> npt.NDArray[Any]:
    """A column with a value in place of nulls."""
    whole = column.fill_null(value) if column.null_count else column
    return np.asarray(whole.to_numpy(zero_copy_only=False))


class _Names:
    """Texts, each with a number; None counts as a text."""

    def __init__(self) -> None:
        self._numbers = _numbering()

    def codes(self, column: pa.ChunkedArray | str | None, count: int) -> _Whole:
        """The numbers of a column's texts, or one text's number `count` times."""
        if not isinstance(column, pa.ChunkedArray):
            return np.full(count, self._numbers[column], np.int64)
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        whole = (
            encoded.unify_dictionaries().combine_chunks()
        )  # a text is looked up once, not once in each chunk
        names = whole.dictionary.to_numpy(zero_copy_only=False)
        numbers = np.fromiter(map(self._numbers.__getitem__, names), np.int64, len(names))
        if whole.null_count:
            numbers = np.append(numbers, self._numbers[None])
        found: _Whole = numbers[_filled(whole.indices, len(names))]
        return found

    def array(self) -> pa.Array:
        """All texts, by their numbers."""
        return pa.array(list(self._numbers), pa.string())

    def ranks(self) -> _Whole:
        """The rank of each text, sorted by bytes; None comes last."""
        order = pl.from_arrow(self.array()).arg_sort(nulls_last=True).to_numpy()  # type: ignore[union-attr]
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order))
        return ranks


class _Grown:
    """An array with spare room. What is not written yet is 0."""

    def __init__(self, dtype: type) -> None:
        self._content: npt.NDArray[Any] = np.zeros(0, dtype)
        self._count = 0

    def grow(self, count: int) -> None:
        if count > len(self._content):
            grown = np.zeros(max(count, 3 * self._count // 2, 1024), self._content.dtype)
            grown[: self._count] = self._content[: self._count]
            self._content = grown
        self._count = count

    def extend(self, values: npt.NDArray[Any]) -> None:
        start = self._count
        self.grow(start + len(values))
        self._content[start : self._count] = values

    def add(self, places: _Whole, values: npt.NDArray[Any]) -> None:
        """Add to these places, which are all different."""
        self._content[places] += values

    def of(self, places: "_Whole | slice") -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = self._content[: self._count][places]
        return found


def _dense(columns: Sequence[_Whole]) -> tuple[_Whole, _Whole]:
    """Rows of several columns, numbered by first occurrence with equal rows alike, and each number's first row."""
    code, size = np.zeros(len(columns[0]), np.int64), 1
    for column in columns:
        low, high = (int(column.min()), int(column.max())) if len(column) else (0, 0)
        span = high - low + 1
        if size * span > 1 << 62:
            code = pa.array(code).dictionary_encode().indices.to_numpy().astype(np.int64)
            size = int(code.max()) + 1
        if span > 1:
            code = code * span + (column - low)
        size *= span
    encoded = pa.array(code).dictionary_encode()
    numbers = encoded.indices.to_numpy().astype(np.int64)
    first = np.empty(len(encoded.dictionary), np.int64)
    first[numbers[::-1]] = np.arange(len(numbers) - 1, -1, -1)  # the last write to a place counts
    return numbers, first


def packed(token: _Whole, word: _Whole, shape: _Whole) -> list[int]:
    """One number per row instead of three, all below 2³¹: a million of these take a third of the memory.

    It has 63 bits if it can, and 94 otherwise.
    """
    keys: list[int] = (token << 43 | word << 19 | shape).tolist()
    for row in np.flatnonzero((token >= 1 << 20) | (word >= 1 << 24) | (shape >= 1 << 19)).tolist():
        keys[row] = (1 << 31 | int(token[row])) << 62 | int(word[row]) << 31 | int(shape[row])
    return keys


def _ranks(columns: Sequence[_Whole]) -> _Whole:
    """The rank of each row, sorted by several columns; equal rows have the same rank."""
    _, ranks = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    found: _Whole = ranks.reshape(-1).astype(np.int64)
    return found


# -- runs -------------------------------------------------------------------------------------------------


def _written(tables: Iterable[pa.Table], summed: Summed, scratch: Path) -> Path:
    """A run's file, with `tables` as its batches."""
    number = next(n for n in itertools.count() if not (scratch / f"run-{n:05d}.tmp").exists())
    path = scratch / f"run-{number:05d}.tmp"
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 1), use_threads=False)
    with (
        writing(scratch),
        new_file(path) as file,
        pa.ipc.new_file(file, summed.schema, options=options) as writer,
    ):
        for table in tables:
            writer.write_table(table, max(1, _OF_A_BATCH // len(summed.schema)))
    return path


def _together(runs: Sequence[Place], summed: Summed, scratch: Path) -> Path:
    """One run in place of several; those in `scratch` are removed."""
    together = _written(_merged(runs, summed), summed, scratch)
    for run_file in scratch.glob("run-*.tmp"):
        if run_file != together:
            run_file.unlink()
    return together


def run_columns(place: Place) -> list[str]:
    """The columns of a run. Raises pyarrow.ArrowException or OSError if it is not a run."""
    with opened(place) as file:
        names: list[str] = pa.ipc.open_file(file).schema.names
        return names


class _Run:
    """A run, which is read once, from its first term to its last."""

    def __init__(self, place: Place, summed: Summed) -> None:
        self._place = place
        self._marks = [mark(column) for column in summed.absent]
        self._content = opened(place)
        self._file = pa.ipc.open_file(self._content, options=pa.ipc.IpcReadOptions(use_threads=False))
        self._at, self._offset = 0, 0
        self._held: pa.RecordBatch | None = None

    def close(self) -> None:
        self._content.close()

    @cached_property
    def ends(self) -> list[tuple[_Term, int]]:
        """The last term of each batch, and how many rows the batch has."""
        fields = [n for n, name in enumerate(self._file.schema.names) if name in (*KEYS, *self._marks)]
        options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
        with opened(self._place) as content:
            keys = pa.ipc.open_file(content, options=options)
            batches = map(keys.get_batch, range(keys.num_record_batches))
            return [(self._term(batch, batch.num_rows - 1), batch.num_rows) for batch in batches]

    def tables(self, until: _Term | None = None) -> Iterator[pa.Table]:
        """The unread rows up to and including this term; all of them for None."""
        while self._at < self._file.num_record_batches:
            if self._held is None:
                self._held = self._file.get_batch(self._at)
                # A file itself says where each text is, and the runs of a grown store may be untrusted.
                self._held.validate(full=True)
            batch, start = self._held, self._offset
            stop = batch.num_rows
            if until is not None and self.ends[self._at][0] > until:
                own = partial(self._term, batch)
                stop = start + bisect_right(range(start, stop), until, key=own)
            if stop > start:
                yield pa.Table.from_batches([batch.slice(start, stop - start)])
            if stop < batch.num_rows:
                self._offset = stop
                return
            self._at, self._offset, self._held = self._at + 1, 0, None

    def _term(self, batch: pa.RecordBatch, row: int) -> _Term:
        keys = (batch[name][row].as_py() for name in KEYS)
        kept = batch.schema.names
        marks = (name in kept and batch[name][row].as_py() for name in self._marks)
        # Python compares texts in the same order as their UTF-8; null comes last.
        return (*((key is None, "" if key is None else key) for key in keys), *marks)


def _merged(places: Sequence[Place], summed: Summed) -> Iterator[pa.Table]:
    """The rows of several runs as one run: sums of the same term are added in the order of the runs."""
    with ExitStack() as stack:
        runs = [stack.enter_context(closing(_Run(place, summed))) for place in places]
        for until in _ranges([end for run in runs for end in run.ends], len(summed.schema)):
            terms = Terms(summed)
            for run in runs:
                for table in run.tables(until):
                    terms.add_sums(table)
            yield from terms.in_order()


def _ranges(ends: list[tuple[_Term, int]], columns: int) -> Iterator[_Term | None]:
    """The last terms of ranges with about as many sums as are merged at a time; None ends the last range."""
    ends.sort(key=lambda end: end[0])
    rows = 0
    for term, of_batch in ends:
        rows += of_batch
        if rows * columns > _AT_A_TIME:
            yield term
            rows = 0
    yield None
