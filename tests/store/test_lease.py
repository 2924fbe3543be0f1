"""Promises of attnstore.store.lease: a bucket has one writer at a time, even if writers die, stall or go offline."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from bucket_server import BUCKET, Server
from small_store import manifest, tables

from attnstore.buckets import Bucket
from attnstore.errors import StoreError
from attnstore.store import lease as module
from attnstore.store.lease import LEASE, Lease, lease
from attnstore.store.resume import create_or_resume

pytestmark = pytest.mark.slow  # each test process that uses the server starts one


class Clock:
    """A clock shared by all, which a test advances. `meanwhile` happens while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.slept: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.meanwhile()
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of all holders. They renew their leases only when a test says so."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(Lease, "_keep", lambda _: None)
    return clock


@pytest.fixture
def store(bucket: Server, request: pytest.FixtureRequest) -> Bucket:
    return Bucket(f"s3://{BUCKET}/{request.node.name}.attn")


def holder(store: Bucket) -> dict[str, object]:
    """The holder of the lock, as the bucket records it."""
    found: dict[str, object] = json.loads((store / "writer.lock").read_bytes())
    return found


def elsewhere(store: Bucket, **changes: object) -> None:
    """Make the lock look like one of a process on another machine."""
    here = holder(store)
    (store / "writer.lock").put(json.dumps(here | {"machine": "another", "host": "far"} | changes).encode())


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as refused:
        action()
    return str(refused.value)


def test_the_second_writer_is_refused_and_learns_who_writes(clock: Clock, store: Bucket) -> None:
    """At once, and for as long as the first one renews its lease."""
    with lease(store) as held:
        for _ in range(3):
            who = f"process {os.getpid()} on {holder(store)['host']}"
            assert refusal(lambda: lease(store)) == (
                f"{store} is being written by {who}: wait for it, or stop it, and run again (where it has died, its"
                " lock lapses after 60 seconds)"
            )
            clock.now += LEASE - 1
            held._renew()
        held.check()
    assert clock.slept == []
    assert store.sizes() == {}
    lease(store).release()


def test_a_lapsed_lease_is_taken_over_after_it_has_been_watched_for_its_whole_length(
    clock: Clock, store: Bucket
) -> None:
    """The former holder, which had stalled, then writes nothing and leaves the lock to its new holder."""
    stalled = lease(store)
    elsewhere(store)
    clock.now += LEASE + 1
    with lease(store) as ours:
        assert clock.slept == [LEASE]
        ours.check()
        owner = holder(store)["owner"]
        assert refusal(stalled.check) == (
            f"the lock of {store} could not be renewed within 60 seconds, and another process may write now: the parts"
            " finished so far are kept: run again to resume"
        )
        stalled.release()
        assert holder(store)["owner"] == owner


def test_a_holder_with_a_wrong_clock_keeps_its_lock(clock: Clock, store: Bucket) -> None:
    """Its clock is an hour slow, so its lease looks lapsed.

    Clocks are not compared: the lease is watched until it is renewed.
    """
    with lease(store) as held:
        elsewhere(store, renewed=clock.now - 3600)
        held._tag = (store / "writer.lock").tag()
        clock.meanwhile = held._renew
        assert refusal(lambda: lease(store)).startswith(f"{store} is being written by another process")
        held.check()


def test_the_lock_of_a_process_that_has_ended_on_this_machine_is_taken_at_once(
    clock: Clock, store: Bucket
) -> None:
    """Whether such a process has ended can be seen; for a process of a container it can't."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    stalled = lease(store)
    (store / "writer.lock").put(json.dumps(holder(store) | {"process": process.pid}).encode())
    lease(store).release()
    assert clock.slept == []
    stalled.release()


def test_writing_ends_with_the_lease_if_the_server_does_not_answer(
    clock: Clock, bucket: Server, store: Bucket
) -> None:
    """Not before. If nobody else takes the lease meanwhile, it is resumed when the server answers again."""
    with lease(store) as held:
        with bucket.failing(lambda method, _: "unavailable" if method == "PUT" else None):
            clock.now += LEASE - 1
            held.check()
            clock.now += 2
            assert "could not be renewed within 60 seconds" in refusal(held.check)
        held.check()
        assert holder(store)["renewed"] == clock.now


def test_a_renewed_lease_whose_answer_was_lost_is_still_held(
    clock: Clock, bucket: Server, store: Bucket
) -> None:
    """The server has renewed it without answering: the lease in the bucket is ours, under a tag we have not seen."""
    with lease(store) as held:
        with bucket.failing(lambda method, _: "lost" if method == "PUT" else None):
            clock.now += 1
            with pytest.raises(OSError, match="500"):
                held._renew()
        assert holder(store)["renewed"] == clock.now
        clock.now += 1
        held._renew()
        assert holder(store)["renewed"] == clock.now
        clock.now += LEASE - 1
        held.check()


def test_only_one_of_many_takes_over_a_lapsed_lease(clock: Clock, store: Bucket) -> None:
    """Taking over is one conditional put."""
    stalled = lease(store)
    elsewhere(store, renewed=0.0)
    together = Barrier(4)
    clock.sleep = lambda _: together.wait(60)  # type: ignore[method-assign]
    with ThreadPoolExecutor(4) as crowd:
        tries = [crowd.submit(lease, store) for _ in range(4)]
    held = [each.result() for each in tries if each.exception() is None]
    assert len(held) == 1
    assert holder(store)["owner"] == held[0]._owner
    assert {type(each.exception()) for each in tries} == {type(None), StoreError}
    held[0].release()
    stalled.release()


def test_an_invalid_lock_lapses(clock: Clock, store: Bucket) -> None:
    """A torn or foreign file names nobody who could renew it."""
    (store / "writer.lock").put(b"{")
    lease(store).release()
    assert clock.slept == [LEASE]


def test_a_store_whose_lease_is_lost_is_not_written(clock: Clock, store: Bucket) -> None:
    """The part being computed gets no receipt, and the manifest remains the new writer's."""
    plan = manifest()
    written = create_or_resume(store, plan)
    written.write_part(0, *tables(plan, written.part_range(0)))
    elsewhere(store, owner="other")
    clock.now += LEASE + 1
    before = {name: size for name, size in store.sizes().items() if not name.startswith("tokens")}
    for action in (
        lambda: written.write_part(1, *tables(plan, written.part_range(1))),
        lambda: written.record_run({}),
        written.seal,
    ):
        assert "another process may write now" in refusal(action)
    after = {name: size for name, size in store.sizes().items() if not name.startswith("tokens")}
    assert after == before
    written.close()
    assert holder(store)["owner"] == "other"


def test_a_lease_renews_itself(store: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread, at intervals of a third of its length."""
    monkeypatch.setattr(module, "LEASE", 0.06)
    seen: set[object] = set()
    with lease(store):
        end = time.monotonic() + 60
        while len(seen) < 3:
            assert time.monotonic() < end, "it is not renewed"
            seen.add(holder(store)["renewed"])
