"""What a product takes in LUTs where no DSP computes it."""

from __future__ import annotations

__all__ = ["product_luts"]


def product_luts(a_bits: int, b_bits: int) -> float:
    """Returns the 4-input LUTs of one registered product of two signed numbers.

    Fitted to what Yosys 0.70 makes for ECP5 without DSPs: 4x4 bits 65 (63 here), 5x5 94 (105), 8x4
    149 (136), 8x8 306 (293), 16x8 578 (606). A factor of one bit is a choice of sign.
    """
    if min(a_bits, b_bits) <= 1:
        return float(max(a_bits, b_bits))
    return max(5.2 * a_bits * b_bits - 2.5 * (a_bits + b_bits), 1.0)
