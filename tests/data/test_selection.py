"""Which documents are taken, and what is left out."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written import open_

from attnstore.data import survey as survey_module
from attnstore.data.documents import Document, Noticed, Rejected, Source
from attnstore.data.labels import LabelMap, match_labels
from attnstore.data.selection import count_documents, read_documents, rejections
from attnstore.data.survey import Survey, survey
from attnstore.errors import DataError


class TestReadDocuments:
    def rows(self, tmp_path: Path) -> Source:
        path = tmp_path / "r.csv"
        labels = ["neg", "", "POS", "what", "pos", "neg", "huh"]
        path.write_text("text,label\n" + "".join(f"t{n},{label}\n" for n, label in enumerate(labels)))
        return open_(path)

    def test_labels_are_mapped_and_unknown_ones_left_out(self, tmp_path: Path) -> None:
        """The stream has the model's labels. A row with another label is left out, one without a label is kept."""
        source = self.rows(tmp_path)
        found = survey(source)
        labels = match_labels(found, ["neg", "pos"], ["huh=neg"])
        read = list(read_documents(source, found, labels))
        assert [(item.text, item.label) for item in read] == [
            ("t0", "neg"),
            ("t1", None),
            ("t2", "pos"),
            ("t4", "pos"),
            ("t5", "neg"),
            ("t6", "neg"),
        ]
        assert count_documents(found, labels) == 6
        told = rejections(found, labels)
        assert told.counts == {"unknown label 'what'": 1}
        assert told.rows == ("r.csv:4: unknown label 'what'",)

    def test_one_unknown_label_leaves_nothing_out(self, tmp_path: Path) -> None:
        """Without --labels, labels that are not all the model's are kept as they are, with all rows."""
        source = self.rows(tmp_path)
        found = survey(source)
        labels = match_labels(found, ["neg", "pos"])
        read = list(read_documents(source, found, labels))
        assert [item.label for item in read] == ["neg", None, "POS", "what", "pos", "neg", "huh"]
        assert (labels.are_models, rejections(found, labels, strict=True).counts) == (False, {})

    def test_strict_names_the_first(self, tmp_path: Path) -> None:
        """--strict turns rejected rows into a one-line error that names the first."""
        source = self.rows(tmp_path)
        found = survey(source)
        with pytest.raises(DataError) as caught:
            rejections(found, match_labels(found, ["neg", "pos"], ["neg=neg"]), strict=True)
        assert str(caught.value) == (
            "r.csv:4: unknown label 'what', and 1 more rows were rejected:"
            " fix the data, or leave --strict out to skip such rows"
        )

    def test_many_unknown_labels_are_counted_together(self) -> None:
        """The first 50 by name, the others in one count, so that the manifest stays small."""
        counts = {f"label {n}": 1 for n in range(60)}
        found = Survey(60, counts, 0, {}, (), "")
        told = rejections(found, LabelMap({}, True, None, ("neg", "pos")))
        assert told.counts == {f"unknown label 'label {n}'": 1 for n in range(50)} | {"other labels": 10}

    @given(total=st.integers(1, 200), limit=st.integers(1, 250))
    def test_a_limit_is_spread_evenly(self, total: int, limit: int) -> None:
        """The steps between the `limit` documents differ by one at most; the first document is taken."""
        items = [Document("t", str(n), None, "all", None) for n in range(total)]
        source = Source("test", (), (), None, lambda: iter(items))
        found = survey(source)
        labels = match_labels(found, ["neg", "pos"])
        taken = [int(item.id) for item in read_documents(source, found, labels, limit)]
        assert len(taken) == min(limit, total) == count_documents(found, labels, limit)
        steps = {after - before for before, after in zip(taken, [*taken[1:], total], strict=True)}
        assert taken[0] == 0
        assert max(steps) - min(steps) <= 1

    @pytest.mark.parametrize(("room", "readings"), [(10_000, 1), (2_000, 2), (0, 2)])
    def test_a_small_source_is_read_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, readings: int
    ) -> None:
        """The survey keeps the documents in memory if all fit, and they are the same."""
        monkeypatch.setattr(survey_module, "_HELD", room)
        items = list(self.rows(tmp_path).read())
        read = 0

        def counted() -> Iterator[Document | Rejected | Noticed]:
            nonlocal read
            read += 1
            yield from items

        source = Source("test", (), (), None, counted)
        found = survey(source)
        labels = match_labels(found, ["neg", "pos"])
        taken = list(read_documents(source, found, labels))
        assert read == readings
        assert taken == list(read_documents(source, replace(found, held=None), labels))
        assert len(taken) == 7

    def test_a_source_that_changed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A source that has fewer documents than surveyed raises an error."""
        monkeypatch.setattr(survey_module, "_HELD", 0)
        source = self.rows(tmp_path)
        found = survey(source)
        labels = match_labels(found, ["neg", "pos"])
        (tmp_path / "r.csv").write_text("text,label\nt0,neg\n")
        with pytest.raises(DataError, match="changed while it was read: 7 documents before, 1 now"):
            list(read_documents(source, found, labels))
