"""Delimited files are read as intended, or refused with the option that settles how to read them."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnstore.config import SourceConfig
from attnstore.data.documents import Document, Noticed, Rejected, Source
from attnstore.data.sources import open_source
from attnstore.data.survey import survey
from attnstore.errors import AttnstoreError, DataError, UsageError

REVIEWS = [
    ("a wonderful heartfelt picture", "pos"),
    ("dull and far too long", "neg"),
    ("loved it from the start", "pos"),
]


def open_(path: Path, content: str | bytes, **options: object) -> Source:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_source(SourceConfig(str(path), **options))  # type: ignore[arg-type]


def rows_of(source: Source) -> list[tuple[str, str | None]]:
    return [(item.text, item.label) for item in source if isinstance(item, Document)]


AG_NEWS = (
    '"3","Wall St. Bears Claw Back Into the Black","Reuters - Short-sellers are seeing green again this week."\n'
    '"4","A New Chip for Small Computers","A maker of chips showed a smaller one for cheap computers today."\n'
    '"1","Talks Go On in the Capital City","Both sides said that they would meet for talks again tomorrow."\n'
    '"2","Home Team Wins in Extra Time","A late goal gave the home team the match on Saturday evening."\n'
)
SMS = "ham\tsee you at the station then\nspam\tyou have won a prize call now\nham\tI will be there at six\nham\tok then we meet at noon\n"
SENTIMENT140 = "".join(
    f'"{4 * (n % 2)}","14678103{n:02}","Mon Apr 06 22:19:{n:02} PDT 2009","NO_QUERY","user{n}","that was a \u00e9 bad day {n}"\n'
    for n in range(8)
)


class TestHeader:
    @pytest.mark.parametrize(
        ("name", "content", "options", "expected"),
        [
            ("one column", "a fine film indeed\nnot a good one\nI slept through it\n", {},
             [("a fine film indeed", None), ("not a good one", None), ("I slept through it", None)]),
            ("one column with commas", "a fine film, indeed\nnot a good one\nI slept, twice, through it\n", {},
             [("a fine film, indeed", None), ("not a good one", None), ("I slept, twice, through it", None)]),
            ("a header of one word", "Bewertung\na fine film indeed\nnot a good one\nI slept through it\n", {},
             [("a fine film indeed", None), ("not a good one", None), ("I slept through it", None)]),
            ("names given", AG_NEWS, {"columns": ("label", "title", "text")},
             [("Reuters - Short-sellers are seeing green again this week.", "3"),
              ("A maker of chips showed a smaller one for cheap computers today.", "4"),
              ("Both sides said that they would meet for talks again tomorrow.", "1"),
              ("A late goal gave the home team the match on Saturday evening.", "2")]),
            ("names given that stand there", "label,text\n1,a fine film\n", {"columns": ("label", "text")}, [("a fine film", "1")]),
            ("places", "7|a fine film|pos\n8|a bad film|neg\n", {"header": False, "text_column": "2", "label_column": "3"},
             [("a fine film", "pos"), ("a bad film", "neg")]),
            ("numbers below words", "Kennung,Urteil\n1,gut gemacht\n2,schlecht gemacht\n", {"text_column": "Urteil"},
             [("gut gemacht", None), ("schlecht gemacht", None)]),
            ("told that there is none", "text,label\na,b\n", {"header": False, "text_column": "1"}, [("text", None), ("a", None)]),
            ("no row below", "a fine film was shown,pos\n", {}, [("a fine film was shown", None)]),
        ],
    )  # fmt: skip
    def test_a_header_differs_from_the_rows_below(
        self, name: str, content: str, options: dict[str, object],
        expected: list[tuple[str, str | None]], tmp_path: Path,
    ) -> None:  # fmt: skip
        """A first row that differs in kind from the column below it is a header; one of the same kind is a row."""
        assert rows_of(open_(tmp_path / "r.csv", content, **options)) == expected, name

    def test_that_may_be_either_is_refused(self, tmp_path: Path) -> None:
        """Single words above single words decide nothing. The error names the options that do."""
        with pytest.raises(
            UsageError, match=r"its first row \(words\) may be a header or not: .*--header or --no-header"
        ):
            open_(tmp_path / "r.csv", "words\none\ntwo\n")
        assert rows_of(open_(tmp_path / "r.csv", "words\none\n", header=True)) == [("one", None)]
        assert rows_of(open_(tmp_path / "r.csv", "words\none\n", header=False)) == [
            ("words", None),
            ("one", None),
        ]

    def test_more_names_than_columns_are_refused(self, tmp_path: Path) -> None:
        """`--columns` needs one name per column."""
        with pytest.raises(UsageError, match=r"--columns names 3 columns, r\.csv has 2"):
            open_(tmp_path / "r.csv", "1,a fine film\n", columns=("a", "b", "c"))


class TestAsDistributed:
    def test_ag_news(self, tmp_path: Path) -> None:
        """Title and description are both texts: refused, and joined by one option."""
        with pytest.raises(UsageError, match=r"2 columns that hold texts \(2, 3\).*--text-column 2,3"):
            open_(tmp_path / "test.csv", AG_NEWS)
        source = open_(tmp_path / "test.csv", AG_NEWS, text_column="2,3", label_column="1")
        assert rows_of(source)[1] == (
            "A New Chip for Small Computers A maker of chips showed a smaller one for cheap computers today.", "4"
        )  # fmt: skip

    def test_sms_spam(self, tmp_path: Path) -> None:
        """A file name without an ending needs `--format`, and nothing else."""
        with pytest.raises(UsageError, match="unknown file format: choose one with --format"):
            open_(tmp_path / "SMSSpamCollection", SMS)
        source = open_(tmp_path / "SMSSpamCollection", SMS, format="tsv")
        assert rows_of(source) == [tuple(line.split("\t")[::-1]) for line in SMS.splitlines()]

    def test_sentiment140(self, tmp_path: Path) -> None:
        """Latin-1 without a header: the encoding has to be given. The text is the only column of running text."""
        content = SENTIMENT140.encode("latin-1")
        with pytest.raises(
            DataError, match=r"is not UTF-8: byte 0xe9 in line 1 .*--encoding cp1252 fits, .* as '\u00e9'"
        ):
            open_(tmp_path / "train.csv", content)
        source = open_(tmp_path / "train.csv", content, encoding="latin-1")
        assert rows_of(source) == [(f"that was a \u00e9 bad day {n}", str(4 * (n % 2))) for n in range(8)]

    def test_sst2(self, tmp_path: Path) -> None:
        """GLUE's files: a labelled train.tsv beside a test.tsv that has an index instead of labels."""
        (tmp_path / "train.tsv").write_text("sentence\tlabel\nhide new secretions \t0\ncontains no wit \t1\n")
        (tmp_path / "test.tsv").write_text("index\tsentence\n0\tuneasy mishmash of styles\n")
        source = open_source(SourceConfig(str(tmp_path)))
        assert [(item.split, item.text, item.label) for item in source if isinstance(item, Document)] == [
            ("test", "uneasy mishmash of styles", None),
            ("train", "hide new secretions ", "0"),
            ("train", "contains no wit ", "1"),
        ]


