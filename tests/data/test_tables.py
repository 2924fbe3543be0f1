"""Rows of tables: every format gives the same rows, and identifies bad ones by number."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnstore.config import SourceConfig
from attnstore.data.class_names import ClassNames
from attnstore.data.documents import Document, Noticed, Rejected, Source
from attnstore.data.sources import open_source
from attnstore.data.tables import table_at
from attnstore.errors import UsageError


def open_(path: Path, content: str | bytes | None = None, **options: object) -> Source:
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_source(SourceConfig(str(path), **options))  # type: ignore[arg-type]


def rows_of(source: Source) -> list[tuple[str, str | None]]:
    return [(item.text, item.label) for item in source if isinstance(item, Document)]


ROWS = [
    ("a, plain text", "pos"),
    ('she said "no"\nand left', "neg"),
    ("", "pos"),
    ("tab\there; 'quotes' | bars", "neg"),
    ("schöne Grüße, 日本語 \U0001f600", "pos"),
    ("form\x0cfeed\u2028separator\x85", None),
    (" padded ", "neg"),
]


def as_csv(delimiter: str = ",") -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter=delimiter)
    writer.writerow(["text", "label"])
    writer.writerows((text, label or "") for text, label in ROWS)
    return sink.getvalue().encode()


def as_jsonl(ending: str = "\n") -> bytes:
    return "".join(json.dumps({"text": text, "label": label}) + ending for text, label in ROWS).encode()


def as_parquet(**options: object) -> bytes:
    sink = io.BytesIO()
    table = pa.table({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]})
    pq.write_table(table, sink, **options)  # type: ignore[arg-type]
    return sink.getvalue()


def as_pandas(method: str, **options: object) -> bytes:
    sink = io.BytesIO()
    frame = pd.DataFrame(ROWS, columns=["text", "label"])
    getattr(frame, method)(sink, **options)
    return sink.getvalue()


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


class TestFormats:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("r.csv", as_csv()),
            ("R.CSV", b"\xef\xbb\xbf" + as_csv()),
            ("semicolons.csv", as_csv(";")),
            ("tabs.csv", as_csv("\t")),
            ("quoted.tsv", as_csv("\t")),
            ("pandas.csv", as_pandas("to_csv", index=True)),
            ("pandas.tab", as_pandas("to_csv", sep="\t", index=False)),
            ("r.jsonl", as_jsonl()),
            ("r.ndjson", b"\xef\xbb\xbf" + as_jsonl("\r\n")),
            ("r.json", as_jsonl("\n\n")),
            ("pandas.jsonl", as_pandas("to_json", orient="records", lines=True)),
            ("r.parquet", as_parquet()),
            ("r", as_parquet(use_dictionary=False, row_group_size=2)),
            ("pandas.parquet", as_pandas("to_parquet")),
            ("r.csv.gz", gzip.compress(as_csv())),
            ("two members.csv.gz", gzip.compress(as_csv()[:40]) + gzip.compress(as_csv()[40:])),
            ("r.jsonl.zst", zstd(as_jsonl())),
            ("r.csv.bz2", bz2.compress(as_csv())),
            ("r.jsonl.xz", lzma.compress(as_jsonl())),
            ("compressed in secret.csv", gzip.compress(as_csv())),
            ("r.csv.gz", as_csv()),
        ],
        ids=lambda value: value if isinstance(value, str) else "",  # the bytes of a .gz contain the time
    )
    def test_every_format_gives_the_same_rows(self, name: str, content: bytes, tmp_path: Path) -> None:
        """CSV, TSV, JSON Lines and Parquet, compressed or not, have the same texts and labels, to the character."""
        source = open_(tmp_path / name, content)
        assert rows_of(source) == ROWS
        assert not [item for item in source if isinstance(item, Rejected)]

    @pytest.mark.slow
    @given(
        rows=st.lists(
            st.tuples(
                st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9),
                st.sampled_from("ab"),
            ),
            min_size=1,
        )
    )
    def test_written_texts_are_read_back(
        self, rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Any text that Python's csv writer or pyarrow's Parquet writer writes is read back unchanged."""
        folder = tmp_path_factory.mktemp("roundtrip")
        sink = io.StringIO(newline="")
        csv.writer(sink, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
        assert rows_of(open_(folder / "r.csv", sink.getvalue())) == rows
        pq.write_table(
            pa.table({"text": [row[0] for row in rows], "label": [row[1] for row in rows]}), folder / "r.pq"
        )
        # A byte order mark at the beginning is not part of the text.
        without_mark = [(text.removeprefix("\ufeff"), label) for text, label in rows]
        assert rows_of(open_(folder / "r.pq")) == without_mark


class TestBadRows:
    def test_csv(self, tmp_path: Path) -> None:
        """A bad row of a CSV file is identified by its number among the rows; the others are read."""
        content = (
            b'id,text,label\n1,good,pos\n2,too,many,cells\n3,few\n\n4,\xe9t\xe9,pos\n5,"quoted" twice,neg\n'
            b'6,"two\nlines",neg\n7,,\n\xff,odd id,pos\n,no id,pos\n9,"never closed,pos\n10,lost,pos\n'
        )
        padded = "shorter than its table: its last cells were taken for empty"
        assert list(open_(tmp_path / "r.csv", content, encoding="utf-8")) == [
            Document("good", "1", None, "all", "pos"),
            Rejected("r.csv row 2", "malformed row"),
            Noticed("r.csv row 3", padded),
            Document("few", "3", None, "all", None),
            Rejected("r.csv row 4", "not UTF-8"),
            Rejected("r.csv row 5 (line 7)", "malformed row"),
            Document("two\nlines", "6", None, "all", "neg"),
            Document("", "7", None, "all", None),
            Rejected("r.csv row 8", "not UTF-8"),
            Document("no id", "r.csv:9", None, "all", "pos"),
            Rejected("r.csv row 10 (line 13, it would swallow 1 line)", "a quote is not closed"),
            Document("lost", "10", None, "all", "pos"),
        ]

    def test_jsonl(self, tmp_path: Path) -> None:
        """A bad line of JSON is identified by its number among the lines; the others are read."""
        content = (
            b'{"text": "good", "label": 1, "id": 7}\n\n{"text": null}\n{"label": "pos"}\n{"text": 5}\n{"text": "a"\n'
            b'"text"\n[1]\n{"text": "\xff"}\n{"text": "half \\ud83d"}\n{"text": "\\ud83d\\ude00", "label": true}\n'
            b'{"text": "a", "label": ["pos"]}\n{"text": "", "label": 1.5}\n{"text": "nul \\u0000", "label": ""}\n'
        )
        content += b"[" * 100_000 + b"\n" + b'{"text": "end", "label": ' + b"9" * 5000 + b"}\n"
        assert list(open_(tmp_path / "r.jsonl", content, label_column="label")) == [
            Document("good", "7", None, "all", "1"),
            Rejected("r.jsonl row 3", "text missing"),
            Rejected("r.jsonl row 4", "text missing"),
            Rejected("r.jsonl row 5", "text is not a string"),
            Rejected("r.jsonl row 6", "malformed row"),
            Rejected("r.jsonl row 7", "malformed row"),
            Rejected("r.jsonl row 8", "malformed row"),
            Rejected("r.jsonl row 9", "not UTF-8"),
            Rejected("r.jsonl row 10", "not UTF-8"),
            Document("\U0001f600", "r.jsonl:11", None, "all", "true"),
            Document("a", "r.jsonl:12", None, "all", "pos"),
            Document("", "r.jsonl:13", None, "all", "1.5"),
            Document("nul \0", "r.jsonl:14", None, "all", None),
            Rejected("r.jsonl row 15", "malformed row"),
            Rejected("r.jsonl row 16", "malformed row"),
        ]

    def test_parquet(self, tmp_path: Path) -> None:
        """Parquet's nulls, and strings that are not UTF-8, are identified by row, across batches."""
        texts = [b"good", None, b"\xff", b""] * 600
        table = pa.table(
            {"text": pa.array(texts, pa.binary()), "label": pa.array([1.0, None, 0.0, float("nan")] * 600)}
        )
        pq.write_table(table, tmp_path / "r.parquet", row_group_size=700)
        expected: list[Document | Rejected] = []
        for row in range(1, 2401, 4):
            expected += [
                Document("good", f"r.parquet:{row}", None, "all", "1.0"),
                Rejected(f"r.parquet row {row + 1}", "text missing"),
                Rejected(f"r.parquet row {row + 2}", "not UTF-8"),
                Document("", f"r.parquet:{row + 3}", None, "all", None),
            ]
        assert list(open_(tmp_path / "r.parquet")) == expected

    def test_strings_of_parquet_that_are_not_utf8(self, tmp_path: Path) -> None:
        """A column declared as strings may still hold other bytes: the row is rejected, not the file."""
        offsets, data = pa.py_buffer(b"\0\0\0\0\4\0\0\0\6\0\0\0"), pa.py_buffer(b"good\xff\xfe")
        strings = pa.StringArray.from_buffers(2, offsets, data)
        pq.write_table(pa.table({"text": strings}), tmp_path / "r.parquet", store_schema=False)
        assert list(open_(tmp_path / "r.parquet")) == [
            Document("good", "r.parquet:1", None, "all", None),
            Rejected("r.parquet row 2", "not UTF-8"),
        ]


class TestColumns:
    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ("review,sentiment", ["text column detected: 'review'", "label column detected: 'sentiment'"]),
            ("Label,Text", ["text column detected: 'Text'", "label column detected: 'Label'"]),
            ("stars, body ", ["text column detected: 'body'", "label column detected: 'stars'"]),
            ("sentence,text", ["text column detected: 'text'",
                               "no column looks like the label (there are sentence, text): the documents have none"]),
            ("idx,comment", ["text column detected: 'comment'", "id column detected: 'idx'",
                             "no column looks like the label (there are idx, comment): the documents have none"]),
        ],
    )  # fmt: skip
    def test_guesses_are_noted(self, header: str, expected: list[str], tmp_path: Path) -> None:
        """Usual names are found in any case and position, the most usual first, and each guess is a note."""
        assert sorted(open_(tmp_path / "r.csv", f"{header}\na,b\n").notes) == sorted(expected)

    def test_named_columns_are_not_guessed(self, tmp_path: Path) -> None:
        """A column is found by its exact name, else in any case. Nothing is guessed beside named columns."""
        content = "text,TEXT,what,key,film,Label\nno,yes,L,K,F,wrong\n"
        named = {"text_column": "TEXT", "label_column": "WHAT", "id_column": "key", "group_column": "film"}
        source = open_(tmp_path / "r.csv", content, **named)
        assert source.notes == ()
        assert list(source) == [Document("yes", "K", "F", "all", "L")]

    def test_a_single_column_is_the_text(self, tmp_path: Path) -> None:
        """A table with one column needs no name for it. Only a column called `group` is guessed to be the group."""
        assert [
            item.text
            for item in open_(tmp_path / "r.csv", "words\none\ntwo\n", header=True)
            if isinstance(item, Document)
        ] == [
            "one",
            "two",
        ]
        assert list(open_(tmp_path / "g.csv", "text,Group\na,g\nb,\n")) == [
            Document("a", "g.csv:1", "g", "all", None),
            Document("b", "g.csv:2", None, "all", None),
        ]

    def test_two_similar_usual_names(self, tmp_path: Path) -> None:
        """Columns that differ only in case are not guessed between."""
        with pytest.raises(UsageError, match="has 2 columns called 'text'"):
            open_(tmp_path / "r.csv", "text,Text\na,b\n")


