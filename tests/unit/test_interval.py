"""The interval that a simulation measures."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest

from chop.sim.report import steady_interval


@pytest.mark.parametrize(
    ("distances", "interval"),
    [
        ([32] * 15, 32.0),
        # While the queues fill, samples come faster.
        ([5] * 7 + [10] * 8, 10.0),
        # Two branches finish turn and turn about; an odd number of them is left.
        ([5] * 7 + [9, 7, 9, 7, 9, 7, 9], 8.0),
        ([4, 4, 4, 3, 2, 4, 3, 2, 4, 3, 2, 4], 3.0),
        # Under stalls nothing repeats: the mean of the second half.
        ([1, 1, 1, 4, 9, 2], 5.0),
    ],
)
def test_interval_of_distances(distances: list[int], interval: float) -> None:
    assert steady_interval(list(accumulate(distances, initial=100))) == interval


def test_interval_needs_two_samples() -> None:
    assert math.isnan(steady_interval([7]))
    assert steady_interval([7, 19]) == 12.0
