"""Arguments and options that commands share, and the records made of them."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from attnstore.buckets import Bucket, is_bucket_address
from attnstore.commands import completion, option_files
from attnstore.commands.output import speak_in_objects
from attnstore.config import MAX_DOCUMENT_BYTES, SourceConfig
from attnstore.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


def options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _once(_context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> str | None:
    """The one value of an option of which click would silently keep the last."""
    if len(given) > 1:
        raise UsageError(
            f"{option.opts[0]} is given {len(given)} times: name one folder, or several files by a glob in quotes"
        )
    return given[0] if given else None


class StorePlace(click.Path):
    """A store's place: a folder, or a bucket's address; or, to be `read` alone, that of a data set on the hub.

    Any other address would become a folder with an odd name.
    """

    def __init__(self, read: bool = False) -> None:
        super().__init__(path_type=Path)
        self.read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or ":/" not in value:
            return super().convert(value, param, ctx)
        if self.read and value.startswith("hf://"):
            if ctx is not None and ctx.resilient_parsing:  # nothing is fetched while a line is typed
                return Path(value)
            from attnstore.store.hub import fetched

            return fetched(value)
        if not is_bucket_address(value):
            raise UsageError(
                f"{value} is an address: a store is a folder on this machine, or in a bucket (s3://…)"
            )
        return Bucket.at(value)


store_argument = click.argument("store", type=StorePlace(read=True))

split_option = click.option(
    "--split", default="all", show_default=True, help="The split to read; of data without splits, its name."
)

source_option = options(
    click.option(
        "--data",
        metavar="SOURCE",
        multiple=True,
        callback=_once,
        help="A folder, archive, file, glob, https://…, s3://…, a hub's OWNER/NAME, FILE::TABLE, - (stdin), or imdb.",
    ),
    click.option("--subset", metavar="NAME", help="The configuration of a data set that has several."),
    click.option("--query", metavar="SELECT", help="The rows of a SQLite or DuckDB file, as SQL."),
    click.option(
        "--text-column",
        metavar="NAME,…",
        help="The column with the text, by name or place (from 1); several are joined. Default: guessed, and said.",
    ),
    click.option("--label-column", metavar="NAME", help="The column with the gold class. Default: guessed."),
    click.option("--id-column", metavar="NAME", help="The column with the document's key. Default: guessed."),
    click.option("--group-column", metavar="NAME", help="What makes documents dependent, such as the film."),
    click.option("--columns", metavar="A,B,…", help="The names of the columns of a file without a header."),
    click.option("--header/--no-header", default=None, help="Whether a table's first row holds names."),
    click.option("--delimiter", metavar="CHARACTER", help="What separates columns; tab for a tab."),
    click.option(
        "--escape", metavar="CHARACTER", help="What stands before a quote inside quotes, as Spark's \\."
    ),
    click.option("--encoding", metavar="NAME", help="The text's encoding, such as cp1252. Default: UTF-8."),
    click.option(
        "--format",
        type=click.Choice(["csv", "tsv", "json", "jsonl", "parquet", "arrow", "excel", "lines"]),
        help="What a file is, whatever its name; lines is a text per line.",
    ),
    click.option(
        "--labels",
        metavar="A,B,…",
        help="The model's classes in the order of its logits, or the data's labels by class: 1=neg,2=pos,3= (nothing).",
    ),
    click.option(
        "--limit", type=click.IntRange(min=1), help="Take this many documents, spread over the source."
    ),
    click.option(
        "--strict", is_flag=True, help="A row that can't be read is an error instead of being counted."
    ),
    click.option(
        "--max-document-bytes",
        type=click.IntRange(min=1),
        default=MAX_DOCUMENT_BYTES,
        metavar="N",
        help="Leave out rows and text files of more bytes. Default: 16 MiB.",
    ),
)

config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=option_files.read,
    help="A TOML file with options of this command. Those on the command line win.",
)


class _Device(click.Choice[str]):
    """One of the names, or a GPU by its number, as torch counts them: cuda:0, cuda:1, …"""

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> str:
        if isinstance(value, str) and re.fullmatch(r"cuda:(0|[1-9][0-9]*)", value):
            return value
        return super().convert(value, param, context)


device_option = click.option(
    "--device",
    type=_Device(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="auto is CUDA where there is one; cuda:1 is the second of several GPUs, mps Apple's.",
)
dtype_option = click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="auto is bfloat16 where the hardware is fast at it.",
)

processes_option = options(
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Processes that compute, on one machine; with GPUs, one on each.",
    ),
    click.option(
        "--worker-timeout",
        type=click.IntRange(min=1),
        metavar="SECONDS",
        help="End a worker that finishes no batch for so long. Default: 10 minutes, or 10 times the longest.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
        help="Of the processor, for each process. Default: all, divided among the workers.",
    ),
)

quiet_option = click.option("--quiet", is_flag=True, help="No progress on stderr; notes and errors alone.")


def _spoken(_context: click.Context, _option: click.Parameter, progress: str) -> str:
    """From here on, what is wrong with the other options is an object, too."""
    speak_in_objects(progress == "json")
    return progress


def _quieted(context: click.Context, _option: click.Parameter, quiet: bool) -> None:
    """--quiet as a value of --progress. What is typed wins over what stands in a file."""
    if not quiet:
        return
    typed = {
        name
        for name in ("quiet", "progress")
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    progress = context.params["progress"]
    if typed == {"quiet", "progress"} and progress != "none":
        raise UsageError(f"--quiet is --progress none, not --progress {progress}: leave one out")
    if typed != {"progress"}:
        speak_in_objects(False)
        context.params["progress"] = "none"


#: Of the commands that work for long. They get `progress`, into which --quiet has gone.
progress_option = options(
    click.option(
        "--progress",
        type=click.Choice(["bar", "json", "none"]),
        default="bar",
        show_default=True,
        is_eager=True,
        callback=_spoken,
        help="On stderr: bars (in a log, lines), an object a line for programs, or nothing but notes and errors.",
    ),
    click.option(
        "--quiet", is_flag=True, expose_value=False, callback=_quieted, help="The same as --progress none."
    ),
)

given_option = click.option(
    "-p",
    "--parameter",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the question.",
    shell_complete=completion.parameters,
)

queries_option = click.option(
    "--queries",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder of your own questions.",
)

output_option = options(
    click.option(
        "--format",
        "form",
        type=click.Choice(["table", "csv", "json", "markdown", "parquet"]),
        default="table",
        show_default=True,
    ),
    click.option("-o", "--output", type=click.Path(path_type=Path), help="Write here instead of to stdout."),
    click.option("--wide", is_flag=True, help="On a terminal, show every column, and texts whole."),
    click.option(
        "--rows",
        type=click.IntRange(min=0),
        metavar="N",
        default=60,
        show_default=True,
        help="On a terminal, show so many rows; 0 is all. Files and pipes get everything.",
    ),
)


def source_config(data: str, options: dict[str, Any]) -> SourceConfig:
    """The fields of SourceConfig out of a command's options, which lose them."""
    options = {name: options.pop(name) for name in SourceConfig.__dataclass_fields__ if name in options}
    given = options.pop("labels", None)
    # As a row of a CSV, so that a label can hold a comma: '"Arts, Crafts=arts"'.
    labels = tuple(next(csv.reader([given], skipinitialspace=True), ())) if given else ()
    if columns := options.pop("columns", None):
        options["columns"] = tuple(name.strip() for name in columns.split(","))
    if options.get("delimiter") == "tab":
        options["delimiter"] = "\t"
    return SourceConfig(data=data, labels=labels, **options)
