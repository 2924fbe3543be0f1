"""The questions about documents, contexts, heads and agreement: both engines agree with brute force."""

import math
import re
from collections import defaultdict

import numpy as np
import pytest
import scipy.stats
from asked_store import (
    HEADS,
    LAYERS,
    has_letter_or_digit,
    made_up_documents,
    set_values,
    value_of,
    words,
    write_store,
)
from test_question_profiles import SINGLE, asked, assert_rows, least_documents, single, word_places

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions
from attnstore.errors import UsageError
from attnstore.store.manifest import StoredReduction

QUESTIONS = find_questions()


def texts_that_match(documents):
    """Give each document a text whose characters are its tokens: words separated by two blanks or a line end."""
    for number, document in enumerate(documents):
        text = "" if number % 2 else "\u00a0 "  # no-break spaces belong to the text, and stay
        for row in document["tokens"]:
            row["start"] = row["end"] = len(text)
            if row["piece"] is not None:
                piece = row["token"].removeprefix("##").removeprefix("Ġ")
                if row["piece"] == 0 and text.strip():
                    text += "\n" if number % 3 else "  "
                row["start"] = len(text)
                text += piece
                row["end"] = len(text)
        document["text"] = text + " \n"
    return documents


@pytest.fixture(scope="module")
def documents():
    return texts_that_match(made_up_documents(70, splits=("train", "test"), seed=11))


@pytest.fixture(scope="module")
def store(tmp_path_factory, documents):
    return write_store(tmp_path_factory.mktemp("documents") / "store", documents)


# -- contexts ---------------------------------------------------------------------------------------------


def collapsed(text):
    return re.sub(r"[ \t\r\n]+", " ", text).strip(" ")


def contexts(
    documents, word, *, reduction="cls", layer="last", by="prediction", order="most", width=8, limit=10
):
    rows = []
    for number, document in enumerate(documents):
        values = [value_of(row, reduction, layer) for row in document["tokens"]]
        if document[by] is None or None in values:
            continue
        tokens = document["tokens"]
        firsts = [place for place, row in enumerate(tokens) if row["piece"] == 0]
        for index, place in enumerate(firsts):
            if tokens[place]["word"] != word:
                continue
            size = tokens[place]["pieces"]
            text, start, finish = document["text"], tokens[place]["start"], tokens[place + size - 1]["end"]
            begins = tokens[firsts[index - width]]["start"] if index >= width else 0
            after = index + width + 1
            ends = tokens[firsts[after]]["start"] if after < len(firsts) else max(r["end"] for r in tokens)
            attention = sum(values[place : place + size])
            rows.append(
                {
                    "class": document[by],
                    "document": number,
                    "id": document["id"],
                    "label": document["label"],
                    "prediction": document["prediction"],
                    "left": collapsed(text[begins:start]),
                    "keyword": text[start:finish],
                    "right": collapsed(text[finish:ends]),
                    "attention": attention,
                    "lift": attention * len(values) / size,
                    "place": place,
                }
            )
    sign = -1 if order == "most" else 1
    rows.sort(key=lambda r: (r["class"], sign * single(r["lift"]), r["document"], r.pop("place")))
    return [
        r
        for name in sorted({r["class"] for r in rows})
        for r in [r for r in rows if r["class"] == name][:limit]
    ]


@pytest.mark.sampled(at=(1, 2, 3))
@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {"word": "filming"},
        {"word": "the", "order": "least", "width": 2, "limit": 4},
        {"word": "unbearable", "by": "label", "width": 0, "layer": "mean"},
        {"word": "film", "reduction": "odd", "width": 1},
    ],
    ids=str,
)
def test_contexts_are_the_text_around_the_most_attended_occurrences(tmp_path, documents, store, parameters):
    """As in the document, except for white space, and not beyond the document's ends."""
    expected = contexts(documents, **parameters)
    assert {row["keyword"] for row in expected} == {parameters["word"]}
    assert_rows(asked(store, "contexts", **parameters), expected)


@pytest.mark.slow
def test_an_unknown_word_has_no_contexts(store):
    assert asked(store, "contexts", word="Film") == []


# -- find_documents ---------------------------------------------------------------------------------------


