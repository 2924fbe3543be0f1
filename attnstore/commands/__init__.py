"""The commands: each opens, calls one function, and prints. Results go to stdout, progress to stderr.

Whatever is heavy (torch, transformers, polars, duckdb) is imported inside the command that needs it, so that
`--help` answers at once.
"""

from attnstore.commands.group import main

__all__ = ["main"]
