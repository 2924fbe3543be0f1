"""The Polars twin of distinctive_words.sql, which says what is asked and how to read the answer."""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from attnstore.ask.statistics import (
    counts_p,
    error_of,
    kish,
    permutation_p,
    q_value,
    surely_more,
    t_quantile,
    together,
)
from attnstore.ask.terms import is_listed, known, leading, least_documents, log_odds, occurrences
from attnstore.store.frames import Tables

#: What is summed over clusters: products of the class's y and n with a and b, the y and n of all classes there.
_PRODUCTS = (
    "yy", "yn", "nn", "ya", "yb", "na", "nb", "yyy", "yya", "yyb", "yaa", "yab", "ybb", "nbb",
)  # fmt: skip
#: The same over documents.
_OWN = ("yy", "yn", "nn", "yyy", "yyn", "ynn", "nnn")


def answer(tables: Tables, p: Mapping[str, Any]) -> pl.LazyFrame:
    """`documents` has `class` and `cluster`, `tokens` has `class` and `attention`; `p` holds the parameters."""
    considered = tables.tokens.filter(pl.col("class").is_not_null(), pl.col("attention").is_not_null())
    rows = occurrences(considered, p).filter(pl.col("word").is_not_null())
    uses = rows.group_by("document", "word").agg(
        n=pl.col("starts").sum().cast(pl.Float64), y=pl.col("lift").sum(), documents=pl.col("new").sum()
    )
    documents = tables.documents.filter(pl.col("class").is_not_null()).select(
        "document", "cluster", pl.col("class").cast(pl.String)
    )
    counts = None
    if p["renormalise"]:  # drops words that count, but no document in which nothing is left
        counted = occurrences(considered, {**p, "renormalise": False}, "class").join(
            rows, on="document", how="semi"
        )
        counts = (
            counted.filter(pl.col("word").is_not_null())
            .group_by(pl.col("class").cast(pl.String))
            .agg(words=pl.col("starts").sum().cast(pl.Float64))
        )
    return compared(documents, uses, counts, p, tables.once)


