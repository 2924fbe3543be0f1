"""`attnstore query`, `queries` and `sql`: ask a store."""

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnstore.commands import completion
from attnstore.commands.answers import write
from attnstore.commands.options import StorePlace, given_option, output_option, queries_option, store_argument
from attnstore.commands.output import give, note, say, shows
from attnstore.errors import UsageError

if TYPE_CHECKING:
    from attnstore.ask.questions import Question
    from attnstore.store.place import Place

#: Seconds.
_TIMEOUT = 60.0


@click.command()
@store_argument
@click.argument("name", shell_complete=completion.questions)
@given_option
@click.option("--engine", type=click.Choice(["duckdb", "polars"]), default="duckdb", show_default=True)
@queries_option
@click.option(
    "--with",
    "other",
    type=StorePlace(read=True),
    metavar="STORE",
    help="A second store of the same documents: shows both values side by side, and their difference.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Stop SQL after this time; 0 for never. Default: 60 with --queries, otherwise never.",
)
@output_option
def query(
    store: "Place",
    name: str,
    given: Sequence[str],
    engine: Any,
    folders: Sequence[Path],
    other: "Place | None",
    timeout: float | None,
    form: str,
    output: Path | None,
    wide: bool,
    rows: int,
) -> None:
    """Answer the question NAME from STORE. `attnstore queries` lists the questions.

    STORE may be a quoted pattern, 'runs/*.attn': each store answers, with its name in a column `store`.

    With --with OTHER, only documents that both stores have count, matched by id and text. Differences are STORE minus
    OTHER, with 95 % intervals by group (such as the film) if there are any. This asks the question some twenty times.
    """
    from attnstore.ask.answer import ask
    from attnstore.ask.lookup import unknown_word
    from attnstore.ask.questions import find_questions, get_question
    from attnstore.store.store import open_store

    if timeout is None and folders:  # a stranger's, maybe
        timeout = _TIMEOUT
    parameters = given_parameters(given)
    question = get_question(name, find_questions(*folders))
    if (several := _matching(store)) is not None:
        from attnstore.ask.several import ask_each, open_stores

        if other is not None:
            raise UsageError(f"--with compares one store with another: {store} is a pattern")
        stores = open_stores(several)
        write(ask_each(stores, question, parameters, engine, timeout), form, output, wide, rows)
        return
    opened = open_store(store)
    if other is not None:
        from attnstore.ask.paired import ask_paired

        paired = ask_paired(opened, open_store(other), question, parameters, engine, timeout)
        write(paired, form, output, wide, rows)
        return
    answer = ask(opened, question, parameters, engine, timeout=timeout)
    write(answer, form, output, wide, rows)
    if not answer.num_rows:
        unknown = unknown_word(opened, parameters["word"]) if "word" in parameters else ""
        own = "".join(f" --queries {shlex.quote(str(folder))}" for folder in folders)
        left_out = f"no row fits; attnstore queries {question.name}{own} says what is left out"
        note(f"note: {unknown or left_out}")


def given_parameters(given: Sequence[str]) -> dict[str, str]:
    """Parameters by name. Raises UsageError for an invalid parameter, or one given twice."""
    parameters: dict[str, str] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"-p {item}: write it as name=value")
        if key in parameters:
            raise UsageError(f"-p {item}: {key} is given twice")
        parameters[key] = value
    return parameters


@click.command()
@click.argument("name", required=False, shell_complete=completion.questions)
@click.option(
    "--sql",
    "store",
    metavar="STORE",
    type=StorePlace(),
    help="Print the question as a script that any DuckDB can run over STORE.",
)
@given_option
@queries_option
def queries(name: str | None, store: "Place | None", given: Sequence[str], folders: Sequence[Path]) -> None:
    """List the questions, or explain the question NAME and its parameters.

    --sql prints the question as one SQL script that does not need attnstore: copy it, change it, run it.
    """
    from attnstore.ask.questions import describe, find_questions, get_question

    known = find_questions(*folders)
    if store is not None:
        from attnstore.ask.script import script
        from attnstore.store.store import open_store

        if name is None:
            raise UsageError("--sql prints one question: attnstore queries NAME --sql STORE")
        give(script(open_store(store), get_question(name, known), given_parameters(given)))
        return
    if given:
        raise UsageError("-p needs --sql STORE here; to answer a question, use attnstore query")
    if name is not None:
        width = min(100, max(40, shutil.get_terminal_size().columns)) if shows(sys.stdout) else 100
        say(describe(get_question(name, known), width))
        return
    _list(known)


def _list(known: Mapping[str, "Question"]) -> None:
    """A line per question. On a terminal, lines fit its width, and the last one says where to read more."""
    if not shows(sys.stdout):
        for question in known.values():
            say(f": {question.summary}", heading=question.name)
        return
    from attnstore.show.fitted import shortened

    names = max(map(len, known)) + 2
    width = shutil.get_terminal_size().columns
    for question in known.values():
        say(str(shortened(question.summary, max(width - names, 20))), heading=question.name.ljust(names))
    say("\nattnstore queries NAME: how to read the answer, and the parameters")


@click.command()
@store_argument
@click.argument("statement")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="Stop after this time; 0 for never.",
)
@output_option
def sql(
    store: "Place", statement: str, timeout: float, form: str, output: Path | None, wide: bool, rows: int
) -> None:
    """Run one read-only SQL STATEMENT over the views `documents`, `tokens` and `totals` of STORE.

    STORE may be a quoted pattern, 'runs/*.attn': the views then have the rows of all stores, and a column `store`.
    """
    from attnstore.ask.sql import run_sql
    from attnstore.store.store import open_store

    if (several := _matching(store)) is not None:
        from attnstore.ask.several import open_stores, sql_over

        write(sql_over(open_stores(several), statement, timeout), form, output, wide, rows)
        return
    write(run_sql(open_store(store), statement, timeout), form, output, wide, rows)


def _matching(store: "Place") -> "list[Place] | None":
    """The stores that a pattern such as `runs/*.attn` matches; None for the name of one. Raises UsageError for none."""
    if not isinstance(store, Path) or not any(sign in str(store) for sign in "*?[") or store.exists():
        return None
    found = sorted(Path(each) for each in glob(str(store.expanduser()), recursive=True))  # noqa: PTH207 - a whole path, absolute or not
    stores: list[Place] = [each for each in found if (each / "manifest.json").is_file()]
    if not stores:
        raise UsageError(f"no store matches {store}: put the pattern in quotes, as in 'runs/*.attn'")
    return stores
