"""Workbooks as pandas and Polars write them: complete documents."""

import io
import sys
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from shared import shared
from written import open_, write_zip

from attnstore.data.documents import Document
from attnstore.errors import DataError, UsageError

FRAME = pd.DataFrame({"text": ["a fine film", "dull; and\nlong"], "label": [1, 0], "score": [0.5, None]})
EXPECTED = [
    Document("a fine film", "r.xlsx:1", None, "all", "1"),
    Document("dull; and\nlong", "r.xlsx:2", None, "all", "0"),
]


def workbook(**sheets: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    with pd.ExcelWriter(sink, engine="openpyxl") as writer:
        for name, frame in sheets.items():
            frame.to_excel(writer, sheet_name=name, index=False)
    return sink.getvalue()


@pytest.mark.slow
def test_documents(tmp_path: Path) -> None:
    """Whole numbers are labels without a decimal point, and rows can be read any number of times."""
    (tmp_path / "r.xlsx").write_bytes(workbook(one=FRAME))
    source = open_(tmp_path / "r.xlsx")
    assert (list(source), list(source)) == (EXPECTED, EXPECTED)


def test_a_workbook_by_another_name(tmp_path: Path) -> None:
    """Its contents distinguish it from other zip archives."""
    (tmp_path / "r").write_bytes(workbook(one=FRAME))
    assert [each.text for each in open_(tmp_path / "r") if isinstance(each, Document)] == list(FRAME["text"])


def test_a_workbook_in_an_archive(tmp_path: Path) -> None:
    """A member of an archive is read like a file."""
    write_zip(tmp_path / "a.zip", {"r.xlsx": workbook(one=FRAME)})
    assert list(open_(tmp_path / "a.zip")) == EXPECTED


def test_sheets(tmp_path: Path) -> None:
    """The first sheet is read and the others are mentioned; another one can be chosen by name."""
    other = pd.DataFrame({"text": ["from the other sheet"], "label": ["pos"]})
    path = tmp_path / "r.xlsx"
    path.write_bytes(workbook(first=FRAME, second=other))
    source = open_(path)
    assert list(source) == EXPECTED
    assert "r.xlsx: the sheet 'first' is read, not second: FILE::SHEET names one" in source.notes
    assert list(open_(f"{path}::second")) == [
        Document("from the other sheet", "r.xlsx:1", None, "all", "pos")
    ]
    with pytest.raises(
        UsageError, match=r"r.xlsx has no sheet 'secnd', it has first, second: did you mean 'second'"
    ):
        open_(f"{path}::secnd")


def test_without_a_header(tmp_path: Path) -> None:
    """Names from `--columns` replace a header, or stand in for a missing one."""
    sink = io.BytesIO()
    FRAME.to_excel(sink, index=False, header=False)
    (tmp_path / "r.xlsx").write_bytes(sink.getvalue())
    assert list(open_(tmp_path / "r.xlsx", columns=("text", "label", "score"))) == EXPECTED
    with pytest.raises(UsageError, match=r"r.xlsx without a header: give its columns' names with --columns"):
        open_(tmp_path / "r.xlsx", header=False)


@pytest.mark.parametrize("name", ["r.xlsx", "r.xls"])
def test_damaged(name: str, tmp_path: Path) -> None:
    """A file that is not a workbook, or only part of one, is a one-line error."""
    (tmp_path / name).write_bytes(workbook(one=FRAME)[:3000])
    with pytest.raises(DataError, match=rf"^{name} is not a readable workbook: [^\n]+$"):
        open_(tmp_path / name)


def test_an_empty_sheet(tmp_path: Path) -> None:
    """A sheet without a cell is a one-line error."""
    (tmp_path / "r.xlsx").write_bytes(workbook(one=pd.DataFrame()))
    with pytest.raises(DataError, match=r"^r.xlsx: its sheet 'one' is empty$"):
        open_(tmp_path / "r.xlsx")


def test_without_fastexcel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra is one line that says what to install."""
    (tmp_path / "r.xlsx").write_bytes(workbook(one=FRAME))
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    with pytest.raises(UsageError, match=r"^r.xlsx is a workbook, .*: pip install 'attnstore\[excel\]'$"):
        open_(tmp_path / "r.xlsx")


def test_shared_case() -> None:
    """The case `excel_x` is read without an option."""
    found = [each for each in open_(shared("cases/data/excel_x")) if isinstance(each, Document)]
    assert (len(found), found[0].text, found[-1].text) == (16, "a wonderful heartfelt picture", "badly made")


def test_a_first_row_that_is_no_header(tmp_path: Path) -> None:
    """The first review is not taken for a column's name."""
    frame = pd.DataFrame([(f"a film of which number {n} is said", ("pos", "neg")[n % 2]) for n in range(8)])
    frame.to_excel(tmp_path / "r.xlsx", index=False, header=False)
    with pytest.raises(
        UsageError, match=r"its first row \(a film of which number 0 is said, pos\) is not a header"
    ):
        open_(tmp_path / "r.xlsx")
    named = open_(tmp_path / "r.xlsx", columns=("text", "label"))
    assert len([each for each in named if isinstance(each, Document)]) == 8


def sheet(*rows: tuple[object, ...]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(list(row))
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


TABLE = [("text", "label"), ("a fine film", "pos"), ("dull and long", "neg")]


@pytest.mark.parametrize(
    ("above", "titles"),
    [
        ([("Reviews of 2020",), ()], "'Reviews of 2020'"),
        ([("Reviews", None), ("By", "me")], "'Reviews', 'By'"),
        ([(), ()], ""),
    ],
)
def test_titles_above_the_header(above: list[tuple[object, ...]], titles: str, tmp_path: Path) -> None:
    """They are left out and reported. A title used to become the text column's name, and the header a review."""
    (tmp_path / "r.xlsx").write_bytes(sheet(*above, *TABLE))
    source = open_(tmp_path / "r.xlsx")
    assert [(each.text, each.label) for each in source if isinstance(each, Document)] == TABLE[1:]
    said = [note for note in source.notes if note.startswith("left out above the header")]
    assert said == ([f"left out above the header: {titles}"] if titles else [])


def test_a_title_above_unusual_column_names(tmp_path: Path) -> None:
    """The first row with several cells is the header."""
    rows = [("Kundenbewertungen",), (), ("Rezension", "Klasse"), ("ein sehr guter langer Film", "gut")]
    (tmp_path / "r.xlsx").write_bytes(sheet(*rows))
    source = open_(tmp_path / "r.xlsx", label_column="Klasse")
    assert [(each.text, each.label) for each in source if isinstance(each, Document)] == rows[3:]