def compared(
    documents: pl.LazyFrame,
    uses: pl.LazyFrame,
    counts: pl.LazyFrame | None,
    p: Mapping[str, Any],
    once: Callable[[pl.LazyFrame], pl.LazyFrame],
) -> pl.LazyFrame:
    """The answer out of `documents` (document, cluster, class) and `uses` of words in documents.

    `uses` has document, word, n (occurrences), y (the sum of their lifts) and documents (1, or 0 where no occurrence
    starts); `counts` the words of each class, None: those in `uses`. `once` works out a frame that is read again.
    """
    # A cluster's part in a class by its number: grouping by fewer and shorter keys is faster.
    parts = documents.with_columns(part=pl.struct("class", "cluster").rank("dense"))
    n, y, o_n = pl.col("n"), pl.col("y"), pl.col("o_n")
    gathered = once(
        uses.join(parts.select("document", "part"), on="document")
        .group_by("part", "word")
        .agg(
            pl.col("documents").sum().cast(pl.Int64),
            pl.col("n", "y").sum(),
            k=pl.len().cast(pl.Float64),
            **{f"own_{name}": _product(name).sum() for name in _OWN},
        )
        .join(parts.select("part", "class", "cluster").unique(), on="part")
    )
    everywhere = gathered.group_by("cluster", "word").agg(a=y.sum(), b=n.sum(), classes=pl.len())
    of_term, classes = "word", pl.col("classes")
    counted = once(
        gathered.join(everywhere, on=["cluster", "word"])
        .group_by("class", "word")
        .agg(
            pl.col("documents", "k", "n", "y", *(f"own_{name}" for name in _OWN)).sum(),
            spots=pl.len().cast(pl.Float64),
            spots_both=(classes > 1).sum().cast(pl.Float64),
            spots_any=(1 / classes).sum(),
            **{name: _product(name).sum() for name in _PRODUCTS},
        )
    )
    if counts is None:
        counts = counted.group_by("class").agg(words=n.sum())

    def everyone(column: str) -> pl.Expr:
        return pl.col(column).sum().over(of_term)

    def others(column: str) -> pl.Expr:
        return everyone(column) - pl.col(column)

    least = least_documents(pl.col("o_size"), p)
    comparable = (pl.col("o_documents") >= pl.min_horizontal(5, least)) & (o_n > 0)
    listed = (
        counted.with_columns(
            text=pl.col("word").cast(pl.String),
            o_documents=others("documents"),
            o_k=others("k"),
            o_spots=everyone("spots_any").round() - pl.col("spots") + pl.col("spots_both"),
            o_n=others("n"),
            o_y=others("y"),
            o_yy=everyone("ya") - 2 * pl.col("ya") + pl.col("yy"),
            o_yn=everyone("yb") - pl.col("yb") - pl.col("na") + pl.col("yn"),
            o_nn=everyone("nb") - 2 * pl.col("nb") + pl.col("nn"),
            aa=everyone("ya"),
            ab=everyone("yb"),
            bb=everyone("nb"),
            aaa=everyone("yaa"),
            aab=everyone("yab"),
            abb=everyone("ybb"),
            bbb=everyone("nbb"),
            **{f"others_{name}": others(f"own_{name}") for name in _OWN},
        )
        .join(_sizes(documents), on="class")
        .join(counts.with_columns(o_words=pl.col("words").sum() - pl.col("words")), on="class")
        .filter(
            pl.col("documents") >= least_documents(pl.col("size"), p),
            n > 0,
            pl.col("o_size") > 0,
            is_listed(pl.col("text"), p),
        )
        .with_columns(
            comparable=comparable,
            r=y / n,
            o_r=pl.when(o_n > 0).then(pl.col("o_y") / o_n),
            g=kish(n, pl.col("nn")),
            o_g=pl.when(o_n > 0).then(kish(o_n, pl.col("o_nn"))),
        )
    )
    return (
        listed.pipe(log_odds, p["prior"])
        # The same order in both engines, because adjusting takes minima from the end.
        .sort("class", "text")
        .pipe(_levelled)
        .pipe(_permuted)
        .pipe(_measured)
        .with_columns(q=q_value(pl.col("p")).over("class", "comparable"))
        .pipe(_explained)
        .with_columns(rank=pl.col(p["rank_by"]))
        .pipe(leading, p["limit"], "text")
        .select(
            "class",
            word="text",
            test=pl.when("comparable").then(pl.lit("attention")).otherwise(pl.lit("counts")),
            documents="documents",
            other_documents="o_documents",
            occurrences=n.cast(pl.Int64),
            other_occurrences=o_n.cast(pl.Int64),
            clusters=pl.when("comparable").then("g").otherwise("spots"),
            other_clusters=pl.when("comparable").then("o_g").otherwise("o_spots"),
            lift="r",
            other_lift="o_r",
            sure="sure",
            surplus="surplus",
            error="error",
            low="low",
            high="high",
            p="p",
            q="q",
            factor="factor",
            difference="difference",
            log_ratio="log_ratio",
            log_odds="log_odds",
            z="z",
            residual="residual",
        )
    )


def _sizes(documents: pl.LazyFrame) -> pl.LazyFrame:
    """Per class: `size` and `o_size` (documents), `all_spots` and `o_all_spots` (clusters), and `rho`.

    `rho` is how much the documents of a cluster go together in being of the class.
    """
    m, all_m, part, classes = (pl.col(name) for name in ("m", "all_m", "part", "classes"))
    inside = (
        documents.group_by("class", "cluster")
        .agg(m=pl.len().cast(pl.Float64))
        .with_columns(all_m=m.sum().over("cluster"), classes=pl.len().over("cluster"))
        .with_columns(
            part=m.sum().over("class") / m.sum(),
            squares=(all_m**2 / classes).sum(),
            spots=(1 / classes).sum(),
        )
    )
    size = pl.col("size") + pl.col("o_size")
    return (
        inside.group_by("class")
        .agg(
            size=m.sum().cast(pl.Int64),
            all_spots=pl.len().cast(pl.Float64),
            o_all_spots=pl.col("spots").first().round() - (classes == 1).sum(),
            off=((m - part * all_m) ** 2 - part**2 * all_m**2).sum(),
            part=part.first(),
            squares=pl.col("squares").first(),
        )
        .with_columns(o_size=pl.col("size").sum() - pl.col("size"))
        .select(
            "class",
            "size",
            "o_size",
            "all_spots",
            "o_all_spots",
            rho=together(
                pl.col("off") + part**2 * pl.col("squares") - size * part * (1 - part),
                part * (1 - part) * (pl.col("squares") - size),
            ),
        )
    )


