"""ANA: noise makes the staircase smooth, and is annealed. Spallanzani et al., "Additive noise
annealing and approximation properties of quantized neural networks", 2019."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field, model_validator
from torch.autograd.function import once_differentiable

from chop.errors import ConfigError
from chop.formats.base import Format
from chop.formats.rounding import Floats, Rounding
from chop.nn.grid import Step, along_channels
from chop.nn.quantizer import Moment, Place, Quantizer, Role
from chop.nn.quantizers.options import AlgorithmOptions, Positive, parse_options
from chop.nn.quantizers.start import element_wise
from chop.nn.straight_through import straight_through

__all__ = ["NOISES", "Ana", "AnaOptions"]

_MOST_LEVELS = 256
Share = Annotated[float, Field(ge=0, le=1)]
_Function = Callable[[torch.Tensor], torch.Tensor]


class AnaOptions(AlgorithmOptions):
    """What a configuration may say.

    Attributes:
        noise: the density; its spread is the half width of uniform and triangular noise, the
            standard deviation of normal, the scale of logistic noise.
        spread: at first, in mean distances between two levels.
        start, end: the share of the training in which the spread falls to 0.
        power: of the fall; 1 is linear.
        order: "lower_first" divides that share into one window per module, in the graph's order.
    """

    noise: Literal["uniform", "triangular", "normal", "logistic"] = "uniform"
    spread: Positive = 1.0
    start: Share = 0.0
    end: Share = 0.9
    power: Positive = 1.0
    order: Literal["lower_first", "together"] = "lower_first"

    @model_validator(mode="after")
    def _forwards(self) -> AnaOptions:
        if self.start >= self.end:
            raise ValueError(f"must have start below end, got {self.start} and {self.end}")
        return self

    def spread_at(self, progress: float, place: Place) -> float:
        """Returns the spread at a share of the training, for a place in the model."""
        start, whole = self.start, self.end - self.start
        if self.order == "lower_first":
            whole /= place.depths
            start += whole * place.depth
        done = min(max((progress - start) / whole, 0.0), 1.0)
        return self.spread * float((1 - done) ** self.power)


@dataclass(frozen=True, slots=True)
class _Noise:
    """A distribution function and its density, of spread 1."""

    distribution: _Function
    density: _Function


def _triangular(u: torch.Tensor) -> torch.Tensor:
    rest = 1 - u.abs().clamp(max=1)
    below = rest.square() / 2
    return torch.where(u < 0, below, 1 - below)


NOISES: Mapping[str, _Noise] = {
    "uniform": _Noise(lambda u: ((u + 1) / 2).clamp(0, 1), lambda u: (u.abs() < 1).to(u.dtype) / 2),
    "triangular": _Noise(_triangular, lambda u: (1 - u.abs()).clamp(min=0)),
    "normal": _Noise(
        torch.special.ndtr, lambda u: torch.exp(-u.square() / 2) / math.sqrt(2 * math.pi)
    ),
    "logistic": _Noise(torch.sigmoid, lambda u: torch.sigmoid(u) * torch.sigmoid(-u)),
}


@dataclass(frozen=True, slots=True)
class _Staircase:
    """Q(u) = first + sum of jumps[k] where u reaches thresholds[k]; in steps of the format."""

    first: float
    thresholds: tuple[float, ...]
    jumps: tuple[float, ...]

    @staticmethod
    def of(format: Format, rounding: Rounding) -> _Staircase:
        levels = format.levels()
        whole = range(format.low, format.high + 1) if levels is None else levels.tolist()
        thresholds = tuple(float(b.at) for b in format.boundaries(rounding))
        jumps = tuple(float(b - a) for a, b in pairwise(whole))
        return _Staircase(float(whole[0]), thresholds, jumps)

    @property
    def mean_jump(self) -> float:
        return sum(self.jumps) / len(self.jumps)


class _Smoothed(torch.autograd.Function):
    """y = q0 + sum_k j_k F((x - theta_k) / s), and the derivative of exactly that."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, stairs: _Staircase, noise: _Noise, spread: float, step: Step
    ) -> torch.Tensor:
        u = x / step
        ctx.save_for_backward(u)
        ctx.stairs, ctx.noise, ctx.spread = stairs, noise, spread
        total = torch.full_like(u, stairs.first)
        for threshold, jump in zip(stairs.thresholds, stairs.jumps, strict=True):
            total.add_(noise.distribution((u - threshold) / spread), alpha=jump)
        return total.mul_(step)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        (u,), stairs = ctx.saved_tensors, ctx.stairs
        slope = torch.zeros_like(u)
        for threshold, jump in zip(stairs.thresholds, stairs.jumps, strict=True):
            density = ctx.noise.density((u - threshold) / ctx.spread)
            slope.add_(density, alpha=jump / ctx.spread)
        return slope.mul_(grads[0]), None, None, None, None


class _Annealed(torch.autograd.Function):
    """y = the nearest level. The derivative of a staircase is 0: there is no gradient at all."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, format: Format, rounding: Rounding) -> torch.Tensor:
        return straight_through(x, format, rounding)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, None, None]:
        # None and not zeros: an optimiser leaves a parameter without a gradient where it is.
        return None, None, None


class Ana(Quantizer):
    """The expectation of the format's levels under noise on x; the levels themselves at spread 0.

    Formats of 2 to 256 levels, which cost a pass each. Below a module at spread 0 nothing trains
    any more, so the lower ones are annealed first.
    """

    algorithm = "ana"
    spread: torch.Tensor

    def __init__(self, format: Format, options: AnaOptions, rounding: Rounding) -> None:
        super().__init__(rounding)
        self._format = format
        self._options = options
        self._stairs = _Staircase.of(format, rounding)
        carrier = format.held()
        scales = [1.0] if format.scale is None else [float(f) for f in format.scale.factors]
        steps = torch.tensor(scales, dtype=torch.float64) * 2.0**-carrier.frac_width
        self._steps = steps if len(scales) > 1 else steps[0]
        self.register_buffer("spread", torch.tensor(options.spread, dtype=torch.float64))

    @classmethod
    def create(
        cls,
        values: Floats,
        format: Format,
        role: Role,
        options: Mapping[str, Any],
        rounding: Rounding,
    ) -> Ana:
        """Returns the quantiser. Raises ConfigError for an option or a format out of its reach."""
        parsed = parse_options(AnaOptions, options, cls.algorithm)
        start = element_wise(format, cls.algorithm)
        levels = start.levels()
        count = start.high - start.low + 1 if levels is None else len(levels)
        if not 2 <= count <= _MOST_LEVELS:
            raise ConfigError(
                f"training algorithm 'ana': needs 2 to {_MOST_LEVELS} levels, got {count} of "
                f"{format}; use lsq or ste"
            )
        return cls(start, parsed, rounding)

    @property
    def format(self) -> Format:
        return self._format

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return straight_through(x, self._format, self.rounding)
        spread = float(self.spread) * self._stairs.mean_jump
        if spread == 0:
            apply = cast(Callable[..., torch.Tensor], _Annealed.apply)
            return apply(x, self._format, self.rounding)
        step: Step = along_channels(self._steps.to(x.dtype), x)
        apply = cast(Callable[..., torch.Tensor], _Smoothed.apply)
        return apply(x, self._stairs, NOISES[self._options.noise], spread, step)

    def on_step(self, moment: Moment, tensor: torch.Tensor | None) -> None:
        self.spread.fill_(self._options.spread_at(moment.progress, self.place))
