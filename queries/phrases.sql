-- Which phrases does the model attend to most, or take as evidence, in the documents of each class?
--
-- A phrase is two to five words that follow each other in one document. A mark without a letter or digit ends
-- it (punctuation=in makes words of marks), and so does a special token or a cut.
--
-- How to read the answer: one row per class and phrase, most certain first. Of attention, `score` is the lift
-- of an occurrence: what its words get together, over what they would get if their document's attention were
-- spread evenly over the tokens, averaged over the occurrences; 1.0 is uniform. Of a score with a sign it is
-- the mean of what the words have together: above 0 the phrase supports the document's prediction, below 0 it
-- opposes it. `expected` is the same of its words wherever they stand in the class's documents: a phrase with
-- no more than that is on the list for a word in it, and not for itself. `total` is its summed attention, or
-- score, and `share` that of attention over all there is in the class's documents, special tokens and
-- punctuation included; phrases overlap, and so do these.
--
-- `low` to `high` is the 95 % interval of `score` if other documents of the kind were drawn: clusters (films, where
-- documents have a group) count as independent, and `clusters` says how many have the phrase. With fewer than two of one
-- size, or more uneven ones, there is none. `sure` is what rows are ranked by, so that rare phrases do not lead by
-- chance: `low`; of a score with a sign the end that is nearer to 0, and 0 where the interval holds 0.
--
-- What a longer phrase says, the shorter does not say again: a phrase is left out where another one, a word longer and
-- found often enough, has all of its occurrences but for one in ten (`apart`). With `words` of one length all are there.
--
-- How not to read it: as the meaning of the words together. A phrase is more than its words only if the
-- interval excludes `expected`, and even then other neighbours may be the reason. Attention is not
-- explanation (Jain and Wallace 2019; Wiegreffe and Pinter 2019).
--
-- Documents for which the store has no such score (null) are left out, and with by=label those that have no
-- label. Ties are ordered by documents, then by phrase. `expected` and `share` are read from the view
-- `totals`, in single precision. Candidates are looked for as in Apriori: words frequent enough, then pairs
-- of them, then what overlaps.
--
-- Example: attnstore query demo.attn phrases,
-- over the 220 embedded reviews, first row:
--     class=neg, phrase=the script, words=2, documents=9, clusters=9, occurrences=9, score=6.34, low=4.746,
--     high=8.468, sure=4.746, expected=5.926, total=0.4781, share=0.004018
--
-- @param reduction: signed_reduction = cls -- the attention or score: a reduction in the store
-- @param layer: layer = last -- its layer: a number from 1, first, last, mean (of all layers), or best
--     (which `attnstore faithfulness` has measured)
-- @param by: class = prediction -- what a document's class is: the model's prediction, or the gold label
-- @param words: all|2|3|4|5 = all -- phrases of so many words; all: of two to five
-- @param min_documents: count = auto -- leave out phrases found in fewer documents of the class;
--     auto: one in 200 of the class's documents, and at least 5
-- @param apart: amount = 0.1 -- what part of its occurrences a phrase has to have outside each longer one to be listed, too
-- @param punctuation: in|out = out -- whether words without any letter or digit, in any script, are words of a phrase
-- @param ignore: list = -- words that end a phrase as a mark does, as the store spells them
-- @param cluster: cluster = group -- what is independent: groups of documents (films), or documents
-- @param rank_by: sure|score|total = sure -- the column to rank by; of a score with a sign, by its distance from 0
-- @param limit: count = 20 -- rows per class
-- @columns class, phrase, documents, score, low, high, expected
-- @pair class, phrase: score, share
--
-- Source: a phrase as frequent as is asked consists of such, Agrawal and Srikant 1994, "Fast Algorithms for Mining
-- Association Rules". Scores and intervals are those of words in top_words_by_class and for_and_against.
WITH
sizes AS (
    SELECT class, least_documents($min_documents, count(*)) AS least
    FROM documents
    WHERE class IS NOT NULL
    GROUP BY class
),
singles AS MATERIALIZED (  -- words found often enough, each class's with numbers of their own
    SELECT
        class, word, (row_number() OVER (ORDER BY class, word))::INTEGER AS number,
        sum(CASE WHEN $signed THEN attention ELSE attention_lift END) AS y, sum(occurrences) AS tokens,
        sum(occurrences) FILTER (piece = 0) AS n
    FROM totals JOIN sizes USING (class)
    WHERE attention IS NOT NULL AND is_listed(word, $punctuation, $ignore)
    GROUP BY class, word
    HAVING sum(new_word) >= any_value(least) AND sum(occurrences) FILTER (piece = 0) > 0
),
blanks AS (  -- tokens that are no words and end none, such as a lone mark of white space: they go with the word behind them
    SELECT document, max(position) + 1 AS position, count(*) AS more, sum(attention) AS mass
    FROM (
        SELECT *, position - row_number() OVER (PARTITION BY document ORDER BY position) AS run
        FROM tokens
        WHERE word IS NULL AND NOT special
    )
    GROUP BY document, run
),
cuts AS (  -- where head and tail were read, the widest stretch between two tokens: what is behind it follows nothing
    SELECT document, max_by(position, stretch) AS second
    FROM (
        SELECT document, position, start - lag("end") OVER (PARTITION BY document ORDER BY position) AS stretch
        FROM tokens JOIN (SELECT document FROM documents WHERE truncated) USING (document)
        WHERE $long = 'head+tail' AND NOT special
    )
    GROUP BY document
),
placed AS (
    SELECT document, position, position + 1 AS past, number, attention
    FROM tokens JOIN singles USING (class, word)
    WHERE pieces = 1 AND attention IS NOT NULL
    UNION ALL
    SELECT document, position - piece, position - piece + any_value(pieces), any_value(number), sum(attention)
    FROM tokens JOIN singles USING (class, word)
    WHERE pieces > 1 AND attention IS NOT NULL
    GROUP BY document, position - piece
),
-- A gram is a place in a document where words found often enough follow each other: tokens from `position` to before
-- `past`. `a` and `b` are the numbers of the two of a word less that it consists of, which overlap in all but a word.
-- `second` is where its second word begins, `one` the attention to its first.
grams_1 AS (
    SELECT
        document, position - coalesce(more, 0) AS position, past, number AS gram, attention + coalesce(mass, 0) AS attention
    FROM placed LEFT JOIN blanks USING (document, position)
),
pairs_2 AS MATERIALIZED (
    SELECT
        document, position, past AS second, lead(past) OVER next AS past, gram AS a, lead(gram) OVER next AS b,
        attention AS one, attention + lead(attention) OVER next AS attention
    FROM grams_1
    WINDOW next AS (PARTITION BY document ORDER BY position)
    QUALIFY lead(position) OVER next = second
),
known_2 AS MATERIALIZED (
    SELECT a, b, (row_number() OVER ())::INTEGER AS gram, [a, b] AS numbers
    FROM pairs_2
    GROUP BY a, b
    HAVING count(*) >= (SELECT min(least) FROM sizes)
),
grams_2 AS MATERIALIZED (
    SELECT * EXCLUDE (a, b, numbers)
    FROM pairs_2 JOIN known_2 USING (a, b)
    WHERE (document, second) NOT IN (SELECT document, second FROM cuts)
),
pairs_3 AS MATERIALIZED (
    SELECT
        document, position, second, lead(past) OVER next AS past, gram AS a, lead(gram) OVER next AS b,
        one, one + lead(attention) OVER next AS attention
    FROM grams_2
    WHERE coalesce(try_cast($words AS INTEGER), 5) >= 3
    WINDOW next AS (PARTITION BY document ORDER BY position)
    QUALIFY lead(position) OVER next = second
),
known_3 AS MATERIALIZED (
    SELECT pair.a, pair.b, pair.gram, list_append(one.numbers, other.numbers[-1]) AS numbers
    FROM (
        SELECT a, b, (row_number() OVER ())::INTEGER AS gram
        FROM pairs_3
        GROUP BY a, b
        HAVING count(*) >= (SELECT min(least) FROM sizes)
    ) AS pair
    JOIN known_2 AS one ON pair.a = one.gram
    JOIN known_2 AS other ON pair.b = other.gram
),
grams_3 AS MATERIALIZED (SELECT * EXCLUDE (a, b, numbers) FROM pairs_3 JOIN known_3 USING (a, b)),
pairs_4 AS MATERIALIZED (
    SELECT
        document, position, second, lead(past) OVER next AS past, gram AS a, lead(gram) OVER next AS b,
        one, one + lead(attention) OVER next AS attention
    FROM grams_3
    WHERE coalesce(try_cast($words AS INTEGER), 5) >= 4
    WINDOW next AS (PARTITION BY document ORDER BY position)
    QUALIFY lead(position) OVER next = second
),
known_4 AS MATERIALIZED (
    SELECT pair.a, pair.b, pair.gram, list_append(one.numbers, other.numbers[-1]) AS numbers
    FROM (
        SELECT a, b, (row_number() OVER ())::INTEGER AS gram
        FROM pairs_4
        GROUP BY a, b
        HAVING count(*) >= (SELECT min(least) FROM sizes)
    ) AS pair
    JOIN known_3 AS one ON pair.a = one.gram
    JOIN known_3 AS other ON pair.b = other.gram
),
grams_4 AS MATERIALIZED (SELECT * EXCLUDE (a, b, numbers) FROM pairs_4 JOIN known_4 USING (a, b)),
pairs_5 AS MATERIALIZED (
    SELECT
        document, position, second, lead(past) OVER next AS past, gram AS a, lead(gram) OVER next AS b,
        one, one + lead(attention) OVER next AS attention
    FROM grams_4
    WHERE coalesce(try_cast($words AS INTEGER), 5) >= 5
    WINDOW next AS (PARTITION BY document ORDER BY position)
    QUALIFY lead(position) OVER next = second
),
known_5 AS MATERIALIZED (
    SELECT pair.a, pair.b, pair.gram, list_append(one.numbers, other.numbers[-1]) AS numbers
    FROM (
        SELECT a, b, (row_number() OVER ())::INTEGER AS gram
        FROM pairs_5
        GROUP BY a, b
        HAVING count(*) >= (SELECT min(least) FROM sizes)
    ) AS pair
    JOIN known_4 AS one ON pair.a = one.gram
    JOIN known_4 AS other ON pair.b = other.gram
),
grams_5 AS MATERIALIZED (SELECT * EXCLUDE (a, b, numbers) FROM pairs_5 JOIN known_5 USING (a, b)),
found AS (
    SELECT
        words, gram, document, count(*) AS n, sum(attention) AS total,
        sum(CASE WHEN $signed THEN attention ELSE attention / (past - position) END) AS y
    FROM (
        SELECT 2 AS words, gram, document, position, past, attention FROM grams_2
        UNION ALL
        SELECT 3, gram, document, position, past, attention FROM grams_3
        UNION ALL
        SELECT 4, gram, document, position, past, attention FROM grams_4
        UNION ALL
        SELECT 5, gram, document, position, past, attention FROM grams_5
    )
    WHERE $words = 'all' OR words = try_cast($words AS INTEGER)
    GROUP BY words, gram, document
),
gathered AS (
    SELECT
        words, gram, cluster, count(*) AS documents, sum(n) AS n, sum(total) AS total,
        sum(CASE WHEN $signed THEN y ELSE y * length END) AS y
    FROM found JOIN (SELECT document, cluster, length FROM documents) USING (document)
    GROUP BY words, gram, cluster
),
summed AS (
    SELECT
        words, gram, sum(documents) AS documents, count(*) AS clusters, sum(n) AS n,
        sum(total) AS total, sum(y) / sum(n) AS score, effective_clusters(sum(n), sum(n * n)) AS g,
        sum(y * y) AS yy, sum(y * n) AS yn, sum(n * n) AS nn
    FROM gathered
    GROUP BY words, gram
),
spelled AS (
    SELECT
        words, gram, any_value(a) AS a, any_value(b) AS b, any_value(class) AS class,
        string_agg(word, ' ' ORDER BY place) AS phrase,
        CASE WHEN $signed THEN sum(y / n) ELSE sum(y / n) / sum(tokens / n) END AS expected
    FROM (
        SELECT 2 AS words, gram, a, b, unnest(numbers) AS number, unnest(range(2)) AS place FROM known_2
        UNION ALL
        SELECT 3, gram, a, b, unnest(numbers), unnest(range(3)) FROM known_3
        UNION ALL
        SELECT 4, gram, a, b, unnest(numbers), unnest(range(4)) FROM known_4
        UNION ALL
        SELECT 5, gram, a, b, unnest(numbers), unnest(range(5)) FROM known_5
    )
    JOIN singles USING (number)
    GROUP BY words, gram
),
frequent AS (
    SELECT * FROM summed JOIN spelled USING (words, gram) JOIN sizes USING (class) WHERE documents >= least
),
longer AS (  -- of the phrases a word longer that hold it, the one found most often
    SELECT words - 1 AS words, gram, max(n) AS inside
    FROM (SELECT words, a AS gram, n FROM frequent UNION ALL SELECT words, b, n FROM frequent)
    GROUP BY words, gram
),
whole AS (SELECT class, sum(attention) AS every FROM totals WHERE attention IS NOT NULL GROUP BY class),
measured AS (
    SELECT *, t_quantile(0.975, g - 1) * sqrt(ratio_variance(score, n, yy, yn, nn, g)) AS half
    FROM frequent LEFT JOIN longer USING (words, gram)
    WHERE inside IS NULL OR inside < (1 - $apart) * n
),
bounded AS (
    SELECT
        *,
        CASE WHEN $signed THEN score - half ELSE low_end(score, half) END AS low,
        CASE WHEN $signed THEN score + half ELSE high_end(score, half) END AS high
    FROM measured
),
sured AS (
    SELECT
        *,
        CASE
            WHEN NOT $signed OR half IS NULL THEN low
            WHEN score > 0 THEN greatest(0, low)
            ELSE least(0, high)
        END AS sure
    FROM bounded
),
ranked AS (
    SELECT
        *,
        -- Single precision: the order in which floats are added must not decide the order of equal ranks.
        (CASE $rank_by WHEN 'sure' THEN sure WHEN 'score' THEN score ELSE total END
            * CASE WHEN $signed AND score < 0 THEN -1 ELSE 1 END)::FLOAT AS rank
    FROM sured
)
SELECT
    class, phrase, words, documents::BIGINT AS documents, clusters, n::BIGINT AS occurrences,
    score, low, high, sure, expected, total, CASE WHEN NOT $signed THEN total / nullif(every, 0) END AS share
FROM ranked JOIN whole USING (class)
QUALIFY row_number() OVER (PARTITION BY class ORDER BY rank DESC NULLS LAST, documents DESC, phrase) <= $limit
ORDER BY class, rank DESC NULLS LAST, documents DESC, phrase
