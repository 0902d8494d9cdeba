"""Operators whose result has no integers of its own, and so needs a number format."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from chop.formats.base import Format
from chop.formats.rounding import Rounding
from chop.nn.quantizer import Quantizer, Static

__all__ = ["QuantizedResult", "ResultLayer"]


class ResultLayer(nn.Module, ABC):
    """What such an operator computes in floating point: forward(*inputs)."""

    @property
    @abstractmethod
    def spelling(self) -> str:
        """The name under which configurations may mean it."""

    @abstractmethod
    def exact(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Returns the result for float64 inputs as the operator's integers are defined by it."""


class QuantizedResult(nn.Module):
    """A layer whose result is put on the levels of a number format: rounded once, as integers are.

    `operator` is the name of the operator that it stands for. Without a quantiser it is the float
    layer alone. In evaluation mode the layer runs in float64, whatever the dtype of its inputs.
    """

    def __init__(
        self,
        operator: str,
        layer: ResultLayer,
        format: Format | Quantizer | None = None,
        rounding: Rounding = Rounding.HALF_UP,
    ) -> None:
        super().__init__()
        self.operator = operator
        self.layer = layer
        self.quantizer: Quantizer | None
        if format is None or isinstance(format, Quantizer):
            self.quantizer = format
        else:
            self.quantizer = Static(format, rounding)

    @property
    def format(self) -> Format | None:
        """The format of the result, if it has one."""
        return None if self.quantizer is None else self.quantizer.format

    @property
    def rounding(self) -> Rounding:
        return Rounding.HALF_UP if self.quantizer is None else self.quantizer.rounding

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        if self.quantizer is None or self.training:
            result: torch.Tensor = self.layer(*inputs)
            if self.quantizer is not None:
                result = self.quantizer(result)
            return result
        exact = self.layer.exact(*(x.double() for x in inputs))
        rounded: torch.Tensor = self.quantizer(exact)
        return rounded.to(inputs[0].dtype)

    def extra_repr(self) -> str:
        return f"{self.format or 'float'}, {self.rounding}"
