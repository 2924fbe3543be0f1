"""Where data are: folders with links, and the hub."""

import os
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from attnstore.config import SourceConfig
from attnstore.data.documents import Document
from attnstore.data.files import folder
from attnstore.data.sources import open_source
from attnstore.errors import AttnstoreError, DataError


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


class TestFolder:
    def test_links(self, tmp_path: Path) -> None:
        """Links to files and folders are followed. A link to a parent folder causes no endless walk."""
        write(tmp_path, "data/pos/a.txt", "elsewhere/b.txt")
        (tmp_path / "data/neg").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "data/pos/again").symlink_to(tmp_path / "data")
        (tmp_path / "data/pos/c.txt").symlink_to(tmp_path / "elsewhere/b.txt")
        files = folder(tmp_path / "data")
        assert files.names == ["neg/b.txt", "pos/a.txt", "pos/c.txt"]
        assert files.contents("pos/c.txt") == b"elsewhere/b.txt"

    def test_order_is_that_of_a_walk(self, tmp_path: Path) -> None:
        """Names are sorted folder by folder, so `a` comes before `a-b`, whatever follows."""
        write(tmp_path, "a-b/1.txt", "a/2.txt", "a/10.txt", "B/1.txt")
        assert folder(tmp_path).names == ["B/1.txt", "a/10.txt", "a/2.txt", "a-b/1.txt"]

    def test_names_and_texts_that_are_not_utf8(self, tmp_path: Path) -> None:
        """A file name that is not UTF-8 rejects only its own document, on a printable line."""
        write(tmp_path, "pos/good.txt")
        (tmp_path / "pos" / b"bad\xff\n.txt".decode("utf-8", "surrogateescape")).write_text("text")
        where = [
            item.id if isinstance(item, Document) else item.where
            for item in open_source(SourceConfig(str(tmp_path)))
        ]
        assert where == ["pos/bad\\udcff", "pos/good"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the hub: the client's own file system without the network."""
    monkeypatch.setattr(
        huggingface_hub,
        "HfFileSystem",
        lambda: DirFileSystem(str(tmp_path), fs=LocalFileSystem(), skip_instance_cache=True),
    )
    root = tmp_path / "datasets/owner/name"
    (root / "plain").mkdir(parents=True)
    (root / "README.md").write_text("---\n---")
    (root / ".gitattributes").write_text("* -text")
    for split in ("train", "test"):
        table = pa.table({"text": [f"{split} text"], "label": [1]})
        pq.write_table(table, root / f"plain/{split}-00000-of-00001.parquet")
    return root


class TestHub:
    @pytest.mark.parametrize(
        ("address", "split", "splits", "texts"),
        [
            ("hf://datasets/owner/name", "test", ("test", "train"), ["test text"]),
            ("hf://datasets/owner/name/", "all", ("test", "train"), ["test text", "train text"]),
            ("hf://datasets/owner/name/plain", "train", ("test", "train"), ["train text"]),
            ("hf://datasets/owner/name/**/te*.parquet", "all", ("test",), ["test text"]),
            ("hf://datasets/owner/name/plain/test-00000-of-00001.parquet", "mine", (), ["test text"]),
        ],
    )
    def test_datasets(
        self, hub: Path, address: str, split: str, splits: tuple[str, ...], texts: list[str]
    ) -> None:
        """A data set, a folder, a glob and a file on the hub are read; ids are relative to the data set."""
        source = open_source(SourceConfig(address, split=split))
        assert (source.name, source.splits) == (address, splits)
        read = list(source)
        assert read == list(source)
        assert read == [
            Document(
                text,
                f"plain/{text.removesuffix(' text')}-00000-of-00001.parquet:1",
                None,
                split if split != "all" else text.removesuffix(" text"),
                "1",
            )
            for text in texts
        ]

    @pytest.mark.parametrize("address", ["hf://datasets/owner/none", "hf://datasets/owner/name/*.csv"])
    def test_nothing_there(self, hub: Path, address: str) -> None:
        """A data set or a file that is not on the hub is a one-line error."""
        with pytest.raises(AttnstoreError, match="no such dataset or file on the hub") as caught:
            open_source(SourceConfig(address))
        assert "\n" not in str(caught.value)

    def test_the_network_fails(self, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Any error of the hub's client or of its HTTP library becomes one line."""

        class Failing:
            def find(self, path: str) -> Any:
                raise type("ConnectError", (Exception,), {})("no route\nto host")

        monkeypatch.setattr(huggingface_hub, "HfFileSystem", Failing)
        with pytest.raises(DataError) as caught:
            open_source(SourceConfig("hf://datasets/owner/name"))
        assert str(caught.value) == "hf://datasets/owner/name can't be read: no route to host"

    def test_the_real_client_offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The hub's real client without a network also gives a one-line error."""
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(AttnstoreError) as caught:
            open_source(SourceConfig("hf://datasets/owner/a-dataset-that-nobody-has"))
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize("name", ["pos/1.txt", "a.csv"])
def test_a_pipe_in_a_folder_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    """Nobody writes to it, so opening it would wait for ever."""
    write(tmp_path, "neg/1.txt", "neg/2.txt")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=f"{name} is a pipe or a device, not a file: take it out of the data"):
        list(open_source(SourceConfig(str(tmp_path))))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize("name", ["a.csv", "a.zip", "a.db"])
def test_a_pipe_alone_in_a_folder_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    """Even with the name of an archive or a database, which are opened to find out what they hold."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(AttnstoreError) as refused:
        list(open_source(SourceConfig(str(tmp_path))))
    assert "\n" not in str(refused.value)
