"""Promises of attnstore.pipeline.wire: a record arrives completely or not at all, whatever is in the pipe."""

import io
import pickle
import random

import pytest

from attnstore.data.documents import Document
from attnstore.pipeline.parts import Part
from attnstore.pipeline.wire import Stop, Took, Wire


def sent(*messages: object) -> bytes:
    pipe = io.BytesIO()
    for message in messages:
        Wire(io.BytesIO(), pipe).send(message)
    return pipe.getvalue()


def received(content: bytes) -> list[object]:
    """All records until the end."""
    wire, found = Wire(io.BytesIO(content), io.BytesIO()), []
    with pytest.raises(EOFError):
        while True:
            found.append(wire.receive())
    return found


def test_records_arrive_as_they_were_sent() -> None:
    assert received(sent(Took(3), Stop(), Took(4))) == [Took(3), Stop(), Took(4)]


def test_a_parts_documents_arrive_with_every_field() -> None:
    """They are sent by columns: a field that one document lacks must not be filled with another document's value."""
    documents = [
        (7, Document("é\ud7ff\x00", "a", None, "test", "pos", (1, None, 2.5), None)),
        (8, Document("", "b", "film", "train", None, (None, "x", True), "the second")),
        (12, Document("a", "a", "", "test", "", (), "")),
    ]
    for several in (documents, documents[:1], []):
        (part,) = received(sent(Part(3, several)))
        assert part == Part(3, several)


def test_half_a_record_is_the_end_and_earlier_records_arrive() -> None:
    whole, first = sent(Took(3), Took(4)), len(sent(Took(3)))
    for end in range(first, len(whole)):
        assert received(whole[:end]) == [Took(3)]


def test_anything_else_in_the_pipe_is_the_end() -> None:
    """A flipped bit, a line printed by a library, and a pickle that is not a record are not read as records."""
    chance = random.Random(5)
    whole = sent(Took(3))
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        assert received(bytes(damaged)) == []
    for foreign in (b"Warning: something\n" * 9, pickle.dumps(Took(3)), b"\xff" * 64, bytes(64)):
        assert received(foreign) == []


def test_a_closed_pipe_and_a_lost_reader_raise_the_same_error() -> None:
    """A sender to a worker that is being ended has to expect one kind of error."""
    pipe = io.BytesIO()
    pipe.close()
    with pytest.raises(OSError, match="closed file"):
        Wire(io.BytesIO(), pipe).send(Took(3))
