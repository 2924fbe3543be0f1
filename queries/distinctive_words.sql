-- Which words are attended to more in the documents of one class than in those of the others?
--
-- How to read the answer: one row per class and word, highest ranked first. `lift` is the attention of an
-- occurrence relative to what it would get if its document's attention were spread evenly over the tokens,
-- averaged over the word's occurrences in the class; 1.0 is uniform. `other_lift` is the same for all other
-- classes together. A document's attention is a fixed total that its words share: where a strong word is
-- frequent, all other words get less, even if the model looks at them as usual. And where attention is sharper
-- in one class, all high lifts are higher there, and all low ones lower. So lifts are compared with those of
-- the class's ordinary words. A line through all of them says how far apart ln(lift) and ln(other_lift) usually
-- are, given their mean. `surplus` is the word's distance above that line, in nats, `low` to `high` is its 95 %
-- interval, and `error` its standard error. Words are ranked by `sure`, the lower end, so that none leads only
-- because it is rare.
--
-- The line is fitted to well-known words: those in 50 documents on each side, or among the 30 in most
-- documents. The words are sorted by the mean of ln(lift) and ln(other_lift); the line's slope is that between
-- the medians of the upper and the lower third (0 if there are fewer than 60 words, or if their means hardly
-- differ), and its height is the median of what remains. `factor` is a simpler correction, which assumes that
-- all lifts change alike: the median of lift / other_lift over the same words. `difference` is lift minus
-- factor times other_lift, and `log_ratio` is the logarithm of lift over factor times other_lift.
--
-- `test` names the test of a word. `attention`: `p` comes from a permutation test of the surplus. It considers
-- all ways to deal the word's documents to the class and to the others, with as many on each side as there are.
-- `p` is twice the share of these ways that put the sides as far from the line, in the same direction. It is
-- computed from the mean, variance and skewness over all ways, as in `errors`. If documents come in clusters
-- (such as films, if documents have a group), whole clusters are dealt, as often as it takes for two documents
-- of a cluster to agree as often as they do. The interval uses each side's own variation over the clusters, and
-- a film with documents on both sides counts on both; interval and p need not agree to the last digit.
-- `clusters` and `other_clusters` are effective numbers: how many clusters of equal size carry the same weight.
-- If there are fewer than two on a side, or if attention does not vary, error, interval, p and q are null. No p
-- is below that of a single way to deal so many clusters.
--
-- `counts`: the word is in fewer than 5 documents of the others (or than `min_documents`, if that is less), or
-- in none, so there is no lift to compare with. The test is Fisher's exact test on the clusters that contain
-- the word; `clusters` and `other_clusters` are plain counts of them, and `sure` is the lower end of the 95 %
-- interval of the log-odds ratio that a cluster contains the word. Such rows say what a class talks about, not
-- how the model attends to it. `q` is the false discovery rate (Benjamini and Hochberg) over the words of this
-- class with the same `test`, including those cut by `limit`. It does not cover other classes, or whatever else
-- you ask.
--
-- With two classes, surplus, log_ratio, log_odds, z and residual have opposite signs in the two classes, and p
-- is the same. `documents` and `occurrences` count the word in the class, `other_documents` and
-- `other_occurrences` in the others. `log_odds` compares these counts alone. It says how much more frequent the
-- word is in the class: the difference of its log-odds among all words (listed or not, including punctuation),
-- with an informative Dirichlet prior that shrinks it toward 0. `z` is log_odds over its standard error, as if
-- words were drawn independently. They are not: for topical words, which occur often in few documents, z is far
-- too large and not a valid test. `residual` is what attention adds to frequency, in nats: log_ratio minus what
-- a straight line predicts from log_odds. The line goes through all words of the class that have an error, by
-- least squares; each word is weighted by 1 over the squared error of its log_ratio, so frequent words
-- dominate. `residual` is null if log_ratio or log_odds is, or if fewer than three words make the line.
--
-- How not to read it: as evidence for the class, or as the reason for the model's decision. Attention has no
-- class; a model also attends to a word because of its neighbours and its position, which differ between
-- classes. Attention is not explanation (Jain and Wallace 2019; Wiegreffe and Pinter 2019). "More" means more
-- than the class's ordinary words. That most words are ordinary is an assumption, not a finding: if a model
-- really looked more at most words of a class, the line would hide it. If all reviews of a film are of one
-- class, class and film are confounded: `within_group` compares the classes within films that have both.
--
-- `specials`, `punctuation`, `ignore` and `renormalise` work as in top_words_by_class. Documents where the
-- reduction is null are left out; with by=label, so are those without a label. Ties are ordered by documents,
-- then by word. If a lift is not above 0, there is no logarithm and no test.
--
-- Example: attnstore query imdb.attn distinctive_words -p limit=4,
-- over the 25,000 IMDb test reviews, first row:
--     class=neg, word=watched, test=attention, documents=978, other_documents=966, occurrences=1063,
--     other_occurrences=1094, clusters=540.9, other_clusters=365.3, lift=2.213, other_lift=0.7726,
--     sure=0.966, surplus=1.03, error=0.03272, low=0.966, high=1.094, p=2.749e-62, q=1.741e-60,
--     factor=0.8558, difference=1.551, log_ratio=1.208, log_odds=-0.01682, z=-0.3945, residual=1.456
--
-- @param reduction: reduction = cls -- which attention: a reduction in the store
-- @param layer: layer = last -- its layer: a number from 1, first, last, mean (over all layers), or best (as
--     measured by `attnstore faithfulness`)
-- @param by: class = prediction -- what defines a document's class: the model's prediction, or the gold label
-- @param min_documents: count = auto -- leave out words found in fewer documents of the class; auto: one in 200
--     of the class's documents, and at least 5
-- @param specials: in|out = out -- list tokens that belong to no word, such as [CLS] and [SEP]
-- @param punctuation: in|out = out -- list words without any letter or digit, in any script
-- @param ignore: list = -- words to leave out, as the store spells them
-- @param renormalise: boolean = false -- redistribute the attention of what is left out over the rest
-- @param cluster: cluster = group -- what counts as independent: groups of documents (films), or documents
-- @param prior: amount = auto -- the prior of `log_odds`: this many words, distributed as in all classes
--     together, are added to the counts of each side; auto: 1 in 100 of the words of both sides
-- @param rank_by: sure|surplus|difference|log_ratio|residual|log_odds|z = sure -- the column to rank by
-- @param limit: count = 20 -- rows per class
-- @columns class, word, test, surplus, sure, q
-- @pair class, word: surplus, lift, log_ratio
-- @family the words of a class
--
-- Source: a difference against a mean, rather than one lift against the other, treats both sides alike and is
-- little biased by their errors: Bland and Altman 1986, and the intensity-dependent normalisation of Dudoit and
-- others 2002. The line is Tukey's resistant line (1977). The factor is the size factor of Anders and Huber
-- 2010, Genome Biology 11:R106, equation 5. The test is that of errors.sql. With a line of height h and slope
-- b, let A = 1 - b / 2 and B = 1 + b / 2; then surplus = A ln(lift) - B ln(other_lift) - h. If it is 0, the
-- lifts m and m' satisfy A ln(m) = h + B ln(m'). We take those whose logarithms, weighted by n and n', are
-- nearest to the logarithms of lift and other_lift. What is dealt is y_g / m and y'_g / m', in place of the
-- summed lifts y_g and y'_g. The interval: two ratios of sums over clusters and their difference, linearised
-- (Cochran 1977, "Sampling Techniques", sections 6.3 and 6.18), with the effective number of clusters (Kish
-- 1965) of each side. A cluster g of the class has n_g occurrences of the word, whose lifts sum to y_g; n and r
-- are the word's occurrences and lift, and G is the effective number of clusters. For the others, these are
-- n'_g, y'_g, n', r' and G':
--     a_g = A √(G / (G - 1)) (y_g - r n_g) / (n r),    b_g = B √(G' / (G' - 1)) (y'_g - r' n'_g) / (n' r'),
--     error² = Σ (a_g - b_g)²
-- Student's t has Welch's degrees of freedom if no cluster is on both sides, and G - 1 if all are:
--     (S + S')² / (S² / (G - 1) + S'² / (G' - 1) + 2 S S' Σ n_g n'_g / (n n')) with S = Σ a_g², S' = Σ b_g²
-- The log-odds: Monroe, Colaresi and Quinn 2008, "Fightin' Words", Political Analysis 16, page 388. The class
-- has N words, the others N', and the prior P, of which α = P (n + n') / (N + N') are this word:
--     log_odds = ln((n + α) / (N + P - n - α)) - ln((n' + α) / (N' + P - n' - α))
--     z = log_odds / √(1 / (n + α) + 1 / (n' + α)), with their two-term approximation of the variance
-- Comparing lifts, and the residual, are ours. benchmarks/null_simulations.py shows that sides dealt at random
-- give no more small p than expected.
WITH
inside AS (  -- the documents of each cluster and class
    SELECT
        class, cluster, count(*) AS m,
        sum(count(*)) OVER (PARTITION BY cluster) AS all_m, count(*) OVER (PARTITION BY cluster) AS classes,
        sum(count(*)) OVER (PARTITION BY class) / sum(count(*)) OVER () AS part
    FROM documents
    WHERE class IS NOT NULL
    GROUP BY class, cluster
),
together_with AS (  -- off: squared deviations from the expected documents of the class, from clusters without it, too
    SELECT
        class,
        sum(m)::BIGINT AS size, sum(sum(m)) OVER ()::BIGINT - sum(m)::BIGINT AS other_size,
        count(*) AS all_spots,
        round(sum(sum(1 / classes)) OVER ()) - count_if(classes = 1) AS other_all_spots,
        sum((m - part * all_m) ** 2 - (part * part * all_m ** 2)) AS off,
        any_value(part) AS part
    FROM inside
    GROUP BY class
),
sizes AS (
    SELECT
        class, size, other_size, all_spots, other_all_spots,
        together(
            off + part * part * all_squares - (size + other_size) * part * (1 - part),
            part * (1 - part) * (all_squares - (size + other_size))
        ) AS rho
    FROM together_with, (SELECT sum(all_m ** 2 / classes) AS all_squares FROM inside)
),
known AS MATERIALIZED (  -- words found often enough in a class, numbered: comparing the words of all tokens is slow
    SELECT term, (row_number() OVER ())::INTEGER AS number
    FROM (
        SELECT class, term
        FROM terms_of_totals('word', $specials) JOIN sizes USING (class)
        WHERE is_listed(term, $punctuation, $ignore)
        GROUP BY class, term
        HAVING sum(new) >= any_value(least_documents($min_documents, size))
    )
    GROUP BY term
),
uses AS MATERIALIZED (  -- per document and listed word; all other words together have no number and are only counted
    SELECT
        document, number,
        count_if(new)::DOUBLE AS documents,  -- integers are slow to sum
        count_if(starts)::DOUBLE AS n,
        sum(attention * length / parts) AS y
    FROM weighed_words($specials, $punctuation, $ignore, $renormalise) LEFT JOIN known USING (term)
    WHERE class IS NOT NULL AND term IS NOT NULL
    GROUP BY document, number
),
own AS (  -- sums over documents
    SELECT
        class, number,
        sum(documents) AS documents, count(*)::DOUBLE AS k,
        sum(n) AS n, sum(y) AS y,
        sum(y * y) AS own_yy, sum(y * n) AS own_yn, sum(n * n) AS own_nn,
        sum(y * y * y) AS own_yyy, sum(y * y * n) AS own_yyn, sum(y * n * n) AS own_ynn, sum(n * n * n) AS own_nnn
    FROM uses JOIN (SELECT document, class FROM documents) USING (document)
    GROUP BY class, number
),
parts AS MATERIALIZED (  -- a cluster's documents of one class, numbered
    SELECT document, class, cluster, (dense_rank() OVER (ORDER BY cluster, class))::INTEGER AS part
    FROM documents
    WHERE class IS NOT NULL
),
gathered AS MATERIALIZED (
    SELECT class, cluster, number, n, y
    FROM (
        SELECT part, number, sum(n) AS n, sum(y) AS y
        FROM uses JOIN (SELECT document, part FROM parts) USING (document)
        WHERE number IS NOT NULL
        GROUP BY part, number
    )
    JOIN (SELECT DISTINCT part, class, cluster FROM parts) USING (part)
),
everywhere AS (  -- totals over the classes, for clusters with the word in several
    SELECT cluster, number, sum(n) AS all_n, sum(y) AS all_y, count(*) AS classes
    FROM gathered
    GROUP BY cluster, number
    HAVING count(*) > 1
),
whole AS (  -- sums over clusters of products (a: all)
    SELECT
        class, number,
        count(*) AS spots, count_if(classes > 1) AS spots_both, sum(1 / classes) AS spots_any,
        sum(y * y) AS yy, sum(y * n) AS yn, sum(n * n) AS nn,
        sum(y * all_y) AS ya, sum(y * all_n) AS yb, sum(n * all_y) AS na, sum(n * all_n) AS nb,
        sum(y * y * y) AS yyy, sum(y * y * all_y) AS yya, sum(y * y * all_n) AS yyb,
        sum(y * all_y * all_y) AS yaa, sum(y * all_y * all_n) AS yab, sum(y * all_n * all_n) AS ybb,
        sum(n * all_n * all_n) AS nbb
    FROM (
        SELECT
            class, number, n, y, coalesce(all_n, n) AS all_n, coalesce(all_y, y) AS all_y, coalesce(classes, 1) AS classes
        FROM gathered LEFT JOIN everywhere USING (cluster, number)
    )
    GROUP BY class, number
),
counted AS (SELECT * FROM own LEFT JOIN whole USING (class, number)),
altogether AS (  -- sums over the classes
    SELECT
        number, sum(documents) AS all_documents, sum(k) AS all_k, round(sum(spots_any)) AS any_spots,
        sum(n) AS all_n, sum(y) AS all_y,
        sum(ya) AS aa, sum(yb) AS ab, sum(nb) AS bb,
        sum(yaa) AS aaa, sum(yab) AS aab, sum(ybb) AS abb, sum(nbb) AS bbb,
        sum(own_yy) AS all_yy, sum(own_yn) AS all_yn, sum(own_nn) AS all_nn,
        sum(own_yyy) AS all_yyy, sum(own_yyn) AS all_yyn, sum(own_ynn) AS all_ynn, sum(own_nnn) AS all_nnn
    FROM counted
    GROUP BY number
),
spoken AS (SELECT class, sum(n) AS words, sum(sum(n)) OVER () - sum(n) AS other_words FROM counted GROUP BY class),
opposed AS (  -- the class beside the others: all minus the class
    SELECT
        *,
        all_documents - documents AS other_documents, all_k - k AS other_k,
        any_spots - spots + spots_both AS other_spots, all_n - n AS other_n, all_y - y AS other_y,
        aa - 2 * ya + yy AS other_yy, ab - yb - na + yn AS other_yn, bb - 2 * nb + nn AS other_nn,
        ya - yy AS y_other_y, yb - yn AS y_other_n, na - yn AS n_other_y, nb - nn AS n_other_n,
        all_yy - own_yy AS others_yy, all_yn - own_yn AS others_yn, all_nn - own_nn AS others_nn,
        all_yyy - own_yyy AS others_yyy, all_yyn - own_yyn AS others_yyn,
        all_ynn - own_ynn AS others_ynn, all_nnn - own_nnn AS others_nnn
    FROM counted JOIN altogether USING (number) JOIN spoken USING (class)
),
listed AS (
    SELECT
        *,
        y / n AS r, CASE WHEN other_n > 0 THEN other_y / other_n END AS other_r,
        other_documents >= least(5, least_documents($min_documents, other_size)) AND other_n > 0 AS comparable,
        effective_clusters(n, nn) AS g,
        CASE WHEN other_n > 0 THEN effective_clusters(other_n, other_nn) END AS other_g,
        coalesce($prior::DOUBLE / (words + other_words), 0.01) AS share
    FROM opposed JOIN sizes USING (class) JOIN known USING (number)
    WHERE
        documents >= least_documents($min_documents, size)
        AND n > 0
        AND other_size > 0
),
kept AS (
    SELECT
        *,
        CASE WHEN comparable AND r > 0 AND other_r > 0 THEN ln(r / other_r) END AS apart,
        CASE WHEN comparable AND r > 0 AND other_r > 0 THEN (ln(r) + ln(other_r)) / 2 END AS middle,
        comparable AND (
            least(documents, other_documents) >= 50
            OR row_number() OVER (PARTITION BY class, comparable ORDER BY least(documents, other_documents) DESC, term) <= 30
        ) AS known
    FROM listed
),
placed AS (
    SELECT
        class, apart, middle,
        row_number() OVER (PARTITION BY class ORDER BY middle, term) - 1 AS place,
        count(*) OVER (PARTITION BY class) AS points
    FROM kept
    WHERE known AND apart IS NOT NULL
),
thirds AS (
    SELECT
        class, any_value(points) AS points, median(apart) AS level,
        median(apart) FILTER (place >= points - points // 3) - median(apart) FILTER (place < points // 3) AS rise,
        median(middle) FILTER (place >= points - points // 3) - median(middle) FILTER (place < points // 3) AS run
    FROM placed
    GROUP BY class
),
slopes AS (
    SELECT
        class, level,
        CASE WHEN points >= 60 AND run >= 0.5 THEN greatest(-1, least(1, rise / run)) ELSE 0 END AS slope
    FROM thirds
),
lines AS (
    SELECT class, any_value(slope) AS slope, any_value(level) AS level, median(apart - slope * middle) AS height
    FROM placed JOIN slopes USING (class)
    GROUP BY class
),
levelled AS (
    SELECT
        *,
        exp(coalesce(level, 0)) AS factor, 1 - coalesce(slope, 0) / 2 AS tilt, 1 + coalesce(slope, 0) / 2 AS other_tilt,
        apart - coalesce(height, 0) - coalesce(slope, 0) * middle AS surplus
    FROM kept LEFT JOIN lines USING (class)
),
fitted AS (  -- what an occurrence has on each side if the word is on the line
    SELECT
        *,
        (n * (ln(CASE WHEN apart IS NOT NULL THEN r END) - height / tilt) + other_n * ln(CASE WHEN apart IS NOT NULL THEN other_r END))
            / (n * other_tilt / tilt + other_n) AS other_log
    FROM levelled
),
scaled AS (
    SELECT *, exp(-(height + other_tilt * other_log) / tilt) AS own, exp(-other_log) AS other
    FROM fitted
),
centred AS (
    SELECT *, (y * own + other_y * other) / (n + other_n) AS usual, own - other AS more
    FROM scaled
),
dealt AS (  -- squares and cubes of the deviations, summed over documents and over clusters
    SELECT
        *,
        y * own - usual * n AS total,
        squared_off(own, usual, own_yy, own_yn, own_nn) + squared_off(other, usual, others_yy, others_yn, others_nn) AS squares,
        cubed_off(own, usual, own_yyy, own_yyn, own_ynn, own_nnn)
            + cubed_off(other, usual, others_yyy, others_yyn, others_ynn, others_nnn) AS cubes,
        more ** 2 * yy + 2 * more * (other * ya - usual * yb) + squared_off(other, usual, aa, ab, bb) AS whole_squares,
        more ** 3 * yyy + 3 * more ** 2 * (other * yya - usual * yyb)
            + 3 * more * (other ** 2 * yaa - 2 * other * usual * yab + usual ** 2 * ybb)
            + cubed_off(other, usual, aaa, aab, abb, bbb) AS whole_cubes,
        k * other_k / ((k + other_k) * (k + other_k - 1)) AS spread,
        CASE WHEN k + other_k > 2 THEN (other_k - k) / (k + other_k - 2) ELSE 0 END AS lean,
        own ** 2 * own_yy + other ** 2 * others_yy AS scale
    FROM centred
),
permuted AS (
    SELECT
        *,
        error_of(spread * ((1 - rho) * squares + rho * whole_squares), scale) AS deviation,
        spread * lean * ((1 - rho) * cubes + rho * whole_cubes) AS third
    FROM dealt
),
varying AS (
    SELECT
        *,
        share * (n + other_n) AS alpha,
        CASE WHEN apart IS NOT NULL THEN ratio_variance(r, n, yy, yn, nn, g) / r ** 2 END AS v,
        CASE WHEN apart IS NOT NULL
            THEN ratio_variance(other_r, other_n, other_yy, other_yn, other_nn, other_g) / other_r ** 2 END AS other_v,
        CASE WHEN apart IS NOT NULL
            THEN (y_other_y - other_r * y_other_n - r * n_other_y + r * other_r * n_other_n) / (n * other_n)
                * sqrt(g / (g - 1) * other_g / (other_g - 1)) / (r * other_r) END AS covariance,
        CASE WHEN other_n > 0 THEN n_other_n / (n * other_n) END AS shared,
        log_odds_ratio(n, other_n, words, other_words, share) AS log_odds
    FROM permuted
),
compared AS (
    SELECT
        *,
        CASE WHEN comparable THEN r - factor * other_r END AS difference,
        apart - ln(factor) AS log_ratio,
        v + other_v - 2 * covariance AS log_v,
        error_of(tilt ** 2 * v + other_tilt ** 2 * other_v - 2 * tilt * other_tilt * covariance, 1) AS error,
        (tilt ** 2 * v + other_tilt ** 2 * other_v) ** 2 / nullif(
            tilt ** 4 * v ** 2 / (g - 1) + other_tilt ** 4 * other_v ** 2 / (other_g - 1)
                + 2 * tilt ** 2 * other_tilt ** 2 * v * other_v * shared, 0
        ) AS df,
        CASE WHEN comparable THEN permutation_p(total / deviation, third / deviation ** 3, g, other_g)
            ELSE counts_p(spots, other_spots, all_spots, other_all_spots) END AS p,
        log_odds / sqrt(1 / (n + alpha) + 1 / nullif(other_n + alpha, 0)) AS z
    FROM varying
),
bounded AS (
    SELECT *, surplus - t_quantile(0.975, df) * error AS low, surplus + t_quantile(0.975, df) * error AS high
    FROM compared
),
adjusted AS (
    SELECT
        class, comparable,
        unnest(list(term ORDER BY term)) AS term,
        unnest(q_values(list(p ORDER BY term))) AS q
    FROM bounded
    GROUP BY class, comparable
),
weighted AS (  -- null for words that do not define the line
    SELECT
        *,
        CASE WHEN error IS NOT NULL AND log_odds IS NOT NULL AND log_v > 1e-14 THEN 1 / log_v END AS weight
    FROM bounded
),
about AS (
    SELECT
        *,
        log_odds - sum(weight * log_odds) OVER of_class / sum(weight) OVER of_class AS along,
        log_ratio - sum(weight * log_ratio) OVER of_class / sum(weight) OVER of_class AS up
    FROM weighted
    WINDOW of_class AS (PARTITION BY class)
),
sloped AS (
    SELECT
        *,
        count(weight) OVER of_class AS on_line,
        CASE
            WHEN sum(weight * along ** 2) OVER of_class > 1e-12 * sum(weight) OVER of_class
            THEN sum(weight * along * up) OVER of_class / sum(weight * along ** 2) OVER of_class
            ELSE 0
        END AS of_odds
    FROM about
    WINDOW of_class AS (PARTITION BY class)
),
explained AS (
    SELECT
        *,
        CASE WHEN on_line >= 3 THEN up - of_odds * along END AS residual,
        CASE WHEN comparable THEN low ELSE surely_more(spots, other_spots, all_spots, other_all_spots) END AS sure
    FROM sloped JOIN adjusted USING (class, comparable, term)
),
ranked AS (
    SELECT
        *,
        -- Single precision, so that the order of summation does not decide ties.
        CASE $rank_by
            WHEN 'sure' THEN sure WHEN 'surplus' THEN surplus WHEN 'difference' THEN difference
            WHEN 'log_ratio' THEN log_ratio WHEN 'residual' THEN residual WHEN 'log_odds' THEN log_odds ELSE z
        END::FLOAT AS rank
    FROM explained
)
SELECT
    class,
    term AS word,
    CASE WHEN comparable THEN 'attention' ELSE 'counts' END AS test,
    documents::BIGINT AS documents,
    other_documents::BIGINT AS other_documents,
    n::BIGINT AS occurrences,
    other_n::BIGINT AS other_occurrences,
    CASE WHEN comparable THEN g ELSE spots END AS clusters,
    CASE WHEN comparable THEN other_g ELSE other_spots END AS other_clusters,
    r AS lift,
    other_r AS other_lift,
    sure, surplus, error, low, high, p, q, factor, difference, log_ratio, log_odds, z, residual
FROM ranked
QUALIFY row_number() OVER (PARTITION BY class ORDER BY rank DESC NULLS LAST, documents DESC, term) <= $limit
ORDER BY class, rank DESC NULLS LAST, documents DESC, word
