"""Labels of real data sets, from the files to the model's classes.

`CASES` are shapes from public reports, in ../shared/cases. The tests after them write their own data of each kind.
"""

import csv
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import shared
from written import open_, write_folder

from attnstore.data.documents import Source
from attnstore.data.labels import LabelMap, match_labels
from attnstore.data.selection import read_documents, rejections
from attnstore.data.survey import Survey, survey
from attnstore.errors import DataError

BINARY = ["neg", "pos"]
FIVE = ["very negative", "negative", "neutral", "positive", "very positive"]
STARS = ["1 star", *(f"{n} stars" for n in range(2, 6))]
FOUR = [f"LABEL_{n}" for n in range(4)]


def labels_of(source: Source, model: list[str], *given: str) -> tuple[Counter[str | None], LabelMap, Survey]:
    """The stored labels, how they were found, and the labels of the data."""
    found = survey(source)
    labels = match_labels(found, model, given)
    read = list(read_documents(source, found, labels))
    assert len(read) == found.documents - sum(rejections(found, labels).counts.values())
    return Counter(item.label for item in read), labels, found


# --- ../shared/cases ------------------------------------------------------------------------------------------------

#: The case, the model's classes, the stored labels, whether an accuracy is claimed.
CASES: list[tuple[str, list[str], dict[str | None, int], bool]] = [
    ("stars_all_named5", FIVE, dict.fromkeys(FIVE, 5), True),
    ("polarity12_more1", BINARY, {"neg": 11, "pos": 9}, True),
    ("s140_more0", BINARY, {"0": 11, "4": 9}, False),
    ("zero_one_3class", ["negative", "neutral", "positive"], {"0": 10, "1": 10}, False),
    ("ags", FOUR, {"1": 2, "2": 2, "3": 2}, False),
    ("polts", BINARY, {"neg": 17, "pos": 16}, True),
    ("cl_yelpfull", STARS, {"1 star": 4, "2 stars": 3, "3 stars": 3, "4 stars": 3, "5 stars": 3}, True),
    ("stray_one_name", BINARY, {"pos": 11, "neg": 9}, True),
    ("jig", BINARY, {None: 32}, False),
    ("red", BINARY, {None: 32}, False),
    ("cl_reversed", BINARY, {"pos": 8, "neg": 8}, True),
    ("cv", BINARY, {"pos": 3, "neg": 1}, True),
    ("kaggle2", BINARY, {"neg": 8, "pos": 8, None: 16}, True),
]


class TestShared:
    @pytest.mark.parametrize(("case", "model", "stored", "claimed"), CASES, ids=[case[0] for case in CASES])
    def test_case(self, case: str, model: list[str], stored: dict[str | None, int], claimed: bool) -> None:
        """No document is lost. Each label is the true class, or no accuracy is claimed."""
        found, labels, _ = labels_of(open_(shared(f"cases/data/{case}")), model)
        assert (dict(found), labels.are_models) == (stored, claimed)
        assert labels.note is not None

    def test_splits_of_polts_are_mapped_in_the_same_way(self) -> None:
        """The mapping depends neither on which of 1 and 2 has more rows, nor on which split is read."""
        found = {
            split: labels_of(open_(shared("cases/data/polts"), split=split), BINARY)[0]
            for split in ("train", "test")
        }
        assert found == {"train": {"neg": 8, "pos": 8}, "test": {"neg": 9, "pos": 8}}

    def test_s140_is_mapped_by_the_option_that_the_note_shows(self) -> None:
        """0 and 4 are kept, and the note shows the option that maps them."""
        source = open_(shared("cases/data/s140_more0"))
        _, labels, _ = labels_of(source, BINARY)
        assert labels.note is not None and labels.note.endswith("--labels 0=neg,4=pos says so")
        found, labels, _ = labels_of(source, BINARY, "0=neg", "4=pos")
        assert (found, labels.are_models) == ({"neg": 11, "pos": 9}, True)

    def test_b77_is_not_named_by_the_alphabet(self) -> None:
        """77 names and 77 unnamed classes: all labels are kept, none is mapped to a class."""
        found, labels, _ = labels_of(open_(shared("cases/data/b77")), [f"LABEL_{n}" for n in range(77)])
        assert (len(found), found.total(), labels.are_models) == (77, 77, False)
        assert labels.model_labels[:2] == ("LABEL_0", "LABEL_1")

    def test_multicfg_is_refused(self) -> None:
        """Two configurations with different classes are two data sets. Both are named."""
        with pytest.raises(DataError) as caught:
            open_(shared("cases/data/multicfg"))
        assert str(caught.value).endswith(
            "holds several data sets, each in its own folder (emotion, sentiment): name one with --subset emotion,"
            " or several with a glob"
        )


