"""Documents to draw, and parsers of drawn pages, shared by the tests of pictures."""

import re
import unicodedata
from html.parser import HTMLParser

import pyarrow as pa
from hypothesis import strategies as st

from attnstore.show.heatmap import Heatmap
from attnstore.store.schema import DICTIONARY

SCHEMA = pa.schema(
    {
        "position": pa.int32(),
        "token": DICTIONARY,
        "word": DICTIONARY,
        "piece": pa.int16(),
        "pieces": pa.int16(),
        "segment": pa.int8(),
        "start": pa.int32(),
        "end": pa.int32(),
        "special": pa.bool_(),
        "attention": pa.float64(),
        "lift": pa.float64(),
    }
)
SGR = re.compile("\x1b\\[[0-9;]*m")


def table(rows):
    """Rows of (token, word, piece, pieces, start, end, special, attention, lift[, segment])."""
    names = [*(name for name in SCHEMA.names[1:] if name != "segment"), "segment"]
    return pa.Table.from_pylist(
        [
            {"position": n, **dict(zip(names, (*row, None if row[6] else 0)[: len(names)], strict=True))}
            for n, row in enumerate(rows)
        ],
        schema=SCHEMA,
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


class Page(HTMLParser):
    """A parsed page: the document's text, the words around it, the tooltips, the tags."""

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


def wcag(one, other):
    """The contrast ratio, by its definition in WCAG 2.2."""

    def light(channel):
        s = channel / 255
        return s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4

    a, b = (
        sum(w * light(c) for w, c in zip((0.2126, 0.7152, 0.0722), rgb, strict=True)) for rgb in (one, other)
    )
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def rgb(code):
    return tuple(bytes.fromhex(code))


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
    """The documented escaping, implemented differently from the module: one rule after the other."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f]", lambda m: chr(ord(m[0]) + 0x2400), text).replace("\x7f", "\u2421")
    return "".join(
        f"⟨U+{ord(c):04X}⟩"
        if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c not in "\n\t\u200c\u200d"
        else c
        for c in text
    )
