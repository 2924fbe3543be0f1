"""Configurations of a data set: from its card, from folders, and on the hub."""

from pathlib import Path

import huggingface_hub
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from written import open_, write_folder

from attnstore.data.documents import Document
from attnstore.errors import DataError, UsageError

FILES = {
    f"{config}/{name}.csv": f"text,label\n{config} {name} text,pos\n".encode()
    for config in ("plain", "short")
    for name in ("train-0", "heldout-0")
}
CARD = """---
configs:
- config_name: plain
  data_files:
  - {split: train, path: plain/train-*}
  - {split: final, path: [plain/heldout-*]}
- config_name: short
  data_files: short/*.csv
---
# It
"""


def texts(data: Path | str, **options: object) -> list[tuple[str, str]]:
    return [(each.split, each.text) for each in open_(data, **options) if isinstance(each, Document)]


class TestCard:
    def test_a_configuration_is_chosen(self, tmp_path: Path) -> None:
        """Its files are read, with the splits that the card lists."""
        write_folder(tmp_path, FILES | {"README.md": CARD.encode()})
        assert texts(tmp_path, subset="plain") == [
            ("final", "plain heldout-0 text"),
            ("train", "plain train-0 text"),
        ]
        assert texts(tmp_path, subset="plain", split="final") == [("final", "plain heldout-0 text")]
        assert [text for _, text in texts(tmp_path, subset="short")] == [
            "short heldout-0 text",
            "short train-0 text",
        ]

    def test_several_without_a_choice_are_refused(self, tmp_path: Path) -> None:
        """Two configurations are two data sets. They are named in an error, not read as one."""
        write_folder(tmp_path, FILES | {"README.md": CARD.encode()})
        with pytest.raises(UsageError, match=r"has the configurations plain, short: name one with --subset$"):
            open_(tmp_path)
        with pytest.raises(
            UsageError, match=r"has no configuration 'shrt' \(--subset\), it has plain, short: did you"
        ):
            open_(tmp_path, subset="shrt")

    def test_the_default_is_read_and_reported(self, tmp_path: Path) -> None:
        """Without a choice, the card's default is read."""
        card = CARD.replace("config_name: short", "config_name: short\n  default: true")
        write_folder(tmp_path, FILES | {"README.md": card.encode()})
        source = open_(tmp_path)
        assert "the configuration 'short' is read, not plain: --subset names another" in source.notes
        assert [each.text for each in source if isinstance(each, Document)] == [
            "short heldout-0 text",
            "short train-0 text",
        ]

    def test_missing_files(self, tmp_path: Path) -> None:
        """A card without its files is a one-line error."""
        write_folder(tmp_path, {"other.csv": b"text\na\n", "README.md": CARD.encode()})
        with pytest.raises(
            DataError, match=r"^the card's configuration 'plain' lists files that do not exist$"
        ):
            open_(tmp_path, subset="plain")


def test_folders_are_configurations(tmp_path: Path) -> None:
    """Without a card that lists configurations, `--subset` names a folder."""
    write_folder(tmp_path, FILES)
    assert [text for _, text in texts(tmp_path, subset="short")] == [
        "short heldout-0 text",
        "short train-0 text",
    ]


class TestHubNames:
    @pytest.fixture(autouse=True)
    def hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder in place of the hub: the client's own file system without the network."""
        monkeypatch.setattr(
            huggingface_hub,
            "HfFileSystem",
            lambda: DirFileSystem(str(tmp_path / "hub"), fs=LocalFileSystem(), skip_instance_cache=True),
        )
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        write_folder(tmp_path / "hub/datasets/owner/name", FILES | {"README.md": CARD.encode()})

    def test_a_name_is_a_data_set_of_the_hub(self) -> None:
        """OWNER/NAME that is not a path is on the hub. Configuration and split are chosen as usual."""
        assert texts("owner/name", subset="plain", split="train") == [("train", "plain train-0 text")]
        assert texts("hf://datasets/owner/name", subset="plain", split="train") == [
            ("train", "plain train-0 text")
        ]

    def test_a_folder_of_that_name_comes_first(self, tmp_path: Path) -> None:
        """A local folder takes precedence."""
        write_folder(tmp_path / "here/owner/name", {"mine.csv": b"text\nmine\n"})
        assert texts("owner/name") == [("all", "mine")]

    def test_an_unknown_name(self) -> None:
        """One line."""
        with pytest.raises(
            UsageError, match="no such dataset or file on the hub: hf://datasets/owner/nothing"
        ):
            open_("owner/nothing")
