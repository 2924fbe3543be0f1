"""Bucket addresses: path arithmetic, and errors of files, with a server on this machine."""

import random
from pathlib import Path, PurePosixPath

import pytest
from bucket_server import BUCKET, FAULTS, Server

from attnstore.buckets import Bucket
from attnstore.errors import UsageError


def place(name: str) -> Bucket:
    return Bucket(f"s3://{BUCKET}/{name}")


_ABSENT = place("x")


def test_addresses_have_the_arithmetic_of_paths() -> None:
    """That of pathlib, except that the scheme and the bucket are not parts of the name."""
    store = Bucket("s3://data/runs/x.attn")
    assert (store.bucket, store.key, store.name) == ("data", "runs/x.attn", "x.attn")
    assert str(store / "documents/a.parquet") == "s3://data/runs/x.attn/documents/a.parquet"
    assert (store / "documents/a.parquet").relative_to(store) == PurePosixPath("documents/a.parquet")
    assert (store / "a").parent == store
    with pytest.raises(UsageError, match="names no bucket"):
        Bucket("s3://")


class TestObjects:
    def test_names_are_literal_keys(self, bucket: Server) -> None:
        """Nothing in a name is decoded or encoded, and a listing returns it unchanged."""
        names = ["label=a%20b/x", "label=ä ö/x", "label=a+b#c?d&e=f/x", "a[1]*", "l=%2F/x"]
        for name in names:
            (place("names") / name).put(name.encode())
        assert place("names").sizes() == {name: len(name.encode()) for name in sorted(names)}
        assert [(place("names") / name).read_bytes().decode() for name in names] == names
        assert place("nam").sizes() == {}  # a prefix consists of whole names

    def test_files_are_read_in_pieces(self, bucket: Server) -> None:
        """Only the requested range is fetched, in pieces of the given size."""
        place("piece").put(bytes(range(256)) * 100)
        bucket.asked.clear()
        with place("piece").open(buffered=16) as file:
            file.seek(-250, 2)
            assert file.read(2) == bytes([6, 7])
            file.seek(300)
            assert file.read(3) == bytes([44, 45, 46])
        assert [sent for method, _, sent in bucket.asked if method == "GET"] == [16, 16]

    def test_a_conditional_write(self, bucket: Server) -> None:
        """It succeeds only if nobody else has written, and returns the tag for the next one."""
        lock = place("lock")
        first = lock.put_if(b"one", None)
        assert first is not None
        assert lock.put_if(b"two", None) is None
        second = lock.put_if(b"two", first)
        assert second is not None
        assert lock.put_if(b"three", first) is None
        assert lock.tagged() == (b"two", second)
        lock.remove()
        assert lock.put_if(b"three", second) is None

    @pytest.mark.parametrize("tagged", [False, True])
    def test_a_write_that_was_reported_as_failed_is_recognised(self, bucket: Server, tagged: bool) -> None:
        """The retry finds the client's own object, and does not take it for another writer's."""
        lock = place(f"lost-{tagged}")
        tag = lock.put_if(b"before", None) if tagged else None
        times = iter(["lost"])
        with bucket.failing(lambda method, _: next(times, None) if method == "PUT" else None):
            written = lock.put_if(b"ours", tag)
        assert written is not None
        assert lock.tagged() == (b"ours", written)

    @pytest.mark.parametrize("fault", ["unavailable", "refused", "torn", "lost"])
    def test_failed_requests_are_retried(self, bucket: Server, fault: str) -> None:
        """Two failures in a row have no effect, for any request."""

        def twice(method: str, _: str) -> str | None:
            met[method] = met.get(method, 0) + 1
            return fault if met[method] <= 2 else None

        met: dict[str, int] = {}
        with bucket.failing(twice):
            place("again").put(b"content" * 1000)
            assert place("again").size() == 7000
            met.clear()
            assert place("again").read_bytes() == b"content" * 1000
            met.clear()
            assert place("again").read_range(7, 7) == b"content"
            met.clear()
            assert list(place("agai").sizes()) == []
            place("again").remove()
        assert not place("again").sizes()


class TestErrors:
    """Permanent failures are one-line errors like those of files."""

    def said(self, asked: Bucket = _ABSENT) -> tuple[type[OSError], str]:
        with pytest.raises(OSError, match=r"\A[^\n]*\Z") as caught:
            asked.read_bytes()
        return caught.type, str(caught.value.strerror)

    def test_a_missing_object(self, bucket: Server) -> None:
        assert self.said() == (FileNotFoundError, "there is no such object")
        assert self.said(Bucket("s3://nowhere/x")) == (FileNotFoundError, "there is no bucket nowhere")

    def test_wrong_credentials(self, bucket: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
        assert self.said() == (PermissionError, "the server refuses these credentials (InvalidAccessKeyId)")

    def test_missing_credentials(self, bucket: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        kind, why = self.said()
        assert kind is PermissionError
        assert why.startswith("no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")

    def test_credentials_of_the_aws_command(
        self, bucket: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Those in its files are used if the environment has none, from the selected profile."""
        (tmp_path / "credentials").write_text(
            "[other]\naws_access_key_id = AKIATEST\naws_secret_access_key = secret\n"
        )
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_PROFILE", "other")
        place("aws").put(b"x")
        assert place("aws").read_bytes() == b"x"

    def test_a_server_that_does_not_answer(self, bucket: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        assert self.said() == (OSError, "http://127.0.0.1:9 does not answer")

    def test_a_server_that_always_fails(self, bucket: Server) -> None:
        with bucket.failing(lambda *_: "unavailable"):
            assert self.said() == (OSError, "the server answers 503 Service Unavailable (SlowDown)")


@pytest.mark.sampled(at=(0, 3, 5, 10))  # for each fault and each request
@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS[:4])
@pytest.mark.parametrize("at", ["begun", "part", "completed"])
def test_a_large_file_is_put_completely_despite_failures(
    bucket: Server, tmp_path: Path, fault: str, at: str
) -> None:
    """It needs several requests, one of which fails once. Then the file is complete."""
    file = tmp_path / "large"
    file.write_bytes(random.Random(0).randbytes(11_000_000))
    met: list[str] = []

    def once(method: str, _path: str) -> str | None:
        met.append("part" if method == "PUT" else "completed" if "begun" in met else "begun")
        return fault if met.count(at) == 1 and met[-1] == at else None

    large = place(f"large-{fault}-{at}")
    with bucket.failing(once):
        large.put(file)
    assert large.read_bytes() == file.read_bytes()
    assert {"begun", "part", "completed"} <= set(met)
