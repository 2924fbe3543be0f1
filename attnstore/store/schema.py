"""The contract: what a store contains, column by column.

Everything that writes or reads a store relies on this file and on the manifest. The layout of the directory is in
`store.py`, the reasons for each encoding are in `parquet.py`.
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from attnstore.store.manifest import Manifest, StoredReduction


def _field(name: str, type_: pa.DataType, meaning: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, type_, nullable=nullable, metadata={"meaning": meaning})


#: Strings that repeat from row to row. The index is int32, because a vocabulary may be too large for int16.
DICTIONARY = pa.dictionary(pa.int32(), pa.string())

#: The types of the columns of the data that are kept, by their names in the manifest.
KEPT = {"boolean": pa.bool_(), "integer": pa.int64(), "number": pa.float64(), "text": pa.string()}

_LABEL = _field("label", DICTIONARY, "the gold class; null where the data has none", nullable=True)

_SPLIT = _field("split", DICTIONARY, "the split of the document")

_SECOND_TEXT = _field("text_pair", pa.string(), "the second text of the pair, of which `text` is the first")
_SEGMENT = _field(
    "segment",
    pa.int8(),
    "0: a token of `text`, 1: of `text_pair`; null for those that the tokenizer adds",
    nullable=True,
)


def without_keys(schema: pa.Schema) -> list[str]:
    """The columns of a table without `split` and `label`, which readers put last, wherever they are stored."""
    return [name for name in schema.names if name not in ("split", "label")]


def _keys(manifest: Manifest) -> list[pa.Field]:
    """Which of the two are columns of `documents` and `tokens`."""
    return [*([_SPLIT] if manifest.split_in_files else []), *([] if manifest.label_in_path else [_LABEL])]


def entropy(column: str) -> str:
    """The name of the column in `documents` with the entropy of a reduction's column in `tokens`."""
    return f"{column}_entropy"


def lift(column: str) -> str:
    """The name of the sum of a column's values × length in `totals`, beside that of its values."""
    return f"{column}_lift"


def _reduction_columns(
    manifest: Manifest, reductions: Iterable[StoredReduction] | None = None
) -> Iterator[tuple[str, pa.DataType, str]]:
    """Each column of the reductions (all, or these), in order: its name, the type of its values, and what they mean."""
    for reduction in manifest.reductions if reductions is None else reductions:
        value = pa.list_(pa.float32(), manifest.heads) if reduction.per_head else pa.float32()
        for number, column in enumerate(reduction.columns(manifest.layers), start=1):
            of_layer = f", layer {number} of {manifest.layers}" if reduction.per_layer else ""
            yield column, value, reduction.meaning + of_layer


def documents_schema(manifest: Manifest) -> pa.Schema:
    """One row per document, in data set order. `split` and `label` are in the path or columns, as the manifest says.

    Each column of an unsigned reduction has a `<column>_entropy`: the entropy (nats) of its values over all the
    document's tokens, normalised to sum to 1 (per head, if it has values per head). It is null if a token has no
    value, if a value is negative, and if all are 0.
    """
    unsigned = [reduction for reduction in manifest.reductions if not reduction.signed]
    fields = [
        _field("document", pa.int32(), "the document's number, from 0, in dataset order"),
        _field("id", pa.string(), "the source's own key of the document"),
        _field("group", pa.string(), "what makes documents dependent, such as the film reviewed", True),
        _field("text", pa.string(), "the whole text, as the source has it"),
        *([_SECOND_TEXT] if manifest.pairs else []),
        _field("prediction", DICTIONARY, "the class with the highest logit"),
        _field("probability", pa.float32(), "softmax probability of the prediction"),
        _field(
            "probabilities",
            pa.list_(pa.float32()),
            "softmax of the logits, in the order of the model's classes",
        ),
        _field(
            "logits", pa.list_(pa.float32()), "the classifier's output, in the order of the model's classes"
        ),
        _field("length", pa.int32(), "tokens the model saw, special ones included"),
        _field("truncated", pa.bool_(), "the text has tokens that the model did not see"),
    ]
    if manifest.long == "windows":
        fields.append(_field("windows", pa.int16(), "in how many windows the model read the document"))
    fields += [
        _field(name, KEPT[type_], "as the data has it (--keep-column)", True)
        for name, type_ in manifest.kept.items()
    ]
    fields += _keys(manifest)
    fields += [
        _field(entropy(column), value, f"entropy over the document, in nats: {meaning}", nullable=True)
        for column, value, meaning in _reduction_columns(manifest, unsigned)
    ]
    return pa.schema(fields)


