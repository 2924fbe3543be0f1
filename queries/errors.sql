-- Which words are attended to more in the documents that the model gets wrong than in those it gets right?
--
-- How to read the answer: one row per predicted class and word, highest ranked first. Among the documents
-- predicted to be of the class, those with another label (false positives: `wrong_...`) are compared with those
-- that have the class as label (true positives: `right_...`). With two classes, the rows of each class compare
-- the false with the true negatives of the other.
--
-- The model is less confident about wrong documents, and attention is distributed differently in them. So they
-- are compared with right documents of about the same probability (`match`): the class's documents are divided
-- into strata with equally many wrong ones (one stratum for 20 of them, at most 20 strata), and only
-- differences within strata count. With match=none, differences may be due to confidence alone.
--
-- `wrong_lift` is the attention of an occurrence relative to what it would get if its document's attention were
-- spread evenly over the tokens, averaged over the word's occurrences in the wrong documents; 1.0 is uniform.
-- `right_lift` is the same for the right ones. Both are means over the strata, each weighted by n n' / (n +
-- n'), where n and n' count the word on the two sides (Mantel and Haenszel's weights); strata with the word on
-- one side only are left out. A document's attention is a fixed total that its words share, so lifts are
-- compared with those of ordinary words. `factor` is the median of wrong_lift / right_lift over the class's
-- well-known words: those in 50 documents on each side, or among the 30 in most documents. (If two words are in
-- the middle, it is their geometric mean.) `difference` is wrong_lift minus factor times right_lift.
-- `log_ratio` is the natural logarithm of wrong_lift over factor times right_lift: 0.69 is twice as much. It is
-- null if a lift is not above 0.
--
-- `p` comes from a permutation test. It considers all ways to deal the word's documents to the two sides, with
-- as many on each side of each stratum as there are. `p` is twice the share of these ways whose difference is
-- as far from 0, in the same direction. It is computed from the mean, variance and skewness over all ways, not
-- from random draws. If wrong documents come in clusters (such as films, if documents have a group), whole
-- clusters are dealt, as often as it takes for two documents of a cluster to agree as often as they do. `error`
-- is the standard deviation of the difference over these ways, `t` is the difference over `error`, and `q` is
-- the false discovery rate (Benjamini and Hochberg) over the words of this class, including those cut by
-- `limit`. It does not cover both classes, or other layers or parameters that you try. `wrong_clusters` and
-- `right_clusters` are effective numbers: how many clusters of equal size carry the same weight. Below two they
-- are null, and so are error, t, p and q. No p is below that of a single way to deal so many clusters. The
-- factor is taken as given; with a dozen words, its own error is not small.
--
-- `log_odds` compares the counts alone, unmatched. It says how much more frequent the word is in the wrong
-- documents: the difference of its log-odds among all words (listed or not, including punctuation), with an
-- informative Dirichlet prior that shrinks it toward 0. `z` is log_odds over its standard error, as if words
-- were drawn independently. They are not: for a word that occurs often in few documents, z is far too large.
--
-- How not to read it: as the words that misled the model. Attention is not explanation (Jain and Wallace 2019;
-- Wiegreffe and Pinter 2019). Errors are few: look at q, not only at the rank, and read some of the documents.
-- An answer without a small q means that nothing was found, not that there is nothing.
--
-- Documents without a label are left out, and so are those where the reduction is null. If the labels are not
-- the model's classes, no prediction can be wrong, and the answer is empty. `specials`, `punctuation`, `ignore`
-- and `renormalise` work as in top_words_by_class. Ties are ordered by wrong documents, then by word. Documents
-- and occurrences are counted over all strata.
--
-- Example: attnstore query imdb.attn errors -p limit=4,
-- over the 25,000 IMDb test reviews, first row:
--     class=neg, word=must, wrong_documents=75, right_documents=1121, wrong_occurrences=86,
--     right_occurrences=1260, wrong_clusters=62.68, right_clusters=542.4, wrong_lift=1.151,
--     right_lift=0.5027, factor=1.01, difference=0.6437, error=0.1705, t=3.775, p=0.0007918, q=0.8807,
--     log_ratio=0.819, log_odds=-0.08127, z=-0.7806
--
-- @param reduction: reduction = cls -- which attention: a reduction in the store
-- @param layer: layer = last -- its layer: a number from 1, first, last, mean (over all layers), or best (as
--     measured by `attnstore faithfulness`)
-- @param min_documents: count = auto -- leave out words found in fewer wrong documents, or in fewer right ones;
--     auto: one in 200 of the documents on that side, and at least 5
-- @param specials: in|out = out -- list tokens that belong to no word, such as [CLS] and [SEP]
-- @param punctuation: in|out = out -- list words without any letter or digit, in any script
-- @param ignore: list = -- words to leave out, as the store spells them
-- @param renormalise: boolean = false -- redistribute the attention of what is left out over the rest
-- @param cluster: cluster = group -- what counts as independent: groups of documents (films), or documents
-- @param match: probability|none = probability -- compare wrong documents with right ones of equal confidence,
--     or with all right ones
-- @param prior: amount = auto -- the prior of `log_odds`: this many words, distributed as in wrong and right
--     documents together, are added to the counts of each side; auto: 1 in 100 of the words of both
-- @param rank_by: p|difference|log_ratio|log_odds|z = p -- the column to rank by; p: words attended to more,
--     smallest p first, then words attended to less, largest p first
-- @param limit: count = 20 -- rows per class
-- @columns class, word, wrong_lift, right_lift, difference, q
-- @pair class, word: difference, log_ratio
-- @family the words of a class
--
-- Source: the factor is the size factor of Anders and Huber 2010, "Differential expression analysis for
-- sequence count data", Genome Biology 11:R106, equation 5, for two samples. The weights are those of Mantel
-- and Haenszel 1959. Matching on the probability: Rosenbaum and Rubin 1983 (strata of a score). The test: sums
-- over samples without replacement have the moments of Cochran 1977, "Sampling Techniques", section 2.16, and
-- the gamma tail of Mielke and Berry 2007, "Permutation Methods", computed by Barndorff-Nielsen's r* (1986). In
-- symbols: document d of stratum s has n_d occurrences, whose lifts sum to y_d (divided by the factor f if the
-- document is wrong). Let c_s = Σ y_d / Σ n_d and e_d = y_d - c_s n_d. Of the K documents with the word, k are
-- wrong:
--     difference = f / W Σ_wrong e_d, where W is the sum of the weights
--     error² = (f / W)² Σ_s k (K - k) / (K (K - 1)) Σ e_d²
-- The skewness likewise has k (K - k) (K - 2 k) / (K (K - 1) (K - 2)) Σ e_d³. If the documents of a cluster
-- correlate by ρ in being wrong, both are (1 - ρ) times that plus ρ times the same for the sums of clusters, as
-- if a cluster were dealt whole with probability ρ. ρ is estimated from all documents of the class, and is at
-- least 0. The log-odds: Monroe, Colaresi and Quinn 2008, "Fightin' Words", Political Analysis 16, page 388.
-- benchmarks/null_simulations.py shows that sides dealt at random give no more small p than expected.
WITH
judged AS (
    SELECT document, cluster, prediction AS class, prediction <> label AS wrong, probability
    FROM documents
    WHERE $labels_are_models AND prediction IS NOT NULL AND label IS NOT NULL
),
levels AS (  -- each probability, with the number of wrong documents below it
    SELECT
        class, probability,
        sum(count_if(wrong)) OVER (PARTITION BY class ORDER BY probability) - count_if(wrong) AS lower_wrong,
        sum(count_if(wrong)) OVER (PARTITION BY class) AS all_wrong
    FROM judged
    GROUP BY class, probability
),
matched AS (
    SELECT
        document, cluster, class, wrong,
        CASE WHEN $match = 'probability' THEN stratum_of(lower_wrong, all_wrong) ELSE 0 END AS stratum
    FROM judged JOIN levels USING (class, probability)
),
dealt AS (  -- how far a document's being wrong is from its stratum's share
    SELECT
        class, cluster,
        wrong::INTEGER - avg(wrong::INTEGER) OVER of_stratum AS off,
        sqrt(avg(wrong::INTEGER) OVER of_stratum * (1 - avg(wrong::INTEGER) OVER of_stratum)) AS scale
    FROM matched
    WINDOW of_stratum AS (PARTITION BY class, stratum)
),
togetherness AS (
    SELECT class, together(sum(offs ** 2 - squares), sum(scales ** 2 - variances)) AS rho
    FROM (
        SELECT class, sum(off) AS offs, sum(off ** 2) AS squares, sum(scale) AS scales, sum(scale ** 2) AS variances
        FROM dealt
        GROUP BY class, cluster
    )
    GROUP BY class
),
sizes AS MATERIALIZED (
    SELECT class, count_if(wrong) AS size, count_if(NOT wrong) AS other_size
    FROM judged
    GROUP BY class
),
known AS MATERIALIZED (  -- words found often enough, numbered per class: comparing the words of all tokens is slow
    SELECT class, term, (row_number() OVER ())::INTEGER AS number
    FROM (SELECT *, prediction AS class FROM summed_terms('word', $specials)) JOIN sizes USING (class)
    WHERE is_listed(term, $punctuation, $ignore)
    GROUP BY class, term
    HAVING
        sum(new) FILTER (class <> label) >= any_value(least_documents($min_documents, size))
        AND sum(new) FILTER (class = label) >= any_value(least_documents($min_documents, other_size))
),
uses AS MATERIALIZED (  -- per document and listed word; all other words together have no number and are only counted
    SELECT *
    FROM (
        SELECT
            document, number,
            count_if(starts)::DOUBLE AS n,
            sum(attention * length / parts) AS y,
            count_if(new)::DOUBLE AS documents  -- integers are slow to sum
        FROM (
            SELECT *, prediction AS class FROM weighed_words($specials, $punctuation, $ignore, $renormalise)
        ) LEFT JOIN known USING (class, term)
        WHERE $labels_are_models AND term IS NOT NULL
        GROUP BY document, number
    ) JOIN matched USING (document)
),
cells AS (  -- per stratum, wrong documents beside right ones (other)
    SELECT
        class, number, stratum,
        count_if(wrong) AS k, count(*) AS all_k,
        sum(documents) FILTER (wrong) AS documents, sum(documents) FILTER (NOT wrong) AS other_documents,
        sum(n) FILTER (wrong) AS n, sum(y) FILTER (wrong) AS y,
        sum(n) FILTER (NOT wrong) AS other_n, sum(y) FILTER (NOT wrong) AS other_y
    FROM uses
    GROUP BY class, number, stratum
),
weighted AS (  -- null where a stratum has the word on one side only
    SELECT *, CASE WHEN n > 0 AND other_n > 0 THEN n * other_n / (n + other_n) END AS weight
    FROM cells
),
opposed AS (
    SELECT
        class, number,
        sum(documents) AS documents, sum(other_documents) AS other_documents,
        coalesce(sum(n), 0) AS n, coalesce(sum(other_n), 0) AS other_n,
        sum(weight) AS weight,
        sum(weight * y / n) / sum(weight) AS r, sum(weight * other_y / other_n) / sum(weight) AS other_r
    FROM weighted
    GROUP BY class, number
),
sized AS (
    SELECT *, sum(n) OVER of_class AS words, sum(other_n) OVER of_class AS other_words
    FROM opposed
    WINDOW of_class AS (PARTITION BY class)
),
kept AS (
    SELECT
        *,
        least(documents, other_documents) >= 50
            OR row_number() OVER (PARTITION BY class ORDER BY least(documents, other_documents) DESC, term) <= 30 AS known
    FROM sized JOIN sizes USING (class) JOIN known USING (class, number)
    WHERE
        documents >= least_documents($min_documents, size)
        AND other_documents >= least_documents($min_documents, other_size)
        AND weight > 0
),
levelled AS (
    SELECT
        *,
        exp(coalesce(median(CASE WHEN known AND r > 0 AND other_r > 0 THEN ln(r / other_r) END) OVER of_class, 0)) AS factor
    FROM kept
    WINDOW of_class AS (PARTITION BY class)
),
expected AS (  -- what an occurrence has on each side, without the factor
    SELECT
        number, stratum, factor,
        (y / factor + other_y) / (n + other_n) AS usual,
        k * (all_k - k) / (all_k * (all_k - 1)) AS spread,
        CASE WHEN all_k > 2 THEN k * (all_k - k) * (all_k - 2 * k) / (all_k * (all_k - 1) * (all_k - 2)) ELSE 0 END AS lean
    FROM (SELECT * REPLACE (k::DOUBLE AS k, all_k::DOUBLE AS all_k) FROM weighted WHERE weight > 0)
        JOIN (SELECT number, factor FROM levelled) USING (number)
),
placed AS MATERIALIZED (
    SELECT
        number, cluster, wrong, n, spread, lean, y / CASE WHEN wrong THEN factor ELSE 1 END AS y,
        y / CASE WHEN wrong THEN factor ELSE 1 END - usual * n AS off
    FROM uses JOIN expected USING (number, stratum)
),
alone AS (  -- each document by itself
    SELECT number, sum(spread * off * off) AS squares, sum(lean * off * off * off) AS cubes, sum(y * y) AS size
    FROM placed
    GROUP BY number
),
gathered AS (
    SELECT
        number, cluster,
        sum(CASE WHEN wrong THEN n ELSE 0 END) AS n, sum(CASE WHEN wrong THEN 0 ELSE n END) AS other_n,
        sum(sqrt(spread) * off) AS whole, sum(cbrt(lean) * off) AS whole_lean
    FROM placed
    GROUP BY number, cluster
),
permuted AS (
    SELECT
        number, g, other_g,
        error_of((1 - rho) * squares + rho * whole_squares, size) AS deviation,
        (1 - rho) * cubes + rho * whole_cubes AS third
    FROM (
        SELECT
            number,
            effective_clusters(sum(n), sum(n * n)) AS g, effective_clusters(sum(other_n), sum(other_n * other_n)) AS other_g,
            sum(whole * whole) AS whole_squares, sum(whole_lean * whole_lean * whole_lean) AS whole_cubes
        FROM gathered
        GROUP BY number
    )
    JOIN alone USING (number) JOIN known USING (number) JOIN togetherness USING (class)
),
compared AS (
    SELECT
        *,
        coalesce($prior::DOUBLE / (words + other_words), 0.01) AS part,
        r - factor * other_r AS difference,
        CASE WHEN g IS NOT NULL AND other_g IS NOT NULL THEN factor * deviation / weight END AS error,
        CASE WHEN r > 0 AND other_r > 0 THEN ln(r / (factor * other_r)) END AS log_ratio
    FROM levelled JOIN permuted USING (number)
),
measured AS (
    SELECT
        *,
        difference / error AS t, third / deviation ** 3 AS skew,
        part * (n + other_n) AS alpha,
        log_odds_ratio(n, other_n, words, other_words, part) AS log_odds
    FROM compared
),
tested AS (
    SELECT
        *,
        permutation_p(t, skew, g, other_g) AS p,
        log_odds / sqrt(1 / (n + alpha) + 1 / (other_n + alpha)) AS z
    FROM measured
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
        -- Single precision, so that the order of summation does not decide ties.
        CASE $rank_by
            WHEN 'p' THEN -sign(t) * ln(greatest(p, 1e-300)) WHEN 'difference' THEN difference WHEN 'log_ratio' THEN log_ratio
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
    g AS wrong_clusters,
    other_g AS right_clusters,
    r AS wrong_lift,
    other_r AS right_lift,
    factor, difference, error, t, p, q, log_ratio, log_odds, z
FROM ranked
QUALIFY row_number() OVER (PARTITION BY class ORDER BY rank DESC NULLS LAST, documents DESC, term) <= $limit
ORDER BY class, rank DESC NULLS LAST, documents DESC, word