# --- Of the same kinds ----------------------------------------------------------------------------------------------


def csv_of(labels: list[str], column: str = "label") -> bytes:
    rows = (f"row number {n} says this and that,{label}\n" for n, label in enumerate(labels))
    return f"text,{column}\n{''.join(rows)}".encode()


def class_label(path: Path, labels: list[int | None], names: list[str] | None, column: str = "label") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"text": [f"row {n} of it all" for n in range(len(labels))], column: labels})
    if names is not None:
        feature = {"names": names, "_type": "ClassLabel"}
        table = table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": {column: feature}}})}
        )
    pq.write_table(table, path)


class TestWholeDataSet:
    @pytest.mark.parametrize("form", ["files", "column", "parquet", "lines"])
    def test_a_split_with_a_part_of_the_labels(self, form: str, tmp_path: Path) -> None:
        """A split that contains only 1 and 2 is mapped like the whole data set, whose numbers start at 0."""
        train, test = ["0", "1", "2", "0"], ["1", "2", "2"]
        match form:
            case "files":
                write_folder(tmp_path, {"train.csv": csv_of(train), "test.csv": csv_of(test)})
            case "column":
                rows = [("train", label) for label in train] + [("test", label) for label in test]
                text = "".join(
                    f"row {n} of it all,{label},{split}\n" for n, (split, label) in enumerate(rows)
                )
                (tmp_path / "data.csv").write_text(f"text,label,split\n{text}")
            case "parquet":
                class_label(tmp_path / "train.parquet", [0, 1, 2, 0], None)
                class_label(tmp_path / "test.parquet", [1, 2, 2], None)
            case _:
                for split, labels in (("train", train), ("test", test)):
                    lines = "".join(f"__label__{label} row {n} of it all\n" for n, label in enumerate(labels))
                    (tmp_path / f"{split}.txt").write_text(lines)
        model = ["negative", "neutral", "positive"]
        found, labels, _ = labels_of(open_(tmp_path, split="test"), model)
        assert (found, labels.are_models) == ({"neutral": 1, "positive": 2}, True)
        found, _, _ = labels_of(open_(tmp_path), model)
        assert found == {"negative": 2, "neutral": 2, "positive": 3}

    def test_class_folders_of_another_split(self, tmp_path: Path) -> None:
        """The class folders of all splits are the labels, whichever split is read."""
        write_folder(tmp_path, {f"train/{n}/a.txt": b"text" for n in "012"} | {"test/1/b.txt": b"text"})
        found = survey(open_(tmp_path, split="test"))
        assert (found.labels, set(found.labels_elsewhere)) == ({"1": 1}, {"0", "2"})

    def test_an_unlabelled_split_that_is_not_read(self, tmp_path: Path) -> None:
        """It shows nothing about the labels, and does no harm."""
        write_folder(tmp_path, {"train.csv": csv_of(["0", "1"]), "test.csv": b"text\nsome text or other\n"})
        found, labels, _ = labels_of(open_(tmp_path, split="train"), BINARY)
        assert (found, labels.are_models) == ({"neg": 1, "pos": 1}, True)

    def test_a_split_with_hidden_labels(self, tmp_path: Path) -> None:
        """A test split of only -1, as in GLUE, adds no third class. A -1 among other labels is a label."""
        write_folder(tmp_path, {"train.csv": csv_of(["0", "1"]), "test.csv": csv_of(["-1", "-1"])})
        found, labels, _ = labels_of(open_(tmp_path, split="train"), BINARY)
        assert (found, labels.are_models) == ({"neg": 1, "pos": 1}, True)
        (tmp_path / "test.csv").write_bytes(csv_of(["-1", "1"]))
        found, labels, _ = labels_of(open_(tmp_path, split="train"), BINARY)
        assert (found, labels.are_models) == ({"0": 1, "1": 1}, False)

    def test_a_column_of_names_beside_a_column_of_numbers(self, tmp_path: Path) -> None:
        """The names are used. By number, 0 would be `neg`."""
        rows = "".join(f"row {n} of it all,{n % 2},{['positive', 'negative'][n % 2]}\n" for n in range(6))
        (tmp_path / "r.csv").write_text(f"text,label,label_text\n{rows}")
        source = open_(tmp_path / "r.csv")
        assert "label column detected: 'label_text'" in source.notes
        found = survey(source)
        read = read_documents(source, found, match_labels(found, BINARY))
        assert [item.label for item in read] == ["pos", "neg"] * 3


