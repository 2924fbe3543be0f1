"""One document's tokens, shaded by the attention they get: in a terminal, as a web page, in a notebook.

The scale. By default a token's shade is its *lift over uniform*, attention × length: 1 is the even share
that each of a document's tokens would have, whatever the document's length. The shade grows in proportion
to the lift and is full at `FULL_LIFT`, so equal shades mean the same in every document. The relative scale
is full at the document's own maximum instead: it shows more of a flat document, and compares with no other.

Special tokens have no text and often most of the attention (Clark et al. 2019, section 3.2). They stand
aside with their values, and never set a scale. Shades tell where attention went, not why a class was
predicted (Jain & Wallace 2019).

The text shown is the document's own. The only characters replaced are those that could drive a terminal or
reorder a line; see `visible`.
"""

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from itertools import groupby, pairwise
from typing import Any, Literal

import pyarrow as pa

from attnstore.errors import UsageError

Colour = Literal["truecolor", "256", "none"]
Background = Literal["dark", "light"]

#: The lift at which a shade is full. Seen in five reviews (last layer of a 6-layer MiniLM fine-tuned on
#: IMDb): medians of 0.3 to 0.6, and one token in a hundred beyond 6 to 17.
FULL_LIFT = 10.0

#: The columns of the question `document_tokens`, which every function here reads.
COLUMNS = (
    "position", "token", "word", "piece", "pieces", "start", "end", "special", "attention", "lift",
)  # fmt: skip

_CAPTIONS = b"attnstore.captions"
_MERGED = b"attnstore.merged"
_MOST = 8  # how many of the most attended tokens are listed with their values


@dataclass(frozen=True, slots=True)
class Heatmap:
    """What is drawn: a document, what the model made of it, and the attention of its tokens.

    `text`: the whole text, as the source has it. `label`: the gold class, None if there is none.
    `probability`: of the prediction, from 0 to 1. `labels_are_models`: False if the gold classes are not
    the model's; then nothing is called correct or wrong. `layer`: such as "6 of 6", or in words ("mean of
    the layers"), or "" where the reduction has no layers. `truncated`: the text goes on beyond the last
    token. `tokens`: the question `document_tokens` (`COLUMNS`), one row a token in order of position;
    `start` and `end` count characters of `text`; `attention` and `lift` may be null. `relative`: shade by
    this document's own maximum.

    Raises UsageError if `tokens` lacks a column.
    """

    id: str
    text: str = field(repr=False)
    label: str | None
    prediction: str
    probability: float
    reduction: str
    layer: str
    truncated: bool
    tokens: pa.Table = field(repr=False, hash=False)
    relative: bool = False
    labels_are_models: bool = True

    def __post_init__(self) -> None:
        if missing := [name for name in COLUMNS if name not in self.tokens.column_names]:
            raise UsageError(
                f"the tokens to draw lack {', '.join(missing)}: take them from the question document_tokens"
            )

    def __str__(self) -> str:
        return terminal(self, "none")

    def _repr_html_(self) -> str:
        return fragment(self)


# --- What the table says -----------------------------------------------------------------------------------


def merge_words(tokens: pa.Table, how: Literal["sum", "mean"] = "sum") -> pa.Table:
    """Merge the pieces of each word into one row, spanning from the first one's start to the last one's end.

    "sum" keeps the total (Clark et al. 2019, section 4.1): the lift is then over an even share of the rows
    that remain, words and special tokens. "mean" averages attention and lift over the pieces, which
    under-counts long and rare words. `token` becomes the word, `piece` 0, and `pieces` how many were merged.
    The table's metadata says what was done, and the picture's caption repeats it.

    Raises UsageError for another `how`, and for a table that was merged or had tokens ignored before.
    """
    if how not in ("sum", "mean"):
        raise UsageError(f"wordpieces are merged by 'sum' or 'mean', not {how!r}")
    if _captions(tokens):
        raise UsageError("these tokens were merged or ignored before: merge words once, before ignoring any")
    words: list[list[dict[str, Any]]] = []
    for row in _rows(tokens):
        if row["piece"] and words and not words[-1][-1]["special"]:
            words[-1].append(row)
        else:
            words.append([row])
    scale = len(words) / tokens.num_rows if words else 1.0  # from an even share of tokens to one of words
    rows = []
    for pieces in words:
        merged = dict(pieces[0])
        rows.append(merged)
        if not merged["special"]:
            token = merged["token"] if merged["word"] is None else merged["word"]
            merged |= {"token": token, "end": pieces[-1]["end"], "piece": 0, "pieces": len(pieces)}
        for name, factor in (("attention", 1.0), ("lift", scale)):
            if values := [piece[name] for piece in pieces if piece[name] is not None]:
                merged[name] = sum(values) * factor if how == "sum" else sum(values) / len(values)
    sentence = (
        "wordpieces merged to words: attention summed, lift over an even share of the words"
        if how == "sum"
        else "wordpieces merged to words: attention and lift averaged over the pieces"
    )
    return _note(pa.Table.from_pylist(rows, schema=tokens.schema), sentence, {_MERGED: how.encode()})


