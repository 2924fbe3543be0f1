"""What a drawn document promises: its own text, honest shades, and nothing that can do harm."""

import re
import subprocess
import sys
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from itertools import groupby

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attnstore.errors import UsageError
from attnstore.show import heatmap
from attnstore.show.heatmap import Heatmap, html, ignore_tokens, intensities, merge_words, terminal
from attnstore.store.schema import DICTIONARY

SCHEMA = pa.schema(
    {
        "position": pa.int32(),
        "token": DICTIONARY,
        "word": DICTIONARY,
        "piece": pa.int16(),
        "pieces": pa.int16(),
        "start": pa.int32(),
        "end": pa.int32(),
        "special": pa.bool_(),
        "attention": pa.float64(),
        "lift": pa.float64(),
    }
)
SGR = re.compile("\x1b\\[[0-9;]*m")


def table(rows):
    """Rows of (token, word, piece, pieces, start, end, special, attention, lift)."""
    names = SCHEMA.names[1:]
    return pa.Table.from_pylist(
        [{"position": n, **dict(zip(names, row, strict=True))} for n, row in enumerate(rows)], schema=SCHEMA
    )


def special(token, attention=0.0, lift=0.0):
    return (token, None, None, None, 0, 0, True, attention, lift)


def word(token, start, attention, lift, length=None):
    return (token, token, 0, 1, start, start + (length or len(token)), False, attention, lift)


def shaded(text, rows, **changes):
    facts = {
        "id": "test/pos/1_9", "label": "pos", "prediction": "pos", "probability": 0.75, "reduction": "cls",
        "layer": "6 of 6", "truncated": False,
    }  # fmt: skip
    return Heatmap(**{**facts, "text": text, "tokens": table(rows), **changes})


FILM = (
    special("[CLS]", 0.1, 0.6),
    word("an", 0, 0.05, 0.3),
    ("un", "unforgettable", 0, 3, 3, 5, False, 0.1, 0.6),
    ("##forget", "unforgettable", 1, 3, 5, 11, False, 0.2, 1.2),
    ("##table", "unforgettable", 2, 3, 11, 16, False, 0.25, 10.0),
    special("[SEP]", 0.3, 1.8),
)


@pytest.fixture
def film():
    return shaded("An unforgettable <film>", FILM, prediction="neg")