class TestClassNames:
    @pytest.mark.parametrize("reader", ["train", "test", "all"])
    def test_splits_with_different_class_names_are_refused(self, reader: str, tmp_path: Path) -> None:
        """Whichever split is read, because a number's meaning must not depend on it."""
        class_label(tmp_path / "train.parquet", [0, 1], ["neg", "pos"])
        class_label(tmp_path / "test.parquet", [0, 1], ["pos", "neg"])
        with pytest.raises(
            DataError,
            match=r"t\w+.parquet and t\w+.parquet name the classes differently \(\w+, \w+; \w+, \w+\)",
        ):
            open_(tmp_path, split=reader)

    def test_a_file_without_names_is_of_the_same_data_set(self, tmp_path: Path) -> None:
        """Only files that have class names can contradict each other."""
        class_label(tmp_path / "train.parquet", [0, 1], ["pos", "neg"])
        class_label(tmp_path / "test.parquet", [0, 1, -1], None)
        found, _, _ = labels_of(open_(tmp_path), BINARY)
        assert found == {"pos": 2, "neg": 2, None: 1}

    def test_classes_with_names_are_labels_however_many_they_are(self, tmp_path: Path) -> None:
        """A column of 150 numbers looks like a measurement, but the data set has names for them."""
        names = [f"intent {n}" for n in range(150)]
        class_label(tmp_path / "r.parquet", list(range(150)), names)
        found, labels, _ = labels_of(open_(tmp_path / "r.parquet"), names[::-1])
        assert (found, labels.are_models) == (dict.fromkeys(names, 1), True)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("id2label.json", '{"0": "positive", "1": "negative"}'),
            ("id2label.json", '{"id2label": {"0": "positive", "1": "negative"}}'),
            ("label2id.json", '{"positive": 0, "negative": 1}'),
            ("label_names.json", '["positive", "negative"]'),
            ("classes.txt", "positive\nnegative\n"),
            ("mapping.txt", "0\tpositive\n1\tnegative\n"),
            (
                "dataset_info.json",
                '{"features": {"label": {"names": ["positive", "negative"], "_type": "ClassLabel"}}}',
            ),
            (
                "dataset_infos.json",
                '{"plain": {"features": {"label": {"names": ["positive", "negative"], "_type": "ClassLabel"}}}}',
            ),
            (
                "README.md",
                "---\nlicense: mit\ndataset_info:\n  features:\n  - name: label\n    dtype:\n      class_label:\n"
                "        names:\n          '0': positive\n          '1': negative\n---\n# It\n",
            ),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("data", ["folder", "file"])
    def test_class_names_beside_the_data(self, data: str, name: str, content: str, tmp_path: Path) -> None:
        """Names of numbered classes are used, whatever file they are in. By number, 0 would be `neg`."""
        write_folder(tmp_path, {"r.csv": csv_of(["0", "1", "1"]), name: content.encode()})
        found, labels, _ = labels_of(open_(tmp_path / "r.csv" if data == "file" else tmp_path), BINARY)
        assert found == {"pos": 1, "neg": 2}
        assert labels.note == "labels were matched by name: 0 (positive) is pos, 1 (negative) is neg"

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("id2label.json", "{"),
            ("id2label.json", '{"0": 1}'),
            ("id2label.json", '{"0": "same", "1": "same"}'),
            ("id2label.json", '{"first": "positive", "second": "negative"}'),
            ("labels.txt", "1\n0\n1\n"),  # a label per row, not a name per class
            ("README.md", "---\n: [\n---\n"),
            ("README.md", "# no head"),
            ("dataset_infos.json", "[]"),
            ("classes.txt", "\xff"),
        ],
    )
    def test_a_file_that_is_no_list_of_names(self, name: str, content: str, tmp_path: Path) -> None:
        """Other files with such names, and damaged ones, are ignored."""
        write_folder(tmp_path, {"r.csv": csv_of(["0", "1"]), name: content.encode("latin-1")})
        found, labels, _ = labels_of(open_(tmp_path / "r.csv"), BINARY)
        assert (found, labels.are_models) == ({"neg": 1, "pos": 1}, True)

    def test_names_that_contradict_each_other(self, tmp_path: Path) -> None:
        """Two files with different names are both named."""
        write_folder(
            tmp_path, {"r.csv": csv_of(["0"]), "classes.txt": b"a\nb\n", "id2label.json": b'["b", "a"]'}
        )
        with pytest.raises(DataError, match=r"classes.txt and id2label.json name the classes differently"):
            open_(tmp_path)

    def test_ag_news_with_its_list_of_classes(self, tmp_path: Path) -> None:
        """One name per line and labels from 1 to 4: the 4 shows where they start, also for a split that lacks it."""
        classes = ["World", "Sports", "Business", "Sci/Tech"]
        write_folder(
            tmp_path,
            {
                "train.csv": csv_of(["1", "2", "3", "4"]),
                "test.csv": csv_of(["1", "2", "3"]),
                "classes.txt": "\n".join(classes).encode(),
            },
        )
        model = ["Business", "Sci/Tech", "Sports", "World"]
        assert labels_of(open_(tmp_path, split="test"), model)[0] == dict.fromkeys(classes[:3], 1)


