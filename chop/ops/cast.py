"""cast: rounds and saturates to another number format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from chop.errors import FormatError, UnsupportedOpError
from chop.formats.base import Format
from chop.formats.binary import Binary
from chop.formats.fixed import Fixed
from chop.formats.log import Log
from chop.formats.minifloat_denorm import MinifloatDenorm
from chop.formats.minifloat_ieee import MinifloatIeee
from chop.formats.requantise import Source, requantiser_of
from chop.formats.requantisers import Requantiser, Shift
from chop.formats.rounding import Floats, Ints, Rounding
from chop.formats.scale import Scale
from chop.formats.scaled import Scaled
from chop.formats.ternary import Ternary
from chop.integer.record import Value
from chop.integer.requantise import requantised
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import TensorType
from chop.nn.fake_quantize import Cast as CastLayer
from chop.nn.fake_quantize import cast_to_fixed, fake_quantize
from chop.ops.base import Binding, Build, Call, Case, Memory, Op, Site
from chop.ops.cast_hardware import (
    MODULES,
    cast_binding,
    cast_cost,
    cast_flow,
    cast_foldings,
    cast_memories,
)
from chop.ops.timing import Flow

__all__ = ["Cast", "CastAttributes", "is_shift", "requantiser_at"]

# No ratio of powers of two to it is a simple fraction.
_SCALE = float(np.float32(0.3))


@dataclass(frozen=True, slots=True)
class CastAttributes:
    format: Format
    rounding: Rounding


class Cast(Op[CastAttributes]):
    name = "cast"
    summary = "rounds and saturates to another number format"
    targets = (CastLayer, cast_to_fixed)
    module = MODULES[0]
    modules = MODULES
    is_elementwise = True
    cycles = (
        "elements / lanes; latency 1 by shifts, 2 by a table, 3 by products or thresholds; to "
        "MXINT 4 behind the last beat of a block"
    )

    def read(self, call: Call) -> CastAttributes:
        if isinstance(call.module, CastLayer):
            return CastAttributes(call.module.format, call.module.rounding)
        width, frac_width = call.argument(1, "width"), call.argument(2, "frac_width")
        signed, rounding = call.argument(3, "signed", True), call.argument(4, "rounding", "half_up")
        return CastAttributes(Fixed(width, frac_width, signed), Rounding(rounding))

    def infer(self, site: Site[CastAttributes]) -> TensorType:
        (x,) = site.inputs
        low, high = self.program(site).bounds
        return TensorType(x.shape, site.attributes.format, low, high, x.layout)

    def infer_scale(self, site: Site[CastAttributes]) -> Scale | None:
        return site.attributes.format.scale

    def infer_float(self, attributes: CastAttributes, output: TensorType) -> TensorType:
        return TensorType.of(output.shape, attributes.format, output.layout)

    def enter(self, attributes: CastAttributes, values: Floats) -> Ints:
        return attributes.format.to_integers(values, attributes.rounding)

    def define(self, site: Site[CastAttributes], inputs: Sequence[Value]) -> Value:
        return requantised(inputs[0], requantiser_at(site))

    def requantiser(self, site: Site[CastAttributes]) -> tuple[str, str]:
        found = requantiser_at(site)
        return found.kind, found.proof

    def foldings(self, site: Site[CastAttributes]) -> tuple[Folding, ...]:
        return cast_foldings(site, requantiser_at(site))

    def memories(self, site: Site[CastAttributes], build: Build) -> tuple[Memory, ...]:
        return cast_memories(site, build, requantiser_at(site))

    def bind(self, site: Site[CastAttributes], build: Build) -> Binding:
        return cast_binding(site, build, requantiser_at(site))

    def flow(
        self, site: Site[CastAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        return cast_flow(site, build, requantiser_at(site), valid[0])

    def cost(self, site: Site[CastAttributes], build: Build) -> Cost:
        return cast_cost(site, build, requantiser_at(site))

    def cases(self) -> tuple[Case, ...]:
        formats: dict[str, Format] = {
            "narrow": Fixed(5, 2),
            "unsigned": Fixed(6, 3, signed=False),
            "wider_fraction": Fixed(14, 9),
            "coarse": Fixed(4, -1),
            # Comparisons, a table, a multiplication, where the input has formats for them.
            "binary": Binary((0.75,)),
            "ternary": Ternary((_SCALE,)),
            "log": Log(3, 2),
            "fp4": MinifloatIeee(4, 2, 1, "none"),
            "fp8": MinifloatDenorm(8, 3, 3),
            "scaled": Scaled(8, (_SCALE / 8,)),
            "symmetric": Scaled(5, (0.5,), symmetric=True),
        }
        modes = {mode.value: CastLayer(Fixed(5, 1), mode) for mode in Rounding}
        scaled = {f"scaled_{m}": CastLayer(Scaled(6, (_SCALE,)), m) for m in Rounding}
        layers = {**{k: CastLayer(f) for k, f in formats.items()}, **modes, **scaled}
        wide = nn.Sequential(CastLayer(Fixed(14, 9)), CastLayer(Scaled(8, (_SCALE / 8,))))
        return (
            Case("function", _Function(), ((4,),)),
            Case("multiply", wide, ((2, 3),)),
            *(
                Case(label, nn.Sequential(nn.Identity(), CastLayer(Fixed(8, 4)), layer), ((4,),))
                for label, layer in layers.items()
            ),
        )


def requantiser_at(site: Site[CastAttributes]) -> Requantiser:
    """Returns the cheapest exact requantiser. Raises UnsupportedOpError where there is none."""
    (x,) = site.inputs
    source = Source(x.low, x.high, x.fixed, x.scale)
    try:
        return requantiser_of(source, site.attributes.format, site.attributes.rounding)
    except FormatError as error:
        raise UnsupportedOpError(f"node '{site.name}': {error}") from error


def is_shift(site: Site[CastAttributes]) -> bool:
    """Returns whether a cast only shifts, rounds, and saturates to the limits of its carrier.

    By as much as the fractions of the two carriers say: a ratio of scales can be a power of two.
    """
    found, y = requantiser_at(site), site.attributes.format.held()
    fractions = site.inputs[0].fixed.frac_width - y.frac_width
    return isinstance(found, Shift) and found.shift == fractions and found.low == y.low


class _Function(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return fake_quantize(cast_to_fixed(x, 9, 5), Fixed(6, 2), Rounding.FLOOR)