class TestDelimiter:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("header", [("text", "label"), ("Bewertung", "Klasse")])
    def test_the_delimiter_gives_all_rows_the_same_width(
        self, delimiter: str, header: tuple[str, str], tmp_path: Path
    ) -> None:
        """Whatever the columns are called."""
        content = "".join(delimiter.join(row) + "\n" for row in [header, *REVIEWS, *REVIEWS])
        options = {"text_column": header[0], "label_column": header[1]}
        assert rows_of(open_(tmp_path / "r.csv", content, **options)) == REVIEWS * 2

    def test_excels_line_is_obeyed(self, tmp_path: Path) -> None:
        """`sep=;` is not a row, and names the delimiter."""
        source = open_(tmp_path / "r.csv", "sep=;\r\ntext;label\r\na, b;pos\r\n")
        assert rows_of(source) == [("a, b", "pos")]

    def test_that_may_be_either_is_refused(self, tmp_path: Path) -> None:
        """If two delimiters both fit every row, neither is guessed."""
        with pytest.raises(UsageError, match="separated by semicolon or by bar: choose one with --delimiter"):
            open_(tmp_path / "r.csv", "a|b;c\nd|e;f\n")
        assert rows_of(
            open_(tmp_path / "r.csv", "x|text;c\nd|e e;f\n", delimiter=";", text_column="x|text")
        ) == [("d|e e", None)]

    def test_blanks_after_the_delimiter_belong_to_it(self, tmp_path: Path) -> None:
        """As in `label, text`: a quote after the blank still quotes."""
        source = open_(tmp_path / "r.csv", 'label, text\npos, "well, good"\nneg, bad\n')
        assert rows_of(source) == [("well, good", "pos"), ("bad", "neg")]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"delimiter": ";;"},
            "--delimiter ';;': give one character that is no double quote and no line break",
        ),
        ({"delimiter": ""}, "--delimiter '': give one character that is no double quote and no line break"),
        (
            {"delimiter": '"'},
            "--delimiter '\"': give one character that is no double quote and no line break",
        ),
        ({"escape": "ab"}, "--escape 'ab': give one character that is no double quote and no line break"),
        ({"escape": "\n"}, r"--escape '\n': give one character that is no double quote and no line break"),
        ({"delimiter": ";", "escape": ";"}, "--delimiter and --escape are both ';': give two characters"),
    ],
)
def test_what_csv_can_not_separate_by_is_refused(tmp_path: Path, options: dict[str, str], told: str) -> None:
    """Python's csv raises a TypeError, or, from version to version, reads on."""
    with pytest.raises(UsageError) as refused:
        open_(tmp_path / "r.csv", "text;label\na fine film;pos\n", **options)
    assert str(refused.value) == told


