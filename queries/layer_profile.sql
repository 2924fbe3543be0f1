-- In which layers are words attended to?
--
-- How to read the answer: one row per class, word and layer: the class's leading word first, its layers in
-- order. `lift` is the attention of an occurrence relative to what it would get if its document's attention
-- were spread evenly over the tokens, averaged over the occurrences: 1.0 is uniform. `low` and `high` are its
-- 95 % interval for other documents of the same kind. Clusters (such as films, if documents have a group) count
-- as independent; the occurrences in them do not. An interval needs two clusters of equal size, or more if they
-- are uneven. Set `words` to follow words of your own; otherwise each class has its leading words by `rank_by`:
-- `lift`, the mean over the layers, or `spread`, the largest layer's lift minus the smallest's.
--
-- How not to read it: as steps of one computation on one word. After the first layer, a position also holds
-- what it gathered from others, so attention to a word's position is not attention to the word alone (Brunner
-- et al. 2020). In layers where [CLS] takes nearly everything, little is left for words: see `sinks` first.
--
-- Documents where the reduction is null are left out; with by=label, so are those without a label. `layer` is
-- null for a reduction that has one value for all layers. Ties are ordered by documents, then by word.
--
-- Example: attnstore query imdb.attn layer_profile -p words=awful,great,
-- over the 25,000 IMDb test reviews, first row:
--     class=neg, word=awful, layer=1, documents=1258, occurrences=1497, lift=0.3991, low=0.3903,
--     high=0.4081
--
-- @param words: list = -- the words to follow, as the store spells them, however rare; none: the leading ones
-- @param reduction: reduction = cls -- which attention: a reduction in the store
-- @param by: class = prediction -- what defines a document's class: the model's prediction, or the gold label
-- @param min_documents: count = auto -- leave out words found in fewer documents of the class; auto: one in 200
--     of the class's documents, and at least 5
-- @param punctuation: in|out = out -- list words without any letter or digit, in any script
-- @param ignore: list = -- words to leave out, as the store spells them
-- @param cluster: cluster = group -- what counts as independent: groups of documents (films), or documents
-- @param rank_by: lift|spread = lift -- what makes a word lead
-- @param limit: count = 5 -- words per class
-- @columns class, word, layer, documents, lift, low, high
-- @pair class, word, layer: lift
--
-- Source: attention layer by layer, Clark et al. 2019, "What Does BERT Look At?"; the interval is that of
-- top_words_by_class.
WITH
summed AS (
    SELECT
        class, word,
        sum(new_word) AS documents,
        sum(CASE WHEN piece = 0 THEN occurrences ELSE 0 END) AS occurrences,
        sum(COLUMNS('^attention_[0-9]+_lift$') / pieces) AS 'lift_\0'
    FROM totals
    WHERE
        class IS NOT NULL AND word IS NOT NULL AND COLUMNS('^attention_[0-9]+$') IS NOT NULL
        AND (len($words::VARCHAR[]) = 0 OR list_contains($words::VARCHAR[], word))
    GROUP BY class, word
),
support AS (
    SELECT class, least_documents($min_documents, count(*)) AS least
    FROM documents
    GROUP BY class
),
profiles AS (
    SELECT class, word, documents, occurrences, [*COLUMNS('^lift_')] AS lifts
    FROM summed
),
listed AS (
    SELECT
        class, word, documents,
        list_avg(lifts) / occurrences AS lift,
        (list_max(lifts) - list_min(lifts)) / occurrences AS spread
    FROM profiles JOIN support USING (class)
    WHERE
        occurrences > 0
        AND (
            len($words::VARCHAR[]) > 0
            OR (
                documents >= least
                AND is_listed(word, $punctuation, $ignore)
            )
        )
),
chosen AS (
    SELECT
        class, word,
        -- Single precision, so that the order of summation does not decide ties.
        row_number() OVER (
            PARTITION BY class
            ORDER BY (CASE $rank_by WHEN 'lift' THEN lift ELSE spread END)::FLOAT DESC NULLS LAST, documents DESC, word
        ) AS place
    FROM listed
    QUALIFY place <= $limit OR len($words::VARCHAR[]) > 0
),
gathered AS (
    SELECT
        class, cluster, word,
        any_value(place) AS place,
        count_if(new_word) AS documents,
        count_if(piece = 0) AS occurrences,
        sum(COLUMNS('^attention_[0-9]+$') * length / pieces) AS 'lift_\0'
    FROM tokens JOIN chosen USING (class, word) JOIN (SELECT document, cluster FROM documents) USING (document)
    WHERE COLUMNS('^attention_[0-9]+$') IS NOT NULL
    GROUP BY class, cluster, word
),
layered AS (  -- a list element per layer
    SELECT
        class, cluster, word, place, documents, occurrences,
        unnest([*COLUMNS('^lift_')]) AS lift,
        unnest(range(1, len([*COLUMNS('^lift_')]) + 1)) AS layer,
        len([*COLUMNS('^lift_')]) AS layers
    FROM gathered
),
counted AS (
    SELECT
        class,
        word,
        CASE WHEN layers = $layers THEN layer END::INTEGER AS layer,
        any_value(place) AS place,
        sum(documents)::BIGINT AS documents,
        sum(occurrences)::BIGINT AS occurrences,
        sum(lift) / sum(occurrences) AS lift,
        effective_clusters(sum(occurrences), sum(occurrences * occurrences)) AS clusters,
        min(lift) AS lowest,
        sum(lift * lift) AS squares,
        sum(lift * occurrences) AS products,
        sum(occurrences * occurrences) AS counts
    FROM layered
    GROUP BY ALL
),
measured AS (
    SELECT
        *,
        sqrt(ratio_variance(lift, occurrences, squares, products, counts, clusters)) AS error
    FROM counted
),
bounded AS (
    SELECT *, t_quantile(0.975, clusters - 1) * error AS half
    FROM measured
)
SELECT
    class, word, layer, documents, occurrences, lift,
    low_end(lift, half, lowest) AS low,
    high_end(lift, half, lowest) AS high
FROM bounded
ORDER BY class, place, layer
