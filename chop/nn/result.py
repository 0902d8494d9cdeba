"""Operators whose result has no integers of its own, and so needs a number format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from chop.formats.base import Format
from chop.formats.rounding import Rounding
from chop.nn.quantizer import Quantizer, Static

__all__ = ["Clamped", "QuantizedResult", "ResultLayer", "Sum"]


class ResultLayer(nn.Module, ABC):
    """What such an operator computes in floating point: forward(*inputs).

    `operator` is its name; `float_target` is the function that says the same where no format is
    needed (None: the layer itself does), `float_options` are its keyword arguments.
    `quantizes_input`: the default configuration of quantize casts what it reads, whatever operator
    it was. `reads_channel_scales`: what it reads may have a scale for each channel.
    """

    operator: ClassVar[str]
    quantizes_input: ClassVar[bool] = False
    reads_channel_scales: ClassVar[bool] = False
    float_target: Callable[..., torch.Tensor] | None = None
    float_options: Mapping[str, float | None] = {}

    @property
    @abstractmethod
    def spelling(self) -> str:
        """The name under which configurations may mean it."""

    @abstractmethod
    def exact(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Returns the result for float64 inputs as the operator's integers are defined by it."""


class Sum(ResultLayer):
    """a + b, or a - b."""

    operator = "scaled_add"

    def __init__(self, subtract: bool = False) -> None:
        super().__init__()
        self.subtract = subtract
        self.float_target = torch.sub if subtract else torch.add

    @property
    def spelling(self) -> str:
        return "sub" if self.subtract else "add"

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a - b if self.subtract else a + b

    def exact(self, *inputs: torch.Tensor) -> torch.Tensor:
        a, b = inputs
        return self.forward(a, b)


class Clamped(ResultLayer):
    """min(max(x, low), high); None is no bound. `spelling` is torch's name: relu6, clamp_min..."""

    operator = "scaled_clamp"
    reads_channel_scales = True

    def __init__(self, low: float | None, high: float | None, spelling: str = "clamp") -> None:
        super().__init__()
        self.low = low
        self.high = high
        self._spelling = spelling.rstrip("_").lower()
        self.float_target, self.float_options = self._in_float()

    @property
    def spelling(self) -> str:
        return self._spelling

    def _in_float(self) -> tuple[Callable[..., torch.Tensor], Mapping[str, float | None]]:
        """Returns the function of that spelling and its options."""
        if self.spelling == "relu6":
            return functional.relu6, {}
        if self.spelling == "hardtanh" and self.low is not None and self.high is not None:
            return functional.hardtanh, {"min_val": self.low, "max_val": self.high}
        if self.spelling == "clamp_min":
            return torch.clamp_min, {"min": self.low}
        if self.spelling == "clamp_max":
            return torch.clamp_max, {"max": self.high}
        return torch.clamp, {"min": self.low, "max": self.high}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x, self.low, self.high)

    def exact(self, *inputs: torch.Tensor) -> torch.Tensor:
        (x,) = inputs
        return self.forward(x)


class QuantizedResult(nn.Module):
    """A layer whose result is put on the levels of a number format: rounded once, as integers are.

    Without a quantiser it is the float layer alone. In evaluation mode the layer runs in float64,
    whatever the dtype of its inputs. `inserted` marks formats that are not the model's own:
    quantise takes them back to start over.
    """

    def __init__(
        self,
        layer: ResultLayer,
        format: Format | Quantizer | None = None,
        rounding: Rounding = Rounding.HALF_UP,
        inserted: bool = False,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.inserted = inserted
        self.quantizer: Quantizer | None
        if format is None or isinstance(format, Quantizer):
            self.quantizer = format
        else:
            self.quantizer = Static(format, rounding)

    @property
    def operator(self) -> str:
        """The name of the operator that it stands for."""
        return self.layer.operator

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
