"""Which folders of a tree of texts are splits, and which are classes."""

import pytest

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
    """The deepest folders are classes, or splits with classes in them; what all share is no part of a name."""
    tree = lay_out(dict.fromkeys(folders, 1), {})
    assert {
        folder: (place.split, place.label, place.own) for folder, place in tree.places.items()
    } == expected
    assert (tree.elsewhere, tree.is_imdb) == (elsewhere, False)
    tree.check()


def test_too_deep() -> None:
    """Three levels of folders that differ are none of splits and classes."""
    tree = lay_out({"a/b/c": 1, "d/e/f": 2}, {})
    assert (tree.places, tree.elsewhere) == ({}, 3)
    with pytest.raises(DataError, match=r"too deep \(a/b/c\)"):
        tree.check()


def test_films() -> None:
    """A review's number is the line, from 0, of its film; what has no line has no film."""
    urls = b"http://www.imdb.com/title/tt0/usercomments\r\nnothing\nhttp://www.imdb.com/title/tt22/x"
    tree = lay_out({"pos": 3, "neg": 3, "unsup": 9}, {"urls_pos.txt": urls, "urls_neg.txt": b""})
    assert tree.is_imdb
    assert sorted(tree.places) == ["neg", "pos"]
    groups = [
        tree.places["pos"].group(stem) for stem in ("0_10", "1_7", "2_9", "3_9", "x_1", "²_1", "", "02_3")
    ]
    assert groups == ["tt0", None, "tt22", None, None, None, None, "tt22"]
    assert tree.places["neg"].group("0_1") is None
