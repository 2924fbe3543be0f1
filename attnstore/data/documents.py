"""What a data set is read as: documents, the rows that became none, and the source that yields both."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from attnstore.data.class_names import ClassNames
from attnstore.data.kept import Value
from attnstore.data.streams import reading


@dataclass(frozen=True, slots=True)
class Document:
    """A text to classify. `label` is the source's own until `read_documents` maps it to the model's.

    `kept` are the values of the columns to keep, in the order in which they were asked for. `text_pair` is the second
    text of a pair, of which `text` is the first; None for a single text.
    """

    text: str
    id: str
    group: str | None
    split: str
    label: str | None
    kept: tuple[Value | None, ...] = ()
    text_pair: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that became no document: where it stands (`reviews.csv row 17`), and a fixed phrase why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something about a row that became a document all the same: where it stands, and a fixed phrase."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset, ready to be read as often as needed, always in the same order.

    `name` is what the user called it; `splits` are all of the dataset's, () if it has none, and iterating
    reads those asked for; `notes` are the guesses made, a sentence each; `class_names` are the names that the
    dataset itself gives its numbered labels (the hub's ClassLabel); `labels_elsewhere` yields the labels of the splits
    that were not asked for, repeated or not: what a label means is decided for the whole dataset. `kept` are the names
    of the columns whose values the documents keep.

    Iterating raises DataError where the data can't be read any further.
    """

    name: str
    splits: tuple[str, ...]
    notes: tuple[str, ...]
    class_names: ClassNames | None
    read: Callable[[], Iterator[Document | Rejected | Noticed]] = field(repr=False)
    labels_elsewhere: Callable[[], Iterable[str]] = field(default=tuple, repr=False)
    kept: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Document | Rejected | Noticed]:
        with reading(self.name):
            yield from self.read()
