"""Energy of one sample, estimated from bits: for comparing networks, not for predicting boards.

The table is that of M. Horowitz, "Computing's energy problem", ISSCC 2014 (45 nm, 0.9 V):

    8-bit multiplication 0.2 pJ, 32-bit 3.1 pJ      0.2 * a * b / 64 pJ for a x b bits (3.2 at 32)
    8-bit addition 0.03 pJ, 32-bit 0.1 pJ           0.03 / 8 pJ per bit (0.12 at 32)
    64 bits out of an 8 KiB memory, 10 pJ           10 / 64 pJ per bit

A multiplication reads its weight and adds to an accumulator; data come from registers.
"""

from __future__ import annotations

__all__ = ["layer_energy_nj"]

_PRODUCT_PJ = 0.2 / 64
_SUM_PJ = 0.03 / 8
_READ_PJ = 10 / 64


def layer_energy_nj(macs: int, data_bits: float, weight_bits: float, sum_bits: int) -> float:
    """Returns the nanojoules of a layer's multiplications, their sums and weights, per sample."""
    one = _PRODUCT_PJ * data_bits * weight_bits + _SUM_PJ * sum_bits + _READ_PJ * weight_bits
    return macs * one / 1000
