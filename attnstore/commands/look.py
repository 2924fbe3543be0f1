"""`attnstore show`, `info` and `verify`: draw a document, describe a store, check a store."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnstore.commands import completion
from attnstore.commands.exits import fail
from attnstore.commands.options import config_option, progress_option, store_argument
from attnstore.commands.output import give, paint, say, shows
from attnstore.commands.progress import Progress, beside_bars, shown
from attnstore.events import OnEvent
from attnstore.messages import counted
from attnstore.visible import visible_json, visible_line

if TYPE_CHECKING:
    from attnstore.store.place import Place


@click.command()
@store_argument
@click.argument("document", shell_complete=completion.documents)
@click.option(
    "--reduction",
    metavar="NAME",
    shell_complete=completion.reductions,
    help="Default: the first one stored.",
)
@click.option(
    "--layer",
    default="last",
    show_default=True,
    shell_complete=completion.layers,
    help="A number, first, last, mean, or best (by faithfulness).",
)
@click.option(
    "--head",
    default="mean",
    show_default=True,
    shell_complete=completion.heads,
    help="For a reduction with one value per head: a head, from 1, or mean.",
)
@click.option("--relative", is_flag=True, help="Shade by this document's own maximum.")
@click.option(
    "--words",
    type=click.Choice(["sum", "mean", "none"]),
    default="sum",
    show_default=True,
    help="How to merge wordpieces into words; none keeps them separate.",
)
@click.option("--ignore", multiple=True, metavar="TOKEN", help="Blank this token or word. May be repeated.")
@click.option("--ignore-special", is_flag=True, help="Blank [CLS], [SEP] and the like.")
@click.option("--renormalise", is_flag=True, help="Rescale the tokens that are not ignored to a sum of 1.")
@click.option(
    "--background",
    type=click.Choice(["dark", "light"]),
    help="The terminal's background. Default: from COLORFGBG, otherwise dark.",
)
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write a self-contained page here.")
def show(store: "Place", document: str, background: Any, page: Path | None, **options: Any) -> None:
    """Print a DOCUMENT of STORE with its tokens shaded by attention.

    DOCUMENT is an id or a number (the column `document`, from 0). If ids are numbers or repeat, write @3 for the
    number 3. In an id such as reviews.csv:4, the rows of the file count from 1.
    """
    import shutil

    from attnstore.reader import Reader
    from attnstore.show.page import html
    from attnstore.show.paint import colour_depth, terminal_background
    from attnstore.show.terminal import terminal

    if options["words"] == "none":
        options["words"] = None
    drawn = Reader(store).show(document, **options)
    if page is not None:
        page.write_text(html(drawn), encoding="utf-8")
        say(f"wrote {page}")
        return
    colour = colour_depth(os.environ, shows(sys.stdout))
    width = shutil.get_terminal_size().columns
    paint(terminal(drawn, colour, width, background or terminal_background(os.environ)) + "\n")


@click.command()
@store_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "toml"]),
    default="text",
    show_default=True,
    help="json: the manifest; toml: the options of the run, for `attnstore run NEW --config FILE`.",
)
def info(store: "Place", form: str) -> None:
    """Describe STORE, sealed or not."""
    from attnstore.show.card import facts
    from attnstore.show.settings import settings
    from attnstore.store.store import open_store

    opened = open_store(store)
    if form == "toml":
        give(settings(opened))
        return
    if form == "json":
        give(visible_json(opened.manifest.to_json()))
        return
    for name, value in facts(opened):
        first, *others = _lines(value, 15)
        say(f"{name + ':':<14} {first}")
        for line in others:
            say(" " * 15 + line)


def _lines(value: str, indent: int) -> list[str]:
    """A value beside its name: on a terminal in as many lines as it needs, elsewhere in one."""
    import shutil

    from attnstore.show.columns import paragraph

    if not shows(sys.stdout):
        return [visible_line(value)]
    return paragraph(value, max(20, shutil.get_terminal_size().columns - indent)) or [""]


@click.command()
@store_argument
@click.option("--model", metavar="FOLDER|NAME", help="Where the model is, if it has moved.")
@click.option(
    "--sample", type=click.IntRange(min=0), default=20, show_default=True, help="Documents to recompute."
)
@config_option
@progress_option
@click.option("--trust-remote-code", is_flag=True, help="Run code from the model's repository.")
def verify(
    store: "Place", model: str | None, sample: int, progress: Progress, trust_remote_code: bool
) -> None:
    """Check all files of STORE, and recompute a sample with eager float32 attention."""
    from itertools import chain

    from attnstore.check.measured import verify_faithfulness
    from attnstore.check.verify import verify_files
    from attnstore.store.store import open_store

    opened = open_store(store)
    faults = 0
    with shown(progress) as on_event:
        files = chain(verify_files(opened, on_event), verify_faithfulness(opened))
        for finding in _findings(files, opened, model, sample, trust_remote_code, on_event):
            faults += not finding.ok
            with beside_bars():
                say(visible_line(f"{'ok   ' if finding.ok else 'FAULT'} {finding.subject}: {finding.detail}"))
    if faults:
        fail(f"{store} has {counted(faults, 'fault')}", 1)


def _findings(
    files: Iterator[Any], opened: Any, model: str | None, sample: int, trust: bool, on_event: OnEvent
) -> Iterator[Any]:
    recomputed: Iterator[Any] = iter(())
    if sample:  # a wrong model is reported before the store is read
        from attnstore.check.oracle import verify_sample

        recomputed = verify_sample(opened, model, sample=sample, trust_remote_code=trust, on_event=on_event)
    sound = True
    for finding in files:
        sound = sound and finding.ok
        yield finding
    if sound:  # a damaged store's values are not evidence about the engine
        yield from recomputed
