"""Which folders of a tree of texts are splits, and which are classes."""

import pytest
from written import open_, write_folder, write_tar

from attnstore.data.texts import lay_out
from attnstore.errors import DataError


@pytest.mark.parametrize(
    ("folders", "expected", "elsewhere"),
    [
        (["neg", "pos"], {"neg": (None, "neg", "neg"), "pos": (None, "pos", "pos")}, 0),
        (["data/neg", "data/pos"], {"data/neg": (None, "neg", "neg"), "data/pos": (None, "pos", "pos")}, 0),
        (["dev/a", "train/a"], {"dev/a": ("dev", "a", "dev/a"), "train/a": ("train", "a", "train/a")}, 0),
        (["fold1/a", "fold2/b"], {"fold1/a": ("fold1", "a", "fold1/a"), "fold2/b": ("fold2", "b", "fold2/b")}, 0),
        (["x/test/a", "x/test/b"], {"x/test/a": ("test", "a", "test/a"), "x/test/b": ("test", "b", "test/b")}, 0),
        (["train/pos"], {"train/pos": ("train", "pos", "train/pos")}, 0),
        (["data/pos"], {"data/pos": (None, "pos", "pos")}, 0),
        (["pos"], {"pos": (None, "pos", "pos")}, 0),
        ([""], {"": (None, None, "")}, 0),
        (["train", "test"], {"train": ("train", None, "train"), "test": ("test", None, "test")}, 0),
        (["", "neg", "pos"], {"neg": (None, "neg", "neg"), "pos": (None, "pos", "pos")}, 1),
        (["a-b", "a"], {"a-b": (None, "a-b", "a-b"), "a": (None, "a", "a")}, 0),
        ([], {}, 0),
    ],
)  # fmt: skip
def test_layouts(
    folders: list[str], expected: dict[str, tuple[str | None, str | None, str]], elsewhere: int
) -> None:
    """The deepest folders are classes, or splits that contain classes. A common prefix is not part of a name."""
    tree = lay_out(dict.fromkeys(folders, 1), {})
    assert {
        folder: (place.split, place.label, place.own) for folder, place in tree.places.items()
    } == expected
    assert (tree.elsewhere, tree.is_imdb) == (elsewhere, False)
    tree.check()


def test_too_deep() -> None:
    """Three levels of differing folders are not splits and classes."""
    tree = lay_out({"a/b/c": 1, "d/e/f": 2}, {})
    assert (tree.places, tree.elsewhere) == ({}, 3)
    with pytest.raises(DataError, match=r"nested too deeply \(a/b/c\)"):
        tree.check()


def test_films() -> None:
    """A review's number is the line, from 0, of its film's address. A review without a line has no film."""
    urls = b"http://www.imdb.com/title/tt0/usercomments\r\nnothing\nhttp://www.imdb.com/title/tt22/x"
    tree = lay_out({"pos": 3, "neg": 3, "unsup": 9}, {"urls_pos.txt": urls, "urls_neg.txt": b""})
    assert tree.is_imdb
    assert sorted(tree.places) == ["neg", "pos"]
    groups = [
        tree.places["pos"].group(stem) for stem in ("0_10", "1_7", "2_9", "3_9", "x_1", "²_1", "", "02_3")
    ]
    assert groups == ["tt0", None, "tt22", None, None, None, None, "tt22"]
    assert tree.places["neg"].group("0_1") is None


def test_folders_of_classes_with_splits_in_them():
    """`pos/train` is the class pos and the split train, unless the upper folders are splits, too."""
    crossed = lay_out({f"{label}/{split}": 2 for label in ("neg", "pos") for split in ("test", "train")}, {})
    assert (crossed.labels, crossed.splits) == (["neg", "pos"], ["test", "train"])
    assert crossed.places["neg/test"].own == "neg/test"
    both = lay_out({"train/dev": 2, "test/dev": 2}, {})
    assert (both.labels, both.splits) == (["dev"], ["test", "train"])


@pytest.mark.parametrize(
    ("counts", "what"),
    [
        ({"neg": 4, "pos": 4, "neg/sub": 1}, r"\(4 files in pos, 1 file as deep as neg/sub\)"),
        ({"": 9, "neg": 4, "pos": 4}, r"\(9 files in the folder itself, 8 files as deep as neg\)"),
    ],
)
def test_classes_at_different_depths_are_refused(counts, what):
    """A class at a smaller depth than the others would be left out completely."""
    with pytest.raises(DataError, match=what):
        lay_out(counts, {}).check()


def test_a_class_whose_texts_have_another_ending(tmp_path):
    """It would be left out without a message. Files that are not texts are left out."""
    write_folder(tmp_path / "a", {"pos/0.txt": b"good", "neg/0.text": b"bad", "neg/1.text": b"bad"})
    with pytest.raises(DataError, match=r"^neg holds no .txt file, but neg/0.text, and would not be read"):
        open_(tmp_path / "a")
    with pytest.raises(DataError, match=r"^neg holds no .txt file"):
        open_(write_tar(tmp_path / "a.tar", {"pos/0.txt": b"good", "neg/0.text": b"bad"}, "w"))
    write_folder(tmp_path / "b", {"pos/0.txt": b"good", "neg/0.txt": b"bad", "pictures/0.png": b"\x89PNG"})
    assert [item.label for item in open_(tmp_path / "b")] == ["neg", "pos"]
