"""The statistics of questions beyond sums: p values, intervals, false discovery rates.

The questions compute the sums. Distributions come from scipy, under one name for both engines: as a DuckDB function,
which `register` adds to a connection, and as a function of Polars expressions.

The estimator is the ratio of two sums over clusters (documents, or groups of them). A word's mean over its occurrences
is r = Σ_g y_g / Σ_g n_g, with y_g the sum and n_g the occurrences in cluster g. Its variance is

    v = G / (G − 1) · Σ_g (y_g − r · n_g)² / (Σ_g n_g)²        (Cochran 1977, "Sampling Techniques", section 6.3)

and (r − r₀) / √v is compared with Student's t with G − 1 degrees of freedom. G is the effective number of clusters, (Σ
n_g)² / Σ n_g² (Kish 1965, "Survey Sampling", has it for weights): with the plain number, a few large clusters among
many small ones make intervals too short. This assumes that clusters are independent; a word's occurrences in one
document, or in reviews of one film, are not.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _p_value(t: Array, df: Array) -> Array:
    if (np.isnan(t) | np.isnan(df)).all():
        return np.full(t.shape, np.nan)  # before scipy, which takes half a second to import
    from scipy.special import stdtr

    return np.asarray(2 * stdtr(df, -np.abs(t)), dtype=np.float64)


def _t_quantile(p: Array, df: Array) -> Array:
    if np.isnan(df).all():
        return np.full(df.shape, np.nan)
    from scipy.special import stdtrit

    return np.asarray(stdtrit(df, p), dtype=np.float64)


def _q_values(p: Array) -> Array:
    """Benjamini and Hochberg's adjusted p values (1995) of one family of tests; NaN is no test.

    The i-th smallest of m is m / i times its p, or the value of a larger p if that is less. (scipy.stats has this, but
    takes a second to import.)
    """
    q = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    falling = tested[np.argsort(-p[tested], kind="stable")]
    of_rank = p[falling] * len(tested) / np.arange(len(tested), 0, -1)
    q[falling] = np.minimum(1, np.minimum.accumulate(of_rank))
    return q


# ---------------------------------------------------------------------------------------------------------
# Polars
# ---------------------------------------------------------------------------------------------------------


def p_value(t: pl.Expr, df: pl.Expr) -> pl.Expr:
    """The two-sided p value of Student's t with `df` degrees of freedom (which may be infinite); null for nulls."""
    return _rowwise(_p_value, t, df)


def t_quantile(p: float, df: pl.Expr) -> pl.Expr:
    """The quantile `p` of Student's t distribution with `df` degrees of freedom; null for nulls."""
    return _rowwise(_t_quantile, pl.lit(p, dtype=pl.Float64), df)


def q_value(p: pl.Expr) -> pl.Expr:
    """The q values (Benjamini and Hochberg 1995) of a column of p values; null if p is null.

    The column is one family of tests: use `.over(...)` for one family per class.
    """

    def adjusted(column: pl.Series) -> pl.Series:
        return pl.Series(column.name, _q_values(_numbers(column))).fill_nan(None)

    return p.cast(pl.Float64).map_batches(adjusted, return_dtype=pl.Float64)


def effective_clusters(n: pl.Expr) -> pl.Expr:
    """The effective number of clusters with sizes `n` (Kish): as many equal ones weigh the same. Null below two."""
    size, squares = n.sum(), (n * n).sum()
    return pl.when(size**2 >= 2 * squares).then(size**2 / squares)


def error_of(variance: pl.Expr, scale: pl.Expr) -> pl.Expr:
    """The root of a variance; null if the variance is so small, relative to `scale`, that it may be rounding."""
    return pl.when(variance > 1e-14 * scale).then(variance.sqrt())


def together(products: pl.Expr, most: pl.Expr) -> pl.Expr:
    """How much the documents of a cluster agree on their side: the correlation of two of them.

    `products` are the products for pairs of documents, each its side minus the expected side, summed over the
    clusters. `most` is what they would be if all documents of a cluster were always on one side. Values below 0, which
    happen only by chance, become 0.
    """
    return pl.when(most > 1e-9).then((products / most).clip(0, 1)).otherwise(0.0)


