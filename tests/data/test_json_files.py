"""JSON in every common shape: each gives the rows that pandas or another tool wrote."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import shared
from written import open_

from attnstore.data import json_files
from attnstore.data.documents import Document, Rejected
from attnstore.errors import DataError, UsageError

ROWS = [
    ("a fine film, all in all", "pos"),
    ('dull "and" long\nschöne Grüße \U0001f600', "neg"),
    ("so so", None),
]
FRAME = pd.DataFrame(ROWS, columns=["text", "label"])


def read(path: Path, content: object, **options: object) -> list[Any]:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return list(open_(path, **options))


def documents(name: str) -> list[Document]:
    return [
        Document(text, f"{name}:{row}", None, "all", label) for row, (text, label) in enumerate(ROWS, start=1)
    ]


class TestShapes:
    @pytest.mark.parametrize("orient", ["records", "columns", "index", "split", "table"])
    @pytest.mark.parametrize("indent", [None, 2])
    def test_what_pandas_writes(self, orient: Any, indent: int | None, tmp_path: Path) -> None:
        """Each orientation of `to_json`, on one line or on several, gives the rows of the frame."""
        content = FRAME.to_json(orient=orient, indent=indent)
        assert read(tmp_path / "r.json", content) == documents("r.json")

    def test_values_have_no_names(self, tmp_path: Path) -> None:
        """The orientation `values` has no header: `--columns` or positions name the columns."""
        content = FRAME.to_json(orient="values")
        assert read(tmp_path / "r.json", content, columns=("text", "label")) == documents("r.json")
        found = read(tmp_path / "r.json", content, text_column="1", label_column="2")
        assert found == documents("r.json")

    @pytest.mark.parametrize(
        "content",
        [
            {"text": [row[0] for row in ROWS], "label": [row[1] for row in ROWS]},
            {"version": 2, "data": [{"text": text, "label": label} for text, label in ROWS]},
            {f"doc{n}": {"text": text, "label": label} for n, (text, label) in enumerate(ROWS)},
        ],
        ids=["lists", "wrapped", "by key"],
    )
    def test_other_objects(self, content: object, tmp_path: Path) -> None:
        """Lists by column, objects by name, and a list of rows under a key are rows, too."""
        assert read(tmp_path / "r.json", content) == documents("r.json")

    @pytest.mark.parametrize("indent", [None, 1])
    def test_one_object_is_one_row(self, indent: int | None, tmp_path: Path) -> None:
        """A file with one object, on any number of lines, is one row."""
        found = read(tmp_path / "r.json", json.dumps({"text": "a fine film", "label": "pos"}, indent=indent))
        assert found == [Document("a fine film", "r.json:1", None, "all", "pos")]

    def test_a_damaged_first_line_is_a_bad_row(self, tmp_path: Path) -> None:
        """The file is still read line by line, not as one document."""
        content = '{"text": "cut o\n{"text": "whole", "label": "pos"}\n'
        assert read(tmp_path / "r.json", content) == [
            Rejected("r.json row 1", "malformed row"),
            Document("whole", "r.json:2", None, "all", "pos"),
        ]

    @pytest.mark.slow
    @given(
        rows=st.lists(
            st.tuples(st.text(max_size=8), st.sampled_from(["pos", "neg"])), min_size=1, max_size=8
        ),
        size=st.integers(1, 9),
    )
    def test_an_array_is_read_in_pieces(self, rows: list[tuple[str, str]], size: int) -> None:
        """Wherever a piece ends, the rows are those that Python's json wrote."""
        content = json.dumps([{"text": text, "label": label, "n": 1234.5} for text, label in rows])
        stored = content.encode()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_files, "SAMPLE", size)
            found = [each for _, each in json_files._array("r.json", lambda: BytesIO(stored), dict, 1 << 20)]
        assert found == json.loads(content)

    def test_bad_rows_of_an_array(self, tmp_path: Path) -> None:
        """Elements that are not objects are counted, and so is half a surrogate pair. NaN is not a label."""
        content = (
            '[{"text": "a", "label": NaN}, 5, ["x"], {"text": "\\ud83d"}, {"text": "b", "label": 1}, null]'
        )
        assert read(tmp_path / "r.json", content) == [
            Document("a", "r.json:1", None, "all", None),
            Rejected("r.json row 2", "malformed row"),
            Rejected("r.json row 3", "malformed row"),
            Rejected("r.json row 4", "not UTF-8"),
            Document("b", "r.json:5", None, "all", "1"),
            Rejected("r.json row 6", "malformed row"),
        ]

    def test_a_large_document_is_refused_a_large_array_is_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A value that must be held in memory as a whole has a size limit; rows read one by one have none."""
        monkeypatch.setattr(json_files, "LARGEST", 100)
        rows = [{"text": f"text {n}", "label": "pos"} for n in range(50)]
        assert len(read(tmp_path / "array.json", rows)) == 50
        with pytest.raises(DataError, match=r"d.json is one JSON value of more than 0 MiB.*JSON Lines"):
            read(tmp_path / "d.json", {"data": rows})


OBJECTS = [{"text": text, "label": label} for text, label in ROWS]


class TestShapesOfOthers:
    @pytest.mark.parametrize(
        "content",
        [
            "".join(map(json.dumps, OBJECTS)),
            "\n".join(json.dumps(each, indent=1) for each in OBJECTS),
            json.dumps(
                {"features": [{"name": "text"}], "rows": [{"row_idx": 1, "row": each} for each in OBJECTS]}
            ),
        ],
        ids=["in one line", "over lines", "the hub's viewer"],
    )
    def test_consecutive_objects_and_the_hubs_rows(self, content: str, tmp_path: Path) -> None:
        """The output of jq, and that of the hub's viewer."""
        assert read(tmp_path / "r.json", content) == documents("r.json")

    def test_a_list_per_line(self, tmp_path: Path) -> None:
        """Its columns have positions, or the names that are given."""
        content = "".join(json.dumps(row) + "\n" for row in ROWS)
        assert read(tmp_path / "r.jsonl", content, columns=("text", "label")) == documents("r.jsonl")
        found = read(tmp_path / "r.jsonl", content, text_column="1", label_column="2")
        assert found == documents("r.jsonl")

    @pytest.mark.parametrize("rows", [OBJECTS, ROWS], ids=["objects", "lists"])
    def test_lists_named_after_splits(self, rows: list[Any], tmp_path: Path) -> None:
        """The key is the split of its rows. The rows of CLINC's `data_full.json` are lists."""
        options = {} if rows is OBJECTS else {"text_column": "1", "label_column": "2"}
        found = read(tmp_path / "r.json", {"train": rows, "oos_test": rows[:1]}, split="test", **options)
        assert found == [Document(ROWS[0][0], "r.json:4", None, "test", "pos")]

    def test_a_truncated_object_after_others(self, tmp_path: Path) -> None:
        """One line that says after which row."""
        content = json.dumps(OBJECTS[0]) * 3 + '{"text": '
        with pytest.raises(DataError, match=r"^r\.json is damaged or cut off after row 3: Expecting value$"):
            read(tmp_path / "r.json", content)

    def test_an_object_of_texts_is_not_a_row(self, tmp_path: Path) -> None:
        """A text and its label by key used to be taken for one row of many columns."""
        content = {f"a text, number {n}": "pos" for n in range(4)}
        with pytest.raises(DataError, match=r"is one object .*, not a table: write one object per line"):
            read(tmp_path / "r.json", content)


