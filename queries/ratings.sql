-- How do accuracy, probability and evidence vary with a number in the data, such as a rating?
--
-- How to read the answer: the number is in `column`: one kept by --keep-column, or one that every store has,
-- such as the id. In a text it is what `pattern` finds, by default the last number (IMDb's ids end in the
-- rating: test/pos/123_10.txt has 10). Each number has its own row if there are at most `bins` of them;
-- otherwise rows are bins with equally many documents. In each row, `accuracy` is the share of the labelled
-- `documents` that are predicted right, `low` to `high` is its 95 % interval, and `mean_probability` is the
-- mean probability of the predictions. `evidence_for` and `evidence_against` are means over documents of all
-- that supports the prediction (tokens above 0, summed) and all that opposes it (tokens below 0). `net` is
-- their sum, `net_low` to `net_high` its interval.
--
-- Clusters (such as films, if documents have a group) count as independent; `clusters` is their number. An
-- interval needs two clusters of equal size, or more if they are uneven.
--
-- How not to read it: as the effect of a rating. Documents with different ratings also differ in length and
-- words. Near the middle of a scale the label is nearly arbitrary, so low accuracy there is not only the
-- model's fault.
--
-- Documents without a number are left out. Without labels of the model's classes, accuracy is null. Evidence
-- covers the documents that have a score (not null), without special tokens.
--
-- Example: attnstore query float32.attn ratings,
-- over the 25,000 IMDb test reviews, first row:
--     number_from=1, number_to=1, documents=5022, clusters=1737, accuracy=0.9602, low=0.9542, high=0.9654,
--     mean_probability=0.9787, evidence_for=0.05924, evidence_against=-0.01765, net=0.04159, net_low=0.04056,
--     net_high=0.04262
--
-- @param column: column = id -- the column of documents that holds the number
-- @param pattern: text = (?:^|\p{L}-?|[^\p{L}0-9.])(-?[0-9]+(?:[.][0-9]+)?)[^0-9]*$ -- which part of a text is
--     the number: the first group of a regular expression; by default a hyphen after a letter is no minus; a
--     text that is a number as a whole is used as it is
-- @param reduction: signed_reduction = evidence -- which score: a signed one in the store
-- @param layer: layer = last -- its layer, if the score has one per layer
-- @param bins: count = 10 -- the largest number of rows
-- @param cluster: cluster = group -- what counts as independent: groups of documents (films), or documents
-- @columns number_from, number_to, documents, accuracy, low, high
-- @pair number_from, number_to: accuracy, mean_probability, net
--
-- Source: ratios of sums over clusters (Cochran 1977, "Sampling Techniques", section 6.3), with Student's t and
-- the effective number of clusters (Kish 1965) minus one as degrees of freedom; for accuracy as in
-- calibration.sql.
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