def _levelled(words: pl.LazyFrame) -> pl.LazyFrame:
    """Add what the class's words have in common: `factor`, and `surplus`, the distance from the line."""
    r, o_r, apart, middle = (pl.col(name) for name in ("r", "o_r", "apart", "middle"))
    positive = pl.when("comparable", r > 0, o_r > 0)
    words = words.with_columns(
        apart=positive.then((r / o_r).log()),
        middle=positive.then((r.log() + o_r.log()) / 2),
        known=pl.col("comparable") & known("documents", "o_documents", "class", "comparable"),
    )
    placed = words.filter("known", apart.is_not_null()).sort("class", "middle", "text")
    place, points = pl.int_range(pl.len()), pl.len()
    high, low = place >= points - points // 3, place < points // 3
    rise = apart.filter(high).median() - apart.filter(low).median()
    run = middle.filter(high).median() - middle.filter(low).median()
    slopes = placed.group_by("class", maintain_order=True).agg(
        level=apart.median(),
        slope=pl.when(points >= 60, run >= 0.5).then((rise / run).clip(-1, 1)).otherwise(0.0),
    )
    heights = (
        placed.join(slopes, on="class")
        .group_by("class")
        .agg(height=(apart - pl.col("slope") * middle).median())
    )
    lines = slopes.join(heights, on="class")
    slope = pl.col("slope").fill_null(0)
    return words.join(lines, on="class", how="left").with_columns(
        factor=pl.col("level").fill_null(0).exp(),
        tilt=1 - slope / 2,
        o_tilt=1 + slope / 2,
        surplus=apart - pl.col("height").fill_null(0) - slope * middle,
    )


def _permuted(words: pl.LazyFrame) -> pl.LazyFrame:
    """Add `total`, the distance of the class's documents from the line, with its `deviation` and `third` moment."""
    n, o_n, y, o_y, k, o_k = (pl.col(name) for name in ("n", "o_n", "y", "o_y", "k", "o_k"))
    tilt, o_tilt, height, rho = (pl.col(name) for name in ("tilt", "o_tilt", "height", "rho"))
    own, other, usual, more = (pl.col(name) for name in ("own", "other", "usual", "more"))
    compared = pl.when(pl.col("apart").is_not_null())
    log_r, log_o_r = compared.then("r").log(), compared.then("o_r").log()

    def squared(scale: pl.Expr, names: str) -> pl.Expr:
        yy, yn, nn = (pl.col(name) for name in names.split())
        return (scale**2 * yy - 2 * scale * usual * yn + usual**2 * nn).clip(lower_bound=0)

    def cubed(scale: pl.Expr, names: str) -> pl.Expr:
        yyy, yyn, ynn, nnn = (pl.col(name) for name in names.split())
        return scale**3 * yyy - 3 * scale**2 * usual * yyn + 3 * scale * usual**2 * ynn - usual**3 * nnn

    ya, yb, yya, yyb, yaa, yab, ybb = (
        pl.col(name) for name in ("ya", "yb", "yya", "yyb", "yaa", "yab", "ybb")
    )
    squares = squared(own, "own_yy own_yn own_nn") + squared(other, "others_yy others_yn others_nn")
    cubes = cubed(own, "own_yyy own_yyn own_ynn own_nnn")
    cubes = cubes + cubed(other, "others_yyy others_yyn others_ynn others_nnn")
    whole_squares = more**2 * pl.col("yy") + 2 * more * (other * ya - usual * yb) + squared(other, "aa ab bb")
    whole_cubes = (
        more**3 * pl.col("yyy")
        + 3 * more**2 * (other * yya - usual * yyb)
        + 3 * more * (other**2 * yaa - 2 * other * usual * yab + usual**2 * ybb)
        + cubed(other, "aaa aab abb bbb")
    )
    spread = k * o_k / ((k + o_k) * (k + o_k - 1))
    lean = pl.when(k + o_k > 2).then((o_k - k) / (k + o_k - 2)).otherwise(0)
    scale = own**2 * pl.col("own_yy") + other**2 * pl.col("others_yy")
    return (
        words.with_columns(o_log=(n * (log_r - height / tilt) + o_n * log_o_r) / (n * o_tilt / tilt + o_n))
        .with_columns(own=(-(height + o_tilt * pl.col("o_log")) / tilt).exp(), other=(-pl.col("o_log")).exp())
        .with_columns(usual=(y * own + o_y * other) / (n + o_n), more=own - other)
        .with_columns(
            total=y * own - usual * n,
            deviation=error_of(spread * ((1 - rho) * squares + rho * whole_squares), scale),
            third=spread * lean * ((1 - rho) * cubes + rho * whole_cubes),
        )
    )


