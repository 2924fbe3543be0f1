"""The two functions that a script needs: `attnstore.run` and `attnstore.open`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attnstore.config import (
    DEFAULT_REDUCTIONS,
    MAX_DOCUMENT_BYTES,
    Device,
    Dtype,
    Format,
    Long,
    RunConfig,
    SourceConfig,
)
from attnstore.embedded import MODEL, REVIEWS
from attnstore.engine.paths import compiler
from attnstore.errors import UsageError
from attnstore.reader import Reader


def open(path: str | Path) -> Reader:  # noqa: A001 - as gzip.open and sqlite3's users would call it
    """The store at `path`, to read and ask. Raises StoreError if there is none."""
    return Reader(path)


def run(
    path: str | Path,
    *,
    model: str | Path | None = None,
    data: str | Path | object | None = None,
    reductions: Sequence[str | Callable[..., Any]] = DEFAULT_REDUCTIONS,
    split: str = "all",
    limit: int | None = None,
    labels: Sequence[str] = (),
    text_column: str | None = None,
    pair: bool = False,
    label_column: str | None = None,
    id_column: str | None = None,
    group_column: str | None = None,
    keep: Sequence[str] = (),
    subset: str | None = None,
    query: str | None = None,
    columns: Sequence[str] = (),
    header: bool | None = None,
    delimiter: str | None = None,
    escape: str | None = None,
    encoding: str | None = None,
    format: Format | None = None,  # noqa: A002 - as the command's option is called
    strict: bool = False,
    max_document_bytes: int = MAX_DOCUMENT_BYTES,
    revision: str | None = None,
    trust_remote_code: bool = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_length: int | None = None,
    long: Long = "cut",
    stride: int | None = None,
    batch_tokens: int | None = None,
    part_size: int | None = None,
    full_precision: bool = False,
    threads: int | None = None,
    workers: int = 1,
) -> Reader:
    """Run a dataset through a classifier into a store at `path`, and open it.

    `model` and `data` default to the embedded ones. `data` is a path or another source as the command takes it, or
    what the program holds: a table of pandas, Polars or Arrow, a `datasets.Dataset`, a mapping of these by split, or
    any object of dicts that can be iterated more than once. What the other options mean stands at the fields of
    `config.SourceConfig`, from `split` on, and `config.RunConfig`. A run that was interrupted is resumed by
    the same call.

    Raises:
        AttnstoreError: of the kind that fits: the data, the model, the options or the store.
        TypeError: an option that there is not.
    """
    compiler.start(device)
    from attnstore.data.in_memory import name_of
    from attnstore.pipeline.run import run as run_pipeline

    lists = {"reductions": reductions, "labels": labels, "columns": columns, "keep": keep}
    for name, value in lists.items():
        if isinstance(value, str):
            raise UsageError(f"{name} is a list of names: write {name}={value.split(',')}")
    texts: dict[str, object] = {"text_column": text_column, "label_column": label_column}
    texts |= {"id_column": id_column, "group_column": group_column}
    for name, given in texts.items():
        if given is not None and not isinstance(given, str):
            written = ",".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
            raise UsageError(f"{name} is a text, as in the command: write {name}={written!r}")
    if data is None:
        data = REVIEWS
    is_held = not isinstance(data, str | Path)
    source = SourceConfig(
        data=name_of(data) if is_held else str(data),
        held=data if is_held else None,
        split=split,
        subset=subset,
        query=query,
        text_column=text_column,
        pair=pair,
        label_column=label_column,
        id_column=id_column,
        group_column=group_column,
        keep=tuple(keep),
        columns=tuple(columns),
        header=header,
        delimiter=delimiter,
        escape=escape,
        encoding=encoding,
        format=format,
        labels=tuple(labels),
        limit=limit,
        strict=strict,
        max_document_bytes=max_document_bytes,
    )
    settings = RunConfig(
        source=source,
        model=str(model if model is not None else MODEL),
        revision=revision,
        trust_remote_code=trust_remote_code,
        device=device,
        dtype=dtype,
        max_length=max_length,
        long=long,
        stride=stride,
        reductions=tuple(reductions),
        batch_tokens=batch_tokens,
        part_size=part_size,
        full_precision=full_precision,
        threads=threads,
        workers=workers,
    )
    result = run_pipeline(settings, path)
    if result.interrupted:
        raise KeyboardInterrupt
    return Reader(path)
