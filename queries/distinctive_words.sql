-- Which words are attended more in the documents of one class than in those of the others?
--
-- How to read the answer: one row a class and word, the highest ranked first. `lift` is the attention of an
-- occurrence over what it would get if its document's attention were spread evenly over the tokens, averaged
-- over the word's occurrences in the class; 1.0 is uniform. `other_lift` is the same in all the other
-- classes pooled. A document's attention is one whole that its words share: where a strong word is frequent,
-- all others have less, though the model may look at them as ever. So lifts are held against the class's
-- ordinary word. `factor` is the median of lift / other_lift over the words listed of the class (cut by
-- `limit` or not; where both are above 0; of two in the middle, their geometric mean), and `difference` is
-- lift less factor times other_lift: what the word has more than it would have if it had changed as the
-- ordinary word has. `log_ratio` says it as a ratio, the natural logarithm of lift / (factor * other_lift):
-- 0.69 is twice as much, null where a lift is not above 0.
--
-- `error` is the standard error of the difference if other documents of the kind were drawn: clusters
-- (films, where documents have a group) count as independent, the occurrences in them do not, and a film
-- with documents on both sides counts on both. `t` is the difference over its error, `p` two-sided, and `q`
-- the false discovery rate (Benjamini and Hochberg) among all the words that have `min_documents` in the
-- class and in the others, listed or cut by `limit`. They need two clusters on each side (that many of equal
-- size, or more uneven ones), and attention that differs among them. The factor's own error is left out: it
-- is a median over all the words listed; with a dozen of them it is not small, and where all words of a
-- document go up and down together, the errors are a little too large. With two classes, t, log_ratio,
-- log_odds, z and residual of the one are those of the other with the sign turned, p and q are the same, and
-- factor is one over the other's.
--
-- `documents` and `occurrences` count the word in the class, `other_documents` and `other_occurrences` in
-- the others. `log_odds` compares these counts alone: how much more frequent the word is in the class, as
-- the difference of its log-odds among all words (listed or not, punctuation included), with an informative
-- Dirichlet prior that draws it toward 0; `z` is that over its standard error, as if words were drawn one by
-- one, which makes it too large where they come in clusters. `residual` is what attention adds to frequency,
-- in nats: log_ratio less what a word of this log_odds would have by a straight line through all the words
-- of the class that have an error (least squares, each weighted by 1 over the squared error of its
-- log_ratio, and so mostly through the frequent ones). Where frequency tells nothing of attention, it is
-- about log_ratio. It is null where either is, and where fewer than three words make the line.
--
-- How not to read it: as evidence for the class, or as what made the model decide. Attention knows no class;
-- a model attends to a word because of its neighbours and its place, too, which differ between classes.
-- Attention is not explanation (Jain and Wallace 2019; Wiegreffe and Pinter 2019). "More" is more than the
-- class's ordinary word. That most words are ordinary is assumed, not found: if a model really looked more
-- at most words of a class, the factor would hide it; and a kind of words that does not change as the
-- ordinary word does, as function words often don't, stands out as a kind. Being frequent, they lead by t:
-- look at log_ratio. Words that stand on one side only can't be compared and are not listed, however
-- frequent they are.
--
-- `specials`, `punctuation`, `ignore` and `renormalise` are those of top_words_by_class. Documents in which
-- the reduction has nothing to say (null) are left out, and with by=label those that have no label. Equal
-- ranks are ordered by documents, then by word.
--
-- Example: attnstore query imdb.attn distinctive_words -p limit=4,
-- over the 25,000 IMDb test reviews, first row:
--     class=neg, word=disappointing, documents=291, other_documents=65, occurrences=304,
--     other_occurrences=68, lift=30.32, other_lift=8.602, factor=0.8446, difference=23.05, error=1.455,
--     t=15.84, p=9.317e-37, q=1.175e-35, log_ratio=1.429, log_odds=1.468, z=11.19, residual=1.57
--
-- @param reduction: reduction = cls -- which attention: a reduction that the store holds
-- @param layer: layer = last -- its layer: a number from 1, first, last, mean (of all layers), or best
--     (which `attnstore faithfulness` has measured)
-- @param by: class = prediction -- what a document's class is: the model's prediction, or the gold label
-- @param min_documents: count = auto -- leave out words found in fewer documents of the class, or of the
--     others; auto: one in 200 of the documents of either side, and at least 5
-- @param specials: in|out = out -- list the tokens that belong to no word, such as [CLS] and [SEP]
-- @param punctuation: in|out = out -- list words without any letter or digit, in any script
-- @param ignore: list = -- words to leave out, as the store spells them
-- @param renormalise: boolean = false -- share out the attention of what is left out among the rest
-- @param cluster: cluster = group -- what is independent: groups of documents (films), or documents
-- @param prior: amount = auto -- the prior of `log_odds`: so many words, as frequent as in all classes
--     together, are added to the counts of either side; auto: 1 in 100 of the words of both sides
-- @param rank_by: difference|t|log_ratio|residual|log_odds|z = difference -- the column to rank by
-- @param limit: count = 20 -- rows a class
-- @columns class, word, lift, other_lift, difference, q
--
-- Source: the factor is the size factor of Anders and Huber 2010, "Differential expression analysis for
-- sequence count data", Genome Biology 11:R106, equation 5, of two samples. The error: two ratios of sums
-- over clusters and their difference, linearised (Cochran 1977, "Sampling Techniques", sections 6.3 and
-- 6.18), with the effective number of clusters (Kish 1965) of each side. In symbols: a cluster g of the
-- class has n_g occurrences of the word and their lifts sum to y_g; n and r are the word's occurrences and
-- lift, G the effective clusters; the others have n'_g, y'_g, n', r', G'; f is the factor.
--     a_g = √(G / (G - 1)) (y_g - r n_g) / n,    b_g = f √(G' / (G' - 1)) (y'_g - r' n'_g) / n',
--     error² = Σ (a_g - b_g)²
-- Student's t has Welch's degrees of freedom where no cluster is on both sides, and G - 1 where all are:
--     (A + B)² / (A² / (G - 1) + B² / (G' - 1) + 2 A B Σ n_g n'_g / (n n')) with A = Σ a_g², B = Σ b_g²
-- The log-odds: Monroe, Colaresi and Quinn 2008, "Fightin' Words", Political Analysis 16, page 388. With N
-- words in the class, N' in the others, and P of the prior, α = P (n + n') / (N + N') of which are this one:
--     log_odds = ln((n + α) / (N + P - n - α)) - ln((n' + α) / (N' + P - n' - α))
--     z = log_odds / √(1 / (n + α) + 1 / (n' + α)), their approximation of the variance by two terms
-- Comparing lifts, and the residual, are ours.
WITH
weighed AS (  -- the unlisted words, too: they are counted, and left out below
    SELECT document, class, term, starts, new, attention * length / parts AS lift
    FROM weighed_words($specials, $punctuation, $ignore, $renormalise)
    WHERE class IS NOT NULL AND term IS NOT NULL
),
gathered AS (
    SELECT
        class, cluster, term,
        count_if(new) AS documents,
        count_if(starts)::DOUBLE AS n,  -- products of whole numbers are slow to add up
        sum(lift) AS y
    FROM weighed JOIN (SELECT document, cluster FROM documents) USING (document)
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
        sum(documents) OVER of_term - documents AS other_documents,
        sum(n) OVER of_term - n AS other_n,
        sum(y) OVER of_term - y AS other_y,
        sum(y_all_y) OVER of_term - 2 * y_all_y + yy AS other_yy,
        sum(y_all_n) OVER of_term - y_all_n - n_all_y + yn AS other_yn,
        sum(n_all_n) OVER of_term - 2 * n_all_n + nn AS other_nn,
        y_all_y - yy AS y_other_y, y_all_n - yn AS y_other_n, n_all_y - yn AS n_other_y, n_all_n - nn AS n_other_n,
        sum(n) OVER of_class AS words,
        sum(n) OVER () - sum(n) OVER of_class AS other_words
    FROM counted
    WINDOW of_term AS (PARTITION BY term), of_class AS (PARTITION BY class)
),
sizes AS (
    SELECT class, count(*) AS size, sum(count(*)) OVER () - count(*) AS other_size
    FROM documents
    WHERE class IS NOT NULL
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
        -- Of log_ratio, linearised; the factor moves all words alike.
        CASE WHEN r > 0 AND expected > 0 THEN v / r ** 2 + expected_var / expected ** 2 - 2 * covariance / (r * expected) END AS log_v,
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
weighted AS (  -- null where a word is not among those that the line is laid through
    SELECT
        *,
        CASE WHEN error IS NOT NULL AND log_odds IS NOT NULL AND log_v > 1e-14 THEN 1 / log_v END AS weight
    FROM tested
),
centred AS (
    SELECT
        *,
        log_odds - sum(weight * log_odds) OVER of_class / sum(weight) OVER of_class AS along,
        log_ratio - sum(weight * log_ratio) OVER of_class / sum(weight) OVER of_class AS up
    FROM weighted
    WINDOW of_class AS (PARTITION BY class)
),
sloped AS (
    SELECT
        *,
        count(weight) OVER of_class AS on_line,
        CASE
            WHEN sum(weight * along ** 2) OVER of_class > 1e-12 * sum(weight) OVER of_class
            THEN sum(weight * along * up) OVER of_class / sum(weight * along ** 2) OVER of_class
            ELSE 0
        END AS slope
    FROM centred
    WINDOW of_class AS (PARTITION BY class)
),
explained AS (
    SELECT *, CASE WHEN on_line >= 3 THEN up - slope * along END AS residual
    FROM sloped JOIN adjusted USING (class, term)
),
ranked AS (
    SELECT
        *,
        -- Single precision: the order in which floats are added must not decide the order of equal ranks.
        CASE $rank_by
            WHEN 'difference' THEN difference WHEN 't' THEN t WHEN 'log_ratio' THEN log_ratio
            WHEN 'residual' THEN residual WHEN 'log_odds' THEN log_odds ELSE z
        END::FLOAT AS rank
    FROM explained
)
SELECT
    class,
    term AS word,
    documents::BIGINT AS documents,
    other_documents::BIGINT AS other_documents,
    n::BIGINT AS occurrences,
    other_n::BIGINT AS other_occurrences,
    r AS lift,
    other_r AS other_lift,
    factor, difference, error, t, p, q, log_ratio, log_odds, z, residual
FROM ranked
QUALIFY row_number() OVER (PARTITION BY class ORDER BY rank DESC NULLS LAST, documents DESC, term) <= $limit
ORDER BY class, rank DESC NULLS LAST, documents DESC, word
