-- Which words are attended to above average where the model predicts one class, and below where it predicts another?
--
-- The label is the same: the documents belong to one class, but the model predicts different ones.
--
-- How to read the answer: one row per label, word and pair of predictions between which the word's attention
-- changes sides, most certain first. A word's `lift` is the attention of an occurrence relative to what it
-- would get if its document's attention were spread evenly over the tokens, averaged over the word's
-- occurrences; 1.0 is uniform. Among the documents with the label `label` that are predicted `above`, the word
-- has `above_lift`. That is `above_excess` more than the average over the occurrences of all words that are in
-- enough of these documents. Among those predicted `below`, it has `below_lift`, and `below_excess` is
-- negative. `swing` is the first excess minus the second. `above_error` and `below_error` are the standard
-- errors of the two excesses for other documents of the same kind; the average varies, too. Clusters (such as
-- films, if documents have a group) count as independent; the occurrences in them do not. `p` is the larger of
-- the two one-sided p values, so it is small only if both excesses are certain. `q` is the false discovery rate
-- (Benjamini and Hochberg) over all words and pairs of the label, including those that do not flip, which have
-- a p of 1. Only rows with a `q` of at most `max_q` are listed, because among many words some change sides by
-- chance. Both p and q need two clusters of equal size on each side (or more, if they are uneven), and
-- attention that varies among them.
--
-- How not to read it: as words that changed the decision. The two groups are different documents, with
-- different words around this one. Attention is not explanation (Jain and Wallace 2019; Wiegreffe and Pinter
-- 2019). A word that only gets less attention in one of the two does not flip; see `errors` for those.
--
-- The labels need not be the model's classes. Documents without a label are left out, and so are those where
-- the reduction is null. `specials`, `punctuation`, `ignore` and `renormalise` work as in top_words_by_class.
-- Ties are ordered by documents (of both predictions), word, and prediction.
--
-- Example: attnstore query imdb.attn flips -p limit=4,
-- over the 25,000 IMDb test reviews, first row:
--     label=neg, word=characters, above=neg, below=pos, above_documents=2322, below_documents=161,
--     above_occurrences=3154, below_occurrences=229, above_lift=1.151, below_lift=0.6732,
--     above_excess=0.2243, below_excess=-0.1829, above_error=0.01945, below_error=0.02697, swing=0.4072,
--     p=2.99e-10, q=7.151e-07
--
-- @param reduction: reduction = cls -- which attention: a reduction in the store
-- @param layer: layer = last -- its layer: a number from 1, first, last, mean (over all layers), or best (as
--     measured by `attnstore faithfulness`)
-- @param min_documents: count = auto -- leave out words found in fewer documents of a label and prediction;
--     auto: one in 200 of these documents, and at least 5
-- @param specials: in|out = out -- list tokens that belong to no word, such as [CLS] and [SEP]
-- @param punctuation: in|out = out -- list words without any letter or digit, in any script
-- @param ignore: list = -- words to leave out, as the store spells them
-- @param renormalise: boolean = false -- redistribute the attention of what is left out over the rest
-- @param cluster: cluster = group -- what counts as independent: groups of documents (films), or documents
-- @param rank_by: p|swing = p -- smallest p first, or largest swing first
-- @param max_q: amount = 0.05 -- leave out what may be chance: rows with a larger q, or with none; 1 lists all
--     rows
-- @param limit: count = 20 -- rows per label
-- @columns label, word, above, below, swing, p, q
-- @pair label, word, above, below: swing, above_excess, below_excess
-- @family the words and pairs of predictions of a label, those that do not flip included
--
-- Source: a change of sign between two groups as a test of both, Gail and Simon 1985, "Testing for Qualitative
-- Interactions between Treatment Effects and Patient Subsets" (for two groups, the weaker one-sided test). The
-- errors: two ratios of sums over clusters and their difference, linearised (Cochran 1977, "Sampling
-- Techniques", sections 6.3 and 6.18), with Student's t and the word's effective number of clusters (Kish 1965)
-- minus one as degrees of freedom. In symbols: a cluster g of the label and prediction has n_g occurrences of
-- the word, whose lifts sum to y_g, and N_g occurrences of all words, whose lifts sum to Y_g. n and N are the
-- sums, r and R the ratios, and G is the word's effective number of clusters:
--     error² = G / (G - 1) Σ ((y_g - r n_g) / n - (Y_g - R N_g) / N)²
-- Applying it to attention is ours.
WITH
sorted AS (
    SELECT document, cluster, label, prediction
    FROM documents
    WHERE label IS NOT NULL AND prediction IS NOT NULL
),
sizes AS (
    SELECT label, prediction, least_documents($min_documents, count(*)) AS least
    FROM sorted
    GROUP BY label, prediction
),
known AS MATERIALIZED (  -- words found often enough in a cell, numbered: grouping all tokens by word is slow
    SELECT term, (row_number() OVER ())::INTEGER AS number
    FROM (
        SELECT term
        FROM summed_terms('word', $specials) JOIN sizes USING (label, prediction)
        WHERE is_listed(term, $punctuation, $ignore)
        GROUP BY label, prediction, term
        HAVING sum(new) >= any_value(least)
    )
    GROUP BY term
),
parts AS MATERIALIZED (  -- a cluster's documents in one cell, numbered
    SELECT *, (dense_rank() OVER (ORDER BY cluster, label, prediction))::INTEGER AS part FROM sorted
),
gathered AS MATERIALIZED (
    SELECT label, prediction, cluster, number, documents, n, y
    FROM (
        SELECT
            part, number,
            count_if(new)::DOUBLE AS documents,  -- integers are slow to sum
            count_if(starts)::DOUBLE AS n,
            sum(attention * length / parts) AS y
        FROM weighed_words($specials, $punctuation, $ignore, $renormalise)
        JOIN known USING (term)
        JOIN (SELECT document, part FROM parts) USING (document)
        GROUP BY part, number
    )
    JOIN (SELECT DISTINCT part, label, prediction, cluster FROM parts) USING (part)
),
counted AS (
    SELECT
        label, prediction, number,
        sum(documents) AS documents,
        sum(n) AS n, sum(y) AS y,
        sum(y * y) AS yy, sum(y * n) AS yn, sum(n * n) AS nn
    FROM gathered
    GROUP BY label, prediction, number
),
kept AS (
    SELECT
        *,
        y / n AS lift,
        sum(n) OVER of_cell AS cell_n,
        sum(y) OVER of_cell / sum(n) OVER of_cell AS usual,
        effective_clusters(n, nn) AS g
    FROM counted JOIN known USING (number) JOIN sizes USING (label, prediction)
    WHERE documents >= least AND n > 0
    WINDOW of_cell AS (PARTITION BY label, prediction)
),
spread AS (  -- the listed words, per cluster
    SELECT label, prediction, cluster, number, gathered.n, gathered.y, usual, cell_n
    FROM gathered JOIN kept USING (label, prediction, number)
),
drawn AS (  -- what each cluster adds to the average
    SELECT label, prediction, cluster, sum(y - usual * n) / any_value(cell_n) AS whole
    FROM spread
    GROUP BY label, prediction, cluster
),
of_cells AS (
    SELECT label, prediction, sum(whole * whole) AS squares
    FROM drawn
    GROUP BY label, prediction
),
of_words AS (
    SELECT label, prediction, number, sum(y * whole) AS yw, sum(n * whole) AS nw
    FROM spread JOIN drawn USING (label, prediction, cluster)
    GROUP BY label, prediction, number
),
varying AS (
    SELECT
        *,
        lift - usual AS excess,
        -- Σ ((y − r · n) / n − whole)² over the clusters, expanded; rounding must not make it negative.
        greatest(
            0, (yy - 2 * lift * yn + lift ** 2 * nn) / n ** 2 - 2 * (yw - lift * nw) / n + squares
        ) * g / (g - 1) AS v
    FROM kept JOIN of_words USING (label, prediction, number) JOIN of_cells USING (label, prediction)
),
measured AS (
    SELECT *, error_of(v, lift ** 2) AS error
    FROM varying
),
tested AS (
    SELECT label, prediction, term, documents, n, lift, excess, error, p_value(excess / error, g - 1) / 2 AS p
    FROM measured
),
paired AS (  -- each pair of predictions once; a is the one with the larger excess
    SELECT
        label, a.term,
        a.prediction AS above, b.prediction AS below,
        a.documents AS a_documents, b.documents AS b_documents,
        a.n AS a_n, b.n AS b_n,
        a.lift AS a_lift, b.lift AS b_lift,
        a.excess AS a_excess, b.excess AS b_excess,
        a.error AS a_error, b.error AS b_error,
        a.excess > 0 AND b.excess < 0 AS flips,
        CASE
            WHEN a.p IS NULL OR b.p IS NULL THEN NULL
            WHEN a.excess > 0 AND b.excess < 0 THEN greatest(a.p, b.p)
            ELSE 1
        END::DOUBLE AS p,
        a.excess - b.excess AS swing
    FROM tested AS a JOIN tested AS b USING (label, term)
    WHERE a.excess > b.excess OR (a.excess = b.excess AND a.prediction < b.prediction)
),
adjusted AS (
    SELECT
        label,
        unnest(list(term ORDER BY term, above, below)) AS term,
        unnest(list(above ORDER BY term, above, below)) AS above,
        unnest(list(below ORDER BY term, above, below)) AS below,
        unnest(q_values(list(p ORDER BY term, above, below))) AS q
    FROM paired
    GROUP BY label
),
ranked AS (
    SELECT
        *,
        -- Single precision, so that the order of summation does not decide ties.
        -- And logarithms, because it can't hold the smallest p.
        CASE
            WHEN $rank_by = 'swing' THEN -swing
            WHEN p IS NOT NULL THEN ln(greatest(p, 1e-300))
        END::FLOAT AS rank
    FROM paired JOIN adjusted USING (label, term, above, below)
    WHERE flips AND ($max_q >= 1 OR q <= $max_q)
)
SELECT
    label,
    term AS word,
    above,
    below,
    a_documents::BIGINT AS above_documents,
    b_documents::BIGINT AS below_documents,
    a_n::BIGINT AS above_occurrences,
    b_n::BIGINT AS below_occurrences,
    a_lift AS above_lift,
    b_lift AS below_lift,
    a_excess AS above_excess,
    b_excess AS below_excess,
    a_error AS above_error,
    b_error AS below_error,
    swing, p, q
FROM ranked
QUALIFY row_number() OVER (
    PARTITION BY label ORDER BY rank NULLS LAST, a_documents + b_documents DESC, term, above, below
) <= $limit
ORDER BY label, rank NULLS LAST, a_documents + b_documents DESC, word, above, below
