"""The explorer in a real browser: every control once, no errors, and no requests to other servers."""

import os
import shutil
import signal
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import asked_store
import pytest

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
if CHROMIUM is not None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of an explorer in a separate process, which is ended as a user would end it."""
    path = tmp_path_factory.mktemp("browser") / "demo.attn"
    documents = asked_store.made_up_documents(120)
    for document in documents:
        document["text"] = document["text"] or "nothing"
    asked_store.write_store(path, documents)
    process = subprocess.Popen(
        [sys.executable, "-m", "attnstore", "browse", str(path), "--no-open", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.endswith("(Ctrl-C to stop)\n"), line
    yield line.split()[0]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "stopped\n")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def scheme():
    """The colour scheme that the reader's system prefers."""
    return "light"


@pytest.fixture(scope="module")
def opened(browser, address):
    """A page, and the list of its faults: errors, refused scripts, and requests to other servers."""
    faults: list[str] = []
    page = browser.new_context(viewport={"width": 360, "height": 800}).new_page()
    page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(address) else faults.append(r.url))
    return page, faults


@pytest.fixture
def page(scheme, opened):
    """A page. The test fails if it has a fault."""
    page, faults = opened
    page.emulate_media(color_scheme=scheme)
    yield page
    page.goto("about:blank")
    found, faults[:] = faults[:], []
    assert [fault for fault in found if fault != "about:blank"] == []


def fits(page) -> bool:
    """Whether the page is no wider than the window."""
    page.wait_for_load_state()  # with its styles
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_from_the_first_page_to_a_document_and_back(page, address):
    """Words by class load after the page.

    A number in the matrix links to its documents, and each of these to its picture.
    """
    page.goto(address)
    page.wait_for_selector("[data-load] .words a")
    page.click("[data-load] details summary")
    page.wait_for_selector("[data-load] table")
    assert fits(page)
    page.click("table.matrix td a")
    assert "document" in page.inner_text("[role=status]")
    assert fits(page)
    page.click("ol.documents li a")
    page.wait_for_selector(".attnstore-heatmap .text")
    assert fits(page)
    page.go_back()
    page.wait_for_selector("ol.documents")


def test_the_slider_and_the_keys_change_the_layer_and_the_document(page, address):
    """The heat-map is redrawn in place and the address changes; j and k move through the list."""
    page.goto(f"{address}demo/documents/4?order=number&layer=2")
    assert "layer 2 of 3" in page.inner_text("#heatmap")
    page.keyboard.press("ArrowRight")
    sync_api.expect(page.locator("#heatmap")).to_contain_text("layer 3 of 3")
    assert "layer=3" in page.url
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    sync_api.expect(page.locator("#heatmap")).to_contain_text("layer 1 of 3")
    page.reload()
    assert "layer 1 of 3" in page.inner_text("#heatmap")
    page.keyboard.press("j")
    page.wait_for_url("**/documents/5*")
    assert "layer 1 of 3" in page.inner_text("#heatmap")
    page.keyboard.press("k")
    page.wait_for_url("**/documents/4*")


def test_heads_can_be_chosen_and_the_neighbours_keep_the_choice(page, address):
    """By the slider or with Shift and an arrow. The next document is drawn with the same head of the same layer."""
    page.goto(f"{address}demo/documents/4?reduction=cls_heads&layer=2")
    assert ", head" not in page.inner_text("#heatmap dl")
    page.keyboard.press("Shift+ArrowRight")
    sync_api.expect(page.locator("#heatmap")).to_contain_text("cls_heads, layer 2 of 3, head 1 of 2")
    assert page.locator("input[name=head]").get_attribute("aria-valuetext") == "1"
    page.locator("input[name=head]").press("ArrowRight")
    sync_api.expect(page.locator("#heatmap")).to_contain_text("head 2 of 2")
    page.keyboard.press("j")  # with the focus on the slider
    page.wait_for_url("**/documents/5*")
    assert "cls_heads, layer 2 of 3, head 2 of 2" in page.inner_text("#heatmap")


