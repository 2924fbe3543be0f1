-- Where does a word get its attention: in which occurrences, in what context?
--
-- How to read the answer: one row per occurrence, `limit` rows per class. `attention` is the sum over the
-- word's pieces; `lift` is this sum relative to what the pieces would get if the document's attention were
-- spread evenly over its tokens. `left` and `right` are the text around `keyword`, as in the document except
-- for white space. Each side has `width` words, where a punctuation mark counts as a word. In a pair, both come
-- from the text that contains the word.
--
-- How not to read it: as a sample. These are the extremes; top_words_by_class shows how far they are from the
-- average. Spell the word as the store does, in lower case. A phrase is not a word: ask for its rarest word.
--
-- Occurrences in documents where the reduction is null are left out; with by=label, so are those in documents
-- without a label. Ties are in data set order.
--
-- Example: attnstore query imdb.attn contexts -p word=awful -p limit=3,
-- over the 25,000 IMDb test reviews, first row:
--     class=neg, document=7169, id=test/neg/5202_1, label=neg, prediction=neg, left=This is an,
--     keyword=awful, right=movie from just about every point of view, attention=0.208, lift=106.5
--
-- @param word: text -- the word, as the store spells it
-- @param reduction: reduction = cls -- which attention: a reduction in the store
-- @param layer: layer = last -- its layer: a number from 1, first, last, mean (over all layers), or best (as
--     measured by `attnstore faithfulness`)
-- @param by: class = prediction -- what defines a document's class: the model's prediction, or the gold label
-- @param order: most|least = most -- the most attended occurrences, or the least
-- @param width: count = 8 -- words on each side
-- @param limit: count = 10 -- rows per class
-- @columns class, id, …left, keyword, right, lift
--
-- Source: keyword in context, Luhn 1960.
WITH
occurrences AS (
    SELECT
        class, document,
        position - piece AS place, any_value(segment) AS segment,
        min(start) AS start, max("end") AS finish,
        sum(attention) AS attention,
        sum(attention * length / pieces) AS lift
    FROM tokens
    WHERE word = $word AND class IS NOT NULL AND attention IS NOT NULL
    GROUP BY class, document, place
),
best AS (
    SELECT *, (CASE WHEN $order = 'most' THEN lift ELSE -lift END)::FLOAT AS rank
    FROM occurrences
    QUALIFY row_number() OVER (PARTITION BY class ORDER BY rank DESC, document, place) <= $limit
),
numbered AS (  -- the words of these documents in order; the two texts of a pair separately
    SELECT
        document, segment, position, start,
        row_number() OVER (PARTITION BY document, segment ORDER BY position) AS number
    FROM tokens
    WHERE piece = 0 AND document IN (SELECT document FROM best)
),
seen AS (
    SELECT document, segment, max("end") AS seen
    FROM tokens
    WHERE document IN (SELECT document FROM best)
    GROUP BY document, segment
),
placed AS (  -- a word that begins before the document's first whole word has no number
    SELECT best.*, coalesce(number, 0) AS number
    FROM best LEFT JOIN numbered ON numbered.document = best.document AND numbered.position = best.place
),
bounded AS (
    SELECT
        placed.*,
        coalesce(before.start, 0) AS begins,
        coalesce(after.start, seen) AS ends
    FROM placed
    JOIN seen USING (document, segment)
    LEFT JOIN numbered AS before
        ON before.document = placed.document AND before.segment = placed.segment
        AND before.number = placed.number - $width
    LEFT JOIN numbered AS after
        ON after.document = placed.document AND after.segment = placed.segment
        AND after.number = placed.number + $width + 1
),
written AS (
    SELECT
        bounded.*, id, label, prediction,
        CASE WHEN bounded.segment = 1 THEN text_pair ELSE text END AS text
    FROM bounded JOIN (SELECT document, id, label, prediction, text, text_pair FROM documents) USING (document)
)
SELECT
    class, document, id, label, prediction,
    trim(regexp_replace(substring(text, begins + 1, start - begins), '[ \t\r\n]+', ' ', 'g'), ' ') AS "left",
    substring(text, start + 1, finish - start) AS keyword,
    trim(regexp_replace(substring(text, finish + 1, ends - finish), '[ \t\r\n]+', ' ', 'g'), ' ') AS "right",
    attention, lift
FROM written
ORDER BY class, rank DESC, document, place