def permutation_p(t: pl.Expr, skew: pl.Expr, g: pl.Expr, o_g: pl.Expr) -> pl.Expr:
    """The two-sided p value of a sum over documents dealt at random to two sides, `t` deviations from its mean.

    `skew` is the sum's skewness over all ways to deal them. The sum is treated as a gamma distribution with this mean,
    variance and skewness (Pearson's type III, as in Mielke and Berry's "Permutation Methods"). Its tail is that of a
    normal deviate, Barndorff-Nielsen's r* (1986): the relative error is a hundredth or less, and a p of a millionth
    needs no table of a million permutations. On the short side of the distribution, the end is kept at 2 t or farther.
    No p is smaller than that of one way, and its mirror, to deal `g` + `o_g` clusters to two sides of these sizes.
    Null for nulls.
    """
    kept = (
        pl.when(t * skew < 0).then(skew.sign() * pl.min_horizontal(skew.abs(), 1 / t.abs())).otherwise(skew)
    )
    x = kept * t / 2
    series = -2 / 3 + x * (1 / 2 - x * (2 / 5 - x * (1 / 3 - x * (2 / 7 - x * (1 / 4 - x * 2 / 9)))))
    part = pl.when(x.abs() < 0.01).then(series).otherwise((2 * (x - x.log1p()) / x**2 - 1) / x)
    u = x * part
    near = 1 - u * (1 / 2 - u * (1 / 3 - u * (1 / 4 - u * (1 / 5 - u * (1 / 6 - u / 7)))))
    log_part = pl.when(u.abs() < 0.01).then(near).otherwise(u.log1p() / u)
    h = (1 + u).sqrt()
    deviate = t * h - part * log_part * kept / (4 * h)
    smallest = pl.map_batches([g, o_g], _least_p, return_dtype=pl.Float64, is_elementwise=True)
    p = p_value(deviate, pl.lit(float("inf")))
    return pl.when(smallest.is_not_null()).then(pl.max_horizontal(p, smallest).clip(upper_bound=1) + 0 * p)


def _least_p(columns: Sequence[pl.Series]) -> pl.Series:
    """Twice one over the number of ways to choose g of g + g' clusters."""
    one, other = (_numbers(column) for column in columns)
    if np.isnan(one + other).all():
        return pl.Series(np.full(one.shape, np.nan)).fill_nan(None)
    from scipy.special import gammaln

    return pl.Series(2 * np.exp(gammaln(one + 1) + gammaln(other + 1) - gammaln(one + other + 1))).fill_nan(
        None
    )


def counts_p(spots: pl.Expr, o_spots: pl.Expr, size: pl.Expr, o_size: pl.Expr) -> pl.Expr:
    """Fisher's exact test for few: twice the probability of `o_spots` or fewer of `o_size` clusters.

    All are whole numbers: the clusters here and there that have a word, and all clusters here and there. The clusters
    with the word are dealt at random.
    """

    def computed(columns: Sequence[pl.Series]) -> pl.Series:
        at, o_at, here, there = (_numbers(column) for column in columns)
        if not len(at):
            return pl.Series([], dtype=pl.Float64)
        from scipy.stats import hypergeom

        return pl.Series(np.minimum(1, 2 * hypergeom.cdf(o_at, here + there, there, at + o_at))).fill_nan(
            None
        )

    return pl.map_batches(
        [spots, o_spots, size, o_size], computed, return_dtype=pl.Float64, is_elementwise=True
    )


def surely_more(spots: pl.Expr, o_spots: pl.Expr, size: pl.Expr, o_size: pl.Expr) -> pl.Expr:
    """The lower end of the 95 % interval of the log-odds ratio that a cluster has a word, here against there.

    Half a cluster is added to each count (Haldane 1956, Gart 1966).
    """
    counts = [spots + 0.5, size - spots + 0.5, o_spots + 0.5, o_size - o_spots + 0.5]
    one, rest, other, o_rest = counts
    error = (1 / one + 1 / rest + 1 / other + 1 / o_rest).sqrt()
    return (one / rest).log() - (other / o_rest).log() - 1.959963984540054 * error


def cluster_sums(y: pl.Expr, n: pl.Expr) -> dict[str, pl.Expr]:
    """The aggregates over rows of clusters that `ratio_error` needs: `clusters`, `squares`, `products`, `counts`.

    Each row is one cluster; `clusters` is their effective number, null below two.
    """
    return {
        "clusters": effective_clusters(n),
        "squares": (y * y).sum(),
        "products": (y * n).sum(),
        "counts": (n * n).sum(),
    }


def ratio_error(ratio: pl.Expr, n: pl.Expr) -> pl.Expr:
    """√v of the module's formula, from `cluster_sums`: `ratio` is Σy / Σn, and `n` is Σn."""
    # Σ (y − r · n)², expanded; rounding must not make it negative.
    spread = pl.col("squares") - 2 * ratio * pl.col("products") + ratio**2 * pl.col("counts")
    clusters = pl.col("clusters")
    return (spread.clip(lower_bound=0) * clusters / (clusters - 1)).sqrt() / n


def margin(error: pl.Expr) -> pl.Expr:
    """Half the width of a 95 % interval with that error: Student's t, with the column `clusters` minus one as df."""
    return t_quantile(0.975, pl.col("clusters") - 1) * error


