"""Progress on stderr: bars on a terminal, a line every ten seconds in a log, objects for programs, or nothing."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, Literal

from attnstore.commands.output import discard, draw, note, shows, tell
from attnstore.events import (
    Checked,
    Computed,
    Copied,
    Downloaded,
    Event,
    Noted,
    OnEvent,
    Started,
    Surveyed,
    Trained,
)
from attnstore.messages import counted
from attnstore.visible import visible

Progress = Literal["bar", "json", "none"]

#: Seconds between two lines in a log, which a redrawn bar would fill.
_LINE_EVERY = 10.0


@contextmanager
def shown(progress: Progress = "bar") -> Iterator[OnEvent]:
    """The `on_event` function that shows the progress of long work. Bars vanish at the end, notes stay.

    If stderr can't be written to, the work continues and nothing more is shown.
    """
    if progress != "bar":
        yield _notes_alone if progress == "none" else _Objects()
        return
    bars = _Bars() if shows(sys.stderr) else None
    show: _Bars | _Lines = bars or _Lines()
    lost = False
    if bars is not None:
        bars.begin()

    def on_event(event: Event) -> None:
        nonlocal lost
        if lost:
            return
        try:
            show(event)
        except OSError:  # the terminal has gone
            lost = True
            discard(sys.stderr)

    try:
        yield on_event
    finally:
        if bars is not None and not lost:
            with suppress(OSError):
                bars.close()


@contextmanager
def beside_bars() -> Iterator[None]:
    """Hide bars inside the `with` block, which prints lines on stdout, perhaps to the same terminal."""
    if "tqdm" not in sys.modules:  # there are no bars
        yield
        return
    from tqdm import tqdm

    with tqdm.external_write_mode():
        yield


def _notes_alone(event: Event) -> None:
    for line in _notes(event):
        note(f"note: {line}")


def _notes(event: Event) -> tuple[str, ...]:
    if isinstance(event, Started):
        return event.notes
    return (event.line,) if isinstance(event, Noted) else ()


class _Bars:
    """A bar for each kind of work, with speed and time left."""

    def __init__(self) -> None:
        self._bars: dict[str, Any] = {}
        self._loading = ""

    def begin(self) -> None:
        """Show that something is happening while libraries load, which takes seconds."""
        self._loading = "loading ..."
        draw(self._loading)

    def __call__(self, event: Event) -> None:
        from tqdm import tqdm

        self._loaded()
        for line in _notes(event):
            tqdm.write(visible(f"note: {line}"), file=sys.stderr)
        if isinstance(event, Started):
            self._bar("run", event.documents, unit=" documents", smoothing=0.05)
        elif isinstance(event, Computed):
            bar = self._bar("run", event.total, unit=" documents", smoothing=0.05)
            if bar.n == 0 and not event.tokens:
                bar.initial = event.documents
            bar.update(event.documents - bar.n)
            speed = event.tokens / max(bar.format_dict["elapsed"], 1e-9)
            bar.set_postfix_str(f"{speed:,.0f} tokens/s", refresh=False)
        elif isinstance(event, Downloaded):
            bar = self._bar("download", event.total, unit="B", unit_scale=True, desc="download")
            bar.update(event.done - bar.n)
        elif isinstance(event, Surveyed):
            bar = self._bar("reading", None, unit=" documents", desc="reading the data")
            bar.update(event.documents - bar.n)
            if event.total is not None:
                self._bars.pop("reading").close()
        elif isinstance(event, Trained):
            phase = _phase(event)
            bar = self._bar(phase, event.steps, unit=" steps", desc=phase)
            bar.set_postfix(_figures(event), refresh=False)
            bar.update(event.step - bar.n)
        elif isinstance(event, Checked):
            bar = self._bar(event.what, event.total, unit=" documents", desc=event.what)
            bar.update(event.documents - bar.n)
        elif isinstance(event, Copied):
            bar = self._bar("copied", event.total, unit=" documents", desc="copied")
            bar.update(event.documents - bar.n)

    def _bar(self, name: str, total: int | None, **options: Any) -> Any:
        from tqdm import tqdm

        if name not in self._bars:
            self._bars[name] = tqdm(total=total, file=sys.stderr, leave=False, **options)
        return self._bars[name]

    def _loaded(self) -> None:
        if self._loading:
            draw(f"\r{' ' * len(self._loading)}\r")
            self._loading = ""

    def close(self) -> None:
        """Remove the bars."""
        self._loaded()
        for bar in self._bars.values():
            bar.close()


class _Objects:
    """Prints each event as an object. Of progress events, prints the first, the last, and one every ten seconds."""

    def __init__(self) -> None:
        self._last_shown: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Started | Noted):
            kind, done = _kind(event)
            now = time.monotonic()
            if not done and now - self._last_shown.get(kind, -_LINE_EVERY) < _LINE_EVERY:
                return
            self._last_shown[kind] = now
        tell(type(event).__name__.lower(), **asdict(event))


def _kind(event: Downloaded | Surveyed | Computed | Trained | Checked | Copied) -> tuple[str, bool]:
    """The kind of a progress event, and whether it is the last of its kind."""
    if isinstance(event, Downloaded):
        return "download", event.done == event.total
    if isinstance(event, Trained):
        return _phase(event), event.step == event.steps
    kind = event.what if isinstance(event, Checked) else type(event).__name__
    return kind, event.documents == event.total


class _Lines:
    """Prints a line every ten seconds, for logs."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()

    def __call__(self, event: Event) -> None:
        _notes_alone(event)
        now = time.monotonic()
        if isinstance(event, Started):
            self._began = self._last = now
        if isinstance(event, Started | Noted) or now - self._last < _LINE_EVERY:
            return
        self._last = now
        note(self._line(event, now - self._began))

    def _line(self, event: Event, seconds: float) -> str:
        if isinstance(event, Computed):
            return f"{event.documents:,} of {event.total:,} documents, {event.tokens / seconds:,.0f} tokens/s"
        if isinstance(event, Downloaded):
            of = f" of {event.total / 1e6:,.0f}" if event.total else ""
            return f"downloaded {event.done / 1e6:,.0f}{of} MB"
        if isinstance(event, Surveyed):
            return f"{counted(event.documents, 'document')} counted"
        if isinstance(event, Checked):
            return f"{event.what}: {event.documents:,} of {event.total:,} documents checked"
        if isinstance(event, Copied):
            return f"{event.documents:,} of {event.total:,} documents copied"
        assert isinstance(event, Trained)  # noqa: S101 - the only remaining kind
        figures = "".join(f", {name} {value}" for name, value in _figures(event).items())
        return f"{_phase(event)}: step {event.step:,} of {event.steps:,}{figures}"


def _phase(event: Trained) -> str:
    return f"dev {event.epoch:.2f}" if event.phase == "dev" else event.phase


def _figures(event: Trained) -> dict[str, str]:
    figures = {"loss": event.loss, "accuracy": event.accuracy, "dev": event.dev_accuracy}
    return {name: f"{value:.4f}" for name, value in figures.items() if value is not None}
