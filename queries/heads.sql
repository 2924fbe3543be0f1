-- What does each head look at: is it broad or sharp, does it rest on sinks, which words does it favour?
--
-- How to read the answer: one row per class, layer and head. `entropy` (nats) is the mean entropy of the head's
-- attention over the class's documents, and `effective_tokens` is the mean of its exponential: the number of
-- tokens that would have this entropy with equal attention. `specials` and `punctuation` are the shares of the
-- head's attention that go to special tokens ([CLS], [SEP]) and to words without any letter or digit. `words`
-- are those with the highest lift (attention of an occurrence relative to even attention, averaged over the
-- occurrences), highest first. A specialist has few effective tokens, gives sinks little, and its words have
-- something in common; compare its rows across classes.
--
-- How not to read it: as what the prediction depends on. A head attends to the positions of one layer, and each
-- position already holds what earlier layers gathered. Many heads can be removed without loss (Michel et al.
-- 2019), so what a head looks at need not matter. Among hundreds of heads, some will look like specialists by
-- chance.
--
-- It needs a reduction with a value per head, such as cls_heads: `attnstore run ... --reduce cls_heads`. Tokens
-- with a null value are left out; with by=label, so are documents without a label. `documents` counts those
-- with an entropy: the head has a value for each token, none is negative, and not all are 0. Words of equal
-- lift are ordered by documents, then by word. Entropies are read from the view `documents`, all else from the
-- view `totals`.
--
-- Example: attnstore query heads.attn heads -p layer=all -p limit=6,
-- over the 220 embedded reviews, first row:
--     class=neg, layer=1, head=1, documents=119, entropy=4.476, effective_tokens=126, specials=0.1499,
--     punctuation=0.1331, words=supposed, stars, something, best, maybe, stuff
--
-- @param reduction: heads = cls_heads -- a reduction that has a value per head
-- @param layer: layer = last -- its layer: a number from 1, first, last, or all, which takes longer
-- @param by: class = prediction -- what defines a document's class: the model's prediction, or the gold label
-- @param min_documents: count = auto -- leave out words found in fewer documents of the class; auto: one in 200
--     of the class's documents, and at least 5
-- @param limit: count = 8 -- words per head
-- @columns class, layer, head, effective_tokens, specials, words
--
-- Source: entropy and favoured tokens of heads, Clark et al. 2019, "What Does BERT Look At?", sections 3.2 and
-- 3.3; effective numbers as in `concentration`.
WITH
spread AS (  -- a list element per head, layer by layer
    SELECT
        class,
        unnest([*COLUMNS('^attention_[0-9]+_[0-9]+_entropy$')]) AS entropy,
        unnest(range(0, len([*COLUMNS('^attention_[0-9]+_[0-9]+_entropy$')]))) AS place
    FROM documents
    WHERE class IS NOT NULL
),
entropies AS (
    SELECT class, place, count(*) AS documents, avg(entropy) AS entropy, avg(exp(entropy)) AS effective_tokens
    FROM spread
    WHERE entropy IS NOT NULL
    GROUP BY class, place
),
summed AS (  -- per word, and per special token
    SELECT
        class, special, word,
        sum(new_word)::BIGINT AS documents,
        sum(CASE WHEN piece = 0 THEN occurrences ELSE 0 END) AS occurrences,
        sum(COLUMNS('^attention_[0-9]+_[0-9]+$')) AS 'mass_\0',
        sum(COLUMNS('^attention_[0-9]+_[0-9]+_lift$') / pieces) AS 'lift_\0'
    FROM totals
    WHERE class IS NOT NULL AND COLUMNS('^attention_[0-9]+_[0-9]+$') IS NOT NULL
    GROUP BY class, special, word
),
by_word AS (
    SELECT
        class, special, word, documents, occurrences,
        word IS NOT NULL AND NOT regexp_matches(word, '[\p{L}\p{N}]') AS punctuation,
        unnest([*COLUMNS('^mass_')]) AS mass,
        unnest([*COLUMNS('^lift_')]) AS lift,
        unnest(range(0, len([*COLUMNS('^mass_')]))) AS place
    FROM summed
),
shares AS (
    SELECT
        class, place,
        sum(CASE WHEN special THEN mass ELSE 0 END) / nullif(sum(mass), 0) AS specials,
        sum(CASE WHEN punctuation THEN mass ELSE 0 END) / nullif(sum(mass), 0) AS punctuation
    FROM by_word
    GROUP BY class, place
),
support AS (
    SELECT class, least_documents($min_documents, count(*)) AS least
    FROM documents
    GROUP BY class
),
favoured AS (
    SELECT
        class, place, word,
        -- Single precision, so that the order of summation does not decide ties.
        row_number() OVER (
            PARTITION BY class, place ORDER BY (lift / occurrences)::FLOAT DESC, documents DESC, word
        ) AS number
    FROM by_word JOIN support USING (class)
    WHERE word IS NOT NULL AND NOT punctuation AND occurrences > 0 AND documents >= least
    QUALIFY number <= $limit
),
listed AS (
    SELECT class, place, string_agg(word, ', ' ORDER BY number) AS words
    FROM favoured
    GROUP BY class, place
)
SELECT
    class,
    (place // $heads + coalesce(try_cast($layer AS INTEGER), 1))::INTEGER AS layer,
    (place % $heads + 1)::INTEGER AS head,
    documents, entropy, effective_tokens, specials, punctuation,
    coalesce(words, '') AS words
FROM entropies JOIN shares USING (class, place) LEFT JOIN listed USING (class, place)
ORDER BY class, place
