"""Whose labels are whose."""

import pytest

from attnstore.data.labels import LabelMap, match_labels
from attnstore.data.selection import count_documents, rejections
from attnstore.data.survey import Survey
from attnstore.errors import UsageError


def found_of(labels: dict[str, int], unlabelled: int = 0, label_names: tuple[str, ...] = ()) -> Survey:
    ids = {label: tuple(f"{label}-{n}" for n in range(min(count, 3))) for label, count in labels.items()}
    return Survey(sum(labels.values()) + unlabelled, labels, unlabelled, {}, (), "", (), label_names, ids)


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
