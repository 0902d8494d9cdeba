"""SAWB: the weights' statistics give the clip. Choi et al., "Accurate and efficient 2-bit QNNs"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from chop.errors import ConfigError
from chop.formats.base import Format
from chop.formats.rounding import Floats, Rounding
from chop.nn.grid import Grid, along_channels, float32_scale
from chop.nn.quantizer import Moment, Quantizer, Role
from chop.nn.quantizers.options import AlgorithmOptions, parse_options
from chop.nn.quantizers.start import Uniform, rescaled, scaled_start
from chop.nn.straight_through import on_grid, straight_through

__all__ = ["COEFFICIENTS", "Sawb", "sawb_clip"]

# c1, c2 by the highest level (2 hi + 1 levels): the clip of least squared error is fitted by
# c1 sqrt(E w^2) - c2 E|w| over six densities (uniform, triangular, normal, Laplace, logistic and
# von Mises). Four and sixteen levels around zero (3.11, 2.04; 12.1, 12.2) would have no zero.
COEFFICIENTS = {1: (2.54, 1.62), 3: (6.94, 6.30), 7: (11.9, 11.9)}


class SawbOptions(AlgorithmOptions):
    """SAWB has nothing to set: the weights decide."""


class Sawb(Quantizer):
    """Weights of 2 to 4 bits on symmetric levels, the clip computed anew after every step."""

    algorithm = "sawb"
    step: torch.Tensor

    def __init__(self, start: Uniform, rounding: Rounding) -> None:
        super().__init__(rounding)
        self._start = start
        self._grid = Grid(-start.high, start.high, rounding)
        steps = torch.tensor(start.scales, dtype=torch.float32)
        self.register_buffer("step", steps if len(start.scales) > 1 else steps[0])

    @classmethod
    def create(
        cls,
        values: Floats,
        format: Format,
        role: Role,
        options: Mapping[str, Any],
        rounding: Rounding,
    ) -> Sawb:
        """Returns the quantiser. Raises ConfigError for an option or a format out of its reach."""
        parse_options(SawbOptions, options, cls.algorithm)
        start = scaled_start(format, cls.algorithm)
        if start.low == 0 or start.high not in COEFFICIENTS:
            raise ConfigError(
                f"training algorithm 'sawb': needs signed weights of 2 to 4 bits, got {format}; "
                "use lsq"
            )
        result = cls(start, rounding)
        result.after_step(torch.from_numpy(values))
        return result

    @property
    def format(self) -> Uniform:
        return rescaled(self._start, self.step, symmetric=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return straight_through(x, self.format, self.rounding)
        return on_grid(x, self._grid, along_channels(self.step, x))

    def on_step(self, moment: Moment, tensor: torch.Tensor | None) -> None:
        # The weights may be others than those that it was made from.
        if moment.step == 0:
            self.after_step(tensor)

    def after_step(self, tensor: torch.Tensor | None) -> None:
        if tensor is not None:
            clip = sawb_clip(tensor, self._grid.high, per_channel=self.step.dim() == 1)
            self.step.copy_(float32_scale(clip / self._grid.high))


def sawb_clip(weight: torch.Tensor, high: int, per_channel: bool) -> torch.Tensor:
    """Returns c1 sqrt(E w^2) - c2 E|w|, or max|w| where that is not positive (1 for zeros)."""
    first, second = COEFFICIENTS[high]
    rows = weight.flatten(1) if per_channel else weight.reshape(1, -1)
    size = rows.abs()
    clip = first * rows.square().mean(1).sqrt() - second * size.mean(1)
    largest = size.amax(1)
    clip = torch.where(clip > 0, clip, torch.where(largest > 0, largest, 1.0))
    return clip if per_channel else clip[0]
