"""Sums of products with constants: what linear layers and convolutions share."""

from __future__ import annotations

from typing import Any

import numpy as np

from chop.errors import UnsupportedOpError
from chop.formats.fixed import covering
from chop.formats.rounding import Ints, shift_left
from chop.formats.scale import Scale
from chop.ir.meta import Cost
from chop.ir.tensor_type import Layout, TensorType, aligned_frac_width
from chop.ops.base import Build, Site

__all__ = [
    "LEVELS_PER_STAGE",
    "accumulator_type",
    "adder_luts",
    "alignment",
    "are_far",
    "block_rams",
    "product_scale",
    "product_shift",
    "ram_cost",
    "ram_luts",
    "rom_latency",
    "rom_luts",
    "rom_style",
    "signed_width",
    "start_of",
]

# Additions between two registers of the adder tree.
LEVELS_PER_STAGE = 2
# A ROM of more words and bits than these goes to block RAM, whose output wants a register of its
# own. Up to 32 words a bit costs one 6-input LUT or two 4-input ones, which no block RAM repays.
_LOGIC_ROM_WORDS, _LOGIC_ROM_BITS = 32, 4096
# More multipliers than these lie so far apart that what goes there and back wants a register each;
# block RAMs, in columns of their own, are farther from them than LUTs.
_NEAR_MULTIPLIERS, _NEAR_BLOCK_MULTIPLIERS = 32, 8
# Words and bits of a block RAM.
_BLOCK_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))


def product_scale(site: Site[Any]) -> Scale | None:
    """Returns the scale of x times that of the weights: one factor, or one per output."""
    x, weight = site.inputs[0].scale, site.parameters["weight"].scale
    if x is not None and x.per_channel:
        raise UnsupportedOpError(
            f"node '{site.name}': a scale per channel cannot leave a sum; "
            "give the tensor before it one scale (data_in)"
        )
    return weight if x is None else x.times(weight)


def product_shift(site: Site[Any]) -> int:
    """Returns how far left the products go, for a bias that has a finer fraction."""
    if "bias" not in site.parameters:
        return 0
    product = site.inputs[0].fixed.frac_width + site.parameters["weight"].fixed.frac_width
    return max(0, _bias_frac_width(site) - product)


def alignment(site: Site[Any]) -> tuple[int, int, Ints]:
    """Returns the accumulator's fraction, the products' left shift, the bias at that fraction."""
    shift = product_shift(site)
    weight = site.parameters["weight"]
    frac_width = site.inputs[0].fixed.frac_width + weight.fixed.frac_width + shift
    if "bias" not in site.parameters:
        return frac_width, shift, np.zeros(len(weight.values), np.int64)
    bias = site.parameters["bias"]
    return frac_width, shift, shift_left(bias.values, frac_width - _bias_frac_width(site))


def accumulator_type(site: Site[Any], layout: Layout) -> TensorType:
    """Returns the type of the sums over all inputs of the weights [outputs, inputs]."""
    (x,) = site.inputs
    frac_width, shift, bias = alignment(site)
    weight = site.parameters["weight"].values
    # Python's integers from here on: a width that does not fit must be seen, not wrapped.
    up = np.maximum(weight, 0).sum(axis=1).astype(object)
    down = np.minimum(weight, 0).sum(axis=1).astype(object)
    offset, scale = bias.astype(object), 1 << shift
    high = (up * x.high + down * x.low) * scale + offset
    low = (up * x.low + down * x.high) * scale + offset
    # The accumulator is signed and starts at the bias.
    least, most = (
        min(int(low.min()), int(bias.min()), -1),
        max(int(high.max()), int(bias.max())),
    )
    width = covering(least, most, frac_width)
    return TensorType(site.exact.shape, width, int(low.min()), int(high.max()), layout)


def start_of(site: Site[Any], left_out: Ints) -> Ints | None:
    """Returns what every sum starts from: the bias, and what the products leave out."""
    _, shift, bias = alignment(site)
    if "bias" not in site.parameters and not left_out.any():
        return None
    # As the accumulator wraps: only its end is known to fit.
    half = 1 << (site.exact.fixed.width - 1)
    exact = bias.astype(object) + left_out.astype(object) * (1 << shift)
    wrapped: Ints = ((exact + half) % (2 * half) - half).astype(np.int64)
    return wrapped


def signed_width(values: Ints) -> int:
    """Returns the bits of signed numbers that hold every value."""
    return covering(min(int(values.min()), -1), int(values.max()), 0).width


def rom_style(build: Build, words: int, bits: int) -> str:
    """Returns how a ROM of so many words, and bits in all, is built."""
    if build.rom.style != "auto":
        return build.rom.style
    return "block" if words > _LOGIC_ROM_WORDS and bits > _LOGIC_ROM_BITS else "logic"


def are_far(style: str, words: int, multipliers: int) -> bool:
    """Returns whether so many multipliers lie far apart, or from the ROM of their constants.

    Then operands and products want one more register, near the multiplier. A single word is no
    memory, and its products are logic.
    """
    near = _NEAR_BLOCK_MULTIPLIERS if style == "block" else _NEAR_MULTIPLIERS
    return words > 1 and multipliers > near


def rom_latency(style: str, far: bool = False) -> int:
    """Returns the cycles from an address to its word: a block RAM is slow and wants a register."""
    return 1 + (style == "block") + far


def rom_luts(words: int, bits: int) -> int:
    """A 4-input LUT holds 16 words of a bit; Yosys needs a third more with every bit of address.

    Few words are few functions of their address: bits that are alike share a LUT.
    """
    if words <= 16:
        return 0 if words <= 2 else min(bits, (1 << words) - 2 - 2 * words.bit_length())
    more = min(1 + ((words - 1).bit_length() - 4) / 3, 1.75)
    return int(-(-words // 16) * bits * more)


def adder_luts(width: int) -> int:
    """Returns the 4-input LUTs of an addition: carry chains go by two bits."""
    return width + width % 2


def ram_luts(words: int, bits: int) -> int:
    """A distributed RAM cell of 16 words by 4 bits takes the place of 6 LUTs."""
    return 6 * -(-words // 16) * -(-bits // 4)


def block_rams(words: int, bits: int) -> int:
    """Returns the block RAMs of 18 Kbit of a memory: the widest shape that is deep enough.

    Lattice FPGA-TN-02204 (ECP5) and AMD UG473 (7 series) have the same shapes; Yosys takes the one
    of which it needs the fewest.
    """
    return min(-(-words // depth) * -(-bits // width) for depth, width in _BLOCK_SHAPES)


def ram_cost(words: int, bits: int) -> Cost:
    """Returns what chop_ram takes: LUTs for a few words, else a block for 32 distributed cells."""
    cells, blocks = -(-words // 16) * -(-bits // 4), block_rams(words, bits)
    few = words <= 64 and words * bits <= 4096
    return Cost(luts=6 * cells, ffs=bits) if few or cells <= 32 * blocks else Cost(brams=blocks)


def _bias_frac_width(site: Site[Any]) -> int:
    return aligned_frac_width(site.parameters["bias"], product_scale(site), site.name)