class TestQuotes:
    def test_a_quote_that_is_never_closed_costs_only_its_row(self, tmp_path: Path) -> None:
        """The error gives its line and how many lines it would swallow. Reading continues at the next line."""
        content = (
            "text,label\n" + "".join(f"film {n},pos\n" for n in range(20)) + '"open,neg\n' + "film,neg\n" * 30
        )
        source = open_(tmp_path / "r.csv", content)
        assert len(rows_of(source)) == 50
        assert [item for item in source if isinstance(item, Rejected)] == [
            Rejected("r.csv row 21 (line 22, it would swallow 30 lines)", "a quote is not closed")
        ]

    def test_an_open_quote_closed_by_a_later_one_is_found(self, tmp_path: Path) -> None:
        """The rows between the two are read, because a closing quote must be followed by a delimiter."""
        content = 'text,label\n"open,neg\nfilm,pos\n"quoted, film",pos\nend,neg\n'
        source = open_(tmp_path / "r.csv", content)
        assert rows_of(source) == [("film", "pos"), ("quoted, film", "pos"), ("end", "neg")]

    def test_lines_after_an_open_quote_are_not_short_rows(self, tmp_path: Path) -> None:
        """The rest of a text with a broken quote does not become a document."""
        source = open_(tmp_path / "r.csv", 'text,label\n"one\ntwo" x,neg\nthree\nend,neg\n')
        assert rows_of(source) == [("three", None), ("end", "neg")]
        assert [item.reason for item in source if isinstance(item, Rejected)] == [
            "a quote is not closed",
            "malformed row",
        ]

    def test_too_many_open_quotes_are_refused(self, tmp_path: Path) -> None:
        """In such a file, quotes are apostrophes or inches, and its rows are not all damaged."""
        with pytest.raises(DataError, match="more than 100 rows open a quote that they do not close"):
            survey(open_(tmp_path / "r.csv", "text,label\n" + '"tis a film,pos\n' * 300))

    def test_sparks_escape(self, tmp_path: Path) -> None:
        r"""`\"` inside quotes does not end the quotes if the user says so."""
        content = 'text,label\n"he said \\"no\\", twice",pos\n'
        assert rows_of(open_(tmp_path / "r.csv", content, escape="\\")) == [('he said "no", twice', "pos")]

    def test_a_carriage_return_in_a_text_ends_no_row(self, tmp_path: Path) -> None:
        """Neither a quoted nor a bare one. A file in which it ends all rows is read, too."""
        assert rows_of(open_(tmp_path / "r.csv", b"text,label\ngreat \r film,pos\n\"a\r\nb\",neg\n")) == [
            ("great \r film", "pos"), ("a\r\nb", "neg")
        ]  # fmt: skip
        assert rows_of(open_(tmp_path / "mac.csv", b"text,label\rgreat film,pos\rbad,neg\r")) == [
            ("great film", "pos"), ("bad", "neg")
        ]  # fmt: skip


