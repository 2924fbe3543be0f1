"""A store with a signed score."""

import random

import asked_store
import numpy as np
import pytest

from attnstore.store.manifest import StoredReduction
from attnstore.store.store import open_store

EVIDENCE = StoredReduction(
    "evidence", per_layer=False, per_head=False, meaning="signed", total=None, signed=True
)


@pytest.fixture(scope="session")
def signed_documents():
    """Words with their own tendencies for or against; every ninth document has no evidence."""
    chance = random.Random(5)
    leaning = {word: chance.gauss(0, 1) for word in asked_store.LEXICON}
    made = asked_store.made_up_documents(
        150, predictions=("neg", "pos", "meh"), labels=("neg", "pos", "meh", None)
    )
    for number, document in enumerate(made):
        document["id"] = f"test/{number}_{number * 7 % 11}.txt"
        sign = {"neg": -1, "pos": 1, "meh": 0.2}[document["prediction"]]
        asked_store.set_values(
            document,
            "evidence",
            [
                None
                if number % 9 == 8
                else float(np.float32(sign * leaning.get(t["word"], 0) + chance.gauss(0, 1)))
                for t in document["tokens"]
            ],
        )
    return made


@pytest.fixture(scope="session")
def signed_store(signed_documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("signed") / "s.attn"
    reductions = (*asked_store.REDUCTIONS, EVIDENCE)
    asked_store.write_store(path, signed_documents, labels=("neg", "pos", "meh"), reductions=reductions)
    return open_store(path)
