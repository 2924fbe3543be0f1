"""The contract: what a store holds, column by column.

Everything that writes or reads a store agrees on this file and on nothing else. It imports nothing of
attnstore's but its errors. The layout of the directory, and the reasons for each encoding, are in `store.py`.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, is_dataclass
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

import pyarrow as pa

from attnstore.errors import StoreError

SCHEMA_VERSION = 1

#: With more labels than this, `label` is an ordinary column: a directory for each would shred every part.
MAX_LABEL_PARTITIONS = 50


@dataclass(frozen=True, slots=True)
class StoredReduction:
    """One reduction as the store holds it.

    `per_layer`: one column a layer, named `<name>_<layer, two digits>`, layers counted from 1; otherwise one
    column `<name>`. `per_head`: each value is a fixed-size list, one float a head; otherwise a float.
    `meaning` is the sentence that stands in the column's metadata. `total` is what a document's values add
    up to in each column (in each head, if per head): 1.0 for an attention distribution, None where nothing
    is promised.
    """

    name: str
    per_layer: bool
    per_head: bool
    meaning: str
    total: float | None = 1.0

    def columns(self, layers: int) -> list[str]:
        """The columns of this reduction in a model of `layers` layers, in layer order."""
        if not self.per_layer:
            return [self.name]
        return [f"{self.name}_{layer:02d}" for layer in range(1, layers + 1)]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One Parquet file of a finished part. `path` is relative to the store, with forward slashes."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a store is: written once when a run begins, completed once when the store is sealed.

    `fingerprint` holds what makes two runs the same run, by name: a store is only ever resumed by a run
    with an equal fingerprint. Everything in it is a JSON scalar or a list of them. `labels` are the model's
    classes in the order of its logits. `rejected` counts the rows of the source that became no document,
    by reason; `rejected_rows` says where they stood (the first 1,000). `notes` are the guesses and
    warnings of the run, told to the user once and kept. `runs` has one entry for each time the run was
    started: device, seconds, tokens per second.
    """

    fingerprint: dict[str, Any]
    documents: int  # the plan: how many documents the whole run has
    part_size: int  # part k holds the documents [k * part_size, (k + 1) * part_size)
    labels: tuple[str, ...]
    label_in_path: bool  # False: `label` is an ordinary column (more than MAX_LABEL_PARTITIONS labels)
    labels_are_models: bool  # False: no labels, or labels that are not the model's: no accuracy is claimed
    layers: int
    heads: int
    reductions: tuple[StoredReduction, ...]
    max_length: int
    model: str
    data: str
    versions: dict[str, str]
    created: str  # ISO 8601, UTC
    rejected: dict[str, int] = field(default_factory=dict)
    rejected_rows: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    runs: tuple[dict[str, Any], ...] = ()
    sealed: str | None = None  # when, ISO 8601, UTC; None while parts are missing
    files: tuple[StoredFile, ...] = ()  # filled when sealed
    schema_version: int = SCHEMA_VERSION

    @property
    def parts(self) -> int:
        """How many parts the plan has."""
        return -(-self.documents // self.part_size)

    def reduction(self, name: str) -> StoredReduction | None:
        """The stored reduction of that name, or None."""
        return next((r for r in self.reductions if r.name == name), None)

    def to_json(self) -> str:
        """The manifest as indented JSON text, keys in the order of the fields."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a manifest back. Raises StoreError if the text is not one that this version understands."""
        try:
            raw = json.loads(text)
            version = raw["schema_version"]
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                "manifest.json is not an attnstore manifest: it is damaged or foreign"
            ) from error
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"the store has schema version {version}, this attnstore reads version {SCHEMA_VERSION}: "
                "install the attnstore that wrote it, or run again into a new store"
            )
        kinds = get_type_hints(cls)
        try:
            manifest = cls(**{name: _value(name, value, kinds[name]) for name, value in raw.items()})
        except (TypeError, KeyError) as error:
            raise StoreError(f"manifest.json lacks or misnames a field ({error}): it is damaged") from error
        for name, least in (("documents", 0), ("part_size", 1), ("layers", 1), ("heads", 1)):
            if raw[name] < least:
                raise StoreError(f"manifest.json is damaged: {name} can't be {raw[name]}")
        return manifest


def _value(name: str, value: Any, kind: Any) -> Any:
    """A value out of JSON as its field has it, tuples and records included. Raises StoreError if it doesn't fit."""
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(name, item, inner[0]) for item in value)
    if isinstance(origin, type) and is_dataclass(origin) and isinstance(value, dict):
        hints = get_type_hints(origin)
        if value.keys() == hints.keys():
            return origin(**{key: _value(f"{name}.{key}", value[key], hints[key]) for key in hints})
    elif origin is dict and isinstance(value, dict):
        return {key: _value(f"{name}.{key}", item, inner[1]) for key, item in value.items()}
    elif kind is Any or (origin is UnionType and value is None):
        return value
    else:
        of = inner[0] if origin is UnionType else origin
        if isinstance(value, (int, float) if of is float else of) and isinstance(value, bool) == (of is bool):
            return value
    raise StoreError(
        f"manifest.json is damaged: {name} can't be {json.dumps(value, ensure_ascii=False)[:80]}"
    )