class Page(HTMLParser):
    """Reads a page back: the document's text, the words around it, the tooltips, the tags."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.texts, self.titles, self.tags, self.words, self.within = [], [], [], [], False
        self.feed(source)
        self.close()

    @property
    def text(self):
        return "".join(self.texts)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.within = self.within or (tag == "p" and attrs.get("class", "").startswith("text"))
        if "title" in attrs:
            self.titles.append(attrs["title"])

    def handle_endtag(self, tag):
        self.within = self.within and tag != "p"

    def handle_data(self, data):
        (self.texts if self.within else self.words).append(data)


# --- Merging, ignoring, scaling ----------------------------------------------------------------------------


def test_merging_by_sum_keeps_the_total_and_compares_with_an_even_share_of_words():
    """One row a word, from its first character to its last; attention adds up to what it was."""
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
    # Four units remain of six tokens, so lift is attention times 4.
    assert values.pop("attention") == pytest.approx([0.1, 0.1, 0.5, 0.3])
    assert values.pop("lift") == pytest.approx([0.4, 0.4, 2.0, 1.2])
    assert values == {
        "position": [0, 1, 2, 5],
        "token": ["[CLS]", "an", "unforgettable", "[SEP]"],
        "word": [None, "an", "unforgettable", None],
        "piece": [None, 0, 0, None],
        "pieces": [None, 1, 3, None],
        "start": [0, 0, 3, 0],
        "end": [0, 2, 16, 0],
        "special": [True, False, False, True],
    }


def test_merging_by_mean_averages_attention_and_lift():
    """The way of bert_attn_viz: a word has the mean of its pieces."""
    merged = merge_words(table(FILM), "mean")
    assert merged["attention"].to_pylist() == pytest.approx([0.1, 0.05, 0.55 / 3, 0.3])
    assert merged["lift"].to_pylist() == pytest.approx([0.6, 0.3, 11.8 / 3, 1.8])


def test_merging_passes_over_missing_values():
    """A word without any value has none; a word with some has those."""
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


def test_a_mistaken_merge_is_one_clear_error(film):
    """An unknown way, a second merge, and a merge after ignoring are refused."""
    with pytest.raises(UsageError, match="by 'sum' or 'mean', not 'max'"):
        merge_words(film.tokens, "max")
    for changed in (merge_words(film.tokens), ignore_tokens(film.tokens, ["an"])):
        with pytest.raises(UsageError, match="merge words once, before ignoring"):
            merge_words(changed)


def test_ignoring_blanks_tokens_words_and_special_tokens():
    """Named tokens, all the pieces of named words, and special ones lose their values; others keep theirs."""
    tokens = table(FILM)
    assert ignore_tokens(tokens, ["##forget"])["lift"].to_pylist() == [0.6, 0.3, 0.6, None, 10.0, 1.8]
    ignored = ignore_tokens(tokens, ["unforgettable"], special=True)
    assert ignored["attention"].to_pylist() == [None, 0.05, None, None, None, None]
    assert ignore_tokens(tokens, []) is tokens


def test_renormalising_makes_the_rest_a_whole():
    """The rest sums to 1 and its lift is over an even share of the rest; if nothing is left, nothing is."""
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
    """Nothing ignored: all values sum to 1, as those of a custom reduction need not, and the caption says so."""
    double = pa.Table.from_pylist(
        [row | {"attention": row["attention"] and row["attention"] * 2} for row in table(FILM).to_pylist()],
        schema=table(FILM).schema,
    )
    whole = ignore_tokens(double, [], renormalise=True)
    assert sum(value or 0 for value in whole["attention"].to_pylist()) == pytest.approx(1)
    assert "attention is renormalised to a sum of 1" in terminal(replace(film, tokens=whole))


def test_an_ignored_word_that_is_not_there_is_told(film):
    """A misspelt --ignore does nothing, and the caption says that."""
    tokens = ignore_tokens(table(FILM), ["an", "nosuchword"])
    assert "ignored: “an”, “nosuchword” (not in this document); the rest" in terminal(
        replace(film, tokens=tokens), width=200
    )


def test_the_picture_says_what_was_merged_and_ignored(film):
    """Captions travel with the table, into the terminal and onto the page."""
    tokens = ignore_tokens(merge_words(film.tokens), ["an", "."], renormalise=True, special=True)
    tokens = ignore_tokens(tokens, ["film"])
    captions = [
        "wordpieces merged to words: attention summed, lift over an even share of the words",
        "ignored: “an”, “.” (not in this document), special tokens; the rest is renormalised to a sum of 1",
        "ignored: “film” (not in this document); the rest is not renormalised",
    ]
    drawn = replace(film, tokens=tokens)
    lines = terminal(drawn, "none", 200).splitlines()
    assert lines[-4:] == ["lift: 1× is an even share", *captions]
    assert "attention cls, layer 6 of 6 · 4 words and special tokens" in lines
    page = Page(html(drawn))
    assert [words for words in page.words if words in captions] == captions
    assert page.titles == ["an: no value", "unforgettable (3 pieces): attention 1, lift 1.00×"]


def test_shades_are_lifts_up_to_ten_or_shares_of_the_maximum():
    """Special tokens have no shade and set no scale; below 0, not a number and missing are told apart."""
    lifts = [0.0, 2.5, 10.0, 40.0, -3.0, None, float("nan")]
    rows = [special("[CLS]", 0.9, 99.0), *(word("a", 0, 0.1, lift) for lift in lifts)]
    assert intensities(table(rows)) == [None, 0.0, 0.25, 1.0, 1.0, 0.0, None, None]
    assert intensities(table(rows), relative=True) == [None, 0.0, 0.0625, 0.25, 1.0, 0.0, None, None]
    assert intensities(table([word("a", 0, 0.0, 0.0)]), relative=True) == [0.0]


def test_tokens_without_their_columns_are_refused(film):
    """The error names the columns and the question that gives them."""
    with pytest.raises(UsageError, match="lack special, lift: take them from the question document_tokens"):
        replace(film, tokens=film.tokens.drop_columns(["special", "lift"]))


# --- The terminal ------------------------------------------------------------------------------------------


def test_without_colour_marks_stand_under_the_text(film):
    """The whole output, as it is piped: the text intact, marks under the strong tokens, values in a list."""
    assert str(film) == terminal(film, "none", 80)
    assert terminal(film, "none", 64).splitlines() == [
        "test/pos/1_9",
        "label pos · predicted neg (0.750) · wrong",
        "attention cls, layer 6 of 6 · 6 tokens",
        "",
        "An unforgettable <film>",
        "           ▇▇▇▇▇",
        "",
        "most attended: ##table 10.0×, ##forget 1.2×, un 0.6×, an 0.3×",
        "aside: [CLS] attention 0.1, lift 0.60×; [SEP] attention 0.3,",
        "lift 1.80×",
        "marks, from: ▁ 2×, ▃ 4×, ▅ 6×, ▇ 8×",
        "lift = attention × 6 tokens: 1× is an even share",
    ]


def test_the_marks_are_fifths():
    """Lifts of 2, 4, 6 and 8, and nothing below, reach the next mark; shares of the maximum, if relative."""
    rows = [word(letter, at, 0.1, 2.0 * at) for at, letter in enumerate("abcdef")]
    lines = terminal(shaded("abcdef", rows)).splitlines()
    assert lines[4:6] == ["abcdef", " ▁▃▅▇▇"]
    below = [word(letter, at, 0.1, 2.0 * at - 0.01) for at, letter in enumerate("abcdef")]
    assert terminal(shaded("abcdef", below)).splitlines()[4:6] == ["abcdef", "  ▁▃▅▇"]
    lines = terminal(shaded("abcdef", rows[:3], relative=True)).splitlines()
    assert lines[4:6] == ["abcdef", " ▃▇"]
    assert lines[-3:] == [
        "marks, from: ▁ 20%, ▃ 40%, ▅ 60%, ▇ 80% of the maximum",
        "relative to this document's most attended token (lift 4.0×): not comparable",
        "between documents",
    ]


def test_true_colour_shades_the_text_itself(film):
    """Each token's own characters have the ramp's colour of its level, and lines end unshaded."""
    lines = terminal(film, "truecolor", 60).splitlines()
    dark = heatmap.ramp("dark")

    def painted(text, level, front):
        return f"\x1b[38;2;{front};48;2;{';'.join(map(str, dark[level]))}m{text}\x1b[0m"

    ivory = "233;228;222"
    shades = [painted("un", 1, ivory), painted("forget", 2, ivory)]
    assert lines[0] == "\x1b[1mtest/pos/1_9\x1b[0m"
    assert lines[4] == f"An {shades[0]}{shades[1]}{painted('table', 20, '0;0;0')} <film>"
    assert dark[20] == (0xFF, 0xB3, 0x00)
    assert SGR.sub("", lines[-2]) == f"0 {' ' * 10} 10×+"
    assert lines[-1] == "lift = attention × 6 tokens: 1× is an even share"


def test_256_colours_use_a_fixed_ramp(film):
    """Indices of the cube and its greys, which no theme changes; the weakest shades are left out."""
    line = terminal(film, "256", 60).splitlines()[4]
    assert line == "An unforget\x1b[38;5;16;48;5;214mtable\x1b[0m <film>"
    line = terminal(film, "256", 60, "light").splitlines()[4]
    assert line == "An unforget\x1b[38;5;16;48;5;208mtable\x1b[0m <film>"


@pytest.mark.parametrize(
    ("label", "known", "probability", "words"),
    [
        ("pos", True, 0.75, "label pos · predicted pos (0.750) · correct"),
        ("neg", True, 0.99996, "label neg · predicted pos (over 0.999) · wrong"),
        (None, True, 1.0, "no label · predicted pos (1.000)"),
        ("neg", False, 0.0004, "label neg · predicted pos (under 0.001)"),
    ],
)
def test_the_verdict_is_in_words_and_only_where_it_can_be_given(label, known, probability, words):
    """Labels that are not the model's are neither right nor wrong."""
    drawn = shaded("a", [], label=label, labels_are_models=known, probability=probability)
    assert terminal(drawn).splitlines()[1] == words
    assert (">correct<" in html(drawn), ">wrong<" in html(drawn)) == ("correct" in words, "wrong" in words)


