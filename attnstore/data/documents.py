"""A data set as read: documents, rejected rows, and the source that yields both."""

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
    """A row that did not become a document: its position (`reviews.csv row 17`), and a fixed phrase for the reason."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Noticed:
    """A remark about a row that still became a document: its position, and a fixed phrase."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Source:
    """A data set that can be read any number of times, always in the same order.

    `name` is the user's name for it; `splits` are all of the data set's, () if it has none, and iterating reads the
    requested ones; `notes` are the guesses made, one sentence each; `class_names` are the data set's own names for its
    numbered labels (the hub's ClassLabel); `labels_elsewhere` yields the labels of the other splits, repeated or not,
    because the meaning of labels is decided for the whole data set. `kept` are the names of the columns whose values
    the documents keep.

    Iterating raises DataError if the data can't be read any further.
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
