"""What a text classifier looks at, by class: a whole dataset's attention as a Parquet store you can query."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["AttnstoreError", "append", "open", "run"]

if TYPE_CHECKING:
    from attnstore.api import append, open, run  # noqa: A004 - a store is opened, as a file or a database is
    from attnstore.errors import AttnstoreError


def __getattr__(name: str) -> Any:
    # Lazily, so that `import attnstore` and `attnstore --help` do not wait for torch or polars.
    if name in ("append", "open", "run"):
        from attnstore import api

        return getattr(api, name)
    if name == "AttnstoreError":
        from attnstore.errors import AttnstoreError

        return AttnstoreError
    raise AttributeError(f"module 'attnstore' has no attribute {name!r}")
