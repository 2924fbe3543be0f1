"""A document as a web page, or as a piece of one for a notebook."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

from attnstore.show import captions
from attnstore.show.colours import PAGE, SHADES, Background
from attnstore.show.segments import segments
from attnstore.show.shading import (
    FULL_LIFT,
    LEVELS,
    ShadedDocument,
    intensities,
    level_reached,
    most_attended,
    without_text,
)
from attnstore.show.visible import visible, visible_line
from attnstore.show.words import are_merged, changes, token_rows


@dataclass(frozen=True, slots=True)
class _Html:
    """Finished markup. Plain strings are never taken for it: `_tag` escapes them."""

    source: str


_VOID = ("br", "meta")


def _tag(name: str, attributes: Mapping[str, str], *children: str | _Html) -> _Html:
    """An element; every attribute and every plain string among its children is made visible and escaped."""
    pairs = "".join(f' {key}="{escape(visible_line(value))}"' for key, value in attributes.items())
    if name in _VOID:
        return _Html(f"<{name}{pairs}>")
    inner = "".join(c.source if isinstance(c, _Html) else escape(visible(c)) for c in children)
    return _Html(f"<{name}{pairs}>{inner}</{name}>")


def html(drawn: ShadedDocument | Iterable[ShadedDocument]) -> str:
    """One page with one document or several, complete in itself: no script, nothing fetched."""
    documents = [drawn] if isinstance(drawn, ShadedDocument) else list(drawn)
    title = documents[0].id if len(documents) == 1 else f"{len(documents):,} documents"
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = _tag(
        "head",
        {},
        _tag("meta", {"charset": "utf-8"}),
        _tag("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        _tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        _tag("meta", {"name": "color-scheme", "content": "light dark"}),
        _tag("title", {}, f"{visible_line(title)} · attention"),
        _Html(f"<style>{_page_style()}{_style()}</style>"),
    )
    if len(documents) == 1:
        content = [_article(documents[0], "h1")]
    else:
        content = [_tag("h1", {}, title), *(_article(document, "h2") for document in documents)]
    body = _tag("body", {}, _tag("main", {}, *content))
    return f"<!doctype html>\n{_tag('html', {'lang': 'en'}, head, body).source}\n"


def fragment(document: ShadedDocument) -> str:
    """The same document as a piece of HTML with its own style, for a notebook or another page."""
    return _tag("div", {}, _Html(f"<style>{_style()}</style>"), _article(document, "h2")).source


def _article(document: ShadedDocument, heading: str) -> _Html:
    rows = token_rows(document.tokens)
    parts = [_header(document, heading), *_text(document, rows), _notes(document, rows)]
    return _tag("article", {"class": "attnstore-heatmap", "aria-label": f"Document {document.id}"}, *parts)


def _header(document: ShadedDocument, heading: str) -> _Html:
    def fact(name: str, *value: str | _Html) -> _Html:
        return _tag("div", {}, _tag("dt", {}, name), _tag("dd", {}, *value))

    verdict = captions.verdict(document)
    prediction: list[str | _Html] = [
        _tag("bdi", {}, document.prediction),
        f" {captions.probability(document.probability)}",
    ]
    if verdict:
        prediction += [" ", _tag("span", {"class": f"verdict {verdict}"}, verdict)]
    facts = [
        fact("label", "none" if document.label is None else _tag("bdi", {}, document.label)),
        fact("prediction", *prediction),
        fact("attention", captions.method(document)),
        fact("length", captions.size(document)),
    ]
    parts = [_tag(heading, {}, _tag("bdi", {}, visible_line(document.id))), _tag("dl", {}, *facts)]
    if document.truncated:
        parts.append(_tag("p", {"class": "cut"}, captions.truncation(document)))
    return _tag("header", {}, *parts)


def _text(document: ShadedDocument, rows: list[dict[str, Any]]) -> Iterator[_Html]:
    """The text, unbroken: joined, the strings in it are the document's, so that a search finds its words."""
    merged = are_merged(document.tokens)
    read: list[_Html | str] = []
    unread: list[_Html | str] = []
    for segment in segments(document, rows):
        classes = [f"s{segment.level}"] if segment.level else []
        if segment.markup:
            classes.append("br")
        attributes = {"class": " ".join(classes)} if classes else {}
        if segment.rows:
            attributes["title"] = " + ".join(
                captions.tooltip(rows[number], merged) for number in segment.rows
            )
        target = unread if segment.unread else read
        target.append(_tag("span", attributes, segment.text) if attributes else segment.text)
        if segment.breaks:
            target.append(_tag("br", {}))
    # The language is not known: an empty `lang` keeps the page's English from being read out as its own.
    plain = {"lang": "", "dir": "auto"}
    if not document.text.strip():
        yield _tag("p", {"class": "cut"}, "The text is empty.")
    yield _tag("p", {"class": "text", **plain}, *read)
    if unread:
        yield _tag("p", {"class": "cut"}, captions.tail(document))
        yield _tag("p", {"class": "text unread", **plain}, *unread)


def _notes(document: ShadedDocument, rows: list[dict[str, Any]]) -> _Html:
    parts: list[_Html] = []
    shades = intensities(document.tokens, document.relative)
    shade_of = dict(zip((row["position"] for row in rows), shades, strict=True))
    if any(shade is not None for shade in shades):
        swatches = [_tag("i", {"class": f"s{level}"}) for level in range(LEVELS + 1)]
        steps = (0, 1, 2, 5, FULL_LIFT)
        ticks = [(0.0, "0"), (100.0, "maximum")]
        if not document.relative:
            ticks = [(100 * step / FULL_LIFT, f"{step:g}{'×' if step else ''}") for step in steps]
            ticks[-1] = (100.0, f"{FULL_LIFT:g}×+")
        marks = [_tag("b", {"style": f"left:{place:g}%"}, name) for place, name in ticks]
        meaning = f"Shades run from none at 0 to the fullest at {captions.top_of_scale(document)}."
        parts.append(
            _tag(
                "div",
                {"class": "legend", "role": "img", "aria-label": meaning},
                _tag("div", {"class": "ramp"}, *swatches),
                _tag("div", {"class": "ticks"}, *marks),
            )
        )
    parts += [_tag("p", {}, sentence) for sentence in (captions.scale(document), *changes(document.tokens))]
    if most := most_attended(rows):
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
    if aside := without_text(rows):
        items = [_tag("li", {}, _tag("code", {}, row["token"]), f" {captions.value(row)}") for row in aside]
        parts.append(_tag("div", {"class": "list"}, _tag("h3", {}, "aside"), _tag("ul", {}, *items)))
    return _tag("footer", {}, *parts)


def _class_of(shade: float | None) -> dict[str, str]:
    level = level_reached(shade or 0.0)
    return {"class": f"s{level}"} if level else {}


def _theme(background: Background, scope: str) -> str:
    """The colours of one background: the variables, and a rule for each shade."""
    declared = "".join(f"--{name}:{colour};" for name, colour in PAGE[background].items())
    shades = "".join(
        f"{scope} .s{level}{{background:{shade};color:{ink}}}"
        for level, (shade, ink) in enumerate(SHADES[background], start=1)
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
        f"body{{margin:0;background:{PAGE['light']['paper']}}}"
        f"@media screen and (prefers-color-scheme:dark){{body{{background:{PAGE['dark']['paper']}}}}}"
        "main{max-width:42rem;margin:0 auto;padding:2.5rem 1.25rem}"
        "main>h1{font:650 1.25rem system-ui,sans-serif}"
        "main article+article{margin-top:4rem}"
    )
