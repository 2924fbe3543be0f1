"""Writes the commands' output: safe for a terminal even with untrusted text, and never silently lost."""

import io
import json
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

import click

from attnstore.errors import OutputError
from attnstore.visible import visible, visible_json

#: Whether stderr gets one JSON object per line, for the calling program, instead of lines for people.
_objects = False


def use_objects(yes: bool) -> None:
    """Choose what stderr gets from here on: one JSON object per line (`tell`), or lines for people."""
    global _objects  # noqa: PLW0603 - there is one stderr
    _objects = yes


def say(text: str, heading: str = "") -> None:
    """Print a line, or lines, on stdout, after `heading`, which is bold on a terminal.

    Raises:
        OutputError: stdout can't be written to.
    """
    _written(lambda: click.echo(click.style(visible(heading), bold=True) + visible(text)))


def note(text: str) -> None:
    """Print a line on stderr. If that fails, the line is lost, because the work should not end because of it."""
    if _objects:
        tell("noted", line=text.removeprefix("note: "))
    else:
        _to_stderr(visible(text))


def tell(event: str, **values: Any) -> None:
    """Print an object with time, event and values on stderr, if it gets objects. Non-finite numbers become null."""
    if _objects:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        finite = {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in values.items()}
        line = json.dumps({"time": now, "event": event, **finite}, ensure_ascii=False)
        _to_stderr(visible_json(line))


def complain(message: str) -> None:
    """Print the error that ended the command on stderr, in one line."""
    message = " ".join(message.split())
    if _objects:
        tell("failed", line=message)
    else:
        note(f"attnstore: {message}")


def draw(text: str) -> None:
    """Write a text to stderr without ending the line."""
    _to_stderr(text, end_line=False)


def _to_stderr(text: str, *, end_line: bool = True) -> None:
    if sys.stderr is None:
        return
    try:
        click.echo(text, err=True, nl=end_line)
    except (OSError, ValueError):
        discard(sys.stderr)


def shows(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal. A closed standard stream, which Python represents by None, is not."""
    return stream is not None and stream.isatty()


def give(content: str | bytes) -> None:
    """Write an answer to stdout unchanged, or to a terminal with control characters made visible.

    Raises:
        OutputError: stdout can't be written to.
    """

    def write() -> None:
        if sys.stdout.isatty():
            text = content if isinstance(content, str) else content.decode(errors="backslashreplace")
            sys.stdout.write(visible(text))
        else:
            sys.stdout.buffer.write(content.encode() if isinstance(content, str) else content)
        sys.stdout.flush()

    _written(write)


def paint(text: str) -> None:
    """Write text to stdout whose only control sequences are attnstore's colours.

    Raises:
        OutputError: stdout can't be written to.
    """

    def write() -> None:  # not click.echo, which would strip the colours that FORCE_COLOR asks for
        sys.stdout.write(text)
        sys.stdout.flush()

    _written(write)


def discard(stream: TextIO) -> None:
    """Redirect a stream to the null device, with what it still buffers, because Python flushes it at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def prepare() -> None:
    """Prepare the standard streams; call it before any file is opened.

    A file must not get the descriptor of a closed standard stream, because a library that writes to stderr by its
    number would write into that file. Characters that a stream can't encode are escaped.
    """
    use_objects(False)
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _written(write: Callable[[], None]) -> None:
    if sys.stdout is None:
        raise OutputError("the standard output is closed: there is nowhere to write the answer")
    try:
        write()
    except BrokenPipeError:  # the reader has closed the pipe (`| head`)
        raise
    except OSError as error:
        discard(sys.stdout)
        raise OutputError(f"can't write the answer: {(error.strerror or str(error)).lower()}") from error
