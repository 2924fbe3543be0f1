-- What does a negation before a word change?
--
-- How to read the answer: one row per class and word, the most certain change first. Of the word's occurrences
-- in the documents of the class, `negated` have a negation at most `distance` words before them, and `plain`
-- have none. `negated_evidence` and `plain_evidence` are the means of the signed score over the two, with a
-- word's pieces summed (above 0 it supports the document's prediction, below 0 it opposes it). `difference` is
-- the first minus the second, `low` to `high` is its 95 % interval for other documents of the same kind, and
-- `sure` is the end of the interval nearer to 0, or 0 if the interval includes 0. `p` tests whether the
-- difference is 0, and `q` is the false discovery rate (Benjamini and Hochberg 1995) over the words of the
-- class.
--
-- Clusters (such as films, if documents have a group) count as independent; `negated_clusters` and
-- `plain_clusters` say how many have the word negated and plain. Interval and p need five clusters of equal
-- size on each side, or more if they are uneven.
--
-- How not to read it: as the negation's effect on the prediction. "not good" and "good" occur in different
-- documents, and the evidence of the negation itself is in `for_and_against`. Negations come from a list, not
-- from grammar: "not only good" and "not that good" count alike.
--
-- A negation is one of `negations`, or a word that ends in n't. A mark without a letter or digit ends its
-- scope. Negations themselves are not listed. Documents where the score is null are left out.
--
-- Example: attnstore query float32.attn negation,
-- over the 25,000 IMDb test reviews, first row:
--     class=neg, word=believable, negated=77, plain=165, negated_clusters=73, plain_clusters=153,
--     negated_evidence=0.0008682, plain_evidence=-0.004984, difference=0.005852, low=0.004046, high=0.007659,
--     sure=0.004046, p=1.254e-08, q=9.369e-08
--
-- @param reduction: signed_reduction = evidence -- which score: a signed one in the store, or attention, which
--     is averaged in the same way
-- @param layer: layer = last -- its layer, if the score has one per layer
-- @param by: class = prediction -- what defines a document's class: the model's prediction, or the gold label
-- @param distance: count = 3 -- how many words before the word a negation may stand
-- @param negations: list = not,no,never,none,nor,neither,nothing,nobody,hardly,barely,without,cannot -- the
--     words that negate
-- @param min_documents: count = auto -- leave out words that are negated in fewer documents of the class; auto:
--     one in 200 of the class's documents, and at least 5
-- @param ignore: list = -- words to leave out, as the store spells them
-- @param cluster: cluster = group -- what counts as independent: groups of documents (films), or documents
-- @param limit: count = 20 -- rows per class
-- @columns class, word, negated, plain, difference, low, high
-- @pair class, word: difference, negated_evidence, plain_evidence
-- @family the words of a class
--
-- Source: marking words after a negation, Das and Chen 2001, "Yahoo! for Amazon"; Pang, Lee and Vaithyanathan
-- 2002. The error of the difference of two ratios over the same clusters: linearised (Cochran 1977, "Sampling
-- Techniques", sections 6.3 and 6.18), with Student's t and the smaller side's effective number of clusters
-- (Kish 1965) minus one as degrees of freedom.
WITH
kinds AS MATERIALIZED (  -- each word once, numbered: comparing the words of all tokens is slow
    SELECT
        word, (row_number() OVER ())::INTEGER AS number,
        NOT regexp_matches(word, '[\p{L}\p{N}]') AS mark,
        list_contains($negations::VARCHAR[], word) OR regexp_matches(word, 'n[''’]t$') AS negates
    FROM totals
    WHERE word IS NOT NULL
    GROUP BY word
),
sorted AS MATERIALIZED (
    SELECT document, class, cluster FROM documents WHERE class IS NOT NULL
),
-- A token's place is its document's number and its position in one number: sorting and joining by one is faster.
placed AS MATERIALIZED (  -- words in their order, each by its first piece
    SELECT *, row_number() OVER (ORDER BY place) AS nth
    FROM (
        SELECT (document::BIGINT << 32) + position AS place, number, mark, negates
        FROM tokens JOIN kinds USING (word)
        WHERE piece = 0 AND attention IS NOT NULL
    )
),
behind AS (  -- what stands `step` words behind each negation
    SELECT place AS origin, unnest(range(1, $distance + 1)) AS step, nth + step AS nth
    FROM placed
    WHERE negates
),
followed AS MATERIALIZED (
    SELECT place, origin, step, number, mark
    FROM placed JOIN behind USING (nth)
    WHERE xor(place, origin) >> 32 = 0  -- in one document
),
reached AS MATERIALIZED (  -- the words there, before the first mark
    SELECT place, (place >> 32)::INTEGER AS document, any_value(number) AS number
    FROM followed
    LEFT JOIN (SELECT origin, min(step) AS ended FROM followed WHERE mark GROUP BY origin) USING (origin)
    WHERE ended IS NULL OR step < ended
    GROUP BY place
),
listed AS MATERIALIZED (
    SELECT class, word, (row_number() OVER ())::INTEGER AS listed
    FROM (
        SELECT class, number, count(DISTINCT document) AS documents
        FROM reached JOIN sorted USING (document)
        GROUP BY class, number
    )
    JOIN kinds USING (number)
    JOIN (SELECT class, least_documents($min_documents, count(*)) AS least FROM documents GROUP BY class) USING (class)
    WHERE documents >= least AND NOT mark AND NOT negates AND NOT list_contains($ignore::VARCHAR[], word)
),
gathered AS (
    SELECT
        listed, cluster,
        count_if(piece = 0 AND is_negated) AS n, count_if(piece = 0 AND NOT is_negated) AS o_n,
        sum(CASE WHEN is_negated THEN attention ELSE 0 END) AS y, sum(CASE WHEN is_negated THEN 0 ELSE attention END) AS o_y
    FROM (
        SELECT
            document, listed, piece, attention,
            (document::BIGINT << 32) + position - piece IN (SELECT place FROM reached) AS is_negated
        FROM tokens JOIN listed USING (class, word)
        WHERE attention IS NOT NULL
    )
    JOIN sorted USING (document)
    GROUP BY listed, cluster
),
counted AS MATERIALIZED (
    SELECT class, word, n::DOUBLE AS n, o_n::DOUBLE AS o_n, y, o_y FROM gathered JOIN listed USING (listed)
),
summed AS (
    SELECT
        class, word, sum(n) AS negated, sum(o_n) AS plain,
        count_if(n > 0) AS negated_clusters, count_if(o_n > 0) AS plain_clusters,
        sum(y) / sum(n) AS r, sum(o_y) / sum(o_n) AS o_r,
        least(effective_clusters(sum(n), sum(n * n)), effective_clusters(sum(o_n), sum(o_n * o_n))) AS g,
        effective_clusters(sum(n), sum(n * n)) AS one, effective_clusters(sum(o_n), sum(o_n * o_n)) AS other
    FROM counted
    GROUP BY class, word
    HAVING sum(n) > 0 AND sum(o_n) > 0
),
varying AS (
    SELECT class, word, sum(((y - r * n) / negated - (o_y - o_r * o_n) / plain) ** 2) AS squares
    FROM counted JOIN summed USING (class, word)
    GROUP BY class, word
),
measured AS (
    SELECT
        *, r - o_r AS difference,
        -- Fewer than five clusters of equal size give no error estimate.
        CASE WHEN one >= 5 AND other >= 5 THEN error_of(squares * g / (g - 1), r ** 2 + o_r ** 2) END AS error
    FROM summed JOIN varying USING (class, word)
),
tested AS (
    SELECT
        *, p_value(difference / error, g - 1) AS p, t_quantile(0.975, g - 1) * error AS half
    FROM measured
),
adjusted AS (
    SELECT class, unnest(list(word ORDER BY word)) AS word, unnest(q_values(list(p ORDER BY word))) AS q
    FROM tested
    GROUP BY class
),
bounded AS (
    SELECT
        *, difference - half AS low, difference + half AS high,
        CASE
            WHEN half IS NULL THEN 0
            WHEN difference > 0 THEN greatest(0, difference - half)
            ELSE least(0, difference + half)
        END AS sure
    FROM tested JOIN adjusted USING (class, word)
)
SELECT
    class, word, negated::BIGINT AS negated, plain::BIGINT AS plain, negated_clusters, plain_clusters,
    r AS negated_evidence, o_r AS plain_evidence,
    difference, low, high, sure, p, q
FROM bounded
QUALIFY row_number() OVER (PARTITION BY class ORDER BY abs(sure)::FLOAT DESC, negated DESC, word) <= $limit
ORDER BY class, abs(sure)::FLOAT DESC, negated DESC, word
