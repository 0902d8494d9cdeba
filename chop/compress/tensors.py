"""One tensor in each of three forms: pruned, with shared values, and Huffman coded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from chop.compress.arrays import Array, Floats, Ints
from chop.compress.huffman import Code, code_of
from chop.compress.positions import absolute, relative
from chop.errors import DataError

__all__ = [
    "LENGTH_BITS",
    "POSITION_BITS",
    "CodedTensor",
    "Form",
    "TensorSize",
    "code_tensor",
    "raw_size",
    "size_of",
]

# The bits of a distance that are tried: with 0 there are no distances, and zeros are fillers.
POSITION_BITS = range(9)
# A length of a Huffman table, and the counts that a decoder needs beside it.
LENGTH_BITS = 6
_MOST_VALUES = (1 << 16) - 2
_FLOAT_BITS = 32

Form = Literal["pruned", "shared", "coded"]


@dataclass(frozen=True, slots=True)
class TensorSize:
    """What a tensor takes, everything that is needed to get it back counted.

    Attributes:
        form: pruned (float32 weights and distances), shared (indices of a codebook and distances),
            coded (both in Huffman codes) or raw.
        params, kept: how many elements there are, and how many are not zero.
        position_bits: the bits of a distance before it is coded.
        fillers: entries whose weight is zero, because of a gap that no distance reaches.
        values, value_bits: distinct weights, and the bits of an index of them.
        mean_value_bits, mean_position_bits: per entry; the means of the code lengths when coded.
        codebook_bytes, table_bytes: the values themselves, and the lengths of the Huffman codes.
        bytes: of everything.
    """

    name: str
    form: str
    params: int
    kept: int
    position_bits: int
    fillers: int
    values: int
    value_bits: int
    mean_value_bits: float
    mean_position_bits: float
    codebook_bytes: int
    table_bytes: int
    bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class CodedTensor:
    """A tensor as entries: a distance and the index of a value for each.

    `codebook` holds the values; an index behind its end is that of a filler.
    """

    shape: tuple[int, ...]
    position_bits: int
    codebook: Floats
    gaps: Ints
    indices: Ints

    @property
    def fillers(self) -> int:
        return int((self.indices == len(self.codebook)).sum())

    @property
    def symbols(self) -> int:
        """How many different indices there are: values, and the filler if there is one."""
        return len(self.codebook) + (self.fillers > 0)

    def value_code(self) -> Code:
        return code_of(np.bincount(self.indices, minlength=self.symbols))

    def position_code(self) -> Code:
        return code_of(np.bincount(self.gaps, minlength=1 << self.position_bits))

    def decode(self) -> Floats:
        """Returns the tensor. Raises DataError for entries that do not fit its shape."""
        places = absolute(self.gaps)
        flat = np.zeros(math.prod(self.shape), dtype=np.float32)
        if len(places) and places[-1] >= len(flat):
            raise DataError(f"an entry at {places[-1]} of a tensor of {len(flat)} elements")
        flat[places] = np.append(self.codebook, np.float32(0))[self.indices]
        return flat.reshape(self.shape)


def code_tensor(values: Array, position_bits: int | None = None) -> CodedTensor | None:
    """Returns a float32 tensor as entries that decode to the same bits.

    Without `position_bits`, those of the fewest bytes when coded. None where that would not be
    smaller than the tensor itself: other types, or too many different values.
    """
    return _smallest(values, "coded", position_bits)


def size_of(name: str, values: Array, form: Form, position_bits: int | None = None) -> TensorSize:
    """Returns what the tensor takes in a form; raw where that is not smaller.

    Without `position_bits`, with those of the fewest bytes in this form.
    """
    coded = _smallest(values, form, position_bits)
    return raw_size(name, values) if coded is None else _size(name, values, coded, form)


def raw_size(name: str, values: Array) -> TensorSize:
    """Returns what the tensor takes as it is."""
    kept = int(np.count_nonzero(values))
    bits = 8 * values.itemsize
    return TensorSize(
        name, "raw", values.size, kept, 0, 0, 0, bits, float(bits), 0.0, 0, 0, values.nbytes
    )


def _smallest(values: Array, form: Form, position_bits: int | None) -> CodedTensor | None:
    """Returns the entries of the fewest bytes; None where the tensor itself has no more."""
    if values.dtype != np.float32 or values.size == 0:
        return None
    choices = POSITION_BITS if position_bits is None else (position_bits,)
    best, least = None, values.nbytes
    for tensor in _candidates(values, choices):
        if form != "pruned" and len(tensor.codebook) > _MOST_VALUES:
            return None
        size = _size("", values, tensor, form).bytes
        if size < least:
            best, least = tensor, size
    return best


def _candidates(values: Array, choices: Iterable[int]) -> Iterator[CodedTensor]:
    # Bits, not floats: -0.0 is a value of its own, so that nothing but +0.0 is left out.
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint32)
    places = np.flatnonzero(flat)
    codebook, indices = np.unique(flat[places], return_inverse=True)
    for bits in choices:
        entries = relative(places, bits)
        filled = np.full(len(entries.gaps), len(codebook), dtype=np.int64)
        filled[entries.is_weight] = indices
        yield CodedTensor(values.shape, bits, codebook.view(np.float32), entries.gaps, filled)


def _size(name: str, values: Array, tensor: CodedTensor, form: Form) -> TensorSize:
    entries, distinct = len(tensor.gaps), len(tensor.codebook)
    value_bits = _FLOAT_BITS if form == "pruned" else max(tensor.symbols - 1, 0).bit_length()
    value_total, position_total = entries * value_bits, entries * tensor.position_bits
    codebook = 0 if form == "pruned" else 4 * distinct
    table = 0
    if form == "coded":
        value_code, position_code = tensor.value_code(), tensor.position_code()
        value_total = value_code.bits(tensor.indices)
        table = _bytes(LENGTH_BITS * tensor.symbols)
        if tensor.position_bits:
            position_total = position_code.bits(tensor.gaps)
            table += _bytes(LENGTH_BITS << tensor.position_bits)
    return TensorSize(
        name=name,
        form=form,
        params=values.size,
        kept=entries - tensor.fillers,
        position_bits=tensor.position_bits,
        fillers=tensor.fillers,
        values=distinct,
        value_bits=value_bits,
        mean_value_bits=value_total / max(entries, 1),
        mean_position_bits=position_total / max(entries, 1),
        codebook_bytes=codebook,
        table_bytes=table,
        bytes=codebook + table + _bytes(value_total) + _bytes(position_total),
    )


def _bytes(bits: int) -> int:
    return (bits + 7) // 8
