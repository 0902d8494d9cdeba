"""The compressed file `.chz`: the tensors of a network, each raw or Huffman coded.

All numbers are little-endian; bits of codes go from the most significant one of a byte down.

    "CHZ" and the version, 1                                      4 bytes
    description: its length u32, JSON in UTF-8
    number of tensors u16; then for each:
      name: its length u16, UTF-8
      type u8 (see _TYPES), rank u8, sizes u32 each
      form u8
        0, raw: the elements
        1, coded:
          bits of a distance u8 (0: there are no distances), entries u32, values u16, indices u16
          the values, float32 each
          the lengths of the indices' codes, 6 bits each; then 2^bits lengths for the distances
          bytes of the coded indices u32, the coded indices
          bytes of the coded distances u32, the coded distances
    CRC-32 of everything before, u32

Indices count from 0; one more than there are values is the filler's. Codes are canonical: numbered
by their lengths, then by what they stand for; a length of 0 stands for nothing.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chop.compress.arrays import Array, Ints
from chop.compress.bits import pack_bits, unpack_bits
from chop.compress.huffman import Code
from chop.compress.tensors import LENGTH_BITS, POSITION_BITS, CodedTensor, code_tensor
from chop.errors import DataError

__all__ = ["Compressed", "decode_bytes", "encode_bytes", "read_compressed", "write_compressed"]

_MAGIC = b"CHZ\x01"
_TYPES = ("<f4", "<f8", "<i8", "<i4", "|b1", "|u1", "|i1", "<i2", "<f2")
_RAW, _CODED = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class Compressed:
    """The content of a file: what it says about itself, and tensors by name."""

    description: Mapping[str, Any]
    tensors: Mapping[str, Array]


def write_compressed(
    path: Path,
    description: Mapping[str, Any],
    tensors: Mapping[str, Array],
    position_bits: int | None = None,
) -> int:
    """Writes the file in one step and returns how many bytes it has.

    Raises DataError for a tensor of a type that the file has no number for.
    """
    data = encode_bytes(description, tensors, position_bits)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_bytes(data)
    os.replace(unfinished, path)
    return len(data)


def read_compressed(path: Path) -> Compressed:
    """Returns the content of the file, bit for bit what was written.

    Raises DataError, of one line, for a file that is missing, damaged or of another kind.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"compressed file '{path}': {error.strerror}") from error
    try:
        return decode_bytes(data)
    except DataError as error:
        raise DataError(f"compressed file '{path}': {error}") from error


def encode_bytes(
    description: Mapping[str, Any],
    tensors: Mapping[str, Array],
    position_bits: int | None = None,
) -> bytes:
    """Returns the content of a file; `position_bits` None: for every tensor those that suit it."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":")).encode()
    parts = [_MAGIC, struct.pack("<I", len(text)), text, struct.pack("<H", len(tensors))]
    for name, values in tensors.items():
        parts += _encode_tensor(name, values, position_bits)
    data = b"".join(parts)
    return data + struct.pack("<I", zlib.crc32(data))


def _encode_tensor(name: str, values: Array, position_bits: int | None) -> list[bytes]:
    kind = values.dtype.newbyteorder("<").str
    if kind not in _TYPES:
        raise DataError(f"tensor '{name}': no number for the type {values.dtype} in the file")
    word = name.encode()
    head = struct.pack("<H", len(word)) + word
    head += struct.pack("<BB", _TYPES.index(kind), values.ndim)
    head += struct.pack(f"<{values.ndim}I", *values.shape)
    coded = code_tensor(values, position_bits)
    if coded is None:
        return [head, bytes([_RAW]), np.ascontiguousarray(values, dtype=kind).tobytes()]
    value_code, position_code = coded.value_code(), coded.position_code()
    counts = (coded.position_bits, len(coded.gaps), len(coded.codebook), coded.symbols)
    parts = [head, bytes([_CODED]), struct.pack("<BIHH", *counts)]
    parts += [coded.codebook.astype("<f4").tobytes(), _table(value_code)]
    if coded.position_bits:
        parts.append(_table(position_code))
    parts.append(_sized(value_code.encode(coded.indices)))
    if coded.position_bits:
        parts.append(_sized(position_code.encode(coded.gaps)))
    return parts


def _table(code: Code) -> bytes:
    lengths = np.asarray(code.lengths, dtype=np.int64)
    return pack_bits(lengths, np.full(len(lengths), LENGTH_BITS))


def _sized(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def decode_bytes(data: bytes) -> Compressed:
    """Returns the content of a file. Raises DataError for bytes that are not one's."""
    if data[:3] != _MAGIC[:3]:
        raise DataError("is not a .chz file")
    if data[:4] != _MAGIC:
        raise DataError(f"has version {data[3:4].hex() or '?'}; this chop reads version 01")
    if len(data) < 8 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise DataError("is damaged: its checksum is wrong; get it anew")
    reader = _Reader(data[4:-4])
    try:
        description = json.loads(reader.take(reader.number("<I")))
        tensors = dict(_decode_tensor(reader) for _ in range(reader.number("<H")))
    except (ValueError, IndexError, OverflowError, MemoryError) as error:
        raise DataError(f"is malformed: {error}") from error
    if not reader.is_at_end or not isinstance(description, dict):
        raise DataError("is malformed: its parts do not fill it")
    return Compressed(description, tensors)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise DataError("is malformed: it ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def numbers(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def number(self, layout: str) -> int:
        return self.numbers(layout)[0]


def _decode_tensor(reader: _Reader) -> tuple[str, Array]:
    name = reader.take(reader.number("<H")).decode()
    kind, rank = reader.numbers("<BB")
    shape = reader.numbers(f"<{rank}I")
    dtype = np.dtype(_TYPES[kind])
    form = reader.number("<B")
    if form == _RAW:
        data = reader.take(math.prod(shape) * dtype.itemsize)
        return name, np.frombuffer(data, dtype).reshape(shape).copy()
    if form != _CODED or dtype != np.float32:
        raise DataError(f"is malformed: tensor '{name}' has no form {form}")
    bits, entries, values, symbols = reader.numbers("<BIHH")
    if bits not in POSITION_BITS or not values <= symbols <= values + 1:
        raise DataError(f"is malformed: the counts of tensor '{name}'")
    if entries > math.prod(shape):
        raise DataError(f"is malformed: tensor '{name}' has more entries than elements")
    codebook = np.frombuffer(reader.take(4 * values), "<f4")
    value_code = _code(reader, symbols)
    position_code = _code(reader, 1 << bits) if bits else None
    indices = value_code.decode(reader.take(reader.number("<I")), entries)
    gaps: Ints = np.zeros(entries, dtype=np.int64)
    if position_code is not None:
        gaps = position_code.decode(reader.take(reader.number("<I")), entries)
    return name, CodedTensor(shape, bits, codebook, gaps, indices).decode()


def _code(reader: _Reader, symbols: int) -> Code:
    count = LENGTH_BITS * symbols
    bits = unpack_bits(reader.take((count + 7) // 8))[:count].reshape(symbols, LENGTH_BITS)
    places = 1 << np.arange(LENGTH_BITS - 1, -1, -1)
    return Code(tuple(int(n) for n in bits.astype(np.int64) @ places))
