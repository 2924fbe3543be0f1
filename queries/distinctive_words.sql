-- Which words are attended more in the documents of one class than in those of the others?
--
-- How to read the answer: one row a class and word, the highest ranked first. `lift` is the attention of an
-- occurrence over what it would get if its document's attention were spread evenly over the tokens, averaged
-- over the word's occurrences in the class; 1.0 is uniform. `other_lift` is the same in all the other classes
-- pooled, `difference` the one less the other. `error` is the standard error of the difference if other
-- documents of the kind were drawn: clusters (films, where documents have a group) count as independent, the
-- occurrences in them do not, and a film with documents on both sides counts on both. `t` is the difference
-- over its error, `p` two-sided, and `q` the false discovery rate (Benjamini and Hochberg) among all the
-- words that have `min_documents` in the class and in the others, listed or cut by `limit`. They need two
-- clusters on each side, and attention that differs among them. With two classes, the rows of the one are
-- those of the other with the sign turned.
--
-- `documents` and `occurrences` count the word in the class, `other_documents` and `other_occurrences` in the
-- others. `log_odds` compares these counts alone: how much more frequent the word is in the class, as the
-- difference of its log-odds among all words (punctuation included), with an informative Dirichlet prior that
-- draws rare words toward 0; `z` is that over its standard error, as if words were drawn one by one, which
-- makes it too large where they come in clusters. `residual` is what attention adds to frequency: t less the
-- t that a word of this z would have by a straight line (least squares, of t on z, over all the words that
-- have a t in the class). Far above 0: attended more in the class than words are that are as typical of it.
--
-- How not to read it: as evidence for the class, or as what made the model decide. Attention knows no class;
-- a model attends to a word because of its neighbours and its place, too, which differ between classes.
-- Attention is not explanation (Jain and Wallace 2019; Wiegreffe and Pinter 2019). Where a model looks at a
-- few strong words of one class, less is left for all its other words, and function words lead by t in the
-- other class, being many: that is a fact about the class, not about these words. Words that stand on one
-- side only can't be compared and are not listed, however frequent they are.
--
-- `specials`, `punctuation`, `ignore` and `renormalise` are those of top_words_by_class. Documents in which
-- the reduction has nothing to say (null) are left out, and with by=label those that have no label. Equal
-- ranks are ordered by documents, then by word.
--
-- Example: attnstore query imdb.attn distinctive_words -p limit=4,
-- over the 25,000 IMDb test reviews, first row:
--     class=neg, word=disappointing, documents=291, other_documents=65, occurrences=304,
--     other_occurrences=68, lift=30.34, other_lift=8.598, difference=21.75, error=1.582, t=13.75,
--     p=6.054e-29, q=5.234e-28, log_odds=1.509, z=11.25, residual=16.7
--
-- @param reduction: reduction = cls -- which attention: a reduction that the store holds
-- @param layer: layer = last -- its layer: a number from 1, first, last, or mean (of all layers)
-- @param by: class = prediction -- what a document's class is: the model's prediction, or the gold label
-- @param min_documents: count = auto -- leave out words found in fewer documents of the class, or of the
--     others; auto: one in 200 of the documents of either side, and at least 5
-- @param specials: in|out = out -- list the tokens that belong to no word, such as [CLS] and [SEP]
-- @param punctuation: in|out = out -- list words without any letter or digit, in any script
-- @param ignore: list = -- words to leave out, as the store spells them
-- @param renormalise: boolean = false -- share out the attention of what is left out among the rest
-- @param cluster: cluster = group -- what is independent: groups of documents (films), or documents
-- @param prior: count = 500 -- the prior of `log_odds`: so many words, as frequent as in all classes
--     together, are added to the counts of either side
-- @param rank_by: difference|t|residual|log_odds|z = difference -- the column to rank by
-- @param limit: count = 20 -- rows a class
--
-- Source: the log-odds, Monroe, Colaresi and Quinn 2008, "Fightin' Words", equations 16 to 22. The error:
-- ratios of two sums over clusters, linearised (Cochran 1977, "Sampling Techniques", sections 6.3 and 6.9),
-- with the effective number of clusters (Kish 1965) of each side and Welch's degrees of freedom. In symbols:
-- with a_g = (y_g - r n_g) / N in the class and b_g in the others, and G their numbers of clusters,
-- error² = Σ (√(G / (G - 1)) a_g - √(G' / (G' - 1)) b_g)². Comparing lifts, and the residual, are ours.
WITH
considered AS (
    SELECT
        document, class, length,
        -- A token of no word (a special one) stands for itself where it is listed, and nowhere else.
        CASE WHEN $specials = 'in' THEN coalesce(word, token) ELSE word END AS term,
        CASE WHEN $specials = 'in' THEN coalesce(piece, 0) ELSE piece END = 0 AS starts,
        CASE WHEN $specials = 'in' THEN new_word OR (word IS NULL AND new_token) ELSE new_word END AS new,
        attention,
        coalesce(pieces, 1) AS pieces
    FROM tokens
    WHERE class IS NOT NULL AND attention IS NOT NULL
),
listed AS (  -- only looked at where the rest is renormalised
    SELECT *
    FROM considered
    WHERE
        $renormalise
        AND term IS NOT NULL
        AND ($punctuation = 'in' OR regexp_matches(term, '[\p{L}\p{N}]'))
        AND NOT list_contains($ignore::VARCHAR[], term)
),
remaining AS (  -- of each document, what is left when the unlisted words are taken out of it
    SELECT document, sum(attention) AS mass, count(*) AS tokens
    FROM listed
    GROUP BY document
),
weighed AS (
    SELECT document, class, term, starts, new, attention * length / pieces AS lift
    FROM considered
    WHERE NOT $renormalise AND term IS NOT NULL
    UNION ALL
    SELECT document, class, term, starts, new, attention / mass * tokens / pieces
    FROM listed JOIN remaining USING (document)
    WHERE mass <> 0
),
clusters AS (
    SELECT document, cluster
    FROM documents
),
gathered AS (
    SELECT
        class, cluster, term,
        count_if(new) AS documents,
        count_if(starts) AS n,
        sum(lift) AS y
    FROM weighed JOIN clusters USING (document)
    GROUP BY class, cluster, term
),
everywhere AS (  -- of each cluster, in all classes
    SELECT cluster, term, sum(n) AS all_n, sum(y) AS all_y
    FROM gathered
    GROUP BY cluster, term
),
counted AS (
    SELECT
        class, term,
        sum(documents) AS documents,
        sum(n) AS n, sum(y) AS y,
        sum(y * y) AS yy, sum(y * n) AS yn, sum(n * n) AS nn,
        sum(y * all_y) AS y_all_y, sum(y * all_n) AS y_all_n,
        sum(n * all_y) AS n_all_y, sum(n * all_n) AS n_all_n
    FROM gathered JOIN everywhere USING (cluster, term)
    GROUP BY class, term
),
opposed AS (  -- what the class has, and what the others have (o): all less the class
    SELECT
        class, term, documents, n, y, yy, yn, nn,
        sum(documents) OVER of_term - documents AS o_documents,
        sum(n) OVER of_term - n AS o_n,
        sum(y) OVER of_term - y AS o_y,
        sum(y_all_y) OVER of_term - 2 * y_all_y + yy AS o_yy,
        sum(y_all_n) OVER of_term - y_all_n - n_all_y + yn AS o_yn,
        sum(n_all_n) OVER of_term - 2 * n_all_n + nn AS o_nn,
        y_all_y - yy AS y_o_y, y_all_n - yn AS y_o_n, n_all_y - yn AS n_o_y, n_all_n - nn AS n_o_n,
        sum(n) OVER of_class AS words,
        sum(n) OVER () - sum(n) OVER of_class AS o_words,
        $prior::DOUBLE * sum(n) OVER of_term / sum(n) OVER () AS alpha
    FROM counted
    WINDOW of_term AS (PARTITION BY term), of_class AS (PARTITION BY class)
),
sizes AS (
    SELECT class, count(*) AS size, sum(count(*)) OVER () - count(*) AS o_size
    FROM documents
    WHERE class IS NOT NULL
    GROUP BY class
),
kept AS (
    SELECT
        *,
        y / n AS r, o_y / o_n AS o_r,
        -- As many clusters of equal size as weigh as much (Kish).
        CASE WHEN n * n > nn THEN n ** 2 / nn END AS g,
        CASE WHEN o_n * o_n > o_nn THEN o_n ** 2 / o_nn END AS o_g
    FROM opposed JOIN sizes USING (class)
    WHERE
        documents >= coalesce($min_documents, greatest(5, (size + 199) // 200))
        AND o_documents >= coalesce($min_documents, greatest(5, (o_size + 199) // 200))
        AND n > 0
        AND o_n > 0
        AND ($punctuation = 'in' OR regexp_matches(term, '[\p{L}\p{N}]'))
        AND NOT list_contains($ignore::VARCHAR[], term)
),
varying AS (
    SELECT
        *,
        -- Σ (y − r · n)² over the clusters, multiplied out; rounding must not push it below 0.
        greatest(0, yy - 2 * r * yn + r ** 2 * nn) / n ** 2 * g / (g - 1) AS v,
        greatest(0, o_yy - 2 * o_r * o_yn + o_r ** 2 * o_nn) / o_n ** 2 * o_g / (o_g - 1) AS o_v,
        (y_o_y - o_r * y_o_n - r * n_o_y + r * o_r * n_o_n) / (n * o_n)
            * sqrt(g / (g - 1) * o_g / (o_g - 1)) AS covariance,
        -- nullif: the logarithm of a word that is the only one
        ln((n + alpha) / nullif(words - n + ($prior - alpha), 0))
            - ln((o_n + alpha) / nullif(o_words - o_n + ($prior - alpha), 0)) AS log_odds
    FROM kept
),
compared AS (
    SELECT
        *,
        r - o_r AS difference,
        -- What is left by rounding alone is no error.
        sqrt(
            CASE WHEN v + o_v - 2 * covariance > 1e-14 * (r ** 2 + o_r ** 2) THEN v + o_v - 2 * covariance END
        ) AS error,
        (v + o_v) ** 2 / nullif(v ** 2 / (g - 1) + o_v ** 2 / (o_g - 1), 0) AS df,
        log_odds / sqrt(1 / (n + alpha) + 1 / (o_n + alpha)) AS z
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
line AS (
    SELECT
        class,
        regr_avgx(t, z) AS mean_z,
        regr_avgy(t, z) AS mean_t,
        CASE WHEN regr_sxx(t, z) > 1e-12 THEN regr_sxy(t, z) / regr_sxx(t, z) ELSE 0 END AS slope
    FROM tested
    GROUP BY class
),
explained AS (
    SELECT *, t - mean_t - slope * (z - mean_z) AS residual
    FROM tested JOIN adjusted USING (class, term) JOIN line USING (class)
),
ranked AS (
    SELECT
        *,
        -- Single precision: the order in which floats are added must not decide the order of equal ranks.
        CASE $rank_by
            WHEN 'difference' THEN difference WHEN 't' THEN t WHEN 'residual' THEN residual
            WHEN 'log_odds' THEN log_odds ELSE z
        END::FLOAT AS rank
    FROM explained
)
SELECT
    class,
    term AS word,
    documents::BIGINT AS documents,
    o_documents::BIGINT AS other_documents,
    n::BIGINT AS occurrences,
    o_n::BIGINT AS other_occurrences,
    r AS lift,
    o_r AS other_lift,
    difference, error, t, p, q, log_odds, z, residual
FROM ranked
QUALIFY row_number() OVER (PARTITION BY class ORDER BY rank DESC NULLS LAST, documents DESC, term) <= $limit
ORDER BY class, rank DESC NULLS LAST, documents DESC, word