def interval(mean: pl.Expr, error: pl.Expr) -> dict[str, pl.Expr]:
    """`low` and `high`, the 95 % interval of a mean, from the columns `clusters` and `lowest`, the smallest sum of one.

    Attention is skewed to the right: a symmetric interval would miss more above than below. So the interval is on the
    mean's logarithm, unless a cluster's sum is below 0, as it can be with a reduction of one's own.
    """
    half = margin(error)
    skewed = (mean > 0) & (pl.col("lowest") >= 0)
    return {
        "low": pl.when(skewed).then(mean / (half / mean).exp()).otherwise(mean - half),
        "high": pl.when(skewed).then(mean * (half / mean).exp()).otherwise(mean + half),
    }


def ratio_variance(ratio: pl.Expr, n: pl.Expr, yy: pl.Expr, yn: pl.Expr, nn: pl.Expr, g: pl.Expr) -> pl.Expr:
    """Return v of the module's formula from sums over clusters: `n` Σn, `yy` Σy², `yn` Σyn, `nn` Σn²; `g` clusters."""
    return (yy - 2 * ratio * yn + ratio**2 * nn).clip(lower_bound=0) / n**2 * g / (g - 1)


def kish(n: pl.Expr, nn: pl.Expr) -> pl.Expr:
    """The effective number of clusters, from Σn and Σn²; null below two."""
    return pl.when(n * n >= 2 * nn).then(n**2 / nn)


def share_interval(share: pl.Expr, n: pl.Expr, variance: pl.Expr, g: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """The ends of Wilson's 95 % interval (1927) for a share of `n` documents in `g` clusters.

    With the effective sample size (Korn and Graubard 1998, "Confidence Intervals for Proportions with Small Expected
    Number of Positive Counts Estimated From Survey Data"), share (1 - share) / `variance`, and Student's t with g - 1
    degrees of freedom.
    """
    plain = (share > 0) & (share < 1) & (variance > 1e-14)
    m = pl.when(plain).then(pl.min_horizontal(n, share * (1 - share) / variance)).otherwise(g)
    t = t_quantile(0.975, g - 1)
    middle, whole = share + t * t / (2 * m), 1 + t * t / m
    half = t * (share * (1 - share) / m + t * t / (4 * m * m)).sqrt()
    return ((middle - half) / whole).clip(lower_bound=0), ((middle + half) / whole).clip(upper_bound=1)


def _rowwise(function: Callable[[Array, Array], Array], one: pl.Expr, other: pl.Expr) -> pl.Expr:
    def computed(columns: Any) -> pl.Series:
        first, second = (_numbers(column) for column in columns)
        return pl.Series(function(*np.broadcast_arrays(first, second)), dtype=pl.Float64).fill_nan(None)

    return pl.map_batches(
        [one.cast(pl.Float64), other.cast(pl.Float64)],
        computed,
        return_dtype=pl.Float64,
        is_elementwise=False,
    )


def _numbers(column: pl.Series) -> Array:
    """The column with NaN for null."""
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


# ---------------------------------------------------------------------------------------------------------
# DuckDB
# ---------------------------------------------------------------------------------------------------------


def register(connection: Any) -> None:
    """Add `p_value(t, df)`, `t_quantile(p, df)` and `q_values(list)`, as described above, to a DuckDB connection.

    `q_values` takes the p values of a family as a list and returns their q values in the same order; unnest both.
    """
    number, numbers = "DOUBLE", "DOUBLE[]"
    functions: tuple[tuple[str, Callable[..., Any], list[str], str], ...] = (
        ("p_value", _on_arrow(_p_value), [number, number], number),
        ("t_quantile", _on_arrow(_t_quantile), [number, number], number),
        ("q_values", _q_lists, [numbers], numbers),
    )
    for name, function, takes, gives in functions:
        # "special": nulls reach the function, which may itself return null.
        connection.create_function(name, function, takes, gives, type="arrow", null_handling="special")


def _on_arrow(function: Callable[[Array, Array], Array]) -> Callable[[Any, Any], Any]:
    def computed(one: Any, other: Any) -> Any:
        values = function(_from_arrow(one), _from_arrow(other))
        return pa.array(values, type=pa.float64(), mask=np.isnan(values))

    return computed


def _q_lists(lists: Any) -> Any:
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    answers: list[list[float | None] | None] = []
    for family in lists:
        if not family.is_valid:
            answers.append(None)
            continue
        values = _q_values(_from_arrow(family.values))
        answers.append([None if np.isnan(value) else float(value) for value in values])
    return pa.array(answers, type=pa.list_(pa.float64()))


def _from_arrow(column: Any) -> Array:
    """The column with NaN for null."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.asarray(column.cast(pa.float64()).fill_null(float("nan")).to_numpy(zero_copy_only=False))
