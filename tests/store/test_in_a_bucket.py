"""Stores in a bucket: read, copied and written as in a folder, with a server that may fail."""

import os
import random
import shutil
import time
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.dataset
import pytest
from bucket_server import BUCKET, FAULTS, Server, environment
from command_line import attnstore, run
from nursery import Child
from polars.testing import assert_frame_equal
from small_store import contents

import attnstore as package
from attnstore.buckets import Bucket
from attnstore.errors import UsageError


@pytest.fixture(scope="module")
def address(bucket_session: Server, small_store: Path) -> str:
    """The small store, copied into the bucket."""
    with pytest.MonkeyPatch.context() as patch:
        from bucket_server import lead_to

        lead_to(bucket_session, patch)
        return bucket_session.upload(small_store, "runs/lr=3e-5/small [1].attn")


@pytest.mark.sampled(3)
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize("question", ["top_words_by_class", "predictions", "layer_profile"])
def test_answers_are_those_of_the_folder(
    bucket: Server, address: str, small_store: Path, question: str, engine: str
) -> None:
    """For any question, in either engine."""
    there, here = (package.open(place).query(question, engine=engine) for place in (address, small_store))
    assert_frame_equal(there.polars(), here.polars(), rel_tol=1e-9)


@pytest.mark.slow
def test_sql_and_documents_are_those_of_the_folder(bucket: Server, address: str, small_store: Path) -> None:
    """SQL can read the views and nothing else of the bucket. A document is drawn as from the folder."""
    there, here = package.open(address), package.open(small_store)
    statement = "SELECT label, count(*) AS n FROM documents GROUP BY label ORDER BY label"
    assert there.sql(statement).arrow().equals(here.sql(statement).arrow())
    with pytest.raises(UsageError, match="only the views"):
        there.sql(f"FROM read_parquet('s3://{BUCKET}/other.parquet')")
    assert there.show(3)._repr_html_() == here.show(3)._repr_html_()


