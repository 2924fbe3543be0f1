"""What a data set is read as: documents, and the rows that became none."""

from dataclasses import dataclass

from attnstore.data.kept import Value


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
