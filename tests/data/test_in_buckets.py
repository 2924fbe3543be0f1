"""Data in buckets on a local server: the documents are those of the same files in a folder."""

import gzip
import http.server
import json
import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bucket_server import BUCKET, Server
from written import IMDB, open_, write_folder, write_tar, write_zip

from attnstore.buckets import Bucket
from attnstore.config import RunConfig, SourceConfig
from attnstore.data.documents import Document
from attnstore.errors import AttnstoreError, DataError, StoreError, UsageError
from attnstore.events import Computed, Event
from attnstore.pipeline.run import run
from attnstore.store.store import open_store

ROWS = [("a fine film", "pos"), ("dull and long", "neg"), ("schöner Titel", "pos")]
CSV = "text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS)
JSON_LINES = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS)


def parquet(rows: list[tuple[str, str]] = ROWS) -> bytes:
    texts, labels = zip(*rows, strict=True)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": list(texts), "label": list(labels)}), sink, row_group_size=2)
    return sink.getvalue().to_pybytes()


def is_as_local(bucket: Server, path: Path, name: str, below: str = "", **options: object) -> None:
    """Asserts that the files at `path` and at `name` in the bucket are the same source."""
    address = bucket.upload(path, name) + below
    local, found = open_(f"{path}{below}", **options), open_(address, **options)
    assert list(found) == list(local)
    assert any(isinstance(item, Document) for item in local)
    assert (found.splits, found.class_names and found.class_names.names, found.kept) == (
        *(local.splits, local.class_names and local.class_names.names, local.kept),
    )
    assert found.name == address


class TestTables:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("r.csv", CSV.encode()),
            ("r.tsv", CSV.replace(",", "\t").encode()),
            ("r.jsonl", JSON_LINES.encode()),
            ("r.parquet", parquet()),
            ("export", parquet()),  # recognised by its first bytes
        ],
    )
    def test_a_file(self, name: str, content: bytes, bucket: Server, tmp_path: Path) -> None:
        """A table of any kind has the same documents as the file on a disk."""
        (tmp_path / name).write_bytes(content)
        is_as_local(bucket, tmp_path / name, f"tables/{name}")

    def test_compressed_and_in_another_encoding(self, bucket: Server, tmp_path: Path) -> None:
        """The options for tables mean the same."""
        (tmp_path / "r.csv.gz").write_bytes(gzip.compress(CSV.encode("cp1252")))
        is_as_local(bucket, tmp_path / "r.csv.gz", "packed/r.csv.gz", encoding="cp1252")

    @pytest.mark.slow
    def test_class_names_beside_an_object(self, bucket: Server, tmp_path: Path) -> None:
        """A list of classes beside an object is found, as beside a file."""
        folder = write_folder(tmp_path, {"r.csv": b"text,label\na,0\nb,1\n", "classes.txt": b"bad\ngood\n"})
        bucket.upload(folder, "beside")
        is_as_local(bucket, folder / "r.csv", "beside/r.csv")
        assert (names := open_(f"s3://{BUCKET}/beside/r.csv").class_names) is not None
        assert names.names == ("bad", "good")

    @pytest.mark.slow
    def test_only_what_is_needed_is_fetched(self, bucket: Server, tmp_path: Path) -> None:
        """Of a large Parquet file, only the columns that are read."""
        rows = 40
        table = pa.table(
            {
                "text": [f"text {n}" for n in range(rows)],
                "ballast": [os.urandom(150_000) for _ in range(rows)],
                "label": ["pos"] * rows,
            }
        )
        pq.write_table(table, tmp_path / "large.parquet", row_group_size=rows)
        source = open_(bucket.upload(tmp_path / "large.parquet", "large/large.parquet"))
        bucket.asked.clear()
        assert len(list(source)) == rows
        assert sum(sent for _, _, sent in bucket.asked) < (tmp_path / "large.parquet").stat().st_size * 2 / 3