def ignore_tokens(
    tokens: pa.Table, ignored: Iterable[str], renormalise: bool = False, special: bool = False
) -> pa.Table:
    """Blank the tokens named in `ignored`, and with `special` all special ones: their values become null.

    A name is a token as the tokenizer prints it (`##ing`) or a whole word, all of whose pieces then go.
    With `renormalise` the remaining attention (all of it, if nothing is ignored) is divided by its sum, and the
    lift is over an even share of the tokens that remain; without it, values stay as the model gave them. The
    table's metadata says what was done, and which names there are not; the picture's caption repeats it.
    """
    names = list(dict.fromkeys(ignored))
    chosen = set(names)
    rows = _rows(tokens)
    for row in rows:
        if (special and row["special"]) or row["token"] in chosen or row["word"] in chosen:
            row["attention"] = row["lift"] = None
    if renormalise:
        rest = [row for row in rows if row["attention"] is not None]
        total = sum(row["attention"] for row in rest)
        for row in rest if total else []:
            row["attention"] /= total
            row["lift"] = row["attention"] * len(rest)
    there = {row["token"] for row in rows} | {row["word"] for row in rows}
    what = [f"“{name}”" + ("" if name in there else " (not in this document)") for name in names]
    what += ["special tokens"] if special else []
    done = "renormalised to a sum of 1" if renormalise else "not renormalised"
    if not what and not renormalise:
        return tokens
    sentence = f"ignored: {', '.join(what)}; the rest is {done}" if what else f"attention is {done}"
    return _note(pa.Table.from_pylist(rows, schema=tokens.schema), sentence, {})


def intensities(tokens: pa.Table, relative: bool = False) -> list[float | None]:
    """The shade of every row, from 0 to 1; None for special tokens and where there is no value.

    Absolute: lift / FULL_LIFT, at most 1. Relative: lift over the largest lift of the tokens that are not
    special. Values below zero, which a custom reduction may have, are shown as 0.
    """
    lifts = [
        None if row["special"] or row["lift"] is None else max(row["lift"], 0.0) for row in _rows(tokens)
    ]
    full = max((lift for lift in lifts if lift is not None), default=0.0) if relative else FULL_LIFT
    return [None if lift is None else min(lift / full, 1.0) if full else 0.0 for lift in lifts]


def _rows(tokens: pa.Table) -> list[dict[str, Any]]:
    """The table's rows; a value that is not a number is no value."""
    rows: list[dict[str, Any]] = tokens.to_pylist()
    for row in rows:
        for name in ("attention", "lift"):
            if row[name] is not None and math.isnan(row[name]):
                row[name] = None
    return rows


def _captions(tokens: pa.Table) -> list[str]:
    captions: list[str] = json.loads((tokens.schema.metadata or {}).get(_CAPTIONS, b"[]"))
    return captions


def _note(tokens: pa.Table, sentence: str, marks: Mapping[bytes, bytes]) -> pa.Table:
    captions = json.dumps([*_captions(tokens), sentence]).encode()
    return tokens.replace_schema_metadata({**(tokens.schema.metadata or {}), **marks, _CAPTIONS: captions})


# --- What the picture says, in words -----------------------------------------------------------------------


def visible(text: str) -> str:
    """The text with every character that acts instead of showing replaced by a visible name.

    Control characters become their pictures (ESC is ␛), others of their kind ⟨U+009B⟩: those of C1, the
    bidirectional controls, line separators, soft hyphens and other format characters. New lines and tabs
    stay, and so do the joiners that emoji and many scripts need (U+200C, U+200D).
    """
    return "".join(map(_visible, text))


@cache
def _visible(character: str) -> str:
    code = ord(character)
    if character in "\n\t\u200c\u200d" or unicodedata.category(character) not in (
        "Cc",
        "Cf",
        "Cs",
        "Zl",
        "Zp",
    ):
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def _one_line(text: str) -> str:
    return visible(text).replace("\n", "␊").replace("\t", "␉")


def _verdict(heatmap: Heatmap) -> str:
    if heatmap.label is None or not heatmap.labels_are_models:
        return ""
    return "correct" if heatmap.label == heatmap.prediction else "wrong"


def _probability(value: float) -> str:
    """Three decimals; never 1.000 for what is less than 1, nor 0.000 for what is more than 0."""
    if 0.9995 <= value < 1:
        return "over 0.999"
    return "under 0.001" if 0 < value < 0.0005 else f"{value:.3f}"


def _method(heatmap: Heatmap) -> str:
    layer = f"layer {heatmap.layer}" if heatmap.layer[:1].isdigit() else heatmap.layer
    return f"{heatmap.reduction}, {layer}" if layer else heatmap.reduction


def _size(heatmap: Heatmap) -> str:
    merged = _MERGED in (heatmap.tokens.schema.metadata or {})
    return f"{heatmap.tokens.num_rows:,} {'words and special tokens' if merged else 'tokens'}"


