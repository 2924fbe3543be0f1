-- Which tokens does the model attend to most, in the documents of each class?
--
-- How to read the answer: one row a class and token, the highest ranked first. `lift` is a token's attention
-- over what it would get if its document's attention were spread evenly (attention × tokens of the document),
-- averaged over its occurrences: 1.0 is uniform, 3.0 is three times that. `mean_attention` is the plain
-- average, which favours tokens of short documents. `share` is the token's part of all the attention in the
-- class's documents, that of special tokens and punctuation included, whatever is listed: frequent tokens
-- lead by it. `documents` counts the documents of the class with the token, `occurrences` its places in them.
-- Rank by `lift` with too low a `min_documents` and rare tokens lead by chance.
--
-- How not to read it: as evidence for the class. These are tokens attended to in documents of the class; a
-- token may be attended to as much in the other one. Attention is not explanation (Jain and Wallace 2019;
-- Wiegreffe and Pinter 2019).
--
-- Nothing is renormalised unless asked: what [CLS], [SEP] and punctuation take is gone from the others. With
-- `renormalise` the tokens left out are as if they had never been in their document: the attention of the
-- rest adds up to 1 in each, and uniform means even among the rest. Documents in which the reduction has
-- nothing to say (null) are left out, and with by=label those that have no label. Equal ranks are ordered by
-- documents, then by token.
--
-- @param reduction: reduction = cls -- which attention: a reduction that the store holds
-- @param layer: layer = last -- its layer: a number from 1, first, last, or mean (of all layers)
-- @param by: class = prediction -- what a document's class is: the model's prediction, or the gold label
-- @param min_documents: count = auto -- leave out tokens found in fewer documents of the class;
--     auto: one in 200 of the class's documents, and at least 5
-- @param specials: in|out = out -- list the tokens which the tokenizer adds, such as [CLS] and [SEP]
-- @param punctuation: in|out = out -- list tokens without any letter or digit, in any script (Ġ and Ċ, the
--     space and the line break of byte-level vocabularies, are no letters here)
-- @param ignore: list = -- tokens to leave out, as the tokenizer prints them
-- @param renormalise: boolean = false -- share out the attention of what is left out among the rest
-- @param rank_by: lift|share|mean_attention = lift -- the column to rank by
-- @param limit: count = 20 -- rows a class
--
-- Source: attention from [CLS] over a corpus, Clark et al. 2019, "What Does BERT Look At?"; lift as the
-- remedy against document length is ours.
WITH
considered AS (
    SELECT
        document, class, token, special, new_token, length, attention,
        ($specials = 'in' OR NOT special)
        AND ($punctuation = 'in' OR regexp_matches(token, '[^\P{L}ĠĊ]|\p{N}'))
        AND NOT list_contains($ignore::VARCHAR[], token) AS listed
    FROM tokens
    WHERE class IS NOT NULL AND attention IS NOT NULL
),
remaining AS (  -- of each document, what is left when the unlisted tokens are taken out of it
    SELECT document, sum(attention) AS mass, count(*) AS tokens
    FROM considered
    WHERE $renormalise AND listed
    GROUP BY document
),
weighed AS (
    SELECT class, token, special, new_token, attention, attention * length AS lift
    FROM considered
    WHERE NOT $renormalise
    UNION ALL
    SELECT class, token, special, new_token, attention / mass, attention / mass * tokens
    FROM considered JOIN remaining USING (document)
    WHERE $renormalise AND listed AND mass <> 0
),
counted AS (
    SELECT
        class,
        token,
        bool_or(special) AS special,
        count_if(new_token)::BIGINT AS documents,
        count(*) AS occurrences,
        sum(attention) AS mass,
        sum(lift) AS lift
    FROM weighed
    GROUP BY class, token
),
measured AS (
    SELECT
        class,
        token,
        special,
        documents,
        occurrences,
        mass / occurrences AS mean_attention,
        lift / occurrences AS lift,
        mass / sum(mass) OVER (PARTITION BY class) AS share
    FROM counted
),
support AS (
    SELECT class, coalesce($min_documents, greatest(5, (count(*) + 199) // 200)) AS least
    FROM documents
    GROUP BY class
),
ranked AS (
    SELECT
        *,
        -- Single precision: the order in which floats are added must not decide the order of equal ranks.
        CASE $rank_by WHEN 'lift' THEN lift WHEN 'share' THEN share ELSE mean_attention END::FLOAT AS rank
    FROM measured JOIN support USING (class)
    WHERE
        documents >= least
        AND ($specials = 'in' OR NOT special)
        AND ($punctuation = 'in' OR regexp_matches(token, '[^\P{L}ĠĊ]|\p{N}'))
        AND NOT list_contains($ignore::VARCHAR[], token)
)
SELECT class, token, documents, occurrences, mean_attention, lift, share
FROM ranked
QUALIFY row_number() OVER (PARTITION BY class ORDER BY rank DESC, documents DESC, token) <= $limit
ORDER BY class, rank DESC, documents DESC, token
