"""INQ: weights are frozen on the levels, the largest first. Zhou et al., "Incremental network
quantization", 2017."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from chop.formats.base import Format
from chop.formats.log import Log
from chop.formats.rounding import Floats, Rounding
from chop.nn.quantizer import Moment, Quantizer, Role
from chop.nn.quantizers.options import AlgorithmOptions, Stages, parse_options
from chop.nn.quantizers.start import element_wise
from chop.nn.straight_through import straight_through

__all__ = ["Inq"]


class InqOptions(AlgorithmOptions):
    """What a configuration may say: `stages`, the share of frozen weights over the training."""

    stages: Stages = Stages(fractions=[0.5, 0.75, 0.875, 1.0])


class _Free(torch.autograd.Function):
    """y = x; no gradient for the frozen elements."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, frozen: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(frozen)
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (frozen,) = ctx.saved_tensors
        return grads[0].masked_fill(frozen, 0), None


class Inq(Quantizer):
    """Weights of any element-wise format; the paper's are powers of two (`log`), for which the
    largest weight gives the largest level.

    When a stage begins, the largest of the free weights are put on the levels and frozen: neither
    gradient, momentum nor weight decay moves them again. The free ones train on in float.
    """

    algorithm = "inq"
    frozen: torch.Tensor
    levels: torch.Tensor

    def __init__(
        self, format: Format, weight: torch.Tensor, stages: Stages, rounding: Rounding
    ) -> None:
        super().__init__(rounding)
        self._format = format
        self._stages = stages
        self.register_buffer("frozen", torch.zeros(weight.shape, dtype=torch.bool))
        self.register_buffer("levels", torch.zeros(weight.shape, dtype=torch.float32))

    @classmethod
    def create(
        cls,
        values: Floats,
        format: Format,
        role: Role,
        options: Mapping[str, Any],
        rounding: Rounding,
    ) -> Inq:
        """Returns the quantiser. Raises ConfigError for an option or a format out of its reach."""
        parsed = parse_options(InqOptions, options, cls.algorithm)
        start = element_wise(format, cls.algorithm)
        largest = float(np.abs(values).max()) if values.size else 0.0
        if isinstance(start, Log) and largest > 0:
            start = _below(start, math.floor(math.log2(4 * largest / 3)))
        return cls(start, torch.from_numpy(values), parsed.stages, rounding)

    @property
    def format(self) -> Format:
        return self._format

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return straight_through(x, self._format, self.rounding)
        return cast(Callable[..., torch.Tensor], _Free.apply)(x, self.frozen)

    def on_step(self, moment: Moment, tensor: torch.Tensor | None) -> None:
        assert tensor is not None
        stage = self._stages.reached(moment)
        share = self._stages.fractions[stage - 1] if stage else 0.0
        more = round(share * tensor.numel()) - int(self.frozen.sum())
        if more > 0:
            # Frozen weights last; a stable sort makes ties the same on every machine.
            size = tensor.abs().masked_fill(self.frozen, -1.0).flatten()
            chosen = torch.sort(size, descending=True, stable=True).indices[:more]
            self.frozen.view(-1)[chosen] = True
            levels = straight_through(tensor.detach(), self._format, self.rounding).flatten()
            self.levels.view(-1)[chosen] = levels[chosen].to(self.levels.dtype)
            self.after_step(tensor)

    def after_step(self, tensor: torch.Tensor | None) -> None:
        assert tensor is not None
        tensor.copy_(torch.where(self.frozen, self.levels.to(tensor.dtype), tensor))


def _below(format: Log, top: int) -> Log:
    """Returns the powers of two up to 2^top, in as many bits.

    The paper's top is n1 = floor(log2(4 max|w| / 3)), which is what max|w| rounds to; its lowest
    is n1 + 1 - 2^(bits - 2), where the codes of `Log` reach further down.
    """
    return Log(format.width, (1 << (format.width - 1)) - 1 - top)
