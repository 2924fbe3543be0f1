"""Ends a worker with its run, even while it loads. This module imports nothing heavy, because it starts first."""

import os
import select
import threading


def end_with_the_run() -> None:
    """From now on, end this process as soon as the other end of its standard input is closed.

    If a pipe can't be watched (Windows), its reader notices that.
    """
    if not hasattr(select, "poll"):
        return
    # A separate descriptor, because number 0 is soon reused.
    pipe = os.dup(0)
    threading.Thread(target=_watch, args=(pipe,), daemon=True).start()


def _watch(pipe: int) -> None:
    watched = select.poll()
    watched.register(pipe, 0)  # a hang-up is reported even if there is something to read
    watched.poll()
    os._exit(1)
