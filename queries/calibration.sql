-- Is the model right as often as its probabilities suggest?
--
-- How to read the answer: documents are put into bins by the probability of the model's prediction. In each
-- bin's row, `accuracy` is the share of its `documents` that are predicted right, `low` to `high` is its 95 %
-- interval for other documents of the same kind, and `mean_probability` is the mean probability of the
-- predictions. `gap` is accuracy minus probability; its interval, `gap_low` to `gap_high`, takes the
-- probabilities as given. If the gap is below 0, the model is overconfident. `class` is the predicted class;
-- null means all of them.
--
-- The row without a bin covers all bins. Its `expected_error` is the expected calibration error: the mean |gap|
-- of the bins, weighted by documents. `error_low` to `error_high` is its 95 % interval, provided that the gaps
-- have the signs observed. Gaps that are due to chance add up, too: `by_chance` is the error to expect from a
-- calibrated model with these bins and probabilities. Compare `expected_error` with it, not with 0.
--
-- Clusters (such as films, if documents have a group) count as independent; `clusters` is their number. An
-- interval needs two clusters of equal size, or more if they are uneven.
--
-- How not to read it: as the quality of the model. A model that is right half of the time with a probability of
-- one half is calibrated. The error depends on the bins: if nearly all probabilities are near 1, use
-- `binning=count` for bins of equal size. On its own training data, a model looks underconfident.
--
-- Documents without a label are left out. If the labels are not the model's classes, no prediction is right or
-- wrong, and the question is refused.
--
-- Example: attnstore query demo.attn calibration,
-- over the 220 embedded reviews, first row:
--     class=null, bin=null, probability_from=0.519, probability_to=0.9959, documents=220, clusters=161,
--     mean_probability=0.9537, accuracy=0.8591, low=0.8021, high=0.9017, gap=-0.0946, gap_low=-0.1516,
--     gap_high=-0.05202, expected_error=0.09579, error_low=0.04973, error_high=0.1418, by_chance=0.02224
--
-- @needs labels
-- @param bins: count = 10 -- the number of bins
-- @param binning: width|count = width -- bins of equal width, or with equally many documents (equal
--     probabilities stay together)
-- @param cluster: cluster = group -- what counts as independent: groups of documents (films), or documents
-- @columns class, bin, documents, mean_probability, accuracy, low, high
-- @pair class, bin: accuracy, mean_probability, gap, expected_error
--
-- Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", eqs. 2 to 5. Intervals: ratios of sums
-- over clusters (Cochran 1977, "Sampling Techniques", section 6.3), with Student's t and the effective number
-- of clusters (Kish 1965) minus one as degrees of freedom. For accuracy: Wilson's interval (1927) with the
-- effective sample size (Korn and Graubard 1998). `by_chance`: the mean absolute value of a normal deviate,
-- sqrt(2 / pi) times its standard deviation, with independent documents.
WITH
judged AS (
    SELECT
        prediction, cluster, probability::DOUBLE AS probability,
        (label = prediction)::INTEGER AS correct, greatest(1, $bins) AS most
    FROM documents
    WHERE $labels_are_models AND label IS NOT NULL AND prediction IS NOT NULL
),
sorted AS (
    SELECT NULL AS class, cluster, probability, correct, most FROM judged
    UNION ALL
    SELECT prediction, cluster, probability, correct, most FROM judged
),
binned AS (
    SELECT *, CASE
        WHEN $binning = 'width' THEN least(most, greatest(1, ceil(probability * most)))
        ELSE 1 + (rank() OVER (PARTITION BY class ORDER BY probability) - 1) * most
            // count(*) OVER (PARTITION BY class)
    END::BIGINT AS bin
    FROM sorted
),
gathered AS (
    SELECT
        class, bin, cluster, any_value(most) AS most,
        count(*) AS n, sum(correct) AS hits, sum(probability) AS said,
        sum(probability * (1 - probability)) AS variation, min(probability) AS least, max(probability) AS highest
    FROM binned
    GROUP BY class, bin, cluster
),
-- Each cluster's documents, per bin and over all bins. `off` is hits minus probabilities; over all bins, each bin
-- counts in the direction of its gap.
sided AS (
    SELECT *, sign(sum(hits - said) OVER (PARTITION BY class, bin)) AS side FROM gathered
),
clustered AS (
    SELECT class, bin, cluster, most, n, hits, said, variation, hits - said AS off, least, highest FROM gathered
    UNION ALL
    SELECT
        class, NULL, cluster, any_value(most), sum(n), sum(hits), sum(said), sum(variation), sum(side * (hits - said)),
        min(least), max(highest)
    FROM sided
    GROUP BY class, cluster
),
summed AS (
    SELECT
        class, bin, any_value(most) AS most, sum(n) AS n, count(*) AS clusters, sum(n * n) AS nn,
        sum(hits) / sum(n) AS accuracy, sum(hits * hits) AS hh, sum(hits * n) AS hn,
        sum(hits - said) / sum(n) AS gap,
        sum(off) / sum(n) AS off, sum(off * off) AS oo, sum(off * n) AS o_n,
        sum(said) / sum(n) AS mean_probability, sum(variation) AS variation,
        min(least) AS least, max(highest) AS highest
    FROM clustered
    GROUP BY class, bin
),
measured AS (
    SELECT *, effective_clusters(n, nn) AS g FROM summed
),
estimated AS (
    SELECT
        *, t_quantile(0.975, g - 1) AS t,
        effective_size(accuracy, n, ratio_variance(accuracy, n, hh, hn, nn, g), g) AS m,
        CASE WHEN accuracy > 0 AND accuracy < 1 THEN sqrt(ratio_variance(off, n, oo, o_n, nn, g)) END AS off_error,
        sum(CASE WHEN bin IS NOT NULL THEN sqrt(2 / pi() * variation) END) OVER (PARTITION BY class) / n AS by_chance
    FROM measured
)
SELECT
    class, bin,
    CASE WHEN bin IS NULL OR $binning = 'count' THEN least ELSE (bin - 1) / most END AS probability_from,
    CASE WHEN bin IS NULL OR $binning = 'count' THEN highest ELSE bin / most END AS probability_to,
    n::BIGINT AS documents, clusters,
    mean_probability, accuracy,
    share_low(accuracy, m, t) AS low, share_high(accuracy, m, t) AS high,
    gap,
    share_low(accuracy, m, t) - mean_probability AS gap_low, share_high(accuracy, m, t) - mean_probability AS gap_high,
    CASE WHEN bin IS NULL THEN off END AS expected_error,
    CASE WHEN bin IS NULL AND off_error IS NOT NULL AND t IS NOT NULL THEN greatest(0, off - t * off_error) END AS error_low,
    CASE WHEN bin IS NULL THEN off + t * off_error END AS error_high,
    CASE WHEN bin IS NULL THEN by_chance END AS by_chance
FROM estimated
ORDER BY class NULLS FIRST, bin NULLS FIRST
