"""The messages between a run and its workers: records, over two pipes.

They are pickled, which is unsafe for untrusted data: but both ends are the same program on the same machine, and
nobody else has the pipes. Each record is preceded by its size and a checksum, so the remains of a process that ended
badly are never taken for a record.
"""

import pickle
import struct
import threading
import zlib
from dataclasses import dataclass
from typing import IO, Any

from attnstore.config import RunConfig
from attnstore.errors import AttnstoreError
from attnstore.pipeline.describe import LoadedModel
from attnstore.pipeline.parts import Step
from attnstore.store.manifest import Manifest, StoredFile


@dataclass(frozen=True, slots=True)
class Hired:
    """The first message to a worker: what to load. `config` contains no data."""

    config: RunConfig
    threads: int


@dataclass(frozen=True, slots=True)
class Begin:
    """To a worker that has loaded: the store, and the first worker's model. Parts follow (`parts.Part`)."""

    store: str
    manifest: Manifest
    model: LoadedModel


@dataclass(frozen=True, slots=True)
class Stop:
    """To a worker: finish the current part, and end."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """From a worker: it has loaded the model."""

    model: LoadedModel


@dataclass(frozen=True, slots=True)
class Took:
    """From a worker: it begins to compute a part."""

    part: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """From a worker: a batch of a part is computed."""

    part: int
    step: Step


@dataclass(frozen=True, slots=True)
class Wrote:
    """From a worker: a part is written; and the worker's state.

    `all_null`: the reductions without any value so far; `notes`: about how words were cut.
    """

    part: int
    files: tuple[StoredFile, ...]
    all_null: frozenset[str]
    notes: tuple[str, ...]
    model: LoadedModel


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker's last message: an error that any other worker would have, too."""

    error: AttnstoreError | MemoryError


#: Before a record: its size, and the CRC-32 of size and record.
_HEAD = struct.Struct("<QII")


class Wire:
    """One end of the two pipes. Any thread may send; one receives."""

    def __init__(self, reading: IO[bytes], writing: IO[bytes]) -> None:
        self._reading = reading
        self._writing = writing
        self._lock = threading.Lock()

    def send(self, message: object) -> None:
        """Raises OSError if the other end is closed."""
        content = pickle.dumps(message, protocol=5)
        size = len(content)
        head = _HEAD.pack(size, zlib.crc32(size.to_bytes(8, "little")), zlib.crc32(content))
        with self._lock:
            try:
                self._writing.write(head)
                self._writing.write(content)
                self._writing.flush()
            except ValueError as error:  # this end was closed in the meantime
                raise OSError(str(error)) from error

    def receive(self) -> Any:
        """Wait for the next record. Raises EOFError if there will be none, or if it is incomplete."""
        try:
            size, of_size, of_content = _HEAD.unpack(self._reading.read(_HEAD.size))
            if zlib.crc32(size.to_bytes(8, "little")) != of_size:
                raise EOFError("what came is no record")
            content = self._reading.read(size)
            if len(content) < size or zlib.crc32(content) != of_content:
                raise EOFError("what came is half a record")
        except (struct.error, OSError, ValueError) as error:
            raise EOFError(str(error)) from error
        return pickle.loads(content)  # noqa: S301 - of a process that the run has started, or of the run