def test_short_rows_are_padded_and_counted(tmp_path: Path) -> None:
    """Cells missing at the end of a row are empty, and the survey counts such rows."""
    source = open_(tmp_path / "r.csv", "text,label,source\na fine film,pos\nb,neg,web\nc\n")
    assert rows_of(source) == [("a fine film", "pos"), ("b", "neg"), ("c", None)]
    assert len([item for item in source if isinstance(item, Noticed)]) == 2
    assert survey(source).notes == (
        "2 rows were shorter than its table: its last cells were taken for empty (the first r.csv row 1)",
    )


class TestAroundTheHeader:
    """What other programs write above, between and after the rows."""

    ROWS = "".join(f"{text},{label}\n" for text, label in REVIEWS * 2)

    @pytest.mark.parametrize(
        ("above", "said"),
        [
            ("My export\n", "'My export'"),
            ("# by me, on Monday\n# again\n", "'# by me, on Monday', '# again'"),
            ("My export,\n,\n", "'My export,', ','"),
        ],
    )
    def test_lines_above_the_header(self, above: str, said: str, tmp_path: Path) -> None:
        """A title, comments and blank rows are not documents.

        They are reported, and rows are counted from below them.
        """
        source = open_(tmp_path / "r.csv", f"{above}text,label\n{self.ROWS}")
        assert rows_of(source) == REVIEWS * 2
        assert f"left out above the header: {said}" in source.notes
        assert next(item.id for item in source if isinstance(item, Document)) == "r.csv:1"

    def test_a_row_that_is_like_a_title(self, tmp_path: Path) -> None:
        """Without a row of names below it, nothing is left out."""
        rows = "".join(f"{label},{text}\n" for text, label in REVIEWS * 2)
        source = open_(tmp_path / "r.csv", "one cell\n" + rows, header=False, text_column="1")
        assert not any("left out above" in note for note in source.notes)
        assert next(item.text for item in source if isinstance(item, Document)) == "one cell"

    def test_the_header_again(self, tmp_path: Path) -> None:
        """In concatenated tables, each further header is left out and counted."""
        table = f"text,label\n{self.ROWS}"
        source = open_(tmp_path / "r.csv", table * 2)
        assert rows_of(source) == REVIEWS * 4
        assert [item for item in source if isinstance(item, Rejected)] == [
            Rejected("r.csv row 7", "the header again")
        ]

    def test_columns_without_names_or_values(self, tmp_path: Path) -> None:
        """The SMS collection as on Kaggle: `v1,v2,,,` is a header."""
        rows = "".join(
            f"{('ham', 'spam')[n % 2]},{text} indeed,,,\n" for n, (text, _) in enumerate(REVIEWS * 2)
        )
        source = open_(tmp_path / "r.csv", f"v1,v2,,,\n{rows}", label_column="v1")
        assert rows_of(source)[:2] == [
            (f"{REVIEWS[0][0]} indeed", "ham"),
            (f"{REVIEWS[1][0]} indeed", "spam"),
        ]
        assert len(rows_of(source)) == 6

    def test_rows_that_end_with_a_delimiter(self, tmp_path: Path) -> None:
        """The header does not end with one. The empty cell after it is ignored, unless only some rows have it."""
        rows = self.ROWS.replace("\n", ",\n")
        assert rows_of(open_(tmp_path / "r.csv", f"text,label\n{rows}")) == REVIEWS * 2
        mixed = open_(tmp_path / "s.csv", f"text,label\n{self.ROWS}{self.ROWS}a fine film,pos,\n")
        assert len(rows_of(mixed)) == 12

    def test_few_rows_do_not_decide_the_delimiter(self, tmp_path: Path) -> None:
        """Without a header, a row or two may have matching commas by chance; column names or quotes decide."""
        row = "neg;this, so to speak; a2\n"
        with pytest.raises(UsageError, match="by comma or by semicolon: choose one with --delimiter"):
            open_(tmp_path / "r.csv", row.replace("; a2", ""), header=False)
        named = open_(tmp_path / "r.csv", row, columns=("label", "text", "id"))
        assert rows_of(named) == [("this, so to speak", "neg")]
        in_quotes = open_(tmp_path / "r.csv", 'neg;"this, so ""to"" speak"\n', columns=("label", "text"))
        assert rows_of(in_quotes) == [('this, so "to" speak', "neg")]

    def test_escapes_between_tabs(self, tmp_path: Path) -> None:
        """Kaggle's labeledTrainData.tsv: its quotes used to become part of each text and id."""
        rows = [(f"{n}_8", f'so "{text}", they say', label) for n, (text, label) in enumerate(REVIEWS * 2)]
        content = "id\treview\tsentiment\n" + "".join(
            "\t".join((f'"{id_}"', '"{}"'.format(text.replace('"', '\\"')), label)) + "\n"
            for id_, text, label in rows
        )
        with pytest.raises(
            UsageError, match=r"^r.tsv: quotes in it are written \\\", as Spark does: --escape"
        ):
            open_(tmp_path / "r.tsv", content)
        source = open_(tmp_path / "r.tsv", content, escape="\\")
        assert [(item.id, item.text, item.label) for item in source if isinstance(item, Document)] == rows

    def test_quotes_that_spark_escapes(self, tmp_path: Path) -> None:
        """If most rows have them, the run stops; if only a few do, a note says how to read these."""
        escaped = "".join(f'"so \\"{text}, they say\\" it is",{label}\n' for text, label in REVIEWS * 2)
        with pytest.raises(
            UsageError, match=r"^r.csv: quotes in it are written \\\", as Spark does: --escape"
        ):
            open_(tmp_path / "r.csv", f"text,label\n{escaped}")
        source = open_(tmp_path / "r.csv", f"text,label\n{self.ROWS * 4}{escaped}")
        assert any("without it such rows are malformed" in note for note in source.notes)
        assert len(rows_of(open_(tmp_path / "r.csv", f"text,label\n{escaped}", escape="\\"))) == 6

    @pytest.mark.parametrize(("sign", "shown"), [("~", "'~'"), (":", "':'"), ("\x01", r"$'\x01'")])
    def test_unusual_delimiters(self, sign: str, shown: str, tmp_path: Path) -> None:
        """They are neither taken for text nor guessed."""
        table = f"text,label\n{self.ROWS}".replace(",", sign)
        with pytest.raises(UsageError) as caught:
            open_(tmp_path / "r.csv", table)
        assert f"columns separated by {shown}: --delimiter {shown} reads them so" in str(caught.value)
        assert rows_of(open_(tmp_path / "r.csv", table, delimiter=sign)) == REVIEWS * 2

    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
    def test_utf_16_without_a_mark(self, encoding: str, tmp_path: Path) -> None:
        """It is not called binary."""
        table = f"text,label\n{self.ROWS}".encode(encoding)
        with pytest.raises(DataError, match=rf"^r.csv is UTF-16, not UTF-8: give --encoding {encoding}$"):
            open_(tmp_path / "r.csv", table)
        assert rows_of(open_(tmp_path / "r.csv", table, encoding=encoding)) == REVIEWS * 2


