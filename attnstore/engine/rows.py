"""Reduced attention and batches become the two tables of a part. The last file that handles tensors."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from attnstore.data.kept import as_type
from attnstore.engine.batches import Batch, TokenisedDocument
from attnstore.engine.classifier import Reduced
from attnstore.engine.long import joined
from attnstore.engine.segmenter import Segmenter, coded
from attnstore.errors import ModelError
from attnstore.store.manifest import Manifest
from attnstore.store.schema import KEPT, documents_schema, entropy, tokens_schema

#: How many values are rounded at a time.
_BLOCK = 1 << 15


@dataclass(frozen=True, slots=True)
class PartTables:
    """A part as two tables, sorted by document (and position); both carry `split` and `label` columns."""

    documents: pa.Table
    tokens: pa.Table


def part_tables(
    manifest: Manifest,
    results: Iterable[tuple[Batch, Reduced]],
    segmenter: Segmenter,
    *,
    full_precision: bool,
) -> PartTables:
    """The tables of one part, from its batches in any order.

    `segmenter` finds the words of the texts. Values are rounded to bfloat16 (an 8-bit significand, at most 0.4 % off)
    unless `full_precision`; the documents' entropies are of the values as they are stored.
    """
    documents: list[TokenisedDocument] = []
    logits: list[Tensor] = []
    columns: dict[str, list[Tensor]] = {}
    for batch, reduced in results:
        documents.extend(batch.documents)
        logits.append(reduced.logits)
        for name, values in reduced.columns.items():
            columns.setdefault(name, []).append(values)
    scores = torch.cat(logits)
    _must_be_finite(scores, documents)
    computed = {name: torch.cat(parts) for name, parts in columns.items()}
    if any(d.windows > 1 for d in documents):
        documents, scores, computed = _joined(manifest, documents, scores, computed)
    order = np.argsort([d.number for d in documents], kind="stable")
    lengths = np.array([d.length for d in documents])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    # The position of each token of the sorted table in the batches' order.
    token_order = np.concatenate([np.arange(starts[i], starts[i] + lengths[i]) for i in order])
    scores = scores[torch.from_numpy(order)]
    probabilities = torch.softmax(scores, dim=-1)
    predicted = scores.argmax(dim=-1)
    ordered = [documents[i] for i in order]
    of_tokens, of_documents = {}, {}
    signed = {column for r in manifest.reductions if r.signed for column in r.columns(manifest.layers)}
    for name, values in computed.items():
        stored = _stored(values, token_order, full_precision=full_precision)
        of_tokens[name] = _column(stored)
        if name not in signed:
            found = _entropies(stored, lengths[order], rounded=not full_precision)
            of_documents[entropy(name)] = _column(found)
    return PartTables(
        _documents(manifest, ordered, scores, probabilities, predicted, of_documents),
        _tokens(manifest, ordered, predicted.numpy(), of_tokens, segmenter),
    )


def _joined(
    manifest: Manifest, documents: Sequence[TokenisedDocument], scores: Tensor, values: dict[str, Tensor]
) -> tuple[list[TokenisedDocument], Tensor, dict[str, Tensor]]:
    """Every document once, however many windows it was read in.

    Documents in several windows have no values of reductions that describe one prediction.
    """
    totals = {column: r.total for r in manifest.reductions for column in r.columns(manifest.layers)}
    found, logits, columns = joined(
        documents, scores.numpy(), {name: each.numpy() for name, each in values.items()}, totals
    )
    several = np.repeat([d.windows > 1 for d in found], [d.length for d in found])  # (T,)
    of_one = [r for r in manifest.reductions if r.of_one_prediction]
    for name in (column for r in of_one for column in r.columns(manifest.layers)):
        columns[name][several] = np.nan  # each window has its own prediction
    return found, torch.from_numpy(logits), {name: torch.from_numpy(each) for name, each in columns.items()}


def _must_be_finite(scores: Tensor, documents: Sequence[TokenisedDocument]) -> None:
    """Raise ModelError for a document with non-finite logits: it would be predicted as the first class."""
    finite = torch.isfinite(scores).all(dim=1)
    if not finite.all():
        first = documents[int((~finite).nonzero()[0])]
        count = int((~finite).sum())
        others = f" and {count - 1:,} more of its part" if count > 1 else ""
        raise ModelError(
            f"the model gives no finite logits for document {first.document.id}{others}: if it was run in float16, "
            "--dtype bfloat16 or float32 may; else its weights are damaged"
        )


def _stored(values: Tensor, order: np.ndarray, *, full_precision: bool) -> np.ndarray:
    """Values as stored, in the table's order, from (T,) or (T, heads) float32 in the batches' order."""
    stored: np.ndarray = np.take(values.numpy(), order, axis=0)
    if not full_precision:
        _round_to_bfloat16(stored)
    return stored


def _round_to_bfloat16(values: np.ndarray) -> None:
    """Round contiguous float32 to the nearest bfloat16, ties to the even one, in place.

    In numpy, one cache-sized block after the other: torch would start threads on cores that the forward pass uses, and
    make two copies.
    """
    flat = values.reshape(-1).view(np.uint32)
    for start in range(0, len(flat), _BLOCK):
        bits = flat[start : start + _BLOCK]
        nothing = np.isnan(bits.view(np.float32))
        # Half of the last place, minus one bit if that place is even: it carries exactly when rounding up.
        bits += ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
        bits &= np.uint32(0xFFFF0000)
        if nothing.any():
            bits[nothing] = 0x7FC00000  # the carry may have made a number of it


def _column(values: np.ndarray) -> pa.Array:
    """(rows,) or (rows, heads) float32 as an Arrow column."""
    # NaN means no value: null. Without NaN, Arrow takes the array as it is.
    missing = bool(np.isnan(values).any())
    flat = pa.array(values.reshape(-1), type=pa.float32(), from_pandas=missing)
    if values.ndim == 1:
        return flat
    nothing = np.isnan(values).all(axis=1) if missing else np.zeros(1, dtype=bool)
    return pa.FixedSizeListArray.from_arrays(
        flat, values.shape[1], mask=pa.array(nothing) if nothing.any() else None
    )


def _entropies(values: np.ndarray, lengths: np.ndarray, *, rounded: bool = False) -> np.ndarray:
    """(documents,) or (documents, heads) float32: each document's entropy in nats, of its values normalised to sum to
    1.

    `values`: (T,) or (T, heads), document by document; `lengths`: the tokens of each; `rounded`: the values are
    bfloat16's. NaN if a token has no value (NaN) or a negative one, and if the values sum to 0.
    """
    if values.ndim == 2:
        # One head at a time, so that intermediate arrays stay in the cache.
        return np.stack([_entropies(head, lengths, rounded=rounded) for head in values.T], axis=1)
    some = lengths > 0
    starts = (np.cumsum(lengths) - lengths)[some]
    exact = values.astype(np.float64)
    entropies = np.full(len(lengths), np.nan, dtype=np.float32)
    if rounded:
        terms = _terms_of_bfloat16()[np.ascontiguousarray(values).view(np.uint32) >> np.uint32(16)]
    else:
        terms = _terms(exact)
    # The logarithm of a negative value is NaN, and so is 0 / 0.
    with np.errstate(invalid="ignore", divide="ignore"):
        mass = np.add.reduceat(exact, starts)
        logs = np.add.reduceat(terms, starts)
        # −Σ (a/M) ln(a/M); for a single token it is exactly 0, despite rounding.
        entropies[some] = np.maximum(0, np.log(mass) - logs / mass)
    return entropies


def _terms(values: np.ndarray) -> np.ndarray:
    """Each float64 times its natural logarithm: 0 for 0, NaN for a negative value."""
    with np.errstate(invalid="ignore"):
        return np.asarray(values * np.log(np.where(values == 0, 1, values)))


@functools.cache
def _terms_of_bfloat16() -> np.ndarray:
    """(65536,) float64: `_terms` of every bfloat16, indexed by its bits: ten times as fast as a logarithm."""
    every = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    with np.errstate(invalid="ignore"):
        return _terms(every.view(np.float32).astype(np.float64))


def _dictionary(
    codes: np.ndarray, names: Sequence[str], mask: np.ndarray | None = None
) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(np.int32), mask=mask), pa.array(names, type=pa.string())
    )


def _partition_columns(documents: Sequence[TokenisedDocument], repeat: np.ndarray) -> dict[str, pa.Array]:
    """`split` and `label` of each row; `repeat` says how many rows each document has."""
    splits = sorted({d.document.split for d in documents})
    labels = sorted({d.document.label for d in documents if d.document.label is not None})
    split_codes = np.array([splits.index(d.document.split) for d in documents])
    places = {label: i for i, label in enumerate(labels)}
    label_codes = np.array([-1 if d.document.label is None else places[d.document.label] for d in documents])
    label_rows = np.repeat(label_codes, repeat)
    return {
        "split": _dictionary(np.repeat(split_codes, repeat), splits),
        "label": _dictionary(np.maximum(label_rows, 0), labels, mask=label_rows < 0),
    }


def _table(columns: dict[str, pa.Array], schema: pa.Schema) -> pa.Table:
    """The schema's columns in the schema's order, then `split` and, if it is a partition key, `label`."""
    keys = [pa.field(key, columns[key].type) for key in ("split", "label") if key not in schema.names]
    fields = [*schema, *keys]
    return pa.Table.from_arrays([columns[f.name] for f in fields], schema=pa.schema(fields))


def _documents(
    manifest: Manifest,
    documents: Sequence[TokenisedDocument],
    logits: Tensor,
    probabilities: Tensor,
    predicted: Tensor,
    entropies: dict[str, pa.Array],
) -> pa.Table:
    def lists(values: Tensor) -> pa.Array:
        offsets = np.arange(0, values.numel() + 1, values.shape[1], dtype=np.int32)
        return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1).numpy(), type=pa.float32()))

    columns = {
        "document": pa.array([d.number for d in documents], type=pa.int32()),
        "id": pa.array([d.document.id for d in documents], type=pa.string()),
        "group": pa.array([d.document.group for d in documents], type=pa.string()),
        "text": pa.array([d.text for d in documents], type=pa.string()),
        "text_pair": pa.array([d.document.text_pair for d in documents], type=pa.string()),
        "prediction": _dictionary(predicted.numpy(), manifest.labels),
        "probability": pa.array(probabilities.gather(1, predicted[:, None])[:, 0].numpy(), type=pa.float32()),
        "probabilities": lists(probabilities),
        "logits": lists(logits),
        "length": pa.array([d.length for d in documents], type=pa.int32()),
        "truncated": pa.array([d.truncated for d in documents], type=pa.bool_()),
        "windows": pa.array([d.windows for d in documents], type=pa.int16()),
        **{
            name: pa.array([as_type(d.document.kept[place], type_) for d in documents], type=KEPT[type_])
            for place, (name, type_) in enumerate(manifest.kept.items())
        },
        **_partition_columns(documents, np.ones(len(documents), dtype=np.int64)),
        **entropies,
    }
    return _table(columns, documents_schema(manifest))


def _tokens(
    manifest: Manifest,
    documents: Sequence[TokenisedDocument],
    predicted: np.ndarray,
    values: dict[str, pa.Array],
    segmenter: Segmenter,
) -> pa.Table:
    lengths = np.array([d.length for d in documents])
    ids = np.concatenate([d.ids for d in documents])
    number = np.repeat(np.array([d.number for d in documents], dtype=np.int64), lengths)
    position = np.concatenate([np.arange(n, dtype=np.int32) for n in lengths])
    start, end, special = (
        np.concatenate([getattr(d, n) for d in documents]) for n in ("start", "end", "special")
    )
    segment = np.concatenate([_segments(d) for d in documents])
    first_text = np.cumsum([0, *(len(d.texts) for d in documents[:-1])])
    owner = np.repeat(first_text, lengths) + np.maximum(segment, 0)
    words = segmenter.of_tokens([text for d in documents for text in d.texts], owner, start, end, special)
    segments = {"segment": pa.array(segment, mask=segment < 0)} if manifest.pairs else {}
    occurring, token_codes = coded(ids)
    columns = {
        "document": pa.array(number.astype(np.int32)),
        "position": pa.array(position),
        "token_id": pa.array(ids),
        "token": _dictionary(token_codes, documents[0].vocabulary(occurring.tolist())),
        "word": _dictionary(np.maximum(words.code, 0), words.names.to_pylist(), mask=words.code < 0),
        "piece": pa.array(words.piece, mask=words.code < 0),
        "pieces": pa.array(words.pieces, mask=words.code < 0),
        **segments,
        "start": pa.array(start),
        "end": pa.array(end),
        "special": pa.array(special),
        "new_token": pa.array(_first_occurrences(number, token_codes)),
        "new_word": pa.array(
            _first_occurrences(number, words.code, among=words.piece == 0) & (words.code >= 0)
        ),
        "length": pa.array(np.repeat(lengths, lengths).astype(np.int32)),
        "prediction": _dictionary(np.repeat(predicted, lengths), manifest.labels),
        **_partition_columns(documents, lengths),
        **values,
    }
    return _table(columns, tokens_schema(manifest))


def _first_occurrences(document: np.ndarray, code: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """(T,) bool: the first row of each (document, code) pair, among the rows `among` if given."""
    rows = np.arange(len(code)) if among is None else np.flatnonzero(among)
    # Sorted by code, rows with equal codes stay in document order. Numpy sorts 16 bits in linear time.
    own = code[rows] - code.min(initial=0)
    order = np.argsort(own.astype(np.min_scalar_type(own.max(initial=0))), kind="stable")
    code_of, document_of = own[order], document[rows][order]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (code_of[1:] != code_of[:-1]) | (document_of[1:] != document_of[:-1])
    first = np.zeros(len(code), dtype=bool)
    first[rows[order[new]]] = True
    return first


def _segments(document: TokenisedDocument) -> np.ndarray:
    """(n,) int8: the text that each token belongs to, -1 for tokens that the tokenizer adds to a pair."""
    return np.zeros(document.length, np.int8) if document.segment is None else document.segment
