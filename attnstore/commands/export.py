"""`attnstore export` and `push`: a store as a data set of the Hugging Face hub."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from attnstore.commands.options import progress_option, store_argument
from attnstore.commands.output import say
from attnstore.commands.progress import Progress, shown
from attnstore.messages import counted

if TYPE_CHECKING:
    from attnstore.store.place import Place
    from attnstore.store.store import Store

license_option = click.option(
    "--license",
    "license_",
    metavar="NAME",
    help="The licence for the dataset card, as the hub spells it: cc-by-4.0.",
)


@click.command()
@store_argument
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(["datasets"]),
    default="datasets",
    show_default=True,
    help="The format to write.",
)
@license_option
@progress_option
def export(store: "Place", out: Path, to: str, license_: str | None, progress: Progress) -> None:
    """Write STORE to the folder OUT in a format that other programs can read.

    datasets: for Hugging Face's `datasets` and the hub. OUT is itself a store, with a dataset card (README.md) and a
    report. An interrupted export resumes.
    """
    made = _written(store, out, out.absolute().name, license_, progress)
    say(f"{out}: {_counts(made)}, a card, a report")
    say(f'next: datasets.load_dataset("{out}", "documents"), "tokens" or "totals"')


@click.command()
@store_argument
@click.argument("address", metavar="hf://datasets/USER/NAME")
@click.option("--public", is_flag=True, help="Make a new data set public; by default it is private.")
@license_option
@progress_option
def push(store: "Place", address: str, public: bool, license_: str | None, progress: Progress) -> None:
    """Upload STORE to the Hugging Face hub as a data set, in the format of `export`.

    HF_TOKEN must hold a token with write access. A push replaces the files of an earlier push. Every command that reads
    a store then accepts hf://datasets/USER/NAME for STORE.
    """
    from attnstore.store import hub
    from attnstore.store.export import needs_sealed
    from attnstore.store.store import open_store

    name, _ = hub.repository_of(address)
    needs_sealed(open_store(store))
    there = hub.claim(address, public=public)  # before minutes are spent on what the hub refuses
    with tempfile.TemporaryDirectory(prefix="attnstore-") as folder:
        out = Path(folder, "store")
        made = _written(store, out, name, license_, progress)
        hub.push(out, address)
    say(f"{there}: {_counts(made)}")
    say(f"next: attnstore info {address}")


def _counts(made: "Store") -> str:
    files, _ = made.count_and_bytes()
    return f"{counted(made.manifest.documents, 'document')}, {counted(files, 'file')}"


def _written(store: "Place", out: Path, name: str, license_: str | None, progress: Progress) -> "Store":
    """The store in the form of `datasets`, with its card and its report; `name` is the card's title."""
    from attnstore.show.dataset_card import dataset_card
    from attnstore.show.report import report
    from attnstore.store.export import export as export_store
    from attnstore.store.store import open_store

    with shown(progress) as on_event:
        made = export_store(open_store(store), out, on_event)
    page = report(made)
    (out / "report.html").write_text(page, encoding="utf-8")
    card = dataset_card(made, name, license_, report="report.html")
    (out / "README.md").write_text(card, encoding="utf-8")
    return made
