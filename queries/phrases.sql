-- Which phrases does the model attend to most, or take as evidence, in the documents of each class?
--
-- A phrase is two to five consecutive words of one document. It ends at a mark without a letter or digit
-- (unless punctuation=in makes marks words), at a special token, and where text was cut out.
--
-- How to read the answer: one row per class and phrase, most certain first. For attention, `score` is the lift
-- of an occurrence: what its words get together, relative to what they would get if their document's attention
-- were spread evenly over the tokens, averaged over the occurrences; 1.0 is uniform. For a signed score, it is
-- the mean of what its words have together: above 0 the phrase supports the document's prediction, below 0 it
-- opposes it. `expected` is the same for its words wherever they stand in the class's documents: a phrase that
-- scores no more than that is listed for one of its words, not for itself. `total` is its summed attention or
-- score, and `share` is its share of all attention in the class's documents, including special tokens and
-- punctuation. Phrases overlap, and so do their totals and shares.
--
-- `low` to `high` is the 95 % interval of `score` for other documents of the same kind. Clusters (such as
-- films, if documents have a group) count as independent; `clusters` says how many have the phrase. An interval
-- needs two clusters of equal size, or more if they are uneven. Rows are ranked by `sure`, so that rare phrases
-- do not lead by chance: it is `low` or, for a signed score, the end of the interval nearer to 0 (0 if the
-- interval includes 0).
--
-- A phrase is left out if a longer one says the same: if another phrase, one word longer and found often
-- enough, has all of its occurrences except for one in ten (`apart`). With `words` of one length, none is left
-- out for this reason.
--
-- How not to read it: as the meaning of the words together. A phrase is more than its words only if the
-- interval excludes `expected`, and even then other neighbours may be the reason. Attention is not explanation
-- (Jain and Wallace 2019; Wiegreffe and Pinter 2019).
--
-- Documents where the score is null are left out; with by=label, so are those without a label. Ties are ordered
-- by documents, then by phrase. `expected` and `share` are read from the view `totals`, in single precision.
-- Candidates are found as in Apriori: frequent words first, then pairs of them, then what overlaps.
--
-- Example: attnstore query demo.attn phrases,
-- over the 220 embedded reviews, first row:
--     class=neg, phrase=the script, words=2, documents=9, clusters=9, occurrences=9, score=6.34, low=4.746,
--     high=8.468, sure=4.746, expected=5.926, total=0.4781, share=0.004018
--
-- @param reduction: signed_reduction = cls -- which attention or score: a reduction in the store
-- @param layer: layer = last -- its layer: a number from 1, first, last, mean (over all layers), or best (as
--     measured by `attnstore faithfulness`)
-- @param by: class = prediction -- what defines a document's class: the model's prediction, or the gold label
-- @param words: all|2|3|4|5 = all -- phrases of this many words; all: two to five
-- @param min_documents: count = auto -- leave out phrases found in fewer documents of the class; auto: one in
--     200 of the class's documents, and at least 5
-- @param apart: amount = 0.1 -- the share of its occurrences that a phrase must have outside each longer phrase
--     to be listed as well
-- @param punctuation: in|out = out -- whether words without any letter or digit, in any script, can be part of
--     a phrase
-- @param ignore: list = -- words that end a phrase as a mark does, as the store spells them
-- @param cluster: cluster = group -- what counts as independent: groups of documents (films), or documents
-- @param rank_by: sure|score|total = sure -- the column to rank by; for a signed score, by its distance from 0
-- @param limit: count = 20 -- rows per class
-- @columns class, phrase, documents, score, low, high, expected
-- @pair class, phrase: score, share
--
-- Source: a frequent phrase consists of frequent phrases, Agrawal and Srikant 1994, "Fast Algorithms for Mining
-- Association Rules". Scores and intervals are those of words in top_words_by_class and for_and_against.
WITH
sizes AS (
    SELECT class, least_documents($min_documents, count(*)) AS least
    FROM documents
    WHERE class IS NOT NULL
    GROUP BY class
),
singles AS MATERIALIZED (  -- words found often enough, numbered per class
    SELECT each.class, word, (row_number() OVER (ORDER BY each.class, word))::INTEGER AS number, y, tokens, n
    FROM (
        SELECT
            class, word, sum(CASE WHEN $signed THEN attention ELSE attention_lift END) AS y, sum(occurrences) AS tokens,
            sum(occurrences) FILTER (piece = 0) AS n, sum(new_word) AS documents
        FROM totals
        WHERE attention IS NOT NULL AND is_listed(word, $punctuation, $ignore)
        GROUP BY class, word
    ) AS each
    -- In HAVING, DuckDB would expect this condition to keep few rows, and build its hash tables on the tokens.
    JOIN sizes ON each.class = sizes.class AND documents >= greatest(least, 1)
),
-- A token's place is one number, made of its document's number and its position: one key sorts and joins faster.
blanks AS (  -- tokens outside words that end no phrase, such as a lone white space mark: they go with the next word
    SELECT max(place) + 1 AS place, count(*) AS more, sum(attention) AS mass
    FROM (
        SELECT document, place, attention, place - row_number() OVER (ORDER BY place) AS run
        FROM (
            SELECT document, (document::BIGINT << 32) + position AS place, attention
            FROM tokens
            WHERE word IS NULL AND NOT special
        )
    )
    GROUP BY document, run
),
cuts AS (  -- with head+tail, the widest gap between two tokens: the word after it follows nothing
    SELECT (document::BIGINT << 32) + max_by(position, stretch) AS second
    FROM (
        SELECT document, position, start - lag("end") OVER (PARTITION BY document ORDER BY position) AS stretch
        FROM tokens JOIN (SELECT document FROM documents WHERE truncated) USING (document)
        WHERE $long = 'head+tail' AND NOT special
    )
    GROUP BY document
),
placed AS (
    SELECT (document::BIGINT << 32) + position AS place, (document::BIGINT << 32) + position + 1 AS past, number, attention
    FROM tokens JOIN singles USING (class, word)
    WHERE pieces = 1 AND attention IS NOT NULL
    UNION ALL
    SELECT
        (document::BIGINT << 32) + position - piece AS place, any_value((document::BIGINT << 32) + position - piece + pieces),
        any_value(number), sum(attention)
    FROM tokens JOIN singles USING (class, word)
    WHERE pieces > 1 AND attention IS NOT NULL
    GROUP BY place
),
-- A gram is a place in a document with consecutive frequent words: the tokens from `place` to before `past`. It
-- consists of two grams one word shorter, which overlap; `a` and `b` are their numbers. `second` is where the second
-- word begins, and `one` is the attention to the first.
grams_1 AS (
    SELECT place - coalesce(more, 0) AS place, past, number AS gram, attention + coalesce(mass, 0) AS attention
    -- As a list, so that DuckDB knows that there are fewer blanks than words.
    FROM placed LEFT JOIN (SELECT unnest(list(blank), recursive := true) FROM blanks AS blank) USING (place)
),
pairs_2 AS MATERIALIZED (
    SELECT
        place, past AS second, lead(past) OVER next AS past, gram AS a, lead(gram) OVER next AS b,
        attention AS one, attention + lead(attention) OVER next AS attention
    FROM grams_1
    WINDOW next AS (ORDER BY place)
    QUALIFY lead(place) OVER next = second
),
known_2 AS MATERIALIZED (
    SELECT a, b, (row_number() OVER ())::INTEGER AS gram
    FROM pairs_2
    GROUP BY a, b
    HAVING count(*) >= (SELECT min(least) FROM sizes)
),
grams_2 AS MATERIALIZED (
    SELECT place, second, past, gram, one, attention
    FROM pairs_2 JOIN known_2 USING (a, b)
    WHERE $long <> 'head+tail' OR second NOT IN (SELECT second FROM cuts)
),
pairs_3 AS MATERIALIZED (
    SELECT
        place, second, lead(past) OVER next AS past, gram AS a, lead(gram) OVER next AS b,
        one, one + lead(attention) OVER next AS attention
    FROM grams_2
    WHERE coalesce(try_cast($words AS INTEGER), 5) >= 3
    WINDOW next AS (ORDER BY place)
    QUALIFY lead(place) OVER next = second
),
known_3 AS MATERIALIZED (
    SELECT a, b, (row_number() OVER ())::INTEGER AS gram
    FROM pairs_3
    GROUP BY a, b
    HAVING count(*) >= (SELECT min(least) FROM sizes)
),
grams_3 AS MATERIALIZED (
    SELECT place, second, past, gram, one, attention FROM pairs_3 JOIN known_3 USING (a, b)
),
pairs_4 AS MATERIALIZED (
    SELECT
        place, second, lead(past) OVER next AS past, gram AS a, lead(gram) OVER next AS b,
        one, one + lead(attention) OVER next AS attention
    FROM grams_3
    WHERE coalesce(try_cast($words AS INTEGER), 5) >= 4
    WINDOW next AS (ORDER BY place)
    QUALIFY lead(place) OVER next = second
),
known_4 AS MATERIALIZED (
    SELECT a, b, (row_number() OVER ())::INTEGER AS gram
    FROM pairs_4
    GROUP BY a, b
    HAVING count(*) >= (SELECT min(least) FROM sizes)
),
grams_4 AS MATERIALIZED (
    SELECT place, second, past, gram, one, attention FROM pairs_4 JOIN known_4 USING (a, b)
),
pairs_5 AS MATERIALIZED (
    SELECT
        place, second, lead(past) OVER next AS past, gram AS a, lead(gram) OVER next AS b,
        one, one + lead(attention) OVER next AS attention
    FROM grams_4
    WHERE coalesce(try_cast($words AS INTEGER), 5) >= 5
    WINDOW next AS (ORDER BY place)
    QUALIFY lead(place) OVER next = second
),
known_5 AS MATERIALIZED (
    SELECT a, b, (row_number() OVER ())::INTEGER AS gram
    FROM pairs_5
    GROUP BY a, b
    HAVING count(*) >= (SELECT min(least) FROM sizes)
),
grams_5 AS MATERIALIZED (
    SELECT place, second, past, gram, one, attention FROM pairs_5 JOIN known_5 USING (a, b)
),
numbers_2 AS (SELECT gram, a, b, [a, b] AS numbers FROM known_2),
numbers_3 AS (
    SELECT known.*, list_append(one.numbers, other.numbers[-1]) AS numbers
    FROM known_3 AS known JOIN numbers_2 AS one ON known.a = one.gram JOIN numbers_2 AS other ON known.b = other.gram
),
numbers_4 AS (
    SELECT known.*, list_append(one.numbers, other.numbers[-1]) AS numbers
    FROM known_4 AS known JOIN numbers_3 AS one ON known.a = one.gram JOIN numbers_3 AS other ON known.b = other.gram
),
numbers_5 AS (
    SELECT known.*, list_append(one.numbers, other.numbers[-1]) AS numbers
    FROM known_5 AS known JOIN numbers_4 AS one ON known.a = one.gram JOIN numbers_4 AS other ON known.b = other.gram
),
spelled AS (
    SELECT
        words, gram, any_value(a) AS a, any_value(b) AS b, any_value(class) AS class,
        string_agg(word, ' ' ORDER BY place) AS phrase,
        CASE WHEN $signed THEN sum(y / n) ELSE sum(y / n) / sum(tokens / n) END AS expected
    FROM (
        SELECT 2 AS words, gram, a, b, unnest(numbers) AS number, unnest(range(2)) AS place FROM numbers_2
        UNION ALL
        SELECT 3, gram, a, b, unnest(numbers), unnest(range(3)) FROM numbers_3
        UNION ALL
        SELECT 4, gram, a, b, unnest(numbers), unnest(range(4)) FROM numbers_4
        UNION ALL
        SELECT 5, gram, a, b, unnest(numbers), unnest(range(5)) FROM numbers_5
    )
    JOIN singles USING (number)
    GROUP BY words, gram
),
occurring AS MATERIALIZED (  -- `y` is what adds up to the score
    SELECT
        words, gram, document, cluster, attention,
        CASE WHEN $signed THEN attention ELSE attention / (past - place) * length END AS y
    FROM (
        SELECT 2 AS words, gram, (place >> 32)::INTEGER AS document, place, past, attention FROM grams_2
        UNION ALL
        SELECT 3, gram, (place >> 32)::INTEGER, place, past, attention FROM grams_3
        UNION ALL
        SELECT 4, gram, (place >> 32)::INTEGER, place, past, attention FROM grams_4
        UNION ALL
        SELECT 5, gram, (place >> 32)::INTEGER, place, past, attention FROM grams_5
    )
    JOIN (SELECT document, cluster, length FROM documents WHERE class IS NOT NULL) USING (document)
    WHERE $words = 'all' OR words = try_cast($words AS INTEGER)
),
-- Summing phrases over their clusters is slow, and few are shown. No phrase ranks above its `most`, which is fast to
-- compute. So likely leaders are measured first. If enough of them are certain to be listed, no phrase whose `most` is
-- below the last of them is shown.
rough AS MATERIALIZED (
    SELECT *
    FROM (
        SELECT
            words, gram, count(*) AS n,
            CASE WHEN $rank_by = 'total' THEN sum(attention) ELSE sum(y) / count(*) END AS value,
            CASE WHEN $signed THEN abs(value) ELSE value END AS most,
            CASE WHEN $rank_by = 'sure' THEN most - 2 * stddev_pop(y) / sqrt(count(*)) ELSE most END AS likely
        FROM occurring
        GROUP BY words, gram
    )
    JOIN spelled USING (words, gram) JOIN sizes USING (class)
    WHERE n >= least
),
first AS MATERIALIZED (
    SELECT words, gram, class, most, least
    FROM rough
    LEFT JOIN (
        SELECT words - 1 AS words, gram, max(n) AS inside
        FROM (SELECT words, a AS gram, n FROM rough UNION ALL SELECT words, b, n FROM rough)
        GROUP BY ALL
    ) USING (words, gram)
    WHERE $limit <= 1000 AND (inside IS NULL OR inside < (1 - $apart) * n)
    QUALIFY row_number() OVER (PARTITION BY class ORDER BY likely DESC) <= 10 * least($limit, 1000)
),
first_measured AS (
    SELECT
        words, gram, count(*) AS clusters, sum(n) AS n, sum(y) / sum(n) AS score, min(y) AS lowest,
        effective_clusters(sum(n), sum(n * n)) AS g, sum(y * y) AS yy, sum(y * n) AS yn, sum(n * n) AS nn
    FROM (
        SELECT words, gram, cluster, count(*) AS n, sum(y) AS y
        FROM occurring JOIN (SELECT words, gram FROM first) USING (words, gram)
        GROUP BY words, gram, cluster
    )
    GROUP BY words, gram
),
last_listed AS (  -- what the last listed phrase ranks by, or less
    SELECT class, min(rank) AS rank
    FROM (
        SELECT
            class,
            CASE WHEN $rank_by <> 'sure' THEN most WHEN $signed THEN abs(score) - half ELSE low_end(score, half, lowest) END AS rank
        FROM (
            SELECT *, t_quantile(0.975, g - 1) * sqrt(ratio_variance(score, n, yy, yn, nn, g)) AS half
            FROM first JOIN first_measured USING (words, gram)
            WHERE clusters >= least
        )
        QUALIFY row_number() OVER (PARTITION BY class ORDER BY rank DESC NULLS LAST) <= $limit
    )
    GROUP BY class
    HAVING count(rank) = $limit
),
asked AS MATERIALIZED (  -- and phrases one word longer, because one of them may replace one of these
    WITH enough AS (
        SELECT words, gram
        FROM rough LEFT JOIN last_listed USING (class)
        WHERE rank IS NULL OR most >= rank - 1e-6 * abs(rank)
    )
    FROM enough
    UNION
    SELECT words, gram
    FROM rough
    WHERE (words - 1, a) IN (FROM enough) OR (words - 1, b) IN (FROM enough)
),
gathered AS (
    SELECT words, gram, cluster, count(*) AS documents, sum(n) AS n, sum(total) AS total, sum(y) AS y
    FROM (
        SELECT words, gram, document, any_value(cluster) AS cluster, count(*) AS n, sum(attention) AS total, sum(y) AS y
        FROM occurring JOIN asked USING (words, gram)
        GROUP BY words, gram, document
    )
    GROUP BY words, gram, cluster
),
summed AS (
    SELECT
        words, gram, sum(documents) AS documents, count(*) AS clusters, sum(n) AS n,
        sum(total) AS total, sum(y) / sum(n) AS score, min(y) AS lowest, effective_clusters(sum(n), sum(n * n)) AS g,
        sum(y * y) AS yy, sum(y * n) AS yn, sum(n * n) AS nn
    FROM gathered
    GROUP BY words, gram
),
frequent AS (
    SELECT * FROM summed JOIN (SELECT * EXCLUDE (n, value, most, likely) FROM rough) USING (words, gram) WHERE documents >= least
),
longer AS (  -- of the phrases one word longer that contain it, the most frequent
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
        CASE WHEN $signed THEN score - half ELSE low_end(score, half, lowest) END AS low,
        CASE WHEN $signed THEN score + half ELSE high_end(score, half, lowest) END AS high
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
        -- Single precision, so that the order of summation does not decide ties.
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
