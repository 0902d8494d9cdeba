"""cast: rounds and saturates to another number format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from chop.errors import FormatError, UnsupportedOpError
from chop.formats.base import Format
from chop.formats.fixed import Fixed
from chop.formats.requantise import Source, requantiser_of
from chop.formats.requantisers import Requantiser
from chop.formats.rounding import Floats, Ints, Rounding
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.integer.requantise import requantised
from chop.ir.tensor_type import TensorType
from chop.nn.fake_quantize import Cast as CastLayer
from chop.nn.fake_quantize import cast_to_fixed, fake_quantize
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.elementwise import elementwise_parameters

__all__ = ["Cast", "CastAttributes"]


@dataclass(frozen=True, slots=True)
class CastAttributes:
    format: Format
    rounding: Rounding


class Cast(Op[CastAttributes]):
    name = "cast"
    summary = "rounds and saturates to another number format"
    targets = (CastLayer, cast_to_fixed)
    module = "chop_cast"

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
        return requantised(inputs[0], _requantiser(site))

    def requantiser(self, site: Site[CastAttributes]) -> tuple[str, str]:
        found = _requantiser(site)
        return found.kind, found.proof

    def bind(self, site: Site[CastAttributes], build: Build) -> Binding:
        x, y = site.inputs[0].fixed, site.output.fixed
        shift = x.frac_width - y.frac_width
        return Binding(
            self.module,
            {
                **elementwise_parameters(site, build),
                "ShiftRight": max(shift, 0),
                "ShiftLeft": max(-shift, 0),
                "Rounding": site.attributes.rounding.code,
            },
        )

    def cases(self) -> tuple[Case, ...]:
        formats = {
            "narrow": Fixed(5, 2),
            "unsigned": Fixed(6, 3, signed=False),
            "wider_fraction": Fixed(14, 9),
            "coarse": Fixed(4, -1),
        }
        modes = {mode.value: CastLayer(Fixed(5, 1), mode) for mode in Rounding}
        function = Case("function", _Function(), ((4,),))
        layers = {**{k: CastLayer(f) for k, f in formats.items()}, **modes}
        return (
            function,
            *(
                Case(label, nn.Sequential(nn.Identity(), CastLayer(Fixed(8, 4)), layer), ((4,),))
                for label, layer in layers.items()
            ),
        )


def _requantiser(site: Site[CastAttributes]) -> Requantiser:
    """Returns the cheapest exact requantiser. Raises UnsupportedOpError where there is none."""
    (x,) = site.inputs
    source = Source(x.low, x.high, x.fixed, x.scale)
    try:
        return requantiser_of(source, site.attributes.format, site.attributes.rounding)
    except FormatError as error:
        raise UnsupportedOpError(f"node '{site.name}': {error}") from error


class _Function(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return fake_quantize(cast_to_fixed(x, 9, 5), Fixed(6, 2), Rounding.FLOOR)