class TestTsv:
    @pytest.mark.parametrize(
        ("content", "expected", "headerless"),
        [
            ("7\tpos\tgood film\n8\tneg\tbad film\n9\tneg\ta poor film\n",
             [("good film", "pos"), ("bad film", "neg"), ("a poor film", "neg")], True),
            ('7\ta\t"unbalanced\n8\tb\tquotes" here\n9\tb\tno quote\n',
             [('"unbalanced', "a"), ('quotes" here', "b"), ("no quote", "b")], True),
            ('7\ta\t"quoted ""film"""\n8\tb\tplain film\n9\tb\tno quote\n',
             [('quoted "film"', "a"), ("plain film", "b"), ("no quote", "b")], True),
            ("id\tlabel\ttext\n1\tpos\tgood\n", [("good", "pos")], False),
            ('sentence\tlabel\nan " odd quote\t1\n', [('an " odd quote', "1")], False),
            ('sentence\tlabel\n"quoted" and on\t1\n', [('"quoted" and on', "1")], False),
            ('id\tlabel\ttext\n1\t0\t"open\n2"\t1\tx\n', [('"open', "0"), ("x", "1")], False),
            ("sentence\tlabel\r\na \r\n", [("a ", None)], False),
        ],
    )  # fmt: skip
    def test_headers_and_quotes(
        self, content: str, expected: list[tuple[str, str]], headerless: bool, tmp_path: Path
    ) -> None:
        """Without a header, the text is the longest column and the label the one that repeats.

        Quotes count if all are paired.
        """
        source = open_(tmp_path / "r.tsv", content)
        assert rows_of(source) == expected
        notes = (
            "r.tsv has no header: its column 3 was taken for the text",
            "its column 2 was taken for the label",
            "its column 1 was taken for the id",
        )
        assert (source.notes == notes) == headerless
        if headerless:
            assert [item.id for item in source if isinstance(item, Document)] == ["7", "8", "9"]

    @pytest.mark.slow
    def test_a_quoted_field_across_the_sample(self, tmp_path: Path) -> None:
        """Quoting is decided from a file's beginning, even if that ends inside a field."""
        content = 'text\tlabel\n"a\tb"\tpos\n"' + "long\n" * 250_000 + '"\tneg\n'
        assert rows_of(open_(tmp_path / "r.tsv", content)) == [("a\tb", "pos"), ("long\n" * 250_000, "neg")]

    def test_an_unquoted_text_may_be_long(self, tmp_path: Path) -> None:
        """No reader's limit cuts a long field: a text of two megabytes is one text, in CSV and TSV."""
        text = "word " * 400_000
        assert rows_of(open_(tmp_path / "r.tsv", f"text\tlabel\n{text}\tpos\n")) == [(text, "pos")]
        assert rows_of(open_(tmp_path / "r.csv", f"text,label\n{text},pos\n")) == [(text, "pos")]


