"""What a grown store's tokens add up to, in double precision, so that the next append reads only what is new.

    STORE/_sums/5f70….0.91ab….parquet

`totals.parquet` has these sums rounded to single precision: what is added to them each day would be rounded each day.
A name says of which tokens the sums are, which of the passes of adding up they are from, and what the file's own
SHA-256 begins with. They are a shortcut and no more: where anything about them is not as it has to be, all tokens are
read again, and the totals are the same to the bit.
"""

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from attnstore.store.durable import writing
from attnstore.store.manifest import SUMS, StoredFile
from attnstore.store.place import Place, for_arrow, names_below, opened, put, remove
from attnstore.store.totals import KEYS, absent_in, sums_by_pass

_NAME = re.compile(r"([0-9a-f]{32})\.([0-9]{1,4})\.([0-9a-f]{32})\.parquet")


@dataclass(frozen=True, slots=True)
class KeptSums:
    """The sums of one state of a store. `absent`: the columns that lack values for some of its tokens."""

    files: tuple[Place, ...]
    absent: tuple[str, ...]

    def of_pass(self, number: int) -> pl.DataFrame:
        """The sums that one pass made."""
        with opened(self.files[number]) as file:
            return pl.read_parquet(io.BytesIO(file.read()))


def tokens_of(files: Iterable[StoredFile]) -> str:
    """What the tokens in a store's files are known by, in whatever order these are listed."""
    of_tokens = sorted((f.path, f.rows, f.sha256) for f in files if f.path.startswith("tokens/"))
    return hashlib.sha256(repr(of_tokens).encode()).hexdigest()[:32]


def kept_sums(root: Place, tokens: str, schema: pa.Schema) -> KeptSums | None:
    """The sums of the tokens that are known by `tokens`, for a tokens table of `schema`; None unless all are sound."""
    found: dict[int, Place] = {}
    try:
        for name in names_below(root / SUMS):
            named = _NAME.fullmatch(name)
            if named is None or named[1] != tokens:
                continue
            with opened(root / SUMS / name) as file:
                if not hashlib.file_digest(file, "sha256").hexdigest().startswith(named[3]):  # type: ignore[arg-type]
                    return None
            found[int(named[2])] = root / SUMS / name
        passes = sums_by_pass(schema)
        if sorted(found) != list(range(len(passes))):
            return None
        files = tuple(found[number] for number in range(len(passes)))
        columns = [pq.read_schema(for_arrow(file)).names for file in files]
    except (OSError, pa.ArrowException):
        return None
    absent = absent_in(columns[0], schema)
    wanted = [[*KEYS, *(f"{column}:absent" for column in absent), *names] for names in passes]
    return KeptSums(files, tuple(absent)) if columns == wanted else None


def keep_sums(root: Place, tokens: str, number: int, sums: pl.DataFrame) -> None:
    """Keep what one pass over the tokens known by `tokens` made. Raises StoreError if it can't be written."""
    buffer = io.BytesIO()
    sums.write_parquet(buffer, compression="zstd", compression_level=3)
    content = buffer.getvalue()
    name = f"{SUMS}/{tokens}.{number}.{hashlib.sha256(content).hexdigest()[:32]}.parquet"
    put(root, name, content, f"{name}.tmp")


def forget_sums(root: Place, but: Sequence[str]) -> None:
    """Remove all sums but those of the tokens known by `but`. Raises StoreError if they stay."""
    for name in names_below(root / SUMS):
        if name.partition(".")[0] not in but or name.endswith(".tmp"):
            with writing(root / SUMS / name):
                remove(root, f"{SUMS}/{name}")
