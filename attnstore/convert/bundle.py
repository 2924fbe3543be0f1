"""Reads TensorFlow checkpoints without TensorFlow. `NAME.index` says where each tensor is in `NAME.data-…`.

The index is a LevelDB table (github.com/google/leveldb, doc/table_format.md): blocks of sorted entries, whose keys omit
the prefix shared with the previous key, then a footer. Its values are the messages BundleHeaderProto and
BundleEntryProto of tensorflow/core/protobuf/tensor_bundle.proto; only the few fields needed are read. The CRC-32C of
every block and every tensor is checked.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from attnstore.errors import ModelError

_MAGIC = 0xDB4775248B80FB57
#: Bytes of the footer: two block handles (pairs of varints), padded to 40 bytes, and the magic number.
_FOOTER = 48
#: Bytes after each block: its compression and its CRC-32C.
_TRAILER = 5
_FLOAT32 = 1  # tensorflow/core/framework/types.proto
#: Wire types of fields in a protocol buffers message.
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a tensor is. `crc` is masked, as stored. `parts`: it is stored in slices, which are not supported."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    parts: bool


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checkpoint's index. `prefix` is its path without `.index`."""

    prefix: Path
    shards: int
    entries: dict[str, Entry]

    def read(self, name: str) -> np.ndarray:
        """The tensor as float32, in its stored shape.

        Raises:
            ModelError: it has another type, or its file is missing, too short or damaged.
        """
        entry = self.entries[name]
        if entry.parts or entry.dtype != _FLOAT32:
            how = "in pieces" if entry.parts else f"as TensorFlow's type {entry.dtype}"
            raise ModelError(f"{self.prefix}.index holds {name} {how}: only whole float32 tensors are read")
        if entry.size != 4 * math.prod(entry.shape):
            raise ModelError(
                f"{self.prefix}.index is damaged: {name} of shape {entry.shape} has {entry.size:,} bytes"
            )
        shard = Path(f"{self.prefix}.data-{entry.shard:05d}-of-{self.shards:05d}")
        if not shard.is_file():
            raise ModelError(
                f"there is no {shard.name} beside {self.prefix}.index: copy all of the checkpoint's files"
            )
        if shard.stat().st_size < entry.offset + entry.size:
            raise ModelError(f"{shard} is too short: it ends within {name} or before it; copy it again")
        with shard.open("rb") as file:
            file.seek(entry.offset)
            content = file.read(entry.size)
        if _masked_crc(content) != entry.crc:
            raise ModelError(
                f"{shard} is damaged: {name} has another checksum than the index says; copy it again"
            )
        return np.frombuffer(content, dtype="<f4").reshape(entry.shape)


def read_bundle(prefix: Path) -> Bundle:
    """The index of the checkpoint `prefix`.

    Raises:
        ModelError: it is damaged, or its format is not supported.
    """
    index = Path(f"{prefix}.index")
    content = index.read_bytes()
    try:
        table = dict(_table(content, index))
        header = _fields(table.pop(b"", b""))
        bundle = Bundle(
            prefix, _number(header, 1), {key.decode(): _entry(value) for key, value in table.items()}
        )
    except (IndexError, ValueError, struct.error) as error:
        raise ModelError(f"{index} is damaged: copy it again") from error
    if _number(header, 2):
        raise ModelError(f"{index} was written on a big-endian machine, which is not read")
    return bundle


def _table(content: bytes, index: Path) -> Iterator[tuple[bytes, bytes]]:
    """Every key and value of the table, in key order."""
    if len(content) < _FOOTER or struct.unpack("<Q", content[-8:])[0] != _MAGIC:
        raise ModelError(f"{index} is not a checkpoint index, or was cut short: copy it again")
    footer = content[-_FOOTER:]
    _, place = _handle(footer, 0)  # of the meta index, which TensorFlow leaves empty
    (offset, size), _ = _handle(footer, place)
    for _, handle in _block(content, offset, size, index):
        (offset, size), _ = _handle(handle, 0)
        yield from _block(content, offset, size, index)


