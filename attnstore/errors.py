"""The mistakes a user can make, each reported in one line: what was found, and what to do about it.

Every error that attnstore raises on purpose is an `AttnstoreError`. The command line turns one into its
message and its exit code, never into a traceback; anything else that escapes is a bug of ours.
"""

from attnstore.visible import visible


class AttnstoreError(Exception):
    """A problem that the user can fix. `str(error)` is one line; `exit_code` is the command's status.

    The line may contain names from data, models and stores: control characters in them are made visible.
    """

    exit_code = 1

    def __str__(self) -> str:
        return visible(super().__str__())


class UsageError(AttnstoreError):
    """The request is invalid, or names an option, column, parameter or other name that does not exist."""

    exit_code = 2


class NotFoundError(UsageError):
    """The request names a document, word or question that does not exist."""


class DataError(AttnstoreError):
    """The data set can't be read, or has contents that a classifier can't use."""


class ModelError(AttnstoreError):
    """The model or its tokenizer can't be loaded, or is not a text classifier."""


class OutputError(AttnstoreError):
    """The output can't be written: it is closed, or the disk is full."""


class StoreError(AttnstoreError):
    """The store is missing, foreign, damaged, locked by another run, or can't be written."""


class WorkerError(AttnstoreError):
    """Worker processes of a run keep dying before they finish their work."""
