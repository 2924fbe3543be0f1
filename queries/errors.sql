-- Which words are attended more in the documents that the model gets wrong than in those it gets right?
--
-- How to read the answer: one row a predicted class and word, the highest ranked first. Among the documents
-- predicted to be of the class, those with another label (false positives of the class: `wrong_...`) are
-- held against those with this label (true positives: `right_...`). With two classes, the rows of either
-- class are the false against the true negatives of the other. `wrong_lift` is the attention of an
-- occurrence over what it would get if its document's attention were spread evenly over the tokens, averaged
-- over the word's occurrences in the wrong documents; 1.0 is uniform. `right_lift` is the same in the right
-- ones. A document's attention is one whole that its words share: where a strong word is less frequent, all
-- others have more. So lifts are held against the ordinary word. `factor` is the median of wrong_lift /
-- right_lift over the words listed of the class (cut by `limit` or not; where both are above 0; of two in the
-- middle, their geometric mean), `difference` is wrong_lift less factor times right_lift, and `log_ratio` the
-- natural logarithm of the one over the other: 0.69 is twice as much, null where a lift is not above 0.
--
-- `error` is the standard error of the difference if other documents of the kind were drawn: clusters
-- (films, where documents have a group) count as independent, the occurrences in them do not, and a film
-- with documents on both sides counts on both. `t` is the difference over its error, `p` two-sided, and `q`
-- the false discovery rate (Benjamini and Hochberg) among all the words of the class that have
-- `min_documents` on either side, listed or cut by `limit`. They need two clusters on each side (that many
-- of equal size, or more uneven ones), and attention that differs among them. The factor's own error is left
-- out of it: it is a median over all the words; with a dozen of them it is not small.
--
-- `log_odds` compares the counts alone: how much more frequent the word is in the wrong documents, as the
-- difference of its log-odds among all words (listed or not, punctuation included), with an informative
-- Dirichlet prior that draws it toward 0; `z` is that over its standard error (the usual approximation by two
-- terms), as if words were drawn one by one.
--
-- How not to read it: as what misled the model. Wrong documents are the doubtful ones, mixed in what they
-- say, and attention in them differs for that; what differs for all words alike, the factor takes out.
-- Attention is not explanation (Jain and Wallace 2019; Wiegreffe and Pinter 2019). Errors are few: look at
-- q, not at the rank alone, and read some of the documents.
--
-- Documents without a label are left out, and so are those in which the reduction has nothing to say (null).
-- Where the labels are not the model's classes there is nothing to be wrong about: the answer is empty.
-- `specials`, `punctuation`, `ignore` and `renormalise` are those of top_words_by_class. Equal ranks are
-- ordered by wrong documents, then by word.
--
-- Example: attnstore query imdb.attn errors -p limit=4,
-- over the 25,000 IMDb test reviews, first row:
--     class=neg, word=the, wrong_documents=788, right_documents=11389, wrong_occurrences=10185,
--     right_occurrences=132433, wrong_lift=0.5656, right_lift=0.4655, factor=1.113, difference=0.04739,
--     error=0.004561, t=10.39, p=3.245e-22, q=2.571e-19, log_ratio=0.08752, log_odds=0.02546, z=2.632
--
-- @param reduction: reduction = cls -- which attention: a reduction that the store holds
-- @param layer: layer = last -- its layer: a number from 1, first, last, or mean (of all layers)
-- @param min_documents: count = auto -- leave out words found in fewer wrong documents, or right ones;
--     auto: one in 200 of the documents of either side, and at least 5
-- @param specials: in|out = out -- list the tokens that belong to no word, such as [CLS] and [SEP]
-- @param punctuation: in|out = out -- list words without any letter or digit, in any script
-- @param ignore: list = -- words to leave out, as the store spells them
-- @param renormalise: boolean = false -- share out the attention of what is left out among the rest
-- @param cluster: cluster = group -- what is independent: groups of documents (films), or documents
-- @param prior: amount = auto -- the prior of `log_odds`: so many words, as frequent as in wrong and right
--     documents together, are added to the counts of either side; auto: 1 in 100 of the words of both
-- @param rank_by: t|difference|log_ratio|log_odds|z = t -- the column to rank by
-- @param limit: count = 20 -- rows a class
-- @columns class, word, wrong_lift, right_lift, difference, q
--
-- Source: the method is that of distinctive_words, the wrong documents in the place of the class and the
-- right ones in that of the others, and is written out there: Anders and Huber 2010, equation 5; Cochran
-- 1977, sections 6.3 and 6.18; Kish 1965; Welch's degrees of freedom, but for clusters on both sides;
-- Monroe, Colaresi and Quinn 2008, page 388.
WITH
judged AS (
    SELECT document, cluster, prediction AS class, prediction <> label AS wrong
    FROM documents
    WHERE $labels_are_models AND prediction IS NOT NULL AND label IS NOT NULL
),
weighed AS (  -- the unlisted words, too: they are counted, and left out below
    SELECT document, term, starts, new, attention * length / parts AS lift
    FROM weighed_words($specials, $punctuation, $ignore, $renormalise)
    WHERE $labels_are_models AND term IS NOT NULL
),
sides AS (  -- each cluster's wrong documents beside its right ones (o)
    SELECT
        class, cluster, term,
        count_if(new AND wrong) AS documents,
        count_if(starts AND wrong) AS n,
        sum(CASE WHEN wrong THEN lift ELSE 0 END) AS y,
        count_if(new AND NOT wrong) AS other_documents,
        count_if(starts AND NOT wrong) AS other_n,
        sum(CASE WHEN wrong THEN 0 ELSE lift END) AS other_y
    FROM weighed JOIN judged USING (document)
    GROUP BY class, cluster, term
),
counted AS (
    SELECT
        class, term,
        sum(documents) AS documents, sum(other_documents) AS other_documents,
        sum(n) AS n, sum(y) AS y, sum(other_n) AS other_n, sum(other_y) AS other_y,
        sum(y * y) AS yy, sum(y * n) AS yn, sum(n * n) AS nn,
        sum(other_y * other_y) AS other_yy, sum(other_y * other_n) AS other_yn, sum(other_n * other_n) AS other_nn,
        sum(y * other_y) AS y_other_y, sum(y * other_n) AS y_other_n, sum(n * other_y) AS n_other_y, sum(n * other_n) AS n_other_n
    FROM sides
    GROUP BY class, term
),
opposed AS (
    SELECT
        *,
        sum(n) OVER of_class AS words,
        sum(other_n) OVER of_class AS other_words
    FROM counted
    WINDOW of_class AS (PARTITION BY class)
),
sizes AS (
    SELECT class, count_if(wrong) AS size, count_if(NOT wrong) AS other_size
    FROM judged
    GROUP BY class
),
kept AS (
    SELECT
        *,
        y / n AS r, other_y / other_n AS other_r,
        effective_clusters(n, nn) AS g,
        effective_clusters(other_n, other_nn) AS other_g,
        coalesce($prior::DOUBLE / (words + other_words), 0.01) AS part
    FROM opposed JOIN sizes USING (class)
    WHERE
        documents >= least_documents($min_documents, size)
        AND other_documents >= least_documents($min_documents, other_size)
        AND n > 0
        AND other_n > 0
        AND is_listed(term, $punctuation, $ignore)
),
levelled AS (
    SELECT
        *,
        exp(coalesce(median(CASE WHEN r > 0 AND other_r > 0 THEN ln(r / other_r) END) OVER of_class, 0)) AS factor
    FROM kept
    WINDOW of_class AS (PARTITION BY class)
),
varying AS (  -- what is expected (expected) of the one side: what the other has, times the factor
    SELECT
        *,
        factor * other_r AS expected,
        part * (n + other_n) AS alpha,
        ratio_variance(r, n, yy, yn, nn, g) AS v,
        ratio_variance(other_r, other_n, other_yy, other_yn, other_nn, other_g) * factor ** 2 AS expected_var,
        (y_other_y - other_r * y_other_n - r * n_other_y + r * other_r * n_other_n) / (n * other_n)
            * sqrt(g / (g - 1) * other_g / (other_g - 1)) * factor AS covariance,
        log_odds_ratio(n, other_n, words, other_words, part) AS log_odds
    FROM levelled
),
compared AS (
    SELECT
        *,
        r - expected AS difference,
        error_of(v + expected_var - 2 * covariance, r ** 2 + expected ** 2) AS error,
        (v + expected_var) ** 2
            / nullif(v ** 2 / (g - 1) + expected_var ** 2 / (other_g - 1) + 2 * v * expected_var * n_other_n / (n * other_n), 0) AS df,
        CASE WHEN r > 0 AND expected > 0 THEN ln(r / expected) END AS log_ratio,
        log_odds / sqrt(1 / (n + alpha) + 1 / (other_n + alpha)) AS z
    FROM varying
),
tested AS (
    SELECT *, difference / error AS t, p_value(difference / error, df) AS p
    FROM compared
),
adjusted AS (
    SELECT
        class,
        unnest(list(term ORDER BY term)) AS term,
        unnest(q_values(list(p ORDER BY term))) AS q
    FROM tested
    GROUP BY class
),
ranked AS (
    SELECT
        *,
        -- Single precision: the order in which floats are added must not decide the order of equal ranks.
        CASE $rank_by
            WHEN 't' THEN t WHEN 'difference' THEN difference WHEN 'log_ratio' THEN log_ratio
            WHEN 'log_odds' THEN log_odds ELSE z
        END::FLOAT AS rank
    FROM tested JOIN adjusted USING (class, term)
)
SELECT
    class,
    term AS word,
    documents::BIGINT AS wrong_documents,
    other_documents::BIGINT AS right_documents,
    n::BIGINT AS wrong_occurrences,
    other_n::BIGINT AS right_occurrences,
    r AS wrong_lift,
    other_r AS right_lift,
    factor, difference, error, t, p, q, log_ratio, log_odds, z
FROM ranked
QUALIFY row_number() OVER (PARTITION BY class ORDER BY rank DESC NULLS LAST, documents DESC, term) <= $limit
ORDER BY class, rank DESC NULLS LAST, documents DESC, word
