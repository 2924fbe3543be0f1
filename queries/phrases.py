"""The Polars twin of phrases.sql, which says what is asked and how to read the answer."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import cluster_sums, interval, margin, ratio_error
from attnstore.ask.terms import is_listed, support
from attnstore.store.frames import Tables


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has the columns `class` and `cluster`, `tokens` has `class` and `attention`; `p` the parameters."""
    sizes = support(tables.documents.filter(pl.col("class").is_not_null()), p)
    singles = tables.once(_singles(tables, sizes, p))
    known = singles.select("gram", "class", "y", "parts", "last_y", "last_parts", phrase="word", last="word")
    grams = _words(tables, singles.select("class", "word", "gram"))
    found, spelled = [], []
    for words in range(2, 6 if p["words"] == "all" else int(p["words"]) + 1):
        pairs = _pairs(grams)
        if words == 2:
            pairs = pairs.join(_cuts(tables, p), on=["document", "second"], how="anti")
        pairs = tables.once(pairs)
        known = tables.once(_known(pairs, known, sizes))
        grams = tables.once(pairs.join(known.select("a", "b", "gram"), on=["a", "b"]).drop("a", "b"))
        if p["words"] in ("all", str(words)):
            tokens, size = pl.col("past") - pl.col("position"), pl.lit(words, dtype=pl.Int32)
            found.append(grams.select("document", "gram", "attention", tokens=tokens, words=size))
            spelled.append(known.with_columns(words=size))
    summed = _summed(tables, pl.concat(found), p)
    frequent = tables.once(
        summed.join(pl.concat(spelled), on=["words", "gram"])
        .join(sizes, on="class")
        .filter(pl.col("documents") >= pl.col("least"))
    )
    return _ranked(tables, frequent, p)


def _singles(tables: Tables, sizes: pl.LazyFrame, p: Mapping[str, Any]) -> pl.LazyFrame:
    """The frequent words: `class`, `word`, `gram` (their number), and `y` and `parts` to sum."""
    word, n = pl.col("word").cast(pl.String), pl.col("occurrences").filter(pl.col("piece") == 0).sum()
    return (
        tables.totals.filter(pl.col("attention").is_not_null(), is_listed(word, p))
        .group_by(pl.col("class").cast(pl.String), word)
        .agg(
            n=n,
            y=pl.col("attention" if p["signed"] else "attention_lift").sum() / n,
            parts=pl.col("occurrences").sum() / n,
            documents=pl.col("new_word").sum(),
        )
        .join(sizes, on="class")
        .filter(pl.col("documents") >= pl.col("least"), pl.col("n") > 0)
        .with_row_index("gram")
        .select("class", "word", "gram", "y", "parts", last_y="y", last_parts="parts")
    )


def _words(tables: Tables, singles: pl.LazyFrame) -> pl.LazyFrame:
    """One row per place of such a word: the tokens from `position` to before `past`, and their attention."""
    position, piece, start = pl.col("position"), pl.col("piece"), ["document", "position"]
    tokens = tables.tokens.filter(pl.col("attention").is_not_null())
    blanks = (
        tokens.filter(pl.col("word").is_null(), ~pl.col("special"))
        .select("document", "position", "attention")
        .sort(start)
        .with_columns(run=position - pl.int_range(pl.len(), dtype=pl.Int32).over("document"))
        .group_by("document", "run")
        .agg(position=position.max() + 1, more=pl.len().cast(pl.Int32), mass=pl.col("attention").sum())
        .drop("run")
    )
    placed = (
        tokens.filter(pl.col("word").is_not_null())
        .select(
            "document", "position", "piece", "pieces", "attention", pl.col("class", "word").cast(pl.String)
        )
        .join(singles, on=["class", "word"])
    )
    whole = placed.filter(pl.col("pieces") == 1).select(
        "document", "position", "gram", "attention", past=position + 1
    )
    of_pieces = (
        placed.filter(pl.col("pieces") > 1)
        .group_by("document", position=position - piece)
        .agg(
            pl.col("gram").first(),
            pl.col("attention").sum(),
            past=(position - piece + pl.col("pieces")).first(),
        )
    )
    return (
        pl.concat([whole, of_pieces.select("document", "position", "gram", "attention", "past")])
        .join(blanks, on=start, how="left")
        .select(
            "document",
            position - pl.col("more").fill_null(0),
            "past",
            "gram",
            pl.col("attention") + pl.col("mass").fill_null(0),
            second="past",
        )
        .with_columns(one="attention")
    )


