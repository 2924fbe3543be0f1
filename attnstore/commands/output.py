"""The commands' output: safe for a terminal even with untrusted text, and never silently lost."""

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


def speak_in_objects(yes: bool) -> None:
    """From now on, print one JSON object per line on stderr (`tell`), or lines for people again."""
    global _objects  # noqa: PLW0603 - there is one stderr
    _objects = yes


def say(text: str, heading: str = "") -> None:
    """Print a line, or lines, on stdout, after `heading`, which is bold on a terminal.

    Raises:
        OutputError: it can't be written.
    """
    _written(lambda: click.echo(click.style(visible(heading), bold=True) + visible(text)))


def note(text: str) -> None:
    """Print a line on stderr. If that fails, the line is lost, because the work should not end for it."""
    if _objects:
        tell("noted", line=text.removeprefix("note: "))
    else:
        _to_stderr(visible(text))


def tell(event: str, **values: Any) -> None:
    """Print an object on stderr, if it gets objects: time, kind, and values. Non-finite numbers become null."""
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
    """Write a text at the cursor of stderr, and leave the cursor behind it."""
    _to_stderr(text, end_line=False)


def _to_stderr(text: str, *, end_line: bool = True) -> None:
    if sys.stderr is None:
        return
    try:
        click.echo(text, err=True, nl=end_line)
    except (OSError, ValueError):
        discard(sys.stderr)


def shows(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal. A closed one, which is None in Python, is not."""
    return stream is not None and stream.isatty()


def give(content: str | bytes) -> None:
    """Write an answer to stdout as it is; to a terminal, with control characters made visible.

    Raises:
        OutputError: it can't be written.
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
    """Write to stdout what holds colours of ours and nothing else that drives a terminal.

    Raises:
        OutputError: it can't be written.
    """

    def write() -> None:  # not click.echo, which would strip the colours that FORCE_COLOR asks for
        sys.stdout.write(text)
        sys.stdout.flush()

    _written(write)


def discard(stream: TextIO) -> None:
    """Let what a stream still holds, and what it is given from now on, go nowhere: Python flushes it at the end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def prepare() -> None:
    """Before anything is opened: let no file take the number of a stream that is closed, and any text be printed.

    A library that complains on stderr by its number would write into that file.
    """
    speak_in_objects(False)
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _written(write: Callable[[], None]) -> None:
    if sys.stdout is None:
        raise OutputError("the standard output is closed: there is nowhere to write the answer")
    try:
        write()
    except BrokenPipeError:  # its reader has what it wanted (`| head`)
        raise
    except OSError as error:
        discard(sys.stdout)
        raise OutputError(f"can't write the answer: {(error.strerror or str(error)).lower()}") from error