class TestExports:
    @pytest.mark.parametrize(
        "row",
        [
            {"text": "{}", "label": {"name": "{}"}},
            {"text": "{}", "annotations": [{"label": "{}", "user": 1}], "meta": {}},
            {"text": "{}", "options": [{"id": "pos"}], "accept": ["{}"], "answer": "accept"},
            {
                "text": "{}",
                "annotation": "{}",
                "prediction": [{"label": "x", "score": 0.5}],
                "status": "Validated",
            },
        ],
        ids=["an object", "doccano's first version", "Prodigy's choices", "Argilla's first version"],
    )
    def test_the_label_is_found(self, row: dict[str, Any], tmp_path: Path) -> None:
        """Where each tool stores it, without an option."""
        lines = [json.dumps(row).replace("{}", text, 1).replace("{}", label, 1) for text, label in ROWS[:1]]
        assert read(tmp_path / "r.jsonl", "\n".join([*lines, *lines])) == [
            Document(ROWS[0][0], f"r.jsonl:{n}", None, "all", "pos") for n in (1, 2)
        ]

    def test_spans_are_reported_as_not_a_label(self, tmp_path: Path) -> None:
        """Named entities from doccano: why each row was left out."""
        row = {"text": "a fine film", "label": [[0, 4, "PER"], [5, 9, "LOC"]]}
        (rejected,) = read(tmp_path / "r.jsonl", json.dumps(row), label_column="label")
        assert rejected == Rejected("r.jsonl row 1", "several labels")