class TestSaid:
    def test_rows_left_out_are_counted_by_label(self, tmp_path: Path) -> None:
        """Each label whose rows are left out is a separate reason."""
        (tmp_path / "r.csv").write_bytes(csv_of(["1 star"] * 4 + ["2 star"] * 3 + ["3 star"] * 2))
        found, labels, counts = labels_of(open_(tmp_path / "r.csv"), ["bad", "good"], "1 star=bad", "3 star=")
        assert (found, labels.are_models) == ({"bad": 4}, True)
        assert rejections(counts, labels).counts == {
            "unknown label '2 star'": 3,
            "by --labels, label '3 star'": 2,
        }


# --- Every form through every writer ----------------------------------------------------------------------------------

Rows = list[dict[str, object]]

#: Lists of class names, some in the customary order of their numbers, and shorter spellings of some names.
WRITTEN = [
    ["negative", "positive"],
    ["negative", "neutral", "positive"],
    FIVE,
    ["World", "Sports", "Business", "Sci/Tech"],
]
SHORT = {"negative": "neg", "positive": "pos", "World": "World News", "Sci/Tech": "sci tech"}


def write_csv(path: Path, rows: Rows, chance: random.Random) -> dict[str, object]:
    """Python's own writer: any delimiter, quotes and line end, with or without a header.

    Without a header, a few rows do not decide the delimiter.
    """
    headed, delimiter = chance.choice([False, True]), chance.choice(",;\t|")
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file,
            list(rows[0]),
            delimiter=delimiter,
            quoting=chance.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
            lineterminator=chance.choice(["\n", "\r\n"]),
        )
        if headed:
            writer.writeheader()
        writer.writerows(rows)
    few = {"delimiter": delimiter} if len(rows) < 4 else {}
    return {} if headed else {"columns": tuple(rows[0]), **few}


