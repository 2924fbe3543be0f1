-- What does the model attend to in one document? Lists its tokens in order.
--
-- How to read the answer: one row per token. `attention` is the value of the chosen reduction; `lift` is
-- attention × tokens of the document: 1.0 is uniform. A signed score (such as evidence: above 0 for the
-- prediction, below 0 against it) has no lift (null). `word` is the whole word that a token belongs to, `piece`
-- its position in the word (from 0), and `pieces` the number of pieces in the word. `segment` is 1 in the
-- second text of a pair, otherwise 0. All four are null for special tokens. `start` and `end` (exclusive) are
-- character offsets in the document's text, or in its second text where `segment` is 1. Text beyond the last
-- token of a truncated document is not here: the model did not see it.
--
-- Example: attnstore query imdb.attn document_tokens -p document=test/neg/5202_1,
-- over the 25,000 IMDb test reviews, first row:
--     position=0, token=[CLS], word=null, piece=null, pieces=null, segment=null, start=0, end=0,
--     special=true, attention=0.03345, lift=17.12
--
-- @param document: document -- its id, or its number
-- @param reduction: signed_reduction = cls -- which attention or score: a reduction in the store
-- @param layer: layer = last -- its layer: a number from 1, first, last, mean (over all layers), or best (as
--     measured by `attnstore faithfulness`)
-- @param head: head = mean -- for a reduction with a value per head, such as cls_heads: a head, counted from 1,
--     or the mean of all
-- @columns position, token, word, special, attention, lift
SELECT
    position, token, word, piece, pieces, segment, start, "end", special, attention,
    CASE WHEN NOT $signed THEN attention * length END AS lift
FROM tokens
WHERE document = $document
ORDER BY position