def _block(content: bytes, offset: int, size: int, index: Path) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of one block."""
    block = content[offset : offset + size]
    compression, crc = struct.unpack("<BI", content[offset + size : offset + size + _TRAILER])
    if _masked_crc(content[offset : offset + size + 1]) != crc:
        raise ModelError(f"{index} is damaged: a block has another checksum than it says; copy it again")
    if compression:
        raise ModelError(f"{index} is compressed, which TensorFlow never does: it is not supported")
    # The block ends with its restart points (where a whole key is stored), four bytes each, and their count.
    end = len(block) - 4 - 4 * struct.unpack("<I", block[-4:])[0]
    place, key = 0, b""
    while place < end:
        shared, place = _varint(block, place)
        rest, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + rest]
        place += rest
        yield key, block[place : place + length]
        place += length


def _handle(content: bytes, place: int) -> tuple[tuple[int, int], int]:
    """A block handle: ((offset, size) of the block, the position after the handle)."""
    offset, place = _varint(content, place)
    size, place = _varint(content, place)
    return (offset, size), place


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """(the number, the position after it): seven bits per byte, the lowest first."""
    number = shift = 0
    while True:
        byte = content[place]
        number |= (byte & 0x7F) << shift
        place += 1
        shift += 7
        if byte < 0x80:
            return number, place
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _fields(message: bytes) -> dict[int, list[int | bytes]]:
    """The fields of a protocol buffers message, by field number."""
    fields: dict[int, list[int | bytes]] = {}
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        value: int | bytes
        kind = tag & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
            value = int.from_bytes(message[place : place + size], "little")
            place += size
        elif kind == _BYTES:
            length, place = _varint(message, place)
            value = message[place : place + length]
            place += length
        else:
            raise ValueError(f"a field of kind {kind}")
        if place > len(message):
            raise ValueError("a field beyond its message")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(fields: dict[int, list[int | bytes]], number: int) -> int:
    """The value of a numeric field, or 0 if the field is omitted, which is protocol buffers' default."""
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise ValueError(f"field {number} is not a number")
    return value


def _messages(fields: dict[int, list[int | bytes]], number: int) -> list[bytes]:
    """All values of a repeated message field."""
    return [value for value in fields.get(number, ()) if isinstance(value, bytes)]


def _entry(message: bytes) -> Entry:
    fields = _fields(message)
    shape = [_fields(shape) for shape in _messages(fields, 2)]
    dimensions = [_number(_fields(dimension), 1) for each in shape for dimension in _messages(each, 2)]
    return Entry(
        dtype=_number(fields, 1),
        shape=tuple(dimensions),
        shard=_number(fields, 3),
        offset=_number(fields, 4),
        size=_number(fields, 5),
        crc=_number(fields, 6),
        parts=7 in fields,
    )


def _masked_crc(content: bytes) -> int:
    """The CRC-32C as LevelDB stores it: rotated and offset, because a CRC of data that contains a CRC is weak."""
    crc = google_crc32c.value(content)
    return int(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def find_checkpoint(place: Path) -> Path:
    """The prefix of the checkpoint at `place`: a folder, or a prefix with or without `.index`.

    Raises:
        ModelError: there is no checkpoint, or several and no file `checkpoint` that names one of them.
    """
    if not place.is_dir():
        prefix = place.with_name(place.name.removesuffix(".index"))
        if not Path(f"{prefix}.index").is_file():
            raise ModelError(f"there is no checkpoint {place}: give its folder, or its path as far as .index")
        return prefix
    found = sorted(file.with_suffix("") for file in place.glob("*.index"))
    if not found:
        raise ModelError(f"{place} holds no checkpoint of TensorFlow: there is no file NAME.index")
    if len(found) == 1:
        return found[0]
    named = _latest(place)
    if named is None or place / named not in found:
        several = f"{len(found)} checkpoints, {found[0].name} to {found[-1].name}"
        raise ModelError(
            f"{place} holds {several}, and its file `checkpoint` names none of them: give one's path"
        )
    return place / named


def _latest(folder: Path) -> str | None:
    """The latest checkpoint's name, according to the folder's file `checkpoint`."""
    record = folder / "checkpoint"
    if not record.is_file():
        return None
    for line in record.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model_checkpoint_path":
            return Path(value.strip().strip('"')).name  # it may hold a path on another machine
    return None
