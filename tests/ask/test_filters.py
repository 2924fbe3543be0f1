"""Filters over documents: the documents that a plain loop selects, in its order, page by page."""

import math
import random

import asked_store
import pytest

from attnstore.ask.filters import ORDERS, Filter, described, from_texts, neighbours
from attnstore.ask.sql import connect, select
from attnstore.errors import UsageError
from attnstore.store.store import open_store


@pytest.fixture(scope="module")
def documents():
    made = asked_store.made_up_documents(90, splits=("test", "train"))
    for number, document in enumerate(made):
        document["number"] = number
    return made


@pytest.fixture(scope="module")
def store(documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("filters") / "s.attn"
    asked_store.write_store(path, documents)
    return open_store(path)


def passes(document: dict, wanted: Filter) -> bool:
    """The filter's meaning, implemented a second time."""
    length = len(document["tokens"])
    tests = [
        not wanted.prediction or document["prediction"] == wanted.prediction,
        not wanted.label or document["label"] == wanted.label,
        not wanted.unlabelled or document["label"] is None,
        not wanted.split or document["split"] == wanted.split,
        not wanted.group or document["group"] == wanted.group,
        not wanted.text or wanted.text.lower() in document["text"].lower(),
        not wanted.word or any(token["word"] == wanted.word for token in document["tokens"]),
        wanted.truncated is None or document["truncated"] == wanted.truncated,
        wanted.least_probability is None or document["probability"] >= wanted.least_probability,
        wanted.most_probability is None or document["probability"] <= wanted.most_probability,
        wanted.least_length is None or length >= wanted.least_length,
        wanted.most_length is None or length <= wanted.most_length,
    ]
    if wanted.verdict:
        right = document["prediction"] == document["label"]
        tests.append(document["label"] is not None and right == (wanted.verdict == "right"))
    return all(tests)


KEYS = {
    "number": lambda d: d["number"],
    "surest": lambda d: (-d["probability"], d["number"]),
    "least certain": lambda d: (d["probability"], d["number"]),
    "longest": lambda d: (-len(d["tokens"]), d["number"]),
    "shortest": lambda d: (len(d["tokens"]), d["number"]),
    "id": lambda d: (d["id"].encode(), d["number"]),
}


def drawn(seed: int) -> Filter:
    """A filter with random conditions."""
    chance = random.Random(seed)
    every = {
        "prediction": chance.choice(["neg", "pos"]),
        "label": chance.choice(["neg", "pos"]),
        "unlabelled": True,
        "verdict": chance.choice(["right", "wrong"]),
        "split": chance.choice(["test", "train"]),
        "group": f"film {chance.randrange(22)}",
        "text": chance.choice(["FILM", "bear", "映", "%", "_", "film film"]),
        "word": chance.choice(["film", "bear", "naïve", "it's", "映画"]),
        "truncated": chance.choice([True, False]),
        "least_probability": chance.uniform(0.5, 0.9),
        "most_probability": chance.uniform(0.6, 1),
        "least_length": chance.randrange(12),
        "most_length": chance.randrange(2, 30),
    }
    chosen = chance.sample(sorted(every), k=chance.choice([0, 1, 1, 2, 3]))
    return Filter(**{name: every[name] for name in chosen}, order=chance.choice(sorted(ORDERS)))


@pytest.fixture(scope="module")
def connection(store):
    with connect(store) as opened:
        yield opened


@pytest.mark.sampled(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [*range(20), *(pytest.param(n, marks=pytest.mark.exhaustive) for n in range(20, 60))]
)
def test_a_filter_selects_the_documents_of_a_loop(store, connection, documents, seed):
    """Numbers in order. The neighbours of a document are those of the list."""
    wanted = drawn(seed)
    expected = sorted((d for d in documents if passes(d, wanted)), key=KEYS[wanted.order])
    numbers = [d["number"] for d in expected]
    found = select(store, connection, *wanted.statement())
    assert found.to_pylist() == [{"document": number} for number in numbers]
    for place in {0, 1, len(numbers) - 1} & set(range(len(numbers))):
        beside = neighbours(found, numbers[place])
        before = numbers[place - 1] if place else None
        after = numbers[place + 1] if place + 1 < len(numbers) else None
        assert beside is not None
        assert (beside.place, beside.hits, beside.before, beside.after) == (
            place + 1, len(numbers), before, after,
        )  # fmt: skip
    outside = next((d["number"] for d in documents if d["number"] not in numbers), None)
    if outside is not None:
        assert neighbours(found, outside) is None


@pytest.mark.slow
def test_a_row_has_the_documents_values(store, documents):
    """Each column has the document's value, in the given order. A long text is cut, with its length."""
    with connect(store) as connection:
        other, row = described(store, connection, [80, 7])
        assert described(store, connection, []) == []
    assert (other["document"], other["id"]) == (80, documents[80]["id"])
    document = documents[7]
    assert {name: row[name] for name in ("id", "group", "split", "label", "prediction", "truncated")} == {
        name: document[name] for name in ("id", "group", "split", "label", "prediction", "truncated")
    }
    assert math.isclose(row["probability"], document["probability"])
    assert (row["beginning"], row["characters"]) == (document["text"][:280], len(document["text"]))


@pytest.mark.parametrize("seed", range(10))
def test_a_filter_survives_its_url(seed):
    """A filter read from its own URL is equal."""
    wanted = drawn(seed)
    assert from_texts(wanted.given()) == wanted


def test_blank_and_unknown_parameters_are_not_conditions():
    """A form sends every field, and a page has other parameters."""
    assert from_texts({"text": " ", "least_length": "", "page": "3", "truncated": ""}) == Filter()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"least_length": "x"}, "least_length='x' does not fit"),
        ({"truncated": "maybe"}, "truncated='maybe' does not fit"),
        (
            {"order": "id; drop table"},
            "documents can't be ordered by 'id; drop table', but by number, surest",
        ),
        ({"verdict": "odd"}, "verdict is right or wrong, not 'odd'"),
    ],
)
def test_invalid_values_are_refused(given, said):
    """One line that says what was found."""
    with pytest.raises(UsageError) as refusal:
        from_texts(given)
    assert str(refusal.value).startswith(said)


@pytest.mark.parametrize(
    "text", ["x' OR true --", ".", ".*", "fil|bear", "(", "\\E", "[a-z]", "\\d", "ﬁ", "\n"]
)
def test_values_are_literal_text(store, connection, documents, text):
    """A quote in any text is a quote, and pattern characters are searched for literally."""
    for name in ("prediction", "label", "split", "group", "text", "word"):
        expected = [d["number"] for d in documents if passes(d, Filter(**{name: text}))]
        found = select(store, connection, *Filter(**{name: text}).statement())
        assert found.column("document").to_pylist() == expected
