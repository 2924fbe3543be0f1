"""Tables made from batches, against rows made one at a time."""

import math
import re

import numpy as np
import pytest
import tiny
import torch

from attnstore.data.documents import Document
from attnstore.engine.batches import plan_batches, tokenise
from attnstore.engine.classifier import Reduced
from attnstore.engine.rows import _stored, part_tables
from attnstore.engine.segmenter import Segmenter
from attnstore.store.manifest import Manifest, StoredReduction
from attnstore.store.schema import documents_schema, tokens_schema

TOKENIZER = tiny.tokenizer()
TEXTS = [
    ("A GREAT film, a great plot!", "pos", "test"),
    ("", None, "test"),
    ("Unwatchable. unwatchable, UNWATCHABLE", "neg", "test"),
    ("café ☃ naïve", "pos", "train"),
    ("lov lovable xyzzy", "neg", "train"),
]


def manifest(**changes):
    fields = {
        "fingerprint": {}, "documents": 5, "part_size": 5, "labels": ("neg", "pos"), "label_in_path": True,
        "labels_are_models": True, "layers": 1, "heads": 2, "max_length": 64, "model": "m", "data": "d",
        "versions": {}, "created": "now",
        "reductions": (
            StoredReduction("cls", True, False, "cls"), StoredReduction("cls_heads", True, True, "heads"),
        ),
    }  # fmt: skip
    return Manifest(**(fields | changes))


def results(padded=False, budget=12):
    """Batches whose values encode their origin: document + position / 1000, negated by head."""
    documents = [Document(text, f"id{i}", None, split, label) for i, (text, label, split) in enumerate(TEXTS)]
    for batch in plan_batches(tokenise(enumerate(documents), TOKENIZER, 64), budget, padded=padded):
        values = torch.cat([d.number + torch.arange(d.length) / 1000 for d in batch.documents])
        logits = torch.tensor([[0.0, 1.0 if d.number % 2 else -1.0] for d in batch.documents])
        yield (
            batch,
            Reduced(logits, {"cls_01": values, "cls_heads_01": torch.stack([values, -values], dim=1)}),
        )


def tables(**changes):
    return part_tables(manifest(**changes), results(), Segmenter(), full_precision=True)


def by_hand(number):
    """One document's rows, token by token, as the schema describes them."""
    text, label, split = TEXTS[number]
    encoding = TOKENIZER(text).encodings[0]
    seen_tokens, seen_words, rows = set(), set(), []
    # The words of such texts, by hand: runs of letters and digits, and each other character alone.
    words = [(m.start(), m.end()) for m in re.finditer(r"\w+|\S", text)]
    owner = [
        next((w for w in words if w[0] <= a < w[1]), None) if a < b else None for a, b in encoding.offsets
    ]
    for position, token in enumerate(encoding.tokens):
        same = [p for p, w in enumerate(owner) if w == owner[position]] if owner[position] else []
        start, end = encoding.offsets[position]
        word = text[slice(*owner[position])].lower() if same else None
        first_piece = bool(same) and position == same[0]
        value = float(np.float32(number + position / 1000))
        rows.append({
            "document": number, "position": position, "token_id": encoding.ids[position], "token": token,
            "word": word, "piece": same.index(position) if same else None, "pieces": len(same) if same else None,
            "start": start, "end": end, "special": word is None, "new_token": token not in seen_tokens,
            "new_word": first_piece and word not in seen_words, "length": len(encoding.tokens),
            "prediction": "pos" if number % 2 else "neg", "cls_01": pytest.approx(value, abs=1e-6),
            "cls_heads_01": pytest.approx([value, -value], abs=1e-6), "split": split, "label": label,
        })  # fmt: skip
        seen_tokens.add(token)
        if first_piece:
            seen_words.add(word)
    return rows


def entropy(values):
    """In nats, of the values scaled to add up to 1; None if one is missing or negative, or all are 0."""
    if any(value is None or value < 0 for value in values) or sum(values) == 0:
        return None
    found = 0.0
    for value in values:
        if value > 0:
            found -= value / sum(values) * math.log(value / sum(values))
    return found


def test_the_tokens_table_equals_rows_made_one_at_a_time():
    """The whole table: order restored from length-sorted batches, words, pieces, first occurrences."""
    expected = [row for number in range(len(TEXTS)) for row in by_hand(number)]
    assert tables().tokens.to_pylist() == expected


def test_the_documents_table_equals_rows_made_one_at_a_time():
    """Prediction, its probability, all probabilities and logits in the order of the model's classes, and entropies."""
    found = tables().documents.to_pylist()
    for number, (text, label, split) in enumerate(TEXTS):
        logit = 1.0 if number % 2 else -1.0
        values = [row["cls_01"].expected for row in by_hand(number)]
        positive = 1 / (1 + np.exp(-logit))
        assert found[number] == {
            "document": number, "id": f"id{number}", "group": None, "text": text,
            "prediction": "pos" if number % 2 else "neg", "probability": pytest.approx(max(positive, 1 - positive)),
            "probabilities": pytest.approx([1 - positive, positive]), "logits": [0.0, logit],
            "length": len(TOKENIZER(text).input_ids), "truncated": False, "split": split, "label": label,
            "cls_01_entropy": pytest.approx(entropy(values), rel=1e-6),
            "cls_heads_01_entropy": [pytest.approx(entropy(values), rel=1e-6), None],  # the second head is negative
        }  # fmt: skip


def test_the_schemas_follow_the_contract():
    """The tables have the contract's fields, metadata included, followed by the partition keys."""
    found = tables()
    for table, form in ((found.tokens, tokens_schema), (found.documents, documents_schema)):
        schema = form(manifest())
        assert table.column_names == [*schema.names, "split", "label"]
        assert [table.schema.field(n).equals(schema.field(n), check_metadata=True) for n in schema.names] == [
            True
        ] * len(schema.names)


