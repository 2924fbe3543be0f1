"""A source read once: counts, notes, and the hash."""

import hashlib
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written import CONTAINERS, IMDB_TEST, IMDB_TRAIN, open_, write_imdb, write_tar

from attnstore.data import sources
from attnstore.data import survey as surveys
from attnstore.data.documents import Document, Source
from attnstore.data.survey import survey
from attnstore.errors import DataError
from attnstore.events import Surveyed


@pytest.fixture(params=CONTAINERS)
def imdb(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_imdb(request.param, tmp_path)


class TestSurvey:
    def test_the_hash_is_of_the_documents(self, imdb: Path) -> None:
        """The hash covers length-prefixed split, id, group, label and text, whatever the container."""
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

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["csv", "jsonl", "tar"])
    def test_memory_does_not_grow_with_the_documents(
        self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Beyond what may be kept in memory: four times the documents have the same peak of Python's memory within 10
        %.
        """
        monkeypatch.setattr(surveys, "MAX_REMEMBERED", 150)
        monkeypatch.setattr(surveys, "_HELD", 1 << 19)
        monkeypatch.setattr(sources, "_HELD", 1 << 19)
        text = "word " * 400
        peaks = {}
        for rows in (600, 2_500):
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
        assert peaks[2_500] < 1.1 * peaks[600]

    def test_a_thousand_rejected_rows_are_listed(self, tmp_path: Path) -> None:
        """All rejected rows are counted, and the first 1,000 are listed."""
        path = tmp_path / "r.jsonl"
        path.write_text('{"text": "a"}\n' + '{"text": null}\n' * 1500)
        found = survey(open_(path))
        assert found.rejected == {"text missing": 1500}
        assert found.rejected_rows == tuple(f"r.jsonl row {n}: text missing" for n in range(2, 1002))

    def test_repeated_ids_are_noted_and_kept(self, tmp_path: Path) -> None:
        """Ids of the source stay as they are; a repetition is noted."""
        path = tmp_path / "r.csv"
        path.write_text("id,text\nx,one\ny,two\nx,three\n")
        source = open_(path)
        assert [item.id for item in source if isinstance(item, Document)] == ["x", "y", "x"]
        assert survey(source).notes == ("ids repeat: 'x' is the id of more than one document",)

    def test_a_label_column_without_classes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """One with thousands of values is an error that says what to do."""
        monkeypatch.setattr(surveys, "MAX_LABELS", 3)
        path = tmp_path / "r.csv"
        path.write_text("text,rating\n" + "".join(f"a,{n}.5\n" for n in range(5)))
        with pytest.raises(DataError, match=r"more than 3 labels, the last '3.5': these are not classes"):
            survey(open_(path, label_column="rating"))

    @pytest.mark.slow
    @given(st.lists(st.tuples(st.text(), st.none() | st.sampled_from("ab")), min_size=2, max_size=6))
    def test_the_hash_distinguishes_documents(self, rows: list[tuple[str, str | None]]) -> None:
        """Moving a character from one field or document to the next changes the hash."""

        def hash_of(items: list[Document]) -> str:
            return survey(Source("test", (), (), None, lambda: iter(items))).sha256

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

    def test_empty_texts_are_documents_and_are_counted(self, tmp_path: Path) -> None:
        """A cell without a text is a document without words; a note counts them."""
        (tmp_path / "a.csv").write_text('text,label\n,x\n" ",y\ngood,x\n')
        found = survey(open_(tmp_path / "a.csv"))
        assert (found.documents, found.notes) == (
            3,
            ("2 of 3 texts are empty: they are documents without a word",),
        )


def test_the_reading_is_reported_from_the_first_document_on(tmp_path):
    """The number of documents read so far, and the total at the end."""
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"a film {n},pos\n" for n in range(250)))
    told = []
    survey(open_(path), told.append)
    assert told == [*(Surveyed(n, None) for n in (1, 101, 201)), Surveyed(250, 250)]
