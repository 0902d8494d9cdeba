"""Layers of a quantised network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from chop.formats.fixed import Fixed
from chop.formats.rounding import Rounding
from chop.nn.fake_quantize import fake_quantize

__all__ = ["ChannelAffine", "QuantizedLayer"]


class ChannelAffine(nn.Module):
    """y = +-x * weight + bias with constants that broadcast against x; either may be absent."""

    def __init__(
        self,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        negate: bool = False,
    ) -> None:
        super().__init__()
        self.weight = None if weight is None else nn.Parameter(weight.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.negate = negate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.weight is not None:
            x = x * self.weight
        if self.negate:
            x = -x
        if self.bias is not None:
            x = x + self.bias
        return x


class QuantizedLayer(nn.Module):
    """A layer whose parameters are rounded to number formats on the way in.

    The inner layer keeps its float parameters, so training goes on through straight-through
    gradients. `operator` is the name of the operator that the layer stands for.
    """

    def __init__(
        self,
        operator: str,
        layer: nn.Module,
        formats: Mapping[str, Fixed],
        rounding: Rounding = Rounding.HALF_UP,
    ) -> None:
        super().__init__()
        self.operator = operator
        self.layer = layer
        self.formats = dict(formats)
        self.rounding = rounding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parameters = {
            name: fake_quantize(getattr(self.layer, name), format, self.rounding)
            for name, format in self.formats.items()
        }
        result: torch.Tensor = torch.func.functional_call(self.layer, parameters, (x,))
        return result

    def extra_repr(self) -> str:
        return ", ".join(f"{name} {format}" for name, format in self.formats.items())