def find_documents(
    documents, *, sort="certain", outcome="any", prediction=None, label=None, min_length=0, max_length=None,
    reduction="cls", layer="last", specials="in", limit=20,
):  # fmt: skip
    rows = []
    for number, document in enumerate(documents):
        tokens = [row for row in document["tokens"] if specials == "in" or not row["special"]]
        values = [value_of(row, reduction, layer) for row in tokens]
        usable = values and None not in values and min(values) >= 0 and sum(values) > 0
        entropy = float(scipy.stats.entropy(values)) if usable else None
        size = len(document["tokens"])
        right = None if document["label"] is None else document["label"] == document["prediction"]
        if (
            (outcome != "any" and right is not (outcome == "right"))
            or (prediction is not None and document["prediction"] != prediction)
            or (label is not None and document["label"] != label)
            or not min_length <= size <= (max_length or math.inf)
        ):
            continue
        best = sorted(document["probabilities"], reverse=True)
        rows.append(
            {
                "document": number,
                **{key: document[key] for key in ("id", "split", "label", "prediction", "probability")},
                "margin": best[0] - best[1],
                "length": size,
                "truncated": document["truncated"],
                "entropy": entropy,
                "effective_tokens": None if entropy is None else math.exp(entropy),
                "beginning": collapsed(document["text"][:300])[:80],
            }
        )
    keys = {
        "certain": lambda r: r["margin"], "uncertain": lambda r: -r["margin"],
        "spread": lambda r: r["entropy"], "concentrated": lambda r: None if r["entropy"] is None else -r["entropy"],
        "longest": lambda r: r["length"], "shortest": lambda r: -r["length"],
    }  # fmt: skip
    rows.sort(key=lambda r: (keys[sort](r) is None, -single(keys[sort](r)), r["document"]))
    return rows[:limit]


@pytest.fixture(scope="module")
def probable(tmp_path_factory, documents):
    """A store whose documents have different probabilities: (documents, store)."""
    given = []
    for document in documents:
        first = float(np.float32(document["probability"]))
        second = float(np.float32(1 - first))
        pair = [first, second] if document["prediction"] == "neg" else [second, first]
        given.append({**document, "probabilities": pair, "logits": [0.0, 0.0]})
    return given, write_store(tmp_path_factory.mktemp("probable") / "store", given)


@pytest.mark.sampled(at=(1, 2, 3, 4, 5))
@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"sort": "uncertain", "outcome": "right", "limit": 5},
        {"outcome": "wrong", "prediction": "pos"},
        {"sort": "concentrated", "min_length": 5, "specials": "out"},
        {"sort": "spread", "reduction": "odd", "limit": 100},
        {"sort": "longest", "label": "neg", "max_length": 12},
        {"sort": "shortest", "layer": "mean"},
    ],
    ids=str,
)
def test_documents_are_found_sorted_and_filtered(probable, parameters):
    documents, store = probable
    expected = find_documents(documents, **parameters)
    assert expected
    assert_rows(asked(store, "find_documents", **parameters), expected)


@pytest.mark.slow
def test_no_document_is_wrong_if_labels_are_not_the_models(tmp_path, documents):
    store = write_store(tmp_path / "store", documents, labels_are_models=False)
    assert (
        asked(store, "find_documents", outcome="wrong")
        == asked(store, "find_documents", outcome="right")
        == []
    )
    assert len(asked(store, "find_documents", limit=100)) == len(documents)


# -- similar_documents ------------------------------------------------------------------------------------


def similar_documents(documents, number, *, reduction="cls", layer="last", ignore=(), limit=10):
    shares = {}
    for other, document in enumerate(documents):
        mass, every = defaultdict(float), []
        for row in document["tokens"]:
            value = value_of(row, reduction, layer)
            if row["word"] and has_letter_or_digit(row["word"]) and row["word"] not in ignore:
                every.append(value)
                mass[row["word"]] += value or 0
        if every and None not in every and min(every) >= 0 and sum(every) > 0:
            shares[other] = {word: value / sum(every) for word, value in mass.items()}
    rows = []
    for other, theirs in shares.items():
        products = {
            word: math.sqrt(share * shares.get(number, {}).get(word, 0)) for word, share in theirs.items()
        }
        products = {word: product for word, product in products.items() if product > 0}
        if other == number or not products:
            continue
        best = sorted(products, key=lambda word: (-single(products[word]), word))
        document = documents[other]
        rows.append(
            {
                "document": other,
                **{key: document[key] for key in ("id", "split", "label", "prediction", "probability")},
                "similarity": sum(products.values()),
                "words": ", ".join(best[:5]),
                "beginning": collapsed(document["text"][:300])[:80],
            }
        )
    rows.sort(key=lambda r: (-single(r["similarity"]), r["document"]))
    return rows[:limit]


@pytest.mark.sampled(at=(1, 4))
@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"ignore": ["the", "film"], "limit": 3},
        {"reduction": "rollout"},
        {"layer": "first"},
        {"reduction": "odd"},
    ],
    ids=str,
)
def test_similar_documents_share_attended_words(store, documents, parameters):
    """Bhattacharyya's coefficient, document by document."""
    for number in (1, 6):
        expected = similar_documents(documents, number, **parameters)
        assert_rows(asked(store, "similar_documents", document=number, **parameters), expected)


