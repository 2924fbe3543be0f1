"""One writer at a time in a bucket, which has no locks: an object that is put only if there is none, valid for a
lease.

Its holder renews it every third of the lease, by a put that succeeds only if nobody else has written it since. Another
process that finds it not renewed for a whole lease takes it over in the same way. This does not depend on comparing
two clocks: a lease that looks expired is watched for its whole length before it is taken over, and a holder that could
not renew it for as long by its own clock stops writing (`check`).
"""

import json
import math
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from attnstore.buckets import Bucket, Tag
from attnstore.errors import StoreError
from attnstore.messages import one_line
from attnstore.store.durable import writing

LOCK = "writer.lock"

#: Seconds.
LEASE = 60.0
#: A lock that claims to be valid for longer is not attnstore's.
_LONGEST = 3600.0


@dataclass(frozen=True, slots=True)
class _Holder:
    """Who has the lock: `machine` distinguishes processes on a host from those in its containers."""

    owner: str
    process: int
    host: str
    machine: str
    renewed: float  # by the holder's clock, seconds since 1970
    lease: float

    def written(self) -> bytes:
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__}).encode()

    @classmethod
    def read(cls, content: bytes) -> Self | None:
        """The holder that a lock names; None if it names nobody."""
        try:
            raw = json.loads(content)
            found = cls(
                str(raw["owner"]),
                int(raw["process"]),
                str(raw["host"]),
                str(raw["machine"]),
                float(raw["renewed"]),
                float(raw["lease"]),
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None
        # A lock without a holder would be waited for forever.
        return found if 0 < found.lease <= _LONGEST and math.isfinite(found.renewed) else None

    def is_dead(self) -> bool:
        """Whether it is a process of this machine that has ended."""
        if self.machine != _machine() or not self.machine:
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False


class Lease:
    """The lock of a store in a bucket, renewed in a thread until it is released."""

    def __init__(self, file: Bucket, owner: str, tag: Tag, since: float, length: float) -> None:
        """`since`: when the current lock was about to be written, by the monotonic clock."""
        self.file = file
        self._owner, self._tag, self._since, self._length = owner, tag, since, length
        self._lost = False
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise StoreError if another process has, or may have, the lock by now."""
        if self._late() and not self._lost:
            with suppress(OSError):
                self._renew()
        if self._lost or self._late():
            raise StoreError(
                f"the lock of {self.file.parent} could not be renewed within {self._length:g} seconds, and another "
                "process may write now: the parts finished so far are kept: run again to resume"
            )

    def release(self) -> None:
        """Let the next writer in. Harmless when done twice, or when the lock is no longer ours."""
        if self._end.is_set():
            return
        self._end.set()
        self._thread.join()
        with suppress(OSError):
            if not self._lost and (_holder(self.file.read_bytes()) or _NOBODY).owner == self._owner:
                self.file.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _late(self) -> bool:
        return time.monotonic() - self._since > self._length

    def _keep(self) -> None:
        while not self._end.wait(self._length / 3) and not self._lost:
            with suppress(OSError):  # the server does not answer: try again next time
                self._renew()

    def _renew(self) -> None:
        with self._lock:
            since = time.monotonic()
            ourselves = _this_holder(self._owner, self._length).written()
            tag = self.file.put_if(ourselves, self._tag)
            # A renewal that succeeded but was reported failed has left a tag that is not known here.
            if tag is None and (there := self._ours()):
                tag = self.file.put_if(ourselves, there)
            if tag is None:
                self._lost = True
            else:
                self._tag, self._since = tag, since

    def _ours(self) -> Tag | None:
        """The tag of the lock if it is still ours."""
        try:
            content, tag = self.file.tagged()
        except FileNotFoundError:
            return None
        return tag if (_holder(content) or _NOBODY).owner == self._owner else None


def lease(store: Bucket) -> Lease:
    """Take the lock of the store in a bucket.

    Raises:
        StoreError: another process holds it, or it can't be written.
    """
    file, owner, length = store / LOCK, uuid.uuid4().hex, LEASE
    with writing(file):
        while True:
            since = time.monotonic()
            if tag := file.put_if(_this_holder(owner, length).written(), None):
                return Lease(file, owner, tag, since, length)
            try:
                content, there = file.tagged()
            except FileNotFoundError:  # it was just released
                continue
            holder = _holder(content) or _NOBODY
            if not holder.is_dead():
                if time.time() - holder.renewed < holder.lease:
                    raise StoreError(f"{store} is being written by {_worded(holder)}")
                time.sleep(holder.lease)
            since = time.monotonic()
            if tag := file.put_if(_this_holder(owner, length).written(), there):
                return Lease(file, owner, tag, since, length)
            raise StoreError(f"{store} is being written by another process: wait for it, and run again")


_NOBODY = _Holder("", 0, "", "", 0.0, LEASE)
_holder = _Holder.read


def _this_holder(owner: str, length: float) -> _Holder:
    return _Holder(owner, os.getpid(), socket.gethostname(), _machine(), time.time(), length)


def _machine() -> str:
    """The namespace of process numbers: the running system, and the container. Empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _worded(holder: _Holder) -> str:
    """Who holds the lock, and what to do about it."""
    process = f"process {holder.process} on {one_line(holder.host)}"
    return (
        f"{process}: wait for it, or stop it, and run again (where it has died, its lock lapses after "
        f"{holder.lease:g} seconds)"
    )
