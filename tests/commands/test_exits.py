"""Exit codes: the command line does what docs/batch.md says."""

import errno
import re
import signal
from pathlib import Path

import click
import pytest
from command_line import attnstore

from attnstore import errors, interrupts
from attnstore.commands import group
from attnstore.interrupts import Ended

PAGE = (Path(__file__).parents[2] / "docs/batch.md").read_text()
#: The page's table: exit code -> other columns.
TABLE = {
    int(code): rest
    for code, rest in re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)
}  # fmt: skip
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


def test_the_page_lists_each_kind_of_error_and_each_signal():
    """Every kind of error is there with its code, and every signal that ends a command."""
    documented = {name: code for code, rest in TABLE.items() for name in re.findall(r"`(\w+Error)`", rest)}
    assert documented == {kind.__name__: kind.exit_code for kind in KINDS}
    signals = {name: code for code, rest in TABLE.items() for name in re.findall(r"\bSIG[A-Z]+", rest)}
    assert signals == {signal.Signals(number).name: 128 + number for number in interrupts._REQUESTS}
    assert TABLE.keys() == {0, 1, 2, *signals.values()}


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        *((kind("something"), kind.exit_code) for kind in KINDS),
        *((Ended(number), 128 + number) for number in interrupts._REQUESTS),
        (click.UsageError("something"), 2),
        (MemoryError(), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (FileNotFoundError(errno.ENOENT, "No such file", "it"), 1),
    ],
)
def test_whatever_a_command_raises_becomes_one_line_and_its_code(monkeypatch, raised, code):
    """Each kind of error, each signal, a full disk, and no memory."""

    def fails(*_, **__):
        raise raised

    monkeypatch.setattr(group.attnstore, "main", fails)
    ended, out, err = attnstore("info")
    assert (ended, out, err.count("\n"), err.startswith("attnstore: ")) == (code, "", 1, True)
