-- In which other documents does the model look at the same words?
--
-- How to read the answer: one row per document, the most similar first. Each document's attention is summed by
-- word and normalised to sum to 1, without special tokens and punctuation. `similarity` is the Bhattacharyya
-- coefficient of the two distributions, Σ √(p q): 1 if the same words get the same shares, 0 if no word is
-- attended to in both. `words` are the five that add most to it. Documents that look alike here may be copies,
-- reviews of one film, or arguments with the same words; if their predictions differ, read both.
--
-- How not to read it: as similarity of meaning or style. Frequent words are in every document and raise every
-- similarity: trust the order rather than the value. Short documents have few words to share.
--
-- Documents are left out if their words get no attention, or if the reduction is null or has negative values.
-- Ties are in data set order.
--
-- Example: attnstore query imdb.attn similar_documents -p document=test/neg/5202_1 -p limit=4,
-- over the 25,000 IMDb test reviews, first row:
--     document=651, id=test/neg/10587_1, split=test, label=neg, prediction=neg, probability=0.995,
--     similarity=0.4685, words=awful, movie, buy, the, and, beginning=i expected this movie to be
--     absolutely god awful. Like "W…
--
-- @param document: document -- its id, or its number
-- @param reduction: reduction = cls -- which attention: a reduction in the store
-- @param layer: layer = last -- its layer: a number from 1, first, last, mean (over all layers), or best (as
--     measured by `attnstore faithfulness`)
-- @param ignore: list = -- words to leave out, as the store spells them
-- @param limit: count = 10 -- rows
-- @columns id, prediction, similarity, words, beginning
--
-- Source: Bhattacharyya 1943. Comparing documents by the words attended to in them is ours: it finds near
-- copies, and twins across classes that a list of errors hides.
WITH
vocabulary AS (
    SELECT word
    FROM (SELECT DISTINCT word FROM totals WHERE word IS NOT NULL)
    WHERE regexp_matches(word, '[\p{L}\p{N}]') AND NOT list_contains($ignore::VARCHAR[], word)
),
masses AS (
    SELECT document, sum(attention) AS total, min(attention) AS least
    FROM tokens SEMI JOIN vocabulary USING (word)
    WHERE attention IS NOT NULL
    GROUP BY document
),
usable AS (
    SELECT document, total
    FROM masses
    WHERE total > 0 AND least >= 0
),
own AS (
    SELECT word, sum(attention) / any_value(total) AS share
    FROM tokens JOIN usable USING (document) SEMI JOIN vocabulary USING (word)
    WHERE document = $document
    GROUP BY word
),
theirs AS (
    SELECT tokens.document, word, sum(attention) AS mass, any_value(own.share) AS share
    FROM tokens JOIN own USING (word)
    WHERE tokens.document <> $document AND attention > 0
    GROUP BY tokens.document, word
),
products AS (
    SELECT document, word, sqrt(mass / total * share) AS product
    FROM theirs JOIN usable USING (document)
),
best AS (
    SELECT document, sum(product) AS similarity
    FROM products
    GROUP BY document
    ORDER BY similarity::FLOAT DESC, document
    LIMIT $limit
),
shared AS (
    SELECT
        document, word,
        row_number() OVER (PARTITION BY document ORDER BY product::FLOAT DESC, word) AS number
    FROM products SEMI JOIN best USING (document)
    QUALIFY number <= 5
),
listed AS (
    SELECT document, string_agg(word, ', ' ORDER BY number) AS words
    FROM shared
    GROUP BY document
)
SELECT
    document, id, split, label, prediction, probability, similarity, words,
    left(trim(regexp_replace(left(text, 300), '[ \t\r\n]+', ' ', 'g'), ' '), 80) AS beginning
FROM best JOIN documents USING (document) JOIN listed USING (document)
ORDER BY similarity::FLOAT DESC, document
