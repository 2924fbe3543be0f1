"""Ctrl-C, and what a scheduler sends: an end at once, or a request, so that what is in hand is finished first."""

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

#: Seconds that an ending process has to clear up in, before it ends without.
_GRACE = 2.0

#: Seconds until a signal is sent again whose exception was lost.
_AGAIN = 0.01

#: Seconds between two looks at work that is waited for. Its end is noticed at once.
_LOOKED_EVERY = 0.2

#: Seconds between two requests to the same work to end: the first may come before it has begun.
_ASKED_EVERY = 0.02


class Ended(BaseException):
    """A signal asked the process to end. `number` is the signal's.

    No KeyboardInterrupt: click makes an empty line and an Abort of that, which knows no number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Stop(threading.Event):
    """Set by the first signal that asks to end. `number` is that signal's, 0 while there was none."""

    number: int = 0


@contextmanager
def end_on_signals(say: Callable[[], object]) -> Iterator[None]:
    """SIGINT, SIGTERM, SIGHUP and SIGQUIT raise `Ended` in the main thread; called in another one it does nothing.

    What can't be stopped, such as a thread that others wait for, has two seconds: then `say` is called, if the block
    has not ended, and the process ends with 128 + the signal's number, whatever is still going on. A second signal
    ends it so at once. Inside `stop_on_interrupt` the first signal is a request, and the second one the first here.

    A handler may be called while a destructor or the callback of a weak reference runs, as a library's do all the time
    while it loads a model. What is raised there Python reports as ignored: then the signal is sent again.
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
    """What a future returns or raises. A signal's handler is called meanwhile, as in `Future.result` it may not be.

    Polars sets up SIGINT so that a wait without an end is gone on with before Python learns of the signal.
    """
    while not result.done():
        wait([result], _LOOKED_EVERY)
    return result.result()


def interruptible(work: Callable[[], _T], interrupt: Callable[[], object] | None = None) -> _T:
    """What `work` returns or raises, computed in a thread, so that the main one can take a signal meanwhile.

    For work that computes for long without coming back to Python. If a signal's handler raises, `interrupt` has to
    end the work, which is waited for, and may be called several times. Without it the thread is left to itself.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()  # signals are the main thread's
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

    `say` is told at once which signal it was, as `stopping (SIGTERM)`: until what is in hand is finished, nothing else
    would tell that it has come.

    Signals belong to the main thread: in another one the event is never set. A signal that the process was started
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
        with suppress(RuntimeError):  # the signal came while the same stream was being written
            say(f"stopping ({name})")

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        _restore(before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep what each signal does, whatever a library that is started meanwhile sets up for itself."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = {number: signal.getsignal(number) for number in _REQUESTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # it is not Python's, and can't be set again
                signal.signal(number, handler)


def _send(number: int) -> None:
    """Send a signal to the main thread, whose waiting it interrupts where the system can."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)


def _handlers() -> _Handlers:
    """What each signal does now; those that are ignored, or not Python's, are left out."""
    found = {number: signal.getsignal(number) for number in _REQUESTS}
    return {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}


def _restore(handlers: _Handlers) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
