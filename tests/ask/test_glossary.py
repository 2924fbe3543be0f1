"""The words of a store, found and described like plain loops over its tokens."""

from collections import Counter, defaultdict

import asked_store
import pytest

from attnstore.ask.glossary import card, find_words, signed_scores
from attnstore.ask.sql import connect
from attnstore.store.store import open_store

PARTS = [None, [0, 2]]


@pytest.fixture(scope="module", params=PARTS, ids=["sealed", "unsealed"])
def both(request, tmp_path_factory):
    documents = asked_store.made_up_documents(80, predictions=("neg", "pos", "meh"))
    path = tmp_path_factory.mktemp("glossary") / "s.attn"
    asked_store.write_store(path, documents, labels=("neg", "pos", "meh"), part_size=25, parts=request.param)
    there = documents if request.param is None else documents[:25] + documents[50:75]
    return open_store(path), there


def occurrences(documents, word):
    """Each occurrence of a word: its document, and its tokens."""
    for document in documents:
        tokens = document["tokens"]
        for place, token in enumerate(tokens):
            if token["word"] == word and token["piece"] == 0:
                yield document, tokens[place : place + token["pieces"]]


@pytest.mark.slow
def test_words_are_found_by_a_part(both):
    """Words that start with it come first, then the more frequent. Case does not matter."""
    store, documents = both
    counts = Counter(t["word"] for d in documents for t in d["tokens"] if t["piece"] == 0)
    holders = Counter(w for d in documents for w in {t["word"] for t in d["tokens"] if t["piece"] == 0})
    expected = sorted(
        (word for word in counts if "be" in word),
        key=lambda word: (not word.startswith("be"), -counts[word], word),
    )
    assert expected[0] == "bear"
    assert "unbearable" in expected
    with connect(store) as connection:
        found = find_words(store, connection, "BE")
        assert found == [
            {"word": word, "occurrences": counts[word], "documents": holders[word]} for word in expected
        ]
        assert find_words(store, connection, "%") == []
        assert len(find_words(store, connection, "", limit=3)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("word", ["unbearable", "film", "映画"])
def test_a_card_has_the_counts_of_a_loop(both, word):
    """Occurrences, documents and mean lifts by predicted class, summed over pieces, for every layer."""
    store, documents = both
    classes = sorted({d["prediction"] for d in documents})
    found = defaultdict(list)
    for document, tokens in occurrences(documents, word):
        found[document["prediction"]].append((document, tokens))
    with connect(store) as connection:
        made = card(store, connection, word)
    assert made is not None
    assert made.classes == [
        {
            "class": name,
            "occurrences": len(found[name]),
            "documents": len({id(document) for document, _ in found[name]}),
            "of": sum(d["prediction"] == name for d in documents),
        }
        for name in classes
    ]
    columns = [("cls", layer, f"cls_{layer:02d}") for layer in (1, 2, 3)] + [("rollout", None, "rollout")]
    assert [(name, layer) for name, layer, _ in made.lifts] == [(name, layer) for name, layer, _ in columns]
    for (_, _, lifts), (_, _, column) in zip(made.lifts, columns, strict=True):
        for lift, name in zip(lifts, classes, strict=True):
            values = [
                sum(token[column] for token in tokens) * len(document["tokens"]) / len(tokens)
                for document, tokens in found[name]
            ]
            expected = sum(values) / len(values) if values else None
            assert lift == (None if expected is None else pytest.approx(expected, rel=1e-5))


def test_a_card_has_signed_scores(tmp_path):
    """The mean of an occurrence, with its pieces summed, by predicted class.

    Occurrences without a value do not count.
    """
    documents = asked_store.made_up_documents(30)
    for number, document in enumerate(documents):
        for place, token in enumerate(document["tokens"]):
            token["odd"] = None if number % 4 == 0 else (-1) ** place * (number + place)
    score = asked_store.StoredReduction(
        "odd", per_layer=False, per_head=False, meaning="", total=None, signed=True
    )
    store = asked_store.write_store(
        tmp_path / "s.attn", documents, reductions=(*asked_store.REDUCTIONS[:-1], score)
    )
    there = {"neg": [], "pos": []}
    for document, tokens in occurrences(documents, "unbearable"):
        if tokens[0]["odd"] is not None:
            there[document["prediction"]].append(sum(token["odd"] for token in tokens))
    with connect(store) as connection:
        made = card(store, connection, "unbearable")
        assert signed_scores(store, connection, ["nowhere"]) == {}
    means = [sum(there[row["class"]]) / len(there[row["class"]]) for row in made.classes]
    assert made.scores == [("odd", None, pytest.approx(means))]


def test_an_unknown_word_has_no_card(both):
    """The result is None."""
    store, _ = both
    with connect(store) as connection:
        assert card(store, connection, "nowhere") is None
