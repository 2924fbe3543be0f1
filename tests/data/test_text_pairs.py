"""Two columns as a pair: which columns they are, which rows are not pairs, and what is refused."""

import json

import pytest
from shared import shared

from attnstore.config import SourceConfig
from attnstore.data.documents import Document, Rejected, Source
from attnstore.data.sources import open_source
from attnstore.data.survey import survey
from attnstore.errors import UsageError

ROWS = [
    ("who made this film", "it was made by me", "yes"),
    ("when was this film made", "never and nowhere", "no"),
    ("why would you ask me", "for no reason at all", "no"),
]


def opened(path, rows=ROWS, header=("premise", "hypothesis", "label"), **options) -> Source:
    path.write_text("\n".join([",".join(header), *(",".join(row) for row in rows)]) + "\n")
    return open_source(SourceConfig(str(path), **options))


def pair(path, rows=ROWS, **options) -> Source:
    return opened(path, rows, **{"text_column": "premise,hypothesis", "pair": True, **options})


@pytest.mark.parametrize(
    "wanted", ["premise,hypothesis", "1,2", " Premise , HYPOTHESIS", "hypothesis,premise"]
)
def test_the_two_columns_are_the_two_texts_in_the_given_order(wanted, tmp_path):
    """By name or position; the label is found beside them."""
    found = list(pair(tmp_path / "r.csv", text_column=wanted))
    turned = wanted.startswith("hypothesis")
    assert found == [
        Document(b if turned else a, f"r.csv:{n}", None, "all", label, text_pair=a if turned else b)
        for n, (a, b, label) in enumerate(ROWS, start=1)
    ]


@pytest.mark.parametrize("kind", ["jsonl", "held"])
def test_a_pair_with_a_text_without_words_is_no_document(kind, tmp_path):
    """Empty, blank, missing, or of another type: counted, and named by row and side."""
    texts = [("a", "b"), ("a", ""), ("a", None), ("", "b"), (None, "b"), ("a", " \n"), ("a", 3), ("a", ["b"])]
    rows = [{"premise": a, "hypothesis": b} for a, b in texts]
    if kind == "held":
        source = open_source(SourceConfig("r", held=rows, text_column="premise,hypothesis", pair=True))
    else:
        (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = SourceConfig(str(tmp_path / "r.jsonl"), text_column="premise,hypothesis", pair=True)
        source = open_source(config)
    found = list(source)
    assert [item.text_pair for item in found if isinstance(item, Document)] == ["b"]
    reasons = [item.reason for item in found if isinstance(item, Rejected)]
    second, first = (f"{side} text of the pair is empty or missing" for side in ("second", "first"))
    assert reasons == [
        second, second, first, "text missing", second,
        *["second text of the pair is not a string"] * 2,
    ]  # fmt: skip
    assert found[1].where.endswith("row 2")


def test_a_second_text_that_is_not_utf_8_is_rejected_like_a_first(tmp_path):
    """Bytes of another encoding in either text cost only that row."""
    path = tmp_path / "r.csv"
    path.write_bytes(
        b"a,b\n" + "\u00e9t\u00e9,good\n".encode() + b"good,\xe9t\xe9\n" + b"plain,plain\n" * 200
    )
    found = list(open_source(SourceConfig(str(path), text_column="a,b", pair=True)))
    assert found[1] == Rejected("r.csv row 2", "not UTF-8")
    assert len([item for item in found if isinstance(item, Document)]) == 201


def test_the_hash_of_the_data_is_of_both_texts_in_their_order(tmp_path):
    """Joined, paired, paired in the other order, and with another second text: four different data sets."""
    changed = [(a, b + "!", label) for a, b, label in ROWS]
    found = [
        survey(pair(tmp_path / "a.csv", pair=False)).sha256,
        survey(pair(tmp_path / "a.csv")).sha256,
        survey(pair(tmp_path / "a.csv", text_column="hypothesis,premise")).sha256,
        survey(pair(tmp_path / "a.csv", changed)).sha256,
    ]
    assert len(set(found)) == 4
    assert survey(pair(tmp_path / "a.csv")).sha256 == found[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_column": None}, "name them with --text-column A,B; r.csv has premise, hypothesis, label: they may"
                                " be --text-column premise,hypothesis"),
        ({"text_column": "premise"}, "--text-column names premise: name two, as A,B"),
        ({"text_column": "premise,hypothesis,label"}, "names premise, hypothesis, label: name two, as A,B"),
        ({"text_column": "premise,premise"}, "names the column 'premise' twice: name two, as A,B"),
        ({"text_column": "premise,PREMISE"}, "names the column 'premise' twice: name two, as A,B"),
        ({"text_column": "premise,hypotheses"}, "no column 'hypotheses' .*: did you mean 'hypothesis'"),
        ({"text_column": "premise,"}, "no column '' "),
        ({"label_column": "hypothesis"}, "the column 'hypothesis' can't be both the text and the label"),
    ],
)  # fmt: skip
def test_invalid_pairs_of_columns_are_refused(options, message, tmp_path):
    """One line, which lists the columns."""
    with pytest.raises(UsageError, match=message):
        pair(tmp_path / "r.csv", **options)


def test_a_label_that_is_read_as_a_text_is_reported(tmp_path):
    """It may be a mistake."""
    source = pair(tmp_path / "r.csv", text_column="premise,label")
    assert "the column 'label' is read as a text of the pair, not as the label" in source.notes


@pytest.mark.parametrize(
    "header",
    [("premise", "hypothesis"), ("sentence1", "sentence2"), ("Question1", "Question2"), ("one", "other")],
)
def test_two_columns_of_texts_need_a_choice(header, tmp_path):
    """The error shows both ways to read them, whether their names are usual ones or the cells are running text."""
    message = f"2 columns that hold texts .*{header[0]}, {header[1]}.* --text-column {','.join(header)}; with --pair"
    with pytest.raises(UsageError, match=message):
        opened(tmp_path / "r.csv", header=(*header, "label"))


def test_short_texts_with_names_of_pairs_are_a_pair(tmp_path):
    """Single words are not running text, but the column names decide."""
    rows = [("film", "movie", "yes"), ("good", "bad", "no")]
    with pytest.raises(UsageError, match="--text-column sentence1,sentence2; with --pair beside that"):
        opened(tmp_path / "r.csv", rows, header=("sentence1", "sentence2", "label"))


@pytest.mark.parametrize("names", [("pos/a.txt", "neg/b.txt"), ("train.txt",)])
def test_text_files_hold_no_pairs(names, tmp_path):
    """Neither class folders nor files with one text per line."""
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a good film\nanother one\n")
    with pytest.raises(UsageError, match=r"--pair reads two columns of a table, and .* holds text files"):
        open_source(SourceConfig(str(tmp_path), pair=True))


def test_qnli_says_that_two_columns_hold_texts_and_reads_them_as_a_pair():
    """The case in ../shared/cases: no text is left out without a message."""
    data = str(shared("cases/data/qnli"))
    note = next(note for note in open_source(SourceConfig(data)).notes if "question" in note)
    assert note == (
        "question holds texts, too, and is not read: --text-column question,sentence joins columns, and with --pair the"
        " model reads both as a pair"
    )
    with pytest.raises(UsageError, match="they may be --text-column question,sentence"):
        open_source(SourceConfig(data, pair=True))
    found = list(open_source(SourceConfig(data, text_column="question,sentence", pair=True)))
    assert [(item.text, item.text_pair, item.label) for item in found] == [
        ("who?", "it was me", "entailment"),
        ("when?", "never", "not_entailment"),
    ]
