"""Where the weights of a sparse tensor are: each by its distance from the one before.

A distance of 1..2^bits is stored as itself less one. Where a gap is longer, a filler is put in at
the farthest place that a distance reaches: an entry whose weight is zero. Han, Mao, Dally, "Deep
compression", ICLR 2016, figure 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chop.compress.arrays import Ints

__all__ = ["Entries", "absolute", "relative"]


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """The entries of a tensor: weights and fillers, in order.

    Attributes:
        gaps: the distance from the entry before, less one: in 0..2^bits - 1.
        is_weight: false for a filler.
    """

    gaps: Ints
    is_weight: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

    @property
    def fillers(self) -> int:
        return int(len(self.is_weight) - self.is_weight.sum())


def relative(places: Ints, bits: int) -> Entries:
    """Returns the entries of weights at these places, which ascend."""
    reach = 1 << bits
    distance = np.diff(places, prepend=-1)
    fillers = (distance - 1) // reach
    ends = np.cumsum(fillers + 1) - 1
    gaps = np.full(len(places) + int(fillers.sum()), reach - 1, dtype=np.int64)
    gaps[ends] = (distance - 1) % reach
    is_weight = np.zeros(len(gaps), dtype=np.bool_)
    is_weight[ends] = True
    return Entries(gaps, is_weight)


def absolute(gaps: Ints) -> Ints:
    """Returns the places of all entries, fillers among them."""
    return np.cumsum(gaps + 1) - 1
