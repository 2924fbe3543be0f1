"""Data in: what a source yields, what a survey counts, whose labels are whose, which documents are taken."""

import hashlib
import io
import json
import tarfile
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnstore.config import SourceConfig
from attnstore.data import documents
from attnstore.data.documents import (
    Document,
    LabelMap,
    Rejected,
    Survey,
    count_documents,
    match_labels,
    open_source,
    read_documents,
    rejections,
    survey,
)
from attnstore.errors import AttnstoreError, DataError, UsageError

ARCHIVE = Path(__file__).parents[3] / "shared/data/imdb/aclImdb_v1.tar.gz"

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
        for name, content in reversed(files.items()):  # an order of its own
            archive.writestr(name, content)
    return path


def open_(data: Path | str, **options: object) -> documents.Source:
    return open_source(SourceConfig(str(data), **options))  # type: ignore[arg-type]


def found_of(labels: dict[str, int], unlabelled: int = 0, label_names: tuple[str, ...] = ()) -> Survey:
    ids = {label: tuple(f"{label}-{n}" for n in range(min(count, 3))) for label, count in labels.items()}
    return Survey(sum(labels.values()) + unlabelled, labels, unlabelled, {}, (), "", (), label_names, ids)


@pytest.fixture(params=["folder", "inner folder", "tar.gz", "tar", "tar.xz", "./tar", "zip"])
def imdb(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    match request.param:
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


class TestImdb:
    def test_every_container_gives_the_same_documents(self, imdb: Path) -> None:
        """Id, film, split, label, text and order are the same from a folder, a tar and a zip archive."""
        source = open_(imdb, split="test")
        assert list(source) == IMDB_TEST
        assert list(source) == IMDB_TEST, "a source is read again from the start"
        assert source.splits == ("test", "train")
        assert source.notes == ()
        assert list(open_(imdb)) == IMDB_TEST + IMDB_TRAIN

    def test_the_hash_is_of_the_documents(self, imdb: Path) -> None:
        """The hash is over length-prefixed split, id, group, label and text, whatever the container."""
        expected = hashlib.sha256()
        for item in [*IMDB_TEST, *IMDB_TRAIN]:
            if isinstance(item, Document):
                for value in (item.split, item.id, item.group, item.label, item.text):
                    if value is None:
                        expected.update(b"\xff" * 8)
                    else:
                        expected.update(len(value.encode()).to_bytes(8, "little") + value.encode())
        found = survey(open_(imdb))
        assert found.sha256 == expected.hexdigest()
        assert (found.documents, found.labels, found.unlabelled) == (6, {"neg": 3, "pos": 3}, 0)
        assert (found.rejected, found.rejected_rows) == ({"not UTF-8": 1}, ("test/neg/1_1: not UTF-8",))

    def test_one_split_alone(self, tmp_path: Path) -> None:
        """A tree with one split only still knows it, by its folder; given that folder, the user names it."""
        only_test = {name: content for name, content in IMDB.items() if "/test/" in name}
        assert list(open_(write_folder(tmp_path, only_test))) == IMDB_TEST
        inside = open_(tmp_path / "aclImdb/test", split="held-out")
        assert inside.splits == ()
        first = next(iter(inside))
        assert first == Document("so <br />bad", "neg/0_2", "tt000", "held-out", "neg")

    @pytest.mark.skipif(not ARCHIVE.exists(), reason="needs ../shared/data/imdb")
    def test_the_real_archive(self) -> None:
        """The 25,000 test reviews come in the archive's order, 12,500 of each label, with their films."""
        with tarfile.open(ARCHIVE) as tar:
            names = [
                m.name
                for m in tar
                if m.isfile() and m.name.startswith(("aclImdb/test/neg/", "aclImdb/test/pos/"))
            ]
            texts = {name: tar.extractfile(name) for name in names[::5000]}
            expected = {name: file.read().decode() for name, file in texts.items() if file is not None}
        read = [item for item in open_(ARCHIVE, split="test") if isinstance(item, Document)]
        assert [item.id for item in read] == [
            name.removeprefix("aclImdb/").removesuffix(".txt") for name in names
        ]
        assert Counter(item.label for item in read) == {"neg": 12500, "pos": 12500}
        assert sum(len(item.text.encode()) for item in read) == 32_350_685  # its README says so
        assert {names[n]: read[n].text for n in range(0, 25000, 5000)} == expected
        by_id = {item.id: item.group for item in read}
        assert by_id["test/pos/0_10"] == "tt0406816"
        assert None not in by_id.values()


class TestSurvey:
    @pytest.mark.parametrize("kind", ["csv", "jsonl", "tar"])
    def test_memory_does_not_grow_with_the_documents(
        self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Five times the documents, the same peak of Python's memory within 10 %."""
        monkeypatch.setattr(documents, "MAX_REMEMBERED", 300)
        text = "word " * 400
        peaks = {}
        for rows in (1_000, 5_000):
            path = tmp_path / f"{rows}.{kind}"
            if kind == "csv":
                path.write_text("text,label\n" + f"{text},pos\n" * rows)
            elif kind == "jsonl":
                path.write_text(json.dumps({"text": text, "label": "pos"}) + "\n")
                path.write_text(path.read_text() * rows)
            else:
                write_tar(path, {f"d/pos/{n}.txt": text.encode() for n in range(rows)}, "w")
            tracemalloc.start()
            try:
                assert survey(open_(path)).documents == rows
                peaks[rows] = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert peaks[5_000] < 1.1 * peaks[1_000]

    def test_a_thousand_rejected_rows_are_told(self, tmp_path: Path) -> None:
        """All rejected rows are counted, the first 1,000 are told."""
        path = tmp_path / "r.jsonl"
        path.write_text('{"text": "a"}\n' + '{"text": null}\n' * 1500)
        found = survey(open_(path))
        assert found.rejected == {"text missing": 1500}
        assert found.rejected_rows == tuple(f"r.jsonl row {n}: text missing" for n in range(2, 1002))

    def test_repeated_ids_are_noted_and_kept(self, tmp_path: Path) -> None:
        """Ids of the source's own stay as they are; a repetition is a note."""
        path = tmp_path / "r.csv"
        path.write_text("id,text\nx,one\ny,two\nx,three\n")
        source = open_(path)
        assert [item.id for item in source if isinstance(item, Document)] == ["x", "y", "x"]
        assert survey(source).notes == ("ids repeat: 'x' is the id of more than one document",)

    def test_labels_that_are_no_classes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A label column with thousands of values is an error that says what to do."""
        monkeypatch.setattr(documents, "MAX_LABELS", 3)
        path = tmp_path / "r.csv"
        path.write_text("text,rating\n" + "".join(f"a,{n}.5\n" for n in range(5)))
        with pytest.raises(DataError, match=r"more than 3 labels, the last '3.5': these are no classes"):
            survey(open_(path))

    @given(st.lists(st.tuples(st.text(), st.none() | st.sampled_from("ab")), min_size=2, max_size=6))
    def test_the_hash_tells_documents_apart(self, rows: list[tuple[str, str | None]]) -> None:
        """Moving a character from one field or document to the next makes another hash."""

        def hash_of(items: list[Document]) -> str:
            return survey(documents.Source("test", (), (), (), lambda: iter(items))).sha256

        items = [
            Document(text.encode("utf-8", "replace").decode(), str(n), None, "s", label)
            for n, (text, label) in enumerate(rows)
        ]
        moved = [
            Document(item.text[1:], item.text[:1] + item.id, item.group, item.split, item.label)
            for item in items
        ]
        assert (hash_of(items) == hash_of(moved)) == (items == moved)
        assert hash_of(items) != hash_of(items[:-1])


class TestLabels:
    @pytest.mark.parametrize(
        ("data", "model", "given", "expected"),
        [
            # by name, ignoring case and blanks
            ({"pos": 2, " NEG ": 1}, ["neg", "pos"], (), {"pos": "pos", " NEG ": "neg"}),
            # by name; what is no name is unknown, a number too
            ({"pos": 2, "mixed": 1, "1": 1}, ["neg", "pos"], (), {"pos": "pos"}),
            # a name that is a number is a name first
            ({"0": 1, "1": 1}, ["1", "0"], (), {"0": "0", "1": "1"}),
            # by number: the index
            ({"0": 3, "1.0": 2, "7": 1}, ["neg", "pos"], (), {"0": "neg", "1.0": "pos"}),
            ({"false": 3, "True": 2}, ["neg", "pos"], (), {"false": "neg", "True": "pos"}),
            ({"1": 3, "0": 2}, ["LABEL_0", "LABEL_1"], (), {"1": "LABEL_1", "0": "LABEL_0"}),
            # by number: the number in the name
            ({"1": 1, "5": 1}, [f"{n} stars" for n in range(1, 6)], (), {"1": "1 stars", "5": "5 stars"}),
            # the user's names
            ({"negative": 1, "positive": 1}, ["neg", "pos"], ("negative", "positive"), None),
            ({"0": 1, "1": 1}, ["LABEL_0", "LABEL_1"], ("bad", "good"), {"0": "bad", "1": "good"}),
        ],
    )
    def test_labels_of_the_model(
        self, data: dict[str, int], model: list[str], given: tuple[str, ...], expected: dict[str, str] | None
    ) -> None:
        """Labels are matched by name, else by number; what is neither is unknown."""
        labels = match_labels(found_of(data), model, given)
        assert labels.mapping == (expected or {name: name for name in data})
        assert labels.are_models
        assert labels.model_labels == (given or tuple(model))

    @pytest.mark.parametrize(
        ("data", "names", "expected", "order"),
        [
            ({"pos": 1, "neg": 1}, (), {"neg": "neg", "pos": "pos"}, "their sorted order"),
            ({"10": 1, "9": 2}, (), {"9": "9", "10": "10"}, "their sorted order"),
            ({"1": 1, "2": 2}, (), {"1": "1", "2": "2"}, "their sorted order"),
            ({"1": 1}, ("bad", "good"), {"0": "bad", "1": "good"}, "the dataset's own order"),
        ],
    )
    def test_data_name_a_nameless_models_classes(
        self, data: dict[str, int], names: tuple[str, ...], expected: dict[str, str], order: str
    ) -> None:
        """LABEL_0, LABEL_1 are named by as many labels of the data, in order; it is a guess, and said."""
        labels = match_labels(found_of(data, label_names=names), ["LABEL_0", "LABEL_1"])
        first, second = expected.values()
        assert labels == LabelMap(
            expected,
            True,
            f"the model's classes have no names, so the data's labels, in {order}, name them:"
            f" LABEL_0 is {first}, LABEL_1 is {second}",
            (first, second),
        )

    @pytest.mark.parametrize(
        ("data", "model", "names", "expected"),
        [
            ({"spam ": 2, "ham": 1}, ["neg", "pos"], (), {"spam ": "spam", "ham": "ham"}),
            # five stars are no index into two classes, though one of them could be
            ({str(n): 4 for n in range(1, 6)}, ["neg", "pos"], (), {str(n): str(n) for n in range(1, 6)}),
            ({"a": 1, "b": 1, "c": 1}, ["LABEL_0", "LABEL_1"], (), {"a": "a", "b": "b", "c": "c"}),
            ({"5": 1, "6": 3}, ["neg", "pos"], ("a", "b"), {"5": "5", "6": "6"}),
        ],
    )
    def test_foreign_labels_are_kept(
        self, data: dict[str, int], model: list[str], names: tuple[str, ...], expected: dict[str, str]
    ) -> None:
        """Labels of which none is the model's stay as they are, nothing is rejected, no accuracy is claimed."""
        found = found_of(data, label_names=names)
        labels = match_labels(found, model)
        assert (labels.mapping, labels.are_models, labels.model_labels) == (expected, False, tuple(model))
        assert labels.note is not None and "are not the model's" in labels.note and "\n" not in labels.note
        assert rejections(found, labels, strict=True).counts == {}

    def test_numbers_with_names_of_the_dataset(self) -> None:
        """The hub's numbered labels go by the dataset's names for them, else by number."""
        found = found_of({"0": 1, "1": 1}, label_names=("pos", "neg"))
        assert match_labels(found, ["neg", "pos"]).mapping == {"0": "pos", "1": "neg"}
        found = found_of({"0": 1, "1": 1}, label_names=("negative", "positive"))
        assert match_labels(found, ["neg", "pos"]).mapping == {"0": "neg", "1": "pos"}

    def test_no_labels(self) -> None:
        """Without labels nothing is claimed, and nothing rejected."""
        found = found_of({}, unlabelled=3)
        labels = match_labels(found, ["neg", "pos"])
        assert labels == LabelMap(
            {}, False, "the data has no labels: no accuracy is computed", ("neg", "pos")
        )
        assert (count_documents(found, labels), rejections(found, labels, True).counts) == (3, {})

    @pytest.mark.parametrize("given", [("a",), ("a", "b", "c"), ("a", "A"), ("a", " ")])
    def test_names_that_do_not_fit(self, given: tuple[str, ...]) -> None:
        """--labels must be as many different names as the model has classes."""
        with pytest.raises(UsageError, match="--labels") as caught:
            match_labels(found_of({"a": 1}), ["neg", "pos"], given)
        assert caught.value.exit_code == 2


class TestReadDocuments:
    def rows(self, tmp_path: Path) -> documents.Source:
        path = tmp_path / "r.csv"
        labels = ["neg", "", "POS", "what", "pos", "neg", "huh"]
        path.write_text("text,label\n" + "".join(f"t{n},{label}\n" for n, label in enumerate(labels)))
        return open_(path)

    def test_labels_are_mapped_and_unknown_ones_left_out(self, tmp_path: Path) -> None:
        """The stream holds the model's labels; a row with another is left out, one without any is kept."""
        source = self.rows(tmp_path)
        found = survey(source)
        labels = match_labels(found, ["neg", "pos"])
        read = list(read_documents(source, found, labels))
        assert [(item.text, item.label) for item in read] == [
            ("t0", "neg"),
            ("t1", None),
            ("t2", "pos"),
            ("t4", "pos"),
            ("t5", "neg"),
        ]
        assert count_documents(found, labels) == 5
        told = rejections(found, labels)
        assert told.counts == {"unknown label": 2}
        assert told.rows == ("r.csv:4: unknown label 'what'", "r.csv:7: unknown label 'huh'")

    def test_strict_names_the_first(self, tmp_path: Path) -> None:
        """--strict turns rejected rows into one line that names the first."""
        source = self.rows(tmp_path)
        found = survey(source)
        with pytest.raises(DataError) as caught:
            rejections(found, match_labels(found, ["neg", "pos"]), strict=True)
        assert str(caught.value) == (
            "r.csv:4: unknown label 'what', and 1 more rows were rejected:"
            " mend the data, or leave --strict out to go on without such rows"
        )

    @given(total=st.integers(1, 200), limit=st.integers(1, 250))
    def test_a_limit_is_spread_evenly(self, total: int, limit: int) -> None:
        """`limit` documents are taken at steps that differ by one at most, the first included."""
        items = [Document("t", str(n), None, "all", None) for n in range(total)]
        source = documents.Source("test", (), (), (), lambda: iter(items))
        found = survey(source)
        labels = match_labels(found, ["neg", "pos"])
        taken = [int(item.id) for item in read_documents(source, found, labels, limit)]
        assert len(taken) == min(limit, total) == count_documents(found, labels, limit)
        steps = {after - before for before, after in zip(taken, [*taken[1:], total], strict=True)}
        assert taken[0] == 0
        assert max(steps) - min(steps) <= 1

    def test_a_source_that_changed(self, tmp_path: Path) -> None:
        """A source that holds less than was surveyed ends in an error, not in fewer documents."""
        source = self.rows(tmp_path)
        found = survey(source)
        labels = match_labels(found, ["neg", "pos"])
        (tmp_path / "r.csv").write_text("text,label\nt0,neg\n")
        with pytest.raises(DataError, match="changed while it was read: 5 documents before, 1 now"):
            list(read_documents(source, found, labels))


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
        """Files named after splits are the splits; columns may stand in any order."""
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
        """Files not named after splits are one split, by the name the user gives it."""
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
        """A partitioned folder of Parquet, such as a store's documents, gives columns and splits in its path."""
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

    def test_a_column_of_splits_is_the_splits(self, tmp_path: Path) -> None:
        """Each row is of its own split; of a split that is asked for, no other row is read; others are told."""
        data = tmp_path / "data.csv"
        data.write_text("text,split,label\na,train,x\nb,test,y\nc,,x\nd,test,x\n")
        pl.read_csv(data).write_parquet(tmp_path / "data.parquet")
        pl.read_csv(data).write_ndjson(tmp_path / "data.jsonl")
        for name in ("data.csv", "data.parquet", "data.jsonl"):
            source = open_(tmp_path / name)
            assert source.splits == ("train", "test", "all")
            assert "split column guessed: 'split'" in source.notes
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
        """Named as the label it is the label; with a value a row it is refused."""
        data = tmp_path / "data.csv"
        data.write_text("text,split\n" + "".join(f"a,{n}\n" for n in range(51)))
        assert open_(data, label_column="split").splits == ()
        with pytest.raises(DataError, match="more than 50 splits in its column 'split'"):
            open_(data)

    def test_a_split_of_data_without_splits_is_only_a_name(self, tmp_path: Path) -> None:
        """A note says so: `--split test` has chosen nothing."""
        (tmp_path / "a.csv").write_text("text,label\na,x\n")
        note = "the data has no splits: 'test' is only the name that its documents get"
        assert note in open_(tmp_path / "a.csv", split="test").notes
        assert not [note for note in open_(tmp_path / "a.csv").notes if "only the name" in note]

    def test_empty_texts_are_documents_and_are_counted(self, tmp_path: Path) -> None:
        """A cell without a text is a document without a word; the notes say how many there are."""
        (tmp_path / "a.csv").write_text('text,label\n,x\n" ",y\ngood,x\n')
        found = survey(open_(tmp_path / "a.csv"))
        assert (found.documents, found.notes) == (
            3,
            ("2 of 3 texts are empty: they are documents without a word",),
        )

    def test_a_single_file_has_no_splits(self, tmp_path: Path) -> None:
        """A file that the user names is one split, whatever it is called."""
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

# name, files (or one file's bytes), what is given as data (within the folder), options, in the message
BAD_INPUTS: list[tuple[str, dict[str, bytes], str, dict[str, object], str]] = [
    ("wrong path", {"reviews.csv": b"text\na\n"}, "review.csv", {}, "did you mean 'reviews.csv'?"),
    ("wrong folder", {}, "no/such/place", {}, "no such file or folder"),
    ("blank path", {}, " ", {}, "--data is empty"),
    ("path too long", {}, "x" * 5000, {}, "can't be read: File name too long"),
    ("NUL in path", {}, "a\0b", {}, "no such file or folder"),
    ("new line in path", {}, "a\nb.csv", {}, "no such file or folder"),
    ("address", {}, "https://example.org/reviews.csv", {}, "download it first"),
    ("hub model", {}, "hf://models/x/y", {}, "hf://datasets/OWNER/NAME"),
    ("glob without match", {"a.csv": b"text\n"}, "*.tsv", {}, "no file matches"),
    ("empty file", {"a.csv": b""}, "a.csv", {}, "is empty"),
    ("empty gzip", {"a.csv.gz": gzipped(b"")}, "a.csv.gz", {}, "is empty"),
    ("blank file", {"a.csv": b"\n\n \n"}, "a.csv", {}, "is empty"),
    ("blank JSONL", {"a.jsonl": b"\n\n"}, "a.jsonl", {}, "is empty"),
    ("header only", {"a.csv": b"text,label\n"}, "a.csv", {}, "holds no document"),
    ("unknown kind", {"a.xml": b"<text/>"}, "a.xml", {}, "unknown kind of file; attnstore reads .csv"),
    ("empty folder", {}, "", {}, "holds no files, none that can be read"),
    ("useless folder", {"a.md": b"a", "b/c.xml": b"b"}, "", {}, "holds 2 files, none that can be read"),
    ("folder of archives", {"imdb.tar.gz": GOOD_TAR}, "", {}, "name the archive itself: imdb.tar.gz"),
    (
        "too deep",
        {"a/b/c/1.txt": b"a", "a/b/d/1.txt": b"a", "x/y/z/1.txt": b""},
        "",
        {},
        "lie too deep (a/b/c)",
    ),
    ("tables and classes", {"m.csv": b"text\na\n", "pos/1.txt": b"a"}, "", {}, "name the one to read"),
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
    ("noise CSV", {"a.csv": NOISE}, "a.csv", {"text_column": "text"}, "has no column 'text'"),
    ("noise JSONL", {"a.jsonl": NOISE}, "a.jsonl", {}, "holds no JSON object on a line"),
    ("JSON array", {"a.json": b'[\n{"text": "a"}\n]'}, "a.json", {}, "is one JSON array"),
    ("JSON over lines", {"a.json": b'{\n"text": "a"\n}'}, "a.json", {}, "holds no JSON object on a line"),
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
        "all rows rejected (2 not UTF-8)",
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
    ("tar: no texts", {"a.tgz": tar_with(name="data/train.csv")}, "a.tgz", {}, "it has data/train.csv"),
    ("tar: cut gzip", {"a.tgz": GOOD_TAR[:-20]}, "a.tgz", {}, "can't be read"),
    ("tar: noise", {"a.tar": NOISE}, "a.tar", {}, "can't be read"),
    ("zip: outside", {"a.zip": zip_with("../x.txt")}, "a.zip", {}, "a member outside of itself"),
    ("zip: link", {"a.zip": zip_with("pos/x.txt", link=True)}, "a.zip", {}, "holds a link (pos/x.txt)"),
    ("zip: cut", {"a.zip": zip_with("pos/x.txt")[:-30]}, "a.zip", {}, "can't be read"),
    ("zip: nothing", {"a.zip": zip_with("x.bin")}, "a.zip", {}, "holds 1 files, none that can be read"),
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
