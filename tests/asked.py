"""Asks questions like the explorer: over connections that are kept for the next question to the same store.

Opening a database and creating its views takes longer than most questions to a small store. That `attnstore query`
opens one for itself is tested in tests/ask/test_sql.py and by the commands. The views name the files of the first
question: if files are written between two questions, use `attnstore.ask.answer.ask`.
"""

from collections import OrderedDict
from collections.abc import Mapping

import pyarrow as pa

from attnstore.ask import answer
from attnstore.ask.pool import Pool, Work
from attnstore.ask.questions import Engine, Question
from attnstore.store.store import Store

#: By the store object, so that a store opened again, which may have other files, has its own connections.
_POOLS: OrderedDict[int, Pool] = OrderedDict()
_KEPT = 4


def ask(
    store: Store,
    question: Question,
    parameters: Mapping[str, object] | None = None,
    engine: Engine = "duckdb",
    **more: object,
) -> pa.Table:
    """Like `attnstore.ask.answer.ask`."""
    return answer.ask(store, question, parameters, engine, connect=Work(_pool(store)).connect, **more)


def _pool(store: Store) -> Pool:
    pool = _POOLS.setdefault(id(store), Pool(store))
    _POOLS.move_to_end(id(store))
    while len(_POOLS) > _KEPT:
        _POOLS.popitem(last=False)[1].close()
    return pool
