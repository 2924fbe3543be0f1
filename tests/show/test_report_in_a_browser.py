"""The report in a real browser: every control once, no errors, no requests, and accessible."""

import csv
import io
import json
import re
import shutil
from importlib.resources import files

import pyarrow as pa
import pytest
from test_report import SHOWN

from attnstore.ask.questions import find_questions
from attnstore.show.charts import fill, read_chart, with_title
from attnstore.show.plot import Plot

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
if CHROMIUM is not None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
ALL_DRAWN = """() => document.querySelectorAll('.chart').length > 5
    && document.querySelectorAll('.chart').length === document.querySelectorAll('.chart svg.marks').length"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory, usual, hostile):
    """The report of a store of made-up documents, and of one in which every text is hostile."""
    folder = tmp_path_factory.mktemp("reports")
    for name, html in (("usual", with_a_certain_word(usual[1])), ("hostile", hostile[1])):
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pages(browser, written):
    """Each report in a browser, and the faults on its page."""
    context = browser.new_context(color_scheme="light")
    there = {}

    def opened(name, width=1400):
        if (name, width) not in there:
            there[name, width] = _opened(context, (written / f"{name}.html").as_uri(), width)
        return there[name, width]

    yield opened
    context.close()


def with_a_certain_word(html):
    """The page, with a p of its first word that is too small for a number."""
    before, data, after = re.split(
        r'(?<="report-data">)(.*?)(?=</script>)', html, maxsplit=1, flags=re.DOTALL
    )
    page = json.loads(data)
    figure = page["figures"]["distinctive_words"]
    figure["values"][figure["columns"].index("p")][0] = 0.0
    return before + json.dumps(page).replace("<", "\\u003c") + after


def _opened(context, address, width):
    """A page with all its charts drawn, and the list of its faults."""
    page, faults = context.new_page(), []
    page.set_viewport_size({"width": width, "height": 900})
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(f"a stranger's script ran: {dialog.message}"))
    page.on(
        "request",
        lambda r: None if r.url == address or r.url.startswith(("data:", "blob:")) else faults.append(r.url),
    )
    page.goto(address)
    page.wait_for_function(ALL_DRAWN)
    return page, faults


def test_every_control_works_without_requests(pages):
    """Charts, words, tables, downloads, search, slider and reduction, by mouse and keyboard, in light colours on a wide
    screen.
    """
    page, faults = pages("usual")
    card = page.locator("#card")
    # A word in a chart opens its card; Escape closes it.
    page.locator("#figure-top_words_by_class svg.marks .mark-symbol path").first.click()
    assert card.evaluate("dialog => dialog.open")
    assert page.locator("#card-title").inner_text() in {"the", "film", "filming", "unbearable", "bear", "naïve",
                                                        "映画", "10", "½", "it's"}  # fmt: skip
    assert page.locator("#card .context").count() > 0
    page.keyboard.press("Escape")
    assert not card.evaluate("dialog => dialog.open")
    # A table opens, and a word in it leads to its card by keyboard.
    table = page.locator("#figure-top_words_by_class details.table")
    table.locator("summary").press("Enter")
    table.locator("button.word").first.press("Enter")
    assert card.evaluate("dialog => dialog.open")
    page.keyboard.press("Escape")
    # No p value is drawn as 0.
    table = page.locator("#figure-distinctive_words details.table")
    table.locator("summary").press("Enter")
    table.locator("tbody tr").first.wait_for()  # it is filled after it has opened
    place = 1 + table.locator("th").all_inner_texts().index("p")
    assert table.locator(f"tbody tr:first-child td:nth-child({place})").inner_text() == "< 1e-300"
    # The CSV equals the table.
    with page.expect_download() as downloading:
        page.locator("#figure-sinks .csv").click()
    rows = list(csv.DictReader(io.StringIO(downloading.value.path().read_text(encoding="utf-8"))))
    figure = page.evaluate("JSON.parse(document.getElementById('report-data').textContent).figures.sinks")
    assert len(rows) == len(figure["values"][0]) > 0
    assert [row["kind"] for row in rows] == figure["values"][figure["columns"].index("kind")]
    # The search leaves the name of one word in the scatter plot.
    scatter = page.locator("#figure-attention_vs_frequency")
    scatter.locator("input").fill("unbear")
    page.wait_for_timeout(300)
    words = set(scatter.locator("svg.marks .mark-text.role-mark text").all_text_contents()) - {""}
    assert words == {"unbearable"}
    # The slider changes the shades. A reduction without layers has no layer to choose.
    document = page.locator(".document[open]").first
    looks = "place => [...place.querySelectorAll('span[data-tokens]')].map(s => s.className + s.title)"
    before = document.evaluate(looks)
    slider = page.locator("#layer")
    assert page.locator("#layer-name").inner_text() == "3 of 3"
    slider.press("ArrowLeft")
    assert page.locator("#layer-name").inner_text() == "2 of 3"
    assert document.evaluate(looks) != before
    page.locator("#reduction").select_option(label="rollout")
    assert slider.is_disabled()
    assert faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_accessible(pages, scheme):
    """axe-core finds no violation, on a narrow screen, in both colour schemes; and the page is no wider than the
    window.
    """
    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    page, faults = pages("usual", width=360)
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(ALL_DRAWN)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate((files(axe) / "axe.min.js").read_text())
    # axe has nothing to check inside a chart, which is a single named image.
    named = "[...document.querySelectorAll('svg.marks')].every(s => s.getAttribute('role') === 'img' && s.ariaLabel)"
    assert page.evaluate(named)
    found = page.evaluate("axe.run({ exclude: [['svg.marks']] }, { resultTypes: ['violations'] })")
    assert len(found["passes"]) > 20
    assert [(v["impact"], v["id"], v["nodes"][0]["html"]) for v in found["violations"]] == []
    assert faults == []


def test_untrusted_text_stays_text(pages):
    """No script in a text, label, id, class or token runs, in a chart, a tooltip, a table or a card."""
    page, faults = pages("hostile")
    for details in page.locator("details").all():
        details.evaluate("d => { d.open = true; }")
    point = page.locator("#figure-top_words_by_class svg.marks .mark-symbol path").first
    point.scroll_into_view_if_needed()
    point.hover()
    page.wait_for_timeout(200)
    assert SHOWN[:20] in page.locator("#vg-tooltip-element").inner_text()
    page.locator('button.word[data-word*="alert(1)"]').first.click()
    assert page.locator("#card-title").inner_text().startswith(SHOWN[:20])
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert faults == []


def test_a_chart_fits_the_width_that_there_is(browser, tmp_path):
    """A window made narrower has one view below the other, and made wider again, side by side."""
    rows = [
        {"class": name, "side": side, "word": word, "evidence": 1.0, "low": 0.5, "high": 1.5}
        for name in ("neg", "pos")
        for side in ("for", "against")
        for word in ("bad", "good")
    ]
    table = pa.Table.from_pylist(rows)
    spec, _ = fill(read_chart(find_questions()["for_and_against"]), table)
    chart = Plot("for_and_against", with_title(spec, "Which words?", []), table)
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(chart.save(tmp_path / "chart.html").as_uri())
    drawn = "document.querySelector('svg.marks')"
    widest = "Math.max(...[...document.querySelectorAll('#chart, #chart *')].map(e => e.getBoundingClientRect().right))"
    page.wait_for_function(f"() => {drawn} && {widest} > 600")
    page.set_viewport_size({"width": 360, "height": 900})
    page.wait_for_function(f"() => {drawn} && {widest} <= 360")
    names = [
        text
        for text in page.locator("svg.marks text").all_text_contents()
        if text in ("neg", "pos", "for", "against")
    ]
    assert sorted(names) == ["against", "against", "for", "for", "neg", "pos"]
    page.set_viewport_size({"width": 1400, "height": 900})
    page.wait_for_function(f"() => {widest} > 600")
    page.close()
