"""Canonical Huffman codes: the code lengths alone say what the codes are."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from chop.compress.arrays import Ints
from chop.compress.bits import pack_bits, unpack_bits
from chop.errors import DataError

__all__ = ["Code", "code_of"]

# No code of fewer than 2^32 symbols is longer: lengths grow as Fibonacci numbers do.
_LONGEST = 48


@dataclass(frozen=True, slots=True)
class Code:
    """A prefix code for symbols 0, 1, ...; `lengths` has 0 for a symbol that does not occur.

    Codes are numbered by length, then by symbol. Raises DataError for lengths that no complete
    prefix code has; a single symbol has one bit.
    """

    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        used = [length for length in self.lengths if length]
        if any(not 0 <= length <= _LONGEST for length in self.lengths):
            raise DataError(f"Huffman code: lengths must be 0..{_LONGEST}, got {max(used)}")
        filled = sum(1 << (_LONGEST - length) for length in used)
        if used != [1] and used and filled != 1 << _LONGEST:
            raise DataError("Huffman code: the lengths are not those of a complete prefix code")

    def codes(self) -> tuple[int, ...]:
        """Returns the code of every symbol as an integer of its length in bits."""
        found = [0] * len(self.lengths)
        code = last = 0
        for length, symbol in sorted((n, s) for s, n in enumerate(self.lengths) if n):
            code <<= length - last
            found[symbol] = code
            code, last = code + 1, length
        return tuple(found)

    def bits(self, symbols: Ints) -> int:
        """Returns how many bits the symbols take."""
        return int(np.asarray(self.lengths, dtype=np.int64)[symbols].sum())

    def encode(self, symbols: Ints) -> bytes:
        """Returns the symbols as bytes."""
        lengths = np.asarray(self.lengths, dtype=np.int64)[symbols]
        return pack_bits(np.asarray(self.codes(), dtype=np.int64)[symbols], lengths)

    def decode(self, data: bytes, count: int) -> Ints:
        """Returns `count` symbols. Raises DataError where the bytes are not those of so many."""
        known = {
            (length, code): symbol
            for symbol, (length, code) in enumerate(zip(self.lengths, self.codes(), strict=True))
            if length
        }
        found = np.zeros(count, dtype=np.int64)
        done = length = code = 0
        for bit in unpack_bits(data).tolist():
            if done == count:
                break
            code, length = code << 1 | bit, length + 1
            symbol = known.get((length, code))
            if symbol is not None:
                found[done] = symbol
                done, length, code = done + 1, 0, 0
        if done < count or len(data) != (self.bits(found) + 7) // 8:
            raise DataError(f"Huffman code: {len(data)} bytes do not hold {count} symbols")
        return found


def code_of(counts: Ints) -> Code:
    """Returns an optimal code for symbols that occur so often.

    Huffman, "A method for the construction of minimum-redundancy codes", 1952.
    """
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (int(n), symbol, (symbol,)) for symbol, n in enumerate(counts) if n
    ]
    lengths = [0] * len(counts)
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        (n, first, left), (m, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in (*left, *right):
            lengths[symbol] += 1
        heapq.heappush(heap, (n + m, first, (*left, *right)))
    return Code(tuple(lengths))
