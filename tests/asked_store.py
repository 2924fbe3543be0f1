"""Small stores to ask questions of, and the answers by brute force: plain loops over plain rows.

This file is independent of the package's SQL, its Polars twins, and their sums. A document is a dictionary, its tokens
are dictionaries in a list, and each reduction's value has its column's name as key.
"""

import math
import random
import unicodedata
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import scipy.stats
from small_store import entropies

from attnstore.store.manifest import Manifest, StoredReduction
from attnstore.store.resume import create_or_resume
from attnstore.store.schema import documents_schema, tokens_schema

LAYERS, HEADS = 3, 2
REDUCTIONS = (
    StoredReduction("cls", per_layer=True, per_head=False, meaning="attention from [CLS]"),
    StoredReduction("cls_heads", per_layer=True, per_head=True, meaning="the same, a value per head"),
    StoredReduction("rollout", per_layer=False, per_head=False, meaning="attention rollout of [CLS]"),
    StoredReduction("odd", per_layer=False, per_head=False, meaning="something of mine", total=None),
)
#: Words and their pieces. "Ġ," is a comma as byte-level vocabularies print it after a space.
LEXICON = {
    "the": ["the"], "film": ["film"], "filming": ["film", "##ing"], "unbearable": ["un", "##bear", "##able"],
    "bear": ["bear"], "naïve": ["naïve"], "映画": ["映", "##画"], "10": ["10"], "½": ["½"], "!": ["!"],
    ",": ["Ġ,"], "…": ["…"], "😀": ["😀"], "it's": ["it", "##'", "##s"],
}  # fmt: skip


def token(text, word=None, piece=None, pieces=None, special=False):
    return {"token": text, "word": word, "piece": piece, "pieces": pieces, "special": special}


def words(*names):
    """The tokens of a document with these words, between [CLS] and [SEP]."""
    inner = [token(t, name, i, len(LEXICON[name])) for name in names for i, t in enumerate(LEXICON[name])]
    return [token("[CLS]", special=True), *inner, token("[SEP]", special=True)]


