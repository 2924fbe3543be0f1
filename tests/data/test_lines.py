"""Text files with one document per line, and folders of texts with any file ending."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from written import open_, write_folder

from attnstore.config import SourceConfig
from attnstore.data.class_names import ClassNames
from attnstore.data.documents import Document, Rejected, Source
from attnstore.data.sources import open_source
from attnstore.errors import AttnstoreError, UsageError


def tree(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def opened(path: Path, **options: object) -> Source:
    return open_source(SourceConfig(str(path), **options))  # type: ignore[arg-type]


def rows_of(source: Source) -> list[tuple[str, str | None, str]]:
    return [(item.text, item.label, item.split) for item in source if isinstance(item, Document)]


def test_fasttexts_labels_are_taken_from_the_lines(tmp_path: Path) -> None:
    """Each line is a document of its file's split. A line with several labels or none is rejected by its number."""
    files = {
        "train.txt": "__label__pos great film\n\n__label__neg bad\n",
        "test.txt": "__label__pos __label__neg odd\n__label__neg x\nno tag\n__label__neg y\n",
    }
    source = opened(tree(tmp_path, files))
    assert rows_of(source) == [
        ("x", "neg", "test"),
        ("y", "neg", "test"),
        ("great film", "pos", "train"),
        ("bad", "neg", "train"),
    ]
    assert [item for item in source if isinstance(item, Rejected)] == [
        Rejected("test.txt line 1", "several labels"),
        Rejected("test.txt line 3", "no label at the beginning of the line"),
    ]


def test_twin_files_give_texts_and_labels_line_by_line(tmp_path: Path) -> None:
    """As in tweet_eval, with the names of the numbers in mapping.txt."""
    files = {
        "mapping.txt": "0\tnegative\n1\tpositive\n",
        "val_text.txt": "good\n\n",
        "val_labels.txt": "1\n0\n",
    }
    source = opened(tree(tmp_path, files))
    assert rows_of(source) == [("good", "1", "val"), ("", "0", "val")]
    assert source.class_names == ClassNames({0: "negative", 1: "positive"}, "mapping.txt")


def test_twin_files_of_different_length_are_refused(tmp_path: Path) -> None:
    """A missing line shifts every label after it, so nothing is read."""
    with pytest.raises(AttnstoreError, match=r"test_labels.txt ends before line 2, which its twin has"):
        list(opened(tree(tmp_path, {"test_text.txt": "a\nb\n", "test_labels.txt": "1\n"})))


@pytest.mark.parametrize(
    "names",
    [("pos.txt", "neg.txt"), ("rt-polarity.pos", "rt-polarity.neg"), ("train_pos.txt", "train_neg.txt")],
)
def test_files_named_after_classes_are_classes(names: tuple[str, str], tmp_path: Path) -> None:
    """One text per line, with the file's name as its label. A note says so."""
    source = opened(tree(tmp_path, {names[0]: "good\nfine\n", names[1]: "bad\n"}))
    split = "train" if names[0].startswith("train") else "all"
    assert sorted(rows_of(source)) == [("bad", "neg", split), ("fine", "pos", split), ("good", "pos", split)]
    assert source.notes == ("a text per line; the files' names are the labels",)


def test_files_named_after_splits_have_a_document_per_line(tmp_path: Path) -> None:
    """train.txt is not one document."""
    source = opened(tree(tmp_path, {"train.txt": "one\ntwo\n", "test.txt": "three\n"}))
    assert rows_of(source) == [("three", None, "test"), ("one", None, "train"), ("two", None, "train")]


def test_a_single_text_file_needs_a_format(tmp_path: Path) -> None:
    """Whether it is one document or many is not guessed."""
    path = tree(tmp_path, {"reviews.txt": "one\ntwo\n"}) / "reviews.txt"
    with pytest.raises(AttnstoreError, match="--format"):
        opened(path)
    assert rows_of(opened(path, format="lines")) == [("one", None, "all"), ("two", None, "all")]


def test_class_folders_take_files_of_any_ending(tmp_path: Path) -> None:
    """The files of 20 newsgroups are named by numbers; their encoding can be given."""
    files = {
        "a/alt.atheism/49960": "one",
        "a/sci.space/60000": "caf\u00e9".encode("latin-1"),
        "a/README": "no data",
    }
    assert rows_of(opened(tree(tmp_path, files), encoding="latin-1")) == [
        ("one", "alt.atheism", "all"),
        ("caf\u00e9", "sci.space", "all"),
    ]


