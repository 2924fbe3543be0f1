"""The questions about layers, positions and whole documents: DuckDB, Polars and brute force give the same tables."""

import math
import random
from collections import defaultdict

import numpy as np
import pytest
import scipy.stats
from asked import ask
from asked_store import (
    LAYERS,
    REDUCTIONS,
    cluster_of,
    has_letter_or_digit,
    interval,
    made_up_documents,
    set_values,
    value_of,
    words,
    write_store,
)

from attnstore.ask.questions import find_questions

QUESTIONS = find_questions()
STOP_WORDS = {"the", "film"}


def asked(store, name, **parameters):
    """The answer as rows, after checking that both engines agree in columns, types, order and values."""
    one, other = (ask(store, QUESTIONS[name], parameters, engine) for engine in ("duckdb", "polars"))
    assert one.schema.equals(other.schema)
    # For this question, SQL reads the shares from the totals, the twin from the tokens.
    assert_rows(one.to_pylist(), other.to_pylist(), SINGLE if name == "attention_vs_frequency" else 1e-9)
    return one.to_pylist()


#: The accuracy of the single-precision sums in the totals.
SINGLE = 1e-5


def assert_rows(found, expected, rel=1e-9):
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert row == {
            key: pytest.approx(value, rel=rel, abs=1e-9) if isinstance(value, float) else value
            for key, value in wanted.items()
        }


def columns_of(reduction):
    """(number, or None if one value is for all layers; a function for a token's value) for each layer."""
    if reduction in ("rollout", "odd"):
        return [(None, lambda row: row[reduction])]
    return [(n, lambda row, n=n: value_of(row, reduction, str(n))) for n in range(1, LAYERS + 1)]


def single(value):
    return -math.inf if value is None else float(np.float32(value))


def with_markup(documents, seed=1):
    """Some words of one piece become `<br />`, `<br>`, or pieces of either."""
    chance = random.Random(seed)
    for document in documents:
        rows = [row for row in document["tokens"] if row["pieces"] == 1]
        for row in rows:
            if chance.random() < 0.5:
                row["word"] = row["token"] = chance.choice(["<", "br", "/", ">"])
        for start in range(0, len(rows) - 4, 3):
            if chance.random() < 0.3:
                for row, text in zip(
                    rows[start:], chance.choice(["< br / >", "< br >"]).split(), strict=False
                ):
                    row["word"] = row["token"] = text
    return documents


@pytest.fixture(scope="module")
def documents():
    return with_markup(made_up_documents(80, splits=("train", "test")))


@pytest.fixture(scope="module")
def store(tmp_path_factory, documents):
    return write_store(tmp_path_factory.mktemp("profiles") / "store", documents)


# -- sinks ------------------------------------------------------------------------------------------------


def kinds_of(document, stop_words):
    texts = [row["word"] for row in document["tokens"]]
    markup = set()
    for place in range(len(texts)):
        for tag in (["<", "br", "/", ">"], ["<", "br", ">"]):
            if texts[place : place + len(tag)] == tag:
                markup |= set(range(place, place + len(tag)))
    for place, row in enumerate(document["tokens"]):
        if row["special"]:
            yield row["token"]
        elif place in markup:
            yield "<br />"
        elif not has_letter_or_digit(row["word"]):
            yield "punctuation"
        else:
            yield "stop words" if row["word"] in stop_words else "words"