class TestFolders:
    @pytest.mark.slow
    def test_splits(self, bucket: Server, tmp_path: Path) -> None:
        """Files and folders below a prefix are splits, even an unlabelled one. A split is chosen as usual."""
        files = {
            "train.csv": CSV.encode(),
            "deep/test-00000-of-00001.csv": CSV.encode(),
            "validation.csv": b"text\nno label\n",
            "README.md": b"about",
            ".hidden/x.csv": b"text\nno\n",
        }
        folder = write_folder(tmp_path / "f", files)
        is_as_local(bucket, folder, "folder")
        is_as_local(bucket, folder, "folder", split="test")
        assert open_(f"s3://{BUCKET}/folder/").splits == open_(f"s3://{BUCKET}/folder").splits

    @pytest.mark.slow
    def test_class_folders(self, bucket: Server, tmp_path: Path) -> None:
        """IMDb's layout, with films, and with bytes that are not UTF-8."""
        is_as_local(bucket, write_folder(tmp_path / "f", IMDB), "imdb", split="test")

    @pytest.mark.slow
    def test_hive_folders(self, bucket: Server, tmp_path: Path) -> None:
        """Columns in the path, one with an escape."""
        files = {
            "split=test/label=pos/a.parquet": parquet(),
            "split=train/label=n%2Fa/b.parquet": parquet(),
            "_SUCCESS": b"",
        }
        is_as_local(bucket, write_folder(tmp_path / "f", files), "hive", text_column="text")

    @pytest.mark.parametrize(
        "glob", ["/*.csv", "/**/*.csv", "/s?b/*.csv", "/[!x]ub/b.csv", "/sub/**", "/.hidden/*"]
    )
    def test_globs(self, glob: str, bucket: Server, tmp_path: Path) -> None:
        """They match as in a folder: `*` stays inside a name, `**` does not."""
        files = dict.fromkeys(
            ("a.csv", "sub/b.csv", "sub/deep/c.csv", ".hidden/d.csv", "sub/.e.csv"), CSV.encode()
        )
        is_as_local(bucket, write_folder(tmp_path / "f", files), "globs", glob)

    def test_a_name_that_looks_like_a_glob(self, bucket: Server, tmp_path: Path) -> None:
        """An object with exactly that name takes precedence."""
        (tmp_path / "a[1].csv").write_text(CSV)
        is_as_local(bucket, tmp_path / "a[1].csv", "odd/a[1].csv")

    def test_a_folder_marker_is_not_a_file(self, bucket: Server) -> None:
        """Web consoles create an empty object for a folder."""
        Bucket(f"s3://{BUCKET}/marked/a.csv").put(CSV.encode())
        (Bucket(f"s3://{BUCKET}/marked/sub/b.csv")).put(CSV.replace("fine", "good").encode())
        for name in ("marked", "marked/sub"):
            Bucket(f"s3://{BUCKET}/{name}").put(b"")
        ids = [item.id for item in open_(f"s3://{BUCKET}/marked/") if isinstance(item, Document)]
        assert ids == [f"{name}:{row}" for name in ("a.csv", "sub/b.csv") for row in (1, 2, 3)]

    def test_snapshots_of_the_hub(self, bucket: Server, tmp_path: Path) -> None:
        """An uploaded cache with two snapshots of a data set holds its documents once."""
        files = {f"datasets--x--y/snapshots/{each}/test.csv": CSV.encode() for each in ("aaa", "bbb")}
        is_as_local(
            bucket,
            write_folder(tmp_path / "f", {**files, "datasets--x--y/refs/main": b"aaa\n"}),
            "cache",
        )


