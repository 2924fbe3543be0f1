"""Merging wordpieces and ignoring tokens, and the resulting values."""

from dataclasses import replace

import pyarrow as pa
import pytest
from drawings import FILM, SCHEMA, special, table, word

from attnstore.errors import UsageError
from attnstore.show.terminal import terminal
from attnstore.show.words import ignore_tokens, merge_words


def test_merging_by_sum_keeps_the_total_and_compares_with_an_even_share_of_words():
    """One row per word, from its first character to its last. The sum of attention stays the same."""
    rows = [
        special("[CLS]", 0.1, 0.6),
        word("an", 0, 0.1, 0.6),
        ("un", "unforgettable", 0, 3, 3, 5, False, 0.1, 0.6),
        ("##forget", "unforgettable", 1, 3, 5, 11, False, 0.2, 1.2),
        ("##table", "unforgettable", 2, 3, 11, 16, False, 0.2, 1.2),
        special("[SEP]", 0.3, 1.8),
    ]
    merged = merge_words(table(rows))
    assert merged.schema.equals(SCHEMA)
    values = {name: merged[name].to_pylist() for name in merged.column_names}
    # Six tokens become four units, so lift is attention times 4.
    assert values.pop("attention") == pytest.approx([0.1, 0.1, 0.5, 0.3])
    assert values.pop("lift") == pytest.approx([0.4, 0.4, 2.0, 1.2])
    assert values == {
        "position": [0, 1, 2, 5],
        "token": ["[CLS]", "an", "unforgettable", "[SEP]"],
        "word": [None, "an", "unforgettable", None],
        "piece": [None, 0, 0, None],
        "pieces": [None, 1, 3, None],
        "segment": [None, 0, 0, None],
        "start": [0, 0, 3, 0],
        "end": [0, 2, 16, 0],
        "special": [True, False, False, True],
    }


def test_merging_by_mean_averages_attention_and_lift():
    """As in bert_attn_viz: a word has the mean of its pieces."""
    merged = merge_words(table(FILM), "mean")
    assert merged["attention"].to_pylist() == pytest.approx([0.1, 0.05, 0.55 / 3, 0.3])
    assert merged["lift"].to_pylist() == pytest.approx([0.6, 0.3, 11.8 / 3, 1.8])


def test_merging_skips_missing_values():
    """A word without any value has none; a word with some values has the result of those."""
    rows = [
        ("a", "ab", 0, 2, 0, 1, False, None, None),
        ("##b", "ab", 1, 2, 1, 2, False, None, None),
        ("c", "cd", 0, 2, 3, 4, False, None, None),
        ("##d", "cd", 1, 2, 4, 5, False, 0.5, 2.0),
    ]
    merged = merge_words(table(rows))
    assert merged["attention"].to_pylist() == [None, 0.5]
    assert merged["lift"].to_pylist() == [None, 1.0]
    assert merge_words(table([])).num_rows == 0


def test_an_invalid_merge_is_a_one_line_error(film):
    """An unknown method, a second merge, and a merge after ignoring are refused."""
    with pytest.raises(UsageError, match="by 'sum' or 'mean', not 'max'"):
        merge_words(film.tokens, "max")
    for changed in (merge_words(film.tokens), ignore_tokens(film.tokens, ["an"])):
        with pytest.raises(UsageError, match="merge words once, before ignoring"):
            merge_words(changed)


def test_ignoring_blanks_tokens_words_and_special_tokens():
    """Named tokens, all pieces of named words, and special tokens lose their values; others keep theirs."""
    tokens = table(FILM)
    assert ignore_tokens(tokens, ["##forget"])["lift"].to_pylist() == [0.6, 0.3, 0.6, None, 10.0, 1.8]
    ignored = ignore_tokens(tokens, ["unforgettable"], special=True)
    assert ignored["attention"].to_pylist() == [None, 0.05, None, None, None, None]
    assert ignore_tokens(tokens, []) is tokens


def test_renormalising_makes_the_rest_sum_to_1():
    """Lift is relative to an even share of the rest. If nothing is left, there are no values."""
    rest = ignore_tokens(table(FILM), ["##table", "an"], renormalise=True, special=True)
    assert rest["attention"].to_pylist() == [
        None,
        None,
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
        None,
        None,
    ]
    assert rest["lift"].to_pylist() == [None, None, pytest.approx(2 / 3), pytest.approx(4 / 3), None, None]
    none = ignore_tokens(table(FILM), ["an", "unforgettable"], renormalise=True, special=True)
    assert none["attention"].to_pylist() == [None] * 6


def test_renormalising_alone_rescales_everything(film):
    """With nothing ignored, all values sum to 1, which those of a custom reduction need not. The caption says so."""
    double = pa.Table.from_pylist(
        [row | {"attention": row["attention"] and row["attention"] * 2} for row in table(FILM).to_pylist()],
        schema=table(FILM).schema,
    )
    whole = ignore_tokens(double, [], renormalise=True)
    assert sum(value or 0 for value in whole["attention"].to_pylist()) == pytest.approx(1)
    assert "attention is renormalised to a sum of 1" in terminal(replace(film, tokens=whole))


def test_an_ignored_word_that_does_not_occur_is_reported(film):
    """A misspelt --ignore has no effect, and the caption says so."""
    tokens = ignore_tokens(table(FILM), ["an", "nosuchword"])
    assert "ignored: “an”, “nosuchword” (not in this document); the rest" in terminal(
        replace(film, tokens=tokens), width=200
    )
