"""How a command ends early: one line on stderr, and a status."""

import sys
from typing import NoReturn

from attnstore.commands.output import note


def fail(message: str, code: int) -> NoReturn:
    note(f"attnstore: {' '.join(message.split())}")
    sys.exit(code)
