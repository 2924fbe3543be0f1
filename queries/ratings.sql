-- How do accuracy, probability and evidence vary with a number in the data, such as a rating?
--
-- How to read the answer: the number is what `column` holds: a column that was kept by --keep-column, or one that a store
-- has, such as the id. Of a text it is what `pattern` finds, by default the last number in it (IMDb's ids end in the
-- rating: test/pos/123_10.txt has 10). Documents are put together by it, each number by itself where there are no more
-- than `bins` of them, else into bins of equally many documents. In one row `accuracy` is the share of the labelled
-- `documents` that are predicted right, `low` to `high` its 95 % interval; `mean_probability` what the model gives its
-- predictions. `evidence_for` and `evidence_against` are the means over documents of all that speaks for the prediction
-- (tokens above 0, added up) and against it (below 0), `net` both together, `net_low` to `net_high` its interval.
--
-- Clusters (films, where documents have a group) count as independent, and `clusters` is their number; below
-- two of equal size, or more uneven ones, there is no interval.
--
-- How not to read it: as the effect of a rating. Documents with different ratings also differ in length and
-- words. Near the middle of a scale the label is nearly arbitrary, so a low accuracy there is not only the
-- model's fault.
--
-- Documents without a number are left out. Without labels of the model's classes there is no accuracy (null); evidence is
-- of the documents that have a score (not null), special tokens left out.
--
-- Example: attnstore query sample.attn ratings,
-- over 1,500 IMDb test reviews, first row:
--     number_from=1, number_to=1, documents=302, clusters=287, accuracy=0.947, low=0.9155, high=0.9672,
--     mean_probability=0.9739, evidence_for=0.0572, evidence_against=-0.01843, net=0.03877, net_low=0.03503,
--     net_high=0.04252
--
-- @param column: column = id -- where the number stands: a column of documents
-- @param pattern: text = (?:^|[^0-9.])(-?[0-9]+(?:[.][0-9]+)?)[^0-9]*$ -- what of a text is the number: the first group of
--     a regular expression; a text that is a number as a whole is that
-- @param reduction: signed_reduction = evidence -- which score: one with a sign
-- @param layer: layer = last -- its layer, where the score has one for each
-- @param bins: count = 10 -- into at most how many rows
-- @param cluster: cluster = group -- what is independent: groups of documents (films), or documents
-- @columns number_from, number_to, documents, accuracy, low, high
-- @pair number_from, number_to: accuracy, mean_probability, net
--
-- Source: ratios of sums over clusters (Cochran 1977, "Sampling Techniques", section 6.3), Student's t of the effective
-- clusters (Kish 1965) less one; of accuracy as in calibration.sql.
WITH
numbered AS (
    SELECT
        document, cluster, probability::DOUBLE AS probability,
        CASE WHEN $labels_are_models THEN (label = prediction)::INTEGER END AS correct,
        coalesce(try_cast(value AS DOUBLE), try_cast(regexp_extract(value, $pattern, 1) AS DOUBLE)) AS number
    FROM documents
),
ranked AS (
    SELECT
        *, greatest(1, $bins) AS most, count(*) OVER () AS size,
        rank() OVER (ORDER BY number) - 1 AS place, dense_rank() OVER (ORDER BY number) AS nth
    FROM numbered
    WHERE isfinite(number)
),
binned AS (
    SELECT *, CASE WHEN max(nth) OVER () <= most THEN nth ELSE place * most // size END AS bin
    FROM ranked
),
spoken AS (
    SELECT document, sum(greatest(attention, 0)) AS pro, sum(least(attention, 0)) AS contra
    FROM tokens
    WHERE NOT special AND attention IS NOT NULL
    GROUP BY document
),
gathered AS (
    SELECT
        bin, cluster, min(number) AS least, max(number) AS highest, count(*) AS n, sum(probability) AS said,
        count(correct) AS judged, coalesce(sum(correct), 0) AS hits,
        count(pro) AS heard, coalesce(sum(pro), 0) AS pro, coalesce(sum(contra), 0) AS contra
    FROM binned LEFT JOIN spoken USING (document)
    GROUP BY bin, cluster
),
summed AS (
    SELECT
        bin, min(least) AS least, max(highest) AS highest, sum(n) AS documents, count(*) AS clusters,
        sum(said) / sum(n) AS mean_probability,
        sum(judged) AS judged, sum(hits) / nullif(sum(judged), 0) AS accuracy,
        sum(hits * hits) AS hh, sum(hits * judged) AS hj, sum(judged * judged) AS jj,
        effective_clusters(sum(judged), sum(judged * judged)) AS g,
        sum(heard) AS heard, sum(pro) / nullif(sum(heard), 0) AS pro, sum(contra) / nullif(sum(heard), 0) AS contra,
        sum(pro + contra) / nullif(sum(heard), 0) AS net,
        sum((pro + contra) ** 2) AS ee, sum((pro + contra) * heard) AS eh, sum(heard * heard) AS hearings,
        effective_clusters(sum(heard), sum(heard * heard)) AS net_g
    FROM gathered
    GROUP BY bin
),
estimated AS (
    SELECT
        *, t_quantile(0.975, g - 1) AS t,
        effective_size(accuracy, judged, ratio_variance(accuracy, judged, hh, hj, jj, g), g) AS m,
        t_quantile(0.975, net_g - 1) * sqrt(ratio_variance(net, heard, ee, eh, hearings, net_g)) AS half
    FROM summed
)
SELECT
    least AS number_from, highest AS number_to, documents::BIGINT AS documents, clusters,
    accuracy, share_low(accuracy, m, t) AS low, share_high(accuracy, m, t) AS high,
    mean_probability,
    pro AS evidence_for, contra AS evidence_against, net, net - half AS net_low, net + half AS net_high
FROM estimated
ORDER BY least
