"""The sums of a grown store's tokens, in double precision, so that the next append reads only new tokens.

    STORE/_sums/5f70….0-1.91ab….arrow

`totals.parquet` has these sums rounded to single precision: daily additions would be rounded daily. A name identifies
the tokens of the sums, says which of how many runs the file is (see `adding`), and has the beginning of its SHA-256.
The sums are only a shortcut: if anything is wrong with them, all tokens are read again, and the totals are the same to
the bit.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from attnstore.store.adding import run_columns
from attnstore.store.durable import writing
from attnstore.store.manifest import SUMS, StoredFile
from attnstore.store.place import Place, below, duplicate, names_below, opened, put_file, remove
from attnstore.store.totals import Summed, mark

_NAME = re.compile(r"([0-9a-f]{32})\.([0-9]{1,4})-([0-9]{1,4})\.([0-9a-f]{32})\.arrow")


@dataclass(frozen=True, slots=True)
class KeptSums:
    """The sums of one state of a store. `absent`: the columns without values for some of its tokens."""

    runs: tuple[Place, ...]
    absent: tuple[str, ...]


def tokens_of(files: Iterable[StoredFile]) -> str:
    """The identity of the tokens in a store's files, whatever the files' order."""
    of_tokens = sorted((f.path, f.rows, f.sha256) for f in files if f.path.startswith("tokens/"))
    return hashlib.sha256(repr(of_tokens).encode()).hexdigest()[:32]


def kept_sums(root: Place, tokens: str, schema: pa.Schema) -> KeptSums | None:
    """The sums of the tokens with identity `tokens`, for a tokens table of `schema`; None unless all are intact."""
    found: dict[int, Place] = {}
    wanted = set()
    absent: set[str] = set()
    try:
        for name in names_below(root / SUMS):
            named = _NAME.fullmatch(name)
            if named is None or named[1] != tokens:
                continue
            run = root / SUMS / name
            with opened(run) as file:
                if not hashlib.file_digest(file, "sha256").hexdigest().startswith(named[4]):  # type: ignore[arg-type]
                    return None
            found[int(named[2])] = run
            wanted.add(int(named[3]))
            columns = run_columns(run)
            marked = tuple(column for column in Summed(schema, ()).columns if mark(column) in columns)
            if columns != Summed(schema, marked).schema.names:
                return None
            absent.update(marked)
        if len(wanted) != 1 or sorted(found) != list(range(*wanted)):
            return None
    except (OSError, pa.ArrowException):
        return None
    runs = tuple(found[number] for number in sorted(found))
    return KeptSums(runs, tuple(column for column in schema.names if column in absent))


def keep_sums(root: Place, tokens: str, runs: Sequence[Place]) -> None:
    """Keep the runs of the tokens with the identity `tokens`. Raises StoreError if they can't be written.

    The store's own runs at their beginning get a second name; files on this machine are moved.
    """
    for number, run in enumerate(runs):
        with opened(run) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        name = f"{SUMS}/{tokens}.{number}-{len(runs)}.{digest[:32]}.arrow"
        if isinstance(run, Path) and run.suffix == ".tmp":
            put_file(root, name, run)
        else:
            duplicate(root, below(run, root).as_posix(), name)


def forget_sums(root: Place, but: Sequence[str]) -> None:
    """Remove all sums except those of the tokens with the identity `but`. Raises StoreError if that fails."""
    for name in names_below(root / SUMS):
        if name.partition(".")[0] not in but or name.endswith(".tmp"):
            with writing(root / SUMS / name):
                remove(root, f"{SUMS}/{name}")
