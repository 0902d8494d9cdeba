"""scaled_add: y = a + b or a - b of tensors of different scales, rounded once to a format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from chop.errors import FormatError, UnsupportedOpError
from chop.formats.base import Format
from chop.formats.fixed import Fixed
from chop.formats.requantise import Source
from chop.formats.rounding import Ints, Rounding
from chop.formats.scale import Scale
from chop.formats.scaled import Scaled
from chop.formats.sums import FusedSum, fused_sum
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import Layout, TensorType
from chop.nn.fake_quantize import Cast
from chop.nn.result import QuantizedResult, Sum
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.elementwise import flag
from chop.ops.events import EventGraph, Offer
from chop.ops.operands import (
    check_shapes,
    operand_foldings,
    operand_layouts,
    operand_parameters,
    operands_cost,
    operands_events,
    operands_flow,
    result_layout,
    spreads_of,
)
from chop.ops.timing import Flow

__all__ = ["ScaledAdd"]


@dataclass(frozen=True, slots=True)
class ScaledAddAttributes:
    """Whether the second tensor is subtracted; the result's format, None while it has none."""

    subtract: bool
    format: Format | None
    rounding: Rounding


class ScaledAdd(Op[ScaledAddAttributes]):
    name = "scaled_add"
    summary = "y = a + b or a - b of tensors of different scales, rounded once to a format"
    limits = "made by quantize of a tensor_add; one scale for each tensor, evenly spaced levels"
    targets = ()
    arity = 2
    is_elementwise = True
    module = "chop_scaled_add"
    cycles = "elements / lanes; latency 2 behind the later operand"

    def read(self, call: Call) -> ScaledAddAttributes:
        check_shapes(call)
        module = call.module
        assert isinstance(module, QuantizedResult)
        assert isinstance(module.layer, Sum)
        return ScaledAddAttributes(module.layer.subtract, module.format, module.rounding)

    def stream_layouts(self, site: Site[ScaledAddAttributes]) -> tuple[Layout, ...]:
        return operand_layouts(site)

    def infer(self, site: Site[ScaledAddAttributes]) -> TensorType:
        format = site.attributes.format
        if format is None:
            raise FormatError("a sum of two scales has no integers; give it a data_out format")
        spreads_of(site)
        low, high = self.program(site).bounds
        return TensorType(site.exact.shape, format, low, high, result_layout(site))

    def infer_scale(self, site: Site[ScaledAddAttributes]) -> Scale | None:
        format = site.attributes.format
        return None if format is None else format.scale

    def define(self, site: Site[ScaledAddAttributes], inputs: Sequence[Value]) -> Value:
        (a, b), found = inputs, _sum(site)
        m, n = found.multipliers
        total = a * m + b * n + found.offset
        return total.shift_right(found.shift, found.rounding).clip(found.low, found.high)

    def requantiser(self, site: Site[ScaledAddAttributes]) -> tuple[str, str]:
        found = _sum(site)
        return found.kind, found.proof

    def macs(self, attributes: ScaledAddAttributes, output: TensorType) -> int:
        return 2 * output.elements

    def foldings(self, site: Site[ScaledAddAttributes]) -> tuple[Folding, ...]:
        return operand_foldings(site, multipliers=2)

    def bind(self, site: Site[ScaledAddAttributes], build: Build) -> Binding:
        found, y = _sum(site), site.output.fixed
        m, n = found.multipliers
        return Binding(
            self.module,
            {
                **operand_parameters(site, build),
                "AFactor": _literal(m),
                "BFactor": _literal(n),
                "Offset": _literal(found.offset),
                "OutWidth": y.width,
                "OutSigned": flag(y.signed),
                "ShiftRight": found.shift,
                "Rounding": found.rounding.code,
                "Symmetric": flag(found.low > y.low),
            },
            ("a_", "b_"),
        )

    def flow(
        self, site: Site[ScaledAddAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        return operands_flow(site, build, valid, samples, 2)

    def events(
        self,
        site: Site[ScaledAddAttributes],
        build: Build,
        graph: EventGraph,
        inputs: Sequence[Offer],
    ) -> Offer:
        return operands_events(site, build, graph, inputs, 2)

    def cost(self, site: Site[ScaledAddAttributes], build: Build) -> Cost:
        lanes, found = build.folding.out_lanes, _sum(site)
        widths = [
            x.fixed.width + m.bit_length()
            for x, m in zip(site.inputs, found.multipliers, strict=True)
        ]
        out = site.output.fixed.width
        own = Cost(lanes * (max(widths) + out), lanes * (sum(widths) + out) + 2, 2 * lanes)
        return own + operands_cost(site, build)

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("scales", _Scales(0.3, 0.17, Scaled(6, (_float32(0.41),))), ((6,), (6,))),
            Case("difference", _Scales(0.11, 0.5, Fixed(7, 3), subtract=True), ((4,), (4,))),
            Case("broadcast", _Scales(0.3, 0.07, Scaled(5, (0.25,), symmetric=True)), _IMAGES),
        )


_IMAGES = ((4, 2, 2), (4, 1, 1))


class _Scales(nn.Module):
    """A sum of its inputs on levels of two scales."""

    def __init__(self, first: float, second: float, format: Format, subtract: bool = False) -> None:
        super().__init__()
        self.first = Cast(Scaled(6, (_float32(first),)))
        self.second = Cast(Scaled(5, (_float32(second),)))
        mode = Rounding.FLOOR if subtract else Rounding.HALF_UP
        self.sum = QuantizedResult(Sum(subtract), format, mode)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.sum(self.first(a), self.second(b))
        return result


def _float32(value: float) -> float:
    return float(np.float32(value))


def _literal(value: int) -> str:
    return f"64'sd{value}" if value >= 0 else f"-64'sd{-value}"


def _sum(site: Site[ScaledAddAttributes]) -> FusedSum:
    attributes = site.attributes
    assert attributes.format is not None
    a, b = (Source(x.low, x.high, x.fixed, x.scale) for x in site.inputs)
    try:
        return _found(a, b, attributes)
    except FormatError as error:
        raise UnsupportedOpError(f"node '{site.name}': {error}") from error


@lru_cache(maxsize=256)
def _found(a: Source, b: Source, attributes: ScaledAddAttributes) -> FusedSum:
    assert attributes.format is not None
    return fused_sum(a, b, attributes.subtract, attributes.format, attributes.rounding)
