-- Which classes does the model confuse?
--
-- How to read the answer: one row per split, gold label and prediction that occur together. `documents`
-- counts them, `share` is their part of the split's documents with that label, `mean_probability` what the
-- model gave its prediction on average, `truncated` the documents among them whose end the model did not see.
-- Documents without a label stand under a null label. Labels are shown as the data has them, also where they
-- are not the model's classes: then the table says which of its own classes the model gives to which of the
-- data's.
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
