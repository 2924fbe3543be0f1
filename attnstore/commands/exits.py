"""How a command ends early: one line on stderr, and a status."""

import sys
from typing import NoReturn

from attnstore.commands.output import complain


def fail(message: str, code: int) -> NoReturn:
    complain(message)
    sys.exit(code)
