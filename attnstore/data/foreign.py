"""Files among the data that are not data: descriptions, and files whose content does not match their name."""

import functools
import json
import re
from collections.abc import Iterable
from posixpath import splitext

from attnstore.data.class_names import NAMES_JSON
from attnstore.errors import DataError
from attnstore.messages import one_line

#: The stems of a data set's descriptions, in any case.
_DESCRIPTIONS = frozenset(
    ("readme", "license", "licence", "copying", "notice", "citation", "changelog", "authors", "classes", "state",
     "dataset_info", "dataset_infos", "dataset_dict", "config", "metadata", "sample_submission", "samplesubmission",
     "gender_submission")
)  # fmt: skip
#: A word anywhere in the name of a description.
_TITLE = re.compile(r"(?:\A|[._ -])(?:readme|licen[cs]e)(?:\Z|[._ -])")
#: Folders and files that table formats keep beside their data.
_BOOKKEEPING = frozenset(
    (
        "_delta_log",
        "_success",
        "_metadata",
        "_common_metadata",
        "_temporary",
        "_symlink_format_manifest",
        "thumbs.db",
        "desktop.ini",
    )
)
#: Endings of descriptions, of checksums, and of copies that editors and browsers make.
_ENDINGS = frozenset(
    (".crc", ".md", ".rst", ".py", ".md5", ".sha1", ".sha256", ".bak", ".tmp", ".swp", ".part", ".crdownload")
)
#: What a file with this beginning is, and the kind of table that may have it.
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"PAR1", "Parquet", "parquet"),
    (b"ARROW1", "Arrow", "arrow"),
    (b"FEA1", "Feather", "arrow"),
    (b"PK\x03\x04", "a zip archive, as .xlsx and .docx are", "excel"),
    (b"\xd0\xcf\x11\xe0", "a Microsoft Office file", "excel"),
    (b"%PDF-", "a PDF", ""),
    (b"{\\rtf", "rich text (RTF)", ""),
    (b"\x89PNG", "a picture", ""),
    (b"\xff\xd8\xff", "a picture", ""),
    (b"GIF8", "a picture", ""),
    (b"Rar!", "a RAR archive", ""),
    (b"7z\xbc\xaf", "a 7z archive", ""),
    (b"\x89HDF", "HDF5", ""),
    (b"Obj\x01", "Avro", ""),
    (b"\x93NUMPY", "a NumPy array", ""),
    (b"SQLite format 3\0", "an SQLite database", ""),
)
#: Whole answers of a server instead of a file.
_REFUSAL = re.compile(
    rb"(\d{3}\W+)?(entry |repository |page |file )?(not found|forbidden|unauthorized|access denied|bad gateway"
    rb"|service unavailable|internal server error|too many requests|invalid username or password)\.?",
    re.IGNORECASE,
)


def is_no_data(name: str) -> bool:
    """Whether a file is the system's (`.DS_Store`, `.git`), a table format's (`_SUCCESS`), or a description."""
    # Not a Path: Python's paths intern their parts, in a table that would grow with an archive's names.
    folder, _, file = name.rpartition("/")
    if _is_system_name(file) or _is_in_system_folder(folder):
        return True
    file = file.lower()
    return (
        file in NAMES_JSON
        or file.startswith("~$")
        or file.endswith("~")
        or file.partition(".")[0] in _DESCRIPTIONS
        or _TITLE.search(file) is not None
        or splitext(file)[1] in _ENDINGS
    )


def _is_system_name(part: str) -> bool:
    """Whether a file or a folder with this name belongs to the system, or to a table format."""
    return part.startswith(".") or part == "__MACOSX" or part.lower() in _BOOKKEEPING


@functools.lru_cache(256)  # a folder may hold many files
def _is_in_system_folder(folder: str) -> bool:
    return any(map(_is_system_name, folder.split("/")))


def refuse_foreign(name: str, head: bytes) -> None:
    """Raise DataError for a file whose first 512 bytes show that it is something else."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        raise DataError(f"{one_line(name)} is a git-LFS pointer, not the file: fetch it with git lfs pull")
    if start.startswith((b"<!doctype html", b"<html", b"<head")) or (
        start.startswith(b"<?xml") and b"<html" in start
    ):
        raise DataError(
            f"{one_line(name)} is an HTML page, not data: possibly a login page; download the file again"
        )
    if b"<error" in start and b"<code>" in start:
        raise _answer(name)


def refuse_store(names: Iterable[str], data: str) -> None:
    """Raise DataError if a folder's files are those of a store: its tokens are not documents."""
    found = {name.partition("/")[0] for name in names}
    if {"manifest.json", "documents", "tokens"} <= found:
        raise DataError(
            f"{one_line(data)} is a store: its documents are in {one_line(data.rstrip('/'))}/documents"
        )


def refuse_misnamed(name: str, head: bytes, kind: str | None) -> None:
    """Raise DataError for a file to be read whose first 512 bytes contradict its name.

    `kind`: the expected kind of table, None for a text.
    """
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    if kind is not None and len(head) < 512 and _is_refusal(head):
        raise _answer(name)
    if kind is not None and start.startswith(b"<?xml"):
        raise DataError(f"{one_line(name)} is XML, not a table")
    for beginning, what, of_kind in _BEGINNINGS:
        if head.startswith(beginning) and kind != of_kind:
            raise DataError(f"{one_line(name)} is {what}, despite its name")
    if kind is not None and re.match(rb"\x80[\x02-\x05][}\].c\x95(]", head):
        raise DataError(f"{one_line(name)} is a pickle, which is never read: it could run any program")


def _answer(name: str) -> DataError:
    return DataError(f"{one_line(name)} is a server's error response, not data: download it again")


def _is_refusal(whole: bytes) -> bool:
    """Whether a whole file is a server's refusal to send it."""
    if _REFUSAL.fullmatch(whole.strip()):
        return True
    try:
        answer = json.loads(whole)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and any(
        {str(key).casefold() for key in answer} >= keys
        for keys in ({"error"}, {"errors"}, {"message", "status"}, {"message", "documentation_url"})
    )