class TestEncoding:
    def test_a_broken_byte_in_utf8_costs_only_its_row(self, tmp_path: Path) -> None:
        """A file with some valid UTF-8 characters is UTF-8 with a bad row."""
        content = "text,label\ncaf\u00e9,pos\n".encode() + b"bad \xff,neg\n"
        source = open_(tmp_path / "r.csv", content)
        assert rows_of(source) == [("caf\u00e9", "pos")]
        assert [item.reason for item in source if isinstance(item, Rejected)] == ["not UTF-8"]

    @pytest.mark.slow
    def test_another_encoding_is_refused_wherever_it_shows(self, tmp_path: Path) -> None:
        """Also after the first megabyte, because otherwise only the rows without accents would be left."""
        content = (
            b"text,label\n"
            + b"plain text %b,pos\n" % (b"-" * 400) * 3_000
            + "caf\u00e9,neg\n".encode("cp1252") * 5
        )
        with pytest.raises(DataError, match=r"line 3,002 is not UTF-8.*--encoding cp1252"):
            survey(open_(tmp_path / "r.csv", content))
        assert len(rows_of(open_(tmp_path / "r.csv", content, encoding="cp1252"))) == 3_005

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252", "latin-1", "utf-8"])
    def test_a_given_encoding_is_read(self, encoding: str, tmp_path: Path) -> None:
        """The texts are those that were written."""
        content = "text,label\ncaf\u00e9,pos\n\u00fcbel,neg\n".encode(encoding)
        assert rows_of(open_(tmp_path / "r.csv", content, encoding=encoding)) == [
            ("caf\u00e9", "pos"),
            ("\u00fcbel", "neg"),
        ]

    def test_utf16_and_unknown_names_say_what_to_do(self, tmp_path: Path) -> None:
        """One line each."""
        with pytest.raises(DataError, match="is UTF-16, not UTF-8: give --encoding utf-16"):
            open_(tmp_path / "r.csv", "text\na\n".encode("utf-16"))
        with pytest.raises(UsageError, match="--encoding klingon is not known"):
            open_(tmp_path / "r.csv", "text\na\n", encoding="klingon")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132\n",
            "is a git-LFS pointer",
        ),
        (b"\n<!DOCTYPE html>\n<html><body>login</body></html>\n", "is an HTML page"),
        (b'{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n', "holds JSON, not a table"),
        (b'[{"text": "a"}]', "holds JSON, not a table"),
        (bytes(range(1, 255)) * 9, "is binary, not text"),
        ("text,label\na,pos\n".encode("utf-32"), "is UTF-32, not UTF-8: give --encoding utf-32"),
        (
            b"text,label\n" + b"a fine film,pos\n" * 9 + b"b\0d,neg\n",
            "holds NUL bytes, the first in line 11: take",
        ),
    ],
)
def test_a_file_of_another_kind_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    """A file whose contents do not match its name is refused with its real kind."""
    with pytest.raises(AttnstoreError, match=message):
        open_(tmp_path / "train.csv", content)