def write_pandas(path: Path, rows: Rows, chance: random.Random) -> dict[str, object]:
    """CSV with and without its index, JSON in every orientation, Parquet and Feather."""
    frame = pd.DataFrame(rows)
    match chance.choice(["csv", "tsv", "parquet", "feather", "lines", "records", "columns", "split"]):
        case "csv":
            frame.to_csv(path.with_suffix(".csv"), index=chance.choice([False, True]))
        case "tsv":
            frame.to_csv(path.with_suffix(".tsv"), sep="\t", index=False)
        case "parquet":
            frame.to_parquet(path.with_suffix(".parquet"))
        case "feather":
            frame.to_feather(path.with_suffix(".feather"))
        case "lines":
            frame.to_json(path.with_suffix(".jsonl"), orient="records", lines=True)
        case orient:
            frame.to_json(path.with_suffix(".json"), orient=orient)  # type: ignore[call-overload]
    return {}


def write_polars(path: Path, rows: Rows, chance: random.Random) -> dict[str, object]:
    """CSV with any quotes, JSON Lines, a JSON array, Parquet and Arrow."""
    frame = pl.DataFrame(rows)
    match chance.choice(["csv", "ndjson", "json", "parquet", "ipc"]):
        case "csv":
            style = chance.choice(["necessary", "always", "non_numeric"])
            frame.write_csv(path.with_suffix(".csv"), quote_style=style)  # type: ignore[arg-type]
        case "ndjson":
            frame.write_ndjson(path.with_suffix(".jsonl"))
        case "json":
            frame.write_json(path.with_suffix(".json"))
        case "parquet":
            frame.write_parquet(path.with_suffix(".parquet"))
        case _:
            frame.write_ipc(path.with_suffix(".arrow"))
    return {}


def write_arrow(path: Path, rows: Rows, chance: random.Random) -> dict[str, object]:
    """Parquet in several row groups, with a dictionary; a stream of batches; CSV."""
    table = pa.Table.from_pylist(rows)
    match chance.choice(["parquet", "dictionary", "stream", "csv"]):
        case "parquet":
            pq.write_table(table, path.with_suffix(".parquet"), row_group_size=2)
        case "dictionary":
            place = table.schema.get_field_index("label")
            table = table.set_column(place, "label", table["label"].dictionary_encode())
            pq.write_table(table, path.with_suffix(".parquet"))
        case "stream":
            with pa.ipc.new_stream(path.with_suffix(".arrows"), table.schema) as sink:
                sink.write_table(table, max_chunksize=2)
        case _:
            pa.csv.write_csv(table, path.with_suffix(".csv"))
    return {}


