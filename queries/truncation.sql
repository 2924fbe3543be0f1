-- How much of the documents did the model not see, and does that cost it accuracy?
--
-- How to read the answer: one row per class, and one for all (class null): first truncated documents
-- (`truncated` true), then those seen in full, then both (null). `tokens` is what was seen, including special
-- tokens; `characters` is the length of the texts. `hidden` is how many characters the model did not see, and
-- `hidden_share` their share. They are those beyond the last token or, in a store made with `--long tail`,
-- before the first; with `head+tail`, the widest gap between two tokens. In a pair, both texts count.
-- `accuracy` is the share of the labelled documents that are predicted right. If it is no lower for truncated
-- documents, what was hidden mattered little; if it is, a longer `max_length` or a model for long documents may
-- help.
--
-- How not to read it: as the effect of truncation. Truncated documents are long, and long documents may be
-- harder, or easier, for other reasons. Hidden text got no attention, and no other question covers it.
--
-- With by=label, documents without a label appear only in the rows for all. If the store's labels are not the
-- model's classes, `accuracy` is null.
--
-- Example: attnstore query imdb.attn truncation, over the 25,000 IMDb test reviews, first row:
--     class=neg, truncated=true, documents=1713, tokens=877056, characters=5440266, hidden=1748255,
--     hidden_share=0.3214, labelled=1713, correct=1541, accuracy=0.8996
--
-- @param by: class = prediction -- what defines a document's class: the model's prediction, or the gold label
-- @columns class, truncated, documents, hidden_share, labelled, accuracy
-- @pair class, truncated: accuracy, hidden_share
--
-- Source: counts.
WITH
seen AS (
    SELECT
        document,
        max(CASE WHEN segment IS DISTINCT FROM 1 THEN "end" END) AS seen,
        max(CASE WHEN segment = 1 THEN "end" END) AS seen_of_second,
        min(CASE WHEN NOT special THEN start END) AS first
    FROM tokens
    GROUP BY document
),
skipped AS (  -- only used with head+tail
    SELECT document, max(start - before) AS skipped
    FROM (
        SELECT document, start, lag("end") OVER (PARTITION BY document ORDER BY position) AS before
        FROM tokens
        WHERE $long = 'head+tail' AND NOT special
    )
    GROUP BY document
),
measured AS (
    SELECT
        class, truncated, length, prediction, CASE WHEN $labels_are_models THEN label END AS gold,
        length(text) + coalesce(length(text_pair), 0) AS characters,
        -- In a text seen in full, only white space follows the last token.
        CASE
            WHEN NOT truncated THEN 0
            WHEN $long = 'tail' THEN coalesce(first, length(text))
            WHEN $long = 'head+tail' THEN coalesce(skipped, 0)
            ELSE
                CASE
                    WHEN regexp_full_match(substring(text, coalesce(seen, 0) + 1), '[ \t\r\n]*') THEN 0
                    ELSE length(text) - coalesce(seen, 0)
                END + CASE
                    WHEN text_pair IS NULL
                        OR regexp_full_match(substring(text_pair, coalesce(seen_of_second, 0) + 1), '[ \t\r\n]*')
                    THEN 0
                    ELSE length(text_pair) - coalesce(seen_of_second, 0)
                END
        END AS hidden
    FROM documents LEFT JOIN seen USING (document) LEFT JOIN skipped USING (document)
),
counted AS (
    SELECT
        class,
        truncated,
        grouping(class) AS every,
        grouping(truncated) AS whole,
        count(*) AS documents,
        sum(length)::BIGINT AS tokens,
        sum(characters)::BIGINT AS characters,
        sum(hidden)::BIGINT AS hidden,
        count(gold) AS labelled,
        count(CASE WHEN gold = prediction THEN 1 END) AS correct
    FROM measured
    GROUP BY CUBE (class, truncated)
    HAVING class IS NOT NULL OR grouping(class) = 1
)
SELECT
    class, truncated, documents, tokens, characters, hidden,
    hidden / nullif(characters, 0) AS hidden_share,
    labelled, correct,
    correct / nullif(labelled, 0) AS accuracy
FROM counted
WHERE documents > 0
ORDER BY every, class, whole, truncated DESC
