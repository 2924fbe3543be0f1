"""`attnstore query`, `queries` and `sql`: a store asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from attnstore.commands.answers import write
from attnstore.commands.options import output_option, queries_option, store_argument
from attnstore.errors import UsageError


@click.command()
@store_argument
@click.argument("name")
@click.option(
    "-p", "--parameter", "given", multiple=True, metavar="NAME=VALUE", help="A parameter of the question."
)
@click.option("--engine", type=click.Choice(["duckdb", "polars"]), default="duckdb", show_default=True)
@queries_option
@output_option
def query(
    store: Path,
    name: str,
    given: Sequence[str],
    engine: Any,
    folders: Sequence[Path],
    form: str,
    output: Path | None,
) -> None:
    """Answer the question NAME from STORE. `attnstore queries` lists the questions."""
    from attnstore.ask.questions import ask, find_questions, get_question, unknown_word
    from attnstore.store.store import open_store

    parameters: dict[str, str] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"-p {item}: write it as name=value")
        if key in parameters:
            raise UsageError(f"-p {item}: {key} is given twice")
        parameters[key] = value
    opened = open_store(store)
    question = get_question(name, find_questions(*folders))
    answer = ask(opened, question, parameters, engine)
    write(answer, form, output)
    if not answer.num_rows and "word" in parameters and (note := unknown_word(opened, parameters["word"])):
        click.echo(f"note: {note}", err=True)


@click.command()
@click.argument("name", required=False)
@queries_option
def queries(name: str | None, folders: Sequence[Path]) -> None:
    """List the questions, a line each, or document the question NAME with its parameters."""
    from attnstore.ask.questions import describe, find_questions, get_question

    known = find_questions(*folders)
    if name is not None:
        click.echo(describe(get_question(name, known)))
        return
    for question in known.values():
        click.echo(f"{click.style(question.name, bold=True)}: {question.summary}")


@click.command()
@store_argument
@click.argument("statement")
@output_option
def sql(store: Path, statement: str, form: str, output: Path | None) -> None:
    """Run one read-only SQL STATEMENT over the views `documents`, `tokens` and `totals` of STORE."""
    from attnstore.ask.questions import run_sql
    from attnstore.store.store import open_store

    write(run_sql(open_store(store), statement), form, output)
