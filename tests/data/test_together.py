"""Several tables in one place: one data set, several, or the same one twice."""

import gzip
from pathlib import Path

import pytest
from written import open_, write_folder, write_tar, write_zip

from attnstore.data.documents import Document, Source
from attnstore.errors import DataError, UsageError


def csv_of(word: str) -> bytes:
    return f"text,label\na {word} film,pos\nno {word} film,neg\n".encode()


def texts(source: Source) -> list[str]:
    return [item.text for item in source if isinstance(item, Document)]


LANGUAGES = {
    f"{language}/{split}.csv": csv_of(language + split)
    for language in ("de", "en")
    for split in ("train", "test")
}


class TestFolders:
    @pytest.mark.parametrize("container", ["folder", "zip", "tar"])
    def test_two_with_the_same_splits_are_two_data_sets(self, container: str, tmp_path: Path) -> None:
        """Both are named, with the option that chooses one, and that option works."""
        if container == "folder":
            data = str(write_folder(tmp_path, LANGUAGES))
            advice = r"--subset de, or several with a glob$"
        else:
            write = write_zip if container == "zip" else write_tar
            data = str(write(tmp_path / f"x.{container}", LANGUAGES))
            advice = r"--data FILE::'\*de/\*'$"
        with pytest.raises(
            DataError, match=rf"holds several data sets, each in its own folder \(de, en\): .*{advice}"
        ):
            open_(data)
        chosen = open_(data, subset="de") if container == "folder" else open_(f"{data}::*de/*")
        assert set(chosen.splits) == {"train", "test"}
        assert all("de" in text for text in texts(chosen))

    def test_a_glob_reads_both(self, tmp_path: Path) -> None:
        """Both match, so both are read. A note names them."""
        write_folder(tmp_path, LANGUAGES)
        source = open_(f"{tmp_path}/*/train.csv")
        assert len(texts(source)) == 4
        assert "2 files are read as the split train: de/train.csv, en/train.csv" in source.notes

    def test_folders_of_splits_years_and_hive_are_one_data_set(self, tmp_path: Path) -> None:
        """They are parts, with the same file names or not."""
        names = ("train/2019/part-0.csv", "train/2020/part-0.csv", "test/2019/part-0.csv", "day=1/x.csv")
        write_folder(tmp_path, {name: csv_of(str(number)) for number, name in enumerate(names)})
        assert len(texts(open_(tmp_path, split="train"))) == 4

    def test_the_folder_above_comes_first(self, tmp_path: Path) -> None:
        """GLUE's folders contain `original/` with the same splits in another form, or texts that are not data."""
        files = {"train.csv": csv_of("new"), "original/raw/in_train.csv": csv_of("old")}
        source = open_(write_folder(tmp_path, files | {"original/dictionary.txt": b"!|0\n"}))
        assert texts(source) == ["a new film", "no new film"]
        assert source.notes[:2] == (
            "not read: original/dictionary.txt",
            "1 file in original/raw is not read, as train.csv is: name a folder, or several files with a glob",
        )

    def test_several_data_sets_of_lines(self, tmp_path: Path) -> None:
        """tweet_eval's folders, whose twin files used to become documents of the class `emotion`."""
        files = {
            f"datasets/{task}/train_{what}.txt": content
            for task in ("emotion", "hate")
            for what, content in (("text", b"a film\nno film\n"), ("labels", b"0\n1\n"))
        }
        with pytest.raises(DataError, match=r"several data sets.*\(datasets/emotion, datasets/hate\)"):
            open_(write_folder(tmp_path, files))
        assert texts(open_(tmp_path, subset="hate")) == ["a film", "no film"]

    @pytest.mark.parametrize("twins", [True, False])
    def test_lines_in_folders_of_splits(self, twins: bool, tmp_path: Path) -> None:
        """One file per class, or texts and labels, in folders named after splits."""
        files = {
            name: content
            for split in (b"train", b"test")
            for name, content in (
                {
                    f"{split.decode()}/text.txt": split + b"\nno\n",
                    f"{split.decode()}/labels.txt": b"pos\nneg\n",
                }
                if twins
                else {f"{split.decode()}/pos.txt": split + b"\n", f"{split.decode()}/neg.txt": b"no\n"}
            ).items()
        }
        source = open_(write_folder(tmp_path, files), split="test")
        assert {(each.text, each.label, each.split) for each in source if isinstance(each, Document)} == {
            ("test", "pos", "test"),
            ("no", "neg", "test"),
        }


