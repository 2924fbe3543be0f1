"""Remote data: a web server on this machine, an fsspec file system, and standard input."""

import functools
import io
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from fsspec.registry import _registry
from nursery import Child
from written import IMDB, IMDB_TEST, open_, write_folder, write_tar, write_zip

from attnstore.data.documents import Document
from attnstore.data.remote import without_secrets
from attnstore.errors import AttnstoreError, DataError, UsageError

CSV = b"text,label\na fine film,pos\ndull and long,neg\n"


def documents(name: str) -> list[Document]:
    return [
        Document("a fine film", f"{name}:1", None, "all", "pos"),
        Document("dull and long", f"{name}:2", None, "all", "neg"),
    ]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server for the folder `web`: its address, and the requests it received."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path.startswith("/forbidden"):
                return self.send_error(403)
            return super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "web").mkdir()
    handler = functools.partial(Handler, directory=str(tmp_path / "web"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


class TestWeb:
    @pytest.mark.slow
    def test_a_file_is_fetched_once(self, server: tuple[str, list[str]], tmp_path: Path) -> None:
        """Repeated readings and openings use one download. Secrets are not kept."""
        address, asked = server
        (tmp_path / "web/my reviews.csv").write_bytes(CSV)
        given = f"{address}/my%20reviews.csv?signature=secret"
        sources = [open_(given), open_(given)]
        assert [list(each) for each in (*sources, sources[0])] == [documents("my reviews.csv")] * 3
        assert sources[0].name == f"{address}/my%20reviews.csv"
        assert len(asked) == 1

    def test_archives(self, server: tuple[str, list[str]], tmp_path: Path) -> None:
        """A tar of class folders and a member of a zip are read as from a disk."""
        address, _ = server
        write_tar(tmp_path / "web/imdb.tar.gz", IMDB)
        write_zip(tmp_path / "web/a.zip", {"train.csv": CSV, "other.csv": b"text\nx\n"})
        assert list(open_(f"{address}/imdb.tar.gz", split="test")) == IMDB_TEST
        assert list(open_(f"{address}/a.zip::train.csv")) == documents("train.csv")

    def test_a_name_without_an_ending(self, server: tuple[str, list[str]], tmp_path: Path) -> None:
        """The format has to be given if the address does not show it."""
        address, _ = server
        (tmp_path / "web/export").write_bytes(CSV)
        assert list(open_(f"{address}/export", format="csv")) == documents("export")

    def test_missing_files_and_servers(self, server: tuple[str, list[str]]) -> None:
        """404, and an address without a server, are one line each, without secrets."""
        address, _ = server
        with pytest.raises(UsageError) as caught:
            open_(f"{address}/nothing.csv?token=secret")
        assert str(caught.value) == f"there is nothing at {address}/nothing.csv"
        with pytest.raises(AttnstoreError) as caught:
            open_("http://user:secret@127.0.0.1:9/a.csv")
        assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
        assert str(caught.value).startswith("http://127.0.0.1:9/a.csv can't be fetched: ")

    def test_error_answers(self, server: tuple[str, list[str]]) -> None:
        """A server's error is one line with its message, without secrets."""
        address, _ = server
        with pytest.raises(DataError) as caught:
            open_(f"{address}/forbidden.csv?token=secret")
        assert str(caught.value).startswith(f"{address}/forbidden.csv can't be fetched: 403")
        assert "secret" not in str(caught.value)

    def test_without_aiohttp(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A missing extra is one line that says what to install."""
        monkeypatch.setitem(sys.modules, "aiohttp", None)
        monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
        monkeypatch.delitem(_registry, "http", raising=False)
        with pytest.raises(
            UsageError, match=r"^http:// needs another package: pip install 'attnstore\[remote\]'$"
        ):
            open_("http://127.0.0.1:9/a.csv")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://bucket/a.csv", "s3://bucket/a.csv"),
        ("https://me:pass@host:80/a.csv?X-Amz-Signature=1#x", "https://host:80/a.csv"),
        ("memory://a/b", "memory://a/b"),
    ],
)
def test_an_address_is_shown_without_secrets(address: str, shown: str) -> None:
    """Passwords, signatures and tokens belong neither in a manifest nor in a message."""
    assert without_secrets(address) == shown


def test_a_folder_of_a_file_system(tmp_path: Path) -> None:
    """A file, a folder or a glob on any fsspec file system is a source."""
    memory = fsspec.filesystem("memory")
    for name in ("train.csv", "sub/test.csv"):
        memory.pipe(f"/{tmp_path.name}/{name}", CSV)
    root = f"memory://{tmp_path.name}"
    assert [each.id for each in open_(root) if isinstance(each, Document)] == [
        *("sub/test.csv:1", "sub/test.csv:2", "train.csv:1", "train.csv:2")
    ]
    assert open_(root).splits == ("test", "train")
    assert list(open_(f"{root}/train.csv")) == documents("train.csv")
    assert list(open_(f"{root}/s*/*.csv", split="test")) == [
        Document(each.text, each.id, None, "test", each.label) for each in documents("test.csv")
    ]


class Pipe(io.TextIOWrapper):
    def isatty(self) -> bool:
        return False


class TestStandardInput:
    def test_it_is_read_once_and_can_be_opened_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The input is stored in a temporary file for all readings."""
        monkeypatch.setattr("attnstore.data.remote._aside", {})
        monkeypatch.setattr(sys, "stdin", Pipe(io.BytesIO(CSV)))
        sources = [open_("-", format="csv"), open_("-", format="csv")]
        assert [list(each) for each in (*sources, sources[0])] == [documents("stdin")] * 3

    def test_without_a_format(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A pipe has no name that shows its format."""
        monkeypatch.setattr("attnstore.data.remote._aside", {})
        monkeypatch.setattr(sys, "stdin", Pipe(io.BytesIO(CSV)))
        with pytest.raises(UsageError, match="-: unknown file format: choose one with --format"):
            open_("-")

    @pytest.mark.slow
    def test_a_pipe_of_the_shell(self, tmp_path: Path, tiny_model: Path) -> None:
        """`cat data | attnstore run --data -` stores the documents."""
        store = tmp_path / "s.attn"
        command = ["run", store, "--data", "-", "--format", "csv", "--model", tiny_model]
        with Child(
            "from attnstore.commands import main; main()",
            *(*command, "--labels", "neg,pos", "--device", "cpu", "--quiet"),
        ) as child:
            child.communicate(CSV.decode())
        assert child.returncode == 0
        import attnstore

        found = attnstore.open(store).documents().select("id", "label").collect().sort("id").rows()
        assert found == [("stdin:1", "pos"), ("stdin:2", "neg")]


def test_a_name_that_may_be_a_mistyped_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a folder of that name exists, it is a path with a typing error, and the hub is not asked."""
    write_folder(tmp_path, {"data/reviews/train.csv": CSV})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^no such file or folder: data/review: did you mean 'reviews'\?$"):
        open_("data/review")