def sinks(documents, reduction="cls", by="prediction", stop_words=STOP_WORDS):
    rows = []
    for layer, value in columns_of(reduction):
        tokens, mass, lift = defaultdict(int), defaultdict(float), defaultdict(float)
        for document in documents:
            values = [value(row) for row in document["tokens"]]
            if document[by] is None or None in values:
                continue
            for kind, attention in zip(kinds_of(document, stop_words), values, strict=True):
                key = document[by], kind
                tokens[key] += 1
                mass[key] += attention
                lift[key] += attention * len(values)
        for name, kind in tokens:
            of_class = [key for key in tokens if key[0] == name]
            rows.append(
                {
                    "class": name,
                    "layer": layer,
                    "kind": kind,
                    "tokens": tokens[name, kind],
                    "share_of_tokens": tokens[name, kind] / sum(tokens[key] for key in of_class),
                    "share": mass[name, kind] / sum(mass[key] for key in of_class),
                    "lift": lift[name, kind] / tokens[name, kind],
                }
            )
    return sorted(rows, key=lambda r: (r["class"], r["layer"] or 0, -single(r["share"]), r["kind"]))


@pytest.mark.sampled(at=(1, 2, 4, 5))
@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"by": "label"},
        {"reduction": "cls_heads"},
        {"reduction": "rollout"},
        {"reduction": "odd"},
        {"stop_words": ["bear", "10", "br"]},
    ],
    ids=str,
)
def test_sinks_are_those_of_a_loop_over_tokens(store, documents, parameters):
    """`<br />` is found among single `<`, `br`, `/` and `>`, which are not markup."""
    stop = {"stop_words": sorted(STOP_WORDS)} | parameters
    expected = sinks(documents, **parameters)
    assert {row["kind"] for row in expected} == {
        "[CLS]",
        "[SEP]",
        "<br />",
        "punctuation",
        "stop words",
        "words",
    }
    assert_rows(asked(store, "sinks", **stop), expected, SINGLE)


@pytest.mark.slow
def test_stop_words_are_english_function_words_unless_given(store, documents):
    """`the`, `it` and the like, but no negation."""
    assert_rows(asked(store, "sinks"), sinks(documents, stop_words={"the"}), SINGLE)
    text = QUESTIONS["sinks"].sql
    assert all(f"'{word}'" in text for word in ("the", "a", "of", "and", "they", "would"))
    assert not any(f"'{word}'" in text for word in ("not", "no", "never", "nor"))


# -- concentration ----------------------------------------------------------------------------------------


def concentration(documents, reduction="cls", by="prediction", specials="in"):
    rows = []
    for layer, value in columns_of(reduction):
        found = defaultdict(list)
        for document in documents:
            tokens = [row for row in document["tokens"] if specials == "in" or not row["special"]]
            values = [value(row) for row in tokens]
            if document[by] is None or None in values or not values or min(values) < 0 or sum(values) <= 0:
                continue
            found[document[by]].append((len(values), float(scipy.stats.entropy(values))))
        for name, those in found.items():
            entropies = [entropy for _, entropy in those]
            even = [entropy / math.log(size) for size, entropy in those if size > 1]
            effective = np.exp(entropies)
            rows.append(
                {
                    "class": name,
                    "layer": layer,
                    "documents": len(those),
                    "entropy": float(np.mean(entropies)),
                    "deviation": float(np.std(entropies, ddof=1)) if len(those) > 1 else None,
                    "effective_tokens": float(np.mean(effective)),
                    "evenness": float(np.mean(even)) if even else None,
                }
                | {f"effective_{p:02d}": float(np.percentile(effective, p)) for p in (5, 25, 50, 75, 95)}
            )
    return sorted(rows, key=lambda r: (r["class"], r["layer"] or 0))


@pytest.mark.sampled(at=(1, 2, 4))
@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"by": "label", "specials": "out"},
        {"reduction": "cls_heads"},
        {"reduction": "rollout"},
        {"reduction": "odd"},
    ],
    ids=str,
)
def test_concentration_is_scipys_entropy(store, documents, parameters):
    """Including documents of two tokens, of only special tokens, with nulls, and with negative values."""
    assert_rows(asked(store, "concentration", **parameters), concentration(documents, **parameters))


