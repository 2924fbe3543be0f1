"""How a command ends early: one line on stderr, and a status."""

import sys
from typing import NoReturn

import click


def fail(message: str, code: int) -> NoReturn:
    click.echo(f"attnstore: {' '.join(message.split())}", err=True)
    sys.exit(code)
