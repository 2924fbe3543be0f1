"""Which labels are which classes of the model."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnstore.data.class_names import ClassNames
from attnstore.data.labels import LabelMap, match_labels
from attnstore.data.selection import count_documents, rejections
from attnstore.data.survey import Survey
from attnstore.errors import UsageError

STARS = [f"{n} stars" for n in range(1, 6)]
FIVE = ["very negative", "negative", "neutral", "positive", "very positive"]
LABEL_4 = [f"LABEL_{n}" for n in range(4)]


def found_of(
    labels: dict[str, int],
    unlabelled: int = 0,
    class_names: tuple[str, ...] | ClassNames = (),
    elsewhere: tuple[str, ...] = (),
) -> Survey:
    ids = {label: tuple(f"{label}-{n}" for n in range(min(count, 3))) for label, count in labels.items()}
    if isinstance(class_names, tuple):
        class_names = ClassNames(dict(enumerate(class_names)), "test") if class_names else None  # type: ignore[assignment]
    documents = sum(labels.values()) + unlabelled
    return Survey(documents, labels, unlabelled, {}, (), "", (), class_names, elsewhere, ids)  # type: ignore[arg-type]


class TestByName:
    @pytest.mark.parametrize(
        ("model", "expected", "note"),
        [
            (["neg", "pos"], {"pos": "pos", "neg": "neg"}, "the data's labels are the model's classes: neg, pos"),
            (["neg", "pos"], {"neg": "neg"}, "the data's labels are the model's classes: neg"),
            (
                ["neg", "pos"],
                {" NEG ": "neg", "Pos": "pos", "pos ": "pos"},
                "labels were matched by name: NEG is neg, Pos is pos, pos is pos",
            ),
            (
                ["neg", "pos"],
                {"positive": "pos", "negative": "neg", "pos": "pos"},
                "labels were matched by name: negative is neg, pos is pos, positive is pos",
            ),
            (
                ["NEGATIVE", "POSITIVE"],
                {"pos": "POSITIVE", "neg": "NEGATIVE"},
                "labels were matched by name: neg is NEGATIVE, pos is POSITIVE",
            ),
            (
                FIVE,
                {"very_negative": "very negative", "Very-Positive": "very positive", "neutral": "neutral"},
                "labels were matched by name: Very-Positive is very positive, neutral is neutral,"
                " very_negative is very negative",
            ),
            (
                ["été", "hiver"],
                {"Ete": "été", "HIVER": "hiver"},
                "labels were matched by name: Ete is été, HIVER is hiver",
            ),
            (
                ["1 star", "2 stars"],
                {"1 stars": "1 star", "2 star": "2 stars"},
                "labels were matched by name: 1 stars is 1 star, 2 star is 2 stars",
            ),
            (
                ["Sci/Tech", "Sports", "World News"],
                {"sci tech": "Sci/Tech", "sport": "Sports", "World": "World News"},
                "labels were matched by name: World is World News, sci tech is Sci/Tech, sport is Sports",
            ),
            (
                ["contradiction", "entailment"],
                {"entail": "entailment", "contradict": "contradiction"},
                "labels were matched by name: contradict is contradiction, entail is entailment",
            ),
            (
                LABEL_4,
                {"LABEL_3": "LABEL_3", "label 0": "LABEL_0"},
                "labels were matched by name: LABEL_3 is LABEL_3, label 0 is LABEL_0",
            ),
            (
                ["0", "1", "2"],
                {"LABEL_2": "2", "LABEL_1": "1"},
                "labels were matched by name: LABEL_1 is 1, LABEL_2 is 2",
            ),
        ],
    )  # fmt: skip
    def test_labels_that_name_the_models_classes(
        self, model: list[str], expected: dict[str, str], note: str
    ) -> None:
        """By name: exactly; by case, accents, hyphens and blanks; by a known pair; by the only similar one.

        A note says which.
        """
        labels = match_labels(found_of(dict.fromkeys(expected, 1)), model)
        assert labels == LabelMap(expected, True, note, tuple(model))

    @pytest.mark.parametrize(
        ("model", "data"),
        [
            (["neg", "pos"], ["neg", "pos", "mixed"]),  # not every label is explained
            (["neg", "pos"], ["neg", "pos", "1"]),
            (["toxic", "fine"], ["toxicity", "toxic behaviour"]),  # two names with the same beginning are two
            (["toxic", "fine"], ["toxic", "toxic behaviour", "fine"]),
            (["positive high", "positive low"], ["positive", "negative"]),  # begins like both
            (["spam", "ham"], ["spam-free", "ham"]),
            (["A", "B"], ["apple", "berry"]),
            (["class 10", "class 11"], ["class 1", "class 11"]),
            (["a-b", "a_b"], ["A B"]),  # two classes have this spelling
            (["+", "-"], ["*", "/"]),  # nothing is left to compare
        ],
    )
    def test_no_name_is_guessed(self, model: list[str], data: list[str]) -> None:
        """If a label has no class or two classes, no label is mapped, and all are kept."""
        found = found_of(dict.fromkeys(data, 2))
        labels = match_labels(found, model)
        assert (labels.mapping, labels.are_models) == ({name: name for name in data}, False)
        assert rejections(found, labels, strict=True).counts == {}

    def test_names_of_the_data_set_win_over_numbers(self) -> None:
        """Numbered labels are mapped by the data set's names for them.

        If these are not the model's, nothing is mapped.
        """
        found = found_of({"0": 1, "1": 1}, class_names=("pos", "neg"))
        labels = match_labels(found, ["neg", "pos"])
        assert labels == LabelMap(
            {"0": "pos", "1": "neg"},
            True,
            "labels were matched by name: 0 (pos) is pos, 1 (neg) is neg",
            ("neg", "pos"),
        )
        found = found_of({"0": 1, "1": 1}, class_names=("negative", "positive"))
        assert match_labels(found, ["neg", "pos"]).mapping == {"0": "neg", "1": "pos"}
        found = found_of({"0": 1, "1": 1}, class_names=("rotten", "fresh"))
        labels = match_labels(found, ["neg", "pos"])
        assert (labels.mapping, labels.are_models) == ({"0": "rotten", "1": "fresh"}, False)

    def test_names_that_are_not_numbered_count_from_0_or_1(self) -> None:
        """Names, one per line, start at 0 if there is a 0, at 1 if there is the last number; otherwise they are not
        used.
        """
        names = ClassNames({0: "World", 1: "Sports", 2: "Business"}, "classes.txt", is_counted=False)
        model = ["Business", "Sports", "World"]
        of = {
            labels: match_labels(found_of(dict.fromkeys(labels, 1), class_names=names), model)
            for labels in ("01", "123", "12", "03")
        }
        assert of["01"].mapping == {"0": "World", "1": "Sports"}
        assert of["123"].mapping == {"1": "World", "2": "Sports", "3": "Business"}
        assert {labels: matched.are_models for labels, matched in of.items()} == {
            "01": True,
            "123": True,
            "12": False,
            "03": False,
        }

    def test_names_that_are_numbers_apply_to_the_whole_data_set(self) -> None:
        """The data set names its classes 1 to 5: a file without the 5 is still numbered from 1."""
        stars = ("1", "2", "3", "4", "5")
        found = found_of({"0": 1, "3": 2}, class_names=stars)
        assert match_labels(found, FIVE).mapping == {"0": "very negative", "3": "positive"}
        assert match_labels(found, STARS).mapping == {"0": "1 stars", "3": "4 stars"}

    def test_names_that_do_not_fit_the_labels(self) -> None:
        """If there are names, but a label has none, the numbers are not taken for classes either."""
        found = found_of({"0": 1, "1": 1, "2": 1}, class_names=("a", "b"))
        labels = match_labels(found, ["x", "y", "z"])
        assert (labels.mapping, labels.are_models) == ({"0": "0", "1": "1", "2": "2"}, False)
        assert labels.note is not None
        assert "the names in test (a, b) do not fit them; --labels LABEL=CLASS,… maps them" in labels.note


class TestByNumber:
    @pytest.mark.parametrize(
        ("data", "model", "expected", "note"),
        [
            ("0 1.0", ["neg", "pos"], ["neg", "pos"], "labels were matched by number: 0 is neg, 1.0 is pos"),
            ("false True", ["neg", "pos"], ["neg", "pos"], "labels were matched by number: True is pos, false is neg"),
            ("1 0", LABEL_4[:2], ["LABEL_1", "LABEL_0"], "labels were matched by number: 0 is LABEL_0, 1 is LABEL_1"),
            ("LABEL_0 LABEL_1", ["neg", "pos"], ["neg", "pos"],
             "labels were matched by number: LABEL_0 is neg, LABEL_1 is pos"),
            ("0 2", ["a", "b", "c"], ["a", "c"],
             "labels were matched by number, counted from 0 as both 0 and 2 occur: 0 is a, 2 is c"),
            ("1 2", ["neg", "pos"], ["neg", "pos"],
             "labels were matched by number, counted from 1: 1 is neg, 2 is pos"),
            ("5 4 3 2 1", FIVE, FIVE[::-1],
             "labels were matched by number, counted from 1: 1 is very negative, 2 is negative, 3 is neutral,"
             " 4 is positive, 5 is very positive"),
            # the number in the class's name
            ("1 5", STARS, ["1 stars", "5 stars"], "labels were matched by name: 1 is 1 stars, 5 is 5 stars"),
            ("1 5", STARS[::-1], ["1 stars", "5 stars"], "labels were matched by name: 1 is 1 stars, 5 is 5 stars"),
            ("0 1 2 3 4", STARS, STARS,
             "labels were matched by number: 0 is 1 stars, 1 is 2 stars, 2 is 3 stars, 3 is 4 stars, 4 is 5 stars"),
            # a name that is a number is a name first
            ("0 1", ["1", "0"], ["0", "1"], "the data's labels are the model's classes: 0, 1"),
        ],
    )  # fmt: skip
    def test_numbers_are_classes(self, data: str, model: list[str], expected: list[str], note: str) -> None:
        """0 … n-1, with gaps if both ends are present, or exactly 1 … n. A note says which."""
        labels = match_labels(found_of(dict.fromkeys(data.split(), 1)), model)
        assert labels == LabelMap(dict(zip(data.split(), expected, strict=True)), True, note, tuple(model))

    @pytest.mark.parametrize(
        ("data", "model", "advice"),
        [
            ("0 4", ["neg", "pos"], "0=neg,4=pos"),
            ("0 1", ["negative", "neutral", "positive"], "0=negative,1=positive"),
            ("1 2 3", LABEL_4, "1=LABEL_0,2=LABEL_1,3=LABEL_2"),
            ("1 2 3", ["0", "1", "2", "3"], "1=0,2=1,3=2"),
            ("1 2 3 4 5", ["neg", "pos"], "1=neg,2=neg,3=,4=pos,5=pos"),
            ("-1 0 1", ["neg", "pos"], "-1=neg,0=,1=pos"),
            ("0", ["neg", "pos"], None),
            ("1", ["neg", "pos"], None),
            ("2 3 4", STARS, "2=2 stars,3=3 stars,4=4 stars"),
            ("1 2 3 4", STARS, "1=1 stars,2=2 stars,3=3 stars,4=4 stars"),
            ("0.5 1", ["neg", "pos"], None),
            # orders peculiar to a model, whose indices are seldom the data's numbers
            ("0 1 2", ["positive", "negative", "neutral"], "0=negative,1=neutral,2=positive"),
            ("0 1", ["POSITIVE", "NEGATIVE"], "0=NEGATIVE,1=POSITIVE"),
            ("0 1 2", ["contradiction", "neutral", "entailment"], "0=entailment,1=neutral,2=contradiction"),
            ("0 1", ["acceptable", "unacceptable"], "0=unacceptable,1=acceptable"),
            ("0 1", ["hate", "not-hate"], "0=not-hate,1=hate"),
            ("0 1 2 3 4", STARS[::-1], "0=1 stars,1=2 stars,2=3 stars,3=4 stars,4=5 stars"),
        ],
    )
    def test_numbers_that_may_mean_something_else(
        self, data: str, model: list[str], advice: str | None
    ) -> None:
        """They are kept, without an accuracy.

        The note shows the --labels that would map them, and that option works.
        """
        found = found_of(dict.fromkeys(data.split(), 3))
        labels = match_labels(found, model)
        assert (labels.mapping, labels.are_models) == ({raw: raw for raw in data.split()}, False)
        assert labels.note is not None
        assert "are kept as they are, no accuracy is computed; " in labels.note
        if advice is None:
            assert labels.note.endswith(
                "--labels LABEL=CLASS,… maps them, LABEL= leaves the rows of a label out"
            )
        else:
            assert labels.note.endswith(
                f"if they mean the model's classes in this order, --labels {advice} says so"
            )
            told = match_labels(found, model, advice.split(","))
            pairs = dict(pair.split("=") for pair in advice.split(","))
            assert (told.mapping, told.are_models) == (
                {raw: name for raw, name in pairs.items() if name},
                True,
            )

    @given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.permutations(["0", "1", "2", "3"]))
    def test_counts_play_no_part(self, counts: list[int], data: list[str]) -> None:
        """The mapping depends on which labels there are, not on their numbers of rows or their order."""
        labels = dict(zip(data, counts, strict=False))
        one = match_labels(found_of(labels), ["a", "b", "c"])
        other = match_labels(found_of(dict.fromkeys(sorted(labels), 1)), ["a", "b", "c"])
        assert (one.mapping, one.are_models) == (other.mapping, other.are_models)

    def test_the_labels_of_other_splits_count(self) -> None:
        """A split that lacks a label is mapped like the whole: 1 and 2 are the middle of 0 to 3, not the first two."""
        whole = match_labels(found_of(dict.fromkeys("0123", 1)), ["a", "b", "c", "d"])
        part = match_labels(found_of({"1": 5, "2": 4}, elsewhere=("0", "3")), ["a", "b", "c", "d"])
        assert part == whole
        assert whole.mapping == {"0": "a", "1": "b", "2": "c", "3": "d"}


class TestNotTheModels:
    def test_unknown_labels_are_named(self) -> None:
        """If only some labels are the model's, a note names the others, their rows, and the option that leaves them
        out.
        """
        labels = match_labels(found_of({"pos": 5, "neg": 4, "mixed": 3, "?": 1}), ["neg", "pos"])
        assert labels.note == (
            "the data's labels (?, mixed, neg, pos) are not the model's (neg, pos): they are kept as they are, no"
            " accuracy is computed; unknown are '?' (1 row), 'mixed' (3 rows); --labels ?=,mixed=,neg=neg,pos=pos"
            " leaves them out"
        )

    @pytest.mark.parametrize("model", [LABEL_4[:2], ["0", "1"]])
    def test_a_nameless_model_is_never_named_by_order(self, model: list[str]) -> None:
        """As many text labels as unnamed classes: no order maps them, not even that of the data set."""
        for found in (
            found_of({"bad": 1, "good": 1}),
            found_of({"0": 1, "1": 1}, class_names=("bad", "good")),
        ):
            labels = match_labels(found, model)
            assert (set(labels.mapping.values()), labels.are_models) == ({"bad", "good"}, False)
            assert labels.model_labels == tuple(model)

    def test_no_labels(self) -> None:
        """Without labels, no accuracy is claimed and no row rejected."""
        found = found_of({}, unlabelled=3)
        labels = match_labels(found, ["neg", "pos"])
        assert labels == LabelMap(
            {}, False, "the data has no labels: no accuracy is computed", ("neg", "pos")
        )
        assert (count_documents(found, labels), rejections(found, labels, True).counts) == (3, {})


class TestGiven:
    @pytest.mark.parametrize(
        ("data", "given_", "expected"),
        [
            (
                ("negative", "positive"),
                ("negative", "positive"),
                {"negative": "negative", "positive": "positive"},
            ),
            (("0", "1"), ("bad", "good"), {"0": "bad", "1": "good"}),
            (("GOOD", "bad"), ("bad", "good"), {"GOOD": "good", "bad": "bad"}),
            (("1", "2"), ("bad", "good", "1=good", "2=bad"), {"1": "good", "2": "bad"}),
        ],
    )
    def test_classes_by_list(
        self, data: tuple[str, ...], given_: tuple[str, ...], expected: dict[str, str]
    ) -> None:
        """A list names the model's classes in the order of its logits. Then the rules apply to these names."""
        labels = match_labels(found_of(dict.fromkeys(data, 1)), LABEL_4[:2], given_)
        classes = tuple(each for each in given_ if "=" not in each)
        assert (labels.mapping, labels.are_models, labels.model_labels) == (expected, True, classes)

    def test_labels_by_pairs(self) -> None:
        """Pairs take precedence over all rules.

        A label equal to a class name needs no pair. Others are left out and named.
        """
        found = found_of({"1": 4, "2.0": 3, "3": 2, "Positive": 1})
        labels = match_labels(found, ["neg", "pos"], ("1=pos", "2=neg"))
        assert labels.mapping == {"1": "pos", "2.0": "neg", "Positive": "pos"}
        assert labels.note == "labels were mapped by --labels: 1 is pos, 2.0 is neg, Positive is pos"
        assert rejections(found, labels).counts == {"unknown label '3'": 2}

    def test_labels_mapped_to_nothing(self) -> None:
        """Their rows are left out and counted, even with --strict. The rules apply to the other labels."""
        found = found_of({"1": 4, "2": 3, "3": 2})
        labels = match_labels(found, ["neg", "pos"], ("3=",))
        assert labels == LabelMap(
            {"1": "neg", "2": "pos"},
            True,
            "labels were matched by number, counted from 1: 1 is neg, 2 is pos",
            ("neg", "pos"),
            frozenset({"3"}),
        )
        assert rejections(found, labels, strict=True).counts == {"by --labels, label '3'": 2}
        assert count_documents(found, labels) == 7
        assert not match_labels(found, ["neg", "pos"], ("1=", "2=", "3=")).are_models

    def test_a_pair_for_a_missing_label(self) -> None:
        """A label that no row has is reported, because it may be misspelled."""
        labels = match_labels(found_of({"1": 1, "2": 1}), ["neg", "pos"], ("9=neg", "1=neg", "2=pos"))
        assert (
            labels.note
            == "labels were mapped by --labels: 1 is neg, 2 is pos; no row has the label 9 of --labels"
        )

    def test_pairs_by_the_data_sets_name_or_number(self) -> None:
        """A numbered label with a name can be given by either."""
        found = found_of({"0": 1, "1": 1}, class_names=("rotten", "fresh"))
        for pairs in (("0=neg", "1=pos"), ("rotten=neg", "fresh=pos"), ("Rotten=negative", "fresh=positive")):
            assert match_labels(found, ["neg", "pos"], pairs).mapping == {"0": "neg", "1": "pos"}

    @pytest.mark.parametrize(
        ("given_", "message"),
        [
            (("a",), "--labels names 1 class (a), the model has 2 (neg, pos)"),
            (("a", "b", "c"), "--labels names 3 classes (a, b, c), the model has 2 (neg, pos)"),
            (("a", "A"), "--labels must be different names, none empty: a, A"),
            (("a", " "), "--labels must be different names, none empty: a,  "),
            (("=neg",), "--labels '=neg': a pair is LABEL=CLASS, or LABEL= to leave its rows out"),
            (("a=neg", "a=pos"), "--labels maps 'a' twice: to 'neg' and 'pos'"),
            (
                ("a=nex",),
                "--labels a=nex: the model has no class 'nex', it has neg, pos: did you mean 'neg'?",
            ),
        ],
    )
    def test_impossible_values_of_labels(self, given_: tuple[str, ...], message: str) -> None:
        """--labels must have as many distinct names as the model has classes, or map to these classes."""
        with pytest.raises(UsageError) as caught:
            match_labels(found_of({"a": 1}), ["neg", "pos"], given_)
        assert str(caught.value).rstrip() == message.rstrip()

    def test_classes_of_a_nameless_model(self) -> None:
        """Pairs map to its classes by number, and names must be given before they are used."""
        found = found_of({"x": 1, "y": 1})
        assert match_labels(found, LABEL_4[:2], ("x=1", "y=LABEL_0")).mapping == {
            "x": "LABEL_1",
            "y": "LABEL_0",
        }
        with pytest.raises(UsageError, match="name all its classes, in their order, before the pairs"):
            match_labels(found, LABEL_4[:2], ("x=neg", "y=pos"))


