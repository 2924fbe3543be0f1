-- Which classes does the model confuse?
--
-- How to read the answer: one row for each combination of split, gold label and prediction in the store.
-- `documents` counts its documents, `share` is their share of the split's documents with that label,
-- `mean_probability` is the mean probability of their predictions, and `truncated` counts those that the model
-- did not see in full. Documents without a label have a null label. Labels are shown as in the data, even if
-- they are not the model's classes; the table then shows which of the model's classes go with which label.
--
-- Example: attnstore query imdb.attn confusion, over the 25,000 IMDb test reviews, first row:
--     split=test, label=neg, prediction=neg, documents=11481, share=0.9185, mean_probability=0.9734,
--     truncated=1541
--
-- @columns split, label, prediction, documents, share, mean_probability
-- @pair split, label, prediction: share, mean_probability
WITH counted AS (
    SELECT
        split, label, prediction,
        count(*) AS documents,
        avg(probability::DOUBLE) AS mean_probability,
        count_if(truncated)::BIGINT AS truncated
    FROM documents
    GROUP BY split, label, prediction
)
SELECT
    split, label, prediction, documents,
    documents / sum(documents) OVER (PARTITION BY split, label) AS share,
    mean_probability,
    truncated
FROM counted
ORDER BY split, label NULLS LAST, prediction
