"""Arguments and options that commands share, and the records made of them."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from attnstore.buckets import Bucket, is_bucket_address
from attnstore.commands import completion, option_files
from attnstore.commands.output import use_objects
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
    """The only value of an option; of several, click would silently keep the last."""
    if len(given) > 1:
        raise UsageError(
            f"{option.opts[0]} is given {len(given)} times: name one folder, or several files with a quoted glob"
        )
    return given[0] if given else None


class StorePlace(click.Path):
    """A store's place: a folder, a bucket's address or, only for reading (`read`), a data set on the hub.

    Any other address would become a folder with an odd name.
    """

    def __init__(self, read: bool = False) -> None:
        super().__init__(path_type=Path)
        self.read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or ":/" not in value:
            return super().convert(value, param, ctx)
        if self.read and value.startswith("hf://"):
            if ctx is not None and ctx.resilient_parsing:  # fetch nothing while a line is typed
                return Path(value)
            from attnstore.store.hub import fetched

            return fetched(value)
        if not is_bucket_address(value):
            raise UsageError(
                f"{value} is a URL: a store is a folder on this machine, or in a bucket (s3://…)"
            )
        return Bucket.at(value)


store_argument = click.argument("store", type=StorePlace(read=True))

split_option = click.option(
    "--split",
    default="all",
    show_default=True,
    help="The split to read; for data without splits, its name.",
)

source_option = options(
    click.option(
        "--data",
        metavar="SOURCE",
        multiple=True,
        callback=_once,
        help="A folder, archive, file, glob, https://…, s3://…, hub OWNER/NAME, FILE::TABLE, - (stdin), or imdb.",
    ),
    click.option("--subset", metavar="NAME", help="The configuration, for a data set with several."),
    click.option("--query", metavar="SELECT", help="SQL that selects rows of a SQLite or DuckDB file."),
    click.option(
        "--text-column",
        metavar="NAME,…",
        help="The text column, by name or position (from 1); several are joined. Default: detected.",
    ),
    click.option("--label-column", metavar="NAME", help="The column of gold labels. Default: detected."),
    click.option("--id-column", metavar="NAME", help="The column of document ids. Default: detected."),
    click.option(
        "--group-column", metavar="NAME", help="The column that groups dependent documents, such as by film."
    ),
    click.option("--columns", metavar="A,B,…", help="Column names for a file without a header."),
    click.option("--header/--no-header", default=None, help="Whether the first row of a table is a header."),
    click.option("--delimiter", metavar="CHARACTER", help="The column separator; tab for a tab."),
    click.option(
        "--escape",
        metavar="CHARACTER",
        help="The character that escapes a quote inside quotes, such as Spark's \\.",
    ),
    click.option("--encoding", metavar="NAME", help="The text encoding, such as cp1252. Default: UTF-8."),
    click.option(
        "--format",
        type=click.Choice(["csv", "tsv", "json", "jsonl", "parquet", "arrow", "excel", "lines"]),
        help="The file format, whatever the file's name; lines means one text per line.",
    ),
    click.option(
        "--labels",
        metavar="A,B,…",
        help="The model's classes in logit order, or the data's labels by class: 1=neg,2=pos,3= (leave out).",
    ),
    click.option(
        "--limit", type=click.IntRange(min=1), help="Read this many documents, spread over the source."
    ),
    click.option("--strict", is_flag=True, help="Fail on an unreadable row instead of counting it."),
    click.option(
        "--max-document-bytes",
        type=click.IntRange(min=1),
        default=MAX_DOCUMENT_BYTES,
        metavar="N",
        help="Leave out rows and text files larger than this. Default: 16 MiB.",
    ),
)

config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=option_files.read,
    help="A TOML file with options of this command. The command line overrides it.",
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
    help="auto uses CUDA if available; cuda:1 is the second of several GPUs, mps an Apple GPU.",
)
dtype_option = click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="auto uses bfloat16 where the hardware is fast at it.",
)

processes_option = options(
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Number of computing processes on this machine; with GPUs, one per GPU.",
    ),
    click.option(
        "--ray",
        metavar="ADDRESS",
        help="Let --workers be actors of a Ray cluster: auto, HOST:PORT, ray://HOST:PORT, or local.",
    ),
    click.option(
        "--worker-timeout",
        type=click.IntRange(min=1),
        metavar="SECONDS",
        help="Replace a worker that finishes no batch in this time. Default: 10 min, or 10 times the longest.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
        help="CPU threads per process. Default: all, divided among the workers.",
    ),
)

quiet_option = click.option("--quiet", is_flag=True, help="No progress on stderr, only notes and errors.")


def _spoken(_context: click.Context, _option: click.Parameter, progress: str) -> str:
    """From here on, errors in the other options are also JSON objects."""
    use_objects(progress == "json")
    return progress


def _quieted(context: click.Context, _option: click.Parameter, quiet: bool) -> None:
    """--quiet as a value of --progress. Typed options take precedence over a file."""
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
        use_objects(False)
        context.params["progress"] = "none"


#: Options of long-running commands. They get `progress`, which includes --quiet.
progress_option = options(
    click.option(
        "--progress",
        type=click.Choice(["bar", "json", "none"]),
        default="bar",
        show_default=True,
        is_eager=True,
        callback=_spoken,
        help="On stderr: bars (lines in a log), one JSON object per line, or only notes and errors.",
    ),
    click.option(
        "--quiet", is_flag=True, expose_value=False, callback=_quieted, help="Same as --progress none."
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
    click.option("--wide", is_flag=True, help="On a terminal, show every column and full texts."),
    click.option(
        "--rows",
        type=click.IntRange(min=0),
        metavar="N",
        default=60,
        show_default=True,
        help="On a terminal, show this many rows; 0 for all. Files and pipes get everything.",
    ),
)


def source_config(data: str, options: dict[str, Any]) -> SourceConfig:
    """Take the fields of SourceConfig out of a command's options."""
    options = {name: options.pop(name) for name in SourceConfig.__dataclass_fields__ if name in options}
    given = options.pop("labels", None)
    # Like a CSV row, so that a label can contain a comma: '"Arts, Crafts=arts"'.
    labels = tuple(next(csv.reader([given], skipinitialspace=True), ())) if given else ()
    if columns := options.pop("columns", None):
        options["columns"] = tuple(name.strip() for name in columns.split(","))
    if options.get("delimiter") == "tab":
        options["delimiter"] = "\t"
    return SourceConfig(data=data, labels=labels, **options)