@pytest.mark.parametrize(
    ("layer", "words"),
    [("6 of 6", "cls, layer 6 of 6"), ("mean of the layers", "cls, mean of the layers"), ("", "cls")],
)
def test_the_method_is_named(layer, words):
    """With its layer, if it has one."""
    assert terminal(shaded("a", [], layer=layer)).splitlines()[2] == f"attention {words} · 0 tokens"


def test_line_breaks_of_the_source_stay_visible_and_break():
    """`<br />` is shown as it is; after a run of them, a new line."""
    drawn = shaded("Good.<br /><br />Bad.<BR>\nUgly.<br>", [word("bad", 17, 0.5, 10.0)])
    assert terminal(drawn).splitlines()[4:9] == ["Good.<br /><br />", "Bad.<BR>", "▇▇▇", "Ugly.<br>", ""]
    body = Page(html(drawn))
    assert body.text == drawn.text
    assert body.tags.count("br") == 2


def test_wide_and_combining_characters_take_their_columns():
    """Lines are measured in columns, marks as well, and a combining mark never starts a line."""
    text = "日本語 cafe\u0301 映画"
    rows = [word("語", 2, 0.5, 10.0), word("café", 4, 0.5, 10.0, length=5)]
    lines = terminal(shaded(text, rows), "none", 80).splitlines()
    assert lines[4:6] == [text, "    ▇▇ ▇▇▇▇"]
    lines = terminal(shaded("e\u0301" * 21 + "日\u0301" * 10, []), "none", 20).splitlines()
    body = lines[lines.index("") + 1 :]
    assert body[:3] == ["e\u0301" * 20, "e\u0301" + "日\u0301" * 9, "日\u0301"]


