-- The functions of attnstore.ask.statistics as macros, for a DuckDB without attnstore.
--
-- Errors against scipy (tests/ask/test_script.py): p_value 1e-10 absolute, and 1e-5 relative for values down to 1e-30;
-- t_quantile 1e-10 relative, for p = 0.975 only (otherwise it is null); q_values are scipy's except for rounding.

-- ln B(a, 1/2)
CREATE OR REPLACE TEMP MACRO log_beta_half(a) AS lgamma(a) + lgamma(0.5) - lgamma(a + 0.5);

-- One step of a continued fraction by the modified Lentz method: f is the fraction so far, c and d its auxiliary ratios.
CREATE OR REPLACE TEMP MACRO lentz(s, term) AS {
    'c': 1 + term / s.c, 'd': 1 / (1 + term * s.d), 'f': s.f * (1 + term / s.c) / (1 + term * s.d)
};

-- The continued fraction of the incomplete beta function (Abramowitz and Stegun 1964, 26.5.8), with enough terms for its
-- arguments.
CREATE OR REPLACE TEMP MACRO beta_fraction(a, b, x) AS list_reduce(
    range(1, 30 + (2 * sqrt(greatest(a, b)))::INTEGER),
    lambda s, m: lentz(
        lentz(s, m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))),
        -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    ),
    {'c': 1::DOUBLE, 'd': 1 / (1 - (a + b) * x / (a + 1)), 'f': 1 / (1 - (a + b) * x / (a + 1))}
).f;

-- Both tails of the normal distribution beyond z: a series of positive terms, or Laplace's continued fraction.
CREATE OR REPLACE TEMP MACRO normal_tails(z) AS CASE
    WHEN abs(z) < 2.5 THEN 1 - sqrt(2 / pi()) * exp(-z * z / 2) * list_reduce(
        range(1, 60),
        lambda s, k: {'term': s.term * z * z / (2 * k + 1), 'sum': s.sum + s.term * z * z / (2 * k + 1)},
        {'term': abs(z)::DOUBLE, 'sum': abs(z)::DOUBLE}
    ).sum
    ELSE sqrt(2 / pi()) * exp(-z * z / 2)
        / list_reduce(range(120, 0, -1), lambda s, k: abs(z) + k / s, abs(z)::DOUBLE)
END;

-- The factor before the fraction, with x = df / (df + t²).
CREATE OR REPLACE TEMP MACRO beta_front(t, df) AS
    exp(df / 2 * ln(df / (df + t * t)) + 0.5 * ln(t * t / (df + t * t)) - log_beta_half(df / 2));

-- The two-sided p value of Student's t with df degrees of freedom: I_x(df / 2, 1 / 2). Above 100,000 degrees of freedom,
-- t is transformed to a normal deviate (Abramowitz and Stegun 1964, 26.7.8).
CREATE OR REPLACE TEMP MACRO p_value(t, df) AS CASE
    WHEN t IS NULL OR df IS NULL OR isnan(t) OR isnan(df) THEN NULL
    WHEN t = 0 THEN 1.0
    WHEN isinf(t) THEN 0.0
    WHEN isinf(df) THEN normal_tails(t)
    WHEN df > 1e5 THEN normal_tails(t * (1 - 1 / (4 * df)) / sqrt(1 + t * t / (2 * df)))
    WHEN df / (df + t * t) < (df / 2 + 1) / (df / 2 + 2.5)
        THEN beta_front(t, df) * beta_fraction(df / 2, 0.5, df / (df + t * t)) / (df / 2)
    ELSE 1 - beta_front(t, df) * beta_fraction(0.5, df / 2, t * t / (df + t * t)) / 0.5
END;

-- The p quantile of Student's t distribution: ln t as a Chebyshev series in 1 / df, summed by Clenshaw's method. The
-- coefficients fit scipy.special.stdtrit at 400 nodes between 1 and infinitely many degrees of freedom.
CREATE OR REPLACE TEMP MACRO t_quantile(p, df) AS CASE
    WHEN p = 0.975 AND df >= 1 THEN exp(list_transform(
        [list_reduce(
            [
            -2.4746887340422886e-13, 1.6593126218836047e-12, -5.84580920474235e-12, 1.5853983573524748e-11,
            -3.4824747217354575e-11, 4.3633649923084717e-11, 1.537480587023626e-10, -1.4413960831688916e-09,
            5.159138161487497e-09, -3.5893560775450706e-09, -4.732090134700576e-08, 1.2350156338309335e-07,
            7.679067025632692e-07, -4.693300023765001e-06, -1.0444575412514285e-05, 0.00019820947814229485,
            -0.000504949530687888, -0.0057194750813847044, 0.07414875203239364, 0.9401080094822621
            ],
            lambda s, c: {'one': c + 2 * (2 / df - 1) * s.one - s.other, 'other': s.one},
            {'one': 0::DOUBLE, 'other': 0::DOUBLE}
        )],
        lambda s: 1.5338741831655651 + (2 / df - 1) * s.one - s.other
    )[1])
END;

-- Benjamini and Hochberg's q values (1995) of one family of tests, in the order of its p values. A null p value is not a
-- test.
CREATE OR REPLACE TEMP MACRO q_values(family) AS (
    SELECT list(q ORDER BY place)
    FROM (
        SELECT place, CASE WHEN p IS NOT NULL THEN min(least(1, p * tests / nr)) OVER (
            ORDER BY p DESC NULLS LAST, nr DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) END AS q
        FROM (
            SELECT p, place, row_number() OVER (ORDER BY p NULLS LAST, place) AS nr, count(p) OVER () AS tests
            FROM (SELECT unnest(family) AS p, unnest(range(len(family))) AS place)
        )
    )
);
