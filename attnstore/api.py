"""The two functions that a script needs: `attnstore.run` and `attnstore.open`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attnstore.config import DEFAULT_REDUCTIONS, RunConfig, SourceConfig
from attnstore.embedded import MODEL, REVIEWS
from attnstore.engine.paths import compiler
from attnstore.errors import UsageError
from attnstore.reader import Reader

_SOURCE_OPTIONS = frozenset(SourceConfig.__dataclass_fields__) - {"data", "held"}


def open(path: str | Path) -> Reader:  # noqa: A001 - as gzip.open and sqlite3's users would call it
    """The store at `path`, to read and ask. Raises StoreError if there is none."""
    return Reader(path)


def run(
    path: str | Path,
    *,
    model: str | Path | None = None,
    data: str | Path | object | None = None,
    reductions: Sequence[str | Callable[..., Any]] = DEFAULT_REDUCTIONS,
    **options: Any,
) -> Reader:
    """Run a dataset through a classifier into a store at `path`, and open it.

    `model` and `data` default to the embedded ones. `data` is a path or another source as the command takes it, or
    what the program holds: a table of pandas, Polars or Arrow, a `datasets.Dataset`, a mapping of these by split, or
    any object of dicts that can be iterated more than once. `options` are the fields of `config.SourceConfig` and
    `config.RunConfig` by name, such as `split="test"`, `limit=1000`, `device="cpu"`, `max_length=256`.
    A run that was interrupted is resumed by the same call.

    Raises:
        AttnstoreError: of the kind that fits: the data, the model, the options or the store.
        TypeError: an option that there is not.
    """
    compiler.start(options.get("device"))
    from attnstore.data.in_memory import name_of
    from attnstore.pipeline.run import run as run_pipeline

    for name, value in (("reductions", reductions), ("labels", options.get("labels"))):
        if isinstance(value, str):
            raise UsageError(f"{name} is a list of names: write {name}={value.split(',')}")
    chosen = {name: options.pop(name) for name in tuple(options) if name in _SOURCE_OPTIONS}
    if data is None or isinstance(data, str | Path):
        source = SourceConfig(data=str(REVIEWS if data is None else data), **chosen)
    else:
        source = SourceConfig(data=name_of(data), held=data, **chosen)
    config = RunConfig(
        source=source,
        model=str(model if model is not None else MODEL),
        reductions=tuple(reductions),
        **options,
    )
    result = run_pipeline(config, path)
    if result.interrupted:
        raise KeyboardInterrupt
    return Reader(path)