def test_a_text_drives_no_terminal():
    """Escape sequences, C1 controls, bidi overrides in the text, id and labels come out as visible names."""
    bad = "a\x1b]0;owned\x07\x9b31m\u202eb\u2028c\r\x7f\xad"
    drawn = shaded(bad, [word("a", 0, 0.5, 10.0, length=1)], id=bad + "\n", label=bad, prediction=bad)
    named = "a␛]0;owned␇⟨U+009B⟩31m⟨U+202E⟩b⟨U+2028⟩c␍␡⟨U+00AD⟩"
    lines = terminal(drawn, "none", 200).splitlines()
    assert lines[0] == named + "␊"
    assert lines[1] == f"label {named} · predicted {named} (0.750) · correct"
    assert lines[4] == named
    for colour in ("none", "256", "truecolor"):
        left = SGR.sub("", terminal(drawn, colour))
        assert not [c for c in left if unicodedata.category(c) in ("Cc", "Cf", "Zl") and c != "\n"]


def test_an_empty_document_is_said_to_be_empty():
    """Only [CLS] and [SEP]: they stand aside, nothing is shaded, nothing breaks."""
    drawn = shaded("", [special("[CLS]", 0.4, 0.8), special("[SEP]", 0.6, 1.2)])
    assert terminal(drawn).splitlines()[3:] == [
        "",
        "(the text is empty)",
        "",
        "aside: [CLS] attention 0.4, lift 0.80×; [SEP] attention 0.6, lift 1.20×",
        "no attention values: nothing is shaded",
    ]
    page = Page(html(drawn))
    assert page.text == ""
    assert "The text is empty." in page.words


