-- What does the model make of a word beyond its frequency in the data?
--
-- How to read the answer: one row per class and word. `log_odds` is how much more often the word occurs in
-- documents labelled as the class than in the others, and `z` is log_odds over its standard deviation.
-- `evidence` is the word's signed score, summed over its pieces and averaged over its `occurrences` in the
-- documents predicted as the class, with the 95 % interval `low` to `high`: above 0 it supports the prediction.
-- `expected` is the mean evidence of words with the same log-odds. It comes from the line of evidence on
-- log-odds through all listed words of the class, weighted by occurrences; every row repeats the line's `slope`
-- and `correlation`. `residual` is evidence minus expected: what the model adds. `sure` is the end of the
-- residual's interval nearer to 0, or 0 if the interval includes 0. This interval takes the line as given and
-- lets evidence and log-odds vary. `side` is more or less, and rows are ranked by `sure`.
--
-- How not to read it: as a test. Log-odds refer to labels, evidence to predictions, so words of misclassified
-- documents count on different sides. A word with less evidence than expected may share it with neighbours that
-- say the same. `z` treats tokens as independent, but those of one film are not: it is not a valid test for
-- topical words.
--
-- Clusters (such as films, if documents have a group) count as independent; `clusters` is their number. An
-- interval needs two clusters of equal size, or more if they are uneven; without it, nothing is sure. Documents
-- without a label count for evidence only, those without a score (null) for log-odds only.
--
-- Example: attnstore query float32.attn lexicon,
-- over the 25,000 IMDb test reviews, first row:
--     class=neg, side=more, word=disappointing, documents=288, occurrences=300, clusters=258, log_odds=1.269,
--     z=10.14, evidence=0.01518, low=0.01273, high=0.01762, expected=0.002485, residual=0.01269, sure=0.0102,
--     slope=0.001907, correlation=0.5343
--
-- @needs labels
-- @param reduction: signed_reduction = evidence -- which score: a signed one in the store
-- @param layer: layer = last -- its layer, if the score has one per layer
-- @param min_documents: count = auto -- leave out words found in fewer documents predicted as the class; auto:
--     one in 200 of these documents, and at least 5
-- @param punctuation: in|out = out -- list words without any letter or digit, in any script
-- @param ignore: list = -- words to leave out, as the store spells them
-- @param cluster: cluster = group -- what counts as independent: groups of documents (films), or documents
-- @param limit: count = 20 -- rows per class and side
-- @columns class, side, word, documents, log_odds, evidence, expected
-- @pair class, word: evidence, residual
--
-- Source: log-odds with an informative Dirichlet prior, Monroe, Colaresi and Quinn 2008, "Fightin' Words", eqs.
-- 16 to 22, with a hundredth of the word's own count as prior. The interval as in for_and_against. Comparing
-- the two is ours.
WITH
counted AS (
    SELECT label AS class, word, sum(occurrences) AS n
    FROM totals
    WHERE piece = 0 AND label IS NOT NULL AND is_listed(word, $punctuation, $ignore)
    GROUP BY label, word
),
whole AS (SELECT word, sum(n) AS every FROM counted GROUP BY word),
sizes AS (
    SELECT class, sum(n) AS words, sum(sum(n)) OVER () - sum(n) AS other_words
    FROM counted
    GROUP BY class
),
least AS (
    SELECT prediction AS class, least_documents($min_documents, count(*)) AS least FROM documents GROUP BY prediction
),
known AS MATERIALIZED (  -- the words found often enough, numbered: grouping all tokens by word is slow
    SELECT prediction, word, (row_number() OVER ())::INTEGER AS number
    FROM totals JOIN (SELECT class AS prediction, least FROM least) USING (prediction)
    WHERE attention IS NOT NULL AND is_listed(word, $punctuation, $ignore)
    GROUP BY prediction, word
    HAVING sum(new_word) >= any_value(least)
),
gathered AS (
    SELECT
        number, cluster,  -- integers are slow to sum
        sum(attention) AS y, count_if(piece = 0)::DOUBLE AS n, count_if(new_word)::DOUBLE AS documents
    FROM tokens JOIN known USING (prediction, word) JOIN (SELECT document, cluster FROM documents) USING (document)
    WHERE attention IS NOT NULL
    GROUP BY number, cluster
),
summed AS (
    SELECT
        number, sum(documents) AS documents, sum(n) AS occurrences, count(*) AS clusters,
        sum(y) / sum(n) AS evidence, effective_clusters(sum(n), sum(n * n)) AS g,
        sum(y * y) AS yy, sum(y * n) AS yn, sum(n * n) AS nn
    FROM gathered
    GROUP BY number
),
kept AS (
    SELECT
        * EXCLUDE (n), coalesce(n, 0) AS n, every - coalesce(n, 0) AS other_n,
        t_quantile(0.975, g - 1) * sqrt(ratio_variance(evidence, occurrences, yy, yn, nn, g)) AS half
    FROM summed
    JOIN (SELECT prediction AS class, word, number FROM known) USING (number)
    JOIN least USING (class)
    JOIN sizes USING (class)
    JOIN whole USING (word)
    LEFT JOIN counted USING (class, word)
    WHERE documents >= least AND occurrences > 0
),
compared AS (
    SELECT
        *, log_odds_ratio(n, other_n, words, other_words, 0.01) AS log_odds,
        sqrt(1 / (n + 0.01 * every) + 1 / (other_n + 0.01 * every)) AS deviation
    FROM kept
),
centred AS (
    SELECT
        *,
        sum(occurrences * log_odds) OVER of_class / sum(occurrences) OVER of_class AS middle,
        sum(occurrences * evidence) OVER of_class / sum(occurrences) OVER of_class AS mean_evidence
    FROM compared
    WHERE log_odds IS NOT NULL
    WINDOW of_class AS (PARTITION BY class)
),
lined AS (
    SELECT
        *,
        sum(occurrences) OVER of_class AS weight,
        sum(occurrences * (log_odds - middle) ** 2) OVER of_class AS xx,
        sum(occurrences * (log_odds - middle) * (evidence - mean_evidence)) OVER of_class AS xy,
        sum(occurrences * (evidence - mean_evidence) ** 2) OVER of_class AS ee
    FROM centred
    WINDOW of_class AS (PARTITION BY class)
),
expecting AS (
    SELECT
        *, xy / xx AS slope, xy / nullif(sqrt(xx * ee), 0) AS correlation,
        mean_evidence + coalesce(xy / xx, 0) * (log_odds - middle) AS expected
    -- Where all documents have one label, the log-odds are 0 but for rounding, and there is no line.
    FROM (SELECT * REPLACE (CASE WHEN xx > 1e-20 * weight THEN xx END AS xx) FROM lined)
),
bounded AS (
    SELECT
        *, evidence - expected AS residual,
        CASE WHEN evidence > expected THEN 'more' ELSE 'less' END AS side,
        CASE
            WHEN half IS NULL THEN 0
            WHEN evidence > expected THEN greatest(0, evidence - expected - reach)
            ELSE least(0, evidence - expected + reach)
        END AS sure
    FROM (SELECT *, sqrt(half ** 2 + (1.959963984540054 * coalesce(slope, 0) * deviation) ** 2) AS reach FROM expecting)
)
SELECT
    class, side, word, documents::BIGINT AS documents, occurrences::BIGINT AS occurrences, clusters,
    log_odds, log_odds / deviation AS z,
    evidence, evidence - half AS low, evidence + half AS high,
    expected, residual, sure, slope, correlation
FROM bounded
QUALIFY row_number() OVER (
    PARTITION BY class, side ORDER BY abs(sure)::FLOAT DESC, documents DESC, word
) <= $limit
ORDER BY class, side DESC, abs(sure)::FLOAT DESC, documents DESC, word