class TestWhatIsCopied:
    @pytest.mark.slow
    @pytest.mark.parametrize("mode", ["tar.gz", "tar", "zip"])
    def test_archives(self, mode: str, bucket: Server, tmp_path: Path) -> None:
        """Tables with splits in an archive, one member of it, and a single archive below a prefix."""
        files = {"d/train.csv": CSV.encode(), "d/test.csv": CSV.encode(), "d/readme.txt": b"about"}
        path = tmp_path / "f" / f"a.{mode}"
        path.parent.mkdir()
        if mode == "zip":
            write_zip(path, files)
        else:
            write_tar(path, files, f"w:{mode[4:]}")
        is_as_local(bucket, path, f"archives-{mode}/a.{mode}")
        is_as_local(bucket, path, f"archives-{mode}/a.{mode}", "::train.csv")
        is_as_local(bucket, path.parent, f"archives-{mode}")

    def test_class_folders_in_an_archive(self, bucket: Server, tmp_path: Path) -> None:
        """IMDb as it is downloaded."""
        is_as_local(bucket, write_tar(tmp_path / "i.tar.gz", IMDB), "imdb/i.tar.gz", split="test")

    def test_a_database(self, bucket: Server, tmp_path: Path) -> None:
        """A table of an SQLite file, by name."""
        with sqlite3.connect(tmp_path / "r.db") as connection:
            connection.execute("CREATE TABLE r (text, label)")
            connection.executemany("INSERT INTO r VALUES (?, ?)", ROWS)
        is_as_local(bucket, tmp_path / "r.db", "databases/r.db", "::r")

    @pytest.mark.slow
    def test_a_changed_object_is_read_again(self, bucket: Server, tmp_path: Path) -> None:
        """A copy belongs to one state of the object."""
        place = Bucket(f"s3://{BUCKET}/copied/again.zip")
        for text in ("one", "two"):
            place.put(write_zip(tmp_path / f"{text}.zip", {"a.csv": f"text\n{text}\n".encode()}).read_bytes())
            assert [item.text for item in open_(str(place)) if isinstance(item, Document)] == [text]


