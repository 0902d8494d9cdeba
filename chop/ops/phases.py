"""The geometry of a transposed convolution: which windows give which of its outputs.

Of the outputs along an axis, those of one index modulo the stride, a phase, are an ordinary
convolution of the input with every stride-th entry of the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from chop.formats.rounding import Ints
from chop.ops.windows import WindowShape

__all__ = ["Columns", "Phases"]

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Columns:
    """How the outputs of a row come from its windows: `stride` of each, one after the other.

    Window j holds the pixels j + first to j + first + taps - 1, and gives the outputs from
    stride * j - cut on; those before 0, and beyond the last, are left out.
    """

    count: int
    taps: int
    first: int
    cut: int

    @staticmethod
    def of(out: int, kernel: int, stride: int, padding: int) -> Columns:
        """Returns those with the fewest taps in all, of these those that leave out the least."""
        found = []
        for cut in range(stride):
            # The output stride * j - cut + r meets pixel j + e by the kernel's entry
            # starts[r] - stride * e.
            starts = range(padding - cut, padding - cut + stride)
            offsets = [
                e for s in starts for e in range(-(-(s - kernel + 1) // stride), s // stride + 1)
            ]
            # Windows begin at a pixel of the frame or before it.
            first, last = min(*offsets, 0), max(offsets)
            count = -(-(out + cut) // stride)
            found.append(Columns(count, last - first + 1, first, cut))
        return min(found, key=lambda c: (c.count * c.taps, c.count * stride, c.cut))


@dataclass(frozen=True, slots=True)
class Phases:
    """A transposed convolution; one of [C, L] has frames of height 1.

    Pairs are (vertical, horizontal); `out` is the height and width of the result. Raises ShapeError
    where no output meets a pixel.
    """

    channels: int
    height: int
    width: int
    out_channels: int
    out: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    has_bias: bool

    def __post_init__(self) -> None:
        _windows(self)

    @property
    def columns(self) -> Columns:
        return Columns.of(self.out[1], self.kernel[1], self.stride[1], self.padding[1])

    @property
    def row_phases(self) -> int:
        """The phases that the rows of the result have."""
        return min(self.stride[0], self.out[0])

    @property
    def row_taps(self) -> int:
        """The rows of a window: of the kernel's rows, a phase has every stride-th one."""
        stride = self.stride[0]
        # Windows begin at a row of the frame or above it.
        return max(-(-self.kernel[0] // stride), -(-self.padding[0] // stride) + 1)

    @property
    def windows(self) -> WindowShape:
        """Windows of the frame with every row repeated: a row of them for each of the outputs."""
        return _windows(self)

    @property
    def needs_windows(self) -> bool:
        """Whether the stream of repeated rows is not yet the windows, one after the other."""
        w = self.windows
        return not (w.kernel == (1, 1) and w.padding == (0, 0) and w.out == (w.height, w.width))

    @property
    def needs_cut(self) -> bool:
        """Whether the windows give outputs that the result has not."""
        return self.columns.count * self.stride[1] != self.out[1]

    def entries(self) -> tuple[Ints, Ints]:
        """Returns the kernel's row of every [row phase, row of the window], and its columns.

        The kernel's size stands for an entry that the kernel does not have.
        """
        (tall, wide), (down, along), c = self.kernel, self.stride, self.columns
        phases, taps = np.arange(self.row_phases)[:, None], np.arange(self.row_taps)
        rows = (phases + self.padding[0]) % down + down * (self.row_taps - 1 - taps)
        starts = self.padding[1] - c.cut + np.arange(along)[:, None]
        columns = starts - along * (c.first + np.arange(c.taps))
        return (
            np.where((rows >= 0) & (rows < tall), rows, tall),
            np.where((columns >= 0) & (columns < wide), columns, wide),
        )


@lru_cache(maxsize=256)
def _windows(a: Phases) -> WindowShape:
    columns, stride = a.columns, a.stride[0]
    return WindowShape(
        a.channels,
        a.height * stride,
        a.width,
        (a.row_taps, columns.taps),
        (1, 1),
        (stride, 1),
        (stride * (a.row_taps - 1) - a.padding[0], -columns.first),
        (a.out[0], columns.count),
    )
