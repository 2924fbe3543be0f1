"""The explorer's server: a socket, a server, and its end by Ctrl-C."""

import socket
from collections.abc import Callable, Sequence

import uvicorn

from attnstore.errors import UsageError
from attnstore.show.explorer.app import explorer
from attnstore.store.place import Place

#: The default port; if it is taken, the next free one.
PORT = 8765
_TRIED = 20


def serve(
    stores: Sequence[Place], host: str, port: int | None, on_ready: Callable[[str], None] = lambda _: None
) -> None:
    """Serve until a signal ends it; `on_ready` gets the address.

    `port`: None for the first free one from `PORT`, 0 for any.

    Raises:
        UsageError: it can't listen there.
        StoreError: a store can't be read.
    """
    with _listening(host, port) as listener:
        own = listener.getsockname()
        name = f"[{host}]" if ":" in host else host
        app = explorer(stores, hosts=(host,))
        config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        server = _Server(config, lambda: on_ready(f"http://{name}:{own[1]}/"))
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that reports when it is ready."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def _listening(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    candidates = range(PORT, PORT + _TRIED) if port is None else [port]
    for candidate in candidates:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
        except OSError as error:
            listener.close()
            if port is not None:
                raise UsageError(f"can't listen at {host}:{port}: {error.strerror or error}") from error
            continue
        return listener
    raise UsageError(f"ports {PORT} to {PORT + _TRIED - 1} of {host} are taken: give one with --port")