@pytest.mark.slow
def test_a_copy_is_found_and_has_similarity_one(tmp_path):
    """Whatever its length, because attention is scaled to sum to 1 over the words."""
    documents = made_up_documents(30, seed=5)
    long = max(range(30), key=lambda number: len(documents[number]["tokens"]))
    documents.append({**documents[long], "id": "the copy", "prediction": "neg"})
    rows = asked(write_store(tmp_path / "store", documents), "similar_documents", document=long, limit=1)
    assert (rows[0]["id"], rows[0]["similarity"]) == ("the copy", pytest.approx(1))


# -- heads ------------------------------------------------------------------------------------------------


def heads(documents, layer="last", by="prediction", min_documents=None, limit=8):
    rows = []
    layers = {"last": [LAYERS], "first": [1], "all": range(1, LAYERS + 1)}.get(layer) or [int(layer)]
    for number in layers:
        for head in range(1, HEADS + 1):

            def value(row, column=f"cls_heads_{number:02d}", head=head):
                return row[column][head - 1]

            places = word_places(documents, value, by)
            for name in sorted({d[by] for d in documents} - {None}):
                those = [d for d in documents if d[by] == name]
                every = [(row, value(row)) for d in those for row in d["tokens"]]
                total = sum(v for _, v in every)
                entropies = [float(scipy.stats.entropy([value(r) for r in d["tokens"]])) for d in those]
                lifts = {}
                for (kind, word), entries in places.items():
                    count = len({number for number, *_ in entries})
                    if (
                        kind == name
                        and has_letter_or_digit(word)
                        and count >= least_documents(documents, by, name, min_documents)
                    ):
                        sums = [sum(v[p] for p in ps) * len(v) / len(ps) for _, ps, v in entries]
                        lifts[word] = (-single(sum(sums) / len(sums)), -count, word)
                marks = sum(v for r, v in every if r["word"] and not has_letter_or_digit(r["word"]))
                rows.append(
                    {
                        "class": name,
                        "layer": number,
                        "head": head,
                        "documents": len(those),
                        "entropy": float(np.mean(entropies)),
                        "effective_tokens": float(np.mean(np.exp(entropies))),
                        "specials": sum(v for r, v in every if r["special"]) / total,
                        "punctuation": marks / total,
                        "words": ", ".join(sorted(lifts, key=lifts.__getitem__)[:limit]),
                    }
                )
    return sorted(rows, key=lambda r: (r["class"], r["layer"], r["head"]))


@pytest.mark.sampled(at=(1, 2))
@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [{}, {"layer": "all", "by": "label", "limit": 3}, {"layer": 2}, {"layer": "all", "min_documents": 40}],
    ids=str,
)
def test_heads_are_described_by_entropy_sinks_and_words(store, documents, parameters):
    """Every head separately, not the heads' mean. If the support is too high, no word is left."""
    assert_rows(asked(store, "heads", **parameters), heads(documents, **parameters), SINGLE)


@pytest.mark.slow
def test_a_head_counts_the_documents_in_which_it_has_an_entropy(tmp_path):
    """Not those with a missing or negative value, or only zeros; each head separately."""
    mine = StoredReduction("mine", per_layer=False, per_head=True, meaning="of mine", total=None)
    texts = [
        [[0.5, 0.25], [0.5, 0.25], [0.0, 0.5]],
        [[1.0, 1.5], [0.0, -0.5], [0.0, 0.0]],
        [[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]],
        [None, [1.0, 1.0], [1.0, 1.0]],
    ]
    documents = []
    for number, values in enumerate(texts):
        document = {"id": str(number), "label": "pos", "prediction": "pos", "split": "test", "probability": 0.75,
                    "truncated": False, "text": "", "tokens": words("film")}  # fmt: skip
        set_values(document, "mine", values)
        documents.append(document)
    rows = asked(write_store(tmp_path / "store", documents, reductions=(mine,)), "heads", reduction="mine")
    found = [(row["head"], row["documents"], row["entropy"], row["effective_tokens"]) for row in rows]
    assert found == [
        (1, 2, pytest.approx(math.log(2) / 2, rel=1e-6), pytest.approx(1.5, rel=1e-6)),
        (2, 2, pytest.approx(1.5 * math.log(2) / 2, rel=1e-6), pytest.approx((2**1.5 + 1) / 2, rel=1e-6)),
    ]


def test_heads_need_values_per_head(store):
    """The message says how to get them, also for a store without any reduction."""
    for reduction in ("cls", "cls_head"):
        with pytest.raises(
            UsageError, match=rf"no values per head of '{reduction}': run again with --reduce cls_heads"
        ):
            ask(store, QUESTIONS["heads"], {"reduction": reduction})
    for layer, told in (("mean", "layer=mean does not fit"), ("4", "the store has no layer 4")):
        with pytest.raises(UsageError, match=rf"{told}.*first, last or all$"):
            ask(store, QUESTIONS["heads"], {"layer": layer})


