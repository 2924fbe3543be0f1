-- Which words support a prediction, and which oppose it, in the documents of each predicted class?
--
-- How to read the answer: for each class, the words with the most certain evidence, with `side` for or against.
-- `evidence` is the word's signed score, summed over its pieces and averaged over its occurrences: above 0 the
-- word supports the document's prediction, below 0 it opposes it. To first order, it is how much the margin of
-- the prediction (its logit over the others) would fall if the last layer's [CLS] row paid no attention to the
-- word, per head.
--
-- `low` and `high` are its 95 % interval for other documents of the same kind. Clusters (such as films, if
-- documents have a group) count as independent; `clusters` is their number. An interval needs two clusters of
-- equal size, or more if they are uneven. `sure` is the end of the interval nearer to 0, or 0 if the interval
-- includes 0: words are ranked by it, so that rare ones do not lead by chance. `rank_by=evidence` ranks by the
-- mean. `share_for` is the share of the occurrences whose own evidence is above 0. Without `intervals` all of
-- these are null, words are ranked by the mean, and the answer is read from the view `totals`, in single
-- precision.
--
-- How not to read it: as what the model knows about a word. A gradient describes the effect of a small change,
-- and a word may support one prediction here and another elsewhere. A word with evidence on both sides is
-- listed only if its mean clearly differs from 0. `attnstore faithfulness` measures how faithful the score is.
--
-- Documents for which the store has no evidence (null) are left out. Ties are ordered by documents, then by
-- word.
--
-- Example: attnstore query demo.attn for_and_against -p limit=3,
-- over the 220 embedded reviews, first row:
--     class=neg, side=for, word=dull, documents=14, occurrences=14, clusters=14, evidence=0.01377,
--     low=0.006626, high=0.0209, sure=0.006626, share_for=1
--
-- @param reduction: signed_reduction = evidence -- which score: a signed one in the store
-- @param layer: layer = last -- its layer, if the score has one per layer
-- @param by: class = prediction -- what defines a document's class: the model's prediction, or the gold label
-- @param min_documents: count = auto -- leave out words found in fewer documents of the class; auto: one in 200
--     of the class's documents, and at least 5
-- @param punctuation: in|out = out -- list words without any letter or digit, in any script
-- @param ignore: list = -- words to leave out, as the store spells them
-- @param cluster: cluster = group -- what counts as independent: groups of documents (films), or documents
-- @param intervals: boolean = true -- compute `clusters`, `low`, `high`, `sure` and `share_for`
-- @param rank_by: sure|evidence = sure -- the column to rank by; without intervals it is `evidence`
-- @param limit: count = 20 -- rows per class and side
-- @columns class, side, word, documents, evidence, low, high
-- @pair class, word: evidence, share_for
--
-- Source: attention times its gradient, as in Chefer et al. 2021, "Generic Attention-model Explainability", eq.
-- 5, but keeping negative values and for the last layer only. The interval: the ratio of two sums over
-- clusters, Cochran 1977, "Sampling Techniques", section 6.3, with Student's t and the effective number of
-- clusters (Kish 1965) minus one as degrees of freedom.
WITH
sizes AS (
    SELECT class, least_documents($min_documents, count(*)) AS least
    FROM documents
    WHERE class IS NOT NULL
    GROUP BY class
),
known AS MATERIALIZED (  -- the words found often enough, numbered: comparing the words of all tokens is slow
    SELECT
        class, term AS word, (row_number() OVER ())::INTEGER AS number,
        sum(new) AS documents, sum(occurrences) AS n, sum(attention) AS y
    FROM terms_of_totals('word', 'out') JOIN sizes USING (class)
    WHERE is_listed(term, $punctuation, $ignore)
    GROUP BY class, term
    HAVING sum(new) >= any_value(least)
),
occurrences AS (
    SELECT document, number, attention AS evidence, new_word AS is_new
    FROM tokens JOIN known USING (class, word)
    WHERE $intervals AND pieces = 1 AND attention IS NOT NULL
    UNION ALL
    SELECT document, number, sum(attention), bool_or(new_word)
    FROM tokens JOIN known USING (class, word)
    WHERE $intervals AND pieces > 1 AND attention IS NOT NULL
    GROUP BY document, number, position - piece
),
gathered AS (
    SELECT
        number, cluster,
        sum(evidence) AS y, count(*) AS n, count_if(evidence > 0) AS positive, count_if(is_new) AS documents
    FROM occurrences JOIN (SELECT document, cluster FROM documents) USING (document)
    GROUP BY number, cluster
),
summed AS (
    SELECT
        number, sum(documents) AS documents, sum(n) AS n, count(*) AS clusters,
        sum(y) / sum(n) AS evidence, sum(positive) / sum(n) AS share_for,
        effective_clusters(sum(n), sum(n * n)) AS g,
        sum(y * y) AS yy, sum(y * n) AS yn, sum(n * n) AS nn
    FROM gathered GROUP BY number
    UNION ALL
    SELECT number, documents, n, NULL, y / n, NULL, NULL, NULL, NULL, NULL
    FROM known
    WHERE NOT $intervals
),
estimated AS (
    SELECT *, t_quantile(0.975, g - 1) * sqrt(ratio_variance(evidence, n, yy, yn, nn, g)) AS half FROM summed
),
bounded AS (
    SELECT
        *, evidence - half AS low, evidence + half AS high,
        CASE
            WHEN NOT $intervals THEN NULL
            WHEN evidence > 0 THEN greatest(0, evidence - half)
            ELSE least(0, evidence + half)
        END AS sure,
        CASE WHEN evidence > 0 THEN 'for' ELSE 'against' END AS side
    FROM estimated JOIN (SELECT class, word, number FROM known) USING (number)
    WHERE evidence <> 0
),
ranked AS (
    SELECT *, row_number() OVER (
        PARTITION BY class, side
        ORDER BY
            abs(CASE WHEN $rank_by = 'sure' AND $intervals THEN sure ELSE evidence END)::FLOAT DESC NULLS LAST,
            documents DESC, word
    ) AS place
    FROM bounded
)
SELECT
    class, side, word, documents::BIGINT AS documents, n::BIGINT AS occurrences, clusters::BIGINT AS clusters,
    evidence, low, high, sure, share_for
FROM ranked
WHERE place <= $limit
ORDER BY class, side DESC, place