class TestPaths:
    def test_nested_text(self, tmp_path: Path) -> None:
        """A path leads into objects and lists. It is guessed if it ends in a usual name."""
        rows = [{"data": {"text": f"text {n}"}, "notes": [{"by": "x", "class": "pos"}]} for n in range(2)]
        expected = [Document(f"text {n}", f"r.json:{n + 1}", None, "all", "pos") for n in range(2)]
        assert read(tmp_path / "r.json", rows, label_column="notes[0].class") == expected
        options = {"text_column": "data.text", "label_column": "notes[].class"}
        assert read(tmp_path / "r.json", rows, **options) == expected

    def test_label_studio(self, tmp_path: Path) -> None:
        """All annotators' choices are compared: a row on which they differ has several labels."""

        def task(number: int, *choices: list[str]) -> dict[str, object]:
            results = [[{"type": "choices", "value": {"choices": each}}] for each in choices]
            return {
                "id": number,
                "data": {"text": f"text {number}"},
                "annotations": [{"id": 9, "result": each} for each in results],
            }

        rows = [
            task(1, ["pos"]),
            task(2, ["neg"], ["neg"]),
            task(3, ["pos"], ["neg"]),
            task(4),
            task(5, ["a", "b"]),
        ]
        expected = [
            Document("text 1", "1", None, "all", "pos"),
            Document("text 2", "2", None, "all", "neg"),
            Rejected("r.json row 3", "several labels"),
            Document("text 4", "4", None, "all", None),
            Rejected("r.json row 5", "several labels"),
        ]
        assert read(tmp_path / "r.json", rows) == expected
        first = read(tmp_path / "r.json", rows, label_column="annotations[0].result[0].value.choices")
        expected[2] = Document("text 3", "3", None, "all", "pos")
        assert first == expected

    def test_labels_of_spans_are_not_labels_of_the_document(self, tmp_path: Path) -> None:
        """They are not guessed to be."""
        rows = [{"text": "Anna met Bob", "spans": [{"start": 0, "label": "PER"}]}]
        assert read(tmp_path / "r.json", rows) == [Document("Anna met Bob", "r.json:1", None, "all", None)]

    def test_a_key_with_a_dot(self, tmp_path: Path) -> None:
        """A key that looks like a path is that key."""
        found = read(
            tmp_path / "r.json", [{"data.text": "key", "data": {"text": "path"}}], text_column="data.text"
        )
        assert found == [Document("key", "r.json:1", None, "all", None)]


CASES = {"ls": "export.json", "json_default": "r.json", "doc": "all.jsonl"}


@pytest.mark.parametrize("case", CASES)
def test_shared_cases(case: str) -> None:
    """Exports of Label Studio, doccano and pandas' default are read without an option."""
    found = list(open_(shared(f"cases/data/{case}")))
    first, last = ("a wonderful heartfelt picture", "pos"), ("badly made", "neg")
    assert [(each.text, each.label) for each in (found[0], found[-1])] == [first, last]
    assert (len(found), [each.label for each in found]) == (16, ["pos"] * 8 + ["neg"] * 8)


