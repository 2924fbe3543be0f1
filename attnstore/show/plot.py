"""A chart that draws itself in a notebook and saves itself. Only this module uses vl-convert, which makes pictures."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from attnstore.ask.answer import BASIS_KEY, ask, based_on
from attnstore.ask.binding import bound
from attnstore.ask.questions import WHERE, Question
from attnstore.errors import StoreError, UsageError
from attnstore.messages import first_line
from attnstore.show.charts import fill, own_parameters, read_chart, with_title
from attnstore.show.colours import Background
from attnstore.show.markup import render, script, source
from attnstore.show.themes import theme
from attnstore.store.store import Store

FORMATS = ("svg", "png", "pdf", "html", "json")
_SCALE = 2.0  # pixels of a PNG per pixel of the chart: sharp on modern screens


@dataclass(frozen=True, slots=True)
class Plot:
    """A question's chart with its answer in it. It draws itself in Jupyter, marimo and VS Code.

    `spec` is a complete Vega-Lite specification except for its theme, `table` is the answer, with its basis in the
    metadata, and `lines` are below the title: what the chart is based on, and notes.
    """

    question: str
    spec: dict[str, Any] = field(repr=False, hash=False)
    table: pa.Table = field(repr=False, hash=False)
    lines: tuple[str, ...] = field(default=(), repr=False)

    def save(self, path: str | Path, background: Background = "light") -> Path:
        """Write the chart to a file, in the format that its name ends in: svg, png, pdf, html or json.

        A page (html) is self-contained, follows the reader's choice of light or dark, and fetches nothing.

        Raises:
            UsageError: the name has another ending, or vl-convert is not installed.
        """
        path = Path(path)
        path.write_bytes(self.rendered(form_of(path), background))
        return path

    def rendered(self, form: str, background: Background = "light") -> bytes:
        """The chart in one of `FORMATS`.

        Raises:
            UsageError: vl-convert is needed and not installed, or can't draw the chart.
        """
        if form == "json":
            return (self.json(background) + "\n").encode()
        if form == "html":
            return self.html().encode()
        draw = getattr(_vl_convert(), f"vegalite_to_{form}")
        options: dict[str, Any] = {"scale": _SCALE} if form == "png" else {}
        try:
            # Nothing is fetched, whatever a specification requests.
            made = draw(self.json(background), allowed_base_urls=[], **options)
        except ValueError as error:
            raise UsageError(f"the chart of {self.question} can't be drawn: {first_line(error)}") from error
        if isinstance(made, str):
            return _with_room(made, self.spec["title"]["text"], self.spec["title"]["subtitle"]).encode()
        return bytes(made)

    def json(self, background: Background = "light") -> str:
        """The complete specification as JSON, with its theme, for any program that supports Vega-Lite."""
        return json.dumps({**self.spec, "config": theme(background)}, ensure_ascii=False)

    def html(self) -> str:
        """A self-contained page with the chart."""
        return render(
            "chart.html",
            title=" ".join(self.spec["title"]["text"]),
            lines=self.spec["title"]["subtitle"],
            question=self.question,
            chart={"spec": self.spec, "themes": themes()},
            scripts=[script(javascript()), script(source("charts.js")), script(source("chart.js"))],
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {
            "application/vnd.vegalite.v6+json": {**self.spec, "config": theme("light")},
            "text/plain": repr(self),
        }
        with suppress(UsageError):  # no vl-convert: programs with Vega-Lite draw it, others show the words
            bundle["image/png"] = self.rendered("png")
        return bundle


def _with_room(svg: str, title: Sequence[str], subtitle: Sequence[str]) -> str:
    """The picture, as wide as its title needs in the widest font that a reader may have, DejaVu Sans.

    A picture's text is set in the reader's fonts; vl-convert measures it in its own, which are narrower.
    """
    size = re.search(r'<svg [^>]*width="([\d.]+)"', svg)
    if size is None:
        return svg
    wide = max([*(11 * len(line) for line in title), *(7 * len(line) for line in subtitle)], default=0) + 30
    if wide <= float(size[1]):
        return svg
    head, rest = svg[: size.end()], svg[size.end() :]
    head = head.replace(f'width="{size[1]}"', f'width="{wide}"')
    rest = rest.replace(f'viewBox="0 0 {size[1]} ', f'viewBox="0 0 {wide} ', 1)
    return head + rest.replace(f'<rect width="{size[1]}"', f'<rect width="{wide}"', 1)


def form_of(path: Path) -> str:
    """The format from a file name's ending. Raises UsageError if it is not in `FORMATS`."""
    form = path.suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise UsageError(f"{path}: a chart is written as .svg, .png, .pdf, .html or .json")
    return form


def plot(
    store: Store,
    question: Question,
    parameters: Mapping[str, object] | None = None,
    classes: Sequence[str] = (),
    answered: Callable[[Question, dict[str, Any]], pa.Table] | None = None,
) -> Plot:
    """The chart of a question over a store; `classes` are those to draw, if the chart separates classes.

    `answered` gives the answer to a question with parameters; by default `ask`.

    Raises:
        UsageError: the question has no chart, a parameter is invalid, or there is no such class.
        StoreError: the store can't be read.
    """
    spec = read_chart(question)
    given = own_parameters(spec) | dict(parameters or {})
    values, _ = bound(store, question, given)
    table = ask(store, question, given) if answered is None else answered(question, given)
    by = next((values[p.name] for p in question.parameters if p.type == "class"), None)
    name = next(
        (values[p.name] for p in question.parameters if p.type in ("reduction", "signed_reduction")), None
    )
    of = None if name is None else store.manifest.reduction(name)
    filled, notes = fill(spec, table, labels=store.manifest.labels, by=by, only=classes, of=of)
    lines = (f"based on {basis(store, question, values, table)}", *notes)
    return Plot(question.name, with_title(filled, question.summary, lines), table, lines)


def basis(store: Store, question: Question, values: Mapping[str, Any], table: pa.Table) -> str:
    """What a chart is based on, in one line: documents, attention, class, support, and every parameter that is not the
    default.
    """
    always = ("reduction", "signed_reduction", "reductions", "heads", "layer", "class", "cluster")
    said = {
        p.name: values[p.name]
        for p in question.parameters
        if p.name == "min_documents"
        or values[p.name] != p.default
        or (p.type in always and values[p.name] is not None)
    }
    if WHERE not in values:
        return based_on(store, said)
    # The number of documents that the condition selected is at the start of the answer's own line.
    (chosen,) = re.findall(r"^([\d,]+) of ", (table.schema.metadata or {})[BASIS_KEY].decode())
    return based_on(store, said | {WHERE: values[WHERE]}, int(chosen.replace(",", "")))


def themes() -> dict[Background, dict[str, Any]]:
    return {"light": theme("light"), "dark": theme("dark")}


@cache
def javascript() -> str:
    """Vega, Vega-Lite and vega-embed as one script, for a page that fetches nothing. About 0.9 MB.

    Raises:
        UsageError: vl-convert is not installed.
        StoreError: the script would end its element.
    """
    script = str(_vl_convert().javascript_bundle())
    if "</script" in script.lower():
        raise StoreError(
            "vl-convert's script can't stand in a page: install another version of vl-convert-python"
        )
    return script


def _vl_convert() -> ModuleType:
    try:
        import vl_convert
    except ImportError as error:
        raise UsageError(
            "drawing charts needs vl-convert-python: pip install 'attnstore[charts]', or write .json"
        ) from error
    return vl_convert
