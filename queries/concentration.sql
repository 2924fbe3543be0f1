-- How concentrated is the attention of a document, layer by layer?
--
-- How to read the answer: one row per class and layer. Each document's attention is normalised to sum to 1. Its
-- `entropy` (nats) is 0 if one token gets everything, and ln(tokens) if all tokens get the same. exp(entropy)
-- is the number of tokens that would have this entropy with equal attention: the document's effective number of
-- attended tokens. `evenness` is entropy / ln(tokens), 1.0 for even attention; it corrects for the document's
-- length. `entropy`, `effective_tokens` and `evenness` are means over the class's documents, `deviation` is the
-- standard deviation of the entropy, and `effective_05` ... `effective_95` are the 5th, 25th, 50th, 75th and
-- 95th percentiles of the effective number of tokens.
--
-- How not to read it: as focus on words. Attention that concentrates on [CLS] or [SEP] counts, too: leave
-- special tokens out with specials=out, and compare. Long documents have higher entropy, and classes differ in
-- length.
--
-- Documents are left out if the reduction is null, has negative values, or sums to 0; with by=label, also if
-- they have no label. `evenness` covers documents of two tokens or more. `layer` is null for a reduction that
-- has one value for all layers.
--
-- Example: attnstore query imdb.attn concentration, over the 25,000 IMDb test reviews, first row:
--     class=neg, layer=1, documents=12277, entropy=4.332, deviation=0.5849, effective_tokens=88.61,
--     evenness=0.7874, effective_05=24.75, effective_25=52.99, effective_50=76.4, effective_75=121.3,
--     effective_95=170.4
--
-- @param reduction: reduction = cls -- which attention: a reduction in the store
-- @param by: class = prediction -- what defines a document's class: the model's prediction, or the gold label
-- @param specials: in|out = in -- count special tokens, such as [CLS] and [SEP], or only the others
-- @columns class, layer, documents, entropy, effective_tokens, evenness
-- @pair class, layer: effective_tokens, entropy, evenness
--
-- Source: the entropy of attention, Clark et al. 2019, "What Does BERT Look At?", section 3.3; the effective
-- number, Hill 1973, "Diversity and Evenness", order 1.
WITH
gathered AS (
    SELECT
        document,
        any_value(class) AS class,
        count(COLUMNS('^attention_[0-9]+$')) AS 'tokens_\0',
        min(COLUMNS('^attention_[0-9]+$')) AS 'least_\0',
        sum(COLUMNS('^attention_[0-9]+$')) AS 'mass_\0',
        sum(CASE
            WHEN COLUMNS('^attention_[0-9]+$') > 0
            THEN COLUMNS('^attention_[0-9]+$') * ln(COLUMNS('^attention_[0-9]+$'))
        END) AS 'sum_\0'
    FROM tokens
    WHERE class IS NOT NULL AND ($specials = 'in' OR NOT special)
    GROUP BY document
),
layered AS (  -- a list element per layer
    SELECT
        class,
        unnest([*COLUMNS('^tokens_')]) AS tokens,
        unnest([*COLUMNS('^least_')]) AS least,
        unnest([*COLUMNS('^mass_')]) AS mass,
        unnest([*COLUMNS('^sum_')]) AS total,
        unnest(range(1, len([*COLUMNS('^mass_')]) + 1)) AS layer,
        len([*COLUMNS('^mass_')]) AS layers
    FROM gathered
),
measured AS (
    SELECT
        class,
        CASE WHEN layers = $layers THEN layer END::INTEGER AS layer,
        tokens,
        -- −Σ (a/M) ln(a/M); for a single token it is exactly 0, despite rounding.
        greatest(0, ln(mass) - total / mass) AS entropy
    FROM layered
    WHERE least >= 0 AND mass > 0
)
SELECT
    class,
    layer,
    count(*) AS documents,
    avg(entropy) AS entropy,
    stddev_samp(entropy) AS deviation,
    avg(exp(entropy)) AS effective_tokens,
    avg(CASE WHEN tokens > 1 THEN entropy / ln(tokens) END) AS evenness,
    quantile_cont(exp(entropy), 0.05) AS effective_05,
    quantile_cont(exp(entropy), 0.25) AS effective_25,
    quantile_cont(exp(entropy), 0.5) AS effective_50,
    quantile_cont(exp(entropy), 0.75) AS effective_75,
    quantile_cont(exp(entropy), 0.95) AS effective_95
FROM measured
GROUP BY class, layer
ORDER BY class, layer
