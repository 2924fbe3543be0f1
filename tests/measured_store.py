"""A made-up table `faithfulness`, for stores that no model has made."""

import random

import pyarrow as pa

from attnstore.store.faithfulness import SCHEMA, write_measurement
from attnstore.store.lock import write_lock

FRACTIONS = (0.01, 0.05, 0.1, 0.2, 0.5)


def measured_rows(documents, scores, *, by="deletion", unit="token", seed=0, units=10):
    """A row for each document, score (and draw of `random`) and fraction, with random values."""
    chance = random.Random(seed)
    return [
        {
            "document": document, "score": score, "draw": draw, "by": by, "unit": unit,
            "fraction": fraction, "removed": max(1, round(fraction * units)), "units": units,
            "probability": 0.75, "comprehensiveness": chance.uniform(-0.2, 0.75),
            "sufficiency": chance.uniform(-0.2, 0.75), "flipped": chance.random() < 0.4,
        }
        for document in documents
        for score in scores
        for draw in ((1, 2, 3) if score == "random" else (0,))
        for fraction in FRACTIONS
    ]  # fmt: skip


def written(store, rows):
    """Add these rows to a store as a file of the table."""
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    settings = {name: rows[0][name] for name in ("by", "unit")}
    settings["model_sha256"] = store.manifest.fingerprint.get("model_sha256")
    with write_lock(store.path):
        return write_measurement(store, table, settings)
