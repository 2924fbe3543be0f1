"""Data that are small as a file and huge when read: rows too large for a document are left out, never in memory."""

import gzip
import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from attnstore.config import SourceConfig
from attnstore.data.documents import Rejected
from attnstore.data.sources import open_source
from attnstore.errors import DataError

MOST = 1 << 20
HUGE = b"a" * (24 << 20)
REASON = "more than 1,048,576 bytes (--max-document-bytes)"


def _gzip(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(gzip.compress(content, 1))


def _zip(**members: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name.replace("__", "/") + ".txt", content)

    return write


def _tar(path: Path) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in (("neg/1.txt", b"a bore"), ("pos/1.txt", b"a joy"), ("pos/2.txt", HUGE)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


BOMBS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a.jsonl.gz": (
        _gzip(
            b'{"text": "a bore", "label": "neg"}\n{"text": "' + HUGE + b'", "label": "pos"}\n'
            b'{"text": "a joy", "label": "pos"}\n'
        ),
        "a.jsonl.gz row 2",
    ),
    "first.jsonl.gz": (
        _gzip(
            b'{"text": "' + HUGE + b'", "label": "pos"}\n'
            b'{"text": "a bore", "label": "neg"}\n{"text": "a joy", "label": "pos"}\n'
        ),
        "first.jsonl.gz row 1",
    ),
    "a.csv.gz": (
        _gzip(b"text,label\na bore,neg\n" + HUGE + b",pos\na joy,pos\n"),
        "a.csv.gz row 2 (line 3)",
    ),
    "quoted.csv.gz": (
        _gzip(b'text,label\na bore,neg\n"' + HUGE + b'",pos\na joy,pos\n'),
        "quoted.csv.gz row 2 (line 3)",
    ),
    "train.txt": (
        lambda path: path.write_bytes(
            b"__label__neg a bore\n__label__pos " + HUGE + b"\n__label__pos a joy\n"
        ),
        "train.txt line 2",
    ),
    "a.zip": (_zip(neg__1=b"a bore", pos__1=b"a joy", pos__2=HUGE), "pos/2"),
    "a.tar.gz": (_tar, "pos/2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_oversized_rows_are_left_out_and_never_in_memory(tmp_path: Path, name: str) -> None:
    """Of a row of 24 MB, at most ten times the limit of 1 MiB is in memory. Other rows are read."""
    write, where = BOMBS[name]
    write(tmp_path / name)
    tracemalloc.start()
    try:
        config = SourceConfig(str(tmp_path / name), max_document_bytes=MOST)
        found = list(open_source(config))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    texts = [item.text for item in found if not isinstance(item, Rejected)]
    assert texts == ["a bore", "a joy"]
    assert [(item.where, item.reason) for item in found if isinstance(item, Rejected)] == [(where, REASON)]
    assert peak < 10 * MOST


def test_the_limit_counts_bytes(tmp_path: Path) -> None:
    """Ten characters of two bytes each are twenty bytes."""
    path = tmp_path / "a.csv"
    path.write_text("text,label\nééééééééé,pos\néééééééééé,pos\nééééééééééx,neg\n")
    found = list(open_source(SourceConfig(str(path), max_document_bytes=20)))
    assert [isinstance(item, Rejected) for item in found] == [False, False, True]


def test_an_array_with_an_oversized_element_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b'[{"text": "ok", "label": "a"}, {"text": "' + HUGE + b'"}]', 1))
    with pytest.raises(DataError) as refused:
        list(open_source(SourceConfig(str(path), max_document_bytes=MOST)))
    assert (
        str(refused.value) == f"a.json.gz: its row 2 has {REASON}: leave it out, or write one object per line"
    )


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_gigabytes_is_refused(tmp_path: Path, kind: bytes) -> None:
    """A tar archive itself declares the lengths of its names and attributes, which may be arbitrary."""
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 3 << 30
    path = tmp_path / "a.tar"
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + bytes(2048))
    with pytest.raises(DataError, match="a header of 3,221,225,472 bytes"):
        open_source(SourceConfig(str(path)))