class TestParquetTypes:
    @pytest.mark.parametrize(
        "kind",
        [
            pa.string(),
            pa.large_string(),
            pa.string_view(),
            pa.binary(),
            pa.dictionary(pa.int8(), pa.string()),
        ],
    )
    def test_texts(self, kind: pa.DataType, tmp_path: Path) -> None:
        """Every way in which Arrow stores strings is read."""
        values = pa.array(["a", None, "ß"], pa.string()).cast(kind)
        pq.write_table(pa.table({"text": values}), tmp_path / "r.parquet")
        assert [
            item.text if isinstance(item, Document) else item.reason for item in open_(tmp_path / "r.parquet")
        ] == [
            "a",
            "text missing",
            "ß",
        ]

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (pa.array([0, 1, None]), ["0", "1", None]),
            (pa.array([0.0, 2.5, float("nan")]), ["0.0", "2.5", None]),
            (pa.array([True, False, None]), ["true", "false", None]),
            (pa.array(["a", "", "a"]).dictionary_encode(), ["a", None, "a"]),
        ],
    )
    def test_labels(self, values: pa.Array, expected: list[str | None], tmp_path: Path) -> None:
        """Labels of any scalar type are read as text; null, NaN and the empty string are no label."""
        pq.write_table(pa.table({"text": ["x", "y", "z"], "label": values}), tmp_path / "r.parquet")
        assert [
            label for _, label in rows_of(open_(tmp_path / "r.parquet", label_column="label"))
        ] == expected

    def test_class_names_of_the_hub(self, tmp_path: Path) -> None:
        """The class names that `datasets` stores in Parquet's metadata are used; -1 is no label."""
        feature = {"names": ["neg", "pos"], "_type": "ClassLabel"}
        metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
        table = pa.table({"text": ["a", "b", "c"], "label": [1, -1, 0]}).replace_schema_metadata(metadata)
        pq.write_table(table, tmp_path / "r.parquet")
        source = open_(tmp_path / "r.parquet")
        assert source.class_names == ClassNames({0: "neg", 1: "pos"}, "r.parquet")
        assert rows_of(source) == [("a", "1"), ("b", None), ("c", "0")]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.csv", "train"),
        ("imdb-test-00000-of-00001.csv", "test"),
        ("Validation_2.csv", "validation"),
        ("plain_text/dev.csv", "dev"),
        ("trainset.csv", "train"),
        ("test/part-0.csv", "test"),
        ("a/Train/b/0.csv", "train"),
        ("split=my%20test/train.csv", "my test"),
        ("testimonials.csv", None),
        ("train_test.csv", None),
        ("reviews.csv", None),
    ],
)
def test_splits_by_name(name: str, split: str | None) -> None:
    """A split is a word of a file's name, a folder's name, or a Hive key; not a part of a word."""
    unread: Callable[[str], io.BytesIO] = lambda _: io.BytesIO()  # noqa: E731
    assert table_at(name, unread, "csv").split == split


