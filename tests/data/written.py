"""Data sets written to a disk: folders, tar and zip archives, and a small IMDb."""

import io
import tarfile
import zipfile
from pathlib import Path

from attnstore.config import SourceConfig
from attnstore.data.documents import Document, Rejected, Source
from attnstore.data.sources import open_source

URL = b"http://www.imdb.com/title/%s/usercomments\n"
IMDB = {
    "aclImdb/README": b"about",
    "aclImdb/imdbEr.txt": b"0.1\n0.2\n",
    "aclImdb/test/neg/0_2.txt": b"so <br />bad",
    "aclImdb/test/neg/10_3.txt": "schlecht, schöner Titel".encode(),
    "aclImdb/test/neg/1_1.txt": b"broken \xff byte",
    "aclImdb/test/pos/0_10.txt": b"good\r\nfilm",
    "aclImdb/test/pos/1_7.txt": b"",
    "aclImdb/test/urls_neg.txt": b"".join(URL % b"tt%03d" % n for n in range(11)),
    "aclImdb/test/urls_pos.txt": URL % b"tt900",
    "aclImdb/train/neg/0_3.txt": b"train bad",
    "aclImdb/train/pos/0_9.txt": b"train good",
    "aclImdb/train/unsup/0_0.txt": b"nobody knows",
    "aclImdb/train/urls_neg.txt": URL % b"tt500",
    "aclImdb/train/urls_pos.txt": URL % b"tt501",
    "aclImdb/train/urls_unsup.txt": URL % b"tt502",
}
IMDB_TEST = [
    Document("so <br />bad", "test/neg/0_2", "tt000", "test", "neg"),
    Document("schlecht, schöner Titel", "test/neg/10_3", "tt010", "test", "neg"),
    Rejected("test/neg/1_1", "not UTF-8"),
    Document("good\r\nfilm", "test/pos/0_10", "tt900", "test", "pos"),
    Document("", "test/pos/1_7", None, "test", "pos"),
]
IMDB_TRAIN = [
    Document("train bad", "train/neg/0_3", "tt500", "train", "neg"),
    Document("train good", "train/pos/0_9", "tt501", "train", "pos"),
]


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz", prefix: str = "") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in reversed(files.items()):  # another order than the folder's
            archive.writestr(name, content)
    return path


def open_(data: Path | str, **options: object) -> Source:
    return open_source(SourceConfig(str(data), **options))  # type: ignore[arg-type]


#: The containers in which `write_imdb` can write the small IMDb.
CONTAINERS = ["folder", "inner folder", "tar.gz", "tar", "tar.xz", "./tar", "zip"]


def write_imdb(container: str, tmp_path: Path) -> Path:
    match container:
        case "folder":
            return write_folder(tmp_path, IMDB)
        case "inner folder":
            return write_folder(tmp_path, IMDB) / "aclImdb"
        case "zip":
            return write_zip(tmp_path / "imdb.zip", IMDB)
        case "./tar":
            return write_tar(tmp_path / "imdb", IMDB, "w:bz2", prefix="./")
        case kind:
            return write_tar(tmp_path / f"imdb.{kind}", IMDB, f"w:{kind[4:]}")
