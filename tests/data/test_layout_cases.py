"""The layouts in ../shared/cases give the results in CASES.md. Each kind also has its own tests elsewhere."""

import pytest
from shared import shared

from attnstore.config import SourceConfig
from attnstore.data.documents import Document, Rejected, Source
from attnstore.data.sources import open_source
from attnstore.data.survey import survey
from attnstore.errors import AttnstoreError

FIRST = "a wonderful heartfelt picture"


def opened(case: str, **options: object) -> Source:
    return open_source(SourceConfig(str(shared(f"cases/data/{case}")), **options))  # type: ignore[arg-type]


def documents(source: Source) -> list[Document]:
    return [item for item in source if isinstance(item, Document)]


@pytest.mark.parametrize(
    ("case", "count", "first", "labels"),
    [
        ("hl_single", 16, FIRST, {None}),
        ("hl_tsv3", 16, FIRST, {"pos", "neg"}),
        ("tw3", 16, FIRST, {None}),
        ("semi_un", 16, FIRST, {None}),
        ("excel", 2, "great", {"pos", "neg"}),
        ("sq", 3, "well, good", {"pos", "neg"}),
        ("cr2", 2, "great \r film", {"pos", "neg"}),
        ("flair", 6, "great film", {"pos", "neg"}),
        ("tweeteval", 6, "@user great day", {"0", "1"}),
        ("posneg_txt", 4, "bad film", {"pos", "neg"}),
        ("news20", 16, "From: a\n\ndull and far too long", {"alt.atheism", "sci.space"}),
        ("hubcache", 16, FIRST, {"pos", "neg"}),
        ("prod", 8, FIRST, {"POS"}),
        ("kaggle2", 32, FIRST, {"0", "1", None}),
        ("spark", 16, FIRST, {"pos", "neg"}),
        ("qnli", 2, "it was me", {"entailment", "not_entailment"}),
    ],
)
def test_the_documents_are_the_intended_ones(case, count, first, labels):
    """The number of documents, their texts and their labels."""
    found = documents(opened(case))
    assert len(found) == count
    assert found[0].text == first
    assert {document.label for document in found} == labels


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("lfs", "is a git-LFS pointer"),
        ("html", "is an HTML page"),
        ("latin1", "--encoding cp1252 fits"),
    ],
)
def test_files_that_are_not_data_are_refused(case, message):
    """One line that says what the file is, and what to do."""
    with pytest.raises(AttnstoreError, match=message):
        survey(opened(case))


def test_latin_1_is_read_with_its_option():
    """All rows, with their accents."""
    found = documents(opened("latin1", encoding="latin-1"))
    assert any("café" in document.text for document in found)


def test_an_open_quote_costs_one_row():
    """Its line is reported, and the rows after it are read."""
    source = opened("oq")
    bad = [item for item in source if isinstance(item, Rejected)]
    assert bad[0] == Rejected("r.csv row 11 (line 12, it would swallow 96 lines)", "a quote is not closed")
    assert len(documents(source)) == 100
    assert {item.reason for item in bad[1:]} == {"malformed row"}  # an unquoted comma


def test_a_tar_of_tables_is_its_tables():
    """The readme and the list of classes are not documents; the table has no header."""
    source = opened("tc")
    found = documents(source)
    assert (found[0].text, found[0].label, found[0].split) == (FIRST, "pos", "train")
    assert {document.label for document in found} == {"pos", "neg"}
    assert "ag_news_csv/train.csv has no header: its column 2 was taken for the text" in source.notes


def test_the_other_text_of_a_pair_is_not_dropped_in_silence():
    """A note names the column that is not read."""
    assert any("question holds texts, too, and is not read" in note for note in opened("qnli").notes)