class TestErrors:
    def said(self, address: str, kind: type[AttnstoreError]) -> str:
        with pytest.raises(kind) as caught:
            list(open_(address))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_missing_objects(self, bucket: Server) -> None:
        """An object, a bucket, a glob without matches, and a member of a file that is no archive are one line each."""
        root = f"s3://{BUCKET}"
        assert self.said(f"{root}/no/a.csv", UsageError) == f"there is nothing at {root}/no/a.csv"
        assert self.said("s3://none/a.csv", UsageError) == "s3://none/a.csv: there is no bucket none"
        assert self.said(f"{root}/no/*.csv", UsageError) == f"no object matches {root}/no/*.csv"
        Bucket(f"{root}/there.csv").put(CSV.encode())
        assert (
            self.said(f"{root}/there.csv::x.csv", UsageError)
            == f"{root}/there.csv::x.csv: it is not an archive, so it has no member 'x.csv'"
        )

    def test_wrong_credentials(self, bucket: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """The server's refusal is passed on."""
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
        said = self.said(f"s3://{BUCKET}/a.csv", DataError)
        assert said.startswith(f"s3://{BUCKET}/a.csv can't be read: the server refuses these credentials (")

    def test_no_credentials(self, bucket: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error says which variables to set."""
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        said = self.said(f"s3://{BUCKET}/a.csv", DataError)
        assert "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in said

    def test_no_server(self, bucket: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """If the connection is refused, the error names the server."""
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        said = self.said(f"s3://{BUCKET}/a.csv", DataError)
        assert said == f"s3://{BUCKET}/a.csv can't be read: http://127.0.0.1:9 does not answer"

    def test_an_object_that_changes_while_it_is_read(self, bucket: Server) -> None:
        """Two states of an object are never mixed."""
        place = Bucket(f"s3://{BUCKET}/changing.csv")
        place.put(CSV.encode())
        source = open_(str(place))
        place.put(CSV.replace("fine", "good").encode())
        with pytest.raises(
            DataError, match=r"changing.csv can't be read: it was overwritten after it was opened"
        ):
            list(source)

    def test_a_secret_in_an_address(self) -> None:
        """It is refused, and not shown."""
        said = self.said("s3://AKIATEST:secret@data/a.csv", UsageError)
        assert said.startswith("s3://…@data/a.csv: credentials do not belong in an address: set AWS_")
        assert "AKIATEST" not in said

    @pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
    def test_without_the_extra(self, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error names the missing extra."""
        monkeypatch.setitem(sys.modules, "obstore", None)
        said = self.said(f"{scheme}://bucket/a.csv", UsageError)
        assert said == f"{scheme}:// needs another package: pip install 'attnstore[buckets]'"

    @pytest.mark.parametrize(("alias", "scheme"), [("s3a", "s3"), ("gcs", "gs"), ("abfss", "az")])
    def test_other_names_of_a_scheme(self, alias: str, scheme: str) -> None:
        """For the spellings of other programs, the error says what to write here."""
        said = self.said(f"{alias}://bucket/a.csv", UsageError)
        assert said == f"{alias}:// is not read: write {scheme}://BUCKET/NAME"


@pytest.mark.slow
def test_an_interrupted_run_resumes(bucket: Server, tiny_model: Path, tmp_path: Path) -> None:
    """The data in the bucket are recognised, and equal the same file on a disk. Other data are refused."""
    data = tmp_path / "r.csv"
    data.write_text("text,label\n" + "".join(f"film {n},{('neg', 'pos')[n % 2]}\n" for n in range(30)))
    address = bucket.upload(data, "resumed/r.csv")
    store = tmp_path / "s.attn"

    def config(where: str) -> RunConfig:
        source = SourceConfig(where)
        return RunConfig(source, str(tiny_model), device="cpu", dtype="float32", max_length=40, part_size=8)

    sent: list[Event] = []

    def interrupt(event: Event) -> None:
        if isinstance(event, Computed) and not sent:  # a second signal would end pytest
            sent.append(event)
            signal.raise_signal(signal.SIGINT)

    assert run(config(address), store, on_event=interrupt).interrupted
    again = run(config(address), store)
    assert again.parts_before > 0 and not again.interrupted
    assert run(config(str(data)), store).documents == 0
    assert open_store(store).manifest.data == address
    Bucket(address).put(data.read_bytes().replace(b"film 1,", b"movie 1,"))
    with pytest.raises(StoreError, match="the data differs by its SHA-256"):
        run(config(address), store)


class Held(http.server.BaseHTTPRequestHandler):
    """A server with a single object, and a record of all requests."""

    asked: ClassVar[list[tuple[str, str, str]]] = []

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.asked.append((self.command, path, self.headers.get("Authorization", "")))
        start, _, end = self.headers.get("Range", "bytes=0-9999").removeprefix("bytes=").partition("-")
        found = CSV.encode()[int(start) : int(end) + 1] if path == "/things/below/r.csv" else b""
        self.send_response(206 if found and "Range" in self.headers else 200 if found else 404)
        self.send_header("Content-Length", str(len(found)))
        self.send_header("Content-Range", f"bytes {start}-{int(start) + len(found) - 1}/{len(CSV.encode())}")
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Fri, 27 Nov 2026 16:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(found)

    do_HEAD = do_GET  # noqa: N815 - so it is called

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_google_and_azure_use_the_variables_of_their_own_tools(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bucket and key come from the address, server and identity from the environment.

    This is not a server of theirs: it shows which requests would reach one.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Held) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        key = {
            "gcs_base_url": url,
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        (tmp_path / "key.json").write_text(json.dumps(key))
        variables = {
            "gs": {"GOOGLE_SERVICE_ACCOUNT": str(tmp_path / "key.json"), "GOOGLE_ALLOW_HTTP": "true"},
            "az": {
                "AZURE_STORAGE_ACCOUNT_NAME": "me",
                "AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0",
                "AZURE_STORAGE_ENDPOINT": url,
                "AZURE_ALLOW_HTTP": "true",
            },
        }[scheme]
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(Held, "asked", [])
        found = [item for item in open_(f"{scheme}://things/below/r.csv") if isinstance(item, Document)]
        server.shutdown()
    assert [(item.text, item.label) for item in found] == ROWS
    command, path, who = Held.asked[0]
    assert (command, path) == ("HEAD", "/things/below/r.csv")
    assert who.startswith("SharedKey me:") == (scheme == "az")