def test_a_document_without_values_is_drawn_without_shades():
    """All attention null, as a custom reduction may have it."""
    drawn = shaded("so so", [word("so", 0, None, None), word("so", 3, None, None)])
    for relative in (False, True):
        assert terminal(replace(drawn, relative=relative), "truecolor").splitlines()[4:] == [
            "so so",
            "",
            "no attention values: nothing is shaded",
        ]
    page = html(drawn)
    assert Page(page).titles == ["so: no value"] * 2
    assert 'class="legend"' not in page


def test_the_unread_rest_is_set_apart():
    """600 words, of which the model read 510: the rest follows under a line that says so, undrawn."""
    words = ["film"] * 600
    rows = [special("[CLS]"), *(word("film", 5 * n, 0.01, 1.0) for n in range(510)), special("[SEP]")]
    drawn = shaded(" ".join(words), rows, truncated=True)
    lines = terminal(drawn, "none", 80).splitlines()
    assert lines[3] == "truncated: the model read 2,549 of 2,999 characters"
    cut = lines.index("── the model read no further; 450 characters follow ──")
    assert " ".join(lines[5:cut]).split() == words[:510]
    assert " ".join(lines[cut + 1 : lines.index("", cut)]).split() == words[510:]
    assert terminal(drawn, "256").splitlines()[cut + 1] == f"\x1b[2m{lines[cut + 1]}\x1b[0m"
    page = Page(html(drawn))
    assert page.text == drawn.text
    assert len(page.titles) == 510
    assert "the model read no further; 450 characters follow" in page.words


def test_tokens_on_the_same_characters_are_one_segment():
    """The bytes of an emoji: shaded by the strongest, all named; white space around a token is not shaded."""
    rows = [word("ð", 0, 0.1, 2.0, length=1), word("Ł", 0, 0.1, 10.0, length=1), word("▁ok", 1, 0.1, 10.0)]
    drawn = shaded("🎬 ok", rows)
    assert Page(html(drawn)).titles == [
        "ð: attention 0.1, lift 2.00× + Ł: attention 0.1, lift 10.00×",
        "▁ok: attention 0.1, lift 10.00×",
    ]
    assert terminal(drawn).splitlines()[4:6] == ["🎬 ok", "▇▇ ▇▇"]


@pytest.mark.parametrize(
    ("environ", "isatty", "depth"),
    [
        ({}, True, "none"),
        ({"TERM": "xterm-256color"}, True, "256"),
        ({"TERM": "xterm-256color"}, False, "none"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, True, "truecolor"),
        ({"TERM": "xterm", "COLORTERM": "24bit"}, True, "truecolor"),
        ({"TERM": "xterm-direct"}, True, "truecolor"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, True, "none"),
        ({"COLORTERM": "truecolor", "NO_COLOR": "0"}, True, "none"),
        ({"COLORTERM": "truecolor", "NO_COLOR": ""}, True, "truecolor"),
        ({"COLORTERM": "truecolor", "CLICOLOR": "0"}, True, "none"),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, "none"),
        ({"FORCE_COLOR": "1"}, False, "256"),
        ({"FORCE_COLOR": "3"}, False, "truecolor"),
        ({"FORCE_COLOR": "2", "COLORTERM": "truecolor"}, True, "256"),
        ({"FORCE_COLOR": "0", "TERM": "xterm-256color"}, True, "none"),
        ({"CLICOLOR_FORCE": "1", "COLORTERM": "truecolor"}, False, "truecolor"),
        ({"CLICOLOR_FORCE": "0", "COLORTERM": "truecolor"}, False, "none"),
        ({"CLICOLOR_FORCE": "1", "TERM": "dumb"}, True, "256"),
    ],
)
def test_the_environment_decides_the_colours(environ, isatty, depth):
    """NO_COLOR first, then what forces colour, then what the terminal says of itself."""
    assert heatmap.colour_depth(environ, isatty) == depth