def test_label_is_an_ordinary_column_if_it_is_not_in_the_path():
    """With more labels than there may be directories, label is the contract's column."""
    found = tables(label_in_path=False)
    assert found.tokens.column_names.count("label") == 1
    assert found.documents["label"].to_pylist() == [label for _, label, _ in TEXTS]


def test_values_are_rounded_to_eight_bits_unless_full_precision_is_asked_for():
    """Values are rounded to the nearest bfloat16, with an error of at most 2⁻⁹ of the value, by an independent integer
    computation.
    """
    rounded = part_tables(manifest(), results(), Segmenter(), full_precision=False)
    exact = np.array(tables().tokens["cls_01"], dtype=np.float32)
    bits = exact.view(np.uint32).astype(np.uint64)
    nearest = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    assert np.array(rounded.tokens["cls_01"], dtype=np.float32).tolist() == nearest.tolist()


def values_of_each_kind(document, chance):
    """A document's values of three heads, of every kind: sharp, even, missing, negative, zero."""
    size = document.length
    values = [[chance.random() ** 9, chance.random(), -0.0 if place else 1e-30] for place in range(size)]
    if document.number == 1:
        values[size // 2][0] = math.nan
    elif document.number == 2:
        values[-1][1] = -1e-6
    elif document.number == 3:
        values = [[0.0, value[1], math.nan] for value in values]
    elif document.number == 4:
        values = [[math.nan, -1.0, 0.0] for _ in values]
    return values


@pytest.mark.parametrize("full_precision", [True, False])
def test_entropies_equal_a_loop_over_the_stored_values(full_precision):
    """Per document and per head: null with a missing or a negative value, and if all values are 0."""
    chance = np.random.default_rng(0)
    given = {
        number: values_of_each_kind(document, chance)
        for batch, _ in results()
        for document in batch.documents
        for number in [document.number]
    }

    def made():
        for batch, reduced in results():
            values = torch.tensor([row for d in batch.documents for row in given[d.number]])
            yield batch, Reduced(reduced.logits, {"cls_01": values[:, 0], "cls_heads_01": values})

    plan = manifest(heads=3)
    found = part_tables(plan, made(), Segmenter(), full_precision=full_precision)
    stored = found.tokens.to_pylist()
    nothing = 0
    for number, row in enumerate(found.documents.to_pylist()):
        of_tokens = [token["cls_heads_01"] or [None] * 3 for token in stored if token["document"] == number]
        heads = [entropy(head) for head in zip(*of_tokens, strict=True)]
        nothing += heads.count(None)
        close = [head if head is None else pytest.approx(head, rel=1e-6, abs=1e-12) for head in heads]
        assert row["cls_01_entropy"] == close[0]
        assert row["cls_heads_01_entropy"] == (None if heads == [None] * 3 else close)
        assert min(v for v in row["cls_heads_01_entropy"] or [0] if v is not None) >= 0
    assert nothing == 7  # one value of documents 1 and 2 each, two of document 3, and all of document 4


def test_a_document_without_tokens_has_no_entropy():
    """A tokenizer without special tokens makes no tokens of an empty text.

    The document does not get another one's entropy.
    """
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    plain = Tokenizer(models.WordLevel({"x": 0}, unk_token="x"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    texts = ["", "x x", "", "x x x x", ""]
    documents = [Document(text, str(i), None, "test", "pos") for i, text in enumerate(texts)]
    tokenised = tokenise(
        enumerate(documents), transformers.PreTrainedTokenizerFast(tokenizer_object=plain), 64
    )
    (batch,) = plan_batches(tokenised, 64, padded=False)
    values = torch.full((batch.tokens,), 0.25)
    reduced = Reduced(torch.zeros(5, 2), {"cls_01": values, "cls_heads_01": values[:, None].expand(-1, 2)})
    found = part_tables(manifest(), [(batch, reduced)], Segmenter(), full_precision=True).documents
    two, four = (pytest.approx(math.log(size), rel=1e-6) for size in (2, 4))
    assert found["length"].to_pylist() == [0, 2, 0, 4, 0]
    assert found["cls_01_entropy"].to_pylist() == [None, two, None, four, None]
    assert found["cls_heads_01_entropy"].to_pylist() == [None, [two] * 2, None, [four] * 2, None]


def test_nan_becomes_null():
    """If a reduction is NaN for a document, the store has null, also for its entropy."""

    def silent():
        for batch, reduced in results():
            yield (
                batch,
                Reduced(
                    reduced.logits, {n: torch.full_like(v, torch.nan) for n, v in reduced.columns.items()}
                ),
            )

    found = part_tables(manifest(), silent(), Segmenter(), full_precision=False)
    for column in ("cls_01", "cls_heads_01"):
        assert found.tokens[column].null_count == found.tokens.num_rows
        assert found.documents[f"{column}_entropy"].null_count == found.documents.num_rows


def test_values_are_rounded_to_bfloat16_as_torch_rounds_them():
    """For every bfloat16 the value itself, its neighbours, and both sides of the tie; NaN and infinities, too."""
    bits = (np.arange(1 << 16, dtype=np.uint32) << np.uint32(16))[:, None]
    behind = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], dtype=np.uint32)
    values = np.ascontiguousarray(bits + behind).view(np.float32)  # (65536, 6)
    wanted = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    found = _stored(torch.from_numpy(values), np.arange(len(values)), full_precision=False)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    there = ~np.isnan(wanted)
    np.testing.assert_array_equal(found.view(np.uint32)[there], wanted.view(np.uint32)[there])