def test_a_clicked_word_offers_links(page, address):
    """To documents with it and to similar words, for shaded text of a document."""
    page.goto(f"{address}demo/documents?text=film")
    page.click("ol.documents li a")
    word = page.locator("#heatmap .text span[title]").first
    word.click()
    page.click(".leads a:text('words like it')")
    page.wait_for_url("**/words?q=*")


def test_reductions_words_and_the_second_picture_can_be_chosen(page, address):
    """Each control draws what it says."""
    page.goto(f"{address}demo/documents/4")
    page.select_option("select[name=reduction]", "rollout")
    page.wait_for_url("**reduction=rollout**")
    assert "rollout" in page.inner_text("#heatmap dl")
    page.select_option("select[name=words]", "pieces")
    page.wait_for_url("**words=pieces**")
    page.check("input[name=relative]")
    page.wait_for_url("**relative=true**")
    page.select_option("select[name=reduction2]", "cls")
    page.wait_for_selector("#heatmap2 .text")
    assert "cls, layer 3 of 3" in page.inner_text("#heatmap2")
    page.wait_for_selector("[data-load] table, [data-load] p")


def test_words_are_suggested_while_typing(page, address):
    """A word's page has its contexts, more of them, and its documents."""
    page.goto(f"{address}demo/words")
    page.fill("input[name=q]", "fil")
    sync_api.expect(page.locator("#words tbody tr")).to_have_count(2)
    page.click("#words tbody bdi:text-is('film')")
    page.wait_for_selector("table.contexts")
    before = page.locator("table.contexts tbody tr").count()
    page.click("a[data-more]")
    sync_api.expect(page.locator("table.contexts tbody tr").nth(before)).to_be_visible()
    assert fits(page)
    page.click("table.contexts tbody a")
    page.wait_for_selector("#heatmap")


def test_a_question_is_asked_by_its_form(page, address):
    """Its parameters are fields, and the answer uses their values."""
    page.goto(f"{address}demo/questions")
    page.click("text=top_words_by_class")
    page.fill("input[name=limit]", "2")
    page.fill("input[name=min_documents]", "1")
    page.select_option("select[name=by]", "label")
    page.click("form.filters button")
    page.wait_for_url("**limit=2**")
    assert page.locator("#answer tbody tr").count() == 4
    assert fits(page)


def test_sql_runs_from_the_keyboard(page, address):
    """With Ctrl+Enter. An error is shown on a page that links back."""
    page.goto(f"{address}demo/sql")
    page.fill("#sql", "select count(*) as n from documents")
    page.press("#sql", "Control+Enter")
    page.wait_for_selector("td.number")
    assert page.inner_text("td.number") == "120"


@pytest.mark.sampled(at=(1, 2, 6))
@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        ("", "light"),
        ("documents?text=film", "dark"),
        ("documents/4?layer=2&reduction2=rollout", "light"),
        ("words?q=fil", "dark"),
        ("word?word=film", "light"),
        ("questions", "dark"),
        ("questions/sinks", "light"),
        ("sql?sql=select+label+from+documents+limit+3", "dark"),
        ("word?word=nowhere", "light"),
    ],
)
def test_the_explorer_is_accessible(page, opened, address, kind):
    """axe-core finds no violation on any kind of page, on a narrow screen, in light and dark colours."""
    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    response = page.goto(f"{address}demo/{kind}", wait_until="networkidle")
    assert response.status == (404 if "nowhere" in kind else 200)
    if response.status == 404:  # chromium counts the answer as an error of the page
        opened[1].remove("Failed to load resource: the server responded with a status of 404 (Not Found)")
    page.evaluate((files(axe) / "axe.min.js").read_text())
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    assert len(found["passes"]) > 10
    assert [(v["impact"], v["id"], v["nodes"][0]["html"]) for v in found["violations"]] == []


def test_selected_text_offers_links(page, address):
    """A selected word has links to documents with it, and to similar words."""
    page.goto(f"{address}demo/documents?text=film")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.documents a bdi'))")
    page.wait_for_selector(".leads a")
    assert page.locator(".leads a").first.get_attribute("href").startswith("/demo/documents?text=test")
