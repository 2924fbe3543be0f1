"""`attnstore plot` and `attnstore report`: draw a question, or a whole store."""

import os
import sys
import tempfile
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnstore.commands import completion
from attnstore.commands.ask import given_parameters
from attnstore.commands.options import given_option, queries_option, quiet_option, store_argument
from attnstore.commands.output import note, say, shows

if TYPE_CHECKING:
    from attnstore.store.place import Place


@click.command()
@store_argument
@click.argument("name", shell_complete=completion.questions)
@given_option
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.classes,
    help="Draw this class. May be repeated. Default: all that fit.",
)
@queries_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A file: .svg, .png, .pdf, .html or .json. Default: open a page in the browser.",
)
@click.option(
    "--background",
    type=click.Choice(["light", "dark"]),
    default="light",
    show_default=True,
    help="Background of an image; a page follows the reader's theme.",
)
def plot(
    store: "Place",
    name: str,
    given: Sequence[str],
    classes: Sequence[str],
    folders: Sequence[Path],
    output: Path | None,
    background: Any,
) -> None:
    """Draw a chart of the question NAME for STORE. `attnstore queries` lists the questions."""
    from attnstore.ask.lookup import unknown_word
    from attnstore.ask.questions import find_questions, get_question
    from attnstore.show.plot import form_of, plot
    from attnstore.store.store import open_store

    if output is not None:
        form_of(output)  # before the work is done
    opened = open_store(store)
    question = get_question(name, find_questions(*folders))
    parameters = given_parameters(given)
    drawn = plot(opened, question, parameters, classes)
    written = drawn.save(output or _new_page(question.name), background)
    say(f"wrote {written}")
    if (
        not drawn.table.num_rows
        and "word" in parameters
        and (unknown := unknown_word(opened, parameters["word"]))
    ):
        note(f"note: {unknown}")
    if output is None and _has_screen(os.environ, sys.platform) and shows(sys.stdout):
        webbrowser.open(written.as_uri())


@click.command()
@store_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The page to write. Default: the store's name with .html, in the working directory.",
)
@quiet_option
def report(store: "Place", output: Path | None, quiet: bool) -> None:
    """Write a page about all of STORE: predictions, words by class, where attention goes, documents.

    The page is one self-contained file that works offline.
    """
    from attnstore.show.report import report
    from attnstore.store.store import open_store

    opened = open_store(store)
    output = output or Path(opened.path.absolute().name).with_suffix(".html")

    def asked(name: str) -> None:
        if not quiet and shows(sys.stderr):
            note(f"asking: {name}")

    page = report(opened, asked)
    output.write_text(page, encoding="utf-8")
    say(f"wrote {output} ({len(page.encode()) / 1e6:.1f} MB): open it in a browser")


def _new_page(name: str) -> Path:
    """A temporary page, in the system's place for temporary files."""
    return Path(tempfile.mkdtemp(prefix="attnstore-"), f"{name}.html")


def _has_screen(environment: Mapping[str, str], platform: str) -> bool:
    """Whether a browser could open a window. Otherwise Python would start a browser that takes over the terminal."""
    return platform in ("darwin", "win32") or bool(
        environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")
    )