@pytest.mark.parametrize(
    ("value", "background"), [(None, "dark"), ("15;0", "dark"), ("0;15", "light"), ("0;default;7", "light")]
)
def test_the_terminal_may_say_that_it_is_light(value, background):
    """COLORFGBG ends in the background's colour number."""
    environ = {} if value is None else {"COLORFGBG": value}
    assert heatmap.terminal_background(environ) == background


# --- Colours -----------------------------------------------------------------------------------------------


def wcag(one, other):
    """The contrast ratio, from the definition in WCAG 2.2."""

    def light(channel):
        s = channel / 255
        return s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4

    a, b = (
        sum(w * light(c) for w, c in zip((0.2126, 0.7152, 0.0722), rgb, strict=True)) for rgb in (one, other)
    )
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def rgb(code):
    return tuple(bytes.fromhex(code))


def test_contrast_is_that_of_wcag():
    """Black on white is 21, a colour on itself 1, and #767676 the darkest grey to pass on white."""
    assert heatmap.contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert heatmap.contrast((9, 80, 200), (9, 80, 200)) == 1
    assert (
        heatmap.contrast((0x76, 0x76, 0x76), (255, 255, 255))
        > 4.5
        > heatmap.contrast((0x77,) * 3, (255,) * 3)
    )


def test_every_text_on_the_page_can_be_read():
    """In both modes: on each of the 20 shades, and the ink and faint ink on the paper, 4.5 or more."""
    light, dark = html(shaded("", [])).split("@media screen and (prefers-color-scheme:dark){.attnstore")
    for style in (light, dark):
        shades = re.findall(r"\.s(\d+)\{background:#(\w{6});color:#(\w{6})\}", style)
        assert [int(level) for level, _, _ in shades] == list(range(1, 21))
        assert min(wcag(rgb(back), rgb(front)) for _, back, front in shades) >= 4.5
        paper, ink, faint = (
            rgb(re.search(rf"--{n}:#(\w{{6}})", style)[1]) for n in ("paper", "ink", "faint")
        )
        assert min(wcag(paper, ink), wcag(paper, faint)) >= 4.5


