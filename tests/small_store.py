"""A small run without a model: its manifest, and the tables of any of its parts, the same for each call."""

import json
import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from attnstore.store.manifest import Manifest, StoredReduction
from attnstore.store.resume import create_or_resume
from attnstore.store.schema import documents_schema, tokens_schema
from attnstore.store.store import Store

LABELS = ("neg", "pos", None)
VOCABULARY = [
    "[CLS]",
    "[SEP]",
    "a",
    "film",
    "##ing",
    "naïve",
    "😀",
    "!",
]  # "film" is the beginning of two words
WORDS = {"a": [2], "film": [3], "filming": [3, 4], "naïve": [5], "😀": [6], "!": [7]}


def manifest(**changes: object) -> Manifest:
    """Ten documents in parts of four, two layers, three heads."""
    fields = {
        "fingerprint": {"model": "tiny", "max_length": 512, "reductions": ["cls", "cls_heads", "odd"]},
        "documents": 10,
        "part_size": 4,
        "labels": ("neg", "pos"),
        "label_in_path": True,
        "labels_are_models": True,
        "layers": 2,
        "heads": 3,
        "reductions": (
            StoredReduction("cls", per_layer=True, per_head=False, meaning="attention from [CLS]"),
            StoredReduction("cls_heads", per_layer=True, per_head=True, meaning="the same, a value per head"),
            StoredReduction("odd", per_layer=False, per_head=False, meaning="something of mine", total=None),
        ),
        "max_length": 512,
        "model": "tiny",
        "data": "made up",
        "versions": {"attnstore": "0"},
        "created": "2026-01-02T03:04:05+00:00",
    }
    return Manifest(**(fields | changes))


def entropy(values: Sequence[object]) -> object:
    """The entropy, in nats, of a document's values, one per token, scaled to sum to 1; of each head's if they are
    lists.

    None if a value is missing or negative, or if all are 0.
    """
    if not values or None in values:
        return None
    if isinstance(values[0], list):
        heads = [entropy(head) for head in zip(*values, strict=True)]
        return heads if any(head is not None for head in heads) else None
    if min(values) < 0 or not sum(values):
        return None
    parts = [value / sum(values) for value in values]
    return sum(part * math.log(1 / part) for part in parts if part)


def entropies(tokens: Sequence[dict], columns: Iterable[str]) -> dict[str, object]:
    """The entropies in a document's row, from its tokens' rows."""
    return {f"{column}_entropy": entropy([token[column] for token in tokens]) for column in columns}


def document_rows(number: int, labels: Sequence[str | None], split: str = "test") -> tuple[dict, list[dict]]:
    """One document's row and its tokens' rows."""
    chance = random.Random(number)
    words = chance.choices(list(WORDS), k=chance.randint(0, 9))
    text = " ".join(words)
    positive = chance.random() < 0.5
    logits = [-1.0, 1.0] if positive else [1.0, -1.0]
    probability = 0.8807970779778823  # 1 / (1 + exp(-2)): the softmax of these logits
    probabilities = [1 - probability, probability] if positive else [probability, 1 - probability]
    prediction = "pos" if positive else "neg"
    label = labels[number % len(labels)]

    def special(token_id: int, start: int) -> dict:
        return {"token_id": token_id, "start": start, "end": start, "special": True, "new_word": False}

    tokens, start, seen_words = [special(0, 0)], 0, set()
    for word in words:
        for piece, token_id in enumerate(WORDS[word]):
            size = len(VOCABULARY[token_id].removeprefix("##"))
            tokens.append(
                {"token_id": token_id, "start": start, "end": start + size, "special": False,
                 "word": word, "piece": piece, "pieces": len(WORDS[word]),
                 "new_word": piece == 0 and word not in seen_words}
            )  # fmt: skip
            start += size
        start += 1
        seen_words.add(word)
    tokens.append(special(1, len(text)))

    def distribution() -> list[float]:
        values = [chance.random() for _ in tokens]
        return [value / sum(values) for value in values]

    columns = {f"cls_{layer:02d}": distribution() for layer in (1, 2)}
    for layer in (1, 2):
        heads = [distribution() for _ in range(3)]
        columns[f"cls_heads_{layer:02d}"] = [list(values) for values in zip(*heads, strict=True)]
    columns["odd"] = [None if number == 1 else chance.gauss(0, 9) for _ in tokens]
    seen_tokens = set()
    for position, token in enumerate(tokens):
        token |= {name: values[position] for name, values in columns.items()}
        token |= {"document": number, "position": position, "token": VOCABULARY[token["token_id"]]}
        token |= {"new_token": token["token_id"] not in seen_tokens}
        token |= {"length": len(tokens), "prediction": prediction, "split": split, "label": label}
        seen_tokens.add(token["token_id"])
    document = {
        "document": number, "id": f"test/{number}", "group": None if number % 3 else f"film {number // 6}",
        "text": text, "prediction": prediction, "probability": probability, "probabilities": probabilities,
        "logits": logits, "length": len(tokens), "truncated": number == 2, "split": split, "label": label,
        **entropies(tokens, columns),
    }  # fmt: skip
    return document, tokens


def tables(
    plan: Manifest, numbers: Iterable[int], labels: Sequence[str | None] = LABELS, split: str = "test"
) -> tuple[pa.Table, pa.Table]:
    """The two tables of the documents `numbers`, in the form that `Store.write_part` expects."""
    rows = [document_rows(number, labels, split) for number in numbers]
    extra = [pa.field("split", pa.string())]
    if plan.label_in_path:
        extra.append(pa.field("label", pa.string()))
    return (
        pa.Table.from_pylist(
            [document for document, _ in rows], pa.schema([*documents_schema(plan), *extra])
        ),
        pa.Table.from_pylist(
            [token for _, tokens in rows for token in tokens], pa.schema([*tokens_schema(plan), *extra])
        ),
    )


def run(path: Path, plan: Manifest, labels: Sequence[str | None] = LABELS, seal: bool = True) -> Store:
    """Write every missing part of the store at `path`, like a run, and seal it."""
    with create_or_resume(path, plan) as store:
        for part in store.missing_parts():
            store.write_part(part, *tables(plan, store.part_range(part), labels))
        if seal and not store.sealed:
            store.seal(sealed="2026-01-02T03:04:06+00:00")
    return store


def contents(path: Path) -> dict[str, bytes]:
    """Every file under `path`, by relative path."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def resealed(path: Path, name: str, content: bytes) -> None:
    """Replace one file of a sealed store by `content`, recorded as if it had been written so."""
    import hashlib
    import io

    import pyarrow.parquet as pq

    (path / name).write_bytes(content)
    raw = json.loads((path / "manifest.json").read_text())
    (entry,) = (file for file in raw["files"] if file["path"] == name)
    entry["bytes"], entry["sha256"] = len(content), hashlib.sha256(content).hexdigest()
    entry["rows"] = pq.ParquetFile(io.BytesIO(content)).metadata.num_rows
    (path / "manifest.json").write_text(json.dumps(raw))