def _field(name: str, type_: pa.DataType, meaning: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, type_, nullable=nullable, metadata={"meaning": meaning})


#: Strings that repeat from row to row. The index is int32: a vocabulary may be larger than int16 holds.
DICTIONARY = pa.dictionary(pa.int32(), pa.string())

_LABEL = _field("label", DICTIONARY, "the gold class; null where the data has none", nullable=True)


def without_label(schema: pa.Schema) -> list[str]:
    """The columns of a table but for `label`, which readers put at the end, wherever it is stored."""
    return [name for name in schema.names if name != "label"]


def entropy(column: str) -> str:
    """The name of a document's entropy of a reduction's column of `tokens`."""
    return f"{column}_entropy"


def _reduction_columns(manifest: Manifest) -> Iterator[tuple[str, pa.DataType, str]]:
    """Each column of the reductions, in order: its name, the type of its values, and what they mean."""
    for reduction in manifest.reductions:
        value = pa.list_(pa.float32(), manifest.heads) if reduction.per_head else pa.float32()
        for number, column in enumerate(reduction.columns(manifest.layers), start=1):
            of_layer = f", layer {number} of {manifest.layers}" if reduction.per_layer else ""
            yield column, value, reduction.meaning + of_layer


def documents_schema(manifest: Manifest) -> pa.Schema:
    """One row a document, in dataset order. `split` and (if the manifest says so) `label` are in the path.

    For each column of a reduction there is, as `<column>_entropy`, the entropy (nats) of its values over all the
    document's tokens, made to add up to 1 (of each head's, where it has one a head). It is null where a token has
    no value, where one is negative, and where all are 0.
    """
    fields = [
        _field("document", pa.int32(), "the document's number, from 0, in dataset order"),
        _field("id", pa.string(), "the source's own key of the document"),
        _field("group", pa.string(), "what makes documents dependent, such as the film reviewed", True),
        _field("text", pa.string(), "the whole text, as the source has it"),
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
        _field("truncated", pa.bool_(), "the text went on beyond the last token the model saw"),
    ]
    if not manifest.label_in_path:
        fields.append(_LABEL)
    fields += [
        _field(entropy(column), value, f"entropy over the document, in nats: {meaning}", nullable=True)
        for column, value, meaning in _reduction_columns(manifest)
    ]
    return pa.schema(fields)


def tokens_schema(manifest: Manifest) -> pa.Schema:
    """One row a token, sorted by (document, position); the last columns are the reductions.

    `new_token` and `new_word` mark first occurrences within a document, so that the number of documents in
    which a term occurs is `count_if(new_token)`: a sum, where a count of distinct documents would hash
    millions of pairs.
    """
    fields = [
        _field("document", pa.int32(), "the document's number, from 0, in dataset order"),
        _field("position", pa.int32(), "the token's place in its document, from 0"),
        _field("token_id", pa.int32(), "the token's number in the vocabulary"),
        _field("token", DICTIONARY, "the token as the tokenizer prints it"),
        _field("word", DICTIONARY, "the whole word it belongs to, normalised as the tokenizer does", True),
        _field("piece", pa.int16(), "the token's place in its word, from 0", True),
        _field("pieces", pa.int16(), "how many tokens its word has", True),
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
    if not manifest.label_in_path:
        fields.append(_LABEL)
    fields += [
        # Nullable: a custom reduction may have nothing to say about a document too short for it.
        _field(column, value, meaning, nullable=True)
        for column, value, meaning in _reduction_columns(manifest)
    ]
    return pa.schema(fields)


def totals_schema(manifest: Manifest) -> pa.Schema:
    """One row a term: the tokens added up over the documents of one split, label and prediction.

    For each column of a reduction there are two: the sum of its values (of each head's, where it has one a head), and
    as `<column>_lift` the sum of value × length of the document.
    """
    fields = [
        _field("split", DICTIONARY, "the split of the documents added up"),
        _LABEL,
        _field("prediction", DICTIONARY, "their predicted class"),
        _field("token", DICTIONARY, "the token as the tokenizer prints it"),
        _field("word", DICTIONARY, "the whole word it belongs to, normalised as the tokenizer does", True),
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
            _field(f"{column}_lift", value, f"times the length, summed: {meaning}", nullable=True),
        ]
    return pa.schema(fields)
