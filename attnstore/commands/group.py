"""The command group: its help, and error handling for all commands."""

import errno
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from attnstore import __version__
from attnstore.commands.append import append
from attnstore.commands.ask import queries, query, sql
from attnstore.commands.browse import browse
from attnstore.commands.compare import compare
from attnstore.commands.convert import convert
from attnstore.commands.draw import plot, report
from attnstore.commands.exits import fail
from attnstore.commands.export import export, push
from attnstore.commands.faithfulness import faithfulness
from attnstore.commands.finetune import finetune
from attnstore.commands.look import info, show, verify
from attnstore.commands.output import complain, discard, note, prepare, tell
from attnstore.commands.run import run
from attnstore.errors import AttnstoreError
from attnstore.interrupts import Ended, end_on_signals

_INTERRUPTED = "interrupted"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. Errors become one line on stderr and an exit code."""
    began = time.monotonic()
    prepare()
    try:
        _main(arguments)
    except SystemExit as ended:
        tell("ended", exit_code=ended.code or 0, seconds=round(time.monotonic() - began, 3))
        raise


def _main(arguments: Sequence[str] | None) -> NoReturn:
    try:
        Path.cwd()
    except OSError as error:  # libraries end the process over it, or look elsewhere
        fail(f"the working directory can't be read ({(error.strerror or '').lower()}): change to another", 1)
    try:
        with end_on_signals(_say_interrupted):
            sys.exit(attnstore.main(arguments, prog_name="attnstore", standalone_mode=False) or 0)
    except Ended as ended:
        fail(_INTERRUPTED, 128 + ended.number)
    except AttnstoreError as error:
        fail(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        note(error.format_message())
        sys.exit(error.exit_code)
    except click.ClickException as error:
        hint = ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f" (see {error.ctx.command_path} --help)"
        fail(error.format_message() + hint, error.exit_code)
    except BrokenPipeError:
        # The reader of the output has gone (`| head`): there is nothing to report, and nowhere to report it.
        discard(sys.stdout)
        sys.exit(0)
    except MemoryError:
        fail(
            "out of memory: if a batch used it, try a smaller --batch-tokens; if long documents did, a smaller"
            " --part-size or --max-document-bytes",
            1,
        )
    except OSError as error:
        if "No usable temporary directory" in str(error):
            fail("no folder for temporary files is writable: set TMPDIR to one that is", 1)
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise  # not about a file the user named: a bug, whose traceback is needed
        where = f"{error.filename}: " if error.filename else ""
        fail(f"{where}{(error.strerror or str(error)).lower()}", 1)


def _say_interrupted() -> None:
    complain(_INTERRUPTED)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="attnstore")
def attnstore() -> None:
    """What a text classifier looks at, by class.

    Streams a whole data set through a fine-tuned classifier, reduces attention to numbers per token as it
    is computed, and writes tokens, attention and predictions to a store of Parquet files that DuckDB, Polars
    and pandas can read directly. The store is the first argument of every command.
    """


for command in (
    run,
    append,
    finetune,
    convert,
    query,
    queries,
    sql,
    plot,
    report,
    show,
    browse,
    info,
    verify,
    faithfulness,
    compare,
    export,
    push,
):
    attnstore.add_command(command)