def _cuts(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """With head+tail, what comes after the widest gap between two tokens: it follows nothing."""
    start, end = pl.col("start"), pl.col("end")
    cut = tables.documents.filter(pl.col("truncated"), p["long"] == "head+tail").select("document")
    return (
        tables.tokens.filter(~pl.col("special"))
        .select("document", "position", "start", "end")
        .join(cut, on="document", how="semi")
        .sort("document", "position")
        .with_columns(stretch=(start - end.shift(1)).over("document"))
        .group_by("document")
        .agg(second=pl.col("position").get(pl.col("stretch").arg_max()))
    )


def _pairs(grams: pl.LazyFrame) -> pl.LazyFrame:
    """Pairs of grams, `a` and `b`, that overlap in all but one word, joined into grams one word longer."""
    following = pl.col("document", "position", "past", "gram", "attention").shift(-1).name.suffix("_next")
    return (
        grams.sort("document", "position")
        .with_columns(following)
        .filter(pl.col("document_next") == pl.col("document"), pl.col("position_next") == pl.col("second"))
        .select(
            "document",
            "position",
            "second",
            "one",
            past="past_next",
            a="gram",
            b="gram_next",
            attention=pl.col("one") + pl.col("attention_next"),
        )
    )


def _known(pairs: pl.LazyFrame, known: pl.LazyFrame, sizes: pl.LazyFrame) -> pl.LazyFrame:
    """The frequent ones of these, numbered, with what is known of the shorter ones combined."""
    shorter = known.select("gram", "class", "phrase", "y", "parts")
    last = known.select("last", "last_y", "last_parts", b="gram")
    return (
        pairs.group_by("a", "b")
        .len()
        .join(sizes.select(pl.col("least").min()), how="cross")
        .filter(pl.col("len") >= pl.col("least"))
        .with_row_index("number")
        .join(shorter, left_on="a", right_on="gram")
        .join(last, on="b")
        .select(
            "a",
            "b",
            "class",
            "last",
            "last_y",
            "last_parts",
            gram="number",
            phrase=pl.col("phrase") + " " + pl.col("last"),
            y=pl.col("y") + pl.col("last_y"),
            parts=pl.col("parts") + pl.col("last_parts"),
        )
    )


def _summed(tables: Tables, found: pl.LazyFrame, p: Mapping[str, Any]) -> pl.LazyFrame:
    """Each phrase summed over documents, then over clusters."""
    y, n, of_phrase = pl.col("y"), pl.col("n"), ["words", "gram"]
    attention, length = pl.col("attention"), pl.col("length")
    return (
        found.group_by("words", "gram", "document")
        .agg(
            n=pl.len().cast(pl.Int64),
            total=attention.sum(),
            y=(attention if p["signed"] else attention / pl.col("tokens")).sum(),
        )
        .join(tables.documents.select("document", "cluster", "length"), on="document")
        .group_by(*of_phrase, "cluster")
        .agg(
            pl.col("n", "total").sum(),
            documents=pl.len().cast(pl.Int64),
            y=(y if p["signed"] else y * length).sum(),
        )
        .group_by(of_phrase)
        .agg(
            **{name if name != "clusters" else "g": sums for name, sums in cluster_sums(y, n).items()},
            clusters=pl.len().cast(pl.Int64),
            lowest=y.min(),
            score=y.sum() / n.sum(),
            n=n.sum(),
            total=pl.col("total").sum(),
            documents=pl.col("documents").sum(),
        )
    )


def _ranked(tables: Tables, frequent: pl.LazyFrame, p: Mapping[str, Any]) -> pl.LazyFrame:
    """The first phrases of each class with their intervals, without those that a longer one covers."""
    score, n, half, low, high = (pl.col(name) for name in ("score", "n", "half", "low", "high"))
    shorter = [frequent.select(pl.col("words") - 1, gram=side, inside="n") for side in ("a", "b")]
    longer = pl.concat(shorter).group_by("words", "gram").agg(pl.col("inside").max())
    whole = (
        tables.totals.filter(pl.col("attention").is_not_null())
        .group_by(pl.col("class").cast(pl.String))
        .agg(every=pl.col("attention").sum())
    )
    ends = {"low": score - half, "high": score + half} if p["signed"] else interval(score, pl.col("error"))
    nearer = pl.when(score > 0).then(low.clip(lower_bound=0)).otherwise(high.clip(upper_bound=0))
    by = pl.col(p["rank_by"])
    share = pl.when(pl.col("every") != 0).then(pl.col("total") / pl.col("every"))
    return (
        frequent.join(longer, on=["words", "gram"], how="left")
        .filter(pl.col("inside").is_null() | (pl.col("inside") < (1 - p["apart"]) * n))
        .rename({"clusters": "units", "g": "clusters"})
        .with_columns(error=ratio_error(score, n))
        .with_columns(half=margin(pl.col("error")))
        .with_columns(**ends)
        .with_columns(sure=nearer if p["signed"] else low)
        .with_columns(
            rank=(pl.when(p["signed"], score < 0).then(-by).otherwise(by)).cast(pl.Float32),
            expected=pl.col("y") if p["signed"] else pl.col("y") / pl.col("parts"),
        )
        .join(whole, on="class")
        .sort("class", "rank", "documents", "phrase", descending=[False, True, True, False], nulls_last=True)
        .filter(pl.int_range(pl.len()).over("class") < p["limit"])
        .select(
            "class",
            "phrase",
            "words",
            "documents",
            clusters="units",
            occurrences="n",
            score="score",
            low="low",
            high="high",
            sure="sure",
            expected="expected",
            total="total",
            share=pl.lit(None, dtype=pl.Float64) if p["signed"] else share,
        )
    )
