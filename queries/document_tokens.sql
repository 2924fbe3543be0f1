-- What does the model attend to in one document? Lists its tokens in order.
--
-- How to read the answer: one row per token. `attention` is the chosen reduction's value; `lift` is attention
-- × tokens of the document: 1.0 is what even attention would give. Of a signed score (evidence: above 0 for
-- the prediction, below 0 against it) there is no lift (null). `word` is the whole word a token belongs to,
-- `piece` its place in it (from 0) and `pieces` how many the word has; `segment` is 1 in the second text of a
-- pair, else 0. All four are null for special tokens. `start` and `end` (exclusive) are characters of the
-- document's text, of its second one where `segment` is 1. What stands beyond the last token of a truncated
-- document is not here: the model did not see it.
--
-- Example: attnstore query imdb.attn document_tokens -p document=test/neg/5202_1,
-- over the 25,000 IMDb test reviews, first row:
--     position=0, token=[CLS], word=null, piece=null, pieces=null, segment=null, start=0, end=0,
--     special=true, attention=0.03345, lift=17.12
--
-- @param document: document -- its id, or its number
-- @param reduction: signed_reduction = cls -- the attention or score: a reduction in the store
-- @param layer: layer = last -- its layer: a number from 1, first, last, mean (of all layers), or best
--     (which `attnstore faithfulness` has measured)
-- @param head: head = mean -- of a reduction with a value per head, such as cls_heads: which one, counted from 1, or
--     the mean of all
-- @columns position, token, word, special, attention, lift
SELECT
    position, token, word, piece, pieces, segment, start, "end", special, attention,
    CASE WHEN NOT $signed THEN attention * length END AS lift
FROM tokens
WHERE document = $document
ORDER BY position
