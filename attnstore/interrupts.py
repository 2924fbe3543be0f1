"""Ctrl-C, and what a scheduler sends, as a request: what is in hand is finished first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: What asks a process to end: a terminal's Ctrl-C, `kill`, a terminal that closes, a terminal's Ctrl-\\.
_REQUESTS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)


class Stop(threading.Event):
    """Set by the first signal that asks to end. `number` is that signal's, 0 while there was none."""

    number: int = 0


@contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
    """An event that the first SIGINT, SIGTERM, SIGHUP or SIGQUIT sets; a second one has its usual effect at once.

    Signals belong to the main thread: in another one the event is never set. A signal that the process was started
    to ignore (as `nohup` does with SIGHUP) stays ignored.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {
        number: handler
        for number in _REQUESTS
        if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }

    def on_signal(number: int, _frame: FrameType | None) -> None:
        stop.number = number
        stop.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        restore()