def test_concentration_of_even_attention_and_of_all_on_one(tmp_path):
    """ln n nats and n tokens for even attention; 0 nats and one token if one token gets all."""
    one = {"id": "a", "label": "pos", "prediction": "pos", "split": "test", "probability": 0.75, "truncated": False,
           "text": "the film", "tokens": words("the", "film")}  # fmt: skip
    other = {**one, "id": "b", "prediction": "neg", "tokens": words("the", "film")}
    set_values(one, "cls_01", [0.25] * 4)
    set_values(other, "cls_01", [0.0, 1.0, 0.0, 0.0])
    store = write_store(tmp_path / "store", [one, other], reductions=REDUCTIONS[:1], layers=1)
    rows = asked(store, "concentration")
    assert [(r["class"], r["layer"], r["documents"], r["deviation"]) for r in rows] == [
        ("neg", 1, 1, None),
        ("pos", 1, 1, None),
    ]
    assert [rows[0][key] for key in ("entropy", "effective_tokens", "evenness", "effective_50")] == [
        0,
        1,
        0,
        1,
    ]
    even = [rows[1][key] for key in ("entropy", "effective_tokens", "evenness", "effective_05")]
    assert even == pytest.approx([math.log(4), 4, 1, 4])


# -- positions and truncation -----------------------------------------------------------------------------


def position_profile(documents, reduction="cls", layer="last", by="prediction", specials="in", places=5):
    found = defaultdict(list)
    for number, document in enumerate(documents):
        values = [value_of(row, reduction, layer) for row in document["tokens"]]
        if document[by] is None or None in values:
            continue
        size = len(values)
        for position, value in enumerate(values):
            if specials == "out" and document["tokens"][position]["special"]:
                continue
            entry = number, value, size
            found[document[by], 0, "tenth", math.floor(position * 10 / size) + 1].append(entry)
            if position < places:
                found[document[by], 1, "start", position + 1].append(entry)
            if size - position <= places:
                found[document[by], 2, "end", size - position].append(entry)
    rows = []
    for (name, _, part, place), entries in sorted(found.items()):
        total = sum(v for key, es in found.items() if key[0] == name and key[1] == 0 for _, v, _ in es)
        rows.append(
            {
                "class": name,
                "part": part,
                "place": place,
                "documents": len({number for number, _, _ in entries}),
                "tokens": len(entries),
                "share": sum(value for _, value, _ in entries) / total,
                "lift": sum(value * size for _, value, size in entries) / len(entries),
            }
        )
    return rows


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"by": "label", "specials": "out", "places": 2},
        {"layer": "mean", "places": 0},
        {"reduction": "odd"},
    ],
    ids=str,
)
def test_a_position_profile_is_that_of_a_loop_over_tokens(store, documents, parameters):
    assert_rows(asked(store, "position_profile", **parameters), position_profile(documents, **parameters))


def truncation(documents, by="prediction", labels_are_models=True):
    rows = []
    for name in [*sorted({d[by] for d in documents} - {None}), None]:
        for cut in (True, False, None):
            those = [
                d
                for d in documents
                if (name is None or d[by] == name) and (cut is None or d["truncated"] == cut)
            ]
            golds = [(d["label"], d["prediction"]) for d in those if labels_are_models and d["label"]]
            characters = sum(len(d["text"]) for d in those)
            # In these stores the token at position p ends at character p + 1.
            hidden = sum(max(0, len(d["text"]) - len(d["tokens"])) for d in those if d["truncated"])
            right = sum(gold == prediction for gold, prediction in golds)
            rows.append(
                {
                    "class": name,
                    "truncated": cut,
                    "documents": len(those),
                    "tokens": sum(len(d["tokens"]) for d in those),
                    "characters": characters,
                    "hidden": hidden,
                    "hidden_share": hidden / characters if characters else None,
                    "labelled": len(golds),
                    "correct": right,
                    "accuracy": right / len(golds) if golds else None,
                }
            )
    return [row for row in rows if row["documents"]]


