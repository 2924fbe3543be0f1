"""What lies among data and is none: descriptions, and files that are something else than their name says."""

from pathlib import PurePosixPath

from attnstore.data.class_names import NAMES_JSON
from attnstore.errors import DataError
from attnstore.messages import one_line

#: What a data set's description is called, by stem, in any case.
_DESCRIPTIONS = frozenset(
    ("readme", "license", "licence", "copying", "notice", "citation", "changelog", "authors", "classes", "state",
     "dataset_info", "dataset_infos", "dataset_dict", "config", "metadata", "sample_submission", "samplesubmission",
     "gender_submission")
)  # fmt: skip
#: Folders and files that table formats keep beside their data.
_BOOKKEEPING = (
    "_delta_log",
    "_success",
    "_metadata",
    "_common_metadata",
    "_temporary",
    "_symlink_format_manifest",
)


def is_no_data(name: str) -> bool:
    """Whether a file is the system's (`.DS_Store`, `.git`), a table format's (`_SUCCESS`), or a description."""
    parts = name.split("/")
    if any(part.startswith(".") or part == "__MACOSX" or part.lower() in _BOOKKEEPING for part in parts):
        return True
    file = PurePosixPath(parts[-1].lower())
    if file.name in NAMES_JSON:
        return True
    return file.name.partition(".")[0] in _DESCRIPTIONS or file.suffix in (".crc", ".md", ".rst", ".py")


def refuse_foreign(name: str, head: bytes) -> None:
    """Raise DataError for a file whose first bytes show that it is not what its name says."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        raise DataError(f"{one_line(name)} is a pointer of git-LFS, not the file: fetch it with git lfs pull")
    if start.startswith((b"<!doctype html", b"<html", b"<head")) or (
        start.startswith(b"<?xml") and b"<html" in start
    ):
        raise DataError(
            f"{one_line(name)} is an HTML page, not data: it may be that of a login; download the file again"
        )
