-- What the questions share, as DuckDB macros. It is not a question: attnstore creates the macros that a
-- question uses before it runs, and prints them with `attnstore queries NAME --sql STORE`. A question of your
-- own may use them, too.
--
-- `specials`, `punctuation`, `ignore`, `renormalise` and `min_documents` are the parameters of these names, as in
-- top_words_by_class.sql. Views: `documents`, `tokens`, `totals`. p_value, t_quantile and q_values are attnstore's.

-- Whether a word passes `punctuation` and `ignore`. Null, which is not a word, does not.
CREATE OR REPLACE TEMP MACRO is_listed(term, punctuation, ignore) AS
    term IS NOT NULL
    AND (punctuation = 'in' OR regexp_matches(term, '[\p{L}\p{N}]'))
    AND NOT list_contains(ignore::VARCHAR[], term);

-- The same for a token, where the marks of a new word (Ġ, Ċ) do not count as letters.
CREATE OR REPLACE TEMP MACRO is_listed_token(token, punctuation, ignore) AS
    token IS NOT NULL
    AND (punctuation = 'in' OR regexp_matches(token, '[^\P{L}ĠĊ]|\p{N}'))
    AND NOT list_contains(ignore::VARCHAR[], token);

-- The number of documents, of `size`, that must contain a word: as given, or one in 200 and at least 5.
CREATE OR REPLACE TEMP MACRO least_documents(min_documents, size) AS
    coalesce(min_documents, greatest(5, (size + 199) // 200));

-- The effective number of clusters (Kish 1965): how many of equal size carry the same weight; n is Σn, nn is Σn². Null
-- if fewer than two, which give no error estimate.
CREATE OR REPLACE TEMP MACRO effective_clusters(n, nn) AS
    CASE WHEN n * n >= 2 * nn THEN n ** 2 / nn END;

-- The variance of r = Σy / Σn over g clusters (Cochran 1977, section 6.3): Σ (y − r · n)², expanded; rounding must not
-- make it negative.
CREATE OR REPLACE TEMP MACRO ratio_variance(r, n, yy, yn, nn, g) AS
    greatest(0, yy - 2 * r * yn + r ** 2 * nn) / n ** 2 * g / (g - 1);

-- The effective sample size of a share r of n (Korn and Graubard 1998): r (1 - r) over its variance, at most n. A share
-- of 0 or 1 does not vary in the sample: it has as many as its clusters, g.
CREATE OR REPLACE TEMP MACRO effective_size(r, n, variance, g) AS
    CASE WHEN r > 0 AND r < 1 AND variance > 1e-14 THEN least(n, r * (1 - r) / variance) ELSE g END;

-- The ends of Wilson's interval (1927) for a share r of m, with the quantile t.
CREATE OR REPLACE TEMP MACRO share_low(r, m, t) AS
    CASE WHEN m IS NOT NULL AND t IS NOT NULL THEN greatest(0, (r + t * t / (2 * m) - t * sqrt(r * (1 - r) / m + t * t / (4 * m * m))) / (1 + t * t / m)) END;
CREATE OR REPLACE TEMP MACRO share_high(r, m, t) AS
    CASE WHEN m IS NOT NULL AND t IS NOT NULL THEN least(1, (r + t * t / (2 * m) + t * sqrt(r * (1 - r) / m + t * t / (4 * m * m))) / (1 + t * t / m)) END;

-- The stratum of a document, by the model's probability: strata have equally many wrong documents, one for every 20,
-- and there are at most 20.
CREATE OR REPLACE TEMP MACRO stratum_of(lower_wrong, all_wrong) AS
    least(lower_wrong * greatest(1, least(20, all_wrong // 20)) // greatest(1, all_wrong), greatest(1, least(20, all_wrong // 20)) - 1);

-- How much the documents of a cluster agree on their side: the correlation of two of them, from the summed products of
-- the pairs over what these would be if they always agreed. Set to 0 if below, which happens only by chance.
CREATE OR REPLACE TEMP MACRO together(products, most) AS
    CASE WHEN most > 1e-9 THEN greatest(0, least(1, products / most)) ELSE 0 END;

-- The skewness assumed for a tail. On the short side of the distribution, its end is kept at 2 t or farther, because
-- the true end is not known.
CREATE OR REPLACE TEMP MACRO tail_skewness(t, skew) AS
    CASE WHEN t * skew < 0 THEN sign(skew) * least(abs(skew), 1 / abs(t)) ELSE skew END;

-- (h - 1) / x with h = 2 (x - ln(1 + x)) / x², by its series if x is small.
CREATE OR REPLACE TEMP MACRO gamma_part(x) AS CASE
    WHEN abs(x) < 0.01 THEN -2 / 3 + x * (1 / 2 - x * (2 / 5 - x * (1 / 3 - x * (2 / 7 - x * (1 / 4 - x * 2 / 9)))))
    ELSE (2 * (x - ln(1 + x)) / (x * x) - 1) / x
END;

-- ln(1 + u) / u.
CREATE OR REPLACE TEMP MACRO log_part(u) AS CASE
    WHEN abs(u) < 0.01 THEN 1 - u * (1 / 2 - u * (1 / 3 - u * (1 / 4 - u * (1 / 5 - u * (1 / 6 - u / 7)))))
    ELSE ln(1 + u) / u
END;

-- The normal deviate with the same tail as t in a gamma distribution of mean 0, variance 1 and skewness s (Pearson's
-- type III): Barndorff-Nielsen's r* (1986), r + ln(t / r) / r, with r = t √h and h of x = s t / 2. The lists have one
-- element, because a macro's argument is evaluated everywhere it appears.
CREATE OR REPLACE TEMP MACRO skewed_deviate(t, s) AS list_transform(
    list_transform(
        list_transform([{'t': t, 's': s, 'x': s * t / 2}], lambda v: {'t': v.t, 's': v.s, 'x': v.x, 'part': gamma_part(v.x)}),
        lambda v: {'t': v.t, 's': v.s, 'part': v.part, 'u': v.x * v.part}
    ),
    lambda v: v.t * sqrt(1 + v.u) - v.part * log_part(v.u) * v.s / (4 * sqrt(1 + v.u))
)[1];

-- The two-sided p value of a sum over documents dealt at random to two sides, t deviations from its mean. It is at
-- least that of one way, in both directions, to deal g + other_g clusters to such sides.
CREATE OR REPLACE TEMP MACRO permutation_p(t, skew, g, other_g) AS CASE
    WHEN t IS NOT NULL AND skew IS NOT NULL AND g IS NOT NULL AND other_g IS NOT NULL THEN least(1, greatest(
        list_transform([skewed_deviate(t, tail_skewness(t, skew))], lambda z: p_value(z, 'inf'::DOUBLE))[1],
        2 * exp(lgamma(g + 1) + lgamma(other_g + 1) - lgamma(g + other_g + 1))
    ))
END;

-- Σ (p y - c n)², and Σ (p y - c n)³, expanded; rounding must not make the first negative.
CREATE OR REPLACE TEMP MACRO squared_off(p, c, yy, yn, nn) AS greatest(0, p * p * yy - 2 * p * c * yn + c * c * nn);
CREATE OR REPLACE TEMP MACRO cubed_off(p, c, yyy, yyn, ynn, nnn) AS
    p * p * p * yyy - 3 * p * p * c * yyn + 3 * p * c * c * ynn - c * c * c * nnn;

-- Fisher's test, two-sided as twice one side. Of `size` clusters here and `other_size` there, `spots` and `other_spots`
-- have a word. If clusters were dealt at random, how often would as few or fewer have it there?
CREATE OR REPLACE TEMP MACRO log_ways(n, k) AS lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1);
CREATE OR REPLACE TEMP MACRO counts_p(spots, other_spots, size, other_size) AS least(1, 2 * list_sum(list_transform(
    range(greatest(0, (spots + other_spots - size)::BIGINT), other_spots::BIGINT + 1),
    lambda j: exp(log_ways(other_size, j) + log_ways(size, spots + other_spots - j) - log_ways(size + other_size, spots + other_spots))
)));

-- The lower end of the 95 % interval of the log-odds ratio that a cluster has the word, here against there, with half a
-- cluster added to each count (Haldane 1956, Gart 1966).
CREATE OR REPLACE TEMP MACRO surely_more(spots, other_spots, size, other_size) AS
    ln((spots + 0.5) / (size - spots + 0.5)) - ln((other_spots + 0.5) / (other_size - other_spots + 0.5))
    - 1.959963984540054 * sqrt(1 / (spots + 0.5) + 1 / (size - spots + 0.5) + 1 / (other_spots + 0.5) + 1 / (other_size - other_spots + 0.5));

-- The ends of an interval of half width `half`. Lifts are skewed, so it is on the logarithm; but not if a cluster's sum,
-- of which `lowest` is the smallest, is below 0, as it can be with a reduction of one's own.
CREATE OR REPLACE TEMP MACRO low_end(mean, half, lowest) AS
    CASE WHEN mean > 0 AND lowest >= 0 THEN mean / exp(half / mean) ELSE mean - half END;
CREATE OR REPLACE TEMP MACRO high_end(mean, half, lowest) AS
    CASE WHEN mean > 0 AND lowest >= 0 THEN mean * exp(half / mean) ELSE mean + half END;

-- Log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008) of n among `words` against other_n
-- among other_words; `part` of a word's own count on both sides is its prior. nullif: for the only word.
CREATE OR REPLACE TEMP MACRO log_odds_ratio(n, other_n, words, other_words, part) AS
    ln((n + part * (n + other_n))
        / nullif(words - n + part * (words - n + other_words - other_n), 0))
    - ln((other_n + part * (n + other_n))
        / nullif(other_words - other_n + part * (words - n + other_words - other_n), 0));

-- A remainder from rounding alone is not an error.
CREATE OR REPLACE TEMP MACRO error_of(variance, scale) AS
    sqrt(CASE WHEN variance > 1e-14 * scale THEN variance END);

-- `tokens` as pieces of words: `term` (if special tokens are listed, a token outside words stands for itself; otherwise
-- null), `starts` (the first piece), `new` (the word's first occurrence in its document), `parts` (pieces of the word).
CREATE OR REPLACE TEMP MACRO word_pieces(specials) AS TABLE
    SELECT
        *,
        CASE WHEN specials = 'in' THEN coalesce(word, token) ELSE word END AS term,
        CASE WHEN specials = 'in' THEN coalesce(piece, 0) ELSE piece END = 0 AS starts,
        CASE WHEN specials = 'in' THEN new_word OR (word IS NULL AND new_token) ELSE new_word END AS new,
        coalesce(pieces, 1) AS parts
    FROM tokens
    WHERE attention IS NOT NULL;

-- The same, with attention and length as they are or, renormalised, as if the unlisted words had never been in the
-- document: the attention of the rest sums to 1. `listed` says which words are listed.
CREATE OR REPLACE TEMP MACRO weighed_words(specials, punctuation, ignore, renormalise) AS TABLE
    SELECT *, true AS listed
    FROM word_pieces(specials)
    WHERE NOT renormalise
    UNION ALL
    SELECT every.* REPLACE (attention / mass AS attention, remaining AS length), is_listed(term, punctuation, ignore)
    FROM word_pieces(specials) AS every
    JOIN (
        SELECT document, sum(attention) AS mass, count(*) AS remaining
        FROM word_pieces(specials)
        WHERE renormalise AND is_listed(term, punctuation, ignore)
        GROUP BY document
    ) USING (document)
    WHERE renormalise AND mass <> 0;

-- `tokens`, or `totals` if single documents do not matter, in one form: `term`, `new`, `occurrences`, `attention`,
-- `lift`, `parts`. `unit` is `word` or `token`.
CREATE OR REPLACE TEMP MACRO terms_of_tokens(unit, specials) AS TABLE
    SELECT
        document, class, length, attention,
        CASE
            WHEN unit = 'word' THEN term
            WHEN specials = 'in' OR NOT special THEN token
        END AS term,
        CASE WHEN unit = 'word' THEN starts ELSE true END::INTEGER::DOUBLE AS occurrences,  -- integers are slow to sum
        CASE WHEN unit = 'word' THEN new ELSE new_token END::INTEGER::DOUBLE AS new,
        CASE WHEN unit = 'word' THEN parts ELSE 1 END AS parts
    FROM word_pieces(specials)
    WHERE class IS NOT NULL;

CREATE OR REPLACE TEMP MACRO summed_terms(unit, specials) AS TABLE
    SELECT
        * EXCLUDE (occurrences), attention_lift AS lift,
        CASE
            WHEN unit = 'word' THEN CASE WHEN specials = 'in' THEN coalesce(word, token) ELSE word END
            WHEN specials = 'in' OR NOT special THEN token
        END AS term,
        CASE
            WHEN unit = 'token' OR piece = 0 OR (piece IS NULL AND specials = 'in') THEN occurrences ELSE 0
        END::DOUBLE AS occurrences,
        CASE WHEN unit = 'token' OR (word IS NULL AND specials = 'in') THEN new_token ELSE new_word END::DOUBLE AS new,
        CASE WHEN unit = 'word' THEN coalesce(pieces, 1) ELSE 1 END AS parts
    FROM totals
    WHERE attention IS NOT NULL;

CREATE OR REPLACE TEMP MACRO terms_of_totals(unit, specials) AS TABLE
    SELECT class, attention, lift, term, occurrences, new, parts
    FROM summed_terms(unit, specials)
    WHERE class IS NOT NULL;

CREATE OR REPLACE TEMP MACRO is_listed_term(unit, term, punctuation, ignore) AS
    CASE WHEN unit = 'word' THEN is_listed(term, punctuation, ignore) ELSE is_listed_token(term, punctuation, ignore) END;

-- The terms of each class, measured and ranked, for top_words_by_class and top_tokens_by_class: the columns that they
-- show, and `place`, the rank in the class, up to `most`. `merging` is the parameter `pieces`. The percentile is slow,
-- and null unless it ranks. If single documents do not matter, measures come from `totals`. Intervals need the tokens:
-- they are computed for the terms shown, or for all if they rank.
CREATE OR REPLACE TEMP MACRO top_terms(
    unit, specials, punctuation, ignore, renormalise, intervals, merging, min_documents, shrinkage, rank_by, most
) AS TABLE
    WITH
    sizes AS (SELECT class, count(*) AS size FROM documents GROUP BY class),
    added_up AS MATERIALIZED (  -- once: if only some documents count, it is summed from the tokens
        SELECT * FROM terms_of_totals(unit, specials)
    ),
    known AS MATERIALIZED (  -- those found often enough, numbered: grouping all tokens by term is slow
        SELECT class, term, (row_number() OVER ())::INTEGER AS number
        FROM added_up JOIN sizes USING (class)
        WHERE is_listed_term(unit, term, punctuation, ignore)
        GROUP BY class, term
        HAVING sum(new) >= any_value(least_documents(min_documents, size))
    ),
    remaining AS (  -- what remains of each document without the unlisted terms
        SELECT document, sum(attention) AS mass, count(*) AS tokens
        FROM terms_of_tokens(unit, specials)
        WHERE renormalise AND is_listed_term(unit, term, punctuation, ignore)
        GROUP BY document
    ),
    weighed AS (
        SELECT document, class, term, occurrences, new, parts, attention, attention * length AS lift
        FROM terms_of_tokens(unit, specials)
        WHERE NOT renormalise
        UNION ALL
        SELECT document, class, term, occurrences, new, parts, attention / mass, attention / mass * tokens
        FROM terms_of_tokens(unit, specials) JOIN remaining USING (document)
        WHERE renormalise AND is_listed_term(unit, term, punctuation, ignore) AND mass <> 0
    ),
    placed AS (
        SELECT class, term, occurrences, new, parts, attention, lift, NULL::DOUBLE AS percentile
        FROM added_up
        WHERE NOT renormalise AND rank_by <> 'percentile'
        UNION ALL
        SELECT class, term, occurrences, new, parts, attention, lift, NULL
        FROM weighed
        WHERE renormalise AND rank_by <> 'percentile'
        UNION ALL
        -- Halfway between the share with less attention and the share with as much or less.
        SELECT
            class, term, occurrences, new, parts, attention, lift,
            (cume_dist() OVER by_attention
                + (rank() OVER by_attention - 1) / count(*) OVER (PARTITION BY document)) / 2
        FROM weighed
        WHERE rank_by = 'percentile'
        WINDOW by_attention AS (PARTITION BY document ORDER BY attention)
    ),
    counted AS (  -- the other terms have no number, but count toward the totals
        SELECT
            class, number,
            sum(new)::BIGINT AS documents,
            sum(occurrences)::BIGINT AS occurrences,
            sum(attention) AS total,
            sum(CASE WHEN merging = 'sum' THEN attention ELSE attention / parts END) AS mass,
            sum(lift / parts) AS lift,
            sum(percentile / parts) AS percentile
        FROM placed LEFT JOIN known USING (class, term)
        GROUP BY class, number
    ),
    measured AS (
        SELECT
            class, number, documents, occurrences,
            mass / occurrences AS mean_attention,
            lift / occurrences AS lift,
            percentile / occurrences AS percentile,
            mass / nullif(sum(total) OVER (PARTITION BY class), 0) AS share
        FROM counted
    ),
    kept AS (
        SELECT *, sum(lift * occurrences) OVER of_class / sum(occurrences) OVER of_class AS class_lift
        FROM measured JOIN known USING (class, number) JOIN sizes USING (class)
        WHERE documents >= least_documents(min_documents, size) AND occurrences > 0
        WINDOW of_class AS (PARTITION BY class)
    ),
    compared AS (
        SELECT
            *, (lift * occurrences + class_lift * shrinkage) / (occurrences + shrinkage) AS shrunk,
            -- Single precision, so that the order of summation does not decide ties.
            CASE rank_by
                WHEN 'lift' THEN lift WHEN 'shrunk' THEN shrunk WHEN 'share' THEN share
                WHEN 'percentile' THEN percentile WHEN 'mean_attention' THEN mean_attention
            END::FLOAT AS rank
        FROM kept
    ),
    first_ones AS MATERIALIZED (
        SELECT *
        FROM compared
        QUALIFY rank_by = 'low'
            OR row_number() OVER (PARTITION BY class ORDER BY rank DESC NULLS LAST, documents DESC, term) <= most
    ),
    gathered AS (
        SELECT number, cluster, sum(occurrences) AS occurrences, sum(lift / parts) AS lift
        FROM weighed
        JOIN (SELECT class, term, number FROM first_ones) USING (class, term)
        JOIN (SELECT document, cluster FROM documents) USING (document)
        WHERE intervals
        GROUP BY number, cluster
    ),
    varied AS (
        SELECT
            number, effective_clusters(sum(occurrences), sum(occurrences * occurrences)) AS clusters,
            min(lift) AS lowest,
            sqrt(ratio_variance(
                sum(lift) / sum(occurrences), sum(occurrences), sum(lift * lift), sum(lift * occurrences),
                sum(occurrences * occurrences), clusters
            )) AS error
        FROM gathered
        GROUP BY number
    ),
    bounded AS (
        SELECT
            *,
            low_end(lift, t_quantile(0.975, clusters - 1) * error, lowest) AS low,
            high_end(lift, t_quantile(0.975, clusters - 1) * error, lowest) AS high
        FROM first_ones LEFT JOIN varied USING (number)
    )
    SELECT * EXCLUDE (rank), row_number() OVER (
        PARTITION BY class
        ORDER BY CASE WHEN rank_by = 'low' THEN low::FLOAT ELSE rank END DESC NULLS LAST, documents DESC, term
    ) AS place
    FROM bounded;
