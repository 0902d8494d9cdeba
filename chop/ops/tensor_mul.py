"""tensor_mul: y = a * b of two tensors, one of which may be broadcast."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from chop.formats.rounding import Ints
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import Layout, TensorType
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.elementwise import elementwise_parameters
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

__all__ = ["TensorMul"]


@dataclass(frozen=True, slots=True)
class TensorMulAttributes:
    """Whether both operands are one tensor: a square is never negative."""

    squares: bool


class TensorMul(Op[TensorMulAttributes]):
    name = "tensor_mul"
    summary = "y = a * b of two tensors, one of which may be broadcast; x * x"
    targets = (operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_", "multiply")
    arity = 2
    module = "chop_multiply"
    cycles = "elements / lanes; latency 2 behind the later operand"
    limits = "operands of one rank"
    absorbs_cast = True
    is_elementwise = True
    quantizes_input = True

    def read(self, call: Call) -> TensorMulAttributes:
        check_shapes(call)
        a, b = call.argument(0, "input"), call.argument(1, "other")
        return TensorMulAttributes(a is b)

    def stream_layouts(self, site: Site[TensorMulAttributes]) -> tuple[Layout, ...]:
        return operand_layouts(site)

    def infer(self, site: Site[TensorMulAttributes]) -> TensorType:
        spreads_of(site)
        low, high = self.program(site).bounds
        frac_width = sum(t.fixed.frac_width for t in site.inputs)
        return TensorType.bounded(site.exact.shape, low, high, frac_width, result_layout(site))

    def infer_scale(self, site: Site[TensorMulAttributes]) -> Scale | None:
        a, b = (t.scale for t in site.inputs)
        return b if a is None else a.times(b)

    def define(self, site: Site[TensorMulAttributes], inputs: Sequence[Value]) -> Value:
        a, b = inputs
        return (a * a).maximum(0) if site.attributes.squares else a * b

    def macs(self, attributes: TensorMulAttributes, output: TensorType) -> int:
        return output.elements

    def foldings(self, site: Site[TensorMulAttributes]) -> tuple[Folding, ...]:
        return operand_foldings(site, multipliers=1)

    def bind(self, site: Site[TensorMulAttributes], build: Build) -> Binding:
        result = elementwise_parameters(site, build)
        kept = ("OutWidth", "OutSigned", "ShiftRight", "ShiftLeft", "Rounding")
        own = {name: result[name] for name in kept}
        return Binding(self.module, {**operand_parameters(site, build), **own}, ("a_", "b_"))

    def flow(
        self, site: Site[TensorMulAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        return operands_flow(site, build, valid, samples, 2)

    def events(
        self,
        site: Site[TensorMulAttributes],
        build: Build,
        graph: EventGraph,
        inputs: Sequence[Offer],
    ) -> Offer:
        return operands_events(site, build, graph, inputs, 2)

    def cost(self, site: Site[TensorMulAttributes], build: Build) -> Cost:
        lanes, width = build.folding.out_lanes, site.exact.fixed.width
        own = Cost(ffs=lanes * width + 1, dsps=lanes)
        return super().cost(site, build) + own + operands_cost(site, build)

    def cases(self) -> tuple[Case, ...]:
        return (
            Case("inputs", _Product(), ((6,), (6,))),
            Case("square", _Square(), ((4,),)),
            Case("excite", _Excite(), ((4, 2, 3), (4, 1, 1))),
            Case("attend", _Excite(), ((1, 2, 4), (6, 2, 4))),
            Case("outer", _Product(), ((4, 1), (1, 3))),
        )


class _Product(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.mul(a, b.relu())


class _Square(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x


class _Excite(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a * torch.sigmoid(b)
