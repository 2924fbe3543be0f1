"""The tokens of a document, before they are drawn: wordpieces merged into words, tokens ignored."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import pyarrow as pa

from attnstore.errors import UsageError

#: The columns of the question `document_tokens`, which every function here reads.
COLUMNS = (
    "position", "token", "word", "piece", "pieces", "segment", "start", "end", "special", "attention", "lift",
)  # fmt: skip

_CAPTIONS = b"attnstore.captions"
_MERGED = b"attnstore.merged"


def merge_words(
    tokens: pa.Table, how: Literal["sum", "mean"] = "sum", signed: bool = False, whole: bool = True
) -> pa.Table:
    """Merge the pieces of each word into one row, spanning from the first one's start to the last one's end.

    "sum" keeps the total (Clark et al. 2019, section 4.1): the lift is then relative to an even share per remaining
    row, whether a word or a special token. "mean" averages attention and lift over the pieces, which undercounts long
    and rare words. `signed` values have no lift, and the lift of values that are not parts of a `whole` is not
    relative to an even share. `token` becomes the word, `piece` 0, and `pieces` the number of merged pieces. The
    table's metadata says what was done, and the picture's caption repeats it.

    Raises:
        UsageError: `how` is neither, or words were already merged or tokens ignored in this table.
    """
    if how not in ("sum", "mean"):
        raise UsageError(f"wordpieces are merged by 'sum' or 'mean', not {how!r}")
    if changes(tokens):
        raise UsageError("these tokens were merged or ignored before: merge words once, before ignoring any")
    words: list[list[dict[str, Any]]] = []
    for row in token_rows(tokens):
        if row["piece"] and words and not words[-1][-1]["special"]:
            words[-1].append(row)
        else:
            words.append([row])
    scale = len(words) / tokens.num_rows if words else 1.0  # from an even share per token to one per word
    rows = []
    for pieces in words:
        merged = dict(pieces[0])
        rows.append(merged)
        if not merged["special"]:
            token = merged["token"] if merged["word"] is None else merged["word"]
            merged |= {"token": token, "end": pieces[-1]["end"], "piece": 0, "pieces": len(pieces)}
        for name, factor in (("attention", 1.0), ("lift", scale)):
            if values := [piece[name] for piece in pieces if piece[name] is not None]:
                merged[name] = sum(values) * factor if how == "sum" else sum(values) / len(values)
    done = {
        ("sum", False): "attention summed, lift relative to an even share per word",
        ("mean", False): "attention and lift averaged over the pieces",
        ("sum", True): "values summed",
        ("mean", True): "values averaged over the pieces",
    }[how, signed or not whole]
    sentence = f"wordpieces merged into words: {done}"
    return _note(pa.Table.from_pylist(rows, schema=tokens.schema), sentence, {_MERGED: how.encode()})


def ignore_tokens(
    tokens: pa.Table, ignored: Iterable[str], renormalise: bool = False, special: bool = False
) -> pa.Table:
    """Blank the tokens named in `ignored`, and with `special` all special ones: their values become null.

    A name is a token as the tokenizer prints it (`##ing`) or a whole word; a word loses all its pieces.
    With `renormalise`, the remaining attention (all of it, if nothing is ignored) is divided by its sum, and the lift
    is relative to an even share per remaining token; otherwise values stay as the model gave them. The table's
    metadata says what was done, and which names do not occur; the picture's caption repeats it.
    """
    names = list(dict.fromkeys(ignored))
    chosen = set(names)
    rows = token_rows(tokens)
    for row in rows:
        if (special and row["special"]) or row["token"] in chosen or row["word"] in chosen:
            row["attention"] = row["lift"] = None
    if renormalise:
        rest = [row for row in rows if row["attention"] is not None]
        total = sum(row["attention"] for row in rest)
        for row in rest if total else []:
            row["attention"] /= total
            row["lift"] = row["attention"] * len(rest)
    there = {row["token"] for row in rows} | {row["word"] for row in rows}
    what = [f"“{name}”" + ("" if name in there else " (not in this document)") for name in names]
    what += ["special tokens"] if special else []
    done = "renormalised to a sum of 1" if renormalise else "not renormalised"
    if not what and not renormalise:
        return tokens
    sentence = f"ignored: {', '.join(what)}; the rest is {done}" if what else f"attention is {done}"
    return _note(pa.Table.from_pylist(rows, schema=tokens.schema), sentence, {})


def token_rows(tokens: pa.Table) -> list[dict[str, Any]]:
    """The table's rows, with NaN as a missing value."""
    rows: list[dict[str, Any]] = tokens.to_pylist()
    for row in rows:
        for name in ("attention", "lift"):
            if row[name] is not None and math.isnan(row[name]):
                row[name] = None
    return rows


def changes(tokens: pa.Table) -> list[str]:
    """What was merged and ignored, one sentence per change."""
    sentences: list[str] = json.loads((tokens.schema.metadata or {}).get(_CAPTIONS, b"[]"))
    return sentences


def are_merged(tokens: pa.Table) -> bool:
    """Whether the rows are words and special tokens instead of wordpieces."""
    return _MERGED in (tokens.schema.metadata or {})


def _note(tokens: pa.Table, sentence: str, marks: Mapping[bytes, bytes]) -> pa.Table:
    captions = json.dumps([*changes(tokens), sentence]).encode()
    return tokens.replace_schema_metadata({**(tokens.schema.metadata or {}), **marks, _CAPTIONS: captions})
