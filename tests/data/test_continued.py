"""Promises of attnstore.data.continued: a label of new data means the same as in the store, or is refused."""

import pytest

from attnstore.data.class_names import ClassNames
from attnstore.data.continued import StoreLabels, known_labels, match_more
from attnstore.data.survey import Survey
from attnstore.errors import UsageError

CLASSES = ("neg", "pos")


def found(*labels: str, names: ClassNames | None = None) -> Survey:
    return Survey(9, dict.fromkeys(labels, 3), 0, {}, (), "", class_names=names)


def store(known, labels=CLASSES, are_models=True) -> StoreLabels:
    return StoreLabels(CLASSES, are_models, frozenset(labels), known)


NUMBERED = {"0": "neg", "1": "pos", "2": ""}


@pytest.mark.parametrize(
    ("labels", "known", "given", "expected"),
    [
        (("pos",), {"neg": "neg", "pos": "pos"}, (), {"pos": "pos"}),
        (("1",), NUMBERED, (), {"1": "pos"}),  # no rule could decide it from these alone
        (("1", "2"), NUMBERED, (), {"1": "pos"}),  # 2 was left out
        (("POS", "neg"), {"neg": "neg", "pos": "pos"}, (), {"POS": "pos", "neg": "neg"}),
        (("positive",), {"neg": "neg", "pos": "pos"}, (), {"positive": "pos"}),
        (("0",), {"1": "pos"}, (), {"0": "neg"}),  # with the earlier 1, both numbers are present
        (("1", "2"), {"0": "neg", "1": "pos"}, ("1=neg", "2=pos"), {"1": "neg", "2": "pos"}),
        (("0", "1"), {}, (), {"0": "neg", "1": "pos"}),
    ],
)
def test_labels_mean_the_same_as_in_one_run_over_all_data(labels, known, given, expected):
    """Earlier labels keep their class, new ones are decided over both, and the user's mapping takes precedence."""
    matched = match_more(found(*labels), store(known), given)
    assert ({raw: matched.mapping[raw] for raw in labels if raw in matched.mapping}, matched.are_models) == (
        expected, True,
    )  # fmt: skip
    assert matched.model_labels == CLASSES


def test_the_data_sets_own_names_come_before_earlier_numbers():
    """For new data that number their classes in another order, and name them."""
    names = ClassNames({0: "positive", 1: "negative"}, "README.md")
    assert match_more(found("0", "1", names=names), store(NUMBERED)).mapping == {"0": "pos", "1": "neg"}


@pytest.mark.parametrize(
    ("labels", "known", "given", "message"),
    [
        (
            ("good",),
            {"neg": "neg"},
            (),
            "the new data's labels (good) are not the store's classes (neg, pos)",
        ),
        (
            ("1", "2"),
            {"0": "neg", "1": "pos"},
            (),
            "the new data's labels (1, 2) are not the store's classes",
        ),
        (
            ("1", "2"),
            {"1": "pos"},
            (),
            "the label '1' is 'pos' in the store, and would be 'neg' in the new data",
        ),
        (("pos",), {}, ("bad", "good"), "--labels names the classes bad, good, the store has neg, pos"),
    ],
)
def test_conflicting_labels_are_refused(labels, known, given, message):
    """With the label's meaning in the store, and the option that settles it."""
    with pytest.raises(UsageError) as refused:
        match_more(found(*labels), store(known), given)
    assert str(refused.value).startswith(message)


def test_labels_that_are_not_classes_must_be_those_of_the_store():
    """Nothing is mapped. A label that is not in the store is refused, because it may be another spelling."""
    foreign = store({}, labels=("film", "book"), are_models=False)
    matched = match_more(found("film"), foreign)
    assert (matched.mapping, matched.are_models) == ({"film": "film"}, False)
    for labels, given, message in (
        (
            ("films",),
            (),
            "the new data has the label 'films', which no document of the store has (there are book, film)",
        ),
        (
            ("film",),
            ("film=pos",),
            "--labels: the store's labels are not the model's classes, and stay as they are",
        ),
    ):
        with pytest.raises(UsageError) as refused:
            match_more(found(*labels), foreign, given)
        assert str(refused.value).startswith(message)


def test_unlabelled_data_and_unlabelled_stores():
    """Neither is an obstacle: a store without labels accepts new data with labels."""
    assert match_more(found(), store(NUMBERED)).mapping == {}
    empty = store({}, labels=(), are_models=False)
    assert match_more(found("0", "1"), empty).are_models
    assert match_more(found("good", "bad"), empty).mapping == {"good": "good", "bad": "bad"}


def test_a_label_that_two_sources_read_differently_is_unknown():
    """What a label was is inferred from the list of sources and the labels of documents."""
    maps = [["0=neg", "1=pos", "2="], ["1=neg"]]
    assert known_labels(maps, ["neg", "pos", "other"]) == {"0": "neg", "2": "", "other": "other"}
