"""Layers of a quantised network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from chop.formats.base import Format
from chop.formats.rounding import Rounding
from chop.formats.scale import Scale
from chop.formats.scaled import Scaled
from chop.nn.fake_quantize import fake_quantize
from chop.nn.masks import hold_zeros
from chop.nn.quantizer import Quantizer, Static

__all__ = ["AccumulatorBias", "ChannelAffine", "QuantizedLayer", "Rows"]


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


class Rows(nn.Module):
    """The rows of a table at indices, which may be in floating point; past the end is the last."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        is_trained = isinstance(weight, nn.Parameter)
        self.weight = weight if is_trained else nn.Parameter(weight.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.embedding(x.long().clamp(0, len(self.weight) - 1), self.weight)


class AccumulatorBias(Quantizer):
    """A bias on the scale of the products that it is added to: scale of x times scale of weight.

    While training it leaves the bias in float: the difference is at most half a step of the
    accumulator. In evaluation mode the levels are those of `format`.
    """

    algorithm = "accumulator"

    def __init__(
        self, width: int, sources: tuple[Quantizer, ...], rounding: Rounding = Rounding.HALF_UP
    ) -> None:
        super().__init__(rounding)
        self.width = width
        # In a tuple, so that they stay the submodules of their own places only.
        self._sources = sources

    @property
    def format(self) -> Scaled:
        step = 1.0
        scale: Scale | None = None
        for source in self._sources:
            format = source.format
            step *= 0.5 ** format.held().frac_width
            if format.scale is not None:
                scale = format.scale.times(scale)
        factors = np.asarray(1.0 if scale is None else [float(f) for f in scale.factors])
        return Scaled(self.width, tuple(np.atleast_1d(factors * step).tolist()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.training else fake_quantize(x, self.format, self.rounding)

    def extra_repr(self) -> str:
        return f"{self.width} bits"


class QuantizedLayer(nn.Module):
    """A layer whose parameters are put on the levels of number formats on the way in.

    The inner layer keeps its float parameters, so training goes on through straight-through
    gradients. `operator` is the name of the operator that the layer stands for.
    """

    def __init__(
        self,
        operator: str,
        layer: nn.Module,
        formats: Mapping[str, Format | Quantizer],
        rounding: Rounding = Rounding.HALF_UP,
    ) -> None:
        super().__init__()
        self.operator = operator
        self.layer = layer
        self.rounding = rounding
        self.quantizers = nn.ModuleDict(
            {
                name: format if isinstance(format, Quantizer) else Static(format, rounding)
                for name, format in formats.items()
            }
        )

    @property
    def formats(self) -> dict[str, Format]:
        """The number format of every parameter that has one, by the parameter's name."""
        return {name: self.quantizer(name).format for name in self.quantizers}

    def quantizer(self, name: str) -> Quantizer:
        """Returns the quantiser of a parameter."""
        found = self.quantizers[name]
        assert isinstance(found, Quantizer)
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # torch.func.functional_call does the same, at the price of a small layer's whole forward.
        places = cast(dict[str, torch.Tensor | None], self.layer._parameters)
        # Before the quantisers see the parameters: some take their range from them.
        if self.layer._buffers:
            hold_zeros(self.layer)
        kept = {name: places[name] for name in self.quantizers}
        try:
            for name, quantizer in self.quantizers.items():
                places[name] = quantizer(kept[name])
            result: torch.Tensor = self.layer(x)
        finally:
            places.update(kept)
        return result

    def extra_repr(self) -> str:
        return ", ".join(f"{name} {format}" for name, format in self.formats.items())
