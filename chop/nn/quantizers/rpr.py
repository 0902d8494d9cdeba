"""RPR: a random part of the weights is quantised, another at every step. Cavigelli and Benini,
"RPR: Random partition relaxation for training binary and ternary weight neural networks"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch.autograd.function import once_differentiable

from chop.formats.base import Format
from chop.formats.rounding import Floats, Rounding
from chop.nn.quantizer import Moment, Quantizer, Role
from chop.nn.quantizers.options import AlgorithmOptions, Stages, parse_options
from chop.nn.quantizers.start import element_wise
from chop.nn.straight_through import straight_through

__all__ = ["Rpr"]

# Keep the streams of (seed, step, quantiser) apart; any large odd numbers do.
_STEP_STRIDE = 1_000_003
_INDEX_STRIDE = 7_368_787_013


class RprOptions(AlgorithmOptions):
    """What a configuration may say: `stages`, the share of quantised weights over the training."""

    stages: Stages = Stages(fractions=[0.9, 0.95, 0.975, 1.0])


class _Partition(torch.autograd.Function):
    """y = the level where an element is constrained, x elsewhere; gradient only there."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, fixed: torch.Tensor, format: Format, rounding: Rounding
    ) -> torch.Tensor:
        ctx.save_for_backward(fixed)
        return torch.where(fixed, straight_through(x, format, rounding), x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (fixed,) = ctx.saved_tensors
        return grads[0].masked_fill(fixed, 0), None, None, None


class Rpr(Quantizer):
    """Weights of any element-wise format.

    Before every step each weight is constrained with the probability that its stage says. The
    constrained ones count as their levels in this step, and do not move: neither by gradient,
    momentum nor weight decay. The draw depends on the seed, the step and the place alone.
    """

    algorithm = "rpr"
    fixed: torch.Tensor
    held: torch.Tensor

    def __init__(
        self, format: Format, weight: torch.Tensor, stages: Stages, rounding: Rounding
    ) -> None:
        super().__init__(rounding)
        self._format = format
        self._stages = stages
        # Of one step only: drawn anew before the next, so in no checkpoint.
        empty = torch.zeros(weight.shape)
        self.register_buffer("fixed", empty.bool(), persistent=False)
        self.register_buffer("held", empty, persistent=False)

    @classmethod
    def create(
        cls,
        values: Floats,
        format: Format,
        role: Role,
        options: Mapping[str, Any],
        rounding: Rounding,
    ) -> Rpr:
        """Returns the quantiser. Raises ConfigError for an option or a format out of its reach."""
        parsed = parse_options(RprOptions, options, cls.algorithm)
        start = element_wise(format, cls.algorithm)
        return cls(start, torch.from_numpy(values), parsed.stages, rounding)

    @property
    def format(self) -> Format:
        return self._format

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return straight_through(x, self._format, self.rounding)
        apply = cast(Callable[..., torch.Tensor], _Partition.apply)
        return apply(x, self.fixed, self._format, self.rounding)

    def on_step(self, moment: Moment, tensor: torch.Tensor | None) -> None:
        assert tensor is not None
        stage = self._stages.reached(moment)
        share = self._stages.fractions[stage - 1] if stage else 0.0
        stream = moment.seed + _STEP_STRIDE * moment.step + _INDEX_STRIDE * self.place.index
        generator = torch.Generator().manual_seed(stream % (1 << 63))
        self.fixed.copy_(torch.rand(tensor.shape, generator=generator) < share)
        self.held = tensor.detach().clone()

    def after_step(self, tensor: torch.Tensor | None) -> None:
        assert tensor is not None
        tensor.copy_(torch.where(self.fixed, self.held, tensor))