def _read_to(heatmap: Heatmap) -> int:
    """Where the model's reading ends in the text, in characters."""
    end = max((row_end for row_end in heatmap.tokens["end"].to_pylist()), default=0)
    return min(end, len(heatmap.text)) if heatmap.truncated else len(heatmap.text)


def _truncation(heatmap: Heatmap) -> str:
    return f"truncated: the model read {_read_to(heatmap):,} of {len(heatmap.text):,} characters"


def _tail(heatmap: Heatmap) -> str:
    return f"the model read no further; {len(heatmap.text) - _read_to(heatmap):,} characters follow"


def _value(row: Mapping[str, Any]) -> str:
    if row["attention"] is None or row["lift"] is None:
        return "no value"
    return f"attention {row['attention']:.3g}, lift {row['lift']:.2f}×"


def _describe(row: Mapping[str, Any], merged: bool) -> str:
    """A token in words, for a tooltip."""
    pieces = ""
    if merged and (row["pieces"] or 1) > 1:
        pieces = f" ({row['pieces']} pieces)"
    elif (row["pieces"] or 1) > 1:
        pieces = f" (piece {row['piece'] + 1} of {row['pieces']} of {row['word']})"
    return f"{row['token']}{pieces}: {_value(row)}"


def _most_attended(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the largest lift, special tokens left out; of equals, the first in the text."""
    eligible = [row for row in rows if not row["special"] and (row["lift"] or 0) > 0]
    return sorted(eligible, key=lambda row: (-row["lift"], row["position"]))[:_MOST]


def _scale(heatmap: Heatmap) -> str:
    lifts = [row["lift"] for row in _rows(heatmap.tokens) if not row["special"] and row["lift"] is not None]
    if not lifts:
        return "no attention values: nothing is shaded"
    if heatmap.relative:
        return (
            f"relative to this document's most attended token (lift {max(0.0, *lifts):.1f}×): "
            "not comparable between documents"
        )
    # Merging and ignoring change what an even share is; their captions say how.
    formula = "" if _captions(heatmap.tokens) else f" = attention × {_size(heatmap)}"
    return f"lift{formula}: 1× is an even share"


def _top_of_scale(heatmap: Heatmap) -> str:
    return "this document's maximum" if heatmap.relative else f"{FULL_LIFT:g}× or more"


# --- The text, cut where its shade changes -----------------------------------------------------------------

_BREAKS = re.compile(r"(?:<br\s*/?>\s*)+", re.IGNORECASE)
_LEVELS = 20  # shades told apart: finer than the eye, and few enough for a style sheet


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch of text of one shade. `level`: 0 to _LEVELS, None if no token is there (or none with a
    value); `rows`: its tokens; `markup`: a `<br />` of the source; `unread`: beyond the truncation;
    `breaks`: a line ends here.
    """

    text: str
    rows: tuple[int, ...]
    level: int | None
    markup: bool
    unread: bool
    breaks: bool


def _segments(heatmap: Heatmap, rows: list[dict[str, Any]]) -> Iterator[_Segment]:
    """Cut the text; the segments' texts, joined, are the text.

    Tokens that share characters (the bytes of one emoji, in a byte-level vocabulary) share a segment, which
    has the shade of the strongest: their sum could exceed what any token has.
    """
    text, read_to = heatmap.text, _read_to(heatmap)
    shades = intensities(heatmap.tokens, heatmap.relative)
    spans = sorted(span for span in (_span(row, text, number) for number, row in enumerate(rows)) if span)
    breaks = [match.span() for match in _BREAKS.finditer(text)]
    cuts = {0, len(text)}
    cuts.update(cut for start, end, _ in spans for cut in (start, end))
    cuts.update(cut for span in breaks for cut in span)
    unread = len(text) - len(text[read_to:].lstrip())  # white space after the last token stays with it
    cuts.add(unread)
    edges = sorted(cuts)
    ends = {end for _, end in breaks}
    waiting, active, run = iter([*spans, (len(text), len(text), -1)]), list[tuple[int, int, int]](), 0
    upcoming = next(waiting)
    for start, end in pairwise(edges):
        active = [span for span in active if span[1] > start]
        while upcoming[0] <= start and upcoming[2] >= 0:
            active.append(upcoming)
            upcoming = next(waiting)
        while run < len(breaks) and breaks[run][1] <= start:
            run += 1
        here = [shade for _, _, number in active if (shade := shades[number]) is not None]
        yield _Segment(
            text=text[start:end],
            rows=tuple(sorted(number for _, _, number in active)),
            level=_level(max(here)) if here else None,
            markup=run < len(breaks) and breaks[run][0] <= start,
            unread=start >= unread,
            breaks=end in ends and end < len(text),
        )


def _level(shade: float) -> int:
    """The level a shade has reached: rounded down, so that what looks full is, and a legend's "from" holds."""
    return int(shade * _LEVELS + 1e-9)


def _span(row: Mapping[str, Any], text: str, number: int) -> tuple[int, int, int] | None:
    """The characters to shade for a token: white space at its edges is the text's, not the token's."""
    start, end = max(row["start"], 0), min(row["end"], len(text))
    if row["special"] or start >= end:
        return None
    piece = text[start:end]
    if stripped := piece.strip():
        start += len(piece) - len(piece.lstrip())
        end = start + len(stripped)
    return start, end, number


def _aside(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that have no text to be shaded on."""
    return [row for row in rows if row["special"] or row["start"] >= row["end"]]


# --- Colours -----------------------------------------------------------------------------------------------

_Rgb = tuple[int, int, int]

#: Of each background: the paper, the ink on it, the ink of what matters less, a rule, and the fullest shade.
_PAPER: dict[Background, _Rgb] = {"light": (0xFF, 0xFF, 0xFF), "dark": (0x17, 0x15, 0x13)}
_INK: dict[Background, _Rgb] = {"light": (0x1C, 0x19, 0x17), "dark": (0xE9, 0xE4, 0xDE)}
_FAINT: dict[Background, _Rgb] = {"light": (0x6B, 0x64, 0x5E), "dark": (0xA3, 0x9B, 0x92)}
_RULE: dict[Background, _Rgb] = {"light": (0xE4, 0xDF, 0xD9), "dark": (0x3A, 0x36, 0x32)}
_FULL: dict[Background, _Rgb] = {"light": (0xF0, 0x8C, 0x00), "dark": (0xFF, 0xB3, 0x00)}


def _linear(channel: int) -> float:
    """An sRGB channel as linear light, 0 to 1 (IEC 61966-2-1)."""
    value = channel / 255
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _encoded(light: float) -> int:
    value = 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    return round(255 * min(max(value, 0.0), 1.0))


def luminance(colour: _Rgb) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    red, green, blue = map(_linear, colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: _Rgb, other: _Rgb) -> float:
    """Contrast ratio as WCAG 2.2 defines it, from 1 to 21; text needs 4.5 (success criterion 1.4.3)."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _oklab(colour: _Rgb) -> tuple[float, float, float]:
    """The colour in OKLab (Ottosson 2020), where equal steps look about equally large."""
    red, green, blue = map(_linear, colour)
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    medium = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def _from_oklab(lightness: float, green_red: float, blue_yellow: float) -> _Rgb:
    long = (lightness + 0.3963377774 * green_red + 0.2158037573 * blue_yellow) ** 3
    medium = (lightness - 0.1055613458 * green_red - 0.0638541728 * blue_yellow) ** 3
    short = (lightness - 0.0894841775 * green_red - 1.2914855480 * blue_yellow) ** 3
    return (
        _encoded(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
        _encoded(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
        _encoded(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
    )


@cache
def ramp(background: Background) -> tuple[_Rgb, ...]:
    """The shades of levels 0 to 20, from the paper to one hue, in equal steps of OKLab."""
    paper, full = _oklab(_PAPER[background]), _oklab(_FULL[background])
    return tuple(
        _from_oklab(*(p + (f - p) * level / _LEVELS for p, f in zip(paper, full, strict=True)))
        for level in range(_LEVELS + 1)
    )


def ink(shade: _Rgb, preferred: _Rgb) -> _Rgb:
    """The colour of text on `shade`: the preferred one where it is readable, else black or white.

    One of those two always has a contrast of 4.58 or more.
    """
    if contrast(shade, preferred) >= 4.5:
        return preferred
    return max(((0, 0, 0), (255, 255, 255)), key=lambda colour: contrast(shade, colour))


def _xterm_colour(index: int) -> _Rgb:
    """The colour of an index from 16 to 255 in xterm's palette: a 6×6×6 cube, then 24 greys."""
    if index >= 232:
        grey = 8 + 10 * (index - 232)
        return grey, grey, grey
    steps = (0, 95, 135, 175, 215, 255)
    cube = index - 16
    return steps[cube // 36], steps[cube // 6 % 6], steps[cube % 6]


#: With 256 colours: the indices nearest in kind to the ramp, weakest first; below the first,
#: no background. The nearest ones by distance alone wander through olive and pink.
_XTERM_RAMP: dict[Background, tuple[int, ...]] = {
    "dark": (235, 237, 239, 94, 136, 172, 214),
    "light": (230, 223, 215, 208),
}


# --- The terminal ------------------------------------------------------------------------------------------


def colour_depth(environ: Mapping[str, str], isatty: bool) -> Colour:
    """How many colours to write, from the environment (such as os.environ).

    NO_COLOR, set to anything, means none (no-color.org). FORCE_COLOR or CLICOLOR_FORCE, set to anything
    but 0, mean colour even where the output is no terminal; FORCE_COLOR=2 means 256 and 3 true colour.
    Otherwise: none if the output is no terminal, if CLICOLOR is 0 or TERM is dumb; and as many as
    COLORTERM (truecolor, 24bit) and TERM (*-direct, *256color*) promise.
    """
    if environ.get("NO_COLOR"):
        return "none"
    force, term = environ.get("FORCE_COLOR", ""), environ.get("TERM", "")
    if force.lower() in ("0", "false"):
        return "none"
    forced = bool(force) or environ.get("CLICOLOR_FORCE", "0") not in ("", "0")
    if not forced and (not isatty or term == "dumb" or environ.get("CLICOLOR") == "0"):
        return "none"
    if force == "3" or environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") or "direct" in term:
        return "256" if force == "2" else "truecolor"
    return "256" if forced or "256color" in term else "none"


def terminal_background(environ: Mapping[str, str]) -> Background:
    """Light if COLORFGBG (as set by rxvt, Konsole and others) says so, else dark, as most terminals are."""
    return "light" if environ.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15") else "dark"


#: Without colour, a line of marks stands under the text. The levels are fifths of the full shade; the
#: lowest fifth has no mark.
_MARKS = " ▁▃▅▇"


def terminal(
    heatmap: Heatmap, colour: Colour = "none", width: int = 80, background: Background = "dark"
) -> str:
    """The document as lines of at most `width` columns (at least 20), without a newline at the end.

    With colour, tokens have a background; with "none" a line of marks stands under each line that has
    any, so that the text itself stays whole and can be searched.
    """
    width = max(width, 20)
    rows = _rows(heatmap.tokens)
    paint = _Painter(colour, background)
    out = [paint.bold(line) for line in _paragraph(heatmap.id, width)]
    label = "no label" if heatmap.label is None else f"label {heatmap.label}"
    facts = [
        label,
        f"predicted {heatmap.prediction} ({_probability(heatmap.probability)})",
        _verdict(heatmap),
    ]
    out += _paragraph(" · ".join(filter(None, facts)), width)
    out += _paragraph(f"attention {_method(heatmap)} · {_size(heatmap)}", width)
    if heatmap.truncated:
        out += _paragraph(_truncation(heatmap), width)
    out.append("")
    segments = list(_segments(heatmap, rows))
    out += _body([segment for segment in segments if not segment.unread], paint, width)
    if tail := [segment for segment in segments if segment.unread]:
        out += [paint.dim(line) for line in _paragraph(f"── {_tail(heatmap)} ──", width)]
        out += _body(tail, paint, width)
    if not heatmap.text.strip():
        out.append(paint.dim("(the text is empty)"))
    out.append("")
    if most := _most_attended(rows):
        listed = ", ".join(f"{row['token']} {row['lift']:.1f}×" for row in most)
        out += _paragraph(f"most attended: {listed}", width)
    if aside := _aside(rows):
        out += _paragraph("aside: " + "; ".join(f"{row['token']} {_value(row)}" for row in aside), width)
    out += _legend(heatmap, paint, width)
    for caption in _captions(heatmap.tokens):
        out += _paragraph(caption, width)
    return "\n".join(out)


@dataclass(frozen=True, slots=True)
class _Painter:
    """Escape sequences of one colour depth; with "none" there are none."""

    colour: Colour
    background: Background

    def bold(self, text: str) -> str:
        return text if self.colour == "none" else f"\x1b[1m{text}\x1b[0m"

    def dim(self, text: str) -> str:
        return text if self.colour == "none" else f"\x1b[2m{text}\x1b[0m"

    def shade(self, text: str, level: int) -> str:
        if self.colour == "none":
            return text
        if self.colour == "256":
            indices = _XTERM_RAMP[self.background]
            step = level * (len(indices) + 1) // (_LEVELS + 1)
            if not step:
                return text
            index = indices[step - 1]
            # 16 and 231 are the cube's black and white: unlike 0 and 15, no theme changes them.
            front = 16 if ink(_xterm_colour(index), (0, 0, 0)) == (0, 0, 0) else 231
            return f"\x1b[38;5;{front};48;5;{index}m{text}\x1b[0m"
        shade = ramp(self.background)[level]
        front_rgb = ";".join(map(str, ink(shade, _INK[self.background])))
        return f"\x1b[38;2;{front_rgb};48;2;{';'.join(map(str, shade))}m{text}\x1b[0m"


@dataclass(frozen=True, slots=True)
class _Cell:
    """What one character of the text is in the terminal: its glyphs, the columns they take, their look."""

    glyphs: str
    columns: int
    level: int = 0
    dim: bool = False


_NEW_LINE = _Cell("\n", 0)


def display_width(character: str) -> int:
    """The columns a terminal gives a character: 0 if it combines, 2 if wide (UAX #11), else 1."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _cells(text: str, level: int, dim: bool) -> Iterator[_Cell]:
    for character in text:
        if character == "\n":
            yield _NEW_LINE
        else:
            glyphs = " " if character == "\t" else _visible(character)
            yield _Cell(glyphs, sum(map(display_width, glyphs)), level, dim)


def _wrap(cells: Iterable[_Cell], width: int) -> Iterator[list[_Cell]]:
    """Lines of at most `width` columns, broken after spaces and wide characters, else where the line is full.

    Spaces at the end of a line go; a mark that combines stays with its character.
    """
    line: list[_Cell] = []
    used = 0
    breakable = 0  # the line may end before this cell; 0: nowhere yet
    for cell in cells:
        if cell is _NEW_LINE:
            yield _trimmed(line)
            line, used, breakable = [], 0, 0
            continue
        space = cell.glyphs == " "
        while line and cell.columns and not space and used + cell.columns > width:
            at = breakable or len(line)
            yield _trimmed(line[:at])
            line, breakable = line[at:], 0
            used = sum(kept.columns for kept in line)
        follows_break = breakable == len(line) > 0
        line.append(cell)
        used += cell.columns
        if space or cell.columns == 2 or (cell.columns == 0 and follows_break):
            breakable = len(line)
    if line:
        yield _trimmed(line)


def _trimmed(line: list[_Cell]) -> list[_Cell]:
    end = len(line)
    while end and line[end - 1].glyphs == " ":
        end -= 1
    return line[:end]


def _paragraph(text: str, width: int) -> list[str]:
    """A text of ours on as many lines as it needs; what it quotes can't drive the terminal."""
    return ["".join(cell.glyphs for cell in line) for line in _wrap(_cells(_one_line(text), 0, False), width)]


def _body(segments: list[_Segment], paint: _Painter, width: int) -> Iterator[str]:
    cells: list[_Cell] = []
    for segment in segments:
        level = segment.level or 0
        cells += _cells(segment.text, level, segment.unread or (segment.markup and not level))
        if segment.breaks and cells[-1] is not _NEW_LINE:
            cells.append(_NEW_LINE)
    for line in _wrap(cells, width):
        painted = []
        for (level, dim), run in groupby(line, key=lambda cell: (cell.level, cell.dim)):
            glyphs = "".join(cell.glyphs for cell in run)
            painted.append(paint.shade(glyphs, level) if level else paint.dim(glyphs) if dim else glyphs)
        yield "".join(painted)
        if paint.colour == "none" and (marks := "".join(_mark(c.level) * c.columns for c in line).rstrip()):
            yield marks


def _mark(level: int) -> str:
    return _MARKS[min(level * 5 // _LEVELS, 4)]


def _legend(heatmap: Heatmap, paint: _Painter, width: int) -> list[str]:
    if all(shade is None for shade in intensities(heatmap.tokens)):
        return _paragraph(_scale(heatmap), width)
    if paint.colour == "none":
        full, unit, after = (100, "%", " of the maximum") if heatmap.relative else (FULL_LIFT, "×", "")
        fifths = ", ".join(f"{_MARKS[n]} {full * n / 5:g}{unit}" for n in range(1, 5))
        return _paragraph(f"marks, from: {fifths}{after}", width) + _paragraph(_scale(heatmap), width)
    swatches = "".join(paint.shade(" ", level) for level in range(2, _LEVELS + 1, 2))
    end = "maximum" if heatmap.relative else f"{FULL_LIFT:g}×+"
    return [f"0 {swatches} {end}", *_paragraph(_scale(heatmap), width)]


# --- The page ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Html:
    """Finished markup. Plain strings are never taken for it: `_tag` escapes them."""

    source: str


_VOID = ("br", "meta")


def _tag(name: str, attributes: Mapping[str, str], *children: str | _Html) -> _Html:
    """An element; every attribute and every plain string among its children is made visible and escaped."""
    pairs = "".join(f' {key}="{escape(_one_line(value))}"' for key, value in attributes.items())
    if name in _VOID:
        return _Html(f"<{name}{pairs}>")
    inner = "".join(c.source if isinstance(c, _Html) else escape(visible(c)) for c in children)
    return _Html(f"<{name}{pairs}>{inner}</{name}>")


def html(heatmaps: Heatmap | Iterable[Heatmap]) -> str:
    """One page with one document or several, complete in itself: no script, nothing fetched."""
    documents = [heatmaps] if isinstance(heatmaps, Heatmap) else list(heatmaps)
    title = documents[0].id if len(documents) == 1 else f"{len(documents):,} documents"
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = _tag(
        "head",
        {},
        _tag("meta", {"charset": "utf-8"}),
        _tag("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        _tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        _tag("meta", {"name": "color-scheme", "content": "light dark"}),
        _tag("title", {}, f"{_one_line(title)} · attention"),
        _Html(f"<style>{_page_style()}{_style()}</style>"),
    )
    if len(documents) == 1:
        content = [_article(documents[0], "h1")]
    else:
        content = [_tag("h1", {}, title), *(_article(document, "h2") for document in documents)]
    body = _tag("body", {}, _tag("main", {}, *content))
    return f"<!doctype html>\n{_tag('html', {'lang': 'en'}, head, body).source}\n"


def fragment(heatmap: Heatmap) -> str:
    """The same document as a piece of HTML with its own style, for a notebook or another page."""
    return _tag("div", {}, _Html(f"<style>{_style()}</style>"), _article(heatmap, "h2")).source


def _article(heatmap: Heatmap, heading: str) -> _Html:
    rows = _rows(heatmap.tokens)
    parts = [_header(heatmap, heading), *_text(heatmap, rows), _notes(heatmap, rows)]
    return _tag("article", {"class": "attnstore-heatmap", "aria-label": f"Document {heatmap.id}"}, *parts)


def _header(heatmap: Heatmap, heading: str) -> _Html:
    def fact(name: str, *value: str | _Html) -> _Html:
        return _tag("div", {}, _tag("dt", {}, name), _tag("dd", {}, *value))

    verdict = _verdict(heatmap)
    prediction: list[str | _Html] = [
        _tag("bdi", {}, heatmap.prediction),
        f" {_probability(heatmap.probability)}",
    ]
    if verdict:
        prediction += [" ", _tag("span", {"class": f"verdict {verdict}"}, verdict)]
    facts = [
        fact("label", "none" if heatmap.label is None else _tag("bdi", {}, heatmap.label)),
        fact("prediction", *prediction),
        fact("attention", _method(heatmap)),
        fact("length", _size(heatmap)),
    ]
    parts = [_tag(heading, {}, _tag("bdi", {}, _one_line(heatmap.id))), _tag("dl", {}, *facts)]
    if heatmap.truncated:
        parts.append(_tag("p", {"class": "cut"}, _truncation(heatmap)))
    return _tag("header", {}, *parts)


def _text(heatmap: Heatmap, rows: list[dict[str, Any]]) -> Iterator[_Html]:
    """The text, unbroken: joined, the strings in it are the document's, so that a search finds its words."""
    merged = _MERGED in (heatmap.tokens.schema.metadata or {})
    read: list[_Html | str] = []
    unread: list[_Html | str] = []
    for segment in _segments(heatmap, rows):
        classes = [f"s{segment.level}"] if segment.level else []
        if segment.markup:
            classes.append("br")
        attributes = {"class": " ".join(classes)} if classes else {}
        if segment.rows:
            attributes["title"] = " + ".join(_describe(rows[number], merged) for number in segment.rows)
        target = unread if segment.unread else read
        target.append(_tag("span", attributes, segment.text) if attributes else segment.text)
        if segment.breaks:
            target.append(_tag("br", {}))
    # The language is not known: an empty `lang` keeps the page's English from being read out as its own.
    plain = {"lang": "", "dir": "auto"}
    if not heatmap.text.strip():
        yield _tag("p", {"class": "cut"}, "The text is empty.")
    yield _tag("p", {"class": "text", **plain}, *read)
    if unread:
        yield _tag("p", {"class": "cut"}, _tail(heatmap))
        yield _tag("p", {"class": "text unread", **plain}, *unread)


def _notes(heatmap: Heatmap, rows: list[dict[str, Any]]) -> _Html:
    parts: list[_Html] = []
    shades = intensities(heatmap.tokens, heatmap.relative)
    shade_of = dict(zip((row["position"] for row in rows), shades, strict=True))
    if any(shade is not None for shade in shades):
        swatches = [_tag("i", {"class": f"s{level}"}) for level in range(_LEVELS + 1)]
        steps = (0, 1, 2, 5, FULL_LIFT)
        ticks = [(0.0, "0"), (100.0, "maximum")]
        if not heatmap.relative:
            ticks = [(100 * step / FULL_LIFT, f"{step:g}{'×' if step else ''}") for step in steps]
            ticks[-1] = (100.0, f"{FULL_LIFT:g}×+")
        marks = [_tag("b", {"style": f"left:{place:g}%"}, name) for place, name in ticks]
        meaning = f"Shades run from none at 0 to the fullest at {_top_of_scale(heatmap)}."
        parts.append(
            _tag(
                "div",
                {"class": "legend", "role": "img", "aria-label": meaning},
                _tag("div", {"class": "ramp"}, *swatches),
                _tag("div", {"class": "ticks"}, *marks),
            )
        )
    parts += [_tag("p", {}, sentence) for sentence in (_scale(heatmap), *_captions(heatmap.tokens))]
    if most := _most_attended(rows):
        items = [
            _tag(
                "li",
                {},
                _tag("bdi", _class_of(shade_of[row["position"]]), row["token"]),
                f" {row['lift']:.1f}×",
            )
            for row in most
        ]
        parts.append(_tag("div", {"class": "list"}, _tag("h3", {}, "most attended"), _tag("ol", {}, *items)))
    if aside := _aside(rows):
        items = [_tag("li", {}, _tag("code", {}, row["token"]), f" {_value(row)}") for row in aside]
        parts.append(_tag("div", {"class": "list"}, _tag("h3", {}, "aside"), _tag("ul", {}, *items)))
    return _tag("footer", {}, *parts)


def _class_of(shade: float | None) -> dict[str, str]:
    level = _level(shade or 0.0)
    return {"class": f"s{level}"} if level else {}


def _hex(colour: _Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _theme(background: Background, scope: str) -> str:
    """The colours of one background: the variables, and a rule for each shade."""
    variables = {"paper": _PAPER, "ink": _INK, "faint": _FAINT, "rule": _RULE}
    declared = "".join(f"--{name}:{_hex(colours[background])};" for name, colours in variables.items())
    shades = "".join(
        f"{scope} .s{level}{{background:{_hex(shade)};color:{_hex(ink(shade, _INK[background]))}}}"
        for level, shade in enumerate(ramp(background))
        if level
    )
    return f"{scope}{{{declared}}}{shades}"


_LAYOUT = """
.attnstore-heatmap{color:var(--ink);background:var(--paper);max-width:42rem;padding:1px 0;
font:.8125rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
.attnstore-heatmap :is(h1,h2){font-size:1.0625rem;line-height:1.3;font-weight:650;margin:0 0 .6rem;
overflow-wrap:anywhere}
.attnstore-heatmap dl{display:flex;flex-wrap:wrap;gap:.5rem 2rem;margin:0;padding:0 0 .8rem;
border-bottom:1px solid var(--rule)}
.attnstore-heatmap dt,.attnstore-heatmap h3{font-size:.75rem;font-weight:400;letter-spacing:.02em;
color:var(--faint);margin:0;float:none;width:auto}
.attnstore-heatmap dd{margin:0;font-weight:550;font-variant-numeric:tabular-nums}
.attnstore-heatmap .verdict{border:1px solid var(--faint);border-radius:1em;padding:0 .55em;margin-left:.3em;
font-size:.75rem;font-weight:400}
.attnstore-heatmap .wrong{background:var(--ink);border-color:var(--ink);color:var(--paper)}
.attnstore-heatmap .cut{color:var(--faint);margin:.8rem 0}
.attnstore-heatmap .text{font:1.0625rem/1.8 Charter,"Bitstream Charter","Iowan Old Style","Source Serif 4",
Georgia,"Noto Serif",serif;max-width:75ch;margin:1.2rem 0;white-space:pre-wrap;overflow-wrap:anywhere;
tab-size:4}
.attnstore-heatmap .text span{padding:.14em 0;border-radius:.15em;-webkit-box-decoration-break:clone;
box-decoration-break:clone}
.attnstore-heatmap .text .br{font-size:.75em}
.attnstore-heatmap .text .br:not([class^=s]){color:var(--faint)}
.attnstore-heatmap .text span[title]:hover{outline:1px solid var(--faint)}
.attnstore-heatmap .text+.cut{border-top:1px dashed var(--faint);padding-top:.4rem}
.attnstore-heatmap .unread{color:var(--faint)}
.attnstore-heatmap footer{border-top:1px solid var(--rule);padding-top:1rem;color:var(--faint)}
.attnstore-heatmap footer p{margin:.2rem 0}
.attnstore-heatmap .legend{width:20rem;max-width:100%;margin-bottom:.6rem}
.attnstore-heatmap .ramp{display:flex;height:.7rem;border:1px solid var(--rule);border-radius:2px;
overflow:hidden}
.attnstore-heatmap .ramp i{flex:1}
.attnstore-heatmap .ticks{position:relative;height:1.2rem;font-size:.75rem;
font-variant-numeric:tabular-nums}
.attnstore-heatmap .ticks b{position:absolute;font-weight:400;transform:translateX(-50%)}
.attnstore-heatmap .ticks b:first-child{transform:none}
.attnstore-heatmap .ticks b:last-child{transform:translateX(-100%)}
.attnstore-heatmap .list{display:flex;gap:1rem;margin-top:.7rem}
.attnstore-heatmap h3{flex:none;width:8.5em;line-height:1.65rem}
.attnstore-heatmap ol,.attnstore-heatmap ul{display:flex;flex-wrap:wrap;gap:0 1.1rem;margin:0;padding:0;
list-style:none;line-height:1.65rem;font-variant-numeric:tabular-nums}
.attnstore-heatmap li bdi{color:var(--ink);padding:.1em .3em;border-radius:.2em}
.attnstore-heatmap code{font:inherit;color:var(--ink)}
"""


@cache
def _style() -> str:
    scope = ".attnstore-heatmap"
    dark = f"@media screen and (prefers-color-scheme:dark){{{_theme('dark', scope)}}}"
    paper = f"@media print{{{scope} .text{{font-size:10.5pt}}{scope} *{{print-color-adjust:exact}}}}"
    return f"{_LAYOUT}{_theme('light', scope)}\n{dark}\n{paper}\n"


def _page_style() -> str:
    return (
        f"body{{margin:0;background:{_hex(_PAPER['light'])}}}"
        f"@media screen and (prefers-color-scheme:dark){{body{{background:{_hex(_PAPER['dark'])}}}}}"
        "main{max-width:42rem;margin:0 auto;padding:2.5rem 1.25rem}"
        "main>h1{font:650 1.25rem system-ui,sans-serif}"
        "main article+article{margin-top:4rem}"
    )
