-- Which words get more in one class than in the others within the same group, such as the reviews of one film?
--
-- How to read the answer: only groups with documents of several classes count, such as films with reviews of
-- both labels. In each group that has the word on both sides, an occurrence in the documents of the class is
-- compared with one in the group's other documents: by lift for attention (1.0 is uniform), by the score itself
-- for a signed score. `difference` is the mean over `groups` groups, each weighted by n n' / (n + n') of the
-- word's occurrences on the two sides. `low` to `high` is its 95 % interval, `p` tests whether it is 0, and `q`
-- is the false discovery rate over the words of the class (Benjamini and Hochberg 1995). Words with more in the
-- class are listed, ranked by `sure`, the interval's lower end. `overall` is the difference over all documents:
-- if it is large and `difference` is not, the word tells which films are in the class, not how the model reads
-- one.
--
-- Groups count as independent. Interval and p need five groups of equal size, or more if they are uneven.
--
-- How not to read it: as what a class is about. The groups with both classes are not all groups, and contain
-- what both write about. If attention is sharper in one class, the difference includes that (distinctive_words
-- corrects for it).
--
-- Documents without a group, a class or a score (null) are left out of `difference`. `overall` only leaves out
-- those without a class or a score; it is read from the view `totals`, in single precision.
--
-- Example: attnstore query float32.attn within_group,
-- over the 25,000 IMDb test reviews, first row:
--     class=neg, word=disappointed, groups=27, occurrences=42, other_occurrences=38, difference=18.37,
--     low=13.21, high=23.52, sure=13.21, p=1.784e-07, q=1.159e-06, overall=15.56
--
-- @needs groups
-- @param reduction: signed_reduction = cls -- which attention or score: a reduction in the store
-- @param layer: layer = last -- its layer: a number from 1, first, last, mean (over all layers), or best (as
--     measured by `attnstore faithfulness`)
-- @param by: class = label -- what defines a document's class: the gold label, or the model's prediction
-- @param min_groups: count = 10 -- leave out words that fewer groups have on both sides
-- @param punctuation: in|out = out -- list words without any letter or digit, in any script
-- @param ignore: list = -- words to leave out, as the store spells them
-- @param limit: count = 20 -- rows per class
-- @columns class, word, groups, difference, low, high
-- @pair class, word: difference, overall
-- @family the words of a class
--
-- Source: a contrast within strata with weights as in Mantel and Haenszel (the least squares estimate with one
-- effect per stratum). Its error is that of a ratio over groups (Cochran 1977, "Sampling Techniques", section
-- 6.3), with Student's t and the effective number of groups (Kish 1965) minus one as degrees of freedom.
WITH
sorted AS (
    SELECT
        document, class,
        CASE WHEN "group" IS NOT NULL THEN min(document) OVER (PARTITION BY "group") END AS film
    FROM documents
    WHERE class IS NOT NULL
),
contrasting AS MATERIALIZED (
    SELECT document, class, film
    FROM sorted
    WHERE film IN (SELECT film FROM sorted GROUP BY film HAVING min(class) <> max(class))
),
kinds AS MATERIALIZED (  -- listed words, numbered: comparing the words of all tokens is slow
    SELECT word, (row_number() OVER ())::INTEGER AS number, sum(new_word) AS documents
    FROM totals
    WHERE is_listed(word, $punctuation, $ignore)
    GROUP BY word
),
whole AS (
    SELECT
        class, word,
        y / nullif(n, 0) - (sum(y) OVER of_word - y) / nullif(sum(n) OVER of_word - n, 0) AS overall
    FROM (
        SELECT
            class, word,
            sum(CASE WHEN $signed THEN attention ELSE attention_lift / pieces END) AS y,
            coalesce(sum(occurrences) FILTER (piece = 0), 0) AS n
        FROM totals
        WHERE class IS NOT NULL AND attention IS NOT NULL AND word IS NOT NULL
        GROUP BY class, word
    )
    WINDOW of_word AS (PARTITION BY word)
),
gathered AS MATERIALIZED (
    SELECT
        film, class, number,
        sum(CASE WHEN $signed THEN attention ELSE attention * length / pieces END) AS y,
        count_if(piece = 0) AS n
    FROM (SELECT document, word, piece, pieces, length, attention FROM tokens)
    JOIN contrasting USING (document)
    -- A word that enough groups have on both sides is in at least twice as many documents.
    JOIN (SELECT word, number FROM kinds WHERE documents >= 2 * $min_groups) USING (word)
    WHERE attention IS NOT NULL
    GROUP BY film, class, number
),
sided AS (
    SELECT class, film, number, n, y, all_n - n AS o_n, all_y - y AS o_y
    FROM gathered JOIN (
        SELECT film, number, sum(n) AS all_n, sum(y) AS all_y FROM gathered GROUP BY film, number HAVING count(*) > 1
    ) USING (film, number)
),
contrasted AS (
    SELECT
        class, number, n, o_n,
        n * o_n / (n + o_n) AS w,
        n * o_n / (n + o_n) * (y / n - o_y / o_n) AS d
    FROM sided
    WHERE n > 0 AND o_n > 0
),
summed AS (
    SELECT
        class, word, count(*) AS groups, sum(n) AS occurrences, sum(o_n) AS other_occurrences,
        sum(w) AS w, sum(d) / sum(w) AS difference, effective_clusters(sum(w), sum(w * w)) AS g,
        sum(d * d) AS dd, sum(d * w) AS dw, sum(w * w) AS ww
    FROM contrasted JOIN kinds USING (number)
    GROUP BY class, word
    HAVING count(*) >= $min_groups
),
measured AS (
    -- Fewer than five groups of equal size give no error estimate.
    SELECT *, CASE WHEN g >= 5 THEN sqrt(ratio_variance(difference, w, dd, dw, ww, g)) END AS error FROM summed
),
tested AS (
    SELECT
        *, p_value(difference / nullif(error, 0), g - 1) AS p, t_quantile(0.975, g - 1) * error AS half
    FROM measured
),
adjusted AS (
    SELECT class, unnest(list(word ORDER BY word)) AS word, unnest(q_values(list(p ORDER BY word))) AS q
    FROM tested
    GROUP BY class
)
SELECT
    class, word, groups, occurrences::BIGINT AS occurrences, other_occurrences::BIGINT AS other_occurrences,
    difference, difference - half AS low, difference + half AS high,
    CASE WHEN half IS NOT NULL THEN greatest(0, difference - half) ELSE 0 END AS sure,
    p, q, overall
FROM tested JOIN adjusted USING (class, word) JOIN whole USING (class, word)
WHERE difference > 0
QUALIFY row_number() OVER (PARTITION BY class ORDER BY sure::FLOAT DESC, groups DESC, word) <= $limit
ORDER BY class, sure::FLOAT DESC, groups DESC, word