class TestColumns:
    def test_joined_with_a_space(self, tmp_path: Path) -> None:
        """Several text columns are one text; empty ones add no space."""
        source = open_(tmp_path / "r.csv", "title,body,label\nA,b c,pos\n,d,neg\n", text_column="title,body")
        assert rows_of(source) == [("A b c", "pos"), ("d", "neg")]

    def test_another_text_column_is_reported(self, tmp_path: Path) -> None:
        """A column of texts that is not read is mentioned."""
        rows = "".join(f"the title of film {n} here,and this is review {n} of it,pos\n" for n in range(5))
        source = open_(tmp_path / "r.csv", "headline,text,label\n" + rows)
        assert (
            "headline holds texts, too, and is not read: --text-column headline,text joins columns, and with --pair the"
            " model reads both as a pair" in source.notes
        )

    @pytest.mark.parametrize("header", ["score", "label", "rating"])
    def test_votes_and_fractions_are_not_labels(self, header: str, tmp_path: Path) -> None:
        """A column of fractions, or one called `score`, is not guessed to be the label."""
        rows = "".join(f"a film {n},{n / 7}\n" for n in range(40))
        source = open_(tmp_path / "r.csv", f"text,{header}\n{rows}")
        assert {label for _, label in rows_of(source)} == {None}
        assert rows_of(open_(tmp_path / "r.csv", f"text,{header}\n{rows}", label_column=header))[1][1] == str(
            1 / 7
        )

    def test_a_file_whose_label_is_another_column_is_refused(self, tmp_path: Path) -> None:
        """Files of one data set must take their labels from the same column."""
        (tmp_path / "1.csv").write_text("text,label\na,pos\n")
        (tmp_path / "2.csv").write_text("text,stars\nb,4\n")
        with pytest.raises(
            DataError, match=r"2\.csv has no column 'label', the label in the files before it"
        ):
            open_source(SourceConfig(str(tmp_path)))


@pytest.mark.slow
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12), st.sampled_from("ab")
        ),
        min_size=1,
    ),
    dialect=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_files_of_pythons_csv_writer_are_read(
    rows: list[tuple[str, str]],
    dialect: str,
    quoting: int,
    ending: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """With any delimiter, quoting and line end, every text and label is read back, or the file is refused."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter=dialect, quoting=quoting, lineterminator=ending)  # type: ignore[arg-type]
    writer.writerows([("text", "label"), *rows])
    source = open_(
        tmp_path_factory.mktemp("written") / "r.csv", sink.getvalue(), delimiter=dialect, header=True
    )
    assert rows_of(source) == rows
