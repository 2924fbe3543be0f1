"""A worker that is still loading ends with its run, too. Nothing heavy is imported here: it begins before all else."""

import os
import select
import threading


def end_with_the_run() -> None:
    """From now on, end this process as soon as nobody has the other end of its standard input any more.

    Where a pipe can't be watched so (Windows), that is noticed by whoever reads from it.
    """
    if not hasattr(select, "poll"):
        return
    # Its own descriptor: the number 0 is soon something else.
    pipe = os.dup(0)
    threading.Thread(target=_watch, args=(pipe,), daemon=True).start()


def _watch(pipe: int) -> None:
    watched = select.poll()
    watched.register(pipe, 0)  # a hang-up is told in any case, whatever there is to read
    watched.poll()
    os._exit(1)