class TestCopies:
    @pytest.mark.parametrize("copy", ["train (1).csv", "train.csv.gz"])
    def test_the_same_bytes_are_read_once(self, copy: str, tmp_path: Path) -> None:
        """Also if one is compressed. A note says so."""
        content = csv_of("new")
        copied = gzip.compress(content) if copy.endswith(".gz") else content
        source = open_(write_folder(tmp_path, {"train.csv": content, copy: copied}))
        assert texts(source) == ["a new film", "no new film"]
        assert f"{copy} is the same as train.csv, which is read: it is left out" in source.notes

    def test_two_versions_of_one_table(self, tmp_path: Path) -> None:
        """Which of them is meant is not guessed."""
        write_folder(tmp_path, {"train.csv": csv_of("new"), "train.csv.gz": gzip.compress(csv_of("old"))})
        with pytest.raises(DataError, match=r"^train\.csv and train\.csv\.gz are two versions of one table"):
            open_(tmp_path)

    def test_two_splits_with_the_same_documents_are_noted(self, tmp_path: Path) -> None:
        """Both are read as the splits that their names say."""
        source = open_(write_folder(tmp_path, {"train.csv": csv_of("new"), "test.csv": csv_of("new")}))
        assert len(texts(source)) == 4
        what = "train.csv and test.csv are the same, byte for byte: two splits of the same documents"
        assert what in source.notes


def test_files_read_as_one_table_are_noted(tmp_path: Path) -> None:
    """Files with any names, but not the numbered parts of one table."""
    source = open_(write_folder(tmp_path / "a", {"books.csv": csv_of("b"), "dvd.csv": csv_of("d")}))
    assert source.notes[0] == "2 files are read as one data set: books.csv, dvd.csv"
    parts = {f"train-0000{n}-of-00002.csv": csv_of(str(n)) for n in range(2)}
    assert not any("are read as" in note for note in open_(write_folder(tmp_path / "b", parts)).notes)


def test_files_named_after_classes(tmp_path: Path) -> None:
    """Unlabelled tables, one per class."""
    write_folder(tmp_path, {"pos.csv": b"text\na fine film\n", "neg.csv": b"text\na dull film\n"})
    source = open_(tmp_path)
    assert {(each.text, each.label) for each in source if isinstance(each, Document)} == {
        ("a fine film", "pos"),
        ("a dull film", "neg"),
    }
    assert "the files' names are the labels" in source.notes


class TestHubsCache:
    def test_its_card_is_that_of_the_snapshot(self, tmp_path: Path) -> None:
        """Configurations are refused as in the data set's own folder; ids do not contain the revision."""
        card = "---\nconfigs:\n" + "".join(
            f"- config_name: {each}\n  data_files: {each}/*\n" for each in ("de", "en")
        )
        snapshot = tmp_path / "datasets--x--y/snapshots/abc"
        write_folder(snapshot, LANGUAGES | {"README.md": f"{card}---\n".encode()})
        with pytest.raises(UsageError, match="has the configurations de, en"):
            open_(tmp_path)
        first = next(iter(open_(tmp_path, subset="de")))
        assert isinstance(first, Document)
        assert first.id == "de/test.csv:1"

    def test_two_data_sets_are_refused(self, tmp_path: Path) -> None:
        """The whole cache is not a data set."""
        write_folder(tmp_path, {f"datasets--x--{n}/snapshots/abc/r.csv": csv_of(str(n)) for n in range(2)})
        with pytest.raises(
            DataError, match=r"a cache of several data sets \(datasets--x--0, datasets--x--1\)"
        ):
            open_(tmp_path)
