"""The command line, run in the tests' process."""

import contextlib
import io
import os
from pathlib import Path

import pytest

from attnstore import commands


class _Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


def attnstore(*arguments, cwd=None, terminal=None):
    """(exit code, stdout, stderr) of a command run in this process; `terminal`: stdout is one of that many columns."""
    kind = io.TextIOWrapper if terminal is None else _Terminal
    out, err = kind(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
    with contextlib.ExitStack() as stack:
        if terminal is not None:
            stack.enter_context(pytest.MonkeyPatch.context()).setitem(os.environ, "COLUMNS", str(terminal))
        stack.enter_context(contextlib.chdir(cwd or Path.cwd()))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        with pytest.raises(SystemExit) as ended:
            commands.main([str(a) for a in arguments])
    return ended.value.code or 0, out.buffer.getvalue().decode(), err.getvalue()


def run(store, data, model, *more):
    return attnstore(
        "run", store, "--data", data, "--model", model, "--device", "cpu", "--dtype", "float32", *more
    )
