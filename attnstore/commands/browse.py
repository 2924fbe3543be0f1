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
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="The port; 0 for any. Default: the first free one from 8765.",
)
@click.option("--no-open", is_flag=True, help="Don't open a browser.")
def browse(stores: "tuple[Place, ...]", host: str, port: int | None, no_open: bool) -> None:
    """Explore one or more STOREs in the browser, until Ctrl-C.

    The server listens only on this machine and only reads the stores. A store that is being written grows on the page.
    """
    try:
        from attnstore.show.explorer.serve import serve
    except ModuleNotFoundError as error:
        raise UsageError(f"browse needs {error.name}: pip install 'attnstore[browse]'") from error

    def ready(address: str) -> None:
        say(f"{address} (Ctrl-C to stop)")
        if not no_open:
            click.launch(address)

    try:
        serve(stores, host, port, ready)
    except Ended as ended:
        if ended.number != signal.SIGINT:
            raise
        note("stopped")  # Ctrl-C is the normal end
