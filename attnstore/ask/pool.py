"""Reused connections to a store, for programs that answer many questions, such as the explorer."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from attnstore.ask.answer import ask
from attnstore.ask.questions import Question
from attnstore.ask.scale import Scales
from attnstore.ask.sql import beside, database, select, views_of
from attnstore.errors import StoreError, UsageError
from attnstore.store.frames import NOTHING, QuestionColumns
from attnstore.store.store import Store

_KEPT = 8  # idle connections; each holds a few MB while it computes nothing
_KEPT_ANSWERS = 32
_LARGE = 4 << 20  # bytes; larger answers are not kept


class Pool:
    """Connections to one state of a store. Each serves one request at a time; the least recently used are closed.

    `scales`: where its pictures' shades are full.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.scales = Scales(store)
        self._idle: OrderedDict[tuple[str, ...], list[duckdb.DuckDBPyConnection]] = OrderedDict()
        self._answers: OrderedDict[tuple[object, ...], pa.Table] = OrderedDict()
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._first: duckdb.DuckDBPyConnection | None = (
            None  # to the database of all others; it answers nothing itself
        )
        self._closed = False

    @contextmanager
    def lease(self, added: QuestionColumns, macros: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with these columns and macros. One whose statement failed is not used again."""
        key = (repr(added), *macros)
        with self._lock:
            waiting = self._idle.get(key)
            connection = waiting.pop() if waiting else None
        if connection is None:
            connection = self._another(added, macros)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._keep(key, connection)

    def _another(self, added: QuestionColumns, macros: Sequence[str]) -> duckdb.DuckDBPyConnection:
        with self._opening:
            if self._first is None:
                self._first = database(self.store, views_of(self.store).read)
            try:
                return beside(self.store, self._first, added, macros)
            except StoreError:  # the database may be broken: the next one starts afresh
                self._first.close()
                self._first = None
                raise

    def kept(self, key: tuple[object, ...]) -> pa.Table | None:
        """The answer kept under this key, or None."""
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
            return self._answers.get(key)

    def keep(self, key: tuple[object, ...], answer: pa.Table) -> None:
        """Keep an answer, unless it is large, and drop the least recently used ones."""
        if answer.nbytes > _LARGE:
            return
        with self._lock:
            self._answers[key] = answer
            while len(self._answers) > _KEPT_ANSWERS:
                self._answers.popitem(last=False)

    def close(self) -> None:
        """Close idle connections; those in use are closed when they are returned."""
        with self._lock:
            self._closed = True
            waiting = [each for several in self._idle.values() for each in several]
            self._idle.clear()
        with self._opening:
            waiting += [] if self._first is None else [self._first]
            self._first = None
        for connection in waiting:
            connection.close()

    def _keep(self, key: tuple[str, ...], connection: duckdb.DuckDBPyConnection) -> None:
        surplus = []
        with self._lock:
            if self._closed:
                surplus.append(connection)
            else:
                self._idle.setdefault(key, []).append(connection)
                self._idle.move_to_end(key)
                while sum(map(len, self._idle.values())) > _KEPT:
                    oldest = next(each for each, several in self._idle.items() if several)
                    surplus.append(self._idle[oldest].pop(0))
                for empty in [each for each, several in self._idle.items() if not several]:
                    del self._idle[empty]
        for each in surplus:
            each.close()


class Work:
    """One request's use of a pool. `end` stops it from another thread, whatever it is computing."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._lock = threading.Lock()
        self._current: duckdb.DuckDBPyConnection | None = None
        self._ended = False

    @contextmanager
    def connect(
        self, store: Store, added: QuestionColumns = NOTHING, macros: Sequence[str] = ()
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """As `attnstore.ask.sql.connect`, over the pool's store.

        Raises:
            UsageError: the work was already ended.
            StoreError: the store can't be read.
        """
        assert store is self.pool.store  # noqa: S101 - a pool of another store would answer for the wrong one
        with self.pool.lease(added, macros) as connection:
            with self._lock:
                self._current = connection
            try:
                if self._ended:
                    raise UsageError("stopped")
                yield connection
            except Exception:
                # Whatever an engine raises when it is stopped: that may happen anywhere, even between two statements.
                if self._ended:
                    raise UsageError("stopped") from None
                raise
            finally:
                with self._lock:
                    self._current = None

    def ask(self, question: Question, asked: Mapping[str, str]) -> pa.Table:
        """The answer to a shipped question, computed once: a page needs it for its table, its chart and its files.

        Raises as `attnstore.ask.answer.ask`, and UsageError if the work was ended.
        """
        key = (question.name, *sorted(asked.items()))
        answer = self.pool.kept(key)
        if answer is None:
            answer = ask(self.pool.store, question, dict(asked), connect=self.connect)
            self.pool.keep(key, answer)
        return answer

    def select(self, sql: str, values: Mapping[str, Any] | None = None) -> pa.Table:
        """The answer to a statement of the program's own, its `$names` bound to `values`, computed once.

        Raises as `attnstore.ask.sql.select`, and UsageError if the work was ended.
        """
        key = (sql, *sorted((values or {}).items()))
        answer = self.pool.kept(key)
        if answer is None:
            with self.connect(self.pool.store) as connection:
                answer = select(self.pool.store, connection, sql, values)
            self.pool.keep(key, answer)
        return answer

    @property
    def ended(self) -> bool:
        return self._ended

    def end(self) -> None:
        """Stop the running statement, and all later ones. Call it until the work has returned."""
        with self._lock:
            self._ended = True
            if self._current is not None:
                self._current.interrupt()