@pytest.mark.slow
@pytest.mark.parametrize("by", ["prediction", "label"])
def test_truncation_counts_text_that_was_not_read(store, documents, by):
    """By class, and for all. By label, unlabelled documents are only in the latter."""
    assert_rows(asked(store, "truncation", by=by), truncation(documents, by))


@pytest.mark.slow
def test_truncation_has_no_accuracy_if_labels_are_not_the_models(tmp_path, documents):
    store = write_store(tmp_path / "store", documents, labels_are_models=False)
    assert_rows(asked(store, "truncation"), truncation(documents, labels_are_models=False))


# -- words ------------------------------------------------------------------------------------------------


def word_places(documents, value, by):
    """(class, word): [(document, positions, values of all the document's tokens)] of each occurrence."""
    found = defaultdict(list)
    for number, document in enumerate(documents):
        values = [value(row) for row in document["tokens"]]
        if document[by] is None or None in values:
            continue
        for place, row in enumerate(document["tokens"]):
            if row["piece"] == 0:
                places = range(place, place + row["pieces"])
                found[document[by], row["word"]].append((number, places, values))
    return found


def least_documents(documents, by, name, given):
    return max(5, -(-sum(d[by] == name for d in documents) // 200)) if given is None else given


def log_ratio_interval(documents, entries, everything, cluster):
    """exp of ln(a/n) − ln(A/N) ± t · s, with each cluster's influence worked out one by one."""
    mine, all_ = defaultdict(lambda: [0.0, 0]), defaultdict(lambda: [0.0, 0])
    for number, places, values in entries:
        owner = mine[cluster_of(documents, number, cluster)]
        owner[0] += sum(values[place] for place in places)
        owner[1] += len(places)
    for number, values in everything.items():
        owner = all_[cluster_of(documents, number, cluster)]
        owner[0] += sum(values)
        owner[1] += len(values)
    (a, n), (big_a, big_n) = (
        [sum(column) for column in zip(*those.values(), strict=True)] for those in (mine, all_)
    )
    clusters = n**2 / sum(size**2 for _, size in mine.values())
    if clusters < 2 - 1e-9 or a <= 0:
        return None, None
    influence = [
        (mine[g][0] / a - mine[g][1] / n if g in mine else 0) - all_[g][0] / big_a + all_[g][1] / big_n
        for g in all_
    ]
    error = math.sqrt(clusters / (clusters - 1) * sum(u * u for u in influence))
    margin = float(scipy.stats.t.ppf(0.975, clusters - 1)) * error
    ratio = a / n / (big_a / big_n)
    return ratio * math.exp(-margin), ratio * math.exp(margin)


def attention_vs_frequency(
    documents, *, reduction="cls", layer="last", by="prediction", min_documents=None, punctuation="out", ignore=(),
    cluster="group", order="most", limit=20,
):  # fmt: skip
    found = word_places(documents, lambda row: value_of(row, reduction, layer), by)
    everything = defaultdict(dict)
    for number, document in enumerate(documents):
        values = [value_of(row, reduction, layer) for row in document["tokens"]]
        if document[by] is not None and None not in values:
            everything[document[by]][number] = values
    rows = []
    for (name, word), entries in found.items():
        count = len({number for number, *_ in entries})
        if count < least_documents(documents, by, name, min_documents) or word in ignore:
            continue
        if punctuation == "out" and not has_letter_or_digit(word):
            continue
        whole = everything[name].values()
        attention = sum(v[place] for _, places, v in entries for place in places) / sum(map(sum, whole))
        tokens = sum(len(places) for _, places, _ in entries) / sum(map(len, whole))
        low, high = log_ratio_interval(documents, entries, everything[name], cluster)
        rows.append(
            {
                "class": name,
                "word": word,
                "documents": count,
                "occurrences": len(entries),
                "share_of_attention": attention,
                "share_of_tokens": tokens,
                "ratio": attention / tokens,
                "low": low,
                "high": high,
            }
        )
    for row in rows:
        others = [other for other in rows if other["class"] == row["class"]]
        for key, share in (("frequency_rank", "share_of_tokens"), ("attention_rank", "share_of_attention")):
            row[key] = 1 + sum(single(other[share]) > single(row[share]) for other in others)
    sign = -1 if order == "most" else 1
    rows.sort(key=lambda r: (r["class"], sign * single(r["ratio"]), -r["documents"], r["word"]))
    return [
        row
        for name in sorted({r["class"] for r in rows})
        for row in [r for r in rows if r["class"] == name][:limit]
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"order": "least", "limit": 3, "punctuation": "in"},
        {"by": "label", "layer": "first", "cluster": "document", "min_documents": 1},
        {"reduction": "cls_heads", "layer": "mean", "ignore": ["the", "film"]},
        {"reduction": "rollout", "min_documents": 0},
    ],
    ids=str,
)
def test_attention_against_frequency_is_that_of_a_loop_over_words(store, documents, parameters):
    """Shares, ranks, and the interval of their ratio, in which the total varies with the clusters, too."""
    expected = attention_vs_frequency(documents, **parameters)
    assert any(row["low"] for row in expected)
    assert_rows(asked(store, "attention_vs_frequency", **parameters), expected, SINGLE)


