"""The functions that a script needs: `attnstore.run`, `attnstore.append` and `attnstore.open`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

from attnstore.config import (
    DEFAULT_REDUCTIONS,
    MAX_DOCUMENT_BYTES,
    AppendConfig,
    Device,
    Dtype,
    Format,
    Long,
    OnDuplicate,
    RunConfig,
    SourceConfig,
)
from attnstore.embedded import MODEL, REVIEWS
from attnstore.engine.paths import compiler
from attnstore.errors import UsageError
from attnstore.reader import Reader, Readers


@overload
def open(path: str | Path) -> Reader: ...  # type: ignore[overload-overlap]  # noqa: A001 - a text is a sequence of texts, too
@overload
def open(path: Sequence[str | Path]) -> Readers: ...  # noqa: A001 - see below
def open(path: str | Path | Sequence[str | Path]) -> Reader | Readers:  # noqa: A001 - as gzip.open and sqlite3's users would call it
    """Open the store at `path` for reading: a folder, `s3://…`, or `hf://datasets/USER/NAME`, which is downloaded.

    A list of paths opens several stores as one: see `Readers`. Raises StoreError if there is none.
    """
    return Reader(path) if isinstance(path, str | Path) else Readers(path)


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
    worker_timeout: int | None = None,
    ray: str | None = None,
) -> Reader:
    """Run a data set through a classifier, write a store at `path`, and open it.

    `model` and `data` default to the embedded ones. `data` is a path or any other source that the command accepts, or
    an object in memory: a pandas, Polars or Arrow table, a `datasets.Dataset`, a mapping of these by split, or any
    iterable of dicts that can be iterated more than once. For the other options see the fields of
    `config.SourceConfig`, from `split` on, and `config.RunConfig`. The same call resumes an interrupted run.

    Raises:
        AttnstoreError: the subclass for what is wrong: the data, the model, the options or the store.
        TypeError: an unknown option.
    """
    compiler.start(device)
    from attnstore.pipeline.run import run as run_pipeline

    _must_be_lists(reductions=reductions, labels=labels, columns=columns, keep=keep)
    source = _source(
        REVIEWS if data is None else data,
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
        worker_timeout=worker_timeout,
        ray=ray,
    )
    result = run_pipeline(settings, path)
    if result.interrupted:
        raise KeyboardInterrupt
    return Reader(path)


def append(
    path: str | Path,
    data: str | Path | object,
    *,
    on_duplicate: OnDuplicate = "refuse",
    split: str = "all",
    limit: int | None = None,
    labels: Sequence[str] = (),
    text_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    group_column: str | None = None,
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
    model: str | Path | None = None,
    reductions: Sequence[str | Callable[..., Any]] = (),
    trust_remote_code: bool = False,
    device: Device = "auto",
    batch_tokens: int | None = None,
    threads: int | None = None,
    workers: int = 1,
    worker_timeout: int | None = None,
    ray: str | None = None,
) -> Reader:
    """Append documents to the sealed store at `path`, with the model and settings that wrote it, and open it.

    `data` is as in `run`. For the other options see the fields of `config.SourceConfig`, from `split` on, and
    `config.AppendConfig`. Readers see the old store until the append is complete. The same call resumes an interrupted
    append.

    Raises:
        AttnstoreError: the subclass for what is wrong: the data, the model, the options or the store.
        TypeError: an unknown option.
    """
    compiler.start(device)
    from attnstore.pipeline.append import append as append_documents

    _must_be_lists(reductions=reductions, labels=labels, columns=columns)
    source = _source(
        data,
        split=split,
        subset=subset,
        query=query,
        text_column=text_column,
        label_column=label_column,
        id_column=id_column,
        group_column=group_column,
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
    config = AppendConfig(
        source=source,
        on_duplicate=on_duplicate,
        model=None if model is None else str(model),
        trust_remote_code=trust_remote_code,
        device=device,
        batch_tokens=batch_tokens,
        reductions=tuple(reductions),
        threads=threads,
        workers=workers,
        worker_timeout=worker_timeout,
        ray=ray,
    )
    if append_documents(config, path).interrupted:
        raise KeyboardInterrupt
    return Reader(path)


def _must_be_lists(**given: object) -> None:
    """Raise UsageError for a text in place of a list of names."""
    for name, value in given.items():
        if isinstance(value, str):
            raise UsageError(f"{name} is a list of names: write {name}={value.split(',')}")


def _source(data: str | Path | object, **options: Any) -> SourceConfig:
    """A data set by name, or held by the program. Raises UsageError for a column that is not text."""
    from attnstore.data.in_memory import name_of

    for name in ("text_column", "label_column", "id_column", "group_column"):
        if (given := options[name]) is not None and not isinstance(given, str):
            written = ",".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
            raise UsageError(f"{name} is a text, as in the command: write {name}={written!r}")
    is_held = not isinstance(data, str | Path)
    return SourceConfig(
        data=name_of(data) if is_held else str(data), held=data if is_held else None, **options
    )
