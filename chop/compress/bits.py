"""Codes of different lengths as bytes, the most significant bit first."""

from __future__ import annotations

import numpy as np

from chop.compress.arrays import Bytes, Ints

__all__ = ["pack_bits", "unpack_bits"]


def pack_bits(codes: Ints, lengths: Ints) -> bytes:
    """Returns the codes, each of its number of bits (at most 62), one behind the other.

    The last byte is filled up with zeros.
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    owner = np.repeat(np.arange(len(codes)), lengths)
    shift = ends[owner] - 1 - np.arange(total)
    return np.packbits(((codes[owner] >> shift) & 1).astype(np.uint8)).tobytes()


def unpack_bits(data: bytes) -> Bytes:
    """Returns the bits of the bytes as zeros and ones."""
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8))
