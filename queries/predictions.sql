-- How often is the model right, and where is it wrong?
--
-- How to read the answer: one row per split and class. If `split` is null, the row covers all splits; if
-- `class` is null, all classes. The first row is the whole store. `predicted` counts the documents predicted as
-- the class, `labelled` those with this gold label, and `correct` those with both; for all classes, `predicted`
-- counts all documents. `accuracy` (correct / labelled) is given for all classes together. Each class has the
-- counts `false_positives` (predicted as it, labelled otherwise) and `false_negatives` (labelled as it,
-- predicted otherwise), and `precision`, `recall` and `f1`. Values that can't be computed (0 / 0) are null.
-- `truncated` counts the predicted documents that the model did not see in full. The question `confusion` shows
-- every pair of label and prediction.
--
-- Documents without a label count as predicted and nowhere else. If the labels are not the model's classes, no
-- document counts as labelled, because there is nothing to be right about. Accuracy on the model's own training
-- data says nothing about other data.
--
-- Example: attnstore query imdb.attn predictions, over the 25,000 IMDb test reviews, first row:
--     split=null, class=null, predicted=25000, labelled=25000, correct=23185, accuracy=0.9274,
--     false_positives=null, false_negatives=null, precision=null, recall=null, f1=null, truncated=3513
--
-- @columns split, class, predicted, correct, accuracy, precision, recall
-- @pair split, class: accuracy, precision, recall, f1
--
-- Source: the usual definitions; f1 = 2 correct / (2 correct + false positives + false negatives).
WITH
judged AS (
    SELECT split, prediction, CASE WHEN $labels_are_models THEN label END AS gold, truncated
    FROM documents
),
cells AS (
    SELECT split, prediction, gold, count(*) AS documents, count_if(truncated) AS truncated
    FROM judged
    GROUP BY GROUPING SETS ((split, prediction, gold), (prediction, gold))
),
classes AS (
    SELECT prediction AS class FROM cells
    UNION
    SELECT gold FROM cells WHERE gold IS NOT NULL
),
counted AS (
    SELECT
        split, class,
        sum(documents) FILTER (prediction = class) AS predicted,
        sum(documents) FILTER (gold = class) AS labelled,
        sum(documents) FILTER (prediction = class AND gold = class) AS correct,
        coalesce(sum(documents) FILTER (prediction = class AND gold <> class), 0) AS false_positives,
        coalesce(sum(documents) FILTER (prediction <> class AND gold = class), 0) AS false_negatives,
        sum(truncated) FILTER (prediction = class) AS truncated
    FROM cells CROSS JOIN classes
    GROUP BY split, class
    UNION ALL
    SELECT
        split, NULL AS class,
        sum(documents) AS predicted,
        sum(documents) FILTER (gold IS NOT NULL) AS labelled,
        sum(documents) FILTER (prediction = gold) AS correct,
        NULL AS false_positives,
        NULL AS false_negatives,
        sum(truncated) AS truncated
    FROM cells
    GROUP BY split
),
whole AS (
    SELECT
        split, class,
        coalesce(predicted, 0)::BIGINT AS predicted,
        coalesce(labelled, 0)::BIGINT AS labelled,
        coalesce(correct, 0)::BIGINT AS correct,
        false_positives::BIGINT AS false_positives,
        false_negatives::BIGINT AS false_negatives,
        coalesce(truncated, 0)::BIGINT AS truncated
    FROM counted
)
SELECT
    split, class, predicted, labelled, correct,
    CASE WHEN class IS NULL THEN correct::DOUBLE / nullif(labelled, 0) END AS accuracy,
    false_positives, false_negatives,
    correct::DOUBLE / nullif(correct + false_positives, 0) AS precision,
    correct::DOUBLE / nullif(correct + false_negatives, 0) AS recall,
    2.0::DOUBLE * correct / nullif(2 * correct + false_positives + false_negatives, 0) AS f1,
    truncated
FROM whole
ORDER BY split NULLS FIRST, class NULLS FIRST
