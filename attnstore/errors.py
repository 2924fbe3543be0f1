"""The mistakes a user can make, each reported in one line: what was found, and what to do about it.

Every error that attnstore raises on purpose is an `AttnstoreError`. The command line turns one into its
message and its exit code, never into a traceback; anything else that escapes is a bug of ours.
"""

from attnstore.visible import visible


class AttnstoreError(Exception):
    """A problem that the user can fix. `str(error)` is one line; `exit_code` is the command's status.

    Names from data, models and stores stand in it: what could drive a terminal is made visible.
    """

    exit_code = 1

    def __str__(self) -> str:
        return visible(super().__str__())


class UsageError(AttnstoreError):
    """What was asked for makes no sense or does not exist: an option, a column, a parameter, a name."""

    exit_code = 2


class DataError(AttnstoreError):
    """The dataset can't be read, or holds what a classifier's dataset may not hold."""


class ModelError(AttnstoreError):
    """The model or its tokenizer can't be loaded, or is not a text classifier."""


class OutputError(AttnstoreError):
    """What was to be printed can't be: the output is closed, or full."""


class StoreError(AttnstoreError):
    """The store is missing, foreign, damaged, locked by another run, or can't be written."""


class WorkerError(AttnstoreError):
    """Processes that a run has started end again and again before they have done what they were started for."""
