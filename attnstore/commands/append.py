"""`attnstore append`: adds new documents to a store, and reports the result."""

import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnstore.commands.exits import fail
from attnstore.commands.options import (
    StorePlace,
    config_option,
    device_option,
    processes_option,
    progress_option,
    source_config,
    source_option,
    split_option,
)
from attnstore.commands.output import say
from attnstore.commands.progress import Progress, shown
from attnstore.config import AppendConfig
from attnstore.engine.paths import compiler
from attnstore.errors import UsageError
from attnstore.messages import counted

if TYPE_CHECKING:
    from attnstore.pipeline.append import AppendResult
    from attnstore.store.place import Place


@click.command()
@click.argument("store", type=StorePlace())
@source_option
@split_option
@click.option(
    "--on-duplicate",
    type=click.Choice(["refuse", "skip", "keep"]),
    default="refuse",
    show_default=True,
    help="For ids that STORE already has: refuse the append, skip identical documents, or keep both.",
)
@click.option("--model", metavar="FOLDER|NAME", help="Where the model is, if it has moved.")
@device_option
@click.option(
    "--batch-tokens",
    type=click.IntRange(min=1),
    help="Tokens per batch. Changes no row, only speed and memory.",
)
@processes_option
@config_option
@progress_option
@click.option("--trust-remote-code", is_flag=True, help="Run code from the model's repository.")
def append(store: "Place", data: str | None, progress: Progress, **options: Any) -> None:
    """Append the documents of --data to STORE, with the model and settings that wrote it.

    Readers see the old STORE until the append is complete. Documents already in STORE do not change. Columns are the
    ones that the run used, and labels keep their meaning.
    """
    if data is None:
        raise UsageError("name the data to append: attnstore append STORE --data SOURCE")
    config = AppendConfig(source=source_config(data, options), **options)
    sys.path.append(str(Path.cwd()))  # the run's own functions; last, so that they can't stand in for others
    compiler.start(config.device)
    with shown(progress) as on_event:
        from attnstore.pipeline.append import append as append_documents

        result = append_documents(config, store, on_event=on_event)
    if result.interrupted:
        fail(
            f"stopped; {result.missing} of {counted(result.parts, 'new part')} are missing, and readers see the store"
            " as it was: the same command resumes",
            128 + (result.signal or signal.SIGINT),
        )
    _summarise(result)


def _summarise(result: "AppendResult") -> None:
    path, manifest = result.store.path, result.store.manifest
    total = counted(manifest.documents, "document")
    if result.present:
        say(f"{path} already has this data: nothing was appended to its {total}")
        return
    if not result.parts:
        say(f"{path} already has all of these documents: nothing was appended to its {total}")
        return
    addition = manifest.additions[-1]
    rate = result.tokens / max(result.seconds, 1e-9)
    left_out = f", {result.skipped:,} skipped as already present" if result.skipped else ""
    say(
        f"{counted(addition.documents, 'document')} appended{left_out}, {counted(result.tokens, 'token')} in "
        f"{result.seconds:.1f} s ({rate:,.0f} tokens/s); {path} is sealed with {total}"
    )
    for reason, count in addition.rejected.items():
        say(f"left out: {reason}: {counted(count, 'row')}")
    say(f"next:\n  attnstore info {shlex.quote(str(path))}")