class TestGuesses:
    """Columns recognised by their contents, if no name decides."""

    CHINESE = ("这部电影非常好看,我很喜欢它", "这部电影非常无聊,浪费时间和钱")

    @pytest.mark.parametrize("header", ["评论\t标签\n", "text_a\tlabel\n", ""])
    def test_texts_without_blanks_between_words(self, header: str, tmp_path: Path) -> None:
        """Chinese is running text, with a header and without."""
        rows = [(f"{text}{n}", str(n % 2)) for n in range(4) for text in self.CHINESE]
        content = header + "".join(f"{text}\t{label}\n" for text, label in rows)
        label = {"评论\t标签\n": "标签", "text_a\tlabel\n": None, "": None}[header]
        assert rows_of(open_(tmp_path / "r.tsv", content, label_column=label)) == rows

    def test_a_title_is_not_an_id_and_is_noted(self, tmp_path: Path) -> None:
        """The rows of Zhang et al. (2015): class, title, text."""
        rows = "".join(
            f'"{n % 5 + 1}","Thing {chr(97 + n)}","a text with several words, number {n}"\n'
            for n in range(10)
        )
        source = open_(tmp_path / "r.csv", rows)
        first = next(iter(source))
        assert isinstance(first, Document)
        assert (first.id, first.label) == ("r.csv:1", "1"), "five classes in ten rows are counted from 1"
        assert any("--text-column 2,3 joins columns" in note for note in source.notes)

    def test_columns_that_may_be_the_label_are_named(self, tmp_path: Path) -> None:
        """If two are equally likely, the user has to choose."""
        rows = "".join(f"{n % 2},{n % 2},a text with several words {n}\n" for n in range(8))
        source = open_(tmp_path / "r.csv", rows)
        assert any("--label-column 1 or 2 may name it" in note for note in source.notes)
