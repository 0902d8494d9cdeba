"""scaled_clamp: y = min(max(x, low), high), rounded once to a format, with any bounds and scales.

Rounding is monotone, so rounding what was clamped is clamping what was rounded, at the rounded
bounds: a cast, and behind it a clamp of integers where the format itself has no such limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from chop.errors import FormatError, UnsupportedOpError
from chop.formats.base import Format
from chop.formats.fixed import Fixed
from chop.formats.rounding import Rounding
from chop.formats.scale import Scale
from chop.formats.scaled import Scaled
from chop.integer.record import Value
from chop.integer.requantise import requantised
from chop.ir.meta import Folding
from chop.ir.tensor_type import TensorType
from chop.nn.fake_quantize import Cast as CastLayer
from chop.nn.result import Clamped, QuantizedResult
from chop.ops.base import Binding, Build, Call, Case, Op, Site, Stage
from chop.ops.cast import Cast, CastAttributes, requantiser_at
from chop.ops.clamp import Clamp, ClampAttributes

__all__ = ["ScaledClamp"]

_CAST, _CLAMP = Cast(), Clamp()


@dataclass(frozen=True, slots=True)
class ScaledClampAttributes:
    """The bounds as real numbers, None is no bound; the result's format, None while it has none."""

    low: float | None
    high: float | None
    format: Format | None
    rounding: Rounding


class ScaledClamp(Op[ScaledClampAttributes]):
    name = "scaled_clamp"
    summary = "y = min(max(x, low), high), rounded once to a format, with any bounds and scales"
    targets = ()
    module = "chop_clamp"
    modules = (*_CAST.modules, "chop_clamp")
    cycles = "elements / lanes; latency as of the cast, and 1 where its format does not saturate so"
    limits = "made by quantize of a clamp whose bounds are no levels of its input"
    is_elementwise = True

    def read(self, call: Call) -> ScaledClampAttributes:
        module = call.module
        assert isinstance(module, QuantizedResult)
        layer = module.layer
        assert isinstance(layer, Clamped)
        return ScaledClampAttributes(layer.low, layer.high, module.format, module.rounding)

    def infer(self, site: Site[ScaledClampAttributes]) -> TensorType:
        format, x = site.attributes.format, site.inputs[0]
        if format is None:
            raise FormatError("clamped between levels, it needs a data_out format")
        if type(format).encode is not Format.encode:
            raise UnsupportedOpError(
                f"node '{site.name}': {format} has no order of single elements; clamp to another "
                "format, then cast to it"
            )
        low, high = self.program(site).bounds
        return TensorType(x.shape, format, low, high, x.layout)

    def infer_scale(self, site: Site[ScaledClampAttributes]) -> Scale | None:
        format = site.attributes.format
        return None if format is None else format.scale

    def define(self, site: Site[ScaledClampAttributes], inputs: Sequence[Value]) -> Value:
        low, high = _levels(site.attributes)
        value = requantised(inputs[0], requantiser_at(_cast(site)))
        value = value if low is None else value.maximum(low)
        return value if high is None else value.minimum(high)

    def requantiser(self, site: Site[ScaledClampAttributes]) -> tuple[str, str]:
        return _CAST.requantiser(_cast(site))

    def stages(self, site: Site[ScaledClampAttributes]) -> tuple[Stage[Any], ...]:
        cast = _cast(site)
        rounded = replace(_CAST.infer(cast), scale=cast.attributes.format.scale)
        low, high = _levels(site.attributes)
        if (low is None or low <= rounded.low) and (high is None or high >= rounded.high):
            return (Stage(_CAST, cast),)
        before = replace(cast, name=f"{site.name}_rounded", exact=rounded, output=rounded)
        # Integers between integers: of what a step is worth, the clamp need not know.
        x = replace(rounded, format=rounded.fixed, scale=None)
        lowest, highest = (
            None if level is None else math.ldexp(level, -x.fixed.frac_width)
            for level in (low, high)
        )
        bounds = ClampAttributes(lowest, highest)
        clamp = Site(site.name, bounds, (x,), {}, site.rounding, site.exact, site.output)
        return Stage(_CAST, before), Stage(_CLAMP, clamp)

    def foldings(self, site: Site[ScaledClampAttributes]) -> tuple[Folding, ...]:
        return _CAST.foldings(_cast(site))

    def bind(self, site: Site[ScaledClampAttributes], build: Build) -> Binding:
        raise AssertionError(f"node '{site.name}': its stages are built")

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("relu6", _clamped(0.31, Clamped(0.0, 6.0), Scaled(6, (0.1,), signed=False)), _ROW),
            Case("within", _clamped(0.31, Clamped(-1.3, 0.9), Scaled(6, (_float32(0.11),))), _ROW),
            Case("floor", _floors(), _ROW),
            Case("one_sided", _clamped(0.05, Clamped(None, 0.7), Fixed(7, 4)), _ROW),
            Case("behind_a_layer", _Behind(), ((3, 2, 2),)),
        )


_ROW = ((6,),)


class _Behind(nn.Module):
    """ReLU6 of the exact result of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        self.clamp = QuantizedResult(Clamped(0.0, 0.6), Scaled(5, (_float32(0.021),), False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.clamp(self.conv(x))
        return result


def _clamped(scale: float, layer: Clamped, format: Format) -> nn.Module:
    """A clamp of its inputs on levels of a scale."""
    return nn.Sequential(CastLayer(Scaled(7, (_float32(scale),))), QuantizedResult(layer, format))


def _floors() -> nn.Module:
    """Bounds between the levels of the input and those of the result, rounded down."""
    clamp = QuantizedResult(Clamped(-0.3, 0.3), Fixed(5, 3), Rounding.FLOOR)
    return nn.Sequential(CastLayer(Fixed(8, 5)), clamp)


def _float32(value: float) -> float:
    return float(np.float32(value))


def _levels(attributes: ScaledClampAttributes) -> tuple[int | None, int | None]:
    """Returns the bounds as levels of the result's format; None is no bound."""
    format = attributes.format
    assert format is not None
    low, high = (
        None
        if bound is None
        else int(format.to_integers(np.array([bound]), attributes.rounding)[0])
        for bound in (attributes.low, attributes.high)
    )
    return low, high


def _cast(site: Site[ScaledClampAttributes]) -> Site[CastAttributes]:
    """Returns the cast to the result's format, in the place of the whole."""
    format = site.attributes.format
    assert format is not None
    attributes = CastAttributes(format, site.attributes.rounding)
    return Site(site.name, attributes, site.inputs, {}, site.rounding, site.exact, site.output)
