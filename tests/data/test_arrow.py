"""Arrow files and streams, Feather, and folders of `datasets`: complete documents, as the real libraries wrote them."""

import json
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from shared import shared
from written import open_

from attnstore.config import SourceConfig
from attnstore.data.class_names import ClassNames
from attnstore.data.documents import Document, Rejected
from attnstore.data.sources import open_source
from attnstore.errors import DataError, UsageError

ROWS = [("a fine film", "pos"), ("dull, and long", "neg"), ("schöne Grüße \U0001f600", None)]
COLUMNS = {"text": [row[0] for row in ROWS], "label": [row[1] for row in ROWS]}
TABLE = pa.table(COLUMNS)


def ipc_file(path: Path) -> None:
    with pa.ipc.new_file(path, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=2)


def ipc_stream(path: Path) -> None:
    with pa.ipc.new_stream(path, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=2)


WRITERS: dict[str, Callable[[Path], None]] = {
    "file.arrow": ipc_file,
    "stream.arrow": ipc_stream,
    "r.arrows": ipc_stream,
    "no ending": ipc_file,
    "r.feather": lambda path: pa.feather.write_feather(TABLE, path, compression="zstd"),
    "pandas.feather": lambda path: pd.DataFrame(COLUMNS).to_feather(path),
    "polars.ipc": lambda path: pl.DataFrame(COLUMNS).write_ipc(path, compression="lz4"),
    "categories.feather": lambda path: pd.DataFrame(COLUMNS).astype({"label": "category"}).to_feather(path),
    "polars stream.arrow": lambda path: pl.DataFrame(COLUMNS).write_ipc_stream(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_gives_the_same_documents(name: str, tmp_path: Path) -> None:
    """Texts, labels and row numbers are those of the table written, in two readings."""
    WRITERS[name](tmp_path / name)
    source = open_(tmp_path / name)
    expected = [Document(text, f"{name}:{n}", None, "all", label) for n, (text, label) in enumerate(ROWS, 1)]
    assert (list(source), list(source)) == (expected, expected)


def test_columns_that_are_no_text(tmp_path: Path) -> None:
    """A column of numbers is refused as the text, as for Parquet."""
    pa.feather.write_feather(pa.table({"text": [1, 2]}), tmp_path / "r.feather")
    with pytest.raises(UsageError, match=r"r.feather: column 'text' is int64, not text"):
        open_(tmp_path / "r.feather")


@pytest.mark.parametrize("writer", [ipc_file, ipc_stream])
def test_a_truncated_file(writer: Callable[[Path], None], tmp_path: Path) -> None:
    """A file without its end is a one-line error, whenever it is noticed."""
    path = tmp_path / "r.arrow"
    writer(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"^r.arrow can't be read: [^\n]+$"):
        list(open_(path))


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int16(), pa.string())], ids=str
)
def test_texts_outside_the_file_are_not_read(kind: pa.DataType, tmp_path: Path) -> None:
    """If a text's offset is beyond the end of the file, or a dictionary lacks an index, no memory is read there."""
    path = tmp_path / "r.arrow"
    table = pa.table({"text": pa.array(COLUMNS["text"], kind), "label": COLUMNS["label"]})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    if pa.types.is_dictionary(kind):
        sound, changed = np.array([0, 1, 2], "<i2"), np.array([0, 30_000, 2], "<i2")
    else:
        ends = np.cumsum([0, *(len(text.encode()) for text in COLUMNS["text"])])
        sound = ends.astype("<i8" if kind == pa.large_string() else "<i4")
        changed = np.where(np.arange(4) == 1, 10**9, sound)
    whole = path.read_bytes()
    assert whole.count(sound.tobytes()) == 1
    path.write_bytes(whole.replace(sound.tobytes(), changed.astype(sound.dtype).tobytes()))
    with pytest.raises(DataError, match=r"^r.arrow can't be read: [^\n]+$"):
        list(open_(path))


FEATURES = datasets.Features(
    {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg"])}
)


def data_set(*texts: str) -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {"text": list(texts), "label": [n % 2 for n in range(len(texts))]}, features=FEATURES
    )


class TestSaveToDisk:
    def test_splits_and_names(self, tmp_path: Path) -> None:
        """Splits are those of `dataset_dict.json`, whatever their names. Classes have the data set's names."""
        saved = datasets.DatasetDict({"fold one": data_set("a", "b"), "test": data_set("c")})
        saved.save_to_disk(tmp_path, num_shards={"fold one": 2, "test": 1})
        source = open_(tmp_path)
        assert source.class_names is not None and source.class_names.names == ("pos", "neg")
        assert source.splits == ("fold one", "test")
        assert list(source) == [
            Document("a", "fold one/data-00000-of-00002.arrow:1", None, "fold one", "0"),
            Document("b", "fold one/data-00001-of-00002.arrow:1", None, "fold one", "1"),
            Document("c", "test/data-00000-of-00001.arrow:1", None, "test", "0"),
        ]

    def test_cache_files_are_not_data(self, tmp_path: Path) -> None:
        """`map` stores its results beside the data set. They are not read a second time."""
        data_set("a", "b").save_to_disk(tmp_path)
        loaded = datasets.load_from_disk(tmp_path)
        loaded.map(lambda row: {"text": row["text"].upper()})
        assert len(list(tmp_path.glob("cache-*.arrow"))) == 1
        assert [each.text for each in open_(tmp_path) if isinstance(each, Document)] == ["a", "b"]

    def test_a_missing_shard(self, tmp_path: Path) -> None:
        """A part of a data set is not mistaken for the whole."""
        data_set("a", "b").save_to_disk(tmp_path, num_shards=2)
        (tmp_path / "data-00001-of-00002.arrow").unlink()
        with pytest.raises(
            DataError, match=r"state.json names a file that does not exist: data-00001-of-00002"
        ):
            open_(tmp_path)

    def test_names_in_the_schema(self, tmp_path: Path) -> None:
        """The metadata of a single Arrow file has the class names, too."""
        table = TABLE.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": {"label": {"names": ["x", "y"]}}}})}
        )
        pa.feather.write_feather(table, tmp_path / "r.arrow")
        assert open_(tmp_path / "r.arrow").class_names == ClassNames({0: "x", 1: "y"}, "r.arrow")


def test_shared_case() -> None:
    """The case `arrow` is read without an option."""
    found = [each for each in open_(shared("cases/data/arrow")) if isinstance(each, Document)]
    assert (len(found), found[0].text, found[-1].text) == (16, "a wonderful heartfelt picture", "badly made")


def test_structs_are_paths(tmp_path: Path) -> None:
    """A field of a struct is a column, like a key of nested JSON. A row without the struct has no text."""
    table = pa.table(
        {
            "data": [{"text": "a fine film", "by": {"name": "x"}}, None, {"text": "dull", "by": None}],
            "gold": [{"label": "pos"}, {"label": "neg"}, {"label": "neg"}],
        }
    )
    pq.write_table(table, tmp_path / "r.parquet")
    for source in (open_(tmp_path / "r.parquet"), open_source(SourceConfig("held", held=table))):
        found = list(source)
        assert [(each.text, each.label) for each in found if isinstance(each, Document)] == [
            ("a fine film", "pos"),
            ("dull", "neg"),
        ]
        assert [each.reason for each in found if isinstance(each, Rejected)] == ["text missing"]
    named = open_(tmp_path / "r.parquet", text_column="data.by.name", label_column="gold.label")
    assert next(iter(named)).text == "x"
