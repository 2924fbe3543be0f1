"""How long answers take over the same documents in a few parts and in many, in processor seconds.

    python benchmarks/parts.py [--documents 4000] [--tokens 128] [--parts 20 2000]

Each store has random tokens and values, the same for each document whatever its part. A question is asked of an open
store, including connecting and binding. The first time, which loads modules, is not counted. Prints Markdown.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np
import pyarrow as pa

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions
from attnstore.ask.sql import run_sql
from attnstore.check.verify import verify_files
from attnstore.store.manifest import Manifest, StoredReduction
from attnstore.store.resume import create_or_resume
from attnstore.store.schema import documents_schema, entropy, tokens_schema
from attnstore.store.store import Store, open_store

LAYERS, WORDS = 12, 30_000
REDUCTIONS = (
    StoredReduction("cls", per_layer=True, per_head=False, meaning="attention from [CLS]"),
    StoredReduction("received", per_layer=True, per_head=False, meaning="attention received"),
    StoredReduction("rollout", per_layer=False, per_head=False, meaning="attention rollout"),
)
COLUMNS = [column for reduction in REDUCTIONS for column in reduction.columns(LAYERS)]
QUESTIONS: dict[str, dict[str, object]] = {
    "predictions": {},
    "confusion": {},
    "errors": {},
    "find_documents": {},
    "top_words_by_class": {},
    "sinks": {},
    "concentration": {},
    "contexts": {"word": "w3"},
    "document_tokens": {"document": "@5"},
    "similar_documents": {"document": "@5"},
}


def plan(documents: int, parts: int) -> Manifest:
    return Manifest(
        fingerprint={"model_sha256": "drawn", "reductions": [r.name for r in REDUCTIONS]},
        documents=documents,
        part_size=-(-documents // parts),
        labels=("neg", "pos"),
        label_in_path=True,
        labels_are_models=True,
        layers=LAYERS,
        heads=12,
        reductions=REDUCTIONS,
        max_length=512,
        model="drawn",
        data="drawn",
        versions={},
        created="2026-01-02T03:04:05+00:00",
    )


def tables(made: Manifest, numbers: range, length: int) -> tuple[pa.Table, pa.Table]:
    """The two tables of documents with that many tokens: every word is one token, and the values are random."""
    n, labels = len(numbers), np.array(made.labels)
    draws = [np.random.default_rng(number) for number in numbers]
    ids = np.concatenate([draw.zipf(1.2, length) % WORDS for draw in draws])
    values = np.concatenate([draw.random((length, len(COLUMNS))) for draw in draws])
    rows = np.repeat(np.arange(n), length)
    shares = values / np.repeat(values.reshape(n, length, -1).sum(1), length, axis=0)
    # As stored by a run: 16 bits of each value.
    stored = (shares.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    again = stored.reshape(n, length, -1).astype(np.float64)
    again /= again.sum(1, keepdims=True)
    entropies = -(again * np.log(again)).sum(1)
    number = np.asarray(numbers)
    label = labels[number % 2]
    prediction = labels[(number + (number % 10 == 0)) % 2]
    words = np.char.add("w", ids.astype(str))
    places = np.tile(np.arange(length), n)
    first = np.zeros(n * length, bool)
    first[np.unique(rows * WORDS + ids, return_index=True)[1]] = True
    logits = np.where((prediction == "neg")[:, None], [1.0, -1.0], [-1.0, 1.0])
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    none, one = np.zeros(n * length, int), np.ones(n * length, int)
    of_tokens = {
        "document": number[rows], "position": places, "token_id": ids, "token": words, "word": words,
        "piece": none, "pieces": one, "start": places * 7, "end": places * 7 + 6, "special": none == 1,
        "new_token": first, "new_word": first, "length": one * length, "prediction": prediction[rows],
        **{column: stored[:, place] for place, column in enumerate(COLUMNS)},
        "split": np.full(n * length, "test"), "label": label[rows],
    }  # fmt: skip
    of_documents = {
        "document": number,
        "id": [f"test/{each}" for each in numbers], "group": [f"film {each // 5}" for each in numbers],
        "text": [" ".join(words[at * length : (at + 1) * length]).ljust(7 * length) for at in range(n)],
        "prediction": prediction, "probability": probabilities.max(1), "probabilities": list(probabilities),
        "logits": list(logits), "length": np.full(n, length), "truncated": np.zeros(n, bool),
        **{entropy(column): entropies[:, place] for place, column in enumerate(COLUMNS)},
        "split": np.full(n, "test"), "label": label,
    }  # fmt: skip
    return _table(of_documents, documents_schema(made)), _table(of_tokens, tokens_schema(made))


def _table(columns: dict[str, object], schema: pa.Schema) -> pa.Table:
    arrays = {}
    for name, values in columns.items():
        kind = schema.field(name).type if name in schema.names else pa.string()
        if pa.types.is_dictionary(kind):
            arrays[name] = pa.array(values, pa.string()).dictionary_encode()
        else:
            arrays[name] = pa.array(values).cast(kind)
    return pa.table(arrays)


def written(path: Path, documents: int, parts: int, length: int) -> Store:
    made = plan(documents, parts)
    with create_or_resume(path, made) as store:
        for part in store.missing_parts():
            store.write_part(part, *tables(made, store.part_range(part), length))
        if not store.sealed:
            store.seal()
    return open_store(path)


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of the second call, at least a millisecond."""
    work()
    began = time.process_time()
    work()
    return max(time.process_time() - began, 1e-3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--parts", type=int, nargs=2, default=[20, 2000])
    parser.add_argument("--keep", type=Path, help="where the stores are, or are to be kept")
    given = parser.parse_args()
    questions = find_questions()
    with tempfile.TemporaryDirectory() as folder:
        paths = [(given.keep or Path(folder)) / f"parts-{parts}.attn" for parts in given.parts]
        stores = [
            written(path, given.documents, parts, given.tokens)
            for path, parts in zip(paths, given.parts, strict=True)
        ]
        works: dict[str, Callable[[Store], object]] = {"opening": lambda store: open_store(store.path)}
        for name, values in QUESTIONS.items():
            works[f"`{name}`"] = lambda store, name=name, values=values: ask(store, questions[name], values)
        works["SQL: a sum over all tokens"] = lambda store: run_sql(store, "SELECT sum(cls_12) FROM tokens")
        works["`verify`"] = lambda store: [None for finding in verify_files(store) if not finding.ok]
        few, many = (f"{parts:,} parts" for parts in given.parts)
        print(f"| CPU seconds | {few} | {many} | ratio |\n|---|---|---|---|")
        for name, work in works.items():
            found = [seconds(lambda store=store, work=work: work(store)) for store in stores]
            print(f"| {name} | {found[0]:.3f} | {found[1]:.3f} | {found[1] / found[0]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
