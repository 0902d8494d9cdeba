"""leaky_relu: y = x where x >= 0, else x * 2^-k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.tensor_type import TensorType
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.elementwise import elementwise_parameters

__all__ = ["LeakyRelu"]

_LARGEST_SHIFT = 15


@dataclass(frozen=True, slots=True)
class LeakyReluAttributes:
    """The slope for negative x is 2^-slope_shift."""

    slope_shift: int


class LeakyRelu(Op[LeakyReluAttributes]):
    name = "leaky_relu"
    summary = "y = x where x >= 0, else x * 2^-k (a power-of-two slope)"
    targets = (nn.LeakyReLU, functional.leaky_relu, functional.leaky_relu_)
    module = "chop_leaky_relu"
    limits = "the slope is a power of two in 2^-15..1 (else: prelu)"
    absorbs_cast = True
    is_positively_homogeneous = True

    def read(self, call: Call) -> LeakyReluAttributes:
        if isinstance(call.module, nn.LeakyReLU):
            slope = float(call.module.negative_slope)
        else:
            slope = float(call.argument(1, "negative_slope", 0.01))
        mantissa, exponent = math.frexp(slope)
        if mantissa != 0.5 or not 0 <= 1 - exponent <= _LARGEST_SHIFT:
            nearest = 2.0 ** round(math.log2(slope)) if slope > 0 else 0.125
            nearest = min(1.0, max(2.0**-_LARGEST_SHIFT, nearest))
            raise call.refuse(
                f"negative_slope must be a power of two in 2^-{_LARGEST_SHIFT}..1, got {slope:g}",
                f"use {nearest:g}",
            )
        return LeakyReluAttributes(1 - exponent)

    def infer(self, site: Site[LeakyReluAttributes]) -> TensorType:
        (x,) = site.inputs
        shift = site.attributes.slope_shift
        low, high = (v << shift if v >= 0 else v for v in (x.low, x.high))
        return TensorType.bounded(x.shape, low, high, x.fixed.frac_width + shift, x.layout)

    def infer_scale(self, site: Site[LeakyReluAttributes]) -> Scale | None:
        return site.inputs[0].scale

    def define(self, site: Site[LeakyReluAttributes], inputs: Sequence[Value]) -> Value:
        (x,) = inputs
        return x.where_nonnegative(x.shift_left(site.attributes.slope_shift), x)

    def bind(self, site: Site[LeakyReluAttributes], build: Build) -> Binding:
        parameters = elementwise_parameters(site, build)
        return Binding(self.module, {**parameters, "SlopeShift": site.attributes.slope_shift})

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("module", nn.LeakyReLU(0.125), ((6,),)),
            Case("function", _Function(), ((4,),)),
            Case("identity_slope", nn.LeakyReLU(1.0), ((3,),)),
        )


class _Function(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(x, negative_slope=0.25)
