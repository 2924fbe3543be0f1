"""What happens during long work, as values: one stream, for any code that shows or records it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Downloaded:
    """How far a download has come, in bytes. `total` is None if the server does not say."""

    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Surveyed:
    """How far the count of the data has come, in documents. `total` is None until all are counted."""

    documents: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Started:
    """A run is about to compute. `notes` are the guesses and warnings so far, one sentence each."""

    documents: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Computed:
    """How far a run has come. `tokens` counts those of this run, without parts that existed before."""

    documents: int
    total: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Trained:
    """Where a fine-tuning stands. `loss` and `accuracy` are means over the steps since the last report.

    In the phases `dev` and `test`, `step` and `steps` count that phase's batches, and `loss` and `accuracy`
    are None until it is over. `dev_accuracy` is the last epoch's. Times are in seconds; `eta` is the time
    left to the end of the phase.
    """

    phase: Literal["train", "dev", "test"]
    step: int
    steps: int
    epoch: float
    seconds: float
    eta: float
    loss: float | None = None
    accuracy: float | None = None
    dev_accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """How far a check has come: documents read from the store's files, or recomputed documents of the sample."""

    what: Literal["stored", "recomputed"]
    documents: int
    total: int


@dataclass(frozen=True, slots=True)
class Copied:
    """How far a store has been written in another form, in documents."""

    documents: int
    total: int


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that a user should know, in one sentence."""

    line: str


Event = Downloaded | Surveyed | Started | Computed | Trained | Checked | Copied | Noted
OnEvent = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Show nothing."""
