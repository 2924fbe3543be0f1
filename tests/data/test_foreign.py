"""Files that are not data are refused with their real kind if they are in place of data, and ignored beside data."""

import gzip
import io
import pickle
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from written import open_, write_folder, write_zip

from attnstore.data.documents import Document
from attnstore.errors import AttnstoreError

CSV = b"text,label\na fine film,pos\ndull and long,neg\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
ANSWER = "is a server's error response, not data: download it again"


def said(data: Path) -> str:
    with pytest.raises(AttnstoreError) as caught:
        list(open_(data))
    return str(caught.value)


def parquet() -> bytes:
    sink = io.BytesIO()
    pd.DataFrame({"text": ["a", "b"]}).to_parquet(sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"404: Not Found",
        b"Entry not found\n",
        b"Invalid username or password.",
        b'{"error":"Repository not found"}',
        b'{"message": "Not Found", "documentation_url": "https://docs"}',
        b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code><Message>no</Message></Error>',
    ],
)
@pytest.mark.parametrize("name", ["train.csv", "train.jsonl"])
def test_an_error_page_of_a_server_is_not_a_table(name: str, content: bytes, tmp_path: Path) -> None:
    """A failed download saved under the file's name does not become a document."""
    write_folder(tmp_path, {name: content})
    assert said(tmp_path) == said(tmp_path / name) == f"{name} {ANSWER}"


def test_data_that_resemble_an_error_page_are_read(tmp_path: Path) -> None:
    """A text column called `message`, or a text about something not found, is a document."""
    write_folder(
        tmp_path, {"r.jsonl": b'{"message": "Not found"}\n', "r.csv": b"text\n404: not found, again\n"}
    )
    assert [item.text for item in open_(tmp_path / "r.jsonl") if isinstance(item, Document)] == ["Not found"]
    assert [item.text for item in open_(tmp_path / "r.csv") if isinstance(item, Document)] == [
        "404: not found, again"
    ]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (parquet(), "r.csv is Parquet, despite its name"),
        (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3", "r.csv is a PDF, despite its name"),
        (b"PK\x03\x04rest", "r.csv is a zip archive, as .xlsx and .docx are, despite its name"),
        (b"Rar!\x1a\x07\x01\0", "r.csv is a RAR archive, despite its name"),
        (b"<?xml version='1.0'?><rows/>", "r.csv is XML, not a table"),
        (pickle.dumps(["a"]), "r.csv is a pickle, which is never read: it could run any program"),
        (POINTER, "r.csv is a git-LFS pointer, not the file: fetch it with git lfs pull"),
        (
            gzip.compress(POINTER, mtime=0),
            "r.csv is a git-LFS pointer, not the file: fetch it with git lfs pull",
        ),
    ],
)
def test_a_table_that_is_something_else(content: bytes, what: str, tmp_path: Path) -> None:
    """In a folder, where names say what files are, one line says what the file is instead."""
    assert said(write_folder(tmp_path, {"r.csv": content, "s.csv": CSV})) == what


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.xlsx"])
def test_a_pointer_instead_of_an_archive(name: str, tmp_path: Path) -> None:
    """It is called a Git LFS pointer, not a damaged archive."""
    write_folder(tmp_path, {name: POINTER})
    assert said(tmp_path / name) == f"{name} is a git-LFS pointer, not the file: fetch it with git lfs pull"


def test_office_documents_instead_of_texts(tmp_path: Path) -> None:
    """Class folders of PDFs are refused as PDFs, not as texts in another encoding."""
    write_folder(tmp_path, {f"{name}/{n}.pdf": b"%PDF-1.4\xe2" for name in ("neg", "pos") for n in (0, 1)})
    assert said(tmp_path) == "neg/0.pdf is a PDF, despite its name"


@pytest.mark.parametrize(
    "name",
    [
        "~$r.xlsx",
        "train.csv~",
        "logo.png",
        "Thumbs.db",
        "paper.pdf",
        "train.csv.md5",
        "x.csv.part",
        "desktop.ini",
    ],
)
def test_other_files_beside_data_are_ignored(name: str, tmp_path: Path) -> None:
    """Files of editors, browsers and operating systems, and documents for people, change nothing."""
    write_folder(tmp_path, {"train.csv": CSV, name: b"%PDF-1.4\xe2\x00"})
    assert [item.id for item in open_(tmp_path)] == ["train.csv:1", "train.csv:2"]  # type: ignore[union-attr]


def test_a_pointer_in_an_archive(tmp_path: Path) -> None:
    """From a checkout that was zipped before its files were fetched."""
    assert said(write_zip(tmp_path / "a.zip", {"train.csv": POINTER})).startswith(
        "train.csv is a git-LFS pointer"
    )


def test_a_store_is_not_data_but_its_documents_are(small_store: Path) -> None:
    """The refusal names the folder, where each document has the text and the label that it had in the data."""
    told = said(small_store)
    assert told == f"{small_store} is a store: its documents are in {small_store}/documents"
    rows = pq.read_table(small_store / "documents", columns=["id", "text", "label"]).to_pylist()
    expected = Counter((row["text"], row["label"]) for row in rows)
    assert expected.total() == 60
    documents = [item for item in open_(small_store / "documents") if isinstance(item, Document)]
    assert Counter((item.text, item.label) for item in documents) == expected
