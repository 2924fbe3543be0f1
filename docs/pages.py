"""Hooks for mkdocs: pages that stand outside docs/ are pages of the site, and no page loads anything from elsewhere."""

import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
#: Where a page of the repository stands in the site.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
} | {
    f"benchmarks/results/{page.name}": f"results/{page.name}"
    for page in (ROOT / "benchmarks/results").glob("*.md")
}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages from elsewhere. The figures of single passes are linked to, and stand in no menu."""
    for path, name in ELSEWHERE.items():
        file = File.generated(config, name, abs_src_path=str(ROOT / path))
        if name.startswith("results/"):
            file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Let relative links, which lead from file to file in the repository, lead from page to page."""
    here = page.file.src_uri
    source = {name: path for path, name in ELSEWHERE.items()}.get(here, f"docs/{here}")

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        inside = ELSEWHERE.get(target, target.removeprefix("docs/"))
        return f"]({posixpath.relpath(inside, PurePosixPath(here).parent)}{link[2] or ''})"

    return re.sub(r"\]\((?!\w+:)([^)#\s]+)(#[^)]*)?\)", moved, markdown)


class _Loads(HTMLParser):
    """Addresses that a browser asks for by itself when it shows the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            loads = name in {"src", "srcset", "poster", "data"} or (name == "href" and tag == "link")
            if loads and re.match(r"(\w+:)?//", value or ""):
                self.found.append(str(value))


def on_post_page(output: str, *, page: Page, **_: Any) -> str:
    """Refuse a page that would tell another host who reads it."""
    if found := _Loads(output).found:
        raise PluginError(f"{page.file.src_uri} loads {', '.join(found)}")
    return output