@pytest.mark.slow
def test_sql_joins_stores_in_a_bucket_and_in_a_folder(
    bucket: Server, small_store: Path, tmp_path: Path
) -> None:
    """As over two folders; nothing but the stores can be read."""
    there = [bucket.upload(small_store, f"{name}.attn") for name in ("one", "two")]
    here = [Path(shutil.copytree(small_store, tmp_path / f"{name}.attn")) for name in ("one", "two", "three")]
    statement = "SELECT store, label, count(*) AS n FROM documents GROUP BY ALL ORDER BY ALL"
    found = package.open([*there, here[2]])
    assert found.sql(statement).arrow().equals(package.open(here).sql(statement).arrow())
    assert found.sql("SELECT count(DISTINCT store) AS n FROM tokens").to_pylist() == [{"n": 3}]
    with pytest.raises(UsageError, match="only the views"):
        found.sql(f"FROM read_parquet('s3://{BUCKET}/other.parquet')")


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_repeatedly_killed_writer_leaves_the_files_of_a_run_into_a_folder(
    bucket: Server, reviews: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """SIGKILL after random numbers of requests, of which one in a hundred fails in a random way.

    ATTNSTORE_SEED sets the random seed.
    """
    chance = random.Random(int(os.environ.get("ATTNSTORE_SEED", "0")))
    address, kills = f"s3://{BUCKET}/killed.attn", 0
    more = ("--part-size", "5", "--max-length", "40", "--reduce", "cls,rollout", "--quiet")
    options = ("--model", tiny_model, "--device", "cpu", "--dtype", "float32", *more)
    code = "from attnstore.commands import main\nmain()"
    with bucket.failing(lambda *_: chance.choice(FAULTS[:4]) if chance.random() < 0.01 else None):
        while True:
            asked, most = len(bucket.asked), chance.randint(5, 60)
            child = Child(code, "run", address, "--data", reviews, *options, **environment(bucket))
            while child.poll() is None and (kills == 8 or len(bucket.asked) - asked < most):
                time.sleep(0.002)
            if ended := child.poll() is not None:
                assert child.returncode == 0, child.stderr.read()
            child.kill()
            child.wait()
            child.close()
            if ended:
                break
            kills += 1
        assert attnstore("verify", address, "--sample", "2")[0] == 0
        answer = package.open(address).query("predictions").to_pylist()
    assert kills >= 3
    assert run(tmp_path / "w.attn", reviews, tiny_model, *more)[0] == 0
    assert answer == package.open(tmp_path / "w.attn").query("predictions").to_pylist()
    there = Bucket(address)
    stored = {name: (there / name).read_bytes() for name in there.sizes()}
    kept = contents(tmp_path / "w.attn")
    assert stored.keys() == kept.keys()
    assert {n: c for n, c in stored.items() if n != "manifest.json"} == {
        n: c for n, c in kept.items() if n != "manifest.json"
    }


@pytest.mark.slow
def test_plain_readers(bucket: Server, address: str, small_store: Path) -> None:
    """Programs that know nothing of attnstore read the tables by their address alone."""
    expected = pl.read_parquet(small_store / "documents").height
    told = {"aws_endpoint_url": bucket.address, "aws_allow_http": "true"}
    plain = f"s3://{BUCKET}/plain.attn"
    bucket.upload(small_store, "plain.attn")
    assert (
        pl.scan_parquet(f"{plain}/documents/**/*.parquet", storage_options=told).collect().height == expected
    )
    from obstore.fsspec import FsspecStore

    files = FsspecStore("s3", config={"aws_endpoint": bucket.address}, client_options={"allow_http": True})
    documents = [f"s3://{each}" for each in files.find(f"{BUCKET}/plain.attn/documents")]
    with duckdb.connect() as connection:
        connection.register_filesystem(files)
        found = connection.execute("SELECT count(*) FROM read_parquet($files)", {"files": documents})
        assert found.fetchall() == [(expected,)]
    found = pyarrow.dataset.dataset(f"{BUCKET}/plain.attn/documents", filesystem=files, partitioning="hive")
    assert found.count_rows() == expected


#: Questions over the documents and over the totals.
ASKED = ("predictions", "top_words_by_class")


def written(store: Path, reviews: Path, model: Path) -> str:
    """A run of a command into the bucket; its address."""
    address = f"s3://{BUCKET}/{store}"
    more = ("--part-size", "25", "--max-length", "40", "--reduce", "cls,rollout", "--quiet")
    code, _, err = run(address, reviews, model, *more)
    assert code == 0, err
    return address


@pytest.mark.slow
def test_a_run_into_a_bucket_equals_one_into_a_folder(
    bucket: Server, reviews: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """The same bytes in the same files and the same output, although every seventh request fails.

    `verify` finds no fault.
    """
    count = iter(range(10**9))

    def fault(_method: str, _path: str) -> str | None:
        number = next(count)
        return FAULTS[number // 7 % 4] if number % 7 == 3 else None

    with bucket.failing(fault):
        address = written(Path("w.attn"), reviews, tiny_model)
        assert attnstore("verify", address, "--sample", "2")[0] == 0
        answers = [package.open(address).query(name).to_pylist() for name in ASKED]
    more = ("--part-size", "25", "--max-length", "40", "--reduce", "cls,rollout", "--quiet")
    assert run(tmp_path / "w.attn", reviews, tiny_model, *more)[0] == 0
    stored = {
        name: (Bucket(address) / name).read_bytes() for name in Bucket(address).sizes() if ".parquet" in name
    }
    kept = {
        p.relative_to(tmp_path / "w.attn").as_posix(): p.read_bytes() for p in tmp_path.rglob("*.parquet")
    }
    assert stored == kept
    assert len(kept) > 6
    assert answers == [package.open(tmp_path / "w.attn").query(name).to_pylist() for name in ASKED]


def test_missing_rights_to_read_are_reported_in_one_line(
    bucket: Server, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong and missing credentials: the server's answer, and what to set."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
    code, out, err = attnstore("info", address)
    assert (code, out) == (1, "")
    assert err.startswith("attnstore: ") and err.count("\n") == 1
    assert "the server refuses these credentials" in err
