"""How a tensor becomes a stream of beats, and the beats' text form in vector and ROM files."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from chop.formats.rounding import Ints
from chop.ir.tensor_type import Layout, stream_permutation

__all__ = ["beats_to_hex", "hex_to_beats", "stream_order", "tensor_order"]

# Bounds the size of the temporary bit matrix (one byte a bit).
_CHUNK_BITS = 1 << 25


def stream_order(values: Ints, layout: Layout) -> Ints:
    """Returns [N, *shape] as [N, elements] in stream order."""
    flat = values.reshape(len(values), -1)
    if layout is None:
        return np.ascontiguousarray(flat)
    return np.ascontiguousarray(flat[:, stream_permutation(flat.shape[1], layout)])


def tensor_order(values: Ints, shape: tuple[int, ...], layout: Layout) -> Ints:
    """The inverse of `stream_order`: [N, elements] in stream order to [N, *shape]."""
    flat = np.empty_like(values)
    flat[:, stream_permutation(values.shape[1], layout)] = values
    return flat.reshape(len(values), *shape)


def _beats_to_bytes(beats: Ints, width: int) -> npt.NDArray[np.uint8]:
    """Packs [B, lanes] into [B, ceil(lanes * width / 8)] bytes, most significant byte first."""
    shifts = np.arange(width - 1, -1, -1, dtype=np.int64)
    bits = ((beats[:, ::-1, None] >> shifts) & 1).astype(np.uint8).reshape(len(beats), -1)
    pad = -bits.shape[1] % 8
    if pad:
        bits = np.concatenate([np.zeros((len(bits), pad), np.uint8), bits], axis=1)
    return np.packbits(bits, axis=1)


def beats_to_hex(beats: Ints, width: int) -> str:
    """Returns one line of hexadecimal per beat for [B, lanes] integers of `width` bits.

    Lane 0 is in the low bits; negative integers are in two's complement; every line has the same
    number of digits, an even one.
    """
    rows = max(1, _CHUNK_BITS // max(1, beats.shape[1] * width))
    parts = []
    for start in range(0, len(beats), rows):
        packed = _beats_to_bytes(beats[start : start + rows], width)
        parts.append(packed.tobytes().hex("\n", packed.shape[1]) + "\n")
    return "".join(parts)


def hex_to_beats(text: str, lanes: int, width: int, signed: bool) -> Ints:
    """The inverse of `beats_to_hex`; digits other than hexadecimal (an X) raise ValueError."""
    lines = text.split()
    digits = 2 * -(-lanes * width // 8)
    raw = bytes.fromhex("".join(line.rjust(digits, "0") for line in lines))
    packed = np.frombuffer(raw, np.uint8).reshape(len(lines), -1)
    rows = max(1, _CHUNK_BITS // max(1, lanes * width))
    weights = np.int64(1) << np.arange(width - 1, -1, -1, dtype=np.int64)
    out = np.empty((len(lines), lanes), np.int64)
    for start in range(0, len(lines), rows):
        bits = np.unpackbits(packed[start : start + rows], axis=1)[:, -lanes * width :]
        values = bits.reshape(len(bits), lanes, width).astype(np.int64) @ weights
        out[start : start + rows] = values[:, ::-1]
    return np.where(out >= 1 << (width - 1), out - (1 << width), out) if signed else out
