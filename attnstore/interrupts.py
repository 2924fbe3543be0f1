"""Ctrl-C, and a scheduler's signals: an immediate end, or a request to finish the current work first."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeAlias, TypeVar

_T = TypeVar("_T")
_Handlers: TypeAlias = dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None]

#: What asks a process to end: a terminal's Ctrl-C, `kill`, a terminal that closes, a terminal's Ctrl-\\.
_REQUESTS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)

#: Seconds that an ending process has for cleaning up; then it ends anyway.
_GRACE = 2.0

#: Seconds until a signal whose exception was lost is sent again.
_AGAIN = 0.01

#: Seconds between two checks while waiting for work. Its end is noticed at once.
_LOOKED_EVERY = 0.2

#: Seconds between two requests to end the same work: the first may come before it has begun.
_ASKED_EVERY = 0.02


class Ended(BaseException):
    """A signal asked the process to end. `number` is the signal's.

    Not a KeyboardInterrupt: click turns that into an empty line and an Abort without a number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Stop(threading.Event):
    """Set by the first signal that asks to end. `number` is that signal's, 0 before."""

    number: int = 0


@contextmanager
def end_on_signals(say: Callable[[], object]) -> Iterator[None]:
    """Let SIGINT, SIGTERM, SIGHUP and SIGQUIT raise `Ended` in the main thread. Called in another thread, do nothing.

    Work that can't be stopped, such as a thread that others wait for, has two seconds. If the block has not ended by
    then, `say` is called, and the process ends with 128 + the signal's number, whatever is still running. A second
    signal ends it in this way at once. Inside `stop_on_interrupt`, the first signal is a request, and the second
    counts as the first here.

    A handler may be called while a destructor or a weak reference's callback runs, which happens all the time while a
    library loads a model. Python ignores exceptions raised there: then the signal is sent again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    done = threading.Event()
    before, report = _handlers(), sys.unraisablehook
    raised = False

    def leave(number: int) -> None:
        if not done.is_set():
            say()
        os._exit(128 + number)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal raised
        if raised:
            leave(number)
        raised = True
        timer = threading.Timer(_GRACE, leave, (number,))
        timer.daemon = True
        timer.start()
        raise Ended(number)

    def on_unraisable(lost: "sys.UnraisableHookArgs") -> None:
        nonlocal raised
        if not isinstance(lost.exc_value, Ended):
            report(lost)
            return
        raised = False
        again = threading.Timer(_AGAIN, _send, (lost.exc_value.number,))
        again.daemon = True
        again.start()

    for number in before:
        signal.signal(number, on_signal)
    sys.unraisablehook = on_unraisable
    try:
        yield
    finally:
        done.set()
        sys.unraisablehook = report
        _restore(before)


def waited_for(result: Future[_T]) -> _T:
    """What a future returns or raises. Signal handlers are called meanwhile, which `Future.result` does not guarantee.

    Polars handles SIGINT so that an endless wait continues before Python learns of the signal.
    """
    while not result.done():
        wait([result], _LOOKED_EVERY)
    return result.result()


def interruptible(work: Callable[[], _T], interrupt: Callable[[], object] | None = None) -> _T:
    """What `work` returns or raises. It runs in a thread, so that the main thread can handle signals meanwhile.

    For work that computes for a long time without returning to Python. If a signal's handler raises, `interrupt` must
    end the work; it may be called several times, until the work has ended. Without it, the thread is left running.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()  # only the main thread gets signals
    result: Future[_T] = Future()

    def compute() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=compute, daemon=True).start()
    try:
        return waited_for(result)
    except BaseException:
        while interrupt is not None and not result.done():
            interrupt()
            wait([result], _ASKED_EVERY)
        raise


@contextmanager
def stop_on_interrupt(say: Callable[[str], object]) -> Iterator[Stop]:
    """An event that the first SIGINT, SIGTERM, SIGHUP or SIGQUIT sets; a second one has its usual effect at once.

    `say` gets the signal at once, as `stopping (SIGTERM)`: nothing else would show that it has arrived until the
    current work is finished.

    Only the main thread gets signals: in another thread the event is never set. A signal that the process was started
    to ignore (as `nohup` does with SIGHUP) stays ignored.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = _handlers()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        stop.number = number
        stop.set()
        _restore(before)
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        with suppress(RuntimeError):  # the signal arrived while the same stream was being written
            say(f"stopping ({name})")

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        _restore(before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep each signal's handler, whatever a library that starts meanwhile installs."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    before = {number: signal.getsignal(number) for number in _REQUESTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # not a Python handler: it can't be set again
                signal.signal(number, handler)


def _send(number: int) -> None:
    """Send a signal to the main thread, and interrupt its waiting if the system can."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)


def _handlers() -> _Handlers:
    """Each signal's current handler, without ignored signals and handlers that are not Python's."""
    found = {number: signal.getsignal(number) for number in _REQUESTS}
    return {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}


def _restore(handlers: _Handlers) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