IN_SHAPES = {
    "lines": FRAME.to_json(orient="records", lines=True, force_ascii=False),
    "array": FRAME.to_json(orient="records", force_ascii=False),
    "document": FRAME.to_json(orient="columns", force_ascii=False, indent=1),
    "values": FRAME.to_json(orient="values", force_ascii=False),
}


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030"])
    @pytest.mark.parametrize("shape", IN_SHAPES)
    def test_a_given_encoding_is_read(self, shape: str, encoding: str, tmp_path: Path) -> None:
        """The rows equal those of the same file in UTF-8, in every shape."""
        path = tmp_path / "r.json"
        path.write_bytes(IN_SHAPES[shape].encode(encoding))
        columns = {"columns": ("text", "label")} if shape == "values" else {}
        assert list(open_(path, encoding=encoding, **columns)) == documents("r.json")

    def test_lines_end_where_lines_of_json_end(self, tmp_path: Path) -> None:
        """U+2028 or U+0085 inside a text does not end its line, in any encoding. A long file is read in pieces."""
        texts = [f"one\u2028two\u0085three {n} " + "\u00e9" * 200 for n in range(400)]
        path = tmp_path / "r.jsonl"
        lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\r\n" for text in texts)
        path.write_bytes(lines.encode("utf-16"))
        assert [item.text for item in open_(path, encoding="utf-16")] == texts

    @pytest.mark.parametrize("shape", ["lines", "array"])
    def test_another_encoding_is_refused_with_the_option_that_reads_it(
        self, shape: str, tmp_path: Path
    ) -> None:
        """Without the rows with accents, the rest would not be a fair sample."""
        rows = [{"text": "caf\u00e9" if n % 3 else "tea", "label": "pos"} for n in range(30)]
        content = json.dumps(rows, ensure_ascii=False)
        if shape == "lines":
            content = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        path = tmp_path / "r.json"
        path.write_bytes(content.encode("cp1252"))
        with pytest.raises(
            DataError, match=r"20 of 30 texts are not UTF-8, the first r.json row 2: give --encoding"
        ):
            list(open_(path))
        assert [item.text for item in open_(path, encoding="cp1252")] == [row["text"] for row in rows]
        dropped = list(open_(path, encoding="utf-8"))
        assert [isinstance(item, Rejected) for item in dropped] == [row["text"] != "tea" for row in rows]

    def test_a_document_in_another_encoding_is_refused(self, tmp_path: Path) -> None:
        """It can't be read in part."""
        path = tmp_path / "r.json"
        path.write_bytes(json.dumps({"text": ["caf\u00e9", "b"]}, ensure_ascii=False).encode("latin-1"))
        with pytest.raises(
            DataError, match=r"r\.json is not UTF-8: give --encoding cp1252, or the one that it has"
        ):
            list(open_(path))
        assert [item.text for item in open_(path, encoding="latin-1")] == ["caf\u00e9", "b"]

    def test_utf_16_is_refused_with_its_option(self, tmp_path: Path) -> None:
        """It is full of NUL bytes."""
        path = tmp_path / "r.json"
        path.write_bytes(IN_SHAPES["array"].encode("utf-16"))
        with pytest.raises(DataError, match=r"it holds NUL bytes\): --encoding utf-16 reads that"):
            open_(path)

    @pytest.mark.parametrize("name", ["r.json", "r.csv", "pos/a.txt"])
    def test_an_unknown_encoding_is_refused(self, name: str, tmp_path: Path) -> None:
        """For every kind of file, in one line."""
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('[{"text": "a"}]')
        with pytest.raises(
            UsageError, match="--encoding utf-17 is not known: utf-8, cp1252, latin-1 and utf-16"
        ):
            open_(path if name != "pos/a.txt" else tmp_path, encoding="utf-17")