def _measured(words: pl.LazyFrame) -> pl.LazyFrame:
    """Add the interval of `surplus`, `p`, and the plain columns."""
    n, o_n, r, o_r, g, o_g = (pl.col(name) for name in ("n", "o_n", "r", "o_r", "g", "o_g"))
    v, o_v, tilt, o_tilt, deviation = (pl.col(name) for name in ("v", "o_v", "tilt", "o_tilt", "deviation"))
    covariance = pl.col("covariance")
    compared = pl.when(pl.col("apart").is_not_null())
    # Σ (y − r · n)² over the clusters, expanded; rounding must not make it negative.
    square = (pl.col("yy") - 2 * r * pl.col("yn") + r**2 * pl.col("nn")).clip(lower_bound=0)
    o_square = (pl.col("o_yy") - 2 * o_r * pl.col("o_yn") + o_r**2 * pl.col("o_nn")).clip(lower_bound=0)
    y_o_y, y_o_n = pl.col("ya") - pl.col("yy"), pl.col("yb") - pl.col("yn")
    n_o_y, n_o_n = pl.col("na") - pl.col("yn"), pl.col("nb") - pl.col("nn")
    product = y_o_y - o_r * y_o_n - r * n_o_y + r * o_r * n_o_n
    one, two = tilt**2 * v, o_tilt**2 * o_v
    df = (one + two) ** 2 / (one**2 / (g - 1) + two**2 / (o_g - 1) + 2 * one * two * n_o_n / (n * o_n))
    half = t_quantile(0.975, pl.col("df")) * pl.col("error")
    t, skew = pl.col("total") / deviation, pl.col("third") / deviation**3
    spots = [pl.col(name) for name in ("spots", "o_spots", "all_spots", "o_all_spots")]
    return (
        words.with_columns(
            v=compared.then(square / n**2 * g / (g - 1) / r**2),
            o_v=compared.then(o_square / o_n**2 * o_g / (o_g - 1) / o_r**2),
            covariance=compared.then(
                product / (n * o_n) * (g / (g - 1) * o_g / (o_g - 1)).sqrt() / (r * o_r)
            ),
        )
        .with_columns(
            difference=pl.when("comparable").then(r - pl.col("factor") * o_r),
            log_ratio=pl.col("apart") - pl.col("factor").log(),
            log_v=v + o_v - 2 * covariance,
            error=error_of(one + two - 2 * tilt * o_tilt * covariance, pl.lit(1.0)),
            df=pl.when(one + two > 0).then(df),
            p=pl.when("comparable").then(permutation_p(t, skew, g, o_g)).otherwise(counts_p(*spots)),
        )
        .with_columns(low=pl.col("surplus") - half, high=pl.col("surplus") + half)
        .with_columns(sure=pl.when("comparable").then("low").otherwise(surely_more(*spots)))
    )


def _explained(words: pl.LazyFrame) -> pl.LazyFrame:
    """Add `residual`, from a weighted line of log_ratio on log_odds through its centre."""
    log_ratio, odds, log_v, weight = (pl.col(x) for x in ("log_ratio", "log_odds", "log_v", "weight"))
    on_line = pl.col("error").is_not_null() & odds.is_not_null() & (log_v > 1e-14)
    along, up = pl.col("along"), pl.col("up")

    def summed(term: pl.Expr) -> pl.Expr:
        return (weight * term).sum().over("class")

    all_weight, spread = weight.sum().over("class"), summed(along**2)
    slope = pl.when(spread > 1e-12 * all_weight).then(summed(along * up) / spread).otherwise(0)
    residual = pl.when(weight.count().over("class") >= 3).then(up - slope * along)
    return (
        words.with_columns(weight=pl.when(on_line).then(1 / log_v))
        .with_columns(along=odds - summed(odds) / all_weight, up=log_ratio - summed(log_ratio) / all_weight)
        .with_columns(residual=residual)
    )


def _product(name: str) -> pl.Expr:
    product = pl.col(name[0])
    for letter in name[1:]:
        product = product * pl.col(letter)
    return product
