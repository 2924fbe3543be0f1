"""Promises of attnstore.store.lent: workers write parts under the lock of the run that started them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from small_store import contents, manifest, run, tables

from attnstore.errors import StoreError
from attnstore.store.lent import lent_store
from attnstore.store.resume import create_or_resume


@pytest.mark.slow
def test_parts_that_workers_wrote_are_sealed_to_the_bytes_of_one_writer(tmp_path: Path) -> None:
    """Each part is written through its own store object. The lender accepts the parts and seals the store."""
    plan = manifest()
    run(tmp_path / "one", plan)
    with create_or_resume(tmp_path / "store", plan) as store:
        for part in (2, 0, 1):
            with lent_store(store.path, store.manifest, lambda: True) as worker:
                store.take_part(part, worker.write_part(part, *tables(plan, store.part_range(part))))
        assert store.missing_parts() == []
        store.seal(sealed="2026-01-02T03:04:06+00:00")
    assert contents(tmp_path / "store") == contents(tmp_path / "one")


@pytest.mark.slow
def test_two_simultaneous_writers_leave_a_part_complete(tmp_path: Path) -> None:
    """One may be a worker that was thought dead. No write fails, and the part is as one writer leaves it."""
    plan = manifest(documents=4)
    run(tmp_path / "one", plan)
    with create_or_resume(tmp_path / "store", plan) as store, ThreadPoolExecutor(2) as both:
        for _ in range(20):
            workers = [lent_store(store.path, store.manifest, lambda: True) for _ in range(2)]
            writing = [both.submit(worker.write_part, 0, *tables(plan, range(4))) for worker in workers]
            assert writing[0].result() == writing[1].result()
        store.take_part(0, writing[0].result())
        store.seal(sealed="2026-01-02T03:04:06+00:00")
    assert contents(tmp_path / "store") == contents(tmp_path / "one")


def test_a_worker_whose_run_has_ended_writes_nothing(tmp_path: Path) -> None:
    """The next run may hold the lock by then."""
    plan = manifest()
    with create_or_resume(tmp_path / "store", plan) as store:
        worker = lent_store(store.path, store.manifest, lambda: False)
        before = contents(store.path)
        with pytest.raises(StoreError) as refused:
            worker.write_part(0, *tables(plan, range(4)))
        assert str(refused.value) == f"the run that writes {store.path} has ended: run again to resume"
        assert contents(store.path) == before
