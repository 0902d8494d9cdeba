"""leaky_relu: y = x where x >= 0, else x * 2^-k; other slopes become tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from chop.errors import FormatError
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.tensor_type import TensorType
from chop.nn.functions import Elementwise, Function
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.elementwise import elementwise_parameters

__all__ = ["LeakyRelu"]

_LARGEST_SHIFT = 15


@dataclass(frozen=True, slots=True)
class LeakyReluAttributes:
    """The slope for negative x, and the k for which it is 2^-k (None: there is none)."""

    slope: float
    slope_shift: int | None


class LeakyRelu(Op[LeakyReluAttributes]):
    name = "leaky_relu"
    summary = "y = x where x >= 0, else x * 2^-k (a power-of-two slope)"
    targets = (nn.LeakyReLU, functional.leaky_relu, functional.leaky_relu_)
    module = "chop_leaky_relu"
    limits = "a slope that is no power of two in 2^-15..1 makes it a table"
    absorbs_cast = True
    is_elementwise = True
    is_positively_homogeneous = True

    def read(self, call: Call) -> LeakyReluAttributes:
        if isinstance(call.module, nn.LeakyReLU):
            slope = float(call.module.negative_slope)
        else:
            slope = float(call.argument(1, "negative_slope", 0.01))
        mantissa, exponent = math.frexp(slope)
        shifts = mantissa == 0.5 and 0 <= 1 - exponent <= _LARGEST_SHIFT
        return LeakyReluAttributes(slope, 1 - exponent if shifts else None)

    def result_layer(self, call: Call, inputs: Sequence[TensorType]) -> Elementwise | None:
        attributes = self.read(call)
        if attributes.slope_shift is not None:
            return None
        return Elementwise(Function("leaky", (attributes.slope,)))

    def infer(self, site: Site[LeakyReluAttributes]) -> TensorType:
        (x,) = site.inputs
        shift = _shift(site)
        low, high = (v << shift if v >= 0 else v for v in (x.low, x.high))
        return TensorType.bounded(x.shape, low, high, x.fixed.frac_width + shift, x.layout)

    def infer_scale(self, site: Site[LeakyReluAttributes]) -> Scale | None:
        return site.inputs[0].scale

    def define(self, site: Site[LeakyReluAttributes], inputs: Sequence[Value]) -> Value:
        (x,) = inputs
        return x.where_nonnegative(x.shift_left(_shift(site)), x)

    def bind(self, site: Site[LeakyReluAttributes], build: Build) -> Binding:
        parameters = elementwise_parameters(site, build)
        return Binding(self.module, {**parameters, "SlopeShift": _shift(site)})

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("module", nn.LeakyReLU(0.125), ((6,),)),
            Case("function", _Function(), ((4,),)),
            Case("any_slope", nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU()), ((4,),)),
            Case("identity_slope", nn.LeakyReLU(1.0), ((3,),)),
        )


def _shift(site: Site[LeakyReluAttributes]) -> int:
    shift = site.attributes.slope_shift
    if shift is None:
        raise FormatError(
            f"leaky_relu with the slope {site.attributes.slope:g}, no power of two, has no "
            "integers of its own; give it a data_out format"
        )
    return shift


class _Function(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(x, negative_slope=0.25)
