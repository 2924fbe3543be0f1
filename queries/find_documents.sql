-- Which documents is the model most, or least, confident about, and whose attention is most concentrated?
--
-- How to read the answer: one row per document. `probability` is that of the prediction, `margin` its lead over
-- the next class. `entropy` (nats) is that of the document's attention, normalised to sum to 1.
-- `effective_tokens` is its exponential: the number of tokens that would have this entropy with equal
-- attention. `sort` chooses which documents come first: `certain` or `uncertain` by the margin, `concentrated`
-- or `spread` by the entropy, `longest` or `shortest` by the tokens seen. outcome=wrong with sort=certain gives
-- the most confident errors, which often have a wrong label or a misleading text; pass a document's `id` to
-- document_tokens or `attnstore show`.
--
-- How not to read it: as frequencies. Probabilities are the softmax of logits, and those of a fine-tuned model
-- are often too close to 1; only their order matters. Short documents have low entropy: use min_length.
--
-- `entropy` is null if the reduction is null, has negative values, or sums to 0; such documents come last when
-- sorted by it. If the labels are missing, or are not the model's classes, no document is right or wrong. Ties
-- are in data set order.
--
-- Example: attnstore query imdb.attn find_documents -p outcome=wrong -p limit=5,
-- over the 25,000 IMDb test reviews, first row:
--     document=9666, id=test/neg/7450_4, split=test, label=neg, prediction=pos, probability=0.9958,
--     margin=0.9916, length=185, truncated=false, entropy=5.019, effective_tokens=151.3, beginning='Ernest
--     Saves Christmas' is comedian Ernest's Christmas s…
--
-- @param sort: certain|uncertain|concentrated|spread|longest|shortest = certain -- which documents come first
-- @param outcome: any|right|wrong = any -- all, or those predicted right or wrong
-- @param prediction: model_class = auto -- only documents with this prediction; auto: any
-- @param label: text = auto -- only documents with this gold label; auto: any label, or none
-- @param min_length: count = 0 -- only documents of at least this many tokens, including special ones
-- @param max_length: count = auto -- only documents of at most this many tokens; auto: any
-- @param reduction: reduction = cls -- which attention: a reduction in the store
-- @param layer: layer = last -- its layer: a number from 1, first, last, mean (over all layers), or best (as
--     measured by `attnstore faithfulness`)
-- @param specials: in|out = in -- count the attention of special tokens, or of the others only
-- @param limit: count = 20 -- rows
-- @columns id, label, prediction, probability, length, beginning
--
-- Source: margins as certainty, Scheffer et al. 2001; entropy and effective numbers as in `concentration`.
WITH
measured AS (
    SELECT
        document,
        CASE
            WHEN count(attention) > 0 AND min(attention) >= 0 AND sum(attention) > 0
            -- For a single token it is exactly 0, despite rounding.
            THEN greatest(0, ln(sum(attention)) - sum(
                CASE WHEN attention > 0 THEN attention * ln(attention) ELSE 0 END
            ) / sum(attention))
        END AS entropy
    FROM tokens
    WHERE $specials = 'in' OR NOT special
    GROUP BY document
),
found AS (
    SELECT
        document, id, split, label, prediction, probability,
        list_sort(probabilities, 'DESC') AS sorted,
        length, truncated, entropy,
        left(trim(regexp_replace(left(text, 300), '[ \t\r\n]+', ' ', 'g'), ' '), 80) AS beginning
    FROM documents LEFT JOIN measured USING (document)
    WHERE
        ($outcome = 'any' OR ($labels_are_models AND (label = prediction) = ($outcome = 'right')))
        AND ($prediction IS NULL OR prediction = $prediction)
        AND ($label IS NULL OR label = $label)
        AND length >= $min_length
        AND ($max_length IS NULL OR length <= $max_length)
),
ranked AS (
    SELECT
        *,
        sorted[1]::DOUBLE - coalesce(sorted[2], 0)::DOUBLE AS margin,
        CASE $sort
            WHEN 'certain' THEN margin WHEN 'uncertain' THEN -margin
            WHEN 'concentrated' THEN -entropy WHEN 'spread' THEN entropy
            WHEN 'longest' THEN length ELSE -length
        END::FLOAT AS rank
    FROM found
)
SELECT
    document, id, split, label, prediction, probability, margin, length, truncated,
    entropy, exp(entropy) AS effective_tokens, beginning
FROM ranked
ORDER BY rank DESC NULLS LAST, document
LIMIT $limit
