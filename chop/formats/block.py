"""Blocks along the last axis, and the rounding of what shares an exponent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from chop.errors import FormatError
from chop.formats.minifloat import floor_log2, powers_of_two
from chop.formats.rounding import MAX_BITS, Floats, Ints, Rounding, round_half, shift_right_by

__all__ = ["bit_length", "block_exponents", "check_block", "check_block_float", "in_blocks"]
__all__ += ["mantissas", "nearest_in_blocks", "out_of_blocks", "shift_each"]

_T = TypeVar("_T", bound=np.generic)


def check_block_float(kind: str, width: int, exponent_width: int, block_size: int) -> None:
    """Raises FormatError for a width outside 2..24, an exponent outside 1..8, an empty block."""
    if not 2 <= width <= 24:
        raise FormatError(f"{kind}: width must be in 2..24, got {width}")
    if not 1 <= exponent_width <= 8:
        raise FormatError(f"{kind}: exponent_width must be in 1..8, got {exponent_width}")
    check_block(kind, block_size)


def check_block(kind: str, block_size: int) -> None:
    """Raises FormatError unless the size of a block is positive."""
    if block_size < 1:
        raise FormatError(f"{kind}: block_size must be at least 1, got {block_size}")


def in_blocks(values: npt.NDArray[_T], size: int) -> npt.NDArray[_T]:
    """Returns [.., blocks, size] of values [.., n]: the last block is filled up with zeros."""
    flat = np.atleast_1d(values)
    rest = -flat.shape[-1] % size
    if rest:
        flat = np.pad(flat, [(0, 0)] * (flat.ndim - 1) + [(0, rest)])
    return flat.reshape(*flat.shape[:-1], flat.shape[-1] // size, size)


def out_of_blocks(blocks: npt.NDArray[_T], shape: Sequence[int]) -> npt.NDArray[_T]:
    """Returns the values of that shape from their blocks."""
    length = shape[-1] if shape else 1
    flat = blocks.reshape(*blocks.shape[:-2], blocks.shape[-2] * blocks.shape[-1])
    return flat[..., :length].reshape(shape)


def block_exponents(blocks: Floats, lowest: int, highest: int) -> Ints:
    """Returns floor(log2 max |x|) of every block, within [lowest, highest]: [.., blocks, 1].

    A block of zeros has the lowest.
    """
    largest = np.abs(blocks).max(axis=-1, keepdims=True, initial=0.0)
    # The exponent of an infinity is not defined; its block saturates.
    largest = np.minimum(largest, 2.0**1023)
    return np.clip(floor_log2(largest), lowest, highest)


def mantissas(blocks: Floats, exponents: Ints, width: int, rounding: Rounding) -> Floats:
    """Returns x / 2^(exponent - width + 2) as integers, at most 2^(width - 1) - 1 in magnitude.

    So a value of that very exponent fills `width` bits in two's complement. The lowest code is left
    out: a block that held it would have the next exponent.
    """
    top = float((1 << (width - 1)) - 1)
    with np.errstate(over="ignore"):
        scaled = blocks * powers_of_two((width - 2) - exponents)
    return round_half(np.clip(scaled, -top, top), rounding)


def nearest_in_blocks(
    values: Floats, size: int, width: int, window: tuple[int, int], rounding: Rounding
) -> Floats:
    """Returns the values with mantissas of `width` bits and exponents of blocks in the window."""
    blocks = in_blocks(values, size)
    exponents = block_exponents(blocks, *window)
    rounded = mantissas(blocks, exponents, width, rounding)
    return out_of_blocks(rounded * powers_of_two(exponents - (width - 2)), values.shape)


def shift_each(values: Ints, shift: Ints, rounding: Rounding) -> Ints:
    """Returns values * 2^-shift rounded, each with its own shift (broadcast); see `shift_right`.

    A left shift saturates at 2^62 - 1 in magnitude.
    """
    left = np.clip(-shift, 0, MAX_BITS)
    most = np.int64((1 << MAX_BITS) - 1)
    limit = most >> left
    moved = np.where(values > limit, most, np.where(values < -limit, -most, values << left))
    # Every value of 62 bits is within a quarter of zero from a shift of 63 on.
    rounded = shift_right_by(values, np.clip(shift, 0, 63), rounding)
    result: Ints = np.where(shift > 0, rounded, moved)
    return result


def bit_length(values: npt.NDArray[Any]) -> Ints:
    """Returns the bits of non-negative int64 values below 2^62, exactly: 0 for 0."""
    # Each half has less than the 53 bits of a float64.
    upper = values >> 31
    halves = np.where(upper > 0, upper, values)
    lengths = np.frexp(halves.astype(np.float64))[1].astype(np.int64)
    result: Ints = lengths + np.where(upper > 0, 31, 0)
    return result