def made_up_documents(
    count, labels=("neg", "pos", None), predictions=("neg", "pos"), splits=("test",), seed=0
):
    """`count` documents with random tokens and values; every fifth has no `odd`."""
    chance = random.Random(seed)
    documents = []
    for number in range(count):
        names = chance.choices(list(LEXICON), k=chance.choice([0, 1, 3, 8, 20]))
        probability = chance.uniform(0.5, 1)
        document = {
            "id": f"{splits[number % len(splits)]}/{number}",
            "label": labels[chance.randrange(len(labels))],
            "prediction": predictions[chance.randrange(len(predictions))],
            "split": splits[number % len(splits)],
            "probability": float(np.float32(probability)),
            "truncated": chance.random() < 0.3,
            "text": " ".join(names),
            "tokens": words(*names),
            "group": chance.choice([None, *(f"film {n}" for n in range(count // 4))]),
        }
        size = len(document["tokens"])

        def distribution(size=size):
            values = [chance.random() ** 3 for _ in range(size)]
            return [float(np.float32(value / sum(values))) for value in values]

        for layer in range(1, LAYERS + 1):
            by_head = [distribution() for _ in range(HEADS)]
            set_values(document, f"cls_{layer:02d}", distribution())
            set_values(document, f"cls_heads_{layer:02d}", [list(v) for v in zip(*by_head, strict=True)])
        set_values(document, "rollout", distribution())
        odd = [None if number % 5 == 4 else float(np.float32(chance.gauss(0, 3))) for _ in range(size)]
        set_values(document, "odd", odd)
        documents.append(document)
    return documents


def set_values(document, column, values):
    for row, value in zip(document["tokens"], values, strict=True):
        row[column] = value


def write_store(
    path: Path,
    documents: list[dict],
    *,
    labels=("neg", "pos"),
    label_in_path=True,
    labels_are_models=True,
    reductions=REDUCTIONS,
    part_size=200,
    parts=None,
    layers=LAYERS,
    long="cut",
):
    """A store of these documents, in parts of `part_size`; sealed unless only some `parts` are written."""
    manifest = Manifest(
        fingerprint={"model": "none", "long": long}, documents=len(documents), part_size=part_size, labels=labels,
        label_in_path=label_in_path, labels_are_models=labels_are_models, layers=layers, heads=HEADS,
        reductions=reductions, max_length=512, model="none", data="made up", versions={},
        created="2026-01-02T03:04:05+00:00",
    )  # fmt: skip
    columns = [column for reduction in reductions for column in reduction.columns(layers)]
    vocabulary = sorted({row["token"] for document in documents for row in document["tokens"]})
    with create_or_resume(path, manifest) as store:
        for part in range(manifest.parts) if parts is None else parts:
            numbers = store.part_range(part)
            rows, token_rows = [], []
            for number in numbers:
                document = documents[number]
                length = len(document["tokens"])
                rows.append(
                    {**document, "document": number, "group": document.get("group"), "length": length,
                     "probabilities": document.get("probabilities", [0.5, 0.5]), "logits": [0.0, 0.0],
                     **entropies(document["tokens"], columns)}
                )  # fmt: skip
                seen_tokens, seen_words = set(), set()
                for position, row in enumerate(document["tokens"]):
                    starts = row["piece"] == 0
                    token_rows.append(
                        {**row, "document": number, "position": position, "length": length,
                         "token_id": vocabulary.index(row["token"]), "start": row.get("start", position),
                         "end": row.get("end", position + 1),
                         "new_token": row["token"] not in seen_tokens,
                         "new_word": starts and row["word"] not in seen_words,
                         "prediction": document["prediction"], "label": document["label"],
                         "split": document["split"]}
                    )  # fmt: skip
                    seen_tokens.add(row["token"])
                    if starts:
                        seen_words.add(row["word"])
            store.write_part(
                part,
                _table(rows, documents_schema(manifest)),
                _table(token_rows, tokens_schema(manifest)),
            )
        if parts is None:
            store.seal()
    return store


def _table(rows, schema):
    extra = [pa.field(name, pa.string()) for name in ("split", "label") if name not in schema.names]
    names = [*schema.names, *(field.name for field in extra)]
    return pa.Table.from_pylist(
        [{name: row[name] for name in names} for row in rows], schema=pa.schema([*schema, *extra])
    )


# ---------------------------------------------------------------------------------------------------------
# Answers by brute force
# ---------------------------------------------------------------------------------------------------------


def value_of(row, reduction, layer="last", head="mean"):
    """The chosen attention of one token, as the questions define it; None if it has none."""
    if head != "mean":
        return row[f"{reduction}_{LAYERS if layer == 'last' else int(layer):02d}"][int(head) - 1]
    if reduction in ("rollout", "odd"):
        return row[reduction]
    layers = {"first": [1], "last": [LAYERS], "mean": range(1, LAYERS + 1)}.get(layer) or [int(layer)]
    chosen = [row[f"{reduction}_{number:02d}"] for number in layers]
    values = [value for each in chosen for value in each] if isinstance(chosen[0], list) else chosen
    return sum(values) / len(values)


def has_letter_or_digit(text, foreign=""):
    return any(unicodedata.category(c)[0] in "LN" and c not in foreign for c in text)


def occurrences(document, unit):
    """(term, special, positions) of each token, or of each word and each token without a word."""
    found = []
    for place, row in enumerate(document["tokens"]):
        if unit == "token" or row["word"] is None:
            found.append((row["token"], row["special"], [place]))
        elif row["piece"] == 0:
            found.append((row["word"], False, [place]))
        else:
            found[-1][2].append(place)
    return found


def cluster_of(documents, number, cluster="group"):
    """The cluster of a document: its film, or only itself."""
    film = documents[number].get("group") if cluster == "group" else None
    return number if film is None else film


def interval(values, owners):
    """The 95 % interval of the mean of `values`, independent only between `owners`: residuals, not sums.

    It is that of the mean's logarithm, if the mean has one and no owner's values sum to less than 0.
    """
    mean = sum(values) / len(values)
    residual, size, whole = defaultdict(float), defaultdict(int), defaultdict(float)
    for value, owner in zip(values, owners, strict=True):
        residual[owner] += value - mean
        whole[owner] += value
        size[owner] += 1
    clusters = 1 / sum((n / len(values)) ** 2 for n in size.values())
    if clusters < 2 - 1e-9:
        return None, None
    variance = clusters / (clusters - 1) * sum(r * r for r in residual.values()) / len(values) ** 2
    margin = float(scipy.stats.t.ppf(0.975, clusters - 1)) * variance**0.5
    if mean > 0 and min(whole.values()) >= 0:
        return mean * math.exp(-margin / mean), mean * math.exp(margin / mean)
    return mean - margin, mean + margin


def mid_rank(value, values):
    """The share of `values` below `value`, plus half of those equal to it."""
    return (sum(v < value for v in values) + sum(v == value for v in values) / 2) / len(values)


def top_terms(
    documents, unit, *, reduction="cls", layer="last", by="prediction", pieces="sum", min_documents=None,
    specials="out", punctuation="out", ignore=(), renormalise=False, rank_by="lift", limit=20,
    intervals=True, cluster="group", shrinkage=10,
):  # fmt: skip
    """The rows of top_tokens_by_class (`unit` token) or top_words_by_class (`unit` word)."""

    def listed(term, special):
        wordless = special if unit == "token" else special or term in ("[CLS]", "[SEP]")
        foreign = "ĠĊ" if unit == "token" else ""
        return (
            (specials == "in" or not wordless)
            and (punctuation == "in" or has_letter_or_digit(term, foreign))
            and term not in ignore
        )

    total, of_class = defaultdict(float), defaultdict(int)
    attention, lift, ranks, places_of, found_in = (defaultdict(list) for _ in range(5))
    is_special = {}
    for number, document in enumerate(documents):
        kind = document[by]
        if kind is None:
            continue
        of_class[kind] += 1
        values = [value_of(row, reduction, layer) for row in document["tokens"]]
        if None in values:
            continue
        units = occurrences(document, unit)
        size = len(values)
        if renormalise:
            units = [u for u in units if listed(u[0], u[1])]
            remaining = [place for *_, places in units for place in places]
            mass, size = sum(values[place] for place in remaining), len(remaining)
            if not mass:
                continue
            values = [value / mass for value in values]
        looked_at = [values[place] for *_, places in units for place in places]
        for term, special, places in units:
            mine = [values[place] for place in places]
            key = kind, term
            is_special[key] = special
            total[kind] += sum(mine)
            attention[key].append(sum(mine) if pieces == "sum" else sum(mine) / len(mine))
            lift[key].append(sum(mine) * size / len(mine))
            if rank_by == "percentile":
                ranks[key].append(sum(mid_rank(value, looked_at) for value in mine) / len(mine))
            places_of[key].append((number, places[0]))
            found_in[key].append(number)
    rows = []
    for (kind, term), values in attention.items():
        least = max(5, -(-of_class[kind] // 200)) if min_documents is None else min_documents
        row = {
            "class": kind,
            unit: term,
            "documents": len(set(found_in[kind, term])),
            "occurrences": len(places_of[kind, term]),
            "mean_attention": sum(values) / len(values),
            "lift": sum(lift[kind, term]) / len(values),
            "low": None,
            "high": None,
            "shrunk": None,
            "share": sum(values) / total[kind],
            "percentile": sum(ranks[kind, term]) / len(values) if rank_by == "percentile" else None,
        }
        if intervals:
            owners = [cluster_of(documents, number, cluster) for number in found_in[kind, term]]
            row["low"], row["high"] = interval(lift[kind, term], owners)
        if listed(term, is_special[kind, term]) and row["documents"] >= least:
            rows.append(row)
    for row in rows:
        of_class_rows = [other for other in rows if other["class"] == row["class"]]
        everywhere = sum(other["lift"] * other["occurrences"] for other in of_class_rows)
        usual = everywhere / sum(other["occurrences"] for other in of_class_rows)
        size = row["occurrences"]
        row["shrunk"] = (row["lift"] * size + usual * shrinkage) / (size + shrinkage)

    def place(row):
        value = row[rank_by]
        return row["class"], value is None, -np.float32(value or 0), -row["documents"], row[unit]

    rows.sort(key=place)
    places = defaultdict(int)
    best = []
    for row in rows:
        places[row["class"]] += 1
        if places[row["class"]] <= limit:
            best.append(row)
    return best


def predictions(documents, labels_are_models=True):
    """The rows of the question `predictions`."""
    golds = [d["label"] if labels_are_models else None for d in documents]
    pairs = list(zip(documents, golds, strict=True))
    classes = sorted({d["prediction"] for d in documents} | {gold for gold in golds if gold is not None})
    rows = []
    for split in [None, *sorted({d["split"] for d in documents})]:
        those = [(d, gold) for d, gold in pairs if split in (None, d["split"])]
        labelled = [gold for _, gold in those if gold is not None]
        correct = sum(d["prediction"] == gold for d, gold in those)
        rows.append(
            {"split": split, "class": None, "predicted": len(those), "labelled": len(labelled),
             "correct": correct, "accuracy": correct / len(labelled) if labelled else None,
             "false_positives": None, "false_negatives": None, "precision": None, "recall": None,
             "f1": None, "truncated": sum(d["truncated"] for d, _ in those)}
        )  # fmt: skip
        for name in classes:
            predicted = [(d, gold) for d, gold in those if d["prediction"] == name]
            hits = sum(gold == name for _, gold in predicted)
            wrongly = sum(gold not in (None, name) for _, gold in predicted)
            missed = sum(gold == name and d["prediction"] != name for d, gold in those)
            rows.append(
                {"split": split, "class": name, "predicted": len(predicted),
                 "labelled": labelled.count(name), "correct": hits, "accuracy": None,
                 "false_positives": wrongly, "false_negatives": missed,
                 "precision": hits / (hits + wrongly) if hits + wrongly else None,
                 "recall": hits / (hits + missed) if hits + missed else None,
                 "f1": 2 * hits / (2 * hits + wrongly + missed) if hits + wrongly + missed else None,
                 "truncated": sum(d["truncated"] for d, _ in predicted)}
            )  # fmt: skip
    return rows


def confusion(documents):
    """The rows of the question `confusion`."""
    cells = defaultdict(list)
    for d in documents:
        cells[d["split"], d["label"], d["prediction"]].append(d)
    rows = []
    for (split, label, prediction), those in cells.items():
        of_label = sum((d["split"], d["label"]) == (split, label) for d in documents)
        rows.append(
            {"split": split, "label": label, "prediction": prediction, "documents": len(those),
             "share": len(those) / of_label,
             "mean_probability": sum(d["probability"] for d in those) / len(those),
             "truncated": sum(d["truncated"] for d in those)}
        )  # fmt: skip
    return sorted(rows, key=lambda r: (r["split"], r["label"] is None, r["label"] or "", r["prediction"]))


def document_tokens(document, reduction="cls", layer="last", head="mean"):
    """The rows of the question `document_tokens`."""
    size = len(document["tokens"])
    rows = []
    for position, row in enumerate(document["tokens"]):
        value = value_of(row, reduction, layer, head)
        plain = {name: row[name] for name in ("token", "word", "piece", "pieces")}
        rows.append(
            {"position": position, **plain, "segment": None if row["special"] else 0,
             "start": position, "end": position + 1, "special": row["special"], "attention": value,
             "lift": None if value is None else value * size}
        )  # fmt: skip
    return rows
