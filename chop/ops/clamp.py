"""clamp: y = min(max(x, low), high); relu6 and hardtanh are clamps with given bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import nn
from torch.nn import functional

from chop.errors import FormatError
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost
from chop.ir.tensor_type import TensorType
from chop.nn.result import Clamped
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.elementwise import elementwise_parameters, flag

__all__ = ["Clamp"]

_RELU6 = (nn.ReLU6, functional.relu6)
_HARDTANH = (nn.Hardtanh, functional.hardtanh, functional.hardtanh_)


@dataclass(frozen=True, slots=True)
class ClampAttributes:
    """The bounds as real numbers; None is no bound."""

    low: float | None
    high: float | None


class Clamp(Op[ClampAttributes]):
    name = "clamp"
    summary = "y = min(max(x, low), high): clamp, clip, hardtanh, relu6"
    targets = (
        *_RELU6,
        *_HARDTANH,
        *(torch.clamp, torch.clamp_, torch.clip, torch.clip_),
        *(torch.clamp_min, torch.clamp_min_, torch.clamp_max, torch.clamp_max_),
        *("clamp", "clamp_", "clip", "clip_"),
        *("clamp_min", "clamp_min_", "clamp_max", "clamp_max_"),
    )
    module = "chop_clamp"
    limits = "bounds are numbers; for others than multiples of the input's step see scaled_clamp"
    absorbs_cast = True
    is_elementwise = True

    def read(self, call: Call) -> ClampAttributes:
        target = type(call.module) if call.module is not None else call.node.target
        if target in _RELU6:
            return ClampAttributes(0.0, 6.0)
        if isinstance(call.module, nn.Hardtanh):
            low, high = call.module.min_val, call.module.max_val
        elif target in _HARDTANH:
            low, high = call.argument(1, "min_val", -1.0), call.argument(2, "max_val", 1.0)
        elif call.spelling.startswith("clamp_min"):
            low, high = call.argument(1, "min"), None
        elif call.spelling.startswith("clamp_max"):
            low, high = None, call.argument(1, "max")
        else:
            low, high = call.argument(1, "min"), call.argument(2, "max")
        return ClampAttributes(_bound(call, low), _bound(call, high))

    def result_layer(self, call: Call, inputs: Sequence[TensorType]) -> Clamped | None:
        (x,), attributes = inputs, self.read(call)
        if not x.exact:
            return None
        try:
            _levels_of(attributes, x)
        except FormatError:
            return Clamped(attributes.low, attributes.high, call.spelling)
        return None

    def infer_scale(self, site: Site[ClampAttributes]) -> Scale | None:
        return site.inputs[0].scale

    def infer(self, site: Site[ClampAttributes]) -> TensorType:
        (x,) = site.inputs
        low, high = (_clip(end, _levels(site)) for end in (x.low, x.high))
        return TensorType.bounded(x.shape, low, high, x.fixed.frac_width, x.layout)

    def define(self, site: Site[ClampAttributes], inputs: Sequence[Value]) -> Value:
        low, high = _levels(site)
        value = inputs[0] if low is None else inputs[0].maximum(low)
        return value if high is None else value.minimum(high)

    def bind(self, site: Site[ClampAttributes], build: Build) -> Binding:
        x = site.inputs[0]
        low, high = _levels(site)
        # A bound that x cannot pass needs no hardware.
        has_low, has_high = low is not None and low > x.low, high is not None and high < x.high
        return Binding(
            self.module,
            {
                **elementwise_parameters(site, build),
                "HasLow": flag(has_low),
                "Low": f"{_signed(low if has_low else 0)}",
                "HasHigh": flag(has_high),
                "High": f"{_signed(high if has_high else 0)}",
            },
        )

    def cost(self, site: Site[ClampAttributes], build: Build) -> Cost:
        width = site.inputs[0].fixed.width
        return super().cost(site, build) + Cost(luts=build.folding.out_lanes * 2 * width)

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("relu6", nn.ReLU6(), ((6,),)),
            Case("hardtanh", nn.Hardtanh(-0.5, 1.5), ((6,),)),
            Case("function", _Spelled("function"), ((4,),)),
            Case("method", _Spelled("method"), ((4,),)),
            Case("one_sided", _Spelled("one_sided"), ((4,),)),
        )


class _Spelled(nn.Module):
    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.spelling == "function":
            return torch.clamp(functional.hardtanh(x), -0.25, max=0.5)
        return x.clamp(-1, 1) if self.spelling == "method" else x.clamp(min=0.5)


def _bound(call: Call, value: object) -> float | None:
    if value is None or (isinstance(value, (int, float)) and math.isinf(value)):
        return None
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return float(value)
    if isinstance(value, (int, float)):
        return float(value)
    raise call.refuse("a bound of clamp is a tensor", "use numbers as bounds")


def _levels(site: Site[ClampAttributes]) -> tuple[int | None, int | None]:
    return _levels_of(site.attributes, site.inputs[0])


def _levels_of(attributes: ClampAttributes, x: TensorType) -> tuple[int | None, int | None]:
    """Returns the bounds as integers of the input; None for one that it cannot pass.

    Raises FormatError for a bound between two levels.
    """
    factors = x.scale.factors if x.scale else (Fraction(1),)
    steps = [f / Fraction(2) ** x.fixed.frac_width for f in dict.fromkeys(factors)]
    levels: list[int | None] = []
    for bound, is_low in ((attributes.low, True), (attributes.high, False)):
        level = None
        if bound is not None:
            places = [Fraction(bound) / step for step in steps]
            passed = min(places) < x.high if not is_low else max(places) > x.low
            level = _level(bound, places, x) if passed else None
        levels.append(level)
    return levels[0], levels[1]


def _level(bound: float, places: Sequence[Fraction], x: TensorType) -> int:
    (place, *others) = dict.fromkeys(places)
    if not others and place.denominator == 1:
        return int(place)
    rule = "a bound must be a multiple of the input's step"
    if x.scale is not None:
        raise FormatError(
            f"{rule} 2^-{x.fixed.frac_width} ({x.scale}), got {bound:g}; give it a data_out format"
        )
    nearest = math.ldexp(math.floor(place + Fraction(1, 2)), -x.fixed.frac_width)
    raise FormatError(
        f"{rule} 2^-{x.fixed.frac_width}, got {bound:g}; use {nearest!r}, a larger "
        "data_in_frac_width or a data_out format"
    )


def _clip(value: int, levels: tuple[int | None, int | None]) -> int:
    low, high = levels
    value = value if low is None else max(value, low)
    return value if high is None else min(value, high)


def _signed(value: int | None) -> str:
    number = value or 0
    return f"64'sd{number}" if number >= 0 else f"-64'sd{-number}"
