"""The cost of a store's report: its questions, everything else, its size, and the time to open it.

    python benchmarks/report.py imdb.attn [--keep report.html]

Times are processor seconds of all threads of this process, so that a busy machine changes little. A second counts for a
question if a function of `attnstore.ask` that reads the store was running: `ask`, and those that choose documents,
contexts and words. The rest is charts, documents divided into segments, cards, and the page's text.
The page is opened in chromium if playwright and chromium are installed: until its `load` event, and until all charts
are drawn, in wall-clock seconds and in processor seconds of the page's main thread. Charts are drawn as they come near
the window, the others when the browser is idle.
"""

import argparse
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from machine import description

from attnstore.show import plot, report
from attnstore.store.store import open_store

#: The functions that read the store, by the module that calls them.
READING = (
    (plot, "ask"),
    (report, "ask"),
    (report, "best_score"),
    (report, "certain_documents"),
    (report, "contexts_of"),
    (report, "documents_with_tokens"),
    (report, "signed_scores"),
    (report, "typical_documents"),
    (report, "words_of_one_class"),
)


def measured(function: Callable[..., Any], spent: dict[str, float]) -> Callable[..., Any]:
    """The same function; its time is added to `spent`, under the name of the question."""

    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        answer = function(*args, **kwargs)
        if isinstance(answer, Iterator):
            answer = list(answer)
        name = getattr(args[1], "name", function.__name__) if len(args) > 1 else function.__name__
        spent[name] += time.process_time() - began
        return answer

    return timed


def opened(page: Path) -> list[tuple[str, float, float]]:
    """Event -> wall-clock seconds and seconds of the page's main thread; empty without a browser."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return []
    if chromium is None:
        return []
    drawn = "() => document.querySelectorAll('.chart').length === document.querySelectorAll('.chart svg.marks').length"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto("about:blank")
        inspector = tab.context.new_cdp_session(tab)
        inspector.send("Performance.enable", {"timeDomain": "threadTicks"})

        def busy() -> float:
            metrics = inspector.send("Performance.getMetrics")["metrics"]
            return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))

        began = time.perf_counter()
        tab.goto(page.resolve().as_uri())
        loaded = ("loaded", time.perf_counter() - began, busy())
        tab.wait_for_function(drawn, polling=20)
        return [loaded, ("all charts drawn", time.perf_counter() - began, busy())]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="leave the page here")
    options = parser.parse_args()
    print(*description(), sep="\n")
    store = open_store(options.store)
    spent: dict[str, float] = defaultdict(float)
    for module, name in READING:
        setattr(module, name, measured(getattr(module, name), spent))
    began, wall = time.process_time(), time.perf_counter()
    html = report.report(store)
    total, wall = time.process_time() - began, time.perf_counter() - wall
    print("\n| question | processor seconds |\n|---|---|")
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"| {name} | {seconds:.2f} |")
    queries = sum(spent.values())
    print(
        f"\n{store.rows('documents'):,} documents: {total:.1f} processor seconds, {queries:.1f} of them its questions"
        f" and {total - queries:.1f} all else; {wall:.1f} s by the clock; {len(html.encode()) / 1e6:.2f} MB"
    )
    with TemporaryDirectory() as folder:
        page = options.keep or Path(folder, "report.html")
        page.write_text(html, encoding="utf-8")
        for what, by_clock, by_thread in opened(page):
            print(f"{what} after {by_clock:.2f} s, {by_thread:.2f} of them at work")


if __name__ == "__main__":
    main()
