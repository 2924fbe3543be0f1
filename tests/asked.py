"""Questions asked as the explorer asks them: over connections that are kept for the next question to the same store.

Opening a database and making its views takes longer than most questions to a small store. What `attnstore query` opens
for itself, once, is tested in tests/ask/test_sql.py and by the commands. The views name the files that were there at
the first question: what is written between two questions needs `attnstore.ask.answer.ask`.
"""

from collections import OrderedDict
from collections.abc import Mapping

import pyarrow as pa

from attnstore.ask import answer
from attnstore.ask.pool import Pool, Work
from attnstore.ask.questions import Engine, Question
from attnstore.store.store import Store

#: By the store itself, so that one opened again, which may have other files, has connections of its own.
_POOLS: OrderedDict[int, Pool] = OrderedDict()
_KEPT = 4


def ask(
    store: Store,
    question: Question,
    parameters: Mapping[str, object] | None = None,
    engine: Engine = "duckdb",
    **more: object,
) -> pa.Table:
    """As `attnstore.ask.answer.ask`."""
    return answer.ask(store, question, parameters, engine, connect=Work(_pool(store)).connect, **more)


def _pool(store: Store) -> Pool:
    pool = _POOLS.setdefault(id(store), Pool(store))
    _POOLS.move_to_end(id(store))
    while len(_POOLS) > _KEPT:
        _POOLS.popitem(last=False)[1].close()
    return pool
