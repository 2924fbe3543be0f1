-- Which score ranks the edited words highest, in texts for which the data has an edited version with another label?
--
-- Counterfactual data holds pairs: a text, and the same text with the few words changed that reverse its label
-- (Kaushik et al. 2020). To people, the changed words are the reason for the label, so a score should rank them
-- first. A pair is two documents of one group with different labels and enough words in common (`common`); each
-- document is compared with the one that shares most of its words. A word is edited if the other version does
-- not have it.
--
-- How to read the answer: one row per score, which is a column of the tokens table. Over the `documents` in
-- pairs, `auroc` is the probability that an edited word ranks above another word of its document (0.5 is
-- chance). `precision` is the share of edited words among the highest, counting as many words as were edited,
-- and `edited` is this share by chance. `first` is the share of documents whose highest word is an edited one.
-- All intervals are 95 % intervals for other groups of the same kind; `clusters` is the number of groups.
--
-- How not to read it: as the model's reasons. Edited words are the annotators' reasons; if a model is right for
-- other reasons, even a faithful score ranks them low. See `faithfulness`, too. Two documents of one group that
-- happen to share words (short texts, boilerplate) are not a real pair: look at some, and raise `common`. A
-- word that only moved, or that occurs twice, does not count as edited.
--
-- A word's value is the sum over its pieces. Documents without an edited word, or with edited words only, are
-- left out; so are those where the score is null. Signed scores rank words against the class last.
--
-- Example: attnstore query swapped.attn edits,
-- over 200 pairs of IMDb reviews (benchmarks/swapped.py), first row:
--     part=all, score=cls_05, documents=336, clusters=200, auroc=0.8549, auroc_low=0.8412,
--     auroc_high=0.8685, precision=0.4026, precision_low=0.3743, precision_high=0.4308, edited=0.04145,
--     first=0.5714, first_low=0.5165, first_high=0.6264
--
-- @param reductions: reductions = auto -- the reductions whose layers are compared; auto: all with one value
--     per token
-- @param rows: all|class = all -- rows for all documents, or for each class
-- @param by: class = prediction -- with rows=class, what defines a document's class: the model's prediction, or
--     the gold label
-- @param right: boolean = true -- only documents predicted right (all documents, if the labels are not the
--     model's classes)
-- @param common: amount = 0.5 -- how many of their words two documents must share to make a pair: words in both
--     over words in either
-- @param punctuation: in|out = out -- also rank words without any letter or digit, in any script
-- @param cluster: cluster = group -- what counts as independent: groups of documents, or documents
-- @columns part, score, documents, auroc, precision, edited, first
-- @pair part, score: precision, auroc, first
--
-- Source: pairs, Kaushik, Hovy and Lipton 2020, "Learning the Difference that Makes a Difference with
-- Counterfactually-Augmented Data"; the area under the curve from ranks, Mann and Whitney 1947.
WITH
candidates AS (
    SELECT
        document, "group", label, cluster,
        NOT ($right AND $labels_are_models) OR prediction = label AS kept,
        CASE WHEN $rows = 'all' THEN 'all' ELSE class END AS part
    FROM documents
    WHERE "group" IS NOT NULL AND label IS NOT NULL
),
sizes AS (SELECT document, count(*) AS size FROM tokens WHERE new_word GROUP BY document),
possible AS MATERIALIZED (
    SELECT a.document, b.document AS other, a_size.size AS size, b_size.size AS other_size
    FROM candidates AS a
    JOIN candidates AS b ON a."group" = b."group" AND a.label <> b.label
    JOIN sizes AS a_size ON a_size.document = a.document
    JOIN sizes AS b_size ON b_size.document = b.document
    -- Two documents can't share more words than the smaller one has.
    WHERE a.kept AND least(a_size.size, b_size.size) >= $common * greatest(a_size.size, b_size.size)
),
vocabulary AS MATERIALIZED (  -- of documents that may be in a pair: few in most data
    SELECT document, word
    FROM tokens
    WHERE new_word AND document IN (SELECT document FROM possible UNION SELECT other FROM possible)
),
compared AS MATERIALIZED (  -- pairs first, then words: joining by words alone would pair every document with every other
    SELECT * FROM possible JOIN vocabulary USING (document)
),
overlapping AS (
    SELECT document, other, count(*)::DOUBLE / (any_value(size) + any_value(other_size) - count(*)) AS jaccard
    FROM compared JOIN (SELECT document AS other, word FROM vocabulary) USING (other, word)
    GROUP BY document, other
),
pairs AS (
    SELECT document, other
    FROM overlapping
    WHERE jaccard >= $common
    QUALIFY row_number() OVER (PARTITION BY document ORDER BY jaccard DESC, other) = 1
),
pieces AS (
    SELECT
        document, other, word, position,
        count_if(piece = 0) OVER (PARTITION BY document ORDER BY position) AS place,
        COLUMNS('^attention:.*$') AS '\0'
    FROM tokens JOIN pairs USING (document)
    WHERE word IS NOT NULL
),
summed AS (
    SELECT document, other, place, any_value(word) AS word, sum(COLUMNS('^attention:(.*)$')) AS '\1:value'
    FROM pieces
    GROUP BY document, other, place
),
listed AS (
    SELECT
        document, place, they IS NULL AS edited,
        -- Single precision, so that the order of summation does not decide ties.
        COLUMNS('^(.*):value$')::FLOAT AS '\1:value'
    FROM summed
    LEFT JOIN (
        SELECT document AS other, word, true AS they
        FROM vocabulary
        WHERE document IN (SELECT other FROM pairs)
    ) USING (other, word)
    WHERE $punctuation = 'in' OR regexp_matches(word, '[\p{L}\p{N}]')
),
words AS (
    UNPIVOT listed ON COLUMNS('^.*:value$') INTO NAME name VALUE value
),
ranked AS (
    SELECT
        document, name, edited,
        rank() OVER (PARTITION BY document, name ORDER BY value)
            + (count(*) OVER (PARTITION BY document, name, value) - 1) / 2 AS rank,
        row_number() OVER (PARTITION BY document, name ORDER BY value DESC, place) AS place,
        count_if(edited) OVER (PARTITION BY document, name) AS r,
        count(*) OVER (PARTITION BY document, name) AS n
    FROM words
),
of_documents AS (
    SELECT
        document, name,
        (sum(rank) FILTER (edited) - any_value(r) * (any_value(r) + 1) / 2)
            / (any_value(r) * (any_value(n) - any_value(r))) AS auroc,
        count_if(edited AND place <= r) / any_value(r) AS precision,
        any_value(r) / any_value(n) AS edited,
        count_if(edited AND place = 1)::DOUBLE AS first
    FROM ranked
    WHERE r > 0 AND r < n
    GROUP BY document, name
),
measures AS (
    UNPIVOT (
        SELECT part, name, cluster, auroc, precision, edited, first
        FROM of_documents JOIN candidates USING (document)
        WHERE part IS NOT NULL
    ) ON auroc, precision, edited, first INTO NAME measure VALUE value
),
gathered AS (
    SELECT part, name, measure, cluster, sum(value) AS y, count(*) AS n
    FROM measures
    GROUP BY part, name, measure, cluster
),
estimated AS (
    SELECT
        part, name, measure, count(*) AS clusters, sum(n) AS n, sum(y) / sum(n) AS mean,
        effective_clusters(sum(n), sum(n * n)) AS g,
        t_quantile(0.975, g - 1)
            * sqrt(ratio_variance(sum(y) / sum(n), sum(n), sum(y * y), sum(y * n), sum(n * n), g)) AS half
    FROM gathered
    GROUP BY part, name, measure
),
scored AS (
    SELECT
        part,
        name[:-7] AS score,
        max(n)::BIGINT AS documents,
        max(clusters)::BIGINT AS clusters,
        max(mean) FILTER (measure = 'auroc') AS auroc,
        max(half) FILTER (measure = 'auroc') AS a_half,
        max(mean) FILTER (measure = 'precision') AS precision,
        max(half) FILTER (measure = 'precision') AS p_half,
        max(mean) FILTER (measure = 'edited') AS edited,
        max(mean) FILTER (measure = 'first') AS first,
        max(half) FILTER (measure = 'first') AS f_half
    FROM estimated
    GROUP BY part, name
)
SELECT
    part,
    score,
    documents,
    clusters,
    auroc,
    CASE WHEN a_half IS NOT NULL THEN greatest(0, auroc - a_half) END AS auroc_low,
    CASE WHEN a_half IS NOT NULL THEN least(1, auroc + a_half) END AS auroc_high,
    precision,
    CASE WHEN p_half IS NOT NULL THEN greatest(0, precision - p_half) END AS precision_low,
    CASE WHEN p_half IS NOT NULL THEN least(1, precision + p_half) END AS precision_high,
    edited,
    first,
    CASE WHEN f_half IS NOT NULL THEN greatest(0, first - f_half) END AS first_low,
    CASE WHEN f_half IS NOT NULL THEN least(1, first + f_half) END AS first_high
FROM scored
ORDER BY part, precision::FLOAT DESC, score