def write_datasets(
    path: Path, rows: Rows, chance: random.Random, names: list[str] | None = None
) -> dict[str, object]:
    """The hub's library: Parquet, `save_to_disk`, CSV and JSON; with class names in the first two."""
    features = datasets.Features({key: datasets.Value("string") for key in rows[0]})
    if names is not None:
        features["label"] = datasets.ClassLabel(names=names)
    elif isinstance(rows[0]["label"], int):
        features["label"] = datasets.Value("int64")
    held = datasets.Dataset.from_list(rows, features=features)
    kinds = ["parquet", "disk"] + ([] if names is not None else ["csv", "json"])
    match chance.choice(kinds):
        case "parquet":
            held.to_parquet(path.with_suffix(".parquet"))
        case "disk":
            held.save_to_disk(path)
        case "csv":
            held.to_csv(path.with_suffix(".csv"))
        case _:
            held.to_json(path.with_suffix(".jsonl"))
    return {}


WRITERS = {
    "csv": write_csv,
    "pandas": write_pandas,
    "polars": write_polars,
    "arrow": write_arrow,
    "datasets": write_datasets,
}
#: Ways to write a class, from its name and its number from 0.
FORMS: dict[str, Callable[[str, int], object]] = {
    "name": lambda name, _: name,
    "upper": lambda name, _: name.upper(),
    "blanks": lambda name, _: f" {name} ",
    "short": lambda name, _: SHORT.get(name, name),
    "hyphens": lambda name, _: name.replace(" ", "-"),
    "from 0": lambda _, number: number,
    "from 1": lambda _, number: number + 1,
    "figures": lambda _, number: f"{number}.0",
    "LABEL_": lambda _, number: f"LABEL_{number}",
    "truth": lambda _, number: str(bool(number)),
    "named": lambda _, number: number,
    "foreign": lambda name, _: f"rather {name}, or not",
}


@pytest.mark.slow
@given(st.data())
def test_stored_labels_are_true_from_every_writer(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Columns in any order, labels in any form, one split at a time: the true class, or no claim.

    Numbers without names mean the classes in the order in which the data were made. That a model's classes are shuffled
    is visible only if their order is customary; otherwise the model here has the data's order.
    """
    classes = data.draw(st.sampled_from(WRITTEN))
    forms = [form for form in FORMS if form != "truth" or len(classes) == 2]
    form = data.draw(st.sampled_from(forms))
    is_by_name = form in ("name", "upper", "blanks", "short", "hyphens", "named", "foreign")
    shuffled = list(data.draw(st.permutations(classes)))
    model = shuffled if is_by_name or classes != WRITTEN[-1] else classes
    writer = data.draw(st.sampled_from(list(WRITERS)))
    columns = data.draw(st.permutations(["text", "label", "id"]))
    truth: dict[str, str] = {}
    folder = tmp_path_factory.mktemp("written")
    options: dict[str, object] = {}
    count = data.draw(st.integers(1, 6))
    seed = data.draw(st.integers(0, 2**30))  # both splits are written alike
    for split in ("train", "test"):
        rows: Rows = []
        for number in range(count):
            name = data.draw(st.sampled_from(classes))
            row = {"id": f"{split}-{number}", "text": f'This "is" {split} row {number}, about this; and that'}
            truth[row["id"]] = name
            label = FORMS[form](name, classes.index(name))
            rows.append({column: {**row, "label": label}[column] for column in columns})
        alike = random.Random(seed)
        if writer == "datasets":
            options = write_datasets(folder / split, rows, alike, classes if form == "named" else None)
        else:
            options = WRITERS[writer](folder / split, rows, alike)
    if form == "named" and writer != "datasets":
        (folder / "label_names.json").write_text(json.dumps(classes))
    claimed = set()
    for split in ("train", "test", "all"):
        source = open_(folder, split=split, **options)
        found = survey(source)
        labels = match_labels(found, model)
        claimed.add(labels.are_models)
        read = {item.id: item.label for item in read_documents(source, found, labels)}
        expected = {id_: name for id_, name in truth.items() if split in ("all", id_.partition("-")[0])}
        assert read.keys() == expected.keys(), "no row is lost"
        if labels.are_models:
            assert read == expected
    assert len(claimed) == 1, "a label means the same in all splits"
    assert claimed == {form != "foreign"} or not is_by_name
