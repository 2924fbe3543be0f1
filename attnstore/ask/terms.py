"""What the questions' Polars twins share: which words there are, how frequent they are, and what attention they get.

What the `.sql` files share is in `queries/shared.sql`; tests check that both give the same answers. `p` are a
question's parameters, with the names and meanings of `top_words_by_class.sql`. Expressions are over columns of the
contract, or of the frames made here.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl


def layer_columns(tokens: pl.LazyFrame) -> list[str]:
    """`attention_01`, `attention_02`, ...: the columns for a question with a reduction but no layer."""
    names = [name for name in tokens.collect_schema().names() if name.startswith("attention_")]
    return [name for name in names if name.removeprefix("attention_").isdigit()]


def has_letter_or_digit(text: pl.Expr) -> pl.Expr:
    """Whether a word is more than punctuation, in any script; null for null."""
    return text.str.contains(r"[\p{L}\p{N}]")


def is_listed(text: pl.Expr, p: Mapping[str, Any]) -> pl.Expr:
    """Whether a word passes `punctuation` and `ignore`. Null, which is not a word, does not."""
    return (
        text.is_not_null()
        & (pl.lit(p["punctuation"] == "in") | has_letter_or_digit(text))
        & ~text.is_in(p["ignore"])
    )


def listed_words(totals: pl.LazyFrame, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`word`: the words of `occurrences` that pass `punctuation` and `ignore`, each once.

    Checking each word of a store once is fast; checking the word of each token is slow.
    """
    word = pl.coalesce("word", "token") if p["specials"] == "in" else pl.col("word")
    return totals.select(word=word).unique().filter(is_listed(pl.col("word").cast(pl.String), p))


def least_documents(size: pl.Expr, p: Mapping[str, Any]) -> pl.Expr:
    """`min_documents` or, if it is None, one in 200 of `size` documents and at least 5."""
    if p["min_documents"] is not None:
        return pl.lit(p["min_documents"])
    return pl.max_horizontal(5, (size.cast(pl.Int64) + 199) // 200)


def support(documents: pl.LazyFrame, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`class` (String) and `least`, the number of its documents that must contain a word."""
    return documents.group_by(pl.col("class").cast(pl.String)).agg(least=least_documents(pl.len(), p))


def occurrences(tokens: pl.LazyFrame, p: Mapping[str, Any], *keep: str) -> pl.LazyFrame:
    """A row per token: `document`, the columns to `keep`, and what the token adds to its word.

    `word` (null for a special token, unless `specials` are in), `starts` (the word's first piece), `new` (its first
    occurrence in the document), `pieces`, `attention`, and `lift`: attention × length / pieces, which sums to the lift
    of an occurrence. With `renormalise`, it is as if unlisted words had never been in the document.
    """
    word, piece, new = pl.col("word"), pl.col("piece"), pl.col("new_word")
    if p["specials"] == "in":
        # A token outside words (a special one) stands for itself.
        new = new | (word.is_null() & pl.col("new_token"))
        word, piece = pl.coalesce(word, "token"), piece.fill_null(0)
    pieces = pl.col("pieces").fill_null(1)
    rows = tokens.select(
        "document",
        *keep,
        "attention",
        word=word,
        starts=piece == 0,
        new=new,
        pieces=pieces,
        lift=pl.col("attention") * pl.col("length") / pieces,
    )
    if p["renormalise"]:
        rows = rows.filter(is_listed(pl.col("word").cast(pl.String), p))
        remaining = rows.group_by("document").agg(mass=pl.col("attention").sum(), kept=pl.len())
        scaled = pl.col("attention") / pl.col("mass")
        rows = rows.join(remaining.filter(pl.col("mass") != 0), on="document").with_columns(
            attention=scaled, lift=scaled * pl.col("kept") / pl.col("pieces")
        )
    return rows


def summed_occurrences(totals: pl.LazyFrame, p: Mapping[str, Any], *keep: str) -> pl.LazyFrame:
    """As `occurrences`, from the totals: one row per term, without `document`, with counts for `starts` and `new`."""
    word, start, new = pl.col("word"), pl.col("piece") == 0, pl.col("new_word")
    if p["specials"] == "in":
        new = pl.when(word.is_null()).then(pl.col("new_token")).otherwise(new)
        word, start = pl.coalesce(word, "token"), start.fill_null(True)
    pieces = pl.col("pieces").fill_null(1)
    return totals.select(
        *keep,
        "attention",
        word=word,
        starts=pl.when(start).then(pl.col("occurrences")).otherwise(0),
        new=new,
        pieces=pieces,
        lift=pl.col("attention_lift") / pieces,
    )


def percentile() -> pl.Expr:
    """The share of a document's tokens with less attention than a token, plus half of those with as much."""
    return (pl.col("attention").rank("average").over("document") - 0.5) / pl.len().over("document")


def known(documents: str, o_documents: str, *within: str) -> pl.Expr:
    """Whether a word is well known: in 50 documents on each side, or among the 30 in most documents of a class.

    The rows must be in the order of words within a class, which decides ties at the 30th. `within` are the columns
    that the 30 are counted in, `class` by default.
    """
    rarer = pl.min_horizontal(documents, o_documents)
    return (rarer >= 50) | ((-rarer).rank("ordinal").over(*(within or ("class",))) <= 30)


def log_odds(words: pl.LazyFrame, prior: float | None) -> pl.LazyFrame:
    """Add `log_odds` and `z`, for counts `n` among `words` and `o_n` among `o_words`: see distinctive_words.sql."""
    n, o_n = pl.col("n"), pl.col("o_n")
    left, o_left = pl.col("words") - n, pl.col("o_words") - o_n
    part = 0.01 if prior is None else prior / (pl.col("words") + pl.col("o_words"))
    alpha, rest = part * (n + o_n), part * (left + o_left)
    ratio = ((n + alpha) / (left + rest)).log() - ((o_n + alpha) / (o_left + rest)).log()
    return words.with_columns(
        log_odds=pl.when(left + rest != 0, o_left + rest != 0).then(ratio)
    ).with_columns(z=pl.col("log_odds") / (1 / (n + alpha) + 1 / (o_n + alpha)).sqrt())


def leading(words: pl.LazyFrame, limit: int | None, name: str) -> pl.LazyFrame:
    """The first `limit` rows of each class (None: all) by `rank`, ties by documents, then by `name`.

    Null ranks come last.
    """
    # Single precision, so that the order of summation does not decide ties.
    ranked = words.with_columns(pl.col("rank").cast(pl.Float32)).sort(
        "class", "rank", "documents", name, descending=[False, True, True, False], nulls_last=True
    )
    return ranked if limit is None else ranked.filter(pl.int_range(pl.len()).over("class") < limit)


def beginning() -> pl.Expr:
    """The first 80 characters of a document's text, on one line."""
    line = pl.col("text").str.slice(0, 300).str.replace_all(r"[ \t\r\n]+", " ").str.strip_chars(" ")
    return line.str.slice(0, 80).alias("beginning")
