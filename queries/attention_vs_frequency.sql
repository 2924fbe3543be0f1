-- Which words get more, or less, attention than their frequency explains?
--
-- How to read the answer: one row per class and word, highest ranked first. `share_of_attention` is the word's
-- share of all attention in the class's documents, and `share_of_tokens` its share of all their tokens. Both
-- count special tokens, too; a word of three pieces counts as three tokens. `ratio` is the first share divided
-- by the second: at 1.0, frequency alone explains the attention; 4.0 is four times as much. `low` and `high`
-- are its 95 % interval for other documents of the same kind. Clusters (such as films, if documents have a
-- group) count as independent; the tokens in them do not. An interval needs two clusters with the word, and
-- attention above 0. `frequency_rank` and `attention_rank` are the word's ranks by the two shares among all
-- words that pass the filters; equal words share the first rank. If you plot the shares on logarithmic axes,
-- words with ordinary attention lie on a line; look at those off the line.
--
-- How not to read it: as evidence for the class. A word may stand out just as much in the other class, and
-- ratios below 1 are normal where [CLS] takes much of the attention. Attention is not explanation (Jain and
-- Wallace 2019). `lift` in top_words_by_class averages over occurrences, each relative to the length of its
-- document; a share is relative to all tokens together, so words that prefer short documents have a higher
-- ratio.
--
-- Documents where the reduction is null are left out; with by=label, so are those without a label. Ties are
-- ordered by documents, then by word. The shares are read from the view `totals`, where the store has summed
-- its tokens in single precision. The intervals are computed from the tokens, for the words shown.
--
-- Example: attnstore query imdb.attn attention_vs_frequency -p limit=3,
-- over the 25,000 IMDb test reviews, first row:
--     class=neg, word=disappointing, documents=291, occurrences=304, share_of_attention=0.002972,
--     share_of_tokens=9.019e-05, ratio=32.95, low=30.69, high=35.37, frequency_rank=880, attention_rank=28
--
-- @param reduction: reduction = cls -- which attention: a reduction in the store
-- @param layer: layer = last -- its layer: a number from 1, first, last, mean (over all layers), or best (as
--     measured by `attnstore faithfulness`)
-- @param by: class = prediction -- what defines a document's class: the model's prediction, or the gold label
-- @param min_documents: count = auto -- leave out words found in fewer documents of the class; auto: one in 200
--     of the class's documents, and at least 5
-- @param punctuation: in|out = out -- list words without any letter or digit, in any script
-- @param ignore: list = -- words to leave out, as the store spells them
-- @param cluster: cluster = group -- what counts as independent: groups of documents (films), or documents
-- @param order: most|least = most -- highest ratio first, or lowest
-- @param limit: count = 20 -- rows per class
-- @columns class, word, documents, ratio, low, high
-- @pair class, word: ratio, share_of_attention
--
-- Source: the interval is for the logarithm of a ratio of four sums over clusters, linearised (Cochran 1977,
-- "Sampling Techniques", sections 6.3 and 6.19). It uses Student's t with the effective number of clusters,
-- (Σn)² / Σn² (Kish 1965), minus one as degrees of freedom. Comparing attention with frequency is ours.
WITH
counted AS (
    SELECT
        class,
        word,
        sum(new_word)::BIGINT AS documents,
        sum(occurrences) FILTER (piece = 0)::BIGINT AS occurrences,
        sum(occurrences)::BIGINT AS tokens,
        sum(attention) AS attention,
        sum(sum(occurrences)) OVER (PARTITION BY class) AS all_tokens,
        sum(sum(attention)) OVER (PARTITION BY class) AS all_attention
    FROM totals
    WHERE class IS NOT NULL AND attention IS NOT NULL
    GROUP BY class, word
),
support AS (
    SELECT class, least_documents($min_documents, count(*)) AS least
    FROM documents
    GROUP BY class
),
measured AS (
    SELECT
        class, word, documents, occurrences,
        attention / nullif(all_attention, 0) AS share_of_attention,
        tokens / all_tokens AS share_of_tokens,
        share_of_attention / share_of_tokens AS ratio,
        -- Single precision, so that the order of summation does not decide ties.
        CASE WHEN $order = 'most' THEN ratio ELSE -ratio END::FLOAT AS rank,
        rank() OVER (PARTITION BY class ORDER BY share_of_tokens::FLOAT DESC) AS frequency_rank,
        rank() OVER (PARTITION BY class ORDER BY share_of_attention::FLOAT DESC NULLS LAST) AS attention_rank
    FROM counted JOIN support USING (class)
    WHERE
        documents >= least
        AND occurrences > 0
        AND is_listed(word, $punctuation, $ignore)
),
listed AS MATERIALIZED (
    SELECT *, (row_number() OVER ())::INTEGER AS number
    FROM measured
    QUALIFY row_number() OVER (PARTITION BY class ORDER BY rank DESC NULLS LAST, documents DESC, word) <= $limit
),
whole AS (  -- per cluster, over all words
    SELECT class, cluster, sum(tokens) AS tokens, sum(attention) AS attention
    FROM (
        SELECT document, count(*) AS tokens, sum(attention) AS attention
        FROM tokens
        WHERE attention IS NOT NULL
        GROUP BY document
    )
    JOIN documents USING (document)
    WHERE class IS NOT NULL
    GROUP BY class, cluster
),
drawn AS (  -- what each cluster adds to the log ratio through the totals
    SELECT
        class, cluster,
        tokens / sum(tokens) OVER of_class - attention / nullif(sum(attention) OVER of_class, 0) AS whole
    FROM whole
    WINDOW of_class AS (PARTITION BY class)
),
of_class AS (
    SELECT class, sum(whole * whole) AS squares
    FROM drawn
    GROUP BY class
),
gathered AS (  -- only the listed words: summing all words by cluster takes three times as long
    SELECT number, class, cluster, count(*) AS tokens, sum(attention) AS attention
    FROM tokens
    JOIN (SELECT class, word, number FROM listed) USING (class, word)
    JOIN (SELECT document, cluster FROM documents) USING (document)
    WHERE attention IS NOT NULL
    GROUP BY number, class, cluster
),
varied AS (
    SELECT
        number, class,
        sum(tokens) AS n, sum(attention) AS a,
        effective_clusters(sum(tokens), sum(tokens * tokens)) AS clusters,
        sum(attention * attention) AS aa, sum(attention * tokens) AS an, sum(tokens * tokens) AS nn,
        sum(attention * whole) AS aw, sum(tokens * whole) AS nw
    FROM gathered JOIN drawn USING (class, cluster)
    GROUP BY number, class
),
bounded AS (
    SELECT
        number,
        -- Σ (a/A − n/N + whole)² over the clusters, expanded; rounding must not make it negative.
        CASE WHEN a > 0 THEN t_quantile(0.975, clusters - 1) * sqrt(
            greatest(0, aa / a ** 2 - 2 * an / a / n + nn / n ** 2 + 2 * (aw / a - nw / n) + squares)
            * clusters / (clusters - 1)
        ) END AS half
    FROM varied JOIN of_class USING (class)
)
SELECT
    class, word, documents, occurrences, share_of_attention, share_of_tokens, ratio,
    CASE WHEN ratio > 0 THEN ratio * exp(-half) END AS low, CASE WHEN ratio > 0 THEN ratio * exp(half) END AS high,
    frequency_rank, attention_rank
FROM listed LEFT JOIN bounded USING (number)
ORDER BY class, rank DESC NULLS LAST, documents DESC, word