def test_a_number_that_may_be_an_index_is_ambiguous() -> None:
    """The second class of a model happens to be `1 stars`: 1 may mean it, or the second class in order."""
    shuffled = ["2 stars", "1 stars", "3 stars", "4 stars", "5 stars"]
    assert not match_labels(found_of({"1": 3}), shuffled).are_models
    assert not match_labels(found_of({"1": 3, "4": 1}), shuffled).are_models
    both_ends = match_labels(found_of({"1": 3, "5": 1}), shuffled)
    assert both_ends.mapping == {"1": "1 stars", "5": "5 stars"}


# --- All forms against the truth ---------------------------------------------------------------------------------

NAMES = [
    ["negative", "positive"],
    ["negative", "neutral", "positive"],
    FIVE,
    ["World", "Sports", "Business", "Sci/Tech"],
    ["joie", "colère", "tristesse"],
    STARS,
]
SPELLINGS = (
    str.upper,
    str.title,
    lambda name: f" {name}\t",
    lambda name: name.replace(" ", "_"),
    lambda name: name.replace(" ", "-"),
    lambda name: "".join(c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c)),
    lambda name: {"negative": "neg", "positive": "pos"}.get(name, name),
    lambda name: name.replace("stars", "star"),
)


@given(st.data())
def test_a_label_is_the_true_class_or_no_accuracy_is_claimed(data: st.DataObject) -> None:
    """Labels in every form that occurs, some of the classes, a model's names in any order.

    Numbers without names mean the classes in the order in which the data were made. That is the model's order only if
    it was not shuffled. A shuffled model here differs by its names, so it takes numbers only if the data name them.
    """
    classes = data.draw(st.sampled_from(NAMES))
    form = data.draw(st.sampled_from(["name", "from 0", "from 1", "named number", "listed", "foreign"]))
    is_shuffled = form in ("name", "named number", "listed", "foreign") or classes in (
        NAMES[0],
        NAMES[1],
        FIVE,
        STARS,
    )
    model = data.draw(st.permutations(classes)) if is_shuffled else list(classes)
    nameless = data.draw(st.booleans()) and form in ("from 0", "from 1") and model == classes
    present = data.draw(st.lists(st.sampled_from(classes), min_size=1, unique=True))
    elsewhere = data.draw(st.lists(st.sampled_from(classes), unique=True))
    written: dict[str, str] = {}  # each label as written in the data, and its class
    for name in (*present, *elsewhere):
        match form:
            case "name":
                spell = data.draw(st.sampled_from(SPELLINGS))
                written[spell(name)] = name
            case "from 1":
                written[data.draw(st.sampled_from(["{}", "{}.0", " {}"])).format(classes.index(name) + 1)] = (
                    name
                )
            case "foreign":
                written[f"{name} or not"] = "none"
            case _:
                written[data.draw(st.sampled_from(["{}", "{}.0"])).format(classes.index(name))] = name
    names = ClassNames(dict(enumerate(classes)), "test", form == "named number") if "d" in form[:6] else None
    if form not in ("named number", "listed"):
        names = None
    counts = {raw: data.draw(st.integers(1, 50)) for raw in written}
    raws = list(written)
    cut = data.draw(st.integers(1, len(raws)))
    found = found_of(
        {raw: counts[raw] for raw in raws[:cut]}, class_names=names or (), elsewhere=tuple(raws[cut:])
    )
    order = [f"LABEL_{n}" for n in range(len(model))] if nameless else model
    labels = match_labels(found, order)
    assert rejections(found, labels).counts == {}
    assert set(labels.mapping) == set(raws)
    if labels.are_models:
        truth = {raw: order[model.index(name)] for raw, name in written.items()}
        assert labels.mapping == truth
    else:
        assert labels.note is not None and "no accuracy is computed" in labels.note
    if form == "name" or (form == "named number"):
        assert labels.are_models, "names say it all"


def test_labels_that_list_others_are_several_labels() -> None:
    """GoEmotions has `0,2` in its column of numbers: such rows are left out and counted, and names still take
    precedence.
    """
    found = found_of({"0": 3, "1": 2, "2": 4, "0,2": 2}, class_names=("joy", "anger", "fear"))
    labels = match_labels(found, ["fear", "joy", "anger"])
    assert (labels.mapping, labels.are_models) == ({"0": "joy", "1": "anger", "2": "fear"}, True)
    assert labels.note is not None
    assert labels.note.endswith("; rows with several labels (0,2) are left out")
    assert rejections(found, labels).counts == {"unknown label '0,2'": 2}


def test_a_comma_in_a_label_is_no_list_of_others() -> None:
    """Unless each part is also a label. If the rest are not the model's classes, no row is left out."""
    arts = match_labels(found_of({"Arts, Crafts": 2, "Arts": 1}), ["Arts", "Arts, Crafts"])
    assert arts.mapping == {"Arts, Crafts": "Arts, Crafts", "Arts": "Arts"}
    kept = match_labels(found_of({"a": 1, "b": 1, "a|b": 1}), ["x", "y"])
    assert (set(kept.mapping), kept.are_models) == ({"a", "b", "a|b"}, False)
