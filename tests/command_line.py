"""The command line, run in the tests' process."""

import contextlib
import io
from pathlib import Path

import pytest

from attnstore import commands


def attnstore(*arguments, cwd=None):
    """(exit code, stdout, stderr) of a command, run in this process."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
    with contextlib.ExitStack() as stack:
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
