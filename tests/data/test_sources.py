"""The documents of a source in every container, and the sources that are refused, in one line."""

import hashlib
import io
import json
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from written import (
    CONTAINERS,
    IMDB,
    IMDB_TEST,
    IMDB_TRAIN,
    open_,
    write_folder,
    write_imdb,
    write_tar,
    write_zip,
)

from attnstore.data.documents import Document, Rejected
from attnstore.data.survey import survey
from attnstore.errors import AttnstoreError, DataError, UsageError


@pytest.fixture(params=CONTAINERS)
def imdb(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_imdb(request.param, tmp_path)


class TestImdb:
    def test_every_container_gives_the_same_documents(self, imdb: Path) -> None:
        """Id, film, split, label, text and order are the same from a folder, a tar and a zip archive."""
        source = open_(imdb, split="test")
        assert list(source) == IMDB_TEST
        assert list(source) == IMDB_TEST, "a source is read again from the start"
        assert source.splits == ("test", "train")
        assert source.notes == ()
        assert list(open_(imdb)) == IMDB_TEST + IMDB_TRAIN

    def test_one_split_alone(self, tmp_path: Path) -> None:
        """A tree with a single split has its name from its folder. For that folder itself, the user gives the name."""
        only_test = {name: content for name, content in IMDB.items() if "/test/" in name}
        assert list(open_(write_folder(tmp_path, only_test))) == IMDB_TEST
        inside = open_(tmp_path / "aclImdb/test", split="held-out")
        assert inside.splits == ()
        first = next(iter(inside))
        assert first == Document("so <br />bad", "neg/0_2", "tt000", "held-out", "neg")

    @pytest.mark.slow
    def test_the_real_archive(self, imdb_archive: Path) -> None:
        """The 25,000 test reviews come in the archive's order, 12,500 of each label, with their films."""
        read = [item for item in open_(imdb_archive, split="test") if isinstance(item, Document)]
        assert Counter(item.label for item in read) == {"neg": 12500, "pos": 12500}
        assert sum(len(item.text.encode()) for item in read) == 32_350_685  # according to its README
        by_id = {item.id: item.group for item in read}
        assert by_id["test/pos/0_10"] == "tt0406816"
        assert None not in by_id.values()
        # Ids, texts and labels in the archive's order, from a script that reads only the tar.
        digest = hashlib.sha256()
        for item in read:
            line = json.dumps([item.id, item.text, item.label, item.split], separators=(",", ":"))
            digest.update(f"{line}\n".encode())
        assert digest.hexdigest() == "942152cd8ab99d88d72c2ba9c785174be51b5dd053cd2768823f7d2d2ca02539"


def parquet(**columns: list[object]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


class TestManyFiles:
    FILES = {  # noqa: RUF012 - never changed
        "data/test-00000-of-00001.csv": b"text,label\nt1,pos\n",
        "data/train-00000-of-00002.csv": b"label,text\nneg,t2\n",
        "data/train-00001-of-00002.csv": b"text,label\nt3,pos\n",
        "README.md": b"# About",
        "dataset_infos.json": b"{}",
        ".cache/other.csv": b"text\nhidden\n",
    }

    @pytest.mark.parametrize("container", ["folder", "zip", "glob"])
    def test_splits_by_name(self, container: str, tmp_path: Path) -> None:
        """Files named after splits are the splits. Columns may be in any order."""
        match container:
            case "folder":
                data = str(write_folder(tmp_path, self.FILES))
            case "zip":
                data = str(write_zip(tmp_path / "d.zip", self.FILES))
            case _:
                data = f"{write_folder(tmp_path, self.FILES)}/d*/*.csv"
        prefix = "" if container == "glob" else "data/"
        source = open_(data)
        assert source.splits == ("test", "train")
        assert list(source) == [
            Document("t1", f"{prefix}test-00000-of-00001.csv:1", None, "test", "pos"),
            Document("t2", f"{prefix}train-00000-of-00002.csv:1", None, "train", "neg"),
            Document("t3", f"{prefix}train-00001-of-00002.csv:1", None, "train", "pos"),
        ]
        assert [item.split for item in open_(data, split="train") if isinstance(item, Document)] == [
            "train"
        ] * 2

    def test_files_without_splits(self, tmp_path: Path) -> None:
        """Files not named after splits are one split, with the name that the user gives."""
        write_folder(
            tmp_path, {"b.csv": b"text\nt2\n", "a.csv.gz": b"text\nt1\n", "testimonials.csv": b"text\nt3\n"}
        )
        source = open_(tmp_path, split="reviews")
        assert source.splits == ()
        assert [(item.text, item.split) for item in source if isinstance(item, Document)] == [
            ("t1", "reviews"),
            ("t2", "reviews"),
            ("t3", "reviews"),
        ]

    def test_hive(self, tmp_path: Path) -> None:
        """A partitioned folder of Parquet, such as a store's documents, has columns and splits in its path."""
        rows = parquet(text=["a", None], id=["x", "y"], group=["g", None])
        write_folder(
            tmp_path,
            {
                "split=test/label=a%2Fb/part-0.parquet": rows,
                "split=test/label=__HIVE_DEFAULT_PARTITION__/part-0.parquet": rows,
                "split=dev/label=c d/part-0.parquet": rows,
            },
        )
        source = open_(tmp_path, split="test")
        assert source.splits == ("dev", "test")
        assert list(source) == [
            Document("a", "x", "g", "test", None),
            Rejected("split=test/label=__HIVE_DEFAULT_PARTITION__/part-0.parquet row 2", "text missing"),
            Document("a", "x", "g", "test", "a/b"),
            Rejected("split=test/label=a%2Fb/part-0.parquet row 2", "text missing"),
        ]

    def test_a_split_column_gives_the_splits(self, tmp_path: Path) -> None:
        """Each row belongs to its own split. If one is asked for, no other rows are read, and a note counts them."""
        data = tmp_path / "data.csv"
        data.write_text("text,split,label\na,train,x\nb,test,y\nc,,x\nd,test,x\n")
        pl.read_csv(data).write_parquet(tmp_path / "data.parquet")
        pl.read_csv(data).write_ndjson(tmp_path / "data.jsonl")
        for name in ("data.csv", "data.parquet", "data.jsonl"):
            source = open_(tmp_path / name)
            assert source.splits == ("train", "test", "all")
            assert "split column detected: 'split'" in source.notes
            found = [(item.text, item.split) for item in source if isinstance(item, Document)]
            assert found == [("a", "train"), ("b", "test"), ("c", "all"), ("d", "test")]
            part = [
                (item.text, item.split)
                for item in open_(tmp_path / name, split="test")
                if isinstance(item, Document)
            ]
            assert part == [("b", "test"), ("d", "test")]
            with pytest.raises(UsageError, match="has no split 'tset', it has train, test, all"):
                open_(tmp_path / name, split="tset")

    def test_a_column_called_split_may_be_something_else(self, tmp_path: Path) -> None:
        """If it is named as the label, it is the label. With a different value in each row it is refused."""
        data = tmp_path / "data.csv"
        data.write_text("text,split\n" + "".join(f"a,{n}\n" for n in range(51)))
        assert open_(data, label_column="split").splits == ()
        with pytest.raises(DataError, match="more than 50 splits in its column 'split'"):
            open_(data)

    def test_a_split_of_data_without_splits_is_only_a_name(self, tmp_path: Path) -> None:
        """A note says so: `--split test` has selected nothing."""
        (tmp_path / "a.csv").write_text("text,label\na,x\n")
        note = "the data has no splits: 'test' is only the name that its documents get"
        assert note in open_(tmp_path / "a.csv", split="test").notes
        assert not [note for note in open_(tmp_path / "a.csv").notes if "only the name" in note]

    def test_a_single_file_has_no_splits(self, tmp_path: Path) -> None:
        """A file that the user names is one split, whatever its name."""
        (tmp_path / "test.csv").write_text("text\nt\n")
        source = open_(tmp_path / "test.csv", split="mine")
        assert (source.splits, [item.split for item in source if isinstance(item, Document)]) == (
            (),
            ["mine"],
        )


def tar_with(**fields: object) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:
        member = tarfile.TarInfo("data/pos/1.txt")
        for name, value in fields.items():
            setattr(member, name, value)
        tar.addfile(member, io.BytesIO(b"\0" * member.size))
    return sink.getvalue()


def zip_with(name: str, link: bool = False) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = (0o120777 if link else 0o100644) << 16
        archive.writestr(entry, "content")
    return sink.getvalue()


def gzipped(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content)


NOISE = hashlib.shake_256(b"noise").digest(5000).replace(b"\0", b"\1")
GOOD_TAR = tar_with(size=3000)

# name, files (or one file's bytes), --data (within the folder), options, a part of the message
BAD_INPUTS: list[tuple[str, dict[str, bytes], str, dict[str, object], str]] = [
    ("wrong path", {"reviews.csv": b"text\na\n"}, "review.csv", {}, "did you mean 'reviews.csv'?"),
    ("wrong folder", {}, "no/such/place", {}, "no such file or folder"),
    ("blank path", {}, " ", {}, "--data is empty"),
    ("path too long", {}, "x" * 5000, {}, "can't be read: File name too long"),
    ("NUL in path", {}, "a\0b", {}, "no such file or folder"),
    ("new line in path", {}, "a\nb.csv", {}, "no such file or folder"),
    (
        "unknown address",
        {},
        "gopher://example.org/reviews.csv",
        {},
        "is not a readable URL: Protocol not known: gopher",
    ),
    ("empty address", {}, "memory://nowhere", {}, "there is nothing at memory://nowhere"),
    (
        "configuration of a file",
        {"a.csv": b"text\na\n"},
        "a.csv",
        {"subset": "x"},
        "--subset chooses among folders of data",
    ),
    (
        "configuration of none",
        {"a/a.csv": b"text\na\n"},
        "",
        {"subset": "b"},
        "has no configuration 'b' (--subset), it has a",
    ),
    ("hub model", {}, "hf://models/x/y", {}, "hf://datasets/OWNER/NAME"),
    ("glob without match", {"a.csv": b"text\n"}, "*.tsv", {}, "no file matches"),
    ("empty file", {"a.csv": b""}, "a.csv", {}, "is empty"),
    ("empty gzip", {"a.csv.gz": gzipped(b"")}, "a.csv.gz", {}, "is empty"),
    ("blank file", {"a.csv": b"\n\n \n"}, "a.csv", {}, "is empty"),
    ("blank JSONL", {"a.jsonl": b"\n\n"}, "a.jsonl", {}, "is empty"),
    ("header only", {"a.csv": b"text,label\n"}, "a.csv", {}, "holds no document"),
    ("unknown kind", {"a.xml": b"<text/>"}, "a.xml", {}, "unknown file format: choose one with --format"),
    ("empty folder", {}, "", {}, "holds no files, none that can be read"),
    ("useless folder", {"a.md": b"a", "b/c.xml": b"b"}, "", {}, "holds 2 files, none that can be read"),
    (
        "folder of archives",
        {"a.tar.gz": GOOD_TAR, "b.tgz": GOOD_TAR},
        "",
        {},
        "name the archive itself: a.tar.gz, b.tgz",
    ),
    (
        "too deep",
        {"a/b/c/1.txt": b"a", "a/b/d/1.txt": b"a", "x/y/z/1.txt": b""},
        "",
        {},
        "are nested too deeply (a/b/c)",
    ),
    (
        "tables and classes",
        {"m.csv": b"text\na\n", "pos/1.txt": b"a", "neg/1.txt": b"b"},
        "",
        {},
        "name the one to read",
    ),
    (
        "several kinds",
        {"a.csv": b"text\na\n", "b.parquet": b""},
        "",
        {},
        "tables of several kinds (a.csv, b.parquet)",
    ),
    ("binary CSV", {"a.csv": b"text\n\0\1\2"}, "a.csv", {}, "is binary, not text"),
    ("UTF-16 CSV", {"a.csv": "text\na\n".encode("utf-16")}, "a.csv", {}, "is UTF-16, not UTF-8"),
    ("binary JSONL", {"a.jsonl": b"\0" * 9}, "a.jsonl", {}, "is binary or UTF-16"),
    ("noise CSV", {"a.csv": NOISE}, "a.csv", {"text_column": "text"}, "is binary, not text"),
    ("noise JSONL", {"a.jsonl": NOISE}, "a.jsonl", {}, "holds no JSON object"),
    ("JSON array of numbers", {"a.json": b"[1, 2]"}, "a.json", {}, "holds no JSON object"),
    (
        "JSON array cut off",
        {"a.json": b'[{"text": "a"}, {"text": "b'},
        "a.json",
        {},
        "a.json is damaged or cut off after row 1:",
    ),
    (
        "JSON array without an end",
        {"a.json": b'[{"text": "a"}'},
        "a.json",
        {},
        "a.json is damaged or cut off after row 1:",
    ),
    (
        "two JSON arrays",
        {"a.json": b'[{"text": "a"}][{"text": "b"}]'},
        "a.json",
        {},
        "after row 1: data after its end",
    ),
    (
        "JSON document cut off",
        {"a.json": b'{\n"text":\n'},
        "a.json",
        {},
        "is no JSON: Expecting value in line 3",
    ),
    (
        "several lists of rows",
        {"a.json": b'{"films": [{"text": "a"}], "books": [{"text": "b"}]}'},
        "a.json",
        {},
        "holds several lists of rows (films, books)",
    ),
    (
        "columns of two lengths",
        {"a.json": b'{"text": ["a", "b"], "label": ["c"]}'},
        "a.json",
        {},
        "holds columns of different lengths (text, label)",
    ),
    (
        "objects of objects",
        {"a.json": b'{"a": {"b": "x", "c": "y"}, "d": {"b": "x", "c": "y"}}'},
        "a.json",
        {},
        "either level may be the columns",
    ),
    ("damaged Arrow", {"a.arrow": b"ARROW1\0\0" + b"x" * 99}, "a.arrow", {}, "a.arrow can't be read:"),
    (
        "damaged Arrow stream",
        {"a.arrow": b"\xff\xff\xff\xff\x10\0\0\0" + b"x" * 9},
        "a.arrow",
        {},
        "a.arrow can't be read:",
    ),
    ("old Feather", {"a.feather": b"FEA1" + b"x" * 99}, "a.feather", {}, "is of Feather's first version"),
    ("open quote", {"a.csv": b'"text,label\na,b\n'}, "a.csv", {}, "its first row has a quote"),
    ("endless line", {"a.csv": b"x" * (1 << 20)}, "a.csv", {}, "a first line of more than 1,048,576 bytes"),
    ("not Parquet", {"a.parquet": b"text\na\n"}, "a.parquet", {}, "a.parquet can't be read"),
    ("cut Parquet", {"a.parquet": parquet(text=["a"] * 99)[:-9]}, "a.parquet", {}, "a.parquet can't be read"),
    ("gzipped Parquet", {"a.parquet": gzipped(parquet(text=["a"]))}, "a.parquet", {}, "decompress it first"),
    (
        "Parquet page",
        {"a.parquet": b"PAR1" + NOISE[:99] + parquet(text=["a"])[103:]},
        "a.parquet",
        {},
        "can't be read",
    ),
    (
        "Parquet names",
        {"a.parquet": parquet(text=["a"]).replace(b"text", b"te\xabt")},
        "a.parquet",
        {},
        "can't be read",
    ),
    (
        "numbers as text",
        {"a.parquet": parquet(text=[1, 2])},
        "a.parquet",
        {},
        "column 'text' is int64, not text",
    ),
    (
        "all text missing",
        {"a.parquet": parquet(text=pa.array([None], pa.string()))},
        "a.parquet",
        {},
        "1 text missing",
    ),
    (
        "all Latin-1",
        {"a.csv": "text\nä\nö\n".encode("latin-1")},
        "a.csv",
        {},
        "a.csv is not UTF-8: byte 0xe4 in line 2 is invalid; --encoding cp1252 fits",
    ),
    (
        "no text column",
        {"a.csv": b"x,label\n1,a\n"},
        "a.csv",
        {},
        "no column that looks like text (it has x, label)",
    ),
    (
        "unknown column",
        {"a.csv": b"texts,label\n1,a\n"},
        "a.csv",
        {"text_column": "text"},
        "did you mean 'texts'?",
    ),
    (
        "unknown label column",
        {"a.jsonl": b'{"text": "a"}\n'},
        "a.jsonl",
        {"label_column": "lab"},
        "(--label-column)",
    ),
    (
        "unknown id column",
        {"a.parquet": parquet(text=["a"])},
        "a.parquet",
        {"id_column": "key"},
        "it has text",
    ),
    ("column twice", {"a.csv": b"text,text\n1,a\n"}, "a.csv", {}, "has 2 columns called 'text'"),
    (
        "column missing later",
        {"1.csv": b"text\na\n", "2.csv": b"body\nb\n"},
        "",
        {},
        "2.csv has no column 'text'",
    ),
    ("column of a folder", {"pos/1.txt": b"a"}, "", {"text_column": "text"}, "which have no column 'text'"),
    (
        "unknown split",
        {"train.csv": b"text\na\n"},
        "",
        {"split": "trian"},
        "it has train: did you mean 'train'?",
    ),
    (
        "unknown class split",
        {"test/pos/1.txt": b"a"},
        "",
        {"split": "dev"},
        "has no split 'dev', it has test",
    ),
    ("limit", {"a.csv": b"text\na\n"}, "a.csv", {"limit": 0}, "--limit must be at least 1, not 0"),
    ("truncated gzip", {"a.csv.gz": gzipped(b"text\n" + NOISE)[:-99]}, "a.csv.gz", {}, "can't be read"),
    ("damaged gzip", {"a.csv.gz": gzipped(b"text\na")[:-8] + b"\1" * 8}, "a.csv.gz", {}, "can't be read"),
    ("damaged zstd", {"a.csv.zst": b"\x28\xb5\x2f\xfd" + NOISE}, "a.csv.zst", {}, "can't be read"),
    ("damaged xz", {"a.csv.xz": b"\xfd7zXZ\0" + NOISE}, "a.csv.xz", {}, "can't be read"),
    ("damaged bzip2", {"a.csv.bz2": b"BZh9" + NOISE}, "a.csv.bz2", {}, "can't be read"),
    ("tar: outside", {"a.tgz": tar_with(name="data/../../x.txt")}, "a.tgz", {}, "a member outside of itself"),
    ("tar: absolute", {"a.tgz": tar_with(name="/etc/x.txt")}, "a.tgz", {}, "a member outside of itself"),
    ("tar: drive", {"a.tgz": tar_with(name="C:\\x.txt")}, "a.tgz", {}, "a member outside of itself"),
    (
        "tar: symbolic link",
        {"a.tgz": tar_with(type=tarfile.SYMTYPE, linkname="/etc/passwd")},
        "a.tgz",
        {},
        "holds a link",
    ),
    ("tar: hard link", {"a.tgz": tar_with(type=tarfile.LNKTYPE, linkname="x")}, "a.tgz", {}, "holds a link"),
    ("tar: device", {"a.tgz": tar_with(type=tarfile.CHRTYPE)}, "a.tgz", {}, "holds a special file"),
    ("tar: fifo", {"a.tgz": tar_with(type=tarfile.FIFOTYPE)}, "a.tgz", {}, "holds a special file"),
    ("tar: empty table", {"a.tgz": tar_with(name="data/train.csv")}, "a.tgz", {}, "data/train.csv is empty"),
    ("tar: cut gzip", {"a.tgz": GOOD_TAR[:-20]}, "a.tgz", {}, "can't be read"),
    ("tar: noise", {"a.tar": NOISE}, "a.tar", {}, "can't be read"),
    ("zip: outside", {"a.zip": zip_with("../x.txt")}, "a.zip", {}, "a member outside of itself"),
    ("zip: link", {"a.zip": zip_with("pos/x.txt", link=True)}, "a.zip", {}, "holds a link (pos/x.txt)"),
    ("zip: cut", {"a.zip": zip_with("pos/x.txt")[:-30]}, "a.zip", {}, "can't be read"),
    ("zip: nothing", {"a.zip": zip_with("x.bin")}, "a.zip", {}, "holds 1 file, none that can be read"),
    (
        "zip: damaged",
        {"a.zip": zip_with("pos/x.txt").replace(b"content", b"CONTENT")},
        "a.zip",
        {},
        "can't be read",
    ),
]


@pytest.mark.parametrize(
    ("files", "data", "options", "expected"),
    [bad[1:] for bad in BAD_INPUTS],
    ids=[bad[0] for bad in BAD_INPUTS],
)
def test_bad_inputs(
    files: dict[str, bytes], data: str, options: dict[str, object], expected: str, tmp_path: Path
) -> None:
    """Each bad input is one line that says what was found, with exit code 1 or 2."""
    write_folder(tmp_path, files)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    given = data if "://" in data or (not data.strip() and data) else str(tmp_path / data)
    with pytest.raises(AttnstoreError) as caught:
        survey(open_(given, **options))
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert caught.value.exit_code == (2 if isinstance(caught.value, UsageError) else 1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


SOUND = {
    "a.csv": b"text,label\n" + b"".join(b'"row %d, quoted",pos\n' % n for n in range(30)),
    "a.tsv": b"text\tlabel\n" + b"row\tpos\n" * 30,
    "a.jsonl": b"".join(json.dumps({"text": f"row {n}", "label": n % 2}).encode() + b"\n" for n in range(30)),
    "a.parquet": parquet(text=[f"row {n}" for n in range(30)], label=[n % 2 for n in range(30)]),
    "a.csv.gz": gzipped(b"text,label\n" + b"row,pos\n" * 30),
    "a.tar": b"",
    "a.tar.gz": GOOD_TAR,
    "a.zip": zip_with("pos/x.txt"),
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage")


@pytest.mark.slow
@given(name=st.sampled_from(sorted(SOUND)), damage=st.data())
def test_any_damage_is_one_line_or_harmless(scratch: Path, name: str, damage: st.DataObject) -> None:
    """Whatever bytes of whatever file are changed or cut off: documents, or one line, never a traceback."""
    if not SOUND["a.tar"]:
        SOUND["a.tar"] = write_tar(
            scratch / "sound.tar", {f"d/pos/{n}.txt": b"text" * n for n in range(9)}, "w"
        ).read_bytes()
    content = bytearray(SOUND[name])
    for _ in range(damage.draw(st.integers(0, 4))):
        content[damage.draw(st.integers(0, len(content) - 1))] = damage.draw(st.integers(0, 255))
    del content[damage.draw(st.integers(len(content) // 2, len(content))) :]
    path = scratch / name
    path.write_bytes(content)
    try:
        assert survey(open_(path)).documents > 0
    except AttnstoreError as error:
        assert "\n" not in str(error)
