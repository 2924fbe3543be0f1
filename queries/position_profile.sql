-- Where in a document does attention go: the beginning, the end, which tenth?
--
-- How to read the answer: one row per class and place. With `part` = `tenth`, `place` 1 to 10 are the tenths of
-- each document, by its own length; with `start`, place 1 is the first token ([CLS], if the model has one) and
-- 2 the next; with `end`, place 1 is the last token ([SEP]). `share` is the place's share of all attention in
-- the class's documents, and `lift` is the attention of a token there relative to even attention: 1.0 is
-- uniform. `tokens` counts the tokens in that place, `documents` the class's documents that have one there.
--
-- How not to read it: as the whole document. The model saw at most `max_length` tokens (see `truncation`), and
-- the last tenth of a truncated document is not its end. The first and last positions are mostly special
-- tokens; specials=out measures lift and share among the others, with positions unchanged. Attention by
-- position is partly a habit of the model, whatever the words: compare classes, layers, and documents of equal
-- length.
--
-- Documents where the reduction is null are left out; with by=label, so are those without a label. `share` is
-- null if all attention sums to 0.
--
-- Example: attnstore query imdb.attn position_profile -p places=2,
-- over the 25,000 IMDb test reviews, first row:
--     class=neg, part=tenth, place=1, documents=12277, tokens=343130, share=0.1793, lift=1.701
--
-- @param reduction: reduction = cls -- which attention: a reduction in the store
-- @param layer: layer = last -- its layer: a number from 1, first, last, mean (over all layers), or best (as
--     measured by `attnstore faithfulness`)
-- @param by: class = prediction -- what defines a document's class: the model's prediction, or the gold label
-- @param specials: in|out = in -- count special tokens, such as [CLS] and [SEP]
-- @param places: count = 5 -- how many first and last tokens get their own row
-- @pair class, part, place: share, lift
--
-- Source: attention by relative position, Clark et al. 2019, "What Does BERT Look At?", section 3.1, applied to
-- documents instead of pairs of tokens; the lift is ours.
WITH
counted AS (
    SELECT document, class, position, length, attention
    FROM tokens
    WHERE class IS NOT NULL AND attention IS NOT NULL AND ($specials = 'in' OR NOT special)
),
placed AS (
    SELECT
        class, 'tenth' AS part, (position * 10) // length + 1 AS place,
        count(DISTINCT document) AS documents, count(*) AS tokens,
        sum(attention) AS mass, sum(attention * length) AS lift
    FROM counted
    GROUP BY class, place
    UNION ALL
    SELECT
        class, 'start', position + 1,
        count(*), count(*), sum(attention), sum(attention * length)
    FROM counted
    WHERE position < $places
    GROUP BY class, position
    UNION ALL
    SELECT
        class, 'end', length - position,
        count(*), count(*), sum(attention), sum(attention * length)
    FROM counted
    WHERE length - position <= $places
    GROUP BY class, length - position
)
SELECT
    class, part, place::INTEGER AS place, documents, tokens,
    mass / nullif(sum(CASE WHEN part = 'tenth' THEN mass END) OVER (PARTITION BY class), 0) AS share,
    lift / tokens AS lift
FROM placed
ORDER BY class, CASE part WHEN 'tenth' THEN 1 WHEN 'start' THEN 2 ELSE 3 END, place