@pytest.mark.slow
def test_the_interval_of_a_ratio_of_shares_is_that_of_a_bootstrap():
    """Films resampled 2,000 times: the ends of the closed form are the bootstrap's percentiles."""
    documents = made_up_documents(2000, seed=7)
    (row,) = (
        r for r in attention_vs_frequency(documents) if (r["class"], r["word"]) == ("pos", "the")
    )  # fmt: skip
    films = defaultdict(list)
    for number, document in enumerate(documents):
        if document["prediction"] == "pos":
            values = [value_of(token, "cls") for token in document["tokens"]]
            mine = [v for v, token in zip(values, document["tokens"], strict=True) if token["word"] == "the"]
            films[cluster_of(documents, number)].append((sum(mine), len(mine), sum(values), len(values)))
    sums = np.array([np.sum(those, axis=0) for those in films.values()])  # (films, 4)
    chance = np.random.default_rng(0)
    drawn = sums[chance.integers(len(sums), size=(2000, len(sums)))].sum(axis=1)  # (2000, 4)
    ratios = drawn[:, 0] / drawn[:, 1] / (drawn[:, 2] / drawn[:, 3])
    low, high = np.percentile(ratios, [2.5, 97.5])
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.1 * (high - low))


def layer_profile(
    documents, *, chosen=(), reduction="cls", by="prediction", min_documents=None, punctuation="out", ignore=(),
    cluster="group", rank_by="lift", limit=5,
):  # fmt: skip
    layers = columns_of(reduction)
    by_layer = [word_places(documents, value, by) for _, value in layers]
    lifts = {
        key: [
            [sum(v[p] for p in places) * len(v) / len(places) for _, places, v in found[key]]
            for found in by_layer
        ]
        for key in by_layer[0]
    }
    counts = {key: len({number for number, *_ in entries}) for key, entries in by_layer[0].items()}

    def rank(key):
        means = [sum(values) / len(values) for values in lifts[key]]
        return single(sum(means) / len(means) if rank_by == "lift" else max(means) - min(means))

    rows = []
    for name in sorted({name for name, _ in lifts}):
        keys = [
            key
            for key in lifts
            if key[0] == name
            and (
                key[1] in chosen
                if chosen
                else counts[key] >= least_documents(documents, by, name, min_documents)
                and (punctuation == "in" or has_letter_or_digit(key[1]))
                and key[1] not in ignore
            )
        ]
        keys.sort(key=lambda key: (-rank(key), -counts[key], key[1]))
        for key in keys if chosen else keys[:limit]:
            for (layer, _), values in zip(layers, lifts[key], strict=True):
                owners = [cluster_of(documents, number, cluster) for number, *_ in by_layer[0][key]]
                low, high = interval(values, owners)
                rows.append(
                    {"class": name, "word": key[1], "layer": layer, "documents": counts[key],
                     "occurrences": len(values), "lift": sum(values) / len(values), "low": low, "high": high}
                )  # fmt: skip
    return rows


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"rank_by": "spread", "limit": 2, "by": "label"},
        {"words": ["film", "unbearable", "there is no such word"], "cluster": "document"},
        {"reduction": "cls_heads", "min_documents": 1, "punctuation": "in", "ignore": ["the"]},
        {"reduction": "odd"},
    ],
    ids=str,
)
def test_a_layer_profile_is_that_of_a_loop_over_words(store, documents, parameters):
    """The leading words, or the given ones, in every layer, with intervals."""
    expected = layer_profile(documents, **{"chosen" if k == "words" else k: v for k, v in parameters.items()})
    assert expected
    assert_rows(asked(store, "layer_profile", **parameters), expected)