# -- layer_agreement --------------------------------------------------------------------------------------


def layer_agreement(
    documents, *, reductions=("cls", "rollout"), by="prediction", min_documents=None, lengths=False
):
    columns = [f"{name}_{n:02d}" for name in reductions if name == "cls" for n in range(1, LAYERS + 1)]
    columns += [name for name in reductions if name != "cls"]
    rows = []
    for name in sorted({d[by] for d in documents} - {None}):
        of_class = [number for number, d in enumerate(documents) if d[by] == name]
        sizes = [len(documents[number]["tokens"]) for number in of_class]
        middle = scipy.stats.rankdata(sizes)  # equal values share their mean rank
        thirds = [math.floor(3 * (place - 1) / len(sizes)) for place in middle]
        buckets = {"all": of_class}
        for index, bucket in enumerate(("short", "middle", "long") if lengths else ()):
            buckets[bucket] = [n for n, third in zip(of_class, thirds, strict=True) if third == index]
        for bucket, numbers in buckets.items():
            those = [documents[number] for number in numbers]
            lifts = {}
            for column in columns:
                places = word_places(
                    [
                        d if all(r[c] is not None for c in columns for r in d["tokens"]) else {**d, by: None}
                        for d in those
                    ],
                    lambda row, column=column: row[column],
                    by,
                )
                lifts[column] = {
                    word: np.mean([sum(v[p] for p in ps) * len(v) / len(ps) for _, ps, v in entries])
                    for (_, word), entries in places.items()
                    if has_letter_or_digit(word)
                    and len({number for number, *_ in entries})
                    >= least_documents(those, by, name, min_documents)
                }
            listed = sorted(lifts[columns[0]])
            for one in sorted(columns):
                for other in sorted(columns):
                    if one < other and listed:
                        pair = [[np.float32(lifts[c][word]) for word in listed] for c in (one, other)]
                        varied = all(len(set(values)) > 1 for values in pair)
                        rows.append(
                            {
                                "class": name,
                                "length": bucket,
                                "one": one,
                                "other": other,
                                "words": len(listed),
                                "correlation": float(scipy.stats.spearmanr(*pair).statistic)
                                if varied
                                else None,
                            }
                        )
    return rows


@pytest.mark.sampled(at=(1, 2))
@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"by": "label", "lengths": True, "min_documents": 2},
        {"reductions": ("odd", "cls", "rollout"), "min_documents": 4},
    ],
    ids=str,
)
def test_agreement_is_scipys_rank_correlation(store, documents, parameters):
    """Of layers and of reductions, over all documents of a class and over its thirds by length."""
    given = {"reductions": ["cls", "rollout"]} | {
        k: list(v) if k == "reductions" else v for k, v in parameters.items()
    }
    expected = layer_agreement(documents, **parameters)
    assert expected
    assert_rows(asked(store, "layer_agreement", **given), expected)


@pytest.mark.slow
def test_agreement_is_over_all_reductions_with_one_value_by_default(store):
    """cls_heads has a value per head: it is left out by default, and refused if named."""
    rows = asked(store, "layer_agreement")
    names = {row["one"] for row in rows} | {row["other"] for row in rows}
    assert names == {"cls_01", "cls_02", "cls_03", "odd", "rollout"}
    with pytest.raises(
        UsageError, match=r"^cls_heads has a value per head: reductions takes reductions of one"
    ):
        ask(store, QUESTIONS["layer_agreement"], {"reductions": "cls,cls_heads"})
    with pytest.raises(UsageError, match=r"^the store has no reduction 'clss': reductions must be one of"):
        ask(store, QUESTIONS["layer_agreement"], {"reductions": "clss"})


# -- edge cases -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["contexts", "find_documents", "heads", "layer_agreement"])
def test_a_store_without_documents_has_an_empty_answer(tmp_path, name):
    store = write_store(tmp_path / "store", made_up_documents(10), part_size=5, parts=[])
    assert asked(store, name, **({"word": "film"} if name == "contexts" else {})) == []


@pytest.mark.slow
def test_documents_of_only_special_tokens_share_nothing(tmp_path):
    document = {"id": "a", "label": "pos", "prediction": "pos", "split": "test", "probability": 0.75,
                "truncated": False, "text": "", "tokens": words()}  # fmt: skip
    for column in ("cls_01", "cls_02", "cls_03", "rollout", "odd"):
        set_values(document, column, [0.5, 0.5])
    for column in ("cls_heads_01", "cls_heads_02", "cls_heads_03"):
        set_values(document, column, [[0.5, 0.25], [0.5, 0.75]])
    store = write_store(tmp_path / "store", [document, {**document, "id": "b"}])
    assert asked(store, "similar_documents", document=0) == []
    assert asked(store, "layer_agreement") == []
    assert_rows(asked(store, "heads"), heads([document, document]), SINGLE)