def tokens_schema(manifest: Manifest) -> pa.Schema:
    """One row per token, sorted by (document, position); the last columns are the reductions.

    `new_token` and `new_word` mark first occurrences within a document, so that the number of documents in
    which a term occurs is `count_if(new_token)`: a sum, where a count of distinct documents would hash
    millions of pairs.
    """
    fields = [
        _field("document", pa.int32(), "the document's number, from 0, in dataset order"),
        _field(
            "position", pa.int32(), "the token's place among those of its document that are stored, from 0"
        ),
        _field("token_id", pa.int32(), "the token's number in the vocabulary"),
        _field("token", DICTIONARY, "the token as the tokenizer prints it"),
        _field("word", DICTIONARY, "the whole word it belongs to, by UAX #29, lower-cased", True),
        _field("piece", pa.int16(), "the token's place in its word, from 0", True),
        _field("pieces", pa.int16(), "how many tokens its word has", True),
        *([_SEGMENT] if manifest.pairs else []),
        _field("start", pa.int32(), "where the token's text starts in the document's text, in characters"),
        _field("end", pa.int32(), "where it ends (exclusive)"),
        _field("special", pa.bool_(), "[CLS], [SEP] and the like, added by the tokenizer"),
        _field("new_token", pa.bool_(), "the first occurrence of this token in its document"),
        _field(
            "new_word", pa.bool_(), "the first piece of the first occurrence of this word in its document"
        ),
        _field("length", pa.int32(), "tokens of its document, special ones included"),
        _field("prediction", DICTIONARY, "the predicted class of its document"),
    ]
    fields += _keys(manifest)
    fields += [
        # Nullable: a custom reduction may have no value for a document that is too short for it.
        _field(column, value, meaning, nullable=True)
        for column, value, meaning in _reduction_columns(manifest)
    ]
    return pa.schema(fields)


def totals_schema(manifest: Manifest) -> pa.Schema:
    """One row per term: the tokens summed over the documents of one split, label and prediction.

    Each column of a reduction has two columns: the sum of its values, and, as `<column>_lift`, the sum of value ×
    length of the document. If it has values per head, the sums are also per head.
    """
    fields = [
        _field("split", DICTIONARY, "the split of the documents added up"),
        _LABEL,
        _field("prediction", DICTIONARY, "their predicted class"),
        _field("token", DICTIONARY, "the token as the tokenizer prints it"),
        _field("word", DICTIONARY, "the whole word it belongs to, by UAX #29, lower-cased", True),
        _field("piece", pa.int16(), "the token's place in its word, from 0", True),
        _field("pieces", pa.int16(), "how many tokens its word has", True),
        _field("special", pa.bool_(), "[CLS], [SEP] and the like, added by the tokenizer"),
        _field("occurrences", pa.int64(), "how many tokens there are of it"),
        _field("new_token", pa.int64(), "how many of them are the first of this token in their document"),
        _field("new_word", pa.int64(), "how many of them begin the first of this word in their document"),
    ]
    for column, value, meaning in _reduction_columns(manifest):
        fields += [
            _field(column, value, f"summed: {meaning}", nullable=True),
            _field(lift(column), value, f"times the length, summed: {meaning}", nullable=True),
        ]
    return pa.schema(fields)
