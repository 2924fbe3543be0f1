-- How much does the prediction depend on what each score calls important?
--
-- `attnstore faithfulness STORE` has to measure it first: it removes the tokens that a score ranks highest from
-- documents, and runs the model on the rest.
--
-- How to read the answer: one row per score. `comprehensiveness` is how much the probability of the predicted
-- class falls when the highest 1, 5, 10, 20 and 50 % of the tokens are removed, averaged over the five; high is
-- faithful. `sufficiency` is how much it falls when only these tokens are left; low is faithful. `flips` is the
-- share of documents whose prediction changes without the highest 20 %. All are means over `documents`, with 95
-- % intervals for other documents of the same kind. Clusters (such as films, if documents have a group) count
-- as independent; `clusters` is their number. `difference` is the comprehensiveness minus that of the score
-- `against`, for each document with both. `p` tests whether it is 0 (Student's t), and `q` is the false
-- discovery rate (Benjamini and Hochberg) over the scores. `random` is a random order, the mean of ten draws.
-- `log_odds` is the word's log-odds between the predicted class and the rest in the store's other documents; it
-- does not depend on the model's internals.
--
-- How not to read it: as the share of the model's reasons that a score finds. The model was not trained on
-- texts with words removed (Hooker et al. 2019): compare with `random`, which has the same handicap. An
-- unsigned score (attention) ranks tokens against the class as high as those for it, which costs it. A high
-- rank of `log_odds` shows that words decide, not that the model is understood. The best of many scores is
-- partly best by chance: `attnstore faithfulness` chooses it on one half of the documents and measures it on
-- the other.
--
-- Documents without a label are neither right nor wrong, and no document is if the labels are not the model's
-- classes: rows=outcome leaves them out.
--
-- Example: attnstore query imdb.attn faithfulness,
-- over 210 of the 25,000 IMDb test reviews, first row:
--     part=all, score=log_odds, documents=210, clusters=196, comprehensiveness=0.4293, low=0.3987,
--     high=0.4599, sufficiency=-0.02256, sufficiency_low=-0.03385, sufficiency_high=-0.01126,
--     flips=0.6476, flips_low=0.5815, flips_high=0.7137, difference=0.3863, difference_low=0.3585,
--     difference_high=0.4142, p=1.489e-66, q=2.084e-65
--
-- @param removal: deletion|mask = deletion -- how tokens were removed: deleted, or replaced by the mask token
-- @param unit: token|word = token -- what was ranked and removed as a unit
-- @param against: score = random -- the score that the others are compared with
-- @param rows: all|class|outcome = all -- rows for all documents, for each class, or for those predicted right
--     and wrong
-- @param by: class = prediction -- with rows=class, what defines a document's class: the model's prediction, or
--     the gold label
-- @param cluster: cluster = group -- what counts as independent: groups of documents (films), or documents
-- @columns part, score, documents, comprehensiveness, low, high, sufficiency, flips, difference, p
-- @pair part, score: comprehensiveness, sufficiency, flips
-- @family the scores of a part
--
-- Source: comprehensiveness and sufficiency, and their mean over fractions, DeYoung et al. 2020, "ERASER: A
-- Benchmark to Evaluate Rationalized NLP Models", section 4. The intervals: ratios of sums over clusters, as in
-- top_words_by_class.
WITH
of_documents AS (
    SELECT
        document, score,
        avg(comprehensiveness::DOUBLE) AS comprehensiveness,
        avg(sufficiency::DOUBLE) AS sufficiency,
        avg(CASE WHEN fraction = 0.2 THEN flipped::INTEGER END) AS flips
    FROM faithfulness
    WHERE "by" = $removal AND unit = $unit
    GROUP BY document, score
),
parts AS (
    SELECT
        document, cluster,
        CASE
            WHEN $rows = 'all' THEN 'all'
            WHEN $rows = 'class' THEN class
            WHEN $labels_are_models AND prediction = label THEN 'right'
            WHEN $labels_are_models AND prediction <> label THEN 'wrong'
        END AS part
    FROM documents
),
placed AS (
    SELECT part, cluster, one.*, one.comprehensiveness - other.comprehensiveness AS difference
    FROM of_documents AS one
    JOIN parts USING (document)
    LEFT JOIN (SELECT * FROM of_documents WHERE score = $against) AS other USING (document)
    WHERE part IS NOT NULL
),
measures AS (
    UNPIVOT placed ON comprehensiveness, sufficiency, flips, difference INTO NAME measure VALUE value
),
gathered AS (
    SELECT part, score, measure, cluster, sum(value) AS y, count(*) AS n
    FROM measures
    GROUP BY part, score, measure, cluster
),
summed AS (
    SELECT
        part, score, measure,
        count(*) AS clusters, sum(n) AS n, sum(y) / sum(n) AS mean,
        effective_clusters(sum(n), sum(n * n)) AS g,
        sum(y * y) AS yy, sum(y * n) AS yn, sum(n * n) AS nn
    FROM gathered
    GROUP BY part, score, measure
),
estimated AS (
    SELECT
        part, score, measure, clusters, n, mean,
        t_quantile(0.975, g - 1) * sqrt(ratio_variance(mean, n, yy, yn, nn, g)) AS half,
        p_value(mean / error_of(ratio_variance(mean, n, yy, yn, nn, g), 1), g - 1) AS p
    FROM summed
),
scored AS (
    SELECT
        part, score,
        max(clusters) FILTER (measure = 'comprehensiveness') AS clusters,
        max(n) FILTER (measure = 'comprehensiveness') AS documents,
        max(mean) FILTER (measure = 'comprehensiveness') AS comprehensiveness,
        max(half) FILTER (measure = 'comprehensiveness') AS half,
        max(mean) FILTER (measure = 'sufficiency') AS sufficiency,
        max(half) FILTER (measure = 'sufficiency') AS s_half,
        max(mean) FILTER (measure = 'flips') AS flips,
        max(half) FILTER (measure = 'flips') AS f_half,
        max(mean) FILTER (measure = 'difference') AS difference,
        max(half) FILTER (measure = 'difference') AS d_half,
        max(p) FILTER (measure = 'difference') AS p
    FROM estimated
    GROUP BY part, score
),
adjusted AS (
    SELECT part, unnest(list(score ORDER BY score)) AS score, unnest(q_values(list(p ORDER BY score))) AS q
    FROM scored
    GROUP BY part
)
SELECT
    part,
    score,
    documents::BIGINT AS documents,
    clusters::BIGINT AS clusters,
    comprehensiveness,
    comprehensiveness - half AS low,
    comprehensiveness + half AS high,
    sufficiency,
    sufficiency - s_half AS sufficiency_low,
    sufficiency + s_half AS sufficiency_high,
    flips,
    CASE WHEN f_half IS NOT NULL THEN greatest(0, flips - f_half) END AS flips_low,
    CASE WHEN f_half IS NOT NULL THEN least(1, flips + f_half) END AS flips_high,
    difference,
    difference - d_half AS difference_low,
    difference + d_half AS difference_high,
    p,
    q
FROM scored JOIN adjusted USING (part, score)
-- Single precision, so that the order of summation does not decide ties.
ORDER BY part, comprehensiveness::FLOAT DESC, score
