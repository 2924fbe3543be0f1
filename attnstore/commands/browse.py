"""`attnstore browse`: the explorer, in the browser."""

import signal
from typing import TYPE_CHECKING

import click

from attnstore.commands.options import StorePlace
from attnstore.commands.output import note, say
from attnstore.errors import UsageError
from attnstore.interrupts import Ended

if TYPE_CHECKING:
    from attnstore.store.place import Place


@click.command()
@click.argument("stores", nargs=-1, required=True, type=StorePlace(), metavar="STORE…")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="The port; 0 is any. Default: the first free one from 8765."
)
@click.option("--no-open", is_flag=True, help="Don't open a browser.")
def browse(stores: "tuple[Place, ...]", host: str, port: int | None, no_open: bool) -> None:
    """Explore one STORE or several in the browser, until Ctrl-C.

    The pages are served on this machine alone and read the stores; a store that is being written is shown growing.
    """
    try:
        from attnstore.show.explorer.serve import serve
    except ModuleNotFoundError as error:
        raise UsageError(f"browse needs {error.name}: pip install 'attnstore[browse]'") from error

    def ready(address: str) -> None:
        say(f"{address} (Ctrl-C ends it)")
        if not no_open:
            click.launch(address)

    try:
        serve(stores, host, port, ready)
    except Ended as ended:
        if ended.number != signal.SIGINT:
            raise
        note("ended")  # Ctrl-C is how it is meant to end