@pytest.mark.parametrize("background", ["dark", "light"])
@pytest.mark.parametrize("colour", ["truecolor", "256"])
def test_every_shade_in_the_terminal_can_be_read_and_is_stronger_than_the_last(colour, background):
    """Contrast of 4.5 on all of them, and luminance going one way from the paper."""
    rows = [word("a", n, 0.1, n / 2) for n in range(21)]
    line = terminal(shaded("a" * 21, rows), colour, 80, background).splitlines()[4]
    if colour == "256":
        cube = (0, 95, 135, 175, 215, 255)

        def xterm(n):
            return (
                (8 + 10 * (n - 232),) * 3 if n > 231 else tuple(cube[(n - 16) // d % 6] for d in (36, 6, 1))
            )

        found = [(xterm(int(f)), xterm(int(b))) for f, b in re.findall(r"38;5;(\d+);48;5;(\d+)m", line)]
        assert len(found) >= 4
    else:
        codes = re.findall(r"38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m", line)
        found = [(tuple(map(int, c[:3])), tuple(map(int, c[3:]))) for c in codes]
        assert len(found) == 20
    assert min(wcag(front, back) for front, back in found) >= 4.5
    distances = [wcag((0, 0, 0) if background == "dark" else (255, 255, 255), back) for _, back in found]
    steps = [distance for distance, _ in groupby(distances)]
    assert steps == sorted(set(steps))


# --- The page ----------------------------------------------------------------------------------------------


def test_the_fragment_is_this(film):
    """The whole markup of a small document, its style apart."""
    source = heatmap.fragment(film)
    assert film._repr_html_() == source
    assert source.startswith("<div><style>\n.attnstore-heatmap{")
    swatches = "".join(f'<i class="s{level}"></i>' for level in range(21))
    assert source.partition("</style>")[2] == (
        '<article class="attnstore-heatmap" aria-label="Document test/pos/1_9">'
        "<header><h2><bdi>test/pos/1_9</bdi></h2><dl>"
        "<div><dt>label</dt><dd><bdi>pos</bdi></dd></div>"
        '<div><dt>prediction</dt><dd><bdi>neg</bdi> 0.750 <span class="verdict wrong">wrong</span></dd></div>'
        "<div><dt>attention</dt><dd>cls, layer 6 of 6</dd></div>"
        "<div><dt>length</dt><dd>6 tokens</dd></div></dl></header>"
        '<p class="text" lang="" dir="auto">'
        '<span title="an: attention 0.05, lift 0.30×">An</span> '
        '<span class="s1" title="un (piece 1 of 3 of unforgettable): attention 0.1, lift 0.60×">un</span>'
        '<span class="s2" title="##forget (piece 2 of 3 of unforgettable): attention 0.2, lift 1.20×">forget</span>'
        '<span class="s20" title="##table (piece 3 of 3 of unforgettable): attention 0.25, lift 10.00×">table</span>'
        " &lt;film&gt;</p>"
        '<footer><div class="legend" role="img" '
        'aria-label="Shades run from none at 0 to the fullest at 10× or more.">'
        f'<div class="ramp">{swatches}</div>'
        '<div class="ticks"><b style="left:0%">0</b><b style="left:10%">1×</b><b style="left:20%">2×</b>'
        '<b style="left:50%">5×</b><b style="left:100%">10×+</b></div></div>'
        "<p>lift = attention × 6 tokens: 1× is an even share</p>"
        '<div class="list"><h3>most attended</h3><ol><li><bdi class="s20">##table</bdi> 10.0×</li>'
        '<li><bdi class="s2">##forget</bdi> 1.2×</li><li><bdi class="s1">un</bdi> 0.6×</li>'
        "<li><bdi>an</bdi> 0.3×</li></ol></div>"
        '<div class="list"><h3>aside</h3><ul><li><code>[CLS]</code> attention 0.1, lift 0.60×</li>'
        "<li><code>[SEP]</code> attention 0.3, lift 1.80×</li></ul></div></footer></article></div>"
    )


def test_a_page_is_complete_in_itself(film):
    """It declares itself, forbids fetching, and has no script and no address in it."""
    page = html(film)
    head, _, article = page.partition("<style>")
    assert head == (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        'content="default-src &#x27;none&#x27;; style-src &#x27;unsafe-inline&#x27;">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>test/pos/1_9 · attention</title>'
    )
    markup = heatmap.fragment(film).partition("</style>")[2].removesuffix("</div>")
    assert article.partition("</style>")[2] == (
        f"</head><body><main>{markup.replace('h2>', 'h1>')}</main></body></html>\n"
    )
    assert not re.search(r"https?:|url\(|@import|<script|<link|<img|javascript|\bsrc=|\bon\w+=", page)


def test_several_documents_make_one_page(film):
    """One after the other under a title that counts them; none at all is a page as well."""
    page = html([film, replace(film, id="test/neg/2_1")])
    headings = re.findall(r"<h[12]>(?:<bdi>)?([^<]*)", page)
    assert headings == ["2 documents", "test/pos/1_9", "test/neg/2_1"]
    assert "<title>2 documents · attention</title>" in page
    assert page.count("<style>") == 1
    assert "<h1>0 documents</h1>" in html([])


def test_nothing_in_a_document_becomes_markup():
    """Tags, quotes, a closing title, bidi controls: in every place where foreign text stands."""
    bad = "</title></style></p>\"'><script>alert(1)</script>&amp;\u202e\x00\x1b"
    named = bad.replace("\u202e", "⟨U+202E⟩").replace("\x00", "␀").replace("\x1b", "␛")
    rows = [(bad, bad, 0, 2, 0, 5, False, 0.5, 1.0), special(bad, 0.5, 1.0)]
    tokens = ignore_tokens(table(rows), [bad])
    drawn = shaded(bad, rows, id=bad, label=bad, prediction=bad, reduction=bad, layer=bad)
    clean = shaded("good!", [("a", "a", 0, 2, 0, 5, False, 0.5, 1.0), special("a", 0.5, 1.0)])
    for several in (False, True):
        source, plain = (html([d, d] if several else d) for d in (drawn, clean))
        assert Page(source).tags == Page(plain).tags
        assert Page(source).text == named * (1 + several)
        assert not {"\u202e", "\x00", "\x1b"} & set(source)
    assert Page(html(drawn)).titles == [f"{named} (piece 1 of 2 of {named}): attention 0.5, lift 1.00×"]
    assert (
        f"ignored: “{named}”; the rest is not renormalised" in Page(html(replace(drawn, tokens=tokens))).words
    )


# --- What holds for every document -------------------------------------------------------------------------

characters = st.one_of(
    st.sampled_from(" \n\taé.日🎬<>&\"'\x1b\x07\x9b\u202e\u0301\u200d\u2028\r\xa0\u3000"),
    st.characters(exclude_categories=["Cs"], exclude_characters="▁▃▅▇─"),
)
pieces = st.sampled_from(["<br />", "<br>\n", "film ", "unforgettable", "  "])
texts = st.lists(st.one_of(characters, pieces), max_size=60).map("".join)


@st.composite
def documents(draw):
    text = draw(texts)
    place = st.integers(0, len(text))
    spans = draw(st.lists(st.tuples(place, place), max_size=12))
    lift = st.none() | st.floats(0, 30)
    rows = [word("t", min(s), 0.1, draw(lift), max(s) - min(s)) for s in sorted(spans) if s[0] != s[1]]
    return shaded(text, rows, truncated=draw(st.booleans()), relative=draw(st.booleans()))


def neutral(text):
    """The stated neutralisation, by another road than the module's: one rule after the other."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f]", lambda m: chr(ord(m[0]) + 0x2400), text).replace("\x7f", "\u2421")
    return "".join(
        f"⟨U+{ord(c):04X}⟩"
        if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c not in "\n\t\u200c\u200d"
        else c
        for c in text
    )


@given(documents())
@settings(max_examples=150, deadline=None)
def test_a_page_holds_the_document_s_text_and_no_other(drawn):
    """Stripped of its tags, the text on the page is the document's, character for character."""
    assert Page(html(drawn)).text == neutral(drawn.text)


@given(documents(), st.sampled_from(["none", "256", "truecolor"]), st.integers(20, 90))
@example(shaded(" \x9b\x9b\x80", []), "none", 20)  # broken after the space, it is still too long for a line
@settings(max_examples=200, deadline=None)
def test_a_terminal_gets_the_document_s_text_within_its_width(drawn, colour, width):
    """Stripped of colours and marks, and of where lines break, the text is the document's; no line is too
    long and no control character is left."""
    lines = SGR.sub("", terminal(drawn, colour, width)).split("\n")
    first, last = lines.index(""), len(lines) - lines[::-1].index("") - 1
    body = "\n".join(line for line in lines[first:last] if not re.fullmatch("[ ▁▃▅▇]+", line))
    body = re.sub(r"──[^─]*characters\s+follow\s+──", "", body) if drawn.truncated else body
    body = body.replace("(the text is empty)", "") if not drawn.text.strip() else body
    assert "".join(body.split()) == "".join(neutral(drawn.text).split())
    for line in lines:
        wide = sum(
            0 if unicodedata.category(c) in ("Mn", "Me", "Cf") or 0x1160 <= ord(c) <= 0x11FF
            else 1 + (unicodedata.east_asian_width(c) in "WF")
            for c in line
        )  # fmt: skip
        assert wide <= width
        assert not [c for c in line if unicodedata.category(c) == "Cc"]


def test_importing_it_is_cheap():
    """Drawing needs neither torch nor an engine nor the command line."""
    heavy = ("torch", "transformers", "click", "duckdb", "polars", "pyarrow.dataset")
    code = f"import sys, attnstore.show.heatmap; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
