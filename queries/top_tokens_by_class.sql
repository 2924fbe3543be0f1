-- Which tokens does the model attend to most, in the documents of each class?
--
-- How to read the answer: one row a class and token, the highest ranked first. `lift` is a token's attention
-- over what it would get if its document's attention were spread evenly (attention × tokens of the document),
-- averaged over its occurrences: 1.0 is uniform, 3.0 is three times that. `mean_attention` is the plain
-- average, which favours tokens of short documents. `share` is the token's part of all the attention in the
-- class's documents, that of special tokens and punctuation included, whatever is listed: frequent tokens
-- lead by it. `documents` counts the documents of the class with the token, `occurrences` its places in them.
--
-- `low` and `high` hold the lift with 95 % confidence if other documents of the kind were drawn: clusters
-- (films, where documents have a group) count as independent, the occurrences in them do not. The interval is of
-- the lift's logarithm, since lifts are skewed; with few clusters it is still a little short. It needs two
-- clusters of one size, or more uneven ones, and is null without `intervals`, which takes half the time.
-- `shrunk` is the lift drawn toward the class's mean over what is listed, as if each token had `shrinkage` more
-- occurrences of that lift: rank by it, or by `low`, and rare tokens do not lead by chance as they do with `lift`
-- and too low a `min_documents`.
--
-- `percentile` is the rank of its attention among the tokens of its document, the part of them that gets less
-- (of those that get as much, half), averaged over the occurrences: 0.5 would be chance. Neither
-- lengths nor outliers matter to it, nor how much more the first gets than the second. With `renormalise` the
-- rank is among what is listed. It takes longer: null unless `rank_by` asks for it.
--
-- How not to read it: as evidence for the class. These are tokens attended to in documents of the class; a
-- token may be attended to as much in the other one. Attention is not explanation (Jain and Wallace 2019;
-- Wiegreffe and Pinter 2019).
--
-- Nothing is renormalised unless asked: what [CLS], [SEP] and punctuation take is gone from the others. With
-- `renormalise` the tokens left out are as if they had never been in their document: the attention of the
-- rest adds up to 1 in each, and uniform means even among the rest. Documents in which the reduction has
-- nothing to say (null) are left out, and with by=label those that have no label. Equal ranks are ordered by
-- documents, then by token.
--
-- Where single documents do not matter (no `intervals`, `renormalise` or `percentile`) the answer is read off
-- the view `totals`, in which the store has added its tokens up, in single precision.
--
-- Example: attnstore query imdb.attn top_tokens_by_class -p limit=5,
-- over the 25,000 IMDb test reviews, first row:
--     class=neg, token=disappointing, documents=301, occurrences=315, mean_attention=0.1188, lift=30.13,
--     low=28.11, high=32.29, shrunk=29.23, share=0.003047, percentile=null
--
-- @param reduction: reduction = cls -- which attention: a reduction that the store holds
-- @param layer: layer = last -- its layer: a number from 1, first, last, or mean (of all layers)
-- @param by: class = prediction -- what a document's class is: the model's prediction, or the gold label
-- @param min_documents: count = auto -- leave out tokens found in fewer documents of the class;
--     auto: one in 200 of the class's documents, and at least 5
-- @param specials: in|out = out -- list the tokens which the tokenizer adds, such as [CLS] and [SEP]
-- @param punctuation: in|out = out -- list tokens without any letter or digit, in any script (Ġ and Ċ, the
--     space and the line break of byte-level vocabularies, are no letters here)
-- @param ignore: list = -- tokens to leave out, as the tokenizer prints them
-- @param renormalise: boolean = false -- share out the attention of what is left out among the rest
-- @param intervals: boolean = true -- compute `low` and `high`
-- @param cluster: cluster = group -- what is independent: groups of documents (films), or documents
-- @param shrinkage: amount = 10 -- how many occurrences at the class's mean lift each is given in `shrunk`
-- @param rank_by: lift|shrunk|low|share|mean_attention|percentile = lift -- the column to rank by
-- @param limit: count = 20 -- rows a class
--
-- Source: attention from [CLS] over a corpus, Clark et al. 2019, "What Does BERT Look At?"; lift as the
-- remedy against document length is ours. The interval: the ratio of two sums over clusters, Cochran 1977,
-- "Sampling Techniques", section 6.3, with Student's t of the effective number of clusters less one (Kish 1965).
WITH
considered AS (
    SELECT
        document, class, token, special, new_token, length, attention,
        ($specials = 'in' OR NOT special)
        AND ($punctuation = 'in' OR regexp_matches(token, '[^\P{L}ĠĊ]|\p{N}'))
        AND NOT list_contains($ignore::VARCHAR[], token) AS listed
    FROM tokens
    WHERE
        ($intervals OR $renormalise OR $rank_by = 'percentile')
        AND class IS NOT NULL
        AND attention IS NOT NULL
),
remaining AS (  -- of each document, what is left when the unlisted tokens are taken out of it
    SELECT document, sum(attention) AS mass, count(*) AS tokens
    FROM considered
    WHERE $renormalise AND listed
    GROUP BY document
),
weighed AS (
    SELECT document, class, token, special, new_token::INTEGER AS new, 1 AS occurrences, attention, attention * length AS lift
    FROM considered
    WHERE NOT $renormalise
    UNION ALL
    SELECT document, class, token, special, new_token::INTEGER, 1, attention / mass, attention / mass * tokens
    FROM considered JOIN remaining USING (document)
    WHERE $renormalise AND listed AND mass <> 0
),
placed AS (
    SELECT *, NULL::DOUBLE AS percentile
    FROM weighed
    WHERE $rank_by <> 'percentile'
    UNION ALL
    -- Halfway between the part that has less attention and the part that has no more.
    SELECT *, (cume_dist() OVER by_attention + (rank() OVER by_attention - 1) / count(*) OVER (PARTITION BY document)) / 2
    FROM weighed
    WHERE $rank_by = 'percentile'
    WINDOW by_attention AS (PARTITION BY document ORDER BY attention)
    UNION ALL
    SELECT NULL, class, token, special, new_token, occurrences, attention, attention_lift, NULL
    FROM totals
    WHERE
        NOT ($intervals OR $renormalise OR $rank_by = 'percentile')
        AND class IS NOT NULL
        AND attention IS NOT NULL
),
gathered AS (  -- by cluster, for the intervals
    SELECT
        class,
        cluster,
        token,
        bool_or(special) AS special,
        sum(new) AS documents,
        sum(occurrences) AS occurrences,
        sum(attention) AS mass,
        sum(lift) AS lift,
        sum(percentile) AS percentile
    FROM placed JOIN (SELECT document, cluster FROM documents) USING (document)
    WHERE $intervals
    GROUP BY class, cluster, token
),
counted AS (
    SELECT
        class,
        token,
        bool_or(special) AS special,
        sum(documents)::BIGINT AS documents,
        sum(occurrences)::BIGINT AS occurrences,
        sum(mass) AS mass,
        sum(lift) AS lift,
        sum(percentile) AS percentile,
        -- As many clusters of equal size as weigh as much (Kish); fewer than two tell no error.
        CASE
            WHEN sum(occurrences) ** 2 >= 2 * sum(occurrences * occurrences)
            THEN sum(occurrences) ** 2 / sum(occurrences * occurrences)
        END AS clusters,
        sum(lift * lift) AS squares,
        sum(lift * occurrences) AS products,
        sum(occurrences * occurrences) AS counts
    FROM gathered
    GROUP BY class, token
    UNION ALL
    SELECT  -- without intervals: at once, and no join
        class,
        token,
        bool_or(special) AS special,
        sum(new)::BIGINT AS documents,
        sum(occurrences)::BIGINT AS occurrences,
        sum(attention) AS mass,
        sum(lift) AS lift,
        sum(percentile) AS percentile,
        NULL, NULL, NULL, NULL
    FROM placed
    WHERE NOT $intervals
    GROUP BY class, token
),
whole AS (
    SELECT class, sum(mass) AS whole
    FROM counted
    GROUP BY class
),
measured AS (
    SELECT
        class,
        token,
        special,
        documents,
        occurrences,
        clusters,
        mass / occurrences AS mean_attention,
        lift / occurrences AS lift,
        percentile / occurrences AS percentile,
        -- Σ (y − r · n)² over the clusters, multiplied out; rounding must not push it below 0.
        sqrt(
            greatest(0, squares - 2 * lift / occurrences * products + (lift / occurrences) ** 2 * counts)
            * clusters / (clusters - 1)
        ) / occurrences AS error,
        mass / nullif(whole, 0) AS share
    FROM counted JOIN whole USING (class)
),
support AS (
    SELECT class, coalesce($min_documents, greatest(5, (count(*) + 199) // 200)) AS least
    FROM documents
    GROUP BY class
),
kept AS (
    SELECT *, sum(lift * occurrences) OVER of_class / sum(occurrences) OVER of_class AS class_lift
    FROM measured JOIN support USING (class)
    WHERE
        documents >= least
        AND ($specials = 'in' OR NOT special)
        AND ($punctuation = 'in' OR regexp_matches(token, '[^\P{L}ĠĊ]|\p{N}'))
        AND NOT list_contains($ignore::VARCHAR[], token)
    WINDOW of_class AS (PARTITION BY class)
),
compared AS (
    SELECT
        *,
        t_quantile(0.975, clusters - 1) * error AS half,
        -- Of the logarithm, where there is one: lifts are skewed, and none is below 0.
        CASE WHEN lift > 0 THEN lift / exp(half / lift) ELSE lift - half END AS low,
        CASE WHEN lift > 0 THEN lift * exp(half / lift) ELSE lift + half END AS high,
        (lift * occurrences + class_lift * $shrinkage) / (occurrences + $shrinkage) AS shrunk
    FROM kept
),
ranked AS (
    SELECT
        *,
        -- Single precision: the order in which floats are added must not decide the order of equal ranks.
        CASE $rank_by
            WHEN 'lift' THEN lift WHEN 'shrunk' THEN shrunk WHEN 'low' THEN low
            WHEN 'share' THEN share WHEN 'percentile' THEN percentile ELSE mean_attention
        END::FLOAT AS rank
    FROM compared
)
SELECT class, token, documents, occurrences, mean_attention, lift, low, high, shrunk, share, percentile
FROM ranked
QUALIFY row_number() OVER (PARTITION BY class ORDER BY rank DESC NULLS LAST, documents DESC, token) <= $limit
ORDER BY class, rank DESC NULLS LAST, documents DESC, token
