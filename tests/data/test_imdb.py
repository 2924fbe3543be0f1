"""The source `imdb`: downloaded from its authors' site, resumed, checked and cached."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from attnstore.config import SourceConfig
from attnstore.data import imdb
from attnstore.data.documents import Document
from attnstore.data.sources import open_source
from attnstore.errors import DataError

CONTENT = hashlib.shake_256(b"archive").digest(3_000_000)


@dataclass
class Server:
    """The authors' server: `breaks` says for each answer how many bytes it sends before it closes the connection."""

    content: bytes = CONTENT
    ranges: bool = True
    shifted: int = 0
    status: int = 200
    breaks: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    def __init__(self, *args: object, server_state: Server) -> None:
        self.state = server_state
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        state, asked = self.state, self.headers["Range"]
        state.asked.append(asked)
        if state.status != 200:
            return self.send_error(state.status)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
        if start >= len(state.content):
            return self.send_error(416)
        start += state.shifted if start else 0
        body = state.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: state.breaks.pop(0)] if state.breaks else body)
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, server_state=state))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("ATTNSTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(imdb, "IMDB_URL", f"http://127.0.0.1:{httpd.server_port}/data/archive.tar.gz")
    monkeypatch.setattr(imdb, "IMDB_SHA256", hashlib.sha256(CONTENT).hexdigest())
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def cached(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir()}


def test_a_download_is_kept(server: Server, tmp_path: Path) -> None:
    """The archive is downloaded once into the cache, with progress reported to the last byte."""
    told: list[tuple[int, int | None]] = []
    for _ in range(2):
        assert (
            imdb.fetch_imdb(lambda event: told.append((event.done, event.total)))
            == tmp_path / "cache/archive.tar.gz"
        )
    assert server.asked == [None]
    assert cached(tmp_path) == {"archive.tar.gz": CONTENT}
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(set(told))


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_resumed(server: Server, tmp_path: Path, ranges: bool) -> None:
    """The next run requests the rest. A server that can't send a range sends everything, which also works."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/archive.tar.gz.part").write_bytes(CONTENT[:1_000_000])
    server.ranges = ranges
    told: list[tuple[int, int | None]] = []
    imdb.fetch_imdb(lambda event: told.append((event.done, event.total)))
    assert server.asked == ["bytes=1000000-"]
    assert cached(tmp_path) == {"archive.tar.gz": CONTENT}
    assert told[0][0] > 1_000_000 if ranges else told[0][0] <= 1_000_000
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_broken_connection_is_resumed_at_once(server: Server, tmp_path: Path) -> None:
    """As long as each attempt receives something, the download continues by itself."""
    server.breaks = [700_000, 600_000]
    imdb.fetch_imdb()
    assert server.asked == [None, "bytes=700000-", "bytes=1300000-"]
    assert cached(tmp_path) == {"archive.tar.gz": CONTENT}


def test_a_connection_that_always_breaks(server: Server, tmp_path: Path) -> None:
    """A download that receives nothing more ends in one line, and keeps what it has for the next run."""
    server.breaks = [500_000, 0]
    with pytest.raises(
        DataError, match=r"can't be downloaded \(.*\): try again, what was downloaded is kept"
    ) as caught:
        imdb.fetch_imdb()
    assert "\n" not in str(caught.value)
    assert cached(tmp_path) == {"archive.tar.gz.part": CONTENT[:500_000]}
    imdb.fetch_imdb()
    assert server.asked == [None, "bytes=500000-", "bytes=500000-"]
    assert cached(tmp_path) == {"archive.tar.gz": CONTENT}


def test_a_complete_download_is_only_checked(server: Server, tmp_path: Path) -> None:
    """A run killed between the last byte and the rename asks for the rest, learns that there is none, and continues."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/archive.tar.gz.part").write_bytes(CONTENT)
    imdb.fetch_imdb()
    assert cached(tmp_path) == {"archive.tar.gz": CONTENT}


def test_another_archive_is_refused(server: Server, tmp_path: Path) -> None:
    """An archive with another SHA-256 is removed, whether just downloaded, resumed, or in the cache."""
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(DataError, match="is not the authors'") as caught:
        imdb.fetch_imdb()
    assert "\n" not in str(caught.value)
    assert cached(tmp_path) == {}
    (tmp_path / "cache/archive.tar.gz").write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=r"2,999,999 bytes with SHA-256"):
        imdb.fetch_imdb()
    assert cached(tmp_path) == {}
    server.content = CONTENT
    imdb.fetch_imdb()
    assert cached(tmp_path) == {"archive.tar.gz": CONTENT}


def test_a_server_that_sends_another_range(server: Server, tmp_path: Path) -> None:
    """A rest that starts elsewhere is not appended: the download starts over."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/archive.tar.gz.part").write_bytes(CONTENT[:1_000_000])
    server.shifted = 5
    with pytest.raises(DataError, match="a different part from the one requested"):
        imdb.fetch_imdb()
    imdb.fetch_imdb()
    assert cached(tmp_path) == {"archive.tar.gz": CONTENT}


@pytest.mark.parametrize("status", [404, 503])
def test_an_answer_that_is_an_error(server: Server, tmp_path: Path, status: int) -> None:
    """The server's refusal is one line with its status, and no file is left."""
    server.status = status
    with pytest.raises(DataError, match=rf"HTTP Error {status}.*give a copy of the archive as --data"):
        imdb.fetch_imdb()
    assert cached(tmp_path) == {}
    assert len(server.asked) == 1


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the error is one line, too."""
    monkeypatch.setenv("ATTNSTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(imdb, "IMDB_URL", "http://127.0.0.1:1/archive.tar.gz")
    with pytest.raises(DataError, match="can't be downloaded") as caught:
        open_source(SourceConfig("imdb"))
    assert "\n" not in str(caught.value)


def test_a_cache_that_can_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in place of the cache folder is a one-line error, too."""
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("ATTNSTORE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="imdb can't be read"):
        open_source(SourceConfig("imdb"))


def test_the_word_imdb(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`imdb` is the downloaded archive, read like any other, and is called by that word."""
    import io
    import tarfile

    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:
        for name, content in (("test/pos/0_9.txt", b"good"), ("test/urls_pos.txt", b"x/title/tt7/y")):
            member = tarfile.TarInfo(f"aclImdb/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    server.content = sink.getvalue()
    monkeypatch.setattr(imdb, "IMDB_SHA256", hashlib.sha256(server.content).hexdigest())
    told: list[int] = []
    source = open_source(SourceConfig("imdb", split="test"), on_event=lambda event: told.append(event.done))
    assert (source.name, source.splits, told) == ("imdb", ("test",), [len(server.content)])
    assert list(source) == [Document("good", "test/pos/0_9", "tt7", "test", "pos")]
