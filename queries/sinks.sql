-- How much attention goes to [CLS], [SEP], punctuation, <br />, stop words, and the rest?
--
-- How to read the answer: one row per class, layer and kind of token, the kind with most attention first.
-- `share` is the kind's share of all attention in the class's documents, `share_of_tokens` its share of their
-- tokens, and `lift` is the mean attention of its tokens relative to even attention: 1.0 is uniform. The kinds
-- are each special token, by name; `<br />`, the four tokens of this markup together; `punctuation`, words
-- without any letter or digit; `stop words`; and `words`, all others. A layer in which [SEP] and punctuation
-- take nearly everything looks at little else: words get only part of a small remainder.
--
-- How not to read it: as wasted attention. [SEP] or a full stop can hold what other layers gathered there,
-- while heads that have nothing to do are known to rest on them; the shares can't tell the two apart. A large
-- share of stop words mostly reflects their number: look at `lift`.
--
-- `<br />` is found if the tokenizer splits it into `<`, `br`, `/`, `>`; otherwise its parts count as what they
-- look like. Documents where the reduction is null are left out; with by=label, so are those without a label.
-- `layer` is null for a reduction that has one value for all layers. For a reduction that does not sum to 1 in
-- a document, `share` is null if all attention sums to 0.
--
-- Example: attnstore query imdb.attn sinks, over the 25,000 IMDb test reviews, first row:
--     class=neg, layer=1, kind=[CLS], tokens=12277, share_of_tokens=0.003642, share=0.2764, lift=70.3
--
-- @param reduction: reduction = cls -- which attention: a reduction in the store
-- @param by: class = prediction -- what defines a document's class: the model's prediction, or the gold label
-- @param stop_words: list = auto -- words counted as stop words, as the store spells them; auto: 135 English
--     function words, without negations
-- @columns class, layer, kind, share_of_tokens, share, lift
-- @pair class, layer, kind: share, lift
--
-- Source: the shares of special tokens and punctuation, and attention to [SEP] as a possible no-op, Clark et
-- al. 2019, "What Does BERT Look At?", section 3.2.
WITH
stop_words AS (
    SELECT unnest(coalesce($stop_words::VARCHAR[], [
        'a', 'about', 'above', 'after', 'again', 'all', 'also', 'although', 'am', 'an', 'and', 'another',
        'any', 'are', 'as', 'at', 'be', 'because', 'been', 'before', 'being', 'below', 'between', 'both',
        'but', 'by', 'can', 'could', 'did', 'do', 'does', 'doing', 'down', 'during', 'each', 'either',
        'else', 'few', 'for', 'from', 'further', 'had', 'has', 'have', 'having', 'he', 'her', 'here',
        'hers', 'herself', 'him', 'himself', 'his', 'how', 'i', 'if', 'in', 'into', 'is', 'it', 'its',
        'itself', 'just', 'me', 'more', 'most', 'much', 'must', 'my', 'myself', 'of', 'off', 'on', 'once',
        'only', 'or', 'other', 'our', 'ours', 'ourselves', 'out', 'over', 'own', 'same', 'she', 'should',
        'since', 'so', 'some', 'still', 'such', 'than', 'that', 'the', 'their', 'theirs', 'them',
        'themselves', 'then', 'there', 'these', 'they', 'this', 'those', 'though', 'through', 'to', 'too',
        'under', 'until', 'up', 'upon', 'us', 'very', 'was', 'we', 'were', 'what', 'when', 'where', 'which',
        'while', 'who', 'whom', 'whose', 'why', 'will', 'with', 'within', 'would', 'you', 'your', 'yours',
        'yourself', 'yourselves'
    ])) AS word
),
candidates AS (  -- the parts of markup, in numbered runs that begin at `<` and end at `>`
    SELECT
        * EXCLUDE (last, place),
        sum(CASE WHEN word = '<' OR last IS NULL OR last = '>' OR place <> position - 1 THEN 1 ELSE 0 END)
            OVER (PARTITION BY document ORDER BY position) AS run
    FROM (
        SELECT
            class, document, position, word, length, COLUMNS('^attention_[0-9]+$') AS '\0',
            lag(word) OVER by_position AS last,
            lag(position) OVER by_position AS place
        FROM tokens
        WHERE class IS NOT NULL AND word IN ('<', 'br', '/', '>')
        WINDOW by_position AS (PARTITION BY document ORDER BY position)
    )
),
runs AS (
    SELECT document, run, string_agg(word, '' ORDER BY position) IN ('<br/>', '<br>') AS markup
    FROM candidates
    GROUP BY document, run
),
gathered AS (  -- everything but the markup is already summed
    SELECT
        class, CASE WHEN special THEN token END AS name, word, false AS markup,
        sum(CASE WHEN COLUMNS('^attention_[0-9]+$') IS NOT NULL THEN occurrences ELSE 0 END) AS 'tokens_\0',
        sum(COLUMNS('^attention_[0-9]+$')) AS 'mass_\0',
        sum(COLUMNS('^attention_[0-9]+_lift$')) AS 'lift_\0'
    FROM totals
    WHERE class IS NOT NULL AND (word IS NULL OR word NOT IN ('<', 'br', '/', '>'))
    GROUP BY class, name, word
    UNION ALL
    SELECT
        class, NULL, word, markup,
        count(COLUMNS('^attention_[0-9]+$')), sum(COLUMNS('^attention_[0-9]+$')),
        sum(COLUMNS('^attention_[0-9]+$') * length)
    FROM candidates JOIN runs USING (document, run)
    GROUP BY class, word, markup
),
kinds AS (  -- a list element per layer
    SELECT
        class,
        CASE
            WHEN name IS NOT NULL THEN name
            WHEN markup THEN '<br />'
            WHEN NOT regexp_matches(word, '[\p{L}\p{N}]') THEN 'punctuation'
            WHEN word IN (FROM stop_words) THEN 'stop words'
            ELSE 'words'
        END AS kind,
        unnest([*COLUMNS('^tokens_')]) AS tokens,
        unnest([*COLUMNS('^mass_')]) AS mass,
        unnest([*COLUMNS('^lift_')]) AS lift,
        unnest(range(1, len([*COLUMNS('^mass_')]) + 1)) AS layer,
        len([*COLUMNS('^mass_')]) AS layers
    FROM gathered
),
counted AS (
    SELECT
        class,
        CASE WHEN layers = $layers THEN layer END::INTEGER AS layer,
        kind,
        sum(tokens)::BIGINT AS tokens,
        sum(mass) AS mass,
        sum(lift) AS lift
    FROM kinds
    WHERE tokens > 0
    GROUP BY ALL
)
SELECT
    class, layer, kind, tokens,
    tokens / sum(tokens) OVER of_all AS share_of_tokens,
    mass / nullif(sum(mass) OVER of_all, 0) AS share,
    lift / tokens AS lift
FROM counted
WINDOW of_all AS (PARTITION BY class, layer)
ORDER BY class, layer, share::FLOAT DESC, kind