def test_texts_in_another_encoding_are_refused(tmp_path: Path) -> None:
    """If many are not UTF-8, and no text with an accent is, the rest would be a biased sample."""
    files = {
        f"{label}/{n}": "caf\u00e9".encode("latin-1") if n < 2 else "plain"
        for label in ("a", "b")
        for n in range(9)
    }
    with pytest.raises(AttnstoreError, match=r"4 of 18 texts are not UTF-8.*--encoding cp1252"):
        list(opened(tree(tmp_path, files)))


def as_tar(files: dict[str, str]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            tar.addfile(member, io.BytesIO(content.encode()))
    return sink.getvalue()


def as_zip(files: dict[str, str]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return sink.getvalue()


TABLES = {
    "news/readme.txt": "about\nthe data\n", "news/classes.txt": "World\nSports\n", "news/LICENSE": "free",
    "news/train.csv": "text,label\na fine film,1\n", "news/test.csv": "text,label\na bad film,0\n",
    "news/sample_submission.csv": "id,label\n1,0\n",
}  # fmt: skip


@pytest.mark.parametrize("name", ["news.tar.gz", "news.zip", "folder", "a folder with the archive"])
def test_archives_of_tables_are_read_like_folders(name: str, tmp_path: Path) -> None:
    """Their tables are the data. Readmes, licences, lists of classes and sample submissions are not."""
    if name == "folder":
        path = tree(tmp_path / "news", TABLES)
    else:
        path = tmp_path / ("news.tar.gz" if name.startswith("a ") else name)
        path.write_bytes(as_zip(TABLES) if name.endswith(".zip") else as_tar(TABLES))
    source = opened(tmp_path if name.startswith("a ") else path)
    assert sorted(rows_of(source)) == [("a bad film", "0", "test"), ("a fine film", "1", "train")]
    assert sorted(rows_of(source)) == [("a bad film", "0", "test"), ("a fine film", "1", "train")]


@pytest.mark.parametrize("name", ["news.tar.gz", "news.zip"])
def test_a_member_of_an_archive_can_be_named(name: str, tmp_path: Path) -> None:
    """By its path, its name, or a glob. If there is no match, the error lists the members."""
    path = tmp_path / name
    path.write_bytes(as_zip(TABLES) if name.endswith(".zip") else as_tar(TABLES))
    for member in ("news/train.csv", "train.csv", "*train*"):
        assert rows_of(opened(Path(f"{path}::{member}"))) == [("a fine film", "1", "all")]
    with pytest.raises(AttnstoreError, match=r"the archive has no member 'nope\.csv'"):
        opened(Path(f"{path}::nope.csv"))


def test_a_readme_in_an_archive_is_no_document(tmp_path: Path) -> None:
    """By a word in its name (`rt-polaritydata.README.1.0.txt`). It used to be all that was read."""
    files = {
        "rt/rt-polarity.pos": "a fine film\n",
        "rt/rt-polarity.neg": "dull\n",
        "rt.README.1.0.txt": "About\n",
    }
    path = tmp_path / "rt.tar"
    path.write_bytes(as_tar(files))
    assert sorted(rows_of(opened(path))) == [("a fine film", "pos", "all"), ("dull", "neg", "all")]


def test_one_snapshot_of_a_hub_cache_is_read(tmp_path: Path) -> None:
    """That of refs/main, with a note; without refs/main, the newest."""
    cache = {
        f"datasets--x--y/snapshots/{revision}/test.csv": f"text,label\n{revision},pos\n"
        for revision in ("aaa", "bbb")
    }
    path = tree(tmp_path, cache)
    (path / "datasets--x--y/refs").mkdir()
    (path / "datasets--x--y/refs/main").write_text("aaa")
    source = opened(path)
    assert rows_of(source) == [("aaa", "pos", "test")]
    assert "of 2 snapshots of the data set the newest is read (aaa)" in source.notes


class TestLinesWithLabelsOfOtherKinds:
    """If a label would become part of the text, the file is refused with the option that settles it."""

    TEXTS = ("a fine film", "dull and long", "good fun", "never again", "well played", "a waste")

    def lines(self, pattern: str) -> bytes:
        return "".join(pattern.format(text=t, n=i % 2) + "\n" for i, t in enumerate(self.TEXTS)).encode()

    @pytest.mark.parametrize(
        ("pattern", "what"),
        [
            ("{text}\t{n}", "its lines are cells between tabs: --format tsv reads a table"),
            ("{text};{n}", "its lines are cells between semicolons: --format csv reads a table"),
            (
                "{n} {text}",
                r"its lines begin with a label \(0\) and not with their text: sed 's/\^/__label__/' FILE",
            ),
            ("NUM:x{n} {text}", r"its lines begin with a label \(NUM:x0\)"),
            (
                "{text} .@c{n}",
                "its lines end with a label after '@': --format csv --delimiter '@' reads a table",
            ),
            ("{text},{n}", "its lines are cells between commas: --format csv reads a table"),
            ('{{"text": "{text}"}}', "its lines are JSON objects: --format jsonl reads them"),
            ("({n} (2 {text}) (3 .))", "its lines are parse trees, not texts"),
        ],
    )
    @pytest.mark.parametrize("name", ["train.txt", "labelled_sentences.txt"])
    def test_they_are_refused(self, name: str, pattern: str, what: str, tmp_path: Path) -> None:
        """Whether the file's name is that of a split or not."""
        write_folder(tmp_path, {name: self.lines(pattern)})
        with pytest.raises(UsageError, match=f"^{name}: {what}.*; --format lines reads each line as it is$"):
            open_(tmp_path)

    def test_tokens_with_tags(self, tmp_path: Path) -> None:
        """CoNLL's files, in which each line is a word."""
        lines = "".join(
            f"{word} NN {tag}\n"
            for word, tag in zip("EU rejects German call .".split(), "BOIOO", strict=True)
        )
        write_folder(tmp_path, {"train.txt": lines.encode() * 3})
        with pytest.raises(UsageError, match="its lines are tokens with tags, not texts"):
            open_(tmp_path)

    def test_they_are_read_as_a_table_or_as_they_are(self, tmp_path: Path) -> None:
        """As the options say. A note names what becomes part of the text."""
        write_folder(tmp_path, {"train.txt": self.lines("{text}\t{n}")})
        assert [(i.text, i.label) for i in open_(tmp_path, format="tsv")][:2] == [
            ("a fine film", "0"),
            ("dull and long", "1"),
        ]
        source = open_(tmp_path, format="lines")
        assert next(iter(source)).text == "a fine film\t0"
        assert any("its lines are cells between tabs, which is read as text" in note for note in source.notes)

    @pytest.mark.parametrize("end", [b"\n", b" __label__x\n"])
    def test_fasttext_with_its_label_at_the_end(self, end: bytes, tmp_path: Path) -> None:
        """fastText accepts labels anywhere in a line; two are several labels."""
        write_folder(tmp_path, {"train.txt": b"a fine film __label__pos\n__label__neg dull" + end})
        first, second = open_(tmp_path)
        assert (first.text, first.label) == ("a fine film", "pos")
        if end == b"\n":
            assert (second.text, second.label) == ("dull", "neg")

    @pytest.mark.parametrize(
        ("texts", "labels"),
        [("train.txt", "train.labels"), ("train.txt", "train.label"), ("train.source", "train.target")],
    )
    def test_labels_in_a_file_of_another_ending(self, texts: str, labels: str, tmp_path: Path) -> None:
        """Line by line, as with `train_labels.txt`."""
        write_folder(tmp_path, {texts: b"a fine film\ndull\n", labels: b"pos\nneg\n"})
        assert [(i.text, i.label, i.split) for i in open_(tmp_path)] == [
            ("a fine film", "pos", "train"),
            ("dull", "neg", "train"),
        ]

    def test_any_file_ending_with_format_lines(self, tmp_path: Path) -> None:
        """`--format lines` works with unknown file endings."""
        write_folder(tmp_path, {"mpqa.all": b"a fine film\ndull\n"})
        assert [i.text for i in open_(tmp_path / "mpqa.all", format="lines")] == ["a fine film", "dull"]
