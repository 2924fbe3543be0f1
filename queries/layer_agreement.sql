-- Do layers, and reductions, agree on which words are attended to?
--
-- How to read the answer: one row per class, document length, and pair of columns: `one` and `other` are
-- columns of the tokens table, such as cls_05 and cls_06, or cls_06 and rollout. `correlation` is Spearman's
-- rank correlation between the lifts that the class's words have in the two columns (equal lifts share their
-- mean rank): 1 if both order the words alike, 0 if they are unrelated, below 0 if one attends most to what the
-- other attends to least. It covers the `words` found in `min_documents` documents of the class and length.
-- `length` is `all`, or with `lengths` also `short`, `middle` and `long`: thirds of the class's documents by
-- number of tokens.
--
-- How not to read it: as which of the two is right. High agreement between neighbouring layers is common; with
-- low agreement, an answer for one layer holds only for that layer. Words in many documents have steadier lifts
-- and agree more: compare only answers with equal `min_documents`. The shorter the documents, the fewer words
-- are left.
--
-- Documents where one of the reductions is null are left out; with by=label, so are those without a label. The
-- correlation is null if a column gives all words the same lift. Lifts come from sums in the view `totals`, in
-- single precision; those of the thirds are summed from the tokens.
--
-- Example: attnstore query imdb.attn layer_agreement -p reductions=cls,rollout,
-- over the 25,000 IMDb test reviews, first row:
--     class=neg, length=all, one=cls_01, other=cls_02, words=2853, correlation=0.1177
--
-- @param reductions: reductions = auto -- the reductions whose layers are compared; auto: all with one value
--     per token
-- @param by: class = prediction -- what defines a document's class: the model's prediction, or the gold label
-- @param min_documents: count = auto -- leave out words found in fewer documents of the class and length; auto:
--     one in 200 of them, and at least 5
-- @param lengths: boolean = false -- also for each third of the class's documents by length
-- @param punctuation: in|out = out -- count words without any letter or digit, in any script
-- @pair class, length, one, other: correlation
--
-- Source: Spearman 1904. Jain and Wallace 2019, "Attention is not Explanation", section 4.1, compare attention
-- with gradients by rank (Kendall's τ in each document); here, one attention is compared with another over a
-- class's words.
WITH
thirds AS (
    SELECT
        document, class,
        -- Equal lengths share a third: the one that their middle falls into.
        floor(
            3 * (rank() OVER of_class + (count(*) OVER same - 1) / 2 - 1) / count(*) OVER (PARTITION BY class)
        )::INTEGER AS third
    FROM documents
    WHERE class IS NOT NULL
    WINDOW of_class AS (PARTITION BY class ORDER BY length), same AS (PARTITION BY class, length)
),
every AS (
    SELECT
        class, 0 AS bucket, word,
        sum(new_word) AS documents,
        sum(occurrences) FILTER (piece = 0) AS occurrences,
        sum(COLUMNS('^attention:(.*)_lift$') / pieces) AS 'lift:\1'
    FROM totals
    WHERE class IS NOT NULL AND word IS NOT NULL AND COLUMNS('^attention:.*_lift$') IS NOT NULL
    GROUP BY class, word
    UNION ALL BY NAME
    SELECT
        tokens.class, third + 1 AS bucket, word,
        count_if(new_word) AS documents,
        count_if(piece = 0) AS occurrences,
        sum(COLUMNS('^attention:(.*)$') * length / pieces) AS 'lift:\1'
    FROM tokens JOIN thirds USING (document)
    WHERE $lengths AND word IS NOT NULL AND COLUMNS('^attention:.*$') IS NOT NULL
    GROUP BY tokens.class, third, word
),
support AS (
    SELECT class, bucket, least_documents($min_documents, count(*)) AS least
    FROM (
        SELECT class, third + 1 AS bucket FROM thirds
        UNION ALL
        SELECT class, 0 FROM thirds
    )
    GROUP BY class, bucket
),
kept AS (
    SELECT
        class, bucket, word, occurrences, COLUMNS('^lift:.*$') AS '\0'
    FROM every JOIN support USING (class, bucket)
    WHERE
        documents >= least
        AND occurrences > 0
        AND ($punctuation = 'in' OR regexp_matches(word, '[\p{L}\p{N}]'))
),
lifts AS (
    UNPIVOT kept ON COLUMNS('^lift:.*$') INTO NAME name VALUE lift
),
ranked AS (
    SELECT
        class, bucket, word, name,
        rank() OVER by_lift + (count(*) OVER same - 1) / 2 AS place
    FROM (SELECT * REPLACE ((lift / occurrences)::FLOAT AS lift) FROM lifts)
    WINDOW
        by_lift AS (PARTITION BY class, bucket, name ORDER BY lift),
        same AS (PARTITION BY class, bucket, name, lift)
)
SELECT
    one.class,
    CASE bucket WHEN 0 THEN 'all' WHEN 1 THEN 'short' WHEN 2 THEN 'middle' ELSE 'long' END AS length,
    one.name[6:] AS one,
    other.name[6:] AS other,
    count(*) AS words,
    -- In floating point, a standard deviation of 0 is not always exactly 0.
    CASE WHEN min(one.place) < max(one.place) AND min(other.place) < max(other.place)
    THEN corr(one.place, other.place) END AS correlation
FROM ranked AS one JOIN ranked AS other USING (class, bucket, word)
WHERE one.name < other.name
GROUP BY one.class, bucket, one.name, other.name
ORDER BY one.class, bucket, one.name, other.name