# -- edge cases -------------------------------------------------------------------------------------------

EVERY = [
    "sinks",
    "concentration",
    "position_profile",
    "truncation",
    "attention_vs_frequency",
    "layer_profile",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_a_store_without_documents_has_an_empty_answer(tmp_path, name):
    """With its columns."""
    store = write_store(tmp_path / "store", made_up_documents(10), part_size=5, parts=[])
    assert asked(store, name) == []


@pytest.mark.slow
def test_documents_of_only_special_tokens_have_no_words(tmp_path):
    documents = made_up_documents(12)
    for document in documents:
        document["tokens"] = [row for row in document["tokens"] if row["special"]]
    store = write_store(tmp_path / "store", documents)
    assert asked(store, "attention_vs_frequency") == asked(store, "layer_profile") == []
    assert asked(store, "concentration", specials="out") == []
    assert_rows(asked(store, "sinks"), sinks(documents), SINGLE)
    assert_rows(asked(store, "position_profile"), position_profile(documents))


@pytest.mark.slow
def test_three_classes_and_documents_without_labels(tmp_path):
    """By label, unlabelled documents are left out."""
    documents = made_up_documents(
        60, labels=("bad", "fair", "good", None), predictions=("bad", "fair", "good"), seed=3
    )
    store = write_store(tmp_path / "store", documents, labels=("bad", "fair", "good"))
    for by in ("prediction", "label"):
        stop = {"stop_words": sorted(STOP_WORDS)}
        assert_rows(asked(store, "sinks", by=by, **stop), sinks(documents, by=by), SINGLE)
        assert_rows(asked(store, "concentration", by=by), concentration(documents, by=by))
        assert_rows(asked(store, "position_profile", by=by), position_profile(documents, by=by))
        assert_rows(asked(store, "truncation", by=by), truncation(documents, by=by))
        expected = attention_vs_frequency(documents, by=by)
        assert_rows(asked(store, "attention_vs_frequency", by=by), expected, SINGLE)
        assert_rows(asked(store, "layer_profile", by=by), layer_profile(documents, by=by))


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_a_negative_ratio_has_no_interval(tmp_path, engine):
    """One word is above 0 where all others of the class sum to less: its share is negative, and has no logarithm."""
    documents = made_up_documents(40)
    for document in documents:
        set_values(document, "odd", [1.0 if t["word"] == "film" else -5.0 for t in document["tokens"]])
    store = write_store(tmp_path / "negative.attn", documents)
    given = {"reduction": "odd", "min_documents": 1, "cluster": "document"}
    rows = ask(store, find_questions()["attention_vs_frequency"], given, engine).to_pylist()
    negative = [row for row in rows if row["ratio"] < 0]
    assert negative and {row["word"] for row in negative} == {"film"}
    assert [(row["low"], row["high"]) for row in negative] == [(None, None)] * len(negative)
